//! Keys that senders publish, by the clock: when they are fetched, by whom, how often, for how long they are used, and what a request
//! is told while they cannot be had. Who publishes them is scripted; the stages are the real ones, and time is the test's.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{future::join_all, poll};
use gatepost::{
    answer::{Reason, Refusal},
    fetch::{Document, Documents, Fetched, Params, Shown},
    secret::Secret,
    verify::{Keyring, Keys as _, Want},
};
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use rustls_pki_types::TrustAnchor;
use serde_json::{Map, json};
use tokio::time::{advance, sleep};
use tower::ServiceExt as _;

use crate::{
    flow::Flow,
    foreign::{Own, of, presented, scheme},
    tokens::jwk,
};

/// Who publishes keys.
#[derive(Debug, Default)]
struct Publisher {
    params: Params,
    /// Documents by URL, and how long they are good; where none is, nobody answers.
    has: Mutex<HashMap<String, (String, Option<Duration>)>>,
    /// How long an answer takes.
    takes: Mutex<Duration>,
    asked: Mutex<Vec<(String, Option<Shown>)>>,
    /// Requests under way, and how many those were at most.
    going: Mutex<(usize, usize)>,
}

struct Going<'p>(&'p Publisher);

impl<'p> Going<'p> {
    fn on(publisher: &'p Publisher) -> Self {
        let mut going = publisher.going.lock().unwrap();
        *going = (going.0 + 1, going.1.max(going.0 + 1));
        Self(publisher)
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.going.lock().unwrap().0 -= 1;
    }
}

impl Documents for Publisher {
    fn params(&self) -> &Params {
        &self.params
    }

    fn anchors(&self) -> &[TrustAnchor<'static>] {
        &[]
    }

    fn fetch<'a>(&'a self, url: &'a str, shown: Option<Shown>) -> Fetched<'a> {
        Box::pin(async move {
            let _going = Going::on(self);
            self.asked.lock().unwrap().push((url.to_owned(), shown));
            let takes = *self.takes.lock().unwrap();
            if !takes.is_zero() {
                sleep(takes).await;
            }
            let (text, max_age) =
                self.has.lock().unwrap().get(url).cloned().ok_or("nobody is there")?;
            Ok(Document { body: text.into(), max_age })
        })
    }
}

const KEYS: &str = "https://keys.example/jwks";
const JWKS: &str = "mac: jwt\nsignature: { header: x-token }\njwt: { algs: [ES256] }\n\
                    keys: { jwks_url: \"https://keys.example/jwks\" }";
const NAMED: &str = "mac: ecdsa-p256-sha256\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"\n\
                     keys: { cert_url: \"{header:x-at}\", hosts: [keys.example], path: \"/*\" }";
const NAMES: [&str; 3] = ["k1", "k2", "k3"];

const UNAVAILABLE: Result<(), Refusal> = Err(Refusal::KeysUnavailable);
const UNKNOWN: Result<(), Refusal> = Err(Refusal::NotVerified(Reason::KeyUnknown));

/// A source, who publishes its keys, and requests that are signed with them.
struct World {
    publisher: Arc<Publisher>,
    flow: Flow,
    own: Own,
    /// By the name that they give their key.
    requests: HashMap<&'static str, HeaderMap>,
}

impl World {
    fn new(verify: &str, stale: Duration) -> Self {
        let Own { mut key, verifier, compiled } = Own::new(verify);
        let mut requests = HashMap::new();
        for name in NAMES {
            key = key.named(name);
            let none = HeaderMap::new();
            let signed = verifier.sign_with(&key, &presented(&none, b"{}"), &Map::new());
            requests.insert(name, HeaderMap::from_iter(signed.expect("signed").headers));
        }
        let params = Params { stale, ..Params::default() };
        let publisher = Arc::new(Publisher { params, ..Publisher::default() });
        let documents: Arc<dyn Documents> = publisher.clone();
        let flow = Flow::of(scheme(verify), &[]).fetching(documents, None);
        Self { publisher, flow, own: Own { key, verifier, compiled }, requests }
    }

    /// Keys under these names are there.
    fn has(&self, names: &[&str], max_age: Option<Duration>) {
        let keys: Vec<_> =
            names.iter().map(|name| jwk(&self.own.key.public_pem().unwrap(), name)).collect();
        self.says(KEYS, format!("{{\"keys\":[{}]}}", keys.join(",")), max_age);
    }

    fn says(&self, url: &str, text: impl Into<String>, max_age: Option<Duration>) {
        self.publisher.has.lock().unwrap().insert(url.to_owned(), (text.into(), max_age));
    }

    fn is_silent(&self) {
        self.publisher.has.lock().unwrap().clear();
    }

    fn takes(&self, time: Duration) {
        *self.publisher.takes.lock().unwrap() = time;
    }

    fn asked(&self) -> usize {
        self.publisher.asked.lock().unwrap().len()
    }

    fn at_once(&self) -> usize {
        self.publisher.going.lock().unwrap().1
    }

    /// Sends what names its key so.
    async fn send(&self, key: &str) -> Result<(), Refusal> {
        self.post(self.requests[key].clone(), sender(0)).await
    }

    /// Sends what says that its key is there.
    async fn send_from(&self, place: usize) -> Result<(), Refusal> {
        self.send_by(sender(place), place).await
    }

    /// The same from an address.
    async fn send_by(&self, peer: IpAddr, place: usize) -> Result<(), Refusal> {
        let mut headers = self.requests["k1"].clone();
        headers.insert("x-at", HeaderValue::from_str(&at(place)).unwrap());
        self.post(headers, peer).await
    }

    async fn post(&self, headers: HeaderMap, peer: IpAddr) -> Result<(), Refusal> {
        let mut inbound = Flow::inbound(headers, Full::new(Bytes::from_static(b"{}")));
        inbound.peer.ip = peer;
        self.flow.stack().oneshot(inbound).await.map(drop).map_err(|refused| refused.what)
    }

    fn counted(&self, result: &str) -> usize {
        let name = format!("gatepost_key_fetches_total{{source=\"shop\",result=\"{result}\"}} ");
        let text = self.flow.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).expect(&name);
        line.parse().unwrap()
    }
}

/// An address of its own for each place.
fn sender(place: usize) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0xc000_0200 + u32::try_from(place).unwrap()).into()
}

fn at(place: usize) -> String {
    format!("https://keys.example/{place}")
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = secs(3600);

#[tokio::test(start_paused = true)]
async fn keys_are_good_for_as_long_as_their_server_says_within_five_minutes_and_a_day() {
    for (said, good) in [
        (None, secs(300)),
        (Some(secs(0)), secs(300)),
        (Some(secs(299)), secs(300)),
        (Some(secs(301)), secs(301)),
        (Some(HOUR), HOUR),
        (Some(100 * 24 * HOUR), 24 * HOUR),
    ] {
        let world = World::new(JWKS, secs(0));
        world.has(&["k1"], said);
        assert_eq!((world.send("k1").await, world.asked()), (Ok(()), 1));
        for round in 2..4 {
            advance(good - MOMENT).await;
            assert_eq!((world.send("k1").await, world.asked()), (Ok(()), round - 1), "{said:?}");
            advance(MOMENT).await;
            assert_eq!((world.send("k1").await, world.asked()), (Ok(()), round), "{said:?}");
        }
        assert_eq!(world.counted("ok"), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn old_keys_are_used_while_new_ones_cannot_be_had_and_for_no_longer_than_is_said() {
    let world = World::new(JWKS, HOUR);
    world.has(&["k1"], None);
    assert_eq!(world.send("k1").await, Ok(()));
    world.is_silent();
    for (passes, asked) in [
        (secs(300) - MOMENT, 1),
        // Asked, in vain; again ten seconds later, and not before.
        (MOMENT, 2),
        (secs(10) - MOMENT, 2),
        (MOMENT, 3),
        (HOUR - secs(310) - MOMENT, 4),
    ] {
        advance(passes).await;
        assert_eq!((world.send("k1").await, world.asked()), (Ok(()), asked), "{passes:?}");
    }
    advance(MOMENT).await;
    assert_eq!((world.send("k1").await, world.asked()), (UNAVAILABLE, 4), "they are too old");
    world.has(&["k1"], None);
    advance(secs(10) - 2 * MOMENT).await;
    assert_eq!((world.send("k1").await, world.asked()), (UNAVAILABLE, 4));
    advance(MOMENT).await;
    assert_eq!((world.send("k1").await, world.asked()), (Ok(()), 5));
    assert_eq!((world.counted("ok"), world.counted("failed")), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn old_keys_may_be_given_no_time_and_nobody_waits_for_new_ones_who_has_them() {
    let strict = World::new(JWKS, secs(0));
    let world = World::new(JWKS, HOUR);
    for world in [&strict, &world] {
        world.has(&["k1"], None);
        assert_eq!(world.send("k1").await, Ok(()));
    }
    advance(secs(300)).await;
    strict.is_silent();
    assert_eq!(strict.send("k1").await, UNAVAILABLE);
    world.takes(secs(1));
    let mut asks = pin!(world.send("k1"));
    assert!(poll!(asks.as_mut()).is_pending());
    tokio::task::yield_now().await; // to who fetches them
    let other = poll!(pin!(world.send("k1")));
    assert_eq!((other, world.asked()), (std::task::Poll::Ready(Ok(())), 2));
    assert_eq!(asks.await, Ok(()));
}

/// Whatever is known and whatever comes of it: of many who want the same, one asks, and all are told what it was told.
#[tokio::test(start_paused = true)]
async fn one_asks_and_the_others_wait_for_it() {
    for (before, then, key, told, asked) in [
        (None, Some(&["k1"][..]), "k1", Ok(()), 1),
        (None, None, "k1", UNAVAILABLE, 1),
        (Some(["k1"]), Some(&["k1", "k2"]), "k2", Ok(()), 2),
        (Some(["k1"]), Some(&["k1"]), "k2", UNKNOWN, 2),
        (Some(["k1"]), None, "k2", UNAVAILABLE, 2),
    ] {
        let world = World::new(JWKS, HOUR);
        if let Some(names) = before {
            world.has(&names, None);
            assert_eq!(world.send("k1").await, Ok(()));
        }
        world.is_silent();
        if let Some(names) = then {
            world.has(names, None);
        }
        world.takes(secs(1));
        let all = join_all((0..20).map(|_| world.send(key))).await;
        assert_eq!(all, vec![told.clone(); 20], "{before:?} {then:?} {key}");
        assert_eq!((world.asked(), world.at_once()), (asked, 1), "{before:?} {then:?} {key}");
    }
    let world = World::new(NAMED, HOUR);
    world.takes(secs(1));
    let told = join_all((0..3).map(|place| world.send_from(place))).await;
    assert_eq!(
        (told, world.at_once()),
        (vec![UNAVAILABLE; 3], 3),
        "places do not wait for each other"
    );
}

/// Who hangs up while keys are on their way has asked for those who follow: they wait for the same answer.
#[tokio::test(start_paused = true)]
async fn who_hangs_up_decides_nothing_for_those_who_follow() {
    for (before, key) in [(None, "k1"), (Some(["k1"]), "k2")] {
        let world = World::new(JWKS, HOUR);
        if let Some(names) = before {
            world.has(&names, None);
            assert_eq!(world.send("k1").await, Ok(()));
        }
        let asked = world.asked();
        world.has(&["k1", "k2"], None);
        world.takes(secs(1));
        let mut gone = Box::pin(world.send(key));
        assert!(poll!(gone.as_mut()).is_pending());
        drop(gone);
        assert_eq!((world.send(key).await, world.asked()), (Ok(()), asked + 1), "{key}");
    }
}

/// Who does so again and again keeps no key good that was withdrawn, and nobody from one that is new.
#[tokio::test(start_paused = true)]
async fn who_hangs_up_again_and_again_changes_nothing() {
    let world = World::new(JWKS, 24 * HOUR);
    world.has(&["k1"], None);
    assert_eq!(world.send("k1").await, Ok(()));
    world.takes(Duration::from_millis(100));
    world.has(&["k2"], None);
    sleep(secs(300)).await; // for which keys are good, whatever is said of them
    for _ in 0..120 {
        let mut gone = Box::pin(world.send("k3"));
        assert!(poll!(gone.as_mut()) != std::task::Poll::Ready(Ok(())));
        drop(gone);
        sleep(secs(1)).await;
    }
    assert_eq!(
        world.asked(),
        4,
        "once for keys that are old, and once a minute for one that is not there"
    );
    assert_eq!(world.send("k1").await, UNKNOWN);
    assert_eq!(world.send("k2").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_there_is_asked_for_once_a_minute() {
    let world = World::new(JWKS, HOUR);
    world.has(&["k1"], None);
    assert_eq!((world.send("k2").await, world.asked()), (UNKNOWN, 2), "for keys, and for this one");
    for key in ["k2", "k3", "k2"] {
        assert_eq!((world.send(key).await, world.asked()), (UNKNOWN, 2));
    }
    world.has(&["k1", "k2"], None);
    advance(secs(60) - MOMENT).await;
    assert_eq!((world.send("k2").await, world.asked()), (UNKNOWN, 2));
    assert_eq!(world.send("k1").await, Ok(()));
    advance(MOMENT).await;
    assert_eq!((world.send("k2").await, world.asked()), (Ok(()), 3));
    // Where nobody says that it is not there, nothing is known of it; what was there is good as before.
    world.is_silent();
    advance(secs(60)).await;
    for passes in [secs(0), MOMENT, secs(10) - 2 * MOMENT] {
        advance(passes).await;
        assert_eq!((world.send("k3").await, world.asked()), (UNAVAILABLE, 4), "{passes:?}");
        assert_eq!((world.send("k1").await, world.asked()), (Ok(()), 4), "{passes:?}");
    }
    world.has(&NAMES, None);
    advance(MOMENT).await;
    assert_eq!((world.send("k3").await, world.asked()), (Ok(()), 5));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_no_verdict() {
    let rsa = include_str!("foreign/rsa.pem");
    let shared = json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string();
    for (text, result) in [
        (None, "failed"),
        (Some(""), "invalid"),
        (Some("<html>an error page</html>"), "invalid"),
        (Some("{\"keys\":[]}"), "invalid"),
        (Some(&*shared), "invalid"),
        (Some(rsa), "invalid"),
    ] {
        let world = World::new(JWKS, HOUR);
        if let Some(text) = text {
            world.says(KEYS, text, None);
        }
        for _ in 0..3 {
            assert_eq!((world.send("k1").await, world.asked()), (UNAVAILABLE, 1), "{text:?}");
        }
        assert_eq!((world.counted(result), world.counted("ok")), (1, 0), "{text:?}");
        world.has(&["k1"], None);
        advance(secs(10) - MOMENT).await;
        assert_eq!((world.send("k1").await, world.asked()), (UNAVAILABLE, 1), "{text:?}");
        advance(MOMENT).await;
        assert_eq!((world.send("k1").await, world.asked()), (Ok(()), 2), "{text:?}");
    }
}

/// Who names places that are none uses up no more than its share of what is fetched in a minute.
#[tokio::test(start_paused = true)]
async fn thirty_are_asked_in_a_minute_and_ten_of_them_are_those_whose_keys_are_known() {
    // Old keys do for a while without asking again.
    for (stale, last, busy) in [(HOUR, Ok(()), 21), (secs(0), UNAVAILABLE, 22)] {
        let world = World::new(NAMED, stale);
        let pem = world.own.key.public_pem().unwrap();
        for place in 0..12 {
            world.says(&at(place), &*pem, None);
            assert_eq!(world.send_from(place).await, Ok(()));
        }
        assert_eq!(world.asked(), 12);
        advance(secs(300)).await;
        for place in 100..140 {
            assert_eq!(world.send_from(place).await, UNAVAILABLE);
        }
        assert_eq!((world.asked(), world.counted("busy")), (12 + 20, 20));
        for place in 0..10 {
            assert_eq!(world.send_from(place).await, Ok(()));
        }
        assert_eq!((world.asked(), world.counted("busy")), (12 + 30, 20));
        assert_eq!((world.send_from(10).await, world.counted("busy")), (last.clone(), 21));
        assert_eq!((world.send_from(10).await, world.counted("busy")), (last.clone(), busy));
        // The next minute begins when the last is over.
        advance(secs(60) - MOMENT).await;
        assert_eq!((world.send_from(11).await, world.asked()), (last, 12 + 30));
        world.says(&at(200), &*pem, None);
        assert_eq!(world.send_from(200).await, UNAVAILABLE);
        advance(MOMENT).await;
        assert_eq!((world.send_from(10).await, world.asked()), (Ok(()), 12 + 31));
        assert_eq!((world.send_from(141).await, world.asked()), (UNAVAILABLE, 12 + 32));
        assert_eq!((world.send_from(200).await, world.asked()), (Ok(()), 12 + 33), "at once");
    }
}

/// Who names ever other places uses up its own share of what is fetched in a minute: where the flood comes from, and not how much of it
/// there is, decides who else is asked for, however early in each minute it comes.
#[tokio::test(start_paused = true)]
async fn a_flood_of_places_keeps_nobody_from_elsewhere_waiting() {
    let nets = |net: u32| IpAddr::from([0x2001, 0xdb8, u16::try_from(net).unwrap(), 0, 0, 0, 0, 1]);
    let v4 = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
    // One network of IPv6, in which everybody has as many addresses as it likes; and some addresses of IPv4.
    let within = |n: u32| IpAddr::from([0x2001, 0xdb8, 7, u16::try_from(n).unwrap(), 0, 0, 0, 1]);
    let floods: [(Vec<IpAddr>, usize); 5] = [
        (vec![v4(1)], 3),
        ((0..500).map(within).collect(), 3),
        ((0..4).map(v4).collect(), 8),
        ((0..14).map(v4).collect(), 14),
        ((0..14).map(nets).collect(), 14),
    ];
    for (strangers, most) in floods {
        let world = World::new(NAMED, HOUR);
        let pem = world.own.key.public_pem().unwrap();
        let mut other = 1000..;
        for minute in 0..3 {
            let asked = world.asked();
            for stranger in strangers.iter().cycle().take(560) {
                let place = other.next().unwrap();
                assert_eq!(world.send_by(*stranger, place).await, UNAVAILABLE);
            }
            assert_eq!(world.asked() - asked, most, "{strangers:?}");
            world.says(&at(minute), &*pem, Some(24 * HOUR));
            // They may name that place as well; it is not theirs to use up.
            assert!(world.send_by(strangers[0], minute).await.is_err());
            assert_eq!(world.send_from(minute).await, Ok(()), "{strangers:?}");
            assert_eq!(world.send_by(strangers[0], minute).await, Ok(()), "known to all");
            advance(secs(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_too_many_places_those_without_keys_are_forgotten_and_then_the_one_asked_longest_ago() {
    let world = World::new(NAMED, HOUR);
    let pem = world.own.key.public_pem().unwrap();
    let (minute, day) = (secs(60), Some(24 * HOUR));
    for place in 0..65 {
        world.says(&at(place), &*pem, day);
    }
    for place in 0..64 {
        if place % 20 == 0 {
            advance(minute).await;
        }
        assert_eq!(world.send_from(place).await, Ok(()));
        advance(MOMENT).await;
    }
    let all_known = async |places: std::ops::Range<usize>| {
        let asked = world.asked();
        for place in places {
            assert_eq!((world.send_from(place).await, world.asked()), (Ok(()), asked), "{place}");
        }
    };
    all_known(0..64).await;
    advance(minute).await;
    for place in 100..200 {
        assert_eq!(world.send_from(place).await, UNAVAILABLE);
    }
    all_known(1..64).await;
    advance(minute).await;
    let asked = world.asked();
    for place in [64, 0] {
        advance(MOMENT).await;
        assert_eq!(world.send_from(place).await, Ok(()));
    }
    assert_eq!(world.asked(), asked + 2, "the first made room, and is fetched again");
    all_known(2..65).await;
    all_known(0..1).await;
    assert_eq!(
        (world.send_from(1).await, world.asked()),
        (Ok(()), asked + 3),
        "it made room again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_shown_to_whoever_has_the_keys_and_to_nobody_where_none_is_asked_for() {
    let credential = "\"/*\", credential: { header: X-Api-Key, prefix: \"key \" }";
    let asked_for = NAMED.replace("\"/*\"", credential);
    for (verify, secret, seen) in [
        (&*asked_for, Some("abc"), Some("key abc")),
        (&*asked_for, None, None),
        (NAMED, Some("abc"), None),
    ] {
        let world = World::new(verify, HOUR);
        let documents: Arc<dyn Documents> = world.publisher.clone();
        let world = World { flow: world.flow.fetching(documents, secret), ..world };
        assert_eq!(world.send_from(1).await, UNAVAILABLE);
        let asked = world.publisher.asked.lock().unwrap();
        let [(url, shown)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(*url, at(1));
        let shown = shown.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        assert_eq!(shown, seen.map(|value| ("x-api-key", value)), "{verify}");
    }
}

/// What was fetched outlives a reload where the same would be fetched from there, shown the same, and read alike.
#[tokio::test(start_paused = true)]
async fn keys_outlive_a_reload_that_changes_nothing_about_them() {
    let usual = || Params { timeout: secs(5), stale: HOUR, ..Params::default() };
    let world = World::new(JWKS, HOUR);
    world.has(&["k1"], None);
    let documents = world.publisher.has.lock().unwrap().clone();
    let keyring = |verify: &str, params: Params, secret: Option<&str>| {
        let has = Mutex::new(documents.clone());
        let publisher = Publisher { params, has, ..Publisher::default() };
        Keyring::new(Arc::new(of(verify, &[])), Arc::new(publisher), secret.map(Secret::new))
    };
    let want = Want { scheme: 0, url: KEYS.to_owned(), is_stale: false };
    let elsewhere = JWKS.replace("keys.example", "other.example");
    let more = JWKS.replace("[ES256]", "[ES256, ES384]");
    let renamed = JWKS.replace("x-token", "x-other");
    for (before, verify, params, secret, is_kept) in [
        (None, JWKS, usual(), None, true),
        (None, &*renamed, usual(), None, true),
        (Some("a"), JWKS, usual(), Some("a"), true),
        (Some("a"), JWKS, usual(), Some("b"), false),
        (Some("a"), JWKS, usual(), None, false),
        (None, JWKS, usual(), Some("a"), false),
        (None, &*elsewhere, usual(), None, false),
        (None, &*more, usual(), None, false),
        (None, JWKS, Params { timeout: secs(6), ..usual() }, None, false),
        (None, JWKS, Params { stale: 2 * HOUR, ..usual() }, None, false),
        (None, JWKS, Params { ca: Some("ca.pem".into()), ..usual() }, None, false),
        (
            None,
            JWKS,
            Params { networks: vec!["10.0.0.0/8".parse().unwrap()], ..usual() },
            None,
            false,
        ),
    ] {
        let old = keyring(JWKS, usual(), before);
        assert_eq!(old.bring(&want, sender(0), |_| ()).await, Ok(()));
        let new = keyring(verify, params.clone(), secret);
        let kept = new.remembering(&old);
        assert_eq!(kept.is_some(), is_kept, "{before:?} {verify} {params:?} {secret:?}");
        if let Some(kept) = kept {
            assert!(kept.get(0, KEYS).is_some(), "{verify}");
            // Both serve while one takes over; what one hears the other knows.
            let again = Want { is_stale: true, ..want.clone() };
            assert_eq!(kept.bring(&again, sender(0), |_| ()).await, Ok(()));
            assert!(!old.may_ask_again(0, KEYS) && new.get(0, KEYS).is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_keys_that_cannot_be_had_are_a_reason() {
    let world = World::new(JWKS, HOUR);
    let world = World { flow: world.flow.shadow(), ..world };
    assert_eq!(world.send("k1").await, Ok(()));
    assert_eq!(world.flow.shadowed().unverified().reason(), Reason::KeyNotFetched);
}
