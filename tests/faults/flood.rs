//! Strangers at the door, as many as there is room for: some speak without end and nobody signed what they say, some begin and
//! never end, some say nothing. Honest events go through beside them as if they were not there, and the books say so.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    app::Act,
    bounds::{Use, limits, peak},
    damage::kept,
    forged::sound_and_seen_through,
    ledger::{Record, Standing},
    run::{Run, verified},
    world::{Dialer, Gateway, eventually, strangers},
};

const EVENTS: usize = 400;
const LANES: usize = 16;
/// Strangers who speak, and those who hold a connection each.
const SPEAKING: u64 = 8;
const HOLDING: usize = 120;
/// Before so many of a hundred honest requests comes one that is forged.
const FORGED: usize = 30;

/// Strangers who begin a request, or say nothing at all, and stay.
async fn hold(gateway: &Gateway) -> Vec<TcpStream> {
    let head = "POST /stripe HTTP/1.1\r\nhost: hooks.example.com\r\n";
    let body = format!("{head}content-length: 5000\r\n\r\n{{");
    let mut held = Vec::new();
    for n in 0..HOLDING {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(["", head, &body][n % 3].as_bytes()).await.unwrap();
        held.push(stream);
    }
    held
}

/// Floods the door until it is told to stop; how often all of them were through.
async fn speak(gateway: &Gateway, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Relaxed) {
        strangers::flood(&Dialer::plain(gateway.address), None, 1, SPEAKING).await;
        rounds += 1;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_events_go_through_a_flood_as_if_it_were_not_there() {
    let connections = HOLDING + LANES + 2 * SPEAKING as usize;
    let run = Run { limits: limits(connections, connections), ..Run::patient(1).await };
    let gateway = run.gateway(0, "store: embedded, join_timeout: 10s").await;
    run.app.always(Act::Late(Duration::from_millis(20), 200));
    let begin = |name: &'static str| {
        run.senders.begin((0..EVENTS).map(|n| format!("evt_{name}_{n:04}")), LANES, 5)
    };
    begin("before").join_all().await; // once all is in use that ever is
    let (before, calm) = (Use::of(&gateway), run.clock.now());
    run.senders.forged(FORGED);
    let stop = AtomicBool::new(false);
    let honest = async {
        let refused = "gatepost_requests_total{source=\"stripe\",outcome=\"rejected_signature\"}";
        eventually("the flood is there", || async { gateway.metric(refused).await > 100.0 }).await;
        begin("amid").join_all().await;
        stop.store(true, Relaxed);
    };
    let mut rounds = 0;
    let most = peak(&gateway, async {
        let held = hold(&gateway).await;
        rounds = tokio::join!(honest, speak(&gateway, &stop)).1;
        drop(held);
    })
    .await;
    let allowed = before.at_most(connections, LANES);
    assert!(most.is_within(allowed), "{before:?} {most:?} {allowed:?}");
    let stored = kept(gateway.dir(), "");
    assert_eq!(stored.len(), 2 * EVENTS, "what is forged has no claim");

    let dir = run.end(gateway, false).await;
    verified(dir.path());
    let mut ledger = run.ledger(&[dir.path()]);
    ledger.stored = stored;
    ledger.calm_at = Some(calm); // nobody was refused who is honest, all the time
    sound_and_seen_through(&ledger);
    assert_eq!(ledger.received.len(), 2 * EVENTS, "each once");
    let forged = ledger.sent.iter().filter(|sent| sent.standing == Standing::Forged).count();
    assert!(forged > EVENTS / 10 && rounds > 1, "{forged} forged among them, {rounds} rounds");
    let records = Record::all_in(&dir.path().join("audit"));
    assert!(records.iter().any(|record| record.kind == "rejected"), "some are on record");
}
