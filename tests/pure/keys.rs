//! Keys in every form in which they are pasted, and those that are none.

use crate::foreign::{PUBLIC, attempt};

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
