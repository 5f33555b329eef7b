//! The closed lists: all that a label can be.

/// The label of requests that no source takes: one series, however hard someone scans.
pub(crate) const UNKNOWN_SOURCE: &str = "_unknown";

/// What a delivery attempt can end in; the closed list of the label `result`.
pub(crate) const ATTEMPT_RESULTS: [&str; 9] =
    ["2xx", "3xx", "4xx", "5xx", "timeout", "connect", "tls", "reset", "garbage"];

/// How fetches of keys end; the closed list of the label `result`.
pub(crate) const FETCH_RESULTS: [&str; 4] = ["ok", "failed", "invalid", "busy"];
/// How the confirmation of a subscription ends. `known`: it was confirmed before; `refused`: its URL is none that is fetched;
/// `busy`: another one could not be fetched a moment ago.
pub(crate) const CONFIRM_RESULTS: [&str; 5] = ["ok", "failed", "known", "refused", "busy"];

/// What is shed for; the closed list of the label `reason`.
pub(crate) const SHED_REASONS: [&str; 6] = [
    "requests_in_flight",
    "body_memory",
    "connections",
    "upstream_concurrency",
    "disk",
    "challenges",
];

/// Kinds of audit records; the closed list of the label `kind`.
pub(crate) const RECORD_KINDS: [&str; 9] = [
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
pub(crate) const DEDUP_OPERATIONS: [&str; 5] = ["claim", "complete", "release", "hold", "renew"];
