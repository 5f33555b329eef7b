//! What the whole stack of a source costs, without sockets: requests are built in memory, answers are not written.
//!
//! `cargo bench --bench stack`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start says so"
)]

use std::sync::Arc;

use bytes::Bytes;
use divan::{Bencher, black_box, counter::ItemsCount};
use gatepost::{
    audit::{self, AuditLog},
    config::{self, Env},
    dedup::{Joins, Memory},
    event::{Peer, Timestamp},
    handshake::Captures,
    providers,
    receive::Budget,
    secret::Secret,
    stack::{Front, Shared, Upstreams},
    telemetry::Metrics,
    verify::{LiveSecret, Presented, Verifier},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const SECRET: &str = "whsec_0123456789abcdef";
const PATH: &str = "/hooks/stripe";

/// The one that is measured, and others.
fn config(others: usize) -> String {
    let source = |n| format!("  other-{n}: {{ provider: stripe, secret: whsec_another_{n:08} }}\n");
    let route = |n| format!("  - {{ source: other-{n}, drop: true }}\n");
    format!(
        "version: 1\nserver: {{ host: hooks.example.com }}\ntls: {{ mode: none }}\n\
         dedup: {{ store: memory }}\nsources:\n  \
         stripe: {{ provider: stripe, path: /hooks/stripe, secret: {{ env: STRIPE }} }}\n{}\
         routes:\n  - {{ name: noise, source: stripe, drop: true }}\n{}",
        (0..others).map(source).collect::<String>(),
        (0..others).map(route).collect::<String>(),
    )
}

/// A gateway without sockets, whose one route drops everything after it is on record.
struct Gateway {
    front: Arc<Front<Full<Bytes>>>,
    log: AuditLog,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Gateway {
    fn new(others: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let env = Env::from([("STRIPE", SECRET)]);
        let options = config::Options { env, offline: false, now: Timestamp::now() };
        let config =
            config::parse_str("gatepost.yaml", &config(others), &options).expect("good").config;
        let metrics = Metrics::new();
        let params = audit::Params {
            dir: dir.path().join("audit"),
            checkpoint_key: dir.path().join("key.pem"),
            fsync: false,
            ..config.audit.clone()
        };
        let log = audit::open(&params, metrics.audit()).expect("a log");
        let shared = Shared {
            captures: Captures::new().0,
            metrics,
            log: log.clone(),
            store: Arc::new(Memory::default()),
            joins: Joins::default(),
            tracker: tokio_util::task::TaskTracker::new(),
            room: Budget::new("requests_in_flight", 64),
            memory: Budget::new("body_memory", 1 << 24),
            draining: tokio_util::sync::CancellationToken::new(),
            closed: tokio_util::sync::CancellationToken::new(),
        };
        let front = Arc::new(Front::new(&config, &Upstreams::default(), &shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { front, log, runtime, _dir: dir }
    }

    /// Sends a request, again and again, and expects this status.
    fn measure(&self, bencher: Bencher<'_, '_>, headers: &HeaderMap, body: &Bytes, status: u16) {
        let request = || {
            let mut request = Request::post(PATH).body(Full::new(body.clone())).unwrap();
            *request.headers_mut() = headers.clone();
            request
        };
        let peer = Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true };
        let send = |request| {
            let answer = Arc::clone(&self.front).answer(black_box(request), peer, Ok(()));
            self.runtime.block_on(answer).status()
        };
        assert_eq!(send(request()), StatusCode::from_u16(status).unwrap());
        bencher.counter(ItemsCount::new(1_u32)).with_inputs(request).bench_local_values(send);
        self.runtime.block_on(self.log.close()).expect("the record is in order");
    }
}

/// An event of about 4 KiB, signed now with `secret`.
fn signed(secret: &str) -> (HeaderMap, Bytes) {
    let note = "a few words, ".repeat(300);
    let body = format!(
        r#"{{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","data":{{"object":{{"note":"{note}"}}}},"type":"invoice.paid"}}"#
    );
    let preset = providers::preset("stripe").expect("a preset");
    let options = providers::Options::default();
    let compiled = providers::compile(&preset.verify, &preset.event, &[], &options).expect("good");
    let live = LiveSecret { secret: Secret::new(secret), expires: None, id: None };
    let verifier = Verifier::new(compiled.schemes, vec![live], "").expect("a good secret");
    let presented = Presented {
        method: "POST",
        url: "",
        target: PATH,
        headers: &HeaderMap::new(),
        body: body.as_bytes(),
        received_at: Timestamp::now(),
    };
    let headers = verifier.sign(&presented).expect("signed").into_iter().collect();
    (headers, body.into())
}

/// What a stranger can make us do.
#[divan::bench]
fn refuse_a_forgery(bencher: Bencher<'_, '_>) {
    let (headers, body) = signed("another secret of some length");
    Gateway::new(0).measure(bencher, &headers, &body, 401);
}

/// Verified, identified, routed, and on record before the answer.
#[divan::bench]
fn verify_and_drop(bencher: Bencher<'_, '_>) {
    let (headers, body) = signed(SECRET);
    Gateway::new(0).measure(bencher, &headers, &body, 200);
}

/// The same, in a configuration with so many sources: a request finds its own at once.
#[divan::bench(args = [1, 10, 100, 500])]
fn verify_and_drop_among(bencher: Bencher<'_, '_>, sources: usize) {
    let (headers, body) = signed(SECRET);
    Gateway::new(sources - 1).measure(bencher, &headers, &body, 200);
}
