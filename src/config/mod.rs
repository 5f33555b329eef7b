//! Turns a file into values that need no further checking, or into all its errors.
//!
//! Nothing left of this module has heard of YAML: each defines the parameters it runs on, and they are built here.
//! Nothing here knows of running tasks.

pub(crate) mod captured;
mod compile;
mod example;
mod file;
mod layers;
mod load;
mod read;
mod report;
mod scalar;
mod secrets;
mod shape;
mod show;
mod subst;
pub(crate) mod suggest;
mod syntax;
mod tree;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use file::Log;
pub use file::{Limits, Storage, public_schema as schema};
use http::HeaderName;
use ipnet::IpNet;
pub use load::{find, load, load_found, parse_str};
pub(crate) use report::counted;
pub use report::{Problem, Report, Severity};
pub use show::Effective;
pub use subst::Env;

use tree::{Mark, Path};

use crate::{
    answer, audit, dedup, deliver,
    event::{Name, Timestamp},
    handshake::Confirmer,
    providers, route,
    secret::Secret,
    units::choices,
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
    pub(crate) secrets: Vec<SecretOrigin>,
    pub(crate) routes: Vec<RouteOutline>,
    /// Every value in force.
    pub values: Vec<Effective>,
}

/// A route as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteOutline {
    at: Path,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) events: Vec<String>,
    /// JSON path and value that must be equal.
    pub(crate) when: Option<(String, String)>,
    /// The upstream; `None` drops.
    pub(crate) to: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) reply_full: bool,
    pub(crate) mark: Mark,
}

/// A secret together with where it was configured, for `check` and `config show`.
#[derive(Clone, Debug)]
pub(crate) struct SecretOrigin {
    /// `stripe`, or `stripe #2` where there are several.
    pub(crate) name: String,
    /// `None` where it was not read.
    pub(crate) secret: Option<Secret>,
    /// `env STRIPE_WEBHOOK_SECRET`, `file /run/secrets/stripe`.
    pub(crate) origin: String,
    pub(crate) expires: Option<Timestamp>,
    /// What its provider calls it.
    pub(crate) id: Option<String>,
    pub(crate) mark: Mark,
}

/// A whole configuration, checked. Never edited, only replaced.
#[derive(Debug)]
pub struct Config {
    pub(crate) server: Server,
    pub(crate) tls: Tls,
    /// Where state is.
    pub storage: Storage,
    /// Who may call us.
    pub sources: Vec<Source>,
    pub(crate) upstreams: Vec<deliver::UpstreamParams>,
    pub(crate) dedup: Store,
    /// Where the record is and how it is kept.
    pub audit: audit::Params,
    /// What the record says about each request.
    pub(crate) audit_detail: audit::Detail,
    pub(crate) admin: Admin,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    /// The files it was read from.
    pub(crate) files: Vec<PathBuf>,
    /// SHA-256 of the files, in hex: which configuration is this?
    pub fingerprint: String,
}

/// Where and how we listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `[::]` takes IPv4 as well.
    pub(crate) listen: Vec<SocketAddr>,
    /// Threads that serve events.
    pub(crate) workers: usize,
    /// Our public names.
    pub(crate) hosts: Vec<String>,
    /// What URL-signing providers sign, without the path: `https://hooks.example.com`.
    pub(crate) public_url: Option<String>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) drain_timeout: Duration,
    pub(crate) receipt_header: HeaderName,
    /// In lower case: `gatepost-`.
    pub(crate) header_prefix: String,
    pub(crate) hide_paths: bool,
}

choices! {
    /// Whether connections begin with a PROXY protocol header (`proxy-protocol.txt` of `HAProxy`).
    pub enum ProxyProtocol {
        /// They do not.
        None,
        /// Version 1, text.
        V1,
        /// Version 2, binary.
        V2,
    }
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

impl Config {
    /// Goes on with what the sources of `before` have fetched, where it is still what they would fetch.
    pub(crate) fn remember(&mut self, before: &Self) {
        for source in &mut self.sources {
            let old = before.sources.iter().find(|old| old.name == source.name);
            let Some(old) = old else { continue };
            if let (Some(own), Some(old)) = (&source.keyring, &old.keyring)
                && let Some(keyring) = own.remembering(old)
            {
                source.keyring = Some(Arc::new(keyring));
            }
            if let (Some(own), Some(old)) = (&source.confirmer, &old.confirmer) {
                source.confirmer = Some(Arc::new(own.remembering(old)));
            }
        }
    }
}

/// A source, ready to run.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// Its preset, or `custom`.
    pub(crate) provider: String,
    pub(crate) path: String,
    pub(crate) verifier: Arc<verify::Verifier>,
    /// For `check` and for signing test events.
    pub(crate) secrets: Vec<verify::LiveSecret>,
    /// Keys that are fetched.
    pub(crate) keyring: Option<Arc<verify::Keyring>>,
    /// Confirms subscriptions; none where they are reported.
    pub(crate) confirmer: Option<Arc<Confirmer>>,
    pub(crate) language: providers::Compiled,
    /// What its provider wants to hear.
    pub(crate) manners: answer::Manners,
    /// Whether a secret of it is sent by its provider and captured.
    pub(crate) captured: bool,
    /// False: shadow mode.
    pub(crate) enforce: bool,
    pub(crate) body_bytes_max: u64,
    /// Whether compressed bodies are passed on (as they are; never inflated).
    pub(crate) allow_encoded: bool,
    /// Anybody, where empty.
    pub(crate) allow_ips: Vec<IpNet>,
    /// What its provider signs, path included.
    pub(crate) public_url: String,
    pub(crate) dedup: dedup::Policy,
    /// How its events are signed for the apps that they go to.
    pub(crate) signs: Arc<deliver::Signs>,
    /// Which events go where.
    pub routes: route::Routes,
}

/// Where claims are kept.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Memory,
    /// A database in the storage directory.
    Embedded,
    Redis(dedup::RedisSettings),
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    pub(crate) listen: SocketAddr,
    /// Metrics and health for others, without anything else.
    pub(crate) metrics_listen: Option<SocketAddr>,
}
