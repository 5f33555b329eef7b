//! Brings a recorded event to an upstream and says what became of it. The end of the flow.
//!
//! A `POST` is never repeated once a byte of it was written; redirects are never followed; of an upstream's answer only
//! the status, and with `reply: full` a bounded body and its content type, reach the provider (`decisions` 24).

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Uri};

use crate::event::Name;

/// An upstream as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamParams {
    /// Its name.
    pub name: Name,
    /// Where it answers; several are balanced.
    pub urls: Vec<Uri>,
    /// How one of several is chosen.
    pub balance: Balance,
    /// How long connecting (TLS included) may take.
    pub connect_timeout: Duration,
    /// Attempts in flight at once; more wait within their timeout.
    pub concurrency: usize,
    /// Idle connections are closed after this; keep it below the app's own keep-alive (Node: 5 s).
    pub idle_timeout: Duration,
    /// Which HTTP version is spoken.
    pub http: HttpVersion,
    /// Request headers that are taken out.
    pub remove_headers: Vec<HeaderName>,
    /// Request headers that are set.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// How its certificate is checked and ours is shown.
    pub tls: UpstreamTls,
}

/// How one of several urls is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The one with the fewest attempts in flight.
    LeastBusy,
}

/// Which HTTP version is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// By ALPN over TLS; HTTP/1.1 without.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM of the CA to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM of our client certificate.
    pub cert: Option<PathBuf>,
    /// PEM of its key.
    pub key: Option<PathBuf>,
    /// Name to check and to send (SNI) instead of the url's host.
    pub server_name: Option<String>,
}

/// What goes to upstreams besides the event itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Prefix of our headers, such as `gatepost-`.
    pub header_prefix: String,
    /// Our public host, for `Forwarded` and `X-Forwarded-Host`.
    pub host: Option<String>,
    /// Whether the source's own scheme reads `Authorization`, so that it is passed on.
    pub keep_authorization: bool,
}
