//! The embedded store: SQLite in one file, for a gateway on its own.
//!
//! What must survive is *done*: here it is the only memory of what was delivered. So completing waits for a commit that
//! was synced, together with all who complete at that moment. Everything else lives in memory first ([`hot`]) and is
//! written behind: claims, releases and holds ride along with the next commit, or go by themselves some milliseconds
//! later and unsynced, which survives a killed process. An event that is claimed and completed within that time is written
//! once. A claim that no memory knows asks the file by a point lookup, on a thread of its own, so that it never waits for
//! a sync.
//!
//! After a crash nothing is blocked: leases in the file belong to a process that is gone, so they count as run out. The
//! next attempt is told that the last one ended unknown.
//!
//! Leases and holds are counted by the monotonic clock; the wall clock is read once, at start, to count windows across
//! restarts.

mod disk;
mod hot;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    DedupStore, Health, StoreError, Subject,
    claim::{self, Claimed, Kept, Millis, State, Token},
};
use crate::{event::Timestamp, stage::BoxFuture};
use disk::Disk;
use hot::Shared;

/// The file in the storage directory.
const FILE: &str = "dedup.sqlite3";
/// Its lock: one process at a time.
const LOCK: &str = "dedup.lock";
/// Lookups that may wait; claims are refused beyond.
const LOOKUPS_MAX: usize = 4096;
/// A lookup that takes longer is worthless: memory might have forgotten what happened since.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long completing waits for the disk.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the write-ahead log is copied into the file, beside the writer.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(5);

/// Claims in SQLite.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    path: PathBuf,
    clock: Clock,
    lookups: Option<SyncSender<Lookup>>,
    keeper: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Held until the threads are gone.
    _lock: File,
}

/// A question to the file.
#[derive(Debug)]
struct Lookup {
    subject: Subject,
    answer: oneshot::Sender<Result<Kept, StoreError>>,
}

/// Milliseconds since the epoch that never jump while the process lives.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: Millis,
    started: Instant,
}

impl Embedded {
    /// Opens the store in `dir`, or makes it.
    ///
    /// # Errors
    /// A sentence where another process has it, where it cannot be opened, or where it is damaged.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let lock = lock(&dir.join(LOCK))?;
        let path = dir.join(FILE);
        let (writer, reader) = (Disk::open(&path)?, Disk::open_beside(&path)?);
        let (checkpointer, clock) = (Disk::open_beside(&path)?, Clock::new());
        let shared = Arc::new(Shared::default());
        let (lookups, asked) = mpsc::sync_channel(LOOKUPS_MAX);
        let (keeper, stop) = mpsc::channel();
        let mut store = Self {
            shared: shared.clone(),
            path,
            clock,
            lookups: Some(lookups),
            keeper: Some(keeper),
            threads: Vec::new(),
            _lock: lock,
        };
        store.start("dedup-writer", move || hot::write_behind(&shared, writer, || clock.now()))?;
        store.start("dedup-reader", move || answer(&asked, &reader))?;
        store.start("dedup-keeper", move || checkpoint(&stop, &checkpointer))?;
        Ok(store)
    }

    fn start(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        let thread = thread.map_err(|error| StoreError(format!("cannot start {name}: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Applies a step to what is known, after asking the file if need be.
    async fn step<T>(
        &self,
        subject: &Subject,
        step: impl FnOnce(Kept, Millis) -> (Kept, T) + Send,
    ) -> Result<T, StoreError> {
        self.shared.healthy()?;
        let asked = Instant::now();
        let step = |kept| step(kept, self.clock.now());
        let step = match self.shared.apply(subject, None, step) {
            Ok(reply) => return Ok(reply),
            Err(step) => step,
        };
        let found = self.find(subject).await?;
        if asked.elapsed() > LOOKUP_TIMEOUT {
            return Err(too_slow(LOOKUP_TIMEOUT));
        }
        self.shared.apply(subject, Some(found), step).map_err(|_| too_slow(LOOKUP_TIMEOUT))
    }

    /// What the file says about `subject`.
    async fn find(&self, subject: &Subject) -> Result<Kept, StoreError> {
        let (answer, found) = oneshot::channel();
        let lookup = Lookup { subject: *subject, answer };
        let sent = self.lookups.as_ref().map(|lookups| lookups.try_send(lookup));
        if !matches!(sent, Some(Ok(()))) {
            return Err(StoreError("too many lookups wait for the disk".into()));
        }
        match timeout(LOOKUP_TIMEOUT, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(StoreError("the reader of the dedup store has stopped".into())),
            Err(_) => Err(too_slow(LOOKUP_TIMEOUT)),
        }
    }

    /// Applies a step that only the owner of a live claim may take; those are always in memory.
    fn owner_step(
        &self,
        subject: &Subject,
        step: impl FnOnce(Kept, Millis) -> (Kept, bool),
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let known = self.shared.apply(subject, Some(Kept::default()), |kept| step(kept, now));
        Ok(known.unwrap_or(false))
    }
}

impl DedupStore for Embedded {
    fn claim<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
        window: Duration,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            self.shared.room()?;
            self.step(subject, |kept, now| claim::claim(kept, subject, token, lease, window, now))
                .await
        })
    }

    fn complete<'a>(
        &'a self,
        subject: &'a Subject,
        _: Token,
        window: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let done = claim::complete(subject, window, self.clock.now());
            let committed = self.shared.put_synced(subject, done);
            match timeout(COMMIT_TIMEOUT, committed).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(StoreError("the writer of the dedup store has stopped".into())),
                Err(_) => Err(too_slow(COMMIT_TIMEOUT)),
            }
        })
    }

    fn release<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(
            async move { self.owner_step(subject, |kept, now| claim::release(kept, token, now)) },
        )
    }

    fn hold<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        hold: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.owner_step(subject, |kept, now| claim::hold(kept, token, hold, now))
        })
    }

    fn renew<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            self.owner_step(subject, |kept, now| claim::renew(kept, token, lease, now))
        })
    }

    fn look<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<State, StoreError>> {
        Box::pin(self.step(subject, |kept, now| (kept, claim::look(kept, now))))
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, StoreError>> {
        Box::pin(async {
            self.shared.healthy()?;
            let (path, version) = (self.path.display(), rusqlite::version());
            Ok(Health { summary: format!("{path}, SQLite {version}") })
        })
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn entries(&self) -> Option<u64> {
        Some(self.shared.rows())
    }
}

/// Writes what is left and waits for it: a short block, when the process ends.
impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.stop();
        self.lookups = None;
        self.keeper = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the dedup store panicked");
            }
        }
    }
}

impl Clock {
    fn new() -> Self {
        let wall = u64::try_from(Timestamp::now().as_millis()).unwrap_or_default();
        Self { wall, started: Instant::now() }
    }

    fn now(&self) -> Millis {
        self.wall + claim::millis(self.started.elapsed())
    }
}

fn too_slow(limit: Duration) -> StoreError {
    StoreError(format!("the disk took longer than {limit:?}"))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let shown = path.display();
    let file = File::options().create(true).append(true).open(path);
    let file = file.map_err(|error| StoreError(format!("cannot open {shown}: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError(format!("{shown} is locked: another gatepost uses this directory")))
        }
        Err(TryLockError::Error(error)) => Err(StoreError(format!("cannot lock {shown}: {error}"))),
    }
}

/// The reader thread.
fn answer(asked: &Receiver<Lookup>, disk: &Disk) {
    while let Ok(Lookup { subject, answer }) = asked.recv() {
        if !answer.is_closed() {
            drop(answer.send(disk.find(&subject))); // nobody waits any more: nothing to do
        }
    }
}

/// The keeper thread: moves the log into the file little by little, so that the writer seldom has to.
fn checkpoint(stop: &Receiver<()>, disk: &Disk) {
    while stop.recv_timeout(CHECKPOINT_PAUSE) == Err(RecvTimeoutError::Timeout) {
        if let Err(error) = disk.checkpoint() {
            tracing::warn!(%error, "the dedup store's log could not be copied into its file");
        }
    }
}
