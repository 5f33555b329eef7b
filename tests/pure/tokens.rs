//! Tokens: what the token says about its own algorithm, key and claims decides nothing that the configuration does not allow.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gatepost::{answer::Reason, event::Timestamp, verify::Presented};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value as Json, json};

use crate::foreign::{Own, judge, of};

const SCHEME: &str = r#"
mac: jwt
signature: { header: X-Token }
jwt:
  algs: [ES256]
  typ: JWT
  equal: { iss: [here, there], aud: "{url}", nested.is: "true" }
  present: [exp, jti]
  max_age: { claim: iat, past: 5m }
  body_hash: { claim: digest, encoding: base64 }
"#;

fn claims(of: Json) -> Map<String, Json> {
    of.as_object().expect("an object").clone()
}

pub(crate) fn with(token: &str) -> HeaderMap {
    HeaderMap::from_iter([("x-token".parse().unwrap(), HeaderValue::from_str(token).unwrap())])
}

fn token(own: &Own, body: &[u8], extra: Json) -> String {
    let signed = own.sign(body, &claims(extra));
    signed.headers[0].1.to_str().unwrap().to_owned()
}

#[test]
fn a_token_is_believed_and_a_touched_one_is_not() {
    let own = Own::new(SCHEME);
    let good = token(&own, b"{}", json!({}));
    assert_eq!(judge(&own.verifier, &with(&good), b"{}"), Ok(()));
    assert_eq!(judge(&own.verifier, &with(&good), b"{} "), Err(Reason::ClaimFailed));
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        if bytes != good.as_bytes() {
            let touched = String::from_utf8(bytes).unwrap();
            assert!(judge(&own.verifier, &with(&touched), b"{}").is_err(), "byte {at}");
        }
    }
}

/// What the key signs, whatever it is: header and claims as they are given.
pub(crate) fn forged(own: &Own, header: &str, claims: &str) -> String {
    // A detached signature signs any payload; with a payload of nothing but what stands here, it is any token.
    let detached = of(
        "mac: jws-detached\nsignature: { header: X-Token }\nsigned: \"{body}\"\njwt: { algs: [ES256] }",
        &[&own.key.public_pem().unwrap()],
    );
    let none = HeaderMap::new();
    let signed = detached.sign_with(
        &own.key,
        &crate::foreign::presented(&none, claims.as_bytes()),
        &Map::new(),
    );
    let signed = signed.unwrap().headers[0].1.to_str().unwrap().to_owned();
    let parts: Vec<&str> = signed.split('.').collect();
    let _ = header;
    format!("{}.{}.{}", parts[0], encode(claims), parts[2])
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn every_claim_counts() {
    let own = Own::new(SCHEME);
    let now = crate::foreign::NOW;
    let digest = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=";
    let good = json!({
        "iss": "there", "aud": ["x", crate::source::URL], "nested": {"is": true}, "exp": now + 1,
        "jti": "1", "iat": now, "digest": digest,
    });
    let verdict =
        |claims: &Json| judge(&own.verifier, &with(&forged(&own, "", &claims.to_string())), b"{}");
    assert_eq!(verdict(&good), Ok(()));
    let past = Reason::TimestampPast;
    let wrong = [
        ("iss", json!("elsewhere"), Reason::IssuerWrong),
        ("iss", json!(["elsewhere"]), Reason::IssuerWrong),
        ("iss", Json::Null, Reason::IssuerWrong),
        ("aud", json!("x"), Reason::AudienceWrong),
        ("aud", json!({"0": crate::source::URL}), Reason::AudienceWrong),
        ("nested", json!({"is": false}), Reason::ClaimFailed),
        ("jti", Json::Null, Reason::ClaimFailed),
        ("digest", json!("RBNvo1WzZ4oRRq0W9"), Reason::ClaimFailed),
        ("exp", json!(now - 60), past),
        ("exp", json!("never"), Reason::TimestampMalformed),
        ("exp", json!(-1), Reason::TimestampMalformed),
        ("exp", json!(1e300), Reason::TimestampMalformed),
        ("iat", json!(now - 301), past),
        ("iat", json!(now + 61), Reason::TimestampFuture),
        ("iat", Json::Null, Reason::TimestampMalformed),
        ("nbf", json!(now + 61), Reason::TimestampFuture),
    ];
    for (name, value, reason) in wrong {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(verdict(&claims), Err(reason), "{claims}");
    }
    for name in ["iss", "aud", "nested", "exp", "jti", "iat", "digest"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert!(verdict(&claims).is_err(), "without {name}");
    }
    for (name, value) in
        [("iat", json!(now - 300)), ("exp", json!(now - 59)), ("iat", json!(now + 60))]
    {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(verdict(&claims), Ok(()), "at the edge: {claims}");
    }
    let twice = good.to_string().replacen('{', r#"{"iss":"here","#, 1);
    let twice = judge(&own.verifier, &with(&forged(&own, "", &twice)), b"{}");
    assert_eq!(twice, Err(Reason::SignatureMalformed), "a member that comes twice");
}

/// A limit on the time is one for tokens and for messages, too; a time that is signed elsewhere than in a claim of its own as well.
#[test]
fn a_signed_time_is_held_to_its_limit() {
    let now = crate::foreign::NOW;
    let own = Own::new(
        "mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }\n\
         timestamp: { from: \"{jwt:sent}\", past: 5m, future: 10s }",
    );
    let verdict = |claims: Json| {
        let token = forged(&own, "", &claims.to_string());
        own.verifier.verify(&crate::foreign::presented(&with(&token), b"{}"))
    };
    let signed_at = |claims: Json| verdict(claims).unwrap().signed_at.map(|time| time.as_secs());
    assert_eq!(signed_at(json!({ "sent": now - 300 })), Some(now - 300));
    assert_eq!(signed_at(json!({ "sent": now + 10, "iat": now - 900 })), Some(now + 10));
    for (claims, reason) in [
        (json!({ "sent": now - 301 }), Reason::TimestampPast),
        (json!({ "sent": now - 31_536_000, "iat": now }), Reason::TimestampPast),
        (json!({ "sent": now + 11 }), Reason::TimestampFuture),
        (json!({ "sent": "soon" }), Reason::TimestampMalformed),
        (json!({ "iat": now }), Reason::TimestampMissing),
    ] {
        assert_eq!(verdict(claims.clone()).map(drop), Err(reason), "{claims}");
    }
    let own = Own::new(
        "mac: rfc9421\nrfc9421: { algs: [ed25519], require: [x-sent, content-digest] }\n\
         timestamp: { from: \"{header:X-Sent}\", past: 5m }",
    );
    for (sent, told) in [
        (now - 300, Ok(Some(now - 300))),
        (now - 301, Err(Reason::TimestampPast)),
        (now + 301, Err(Reason::TimestampFuture)),
    ] {
        let then = Timestamp::from_millis(sent * 1000);
        let mut headers = HeaderMap::new();
        let presented =
            Presented { received_at: then, ..crate::foreign::presented(&headers, b"{}") };
        let signed = own.verifier.sign_with(&own.key, &presented, &Map::new()).unwrap();
        signed.put_into(&mut headers);
        let verdict = own.verifier.verify(&crate::foreign::presented(&headers, b"{}"));
        let signed_at = verdict.map(|proof| proof.signed_at.map(|time| time.as_secs()));
        // `created` is the time of signing, too; the header is what is held to a limit.
        assert_eq!(signed_at, told, "{sent}");
    }
}

/// A claim is compared by what it says, whatever kind of scalar it is.
#[test]
fn claims_are_numbers_and_words() {
    for (said, equal, other) in [
        ("-5", json!(-5), json!(5)),
        ("18446744073709551615", json!(u64::MAX), json!(u64::MAX - 1)),
        ("1.5", json!(1.5), json!(1.25)),
        ("-0.25", json!([0, -0.25]), json!([0, 0.25])),
        ("true", json!(true), json!(false)),
        ("null", json!("null"), Json::Null),
    ] {
        let scheme = SCHEME.replace("nested.is: \"true\"", &format!("n: {said:?}"));
        let own = Own::new(&scheme.replace("{ claim: digest, encoding: base64 }", "{ claim: d }"));
        let verdict = |value: &Json| {
            let claims = json!({
                "iss": "here", "aud": crate::source::URL, "exp": crate::foreign::NOW, "jti": "1",
                "iat": crate::foreign::NOW, "n": value,
                "d": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            });
            judge(&own.verifier, &with(&forged(&own, "", &claims.to_string())), b"{}")
        };
        assert_eq!(verdict(&equal), Ok(()), "{equal}");
        assert_eq!(verdict(&other), Err(Reason::ClaimFailed), "{other}");
    }
}

#[test]
fn the_name_of_a_tokens_key_may_be_so_long() {
    let own = Own::new("mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }");
    let Own { mut key, verifier, .. } = own;
    for (length, told) in [(256, Ok(())), (257, Err(Reason::SignatureMalformed))] {
        key = key.named(&"k".repeat(length));
        let none = HeaderMap::new();
        let request = crate::foreign::presented(&none, b"{}");
        let signed = verifier.sign_with(&key, &request, &Map::new()).unwrap();
        assert_eq!(
            judge(&verifier, &HeaderMap::from_iter(signed.headers), b"{}"),
            told,
            "{length}"
        );
    }
}

/// Hexadecimal has no case, base64 has one.
#[test]
fn a_digest_in_a_claim_is_the_bodys() {
    let scheme = |encoding: &str| {
        format!(
            "mac: jwt\nsignature: {{ header: X-Token }}\njwt: {{ algs: [ES256], body_hash: {{ claim: d, encoding: {encoding} }} }}"
        )
    };
    let hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let base64 = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=";
    for (encoding, said, expected) in [
        ("hex", hex.to_owned(), Ok(())),
        ("hex", hex.to_uppercase(), Ok(())),
        ("hex", hex.replace('4', "5"), Err(Reason::ClaimFailed)),
        ("hex", base64.to_owned(), Err(Reason::ClaimFailed)),
        ("base64", base64.to_owned(), Ok(())),
        ("base64", base64.to_lowercase(), Err(Reason::ClaimFailed)),
        ("base64", hex.to_owned(), Err(Reason::ClaimFailed)),
    ] {
        let own = Own::new(&scheme(encoding));
        let token = forged(&own, "", &json!({ "d": said }).to_string());
        assert_eq!(judge(&own.verifier, &with(&token), b"{}"), expected, "{encoding} {said}");
    }
}

/// What stands in front of a token is not a part of it that is passed over.
#[test]
fn what_leads_a_token_is_looked_at() {
    let own = Own::new(
        "mac: jwt\nsignature: { header: Authorization, prefix: \"Bearer \" }\njwt: { algs: [ES256] }",
    );
    let good = token(&own, b"{}", json!({}));
    let verdict = |text: &str| {
        judge(&own.verifier, &crate::source::headers(&[("authorization", text)]), b"{}")
    };
    assert_eq!(verdict(&good), Ok(()));
    assert_eq!(verdict(&good.replace("Bearer", "bEARER")), Ok(()), "a scheme's name has no case");
    for other in ["Barker", "Bearer:", "Basic"] {
        let text = good.replace("Bearer", other);
        assert_eq!(verdict(&text), Err(Reason::SignatureMissing), "{other}");
    }
    for rest in ["", "Bearer", "Bearer "] {
        assert_eq!(verdict(rest), Err(Reason::SignatureMissing), "{rest:?}");
    }
}

/// Sixteen kilobytes are a token, and not a byte more.
#[test]
fn a_token_has_a_length_at_most() {
    let own = Own::new("mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }");
    let padded = |pad: usize| token(&own, b"{}", json!({ "pad": "x".repeat(pad) }));
    let verdict = |token: &str| judge(&own.verifier, &with(token), b"{}");
    let pad = (12_000..).find(|pad| padded(*pad).len() >= 16 * 1024).expect("it grows");
    let (longest, longer) = (padded(pad), padded(pad + 1));
    assert_eq!(longest.len(), 16 * 1024);
    assert_eq!(verdict(&longest), Ok(()));
    assert_eq!(verdict(&longer), Err(Reason::SignatureMalformed), "{} bytes", longer.len());
}

#[test]
fn the_token_has_no_say_in_the_algorithm() {
    let own = Own::new(SCHEME);
    let good = token(&own, b"{}", json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"","typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"ES384","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":["ES256"],"typ":"JWT"}"#,
        r#"{"typ":"JWT"}"#,
    ] {
        for signature in ["", parts[2]] {
            let forged = format!("{}.{}.{signature}", encode(header), parts[1]);
            let refused = judge(&own.verifier, &with(&forged), b"{}");
            assert_eq!(refused, Err(Reason::AlgorithmRefused), "{header}");
        }
    }
}

#[test]
fn an_unknown_key_is_a_refusal() {
    let own = Own::new(SCHEME);
    let point = jwk(&own.key.public_pem().unwrap(), "known");
    let verifier = of(SCHEME, &[&point]);
    let headers = HeaderMap::new();
    let signed = |key: &gatepost::verify::TestKey| {
        let signed =
            verifier.sign_with(key, &crate::foreign::presented(&headers, b"{}"), &Map::new());
        HeaderMap::from_iter(signed.unwrap().headers)
    };
    let key = own.key.named("known");
    assert_eq!(judge(&verifier, &signed(&key), b"{}"), Ok(()));
    let key = key.named("other");
    assert_eq!(judge(&verifier, &signed(&key), b"{}"), Err(Reason::KeyUnknown));
}

/// A P-256 key as a JWK.
pub(crate) fn jwk(pem: &str, kid: &str) -> String {
    use base64::engine::general_purpose::STANDARD;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).unwrap();
    let point = &der[der.len() - 64..];
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({
        "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256",
        "x": part(&point[..32]), "y": part(&point[32..]),
    })
    .to_string()
}
