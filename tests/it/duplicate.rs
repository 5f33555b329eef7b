//! One event reaches its app once; every exception is counted and explained.

use crate::{
    GITHUB, STRIPE, stripe_to,
    world::{
        Gateway, Provider, RedisServer, Reply, Upstream, eventually,
        provider::{mac, stripe_event},
        upstream::dead_address,
    },
};

fn github_to(upstream: &str) -> String {
    format!(
        "sources: {{ github: {{ provider: github, secret: \"{GITHUB}\" }} }}\n\
         routes: [ {{ source: github, to: app }} ]\nupstreams: {{ app: \"{upstream}\" }}\n"
    )
}

#[tokio::test]
async fn a_repeat_of_a_completed_event_is_a_duplicate() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    for outcome in ["accepted", "duplicate", "duplicate"] {
        // A retry has a new timestamp and a new signature.
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
        assert_eq!((answer.status, answer.outcome()), (200, outcome));
    }
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_hundred_twins_at_once_are_one_forward_and_all_get_its_answer() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let twins =
        futures_util::future::join_all((0..100).map(|_| gateway.post("/stripe", &headers, &body)));
    let opening = async {
        eventually("the app has one", || async { app.count() == 1 }).await;
        app.open(100);
    };
    let (answers, ()) = tokio::join!(twins, opening);
    assert_eq!(app.count(), 1);
    assert!(
        answers.iter().all(|a| a.status == 200),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    assert_eq!(answers.iter().filter(|a| a.outcome() == "accepted").count(), 1);
}

#[tokio::test]
async fn two_gateways_on_one_redis_forward_once() {
    let redis = RedisServer::start(&[]).await;
    let app = Upstream::closed().await;
    let config = format!(
        "{}dedup: {{ store: redis, redis: {{ url: \"{}\" }} }}\n",
        stripe_to(&app.url()),
        redis.url()
    );
    let gateways = [Gateway::start(&config).await, Gateway::start(&config).await];
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let twins = (0..100).map(|n| gateways[n % 2].post("/stripe", &headers, &body));
    let opening = async {
        eventually("the app has one", || async { app.count() == 1 }).await;
        app.open(100);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(twins), opening);
    assert_eq!(app.count(), 1);
    let mut outcomes: Vec<_> = answers.iter().map(|a| (a.status, a.outcome())).collect();
    outcomes.sort_unstable();
    let expected = [vec![(200, "accepted")], vec![(200, "duplicate"); 99]].concat();
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn a_failed_delivery_does_not_burn_the_id() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    app.answer(Reply::status(500));
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 502);
    app.answer(Reply::status(200));
    let answer = gateway.post("/stripe", &headers, &body).await;
    assert_eq!((answer.status, answer.outcome()), (200, "accepted"));
    let received = app.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].header("gatepost-attempt"), "2");
    assert_eq!(received[0].header("gatepost-event-id"), received[1].header("gatepost-event-id"));
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_releases_the_claim() {
    let nowhere = dead_address().await;
    let gateway = Gateway::start(&stripe_to(&format!("http://{nowhere}/"))).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    for _ in 0..2 {
        let answer = gateway.post("/stripe", &headers, &body).await;
        assert_eq!((answer.status, answer.outcome()), (502, "upstream_failed"), "never in flight");
    }
}

#[tokio::test]
async fn the_same_id_with_another_body_is_flagged_not_merged() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let (first, second) =
        (stripe_event("evt_1", "invoice.paid"), stripe_event("evt_1", "invoice.voided"));
    let provider = Provider::Stripe(STRIPE);
    assert_eq!(
        gateway.post("/stripe", &provider.sign("", "", &first), &first).await.outcome(),
        "accepted"
    );
    let answer = gateway.post("/stripe", &provider.sign("", "", &second), &second).await;
    assert_eq!((answer.status, answer.outcome()), (200, "same_id_other_body"));
    assert_eq!(gateway.metric("gatepost_body_mismatch_total{source=\"stripe\"}").await, 1.0);
    assert_eq!(app.count(), 1);
}

/// An app that keeps ids unique takes both: each body has an id of its own, at the app and on record.
#[tokio::test]
async fn another_body_is_another_event_where_the_source_says_so() {
    let app = Upstream::start().await;
    let config = format!("{}dedup: {{ same_id_other_body: deliver }}\n", stripe_to(&app.url()));
    let gateway = Gateway::start(&config).await;
    let bodies = ["invoice.paid", "invoice.voided"].map(|kind| stripe_event("evt_1", kind));
    for outcome in ["accepted", "duplicate"] {
        for body in &bodies {
            let headers = Provider::Stripe(STRIPE).sign("", "", body);
            let answer = gateway.post("/stripe", &headers, body).await;
            assert_eq!((answer.status, answer.outcome()), (200, outcome));
        }
    }
    let received = app.received();
    let ids: Vec<_> = received.iter().map(|event| event.header("gatepost-event-id")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    let records = gateway.records();
    let attempts = records.iter().filter(|record| record["kind"] == "attempt");
    assert_eq!(attempts.map(|record| &record["event_id"]).collect::<Vec<_>>(), ids);
    assert_eq!(gateway.metric("gatepost_body_mismatch_total{source=\"stripe\"}").await, 0.0);
}

#[tokio::test]
async fn signed_bytes_under_a_new_unsigned_id_are_a_suspected_replay() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&github_to(&app.url())).await;
    let (github, body) = (Provider::GitHub(GITHUB), &br#"{"action":"opened","n":1}"#[..]);
    let first = gateway.post("/github", &github.sign("guid-1", "issues", body), body).await;
    assert_eq!(first.outcome(), "accepted");
    for n in 2..20 {
        let answer =
            gateway.post("/github", &github.sign(&format!("guid-{n}"), "issues", body), body).await;
        assert_eq!((answer.status, answer.outcome()), (200, "suspected_replay"));
    }
    // One body never serves two types at GitHub.
    let swapped = gateway.post("/github", &github.sign("guid-30", "deployment", body), body).await;
    assert_eq!(swapped.outcome(), "suspected_replay");
    // A manual redelivery keeps its id and is a plain duplicate.
    let redelivered = gateway.post("/github", &github.sign("guid-1", "issues", body), body).await;
    assert_eq!(redelivered.outcome(), "duplicate");
    assert_eq!(app.count(), 1);
}

/// Somebody has a request that its app did not take, and makes another body around what is signed of it, which the app takes.
/// Which of the two came of the provider, nobody knows: the genuine one is not acknowledged, either.
#[tokio::test]
async fn a_genuine_event_is_not_acknowledged_for_a_forged_one() {
    let app = Upstream::start().await;
    let described = "{ provider: custom, secret: \"a secret of sixteen bytes\", \
        verify: { signature: { header: X-Signature }, signed: '{json:time}{json:token}', mac: hmac-sha256 }, \
        event: { id: '{json:id}', type: t, signed_once: true } }";
    let config = format!(
        "sources: {{ mail: {described} }}\nroutes: [ {{ source: mail, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    );
    let gateway = Gateway::start(&config).await;
    let tag = hex::encode(mac(b"a secret of sixteen bytes", &[b"17a8ce"]));
    let headers = vec![("X-Signature".to_owned(), tag)];
    let body = |id: &str| format!(r#"{{"time":"17","token":"a8ce","id":"{id}"}}"#).into_bytes();
    let (genuine, forged) = (body("one"), body("another"));
    let post = async |body: &[u8]| {
        let answer = gateway.post("/mail", &headers, body).await;
        (answer.status, answer.outcome().to_owned())
    };
    let told = |status, outcome: &str| (status, outcome.to_owned());
    app.answer(Reply::status(500));
    assert_eq!(post(&genuine).await, told(502, "upstream_failed"));
    app.answer(Reply::status(200));
    assert_eq!(post(&forged).await, told(200, "accepted"));
    for _ in 0..2 {
        assert_eq!(post(&genuine).await, told(422, "signed_before"));
    }
    assert_eq!(post(&forged).await, told(200, "duplicate"));
    let records = gateway.records();
    let told: Vec<_> = records.iter().filter(|r| r["outcome"] == "signed_before").collect();
    assert!(told.len() == 2 && told.iter().all(|r| r["kind"] == "duplicate"), "{told:?}");
}

#[tokio::test]
async fn an_id_that_was_taken_in_advance_does_not_stop_the_real_event() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&github_to(&app.url())).await;
    let github = Provider::GitHub(GITHUB);
    let (captured, real) = (&br#"{"n":1}"#[..], &br#"{"n":2}"#[..]);
    gateway.post("/github", &github.sign("guid-coming", "push", captured), captured).await;
    let answer = gateway.post("/github", &github.sign("guid-coming", "push", real), real).await;
    assert_eq!(answer.outcome(), "accepted");
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn equal_ids_of_two_sources_are_two_events() {
    let app = Upstream::start().await;
    let other = "whsec_other_0123456789abcdefghijklmnop";
    let gateway = Gateway::start(&format!(
        "sources: {{ one: {{ provider: stripe, secret: \"{STRIPE}\" }}, two: {{ provider: stripe, secret: \"{other}\" }} }}\n\
         routes: [ {{ source: one, to: app }}, {{ source: two, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let body = stripe_event("evt_1", "invoice.paid");
    assert_eq!(
        gateway.post("/one", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await.outcome(),
        "accepted"
    );
    assert_eq!(
        gateway.post("/two", &Provider::Stripe(other).sign("", "", &body), &body).await.outcome(),
        "accepted"
    );
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn the_embedded_store_remembers_over_a_crash() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.outcome(), "accepted");
    let gateway = Gateway::start_in(gateway.kill().await, &stripe_to(&app.url())).await;
    assert_eq!(gateway.post("/stripe", &headers, &body).await.outcome(), "duplicate");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_sender_that_hangs_up_cancels_nothing() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    {
        let posting = gateway.post("/stripe", &headers, &body);
        let seen = eventually("the app has it", || async { app.count() == 1 });
        tokio::select! { _ = posting => panic!("answered by a closed app"), () = seen => {} }
    } // the connection is dropped here, in the middle of the delivery
    app.open(100);
    eventually("the delivery is completed all the same", || async {
        gateway.records().iter().any(|r| r["kind"] == "outcome" && r["outcome"] == "accepted")
    })
    .await;
    let answer = gateway.post("/stripe", &headers, &body).await;
    assert_eq!((answer.status, answer.outcome()), (200, "duplicate"));
    assert_eq!(app.count(), 1);
}
