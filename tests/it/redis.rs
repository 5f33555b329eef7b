//! Redis away: the source's policy, a clear 503, quick recovery. Strangers cause not a single command.

use crate::{
    STRIPE, stripe_to,
    world::{
        ChaosProxy, Gateway, Provider, RedisServer, Upstream, chaos::Network, eventually,
        provider::stripe_event,
    },
};

fn with_redis(app: &Upstream, url: &str, more: &str) -> String {
    format!(
        "{}dedup: {{ store: redis{more}, redis: {{ url: \"{url}\" }} }}\n",
        stripe_to(&app.url())
    )
}

async fn post(gateway: &Gateway, id: &str) -> (u16, String) {
    let body = stripe_event(id, "invoice.paid");
    let answer =
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
    (answer.status, answer.outcome().to_owned())
}

#[tokio::test]
async fn a_cut_network_is_a_503_and_heals_by_itself() {
    let redis = RedisServer::start(&[]).await;
    let network = ChaosProxy::start(redis.address).await;
    let app = Upstream::start().await;
    let gateway =
        Gateway::start(&with_redis(&app, &format!("redis://{}/0", network.address), "")).await;
    assert_eq!(post(&gateway, "evt_1").await, (200, "accepted".into()));
    for (state, id) in [(Network::Cut, "evt_2"), (Network::Frozen, "evt_3")] {
        network.set(state);
        assert_eq!(post(&gateway, id).await, (503, "store_unavailable".into()), "{state:?}");
        eventually("readiness says so", || async {
            gateway.admin("GET", "/readyz").await.status == 503
        })
        .await;
        network.set(Network::Up);
        eventually("it recovers", || async { post(&gateway, id).await.0 == 200 }).await;
    }
    assert_eq!(post(&gateway, "evt_1").await, (200, "duplicate".into()));
    assert_eq!(app.count(), 3);
}

#[tokio::test]
async fn forward_passes_events_on_marked_when_the_operator_chose_so() {
    let app = Upstream::start().await;
    let dead = crate::world::upstream::dead_address().await;
    let gateway = Gateway::start(&with_redis(
        &app,
        &format!("redis://{dead}/0"),
        ", on_store_error: forward",
    ))
    .await;
    assert_eq!(post(&gateway, "evt_1").await, (200, "accepted".into()));
    assert_eq!(app.received()[0].header("gatepost-dedup"), "unavailable");
}

#[tokio::test]
async fn a_redis_that_may_evict_is_refused() {
    let redis =
        RedisServer::start(&["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let app = Upstream::start().await;
    let gateway = Gateway::start(&with_redis(&app, &redis.url(), "")).await;
    let ready = gateway.admin("GET", "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        String::from_utf8_lossy(&ready.body).contains("noeviction"),
        "{}",
        String::from_utf8_lossy(&ready.body)
    );
    assert_eq!(post(&gateway, "evt_1").await.0, 503);
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    eventually("it becomes ready", || async { post(&gateway, "evt_1").await.0 == 200 }).await;
}

#[tokio::test]
async fn strangers_cause_no_command() {
    let redis = RedisServer::start(&[]).await;
    let app = Upstream::start().await;
    let gateway = Gateway::start(&with_redis(&app, &redis.url(), "")).await;
    assert_eq!(post(&gateway, "evt_1").await.0, 200);
    let before = redis.commands();
    assert!(before.contains_key("evalsha") && before.contains_key("set"), "{before:?}");
    for n in 0..200 {
        let body = stripe_event(&format!("evt_forged_{n}"), "invoice.paid");
        let forged = Provider::Stripe("whsec_another_secret_0123456789").sign("", "", &body);
        assert_eq!(gateway.post("/stripe", &forged, &body).await.status, 401);
    }
    assert_eq!(redis.commands(), before);
    assert!(redis.cli(&["dbsize"]).trim().parse::<u32>().unwrap() <= 3);
}
