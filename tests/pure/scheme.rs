//! Every example of the page on the language passes, and only as it stands; and what the page promises beside its examples.

use std::collections::BTreeMap;

use gatepost::{
    answer::Reason::{
        self, HeaderRepeated, InputAmbiguous, InputMissing, RequirementFailed, SignatureMalformed,
        SignatureMissing, SignatureWrong, SignaturesTooMany, TimestampMalformed, TimestampMissing,
        TimestampPast, TimestampRepeated,
    },
    event::Timestamp,
    providers::{self, Options, shape},
    secret::Secret,
    verify::{LiveSecret, Presented, Verifier},
};
use http::HeaderMap;
use proptest::prelude::*;
use serde::Deserialize;

use crate::{
    examples::mac,
    source::{URL, headers},
};

const PAGE: &str = include_str!("../../docs/scheme-language.md");
pub(crate) const NOW: i64 = 1_760_000_000;
pub(crate) const SECRET: &str = "a secret of sixteen bytes";
const OTHER: &str = "another secret that nobody uses";
const BODY: &[u8] = br#"{"id":"evt_1","type":"order.paid"}"#;

/// What an example says of a source.
#[derive(Deserialize)]
pub(crate) struct Described {
    #[serde(default = "usual")]
    secret: shape::OneOrMany<SecretForm>,
    #[serde(default)]
    params: BTreeMap<String, String>,
    pin: Option<String>,
    verify: shape::Verify,
    #[serde(default)]
    event: shape::EventFields,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum SecretForm {
    Text(String),
    Called { id: String },
}

fn usual() -> shape::OneOrMany<SecretForm> {
    shape::OneOrMany::One(SecretForm::Text(SECRET.to_owned()))
}

impl Described {
    pub(crate) fn parse(yaml: &str) -> Self {
        serde_yaml::from_str(yaml).unwrap_or_else(|e| panic!("{e}: {yaml}"))
    }

    pub(crate) fn compile(&self) -> providers::Compiled {
        let options =
            Options { params: self.params.clone(), pin: self.pin.clone(), ..Options::default() };
        let mut event = self.event.clone();
        if event == shape::EventFields::default() {
            event.id = Some(shape::OneOrMany::One("{body|sha256_hex}".into()));
            event.kind = Some(shape::OneOrMany::One("event".into()));
        }
        providers::compile(&self.verify, &event, &[], &options)
            .unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// With its own secrets, or with as many others.
    fn verifier_with(&self, secret: impl Fn(&str) -> String) -> Verifier {
        let live = |form: &SecretForm| {
            let (text, id) = match form {
                SecretForm::Text(text) => (text.as_str(), None),
                SecretForm::Called { id } => (SECRET, Some(id.as_str().into())),
            };
            LiveSecret { secret: Secret::new(secret(text)), expires: None, id }
        };
        let secrets = self.secret.as_slice().iter().map(live).collect();
        Verifier::new(self.compile().schemes, secrets, URL).expect("good secrets")
    }

    pub(crate) fn verifier(&self) -> Verifier {
        self.verifier_with(str::to_owned)
    }
}

/// A request, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) target: String,
    pub(crate) lines: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").expect("a head and a body");
        let mut head = head.lines();
        let target = head.next().and_then(|line| line.split(' ').nth(1)).expect("a target");
        let line = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        };
        let body = body.strip_suffix('\n').unwrap_or(body).as_bytes().to_vec();
        Self { target: target.to_owned(), lines: head.map(line).collect(), body }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let lines: Vec<_> = self.lines.iter().map(|(n, v)| (n.as_str(), v)).collect();
        headers(&lines)
    }

    pub(crate) fn verdict(&self, verifier: &Verifier) -> Result<usize, Reason> {
        let headers = self.headers();
        let query =
            self.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        let verdict = verifier.verify(&Presented {
            method: "POST",
            url: &format!("{URL}{query}"),
            target: &self.target,
            headers: &headers,
            body: &self.body,
            received_at: Timestamp::from_millis(NOW * 1000),
        });
        verdict.map(|proof| proof.slot)
    }
}

/// The page's examples: a source, and a request that passes.
pub(crate) fn examples() -> Vec<(&'static str, Described, Sent)> {
    examples_of(PAGE)
}

/// The examples of a page.
pub(crate) fn examples_of(page: &'static str) -> Vec<(&'static str, Described, Sent)> {
    let pieces = page.split("```yaml\n").skip(1);
    let example = |piece: &'static str| {
        let (yaml, rest) = piece.split_once("```").expect("an end");
        let (_, rest) = rest.split_once("```http\n").expect("a request");
        let (request, _) = rest.split_once("```").expect("an end");
        (yaml, Described::parse(yaml), Sent::parse(request))
    };
    pieces.map(example).collect()
}

#[test]
fn every_example_passes_and_only_as_it_stands() {
    let examples = examples();
    assert_eq!(examples.len(), 33, "the scan finds them");
    for (yaml, described, sent) in examples {
        let verifier = described.verifier();
        assert!(sent.verdict(&verifier).is_ok(), "{:?}: {yaml}", sent.verdict(&verifier));
        let others = described.verifier_with(|text| match text.strip_prefix("whsec_") {
            Some(_) => "whsec_YW5vdGhlciBzZWNyZXQgb2Ygb3Vycw==".to_owned(),
            None => format!("user:{OTHER}"),
        });
        assert!(sent.verdict(&others).is_err(), "another secret: {yaml}");
        let none = Sent { lines: Vec::new(), ..sent.clone() };
        if !yaml.contains("from: \"{json") {
            assert!(none.verdict(&verifier).is_err(), "nothing but a body: {yaml}");
        }
        let compiled = described.compile();
        if compiled.covers == providers::Covers::Body {
            let body = [&sent.body[..], b" "].concat();
            let touched = Sent { body, ..sent.clone() };
            assert!(touched.verdict(&verifier).is_err(), "a touched body: {yaml}");
        }
    }
}

proptest! {
    /// What can be signed forwards is believed, and is not any more once a bit of a covered body was turned.
    #[test]
    fn examples_that_sign_are_believed(bytes in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>()) {
        let mut signed = 0;
        for (yaml, described, sent) in examples() {
            let verifier = described.verifier();
            let mut request = Sent { target: "/hooks/x".into(), ..sent };
            let is_form = yaml.contains("{form");
            if !is_form && !yaml.contains("{json") && !yaml.contains("hash-sha256") {
                request.body.clone_from(&bytes);
            }
            request.lines.retain(|(name, _)| !name.to_lowercase().contains("signature") || name == "webhook-id" || name.contains("Signed"));
            if yaml.contains("{query:sha256}") {
                continue; // the digest of the body has to stand in the URL
            }
            let headers = request.headers();
            let presented = Presented {
                method: "POST", url: URL, target: &request.target, headers: &headers, body: &request.body,
                received_at: Timestamp::from_millis(NOW * 1000),
            };
            let Ok(added) = verifier.sign(&presented) else { continue };
            signed += 1;
            for (name, value) in added {
                request.lines.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_str()));
                request.lines.push((name.to_string(), value.to_str().expect("text").to_owned()));
            }
            let verdict = request.verdict(&verifier);
            prop_assert!(verdict.is_ok(), "{:?}: {:?} {}", verdict, request, yaml);
            if described.compile().covers == providers::Covers::Body {
                let bit = at.index(request.body.len() * 8);
                request.body[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(request.verdict(&verifier).is_err(), "{}", yaml);
            }
        }
        prop_assert_eq!(signed, 25);
    }
}

/// The verdict on a request with these headers and this body.
fn judged(described: &Described, lines: &[(&str, &str)], body: &[u8]) -> Result<usize, Reason> {
    let owned = lines.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let sent = Sent { target: "/hooks/x".into(), lines: owned, body: body.to_vec() };
    sent.verdict(&described.verifier())
}

fn body_mac() -> String {
    mac(SECRET, BODY)
}

#[test]
fn groups_have_their_own_times() {
    let described = Described::parse(
        "verify:\n  signature: { header: X-S, groups: ' ', split: ',', pair: '=', pick: v1 }\n  \
         signed: '{t}.{body}'\n  timestamp: { from: '{t}', past: 5m }",
    );
    let at = |time: i64| mac(SECRET, &[time.to_string().as_bytes(), b".", BODY].concat());
    let (now, old) = (at(NOW), at(NOW - 301));
    let check = |text: String| judged(&described, &[("X-S", &text)], BODY);
    assert_eq!(check(format!("t={NOW},v1={now}")), Ok(1));
    assert_eq!(check(format!("t=1,v1={now} t={NOW},v1={now}")), Ok(1));
    // A signature does not hold with the time of another group.
    assert_eq!(check(format!("t={NOW},v1={old} t={},v1={now}", NOW - 301)), Err(SignatureWrong));
    assert_eq!(check(format!("t={},v1={old} t={NOW},v1={now}", NOW - 301)), Err(TimestampPast));
    assert_eq!(check(format!("t={NOW},t={NOW},v1={now}")), Err(TimestampRepeated));
    assert_eq!(check(format!("t={NOW},v1={now} rubbish")), Err(SignatureMalformed));
    assert_eq!(check(format!("t={NOW},v1={now} t=1,v1={now}")), Ok(1));
    assert_eq!(check(format!("v1={now}")), Err(TimestampMissing));
    let five = [&*format!("t={NOW},v1={now}"); 5].join(" ");
    assert_eq!(check(five), Err(SignaturesTooMany));
}

#[test]
fn leading_elements_are_no_signatures() {
    let described = Described::parse(
        "verify:\n  signature: { header: X-S, split: ',', positional: [ts] }\n  \
         signed: '{ts}.{body}'\n  timestamp: { from: '{ts}', past: 5m }",
    );
    let good = mac(SECRET, &[NOW.to_string().as_bytes(), b".", BODY].concat());
    let check = |text: &str| judged(&described, &[("X-S", text)], BODY);
    assert_eq!(check(&format!("{NOW},{good}")), Ok(1));
    assert_eq!(check(&format!("{NOW},{},{good}", "0".repeat(64))), Ok(1));
    assert_eq!(check(&good), Err(SignatureMissing));
    assert_eq!(check(&format!("{good},{NOW}")), Err(SignatureMalformed));
    assert_eq!(check(&format!("{NOW},,{good}")), Err(SignatureMalformed));
}

#[test]
fn secrets_have_their_places_and_their_names() {
    let placed = Described::parse(
        "secret: [the first of two secrets, the other of two secrets]\nverify:\n  signature:\n    \
         - { header: A, secret_slot: 1 }\n    - { header: B, secret_slot: 2 }\n  signed: '{body}'",
    );
    let (first, other) =
        (mac("the first of two secrets", BODY), mac("the other of two secrets", BODY));
    let check = |lines: &[(&str, &str)]| judged(&placed, lines, BODY);
    assert_eq!(check(&[("A", &first)]), Ok(1));
    assert_eq!(check(&[("B", &other)]), Ok(2));
    assert_eq!(check(&[("A", &body_mac()), ("B", &other)]), Ok(2));
    assert_eq!(check(&[("A", &other), ("B", &first)]), Err(SignatureWrong));
    assert_eq!(check(&[]), Err(SignatureMissing));
    assert_eq!(check(&[("A", &first), ("A", &first)]), Err(HeaderRepeated));

    let named = Described::parse(
        "secret: { id: '17' }\nverify:\n  signature: { header: X-S, key_id: '{header:X-Key}' }\n  signed: '{body}'",
    );
    let good = body_mac();
    let check = |lines: &[(&str, &str)]| judged(&named, lines, BODY);
    assert_eq!(check(&[("X-S", &good), ("X-Key", "17")]), Ok(1));
    for key in ["18", "1", "", "017"] {
        assert_eq!(check(&[("X-S", &good), ("X-Key", key)]), Err(SignatureWrong), "{key}");
    }
    assert_eq!(check(&[("X-S", &good)]), Err(InputMissing));
    assert!(check(&[("X-S", &good), ("X-Key", "17"), ("X-Key", "18")]).is_err());
    let nameless = vec![LiveSecret { secret: Secret::new(SECRET), expires: None, id: None }];
    let problem = Verifier::new(named.compile().schemes, nameless, URL).err();
    assert_eq!(
        problem.as_deref(),
        Some("secret 1 has no `id`, by which requests name it: `{ file: …, id: … }`")
    );
}

#[test]
fn a_family_of_headers() {
    let described =
        Described::parse("verify:\n  signature: { header: 'X-S-*' }\n  signed: '{body}'");
    let (good, bad) = (body_mac(), "0".repeat(64));
    let check = |lines: &[(&str, &str)]| judged(&described, lines, BODY);
    assert_eq!(check(&[("X-S-1", &bad), ("X-S-2", &good)]), Ok(1));
    assert_eq!(check(&[("X-S-100", &good)]), Ok(1));
    for name in ["X-S-0", "X-S-101", "X-S-01", "X-S-", "X-S", "X-S-x", "X-S-1-1"] {
        assert_eq!(check(&[(name, &good)]), Err(SignatureMissing), "{name}");
    }
    assert_eq!(check(&[("X-S-1", &good), ("X-S-1", &good)]), Err(HeaderRepeated));
}

#[test]
fn every_item_must_hold() {
    let described = Described::parse(
        "verify:\n  for_each: 'list[*].item'\n  signature: { from: '{json:sig}' }\n  signed: '{json:id}:{json:n|default_empty}'",
    );
    let item = |id: &str, sig: &str| format!(r#"{{"item":{{"id":"{id}","n":5,"sig":"{sig}"}}}}"#);
    let good = |id: &str| item(id, &mac(SECRET, format!("{id}:5").as_bytes()));
    let check = |items: &[String]| {
        let body = format!(r#"{{"list":[{}]}}"#, items.join(","));
        judged(&described, &[], body.as_bytes())
    };
    assert_eq!(check(&[good("a")]), Ok(1));
    assert_eq!(check(&[good("a"), good("b c")]), Ok(1));
    let hundred: Vec<_> = (0..100).map(|n| good(&n.to_string())).collect();
    assert_eq!(check(&hundred), Ok(1));
    let more: Vec<_> = (0..101).map(|n| good(&n.to_string())).collect();
    assert_eq!(check(&more), Err(InputAmbiguous), "what is not looked at would pass unseen");
    assert_eq!(check(&[]), Err(SignatureMissing));
    let bad = item("a", &"0".repeat(64));
    for at in 0..3 {
        let mut items = vec![good("a"), good("b"), good("c")];
        items[at].clone_from(&bad);
        assert_eq!(check(&items), Err(SignatureWrong), "{at}");
        items[at] = r#"{"item":{"id":"a","n":5}}"#.into();
        assert_eq!(check(&items), Err(SignatureMissing), "{at}");
        items[at] = "{}".into();
        assert_eq!(check(&items), Err(SignatureMissing), "{at}");
    }
    // The separator cannot be moved from one value into the other.
    let moved = item("a:5", &mac(SECRET, b"a:5:5"));
    assert_eq!(check(&[moved]), Err(InputAmbiguous));
    for body in ["", "null", "[]", "{}", r#"{"list":{}}"#, r#"{"list":[],"list":[]}"#] {
        assert!(judged(&described, &[], body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn no_scheme_is_a_way_around_another() {
    let yaml = "verify:\n  signed: '{body}'\n  schemes:\n    \
        - { name: new, when: { header: X-New }, signature: { header: X-New } }\n    \
        - { name: old, signature: { header: X-Old } }\n";
    let both = Described::parse(yaml);
    let (good, bad) = (body_mac(), "0".repeat(64));
    assert_eq!(judged(&both, &[("X-New", &good)], BODY), Ok(1));
    assert_eq!(judged(&both, &[("X-Old", &good)], BODY), Ok(1));
    assert_eq!(judged(&both, &[("X-New", &bad), ("X-Old", &good)], BODY), Err(SignatureWrong));
    assert_eq!(judged(&both, &[("X-New", ""), ("X-Old", &good)], BODY), Err(SignatureMissing));
    let pinned = Described::parse(&format!("pin: new\n{yaml}"));
    assert_eq!(judged(&pinned, &[("X-New", &good)], BODY), Ok(1));
    assert_eq!(judged(&pinned, &[("X-Old", &good)], BODY), Err(SignatureMissing));
}

#[test]
fn alternatives_are_chosen_by_what_is_there() {
    let chosen = |when: &str, lines: &[(&str, &str)], target: &str, body: &str| {
        let described = Described::parse(&format!(
            "verify:\n  signed: '{{body}}'\n  schemes:\n    - {{ when: {when}, signature: {{ header: A }} }}\n    - {{ signature: {{ header: B }} }}"
        ));
        let good = mac(SECRET, body.as_bytes());
        let lines = lines.iter().copied().chain([("A", &*good)]);
        let lines = lines.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let sent = Sent { target: target.into(), lines, body: body.into() };
        sent.verdict(&described.verifier()).is_ok()
    };
    let here = "/hooks/x";
    for (when, lines, target, body, is) in [
        ("{ header: X-V }", &[("X-V", "")][..], here, "{}", true),
        ("{ header: X-V }", &[], here, "{}", false),
        ("{ header_equals: { X-V: v2 } }", &[("X-V", "v2")], here, "{}", true),
        ("{ header_equals: { X-V: v2 } }", &[("X-V", "V2")], here, "{}", false),
        ("{ header_equals: { X-V: v2 } }", &[("X-V", "v2"), ("X-V", "v2")], here, "{}", false),
        ("{ header_prefix: { X-V: v2= } }", &[("X-V", "v2=ab")], here, "{}", true),
        ("{ header_prefix: { X-V: v2= } }", &[("X-V", "v2")], here, "{}", false),
        (
            "{ header_prefix: { X-V: v2= } }",
            &[("X-V", "v1=ab"), ("X-V", "v2=ab")],
            here,
            "{}",
            false,
        ),
        ("{ query: sum }", &[], "/hooks/x?a=1&sum=", "{}", true),
        ("{ query: sum }", &[], "/hooks/x?sums=1", "{}", false),
        (
            "{ content_type: application/json }",
            &[("Content-Type", "Application/JSON; charset=utf-8")],
            here,
            "{}",
            true,
        ),
        (
            "{ content_type: application/json }",
            &[("Content-Type", "application/jsonx")],
            here,
            "{}",
            false,
        ),
        ("{ content_type: application/json }", &[], here, "{}", false),
        ("{ json: { kind: batch } }", &[], here, r#"{"kind":"batch"}"#, true),
        ("{ json: { kind: batch } }", &[], here, r#"{"kind":"one"}"#, false),
        ("{ json: { kind: batch } }", &[], here, "kind=batch", false),
        ("{ header: X-V, query: sum }", &[("X-V", "1")], here, "{}", false),
        ("{ header: X-V, query: sum }", &[("X-V", "1")], "/hooks/x?sum=1", "{}", true),
    ] {
        assert_eq!(chosen(when, lines, target, body), is, "{when} {lines:?} {target} {body}");
    }
}

#[test]
fn a_digest_over_the_secret_cannot_be_continued() {
    let described = Described::parse(
        "verify:\n  mac: hash-sha256\n  signature: { header: X-S }\n  signed: '{secret}{body}'",
    );
    let sign = |body: &[u8]| {
        let text = [SECRET.as_bytes(), body].concat();
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text))
    };
    assert_eq!(judged(&described, &[("X-S", &sign(BODY))], BODY), Ok(1));
    // What SHA-256 pads a text with begins with 0x80, which is no UTF-8 behind a text that is. Its digest is right.
    let continued = [BODY, b"\x80\0\0\0 and more"].concat();
    let verdict = judged(&described, &[("X-S", &sign(&continued))], &continued);
    assert_eq!(verdict, Err(InputAmbiguous));
    let keyed = body_mac();
    assert_eq!(judged(&described, &[("X-S", &keyed)], BODY), Err(SignatureWrong));
}

#[test]
fn times_in_the_forms_that_providers_use() {
    let check = |unit: &str, time: &str| {
        let described = Described::parse(&format!(
            "verify:\n  signature: {{ header: X-S }}\n  signed: '{{body}}{{header:X-T}}'\n  \
             timestamp: {{ from: '{{header:X-T}}', unit: {unit}, past: 5m, future: 10s }}"
        ));
        let good = mac(SECRET, &[BODY, time.as_bytes()].concat());
        judged(&described, &[("X-T", time), ("X-S", &good)], BODY).map(drop)
    };
    for (unit, time, verdict) in [
        ("http_date", "Thu, 09 Oct 2025 08:53:20 GMT", Ok(())),
        ("http_date", "Thu, 09 Oct 2025 08:48:20 GMT", Ok(())),
        ("http_date", "Thu, 09 Oct 2025 08:48:19 GMT", Err(TimestampPast)),
        ("http_date", "Fri, 09 Oct 2025 08:53:20 GMT", Err(TimestampMalformed)),
        ("http_date", "Thu, 9 Oct 2025 08:53:20 GMT", Err(TimestampMalformed)),
        ("http_date", "thu, 09 oct 2025 08:53:20 gmt", Err(TimestampMalformed)),
        ("http_date", "Thu, 09 Oct 2025 08:53:20 +0000", Err(TimestampMalformed)),
        ("http_date", "Thursday, 09-Oct-25 08:53:20 GMT", Err(TimestampMalformed)),
        ("http_date", "1760000000", Err(TimestampMalformed)),
        ("auto", "1760000000", Ok(())),
        ("auto", "1760000000000", Ok(())),
        ("auto", "1759999700", Ok(())),
        ("auto", "1759999699", Err(TimestampPast)),
        ("auto", "1759999699999", Err(TimestampPast)),
        ("auto", "01760000000", Err(TimestampMalformed)),
        ("auto", "17600000000", Err(Reason::TimestampFuture)),
        ("rfc3339", "2025-10-09T01:53:20.123456789-07:00", Ok(())),
    ] {
        assert_eq!(check(unit, time), verdict, "{unit} {time}");
    }
}

#[test]
fn forms_of_both_kinds() {
    let described = Described::parse(
        "verify:\n  signature: { from: '{form:sig}' }\n  signed: '{formjson:json/t}{formjson:json/k}'",
    );
    let good = mac(SECRET, b"5event");
    let json = r#"{"t":5,"k":"event"}"#;
    let part = |name: &str, text: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let whole = |parts: &[String]| format!("{}--b--\r\n", parts.concat());
    let multi = "multipart/form-data; boundary=b";
    let check = |body: &str| judged(&described, &[("Content-Type", multi)], body.as_bytes());
    let (sig, json_part) = (part("sig", &good), part("json", json));
    assert_eq!(check(&whole(&[sig.clone(), json_part.clone()])), Ok(1));
    for (what, body) in [
        ("twice", whole(&[sig.clone(), sig.clone(), json_part.clone()])),
        ("an opening", format!("x\r\n{}", whole(&[sig.clone(), json_part.clone()]))),
        ("no end", [sig.clone(), json_part.clone()].concat()),
        ("another end", format!("{}x", whole(&[sig.clone(), json_part.clone()]))),
        ("bare line feeds", whole(&[sig.clone(), json_part.clone()]).replace("\r\n", "\n")),
        ("no name", whole(&[sig.clone(), json_part.replace("; name=\"json\"", "")])),
        ("another name", whole(&[sig.clone(), json_part.replace("\"json\"", "\"jso\"")])),
        ("two names", whole(&[sig.clone(), json_part.replace("name=", "name=\"a\"; name=")])),
        ("nothing", String::new()),
    ] {
        assert!(check(&body).is_err(), "{what}");
    }
    let form = format!("sig={good}&json=%7B%22t%22:5,%22k%22:%22event%22%7D");
    let urlencoded = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(judged(&described, &urlencoded, form.as_bytes()), Ok(1));

    let joined =
        Described::parse("verify:\n  signature: { header: X-S }\n  signed: '{form|sorted_concat}'");
    let lossy = mac(SECRET, "a\u{fffd}".as_bytes());
    let lines = [urlencoded[0], ("X-S", &*lossy)];
    assert_eq!(judged(&joined, &lines, b"a=%ff"), Err(InputAmbiguous), "other bytes read the same");
}

#[test]
fn signed_headers_must_name_themselves_and_the_time() {
    let described = Described::parse(
        "verify:\n  signature: { header: X-S }\n  signed: '{signed_headers:X-List}.{body}'\n  \
         timestamp: { from: '{header:X-T}', unit: s, past: 5m }",
    );
    let check = |list: &str, signed: &str| {
        let text = [signed.as_bytes(), b".", BODY].concat();
        let lines =
            [("X-List", list), ("X-T", "1760000000"), ("X-A", "1"), ("X-S", &mac(SECRET, &text))];
        judged(&described, &lines, BODY).map(drop)
    };
    let list = "x-list,x-t,x-a";
    assert_eq!(check(list, &format!("x-a:1;x-list:{list};x-t:1760000000")), Ok(()));
    assert_eq!(check("x-a,x-t", "x-a:1;x-t:1760000000"), Err(InputAmbiguous));
    assert_eq!(check("x-list,x-a", "x-a:1;x-list:x-list,x-a"), Err(TimestampMissing));
    assert_eq!(check("x-list,x-t,x-b", ""), Err(InputMissing));
}

#[test]
fn requirements_are_looked_at_after_the_signature() {
    let described = Described::parse(
        "verify:\n  signature: { header: X-S }\n  signed: '{body}'\n  require: [{ left: '{header:X-V}', right: '1' }]",
    );
    let (good, bad) = (body_mac(), "0".repeat(64));
    assert_eq!(judged(&described, &[("X-S", &good), ("X-V", "1")], BODY), Ok(1));
    assert_eq!(judged(&described, &[("X-S", &good), ("X-V", "2")], BODY), Err(RequirementFailed));
    assert_eq!(judged(&described, &[("X-S", &good)], BODY), Err(RequirementFailed));
    assert_eq!(judged(&described, &[("X-S", &bad), ("X-V", "2")], BODY), Err(SignatureWrong));
}

#[test]
fn digests_and_encodings_in_templates() {
    let check = |template: &str, text: &str| {
        let described = Described::parse(&format!(
            "verify:\n  signature: {{ header: X-S }}\n  signed: '{{body}}.{template}'"
        ));
        let good = mac(SECRET, &[BODY, b".", text.as_bytes()].concat());
        let lines = [("X-S", &*good), ("X-V", "aGVsbG8="), ("X-W", "hello")];
        assert_eq!(judged(&described, &lines, BODY), Ok(1), "{template}");
    };
    check("{header:X-V|base64_decode}", "hello");
    check("{header:X-W|base64}", "aGVsbG8=");
    check("{header:X-W|crc32}", "907060870");
    check(
        "{header:X-W|sha512_hex}",
        "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043",
    );
    check("{json:$key0}", "id");
    check("{json:$key0!id}", "type");
    check("{json:$key0!id!type|default_empty}", "");
}
