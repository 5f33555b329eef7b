//! Closed segments are compressed beside everything else: a disk that is full puts it off, and the end of a run does not wait for it.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gatepost::audit::{AuditLog, ByHand};

use crate::{
    audit_world::{World, attempt},
    faults::all_there,
    faulty::{Ask, EIO, Fault, Faulty},
    room::by_hand,
};

/// A log with one closed segment, which is compressed with the next turn.
fn closed_one(world: &World) -> (Arc<Faulty>, AuditLog, ByHand) {
    let (disk, log, mut writer) = by_hand(world);
    log.note(attempt(0));
    writer.turn();
    assert_eq!(world.files(".ndjson").len(), 2);
    (disk, log, writer)
}

fn world() -> World {
    World::with(|params| params.rotate_bytes = 1)
}

/// Compressing a large segment takes longer than a service manager waits.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_does_not_wait_for_a_segment_to_be_compressed() {
    let world = world();
    let (disk, log, mut writer) = closed_one(&world);
    disk.plan.hang(true);
    tokio::time::advance(Duration::from_secs(2)).await;
    writer.turn();
    disk.plan.until_hanging(1); // in the middle of what it writes
    let end = thread::spawn(move || writer.end());
    disk.plan.until_hanging(2); // and the last record of the run is on its way
    disk.plan.hang(false);
    end.join().unwrap();
    assert_eq!(world.files(".zst"), Vec::<PathBuf>::new(), "it was given up");
    assert_eq!(world.files(".tmp"), Vec::<PathBuf>::new());
    drop((log, disk));
    all_there(&world, &[]);
    let (_, log, mut writer) = by_hand(&world);
    turns(&mut writer, "the next run does it", || !world.files(".zst").is_empty()).await;
    writer.end();
    drop(log);
    all_there(&world, &[]);
}

/// Time passes until what runs beside the writer is done.
async fn turns(writer: &mut ByHand, what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::advance(Duration::from_secs(2)).await;
        writer.turn();
        thread::yield_now();
    }
}

/// Compressing is begun, and fails.
async fn tried(world: &World, disk: &Faulty, writer: &mut ByHand) {
    disk.plan.hang(true);
    tokio::time::advance(Duration::from_secs(2)).await;
    writer.turn();
    disk.plan.until_hanging(1);
    disk.plan.hang(false);
    turns(writer, "it was tried", || world.files(".tmp").is_empty()).await;
}

/// What would make room is not given up because there was none for a moment.
#[tokio::test(start_paused = true)]
async fn a_segment_that_found_no_room_is_compressed_once_there_is_some() {
    let world = world();
    let (disk, log, mut writer) = closed_one(&world);
    disk.plan.give(Some(0));
    tried(&world, &disk, &mut writer).await;
    disk.plan.give(None);
    turns(&mut writer, "it is compressed", || !world.files(".zst").is_empty()).await;
    drop(log);
    writer.end();
    all_there(&world, &[]);
}

/// What goes wrong otherwise would go wrong again: it is said once, and left to the next start.
#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_compressed_is_left_to_the_next_start() {
    let world = world();
    let (disk, log, mut writer) = closed_one(&world);
    let closed = world.files(".ndjson")[0].file_name().unwrap().to_string_lossy().into_owned();
    disk.plan.set(Some(Fault(Ask::Sync, closed.leak(), EIO)));
    tried(&world, &disk, &mut writer).await;
    writer.turn(); // which hears of it
    disk.plan.set(None);
    for _ in 0..5000 {
        tokio::time::advance(Duration::from_secs(60)).await;
        writer.turn();
        thread::yield_now();
    }
    drop(log);
    writer.end();
    assert_eq!(world.files(".zst"), Vec::<PathBuf>::new());
    all_there(&world, &[]);
}
