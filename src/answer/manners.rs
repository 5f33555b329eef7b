//! What one provider wants to hear in place of what the table says, where the gateway answers by itself.
//!
//! An app's own answer (`reply: full`) stays the app's, and nothing here makes a success of a failure or the reverse, but for
//! an event that nobody wants: some providers repeat it until they hear a status of theirs.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::{Answer, Ignored, Outcome, Refusal, Verdict};

/// Answers of one source that are special.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// To an event that was taken.
    pub ack: Said,
    /// To a request that was not verified.
    pub invalid: Said,
    /// To an event that nobody wants.
    pub drop_forever: Said,
}

/// An answer; what is left out is as for any other provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The status.
    pub status: Option<StatusCode>,
    /// The body's type.
    pub content_type: Option<HeaderValue>,
    /// The body.
    pub body: Option<Bytes>,
    /// Whether the body is an error of RFC 8935, which says why.
    pub set_error: bool,
}

impl Said {
    fn is_special(&self) -> bool {
        *self != Self::default()
    }
}

impl Manners {
    /// What is said instead, if anything.
    pub(crate) fn instead(&self, answer: &Answer) -> Option<&Said> {
        let said = match answer.as_ref().map(|a| &a.what).map_err(|r| &r.what) {
            Ok(
                Outcome::Accepted(relayed)
                | Outcome::Shadowed(relayed)
                | Outcome::Duplicate(Some(relayed)),
            ) if relayed.full => return None,
            Ok(Outcome::Handshake(_)) => return None,
            Ok(Outcome::Ignored(Ignored::Dropped)) | Err(Refusal::Unrouted)
                if self.drop_forever.is_special() =>
            {
                &self.drop_forever
            }
            Ok(_) => &self.ack,
            Err(Refusal::NotVerified(_) | Refusal::AddressNotAllowed) => &self.invalid,
            Err(Refusal::Malformed(_)) if self.invalid.set_error => &self.invalid,
            Err(_) => return None,
        };
        said.is_special().then_some(said)
    }

    /// The row of the table, with the provider's own status in it.
    pub(crate) fn verdict(&self, answer: &Answer) -> Verdict {
        let row = match answer {
            Ok(answered) => answered.what.verdict(),
            Err(refused) => refused.what.verdict(),
        };
        let status = self.instead(answer).and_then(|said| said.status);
        Verdict { status: status.unwrap_or(row.status), ..row }
    }
}
