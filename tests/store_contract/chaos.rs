//! Redis that is away, frozen, full, forgetful, or about to forget.

use super::*;

/// As a gateway would have it.
fn hasty(server: &redis::Server) -> Store {
    let url = format!("redis://{}", server.address());
    connect(&RedisSettings { timeout: Duration::from_millis(250), ..settings(url) })
}

/// Fails, and soon.
async fn fails(store: &Store) -> String {
    let failing = async {
        loop {
            match store.claim(&fresh(), A, HOUR, HOUR).await {
                Ok(_) => sleep(Duration::from_millis(5)).await,
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.expect("it fails")
}

/// Answers again, without being told that it can.
async fn recovers(store: &Store) {
    let recovering = async {
        while store.claim(&fresh(), A, HOUR, HOUR).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovering).await.expect("it recovers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_an_error_and_comes_back_without_its_scripts() {
    let mut server = redis::Server::start(&[]);
    let (store, event) = (hasty(&server), fresh());
    claim(&store, &event, A).await;
    server.kill();
    assert!(fails(&store).await.contains(&server.address()));
    let error = store.complete(&event, HOUR).await.expect_err("it is away").to_string();
    assert!(error.contains(&server.address()), "{error}");
    store.health().await.expect_err("it is away");
    server.up();
    recovers(&store).await;
    store.complete(&event, HOUR).await.expect("onto an empty Redis: it repairs what was lost");
    assert_eq!(claim(&store, &event, B).await, DONE);
    server.cli(&["script", "flush"]);
    assert_eq!(claim(&store, &event, B).await, DONE, "scripts are sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_costs_no_operation() {
    let server = redis::Server::start(&[]);
    let store = standalone(&server);
    for _ in 0..5 {
        claim(&store, &fresh(), A).await;
        assert_eq!(server.cli(&["client", "kill", "type", "normal"]), "1");
        assert_eq!(claim(&store, &fresh(), A).await, WON, "on another one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_before_its_redis() {
    let mut server = redis::Server::prepared(&[]);
    let store = hasty(&server);
    store.health().await.expect_err("nobody is there");
    fails(&store).await;
    server.up();
    recovers(&store).await;
    store.health().await.expect("it is ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_may_act_later_and_the_same_claim_is_still_ours() {
    let server = redis::Server::start(&[]);
    let (store, event) = (hasty(&server), fresh());
    claim(&store, &fresh(), A).await;
    server.signal("STOP");
    for _ in 0..5 {
        let error = store.claim(&event, A, HOUR, HOUR).await.expect_err("frozen").to_string();
        assert!(error.contains("no answer") || error.contains("not connected"), "{error}");
    }
    server.signal("CONT");
    let key = format!("gatepost:{}", event.key.event_id());
    redis::wait_for("a claim without an answer", || server.cli(&["exists", &key]) == "1");
    recovers(&store).await;
    let claimed = claim(&store, &event, A).await;
    assert_eq!(claimed, WON, "however many more of the five were carried out");
    assert!(in_flight(claim(&store, &event, B).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_evict_is_refused_until_it_may_not() {
    let server = redis::Server::start(&["maxmemory-policy allkeys-lru"]);
    let store = hasty(&server);
    let error = store.health().await.expect_err("not fit").to_string();
    assert!(error.contains("maxmemory-policy is allkeys-lru"), "{error}");
    assert!(fails(&store).await.contains("set `maxmemory-policy noeviction`"));
    let url = format!("redis://{}", server.address());
    let lenient = connect(&RedisSettings { require_noeviction: false, ..settings(url) });
    assert!(lenient.health().await.unwrap().contains("allkeys-lru"));
    claim(&lenient, &fresh(), A).await;
    server.cli(&["config", "set", "maxmemory-policy", "noeviction"]);
    recovers(&store).await;
    server.cli(&["config", "set", "maxmemory-policy", "volatile-ttl"]);
    assert!(fails(&store).await.contains("volatile-ttl"), "a check notices");
    store.health().await.expect_err("not fit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_refuses_claims_but_records_what_is_done() {
    let server = redis::Server::start(&[]);
    let (store, done, failed, unknown) = (standalone(&server), fresh(), fresh(), fresh());
    for event in [&done, &failed, &unknown] {
        claim(&store, event, A).await;
    }
    server.cli(&["config", "set", "maxmemory", "1"]);
    server.cli(&["config", "resetstat"]);
    let error = store.claim(&fresh(), A, HOUR, HOUR).await.expect_err("full").to_string();
    assert!(error.contains("OOM"), "{error}");
    let calls = server.cli(&["info", "commandstats"]);
    let once = calls.contains("rejected_calls=1,") && !calls.contains("cmdstat_eval:");
    assert!(once, "what Redis refuses is not asked for again: {calls}");
    store.complete(&done, HOUR).await.expect("done is written");
    assert!(store.renew(&failed, A, HOUR).await.expect("renewed"));
    assert!(store.release(&failed, A).await.expect("released"));
    assert!(store.hold(&unknown, A, HOUR).await.expect("held"));
    server.cli(&["config", "set", "maxmemory", "0"]);
    assert_eq!(claim(&store, &done, B).await, DONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_claims_share_a_connection() {
    let server = redis::Server::start(&[]);
    let store = standalone(&server);
    store.health().await.expect("connected");
    // All but the one that asks.
    let connections = || {
        let list = server.cli(&["client", "list"]);
        let others = list.lines().filter(|client| !client.contains("cmd=client"));
        others.map(|client| client.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let ours = connections();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let mut claims = JoinSet::new();
    for _ in 0..2000 {
        let store = store.clone();
        claims.spawn(async move { claim(&store, &fresh(), A).await });
    }
    assert!(claims.join_all().await.into_iter().all(|claimed| claimed == WON));
    assert_eq!(connections(), ours, "it is kept");
    let calls = server.cli(&["info", "commandstats"]);
    assert!(calls.contains("cmdstat_evalsha:calls=2000"), "one round trip each: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master_also_after_a_failover() {
    let (mut master, replica, sentinel) = redis::sentinel();
    let url = format!("redis+sentinel://{}/main", sentinel.address());
    let store = connect(&as_user(settings(url)));
    contract(&store).await;
    let event = fresh();
    store.complete(&event, HOUR).await.unwrap();
    redis::wait_for("replication", || replica.cli(&["dbsize"]) == master.cli(&["dbsize"]));
    master.kill();
    recovers(&store).await;
    assert_eq!(claim(&store, &event, B).await, DONE, "what was replicated is remembered");
    assert!(replica.cli(&["role"]).starts_with("master"));
    drop((replica, sentinel));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_master_is_left() {
    let (old, new) = (redis::Server::start(&[]), redis::Server::start(&[]));
    let store = hasty(&old);
    claim(&store, &fresh(), A).await;
    old.cli(&["replicaof", "127.0.0.1", &new.port.to_string()]);
    let error = fails(&store).await;
    assert!(error.contains("is a replica"), "{error}");
    old.cli(&["replicaof", "no", "one"]);
    recovers(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_half_moved_is_asked_for_where_it_goes() {
    let nodes = redis::cluster();
    let store = connect(&as_user(settings(format!("redis+cluster://{}", nodes[0].address()))));
    let (done, open, new) = (fresh(), fresh(), fresh());
    store.complete(&done, HOUR).await.unwrap();
    claim(&store, &open, A).await;
    for event in [&done, &open, &new] {
        redis::half_move(&nodes, &format!("gatepost:{}", event.key.event_id()));
    }
    assert_eq!(claim(&store, &done, B).await, DONE);
    assert!(in_flight(claim(&store, &open, B).await));
    assert_eq!(claim(&store, &new, A).await, WON);
    for event in [&open, &new] {
        store.complete(event, HOUR).await.unwrap();
        assert_eq!(claim(&store, event, B).await, DONE);
    }
    let asked = nodes.iter().map(|node| node.cli(&["info", "errorstats"])).collect::<String>();
    assert!(asked.contains("errorstat_ASK"), "{asked}");
}
