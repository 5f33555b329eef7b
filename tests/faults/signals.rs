//! Reloads, rotated secrets, and orderly ends under load, in the middle of everything else that goes wrong: the app fails now and
//! then, senders hang up, some requests are forged; and in each round there is a trouble besides.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    STRIPE,
    app::{Act, End},
    dice::Dice,
    forged::sound_and_seen_through,
    ledger::{Ledger, Record, Standing, Verdict},
    network::Line,
    run::{Run, sound, verified},
    trouble::{Around, Trouble},
    world::{Gateway, PATIENCE, disk::SmallDisk, gateway::write_private, wall::WallClock},
};

/// An app that fails in one of ten.
fn moody(run: &Run) {
    let mut dice = Dice(5);
    run.app.script(move |_, _| match dice.below(40) {
        0 => Act::Say(500),
        1 => Act::Bytes(Vec::new(), End::Reset, Verdict::Silent),
        2 => Act::Late(Duration::from_millis(700), 200),
        3 => Act::Say(429),
        _ => Act::Late(Duration::from_millis(10), 200),
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

/// A round: reloads before a trouble and in the middle of it, and an orderly end while it lasts.
async fn round(around: &mut Around, home: TempDir, round: usize, trouble: Trouble) -> TempDir {
    // What a store or a record should be told that is away, is tried for as long as that.
    around.run.drain = if trouble.is_in_the_way() { "2s" } else { "5s" };
    let gateway = around.gateway(home).await;
    let text = std::fs::read_to_string(&gateway.file).unwrap();
    around.run.more(40).await;
    reload(&gateway, &text, round).await;
    let going = around.begin(trouble, &gateway).await;
    reload(&gateway, &text, round + 1).await;
    around.run.senders.gateway(0, None);
    let (status, home) = gateway.stop().await;
    let in_order = status.success() || status.code() == Some(1) && trouble.is_in_the_way();
    assert!(in_order, "{trouble:?}: {status}");
    around.end(trouble, going);
    home
}

/// Rounds of trouble; the books when every event was acknowledged, and all of them went through once more.
async fn turmoil(mut around: Around, mut home: TempDir, troubles: &[Trouble]) -> Ledger {
    moody(&around.run);
    around.run.senders.rude(5);
    around.run.senders.forged(2);
    let names = (0..50_000).map(|n| format!("evt_{n:05}"));
    let lanes = around.run.senders.begin_of(["stripe", "github"], names, 16, 5);
    for (number, trouble) in troubles.iter().enumerate() {
        home = round(&mut around, home, number, *trouble).await;
    }
    let gateway = around.gateway(home).await;
    around.run.senders.leave_off();
    timeout(3 * PATIENCE, lanes.join_all()).await.expect("every event gets through in the end");
    around.run.app.always(Act::Say(200));
    around.run.senders.rude(0);
    let names = || (0..400).map(|n| format!("evt_{n:05}"));
    let senders = &around.run.senders;
    around.run.again(|| senders.begin_of(["stripe", "github"], names(), 16, 5)).await;
    let home = around.run.end(gateway, false).await;
    verified(&around.seen(home.path()));
    let ledger = around.ledger(home.path());
    let reason = |record: &Record| !record.reason.is_empty();
    assert!(ledger.records.iter().any(reason), "some came after an unknown end");
    let forged = ledger.sent.iter().filter(|sent| sent.standing == Standing::Forged).count();
    assert!(forged > 10, "{forged} were forged");
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_the_embedded_store() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::with_embedded(&home, None).await;
    let troubles = [
        Trouble::Record("fdatasync", "error=EIO"),
        Trouble::Store("fdatasync,fsync", "error=EIO"),
        Trouble::Strangers,
        Trouble::Record("pwrite64", "error=ENOSPC"),
        Trouble::Store("pwrite64", "error=ENOSPC"),
    ];
    sound_and_seen_through(&turmoil(around, home, &troubles).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_on_a_disk_that_fills_by_a_clock_that_jumps() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let own = (SmallDisk::at(&state, 48 << 20), WallClock::in_dir(home.path()));
    let around = Around::with_embedded(&home, Some((own, state))).await;
    let troubles = [
        Trouble::Full,
        Trouble::Clock("+3650d"),
        Trouble::Full,
        Trouble::Clock("-3650d"),
        Trouble::Clock("+0 x100"),
    ];
    sound_and_seen_through(&turmoil(around, home, &troubles).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_redis() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::with_redis(&home).await;
    let troubles = [
        Trouble::Line(Line::Cut),
        Trouble::Line(Line::Frozen),
        Trouble::Line(Line::Garbled),
        Trouble::Line(Line::HalfAnswer),
        Trouble::Line(Line::HalfClosed),
        Trouble::Stopped,
        Trouble::Told(&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
        Trouble::Told(&["replicaof", "127.0.0.1", "1"], &["replicaof", "no", "one"]),
        Trouble::Told(
            &["config", "set", "min-replicas-to-write", "1"],
            &["config", "set", "min-replicas-to-write", "0"],
        ),
        Trouble::Scripts,
        Trouble::Flushed,
        Trouble::Record("fdatasync", "error=EIO"),
        Trouble::Strangers,
    ];
    sound_and_seen_through(&turmoil(around, home, &troubles).await);
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
            let standing = Standing::Forged;
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
