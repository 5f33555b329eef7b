//! A disk that fails under a running log: which faults end it, which pass, and that no acknowledgement comes from either.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use gatepost::{
    audit::{
        AuditError, AuditLog, open_by_hand, open_on,
        storage::{Directory, Storage, StorageFile},
        verify,
    },
    event::Timestamp,
};

use crate::audit_world::{World, attempt};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// No error, but a panic of the code below.
const PANIC: i32 = -1;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Write,
    Sync,
    Truncate,
    SyncDir,
    /// Carried out, and then not said to be.
    Rename,
}

/// What goes wrong, for files whose names begin so.
#[derive(Clone, Copy, Debug)]
struct Fault(Ask, &'static str, i32);

/// What was done to the segments.
#[derive(Clone, Copy, Debug)]
enum Done {
    Zeros { at: u64, len: u64 },
    Records { at: u64, len: u64 },
    Sync,
}

#[derive(Debug, Default)]
struct Plan {
    done: Mutex<Vec<Done>>,
    fault: Mutex<Option<Fault>>,
    /// Bytes by which files may still grow.
    room: Mutex<Option<u64>>,
    /// Syncs of segments that hang: whether they do, and how many.
    hanging: Mutex<(bool, usize)>,
    changed: Condvar,
}

#[derive(Debug)]
struct Faulty {
    below: Directory,
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct File {
    below: Box<dyn StorageFile>,
    name: String,
    len: Mutex<u64>,
    plan: Arc<Plan>,
}

impl Plan {
    fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn check(&self, ask: Ask, name: &str) -> io::Result<()> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some(Fault(what, begin, errno)) if what == ask && name.starts_with(begin) => {
                assert_ne!(errno, PANIC, "as was asked");
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, name: &str, done: Done) {
        if name.starts_with("segment-") {
            self.done.lock().unwrap().push(done);
        }
    }

    fn give(&self, room: Option<u64>) {
        *self.room.lock().unwrap() = room;
    }

    fn hang(&self, hang: bool) {
        self.hanging.lock().unwrap().0 = hang;
        self.changed.notify_all();
    }

    /// Waits until so many syncs hang.
    fn until_hanging(&self, count: usize) {
        let hanging = self.hanging.lock().unwrap();
        drop(self.changed.wait_while(hanging, |(_, hanging)| *hanging < count).unwrap());
    }
}

impl Faulty {
    fn open(dir: &Path) -> Arc<Self> {
        Arc::new(Self { below: Directory::open(dir).expect("a directory"), plan: Arc::default() })
    }

    fn file(&self, name: &str, below: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        let len = std::fs::metadata(self.path().join(name)).unwrap().len();
        let (name, plan) = (name.to_owned(), self.plan.clone());
        Box::new(File { below, name, len: Mutex::new(len), plan })
    }
}

impl Storage for Faulty {
    fn path(&self) -> &Path {
        self.below.path()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.below.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.below.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(from, to)?;
        self.plan.check(Ask::Rename, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.plan.check(Ask::SyncDir, "")?;
        self.below.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.plan.room.lock().unwrap().unwrap_or(1 << 40))
    }
}

impl StorageFile for File {
    /// A full disk takes what fits, and then says that it is full.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.plan.check(Ask::Write, &self.name)?;
        let (mut len, mut room) = (self.len.lock().unwrap(), self.plan.room.lock().unwrap());
        let grows = (offset + bytes.len() as u64).saturating_sub(*len);
        let fits = grows.min(room.unwrap_or(u64::MAX));
        *len += fits;
        if let Some(room) = &mut *room {
            *room -= fits;
        }
        let written = bytes.len() as u64 - (grows - fits);
        let (at, len) = (offset, written);
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let done = if zeros { Done::Zeros { at, len } } else { Done::Records { at, len } };
        self.plan.note(&self.name, done);
        self.below.write_at(offset, &bytes[..written as usize])?;
        if fits < grows { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.name.starts_with("segment-") {
            let mut hanging = self.plan.hanging.lock().unwrap();
            hanging.1 += usize::from(hanging.0);
            self.plan.changed.notify_all();
            drop(self.plan.changed.wait_while(hanging, |(hang, _)| *hang).unwrap());
        }
        self.plan.note(&self.name, Done::Sync);
        self.plan.check(Ask::Sync, &self.name)?;
        self.below.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.plan.check(Ask::Truncate, &self.name)?;
        *self.len.lock().unwrap() = len;
        self.below.truncate(len)
    }
}

fn open(world: &World, disk: &Arc<Faulty>) -> AuditLog {
    let clock = Arc::new(Timestamp::now);
    open_on(disk.clone(), &world.params, world.metrics.audit(), clock).expect("a log")
}

fn is_fenced(log: &AuditLog) -> bool {
    matches!(log.health().trouble, Some(AuditError::Fenced(_)))
}

/// Everything that was acknowledged is on record, and nothing is wrong with it.
fn all_there(world: &World, acked: &[(u64, u32)]) {
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
    let world = World::new();
    world.fill(4).await;
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

/// Zeros that are durable lie ahead of the records, as many as so many batches like the last one need, so that a batch costs one
/// write and one sync of what is there already. Only a batch that is larger than all of it has to wait for more.
#[tokio::test]
async fn room_is_laid_out_before_it_is_needed() {
    const KIB: u64 = 1024;
    let world = World::with(|params| params.rotate_bytes = 1 << 30);
    let disk = Faulty::open(world.dir());
    let log = open(&world, &disk);
    disk.plan.give(Some(64 << 20)); // where it never ends, it ends here
    let begun = std::fs::read(&world.files(".ndjson")[0]).unwrap();
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
