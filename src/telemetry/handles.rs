//! Handles on the series of one source, one upstream, the dedup store and the audit log.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, AtomicU64},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use crate::answer::Reason;

/// Handles of one source.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    pub(super) outcomes: HashMap<&'static str, Counter>,
    pub(super) would_reject: HashMap<&'static str, Counter>,
    pub(super) failures: HashMap<&'static str, Counter>,
    pub(super) slots: Vec<Counter>,
    /// How long the provider waited.
    pub duration: Histogram,
    /// Sizes of bodies.
    pub body: Histogram,
    /// When the last event was accepted.
    pub last_accepted: Gauge<f64, AtomicU64>,
    /// Our clock minus the signed time.
    pub clock_offset: Histogram,
    /// Known ids with another body.
    pub body_mismatch: Counter,
    /// Events that no route takes.
    pub unrouted: Counter,
    /// Requests between admission and answer, of all sources.
    pub in_flight: Gauge,
}

impl SourceMetrics {
    /// Counts how a request ended; `outcome` is one of [`OUTCOME_NAMES`].
    pub fn ended(&self, outcome: &'static str) {
        count(&self.outcomes, outcome);
    }

    /// Counts what passed in shadow mode only.
    pub fn would_reject(&self, outcome: &'static str) {
        count(&self.would_reject, outcome);
    }

    /// Counts a verification failure.
    pub fn failed(&self, reason: Reason) {
        count(&self.failures, reason_class(reason));
    }

    /// Counts which secret matched, from 1.
    pub fn matched(&self, slot: usize) {
        if let Some(counter) = slot.checked_sub(1).and_then(|i| self.slots.get(i)) {
            counter.inc();
        }
    }
}

/// Handles of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    pub(super) results: HashMap<&'static str, Counter>,
    /// How long attempts take.
    pub duration: Histogram,
}

impl UpstreamMetrics {
    /// Counts an attempt; `result` is one of [`ATTEMPT_RESULTS`].
    pub fn attempted(&self, result: &'static str) {
        count(&self.results, result);
    }
}

/// Handles of the dedup store.
#[derive(Clone, Debug)]
pub struct DedupMetrics {
    pub(super) operations: HashMap<&'static str, Histogram>,
    /// Whether it answers.
    pub up: Gauge<i64, AtomicI64>,
    /// What it remembers.
    pub entries: Gauge<i64, AtomicI64>,
}

impl DedupMetrics {
    /// Times an operation; one of [`DEDUP_OPERATIONS`].
    pub fn took(&self, operation: &'static str, seconds: f64) {
        if let Some(histogram) = self.operations.get(operation) {
            histogram.observe(seconds);
        }
    }
}

/// Handles of the audit log.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    pub(super) records: HashMap<&'static str, Counter>,
    /// Best-effort records that were dropped.
    pub dropped: Counter,
    /// From handing a record over to its being durable.
    pub append: Histogram,
    /// When the log was last sealed, in seconds since the epoch.
    pub checkpoint: Gauge<f64, AtomicU64>,
    /// Free space, in bytes.
    pub free: Gauge<f64, AtomicU64>,
}

impl AuditMetrics {
    /// Counts a record; `kind` is one of [`RECORD_KINDS`].
    pub fn recorded(&self, kind: &'static str) {
        count(&self.records, kind);
    }
}

fn count(counters: &HashMap<&'static str, Counter>, name: &'static str) {
    if let Some(counter) = counters.get(name) {
        counter.inc();
    } else {
        debug_assert!(false, "{name} is not in the closed list");
    }
}

/// The five classes under which verification failures are counted.
const fn reason_class(reason: Reason) -> &'static str {
    match reason {
        Reason::SignatureMissing | Reason::TimestampMissing | Reason::InputMissing => "missing",
        Reason::SignatureMalformed
        | Reason::HeaderRepeated
        | Reason::SignaturesTooMany
        | Reason::InputAmbiguous => "encoding",
        Reason::TimestampRepeated
        | Reason::TimestampMalformed
        | Reason::TimestampPast
        | Reason::TimestampFuture => "timestamp",
        Reason::SignatureWrong | Reason::RequirementFailed => "signature",
        Reason::SecretExpired => "key",
    }
}
