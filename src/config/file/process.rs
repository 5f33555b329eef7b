//! The sections about the process itself: server, tls, storage, admin, limits, telemetry.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
};

use super::count;
use crate::{
    config::ProxyProtocol,
    providers::shape::OneOrMany,
    telemetry::LogFormat,
    units::{Size, Span, choices, sections},
};

sections! {
    /// Where and how we listen.
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
        pub proxy_protocol: ProxyProtocol,
        /// How long running requests get after SIGTERM; stay under the orchestrator's grace period.
        pub drain_timeout: Span = Span::secs(25),
        /// The header of every response that carries the request's id.
        pub receipt_header: String = "Webhook-Receipt".into(),
        /// Prefix of the headers that upstreams see.
        pub header_prefix: String = "Gatepost-".into(),
        /// A wrong method on a known path looks like an unknown path.
        pub hide_paths: bool,
    }

    /// Certificates.
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

    /// How documents are fetched: keys and certificates that senders publish, over HTTPS only.
    pub(crate) struct Fetch {
        /// Networks that may be reached. Default: public addresses only.
        pub networks: Vec<String>,
        /// PEM of the CAs that servers must lead to. Default: the system's.
        pub ca: Option<String>,
        /// How long one document may take, in all.
        pub timeout: Span = Span::secs(5),
        /// How long keys are used that cannot be fetched again.
        pub stale: Span = Span::days(1),
    }

    /// A certificate chain and its key.
    pub(crate) struct CertFiles {
        /// PEM of the chain.
        #[schemars(required)]
        pub cert: Option<String>,
        /// PEM of the key.
        #[schemars(required)]
        pub key: Option<String>,
    }

    /// Where state is.
    pub struct Storage {
        /// The directory of everything that is kept.
        pub dir: PathBuf = "/var/lib/gatepost".into(),
        /// Below this much free space new events get 503 instead of half a record.
        pub min_free: Size = Size(1 << 30),
    }

    /// Health and metrics.
    pub(crate) struct Admin {
        /// Address of `/healthz`, `/readyz` and `/metrics`; loopback only.
        pub listen: String = "127.0.0.1:9480".into(),
        /// A second address for metrics and health alone, for other machines.
        pub metrics_listen: Option<String>,
    }

    /// Limits with names.
    pub struct Limits {
        /// Open connections.
        pub connections: NonZeroUsize = count(10_000),
        /// Requests between admission and answer; beyond it 503 with `Retry-After`.
        pub requests_in_flight: NonZeroUsize = count(1024),
        /// From accept to the first byte.
        pub first_byte_timeout: Span = Span::secs(5),
        /// For the TLS handshake.
        pub handshake_timeout: Span = Span::secs(5),
        /// For the head of a request.
        pub header_timeout: Span = Span::secs(5),
        /// For the body of a request.
        pub body_timeout: Span = Span::secs(10),
        /// Bytes per second that a body must keep up after its first two seconds.
        pub body_rate_min: Size = Size::kib(1),
        /// Size of a request's head.
        pub header_size: Size = Size::kib(32),
        /// Number of header lines.
        pub headers: NonZeroUsize = count(100),
        /// Length of path and query.
        pub path_length: Size = Size::kib(8),
        /// Memory for bodies in flight.
        pub body_memory: Size = Size::mib(256),
        /// Streams per HTTP/2 connection.
        pub h2_streams: NonZeroU32 = count(100),
        /// How long a connection may be idle.
        pub idle_timeout: Span = Span::secs(30),
        /// Age at which a connection is asked to close, so that load spreads.
        pub connection_age_max: Span = Span::secs(3600),
        /// To write an answer out.
        pub write_timeout: Span = Span::secs(10),
    }

    /// Logs.
    pub(crate) struct Telemetry {
        /// Logs.
        pub log: Log,
    }

    /// Logs.
    pub(crate) struct Log {
        /// `error`, `warn`, `info`, `debug` or `trace`; or per module: `info,gatepost::dedup=debug`.
        pub level: String = "info".into(),
        /// How lines look.
        pub format: LogFormat,
    }
}

choices! {
    pub(crate) enum TlsMode { Files, Internal, None }

    pub(crate) enum TlsVersion {
        #[serde(rename = "1.2")]
        V12,
        #[serde(rename = "1.3")]
        V13,
    }
}
