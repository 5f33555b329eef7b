//! The page on public keys: its examples pass, and only as they stand; and what is signed with a key of our own is believed.

use gatepost::{answer::Reason, providers};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::Map;

use crate::{
    foreign::{Own, PUBLIC, judge, of, presented},
    scheme::{Sent, examples_of},
    source::{Source, compile},
};

const PAGE: &str = include_str!("../../docs/public-keys.md");

#[test]
fn every_example_of_the_page_passes_and_only_as_it_stands() {
    let examples = examples_of(PAGE);
    assert_eq!(examples.len(), 25, "the scan finds them");
    for (yaml, described, sent) in examples {
        let verifier = described.verifier();
        assert!(sent.verdict(&verifier).is_ok(), "{:?}: {yaml}", sent.verdict(&verifier));
        // Tokens that a body lists cover what they say, and a message of SNS its members, and nothing beside it.
        if yaml.contains("for_each") || yaml.contains("{aws_sns}") {
            assert_eq!(described.compile().covers, providers::Covers::Fields, "{yaml}");
            continue;
        }
        let none = Sent { lines: Vec::new(), ..sent.clone() };
        assert!(none.verdict(&verifier).is_err(), "nothing but a body: {yaml}");
        let body = [&sent.body[..], b" "].concat();
        assert!(
            Sent { body, ..sent.clone() }.verdict(&verifier).is_err(),
            "a touched body: {yaml}"
        );
        assert_eq!(described.compile().covers, providers::Covers::Body, "{yaml}");
    }
}

/// Every way in which something is signed.
const SCHEMES: [&str; 16] = [
    "mac: ed25519\nsignature: { header: x-s, encoding: hex }\nsigned: \"{body}\"",
    "mac: ecdsa-p256-sha256\nsignature: { header: x-s, encoding: base64url }\nsigned: \"{body}\"\nprehash: sha256",
    "mac: ecdsa-p256-sha256\nsignature: { header: x-s, form: raw }\nsigned: \"{method}{body}\"",
    "mac: ecdsa-p384-sha384\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"",
    "mac: ecdsa-p521-sha512\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{url}{body}\"",
    "mac: ecdsa-secp256k1-sha256\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"",
    "mac: rsa-pkcs1-sha256\nsignature: { header: x-s, split: \",\", pair: \"=\", pick: v1, encoding: base64 }\nsigned: \"{t}.{body}\"\ntimestamp: { from: \"{t}\", past: 5m }",
    "mac: rsa-pkcs1-sha384\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"",
    "mac: rsa-pkcs1-sha512\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"",
    "mac: rsa-pss-sha256\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{header:x-t}.{body}\"\ntimestamp: { from: \"{header:x-t}\", past: 5m }",
    "mac: rsa-pss-sha384\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"",
    "mac: jwt\nsignature: { header: authorization, prefix: \"Bearer \" }\njwt: { algs: [PS512], typ: event+jwt, present: [jti], equal: { a.b: [x, y] }, path_hash: qsh, body_hash: { claim: d, hash: sha512 } }",
    "mac: jws-detached\nsignature: { header: x-s }\nsigned: \"{body}\"\njwt: { algs: [EdDSA] }",
    "mac: rfc9421\nrfc9421: { algs: [ed25519], max_age: 5m }",
    "mac: rfc9421\nrfc9421: { algs: [ecdsa-p384-sha384], require: [\"@target-uri\", content-digest], tag: events }",
    "mac: rfc9421\nrfc9421: { algs: [rsa-pss-sha512], require: [\"@request-target\", \"@authority\", content-digest] }",
];

#[test]
fn what_is_signed_is_believed_and_not_once_it_was_touched() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(16));
    for scheme in SCHEMES {
        let own = Own::new(scheme);
        let bodies = (prop::collection::vec(any::<u8>(), 1..300), any::<prop::sample::Index>());
        let run = runner.run(&bodies, |(mut body, at)| {
            let headers = HeaderMap::from_iter(own.sign(&body, &Map::new()).headers);
            let verdict = judge(&own.verifier, &headers, &body);
            prop_assert_eq!(verdict, Ok(()), "{}", scheme);
            let bit = at.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(judge(&own.verifier, &headers, &body).is_err(), "{}", scheme);
            Ok(())
        });
        run.unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn a_test_key_is_kept_and_read_again() {
    let each = [
        (SCHEMES[0], "ed25519"),
        (SCHEMES[1], "ecdsa-p256-sha256"),
        (SCHEMES[6], "rsa-pkcs1-sha256"),
        (SCHEMES[12], "ed25519"),
    ];
    for (scheme, algorithm) in each {
        let own = Own::new(scheme);
        assert_eq!(own.key.algorithm(), algorithm);
        let kept = own.key.to_pem().unwrap();
        let again = own.verifier.read_test_key(&kept).unwrap().unwrap();
        assert_eq!(again.public_pem().unwrap(), own.key.public_pem().unwrap());
        let none = HeaderMap::new();
        let signed = own.verifier.sign_with(&again, &presented(&none, b"{}"), &Map::new()).unwrap();
        assert_eq!(judge(&own.verifier, &HeaderMap::from_iter(signed.headers), b"{}"), Ok(()));
        assert!(
            own.verifier
                .read_test_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
                .unwrap()
                .is_err()
        );
    }
}

/// Of several texts any may be what was signed: each is tried, whichever holds.
#[test]
fn any_of_several_texts_may_be_what_was_signed() {
    let texts = ["{body}", "{method}{body}", "{path}{body}"];
    let signing = |signed: &str| {
        format!("mac: ed25519\nsignature: {{ header: x-s, encoding: hex }}\nsigned: {signed}")
    };
    for text in texts {
        let own = Own::new(&signing(&format!("{text:?}")));
        let headers = HeaderMap::from_iter(own.sign(b"{}", &Map::new()).headers);
        let public = own.key.public_pem().unwrap();
        let any = of(&signing(&format!("{texts:?}")), &[&public]);
        assert_eq!(judge(&any, &headers, b"{}"), Ok(()), "{text}");
        assert_eq!(judge(&any, &headers, b"{} "), Err(Reason::SignatureWrong), "{text}");
        let others: Vec<_> = texts.into_iter().filter(|other| *other != text).collect();
        let others = of(&signing(&format!("{others:?}")), &[&public]);
        assert_eq!(judge(&others, &headers, b"{}"), Err(Reason::SignatureWrong), "{text}");
    }
}

/// Where both sides have the secret, what the verifier signs it believes; and only under that secret.
#[test]
fn what_is_signed_with_a_shared_secret_is_believed() {
    const SECRET: &str = "a secret of thirty-two bytes here";
    let none = HeaderMap::new();
    for scheme in [
        "mac: jwt\nsignature: { header: x-token }\njwt: { algs: [HS256], body_hash: { claim: d } }",
        "mac: jwt\nsignature: { header: x-token }\njwt: { algs: [HS384, HS256], body_hash: { claim: d } }",
        "mac: jws-detached\nsignature: { header: x-s }\nsigned: \"{body}\"\njwt: { algs: [HS512] }",
        "mac: rfc9421\nrfc9421: { algs: [hmac-sha256] }",
    ] {
        let [own, other] =
            [SECRET, "another secret, as long as that is"].map(|key| of(scheme, &[key]));
        let signed = own.sign_whole(&presented(&none, b"{}"), &Map::new()).expect("signed");
        let headers = HeaderMap::from_iter(signed.headers);
        assert_eq!(judge(&own, &headers, b"{}"), Ok(()), "{scheme}");
        assert_eq!(judge(&other, &headers, b"{}"), Err(Reason::SignatureWrong), "{scheme}");
        assert!(judge(&own, &headers, b"{ }").is_err(), "{scheme}");
    }
}

#[test]
fn what_cannot_be_signed_is_said() {
    let none = HeaderMap::new();
    let old =
        of("mac: rsa-pkcs1-sha1\nsignature: { header: x-s }\nsigned: \"{body}\"", &[PUBLIC[4]]);
    let told = old.test_key().expect("a scheme with keys of its own").map(drop);
    let sha1 = "nothing here signs with `rsa-pkcs1-sha1`: signatures with SHA-1 are only checked";
    assert_eq!(told, Err(sha1.to_owned()));
    let each = of(
        "mac: jwt\nsignature: { from: \"{item}\" }\nfor_each: \"tokens[*]\"\njwt: { algs: [HS256] }",
        &["a secret of thirty-two bytes here"],
    );
    let told = each.sign(&presented(&none, br#"{"tokens":["x"]}"#)).map(drop);
    assert_eq!(told, Err("every item of the body is signed by itself".to_owned()));
    let timed = "signature: { header: x-s, encoding: base64 }\nsigned: \"{header:x-t}.{body}\"";
    let own = Own::new(&format!("mac: ed25519\n{timed}"));
    let mut twice = HeaderMap::new();
    for time in ["1", "2"] {
        twice.append("x-t", HeaderValue::from_static(time));
    }
    let told = own.verifier.sign_with(&own.key, &presented(&twice, b"{}"), &Map::new()).map(drop);
    let repeated = "something that is signed over cannot be used: header_repeated";
    assert_eq!(told, Err(repeated.to_owned()));
    let other = of(&format!("mac: ecdsa-p256-sha256\n{timed}"), &[PUBLIC[1]]);
    twice.remove("x-t");
    twice.insert("x-t", HeaderValue::from_static("1"));
    let told = other.sign_with(&own.key, &presented(&twice, b"{}"), &Map::new()).map(drop);
    assert_eq!(told, Err("the key is not for `ecdsa-p256-sha256`".to_owned()));
    let elsewhere = "schemes:\n  - { name: a, when: { json_present: x }, mac: ed25519 }";
    let own = Own::new(&format!("{timed}\n{elsewhere}"));
    let sign = |body: &[u8]| {
        own.verifier.sign_with(&own.key, &presented(&twice, body), &Map::new()).map(drop)
    };
    assert_eq!(sign(br#"{"x":1}"#), Ok(()));
    assert_eq!(sign(b"{}"), Err("it would be taken for one of another scheme".to_owned()));
}

/// Where requests name their key, so does what a test key signs.
#[test]
fn a_test_key_has_a_name_where_requests_name_theirs() {
    let named = [HeaderValue::from_static("gatepost-test")];
    for (signature, rest, names) in [
        ("header: x-s", "", &[][..]),
        ("header: x-s", "\nkeys: { key_id: \"{header:x-key}\" }", &named),
        ("header: x-s, key_id: \"{header:x-key}\"", "", &named),
    ] {
        let own = Own::new(&format!(
            "mac: ed25519\nsignature: {{ {signature}, encoding: hex }}\nsigned: \"{{body}}\"{rest}"
        ));
        let headers = HeaderMap::from_iter(own.sign(b"{}", &Map::new()).headers);
        let found: Vec<_> = headers.get_all("x-key").iter().cloned().collect();
        assert_eq!(found, names, "{signature} {rest}");
        assert_eq!(judge(&own.verifier, &headers, b"{}"), Ok(()), "{signature} {rest}");
    }
}

/// An algorithm that is not known is answered with those that are.
#[test]
fn the_algorithms_of_tokens_are_listed_for_who_names_another() {
    let yaml = "verify: { mac: jwt, signature: { header: x-token }, jwt: { algs: [none] } }\n\
                event: { id: '{jwt:jti}', type: t }";
    let problems = compile(&Source::parse(yaml), &[]).expect_err("a problem");
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!((&*problem.path, &*problem.message), ("verify.jwt.algs", "there is no `none` here"));
    let known = "known: HS256, HS384, HS512, ES256, ES384, ES512, EdDSA, Ed25519, RS256, RS384, RS512, \
                 PS256, PS384, PS512";
    assert_eq!(problem.help.as_deref(), Some(known));
}
