//! How the disk is used: room that is laid out before it is needed, batches that are no longer than what may be torn, and what is
//! written again because nobody knows whether it is there.

use std::{fs, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use gatepost::{
    audit::{AuditError, AuditLog, ByHand, open_by_hand},
    event::Timestamp,
};

use crate::{
    audit_world::{World, attempt},
    faults::{all_there, open},
    faulty::{Done, Faulty},
    said::said,
};

const BATCH_BYTES_MAX: u64 = 1 << 20;

/// A log whose writer takes a turn when it is told.
pub fn by_hand(world: &World) -> (Arc<Faulty>, AuditLog, ByHand) {
    let disk = Faulty::open(world.dir());
    let clock = Arc::new(Timestamp::now);
    let opened = open_by_hand(disk.clone(), &world.params, world.metrics.audit(), clock);
    let (log, writer) = opened.expect("a log");
    (disk, log, writer)
}

fn note(log: &AuditLog, count: u32) {
    (0..count).for_each(|event| log.note(attempt(event)));
}

/// Zeros that are durable lie ahead of the records, as many as so many batches like the last one need, so that a batch costs one
/// write and one sync of what is there already. Only a batch that is larger than all of it has to wait for more.
#[tokio::test]
async fn room_is_laid_out_before_it_is_needed() {
    const KIB: u64 = 1024;
    let world = World::with(|params| params.rotate_bytes = 1 << 30);
    let disk = Faulty::open(world.dir());
    let log = open(&world, &disk);
    disk.plan.give(Some(64 << 20)); // where it never ends, it ends here
    let begun = fs::read(&world.files(".ndjson")[0]).unwrap();
    let mut laid = begun.len() as u64;
    let mut len = begun.iter().rposition(|byte| *byte == b'\n').expect("a record") as u64 + 1;
    disk.plan.done.lock().unwrap().clear();
    for event in 0..1200 {
        log.append(attempt(event)).await.expect("room");
    }
    let few = disk.plan.done.lock().unwrap().len();
    for event in 0..20 {
        let many = (0..1000).map(|n| log.append(attempt(1200 + 1000 * event + n)));
        for done in futures_util::future::join_all(many).await {
            done.expect("room");
        }
    }
    log.close().await.expect("in order");
    let done = std::mem::take(&mut *disk.plan.done.lock().unwrap());
    let (mut step, mut most, mut laying, mut dirty, mut forced) = (256 * KIB, 0, false, false, 0);
    for (number, done) in done.into_iter().enumerate() {
        match done {
            Done::Zeros { at, len: more } => {
                assert!(at == laid && more >= 64 * KIB, "in a row, and in few calls");
                if !laying && laid - len < 64 * KIB {
                    forced += 1;
                    assert!(number > few, "nothing waits for room where batches are small");
                }
                (laid, laying, dirty) = (laid + more, true, true);
            }
            Done::Records { at, len: more } => {
                assert!(at == len && at + more <= laid, "records go into zeros");
                assert!(!dirty, "which are durable");
                step = step.max((more * 64).min(4096 * KIB));
                (len, laying, dirty) = (len + more, false, true);
                let ahead = laid - len;
                assert!(
                    ahead <= step + step / 2 + 256 * KIB,
                    "{ahead} bytes ahead at a step of {step}"
                );
            }
            Done::Sync => assert!(std::mem::take(&mut dirty), "and nothing is synced twice"),
        }
        most = most.max(laid - len);
    }
    assert!(forced <= 3, "batches alike found their room {forced} times only in the last moment");
    assert!(most > 1024 * KIB, "large batches, longer steps; {most}");
}

/// Free space is a number, of which others may take their part: whether there is room shows where it is taken.
#[tokio::test(start_paused = true)]
async fn a_disk_has_room_again_once_zeros_are_on_it() {
    let world = World::new();
    let (disk, log, mut writer) = by_hand(&world);
    disk.plan.give(Some(0));
    note(&log, 200); // for which there was room already
    let full = |log: &AuditLog| log.health().trouble == Some(AuditError::Full);
    let turns = |writer: &mut ByHand| {
        said(|| {
            writer.turn();
            assert!(full(&log));
            let refused = log.append(attempt(200)).now_or_never();
            assert_eq!(refused, Some(Err(AuditError::Full)));
            writer.turn();
        })
    };
    let told = turns(&mut writer);
    assert_eq!(told.matches("nothing is accepted until").count(), 1, "once: {told}");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(turns(&mut writer), "", "no byte is free, and none has to be");
    disk.plan.give(None);
    tokio::time::advance(Duration::from_secs(2)).await;
    writer.turn();
    assert_eq!(log.health().trouble, None);
    note(&log, 1);
    writer.end();
    assert_eq!(world.records().len(), 1 + 200 + 1 + 1);
    all_there(&world, &[]);
}

/// Or what a crash tears off its end would be more than a verifier excuses.
#[test]
fn many_records_are_few_batches_of_which_none_is_too_long() {
    let world = World::new();
    let (disk, log, mut writer) = by_hand(&world);
    disk.plan.done.lock().unwrap().clear();
    note(&log, 4000);
    writer.turn();
    let done = std::mem::take(&mut *disk.plan.done.lock().unwrap());
    let length = |done: &Done| match done {
        Done::Records { len, .. } => Some(*len),
        _ => None,
    };
    let batches: Vec<u64> = done.iter().filter_map(length).collect();
    assert!(batches.iter().sum::<u64>() > 2 * BATCH_BYTES_MAX, "{batches:?}");
    assert!(batches.iter().all(|len| *len <= BATCH_BYTES_MAX), "{batches:?}");
    assert!(batches.len() <= 6, "{batches:?}");
    writer.end();
    all_there(&world, &[]);
}

/// What a failed sync left behind can be read, and is perhaps not on the disk. Before anything is added, as much as one batch may
/// have left is written and synced again.
#[test]
fn the_end_that_is_found_is_made_durable_before_anything_follows_it() {
    for count in [3, 2000] {
        let world = World::new();
        let (_, log, mut writer) = by_hand(&world);
        note(&log, count);
        writer.turn();
        drop((log, writer));
        let found = fs::read(&world.files(".ndjson")[0]).unwrap();
        let used = found.iter().rposition(|byte| *byte == b'\n').unwrap() as u64 + 1;
        assert_eq!(used > BATCH_BYTES_MAX, count > 1000);
        let (disk, log, writer) = by_hand(&world);
        let done = std::mem::take(&mut *disk.plan.done.lock().unwrap());
        let [Done::Records { at, len }, Done::Zeros { .. }, Done::Sync, ..] = done[..] else {
            panic!("{done:?}");
        };
        let begin = used.saturating_sub(BATCH_BYTES_MAX);
        assert_eq!((at, len), (begin, used - begin));
        drop(log);
        writer.end();
        let now = fs::read(&world.files(".ndjson")[0]).unwrap();
        assert!(now.starts_with(&found[..used as usize]), "as it was");
        all_there(&world, &[]);
    }
}
