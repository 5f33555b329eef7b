//! Every way a request can end, and what the sender is told: the one table.
//!
//! [`Outcome`] and [`Refusal`] are closed; the functions at the end match each of them exactly once and without a
//! wildcard, so a new way to end does not compile until somebody has decided what it means. The statuses follow
//! `decisions` 10 and 24: never 3xx, 409, 410 or 429, because senders exist that give up on them.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

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
    /// What went wrong, for the operator; never sent out.
    pub error: Option<Cow<'static, str>>,
}

/// Lets a stage add to the notes of an answer on its way up.
pub fn annotate(answer: Answer, note: impl FnOnce(&mut Notes)) -> Answer {
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
}

/// The exact reply to a provider's challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Status to answer.
    pub status: StatusCode,
    /// Content type to answer.
    pub content_type: HeaderValue,
    /// Further headers that the provider expects.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body to answer.
    pub body: Bytes,
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
    /// The signed bytes of a completed event under a new unsigned id.
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

/// Why a signature was not believed. Flat, for logs, metrics and tests; never sent out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The signature (or what carries it) is not there.
    SignatureMissing,
    /// A header that must come once came several times.
    HeaderRepeated,
    /// The signature's container or encoding is not what the scheme says.
    SignatureMalformed,
    /// More candidate signatures than are looked at.
    SignaturesTooMany,
    /// No signature matches under any live secret.
    SignatureWrong,
    /// The timestamp is not there.
    TimestampMissing,
    /// The timestamp came several times.
    TimestampRepeated,
    /// The timestamp is not a canonical number (or date).
    TimestampMalformed,
    /// Signed longer ago than the tolerance.
    TimestampPast,
    /// Signed in the future, beyond the tolerance.
    TimestampFuture,
    /// Something else that is signed over is not there, or is not what it must be.
    InputMissing,
    /// An identifier in the signed text could shift a delimiter.
    InputAmbiguous,
    /// An equality that the scheme requires does not hold.
    RequirementFailed,
    /// Every configured secret has expired.
    SecretExpired,
}

impl Reason {
    /// All reasons, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::SignatureMissing,
        Self::HeaderRepeated,
        Self::SignatureMalformed,
        Self::SignaturesTooMany,
        Self::SignatureWrong,
        Self::TimestampMissing,
        Self::TimestampRepeated,
        Self::TimestampMalformed,
        Self::TimestampPast,
        Self::TimestampFuture,
        Self::InputMissing,
        Self::InputAmbiguous,
        Self::RequirementFailed,
        Self::SecretExpired,
    ];

    /// The reason's name in logs, records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignatureMissing => "signature_missing",
            Self::HeaderRepeated => "header_repeated",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignaturesTooMany => "signatures_too_many",
            Self::SignatureWrong => "signature_wrong",
            Self::TimestampMissing => "timestamp_missing",
            Self::TimestampRepeated => "timestamp_repeated",
            Self::TimestampMalformed => "timestamp_malformed",
            Self::TimestampPast => "timestamp_past",
            Self::TimestampFuture => "timestamp_future",
            Self::InputMissing => "input_missing",
            Self::InputAmbiguous => "input_ambiguous",
            Self::RequirementFailed => "requirement_failed",
            Self::SecretExpired => "secret_expired",
        }
    }
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
    /// The upstream asked to come back later (408, 425, 429, 503).
    UpstreamBusy {
        /// The upstream's `Retry-After`, bounded.
        retry_after: Duration,
    },
    /// The upstream refused in a way that is the event's fault (other 4xx).
    UpstreamRejected(StatusCode),
    /// The upstream failed for certain: refused, 5xx, 3xx, 401, 403, 404, 405, 410, rubbish.
    UpstreamFailed,
    /// The connection to the upstream broke after bytes were sent: it may or may not have acted.
    UpstreamBroke,
    /// The upstream did not answer in time: it may or may not have acted.
    UpstreamTimeout,
    /// A mistake of ours.
    Bug,
}

/// What happens to the claim of an event when its delivery ends in a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It certainly did not reach the app: the claim is given back, a retry goes through.
    Release,
    /// It may have reached the app: the claim is held for a bounded time (`decisions` 25).
    Hold,
}

/// How an answer gets onto the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The audit stage has done it, before and after the delivery.
    ByDelivery,
    /// Durably, before the answer: the answer is a promise that rests on the record.
    Durable,
    /// Best effort.
    Noted,
    /// Counted, and sampled into the log at a bounded rate: a stranger must not be able to fill the disk.
    Sampled,
    /// Counted only.
    Counted,
}

/// What the sender is told, and how loudly the operator is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome's name: metric label, audit value, log field, filter, `Webhook-Outcome`.
    pub name: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// Problem type (RFC 9457) for answers that are problems.
    pub problem: Option<Problem>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Whether the connection is closed after the answer.
    pub close: bool,
    /// How it gets onto the record.
    pub recording: Recording,
    /// Log level.
    pub level: tracing::Level,
}

/// A problem type: the last part of its URI and its constant title (RFC 9457 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Last part of the type URI.
    pub slug: &'static str,
    /// Constant title.
    pub title: &'static str,
}

const NOT_VERIFIED: Problem =
    Problem { slug: "not-verified", title: "Request could not be verified" };
const NOT_FOUND: Problem = Problem { slug: "not-found", title: "Nothing answers here" };
const METHOD: Problem =
    Problem { slug: "method-not-allowed", title: "This endpoint accepts POST only" };
const TOO_LARGE: Problem = Problem { slug: "too-large", title: "The body is too large" };
const UNREADABLE: Problem = Problem { slug: "unreadable", title: "The request could not be read" };
const MALFORMED: Problem =
    Problem { slug: "malformed-event", title: "The event has no usable id or type" };
const BUSY: Problem = Problem { slug: "busy", title: "Try again later" };
const UPSTREAM_FAILED: Problem =
    Problem { slug: "upstream-failed", title: "The application could not take the event" };
const UPSTREAM_TIMEOUT: Problem =
    Problem { slug: "upstream-timeout", title: "The application did not answer in time" };
const UPSTREAM_REJECTED: Problem =
    Problem { slug: "upstream-rejected", title: "The application refused the event" };
pub(crate) const INTERNAL: Problem = Problem { slug: "internal", title: "Internal error" };

/// How long a sender is asked to wait when nothing better is known.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

impl Outcome {
    /// The row of the table.
    pub fn verdict(&self) -> Verdict {
        use tracing::Level;
        let row = |name, status, recording, level| Verdict {
            name,
            status,
            problem: None,
            retry_after: None,
            close: false,
            recording,
            level,
        };
        match self {
            Self::Accepted(relayed) => {
                row("accepted", relayed.status, Recording::ByDelivery, Level::INFO)
            }
            Self::Duplicate(Some(relayed)) => {
                row("duplicate", relayed.status, Recording::Noted, Level::INFO)
            }
            Self::Duplicate(None) => {
                row("duplicate", StatusCode::OK, Recording::Noted, Level::INFO)
            }
            Self::SameIdOtherBody => {
                row("same_id_other_body", StatusCode::OK, Recording::Durable, Level::WARN)
            }
            Self::SuspectedReplay => {
                row("suspected_replay", StatusCode::OK, Recording::Durable, Level::WARN)
            }
            Self::Ignored(Ignored::Unrouted | Ignored::Dropped) => {
                row("ignored", StatusCode::OK, Recording::Durable, Level::INFO)
            }
            Self::Handshake(challenge) => {
                row("handshake", challenge.status, Recording::Sampled, Level::INFO)
            }
            Self::Shadowed(relayed) => {
                row("shadowed", relayed.status, Recording::ByDelivery, Level::WARN)
            }
        }
    }
}

impl Refusal {
    /// The row of the table.
    pub fn verdict(&self) -> Verdict {
        use tracing::Level;
        let row = |name, status, problem, recording, level| Verdict {
            name,
            status,
            problem: Some(problem),
            retry_after: None,
            close: false,
            recording,
            level,
        };
        let busy = |name, wait: Duration, recording, level| Verdict {
            retry_after: Some(wait),
            ..row(name, StatusCode::SERVICE_UNAVAILABLE, BUSY, recording, level)
        };
        let closing = |verdict: Verdict| Verdict { close: true, ..verdict };
        match self {
            Self::UnknownSource => row(
                "unknown_source",
                StatusCode::NOT_FOUND,
                NOT_FOUND,
                Recording::Counted,
                Level::DEBUG,
            ),
            Self::MethodNotAllowed => closing(row(
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                METHOD,
                Recording::Counted,
                Level::DEBUG,
            )),
            Self::TooLarge { .. } => closing(row(
                "too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                TOO_LARGE,
                Recording::Sampled,
                Level::INFO,
            )),
            Self::TooSlow => closing(row(
                "too_slow",
                StatusCode::REQUEST_TIMEOUT,
                UNREADABLE,
                Recording::Counted,
                Level::INFO,
            )),
            Self::Unreadable(_) => closing(row(
                "unreadable",
                StatusCode::BAD_REQUEST,
                UNREADABLE,
                Recording::Sampled,
                Level::WARN,
            )),
            Self::Unsupported(_) => closing(row(
                "unsupported",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UNREADABLE,
                Recording::Sampled,
                Level::WARN,
            )),
            Self::AddressNotAllowed => row(
                "address_not_allowed",
                StatusCode::UNAUTHORIZED,
                NOT_VERIFIED,
                Recording::Sampled,
                Level::WARN,
            ),
            Self::NotVerified(reason) => row(
                not_verified_name(*reason),
                StatusCode::UNAUTHORIZED,
                NOT_VERIFIED,
                Recording::Sampled,
                Level::WARN,
            ),
            Self::Malformed(_) => row(
                "malformed",
                StatusCode::UNPROCESSABLE_ENTITY,
                MALFORMED,
                Recording::Durable,
                Level::WARN,
            ),
            Self::Unrouted => {
                row("unrouted", StatusCode::NOT_FOUND, NOT_FOUND, Recording::Durable, Level::WARN)
            }
            Self::InFlight { retry_after } => {
                busy("duplicate_in_flight", *retry_after, Recording::Noted, Level::INFO)
            }
            Self::Overloaded(_) => busy("overloaded", RETRY_AFTER, Recording::Counted, Level::WARN),
            Self::Draining => {
                closing(busy("draining", RETRY_AFTER, Recording::Counted, Level::WARN))
            }
            Self::StoreUnavailable => {
                busy("store_unavailable", RETRY_AFTER, Recording::Counted, Level::ERROR)
            }
            Self::AuditUnavailable => {
                busy("audit_unavailable", RETRY_AFTER, Recording::Counted, Level::ERROR)
            }
            Self::UpstreamBusy { retry_after } => {
                busy("upstream_busy", *retry_after, Recording::ByDelivery, Level::WARN)
            }
            Self::UpstreamRejected(status) => row(
                "upstream_rejected",
                *status,
                UPSTREAM_REJECTED,
                Recording::ByDelivery,
                Level::WARN,
            ),
            Self::UpstreamFailed => row(
                "upstream_failed",
                StatusCode::BAD_GATEWAY,
                UPSTREAM_FAILED,
                Recording::ByDelivery,
                Level::WARN,
            ),
            Self::UpstreamBroke => row(
                "upstream_broke",
                StatusCode::BAD_GATEWAY,
                UPSTREAM_FAILED,
                Recording::ByDelivery,
                Level::WARN,
            ),
            Self::UpstreamTimeout => row(
                "upstream_timeout",
                StatusCode::GATEWAY_TIMEOUT,
                UPSTREAM_TIMEOUT,
                Recording::ByDelivery,
                Level::WARN,
            ),
            Self::Bug => row(
                "internal_error",
                StatusCode::INTERNAL_SERVER_ERROR,
                INTERNAL,
                Recording::Counted,
                Level::ERROR,
            ),
        }
    }

    /// What becomes of the claim. After a bug the app may have acted, so the claim is held.
    pub fn settlement(&self) -> Settlement {
        match self {
            Self::UpstreamBroke | Self::UpstreamTimeout | Self::Bug => Settlement::Hold,
            Self::UnknownSource
            | Self::MethodNotAllowed
            | Self::TooLarge { .. }
            | Self::TooSlow
            | Self::Unreadable(_)
            | Self::Unsupported(_)
            | Self::AddressNotAllowed
            | Self::NotVerified(_)
            | Self::Malformed(_)
            | Self::Unrouted
            | Self::InFlight { .. }
            | Self::Overloaded(_)
            | Self::Draining
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::UpstreamBusy { .. }
            | Self::UpstreamRejected(_)
            | Self::UpstreamFailed => Settlement::Release,
        }
    }

    /// Detail for the operator: the reason behind the name.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NotVerified(reason) => Some(reason.as_str()),
            Self::Unreadable(why)
            | Self::Unsupported(why)
            | Self::Malformed(why)
            | Self::Overloaded(why) => Some(why),
            Self::UnknownSource
            | Self::MethodNotAllowed
            | Self::TooLarge { .. }
            | Self::TooSlow
            | Self::AddressNotAllowed
            | Self::Unrouted
            | Self::InFlight { .. }
            | Self::Draining
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::UpstreamBusy { .. }
            | Self::UpstreamRejected(_)
            | Self::UpstreamFailed
            | Self::UpstreamBroke
            | Self::UpstreamTimeout
            | Self::Bug => None,
        }
    }
}

/// The three names under which verification failures are counted.
pub const fn not_verified_name(reason: Reason) -> &'static str {
    match reason {
        Reason::SignatureMissing | Reason::TimestampMissing | Reason::InputMissing => {
            "rejected_missing"
        }
        Reason::TimestampRepeated
        | Reason::TimestampMalformed
        | Reason::TimestampPast
        | Reason::TimestampFuture => "rejected_timestamp",
        Reason::HeaderRepeated
        | Reason::SignatureMalformed
        | Reason::SignaturesTooMany
        | Reason::SignatureWrong
        | Reason::InputAmbiguous
        | Reason::RequirementFailed
        | Reason::SecretExpired => "rejected_signature",
    }
}

/// Every name that [`Verdict::name`] can have: the closed list of the metric label `outcome`.
pub const OUTCOME_NAMES: [&str; 30] = [
    "accepted",
    "duplicate",
    "same_id_other_body",
    "suspected_replay",
    "ignored",
    "handshake",
    "shadowed",
    "unknown_source",
    "method_not_allowed",
    "too_large",
    "too_slow",
    "unreadable",
    "unsupported",
    "address_not_allowed",
    "rejected_missing",
    "rejected_timestamp",
    "rejected_signature",
    "malformed",
    "unrouted",
    "duplicate_in_flight",
    "overloaded",
    "draining",
    "store_unavailable",
    "audit_unavailable",
    "upstream_busy",
    "upstream_rejected",
    "upstream_failed",
    "upstream_broke",
    "upstream_timeout",
    "internal_error",
];
