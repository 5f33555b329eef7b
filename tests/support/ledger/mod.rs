//! The ledger: joins what senders were told, what the app received and what the audit log says, and names every rule of the
//! promise that does not hold. Plain data in, findings out: it knows no gateway, no clock and no socket.
//!
//! | rule | says |
//! |---|---|
//! | `lost` | who was told 2xx is delivered by then, or a rule on record allows the answer |
//! | `extra` | an app gets an event at most once, and once more per excuse on record; an attempt never comes twice |
//! | `unexcused` | what comes after a clean delivery has an excuse of its own |
//! | `renamed` | an event has one id of ours, on every attempt and in every record |
//! | `unrecorded` | what reaches an app has an attempt on record, durable before it came |
//! | `untold` | an app is told of earlier attempts what is on record of them, and nothing of any at the first |
//! | `unverified` | what was not signed reaches no app, no store and no record of events |
//! | `isolated` | events of one source are never taken for those of another |
//! | `wedged` | no claim keeps an event away for longer than a lease; once everything works and every lease is over, each goes through |
//! | `answer` | nobody is told what would make it give up, nor a failure where the app had accepted |

#![allow(dead_code, reason = "each test binary uses what it needs")]

mod rules;

pub use rules::explained;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    path::Path,
};

use gatepost::audit::segments::Segments;
use serde_json::Value;

/// Everything that is known about a run. Times are on one monotonic clock, in any unit.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    pub received: Vec<Received>,
    /// Of all logs.
    pub records: Vec<Record>,
    /// Our ids of the events that the store was asked about, where the test can see them.
    pub stored: BTreeSet<String>,
    /// How often the store lost what it knew about an event (flush, eviction, failover), by our id.
    pub forgotten: BTreeMap<String, usize>,
    /// For how long a claim, or a hold, may keep an event away, where the test knows.
    pub lease: Option<u64>,
    /// From here on nothing fails and no lease of before is left, and every request must end well.
    pub calm_at: Option<u64>,
}

/// A request as its sender knows it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub source: String,
    /// The provider's id of the event.
    pub id: String,
    /// Our id of the event, where the test knows how it is made; else nothing.
    pub event_id: String,
    /// SHA-256 of the body, in hex.
    pub digest: String,
    pub standing: Standing,
    pub at: u64,
    /// What came back; nothing where the connection broke, or the sender hung up.
    pub told: Option<Told>,
}

/// Whether a request deserves to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Signed as it should be.
    Genuine,
    /// The same, but so far from the gateway's clock that it may be refused.
    Doubtful,
    /// Not signed by who knows the secret.
    Forged,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: u64,
    pub status: u16,
    /// `Webhook-Outcome`, or nothing.
    pub outcome: String,
    /// `Webhook-Receipt`.
    pub receipt: String,
    /// Whether there was a `Retry-After`.
    pub retry_after: bool,
}

/// A request as the app knows it.
#[derive(Clone, Debug)]
pub struct Received {
    /// `Gatepost-Source`.
    pub source: String,
    /// The provider's id.
    pub id: String,
    /// `Gatepost-Event-Id`.
    pub event_id: String,
    /// SHA-256 of the body, in hex.
    pub digest: String,
    /// `Gatepost-Receipt`.
    pub receipt: String,
    /// `Gatepost-Attempt`.
    pub attempt: u32,
    /// Why it may have had the event before, as it is told: [`told_why`].
    pub reason: String,
    pub at: u64,
    /// When the app had decided.
    pub ended: u64,
    pub verdict: Verdict,
}

/// What the app did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Took it and said so, whole and in time.
    Accepted,
    /// Took it, and said so too late, in a way that cannot be read, or not at all.
    Silent,
    /// Did not take it.
    Refused,
}

/// The reason that a record gives where an app is told this: `Gatepost-Previous-Attempt` and `Gatepost-Dedup`.
pub fn told_why(previous: &str, dedup: &str) -> String {
    match (previous, dedup) {
        ("", "") => String::new(),
        ("unknown", "") => PREVIOUS_UNKNOWN.into(),
        ("", "unavailable") => "dedup_unavailable".into(),
        _ => format!("previous attempt {previous:?}, dedup {dedup:?}"),
    }
}

/// An attempt before this one ended in the dark.
pub const PREVIOUS_UNKNOWN: &str = "previous_attempt_unknown";

/// A line of an audit log, as far as it matters here. What it does not say is empty.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub seq: u64,
    pub kind: String,
    pub source: String,
    pub receipt: String,
    pub event_id: String,
    pub provider_id: String,
    pub digest: String,
    pub attempt: u32,
    pub outcome: String,
    pub reason: String,
    pub error: String,
    /// What a control record says happened.
    pub what: String,
    /// When it became durable, or was seen, where the test knows.
    pub durable_at: Option<u64>,
}

impl Record {
    /// Reads a line of a log, or of `gatepost audit export`.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Some(Self {
            seq: value["seq"].as_u64()?,
            kind: text("kind"),
            source: text("source"),
            receipt: text("receipt"),
            event_id: text("event_id"),
            provider_id: text("provider_id"),
            digest: text("digest").trim_start_matches("sha256:").to_owned(),
            attempt: u32::try_from(value["attempt"].as_u64().unwrap_or_default()).ok()?,
            outcome: text("outcome"),
            reason: text("reason"),
            error: text("error"),
            what: text("what"),
            durable_at: None,
        })
    }

    /// What the log in `dir` holds, compressed segments too.
    pub fn all_in(dir: &Path) -> Vec<Self> {
        let mut records = Vec::new();
        let segments = Segments::of(dir).expect("a log");
        let read = segments.each(0, |_, line| {
            let record = std::str::from_utf8(line).ok().and_then(Self::parse);
            records.push(record.expect("a record is JSON"));
            Ok(true)
        });
        read.expect("a log that can be read");
        records
    }

    /// Whether it is about an event that was verified.
    fn is_about_event(&self) -> bool {
        !self.event_id.is_empty()
    }
}

/// A rule that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub rule: &'static str,
    pub about: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.about)
    }
}

/// The findings as people read them, or an empty text.
pub fn report(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut text, finding| {
        writeln!(text, "{finding}").expect("a string takes everything");
        text
    })
}
