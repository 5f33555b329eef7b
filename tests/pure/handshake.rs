//! Challenges: which are answered, with what, and on which side of verification.

use bytes::Bytes;
use gatepost::answer::{Answer, Outcome, Reason, Refusal};

use crate::{
    flow::{COVERING, Flow},
    source::headers,
};

fn slack(verify: bool, reply: &str) -> Flow {
    Flow::new(&format!(
        "{COVERING}event: {{ id: '{{body|sha256_hex}}', type: t }}\n\
         handshake: [{{ when: {{ json: {{ type: url_verification }} }}, verify: {verify}, reply: {{ body: '{reply}' }} }}]"
    ))
}

/// What a challenge was answered; none where it was taken for something else.
fn echoed(answer: Answer) -> Option<Bytes> {
    match answer.map(|answered| answered.what) {
        Ok(Outcome::Handshake(challenge)) => Some(challenge.body),
        Ok(_) | Err(_) => None,
    }
}

#[test]
fn only_a_plain_short_challenge_is_answered() {
    let slack = slack(true, "{json:challenge}");
    let long = "x".repeat(257);
    let pad = " ".repeat(64 * 1024);
    for (body, reply) in [
        (r#"{"type":"url_verification","challenge":"3eZb-r_.~"}"#, Some("3eZb-r_.~")),
        (r#"{"challenge":"abc","type":"url_verification","token":"t"}"#, Some("abc")),
        (r#"{"type":"url_verification"}"#, None),
        (r#"{"type":"url_verification","challenge":""}"#, None),
        (r#"{"type":"url_verification","challenge":"<b>"}"#, None),
        (r#"{"type":"url_verification","challenge":"a b"}"#, None),
        (r#"{"type":"url_verification","challenge":"é"}"#, None),
        (r#"{"type":"url_verification","challenge":{}}"#, None),
        (r#"{"type":"url_verification","challenge":"a","challenge":"b"}"#, None),
        (r#"{"type":"event_callback","challenge":"url_verification"}"#, None),
        (r#"{"type":"url_verification","challenge":"a"} x"#, None),
        (&format!(r#"{{"type":"url_verification","challenge":"{long}"}}"#), None),
        (&format!(r#"{{"type":"url_verification","challenge":"a"}}{pad}"#), None),
        ("url_verification", None),
        ("", None),
    ] {
        let short: String = body.chars().take(80).collect();
        let found = echoed(slack.send(&[], body.to_owned()));
        assert_eq!(found, reply.map(|reply| reply.to_owned().into()), "{short}");
    }
}

#[test]
fn headers_are_echoed_and_bodies_never() {
    let body = r#"{"type":"url_verification"}"#;
    let reply = |template: &str, value: &str| {
        echoed(slack(true, template).send(&[("x-challenge", value)], body))
    };
    assert_eq!(reply("ok {header:x-challenge}.", "front"), Some("ok front.".into()));
    assert_eq!(reply("{header:x-challenge|lower}", "Front"), Some("front".into()));
    assert_eq!(reply("{header:x-challenge}", "<script>"), None);
    assert_eq!(reply("{header:x-other}", "front"), None);
    assert_eq!(reply("{header:x-other|default_empty}", "front"), Some("".into()));
    assert_eq!(reply("{body}", "front"), None);
}

#[test]
fn a_rule_is_asked_on_its_side_of_verification() {
    let challenge = r#"{"type":"url_verification","challenge":"a"}"#;
    for verify in [false, true] {
        let slack = slack(verify, "{json:challenge}");
        assert_eq!(echoed(slack.send(&[], challenge)), Some("a".into()), "signed, {verify}");
        let unsigned = slack.post(headers::<&str>(&[]), challenge);
        if verify {
            let refused = Refusal::NotVerified(Reason::SignatureMissing);
            assert_eq!(unsigned.unwrap_err().what, refused);
        } else {
            assert_eq!(echoed(unsigned), Some("a".into()), "an unsigned one before verification");
        }
    }
}

/// While two secrets are in use, each challenge is answered with the one that it was signed with.
#[test]
fn a_challenge_is_answered_with_its_own_secret() {
    use crate::{challenges, flow::NOW};
    let secrets = ["the first of two secrets", "the other of two secrets"];
    let zoom = || challenges::compiled("zoom", &challenges::PARAMS);
    let both = Flow::of(zoom(), &secrets);
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6U"}}"#;
    for secret in secrets {
        let none = http::HeaderMap::new();
        let request = crate::source::presented(&none, body.as_bytes(), NOW);
        let lines = Flow::of(zoom(), &[secret]).signed_as(request);
        let reply = echoed(challenges::ask(&both, "POST", "/in", lines, body, NOW));
        let encrypted = crate::examples::mac(secret, b"qgg8vlvZRS6U");
        let expected = format!(r#"{{"plainToken":"qgg8vlvZRS6U","encryptedToken":"{encrypted}"}}"#);
        assert_eq!(reply.as_deref(), Some(expected.as_bytes()), "{secret}");
    }
}
