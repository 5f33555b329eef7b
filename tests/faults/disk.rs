//! The disk refuses, is full or is slow, below the record and below the embedded store, while events come. Nothing is lost,
//! what is not on record is not acknowledged, and what comes twice has its excuse.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    app::Act,
    forged::sound_and_seen_through,
    ledger::{Ledger, Standing, Told},
    run::{Run, verified},
    scene::repeated,
    wire::Wire,
    world::{
        Gateway, PATIENCE,
        disk::{Failing, SmallDisk, file},
        eventually,
    },
};

const EVENTS: usize = 200;
const LANES: usize = 16;
/// What is at the app when the disk fails, and is answered after that.
const GATED: &str = "evt_gated";

/// An app that is slow enough for a fault to come in between, and has one event until it is told.
async fn run() -> Run {
    let run = Run::patient(1).await;
    let slow = Act::Late(Duration::from_millis(10), 200);
    run.app.script(
        move |_, received| if received.id == GATED { Act::Gated(200) } else { slow.clone() },
    );
    run
}

fn begin(run: &Run, count: usize) -> JoinSet<()> {
    run.senders.begin((0..count).map(|n| format!("evt_{n:04}")), LANES, 5)
}

/// Waits until every event was acknowledged.
async fn all(lanes: JoinSet<()>) {
    timeout(3 * PATIENCE, lanes.join_all()).await.expect("every event gets through in the end");
}

async fn send(run: &Run, gateway: &Gateway, event: &str) -> Told {
    let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
    let (told, _) = run.senders.exchange(wire, 0, event, Standing::Genuine).await;
    told.expect("an answer")
}

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.admin("GET", "/readyz").await.status == 200
}

/// Requests of a time that were told `accepted`.
fn accepted(ledger: &Ledger, from: u64, to: u64) -> usize {
    let sent = ledger.sent.iter().filter(|sent| (from..to).contains(&sent.at));
    sent.filter_map(|sent| sent.told.as_ref()).filter(|told| told.outcome == "accepted").count()
}

/// The first sync or write that fails is the end of it: what comes later is not accepted, whatever the disk does then, until
/// a new start has looked at what is there. What the app has already is answered as the app does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_fails_takes_nothing_more_until_a_restart() {
    let faults = [
        ("fdatasync", "error=EIO"),
        ("fdatasync", "error=ENOSPC"),
        ("pwrite64", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
    ];
    join_all(faults.map(|(calls, how)| record_fails(calls, how))).await;
}

async fn record_fails(calls: &str, how: &str) {
    let run = run().await;
    let gateway = run.gateway(0, "store: embedded").await;
    let lanes = begin(&run, EVENTS);
    run.more(40).await;
    let segment = file(&gateway.dir().join("audit"), "segment-", ".ndjson");
    let failing = async {
        eventually("the app has it", || async { came(&run) }).await;
        let failing = Failing::start(&gateway, calls, how, &segment);
        run.told("audit_unavailable", 1).await;
        let fenced = run.clock.now();
        run.told("audit_unavailable", 5).await;
        drop(failing);
        run.told("audit_unavailable", 5).await;
        assert!(!is_ready(&gateway).await, "{calls} {how}");
        run.app.open();
        fenced
    };
    let (told, fenced) = tokio::join!(send(&run, &gateway, GATED), failing);
    assert_eq!((told.status, &*told.outcome), (200, "accepted"), "the app has taken it");
    let again = run.clock.now();
    let dir = run.end(gateway, false).await;
    let gateway = run.gateway_in(0, dir, "store: embedded", &[]).await;
    all(lanes).await;
    let ledger = once_more(run, gateway).await;
    let calm = ledger.calm_at.unwrap();
    assert_eq!(accepted(&ledger, fenced, again), 0, "{calls} {how}: accepted behind the fence");
    assert!(accepted(&ledger, 0, fenced) > 0 && accepted(&ledger, again, calm) > 0);
    assert_eq!(repeated(&ledger), 0, "{calls} {how}");
}

/// The books, after all events came once more where all was well again.
async fn once_more(run: Run, gateway: Gateway) -> Ledger {
    let calm = run.clock.now();
    all(begin(&run, EVENTS)).await;
    assert_eq!(send(&run, &gateway, GATED).await.outcome, "duplicate");
    let mut ledger = run.settle(vec![gateway]).await;
    ledger.calm_at = Some(calm);
    sound_and_seen_through(&ledger);
    ledger
}

/// Whether the app has the one that it answers later.
fn came(run: &Run) -> bool {
    run.app.received().iter().any(|received| received.id == GATED)
}

/// A write that ends half way because there is no room, below the record alone and below both: it passes with the room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_until_there_is_room() {
    let stores = [("memory", "audit_unavailable"), ("embedded", "store_unavailable")];
    join_all(stores.map(|(store, refusal)| async move {
        let run = run().await;
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let disk = SmallDisk::at(&state, 24 << 20);
        run.app.watch(&disk.seen());
        let dedup = format!("store: {store}");
        let gateway = run.gateway_under(&disk.wrapper(), home, &state, &dedup).await;
        let lanes = begin(&run, 4 * EVENTS);
        run.more(40).await;
        let filling = async {
            eventually("the app has it", || async { came(&run) }).await;
            let filler = disk.fill();
            run.told(refusal, 10).await;
            eventually("it is not ready", || async { !is_ready(&gateway).await }).await;
            run.app.open();
            filler
        };
        let (told, filler) = tokio::join!(send(&run, &gateway, GATED), filling);
        assert_eq!((told.status, &*told.outcome), (200, "accepted"), "the app has taken it");
        std::fs::remove_file(filler).unwrap();
        eventually("it is ready again", || is_ready(&gateway)).await;
        all(lanes).await;
        let calm = run.clock.now();
        all(begin(&run, 4 * EVENTS)).await;
        let _home = run.end(gateway, false).await; // without its place the disk is gone
        verified(&disk.seen());
        let mut ledger = run.ledger(&[&disk.seen()]);
        ledger.calm_at = Some(calm);
        sound_and_seen_through(&ledger);
    }))
    .await;
}

/// It only takes longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_delays_and_does_no_more() {
    let files = [("audit", "segment-", ".ndjson"), ("", "dedup.sqlite3-wal", "")];
    join_all(files.map(|(dir, begins, ends)| async move {
        let run = run().await;
        let gateway = run.gateway(0, "store: embedded").await;
        let calm = run.clock.now();
        let lanes = begin(&run, 4 * EVENTS); // so many that there are some left, however quick they are
        run.more(20).await;
        let path = file(&gateway.dir().join(dir), begins, ends);
        let slow = Failing::start(&gateway, "fdatasync,fsync", "delay_enter=100000", &path);
        let from = run.clock.now();
        run.more(60).await;
        let to = run.clock.now();
        drop(slow);
        all(lanes).await;
        let mut ledger = run.settle(vec![gateway]).await;
        ledger.calm_at = Some(calm);
        sound_and_seen_through(&ledger);
        let began = |at: u64| ledger.received.iter().filter(|received| received.at < at).count();
        assert!(
            to - from > 100_000 && began(to) > began(from),
            "{begins}: it was slow, and events came"
        );
        assert_eq!(repeated(&ledger), 0);
    }))
    .await;
}

/// The embedded store is the memory of what was delivered. Where it cannot be written nothing new is taken, and it recovers
/// by itself. What was delivered in that moment may come twice, and the record says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_refuses_and_recovers() {
    let faults =
        [("fdatasync,fsync", "error=EIO"), ("pwrite64", "error=EIO"), ("pwrite64", "error=ENOSPC")];
    join_all(faults.map(|(calls, how)| async move {
        let run = run().await;
        let gateway = run.gateway(0, "store: embedded").await;
        let lanes = begin(&run, EVENTS);
        run.more(40).await;
        let wal = file(gateway.dir(), "dedup.sqlite3-wal", "");
        let failing = async {
            eventually("the app has it", || async { came(&run) }).await;
            let failing = Failing::start(&gateway, calls, how, &wal);
            run.told("store_unavailable", 5).await;
            run.app.open();
            failing
        };
        let (told, failing) = tokio::join!(send(&run, &gateway, GATED), failing);
        assert_eq!((told.status, &*told.outcome), (200, "accepted"), "the app has taken it");
        drop(failing);
        eventually("it recovers by itself", || is_ready(&gateway)).await;
        all(lanes).await;
        // A success that could not be written is tried again, and its twins are answered meanwhile.
        let ledger = once_more(run, gateway).await;
        let unsettled = ledger.records.iter().filter(|r| r.error.starts_with("not settled"));
        assert!(unsettled.count() > 0, "{calls} {how}: that a duplicate may follow is on record");
        assert_eq!(repeated(&ledger), 0, "{calls} {how}: it lived on and knew");
    }))
    .await;
}
