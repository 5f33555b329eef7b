//! What templates read and what is done to it: each row is signed over the text that it should be.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason::{self, InputAmbiguous, InputMissing, SignatureWrong, TimestampPast},
    event::Timestamp,
    verify::Presented,
};
use sha2::{Digest as _, Sha256};

use crate::{
    examples::mac,
    flow::Flow,
    foreign::NOW,
    source::{Source, compile, custom, headers, presented, verifier, verify},
};

const SECRET: &str = "a secret of sixteen bytes";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// What is said to a request whose signature is over `text`, where the source says that `signed` is signed.
fn verdict(signed: &str, lines: &[(&str, &str)], body: &str, text: &str) -> Result<(), Reason> {
    let scheme = format!("verify: {{ signature: {{ header: X-S }}, signed: '{signed}' }}");
    let verifier = verifier(custom(&scheme), &[SECRET]).expect("a verifier");
    let good = mac(SECRET, text.as_bytes());
    let lines: Vec<_> = lines.iter().copied().chain([("x-s", &*good)]).collect();
    verify(&verifier, &lines, body.as_bytes(), NOW).map(drop)
}

/// A value of one document is never taken from another.
#[test]
fn each_document_is_read_by_itself() {
    let [a, b] = [r#"{"v":"a","w":"x"}"#, r#"{"v":"b"}"#].map(|json| STANDARD.encode(json));
    let lines = [("x-a", &*a), ("x-b", &*b)];
    let three = "{headerjson:X-A/v}{headerjson:X-B/v}{json:v}";
    assert_eq!(verdict(three, &lines, r#"{"v":"c"}"#, "abc"), Ok(()));
    let only_there = "{headerjson:X-A/v}{headerjson:X-B/w}";
    assert_eq!(verdict(only_there, &lines, "{}", "ax"), Err(InputMissing));
    let fields = "p=%7B%22v%22:%22a%22%7D&q=%7B%22v%22:%22b%22%7D";
    assert_eq!(verdict("{formjson:q/v}{formjson:p/v}", &[FORM], fields, "ba"), Ok(()));
}

/// What a token says is there once it was believed, under the names that it has in the token.
#[test]
fn a_token_names_its_event() {
    let source = |event: &str| {
        let yaml = format!(
            "verify: {{ mac: jwt, signature: {{ header: X-Token }}, jwt: {{ algs: [ES256], typ: event+jwt, present: [jti, of.it] }} }}\nevent: {event}"
        );
        Flow::own(compile(&Source::parse(&yaml), &[]).expect("a source"), SECRET)
    };
    let event = source("{ id: '{jwt:jti}', type: '{jws:typ}', account: '{jwt:of.it}' }");
    let event = event.event(&[], "{}").expect("an event");
    let about = event.about();
    let account = about.account.as_ref().map(|account| account.as_str());
    let named = (about.id.as_str(), about.kind.as_str(), account);
    assert_eq!(named, ("test", "event+jwt", Some("test")));
    let missing = source("{ id: ['{jws:jti}', '{jwt:typ}'], type: t }").event(&[], "{}");
    assert!(missing.is_err(), "a claim is not in the header, nor is the type in the claims");
}

#[test]
fn all_of_a_form_is_nothing_where_there_is_no_body() {
    const ALL: &str = "{form|sorted_concat}";
    for (lines, body, text, expected) in [
        (&[FORM][..], "b=2&a=1", "a1b2", Ok(())),
        (&[FORM], "", "", Ok(())),
        (&[], "", "", Ok(())),
        (&[], "b=2&a=1", "", Err(InputMissing)),
        (&[], "b=2&a=1", "a1b2", Err(InputMissing)),
        (&[("content-type", "application/json")], "{}", "", Err(InputMissing)),
    ] {
        assert_eq!(verdict(ALL, lines, body, text), expected, "{lines:?} {body}");
    }
}

#[test]
fn transforms_do_what_they_say_to_what_is_there() {
    for name in ["lower", "sha256_hex", "base64", "crc32", "hubspot_uri"] {
        let absent = verdict(&format!("{{body}}{{header:X-N|{name}}}"), &[], "x", "x");
        assert_eq!(absent, Err(InputMissing), "{name} makes nothing of nothing");
    }
    assert_eq!(verdict("{body}{header:X-N|default_empty}", &[], "x", "x"), Ok(()));
    assert_eq!(verdict("{body}{header:X-N|default_empty|lower}", &[], "x", "x"), Ok(()));
    assert_eq!(
        verdict("{body}{header:X-N|lower|default_empty}", &[("x-n", "Y")], "x", "xy"),
        Ok(())
    );
    // HubSpot decodes twelve escapes, and leaves all others as they are.
    for (sent, signed) in [
        ("/a%3Ab%2Fc%3Fd%40e%21f%24g%27h%28i%29j%2Ak%2Cl%3Bm", "/a:b/c?d@e!f$g'h(i)j*k,l;m"),
        ("/a%20b%25c%26d%3De%2Bf", "/a%20b%25c%26d%3De%2Bf"),
        ("/a%253Ab", "/a%253Ab"),
        ("/a3Ab%%3Ac%3", "/a3Ab%:c%3"),
        ("/%zz%3", "/%zz%3"),
    ] {
        let found = verdict("{header:X-N|hubspot_uri}", &[("x-n", sent)], "", signed);
        assert_eq!(found, Ok(()), "{sent}");
    }
}

/// Where the secret is hashed with the text, it may stand anywhere in it.
#[test]
fn the_secret_stands_where_the_template_has_it() {
    for (signed, before, behind) in [
        ("{secret}{body}", "", "b"),
        ("{body}{secret}", "b", ""),
        ("{header:X-A}.{secret}.{body}", "a.", ".b"),
        ("{header:X-A}{body}-{secret}-", "ab-", "-"),
    ] {
        let scheme = format!(
            "verify: {{ mac: hash-sha256, signature: {{ header: X-S }}, signed: '{signed}' }}"
        );
        let verifier = verifier(custom(&scheme), &[SECRET]).expect("a verifier");
        let good = hex::encode(Sha256::digest(format!("{before}{SECRET}{behind}")));
        let verdict = |good: &str| verify(&verifier, &[("x-a", "a"), ("x-s", good)], b"b", NOW);
        assert_eq!(verdict(&good).map(drop), Ok(()), "{signed}");
        let without = hex::encode(Sha256::digest(format!("{before}{behind}")));
        assert_eq!(verdict(&without).map(drop), Err(SignatureWrong), "{signed}");
    }
}

/// Whole seconds are held to whole seconds, milliseconds to milliseconds; from twelve digits on a number is one of those.
#[test]
fn times_are_as_exact_as_they_are_written() {
    let check = |unit: &str, time: &str, received_ms: i64| {
        let scheme = format!(
            "verify: {{ signature: {{ header: X-S }}, signed: '{{body}}{{header:X-T}}', \
             timestamp: {{ from: '{{header:X-T}}', unit: {unit}, past: 5m, future: 10s }} }}"
        );
        let verifier = verifier(custom(&scheme), &[SECRET]).expect("a verifier");
        let good = mac(SECRET, time.as_bytes());
        let headers = headers(&[("x-t", time), ("x-s", &good)]);
        let received_at = Timestamp::from_millis(received_ms);
        verifier.verify(&Presented { received_at, ..presented(&headers, b"", 0) }).map(drop)
    };
    for (unit, time, ms, slack_ms) in [
        ("s", "1700000000", 1_700_000_000_000, 999),
        ("ms", "1700000000000", 1_700_000_000_000, 0),
        ("rfc3339", "2023-11-14T22:13:20Z", 1_700_000_000_000, 0),
        ("http_date", "Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000_000, 999),
        ("auto", "1700000000", 1_700_000_000_000, 999),
        ("auto", "1700000000000", 1_700_000_000_000, 0),
        ("auto", "99999999999", 99_999_999_999_000, 999),
        ("auto", "100000000000", 100_000_000_000, 0),
        ("auto", "999999999999", 999_999_999_999, 0),
    ] {
        let last = ms + 300_000 + slack_ms;
        assert_eq!(check(unit, time, last), Ok(()), "{unit} {time}");
        assert_eq!(check(unit, time, last + 1), Err(TimestampPast), "{unit} {time}");
        assert_eq!(check(unit, time, ms - 10_000), Ok(()), "{unit} {time}");
        assert_eq!(check(unit, time, ms - 10_001), Err(Reason::TimestampFuture), "{unit} {time}");
    }
}

/// A signature says which fields are signed by their number: one more than is looked at would pass unseen.
#[test]
fn what_is_more_than_is_looked_at_is_refused() {
    let form = |count: usize| {
        let fields: Vec<_> = (0..count).map(|n| format!("f{n:04}=v")).collect();
        fields.join("&")
    };
    let joined = |count: usize| -> String { (0..count).map(|n| format!("f{n:04}v")).collect() };
    let all =
        |fields, signed| verdict("{form|sorted_concat}", &[FORM], &form(fields), &joined(signed));
    assert_eq!(all(1000, 1000), Ok(()));
    assert_eq!(all(1001, 1001), Err(InputAmbiguous));
    assert_eq!(all(1001, 1000), Err(InputAmbiguous), "the last one is not signed");
    for (count, expected) in [(64, Ok(())), (65, Err(InputAmbiguous))] {
        let names: Vec<_> = (1..count).map(|n| format!("x-h{n:02}")).collect();
        let list = format!("x-list,{}", names.join(","));
        let mut lines: Vec<_> = names.iter().map(|name| (&**name, "v")).collect();
        lines.push(("x-list", &list));
        let text: String = names.iter().map(|name| format!("{name}:v;")).collect();
        let found = verdict("{signed_headers:X-List}", &lines, "", &format!("{text}x-list:{list}"));
        assert_eq!(found, expected, "{count} headers");
    }
    // A ninth line is too many, whatever is on the others.
    let scheme = "verify: { signature: { header: X-S, repeated: true }, signed: '{body}' }";
    let repeated = verifier(custom(scheme), &[SECRET]).expect("a verifier");
    let good = mac(SECRET, b"{}");
    for (count, expected) in [(8, Ok(())), (9, Err(Reason::SignaturesTooMany))] {
        let mut lines = vec![("x-s", "unreadable"); count - 1];
        lines.push(("x-s", &good));
        assert_eq!(verify(&repeated, &lines, b"{}", NOW).map(drop), expected, "{count} lines");
    }
}
