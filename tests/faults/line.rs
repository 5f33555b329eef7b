//! The line to Redis misbehaves, or a gateway sleeps over its lease. None is lost; what is delivered twice has an excuse on
//! record.

use std::{fs, time::Duration};

use futures_util::future::join_all;

use crate::{
    app::Act,
    ledger::{Told, Verdict},
    network::Line,
    run::{Run, sound},
    scene::{Scene, repeated},
    server::Server,
    world::eventually,
};

/// What a sender may be told while nothing fails.
const KNOWN: [&str; 3] = ["accepted", "duplicate", "duplicate_in_flight"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_misbehaves() {
    let lines = [Line::Cut, Line::Frozen, Line::HalfAnswer, Line::HalfClosed, Line::Garbled];
    join_all(lines.map(|line| async move {
        let scene = Scene::new(&[], 1, "").await;
        scene
            .through(async {
                for count in [60, 180] {
                    scene.acked(count).await;
                    scene.network.set(line);
                    scene.told("store_unavailable", 3).await;
                    scene.network.set(Line::Fair);
                }
            })
            .await;
        scene.settle_whole().await;
    }))
    .await;
}

/// Redis is far away, and may take its time: each event waits for it twice, and none is refused for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_delays_and_does_no_more() {
    let redis = Server::start(&[]);
    let scene = Scene::over(Run::new(2).await, redis, "claim: 3s, redis: { timeout: 5s, ").await;
    let way = Duration::from_millis(200);
    scene.network.set(Line::Slow(way));
    let mut until = 0;
    scene
        .through(async {
            scene.acked(40).await;
            until = scene.run.clock.now();
            scene.network.set(Line::Fair);
        })
        .await;
    let requests = scene.run.senders.requests();
    let told = || requests.iter().map(|request| (&request.sent, request.sent.told.as_ref()));
    let told = || told().map(|(sent, told)| (sent, told.expect("an answer")));
    let other: Vec<_> = told().filter(|(_, told)| !KNOWN.contains(&&*told.outcome)).collect();
    assert!(other.is_empty(), "{other:?}");
    let accepted = |(_, told): &(_, &Told)| told.outcome == "accepted" && told.at < until;
    let took: Vec<_> = told().filter(accepted).map(|(sent, told)| told.at - sent.at).collect();
    let least = u64::try_from((2 * way).as_micros()).unwrap();
    assert!(took.len() > 20 && took.iter().all(|took| *took >= least), "{took:?}");
    assert_eq!(repeated(&scene.settle_whole().await), 0);
}

/// After the forward Redis is not there: the app has said yes, so the sender is told so. *Done* is written later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_after_the_forward() {
    let scene = Scene::on(Run::patient(2).await, &[], "", "12s").await;
    scene.run.app.always(Act::Gated(200));
    let cutting = async {
        eventually("the app has it", || async { scene.run.app.count() == 1 }).await;
        scene.network.set(Line::Cut);
        scene.run.app.open();
    };
    let (told, ()) = tokio::join!(scene.send("evt_1"), cutting);
    assert_eq!((told.status, &*told.outcome), (200, "accepted"));
    let told = scene.send("evt_1").await;
    assert_eq!(
        (told.status, &*told.outcome),
        (200, "duplicate"),
        "its twins know as long as it cannot be written"
    );
    assert_eq!(scene.send("evt_2").await.outcome, "store_unavailable");
    scene.network.set(Line::Fair);
    let key = || scene.redis.cli(&["keys", "gatepost:evt_*"]);
    eventually("it is written", || async {
        let keys = key();
        !keys.is_empty() && scene.redis.cli(&["get", keys.trim()]).starts_with('D')
    })
    .await;
    assert_eq!(scene.send("evt_1").await.outcome, "duplicate");
    let ledger = scene.settle_whole().await;
    assert_eq!(ledger.received.len(), 1);
    let unsettled = ledger.records.iter().filter(|r| r.error.starts_with("not settled"));
    assert!(unsettled.count() > 0, "that a duplicate may follow is on record");
}

/// A gateway is stopped for longer than its lease while the app has the event; another one delivers it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_that_goes_on() {
    let scene = Scene::new(&[], 2, "").await;
    scene.run.app.script(|n, _| if n == 1 { Act::Gated(200) } else { Act::Say(200) });
    let meanwhile = async {
        eventually("the app has it", || async { scene.run.app.count() == 1 }).await;
        let others = async {
            scene.run.app.open();
            // The other gateway lets the retry through once the lease is over.
            let told = scene.run.persist(&scene.gateways[1], "evt_1").await;
            assert_eq!(told.last().unwrap().outcome, "accepted");
            scene.pass(Duration::from_millis(1500)).await; // as long again
        };
        scene.run.asleep(0, &scene.gateways[0], others).await;
    };
    let (told, ()) = tokio::join!(scene.send("evt_1"), meanwhile);
    // The app had said yes in time, or the gateway woke up past its own patience: a duplicate, or a failure that is retried.
    assert!(matches!(told.status, 200 | 504), "{told:?}");
    assert_eq!(scene.send("evt_1").await.outcome, "duplicate");
    let ledger = scene.settle_whole().await;
    assert_eq!(ledger.received.len(), 2);
    let excused = ledger.records.iter().filter(|r| r.reason == "previous_attempt_unknown");
    assert_eq!(excused.count(), 1);
    let said = "the claim ended before the work did";
    let overrun = ledger.records.iter().filter(|r| r.error.contains(said));
    assert_eq!(overrun.count(), 1, "the one that slept says so itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_source_may_choose_duplicates() {
    let scene = Scene::new(&[], 1, ", on_store_error: forward").await;
    scene
        .through(async {
            scene.acked(60).await;
            scene.network.set(Line::Cut);
            scene.acked(120).await;
            scene.network.set(Line::Fair);
        })
        .await;
    assert_eq!(scene.count("store_unavailable"), 0);
    let ledger = scene.settle_whole().await;
    assert!(ledger.records.iter().any(|r| r.reason == "dedup_unavailable"));
}
