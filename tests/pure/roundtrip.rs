//! What we sign the way a provider would is believed; the same with any one bit turned is not.

use gatepost::verify::{Presented, Verifier};
use http::{HeaderMap, HeaderValue};
use proptest::{collection::vec, prelude::*, sample::Index, string::string_regex};
use serde_json::Map;

use crate::source::{compiled, custom, headers, presented, verifier};

const NOW: i64 = 1_700_000_000;
const SIGNING: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";

/// A source: name, secret, headers that are signed over besides, and whether the body is.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], bool);

const SOURCES: [Row; 13] = [
    ("github", "a secret of github", &[], true),
    ("gitlab", SIGNING, &[("webhook-id", "msg_1")], true),
    ("gitlab", "a plain secret token", &[], false),
    ("linear", "lin_wh_a_secret", &[], true),
    ("paddle", "pdl_ntfset_a_secret", &[], true),
    ("shopify", "a client secret", &[], true),
    ("slack", "8f742231b10e8888abcd99yyyzzz85a5", &[], true),
    ("square", "a signature key", &[], true),
    ("standard-webhooks", SIGNING, &[("webhook-id", "msg_1")], true),
    ("stripe", "whsec_a_secret", &[], true),
    ("svix", SIGNING, &[("svix-id", "msg_1")], true),
    ("svix", SIGNING, &[("webhook-id", "msg_1")], true),
    ("basic", "user:password", &[], false),
];

fn verifier_of(provider: &str, secret: &str) -> Verifier {
    let compiled = match provider {
        "basic" => custom("verify: { mac: basic }"),
        _ => compiled(provider),
    };
    verifier(compiled, &[secret]).expect("a verifier")
}

fn signed(verifier: &Verifier, lines: &[(&str, &str)], body: &[u8]) -> HeaderMap {
    let mut all = headers(lines);
    let added = verifier.sign(&presented(&all, body, NOW)).expect("signed");
    all.extend(added);
    all
}

/// Linear's bodies hold their time; the rest may be anything.
fn body_for(provider: &str, bytes: Vec<u8>) -> Vec<u8> {
    if provider == "linear" {
        let note = hex::encode(bytes);
        format!(r#"{{"webhookTimestamp":{NOW}000,"note":"{note}"}}"#).into_bytes()
    } else {
        bytes
    }
}

fn turn(bytes: &mut [u8], at: Index) {
    let bit = at.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn signed_is_believed_and_touched_is_not(
        bytes in vec(any::<u8>(), 1..600),
        at in any::<Index>(),
        which in any::<Index>(),
    ) {
        for (provider, secret, lines, is_covered) in SOURCES {
            let verifier = verifier_of(provider, secret);
            let mut body = body_for(provider, bytes.clone());
            let mut signed = signed(&verifier, lines, &body);
            let verify = |headers: &HeaderMap, body: &[u8]| {
                verifier.verify(&presented(headers, body, NOW))
            };
            prop_assert_eq!(verify(&signed, &body).map(|p| p.slot), Ok(1), "{}", provider);

            turn(&mut body, at);
            let verdict = verify(&signed, &body);
            prop_assert_eq!(verdict.is_ok(), !is_covered, "{}: a bit of the body", provider);
            turn(&mut body, at);

            let name = signed.keys().nth(which.index(signed.keys_len())).expect("one").clone();
            let mut value = signed[&name].as_bytes().to_vec();
            turn(&mut value, at);
            // `Basic` has no case, and some turned bytes cannot stand in a header at all.
            if provider != "basic" && let Ok(value) = HeaderValue::from_bytes(&value) {
                signed.insert(name.clone(), value);
                prop_assert!(verify(&signed, &body).is_err(), "{}: a bit of {}", provider, name);
            }
        }
    }

    /// Whatever stands where a signature should, the answer is a reason.
    #[test]
    fn rubbish_is_refused_without_a_panic(
        rubbish in vec(prop_oneof![any::<u8>(), prop::sample::select(b",;= \t.:v1t0f".to_vec())], 0..300),
        text in string_regex("(t=[0-9]{0,20}|v1=[0-9a-f]{0,70}|v1,[A-Za-z+/=]{0,90}|ts=1|h1=|[,; ]){0,20}").expect("a pattern"),
    ) {
        for (provider, secret, ..) in SOURCES {
            let verifier = verifier_of(provider, secret);
            for value in [rubbish.as_slice(), text.as_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(value) else { continue };
                let names = ["stripe-signature", "webhook-signature", "paddle-signature",
                    "x-slack-signature", "x-hub-signature-256", "x-shopify-hmac-sha256",
                    "x-square-hmacsha256-signature", "linear-signature", "svix-signature",
                    "webhook-timestamp", "svix-timestamp", "webhook-id", "svix-id",
                    "x-slack-request-timestamp", "authorization", "x-gitlab-token"];
                let all: HeaderMap = names
                    .iter()
                    .map(|name| (http::HeaderName::from_static(name), value.clone()))
                    .collect();
                prop_assert!(verifier.verify(&presented(&all, &rubbish, NOW)).is_err());
            }
        }
    }
}

/// What the sender's own library would have sent.
#[test]
fn signatures_look_like_the_providers_own() {
    let header = |provider: &str, secret: &str, lines: &[(&str, &str)], name: &str| {
        let headers = signed(&verifier_of(provider, secret), lines, b"{}");
        headers[name].to_str().expect("text").to_owned()
    };
    let stripe = header("stripe", "whsec_a_secret", &[], "stripe-signature");
    assert!(stripe.starts_with("t=1700000000,v1=") && stripe.len() == 16 + 64, "{stripe}");
    let paddle = header("paddle", "pdl_ntfset_a_secret", &[], "paddle-signature");
    assert!(paddle.starts_with("ts=1700000000;h1="), "{paddle}");
    let id = [("webhook-id", "msg_1")];
    let standard = header("standard-webhooks", SIGNING, &id, "webhook-signature");
    assert!(standard.starts_with("v1,") && standard.len() == 3 + 44, "{standard}");
    assert_eq!(header("standard-webhooks", SIGNING, &id, "webhook-timestamp"), "1700000000");
    let slack = header("slack", "8f742231b10e8888abcd99yyyzzz85a5", &[], "x-slack-signature");
    assert!(slack.starts_with("v0="), "{slack}");
    assert_eq!(
        header("gitlab", "a plain secret token", &[], "x-gitlab-token"),
        "a plain secret token"
    );
    assert_eq!(
        header("basic", "user:password", &[], "authorization"),
        "Basic dXNlcjpwYXNzd29yZA=="
    );
}

#[test]
fn what_cannot_be_signed_is_said() {
    let none = headers::<&str>(&[]);
    let standard = verifier_of("standard-webhooks", SIGNING);
    let problem = standard.sign(&presented(&none, b"{}", NOW)).unwrap_err();
    assert_eq!(problem, "the signature covers headers that are not there: webhook-id");
    let inside =
        custom("verify: { signature: { from: '{json:signature}' }, signed: '{json:token}' }");
    let inside = verifier(inside, &["a secret"]).expect("a verifier");
    let problem = inside.sign(&presented(&none, br#"{"token":"x"}"#, NOW)).unwrap_err();
    assert_eq!(problem, "the signature is not in a header, so it cannot be added to a body");
}

/// Schemes whose signature is in the body: what is signed there is believed, and a changed field is not.
#[test]
fn signatures_inside_of_bodies() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const JSON: (&str, &str) = ("content-type", "application/json");
    for (verify, secret, kind, body, field, other) in [
        (
            "{ signature: { from: '{json:s.sig}' }, signed: '{json:s.time}{json:s.token}', timestamp: { from: '{json:s.time}', past: 5m } }",
            "a secret",
            JSON,
            r#"{"id":"1"}"#,
            "\"token\":\"",
            "\"token\":\"x",
        ),
        (
            "{ for_each: 'list[*].item', signature: { from: '{json:more.sig}', encoding: base64 }, signed: '{json:id}:{json:n|default_empty}' }",
            "a secret",
            JSON,
            r#"{"list":[{"item":{"id":"a","n":5}},{"item":{"id":"b"}}]}"#,
            "\"id\":\"b\"",
            "\"id\":\"c\"",
        ),
        (
            "{ mac: hmac-sha1, key: { digest: sha1 }, signature: { from: '{form:sig}', split: '&', pair: '|', pick: public }, signed: ['{form:payload}', '{form:payload}\n'] }",
            "a secret",
            FORM,
            "payload=eyJpZCI6MX0%3D",
            "payload=e",
            "payload=f",
        ),
        (
            "{ signature: { from: '{formjson:json/event.hash}' }, signed: '{formjson:json/event.time}{formjson:json/event.kind}' }",
            "a secret",
            FORM,
            "json=%7B%22event%22%3A%7B%22time%22%3A%221%22%2C%22kind%22%3A%22sent%22%7D%7D",
            "sent",
            "seen",
        ),
    ] {
        let verifier =
            verifier(custom(&format!("verify: {verify}")), &[secret]).expect("a verifier");
        let headers = headers(&[kind]);
        let request = presented(&headers, body.as_bytes(), NOW);
        let signed = verifier.sign_whole(&request, &Map::new()).expect(verify);
        assert!(signed.headers.is_empty(), "{verify}");
        let body = String::from_utf8(signed.body.expect("a body")).unwrap();
        let verdict = |body: &str| verifier.verify(&presented(&headers, body.as_bytes(), NOW));
        assert!(verdict(&body).is_ok(), "{:?}: {body} by {verify}", verdict(&body));
        assert!(body.contains(field), "{body}");
        assert!(verdict(&body.replacen(field, other, 1)).is_err(), "{body} by {verify}");
    }
    // No body holds a signature of all of it.
    let whole = custom("verify: { signature: { from: '{json:sig}' }, signed: '{body}' }");
    let whole = verifier(whole, &["a secret"]).expect("a verifier");
    let headers = headers(&[JSON]);
    assert!(whole.sign_whole(&presented(&headers, b"{}", NOW), &Map::new()).is_err());
}

/// What is signed in a query, and secrets that are shown in a body or in a query: believed there, and covered when they are printed.
#[test]
fn signatures_in_queries_and_secrets_in_bodies() {
    const SECRET: &str = "a secret & more";
    for (verify, body, shown) in [
        ("{ signature: { from: '{query:sig}' }, signed: '{body}' }", "{}", false),
        ("{ mac: token, signature: { from: '{query:code}' } }", "{}", true),
        ("{ mac: token, signature: { from: '{json:more.passcode}' } }", r#"{"id":"1"}"#, true),
        (
            "{ mac: token, for_each: 'value[*]', signature: { from: '{json:state}' } }",
            r#"{"value":[{"id":"1"},{"id":"2","state":"x"}]}"#,
            true,
        ),
    ] {
        let verifier = verifier(custom(&format!("verify: {verify}")), &[SECRET]).expect("one");
        let none = headers::<&str>(&[]);
        let bare = presented(&none, body.as_bytes(), NOW);
        assert!(verifier.verify(&bare).is_err(), "{verify}");
        assert!(verifier.sign(&bare).is_err(), "headers do not carry it: {verify}");
        let signed = verifier.sign_whole(&bare, &Map::new()).expect(verify);
        let target = signed.query.as_ref().map_or("/x".to_owned(), |query| format!("/x?{query}"));
        let body = signed.body.as_deref().unwrap_or(body.as_bytes());
        let whole = Presented { target: &target, body, ..bare };
        assert!(verifier.verify(&whole).is_ok(), "{verify}: {target}");
        let hidden = verifier.conceal(&whole);
        let text = format!(
            "{}{}",
            hidden.query.unwrap_or_default(),
            String::from_utf8_lossy(&hidden.body.unwrap_or_default())
        );
        assert_eq!(text.is_empty(), !shown, "{verify}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn what_a_scheme_wants_besides_is_put_there() {
    let verify = "verify: { signature: { header: X-Sig }, signed: '{body}', \
        require: [{ left: '{json:client.id}', right: c-1 }, { left: '{header:X-Version}', right: '2' }], \
        schemes: [{ when: { json: { v: one } } }] }";
    let verifier = verifier(custom(verify), &["a secret"]).expect("a verifier");
    let none = headers::<&str>(&[]);
    let bare = presented(&none, br#"{"id":"1"}"#, NOW);
    let signed = verifier.sign_whole(&bare, &Map::new()).expect("signed");
    let body = signed.body.as_deref().expect("a body");
    assert_eq!(String::from_utf8_lossy(body), r#"{"client":{"id":"c-1"},"id":"1","v":"one"}"#);
    let mut headers = HeaderMap::new();
    signed.put_into(&mut headers);
    assert!(verifier.verify(&presented(&headers, body, NOW)).is_ok());
    // What goes out with an event that came is never changed.
    assert!(verifier.sign(&bare).is_err());
    assert!(verifier.sign(&presented(&none, body, NOW)).is_ok());
}
