//! Shadow mode: the operator's explicit exception. What fails is forwarded marked, touches no dedup, and is on record.

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
