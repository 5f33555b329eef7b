//! Sends signed requests to a gateway and counts how they ended: the client behind `send` and `dev --demo`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::{out, payload::Payload};
use crate::{
    config::{Config, Source, TlsMode},
    deliver::{Balance, HttpVersion, Upstream, UpstreamParams, UpstreamTls},
    event::{Name, Timestamp},
    respond::OUTCOME_HEADER,
    server::tls::ca_file,
    telemetry::Metrics,
    verify::{Presented, Signed, TestKey, url_with},
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
    /// Where the source looks for something in it.
    query: Option<String>,
    is_made_up: bool,
}

impl Prepared {
    /// Signs `body`, and what goes with it, for `source`, with a key of our own where the provider signs with one of its own; a
    /// sentence where its scheme cannot be signed.
    pub(super) fn new(
        source: &Source,
        payload: Payload,
        body: Bytes,
        signature: Signature,
        key: Option<&TestKey>,
    ) -> Result<Self, String> {
        let Payload { headers, claims, is_made_up, .. } = payload;
        let mut request = Self { headers, body, query: None, is_made_up };
        let json = HeaderValue::from_static("application/json");
        request.headers.entry(header::CONTENT_TYPE).or_insert(json);
        if signature == Signature::Missing {
            return Ok(request);
        }
        for name in source.verifier.signed_besides(&request.headers) {
            // A nonce, or a time that nobody checks: any text will do, and this one is read as either.
            let text = HeaderValue::from_str(&Timestamp::now().to_string());
            request.headers.insert(name, text.map_err(|e| e.to_string())?);
        }
        let age = if signature == Signature::Stale { 3_600_000 } else { 0 };
        let received_at = Timestamp::from_millis(Timestamp::now().as_millis() - age);
        let over = |body| {
            let (url, target) = request.place(source);
            let (url, target, headers) = (&*url, &*target, &request.headers);
            let presented = Presented { method: "POST", url, target, headers, body, received_at };
            match key {
                Some(key) => source.verifier.sign_with(key, &presented, &claims),
                None => source.verifier.sign_whole(&presented, &claims),
            }
        };
        let is_forged = signature == Signature::Forged;
        let other = over(b"forged").ok().filter(|other| is_forged && other.body.is_none());
        let signed = match other {
            Some(other) => other,
            None => over(&request.body)?,
        };
        signed.put_into(&mut request.headers);
        request.body = signed.body.map_or(request.body, Bytes::from);
        request.query = signed.query;
        Ok(if is_forged && request.passes(source) { request.spoilt(source) } else { request })
    }

    /// Its URL as the provider knows it, and its target.
    fn place<'s>(&self, source: &'s Source) -> (Cow<'s, str>, Cow<'s, str>) {
        let query = self.query.as_deref();
        let path = Cow::Borrowed(&*source.path);
        let target = query.map_or(path, |query| format!("{}?{query}", source.path).into());
        (url_with(&source.public_url, query), target)
    }

    /// Looks at it as `source` would, if it came now.
    fn at<T>(&self, source: &Source, look: impl FnOnce(&Presented<'_>) -> T) -> T {
        let (url, target) = self.place(source);
        look(&Presented {
            method: "POST",
            url: &url,
            target: &target,
            headers: &self.headers,
            body: &self.body,
            received_at: Timestamp::now(),
        })
    }

    /// Whether nothing is known of what its provider sends.
    pub(super) const fn is_made_up(&self) -> bool {
        self.is_made_up
    }

    /// Whether `source` would believe it.
    pub(super) fn passes(&self, source: &Source) -> bool {
        self.at(source, |presented| source.verifier.verify(presented).is_ok())
    }

    /// The same with another signature, where that does not depend on the body, or stands in it or in the query.
    fn spoilt(mut self, source: &Source) -> Self {
        for name in source.verifier.signature_headers() {
            let Some(value) = self.headers.get_mut(name) else { continue };
            let other = others(value.as_bytes()).find_map(|o| HeaderValue::from_bytes(&o).ok());
            *value = other.unwrap_or_else(|| HeaderValue::from_static("forged"));
        }
        if !self.passes(source) {
            return self;
        }
        let (body, query) = (self.body.clone(), self.query.clone().unwrap_or_default());
        let queries = others(query.as_bytes()).filter_map(|query| String::from_utf8(query).ok());
        let queries = queries.map(|query| Self { query: Some(query), ..self.clone() });
        let bodies = others(&body).map(|body| Self { body: body.into(), ..self.clone() });
        let spoilt = queries.chain(bodies).find(|other| !other.passes(source));
        spoilt.unwrap_or(self)
    }

    /// The same with a byte more, which nobody signed.
    pub(super) fn tampered(self) -> Self {
        Self { body: [&self.body[..], b" "].concat().into(), ..self }
    }

    /// Where it goes, of what answers at `to`.
    pub(super) fn url(&self, to: &Uri) -> Result<Uri, String> {
        let Some(query) = &self.query else { return Ok(to.clone()) };
        let url = with_query(to, query);
        url.parse().map_err(|e| format!("{url}: {e}"))
    }

    /// Prints it. A token is the secret itself, and is left out unless `secrets` may be seen.
    pub(super) fn print(&self, source: &Source, to: &Uri, secrets: bool) {
        let hidden = self.at(source, |presented| source.verifier.conceal(presented));
        let hidden = if secrets { Signed::default() } else { hidden };
        let body = hidden.body.as_deref().unwrap_or(&self.body);
        let query = hidden.query.as_ref().or(self.query.as_ref());
        let to = query.map_or_else(|| to.to_string(), |query| with_query(to, query));
        out::line(&format!("POST {to}"));
        for (name, value) in &self.headers {
            let shown = value.to_str().ok().filter(|_| secrets || !value.is_sensitive());
            out::line(&format!("{name}: {}", shown.unwrap_or("…")));
        }
        // Says where the body ends: the newline behind it is the terminal's.
        out::line(&format!("content-length: {}", body.len()));
        out::line(&format!("\n{}", String::from_utf8_lossy(body)));
    }
}

fn with_query(to: &Uri, query: &str) -> String {
    let to = to.to_string();
    format!("{}?{query}", to.split_once('?').map_or(&*to, |(to, _)| to))
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
    let Prepared { headers, body, .. } = request.clone();
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
