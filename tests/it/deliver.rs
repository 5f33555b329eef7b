//! What the app answers and what the provider is told.

use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    STRIPE,
    connect::counted,
    stripe_to,
    world::{
        Gateway, Provider, Reply, Upstream, eventually, gateway::yaml, provider::stripe_event,
    },
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
    for (result, count) in [("2xx", 3.0), ("3xx", 2.0), ("4xx", 10.0), ("5xx", 4.0)] {
        assert_eq!(counted(&gateway, result).await, count, "{result}");
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
    assert_eq!(counted(&gateway, "timeout").await, 1.0);
    app.open(100);
    eventually("the late answer completes the event", || async {
        gateway.post("/stripe", &headers, &body).await.outcome() == "duplicate"
    })
    .await;
    assert_eq!(app.count(), 1);
    // What the duplicate rests on, beside what is on record of the timeout.
    eventually("it is on record", || async { late(&gateway).is_some() }).await;
    let (records, late) = (gateway.records(), late(&gateway).unwrap());
    let attempt = records.iter().find(|record| record["kind"] == "attempt").unwrap();
    assert_eq!((&late["attempt_seq"], &late["attempt"]), (&attempt["seq"], &attempt["attempt"]));
    assert_eq!((&late["receipt"], &late["event_id"]), (&attempt["receipt"], &attempt["event_id"]));
    assert_eq!((&late["outcome"], &late["upstream_status"]), (&"accepted".into(), &200.into()));
    assert!(late["status"].is_null(), "nobody was told by then");
    let ended = |record: &&Value| record["kind"] == "outcome";
    let ended: Vec<_> = records.iter().filter(ended).map(|record| &record["outcome"]).collect();
    assert_eq!(ended.len(), 2);
    assert!(ended.contains(&&"upstream_timeout".into()));
}

/// What is on record of a success that came too late.
fn late(gateway: &Gateway) -> Option<Value> {
    let late = |record: &Value| record["kind"] == "outcome" && record["reason"] == "late";
    gateway.records().into_iter().find(late)
}

/// An app that takes its time and does not even read: what was to be sent to it is still there.
#[tokio::test]
async fn a_body_counts_for_as_long_as_a_late_answer_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            silent.push(stream);
        }
    });
    let rest = stripe_to(&url).replace("to: app }", "to: app, timeout: 300ms }");
    let gateway = Gateway::start(&format!(
        "{rest}dedup: {{ on_unknown: 1m }}\nlimits: {{ body_memory: 16500KiB }}\n\
         defaults: {{ source: {{ max_body: 16400KiB }} }}\n"
    ))
    .await;
    let post = async |id: &str, bytes: usize| {
        let mut body = stripe_event(id, "invoice.paid");
        body.resize(bytes, b' ');
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await.status
    };
    // More than sockets take.
    assert_eq!(post("evt_1", 16 << 20).await, 504);
    assert_eq!(post("evt_2", 400 << 10).await, 503);
    assert_eq!(gateway.metric("gatepost_shed_total{reason=\"body_memory\"}").await, 1.0);
    tasks.shutdown().await;
    eventually("the app is gone, and the body with it", || async {
        post("evt_3", 400 << 10).await == 502
    })
    .await;
}

#[tokio::test]
async fn how_long_to_wait_is_the_apps_word_within_bounds() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for (n, (says, told)) in
        [("7", "7"), ("0", "1"), ("999999", "3600"), ("soon", "10")].into_iter().enumerate()
    {
        app.answer(Reply { status: 503, headers: vec![("retry-after", says)], body: "" });
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, told), "for {says:?}");
    }
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

#[tokio::test]
async fn an_app_sees_what_the_provider_sent_and_what_we_add() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt ü%", "invoice.paid");
    let mut headers = Provider::Stripe(STRIPE).sign("", "", &body);
    for (name, value) in [
        ("user-agent", "Stripe/1.0"),
        ("x-twice", "one"),
        ("x-twice", "two"),
        ("x-odd", "caf\u{e9}"),
        ("ce-id", "1"),
        ("forwarded", "for=1.2.3.4"),
        ("te", "trailers"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "only to the next"),
    ] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    let received = &app.received()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hooks"));
    let own = concat!("gatepost/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("host", app.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("content-length", body.len().to_string().as_str()),
        ("user-agent", own),
        ("gatepost-original-user-agent", "Stripe/1.0"),
        ("gatepost-provider-id", "evt %C3%BC%25"),
        ("forwarded", "for=1.2.3.4;proto=http;host=hooks.example.com;by=_gatepost"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "hooks.example.com"),
    ] {
        let values: Vec<_> = received.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    assert_eq!(received.headers.get_all("x-twice").iter().count(), 2);
    for name in ["x-odd", "ce-id", "te", "x-hop", "connection"] {
        assert!(!received.headers.contains_key(name), "{name}");
    }
    assert!(received.header("gatepost-received-at").ends_with('Z'));
    assert!(received.header("gatepost-receipt").starts_with("req_"));
}

#[tokio::test]
async fn the_configuration_changes_headers_and_our_prefix() {
    let app = Upstream::start().await;
    let rest = stripe_to(&app.url()).replace(
        "app: { url",
        "app: { headers: { remove: [X-Internal], set: { X-Team: billing } }, url",
    );
    let dir = tempfile::tempdir().unwrap();
    let text = yaml(dir.path(), &rest)
        .replace("server: {", "server: { header_prefix: Hook-, receipt_header: X-Ticket, ");
    let gateway = Gateway::start_whole(dir, &text).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let mut headers = Provider::Stripe(STRIPE).sign("", "", &body);
    for (name, value) in [("x-internal", "1"), ("x-team", "spoofed"), ("hook-source", "spoofed")] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let answer = gateway.post("/stripe", &headers, &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-ticket").starts_with("req_"));
    assert!(!answer.headers.contains_key("webhook-receipt"));
    let received = &app.received()[0];
    assert!(!received.headers.contains_key("x-internal"));
    assert!(!received.headers.contains_key("gatepost-source"));
    assert_eq!((received.header("x-team"), received.header("hook-source")), ("billing", "stripe"));
}
