//! Decides whether the sender knew the secret, from bytes and a time. Pure: no clock, no I/O.
//!
//! The one maker of [`Verified`].

mod address;
mod certified;
mod chain;
mod clock;
mod container;
mod draft;
mod equality;
mod fields;
mod fitting;
mod foreign;
mod form;
mod hook0;
mod jose;
mod key;
mod keyring;
mod keyset;
mod messages;
mod public;
mod qsh;
mod scheme;
mod shared;
mod sign;
mod signing;
mod sns;
mod source;
mod template;
mod text;
mod token;
mod transform;
mod truelayer;
mod verifier;
mod view;
mod when;

use std::{borrow::Cow, sync::Arc};

use http::HeaderMap;
use tower::{ServiceExt as _, util::BoxCloneSyncService};

pub use address::UrlVariant;
pub use clock::Unit;
pub use container::Encoding;
pub use foreign::Stop;
pub use key::{Algorithm, KeyDigest, KeyEncoding, KeyForm, Normalize, Unescape};
pub use keyring::{Keyring, Unavailable};
pub use keyset::KeySet;
pub use messages::digest_holds;
pub use scheme::Scheme;
pub use sign::{Signed, TestKey};
pub use source::{Keys, NoKeys, Want};
pub use template::{Template, TemplateError};
pub use token::Token;
pub use verifier::Verifier;

pub(crate) use chain::Chain;
pub(crate) use clock::Timestamps;
pub(crate) use container::{Container, Place};
pub(crate) use equality::Equality;
pub(crate) use foreign::Foreign;
pub(crate) use form::Form;
pub(crate) use keyset::{Allowed, Listing, at, jose_names, of_jose_name};
pub(crate) use messages::{MessageRules, of_registered_name, registered_names};
pub(crate) use scheme::SchemeParts;
pub(crate) use source::{KeySource, UrlRule};
pub(crate) use template::{From, Part, Transform, Value};
pub(crate) use token::{BodyHash, TokenRules};
pub(crate) use transform::transform;
pub(crate) use view::{NOT_JSON, Sought, View};
pub(crate) use when::Condition;

use crate::{
    answer::{Answer, Answered, Outcome, Reason, Refusal, not_verified_name},
    event::{Digest, Timestamp},
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

impl<'a> Presented<'a> {
    /// A request whose URL is `url` to its provider.
    pub(crate) fn of(envelope: &'a Envelope, url: &'a str) -> Self {
        Self {
            method: envelope.method().as_str(),
            url,
            target: envelope.uri().path_and_query().map_or("/", |target| target.as_str()),
            headers: envelope.headers(),
            body: envelope.body(),
            received_at: envelope.received_at(),
        }
    }
}

/// The URL as the provider called it: the one on file there, with the query of the request.
pub(crate) fn url_with<'u>(on_file: &'u str, query: Option<&str>) -> Cow<'u, str> {
    match query {
        Some(query) => Cow::Owned(format!("{on_file}?{query}")),
        None => Cow::Borrowed(on_file),
    }
}

/// One of a source's secrets.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// The secret as configured.
    pub secret: Secret,
    /// From when on it is not accepted any more.
    pub expires: Option<Timestamp>,
    /// What its provider calls it, where a request names the secret that it is signed with.
    pub id: Option<Arc<str>>,
}

/// How the sender was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The scheme's name, such as `hmac-sha256`.
    pub scheme: &'static str,
    /// Which secret matched, counted from 1; 0 where none did, but a key that was fetched.
    pub slot: usize,
    /// That secret's fingerprint, or `fetched`.
    pub label: Arc<str>,
    /// The signed time, where the scheme has one.
    pub signed_at: Option<Timestamp>,
    /// The token, where it was one.
    pub token: Option<Arc<Token>>,
    /// Digest of the text that was signed, where it tells a replay better than the body does.
    pub text: Option<Digest>,
    /// Which of the source's schemes counted.
    pub alternative: usize,
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

    /// Which secret matched, counted from 1; 0 where a key did that was fetched.
    pub(crate) fn slot(&self) -> usize {
        self.proof.slot
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Envelope, Proof) {
        (self.envelope, self.proof)
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
}

/// The way of requests that were not verified, in shadow mode.
pub type ShadowPath = BoxCloneSyncService<Unverified, Answered<Outcome>, Answered<Refusal>>;

/// Bodies up to this length are verified and read where they are. A longer one would hold up other requests on the same
/// thread for as long as it takes to hash and parse it, so it goes to a thread of its own.
const INLINE_BYTES_MAX: usize = 512 * 1024;

/// Does work on a body of this many bytes, where it holds up nobody.
pub(crate) async fn apart<T: Send + 'static>(
    body_bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if body_bytes <= INLINE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_panicked| Refusal::Bug)
}

/// The stage: lets through whose sender knew a live secret.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Schemes and secrets.
    pub verifier: Arc<Verifier>,
    /// Public URL of the source, as its provider knows it, without a query.
    pub url: Arc<str>,
    /// Counts failures by reason, and matches by secret.
    pub metrics: Arc<SourceMetrics>,
    /// Keys that are fetched; none, where no scheme wants any.
    pub keyring: Option<Arc<Keyring>>,
    /// Where failures go instead of being refused; only in shadow mode.
    pub shadow: Option<ShadowPath>,
}

impl<N: Next<Verified>> Stage<Envelope, N> for Verify {
    async fn pass(self, envelope: Envelope, next: N) -> Answer {
        let Self { verifier, url, metrics, keyring, shadow } = self;
        let known = Known { verifier, url, keyring };
        let (mut judged, mut envelope) = known.judge(envelope).await?;
        // Once for a key that is not there, and once for one that is not among them.
        for _ in 0..FETCHES_MAX {
            let (Err(Stop::Wanting(want)), Some(keyring)) = (&judged, &known.keyring) else {
                break;
            };
            let metrics = Arc::clone(&metrics);
            let count = move |result| metrics.key_fetches.count(result);
            if keyring.bring(want, envelope.peer().ip, count).await.is_err() {
                break;
            }
            (judged, envelope) = known.judge(envelope).await?;
        }
        let judged = match (judged, &shadow) {
            (Err(Stop::Wanting(_)), None) => return Err(Refusal::KeysUnavailable.into()),
            (Err(Stop::Wanting(_)), Some(_)) => Err(Reason::KeyNotFetched),
            (Err(Stop::Refused(reason)), _) => Err(reason),
            (Ok(proof), _) => Ok(proof),
        };
        note(&judged, envelope.received_at(), &metrics);
        match (judged, shadow) {
            (Ok(proof), _) => next.oneshot(Verified { envelope, proof }).await,
            (Err(reason), None) => Err(Refusal::NotVerified(reason).into()),
            (Err(reason), Some(path)) => {
                metrics.would_reject.count(not_verified_name(reason.class()));
                path.oneshot(Unverified { envelope, reason }).await
            }
        }
    }
}

/// How often keys are fetched for one request, at most.
const FETCHES_MAX: usize = 2;

/// What a request is judged by.
#[derive(Clone)]
struct Known {
    verifier: Arc<Verifier>,
    url: Arc<str>,
    keyring: Option<Arc<Keyring>>,
}

impl Known {
    async fn judge(&self, envelope: Envelope) -> Result<(Result<Proof, Stop>, Envelope), Refusal> {
        let own = self.clone();
        let body_bytes = envelope.body().len();
        apart(body_bytes, move || (own.check(&envelope), envelope)).await
    }

    fn check(&self, envelope: &Envelope) -> Result<Proof, Stop> {
        let Self { verifier, url, keyring } = self;
        let fetched: &dyn Keys = match keyring {
            Some(keyring) => &**keyring,
            None => &NoKeys,
        };
        let url = url_with(url, envelope.uri().query());
        verifier.judge(&Presented::of(envelope, &url), fetched)
    }
}

#[expect(clippy::cast_precision_loss, reason = "offsets that pass are minutes at most")]
fn note(judged: &Result<Proof, Reason>, received_at: Timestamp, metrics: &SourceMetrics) {
    match judged {
        Ok(proof) => {
            metrics.matched(proof.slot);
            if let Some(signed_at) = proof.signed_at {
                let offset = received_at.as_millis() - signed_at.as_millis();
                metrics.clock_offset.observe(offset as f64 / 1000.0);
            }
        }
        Err(reason) => metrics.failures.count(reason.class()),
    }
}
