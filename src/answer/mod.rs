//! Every way a request can end, and what the stages tell each other about it. What the sender is told then is in one
//! table.

mod manners;
mod reason;
pub(crate) mod set;
mod table;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

pub use manners::{Manners, Said};
pub use reason::Reason;
pub(crate) use reason::{REASON_CLASSES, not_verified_name};
pub use table::OUTCOME_NAMES;
pub(crate) use table::{INTERNAL, Problem, RETRY_AFTER, Recording, Verdict};

use crate::event::{About, Name};

/// What a stage answers.
pub type Answer = Result<Answered<Outcome>, Answered<Refusal>>;

/// An outcome or a refusal, with what the stages below noted about it for the record and the log.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// How it ended.
    pub what: T,
    /// What is known about it. Boxed, because it travels up through every stage.
    pub notes: Box<Notes>,
}

impl<T> From<T> for Answered<T> {
    fn from(what: T) -> Self {
        Self { what, notes: Box::default() }
    }
}

/// Facts for the record and the log, filled in by the stages that know them. Nobody decides by them.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The event, once it was identified.
    pub about: Option<Arc<About>>,
    /// The route that took it.
    pub route: Option<Name>,
    /// The upstream that was asked.
    pub upstream: Option<Name>,
    /// The status that the upstream answered.
    pub upstream_status: Option<StatusCode>,
    /// How many times this event was claimed, this time included.
    pub attempt: Option<u32>,
    /// The audit record that made it durable.
    pub audit_seq: Option<u64>,
    /// How long the dedup store took to claim it.
    pub dedup: Option<Duration>,
    /// How long the upstream took.
    pub upstream_time: Option<Duration>,
    /// What the operator has to do; never sent out.
    pub report: Option<String>,
    /// What went wrong, for the operator; never sent out.
    pub error: Option<Cow<'static, str>>,
}

/// Lets a stage add to the notes of an answer on its way up.
pub(crate) fn annotate(answer: Answer, note: impl FnOnce(&mut Notes)) -> Answer {
    match answer {
        Ok(mut answered) => {
            note(&mut answered.notes);
            Ok(answered)
        }
        Err(mut answered) => {
            note(&mut answered.notes);
            Err(answered)
        }
    }
}

/// What an upstream answered, as far as a provider may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// A 2xx status.
    pub status: StatusCode,
    /// The content type, with `reply: full` only.
    pub content_type: Option<HeaderValue>,
    /// The body, bounded, with `reply: full` only.
    pub body: Bytes,
    /// Whether it is the app's whole answer (`reply: full`).
    pub full: bool,
}

/// The exact reply to a provider's challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Status to answer.
    pub status: StatusCode,
    /// Content type of the body.
    pub content_type: Option<HeaderValue>,
    /// Further headers that the provider expects.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body to answer.
    pub body: Bytes,
    /// What the operator is told, such as a URL that confirms a subscription.
    pub report: Option<String>,
}

/// A request that ended as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// First seen, recorded, and accepted by the upstream.
    Accepted(Relayed),
    /// Done before, or done by a twin while this one waited; holds the twin's answer where it is known.
    Duplicate(Option<Relayed>),
    /// An id that was done before, with another body: not merged silently, flagged.
    SameIdOtherBody,
    /// What was signed for a completed event, under a new unsigned id or in another batch.
    SuspectedReplay,
    /// No route wants it, or a route drops it.
    Ignored(Ignored),
    /// The provider's challenge was answered.
    Handshake(Challenge),
    /// Forwarded although it was not verified, because the source is in shadow mode.
    Shadowed(Relayed),
}

/// Why an event was not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// No route matches.
    Unrouted,
    /// The matching route says `drop: true`.
    Dropped,
}

/// A request that was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No source answers at this path.
    UnknownSource,
    /// Not a `POST`.
    MethodNotAllowed,
    /// The body is longer than the source allows.
    TooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The body did not arrive in time, or too slowly.
    TooSlow,
    /// The request could not be read, or is not something that is safe to pass on.
    Unreadable(&'static str),
    /// The body is compressed or in a form that is not taken.
    Unsupported(&'static str),
    /// The sender's address is not in the source's `allow_ips`.
    AddressNotAllowed,
    /// The signature does not hold.
    NotVerified(Reason),
    /// Verified, but without a usable id or type.
    Malformed(&'static str),
    /// What was signed was taken before, in other bytes; which of the two the provider sent, nobody knows.
    SignedBefore,
    /// Verified, but no route takes it and the source says `unrouted: reject`.
    Unrouted,
    /// A twin is still under way; waiting for it did not help.
    InFlight {
        /// When the twin's claim ends at the latest.
        retry_after: Duration,
    },
    /// A limit of this process is reached.
    Overloaded(&'static str),
    /// The process is stopping.
    Draining,
    /// The dedup store did not answer.
    StoreUnavailable,
    /// The audit log cannot be written.
    AuditUnavailable,
    /// The sender's key is not here, and where it is does not answer: nothing is known about the signature.
    KeysUnavailable,
    /// A subscription could not be confirmed.
    Unconfirmed,
    /// The upstream asked to come back later (408, 425, 429, 503).
    UpstreamBusy {
        /// The upstream's `Retry-After`, bounded.
        retry_after: Duration,
    },
    /// The upstream refused in a way that is the event's fault (other 4xx).
    UpstreamRejected(StatusCode),
    /// The upstream failed for certain: refused, 5xx, 3xx, 401, 403, 404, 405, 410.
    UpstreamFailed,
    /// The connection to the upstream broke after bytes were sent, or its answer cannot be read: it may or may not have acted.
    UpstreamBroke,
    /// The upstream did not answer in time: it may or may not have acted.
    UpstreamTimeout,
    /// A mistake of ours.
    Bug,
}
