//! Reloads, rotated secrets, and orderly ends under load, in the middle of everything else that goes wrong: the app fails now and
//! then, senders hang up, some requests are forged; and in each round there is a trouble besides.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    STRIPE,
    app::Act,
    forged::sound_and_seen_through,
    ledger::{Ledger, Record, Standing},
    network::Line,
    run::{Run, sound, verified},
    streams::{Streams, Upto, ask, start},
    trouble::{Around, HELD, SLOW_TWINS, TWINS, Trouble},
    upstream::chaos,
    world::{
        Gateway, PATIENCE, disk::SmallDisk, eventually, gateway::write_private, wall::WallClock,
    },
};

/// Secrets that come beside the one that is there from the start, one after the other.
const ROTATED: [&str; 2] =
    ["whsec_rotated_0123456789abcdefghijklm", "whsec_rotated_again_0123456789abcdefg"];

/// An app that fails in one of eight.
fn moody(run: &Run) {
    let mut chaos = chaos(5);
    run.app.script(move |_, received| match chaos() {
        _ if received.id.starts_with(HELD) && received.attempt < 2 => Act::Never,
        _ if received.id.starts_with(HELD) => Act::Say(200),
        _ if received.id.starts_with(TWINS) => Act::Late(SLOW_TWINS, 200),
        Act::Say(200) => Act::Late(Duration::from_millis(10), 200),
        fails => fails,
    });
}

/// A configuration with these secrets of Stripe beside the one that it has.
fn with_secrets(text: &str, rotated: &[&str]) -> String {
    let secrets: Vec<_> = rotated.iter().chain([&STRIPE]).map(|s| format!("\"{s}\"")).collect();
    text.replace(&format!("\"{STRIPE}\""), &format!("[{}]", secrets.join(", ")))
}

/// Takes a configuration over that has these secrets more, and has half of the senders sign with the last of them: who does is
/// answered, and what is answered, 401 among it, is in the books.
async fn reload(run: &Run, gateway: &Gateway, text: &str, rotated: &[&'static str]) {
    write_private(&gateway.file, &with_secrets(text, rotated));
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // One that is broken, and has none of them, changes nothing.
    write_private(&gateway.file, &text.replace("to: app", "to: nobody"));
    gateway.signal("HUP");
    run.senders.rotated(rotated.last().copied());
    if !rotated.is_empty() {
        let heard = run.senders.heard() + 3;
        eventually("they are answered", || async { run.senders.heard() >= heard }).await;
    }
}

/// A round: reloads before a trouble and in the middle of it, and an orderly end while it lasts. The gateway begins with the
/// secret that there always is.
async fn round(around: &mut Around, home: TempDir, round: usize, trouble: Trouble) -> TempDir {
    // What a store or a record should be told that is away, is tried for as long as that.
    around.run.drain = if trouble.is_in_the_way() { "1s" } else { "5s" };
    let gateway = around.gateway(home).await;
    let text = std::fs::read_to_string(&gateway.file).unwrap();
    around.run.more(40).await;
    // The secrets come one after the other, or both at once after a reload that changes nothing; with other patience or not.
    let first = if round.is_multiple_of(3) { 0 } else { 1 };
    reload(&around.run, &gateway, &text, &ROTATED[..first]).await;
    let going = around.begin(trouble, &gateway).await;
    let patience = ["timeout: 500ms", "timeout: 600ms"][round % 2];
    reload(&around.run, &gateway, &text.replace("timeout: 500ms", patience), &ROTATED).await;
    around.run.senders.gateway(0, None);
    around.run.senders.rotated(None);
    let (status, home) = gateway.stop().await;
    let in_order = status.success() || status.code() == Some(1) && trouble.is_in_the_way();
    assert!(in_order, "{trouble:?}: {status}");
    around.end(trouble, going).await;
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
    let left = around.run.senders.left();
    assert!(left.iter().all(|left| *left > 3), "{left:?} were left in each way");
    let ledger = around.ledger(home.path()).await;
    let reason = |record: &Record| !record.reason.is_empty();
    assert!(ledger.records.iter().any(reason), "some came after an unknown end");
    let forged = ledger.sent.iter().filter(|sent| sent.standing == Standing::Forged).count();
    assert!(forged > 10, "{forged} were forged");
    ledger
}

/// The troubles of each test, by what the gateway stands on.
pub const TROUBLES: [&[Trouble]; 6] =
    [&EMBEDDED, &OWN_DISK, &ON_A_LINE, &ON_REDIS, &ON_A_CLUSTER, &WITH_A_PEER];

pub const PAUSED: Trouble =
    Trouble::Told(&["client", "pause", "60000", "write"], &["client", "unpause"]);
pub const OOM: Trouble =
    Trouble::Told(&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]);
pub const READONLY: Trouble =
    Trouble::Told(&["replicaof", "127.0.0.1", "1"], &["replicaof", "no", "one"]);
pub const NOREPLICAS: Trouble = Trouble::Told(
    &["config", "set", "min-replicas-to-write", "1"],
    &["config", "set", "min-replicas-to-write", "0"],
);

const EMBEDDED: [Trouble; 6] = [
    Trouble::Record("fdatasync", "error=EIO"),
    Trouble::Store("fdatasync,fsync", "error=EIO"),
    Trouble::Strangers,
    Trouble::Record("pwrite64", "error=ENOSPC"),
    Trouble::Store("pwrite64", "error=ENOSPC"),
    Trouble::SlowRecord,
];
const OWN_DISK: [Trouble; 6] = [
    Trouble::Full,
    Trouble::Clock("+3650d"),
    Trouble::Full,
    Trouble::Clock("-3650d"),
    Trouble::Clock("+0 x100"),
    Trouble::Step("+60"),
];
const ON_A_LINE: [Trouble; 9] = [
    Trouble::Flushed,
    Trouble::Stale,
    Trouble::Line(Line::Cut),
    Trouble::Line(Line::Frozen),
    Trouble::Line(Line::Garbled),
    Trouble::Line(Line::HalfAnswer),
    Trouble::Line(Line::HalfClosed),
    Trouble::Stopped,
    PAUSED,
];
const ON_REDIS: [Trouble; 10] = [
    Trouble::Evicted,
    Trouble::Emptied,
    Trouble::Loading,
    Trouble::Unsaved,
    OOM,
    READONLY,
    NOREPLICAS,
    Trouble::Scripts,
    Trouble::Record("fdatasync", "error=EIO"),
    Trouble::Strangers,
];
const ON_A_CLUSTER: [Trouble; 2] = [Trouble::Moving, Trouble::HalfMoved];
const WITH_A_PEER: [Trouble; 3] = [Trouble::Asleep, Trouble::Twins, Trouble::Slow];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_the_embedded_store() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::with_embedded(&home, None).await;
    sound_and_seen_through(&turmoil(around, home, &EMBEDDED).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_on_a_disk_that_fills_by_a_clock_that_jumps() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let own = (SmallDisk::at(&state, 48 << 20), WallClock::in_dir(home.path()));
    let around = Around::with_embedded(&home, Some((own, state))).await;
    sound_and_seen_through(&turmoil(around, home, &OWN_DISK).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_redis() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::with_redis(&home).await;
    sound_and_seen_through(&turmoil(around, home, &ON_A_LINE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_a_redis_that_forgets_and_refuses() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::on_redis(&home).await;
    sound_and_seen_through(&turmoil(around, home, &ON_REDIS).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_with_a_cluster_that_moves_slots() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::on_a_cluster(&home).await;
    sound_and_seen_through(&turmoil(around, home, &ON_A_CLUSTER).await);
}

/// Only one of the two is reloaded and restarted. The other one has all secrets from the start, whoever asks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_in_turmoil_lose_nothing_beside_another_gateway() {
    let home = tempfile::tempdir().unwrap();
    let around = Around::with_a_peer(&home, |text| with_secrets(text, &ROTATED)).await;
    let ledger = turmoil(around, home, &WITH_A_PEER).await;
    sound_and_seen_through(&ledger);
    let said = "the claim ended before the work did";
    assert!(ledger.records.iter().any(|r| r.error.contains(said)), "the one that slept says so");
    let twins = ledger.sent.iter().filter(|sent| sent.id.starts_with(TWINS));
    assert!(twins.count() >= 100);
}

/// Over HTTP/2: streams are reset before their claim and while the app works, their connection ends in order under others that
/// wait, and each event goes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_amid_reloads_and_orderly_ends_lose_nothing() {
    let run = Run::patient(1).await;
    run.app.always(Act::Late(Duration::from_millis(30), 200));
    let (mut home, mut events) = (tempfile::tempdir().unwrap(), vec!["evt_undisturbed".to_owned()]);
    for life in 0..2 {
        let (gateway, dialer) = start(&run, home, "store: embedded").await;
        let text = std::fs::read_to_string(&gateway.file).unwrap();
        let mut streams = Streams::open(&dialer).await;
        for n in 0..36 {
            let event = format!("evt_{life}_{n}");
            let stream = streams.say(&run, &event, Upto::Whole).await;
            if n % 3 == 1 {
                let came = || run.app.received().iter().any(|received| received.id == event);
                eventually("the app has it", || async { came() }).await;
            }
            if n % 3 < 2 {
                streams.reset(stream).await;
            }
            if n % 12 == 4 {
                reload(&run, &gateway, &text, &[]).await;
            }
            events.push(event);
        }
        let (status, left) = gateway.stop().await;
        assert!(status.success(), "{status}");
        home = left;
    }
    let (gateway, dialer) = start(&run, home, "store: embedded").await;
    for event in &events {
        assert_eq!(ask(&run, &dialer, event).await.status, 200, "{event}");
    }
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), events.len(), "each once");
    sound_and_seen_through(&ledger);
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
                reload(&run, &gateway, &text, &ROTATED[..round % 2 + 1]).await;
            }
        }
        run.senders.gateway(0, None);
        run.senders.rotated(None);
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
