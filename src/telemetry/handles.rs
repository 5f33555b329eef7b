//! Handles on the series of one source, one upstream, the dedup store and the audit log.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use crate::answer::Reason;

/// Series by the value of a label that can only be one of a few, the frequent ones first.
#[derive(Clone, Debug)]
pub(super) struct Closed<M>(pub(super) Vec<(&'static str, M)>);

impl<M> Closed<M> {
    fn get(&self, value: &'static str) -> Option<&M> {
        let found = self.0.iter().find(|(name, _)| *name == value);
        debug_assert!(found.is_some(), "{value} is not in the closed list");
        found.map(|(_, metric)| metric)
    }
}

impl Closed<Counter> {
    fn count(&self, value: &'static str) {
        if let Some(counter) = self.get(value) {
            counter.inc();
        }
    }
}

/// Handles of one source.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    pub(super) outcomes: Closed<Counter>,
    pub(super) would_reject: Closed<Counter>,
    pub(super) failures: Closed<Counter>,
    pub(super) slots: Vec<Counter>,
    pub(super) shed: Closed<Counter>,
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
    /// Counts how a request ended; `outcome` is one of [`crate::answer::OUTCOME_NAMES`].
    pub fn ended(&self, outcome: &'static str) {
        self.outcomes.count(outcome);
    }

    /// Counts what passed in shadow mode only.
    pub fn would_reject(&self, outcome: &'static str) {
        self.would_reject.count(outcome);
    }

    /// Counts a verification failure.
    pub fn failed(&self, reason: Reason) {
        self.failures.count(reason.class());
    }

    /// Counts a refusal for a limit, of all sources; `limit` is one of [`super::SHED_REASONS`].
    pub fn shed(&self, limit: &'static str) {
        self.shed.count(limit);
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
    pub(super) results: Closed<Counter>,
    /// How long attempts take.
    pub duration: Histogram,
}

impl UpstreamMetrics {
    /// Counts an attempt; `result` is one of [`super::ATTEMPT_RESULTS`].
    pub fn attempted(&self, result: &'static str) {
        self.results.count(result);
    }
}

/// Handles of the dedup store.
#[derive(Clone, Debug)]
pub struct DedupMetrics {
    pub(super) operations: Closed<Histogram>,
    /// Whether it answers.
    pub up: Gauge<i64, AtomicI64>,
    /// What it remembers.
    pub entries: Gauge<i64, AtomicI64>,
}

impl DedupMetrics {
    /// Times an operation; one of [`super::DEDUP_OPERATIONS`].
    pub fn took(&self, operation: &'static str, seconds: f64) {
        if let Some(histogram) = self.operations.get(operation) {
            histogram.observe(seconds);
        }
    }
}

/// Handles of the audit log.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    pub(super) records: Closed<Counter>,
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
    /// Counts a record; `kind` is one of [`super::RECORD_KINDS`].
    pub fn recorded(&self, kind: &'static str) {
        self.records.count(kind);
    }
}

/// One more on a gauge for as long as it lives.
#[derive(Debug)]
pub struct OneMore(Gauge);

impl OneMore {
    /// Adds one.
    pub fn on(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.dec();
    }
}
