//! A flood of requests that nobody signed, of every kind: the store hears nothing of it, the disk sees a sample of bounded rate
//! and size, and the source beside it notices nothing.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    GITHUB, STRIPE,
    world::{
        ChaosProxy, Dialer, Gateway, Provider, RedisServer, Upstream,
        chaos::Network,
        eventually, gateway,
        provider::stripe_event,
        redis::{Monitor, events},
        sender::Sender,
        size,
        strangers::flood,
    },
};

/// Rejected requests that go on record, per source and second, and the bytes of their headers.
const RECORDS_PER_SECOND: u64 = gatepost::audit::REJECTED_PER_SECOND as u64;
const HEADER_BYTES_PER_SECOND: u64 = gatepost::audit::REJECTED_BYTES_PER_SECOND as u64;
/// A record of a rejected request without its headers, and a line of the log about one, are shorter than this.
const RECORD_BYTES_MAX: u64 = 512;
const LINE_BYTES_MAX: usize = 1024;
/// Log lines about refused requests, per source and second.
const LINES_PER_SECOND: u64 = 5;

/// A challenge that its provider does not sign, at the source that has one.
const CHALLENGE: Option<&str> = Some("GET /dropbox?challenge=forged");
/// What a flood meets: the sources `stripe` and `dropbox`, and paths and requests that are no source's.
const KNOCKED_AT: u64 = 3;

/// Two sources that have an app each, one of them another one's that answers challenges, too.
fn sources(stripe: &Upstream, github: &Upstream, dedup: &str) -> String {
    format!(
        "sources:\n  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  github: {{ provider: github, secret: \"{GITHUB}\" }}\n\
         \x20 dropbox: {{ provider: dropbox, secret: \"dropbox-test-secret-0123456789\" }}\n\
         routes: [ {{ source: stripe, to: one }}, {{ source: github, to: other }}, {{ source: dropbox, to: other }} ]\n\
         upstreams: {{ one: \"{}\", other: \"{}\" }}\n\
         audit: {{ headers: [content-type, user-agent, webhook-id, x-github-event, x-github-delivery, x-long] }}\n{dedup}",
        stripe.url(),
        github.url()
    )
}

/// Everything in a directory but what a run writes by itself: name and content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            all.extend(contents(&entry));
        } else {
            all.insert(entry.clone(), fs::read(&entry).unwrap());
        }
    }
    all
}

/// The whole length of a record's lines.
fn record_bytes(dir: &Path) -> u64 {
    let all = contents(dir);
    let segments = all.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "ndjson"));
    segments.map(|(_, text)| text.iter().filter(|byte| **byte != 0).count() as u64).sum()
}

/// What refused requests may leave behind in so much time: windows of a second, each of which may be full.
struct Bound {
    windows: u64,
}

impl Bound {
    fn since(begun: Instant) -> Self {
        Self { windows: begun.elapsed().as_secs() + 2 }
    }

    fn records(&self, sources: u64) -> u64 {
        self.windows * RECORDS_PER_SECOND * sources
    }

    fn bytes(&self, sources: u64) -> u64 {
        self.windows * (RECORDS_PER_SECOND * RECORD_BYTES_MAX + HEADER_BYTES_PER_SECOND) * sources
    }
}

/// An honest sender of `github`, until it is told to stop: how many events it sent.
async fn honest(gateway: &Gateway, name: &str, stop: &std::sync::atomic::AtomicBool) -> usize {
    let github = Provider::GitHub(GITHUB);
    let mut sent = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let body = format!("{{\"n\":\"{name}-{sent}\"}}").into_bytes();
        let headers = github.sign(&format!("guid-{name}-{sent}"), "push", &body);
        let answer = gateway.post("/github", &headers, &body).await;
        assert_eq!((answer.status, answer.outcome()), (200, "accepted"));
        sent += 1;
    }
    sent
}

/// Holds what a flood leaves against what it may: a sample on record, no other file, and a few lines of the log.
async fn leaves_a_sample(gateway: &Gateway, flood: impl Future<Output = ()>) {
    let audit = gateway.dir().join("audit");
    let before = contents(gateway.dir());
    let (records_before, bytes_before) = (gateway.records().len(), record_bytes(&audit));
    let (begun, lines_before) = (Instant::now(), gateway.log().len());
    flood.await;
    let since = || gateway.records().split_off(records_before);
    let has = |kind: &str| since().iter().any(|record| record["kind"] == kind);
    eventually("the sample is on record", || async { has("rejected") && has("handshake") }).await;
    let written = Bound::since(begun);
    let (records, bytes) = (since().len() as u64, record_bytes(&audit) - bytes_before);
    assert!(records <= written.records(2), "{records} records in {} windows", written.windows);
    assert!(bytes <= written.bytes(2), "{bytes} bytes in {} windows", written.windows);
    let after = contents(gateway.dir());
    // Who looks after the store reads it, and says so to other readers in the index that SQLite maps into memory.
    let is_record = |path: &Path| path.starts_with(&audit) || path.ends_with("dedup.sqlite3-shm");
    let touched: Vec<_> = after
        .iter()
        .filter(|(path, text)| before.get(*path) != Some(text))
        .map(|(path, _)| path)
        .collect();
    assert!(!touched.is_empty() && touched.iter().all(|path| is_record(path)), "{touched:?}");
    let lines = &gateway.log()[lines_before..];
    assert!(
        lines.len() as u64 <= written.windows * LINES_PER_SECOND * KNOCKED_AT,
        "{} lines in {} windows",
        lines.len(),
        written.windows
    );
    assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX), "{lines:?}");
    eprintln!("it left {records} records of {bytes} bytes in {} windows", written.windows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_leaves_a_bounded_sample_and_touches_no_other_source() {
    let count = size("GATEPOST_STRANGERS", 20_000);
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let dir = tempfile::tempdir().unwrap();
    let text = gateway::yaml(dir.path(), &sources(&one, &other, ""));
    let gateway = Gateway::start_whole(dir, &text.replace("level: debug", "level: info")).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let warm = Provider::Stripe(STRIPE).sign("", "", &stripe_event("evt_0", "invoice.paid"));
    assert_eq!(
        gateway.post("/stripe", &warm, &stripe_event("evt_0", "invoice.paid")).await.status,
        200
    );

    // Alone, it writes a sample and nothing else.
    let begun = Instant::now();
    let dialer = Dialer::plain(gateway.address);
    leaves_a_sample(&gateway, flood(&dialer, CHALLENGE, count, 8)).await;
    assert_eq!(one.count(), 1);

    // Beside an honest source, it is as if it were not there.
    let refused = "gatepost_requests_total{source=\"github\",outcome=\"rejected_signature\"}";
    let quiet = gateway.metric(refused).await;
    let flooded = async {
        flood(&dialer, CHALLENGE, count / 2, 8).await;
        // The other source's sample is its own: a stranger who knocks there is put on record in the middle of the flood.
        let forged =
            Provider::GitHub("another secret 0123456789").sign("guid-knock", "push", b"{}");
        assert_eq!(gateway.post("/github", &forged, b"{}").await.status, 401);
        flood(&dialer, CHALLENGE, count / 20, 8).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(honest(&gateway, "beside", &stop), flooded);
    assert!(sent > 0);
    assert_eq!((one.count(), other.count()), (1, sent));
    assert_eq!(gateway.metric(refused).await - quiet, 1.0);
    let of_github = |kind: &str| {
        let records = gateway.records();
        records.iter().filter(|r| r["source"] == "github" && r["kind"] == kind).count()
    };
    eventually("every outcome is on record", || async { of_github("outcome") == sent }).await;
    assert_eq!((of_github("attempt"), of_github("rejected")), (sent, 1));

    let whole = Bound::since(begun);
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    let records = gateway::records(&dir.path().join("audit"));
    let rejected = records.iter().filter(|record| record["kind"] == "rejected").count() as u64;
    assert!(rejected > RECORDS_PER_SECOND && rejected <= whole.records(2), "{rejected}");
    eprintln!("{sent} honest events beside it");
}

/// However it is spoken: HTTP/2 and HTTP/1.1 over TLS, and what is neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_tls_and_http2_leaves_no_more() {
    // Handshakes are dear.
    let count = (size("GATEPOST_STRANGERS", 20_000) / 40).max(2_000);
    let redis = RedisServer::start(&[]).await;
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let dedup = format!("dedup: {{ store: redis, redis: {{ url: \"{}\" }} }}\n", redis.url());
    let dir = tempfile::tempdir().unwrap();
    let text = gateway::yaml(dir.path(), &sources(&one, &other, &dedup));
    let text = text.replace("level: debug", "level: info").replace("mode: none", "mode: internal");
    let gateway = Gateway::start_whole(dir, &text).await;
    let monitor = Monitor::of(&redis).await;
    let ready = || async { gateway.admin("GET", "/readyz").await.status };
    eventually("Redis is reached", || async { ready().await == 200 }).await;
    let ca = gateway.dir().join("tls/ca.pem");
    for (n, alpn) in ["h2", "http/1.1"].into_iter().enumerate() {
        let dialer = Dialer::tls(gateway.address, &ca, alpn);
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let signed = Provider::Stripe(STRIPE).sign("", "", &body);
        let answer = Sender::new(&dialer).post("/stripe", &signed, &body).await.unwrap();
        assert_eq!(answer.outcome(), "accepted", "{alpn}");
        let heard = monitor.upto(&redis, &format!("an-event-{n}")).await;
        assert!(!events(&heard).is_empty(), "of an event, Redis hears");
        leaves_a_sample(&gateway, flood(&dialer, CHALLENGE, count, 8)).await;
        let heard = monitor.upto(&redis, &format!("a-flood-{n}")).await;
        assert_eq!(events(&heard), Vec::<&str>::new(), "{alpn}");
    }
    assert_eq!((one.count(), other.count()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_hears_nothing_of_a_flood_even_while_it_is_reached_anew() {
    let count = size("GATEPOST_STRANGERS", 10_000);
    let redis = RedisServer::start(&[]).await;
    let network = ChaosProxy::start(redis.address).await;
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let dedup =
        format!("dedup: {{ store: redis, redis: {{ url: \"redis://{}/0\" }} }}\n", network.address);
    let gateway = Gateway::start(&sources(&one, &other, &dedup)).await;
    let monitor = Monitor::of(&redis).await;
    let post = |id: &'static str| {
        let body = stripe_event(id, "invoice.paid");
        let headers = Provider::Stripe(STRIPE).sign("", "", &body);
        let gateway = &gateway;
        async move { gateway.post("/stripe", &headers, &body).await.status }
    };
    assert_eq!(post("evt_1").await, 200);
    let heard = monitor.upto(&redis, "one-event").await;
    assert!(
        events(&heard).len() >= 2,
        "an event is claimed and completed, and that is heard: {heard:?}"
    );

    let keys = redis.cli(&["dbsize"]);
    drop(monitor.upto(&redis, "counted").await);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cutting = async {
        let mut cuts = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            network.set(Network::Cut);
            let ready = || async { gateway.admin("GET", "/readyz").await.status };
            eventually("it is cut off", || async { ready().await == 503 }).await;
            network.set(Network::Up);
            eventually("it is reached again", || async { ready().await == 200 }).await;
            cuts += 1;
        }
        cuts
    };
    let flooding = async {
        flood(&Dialer::plain(gateway.address), CHALLENGE, count, 8).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (cuts, ()) = tokio::join!(cutting, flooding);
    assert!(cuts > 0);
    let heard = monitor.upto(&redis, "a-flood").await;
    assert_eq!(events(&heard), Vec::<&str>::new());
    assert!(
        heard.iter().any(|line| line.contains("\"INFO\"")),
        "reaching it anew is heard: {heard:?}"
    );
    assert!(!heard.iter().any(|line| line.contains("forged")), "{heard:?}");
    assert_eq!(redis.cli(&["dbsize"]), keys);
    drop(monitor.upto(&redis, "counted-again").await);
    assert_eq!(one.count() + other.count(), 1);

    eventually("honest events pass again", || async { post("evt_2").await == 200 }).await;
    assert!(!events(&monitor.upto(&redis, "the-end").await).is_empty(), "it still listens");
    eprintln!(
        "{count} forgeries over {cuts} connections to Redis, none of which carried a command about them"
    );
}
