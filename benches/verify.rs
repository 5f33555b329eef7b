//! What the pure half of the flow costs: a head, a signature, a name, a route, and all of it in its stages.
//!
//! `cargo bench --bench verify`

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start says so"
)]
#![allow(dead_code, reason = "tests use the rest of what is shared with them")]

#[path = "../tests/pure/flow.rs"]
mod flow;
#[path = "../tests/pure/source.rs"]
mod source;

use divan::{Bencher, black_box, counter::BytesCount};
use gatepost::{
    event::Digest,
    json::{Extractor, Path},
    route::Routes,
    server::Guard,
    verify::Verifier,
};
use http::HeaderMap;
use tower::ServiceExt as _;

use crate::{
    flow::{COVERING, Flow, NOW, SECRET, route},
    source::{headers, presented, preset},
};

fn main() {
    divan::main();
}

const SIZES: [usize; 3] = [256, 4096, 65_536];

/// An event of about this many bytes, most of which is nested and not looked at.
fn event(bytes: usize) -> Vec<u8> {
    let line = r#"{"id":"il_1","amount":1000,"currency":"usd","metadata":{"order":"6735","note":"a few words"}}"#;
    let lines = vec![line; bytes.saturating_sub(180) / (line.len() + 1)].join(",");
    let body = format!(
        r#"{{"id":"evt_1NG8Du2eZvKYlo2CUI79vXWy","object":"event","data":{{"object":{{"lines":[{lines}]}}}},"livemode":false,"request":{{"id":null}},"type":"invoice.paid"}}"#
    );
    body.into_bytes()
}

fn signed(verifier: &Verifier, body: &[u8]) -> HeaderMap {
    let none = HeaderMap::new();
    verifier.sign(&presented(&none, body, NOW)).expect("signed").into_iter().collect()
}

/// A head as Stripe sends it, or as it comes through two proxies, and its body, in one read.
#[divan::bench(args = [10, 25])]
fn guard_a_head(bencher: Bencher<'_, '_>, headers: usize) {
    let mut request =
        b"POST /stripe HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Length: 1000\r\n".to_vec();
    for n in 2..headers {
        request.extend(format!("X-Header-{n}: a value of a usual length, {n}\r\n").into_bytes());
    }
    request.extend(b"\r\n");
    request.extend([b'x'; 1000]);
    let bencher = bencher.counter(BytesCount::new(request.len() - 1000));
    let mut guard = Guard::default();
    bencher.bench_local(|| {
        guard.hear(black_box(&request));
        guard.begin(Some(1000))
    });
}

#[divan::bench(args = SIZES)]
fn verify_stripe(bencher: Bencher<'_, '_>, bytes: usize) {
    let (verifier, body) = (preset("stripe", SECRET), event(bytes));
    let headers = signed(&verifier, &body);
    let request = presented(&headers, &body, NOW);
    let bencher = bencher.counter(BytesCount::of_slice(&body));
    bencher.bench(|| verifier.verify(black_box(&request)).expect("a good signature"));
}

/// Whether and where a signature is wrong must not show in the time that it takes: the three rows are alike.
#[divan::bench(args = ["nowhere", "in its first byte", "in its last byte"])]
fn wrong_somewhere(bencher: Bencher<'_, '_>, place: &str) {
    let (verifier, body) = (preset("github", SECRET), event(256));
    let signature = signed(&verifier, &body)["x-hub-signature-256"].to_str().unwrap().to_owned();
    let at = if place == "in its first byte" { "sha256=".len() } else { signature.len() - 1 };
    let mut bytes = signature.into_bytes();
    if place != "nowhere" {
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    }
    let headers = headers(&[("x-hub-signature-256", bytes)]);
    let request = presented(&headers, &body, NOW);
    bencher.bench(|| verifier.verify(black_box(&request)).is_ok());
}

#[divan::bench(args = SIZES)]
fn find_id_type_and_account(bencher: Bencher<'_, '_>, bytes: usize) {
    let paths = ["id", "type", "account"].map(|path| Path::parse(path).expect("a path"));
    let (extractor, body) = (Extractor::new(&paths, None), event(bytes));
    let bencher = bencher.counter(BytesCount::of_slice(&body));
    bencher.bench(|| extractor.find(black_box(&body)).expect("JSON"));
}

#[divan::bench(args = SIZES)]
fn digest(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = event(bytes);
    bencher.counter(BytesCount::of_slice(&body)).bench(|| Digest::of(black_box(&body)));
}

#[divan::bench]
fn choose_the_last_of_twenty_routes(bencher: Bencher<'_, '_>) {
    let mut routes: Vec<_> =
        (0..19).map(|n| route(&format!("r{n}"), &[&format!("kind{n}.*"), "!*.x"], None)).collect();
    routes.push(route("last", &["invoice.*"], Some("app")));
    let routes = Routes::new(routes, false);
    bencher.bench(|| routes.choose(black_box("invoice.paid"), |_| None));
}

/// From received to routed.
#[divan::bench(args = SIZES)]
fn receive_to_route(bencher: Bencher<'_, '_>, bytes: usize) {
    let flow =
        Flow::new(&format!("{COVERING}event: {{ id: '{{json:id}}', type: '{{json:type}}' }}"));
    let (stack, body) = (flow.stack(), bytes::Bytes::from(event(bytes)));
    let headers = flow.signed(HeaderMap::new(), &body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let inbound = Flow::inbound(headers.clone(), http_body_util::Full::new(body.clone()));
        runtime.block_on(stack.clone().oneshot(inbound)).expect("it is routed")
    });
}
