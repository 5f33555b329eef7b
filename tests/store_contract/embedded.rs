//! What the embedded store remembers, and what it says when it cannot.

use std::{fs, path::Path};

use super::*;

pub(crate) fn open(dir: &Path) -> Store {
    Arc::new(Embedded::open(dir).expect("a directory of its own"))
}

/// Its file, as another process would open it.
pub(crate) fn file(dir: &Path) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(dir.join("dedup.sqlite3")).unwrap();
    file.busy_timeout(PATIENCE).unwrap();
    file
}

/// A copy of the files as a crash would leave them.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["dedup.sqlite3", "dedup.sqlite3-wal"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn done_survives_a_restart_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let ((event, replay), store) = (fresh_pair(), open(dir.path()));
    claim(&store, &event, A).await;
    store.complete(&event, HOUR).await.unwrap();
    let copy = crashed(dir.path());
    drop(store);
    for dir in [copy.path(), dir.path()] {
        let store = open(dir);
        assert_eq!(claim(&store, &event, B).await, DONE);
        assert_eq!(claim(&store, &replay, B).await, Claimed::Replayed);
    }
}

#[tokio::test]
async fn a_crash_in_flight_blocks_nobody_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (event, store) = (fresh(), open(dir.path()));
    claim(&store, &event, A).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let copy = crashed(dir.path());
        let after = open(copy.path());
        match claim(&after, &event, B).await {
            Claimed::Won { attempt: 2, after_unknown: true } => break,
            other => assert_eq!(other, WON, "not written yet: a first attempt, but never blocked"),
        }
        assert!(Instant::now() < deadline, "the claim never reaches the file");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_hold_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (event, store) = (fresh(), open(dir.path()));
    claim(&store, &event, A).await;
    store.hold(&event, A, HOUR).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(held(claim(&store, &event, B).await));
    store.complete(&event, HOUR).await.expect("a late success");
    assert_eq!(claim(&store, &event, B).await, DONE);
}

/// Whatever the wall clock shows meanwhile.
#[tokio::test]
async fn time_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = file(dir.path());
    file.execute("UPDATE clock SET now = 1000000", []).unwrap();
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap();
    let (event, store) = (fresh(), open(dir.path()));
    let read = |query| file.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let kept = async {
        while read("SELECT now FROM clock") == 1_000_000 {
            claim(&store, &event, A).await; // with what is to be written anyway
        }
    };
    tokio::time::timeout(PATIENCE, kept).await.expect("the time is kept");
    store.hold(&event, A, HOUR).await.unwrap();
    drop(store);
    let (until, now) = (read("SELECT until FROM event"), read("SELECT now FROM clock"));
    let soon = 1_000_000..1_000_000 + millis(2 * PATIENCE);
    assert!(soon.contains(&(until - millis(HOUR))) && soon.contains(&now), "{until} {now}");
    let store = open(dir.path());
    assert!(held(claim(&store, &event, B).await));
}

/// Each event comes alone, just after what is over was looked for: what it brings does not last longer after a crash than before.
#[tokio::test]
async fn a_crash_costs_no_time_however_seldom_events_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let file = file(dir.path());
    let read = |query| file.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    for n in 0..3 {
        let before = read("SELECT now FROM clock");
        let over = "INSERT INTO event VALUES (x'00', 'free', x'', 0, 1, 0, 0)";
        file.execute(over, []).unwrap();
        let swept = async {
            while read("SELECT count(*) FROM event WHERE key = x'00'") > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, swept).await.expect("what is over goes");
        let event = fresh();
        claim(&store, &event, A).await;
        store.complete(&event, HOUR).await.unwrap();
        assert!(read("SELECT now FROM clock") >= before + 1000, "event {n}");
    }
}

#[tokio::test]
async fn what_is_in_the_file_is_counted_and_found() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let store = open(dir.path());
    let (events, forever): (Vec<_>, _) = ((0..300).map(|_| fresh()).collect(), fresh());
    claim(&store, &forever, A).await;
    for event in &events {
        claim(&store, event, A).await;
        store.complete(event, HOUR).await.unwrap();
    }
    let counted = async {
        while store.entries() != Some(301) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("events in the file are counted");
    drop(store);
    let store = open(dir.path());
    for event in &events {
        assert_eq!(claim(&store, event, B).await, DONE);
    }
}

#[tokio::test]
async fn what_is_over_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (kept, (gone, _)) = (fresh(), fresh_pair());
    claim(&store, &kept, A).await;
    store.complete(&kept, HOUR).await.unwrap();
    store.complete(&gone, Duration::from_millis(50)).await.unwrap();
    let file = file(dir.path());
    let rows = || {
        let count = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM guard)";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        file.query_row(count, [], read).unwrap()
    };
    let swept = async {
        while rows() != (1_i64, 0_i64) || store.entries() != Some(1) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("expired rows go");
    assert_eq!(claim(&store, &kept, B).await, DONE);
}

#[test]
fn a_directory_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    let error = Embedded::open(dir.path()).expect_err("it is in use").to_string();
    assert!(error.contains("another gatepost uses this directory"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let refused = |dir: &Path| Embedded::open(dir).expect_err("unusable").to_string();
    assert!(refused(Path::new("/nowhere")).contains("/nowhere/dedup.lock"));
    let taken = tempfile::tempdir().unwrap();
    fs::create_dir(taken.path().join("dedup.sqlite3")).unwrap();
    assert!(refused(taken.path()).contains("cannot open"));

    let damaged = tempfile::tempdir().unwrap();
    fs::write(damaged.path().join("dedup.sqlite3"), "not a database".repeat(1000)).unwrap();
    let error = refused(damaged.path());
    assert!(
        error.contains("dedup.sqlite3 is damaged") && error.contains("move it away"),
        "{error}"
    );

    let newer = tempfile::tempdir().unwrap();
    drop(open(newer.path()));
    let file = file(newer.path());
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    assert!(refused(newer.path()).contains("another version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_refuses_claims_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (store, event) = (open(dir.path()), fresh());
    claim(&store, &event, A).await;
    // Another writer that does not let go: every commit fails until it does.
    let mut other = rusqlite::Connection::open(dir.path().join("dedup.sqlite3")).unwrap();
    let blocking = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate);
    let blocking = blocking.unwrap();
    let error = store.complete(&event, HOUR).await.expect_err("not on disk").to_string();
    assert!(error.contains("SQLite") && !error.contains("damaged"), "{error}");
    store.claim(&fresh(), A, HOUR, HOUR).await.expect_err("nothing new while done is not kept");
    store.health().await.expect_err("not ready");
    drop(blocking);
    let recovered = async {
        while store.health().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.expect("it tries again by itself");
    store.complete(&event, HOUR).await.expect("who was told that it failed tries again");
    assert_eq!(claim(&store, &event, B).await, DONE);
}

/// Whether the disk takes it is known once it took something: that nothing was to be written is no sign of it.
#[tokio::test]
async fn a_disk_that_failed_has_to_take_something_before_anything_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (open(dir.path()), file(dir.path()));
    let fails = "CREATE TRIGGER fails BEFORE UPDATE ON clock BEGIN SELECT RAISE(ABORT, 'no'); END";
    file.execute_batch(fails).unwrap();
    let failing = async { while store.claim(&fresh(), A, HOUR, HOUR).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, failing).await.expect("the time is kept now and then");
    for _ in 0..5 {
        let error = store.claim(&fresh(), A, HOUR, HOUR).await.expect_err("it fails still");
        assert!(!error.to_string().contains("damaged"), "{error}");
        store.health().await.expect_err("not ready");
    }
    file.execute_batch("DROP TRIGGER fails").unwrap();
    // What is under way as it ends may still meet it.
    let taking = async { while store.claim(&fresh(), A, HOUR, HOUR).await.is_err() {} };
    tokio::time::timeout(PATIENCE, taking).await.expect("it takes something");
    store.health().await.expect("it has taken something");
}

/// The transactions in the write-ahead log: their last frames say how large the file is.
fn transactions(dir: &Path) -> usize {
    let log = fs::read(dir.join("dedup.sqlite3-wal")).unwrap();
    let (head, frames) = log.split_at(32);
    let page = u32::from_be_bytes(head[8..12].try_into().unwrap());
    let frames = frames.chunks(24 + usize::try_from(page).unwrap());
    let of_now = frames.filter(|frame| frame[8..16] == head[16..24]);
    of_now.filter(|frame| frame[4..8] != [0; 4]).count()
}

/// A sync each would wear out the disk for what may be lost.
#[tokio::test]
async fn claims_that_follow_each_other_share_a_sync() {
    const CLAIMS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let (store, event) = (open(dir.path()), fresh());
    let before = transactions(dir.path());
    for _ in 0..CLAIMS {
        claim(&store, &fresh(), A).await;
    }
    store.complete(&event, HOUR).await.unwrap();
    let taken = transactions(dir.path()) - before;
    assert!((1..CLAIMS / 2).contains(&taken), "{taken} transactions");
}
