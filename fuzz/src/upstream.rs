//! What an app may say instead of an answer. An input is what it says on the connection; it hangs up then, or with `~` in front
//! it stays silent.
//!
//! A provider always hears a status that the table knows, the one for the status that the app said; headers of ours; of the
//! app's answer nothing but a bounded body with its type, where that was asked for.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use gatepost::{
    audit::open,
    config::{self, Env},
    dedup::{Joins, Memory},
    deliver::{Balance, Dial, HttpVersion, Upstream, UpstreamParams, UpstreamTls},
    event::{Name, Peer, Receipt, Timestamp},
    handshake::Captures,
    receive::{Budget, Inbound},
    stack::{Front, Shared},
    stage::BoxFuture,
    telemetry::Metrics,
};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime::Runtime,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Finding, ensure, logs::Home};

/// The source is in shadow mode, so that nothing has to be signed and little is recorded.
const CONFIG: &str = r#"
version: 1
server: { host: hooks.example.com }
tls: { mode: none }
sources:
  full: { provider: github, secret: { env: FULL }, enforce: false }
  brief: { provider: github, secret: { env: BRIEF }, enforce: false }
routes:
  - { source: full, to: app, timeout: 2s, reply: full }
  - { source: brief, to: app, timeout: 2s }
upstreams: { app: { url: "http://app.internal:8080" } }
dedup: { store: memory }
"#;
const BODY: &str = "{}";
const INPUT_BYTES_MAX: usize = 32 * 1024;
/// Longest body that is relayed.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Headers of answers; none of them is the app's, but the type of a body that is relayed.
const OURS: [&str; 6] = [
    "cache-control",
    "content-type",
    "retry-after",
    "webhook-outcome",
    "webhook-receipt",
    "www-authenticate",
];

/// What a provider hears.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Asks an app that says this, and then hangs up or not; whether its body is relayed.
pub type Ask<'a> = &'a dyn Fn(&[u8], bool, bool) -> Heard;

/// Tries the product.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// Tries anything that asks.
pub fn judge(data: &[u8], ask: Ask<'_>) -> Finding {
    let data = data.get(..INPUT_BYTES_MAX).unwrap_or(data);
    let (says, hangs_up) = data.strip_prefix(b"~").map_or((data, true), |says| (says, false));
    let expected = expected(says, hangs_up);
    for full in [false, true] {
        let heard = ask(says, hangs_up, full);
        let told = || format!("{heard:?}, where {expected:?} is expected: {}", says.escape_ascii());
        ensure(expected.contains(&heard.status), told)?;
        ensure(heard.headers.keys().all(|name| OURS.contains(&name.as_str())), told)?;
        let kind = heard.headers.get("content-type").map(|value| value.as_bytes());
        let is_fit = match heard.status {
            200..=299 if full => heard.body.len() <= REPLY_BYTES_MAX,
            200..=299 => heard.body.is_empty() && kind.is_none(),
            _ => kind == Some(b"application/problem+json"),
        };
        ensure(is_fit, told)?;
        let wait = heard.headers.get("retry-after").map(|value| value.to_str().map(str::parse));
        let waits = matches!(wait, Some(Ok(Ok(1..=3600_u32))));
        ensure(waits == (heard.status == 503), told)?;
    }
    Ok(())
}

/// The statuses that a provider may hear: one, unless it is a matter of opinion whether the answer is framed well.
fn expected(mut says: &[u8], hangs_up: bool) -> Vec<u16> {
    let silence = if hangs_up { 502 } else { 504 };
    let mut plain = true;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(says) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if plain => return vec![silence],
            Ok(httparse::Status::Partial) => return vec![silence, 502],
            Err(_) => return vec![502],
        };
        let status = response.code.unwrap_or_default();
        plain &= is_plain(response.headers);
        match status {
            100 | 102..=199 => says = &says[length..],
            _ if plain => return vec![mapped(status)],
            _ => return vec![mapped(status), 502, silence],
        }
    }
}

/// Whether headers say nothing about framing but one plain length.
fn is_plain(headers: &[httparse::Header<'_>]) -> bool {
    let framing = ["content-length", "transfer-encoding", "connection", "upgrade"];
    let mut said =
        headers.iter().filter(|h| framing.iter().any(|f| f.eq_ignore_ascii_case(h.name)));
    match (said.next(), said.next()) {
        (None, _) => true,
        (Some(one), None) => {
            let digits = one.value.len() < 10 && one.value.iter().all(u8::is_ascii_digit);
            one.name.eq_ignore_ascii_case("content-length") && digits && !one.value.is_empty()
        }
        (Some(_), Some(_)) => false,
    }
}

/// What a provider hears of an app's status.
fn mapped(status: u16) -> u16 {
    match status {
        200..=299 => status,
        408 | 425 | 429 | 503 => 503,
        409 => 422,
        401 | 403 | 404 | 405 | 407 | 410 => 502,
        400..=499 => status,
        _ => 502,
    }
}

/// What the product makes of it.
pub fn by_product(says: &[u8], hangs_up: bool, full: bool) -> Heard {
    thread_local! {
        static WORLD: World = World::new();
    }
    WORLD.with(|world| world.ask(says, hangs_up, full))
}

/// A gateway in front of an app.
struct World {
    runtime: Runtime,
    front: Arc<Front<Full<Bytes>>>,
    app: App,
    _home: Home,
}

/// What the app says, and whether it hangs up then.
#[derive(Clone, Debug, Default)]
struct App(Arc<Mutex<(Vec<u8>, bool)>>);

impl Dial for App {
    #[expect(clippy::disallowed_methods, reason = "the app ends with its connection")]
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'_, io::Result<DuplexStream>> {
        let (ours, theirs) = duplex(64 * 1024);
        let (says, hangs_up) = self.0.lock().expect("one thread").clone();
        tokio::spawn(answer(theirs, says, hangs_up));
        Box::pin(std::future::ready(Ok(ours)))
    }
}

async fn answer(mut stream: DuplexStream, says: Vec<u8>, hangs_up: bool) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    // Who is not heard out has said enough.
    drop(stream.write_all(&says).await);
    if !hangs_up {
        while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
    }
}

impl World {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        let (home, app) = (Home::new(), App::default());
        let secrets =
            [("FULL", "a secret of sixteen bytes"), ("BRIEF", "another one of sixteen bytes")];
        let options = config::Options {
            env: Env::from(secrets),
            offline: false,
            now: Timestamp::from_millis(0),
        };
        let config =
            config::parse_str("fuzz.yaml", CONFIG, &options).expect("a configuration").config;
        let metrics = Metrics::new();
        let shared = Shared {
            captures: Captures::new().0,
            log: open(&home.params, metrics.audit()).expect("a log"),
            store: Arc::new(Memory::default()),
            joins: Joins::default(),
            tracker: TaskTracker::new(),
            room: Budget::new("requests_in_flight", 100),
            memory: Budget::new("body_memory", 1 << 20),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
            metrics,
        };
        let name = Name::parse("app").expect("a name");
        let params = UpstreamParams {
            name: name.clone(),
            urls: vec!["http://app.internal:8080".parse().expect("a url")],
            balance: Balance::RoundRobin,
            connect_timeout: Duration::from_millis(500),
            concurrency: 64,
            // No connection is used twice: what an input says is answered to this request.
            idle_timeout: Duration::ZERO,
            http: HttpVersion::Http1,
            remove_headers: Vec::new(),
            set_headers: Vec::new(),
            tls: UpstreamTls::default(),
            networks: Vec::new(),
        };
        let network: Arc<dyn Dial> = Arc::new(app.clone());
        let upstream = Upstream::over(Some(&network), params, shared.metrics.upstream(&name));
        let upstreams = HashMap::from([(name, Arc::new(upstream.expect("an upstream")))]);
        let front = {
            let _inside = runtime.enter();
            Arc::new(Front::new(&config, &Arc::new(upstreams), &shared))
        };
        Self { runtime, front, app, _home: home }
    }

    fn ask(&self, says: &[u8], hangs_up: bool, full: bool) -> Heard {
        *self.app.0.lock().expect("one thread") = (says.to_vec(), hangs_up);
        let path = if full { "/full" } else { "/brief" };
        let request = Request::post(path).body(Full::new(BODY.into())).expect("a request");
        let peer = Peer { ip: Ipv4Addr::LOCALHOST.into(), https: true };
        let (receipt, received_at) = (Receipt::from_bytes([0; 16]), Timestamp::from_millis(0));
        let inbound = Inbound { request, peer, receipt, received_at, place: None };
        let front = Arc::clone(&self.front);
        self.runtime.block_on(async move {
            let (head, body) = front.answer_as(inbound, Ok(())).await.into_parts();
            let body = body.collect().await.expect("it is there").to_bytes();
            Heard { status: head.status.as_u16(), headers: head.headers, body }
        })
    }
}
