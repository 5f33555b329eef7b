//! The page on public keys: its examples pass, and only as they stand; and what is signed with a key of our own is believed.

use gatepost::providers;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::Map;

use crate::{
    foreign::{Own, judge, presented},
    scheme::{Sent, examples_of},
};

const PAGE: &str = include_str!("../../docs/public-keys.md");

#[test]
fn every_example_of_the_page_passes_and_only_as_it_stands() {
    let examples = examples_of(PAGE);
    assert_eq!(examples.len(), 7, "the scan finds them");
    for (yaml, described, sent) in examples {
        let verifier = described.verifier();
        assert!(sent.verdict(&verifier).is_ok(), "{:?}: {yaml}", sent.verdict(&verifier));
        // Tokens that a body lists cover what they say, and nothing beside it.
        if yaml.contains("for_each") {
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
const SCHEMES: [&str; 13] = [
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
    for scheme in [SCHEMES[0], SCHEMES[1], SCHEMES[6]] {
        let own = Own::new(scheme);
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
