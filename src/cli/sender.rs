//! Sends signed requests to a gateway and counts how they ended: the client behind `send` and `dev --demo`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::out;
use crate::{
    config::{Config, Source, TlsMode},
    deliver::{Balance, HttpVersion, Upstream, UpstreamParams, UpstreamTls},
    event::{Name, Timestamp},
    respond::OUTCOME_HEADER,
    server::tls::ca_file,
    telemetry::Metrics,
    verify::{Presented, TestKey},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// What kind of signature is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Signature {
    /// The real one
    Valid,
    /// Made over another body: well formed, and wrong
    Forged,
    /// None at all
    Missing,
    /// Made an hour ago
    Stale,
}

/// A signed request, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    /// Signs `body` for `source`, with a key of our own where the provider signs with one of its own; a sentence where its scheme
    /// cannot be signed.
    pub(super) fn new(
        source: &Source,
        mut headers: HeaderMap,
        mut body: Bytes,
        signature: Signature,
        key: Option<&TestKey>,
    ) -> Result<Self, String> {
        let age = if signature == Signature::Stale { 3_600_000 } else { 0 };
        let json = HeaderValue::from_static("application/json");
        headers.entry(header::CONTENT_TYPE).or_insert(json);
        if signature != Signature::Missing {
            for name in source.verifier.signed_besides(&headers) {
                // A nonce, or a time that nobody checks: any text will do, and this one is read as either.
                headers.insert(
                    name,
                    HeaderValue::from_str(&Timestamp::now().to_string())
                        .map_err(|e| e.to_string())?,
                );
            }
            let over = |body| {
                let presented = Presented {
                    method: "POST",
                    url: &source.public_url,
                    target: &source.path,
                    headers: &headers,
                    body,
                    received_at: Timestamp::from_millis(Timestamp::now().as_millis() - age),
                };
                match key {
                    Some(key) => {
                        source.verifier.sign_with(key, &presented, &serde_json::Map::new())
                    }
                    None => source.verifier.sign_whole(&presented),
                }
            };
            let other = over(b"forged").ok().filter(|other| other.body.is_none());
            let signed = match other.filter(|_| signature == Signature::Forged) {
                Some(other) => other,
                None => over(&body)?,
            };
            headers.extend(signed.headers);
            body = signed.body.map_or(body, Bytes::from);
        }
        let request = Self { headers, body };
        let forged = signature == Signature::Forged && request.passes(source);
        Ok(if forged { request.spoilt(source) } else { request })
    }

    /// Whether `source` would believe it, if it came now.
    fn passes(&self, source: &Source) -> bool {
        let presented = Presented {
            method: "POST",
            url: &source.public_url,
            target: &source.path,
            headers: &self.headers,
            body: &self.body,
            received_at: Timestamp::now(),
        };
        source.verifier.verify(&presented).is_ok()
    }

    /// The same with another signature, where that does not depend on the body, or stands in it.
    fn spoilt(mut self, source: &Source) -> Self {
        for name in source.verifier.signature_headers() {
            let Some(value) = self.headers.get_mut(name) else { continue };
            let other = others(value.as_bytes()).find_map(|o| HeaderValue::from_bytes(&o).ok());
            *value = other.unwrap_or_else(|| HeaderValue::from_static("forged"));
        }
        if self.passes(source) {
            let whole = self.body.clone();
            let mut bodies = others(&whole).map(|body| Self { body: body.into(), ..self.clone() });
            return bodies.find(|other| !other.passes(source)).unwrap_or(self);
        }
        self
    }

    /// The same with a byte more, which nobody signed.
    pub(super) fn tampered(self) -> Self {
        Self { body: [&self.body[..], b" "].concat().into(), ..self }
    }

    /// Prints it. A token is the secret itself, and is left out unless `secrets` may be seen.
    pub(super) fn print(&self, to: &Uri, secrets: bool) {
        out::line(&format!("POST {to}"));
        for (name, value) in &self.headers {
            let shown = value.to_str().ok().filter(|_| secrets || !value.is_sensitive());
            out::line(&format!("{name}: {}", shown.unwrap_or("…")));
        }
        // Says where the body ends: the newline behind it is the terminal's.
        out::line(&format!("content-length: {}", self.body.len()));
        out::line(&format!("\n{}", String::from_utf8_lossy(&self.body)));
    }
}

/// The same text with another letter or digit: each in turn, from the end; the last few may be padding.
fn others(text: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let front = text.iter().take(text.len().saturating_sub(4)).enumerate().rev();
    front.filter(|(_, byte)| byte.is_ascii_alphanumeric()).map(|(at, byte)| {
        let mut other = text.to_vec();
        if let Some(changed) = other.get_mut(at) {
            *changed = if *byte == b'0' { b'1' } else { b'0' };
        }
        other
    })
}

/// How one request ended: the status, 0 where there was no answer, and the gateway's word for it or what went wrong.
pub(super) type Ended = (u16, String);

/// A client for one source of one gateway, which believes what `tls` says; a sentence where a certificate cannot be read.
pub(super) fn client(to: &Uri, tls: UpstreamTls) -> Result<Upstream, String> {
    let name = Name::parse("gateway").ok_or("a name")?;
    let metrics = Metrics::new().upstream(&name);
    let params = UpstreamParams {
        name,
        urls: vec![to.clone()],
        balance: Balance::RoundRobin,
        connect_timeout: PATIENCE,
        concurrency: tokio::sync::Semaphore::MAX_PERMITS,
        idle_timeout: PATIENCE,
        http: HttpVersion::Http1,
        remove_headers: Vec::new(),
        set_headers: Vec::new(),
        tls,
        networks: Vec::new(),
    };
    Upstream::new(params, metrics)
}

/// Sends `times` copies, at most `parallel` at once; says how each ended and how long it took.
pub(super) async fn send(
    client: &Upstream,
    request: &Prepared,
    times: u32,
    parallel: u32,
) -> Vec<(Ended, Duration)> {
    let copies = stream::iter((0..times).map(|_| send_one(client, request)));
    copies.buffer_unordered(parallel.max(1) as usize).collect().await
}

async fn send_one(client: &Upstream, request: &Prepared) -> (Ended, Duration) {
    let since = Instant::now();
    let Prepared { headers, body } = request.clone();
    let ended = match client.post(headers, body, PATIENCE).await {
        Ok((status, headers)) => {
            let said = headers.get(OUTCOME_HEADER).and_then(|value| value.to_str().ok());
            (status.as_u16(), said.unwrap_or_else(|| unnamed(status)).to_owned())
        }
        Err(why) => (0, why),
    };
    (ended, since.elapsed())
}

/// Strangers are not told an outcome; the status says enough.
fn unnamed(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "refused",
        other => other.canonical_reason().unwrap_or("answered"),
    }
}

/// Counts of equal endings, in order of status.
pub(super) fn tally(ended: &[(Ended, Duration)]) -> BTreeMap<&Ended, usize> {
    let mut counts = BTreeMap::new();
    for (end, _) in ended {
        *counts.entry(end).or_insert(0) += 1;
    }
    counts
}

/// Where a gateway of this configuration answers for `source` when it listens on `listen`, and how to believe it. This machine,
/// whatever its public name resolves to: before a move that name still leads elsewhere.
pub(super) fn own(
    config: &Config,
    listen: SocketAddr,
    source: &Source,
) -> Result<(Uri, UpstreamTls), String> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let mut tls = UpstreamTls::default();
    let origin = match config.tls.mode {
        TlsMode::None => format!("http://{address}"),
        TlsMode::Internal => {
            tls.ca = Some(ca_file(&config.storage.dir));
            format!("https://localhost:{}", listen.port())
        }
        TlsMode::Files(_) => {
            tls.server_name = config.server.hosts.first().cloned();
            format!("https://{address}")
        }
    };
    let url = format!("{origin}{}", source.path);
    Ok((url.parse().map_err(|e| format!("{url}: {e}"))?, tls))
}

/// An address to connect to for one that is listened on.
pub(super) fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip }
}
