//! Decides whether the sender knew the secret, from bytes and a time. Pure: no clock, no I/O.
//!
//! The one maker of [`Verified`].

mod clock;
mod container;
mod few;
mod key;
mod scheme;
mod template;
mod verifier;
mod view;

use std::{borrow::Cow, sync::Arc};

use http::HeaderMap;
use tower::{ServiceExt as _, util::BoxCloneSyncService};

pub use clock::{Timestamps, Unit};
pub use container::{
    CONTAINER_BYTES_MAX, Container, ELEMENTS_MAX, Encoding, Place, SIGNATURES_MAX,
};
pub use key::{Algorithm, KeyEncoding, KeyForm, weakness};
pub use scheme::{PARTS_MAX, Scheme, SchemeParts};
pub use template::{From, Part, Template, TemplateError, Transform, Value, nearest};
pub use verifier::{Verifier, check_secret};

use crate::{
    answer::{Answer, Answered, Outcome, Reason, Refusal, not_verified_name},
    event::Timestamp,
    receive::Envelope,
    secret::Secret,
    stage::{Next, Stage},
    telemetry::SourceMetrics,
};

/// What a scheme looks at: the request as it arrived, the public URL that the provider signs, and one time.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Public URL of the source, as configured at the provider; with the query of the request.
    pub url: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    /// Headers as sent.
    pub headers: &'a HeaderMap,
    /// Body as sent.
    pub body: &'a [u8],
    /// When the request was received.
    pub received_at: Timestamp,
}

/// One of a source's secrets.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// The secret as configured.
    pub secret: Secret,
    /// From when on it is not accepted any more.
    pub expires: Option<Timestamp>,
}

/// How the sender was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The scheme's name, such as `hmac-sha256`.
    pub scheme: Arc<str>,
    /// Which secret matched, counted from 1.
    pub slot: usize,
    /// That secret's fingerprint.
    pub label: Arc<str>,
    /// The signed time, where the scheme has one.
    pub signed_at: Option<Timestamp>,
}

/// A request whose sender knew a live secret.
#[derive(Clone, Debug)]
pub struct Verified {
    envelope: Envelope,
    proof: Proof,
}

impl Verified {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// How its sender was recognised.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Envelope, Proof) {
        (self.envelope, self.proof)
    }

    /// A request that is said to be verified, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test(envelope: Envelope) -> Self {
        let (scheme, label) = ("hmac-sha256".into(), "…test".into());
        Self { envelope, proof: Proof { scheme, slot: 1, label, signed_at: None } }
    }
}

/// A request that was **not** verified and passes only because its source is in shadow mode.
#[derive(Clone, Debug)]
pub struct Unverified {
    envelope: Envelope,
    reason: Reason,
}

impl Unverified {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Why it would have been refused.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// A request that failed, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test(envelope: Envelope, reason: Reason) -> Self {
        Self { envelope, reason }
    }
}

/// The way of requests that were not verified, in shadow mode.
pub type ShadowPath = BoxCloneSyncService<Unverified, Answered<Outcome>, Answered<Refusal>>;

/// Bodies up to this length are verified where they are. A longer one would hold up other requests on the same thread for
/// as long as it takes to hash it, so it goes to a thread of its own.
const INLINE_BYTES_MAX: usize = 512 * 1024;

/// The stage: lets through whose sender knew a live secret.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Schemes and secrets.
    pub verifier: Arc<Verifier>,
    /// Public URL of the source, as its provider knows it, without a query.
    pub url: Arc<str>,
    /// Counts failures by reason, and matches by secret.
    pub metrics: Arc<SourceMetrics>,
    /// Where failures go instead of being refused; only in shadow mode.
    pub shadow: Option<ShadowPath>,
}

impl<N: Next<Verified>> Stage<Envelope, N> for Verify {
    async fn pass(self, envelope: Envelope, next: N) -> Answer {
        match self.judge(&envelope).await? {
            Ok(proof) => next.oneshot(Verified { envelope, proof }).await,
            Err(reason) => match self.shadow {
                None => Err(Refusal::NotVerified(reason).into()),
                Some(path) => {
                    self.metrics.would_reject(not_verified_name(reason.class()));
                    path.oneshot(Unverified { envelope, reason }).await
                }
            },
        }
    }
}

impl Verify {
    async fn judge(&self, envelope: &Envelope) -> Result<Result<Proof, Reason>, Answered<Refusal>> {
        let judged = if envelope.body().len() > INLINE_BYTES_MAX {
            let (verifier, url, envelope) =
                (Arc::clone(&self.verifier), Arc::clone(&self.url), envelope.clone());
            tokio::task::spawn_blocking(move || check(&verifier, &url, &envelope))
                .await
                .map_err(|_| Answered::from(Refusal::Bug))?
        } else {
            check(&self.verifier, &self.url, envelope)
        };
        match &judged {
            Ok(proof) => {
                self.metrics.matched(proof.slot);
                if let Some(signed_at) = proof.signed_at {
                    let offset = envelope.received_at().as_millis() - signed_at.as_millis();
                    self.metrics.clock_offset.observe(seconds(offset));
                }
            }
            Err(reason) => self.metrics.failed(*reason),
        }
        Ok(judged)
    }
}

fn check(verifier: &Verifier, url: &str, envelope: &Envelope) -> Result<Proof, Reason> {
    let uri = envelope.uri();
    verifier.verify(&Presented {
        method: "POST", // the one method that an envelope has
        url: &with_query(url, uri.query().filter(|_| verifier.needs_public_url())),
        target: uri.path_and_query().map_or("/", |target| target.as_str()),
        headers: envelope.headers(),
        body: envelope.body(),
        received_at: envelope.received_at(),
    })
}

/// The URL as the provider called it: the one on file there, with the query of this request.
fn with_query<'u>(url: &'u str, query: Option<&str>) -> Cow<'u, str> {
    query.map_or(Cow::Borrowed(url), |query| Cow::Owned(format!("{url}?{query}")))
}

#[expect(clippy::cast_precision_loss, reason = "offsets that pass are minutes at most")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests;
