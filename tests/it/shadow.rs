//! Shadow mode: the operator's explicit exception. What fails is forwarded marked, touches no dedup, and is on record.

use std::time::Instant;

use gatepost::audit::{REJECTED_BYTES_PER_SECOND, REJECTED_PER_SECOND};

use crate::{
    STRIPE,
    world::{Gateway, Provider, Upstream, provider::stripe_event},
};

#[tokio::test]
async fn what_would_be_refused_is_forwarded_marked_and_recorded() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\", enforce: false }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let body = stripe_event("evt_1", "invoice.paid");
    let forged = Provider::Stripe("whsec_another_secret_0123456789").sign("", "", &body);
    for _ in 0..2 {
        let answer = gateway.post("/stripe", &forged, &body).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("webhook-outcome"));
    }
    let good = gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
    assert_eq!((good.status, good.outcome()), (200, "accepted"), "the forged twins took no claim");
    let received = app.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[0].header("gatepost-verified"), "false; reason=signature_wrong");
    assert!(received[2].header("gatepost-verified").starts_with("true; "));
    let shadowed: Vec<_> =
        gateway.records().into_iter().filter(|r| r["kind"] == "shadow").collect();
    assert!(!shadowed.is_empty());
    assert_eq!(shadowed[0]["reason"], "signature_wrong");
    let series =
        "gatepost_shadow_would_reject_total{source=\"stripe\",outcome=\"rejected_signature\"}";
    assert_eq!(gateway.metric(series).await, 2.0);
}

/// Nobody has proven anything: what is recorded is bounded as it is for refused requests.
#[tokio::test]
async fn what_strangers_leave_on_record_is_bounded_in_shadow_mode_too() {
    let app = Upstream::start().await;
    let names: Vec<_> = (0..10).map(|n| format!("x-long-{n}")).collect();
    let gateway = Gateway::start(&format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\", enforce: false }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\nupstreams: {{ app: \"{}\" }}\naudit: {{ headers: [{}] }}\n",
        app.url(),
        names.join(", ")
    ))
    .await;
    let begun = Instant::now();
    let body = stripe_event("evt_1", "invoice.paid");
    // Each tab is six bytes on record.
    let long = format!("a{}b", "\t".repeat(250));
    let headers = |count: usize| names[..count].iter().map(|name| (name.clone(), long.clone()));
    for n in 0..60 {
        let headers = headers(if n % 2 == 0 { 2 } else { 10 }).collect();
        assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    }
    let windows = begun.elapsed().as_secs() as usize + 2;
    let records = gateway.records();
    let shadowed: Vec<_> = records.iter().filter(|r| r["kind"] == "shadow").collect();
    assert!(shadowed.len() <= windows * REJECTED_PER_SECOND as usize, "{}", shadowed.len());
    let bytes = shadowed.iter().filter(|r| r["headers"].is_object());
    let bytes: usize =
        bytes.map(|r| r["headers"].to_string().replace("\\t", "\\u0009").len()).sum();
    assert!(
        (1..=windows * REJECTED_BYTES_PER_SECOND).contains(&bytes),
        "{bytes} in {windows} windows"
    );
    assert_eq!(app.count(), 60, "all of them are forwarded");
}
