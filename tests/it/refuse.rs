//! Strangers get one answer, whatever is wrong, and nothing of theirs reaches a store, an app or a decision.

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, Provider, Upstream, eventually,
        provider::{Headers, now, stripe_event},
    },
};

/// Whatever else it has: who may not send from there is told what every stranger is told.
#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused() {
    let app = Upstream::start().await;
    for (allowed, status) in [("192.0.2.0/24", 401), ("127.0.0.0/8", 200)] {
        let rest = stripe_to(&app.url());
        let of = rest.replacen(
            "provider: stripe",
            &format!("provider: stripe, allow_ips: [{allowed}]"),
            1,
        );
        assert_ne!(of, rest);
        let gateway = Gateway::start(&of).await;
        let body = stripe_event("evt_1", "invoice.paid");
        let headers = Provider::Stripe(STRIPE).sign("", "", &body);
        let answer = gateway.post("/stripe", &headers, &body).await;
        assert_eq!(answer.status, status, "{allowed}");
        let refused = "gatepost_requests_total{source=\"stripe\",outcome=\"address_not_allowed\"}";
        assert_eq!(gateway.metric(refused).await, f64::from(u8::from(status == 401)), "{allowed}");
    }
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn every_failed_verification_looks_the_same() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let good = Provider::Stripe(STRIPE);
    let header = |value: &str| vec![("stripe-signature".to_owned(), value.to_owned())];
    let twice: Headers = [good.sign("", "", &body), good.sign("", "", &body)].concat();
    let cases: Vec<(&str, Headers)> = vec![
        ("missing", vec![]),
        ("empty", header("")),
        ("forged", Provider::Stripe("whsec_another_secret_0123456789").sign("", "", &body)),
        ("stale", good.sign_at(now() - 301, "", "", &body)),
        ("future", good.sign_at(now() + 400, "", "", &body)),
        ("another body", good.sign("", "", b"{}")),
        ("repeated header", twice),
        ("no v1 in it", header("t=1;v1=zz")),
    ];
    let mut answers = Vec::new();
    for (name, headers) in &cases {
        let answer = gateway.post("/stripe", headers, &body).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.header("www-authenticate"), "Webhook-Signature");
        assert_eq!(answer.header("content-type"), "application/problem+json", "RFC 9457");
        assert!(!answer.headers.contains_key("webhook-outcome"), "{name}: strangers learn nothing");
        assert_eq!(answer.headers.get_all("webhook-receipt").iter().count(), 1, "{name}");
        let receipt = answer.header("webhook-receipt").to_owned();
        answers.push(String::from_utf8(answer.body.to_vec()).unwrap().replace(&receipt, "RECEIPT"));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(app.count(), 0);
    eventually("a sample is on record", || async { !gateway.records().is_empty() }).await;
    let records = gateway.records();
    assert!(records.iter().all(|r| r["kind"] == "rejected"), "{records:?}");
    assert!(records.len() <= cases.len(), "sampled");
    assert_eq!(
        gateway
            .metric("gatepost_requests_total{source=\"stripe\",outcome=\"rejected_missing\"}")
            .await,
        3.0,
        "no header, an empty one, one without a v1"
    );
}

#[tokio::test]
async fn paths_and_methods_are_exact() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    for path in ["/", "/stripe/", "//stripe", "/STRIPE", "/stripe;x=1", "/%73tripe", "/a/../stripe"]
    {
        assert_eq!(gateway.post(path, &headers, &body).await.status, 404, "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "post"] {
        let answer = gateway.request(method, "/stripe", &headers, &body).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
    let browser = vec![("accept".to_owned(), "text/html,*/*".to_owned())];
    let page = gateway.request("GET", "/stripe", &browser, b"").await;
    assert!(String::from_utf8_lossy(&page.body).contains("This is a webhook endpoint"));
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn bodies_are_bounded_and_codings_refused() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "{}defaults: {{ source: {{ max_body: 4KiB }} }}\n",
        stripe_to(&app.url())
    ))
    .await;
    let fits = stripe_event(&"e".repeat(200), "invoice.paid");
    assert_eq!(
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &fits), &fits).await.status,
        200
    );
    let long = vec![b' '; 4097];
    let answer =
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &long), &long).await;
    assert_eq!((answer.status, answer.json()["max_bytes"].as_u64()), (413, Some(4096)));
    let mut coded = Provider::Stripe(STRIPE).sign("", "", &fits);
    coded.push(("content-encoding".to_owned(), "gzip".to_owned()));
    assert_eq!(gateway.post("/stripe", &coded, &fits).await.status, 415);
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn an_authentic_event_without_an_id_is_422_and_on_record() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for body in [
        &b"{}"[..],
        b"{\"type\":\"invoice.paid\"}",
        b"{\"id\":1,\"type\":\"invoice.paid\"}",
        b"{\"id\":\"a\",\"id\":\"b\",\"type\":\"invoice.paid\"}",
        b"{\"id\":\"a\",\"\\u0069d\":\"b\",\"type\":\"invoice.paid\"}",
        b"{\"id\":\"a\\u0000b\",\"type\":\"invoice.paid\"}",
        b"",
        b"not json",
    ] {
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", body), body).await;
        assert_eq!(answer.status, 422, "{}", String::from_utf8_lossy(body));
        assert_eq!(answer.outcome(), "malformed");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(gateway.records().iter().filter(|r| r["outcome"] == "malformed").count(), 8);
}
