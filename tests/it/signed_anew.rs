//! Events that are signed for the app: with Standard Webhooks, or once more in their own scheme.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    GITHUB, STRIPE,
    world::{
        Gateway, Provider, Upstream,
        gateway::{binary, yaml},
        provider::{mac, now, stripe_event},
        upstream::Received,
    },
};

const KEY: &[u8] = b"a key of the app, 32 bytes long.";
const SEED: &[u8] = b"a seed of the app, 32 bytes too.";

fn secret(prefix: &str, key: &[u8]) -> String {
    format!("{prefix}{}", STANDARD.encode(key))
}

fn sources(sign: &str, app: &Upstream) -> String {
    format!(
        "sources:\n  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  \
         github: {{ provider: github, secret: \"{GITHUB}\" }}\n  \
         standard: {{ provider: standard-webhooks, secret: \"{}\" }}\n\
         routes: [ {{ source: stripe, to: app }}, {{ source: github, to: app }}, {{ source: standard, to: app }} ]\n\
         upstreams: {{ app: {{ url: \"{}\", sign: {sign} }} }}\n",
        secret("whsec_", STANDARD_KEY),
        app.url()
    )
}

const STANDARD_KEY: &[u8] = b"of the provider, 24 bytes";

/// What is signed, and the signatures of one version.
fn standard(received: &Received, version: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (id, time) = (received.header("webhook-id"), received.header("webhook-timestamp"));
    let signed = [format!("{id}.{time}.").as_bytes(), &received.body].concat();
    let all = received.header("webhook-signature").split(' ');
    let of = all.filter_map(|one| one.strip_prefix(version)?.strip_prefix(','));
    (signed, of.map(|text| STANDARD.decode(text).unwrap()).collect())
}

#[tokio::test]
async fn apps_verify_one_scheme_whatever_the_provider_uses() {
    let app = Upstream::start().await;
    let keys = format!("[\"{}\", \"{}\"]", secret("whsec_", KEY), secret("whsk_", SEED));
    let sign = format!("{{ secret: {keys} }}");
    let gateway = Gateway::start(&sources(&sign, &app)).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let long_ago = now() - 200;
    let sent = [
        ("/stripe", Provider::Stripe(STRIPE).sign_at(long_ago, "", "", &body)),
        ("/github", Provider::GitHub(GITHUB).sign("delivery-1", "push", &body)),
        (
            "/standard",
            Provider::StandardWebhooks(STANDARD_KEY).sign_at(long_ago, "msg_1", "", &body),
        ),
    ];
    let before = now();
    for (path, headers) in &sent {
        let answer = gateway.post(path, headers, &body).await;
        assert_eq!((answer.status, answer.outcome()), (200, "accepted"), "{path}");
    }
    let seed = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(SEED).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&seed).as_ref().to_vec();
    let received = app.received();
    assert_eq!(received.len(), 3);
    for one in &received {
        let time: u64 = one.header("webhook-timestamp").parse().unwrap();
        assert!((before..=now()).contains(&time), "of now, not of when the event was signed");
        assert_eq!(one.header("webhook-id"), one.header("gatepost-event-id"));
        let (signed, v1) = standard(one, "v1");
        assert_eq!(v1, [mac(KEY, &[&signed])]);
        let (_, v1a) = standard(one, "v1a");
        assert_eq!(v1a.len(), 1);
        UnparsedPublicKey::new(&ED25519, &public).verify(&signed, &v1a[0]).unwrap();
    }
    assert_eq!(received[0].header("stripe-signature"), sent[0].1[0].1, "theirs is passed on");
    // A sender of the same headers has them kept elsewhere.
    for (name, value) in &sent[2].1 {
        assert_eq!(received[2].header(&format!("gatepost-original-{name}")), value);
    }
    assert!(!received[0].headers.contains_key("gatepost-original-webhook-id"));

    let check = String::from_utf8(gateway.cli(&["check"]).stdout).unwrap();
    assert!(check.contains(&format!("whpk_{}", STANDARD.encode(&public))), "{check}");
    assert!(!check.contains(&STANDARD.encode(SEED)), "{check}");
}

#[tokio::test]
async fn a_vendors_library_sees_its_own_scheme_with_a_time_of_now() {
    let app = Upstream::start().await;
    let own = "whsec_of_the_app_0123456789abcdefgh";
    let rest = format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\", tolerance: 1d }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\n\
         upstreams: {{ app: {{ url: \"{}\", sign: {{ scheme: native, secret: \"{own}\" }} }} }}\n",
        app.url()
    );
    let gateway = Gateway::start(&rest).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let before = now();
    let sent = Provider::Stripe(STRIPE).sign_at(before - 7200, "", "", &body);
    assert_eq!(gateway.post("/stripe", &sent, &body).await.outcome(), "accepted");
    let received = app.received();
    let values: Vec<_> = received[0].headers.get_all("stripe-signature").iter().collect();
    assert_eq!(values.len(), 1, "the one that came is replaced");
    let text = values[0].to_str().unwrap();
    let time: u64 = text.split(',').find_map(|e| e.strip_prefix("t=")).unwrap().parse().unwrap();
    assert!((before..=now()).contains(&time), "{text}");
    assert_eq!(Provider::Stripe(own).sign_at(time, "", "", &body)[0].1, text);
    assert_eq!(received[0].body, body);
}

#[tokio::test]
async fn a_time_in_a_header_of_its_own_is_replaced_too() {
    let app = Upstream::start().await;
    let (theirs, own) = ("8f742231b10e8888abcd99yyyzzz85a5", "00112233445566778899aabbccddeeff");
    let rest = format!(
        "sources: {{ slack: {{ provider: slack, secret: \"{theirs}\", tolerance: 1d }} }}\n\
         routes: [ {{ source: slack, to: app }} ]\n\
         upstreams: {{ app: {{ url: \"{}\", sign: {{ scheme: native, secret: \"{own}\" }} }} }}\n",
        app.url()
    );
    let gateway = Gateway::start(&rest).await;
    let body = br#"{"event_id":"Ev1","event":{"type":"app_mention"}}"#;
    let before = now();
    let sent = Provider::Slack(theirs).sign_at(before - 7200, "", "", body);
    assert_eq!(gateway.post("/slack", &sent, body).await.outcome(), "accepted");
    let received = &app.received()[0];
    let time: u64 = received.header("x-slack-request-timestamp").parse().unwrap();
    assert!((before..=now()).contains(&time), "{time}");
    for (name, value) in Provider::Slack(own).sign_at(time, "", "", body) {
        let values: Vec<_> = received.headers.get_all(&*name).iter().collect();
        assert_eq!(values, [&value], "{name}");
    }
}

#[tokio::test]
async fn what_was_not_verified_is_never_signed() {
    let app = Upstream::start().await;
    let sign = format!("{{ secret: \"{}\" }}", secret("whsec_", KEY));
    let rest =
        sources(&sign, &app).replace("provider: stripe,", "provider: stripe, enforce: false,");
    let gateway = Gateway::start(&rest).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let forged = Provider::Stripe("whsec_another_secret_0123456789").sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &forged, &body).await.status, 200);
    let received = app.received();
    assert!(received[0].header("gatepost-verified").starts_with("false; "));
    assert!(!received[0].headers.contains_key("webhook-signature"));
    assert!(!received[0].headers.contains_key("webhook-id"));
}

#[test]
fn a_key_that_is_none_and_a_scheme_that_cannot_be_signed_again_are_refused() {
    let long = secret("whsec_", &[7; 65]);
    for (provider, sign, why) in [
        (
            "stripe",
            "{ secret: no-key-at-all-0123456789 }",
            "begins neither with `whsec_` nor with `whsk_`",
        ),
        ("stripe", "{ secret: \"whsec_!!!!!!!!!!!!!!!!!!\" }", "is not base64 behind its prefix"),
        ("stripe", &format!("{{ secret: \"{long}\" }}"), "is not 24 to 64 bytes long"),
        ("stripe", "{ secret: \"whsk_AAAAAAAAAAAAAAAAAAAAAAAA\" }", "is not 32 bytes long"),
        ("stripe", "{ scheme: native }", "`secret`"),
        (
            "linear",
            "{ scheme: native, secret: lin_wh_0123456789abcdef }",
            "the signed time is in the body",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rest = format!(
            "sources: {{ one: {{ provider: {provider}, secret: lin_wh_0123456789abcdef }} }}\n\
             routes: [ {{ source: one, to: app }} ]\n\
             upstreams: {{ app: {{ url: \"http://127.0.0.1:9\", sign: {sign} }} }}\n"
        );
        let file = dir.path().join("gatepost.yaml");
        crate::world::gateway::write_private(&file, &yaml(dir.path(), &rest));
        let out = binary().arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(out.status.code(), Some(78), "{sign}: {said}");
        assert!(said.contains(why), "{sign}: {said}");
        assert!(said.contains("gatepost.yaml:"), "{said}");
    }
}
