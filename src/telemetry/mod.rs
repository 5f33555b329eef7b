//! Metrics and the names of log fields. Names are API: a test compares them with the documented table.
//!
//! Label values come from the configuration or from closed lists in the code, never from the network. A stage asks for its
//! handles once, when its stack is built; nothing is looked up per request, and every series exists at 0 from start.

mod handles;
mod log;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
};

pub use handles::{AuditMetrics, DedupMetrics, SourceMetrics, UpstreamMetrics};
pub use log::{LogFormat, Sampler, is_logged, start_logging};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{answer::OUTCOME_NAMES, event::Name};

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Integers = Family<Labels, Gauge<i64, AtomicI64>>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The label of requests that no source takes: one series, however hard someone scans.
pub const UNKNOWN_SOURCE: &str = "_unknown";

/// What a delivery attempt can end in; the closed list of the label `result`.
pub const ATTEMPT_RESULTS: [&str; 9] =
    ["2xx", "3xx", "4xx", "5xx", "timeout", "connect", "tls", "reset", "garbage"];

/// What is shed for; the closed list of the label `reason`.
pub const SHED_REASONS: [&str; 5] =
    ["requests_in_flight", "body_memory", "connections", "upstream_concurrency", "disk"];

/// Kinds of audit records; the closed list of the label `kind`.
pub const RECORD_KINDS: [&str; 9] = [
    "attempt",
    "outcome",
    "duplicate",
    "ignored",
    "malformed",
    "rejected",
    "handshake",
    "control",
    "shadow",
];

/// Operations of a dedup store; the closed list of the label `operation`.
pub const DEDUP_OPERATIONS: [&str; 5] = ["claim", "complete", "release", "hold", "renew"];

/// All metrics of one process. Cloning shares them; a reload keeps them.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
    registry: std::sync::Mutex<Registry>,
    requests: Counters,
    request_duration: Histograms,
    request_body: Histograms,
    in_flight: Gauge,
    connections: Gauge,
    verification_failures: Counters,
    secret_matches: Counters,
    last_accepted: Gauges,
    clock_offset: Histograms,
    dedup_duration: Histograms,
    dedup_up: Integers,
    dedup_entries: Integers,
    body_mismatch: Counters,
    attempts: Counters,
    attempt_duration: Histograms,
    event_latency: Histograms,
    unrouted: Counters,
    audit_records: Counters,
    audit_dropped: Counter,
    audit_append: Histogram,
    audit_checkpoint: Gauge<f64, AtomicU64>,
    shed: Counters,
    shadow: Counters,
    certificate_expiry: Gauges,
    storage_free: Gauge<f64, AtomicU64>,
    reload_ok: Gauge,
    reload_time: Gauge<f64, AtomicU64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0,
        60.0,
    ])
}

fn bytes() -> Histogram {
    Histogram::new([
        256.0,
        1024.0,
        4096.0,
        16384.0,
        65536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        26_214_400.0,
    ])
}

fn offset() -> Histogram {
    Histogram::new([-300.0, -60.0, -30.0, -5.0, -1.0, 0.0, 1.0, 5.0, 30.0, 60.0, 300.0])
}

impl Metrics {
    /// A registry with every metric in it.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("gatepost");
        let build: Integers = add(&mut registry, "build_info", "Version of the binary");
        build.get_or_create_owned(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let all = All {
            requests: add(&mut registry, "requests", "Requests by source and outcome"),
            request_duration: add_histograms(
                &mut registry,
                "request_duration_seconds",
                "How long providers wait",
                seconds,
            ),
            request_body: add_histograms(
                &mut registry,
                "request_body_bytes",
                "Sizes of request bodies",
                bytes,
            ),
            in_flight: add(
                &mut registry,
                "requests_in_flight",
                "Requests between admission and answer",
            ),
            connections: add(&mut registry, "connections", "Open connections of senders"),
            verification_failures: add(
                &mut registry,
                "verification_failures",
                "Requests that were not believed, by reason",
            ),
            secret_matches: add(
                &mut registry,
                "secret_matches",
                "Verified requests by secret slot: may the old secret go?",
            ),
            last_accepted: add(
                &mut registry,
                "last_accepted_timestamp_seconds",
                "When a source's last event was accepted",
            ),
            clock_offset: add_histograms(
                &mut registry,
                "provider_clock_offset_seconds",
                "Our clock minus the signed time",
                offset,
            ),
            dedup_duration: add_histograms(
                &mut registry,
                "dedup_operation_duration_seconds",
                "Operations of the dedup store",
                seconds,
            ),
            dedup_up: add(&mut registry, "dedup_store_up", "Whether the dedup store answers"),
            dedup_entries: add(
                &mut registry,
                "dedup_entries",
                "Events that the dedup store remembers",
            ),
            body_mismatch: add(
                &mut registry,
                "body_mismatch",
                "Known ids that came with another body",
            ),
            attempts: add(&mut registry, "delivery_attempts", "Attempts by upstream and result"),
            attempt_duration: add_histograms(
                &mut registry,
                "delivery_attempt_duration_seconds",
                "How long upstreams take",
                seconds,
            ),
            event_latency: add_histograms(
                &mut registry,
                "event_latency_seconds",
                "From received to delivered",
                seconds,
            ),
            unrouted: add(&mut registry, "unrouted_events", "Verified events that no route takes"),
            audit_records: add(&mut registry, "audit_records", "Records written, by kind"),
            audit_dropped: add(
                &mut registry,
                "audit_notes_dropped",
                "Best-effort records that were dropped because the writer was busy",
            ),
            audit_append: added(
                &mut registry,
                "audit_append_duration_seconds",
                "From handing a record over to its being durable",
                seconds(),
            ),
            audit_checkpoint: add(
                &mut registry,
                "audit_last_checkpoint_timestamp_seconds",
                "When the record was last sealed",
            ),
            shed: add(&mut registry, "shed", "Requests refused because a limit was reached"),
            shadow: add(
                &mut registry,
                "shadow_would_reject",
                "Requests that passed in shadow mode only",
            ),
            certificate_expiry: add(
                &mut registry,
                "tls_certificate_expiry_timestamp_seconds",
                "When a certificate expires",
            ),
            storage_free: add(
                &mut registry,
                "storage_free_bytes",
                "Free space where the record is kept",
            ),
            reload_ok: add(
                &mut registry,
                "config_last_reload_successful",
                "Whether the last reload was taken over",
            ),
            reload_time: add(
                &mut registry,
                "config_last_reload_success_timestamp_seconds",
                "When the running configuration was loaded",
            ),
            registry: std::sync::Mutex::new(registry),
        };
        for reason in SHED_REASONS {
            drop(all.shed.get_or_create_owned(&vec![("reason", reason.to_owned())]));
        }
        for kind in RECORD_KINDS {
            drop(all.audit_records.get_or_create_owned(&vec![("kind", kind.to_owned())]));
        }
        Self(Arc::new(all))
    }

    /// Everything in the OpenMetrics text format (which Prometheus reads).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if let Ok(registry) = self.0.registry.lock()
            && encode(&mut text, &registry).is_err()
        {
            tracing::error!("metrics could not be written out");
        }
        text
    }

    /// Adds a metric that only one place knows (the process's own figures).
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        if let Ok(mut registry) = self.0.registry.lock() {
            register(&mut registry);
        }
    }

    /// Handles of one source; `mode` is `proxy` or `shadow`.
    pub fn source(&self, source: &str, mode: &'static str, secrets: usize) -> SourceMetrics {
        let all = &*self.0;
        let name = || vec![("source", source.to_owned())];
        let with =
            |label, value: &str| vec![("source", source.to_owned()), (label, value.to_owned())];
        let classes = ["signature", "timestamp", "missing", "encoding", "key"];
        SourceMetrics {
            outcomes: OUTCOME_NAMES
                .iter()
                .map(|o| (*o, all.requests.get_or_create_owned(&with("outcome", o))))
                .collect(),
            would_reject: ["rejected_signature", "rejected_timestamp", "rejected_missing"]
                .iter()
                .map(|o| (*o, all.shadow.get_or_create_owned(&with("outcome", o))))
                .collect(),
            failures: classes
                .iter()
                .map(|c| (*c, all.verification_failures.get_or_create_owned(&with("reason", c))))
                .collect(),
            slots: (1..=secrets)
                .map(|n| all.secret_matches.get_or_create_owned(&with("slot", &n.to_string())))
                .collect(),
            duration: all.request_duration.get_or_create_owned(&with("mode", mode)),
            body: all.request_body.get_or_create_owned(&name()),
            last_accepted: all.last_accepted.get_or_create_owned(&name()),
            clock_offset: all.clock_offset.get_or_create_owned(&name()),
            body_mismatch: all.body_mismatch.get_or_create_owned(&name()),
            unrouted: all.unrouted.get_or_create_owned(&name()),
            in_flight: all.in_flight.clone(),
        }
    }

    /// Handles of one upstream.
    pub fn upstream(&self, upstream: &Name) -> UpstreamMetrics {
        let all = &*self.0;
        let name = || vec![("upstream", upstream.to_string())];
        let with =
            |value: &str| vec![("upstream", upstream.to_string()), ("result", value.to_owned())];
        UpstreamMetrics {
            results: ATTEMPT_RESULTS
                .iter()
                .map(|r| (*r, all.attempts.get_or_create_owned(&with(r))))
                .collect(),
            duration: all.attempt_duration.get_or_create_owned(&name()),
        }
    }

    /// From received to delivered, for one source and upstream.
    pub fn event_latency(&self, source: &Name, upstream: &Name) -> Histogram {
        self.0.event_latency.get_or_create_owned(&vec![
            ("source", source.to_string()),
            ("upstream", upstream.to_string()),
        ])
    }

    /// Handles of the dedup store; `kind` is `memory`, `embedded` or `redis`.
    pub fn dedup(&self, kind: &'static str) -> DedupMetrics {
        let all = &*self.0;
        let name = || vec![("store", kind.to_owned())];
        let with = |value: &str| vec![("store", kind.to_owned()), ("operation", value.to_owned())];
        DedupMetrics {
            operations: DEDUP_OPERATIONS
                .iter()
                .map(|o| (*o, all.dedup_duration.get_or_create_owned(&with(o))))
                .collect(),
            up: all.dedup_up.get_or_create_owned(&name()),
            entries: all.dedup_entries.get_or_create_owned(&name()),
        }
    }

    /// Handles of the audit log.
    pub fn audit(&self) -> AuditMetrics {
        let all = &*self.0;
        let kind = |k: &str| all.audit_records.get_or_create_owned(&vec![("kind", k.to_owned())]);
        AuditMetrics {
            records: RECORD_KINDS.iter().map(|k| (*k, kind(k))).collect(),
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

fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    added(registry, name, help, M::default())
}

fn add_histograms(
    registry: &mut Registry,
    name: &str,
    help: &str,
    make: fn() -> Histogram,
) -> Histograms {
    added(registry, name, help, Family::new_with_constructor(make))
}

fn added<M: prometheus_client::registry::Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}
