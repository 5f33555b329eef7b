//! What the pure half of the flow costs: a head, a signature, a name, a route, and all of it in its stages.
//!
//! `cargo bench --bench verify`

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start says so"
)]
#![allow(dead_code, reason = "tests use the rest of what is shared with them")]

#[path = "../tests/pure/flow.rs"]
mod flow;
#[path = "../tests/pure/foreign.rs"]
mod foreign;
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
    source::{custom, headers, presented, preset, verifier},
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

/// What a family costs. The first row is the MAC alone, over the same bytes: the rest of a row is what verification adds.
#[divan::bench(args = FAMILIES.map(|(name, _)| name))]
fn verify_a_family(bencher: Bencher<'_, '_>, name: &str) {
    let body = event(4096);
    let bencher = bencher.counter(BytesCount::of_slice(&body));
    let (_, yaml) = FAMILIES.into_iter().find(|(known, _)| *known == name).expect("a family");
    if yaml.is_empty() {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        bencher.bench(|| aws_lc_rs::hmac::sign(&key, black_box(&body)));
        return;
    }
    let verifier = verifier(custom(&format!("verify: {yaml}")), &[&format!("user:{SECRET}")]);
    let verifier = verifier.expect("a good secret");
    let json = br#"{"items":[{"id":"1","n":5},{"id":"2","n":6}]}"#;
    let form = b"Body=Hello&From=%2B14158675309&MessageSid=SM1&To=%2B18005551212";
    let (body, kind) = match name {
        "form, five URLs" => (&form[..], "application/x-www-form-urlencoded"),
        "four values" => (&json[..], "application/json"),
        _ => (&body[..], "application/json"),
    };
    let mut headers = headers(&[("content-type", kind), ("x-id", "evt_1"), ("x-version", "2")]);
    headers.extend(verifier.sign(&presented(&headers, body, NOW)).expect("signed"));
    let request = presented(&headers, body, NOW);
    bencher.bench(|| verifier.verify(black_box(&request)).expect("a good signature"));
}

const FAMILIES: [(&str, &str); 14] = [
    ("HMAC-SHA256 alone, by AWS-LC", ""),
    ("hmac-sha1", "{ signature: { header: X-S }, signed: '{body}', mac: hmac-sha1 }"),
    ("hmac-sha256", "{ signature: { header: X-S }, signed: '{body}' }"),
    ("hmac-sha384", "{ signature: { header: X-S }, signed: '{body}', mac: hmac-sha384 }"),
    ("hmac-sha512", "{ signature: { header: X-S }, signed: '{body}', mac: hmac-sha512 }"),
    ("hash-sha256", "{ signature: { header: X-S }, signed: '{secret}{body}', mac: hash-sha256 }"),
    ("token", "{ signature: { header: X-S }, mac: token }"),
    ("basic", "{ mac: basic }"),
    (
        "a list with a time",
        "{ signature: { header: X-S, split: ',', pair: '=', pick: v1 }, signed: '{t}.{body}', timestamp: { from: '{t}', past: 5m } }",
    ),
    (
        "a group with a time",
        "{ signature: { header: X-S, groups: ' ', split: ',', pair: '=', pick: v1 }, signed: '{t}.{body}', timestamp: { from: '{t}', past: 5m } }",
    ),
    (
        "two places",
        "{ signature: [{ header: X-R }, { header: X-S }], signed: '{body}{header:X-Id}' }",
    ),
    (
        "an alternative",
        "{ signed: '{body}', schemes: [{ when: { header: X-N }, signature: { header: X-N } }, { when: { header_equals: { X-Version: '2' } }, signature: { header: X-S } }] }",
    ),
    (
        "form, five URLs",
        "{ signature: { header: X-S }, signed: '{url}{form|sorted_unique_concat}', mac: hmac-sha1, url_variants: [legacy_add_port, as_is, strip_port, add_port, legacy_strip_port] }",
    ),
    (
        "four values",
        "{ signature: { header: X-S }, signed: '{json:items[0].id}:{json:items[0].n}:{json:items[1].id}:{json:items[1].n}' }",
    ),
];

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

/// A scheme whose keys are not ours, a request, and its verdict.
#[divan::bench(args = ["ed25519", "ecdsa-p256-sha256", "ecdsa-p384-sha384", "ecdsa-p521-sha512", "rsa-pkcs1-sha256", "rsa-pss-sha512"])]
fn verify_with_a_public_key(bencher: Bencher<'_, '_>, mac: &str) {
    let own = foreign::Own::new(&format!(
        "mac: {mac}\nsignature: {{ header: x-s, encoding: base64 }}\nsigned: \"{{body}}\""
    ));
    bench_own(bencher, &own);
}

#[divan::bench(args = ["jwt", "jws-detached"])]
fn verify_a_token(bencher: Bencher<'_, '_>, mac: &str) {
    let signed = if mac == "jwt" { "" } else { "signed: \"{body}\"\n" };
    let bound = if mac == "jwt" { ", body_hash: { claim: digest }" } else { "" };
    let own = foreign::Own::new(&format!(
        "mac: {mac}\nsignature: {{ header: x-s }}\n{signed}jwt: {{ algs: [ES256]{bound} }}"
    ));
    bench_own(bencher, &own);
}

/// A message signature, and the digest of the body that it covers.
#[divan::bench]
fn verify_a_message(bencher: Bencher<'_, '_>) {
    let own = foreign::Own::new("mac: rfc9421\nrfc9421: { algs: [ed25519], max_age: 5m }");
    bench_own(bencher, &own);
}

fn bench_own(bencher: Bencher<'_, '_>, own: &foreign::Own) {
    let body = event(4096);
    let headers: HeaderMap = own.sign(&body, &serde_json::Map::new()).headers.into_iter().collect();
    let request = foreign::presented(&headers, &body);
    bencher.bench(|| own.verifier.verify(black_box(&request)).expect("a good signature"));
}
