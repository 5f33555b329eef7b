//! What the writer does between batches, a turn at a time, by a clock that stands.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use gatepost::audit::ByHand;

use super::*;

/// A log whose writer takes a turn when it is told, and the wall clock that it reads.
struct House {
    world: World,
    log: gatepost::audit::AuditLog,
    writer: ByHand,
    clock: Arc<AtomicI64>,
}

impl House {
    fn new(change: impl FnOnce(&mut gatepost::audit::Params)) -> Self {
        Self::of(World::with(change))
    }

    fn of(world: World) -> Self {
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
        let at = clock.clone();
        let now = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
        let (disk, metrics) = (Disk::open(world.dir()), world.metrics.audit());
        let (log, writer) = open_by_hand(disk, &world.params, metrics, now).expect("a log");
        Self { world, log, writer, clock }
    }

    /// Time passes, something may come, and the writer takes a turn.
    async fn turn(&mut self, millis: u64, event: Option<u32>) {
        self.clock.fetch_add(i64::try_from(millis).unwrap(), Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(2).max(Duration::from_millis(millis))).await;
        if let Some(event) = event {
            self.log.note(attempt(event));
        }
        self.writer.turn();
    }
}

fn checkpoints(world: &World) -> Vec<String> {
    let text = fs::read_to_string(&world.files("checkpoints")[0]).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

/// To the millisecond, and what has passed since the last record counts as well.
#[tokio::test(start_paused = true)]
async fn a_segment_goes_when_it_was_closed_longer_ago_than_the_retention() {
    const HALF_DAY: u64 = 12 * 3_600_000;
    let mut house = House::new(|params| {
        (params.retention, params.rotate_bytes) = (Duration::from_hours(8 * 24), 1);
        (params.rotate_every, params.compress) = (Duration::from_hours(1), false);
    });
    let first = |house: &House| house.world.records()[0]["seq"].as_u64();
    house.turn(0, Some(0)).await; // closes the segment of our own first record
    for event in 1..16 {
        house.turn(HALF_DAY, Some(event)).await;
        assert_eq!(first(&house), Some(1), "after {event} times half a day");
    }
    house.turn(HALF_DAY, None).await;
    assert_eq!(first(&house), Some(1), "eight days, and not a moment longer");
    let sealed = checkpoints(&house.world);
    house.turn(1, None).await;
    assert_eq!(first(&house), Some(2), "the oldest, and no other");
    assert_eq!(checkpoints(&house.world)[0], sealed[0], "which says what the rest continues");
    house.turn(HALF_DAY, None).await;
    assert_eq!(first(&house), Some(3));
    let left = checkpoints(&house.world);
    assert_eq!(left[..sealed.len() - 1], sealed[1..], "what only covers records that are gone");
    house.writer.end();
    assert_eq!(house.world.verify().findings, []);
    assert_eq!(house.world.records().last().unwrap()["what"], "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_for_a_while_removes_nothing() {
    const HOUR: i64 = 3_600_000;
    const DECADE: i64 = 10 * 365 * 24 * HOUR;
    let mut house = House::new(|params| {
        (params.retention, params.rotate_bytes) = (Duration::from_hours(16 * 24), 1);
        params.compress = false;
    });
    let mut records = 0..;
    let mut pass = async |jump: i64| {
        house.clock.fetch_add(jump, Ordering::SeqCst);
        for _ in 0..2 {
            house.turn(0, records.next()).await;
        }
        house.world.files(".ndjson").len()
    };
    // Each batch is a segment of its own. What is written by a wrong clock looks ten years old afterwards, or what was
    // written before it does meanwhile.
    let mut segments = pass(0).await;
    for jump in [-DECADE, DECADE, HOUR, DECADE, HOUR, -DECADE, HOUR] {
        segments += 2;
        assert_eq!(pass(jump).await, segments, "after a jump of {jump}");
    }
    // Time that passes in steps that a record has removes what is old.
    for _ in 0..20 {
        pass(24 * HOUR).await;
    }
    assert!(house.world.verify().first > 1, "the first segment is gone");
    house.writer.end();
    assert_eq!(house.world.verify().findings, []);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_comes_when_it_is_time_and_there_is_something_new() {
    let mut house = House::new(|params| params.checkpoint_every = Duration::from_mins(1));
    let begun = checkpoints(&house.world).len();
    house.turn(30_000, Some(0)).await;
    assert_eq!(checkpoints(&house.world).len(), begun, "not yet");
    house.turn(30_000, None).await;
    assert_eq!(checkpoints(&house.world).len(), begun + 1, "a minute after the one before");
    house.turn(600_000, None).await;
    assert_eq!(checkpoints(&house.world).len(), begun + 1, "nothing new");
    house.turn(0, Some(1)).await;
    assert_eq!(checkpoints(&house.world).len(), begun + 2);
}

#[tokio::test(start_paused = true)]
async fn notes_fill_half_of_the_queue_and_no_more() {
    let mut house = House::new(|_| ());
    for event in 0..u32::try_from(QUEUE_RECORDS_MAX).unwrap() {
        house.log.note(attempt(event));
    }
    house.writer.turn();
    let kept = house.world.records().iter().filter(|record| record["kind"] == "attempt").count();
    assert_eq!(kept, QUEUE_RECORDS_MAX / 2);
}

#[test]
fn a_batch_is_made_of_what_is_wanted_or_of_much() {
    // Records that wait, how many of them somebody waits for, how many such are wanted.
    let table = [
        (0, 0, 0, false),
        (1, 0, 0, true),
        (1, 0, 1, false),
        (1, 1, 1, true),
        (5, 2, 3, false),
        (5, 3, 3, true),
        (5, 4, 3, true),
        (1023, 0, 1, false),
        (1024, 0, 1, true),
        (1025, 0, 1, true),
    ];
    for (waiting, awaited, wanted, ripe) in table {
        assert_eq!(is_ripe(waiting, awaited, wanted), ripe, "{waiting} {awaited} {wanted}");
    }
}

/// A place that takes them late: a pipe into which nothing goes before somebody reads.
#[tokio::test(start_paused = true)]
async fn copies_are_where_they_belong_when_a_run_has_ended() {
    let world = World::with_root(|params, root| {
        params.copy_to = vec![CopyTo::File(root.join("pipe")), CopyTo::File(root.join("plain"))];
    });
    let root = world.root.path();
    let (pipe, plain) = (root.join("pipe"), root.join("plain"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut house = House::of(world);
    for event in 0..20 {
        house.turn(61_000, Some(event)).await;
    }
    thread::spawn(move || {
        let mut pipe = fs::File::options().read(true).write(true).open(pipe).unwrap();
        std::io::copy(&mut pipe, &mut std::io::sink())
    });
    house.writer.end();
    let copied = fs::read_to_string(plain).unwrap();
    assert_eq!(copied.lines().collect::<Vec<_>>(), checkpoints(&house.world));
    assert!(copied.lines().count() > 20, "{copied}");
}
