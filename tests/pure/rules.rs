//! What must hold besides the signature's spelling: time, inputs, secrets, scheme, and every byte of the body.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason::{
        HeaderRepeated, InputAmbiguous, InputMissing, RequirementFailed, SecretExpired,
        SignatureMalformed, SignatureMissing, SignatureWrong, TimestampFuture, TimestampMalformed,
        TimestampMissing, TimestampPast, TimestampRepeated,
    },
    event::{Digest, Timestamp},
    secret::Secret,
    verify::{LiveSecret, Verifier},
};

use crate::{
    examples::{
        BODY, GH, GH_BODY, GH_SECRET, NOW, SECRET, SW, SW_BODY, SW_ID, SW_SECRET, SW_TIME, Verdict,
        github, mac, stripe, stripe_mac,
    },
    source::{URL, compiled, custom, headers, presented, preset, verifier, verify},
};

#[test]
fn times_have_one_spelling_and_two_limits() {
    for (time, verdict) in [
        ("1700000000", Ok(())),
        ("1699999700", Ok(())),
        ("1700000300", Ok(())),
        ("1699999699", Err(TimestampPast)),
        ("1700000301", Err(TimestampFuture)),
        ("1700000000000", Err(TimestampFuture)),
        ("0", Err(TimestampPast)),
        ("-1", Err(TimestampMalformed)),
        ("+1700000000", Err(TimestampMalformed)),
        ("01700000000", Err(TimestampMalformed)),
        ("1e9", Err(TimestampMalformed)),
        ("1.7e9", Err(TimestampMalformed)),
        (" 1700000000", Err(TimestampMalformed)),
        ("1700000000.0", Err(TimestampMalformed)),
        ("1_700_000_000", Err(TimestampMalformed)),
        ("0x6553f100", Err(TimestampMalformed)),
        ("Infinity", Err(TimestampMalformed)),
        ("", Err(TimestampMalformed)),
        ("18446744073709551616", Err(TimestampMalformed)),
        ("9223372036854775807", Err(TimestampMalformed)),
        ("9223372036854775", Err(TimestampFuture)),
    ] {
        let signature = format!("t={time},v1={}", stripe_mac(time));
        assert_eq!(stripe(&signature), verdict, "{time:?}");
    }
}

/// A forger learns nothing of our clock, and has us parse nothing: the time counts once the signature held.
#[test]
fn a_time_is_looked_at_after_the_signature() {
    let wrong = "0".repeat(64);
    assert_eq!(stripe(&format!("t=1,v1={wrong}")), Err(SignatureWrong));
    let linear = preset("linear", "lin_wh_a_secret_of_linear");
    for body in [&b"{"[..], br#"{"webhookTimestamp":1}"#] {
        let verdict = verify(&linear, &[("Linear-Signature", &wrong)], body, NOW);
        assert_eq!(verdict, Err(SignatureWrong));
    }
    let body = br#"{"webhookTimestamp":1}"#;
    let signature = mac("lin_wh_a_secret_of_linear", body);
    let verdict = verify(&linear, &[("Linear-Signature", signature)], body, NOW);
    assert_eq!(verdict, Err(TimestampPast));
}

/// A sender that counts whole seconds is held to whole seconds, wherever in its second we are.
#[test]
fn whole_seconds_are_compared_with_whole_seconds() {
    let signature = format!("t=1699999700,v1={}", stripe_mac("1699999700"));
    let headers = headers(&[("Stripe-Signature", &signature)]);
    let mut request = presented(&headers, BODY, NOW);
    request.received_at = Timestamp::from_millis(NOW * 1000 + 999);
    assert!(preset("stripe", SECRET).verify(&request).is_ok());
}

#[test]
fn a_time_in_milliseconds_and_as_a_date() {
    let check = |unit: &str, time: &str| {
        let yaml = format!(
            "verify:\n  signature: {{ header: X-Signature }}\n  signed: '{{header:X-Time}}.{{body}}'\n  \
             timestamp: {{ from: '{{header:X-Time}}', unit: {unit}, past: 5m, future: 10s }}"
        );
        let verifier = verifier(custom(&yaml), &[SECRET]).expect("a verifier");
        let lines = [("X-Time", time), ("X-Signature", &stripe_mac(time))];
        verify(&verifier, &lines, BODY, NOW).map(drop)
    };
    for (unit, time, verdict) in [
        ("ms", "1700000000000", Ok(())),
        ("ms", "1699999700000", Ok(())),
        ("ms", "1699999699999", Err(TimestampPast)),
        ("ms", "1700000010001", Err(TimestampFuture)),
        ("ms", "1700000000", Err(TimestampPast)),
        ("rfc3339", "2023-11-14T22:13:20Z", Ok(())),
        ("rfc3339", "2023-11-14T22:13:20.123456789Z", Ok(())),
        ("rfc3339", "2023-11-14T23:13:20+01:00", Ok(())),
        ("rfc3339", "2023-11-14T22:08:19Z", Err(TimestampPast)),
        ("rfc3339", "2023-11-14T22:13:31Z", Err(TimestampFuture)),
        ("rfc3339", "2023-11-14 22:13:20Z", Err(TimestampMalformed)),
        ("rfc3339", "2023-11-14T22:13:20", Err(TimestampMalformed)),
        ("rfc3339", "2023-11-14T22:13:20.Z", Err(TimestampMalformed)),
        ("rfc3339", "2023-11-14T22:13:20.1234567890Z", Err(TimestampMalformed)),
        ("rfc3339", "2023-13-14T22:13:20Z", Err(TimestampMalformed)),
        ("rfc3339", "2023-11-14t22:13:20z", Err(TimestampMalformed)),
        ("rfc3339", "2023-11-14T22:13:20Z[UTC]", Err(TimestampMalformed)),
        ("rfc3339", "1700000000", Err(TimestampMalformed)),
    ] {
        assert_eq!(check(unit, time), verdict, "{unit} {time}");
    }
}

/// Two requests that a provider signs alike must not be read as two: the separator cannot move into an id.
#[test]
fn no_separator_can_be_shifted() {
    let verifier = preset("standard-webhooks", SW_SECRET);
    let key = STANDARD.decode(&SW_SECRET[6..]).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let check = |id: &[u8], time: &[u8], body: &[u8]| -> Verdict {
        let signed = [id, b".", time, b".", body].concat();
        let signature = format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)));
        let lines: [(&str, &[u8]); 3] = [
            ("webhook-id", id),
            ("webhook-timestamp", time),
            ("webhook-signature", signature.as_bytes()),
        ];
        verify(&verifier, &lines, body, NOW).map(drop)
    };
    let time: &[u8] = b"1700000000";
    assert_eq!(check(b"msg_1", time, b"{}"), Ok(()));
    // The same signed text thrice, cut elsewhere.
    assert_eq!(check(b"a", time, b"1700000000.{}"), Ok(()));
    assert_eq!(check(b"a.1700000000", time, b"{}"), Err(InputAmbiguous));
    assert_eq!(check(b"a", b"1700000000.1700000000", b"{}"), Err(TimestampMalformed));
    assert_eq!(check(b"a b", time, b"{}"), Err(InputAmbiguous));
    assert_eq!(check(b"a\tb", time, b"{}"), Err(InputAmbiguous));
    assert_eq!(check(&[b'a'; 256], time, b"{}"), Ok(()));
    assert_eq!(check(&[b'a'; 257], time, b"{}"), Err(InputAmbiguous));
}

#[test]
fn values_of_the_body_in_the_signed_text() {
    let yaml = "verify:\n  signature: { header: X-Signature }\n  signed: '{json:id}.{body}'";
    let verifier = verifier(custom(yaml), &[SECRET]).expect("a verifier");
    let good: &[u8] = br#"{"id":17}"#;
    for (body, signed, verdict) in [
        (good, &b"17.{\"id\":17}"[..], Ok(())),
        (good, b"{\"id\":17}", Err(SignatureWrong)),
        (br#"{"id":"a\u0000b"}"#, b"", Err(InputAmbiguous)),
        (br#"{"id":"a.b"}"#, b"", Err(InputAmbiguous)),
        (br#"{"id":"a","id":"b"}"#, b"", Err(InputAmbiguous)),
        (br#"{"id":null}"#, b"", Err(InputMissing)),
        (b"nonsense", b"", Err(InputMissing)),
    ] {
        let lines = [("X-Signature", mac(SECRET, signed))];
        let found = verify(&verifier, &lines, body, NOW).map(drop);
        assert_eq!(found, verdict, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_is_signed_over_must_be_there_once() {
    let verifier = preset("standard-webhooks", SW_SECRET);
    let (time, good) = (SW_TIME.to_string(), format!("v1,{SW}"));
    let (id, time) = (("webhook-id", SW_ID), ("webhook-timestamp", time.as_str()));
    let signature = ("webhook-signature", good.as_str());
    for (lines, verdict) in [
        (vec![id, time, signature], Ok(())),
        (vec![time, signature], Err(InputMissing)),
        (vec![id, signature], Err(TimestampMissing)),
        (vec![id, time], Err(SignatureMissing)),
        (vec![id, id, time, signature], Err(HeaderRepeated)),
        (vec![id, time, time, signature], Err(TimestampRepeated)),
        (vec![id, time, signature, signature], Err(HeaderRepeated)),
    ] {
        assert_eq!(verify(&verifier, &lines, SW_BODY, SW_TIME).map(drop), verdict, "{lines:?}");
    }
}

#[test]
fn secrets_that_are_none() {
    let refused = |provider: &str, secret: &str| {
        verifier(compiled(provider), &[secret]).err().unwrap_or_default()
    };
    let not_base64 = "secret 1 is not base64, which this scheme needs";
    for (provider, secret, problem) in [
        ("github", "", "secret 1 is empty"),
        ("github", " \n ", "secret 1 is nothing but white space"),
        ("github", "key\0", "secret 1 holds a NUL byte"),
        ("standard-webhooks", "whsec_", "secret 1 is empty but for its prefix"),
        ("standard-webhooks", "whsec_not base64", not_base64),
        ("standard-webhooks", "whsec_YWJjZB==", not_base64),
        ("gitlab", "whsec_not base64", not_base64),
        ("svix", "whsec_!", not_base64),
    ] {
        assert_eq!(refused(provider, secret), problem, "{secret:?}");
    }
    let problem = Verifier::new(compiled("github").schemes, vec![], URL).err();
    assert_eq!(problem.as_deref(), Some("a source needs a scheme and a secret to be verified by"));
    let secret = LiveSecret { secret: Secret::new("0123456789abcdef"), expires: None, id: None };
    assert!(Verifier::new(compiled("square").schemes, vec![secret], "").is_err(), "no URL");
    let hex = "verify:\n  key: { encoding: hex }\n  signature: { header: X }\n  signed: '{body}'";
    assert!(verifier(custom(hex), &["nothex"]).is_err());
    assert!(verifier(custom(hex), &["00ff"]).is_ok());
}

#[test]
fn another_sources_secret_does_not_fit() {
    let other = preset("github", "the secret of another source");
    let lines = [("X-Hub-Signature-256", GH)];
    assert_eq!(verify(&other, &lines, GH_BODY, NOW), Err(SignatureWrong));
    // What an empty key would make of `{}`: there is no such key.
    let empty = "sha256=22f8eea909400af98adf3681a9f31923ef6b7fcba4abb553d92823a3e9d5c25e";
    assert_eq!(github(&[("X-Hub-Signature-256", empty.as_bytes())], b"{}"), Err(SignatureWrong));
}

#[test]
fn a_body_that_was_touched() {
    let text = "{\"name\": \"caf\u{e9}\",\n\"n\": 1.0}\n";
    let good = format!("sha256={}", mac(GH_SECRET, text.as_bytes()));
    let lines: [(&str, &[u8]); 1] = [("X-Hub-Signature-256", good.as_bytes())];
    assert_eq!(github(&lines, text.as_bytes()), Ok(()));
    for touched in [
        format!("{text}\n"),
        text.trim_end().to_owned(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.replace('\u{e9}', "e\u{301}"),
        text.replace(": ", ":"),
        text.replace("1.0", "1"),
        String::new(),
    ] {
        assert_eq!(github(&lines, touched.as_bytes()), Err(SignatureWrong), "{touched:?}");
    }
}

#[test]
fn an_empty_body_can_be_signed() {
    let good = format!("sha256={}", mac(GH_SECRET, b""));
    assert_eq!(github(&[("X-Hub-Signature-256", good.as_bytes())], b""), Ok(()));
}

#[test]
fn rotation() {
    let until = Timestamp::from_millis(NOW * 1000);
    let live =
        |secret: &str, expires| LiveSecret { secret: Secret::new(secret), expires, id: None };
    let secrets = vec![
        live("the newest secret of all", None),
        live(GH_SECRET, Some(until)),
        live("the oldest secret of all", Some(Timestamp::from_millis(0))),
    ];
    let verifier = Verifier::new(compiled("github").schemes, secrets, URL).expect("a verifier");
    let check = |secret: &str, now| {
        let signature = format!("sha256={}", mac(secret, GH_BODY));
        verify(&verifier, &[("X-Hub-Signature-256", signature)], GH_BODY, now).map(|p| p.slot)
    };
    assert_eq!(check("the newest secret of all", NOW), Ok(1));
    assert_eq!(check(GH_SECRET, NOW - 1), Ok(2));
    assert_eq!(check(GH_SECRET, NOW), Err(SignatureWrong), "not accepted from that moment on");
    assert_eq!(check("the oldest secret of all", NOW - 1), Err(SignatureWrong));
    assert_eq!(check("no secret of ours", NOW - 1), Err(SignatureWrong));

    let only = vec![live(GH_SECRET, Some(until))];
    let verifier = Verifier::new(compiled("github").schemes, only, URL).expect("a verifier");
    let lines = [("X-Hub-Signature-256", GH)];
    assert_eq!(verify(&verifier, &lines, GH_BODY, NOW), Err(SecretExpired));
    let proof = verify(&verifier, &lines, GH_BODY, NOW - 1).expect("still good");
    assert_eq!((proof.scheme, proof.slot, proof.signed_at), ("hmac-sha256", 1, None));
    assert!(!GH_SECRET.contains(&*proof.label) && proof.label.contains('…'));
}

#[test]
fn no_downgrade_from_a_signature_to_a_token() {
    let signing = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    let both = verifier(compiled("gitlab"), &[signing, "a plain secret token"]).expect("both");
    let token = ("X-Gitlab-Token", "a plain secret token");
    assert_eq!(verify(&both, &[token], b"{}", NOW).map(|p| p.slot), Ok(2));
    let forged = [
        token,
        ("webhook-signature", &format!("v1,{SW}")),
        ("webhook-id", "1"),
        ("webhook-timestamp", "1700000000"),
    ];
    assert_eq!(verify(&both, &forged, b"{}", NOW), Err(SignatureWrong));
    let empty = [token, ("webhook-signature", "")];
    assert_eq!(verify(&both, &empty, b"{}", NOW), Err(SignatureMissing));
    // A signing token is never a token that could be shown, nor the other way round.
    assert_eq!(verify(&both, &[("X-Gitlab-Token", signing)], b"{}", NOW), Err(SignatureWrong));
    let plain = verifier(compiled("gitlab"), &["a plain secret token"]).expect("one");
    assert_eq!(verify(&plain, &forged, b"{}", NOW), Err(SignatureWrong));
}

#[test]
fn tokens_and_basic_credentials() {
    let bearer = "verify: { signature: { header: Authorization, prefix: 'Bearer ' }, mac: token }";
    let token = verifier(custom(bearer), &["a token of the sender"]).expect("a verifier");
    let basic = custom("verify: { mac: basic }");
    let basic = verifier(basic, &["user:pass:word"]).expect("a verifier");
    let check = |verifier: &Verifier, value: &str| {
        verify(verifier, &[("Authorization", value)], b"{}", NOW).map(drop)
    };
    for (value, verdict) in [
        ("Bearer a token of the sender", Ok(())),
        ("Bearer a token of the sende", Err(SignatureWrong)),
        ("Bearer a token of the sender2", Err(SignatureWrong)),
        ("Bearer ", Err(SignatureMalformed)),
        ("bearer a token of the sender", Err(SignatureMalformed)),
        ("a token of the sender", Err(SignatureMalformed)),
    ] {
        assert_eq!(check(&token, value), verdict, "{value}");
    }
    for (value, verdict) in [
        ("Basic dXNlcjpwYXNzOndvcmQ=", Ok(())),
        ("basic dXNlcjpwYXNzOndvcmQ=", Ok(())),
        ("Basic dXNlcjpwYXNzOndvcmQ", Err(SignatureMalformed)),
        ("Basic dXNlcjpwYXNz", Err(SignatureWrong)),
        ("Basic ", Err(SignatureWrong)),
        ("Bearer dXNlcjpwYXNzOndvcmQ=", Err(SignatureMalformed)),
    ] {
        assert_eq!(check(&basic, value), verdict, "{value}");
    }
    let nobody = verifier(custom("verify: { mac: basic }"), &["no colon in here"]);
    assert!(nobody.is_err_and(|e| e.contains("user:password")));
}

/// Signatures inside a form, required equalities, other hashes: what presets do not use yet.
#[test]
fn the_rest_of_the_language() {
    let yaml = "verify:\n  signature: { from: '{form:signature}', encoding: hex }\n  \
                signed: '{form:timestamp}{form:token}'\n  mac: hmac-sha1\n  \
                require: [{ left: '{query:digest}', right: '{body|sha256_hex}' }]";
    let verifier = verifier(custom(yaml), &[SECRET]).expect("a verifier");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let signature = hex::encode(hmac::sign(&key, b"1700000000a b"));
    let body = format!("timestamp=1700000000&token=a%20b&signature={signature}");
    let check = |body: &str, digest: &str| {
        let form = headers(&[("Content-Type", "application/x-www-form-urlencoded")]);
        let target = format!("/x?digest={digest}");
        let mut request = presented(&form, body.as_bytes(), NOW);
        request.target = &target;
        verifier.verify(&request).map(drop)
    };
    let digest = |body: &str| Digest::of(body.as_bytes()).to_string();
    assert_eq!(check(&body, &digest(&body)), Ok(()));
    assert_eq!(check(&body, &digest("")), Err(RequirementFailed));
    let twice = format!("{body}&token=x");
    assert_eq!(check(&twice, &digest(&twice)), Err(InputAmbiguous));
    let none = body.replace("signature", "signatur");
    assert_eq!(check(&none, &digest(&none)), Err(SignatureMissing));
}
