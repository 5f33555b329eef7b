//! A life of a log, recorded: batches small and large, segments that are closed, compressed and removed, checkpoints, clean
//! ends, and a sync that fails.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use gatepost::{
    audit::{AuditLog, Draft, Kind, Params, open_on, storage::Storage},
    event::Timestamp,
    telemetry::Metrics,
};

use crate::{
    audit_world::{attempt, params},
    diary::{Op, Recorder},
    dice::Dice,
};

const DAY_MILLIS: i64 = 24 * 3_600_000;
/// When these lives begin.
pub const BEGIN_MILLIS: i64 = 1_790_000_000_000;

/// What was recorded, and with which settings.
#[derive(Debug)]
pub struct Life {
    pub root: tempfile::TempDir,
    pub params: Params,
    pub ops: Vec<Op>,
}

/// A directory in memory, where there is such a place.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

struct Run<'a> {
    recorder: &'a Arc<Recorder>,
    params: &'a Params,
    clock: Arc<AtomicI64>,
    events: u32,
}

impl Run<'_> {
    fn open(&self) -> AuditLog {
        let clock = self.clock.clone();
        let now = Arc::new(move || Timestamp::from_millis(clock.fetch_add(1, Ordering::SeqCst)));
        open_on(self.recorder.clone(), self.params, Metrics::new().audit(), now).expect("a log")
    }

    /// Appends `count` at once; says whether all of them were acknowledged.
    async fn append(&mut self, log: &AuditLog, count: u32) -> bool {
        let recorder = self.recorder;
        let one = |event| async move {
            let seq = log.append(attempt(event)).await;
            seq.inspect(|seq| recorder.acked(*seq, event)).is_ok()
        };
        let first = self.events;
        self.events += count;
        let all = futures_util::future::join_all((first..self.events).map(one)).await;
        log.note(attempt(self.events + 1_000_000));
        all.into_iter().all(|acked| acked)
    }

    /// The writer looks after its house once a second; notes keep it awake.
    async fn until(&self, log: &AuditLog, what: &str, check: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !check() {
            assert!(Instant::now() < deadline, "never happened: {what}");
            log.note(Draft::new(Kind::Rejected));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn files(&self, suffix: &str) -> usize {
        let entries = std::fs::read_dir(self.recorder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(suffix)).count()
    }
}

/// Records one life; `dice` decide what differs from one to the next.
pub fn live(dice: &mut Dice) -> Life {
    let root = directory();
    let mut params = params(root.path());
    params.rotate_bytes = 3000 + dice.roll(6000) as u64;
    params.rotate_every = Duration::from_hours(24 * 365);
    params.checkpoint_every = Duration::from_millis(5 + dice.roll(40) as u64);
    params.retention = Duration::from_hours(48);
    std::fs::create_dir(&params.dir).unwrap();
    let recorder = Recorder::new(&params.dir);
    let clock = Arc::new(AtomicI64::new(BEGIN_MILLIS));
    let run = Run { recorder: &recorder, params: &params, clock, events: 0 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(lives(run, dice));
    let ops = recorder.ops();
    Life { root, params, ops }
}

async fn lives(mut run: Run<'_>, dice: &mut Dice) {
    let log = run.open();
    for _ in 0..5 {
        assert!(run.append(&log, 1 + dice.roll(8) as u32).await);
    }
    run.until(&log, "a segment is compressed", || run.files(".zst") > 0).await;
    run.clock.fetch_add(3 * DAY_MILLIS, Ordering::SeqCst);
    assert!(run.append(&log, 12).await);
    run.until(&log, "a segment is removed", || {
        run.recorder
            .ops()
            .iter()
            .any(|op| matches!(op, Op::Remove { name } if name.ends_with(".zst")))
    })
    .await;
    log.close().await.expect("in order");
    let log = run.open();
    assert!(run.append(&log, 2 + dice.roll(3) as u32).await);
    // A failed sync ends this run. The next one is on what the kernel still shows, and the disk may not hold.
    run.recorder.fail_sync(0);
    assert!(!run.append(&log, 1 + dice.roll(5) as u32).await);
    drop(log);
    let log = run.open();
    for _ in 0..3 {
        assert!(run.append(&log, 1 + dice.roll(3) as u32).await);
    }
    drop(log);
}
