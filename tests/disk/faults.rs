//! A disk that fails under a running log: which faults end it, which pass, and that no acknowledgement comes from either.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use gatepost::{
    audit::{AuditError, AuditLog, open_by_hand, open_on, verify},
    event::Timestamp,
};

use crate::{
    audit_world::{World, attempt},
    faulty::{Ask, EIO, ENOSPC, Fault, Faulty, PANIC},
};

pub fn open(world: &World, disk: &Arc<Faulty>) -> AuditLog {
    let clock = Arc::new(Timestamp::now);
    open_on(disk.clone(), &world.params, world.metrics.audit(), clock).expect("a log")
}

fn is_fenced(log: &AuditLog) -> bool {
    matches!(log.health().trouble, Some(AuditError::Fenced(_)))
}

/// Everything that was acknowledged is on record, and nothing is wrong with it.
pub fn all_there(world: &World, acked: &[(u64, u32)]) {
    assert_eq!(verify::verify(world.dir(), None, None).expect("readable").findings, []);
    let records = world.records();
    for (seq, event) in acked {
        let found = records.iter().find(|record| record["seq"] == *seq).expect("the record");
        assert_eq!(found["provider_id"], format!("evt_{event}"));
    }
}

/// The first failure ends it, whatever it says of itself and however well the disk is afterwards.
#[tokio::test]
async fn the_first_failed_write_or_sync_is_the_last_of_a_run() {
    let faults = [
        Fault(Ask::Sync, "segment-", EIO),
        Fault(Ask::Sync, "segment-", ENOSPC), // a full disk that is found out too late
        Fault(Ask::Write, "segment-", EIO),
        Fault(Ask::Write, "segment-", ENOSPC), // where room had been laid out
        Fault(Ask::Sync, "checkpoints", EIO),
        Fault(Ask::Sync, "checkpoints", ENOSPC),
        Fault(Ask::Write, "checkpoints", EIO),
        Fault(Ask::SyncDir, "", EIO),
        Fault(Ask::SyncDir, "", ENOSPC),
        Fault(Ask::Truncate, "segment-", EIO),
    ];
    for fault in faults {
        // Each batch is a segment, each segment is sealed: a batch takes every way there is.
        let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
        let disk = Faulty::open(world.dir());
        let log = open(&world, &disk);
        let mut acked = Vec::new();
        for event in 0..2 {
            acked.push((log.append(attempt(event)).await.expect("durable"), event));
        }
        disk.plan.set(Some(fault));
        // The record may be durable before its segment is closed; the one after it is not taken.
        for event in 2..4 {
            acked.extend(log.append(attempt(event)).await.map(|seq| (seq, event)));
        }
        world.until(&log, "the fence", is_fenced).await;
        assert!(acked.len() < 4, "{fault:?}");
        disk.plan.set(None);
        let left = world.snapshot();
        for event in 4..6 {
            let refused = log.append(attempt(event)).await;
            assert!(matches!(refused, Err(AuditError::Fenced(_))), "{fault:?}: {refused:?}");
        }
        assert!(log.close().await.is_err());
        assert!(
            world.snapshot() == left,
            "{fault:?}: not a byte is written, not even of our own end"
        );
        drop((log, disk));
        let log = world.open();
        acked.push((log.append(attempt(6)).await.expect("a new run"), 6));
        log.close().await.expect("in order");
        all_there(&world, &acked);
    }
}

/// A sender that is told to come again, and a load balancer that asks at once, hear the same.
#[tokio::test]
async fn who_is_refused_finds_the_log_in_trouble() {
    for _ in 0..50 {
        let world = World::new();
        let disk = Faulty::open(world.dir());
        let log = open(&world, &disk);
        disk.plan.set(Some(Fault(Ask::Sync, "segment-", EIO)));
        log.append(attempt(0)).await.expect_err("it is not durable");
        assert!(is_fenced(&log));
    }
}

/// Wherever the room ends: in a segment that is laid out, in a checkpoint, in a compressed segment.
#[tokio::test]
async fn a_disk_that_is_full_after_any_byte_refuses_and_goes_on() {
    let mut full = 0;
    for room in (0..12).map(|n| 200 + n * 62_003) {
        let world = World::with(|params| {
            (params.rotate_bytes, params.checkpoint_every) = (2000, Duration::ZERO);
        });
        let disk = Faulty::open(world.dir());
        let log = open(&world, &disk);
        disk.plan.give(Some(room));
        let mut acked = Vec::new();
        for event in 0..12 {
            match log.append(attempt(event)).await {
                Ok(seq) => acked.push((seq, event)),
                Err(error) => assert_eq!(error, AuditError::Full, "room for {room} bytes"),
            }
        }
        full += usize::from(log.health().trouble == Some(AuditError::Full));
        disk.plan.give(None);
        world.until(&log, "there is room again", |log| log.health().trouble.is_none()).await;
        acked.push((log.append(attempt(12)).await.expect("room"), 12));
        log.close().await.expect("in order");
        assert_eq!(world.files(".tmp"), Vec::<PathBuf>::new(), "nothing is left half done");
        all_there(&world, &acked);
    }
    assert!(full > 6, "{full} of the disks were full");
}

#[tokio::test]
async fn nothing_is_acknowledged_while_a_sync_hangs() {
    let world = World::new();
    let disk = Faulty::open(world.dir());
    let log = open(&world, &disk);
    disk.plan.hang(true);
    let mut first = Box::pin(log.append(attempt(0)));
    assert!(first.as_mut().now_or_never().is_none());
    disk.plan.until_hanging(1);
    let mut second = Box::pin(log.append(attempt(1)));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(first.as_mut().now_or_never().is_none(), "written, and not yet durable");
    disk.plan.hang(false);
    let acked = [(first.await.expect("durable"), 0), (second.await.expect("durable"), 1)];
    log.close().await.expect("in order");
    all_there(&world, &acked);
}

/// A hanging sync that fails in the end acknowledges nothing either.
#[tokio::test]
async fn a_sync_that_hangs_and_fails_acknowledges_nothing() {
    let world = World::new();
    let disk = Faulty::open(world.dir());
    let log = open(&world, &disk);
    disk.plan.hang(true);
    let mut append = Box::pin(log.append(attempt(0)));
    assert!(append.as_mut().now_or_never().is_none());
    disk.plan.until_hanging(1);
    disk.plan.set(Some(Fault(Ask::Sync, "segment-", EIO)));
    disk.plan.hang(false);
    assert!(matches!(append.await, Err(AuditError::Fenced(_))));
}

/// The record that is under way and every later one are refused: nobody waits for a writer that is gone.
#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    let world = World::new();
    let disk = Faulty::open(world.dir());
    let log = open(&world, &disk);
    let acked = [(log.append(attempt(0)).await.expect("durable"), 0)];
    disk.plan.set(Some(Fault(Ask::Write, "segment-", PANIC)));
    for event in 1..3 {
        assert_eq!(log.append(attempt(event)).await, Err(AuditError::Closed));
    }
    drop((log, disk));
    world.fill(1).await;
    all_there(&world, &acked);
}

/// A clock that is ten years off for a while removes nothing that has not nearly come of age.
#[tokio::test]
async fn a_leap_of_the_clock_does_not_empty_the_log() {
    let world = World::with(|params| {
        params.rotate_bytes = 1;
        params.retention = Duration::from_hours(400 * 24);
    });
    let millis = Arc::new(AtomicI64::new(1_790_000_000_000));
    let at = millis.clone();
    let clock = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
    let disk = Faulty::open(world.dir());
    let log = open_on(disk.clone(), &world.params, world.metrics.audit(), clock).expect("a log");
    for event in 0..4 {
        log.append(attempt(event)).await.expect("durable");
    }
    millis.fetch_add(3650 * 24 * 3_600_000, Ordering::SeqCst);
    // Old segments are looked for whenever one was compressed.
    world.until(&log, "three are compressed", |_| world.files(".zst").len() >= 3).await;
    log.close().await.expect("in order");
    let records = world.records();
    assert_eq!(records[0]["seq"], 1, "nothing is gone");
    assert!(!records.iter().any(|record| record["what"] == "segment_removed"));
}

/// The first record of a segment says itself what was before it: its beginning and the end of a later one are no record.
#[tokio::test]
async fn a_first_record_with_the_end_of_another_is_torn() {
    for rotate_every in [Duration::from_hours(24), Duration::ZERO] {
        torn_at_its_first_record(rotate_every).await;
    }
}

/// However soon a segment is closed, one that holds nothing is not.
async fn torn_at_its_first_record(rotate_every: Duration) {
    let mut world = World::new();
    world.fill(4).await;
    world.params.rotate_every = rotate_every;
    let live = world.files(".ndjson").pop().unwrap();
    let bytes = std::fs::read(&live).unwrap();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let third = ends.into_iter().nth(2).unwrap();
    let torn = [&bytes[..100], &vec![0; third - 200], &bytes[third - 100..]].concat();
    std::fs::write(&live, torn).unwrap();
    std::fs::write(&world.files("checkpoints")[0], "").unwrap(); // none of it was sealed
    world.fill(1).await;
    all_there(&world, &[]);
    assert_eq!(world.records().len(), 4, "started, what was cut, the event, stopped");
}

/// Once nobody knows which file is called `checkpoints`, nothing is sealed any more, and so nothing is taken.
#[tokio::test(start_paused = true)]
async fn checkpoints_that_were_shortened_by_half_end_a_run() {
    const DAY_MILLIS: i64 = 24 * 3_600_000;
    let world = World::with(|params| {
        (params.rotate_bytes, params.compress) = (1, false);
        params.retention = Duration::from_hours(48);
    });
    let millis = Arc::new(AtomicI64::new(1_790_000_000_000));
    let at = millis.clone();
    let clock = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
    let disk = Faulty::open(world.dir());
    let (log, mut writer) =
        open_by_hand(disk.clone(), &world.params, world.metrics.audit(), clock).expect("a log");
    let mut event = 0..;
    let mut day = async || {
        millis.fetch_add(DAY_MILLIS, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(2)).await;
        log.note(attempt(event.next().unwrap()));
        writer.turn();
    };
    disk.plan.set(Some(Fault(Ask::Rename, "checkpoints", EIO)));
    let segments = || world.files(".ndjson").len();
    let mut before = segments();
    loop {
        day().await;
        let removed = segments() <= before;
        before = segments();
        assert!(before < 40, "nothing is ever removed");
        if removed {
            break;
        }
    }
    disk.plan.set(None);
    assert!(is_fenced(&log), "a segment went, and its checkpoints are in a file without a name");
    let kept = world.records().len();
    for _ in 0..3 {
        day().await;
    }
    assert_eq!(world.records().len(), kept);
    drop(log);
    writer.end();
    drop(disk);
    world.fill(2).await;
    all_there(&world, &[]);
}
