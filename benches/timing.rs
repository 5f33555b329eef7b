//! Whether the time that a refusal takes tells anything about a secret: a t-test over a million measurements for each kind of
//! credential. Prints t for each comparison, and ends with 1 where one is beyond the limit, or where a comparison that does
//! leak, seeded into the same measurement, is not found.
//!
//! `cargo bench --bench timing [SAMPLES]`, on a machine that does nothing else
//!
//! The signature that is compared is right in one kind, and in the other wrong in its first byte, in its last, or at random.
//! So that both end alike, it is made with a secret that has expired: it is computed and compared as every other, and does not
//! count. Bodies are random, so that signatures of both kinds look alike to whatever reads them. Every request has a verifier
//! with secrets of its own, so that no credential comes twice: one that does might be read in another time, right or wrong. How much
//! that would be is shown by a comparison that is not judged, of a wrong credential that comes again and again with others.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::pedantic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark that cannot start says so"
)]
#![allow(dead_code, reason = "tests use the rest of what is shared with them")]

#[path = "../tests/support/dice.rs"]
mod dice;
#[path = "../tests/pure/source.rs"]
mod source;
#[path = "../tests/support/welch.rs"]
mod welch;

use std::{hint::black_box, process::ExitCode, sync::Arc, time::Instant};

use base64::Engine as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use gatepost::{
    answer::Reason,
    audit,
    config::{self, Env},
    dedup::{Joins, Memory},
    event::{Peer, Timestamp},
    handshake::Captures,
    receive::Budget,
    secret::Secret,
    stack::{Front, Shared, Upstreams},
    telemetry::Metrics,
    verify::{LiveSecret, Scheme, Verifier},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;

use crate::{
    dice::Dice,
    source::{URL, compiled, custom, presented},
    welch::{LIMIT, Timed, farthest},
};

const SAMPLES: usize = 1_000_000;
const NOW: i64 = 1_700_000_000;
/// How many sources there are where paths are looked up.
const SOURCES: usize = 256;

/// What is wrong with a credential.
const KINDS: [&str; 4] = ["right", "first byte", "last byte", "random"];
/// Which kinds are compared.
const PAIRS: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 2), (0, 3)];

/// A request to a verifier of its own, with a credential of each kind; all are of one length.
struct Asked {
    verifier: Verifier,
    body: Vec<u8>,
    credentials: [Vec<u8>; 4],
}

/// A kind of credential: where it stands, and how requests are made.
struct Subject {
    name: &'static str,
    header: HeaderName,
    make: Box<dyn Fn(&mut Dice) -> Asked>,
}

/// The bytes of what is compared, with one of them changed, or all.
fn wrong(right: &[u8], kind: usize, random: &mut Dice) -> Vec<u8> {
    let mut bytes = right.to_vec();
    let other = 1 + random.next() as u8 % 255;
    match kind {
        0 => {}
        1 => bytes[0] ^= other,
        2 => *bytes.last_mut().unwrap() ^= other,
        _ => bytes.iter_mut().for_each(|byte| *byte = random.next() as u8),
    }
    bytes
}

/// A verifier of two secrets, of which the one that requests are made with has expired, and the other has not. The expired one
/// comes first: were one tag less computed where it is right, that would show.
fn verifier(schemes: &[Scheme], expired: &str, random: &mut Dice) -> Verifier {
    let live = format!("user:{}, which is good", hex::encode(random.bytes::<16>()));
    let past = Some(Timestamp::from_millis(0));
    let secret = |text: &str, expires| LiveSecret { secret: Secret::new(text), expires, id: None };
    let secrets = vec![secret(expired, past), secret(&live, None)];
    Verifier::new(schemes.to_vec(), secrets, URL).expect("a verifier")
}

fn signature() -> Subject {
    let schemes = compiled("github").schemes;
    let make = move |random: &mut Dice| {
        let secret = hex::encode(random.bytes::<16>());
        let verifier = verifier(&schemes, &secret, random);
        let body = random.bytes::<64>().to_vec();
        let tag = signed(&schemes, &secret, &body);
        let kind = |kind| format!("sha256={}", hex::encode(wrong(&tag, kind, random))).into();
        Asked { verifier, body, credentials: [0, 1, 2, 3].map(kind) }
    };
    let header = HeaderName::from_static("x-hub-signature-256");
    Subject { name: "signature", header, make: Box::new(make) }
}

/// What GitHub would sign a body with.
fn signed(schemes: &[Scheme], secret: &str, body: &[u8]) -> Vec<u8> {
    let secret = LiveSecret { secret: Secret::new(secret), expires: None, id: None };
    let maker = Verifier::new(schemes.to_vec(), vec![secret], URL).expect("a verifier");
    let signed = maker.sign(&presented(&HeaderMap::new(), body, NOW)).expect("signed");
    hex::decode(&signed[0].1.to_str().unwrap()["sha256=".len()..]).unwrap()
}

/// Credentials that are shown and not made.
fn shown(name: &'static str) -> Subject {
    let (yaml, header) = match name {
        "token" => ("verify: { signature: { header: X-Token }, mac: token }", "x-token"),
        _ => ("verify: { mac: basic }", "authorization"),
    };
    let schemes = custom(yaml).schemes;
    let make = move |random: &mut Dice| {
        let digits = random.bytes::<16>();
        let secret = format!("user:{}", hex::encode(digits));
        let text = |kind| {
            // Of digits only, so that every kind is a text.
            let shown = format!("user:{}", hex::encode(wrong(&digits, kind, random)));
            let encoded = base64::engine::general_purpose::STANDARD.encode(&shown);
            if name == "token" { shown.into() } else { format!("Basic {encoded}").into() }
        };
        let credentials = [0, 1, 2, 3].map(text);
        let verifier = verifier(&schemes, &secret, random);
        Asked { verifier, credentials, body: random.bytes::<64>().to_vec() }
    };
    Subject { name, header: HeaderName::from_static(header), make: Box::new(make) }
}

/// The same, but for what takes the place of the last byte wrong: a wrong credential that is the same in all requests.
fn repeated(name: &'static str, random: &mut Dice) -> Subject {
    let Subject { header, make, .. } = shown(name);
    let [.., same] = make(random).credentials;
    let make = move |random: &mut Dice| {
        let mut asked = make(random);
        asked.credentials[2].clone_from(&same);
        asked
    };
    Subject { name, header, make: Box::new(make) }
}

/// One of two texts of a length, without touching other memory for one than for the other: what was in a cache before would
/// show in the time.
fn choose(second: bool, one: &[u8], other: &[u8]) -> Vec<u8> {
    assert_eq!(one.len(), other.len());
    let mask = u8::from(second).wrapping_neg();
    one.iter().zip(other).map(|(one, other)| (one & !mask) | (other & mask)).collect()
}

/// Times `judge` on requests of two kinds, in random order.
fn measure(
    subject: &Subject,
    (one, other): (usize, usize),
    samples: usize,
    random: &mut Dice,
    judge: impl Fn(&Asked, &[u8], &HeaderMap) -> Result<(), Reason>,
) -> f64 {
    let mut timed: Vec<Timed> = Vec::with_capacity(samples);
    // The first ones warm caches up, and do not count.
    for n in 0..samples + samples / 20 {
        let second = random.next() & 1 == 1;
        let asked = (subject.make)(random);
        let credential = choose(second, &asked.credentials[one], &asked.credentials[other]);
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(&subject.header, HeaderValue::from_bytes(&credential).unwrap());
        let begun = Instant::now();
        let verdict = judge(black_box(&asked), black_box(&credential), black_box(&headers));
        let took = begun.elapsed().as_nanos();
        assert_eq!(black_box(verdict), Err(Reason::SignatureWrong), "both kinds end alike");
        if n >= samples / 20 {
            timed.push((second, u32::try_from(took).unwrap_or(u32::MAX)));
        }
    }
    farthest(&timed)
}

fn verify(asked: &Asked, headers: &HeaderMap) -> Result<(), Reason> {
    asked.verifier.verify(&presented(headers, &asked.body, NOW)).map(drop)
}

/// What nobody should write: ends at the first byte that differs.
#[inline(never)]
fn equal_so_far(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| black_box(left == right)).count()
}

/// As many sources as there are paths, behind the door that all requests come through.
fn front(paths: &[String]) -> Arc<Front<Full<Bytes>>> {
    let source = |(n, path)| {
        format!("  s{n}: {{ provider: github, path: {path}, secret: {{ env: S{n} }} }}\n")
    };
    let sources: String = (0..).zip(paths).map(source).collect();
    let text = format!(
        "version: 1\nserver: {{ host: a }}\ntls: {{ mode: none }}\ndedup: {{ store: memory }}\nsources:\n{sources}"
    );
    let now = Timestamp::now();
    let options = config::Options { env: Env::default(), offline: true, now };
    let config = config::parse_str("gatepost.yaml", &text, &options).expect("good").config;
    let (metrics, dir) = (Metrics::new(), tempfile::tempdir().expect("a directory"));
    let params = audit::Params {
        dir: dir.path().join("audit"),
        checkpoint_key: dir.path().join("key.pem"),
        ..config.audit.clone()
    };
    let shared = Shared {
        captures: Captures::new().0,
        log: audit::open(&params, metrics.audit()).expect("a log"),
        metrics,
        store: Arc::new(Memory::default()),
        joins: Joins::default(),
        tracker: tokio_util::task::TaskTracker::new(),
        room: Budget::new("requests_in_flight", 64),
        memory: Budget::new("body_memory", 1 << 24),
        draining: tokio_util::sync::CancellationToken::new(),
        closed: tokio_util::sync::CancellationToken::new(),
    };
    Arc::new(Front::new(&config, &Upstreams::default(), &shared))
}

/// Whether a path that is near a source's is refused in another time than one that is far from all: equal but for its last four
/// characters, or for all behind `/hooks/`.
fn lookup(samples: usize, random: &mut Dice) -> f64 {
    let path = |random: &mut Dice| format!("/hooks/{}", hex::encode(random.bytes::<16>()));
    let known: Vec<_> = (0..SOURCES).map(|_| path(random)).collect();
    let front = front(&known);
    let peer = Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true };
    let mut timed: Vec<Timed> = Vec::with_capacity(samples);
    for _ in 0..samples {
        let second = random.next() & 1 == 1;
        // As near as that, another each time, and never the source's own: those have digits of hexadecimal only.
        let tail: String =
            random.bytes::<4>().map(|byte| char::from(b'g' + byte % 16)).iter().collect();
        let with_tail = |path: &str| format!("{}{tail}", &path[..path.len() - 4]);
        let near = with_tail(&known[random.next() as usize % SOURCES]);
        let path = choose(second, with_tail(&path(random)).as_bytes(), near.as_bytes());
        let path = std::str::from_utf8(&path).unwrap();
        let request = Request::post(path).body(Full::new(Bytes::new())).unwrap();
        let asked = Arc::clone(&front);
        let begun = Instant::now();
        let answer = asked.answer(black_box(request), peer, Ok(())).now_or_never();
        let took = begun.elapsed().as_nanos();
        assert_eq!(answer.expect("at once").status(), StatusCode::NOT_FOUND);
        timed.push((second, u32::try_from(took).unwrap_or(u32::MAX)));
    }
    farthest(&timed)
}

/// Prints one comparison; whether it is as it should be.
fn report(what: &str, t: f64, leaks: bool) -> bool {
    let good = (t.abs() > LIMIT) == leaks;
    let word = match (good, leaks) {
        (true, false) => "ok",
        (true, true) => "found",
        (false, false) => "LEAKS",
        (false, true) => "NOT FOUND",
    };
    println!("{what:<52} t = {t:>8.2}   {word}");
    good
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` sees only whether it works; so few samples say nothing.
    let judges = arguments.iter().any(|argument| argument == "--bench");
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let samples = asked.unwrap_or(if judges { SAMPLES } else { 1000 });
    let mut random = Dice(u64::from(std::process::id()));
    let mut good = true;
    let subjects = [signature(), shown("token"), shown("basic")];
    let judge = |asked: &Asked, _: &[u8], headers: &HeaderMap| verify(asked, headers);
    println!("{samples} samples each; beyond {LIMIT} two kinds differ");
    for subject in &subjects {
        for (one, other) in PAIRS {
            let t = measure(subject, (one, other), samples, &mut random, judge);
            let what = format!("{}: {} against {}", subject.name, KINDS[one], KINDS[other]);
            good &= report(&what, t, false);
        }
        let leaky = |asked: &Asked, shown: &[u8], headers: &HeaderMap| {
            let verdict = verify(asked, headers);
            black_box(equal_so_far(&asked.credentials[0], shown));
            verdict
        };
        let t = measure(subject, (1, 2), samples, &mut random, leaky);
        good &= report(&format!("{}: a comparison that ends early", subject.name), t, true);
    }
    for name in ["token", "basic"] {
        let t = measure(&repeated(name, &mut random), (2, 3), samples, &mut random, judge);
        println!(
            "{:<52} t = {t:>8.2}   not judged",
            format!("{name}: always the same against random")
        );
    }
    good &=
        report("path: near a source's against far from all", lookup(samples, &mut random), false);
    if good || !judges { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
