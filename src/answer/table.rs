//! What the sender is told, and how it gets onto the record: the one table.
//!
//! [`Outcome`] and [`Refusal`] are closed; the functions here match each of them exactly once and without a wildcard, so a
//! new way to end does not compile until somebody has decided what it means. The statuses follow `decisions` 10 and 24:
//! never 3xx, 409, 410 or 429, because senders exist that give up on them.

#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use http::StatusCode;
use tracing::Level;

use super::{Outcome, Refusal, not_verified_name};
use Recording::{ByDelivery, Counted, Durable, Noted, Sampled};

const DEBUG: Level = Level::DEBUG;
const INFO: Level = Level::INFO;
const WARN: Level = Level::WARN;
const ERROR: Level = Level::ERROR;

/// How an answer gets onto the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recording {
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
pub(crate) struct Verdict {
    /// The outcome's name: metric label, audit value, log field, filter, `Webhook-Outcome`.
    pub(crate) name: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) problem: Option<Problem>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the connection is closed after the answer.
    pub(crate) close: bool,
    pub(crate) recording: Recording,
    /// The event may have reached the app, so its claim is held for a bounded time (`decisions` 25); else it is given
    /// back, and a retry goes through.
    pub(crate) holds: bool,
    pub(crate) level: Level,
}

/// A problem type: the last part of its URI and its constant title (RFC 9457 §3.1).
#[derive(Clone, Copy)]
pub(crate) struct Problem {
    pub(crate) slug: &'static str,
    pub(crate) title: &'static str,
}

const fn problem(slug: &'static str, title: &'static str) -> Problem {
    Problem { slug, title }
}

const UNPROVEN: Problem = problem("not-verified", "Request could not be verified");
const NOT_FOUND: Problem = problem("not-found", "Nothing answers here");
const METHOD: Problem = problem("method-not-allowed", "This endpoint accepts POST only");
const TOO_LARGE: Problem = problem("too-large", "The body is too large");
const UNREADABLE: Problem = problem("unreadable", "The request could not be read");
const MALFORMED: Problem = problem("malformed-event", "The event has no usable id or type");
const SIGNED_BEFORE: Problem =
    problem("signed-before", "What is signed was taken before, in another body");
const BUSY: Problem = problem("busy", "Try again later");
const FAILED: Problem = problem("upstream-failed", "The application could not take the event");
const TIMEOUT: Problem = problem("upstream-timeout", "The application did not answer in time");
const REJECTED: Problem = problem("upstream-rejected", "The application refused the event");
pub(crate) const INTERNAL: Problem = problem("internal", "Internal error");

/// How long a sender is asked to wait when nothing better is known.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(10);

impl Verdict {
    fn row(name: &'static str, status: u16, recording: Recording, level: Level) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (problem, retry_after, close, holds) = (None, None, false, false);
        Self { name, status, problem, retry_after, close, recording, holds, level }
    }

    fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    fn holding(self) -> Self {
        Self { holds: true, ..self }
    }
}

impl Outcome {
    /// The row of the table.
    pub(crate) fn verdict(&self) -> Verdict {
        let row = Verdict::row;
        match self {
            Self::Accepted(relayed) => row("accepted", relayed.status.into(), ByDelivery, INFO),
            Self::Duplicate(Some(relayed)) => row("duplicate", relayed.status.into(), Noted, INFO),
            Self::Duplicate(None) => row("duplicate", 200, Noted, INFO),
            Self::SameIdOtherBody => row("same_id_other_body", 200, Durable, WARN),
            Self::SuspectedReplay => row("suspected_replay", 200, Durable, WARN),
            Self::Ignored(_) => row("ignored", 200, Durable, INFO),
            // Only what is signed has something to report.
            Self::Handshake(challenge) => {
                let recording = if challenge.report.is_some() { Noted } else { Sampled };
                row("handshake", challenge.status.into(), recording, INFO)
            }
            Self::Shadowed(relayed) => row("shadowed", relayed.status.into(), ByDelivery, WARN),
        }
    }
}

impl Refusal {
    /// The row of the table.
    pub(crate) fn verdict(&self) -> Verdict {
        let row = |name, status, problem, recording, level| Verdict {
            problem: Some(problem),
            ..Verdict::row(name, status, recording, level)
        };
        let later = |name, wait: &Duration, recording, level| Verdict {
            retry_after: Some(*wait),
            ..row(name, 503, BUSY, recording, level)
        };
        match self {
            Self::UnknownSource => row("unknown_source", 404, NOT_FOUND, Counted, DEBUG),
            Self::MethodNotAllowed => {
                row("method_not_allowed", 405, METHOD, Counted, DEBUG).closing()
            }
            Self::TooLarge { .. } => row("too_large", 413, TOO_LARGE, Sampled, INFO).closing(),
            Self::TooSlow => row("too_slow", 408, UNREADABLE, Counted, INFO).closing(),
            Self::Unreadable(_) => row("unreadable", 400, UNREADABLE, Sampled, WARN).closing(),
            Self::Unsupported(_) => row("unsupported", 415, UNREADABLE, Sampled, WARN).closing(),
            Self::AddressNotAllowed => row("address_not_allowed", 401, UNPROVEN, Sampled, WARN),
            Self::NotVerified(reason) => {
                row(not_verified_name(reason.class()), 401, UNPROVEN, Sampled, WARN)
            }
            Self::Malformed(_) => row("malformed", 422, MALFORMED, Durable, WARN),
            Self::SignedBefore => row("signed_before", 422, SIGNED_BEFORE, Durable, WARN),
            Self::Unrouted => row("unrouted", 404, NOT_FOUND, Durable, WARN),
            Self::InFlight { retry_after } => {
                later("duplicate_in_flight", retry_after, Noted, INFO)
            }
            Self::Overloaded(_) => later("overloaded", &RETRY_AFTER, Counted, WARN),
            Self::Draining => later("draining", &RETRY_AFTER, Counted, WARN).closing(),
            Self::StoreUnavailable => later("store_unavailable", &RETRY_AFTER, Counted, ERROR),
            Self::AuditUnavailable => later("audit_unavailable", &RETRY_AFTER, Counted, ERROR),
            Self::KeysUnavailable => later("keys_unavailable", &RETRY_AFTER, Counted, WARN),
            Self::Unconfirmed => later("unconfirmed", &RETRY_AFTER, Noted, WARN),
            Self::UpstreamBusy { retry_after } => {
                later("upstream_busy", retry_after, ByDelivery, WARN)
            }
            Self::UpstreamRejected(status) => {
                row("upstream_rejected", status.as_u16(), REJECTED, ByDelivery, WARN)
            }
            Self::UpstreamFailed => row("upstream_failed", 502, FAILED, ByDelivery, WARN),
            Self::UpstreamBroke => row("upstream_broke", 502, FAILED, ByDelivery, WARN).holding(),
            Self::UpstreamTimeout => {
                row("upstream_timeout", 504, TIMEOUT, ByDelivery, WARN).holding()
            }
            // The app may have acted before it.
            Self::Bug => row("internal_error", 500, INTERNAL, Counted, ERROR).holding(),
        }
    }

    /// Detail for the operator: the reason behind the name.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        if let Self::NotVerified(reason) = self {
            return Some(reason.as_str());
        }
        let (Self::Unreadable(why)
        | Self::Unsupported(why)
        | Self::Malformed(why)
        | Self::Overloaded(why)) = self
        else {
            return None;
        };
        Some(why)
    }
}

/// Every name that [`Verdict::name`] can have: the closed list of the metric label `outcome`.
pub const OUTCOME_NAMES: [&str; 33] = [
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
    "signed_before",
    "unrouted",
    "duplicate_in_flight",
    "overloaded",
    "draining",
    "store_unavailable",
    "audit_unavailable",
    "keys_unavailable",
    "unconfirmed",
    "upstream_busy",
    "upstream_rejected",
    "upstream_failed",
    "upstream_broke",
    "upstream_timeout",
    "internal_error",
];
