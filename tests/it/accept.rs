//! What is signed, new and wanted reaches the app, once, byte for byte, and is on record before it does.

use crate::{
    GITHUB, STRIPE, stripe_to,
    world::{Gateway, Provider, Reply, Upstream, provider::stripe_event},
};

#[tokio::test]
async fn a_signed_event_reaches_the_app_byte_for_byte() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    // Bytes that any re-serialisation would change.
    let body = b"{ \"id\":\"evt_1\",\t\"type\": \"invoice.paid\", \"n\": 1.0e0, \"s\": \"\\u00e9\\/\" }\r\n";
    let answer = gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", body), body).await;
    assert_eq!((answer.status, answer.outcome()), (200, "accepted"));
    assert!(answer.header("webhook-receipt").starts_with("req_"));
    let received = app.received();
    assert_eq!(received.len(), 1);
    assert_eq!(&received[0].body[..], body);
    assert_eq!(received[0].path, "/hooks");
    assert_eq!(received[0].header("gatepost-source"), "stripe");
    assert_eq!(received[0].header("gatepost-event-type"), "invoice.paid");
    assert_eq!(received[0].header("gatepost-provider-id"), "evt_1");
    assert_eq!(received[0].header("gatepost-attempt"), "1");
    assert!(received[0].header("gatepost-verified").starts_with("true; scheme=hmac-sha256"));
    assert!(received[0].header("gatepost-event-id").starts_with("evt_"));
    assert!(received[0].header("stripe-signature").starts_with("t="), "the app may verify again");
}

#[tokio::test]
async fn the_record_comes_before_the_effect() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_first", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let posting = gateway.post("/stripe", &headers, &body);
    let watching = async {
        crate::world::eventually("the app has it", || async { app.count() == 1 }).await;
        let records = gateway.records();
        app.open(1);
        records
    };
    let (answer, records) = tokio::join!(posting, watching);
    assert_eq!(answer.status, 200);
    let attempts: Vec<_> = records.iter().filter(|r| r["kind"] == "attempt").collect();
    assert_eq!(attempts.len(), 1, "{records:?}");
    assert_eq!(attempts[0]["provider_id"], "evt_first");
    assert_eq!(attempts[0]["event_type"], "invoice.paid");
    assert!(records.iter().all(|r| r["kind"] != "outcome"), "no outcome before there is one");
}

#[tokio::test]
async fn types_choose_the_upstream_and_drop_and_unrouted_are_said() {
    let (money, rest) = (Upstream::start().await, Upstream::start().await);
    let gateway = Gateway::start(&format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }} }}\n\
         routes:\n  - {{ source: stripe, events: [\"invoice.*\", \"!invoice.upcoming\"], to: money }}\n\
         \x20 - {{ source: stripe, events: \"*.upcoming\", drop: true }}\n\
         \x20 - {{ source: stripe, events: \"customer.*\", to: rest }}\n\
         upstreams: {{ money: \"{}\", rest: \"{}\" }}\n",
        money.url(),
        rest.url()
    ))
    .await;
    for (kind, outcome) in [
        ("invoice.paid", "accepted"),
        ("invoice.upcoming", "ignored"),
        ("customer.subscription.updated", "accepted"),
        ("charge.succeeded", "ignored"),
    ] {
        let body = stripe_event(&format!("evt_{kind}"), kind);
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
        assert_eq!((answer.status, answer.outcome()), (200, outcome), "{kind}");
    }
    assert_eq!((money.count(), rest.count()), (1, 1));
    let ignored = gateway.records().into_iter().filter(|r| r["outcome"] == "ignored").count();
    assert_eq!(ignored, 2, "what is dropped is on record before it is acknowledged");
    assert!(gateway.metric("gatepost_unrouted_events_total{source=\"stripe\"}").await >= 1.0);
}

#[tokio::test]
async fn every_preset_passes_its_own_events() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources:\n  github: {{ provider: github, secret: \"{GITHUB}\" }}\n\
         \x20 slack: {{ provider: slack, secret: 8f742231b10e8888abcd99yyyzzz85a5 }}\n\
         \x20 sw: {{ provider: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }}\n\
         \x20 shopify: {{ provider: shopify, secret: shpss_0123456789abcdef }}\n\
         routes:\n  - {{ source: github, to: app }}\n  - {{ source: slack, to: app, timeout: 2s }}\n\
         \x20 - {{ source: sw, to: app }}\n  - {{ source: shopify, to: app, timeout: 4s }}\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let sw_key: &[u8] = &[
        0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f, 0x08,
        0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0,
    ];
    let cases: [(&str, Provider, &str, &[u8], &str); 4] = [
        ("/github", Provider::GitHub(GITHUB), "push", br#"{"ref":"refs/heads/main"}"#, "push"),
        (
            "/slack",
            Provider::Slack("8f742231b10e8888abcd99yyyzzz85a5"),
            "",
            br#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#,
            "app_mention",
        ),
        (
            "/sw",
            Provider::StandardWebhooks(sw_key),
            "",
            br#"{"type":"payment.succeeded"}"#,
            "payment.succeeded",
        ),
        (
            "/shopify",
            Provider::Shopify("shpss_0123456789abcdef"),
            "orders/create",
            b"{\"id\":1}",
            "orders/create",
        ),
    ];
    for (n, (path, provider, kind, body, expected)) in cases.into_iter().enumerate() {
        let answer = gateway.post(path, &provider.sign(&format!("id-{n}"), kind, body), body).await;
        assert_eq!(
            (answer.status, answer.outcome()),
            (200, "accepted"),
            "{path}: {:?}",
            answer.json()
        );
        assert_eq!(app.received()[n].header("gatepost-event-type"), expected);
    }
}

#[tokio::test]
async fn a_full_reply_is_relayed_and_a_status_only_reply_is_not() {
    let app = Upstream::start().await;
    app.answer(Reply {
        status: 201,
        headers: vec![
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("server", "leaky/1.0"),
        ],
        body: "{\"text\":\"hello\"}",
    });
    let gateway = Gateway::start(&format!(
        "sources: {{ a: {{ provider: stripe, secret: \"{STRIPE}\" }}, b: {{ provider: stripe, secret: \"{STRIPE}-b\" }} }}\n\
         routes: [ {{ source: a, to: app, reply: full }}, {{ source: b, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let body = stripe_event("evt_1", "invoice.paid");
    let full = gateway.post("/a", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
    assert_eq!((full.status, &full.body[..]), (201, &b"{\"text\":\"hello\"}"[..]));
    assert_eq!(full.header("content-type"), "application/json");
    let b = Provider::Stripe("whsec_test_0123456789abcdefghijklmnop-b");
    let only = gateway.post("/b", &b.sign("", "", &body), &body).await;
    assert_eq!((only.status, &only.body[..]), (201, &b""[..]));
    for answer in [&full, &only] {
        assert!(
            !answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("server")
        );
    }
}

#[tokio::test]
async fn slacks_signed_challenge_is_answered_after_verification_only() {
    let app = Upstream::start().await;
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let gateway = Gateway::start(&format!(
        "sources: {{ slack: {{ provider: slack, secret: {secret} }} }}\n\
         routes: [ {{ source: slack, to: app, timeout: 2s }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let body = br#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let answer = gateway.post("/slack", &Provider::Slack(secret).sign("", "", body), body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(&answer.body[..], b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    let forged = gateway
        .post("/slack", &Provider::Slack("wrong-secret-wrong-secret").sign("", "", body), body)
        .await;
    assert_eq!(forged.status, 401);
    assert_eq!(app.count(), 0);
}
