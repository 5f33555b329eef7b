//! Answers a provider's challenge, or lets the request pass: unsigned challenges before verification, signed ones after.
//!
//! A challenge is recognised by values in its JSON body. What is put into the reply is short and plain, so that nobody
//! can have us say anything of length or meaning; anything else is no challenge and passes on.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Challenge, Outcome},
    json::Path,
    receive::Envelope,
    stage::{Next, Stage},
    verify::{From, Part, Presented, Sought, Template, Value, Verified, View, transform},
};

/// A challenge and its reply.
#[derive(Clone, Debug)]
pub struct Rule {
    parts: RuleParts,
    /// Places of the values that must be equal.
    expected: Vec<From>,
    sought: Sought,
    /// Text that every challenge holds, so that other bodies are not parsed.
    clue: String,
}

/// What a [`Rule`] is made from.
#[derive(Clone, Debug)]
pub struct RuleParts {
    /// JSON values that must be equal; with none, nothing is a challenge.
    pub json: Vec<(Path, String)>,
    /// Whether the signature is checked first.
    pub verify: bool,
    /// Status to answer.
    pub status: StatusCode,
    /// Content type to answer.
    pub content_type: HeaderValue,
    /// Body to answer. Values come from JSON, headers and the query; with any other, nothing is a challenge.
    pub body: Template,
}

/// Challenges are small; a longer body is none.
const CHALLENGE_BYTES_MAX: usize = 64 * 1024;

/// Length of a value that is put into a reply, at most.
const ECHO_BYTES_MAX: usize = 256;

impl Rule {
    /// Prepares a rule.
    pub fn new(parts: RuleParts) -> Self {
        let expected: Vec<_> = parts.json.iter().map(|(p, _)| From::Json(p.clone())).collect();
        let echoed = parts.body.values().map(|value| &value.from);
        let sought = Sought::new(expected.iter().chain(echoed), None);
        let clues = parts.json.iter().flat_map(|(_, text)| text.split(|c| !is_plain(c)));
        let clue = clues.max_by_key(|clue| clue.len()).unwrap_or_default().to_owned();
        Self { parts, expected, sought, clue }
    }

    /// The reply, where `request` is this challenge.
    pub fn reply(&self, request: &Envelope) -> Option<Challenge> {
        let body = request.body();
        if body.len() > CHALLENGE_BYTES_MAX || self.parts.json.is_empty() {
            return None;
        }
        if !std::str::from_utf8(body).ok()?.contains(&self.clue) {
            return None;
        }
        let view = View::new(Presented::of(request, ""), &self.sought);
        let is_equal = |(place, (_, text)): (&From, &(Path, String))| {
            view.find(place, &[]).is_ok_and(|found| *found == *text.as_bytes())
        };
        if !self.expected.iter().zip(&self.parts.json).all(is_equal) {
            return None;
        }
        let echo = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Value(value) => echo(value, &view),
        };
        Some(Challenge {
            status: self.parts.status,
            content_type: self.parts.content_type.clone(),
            headers: Vec::new(),
            body: self.parts.body.parts.iter().map(echo).collect::<Option<String>>()?.into(),
        })
    }
}

/// A value of the reply; `None` where it is not there or is not plain.
fn echo(value: &Value, view: &View<'_>) -> Option<String> {
    if !matches!(value.from, From::Json(_) | From::Header(_) | From::Query(_)) {
        return None;
    }
    let found = view.find(&value.from, &[]);
    if found.as_ref().is_ok_and(|text| !is_safe(text)) {
        return None;
    }
    String::from_utf8(transform(found, &value.transforms).ok()?.into_owned()).ok()
}

fn is_safe(text: &[u8]) -> bool {
    (1..=ECHO_BYTES_MAX).contains(&text.len()) && text.iter().all(|b| is_plain(char::from(*b)))
}

/// Characters that mean nothing anywhere, and that no JSON writer escapes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-')
}

/// The stage of challenges that their provider does not sign.
#[derive(Clone, Debug)]
pub struct Unsigned(pub Arc<[Rule]>);

/// The stage of challenges that their provider signs.
#[derive(Clone, Debug)]
pub struct Signed(pub Arc<[Rule]>);

impl<N: Next<Envelope>> Stage<Envelope, N> for Unsigned {
    async fn pass(self, envelope: Envelope, next: N) -> Answer {
        match reply(&self.0, false, &envelope) {
            Some(challenge) => Ok(Outcome::Handshake(challenge).into()),
            None => next.oneshot(envelope).await,
        }
    }
}

impl<N: Next<Verified>> Stage<Verified, N> for Signed {
    async fn pass(self, verified: Verified, next: N) -> Answer {
        match reply(&self.0, true, verified.envelope()) {
            Some(challenge) => Ok(Outcome::Handshake(challenge).into()),
            None => next.oneshot(verified).await,
        }
    }
}

/// The reply of the first rule whose challenge this is, among those that are checked at this place.
fn reply(rules: &[Rule], verify: bool, request: &Envelope) -> Option<Challenge> {
    rules.iter().filter(|rule| rule.parts.verify == verify).find_map(|rule| rule.reply(request))
}
