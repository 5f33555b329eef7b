//! Reloads, rotated secrets, and orderly ends under load, while the app fails now and then and senders hang up.

use std::time::Duration;

use crate::{
    STRIPE,
    app::{Act, End},
    dice::Dice,
    ledger::{Ledger, Record, Verdict},
    run::{Run, sound, verified},
    world::{Gateway, RedisServer, gateway::write_private},
};

/// An app that fails in one of ten.
fn moody(run: &Run) {
    let mut dice = Dice(5);
    run.app.script(move |_, _| match dice.below(40) {
        0 => Act::Say(500),
        1 => Act::Bytes(Vec::new(), End::Reset, Verdict::Silent),
        2 => Act::Late(Duration::from_millis(700), 200),
        3 => Act::Say(429),
        _ => Act::Late(Duration::from_millis(1), 200),
    });
}

/// Takes a new configuration over: another secret beside the one that is used, or not, and other patience with the app.
async fn reload(gateway: &Gateway, text: &str, round: usize) {
    let secret = format!("\"{STRIPE}\"");
    let rotated = format!("[\"whsec_another_{round:020}\", {secret}]");
    let text = match round % 3 {
        0 => text.to_owned(),
        1 => text.replace(&secret, &rotated),
        _ => text.replace(&secret, &rotated).replace("timeout: 500ms", "timeout: 600ms"),
    };
    write_private(&gateway.file, &text);
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // One that is broken changes nothing.
    write_private(&gateway.file, &text.replace("to: app", "to: nobody"));
    gateway.signal("HUP");
}

/// Rounds of reload, and of an orderly end and a new start; the books when every event was acknowledged.
async fn turmoil(dedup: &str, rounds: usize) -> Ledger {
    let run = Run::new(1).await;
    moody(&run);
    run.senders.rude(5);
    let dedup = format!("{dedup}, join_timeout: 100ms");
    let mut lanes = run.senders.begin((0..300 * rounds).map(|n| format!("evt_{n:05}")), 24, 5);
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let gateway = run.gateway_in(0, dir, &dedup, &[]).await;
        let text = std::fs::read_to_string(&gateway.file).unwrap();
        run.more(60).await;
        reload(&gateway, &text, round).await;
        run.more(60).await;
        reload(&gateway, &text, round + 1).await;
        run.more(60).await;
        run.senders.gateway(0, None);
        let (status, left) = gateway.stop().await;
        assert!(status.success(), "{status}");
        dir = left;
    }
    let gateway = run.gateway_in(0, dir, &dedup, &[]).await;
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    let ledger = run.settle(vec![gateway]).await;
    assert!(
        ledger.records.iter().any(|record| !record.reason.is_empty()),
        "some came after an unknown end"
    );
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_the_embedded_store() {
    sound(&turmoil("store: embedded", 5).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_redis() {
    let redis = RedisServer::start(&[]).await;
    sound(
        &turmoil(&format!("store: redis, claim: 1600ms, redis: {{ url: \"{}\" }}", redis.url()), 5)
            .await,
    );
}

/// What was forged in between is nowhere: not at the app, not on record as an event, not acknowledged.
#[tokio::test]
async fn forged_events_among_honest_ones_under_kills_and_reloads_get_nowhere() {
    let run = Run::new(1).await;
    let mut lanes = run.senders.begin((0..600).map(|n| format!("evt_{n:05}")), 16, 5);
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let gateway = run.gateway_in(0, dir, "store: embedded", &[]).await;
        let text = std::fs::read_to_string(&gateway.file).unwrap();
        for n in 0..30 {
            let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
            let wire = crate::wire::Wire::new(stream);
            let standing = crate::ledger::Standing::Forged;
            let (told, _) =
                run.senders.exchange(wire, 0, &format!("evt_forged_{n}"), standing).await;
            assert_eq!(told.unwrap().status, 401);
            if n == 15 {
                reload(&gateway, &text, round).await;
            }
        }
        run.senders.gateway(0, None);
        dir = gateway.kill().await;
    }
    let gateway = run.gateway_in(0, dir, "store: embedded", &[]).await;
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    verified(dir.path());
    let ledger = run.ledger(&[dir.path()]);
    assert!(
        Record::all_in(&dir.path().join("audit")).iter().any(|record| record.kind == "rejected")
    );
    sound(&ledger);
}
