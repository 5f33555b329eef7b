//! What came is not what was signed: each form that a body is written in on its way is undone, and said. Nothing is tried that cannot be.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha384;

use super::{PLAIN, header, run, text};
use crate::{
    STRIPE,
    world::{
        Provider,
        gateway::{write_private, yaml},
        provider::{Headers, now, stripe_event},
    },
};

const SHOP: &str = "shop-secret-0123456789abcdef";

/// A configuration with these sources, of which the first has a route.
fn config(dir: &Path, sources: &str) -> PathBuf {
    let first = sources.split(':').next().unwrap().trim();
    let routes = format!(
        "routes: [ {{ source: {first}, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n"
    );
    let file = dir.join("gatepost.yaml");
    let public = "server: { public_url: \"https://hooks.example.com\",";
    let whole = yaml(dir, &format!("sources:\n{sources}\n{routes}"));
    write_private(&file, &whole.replace("server: {", public));
    file
}

fn stripe(dir: &Path) -> PathBuf {
    config(dir, &format!("  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}"))
}

/// One event, as writers of JSON write it: what each is called, its bytes, and what they are as said of a signed body.
const WRITTEN: [(&str, &str, &str); 8] = [
    (
        "JSON.stringify",
        r#"{"id":"evt_1","type":"a.b","name":"Zoë 😀","url":"https://example.com/?a=1&b=<2>","text":"a\"b\\/c\nd","none":[],"n":{"a":[1.50,true]}}"#,
        "as compact JSON",
    ),
    (
        "json.dumps",
        r#"{"id": "evt_1", "type": "a.b", "name": "Zo\u00eb \ud83d\ude00", "url": "https://example.com/?a=1&b=<2>", "text": "a\"b\\/c\nd", "none": [], "n": {"a": [1.50, true]}}"#,
        "as JSON with a space behind `,` and `:`, non-ASCII as `\\uXXXX`",
    ),
    (
        "json.dumps, compact",
        r#"{"id":"evt_1","type":"a.b","name":"Zo\u00eb \ud83d\ude00","url":"https://example.com/?a=1&b=<2>","text":"a\"b\\/c\nd","none":[],"n":{"a":[1.50,true]}}"#,
        "as compact JSON, non-ASCII as `\\uXXXX`",
    ),
    (
        "json.dumps, ensure_ascii=False",
        r#"{"id": "evt_1", "type": "a.b", "name": "Zoë 😀", "url": "https://example.com/?a=1&b=<2>", "text": "a\"b\\/c\nd", "none": [], "n": {"a": [1.50, true]}}"#,
        "as JSON with a space behind `,` and `:`",
    ),
    (
        "json_encode",
        r#"{"id":"evt_1","type":"a.b","name":"Zo\u00eb \ud83d\ude00","url":"https:\/\/example.com\/?a=1&b=<2>","text":"a\"b\\\/c\nd","none":[],"n":{"a":[1.50,true]}}"#,
        "as compact JSON, non-ASCII as `\\uXXXX` and `/` as `\\/`",
    ),
    (
        "json_encode, JSON_UNESCAPED_UNICODE",
        r#"{"id":"evt_1","type":"a.b","name":"Zoë 😀","url":"https:\/\/example.com\/?a=1&b=<2>","text":"a\"b\\\/c\nd","none":[],"n":{"a":[1.50,true]}}"#,
        "as compact JSON, `/` as `\\/`",
    ),
    (
        "json.Marshal",
        r#"{"id":"evt_1","type":"a.b","name":"Zoë 😀","url":"https://example.com/?a=1\u0026b=\u003c2\u003e","text":"a\"b\\/c\nd","none":[],"n":{"a":[1.50,true]}}"#,
        "as compact JSON, `<`, `>` and `&` as `\\uXXXX`",
    ),
    (
        "JSON.stringify, indented",
        "{\n  \"id\": \"evt_1\",\n  \"type\": \"a.b\",\n  \"name\": \"Zoë 😀\",\n  \"url\": \"https://example.com/?a=1&b=<2>\",\n  \"text\": \"a\\\"b\\\\/c\\nd\",\n  \"none\": [],\n  \"n\": {\n    \"a\": [\n      1.50,\n      true\n    ]\n  }\n}",
        "as JSON indented by 2",
    ),
];

/// Whichever writer signed, and whichever wrote it anew.
#[test]
fn json_that_was_written_anew_is_known_by_what_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let config = stripe(dir.path());
    let mut wrong = String::new();
    for (signer, signed, called) in WRITTEN {
        let headers = Provider::Stripe(STRIPE).sign("", "", signed.as_bytes());
        for (writer, received, _) in WRITTEN.iter().filter(|(writer, ..)| *writer != signer) {
            let (code, said) = run(&config, &text("/stripe", &headers, received.as_bytes()), &[]);
            assert_eq!(code, Some(1), "{said}");
            let expected = format!("what was signed is the body {called}. ");
            if !said.lines().last().unwrap().contains(&expected) {
                wrong += &format!("signed by {signer}, received from {writer}:\n{said}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a text cannot be without stays escaped: otherwise it would be another document, or none.
#[test]
fn escapes_that_a_text_needs_stay() {
    let dir = tempfile::tempdir().unwrap();
    let config = stripe(dir.path());
    for (received, signed) in [
        (
            r#"{"a":"\u0000\u001f \u0022 \u005c \ud800 \ud800\u0041 é"}"#,
            r#"{"a":"\u0000\u001f \" \\ \ud800 \ud800A \u00e9"}"#,
        ),
        (r#"{"a": "\b\f\n\r\t\"\\\/\u00E9\\u00e9"}"#, r#"{"a":"\b\f\n\r\t\"\\/é\\u00e9"}"#),
    ] {
        let headers = Provider::Stripe(STRIPE).sign("", "", signed.as_bytes());
        let (_, said) = run(&config, &text("/stripe", &headers, received.as_bytes()), &[]);
        assert!(said.contains("what was signed is the body as"), "{received}: {said}");
    }
}

#[test]
fn charsets_that_were_changed_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = stripe(dir.path());
    let utf8 = r#"{"id":"evt_1","name":"Zoë"}"#.as_bytes();
    let latin: Vec<u8> = utf8
        .iter()
        .copied()
        .filter(|byte| *byte != 0xc3)
        .map(|byte| if byte == 0xab { 0xeb } else { byte })
        .collect();
    let twice = r#"{"id":"evt_1","name":"ZoÃ«"}"#.as_bytes();
    for (signed, received, why) in [
        (utf8, &latin[..], "the body in UTF-8 (it came in ISO 8859-1)"),
        (&latin, utf8, "the body in ISO 8859-1"),
        (utf8, twice, "the body in UTF-8 (it was encoded twice)"),
    ] {
        let headers = Provider::Stripe(STRIPE).sign("", "", signed);
        let (code, said) = run(&config, &text("/stripe", &headers, received), &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.lines().last().unwrap().contains(why), "{why}: {said}");
    }
}

/// A body of another length than the sender said is another body, whatever the rest is.
#[test]
fn a_length_that_differs_is_the_verdict_where_the_body_is_covered() {
    let dir = tempfile::tempdir().unwrap();
    let sources = format!(
        "  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  telegram: {{ provider: telegram, secret: \"{SHOP}\" }}"
    );
    let config = config(dir.path(), &sources);
    let sent = stripe_event("evt_1", "invoice.paid");
    let came = br#"{"id":"evt_1","rewritten":true}"#;
    let length = ("Content-Length".to_owned(), sent.len().to_string());
    let mut headers = Provider::Stripe(STRIPE).sign("", "", &sent);
    headers.push(length.clone());
    let (_, said) = run(&config, &text("/stripe", &headers, came), &[]);
    let why = format!(
        "=> The body was changed on the way: `Content-Length` says {} bytes, and {} are here.",
        sent.len(),
        came.len()
    );
    assert!(said.lines().last().unwrap().starts_with(&why), "{said}");
    let token = vec![("X-Telegram-Bot-Api-Secret-Token".to_owned(), "another".to_owned()), length];
    let (_, said) = run(&config, &text("/telegram", &token, came), &[]);
    assert!(!said.lines().last().unwrap().contains("body"), "{said}");
}

/// Shown whether or not the signature matches: a request of last week is one, whatever else is wrong with it.
#[test]
fn scheme_and_signed_time_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let config = stripe(dir.path());
    let body = stripe_event("evt_1", "invoice.paid");
    let ask = |secret: &'static str, time: u64, more: &[&str]| {
        let headers = Provider::Stripe(secret).sign_at(time, "", "", &body);
        run(&config, &text("/stripe", &headers, &body), more).1
    };
    let at = ["--at", "2023-11-14T22:13:50Z"];
    let good = ask(STRIPE, 1_700_000_000, &at);
    assert!(
        good.lines().next().unwrap().ends_with(", scheme hmac-sha256 over \"{t}.{body}\""),
        "{good}"
    );
    let line = |said: &str| {
        let line = said.lines().find(|line| line.contains("signed time")).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(line(&good).ends_with("2023-11-14T22:13:20.000Z, 30s ago (limit 5m)"), "{good}");
    let nobody = "whsec_nobody_knows_this_one_012345";
    let forged = ask(nobody, 1_700_000_000, &at);
    assert_eq!(line(&forged), line(&good));
    assert!(!forged.lines().last().unwrap().contains("Besides"), "{forged}");
    let old = ask(nobody, now() - 7200, &[]);
    assert!(line(&old).contains("2h") && line(&old).ends_with("ago: too far (limit 5m)"), "{old}");
    assert!(
        old.lines().last().unwrap().contains("Besides, its time is too far from ours: 2h"),
        "{old}"
    );
    let ahead = ask(nobody, now() + 7200, &["--json"]);
    let json: Value = serde_json::from_str(&ahead).unwrap();
    assert_eq!(json["scheme"], "hmac-sha256 over \"{t}.{body}\"");
    assert!(json["verdict"].as_str().unwrap().contains("ahead"), "{ahead}");
}

/// A request that is a vector, and its keys.
fn vector(provider: &str, name: &str) -> (Headers, Vec<u8>, Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/asymmetric.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let is_it = |vector: &&Value| vector["provider"] == provider && vector["name"] == name;
    let found = all.as_array().unwrap().iter().find(is_it).expect("a vector");
    let headers = found["headers"].as_object().unwrap().iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    let body = STANDARD.decode(found["body_base64"].as_str().unwrap()).unwrap();
    (headers.collect(), body, found["keys"].clone())
}

/// Nothing is tried that the scheme cannot have: no bodies where none is signed, no shared secrets where the key is public.
#[test]
fn only_what_may_be_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (headers, body, keys) = vector("discord", "wrong_key");
    let sources = format!(
        "  discord: {{ provider: discord, secret: {} }}\n  telegram: {{ provider: telegram, secret: \"{SHOP}\" }}",
        keys["public_key_hex"]
    );
    let config = config(dir.path(), &sources);
    let (code, said) =
        run(&config, &text("/discord", &headers, &body), &["--at", "2023-11-14T22:13:20Z"]);
    assert_eq!(code, Some(1), "{said}");
    for other in ["whsec_", "hmac", "sha256=", "ecret did not", "another secret", "secrets as"] {
        assert!(!said.contains(other), "{other} in {said}");
    }
    let verdict = "=> The signature does not fit the public key, and nothing that was tried explains it: most likely it is another key, or the \
                   body was changed.";
    assert!(said.lines().last().unwrap().starts_with(verdict), "{said}");
    assert!(
        said.contains("  public key #1 ") && said.contains("body with a newline added"),
        "{said}"
    );
    let token = header("X-Telegram-Bot-Api-Secret-Token", "another");
    let (code, said) = run(&config, &text("/telegram", &token, &body), &[]);
    assert_eq!(code, Some(1), "{said}");
    for other in ["body", "whsec_", "hmac", "base64", "algorithm"] {
        assert!(!said.contains(other), "{other} in {said}");
    }
    assert!(said.contains("most likely it is another secret."), "{said}");
    assert!(said.contains("scheme token, which covers nothing"), "{said}");
    // Where nothing is signed there is nothing to be tried either.
    let (_, said) = run(&config, &text("/discord", &header("X-Other", "x"), &body), &[]);
    assert!(!said.contains("body with"), "{said}");
}

/// A key that is published is not fetched by the doctor, which says where it is, and what to do with it.
#[test]
fn a_key_that_is_published_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (headers, body, keys) = vector("aws-sns", "v2_no_subject_ok");
    let (url, certificate) = keys["certs_by_url"].as_object().unwrap().iter().next().unwrap();
    let file = dir.path().join("sns.pem");
    write_private(&file, certificate.as_str().unwrap());
    let sns =
        "provider: aws-sns, params: { topic: \"arn:aws:sns:us-east-1:123456789012:MyTopic\" }";
    let sources = format!(
        "  sns: {{ {sns} }}\n  pinned: {{ {sns}, secret: {{ file: \"{}\" }} }}",
        file.display()
    );
    let config = config(dir.path(), &sources);
    let at = ["--at", "2023-11-14T22:13:21Z"];
    let (code, said) = run(&config, &text("/sns", &headers, &body), &at);
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("tried"), "{said}");
    let verdict = said.lines().last().unwrap();
    assert!(verdict.contains(url) && verdict.contains("secret: { file: "), "{said}");
    let (code, said) = run(&config, &text("/pinned", &headers, &body), &at);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("public key #1 ") && said.contains(" match"), "{said}");
}

/// The one that is meant is named; of all others there is one line.
#[test]
fn other_sources_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = format!(
        "  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  paypal: {{ provider: paypal, params: {{ webhook_id: w }} }}\n"
    );
    for number in 0..60 {
        sources += &format!(
            "  s{number}: {{ provider: stripe, secret: \"whsec_of_the_shop_number_{number:04}\" }}\n"
        );
    }
    let config = config(dir.path(), &sources);
    let body = stripe_event("evt_1", "invoice.paid");
    let ask = |secret: &'static str| {
        let headers = Provider::Stripe(secret).sign("", "", &body);
        run(&config, &text("/stripe", &headers, &body), &[]).1
    };
    let about = |said: &str| said.lines().filter(|line| line.contains("source")).count();
    let nobody = ask("whsec_nobody_knows_this_one_012345");
    assert!(
        nobody.contains("secrets of 60 other sources") && !nobody.contains("paypal"),
        "{nobody}"
    );
    assert_eq!(about(&nobody), 2, "the first line, and one for all others: {nobody}");
    let meant = ask("whsec_of_the_shop_number_0042");
    assert!(meant.contains("secret of source s42 (whsec_…"), "{meant}");
    assert!(meant.contains("was signed for source `s42`"), "{meant}");
    assert_eq!(about(&meant), 3, "{meant}");
}

#[test]
fn another_algorithm_of_the_family_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        config(dir.path(), &format!("  shop: {{ provider: custom, secret: \"{SHOP}\", {PLAIN} }}"));
    let mut mac = Hmac::<Sha384>::new_from_slice(SHOP.as_bytes()).unwrap();
    mac.update(b"{}");
    let headers = header("X-Signature", hex::encode(mac.finalize().into_bytes()));
    let (_, said) = run(&config, &text("/shop", &headers, b"{}"), &[]);
    assert!(said.lines().last().unwrap().contains("`mac: hmac-sha384`"), "{said}");
}
