//! Metrics and the names of log fields. Names are API: a test compares them with the documented table.
//!
//! Label values come from the configuration or from closed lists in the code, never from the network. A stage asks for its
//! handles once, when its stack is built; nothing is looked up per request, and every series exists at 0 from start.

mod lines;
mod lists;
mod log;

use std::sync::{Arc, atomic::AtomicU64};

pub use lines::Lines;
pub(crate) use lists::*;
pub use log::LogFormat;
use log::{Sampler, Samplers};
pub(crate) use log::{finish_log, start_logging};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    answer::{OUTCOME_NAMES, REASON_CLASSES, not_verified_name},
    event::Name,
};

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Integers = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics of one process. Cloning shares them; a reload keeps them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<All>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a struct of metrics, and registers each under its name when it is made.
macro_rules! series {
    ($($field:ident: $kind:ty = $made:expr, $name:literal, $help:literal;)*) => {
        #[derive(Debug)]
        struct All {
            registry: Registry,
            refused_lines: Samplers,
            challenges: Samplers,
            $($field: $kind,)*
        }

        impl All {
            fn new() -> Self {
                let mut registry = Registry::with_prefix("gatepost");
                $(
                    let $field: $kind = $made;
                    registry.register($name, $help, $field.clone());
                )*
                let (refused_lines, challenges) = (Samplers::default(), Samplers::default());
                Self { registry, refused_lines, challenges, $($field,)* }
            }
        }
    };
}

series! {
    build: Integers = Family::default(), "build_info", "Version of the binary";
    requests: Counters = Family::default(), "requests", "Requests by source and outcome";
    request_duration: Histograms = Family::new_with_constructor(seconds),
        "request_duration_seconds", "How long providers wait";
    request_body: Histograms = Family::new_with_constructor(bytes),
        "request_body_bytes", "Sizes of request bodies";
    in_flight: Gauge = Gauge::default(),
        "requests_in_flight", "Requests between admission and answer";
    connections: Gauge = Gauge::default(), "connections", "Open connections of senders";
    verification_failures: Counters = Family::default(),
        "verification_failures", "Requests that were not believed, by reason";
    secret_matches: Counters = Family::default(),
        "secret_matches", "Verified requests by secret slot: may the old secret go?";
    key_fetches: Counters = Family::default(),
        "key_fetches", "Fetches of senders' keys, by result";
    confirmations: Counters = Family::default(),
        "confirmations", "Confirmations of subscriptions, by result";
    last_accepted: Gauges = Family::default(),
        "last_accepted_timestamp_seconds", "When a source's last event was accepted";
    clock_offset: Histograms = Family::new_with_constructor(offset),
        "provider_clock_offset_seconds", "Our clock minus the signed time";
    dedup_duration: Histograms = Family::new_with_constructor(seconds),
        "dedup_operation_duration_seconds", "Operations of the dedup store";
    dedup_up: Integers = Family::default(), "dedup_store_up", "Whether the dedup store answers";
    dedup_entries: Integers = Family::default(),
        "dedup_entries", "Events that the dedup store remembers";
    body_mismatch: Counters = Family::default(),
        "body_mismatch", "Known ids that came with another body";
    attempts: Counters = Family::default(),
        "delivery_attempts", "Attempts by upstream and result";
    attempt_duration: Histograms = Family::new_with_constructor(seconds),
        "delivery_attempt_duration_seconds", "How long upstreams take";
    event_latency: Histograms = Family::new_with_constructor(seconds),
        "event_latency_seconds", "From received to delivered";
    unrouted: Counters = Family::default(),
        "unrouted_events", "Verified events that no route takes";
    audit_records: Counters = Family::default(), "audit_records", "Records written, by kind";
    audit_dropped: Counter = Counter::default(),
        "audit_notes_dropped", "Best-effort records that were dropped because the writer was busy";
    audit_append: Histogram = seconds(),
        "audit_append_duration_seconds", "From handing a record over to its being durable";
    audit_checkpoint: Gauge<f64, AtomicU64> = Gauge::default(),
        "audit_last_checkpoint_timestamp_seconds", "When the record was last sealed";
    shed: Counters = Family::default(), "shed", "Requests refused because a limit was reached";
    shadow: Counters = Family::default(),
        "shadow_would_reject", "Requests that passed in shadow mode only";
    certificate_expiry: Gauges = Family::default(),
        "tls_certificate_expiry_timestamp_seconds", "When a certificate expires";
    storage_free: Gauge<f64, AtomicU64> = Gauge::default(),
        "storage_free_bytes", "Free space where the record is kept";
    reload_ok: Gauge = Gauge::default(),
        "config_last_reload_successful", "Whether the last reload was taken over";
    reload_time: Gauge<f64, AtomicU64> = Gauge::default(),
        "config_last_reload_success_timestamp_seconds", "When the running configuration was loaded";
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0,
        60.0,
    ])
}

/// From 256 bytes to 25 MiB.
fn bytes() -> Histogram {
    let powers_of_4 = (4..=11).map(|n| f64::from(1_u32 << (2 * n)));
    Histogram::new(powers_of_4.chain([f64::from(25_u32 << 20)]))
}

fn offset() -> Histogram {
    Histogram::new([-300.0, -60.0, -30.0, -5.0, -1.0, 0.0, 1.0, 5.0, 30.0, 60.0, 300.0])
}

impl Metrics {
    /// A registry with every metric in it.
    pub fn new() -> Self {
        let mut all = All::new();
        let lost = "Lines of the log that were lost because standard error could not be written";
        all.registry.register("log_lines_lost", lost, log::lines_lost());
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        all.build.get_or_create_owned(&version).set(1);
        drop(counters(&all.shed, &[], "reason", &SHED_REASONS));
        Self(Arc::new(all))
    }

    /// Everything in the `OpenMetrics` text format (which Prometheus reads).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if encode(&mut text, &self.0.registry).is_err() {
            tracing::error!("metrics could not be written out");
        }
        text
    }

    /// Handles of one source; `mode` is `proxy` or `shadow`.
    pub fn source(&self, source: &str, mode: &'static str, secrets: usize) -> SourceMetrics {
        let all = &*self.0;
        let own = vec![("source", source.to_owned())];
        let with = |label, value: String| [own.clone(), vec![(label, value)]].concat();
        let slot = |n: usize| all.secret_matches.get_or_create_owned(&with("slot", n.to_string()));
        let not_verified = REASON_CLASSES.map(not_verified_name);
        SourceMetrics {
            refused_lines: all.refused_lines.of(source),
            challenges: all.challenges.of(source),
            outcomes: counters(&all.requests, &own, "outcome", &OUTCOME_NAMES),
            would_reject: counters(&all.shadow, &own, "outcome", &not_verified),
            failures: counters(&all.verification_failures, &own, "reason", &REASON_CLASSES),
            key_fetches: counters(&all.key_fetches, &own, "result", &FETCH_RESULTS),
            confirmations: counters(&all.confirmations, &own, "result", &CONFIRM_RESULTS),
            slots: (1..=secrets).map(slot).collect(),
            shed: counters(&all.shed, &[], "reason", &SHED_REASONS),
            duration: all.request_duration.get_or_create_owned(&with("mode", mode.to_owned())),
            body: all.request_body.get_or_create_owned(&own),
            last_accepted: all.last_accepted.get_or_create_owned(&own),
            clock_offset: all.clock_offset.get_or_create_owned(&own),
            body_mismatch: all.body_mismatch.get_or_create_owned(&own),
            unrouted: all.unrouted.get_or_create_owned(&own),
            in_flight: all.in_flight.clone(),
        }
    }

    /// Handles of one upstream.
    pub fn upstream(&self, upstream: &Name) -> UpstreamMetrics {
        let own = vec![("upstream", upstream.to_string())];
        UpstreamMetrics {
            results: counters(&self.0.attempts, &own, "result", &ATTEMPT_RESULTS),
            duration: self.0.attempt_duration.get_or_create_owned(&own),
        }
    }

    /// From received to delivered, for one source and upstream.
    pub fn event_latency(&self, source: &Name, upstream: &Name) -> Histogram {
        let own = vec![("source", source.to_string()), ("upstream", upstream.to_string())];
        self.0.event_latency.get_or_create_owned(&own)
    }

    /// Handles of the dedup store; `kind` is `memory`, `embedded` or `redis`.
    pub fn dedup(&self, kind: &'static str) -> DedupMetrics {
        let all = &*self.0;
        let own = vec![("store", kind.to_owned())];
        let operation = |name: &'static str| {
            let labels = [own.clone(), vec![("operation", name.to_owned())]].concat();
            (name, all.dedup_duration.get_or_create_owned(&labels))
        };
        DedupMetrics {
            operations: Closed(DEDUP_OPERATIONS.into_iter().map(operation).collect()),
            up: all.dedup_up.get_or_create_owned(&own),
            entries: all.dedup_entries.get_or_create_owned(&own),
        }
    }

    /// Handles of the audit log.
    pub fn audit(&self) -> AuditMetrics {
        let all = &*self.0;
        AuditMetrics {
            records: counters(&all.audit_records, &[], "kind", &RECORD_KINDS),
            dropped: all.audit_dropped.clone(),
            append: all.audit_append.clone(),
            checkpoint: all.audit_checkpoint.clone(),
            free: all.storage_free.clone(),
        }
    }

    /// Counts a refusal for a limit; `reason` is one of [`SHED_REASONS`].
    pub fn shed(&self, reason: &'static str) -> Counter {
        self.0.shed.get_or_create_owned(&vec![("reason", reason.to_owned())])
    }

    /// Open connections of senders.
    pub fn connections(&self) -> Gauge {
        self.0.connections.clone()
    }

    /// When the certificate for `host` expires.
    pub fn certificate_expiry(&self, host: &str) -> Gauge<f64, AtomicU64> {
        self.0.certificate_expiry.get_or_create_owned(&vec![("host", host.to_owned())])
    }

    /// The result of a reload, and when the running configuration was loaded (seconds since the epoch).
    pub fn reloaded(&self, successful: bool, now_seconds: f64) {
        self.0.reload_ok.set(i64::from(successful));
        if successful {
            self.0.reload_time.set(now_seconds);
        }
    }
}

/// One counter for each of `values`, which are all that `label` can be.
fn counters(
    family: &Counters,
    own: &[(&'static str, String)],
    label: &'static str,
    values: &[&'static str],
) -> Closed<Counter> {
    let counter = |value: &&'static str| {
        let labels = [own, &[(label, (*value).to_owned())]].concat();
        (*value, family.get_or_create_owned(&labels))
    };
    Closed(values.iter().map(counter).collect())
}

/// Series by the value of a label that can only be one of a few, the frequent ones first.
#[derive(Clone, Debug)]
pub struct Closed<M>(Vec<(&'static str, M)>);

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
    /// Which refused requests get a log line.
    pub(crate) refused_lines: Arc<Sampler>,
    /// Which challenges are answered.
    pub(crate) challenges: Arc<Sampler>,
    /// By [`crate::answer::OUTCOME_NAMES`].
    pub outcomes: Closed<Counter>,
    /// What passed in shadow mode only.
    pub(crate) would_reject: Closed<Counter>,
    /// By [`crate::answer::REASON_CLASSES`].
    pub(crate) failures: Closed<Counter>,
    /// By [`SHED_REASONS`], of all sources.
    pub(crate) shed: Closed<Counter>,
    /// By [`FETCH_RESULTS`].
    pub(crate) key_fetches: Closed<Counter>,
    /// By [`CONFIRM_RESULTS`].
    pub(crate) confirmations: Closed<Counter>,
    slots: Vec<Counter>,
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
    /// By [`ATTEMPT_RESULTS`].
    pub results: Closed<Counter>,
    /// How long attempts take.
    pub(crate) duration: Histogram,
}

/// Handles of the dedup store.
#[derive(Clone, Debug)]
pub struct DedupMetrics {
    /// By [`DEDUP_OPERATIONS`].
    pub operations: Closed<Histogram>,
    pub(crate) up: Gauge,
    pub(crate) entries: Gauge,
}

/// Handles of the audit log.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// By [`RECORD_KINDS`].
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
