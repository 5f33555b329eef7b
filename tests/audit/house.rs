//! What the writer does between batches, a turn at a time, by a clock that stands.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use gatepost::audit::{ByHand, segments::Segments};

use super::{said::said, *};

const BEGIN: i64 = 1_700_000_000_000;
/// In milliseconds.
const DAY: u64 = 24 * 3_600_000;

/// A log whose writer takes a turn when it is told, and the wall clock that it reads.
struct House {
    world: World,
    disk: Arc<Disk>,
    log: gatepost::audit::AuditLog,
    writer: ByHand,
    clock: Arc<AtomicI64>,
}

impl House {
    fn new(change: impl FnOnce(&mut gatepost::audit::Params)) -> Self {
        Self::of(World::with(change))
    }

    /// A log of segments of one batch each, which go after eight days.
    fn keeping_eight_days(rotate_every: Duration) -> Self {
        Self::new(|params| {
            (params.retention, params.rotate_bytes) = (Duration::from_hours(8 * 24), 1);
            (params.rotate_every, params.compress) = (rotate_every, false);
        })
    }

    fn of(world: World) -> Self {
        Self::at(BEGIN, world)
    }

    fn at(time: i64, world: World) -> Self {
        let clock = Arc::new(AtomicI64::new(time));
        let at = clock.clone();
        let now = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
        let (disk, metrics) = (Disk::open(world.dir()), world.metrics.audit());
        let opened = open_by_hand(disk.clone(), &world.params, metrics, now);
        let (log, writer) = opened.expect("a log");
        Self { world, disk, log, writer, clock }
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
    let mut house = House::keeping_eight_days(Duration::from_hours(1));
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
    assert_eq!(checkpoints(&house.world)[0], sealed[0], "which is one of many");
    house.turn(HALF_DAY, None).await;
    assert_eq!(first(&house), Some(4));
    assert_eq!(checkpoints(&house.world)[0], sealed[0], "for each that goes, there is one more");
    house.turn(HALF_DAY, None).await;
    assert_eq!(first(&house), Some(5));
    let left = checkpoints(&house.world);
    assert_eq!(left[..sealed.len() - 3], sealed[3..], "what only covers records that are gone");
    house.writer.end();
    assert_eq!(house.world.verify().findings, []);
    assert_eq!(house.world.records().last().unwrap()["what"], "stopped");
}

/// Records of removals, and of what a start said about one.
fn removals(world: &World) -> Vec<String> {
    let records = world.records();
    let whats = records.iter().filter_map(|record| record["what"].as_str());
    let about = ["segment_removed", "segment_kept", "damage_found"];
    whats.filter(|what| about.contains(what)).map(ToOwned::to_owned).collect()
}

/// Anybody can write a record; so a segment goes only once the gateway has sealed that it does.
#[tokio::test(start_paused = true)]
async fn a_segment_stays_until_the_record_of_its_removal_is_sealed() {
    for crash in [false, true] {
        let mut house = House::keeping_eight_days(Duration::from_hours(1));
        house.turn(0, Some(0)).await; // closes the segment of our own first record
        for event in 1..17 {
            house.turn(DAY / 2, Some(event)).await;
        }
        house.disk.faults.full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            house.turn(1, None).await;
            let first = house.world.records()[0]["seq"].clone();
            assert_eq!((first.as_u64(), removals(&house.world).len()), (Some(1), 1));
        }
        house.disk.faults.full.store(false, Ordering::SeqCst);
        let mut told = vec!["segment_removed"];
        if crash {
            let House { world, disk, log, writer, clock } = house;
            drop((log, writer, disk));
            house = House::at(clock.load(Ordering::SeqCst), world);
            told.extend(["segment_kept", "segment_removed"]);
        }
        let oldest = house.world.files(".ndjson").remove(0);
        let segment = fs::read(&oldest).unwrap();
        house.turn(1, None).await;
        assert_eq!(house.world.records()[0]["seq"], 2, "it goes with a record of its own");
        assert_eq!(removals(&house.world), told);
        assert_eq!(house.world.verify().findings, []);
        // A crash behind the seal leaves the segment there; it goes once more.
        let House { world, disk, log, writer, clock } = house;
        drop((log, writer, disk));
        fs::write(&oldest, segment).unwrap();
        assert_eq!(world.verify().findings, []);
        let mut house = House::at(clock.load(Ordering::SeqCst), world);
        house.turn(1, None).await;
        assert_eq!(house.world.records()[0]["seq"], 2);
        told.push("segment_removed");
        assert_eq!(removals(&house.world), told);
        house.writer.end();
        assert_eq!(house.world.verify().findings, []);
    }
}

/// A key that is replaced takes nothing back that the one before it sealed, not even where that one is put back.
#[tokio::test(start_paused = true)]
async fn a_removal_that_another_key_sealed_counts() {
    let mut house = House::keeping_eight_days(Duration::from_hours(1));
    for event in 0..18 {
        house.turn(DAY / 2, Some(event)).await;
    }
    let House { world, disk, writer, .. } = house;
    writer.end();
    drop(disk);
    let other = World::new();
    other.fill(1).await;
    let path = &world.params.checkpoint_key;
    let keys = [fs::read(&other.params.checkpoint_key).unwrap(), fs::read(path).unwrap()];
    assert!(removals(&world).contains(&"segment_removed".to_owned()));
    for key in &keys {
        fs::write(path, key).unwrap();
        let House { disk, writer, .. } = {
            let world = World { params: world.params.clone(), ..World::new() };
            House::at(BEGIN + 9 * DAY.cast_signed(), world)
        };
        writer.end();
        drop(disk);
        assert!(removals(&world).iter().all(|what| what == "segment_removed"));
        assert_eq!(world.verify().findings, []);
    }
}

/// A shorter retention makes many old at once. They go one by one, and whoever waits for the record is served in between; until the
/// last of them is gone, checkpoints of what is gone lie beside the log and do no harm.
#[tokio::test(start_paused = true)]
async fn many_old_segments_hold_up_no_record() {
    let mut house = House::new(|params| {
        (params.rotate_every, params.compress) = (Duration::from_hours(1), false);
    });
    for event in 0..60 {
        house.turn(DAY, Some(event)).await;
    }
    let House { mut world, disk, writer, clock, .. } = house;
    writer.end();
    drop(disk);
    world.params.retention = Duration::from_hours(8 * 24);
    let house = House::at(clock.load(Ordering::SeqCst), world);
    let House { world, disk, log, mut writer, .. } = house;
    let segments = || Segments::of(world.dir()).unwrap().firsts().collect::<Vec<_>>();
    let (many, sealed) = (segments(), checkpoints(&world));
    tokio::time::advance(Duration::from_secs(2)).await;
    writer.turn();
    assert_eq!(segments(), many[1..]);
    let (told, _) = tokio::join!(log.append(attempt(60)), async { writer.turn() });
    assert!(told.is_ok(), "{told:?}");
    assert_eq!(segments(), many[2..], "before they are all gone");
    assert!(checkpoints(&world).starts_with(&sealed), "stale ones lie there");
    for log in [world.itself(), world.export()] {
        assert_eq!((log.ours(), log.theirs()), ((true, vec![]), (true, vec![])));
    }
    for gone in 3..=51 {
        writer.turn();
        assert_eq!(segments(), many[gone..], "without waiting");
    }
    writer.turn();
    assert_eq!(segments(), many[51..], "the rest is not old");
    assert_eq!(disk.faults.rewritten.load(Ordering::SeqCst), 1);
    let left = checkpoints(&world);
    assert!(left.iter().filter(|note| sealed.contains(note)).count() < sealed.len() / 2);
    writer.end();
    assert_eq!(world.verify().findings, []);
}

/// The checkpoints are written anew when a tenth of them is of no use any more, and not for each segment that goes.
#[tokio::test(start_paused = true)]
async fn checkpoints_are_written_anew_when_a_tenth_of_them_is_stale() {
    let mut house = House::new(|params| {
        (params.retention, params.compress) = (Duration::from_hours(8 * 24), false);
        params.rotate_every = Duration::from_hours(1);
    });
    let rewritten = |house: &House| house.disk.faults.rewritten.load(Ordering::SeqCst);
    for event in 0..40 {
        house.turn(6 * 3_600_000, Some(event)).await; // four segments a day
    }
    let (mut last, mut most) = (rewritten(&house), 0);
    let (begun, first) = (last, house.world.records()[0]["seq"].as_u64().unwrap());
    for event in 40..140 {
        let before = checkpoints(&house.world);
        house.turn(6 * 3_600_000, Some(event)).await;
        let first = house.world.records()[0]["seq"].as_u64().unwrap();
        let stale = |notes: &[String]| {
            let size = |note: &String| note.split("\\n").nth(1).unwrap().parse::<u64>().unwrap();
            notes.iter().filter(|note| size(note) < first - 1).count()
        };
        let left = checkpoints(&house.world);
        most = most.max(stale(&left) * 100 / left.len());
        if rewritten(&house) > last {
            last = rewritten(&house);
            assert_eq!(stale(&left), 0);
            assert!(stale(&before) * 100 / before.len() >= 8, "not for less");
        }
    }
    let gone = house.world.records()[0]["seq"].as_u64().unwrap() - first;
    assert!((5..=10).contains(&most), "{most} of a hundred");
    assert!(gone >= 90 && (last - begun) as u64 * 2 < gone, "{last} for {gone}");
}

/// However long nothing was written, that time counts for an eighth of the retention, and to the millisecond.
#[tokio::test(start_paused = true)]
async fn a_time_without_records_makes_nothing_old_by_itself() {
    let mut house = House::keeping_eight_days(Duration::from_hours(1));
    let first = |house: &House| house.world.records()[0]["seq"].as_u64();
    house.turn(0, Some(0)).await; // closes the segment of our own first record
    for event in 1..9 {
        house.turn(100 * DAY, Some(event)).await;
        assert_eq!(first(&house), Some(1), "after {event} times a hundred days");
    }
    house.turn(1, None).await;
    assert_eq!(first(&house), Some(2));
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
        let open = is_ripe(false, waiting, awaited, wanted);
        assert_eq!(open, ripe, "{waiting} {awaited} {wanted}");
        assert!(is_ripe(true, waiting, awaited, wanted), "the end waits for nothing");
    }
}

/// However much waits, no batch is larger than a crash may tear, and none much smaller: each is a sync.
#[tokio::test(start_paused = true)]
async fn what_waits_is_synced_by_the_mebibyte() {
    const SYNC_BYTES: u64 = 768 * 1024; // less than a batch may have, by the largest record
    let mut house = House::new(|params| params.rotate_bytes = u64::MAX);
    house.turn(0, Some(0)).await; // lays out the segment
    let size = |house: &House| {
        house.world.records().iter().map(|r| r.to_string().len() as u64).sum::<u64>()
    };
    let (before, syncs) = (size(&house), house.disk.faults.syncs.load(Ordering::SeqCst));
    for event in 1..4000 {
        house.log.note(attempt(event));
    }
    house.turn(0, None).await;
    let (written, syncs) =
        (size(&house) - before, house.disk.faults.syncs.load(Ordering::SeqCst) - syncs);
    let batches = written.div_ceil(SYNC_BYTES);
    assert!(batches >= 2, "{written} bytes");
    assert_eq!(syncs as u64, batches + 1, "{written} bytes, and once the room for them");
}

/// Whatever ends the writer, whoever waits for it is told, and so is whoever comes afterwards.
#[tokio::test(start_paused = true)]
async fn a_writer_that_is_gone_keeps_nobody_waiting() {
    let House { log, writer, .. } = House::new(|_| ());
    let waiting = log.append(attempt(0));
    let dropped = async { drop(writer) };
    let (told, ()) = tokio::join!(waiting, dropped);
    assert_eq!(told, Err(AuditError::Closed));
    assert_eq!(log.health().trouble, Some(AuditError::Closed));
    assert_eq!(log.append(attempt(1)).await, Err(AuditError::Closed));
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
    let told = said(|| house.writer.end());
    assert!(!told.contains("in time"), "they were, {told}");
    let copied = fs::read_to_string(plain).unwrap();
    assert_eq!(copied.lines().collect::<Vec<_>>(), checkpoints(&house.world));
    assert!(copied.lines().count() > 20, "{copied}");
}

/// Of the times of records, one that goes back by more than a second is put on record; by less, they stand still.
#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_is_on_record_when_it_is_more_than_a_second() {
    let mut house = House::new(|_| ());
    let time = |millis: i64| Timestamp::from_millis(BEGIN + millis).to_string();
    for (event, back, expected) in [(0, 999, 0), (1, 1, 0), (2, 1, -1001), (3, 500, -1001)] {
        house.clock.fetch_sub(back, Ordering::SeqCst);
        house.turn(0, Some(event)).await;
        let records = house.world.records();
        assert_eq!(records.last().unwrap()["ts"], time(expected), "{back} less");
    }
    house.writer.end();
    let records = house.world.records();
    let said: Vec<_> = records.iter().filter(|r| r["what"] == "clock_went_back").collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["from"], time(0));
    assert_eq!(said[0]["ts"], time(-1001));
    assert_eq!(house.world.verify().findings, []);
}

#[tokio::test(start_paused = true)]
async fn below_its_free_bytes_a_disk_is_full_and_at_them_it_is_not() {
    let mut house = House::new(|params| params.free_bytes_min = 1000);
    for (free, trouble) in [(1000, None), (999, Some(AuditError::Full)), (1000, None), (1001, None)]
    {
        house.disk.faults.free.store(free, Ordering::SeqCst);
        house.turn(0, None).await;
        assert_eq!(house.log.health().trouble, trouble, "{free} bytes");
    }
}

/// What is left of a disk that is nearly full is for the endings of what was acknowledged: no stranger gets any of it.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_nearly_full_takes_only_how_things_ended() {
    let mut house = House::new(|params| params.free_bytes_min = 1000);
    house.log.note(Draft::new(Kind::Rejected));
    house.disk.faults.free.store(999, Ordering::SeqCst);
    house.turn(0, None).await;
    let before = house.world.records().len();
    let others = [
        Kind::Attempt,
        Kind::Duplicate,
        Kind::Ignored,
        Kind::Malformed,
        Kind::Rejected,
        Kind::Handshake,
        Kind::Shadow,
    ];
    for kind in others {
        house.log.note(Draft::new(kind));
    }
    house.log.note(Draft::new(Kind::Outcome));
    house.turn(0, None).await;
    let records = house.world.records();
    let new: Vec<_> = records[before..].iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(new, ["outcome"]);
    let counted = format!("gatepost_audit_notes_dropped_total {}", others.len());
    assert!(house.world.metrics.render().contains(&counted));
}

/// Its age would be that of a time to come: for a year it would not grow old, and what was closed by that clock would not either.
#[tokio::test(start_paused = true)]
async fn what_was_begun_by_a_clock_that_was_ahead_is_closed_and_goes_once_it_is_right() {
    const YEAR: i64 = 365 * 24 * 3_600_000;
    let mut house = House::new(|params| {
        (params.retention, params.compress) = (Duration::from_hours(8 * 24), false);
        params.rotate_every = Duration::from_hours(24);
    });
    let firsts =
        |house: &House| Segments::of(house.world.dir()).unwrap().firsts().collect::<Vec<_>>();
    house.turn(0, Some(0)).await;
    house.clock.fetch_add(YEAR, Ordering::SeqCst);
    for event in 1..4 {
        house.turn(DAY, Some(event)).await;
    }
    let ahead = firsts(&house);
    assert_eq!(ahead.len(), 4);
    house.clock.fetch_sub(YEAR, Ordering::SeqCst);
    house.turn(0, Some(4)).await;
    let right = firsts(&house);
    assert_eq!(right.len(), 5, "a new one begins at the right time");
    house.turn(0, Some(5)).await;
    house.turn(DAY - 1, Some(6)).await;
    assert_eq!(firsts(&house), right, "and lasts as long as any other");
    for event in 7..14 {
        house.turn(DAY, Some(event)).await;
        assert_eq!(firsts(&house)[0], 1, "nothing is old yet");
    }
    house.turn(1, None).await;
    assert_eq!(firsts(&house)[0], 1, "eight days, and not a moment longer");
    for _ in 0..8 {
        house.turn(1, None).await;
    }
    assert_eq!(firsts(&house)[0], right[4], "what that clock closed is gone, and nothing else");
    house.writer.end();
    assert_eq!(house.world.verify().findings, []);
}

/// The record of what is removed says where the next one begins; where nobody can say that any more, nothing goes, and it is told.
#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_read_holds_up_removal_and_that_is_said_once() {
    let garble = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("\"seq\"", "\"sek\"", 1)).unwrap();
    };
    // A time that cannot be read is left out; a segment that is not there may be anything.
    holds_up_removal(garble, 2).await;
    holds_up_removal(|path| fs::remove_file(path).unwrap(), 1).await;
}

async fn holds_up_removal(damage: impl Fn(&Path), upto: u64) {
    let mut house = House::keeping_eight_days(Duration::from_hours(24));
    let mut told = String::new();
    for event in 0..16 {
        house.clock.fetch_add(24 * 3_600_000, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(2)).await;
        house.log.note(attempt(event));
        told += &said(|| assert!(house.writer.turn()));
        if event == 4 {
            damage(&house.world.files(".ndjson")[2]);
        }
    }
    assert_eq!(house.world.records()[0]["seq"], upto);
    assert_eq!(told.matches("old segments are kept").count(), 1, "{told}");
    assert!(told.contains("segment-00000000000000000003.ndjson"), "{told}");
}

/// Too many open files, of the process and of the system, and a disk that is broken.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EIO: i32 = 5;

/// What a segment that cannot be begun says about the log.
#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_begun_ends_a_run_unless_that_passes() {
    for (errno, trouble) in [(EMFILE, ""), (ENFILE, ""), (EIO, "failed")] {
        let mut house = House::new(|params| params.rotate_bytes = 1);
        house.turn(0, Some(0)).await;
        house.disk.faults.errno.store(errno, Ordering::SeqCst);
        house.turn(0, Some(1)).await;
        let said = house.log.health().trouble.map(|trouble| trouble.to_string());
        assert!(said.as_deref().unwrap_or_default().contains(trouble), "{errno}: {said:?}");
        assert_eq!(said.is_some(), !trouble.is_empty(), "{errno}: {said:?}");
    }
}

/// Strangers can bring that about: it is no word about the disk, and passes without anybody's doing.
#[tokio::test(start_paused = true)]
async fn too_many_open_files_put_off_the_next_segment_and_nothing_else() {
    let mut house = House::keeping_eight_days(Duration::from_hours(24));
    let live = |house: &House| Segments::of(house.world.dir()).unwrap().firsts().next_back();
    let attempts = |house: &House| {
        house.world.records().iter().filter(|record| record["kind"] == "attempt").count()
    };
    for event in 0..10 {
        house.turn(DAY, Some(event)).await; // each in a segment of its own
    }
    let (before, began) = (attempts(&house), live(&house));
    house.disk.faults.errno.store(EMFILE, Ordering::SeqCst);
    let told = said(|| {
        for event in 10..13 {
            house.log.note(attempt(event));
            house.writer.turn();
        }
    });
    assert_eq!(told.matches("too many files are open").count(), 1, "not for each batch: {told}");
    assert_eq!((attempts(&house), live(&house)), (before + 3, began), "the old one goes on");
    // What is old goes all the same; the checkpoints that cover it stay with the others.
    let (first, sealed) = (house.world.records()[0]["seq"].clone(), checkpoints(&house.world));
    for event in 13..15 {
        house.turn(DAY, Some(event)).await;
    }
    assert_ne!(house.world.records()[0]["seq"], first);
    assert!(checkpoints(&house.world).starts_with(&sealed));
    assert_eq!(house.log.health().trouble, None);
    house.disk.faults.errno.store(0, Ordering::SeqCst);
    for event in 15..18 {
        house.turn(DAY, Some(event)).await;
    }
    assert!(live(&house) > began, "begun when it can be");
    assert!(!checkpoints(&house.world).starts_with(&sealed[..1]), "gone with the next ones");
    house.writer.end();
    assert_eq!(house.world.verify().findings, []);
}

/// Where to begin to read, for what was written from a time on.
#[tokio::test(start_paused = true)]
async fn a_time_falls_into_the_last_segment_that_begins_before_it() {
    let mut house = House::new(|params| (params.rotate_bytes, params.compress) = (1, false));
    for event in 0..3 {
        house.turn(1000, Some(event)).await; // each in a segment of its own
    }
    let segments = Segments::of(house.world.dir()).unwrap();
    assert_eq!(segments.firsts().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(segments.at(None).unwrap(), 0);
    let table = [
        (-1, 0),
        (0, 0),
        (1, 1),
        (1000, 1),
        (1001, 2),
        (2000, 2),
        (2001, 3),
        (3000, 3),
        (3001, 4),
        (i64::from(u32::MAX), 4),
    ];
    for (millis, first) in table {
        let since = Timestamp::from_millis(BEGIN + millis);
        assert_eq!(segments.at(Some(since)).unwrap(), first, "{millis} ms after the beginning");
    }
}

/// Where nothing comes for a while, what is there is sealed, and the log goes on.
#[test]
fn a_log_that_is_left_alone_is_sealed_and_goes_on() {
    let world = World::with_root(|params, root| {
        params.checkpoint_every = Duration::from_millis(100);
        params.copy_to = vec![CopyTo::File(root.join("pipe"))];
    });
    let pipe = world.root.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let copies = fs::File::options().read(true).write(true).open(pipe).unwrap();
    let copies = std::io::BufReader::new(copies);
    let log = world.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(log.append(attempt(0))), Ok(1 + OURS));
    let covers_it = |line: std::io::Result<String>| line.unwrap().contains("\\n2\\n");
    assert!(std::io::BufRead::lines(copies).any(covers_it));
    assert_eq!(runtime.block_on(log.append(attempt(1))), Ok(2 + OURS));
    runtime.block_on(log.close()).expect("in order");
    assert_eq!(world.verify().findings, []);
}
