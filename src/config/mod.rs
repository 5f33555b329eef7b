//! Turns a file into values that need no further checking, or into all its errors.
//!
//! Nothing left of this module has heard of YAML: each defines the parameters it runs on, and they are built here.
//! Nothing here knows of running tasks.

mod compile;
mod file;
mod layers;
mod load;
mod report;
mod scalar;
mod secrets;
mod shape;
mod show;
mod subst;
mod suggest;
mod syntax;
mod tree;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::HeaderName;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use file::public_schema as schema;
pub use load::{find, load, parse_str};
pub use report::{At, Problem, Report, Severity, counted};
pub use show::Effective;
pub use subst::Env;
pub use tree::Mark;

pub use crate::telemetry::LogFormat;

use crate::{
    audit, dedup, deliver,
    event::{Name, Timestamp},
    providers, route,
    secret::Secret,
    verify,
};

/// How a file is read.
#[derive(Clone)]
pub struct Options {
    /// The environment.
    pub env: Env,
    /// Secrets and other files are not read; verifiers get placeholders.
    pub offline: bool,
    /// Now, for secrets that expire.
    pub now: Timestamp,
}

/// A configuration that may be run, and what people may ask about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is odd about it; no errors.
    pub warnings: Report,
    /// Every secret and where it is from.
    pub secrets: Vec<SecretOrigin>,
    /// Every route, in order.
    pub routes: Vec<RouteOutline>,
    /// Every value in force.
    pub values: Vec<Effective>,
}

/// A route as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOutline {
    /// Its number in the file, from 0.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Whose events.
    pub source: String,
    /// Which types.
    pub events: Vec<String>,
    /// JSON path and value that must be equal.
    pub when: Option<(String, String)>,
    /// The upstream; `None` drops.
    pub to: Option<String>,
    /// How long the upstream may take.
    pub timeout: Duration,
    /// Whether the upstream's body goes back.
    pub reply_full: bool,
    /// Line in the file.
    pub line: usize,
    /// Column in the file.
    pub column: usize,
}

/// A whole configuration, checked. Never edited, only replaced.
#[derive(Debug)]
pub struct Config {
    /// Where and how we listen.
    pub server: Server,
    /// Certificates.
    pub tls: Tls,
    /// Where state is.
    pub storage: Storage,
    /// Who may call us.
    pub sources: Vec<Source>,
    /// Our apps.
    pub upstreams: Vec<deliver::UpstreamParams>,
    /// Where claims are kept.
    pub dedup: Store,
    /// The record.
    pub audit: audit::Params,
    /// What is written about each request.
    pub audit_detail: audit::Detail,
    /// Health and metrics.
    pub admin: Admin,
    /// Limits with names.
    pub limits: Limits,
    /// Logs.
    pub telemetry: Telemetry,
    /// The files it was read from.
    pub files: Vec<PathBuf>,
    /// SHA-256 of the files, in hex: which configuration is this?
    pub fingerprint: String,
}

/// Where and how we listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Addresses; `[::]` takes IPv4 as well.
    pub listen: Vec<SocketAddr>,
    /// Our public names.
    pub hosts: Vec<String>,
    /// What URL-signing providers sign, without the path: `https://hooks.example.com`.
    pub public_url: Option<String>,
    /// Only these may set `Forwarded` and `X-Forwarded-*`, and speak the PROXY protocol.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// How long running requests get after SIGTERM.
    pub drain_timeout: Duration,
    /// The header that every response carries.
    pub receipt_header: HeaderName,
    /// Prefix of the headers that upstreams see, such as `gatepost-`.
    pub header_prefix: String,
    /// Wrong methods on known paths look like unknown paths.
    pub hide_paths: bool,
}

/// Whether connections begin with a PROXY protocol header (HAProxy's proxy-protocol.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// They do not.
    None,
    /// Version 1, text.
    V1,
    /// Version 2, binary.
    V2,
}

/// Certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where they come from.
    pub mode: TlsMode,
    /// TLS 1.3 only, where true; else 1.2 as well.
    pub tls13_only: bool,
    /// PEM of the CA whose client certificates are demanded.
    pub client_ca: Option<PathBuf>,
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// PEM files; chosen by SNI, the first is the default.
    Files(Vec<CertFiles>),
    /// Self-made, kept in the storage directory.
    Internal,
    /// A proxy in front of us terminates TLS.
    None,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// PEM of the chain.
    pub cert: PathBuf,
    /// PEM of the key.
    pub key: PathBuf,
}

/// Where state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The directory.
    pub dir: PathBuf,
    /// Below this much free space new events are refused.
    pub free_bytes_min: u64,
}

/// A source, ready to run.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// Its preset, or `custom`.
    pub provider: String,
    /// The path it answers at.
    pub path: String,
    /// Its schemes with its secrets.
    pub verifier: Arc<verify::Verifier>,
    /// Its secrets, for `check` and for signing test events.
    pub secrets: Vec<verify::LiveSecret>,
    /// Where id and type are, its challenges, what is covered.
    pub language: providers::Compiled,
    /// Whether its challenges are answered.
    pub handshake: bool,
    /// False: shadow mode.
    pub enforce: bool,
    /// How long a body may be, in bytes.
    pub body_bytes_max: u64,
    /// Whether compressed bodies are passed on (as they are; never inflated).
    pub allow_encoded: bool,
    /// Who may send; anybody, where empty.
    pub allow_ips: Vec<IpNet>,
    /// The public URL that its provider signs, path included.
    pub public_url: String,
    /// What it says about duplicates.
    pub dedup: dedup::Policy,
    /// Which events go where.
    pub routes: route::Routes,
}

/// Where claims are kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In memory: forgotten at exit.
    Memory,
    /// In SQLite, in the storage directory.
    Embedded,
    /// In Redis, shared between gateways.
    Redis(dedup::RedisSettings),
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Loopback by default.
    pub listen: SocketAddr,
    /// Metrics and health for others, without anything else.
    pub metrics_listen: Option<SocketAddr>,
}

/// Limits with names. Each is a key under `limits:` of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Requests between admission and answer.
    pub requests_in_flight: usize,
    /// Time from accept to the first byte.
    pub first_byte_timeout: Duration,
    /// Time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Bytes per second that a body must keep up after its first two seconds.
    pub body_rate_min: u64,
    /// Size of a request's head, in bytes.
    pub header_bytes_max: usize,
    /// Number of header lines.
    pub headers_max: usize,
    /// Length of path and query, in bytes.
    pub path_bytes_max: usize,
    /// Memory for bodies in flight, in bytes.
    pub body_memory: u64,
    /// Streams per HTTP/2 connection.
    pub h2_streams: u32,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// Age at which a connection is asked to close.
    pub connection_age_max: Duration,
    /// Time to write an answer out.
    pub write_timeout: Duration,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// A filter in `tracing`'s syntax: `info`, `gatepost=debug`.
    pub log_level: String,
    /// How lines look.
    pub log_format: LogFormat,
}

/// A secret together with where it was configured, for `check` and `config show`.
#[derive(Clone, Debug)]
pub struct SecretOrigin {
    /// `stripe`, or `stripe #2` where there are several.
    pub name: String,
    /// The secret; `None` where it was not read.
    pub secret: Option<Secret>,
    /// `env STRIPE_WEBHOOK_SECRET`, `file /run/secrets/stripe`.
    pub origin: String,
    /// From when on it is not accepted.
    pub expires: Option<Timestamp>,
    /// Where the configuration names it.
    pub mark: Mark,
}
