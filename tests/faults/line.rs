//! The line to Redis misbehaves, or a gateway sleeps over its lease. None is lost; what is delivered twice has an excuse on
//! record.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    app::Act,
    ledger::Verdict,
    network::Line,
    run::{Run, sound},
    scene::Scene,
    world::eventually,
};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_delays_and_does_no_more() {
    let scene = Scene::new(&[], 2, "").await;
    scene.network.set(Line::Slow(Duration::from_millis(200)));
    scene
        .through(async {
            scene.acked(40).await;
            scene.network.set(Line::Fair);
        })
        .await;
    scene.settle_whole().await;
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
        scene.gateways[0].signal("STOP");
        scene.run.app.open();
        // The other gateway lets the retry through once the lease is over.
        let told = scene.run.persist(&scene.gateways[1], "evt_1").await;
        assert_eq!(told.last().unwrap().outcome, "accepted");
        scene.gateways[0].signal("CONT");
    };
    let (told, ()) = tokio::join!(scene.send("evt_1"), meanwhile);
    // The app had said yes in time, or the gateway woke up past its own patience: a duplicate, or a failure that is retried.
    assert!(matches!(told.status, 200 | 504), "{told:?}");
    assert_eq!(scene.send("evt_1").await.outcome, "duplicate");
    let mut ledger = scene.run.settle(scene.gateways).await;
    assert_eq!(ledger.received.len(), 2);
    // The app did answer, but nobody was awake to hear it in time.
    ledger.received[0].verdict = Verdict::Silent;
    sound(&ledger);
    let excused = ledger.records.iter().filter(|r| r.reason == "previous_attempt_unknown");
    assert_eq!(excused.count(), 1);
    let overrun =
        ledger.records.iter().filter(|r| r.error == "the claim ended before the work did");
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
