//! Keys in every form in which they are pasted, and those that are none.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gatepost::answer::Reason;
use serde_json::json;

use crate::{
    asymmetric::vectors,
    foreign::{PUBLIC, attempt, judge, of},
    source::headers,
};

fn scheme(mac: &str, key: &str) -> String {
    format!(
        "mac: {mac}\nkey: {key}\nsignature: {{ header: X-S, encoding: base64 }}\nsigned: \"{{body}}\""
    )
}

fn refused(mac: &str, key: &str) -> String {
    attempt(&scheme(mac, "{}"), &[key]).map(drop).expect_err("a refusal")
}

#[test]
fn a_key_is_read_in_each_of_its_forms() {
    let raw = "d52880e28f61caa4c2a48a82e55f4751a92289a78009ea9f6532270c16ce8abe";
    for (key, form) in [
        (PUBLIC[0], "{}"),
        (raw, "{}"),
        (raw, "{ encoding: hex }"),
        (PUBLIC[0], "{ encoding: base64 }"),
        ("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "{ strip_prefix: [whpk_] }"),
        ("MCowBQYDK2VwAyEA1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", "{}"),
        (
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=\n-----END PUBLIC KEY-----\n",
            "{ encoding: pem }",
        ),
        (
            "-----BEGIN PUBLIC KEY-----MCowBQYDK2VwAyEA1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=-----END PUBLIC KEY-----",
            "{}",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4"}"#,
            "{ encoding: jwk }",
        ),
        (
            r#"{"keys":[{"kty":"oct"},{"kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4","alg":"EdDSA","use":"sig","key_ops":["verify"]}]}"#,
            "{}",
        ),
    ] {
        assert_eq!(attempt(&scheme("ed25519", form), &[key]).map(drop), Ok(()), "{key} {form}");
    }
}

#[test]
fn weak_keys_are_refused() {
    let p = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    for weak in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        p,
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ] {
        let said = refused("ed25519", weak);
        assert_eq!(
            said, "secret 1 is a point of small order, under which anybody can sign anything",
            "{weak}"
        );
    }
    let short = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDCFENGw33yGihy92pDjZQhl0C3\n6rPJj+CvfSC8+q28hxA161QFNUd13wuCTUcq0Qd2qsBe/2hFyc2DCJJg0h1L78+6\nZ4UMR7EOcpfdUE9Hf3m/hs+FUR45uBJeDK1HSFHD8bHKD6kv8FPGfJTotc+2xjJw\noYi+1hqp1fIekaxsyQIDAQAB\n-----END PUBLIC KEY-----";
    let said = refused("rsa-pkcs1-sha256", short);
    assert_eq!(said, "secret 1 is an RSA key of 1024 bits; 2048 to 8192 are accepted");
    let off_curve = format!("04{}", "01".repeat(64));
    let said = refused("ecdsa-p256-sha256", &off_curve);
    assert_eq!(said, "secret 1 is a P-256 key that is not on its curve");
}

#[test]
fn what_is_no_public_key_is_said() {
    let ed = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----";
    let leaked =
        "secret 1 is a private key, where the provider's public key belongs; treat it as leaked";
    let kid = r#"{"kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4","d":"AAAA"}"#;
    let set = format!(r#"{{"keys":[{kid}]}}"#);
    for (key, said) in [
        (ed, leaked),
        (kid, leaked),
        (&*set, leaked),
        (PUBLIC[1], "secret 1 is a P-256 key, which `ed25519` cannot use"),
        (PUBLIC[4], "secret 1 is an RSA key, which `ed25519` cannot use"),
        ("hello", "secret 1 is not base64, PEM or a JWK"),
        (
            "aGVsbG8gaGVsbG8gaGVsbG8=",
            "secret 1 is not a public key (a bare key, or SPKI, as PEM, base64 or hex)",
        ),
        ("{}", "secret 1 is neither a JWK nor a JWKS"),
        (r#"{"keys":[]}"#, "secret 1 holds no key that a scheme could use"),
        (
            r#"{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4"}"#,
            "secret 1 is neither a JWK nor a JWKS",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4","use":"enc"}"#,
            "secret 1 is not for signatures",
        ),
    ] {
        assert_eq!(refused("ed25519", key), said, "{key}");
    }
}

/// DER of what stands in PEM.
fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).expect("base64")
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", STANDARD.encode(der))
}

/// Every kind in every form that is not the usual one; each is refused where another kind is asked for.
#[test]
fn every_kind_of_key_has_its_forms() {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = |curve: &str, point: &[u8]| {
        let (x, y) = point[1..].split_at(point.len() / 2);
        json!({ "kty": "EC", "crv": curve, "x": part(x), "y": part(y) }).to_string()
    };
    let point = |pem: &str, bytes: usize| {
        let der = der(pem);
        der[der.len() - bytes..].to_vec()
    };
    let (p384, p521) = (point(PUBLIC[2], 97), point(PUBLIC[3], 133));
    // The bit string behind the head of an SPKI is a key of its own.
    let rsa = der(PUBLIC[4])[24..].to_vec();
    let rsa_jwk = |algorithm: &str| {
        let (n, e) = (part(&rsa[9..265]), part(&rsa[267..]));
        json!({ "kty": "RSA", "n": n, "e": e, "alg": algorithm }).to_string()
    };
    for (mac, key) in [
        ("ecdsa-p384-sha384", hex::encode(&p384)),
        ("ecdsa-p384-sha384", STANDARD.encode(&p384)),
        ("ecdsa-p384-sha384", jwk("P-384", &p384)),
        ("ecdsa-p521-sha512", hex::encode(&p521)),
        ("ecdsa-p521-sha512", jwk("P-521", &p521)),
        ("rsa-pkcs1-sha256", pem("RSA PUBLIC KEY", &rsa)),
        ("rsa-pkcs1-sha256", rsa_jwk("RS256")),
        ("rsa-pss-sha256", rsa_jwk("PS256")),
    ] {
        assert_eq!(attempt(&scheme(mac, "{}"), &[&key]).map(drop), Ok(()), "{mac} {key}");
        assert!(refused("ed25519", &key).ends_with("which `ed25519` cannot use"), "{mac} {key}");
    }
    for (mac, key, said) in [
        ("rsa-pkcs1-sha256", rsa_jwk("PS256"), "an RSA key, which `rsa-pkcs1-sha256` cannot use"),
        (
            "ecdsa-p256-sha256",
            hex::encode(&p384),
            "a P-384 key, which `ecdsa-p256-sha256` cannot use",
        ),
        (
            "ecdsa-p384-sha384",
            jwk("P-256", &p384),
            "a JWK whose coordinates are longer than the curve has them",
        ),
        ("ed25519", pem("RSA PUBLIC KEY", &rsa[1..]), "not an RSA key"),
        (
            "ed25519",
            json!({ "kty": "OKP", "crv": "Ed25519", "x": part(&[9; 31]) }).to_string(),
            "no Ed25519 key: those have 32 bytes",
        ),
    ] {
        assert_eq!(refused(mac, &key), format!("secret 1 is {said}"), "{key}");
    }
    let request = pem("CERTIFICATE REQUEST", b"x");
    let holds = "secret 1 holds `CERTIFICATE REQUEST`, where a public key or a certificate belongs";
    assert_eq!(refused("ed25519", &request), holds);
}

/// A certificate's key is called by its serial number, in either case, without the zero that keeps the number positive.
#[test]
fn a_certificate_is_a_key_with_a_name() {
    let vector = vectors().into_iter().find(|v| v.provider == "apple-asn-v2" && v.valid).unwrap();
    let der = vector.keys["roots_der_base64"][0].as_str().unwrap();
    let with_zero = STANDARD.decode(der).unwrap();
    assert_eq!(with_zero[13..17], [2, 9, 0, 0xb5], "a serial number of nine bytes");
    let mut without = with_zero.clone();
    without[15] = 0x1a;
    for (certificate, good, bad) in [
        (with_zero, ["B51CE402E21F9A5B", "b51ce402e21f9a5b"], "00B51CE402E21F9A5B"),
        (without, ["1AB51CE402E21F9A5B", "1ab51ce402e21f9a5b"], "B51CE402E21F9A5B"),
    ] {
        let pem = pem("CERTIFICATE", &certificate);
        let named = "keys: { key_id: \"{header:X-Serial}\" }";
        let verifier = of(&format!("{}\n{named}", scheme("ecdsa-p256-sha256", "{}")), &[&pem]);
        let verdict =
            |serial| judge(&verifier, &headers(&[("x-s", "AAAA"), ("x-serial", serial)]), b"{}");
        assert_eq!(good.map(verdict), [Err(Reason::SignatureWrong); 2], "it is that key's to hold");
        assert_eq!(verdict(bad), Err(Reason::KeyUnknown));
        assert_eq!(verdict(""), Err(Reason::KeyUnknown));
    }
}

/// Keys that begin or end like a point of small order are keys like any other.
#[test]
fn strong_keys_are_not_taken_for_weak_ones() {
    let key = |n: u32| {
        let seed = [&n.to_le_bytes()[..], &[7; 28]].concat();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed");
        pair.public_key().as_ref().to_vec()
    };
    let keys: Vec<_> = (0..4096).map(key).collect();
    let looks: [fn(&[u8]) -> bool; 4] =
        [|k| k[0] >= 0xec, |k| k[0] <= 1, |k| k[31] & 0x7f == 0x7f, |k| k[31] & 0x7f == 0];
    for (n, looks) in looks.into_iter().enumerate() {
        let alike: Vec<_> = keys.iter().filter(|key| looks(key)).take(3).collect();
        assert_eq!(alike.len(), 3, "look {n}");
        for key in alike {
            let verdict = attempt(&scheme("ed25519", "{}"), &[&hex::encode(key)]).map(drop);
            assert_eq!(verdict, Ok(()), "{key:02x?}");
        }
    }
}
