//! The sections about the process itself: server, tls, storage, admin, limits, telemetry.

use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::count;
use crate::{
    config::ProxyProtocol,
    providers::shape::OneOrMany,
    telemetry::LogFormat,
    units::{Size, Span},
};

/// Where and how we listen.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Our public name, or a list of names.
    pub host: Option<OneOrMany<String>>,
    /// Address and port, or a list. Default: `[::]:443`, or `[::]:8080` where `tls.mode` is `none`.
    pub listen: Option<OneOrMany<String>>,
    /// Threads that serve events, each with sockets and connections of its own. Default: one per core.
    pub workers: Option<NonZeroUsize>,
    /// What providers that sign the URL have on file for us. Default: `https://` and the first `host`.
    pub public_url: Option<String>,
    /// Networks of proxies in front of us; only these may set `Forwarded` and `X-Forwarded-*`.
    pub trusted_proxies: Vec<String>,
    /// Whether connections from trusted proxies begin with a PROXY protocol header.
    #[default(ProxyProtocol::None)]
    pub proxy_protocol: ProxyProtocol,
    /// How long running requests get after SIGTERM; stay under the orchestrator's grace period.
    #[default(Span::secs(25))]
    pub drain_timeout: Span,
    /// The header of every response that carries the request's id.
    #[default("Webhook-Receipt".into())]
    pub receipt_header: String,
    /// Prefix of the headers that upstreams see.
    #[default("Gatepost-".into())]
    pub header_prefix: String,
    /// A wrong method on a known path looks like an unknown path.
    pub hide_paths: bool,
}

/// Certificates.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// Where certificates come from: `files` you have, `internal` (self-made, for labs), `none` (a proxy terminates TLS).
    #[schemars(required)]
    pub mode: Option<TlsMode>,
    /// Certificates and keys as PEM; chosen by SNI, the first is the default. Only for `mode: files`.
    pub files: Vec<CertFiles>,
    /// The oldest TLS version that is spoken.
    pub min_version: TlsVersion,
    /// PEM of a CA whose client certificates are demanded of every sender.
    pub client_ca: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsMode {
    Files,
    Internal,
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CertFiles {
    /// PEM of the chain.
    #[schemars(required)]
    pub cert: Option<String>,
    /// PEM of the key.
    #[schemars(required)]
    pub key: Option<String>,
}

/// Where state is.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// The directory of everything that is kept.
    #[default("/var/lib/gatepost".into())]
    pub dir: String,
    /// Below this much free space new events get 503 instead of half a record.
    #[default(Size(1 << 30))]
    pub min_free: Size,
}

/// Health and metrics.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// Address of `/healthz`, `/readyz` and `/metrics`; loopback only.
    #[default("127.0.0.1:9480".into())]
    pub listen: String,
    /// A second address for metrics and health alone, for other machines.
    pub metrics_listen: Option<String>,
}

/// Limits with names.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Open connections.
    #[default(count(10_000))]
    pub connections: NonZeroUsize,
    /// Requests between admission and answer; beyond it 503 with `Retry-After`.
    #[default(count(1024))]
    pub requests_in_flight: NonZeroUsize,
    /// From accept to the first byte.
    #[default(Span::secs(5))]
    pub first_byte_timeout: Span,
    /// For the TLS handshake.
    #[default(Span::secs(5))]
    pub handshake_timeout: Span,
    /// For the head of a request.
    #[default(Span::secs(5))]
    pub header_timeout: Span,
    /// For the body of a request.
    #[default(Span::secs(10))]
    pub body_timeout: Span,
    /// Bytes per second that a body must keep up after its first two seconds.
    #[default(Size::kib(1))]
    pub body_rate_min: Size,
    /// Size of a request's head.
    #[default(Size::kib(32))]
    pub header_size: Size,
    /// Number of header lines.
    #[default(count(100))]
    pub headers: NonZeroUsize,
    /// Length of path and query.
    #[default(Size::kib(8))]
    pub path_length: Size,
    /// Memory for bodies in flight.
    #[default(Size::mib(256))]
    pub body_memory: Size,
    /// Streams per HTTP/2 connection.
    #[default(NonZeroU32::new(128).unwrap_or(NonZeroU32::MIN))]
    pub h2_streams: NonZeroU32,
    /// How long a connection may be idle.
    #[default(Span::secs(30))]
    pub idle_timeout: Span,
    /// Age at which a connection is asked to close, so that load spreads.
    #[default(Span::secs(3600))]
    pub connection_age_max: Span,
    /// To write an answer out.
    #[default(Span::secs(10))]
    pub write_timeout: Span,
}

/// Logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Logs.
    pub log: Log,
}

/// Logs.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`; or per module: `info,gatepost::dedup=debug`.
    #[default("info".into())]
    pub level: String,
    /// How lines look.
    #[default(LogFormat::Auto)]
    pub format: LogFormat,
}
