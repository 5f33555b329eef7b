//! What the app answers and what the provider is told.

use crate::{
    STRIPE, stripe_to,
    world::{Gateway, Provider, Reply, Upstream, eventually, provider::stripe_event},
};

#[tokio::test]
async fn statuses_are_mapped_so_that_no_provider_gives_up() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for (n, (answered, told)) in [
        (200, 200),
        (202, 202),
        (204, 204),
        (301, 502),
        (302, 502),
        (400, 400),
        (401, 502),
        (403, 502),
        (404, 502),
        (405, 502),
        (408, 503),
        (410, 502),
        (422, 422),
        (425, 503),
        (429, 503),
        (500, 502),
        (501, 502),
        (503, 503),
        (504, 502),
    ]
    .into_iter()
    .enumerate()
    {
        app.answer(Reply {
            status: answered,
            headers: vec![("location", "http://169.254.169.254/")],
            body: "secret detail",
        });
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
        assert_eq!(answer.status, told, "for {answered}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret detail"), "{answered}");
        assert!(!answer.headers.contains_key("location"), "{answered}");
        assert_eq!(app.count(), n + 1, "no redirect followed, nothing repeated");
        if told == 503 {
            assert!(!answer.header("retry-after").is_empty(), "{answered}");
        }
    }
}

#[tokio::test]
async fn a_timeout_is_unknown_held_and_completed_by_a_late_answer() {
    let app = Upstream::closed().await;
    let rest = stripe_to(&app.url()).replace("to: app }", "to: app, timeout: 300ms }");
    let gateway =
        Gateway::start(&format!("{rest}dedup: {{ on_unknown: 15s, join_timeout: 100ms }}\n")).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let answer = gateway.post("/stripe", &headers, &body).await;
    assert_eq!((answer.status, answer.outcome()), (504, "upstream_timeout"));
    let held = gateway.post("/stripe", &headers, &body).await;
    assert_eq!((held.status, held.outcome()), (503, "duplicate_in_flight"));
    assert!(!held.header("retry-after").is_empty());
    app.open(100);
    eventually("the late answer completes the event", || async {
        gateway.post("/stripe", &headers, &body).await.outcome() == "duplicate"
    })
    .await;
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn spoofed_headers_do_not_reach_the_app() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let mut headers = Provider::Stripe(STRIPE).sign("", "", &body);
    for (name, value) in [
        ("gatepost-verified", "true; scheme=trust-me"),
        ("gatepost-event-id", "evt_spoofed"),
        ("x-forwarded-host", "evil.example"),
        ("authorization", "Bearer stolen"),
        ("cookie", "session=1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-stripe-custom", "kept"),
    ] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    let received = &app.received()[0];
    for name in ["gatepost-verified", "gatepost-event-id", "x-forwarded-host"] {
        assert_eq!(received.headers.get_all(name).iter().count(), 1, "{name}: ours, once");
    }
    assert!(received.header("gatepost-verified").starts_with("true; scheme=hmac-sha256"));
    assert_ne!(received.header("gatepost-event-id"), "evt_spoofed");
    assert_eq!(received.header("x-forwarded-host"), "hooks.example.com");
    for name in ["authorization", "cookie", "traceparent"] {
        assert!(!received.headers.contains_key(name), "{name}");
    }
    assert_eq!(received.header("x-stripe-custom"), "kept");
}
