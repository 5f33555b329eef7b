//! Handles on the series of one source, one upstream, the dedup store and the audit log.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

/// Series by the value of a label that can only be one of a few, the frequent ones first.
#[derive(Clone, Debug)]
pub struct Closed<M>(pub(super) Vec<(&'static str, M)>);

impl<M> Closed<M> {
    fn get(&self, value: &'static str) -> Option<&M> {
        let found = self.0.iter().find(|(name, _)| *name == value);
        debug_assert!(found.is_some(), "{value} is not in the closed list");
        found.map(|(_, metric)| metric)
    }
}

impl Closed<Counter> {
    /// Counts one more under `value`.
    pub fn count(&self, value: &'static str) {
        if let Some(counter) = self.get(value) {
            counter.inc();
        }
    }
}

impl Closed<Histogram> {
    /// Observes what was measured under `value`.
    pub fn observe(&self, value: &'static str, measured: f64) {
        if let Some(histogram) = self.get(value) {
            histogram.observe(measured);
        }
    }
}

/// Handles of one source.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    /// By [`crate::answer::OUTCOME_NAMES`].
    pub outcomes: Closed<Counter>,
    /// What passed in shadow mode only.
    pub(crate) would_reject: Closed<Counter>,
    /// By [`crate::answer::REASON_CLASSES`].
    pub(crate) failures: Closed<Counter>,
    /// By [`super::SHED_REASONS`], of all sources.
    pub(crate) shed: Closed<Counter>,
    pub(super) slots: Vec<Counter>,
    /// How long the provider waited.
    pub(crate) duration: Histogram,
    /// Sizes of bodies.
    pub body: Histogram,
    pub(crate) last_accepted: Gauge<f64, AtomicU64>,
    /// Our clock minus the signed time.
    pub(crate) clock_offset: Histogram,
    /// Known ids with another body.
    pub(crate) body_mismatch: Counter,
    /// Events that no route takes.
    pub unrouted: Counter,
    /// Requests between admission and answer, of all sources.
    pub(crate) in_flight: Gauge,
}

impl SourceMetrics {
    /// Counts which secret matched, from 1.
    pub(crate) fn matched(&self, slot: usize) {
        if let Some(counter) = slot.checked_sub(1).and_then(|i| self.slots.get(i)) {
            counter.inc();
        }
    }
}

/// Handles of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// By [`super::ATTEMPT_RESULTS`].
    pub results: Closed<Counter>,
    /// How long attempts take.
    pub(crate) duration: Histogram,
}

/// Handles of the dedup store.
#[derive(Clone, Debug)]
pub struct DedupMetrics {
    /// By [`super::DEDUP_OPERATIONS`].
    pub operations: Closed<Histogram>,
    pub(crate) up: Gauge,
    pub(crate) entries: Gauge,
}

/// Handles of the audit log.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// By [`super::RECORD_KINDS`].
    pub records: Closed<Counter>,
    /// Best-effort records that were dropped.
    pub(crate) dropped: Counter,
    /// From handing a record over to its being durable.
    pub(crate) append: Histogram,
    /// When the log was last sealed, in seconds since the epoch.
    pub(crate) checkpoint: Gauge<f64, AtomicU64>,
    /// Free space, in bytes.
    pub(crate) free: Gauge<f64, AtomicU64>,
}

/// One more on a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct OneMore(Gauge);

impl OneMore {
    pub(crate) fn on(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.dec();
    }
}
