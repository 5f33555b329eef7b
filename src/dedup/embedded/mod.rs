//! The embedded store: `SQLite` in one file, for a gateway on its own.
//!
//! One thread reads and writes. It carries out what comes in one transaction, and ends that when somebody waits for the
//! disk: *done* must survive, because here it is the only memory of what was delivered, so completing waits for a commit
//! that was synced, together with all who complete at that moment. Claims, releases and holds are answered before their
//! commit, which follows some milliseconds later if nobody completes: what a crash loses of them costs no event.
//!
//! After a crash nothing is blocked: leases in the file belong to a process that is gone, so they are ended when it is
//! opened. The next attempt is told that the last one ended unknown.
//!
//! Time is counted by the monotonic clock while the store is open, and goes on from there when it is opened again: no wall
//! clock, wrong as it may be, ends a window early or keeps a hold for years.

mod disk;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    DedupStore, StoreError, Subject,
    claim::{Input, Millis, Reply, millis},
};
use crate::{crash, stage::BoxFuture};
use disk::Disk;

const FILE: &str = "dedup.sqlite3";
/// Its lock: one process at a time.
const LOCK: &str = "dedup.lock";
/// Operations that may wait for the writer; more are refused.
const QUEUE_MAX: usize = 1 << 14;
/// Operations in one transaction at most.
const BATCH_MAX: usize = 1 << 10;
/// How long what nobody waits for may wait for company.
const LINGER: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often what is over is deleted.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Claims in `SQLite`.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    shared: Arc<Shared>,
    orders: Option<SyncSender<Order>>,
    writer: Option<JoinHandle<()>>,
    /// Held until the writer is gone.
    lock: File,
}

/// What the writer says about itself.
#[derive(Debug, Default)]
struct Shared {
    entries: AtomicU64,
    /// How the last transaction failed, until one succeeds.
    trouble: Mutex<Option<StoreError>>,
}

type Answer = oneshot::Sender<Result<Reply, StoreError>>;

/// An operation, and who waits for its answer: nobody, once there was one.
#[derive(Debug)]
struct Order {
    subject: Subject,
    input: Input,
    answer: Option<Answer>,
}

impl Order {
    fn tell(&mut self, result: Result<Reply, StoreError>) {
        if let Some(answer) = self.answer.take() {
            drop(answer.send(result)); // gave up waiting: it is in the file all the same, or a lease that ends by itself
        }
    }
}

/// What a transaction failed at.
enum At {
    /// The disk, or what all of them need.
    All,
    /// What is over could not be deleted.
    Sweep,
    /// One operation.
    Order(usize),
}

/// The thread that reads and writes.
struct Writer {
    disk: Disk,
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    clock: Clock,
    swept: Instant,
    /// When the time was written down.
    ticked: Instant,
}

/// What it showed when the store was opened, and when that was.
#[derive(Clone, Copy)]
struct Clock(Millis, Instant);

impl Clock {
    fn now(self) -> Millis {
        self.0 + millis(self.1.elapsed())
    }
}

impl Embedded {
    /// Opens the store in `dir`, or makes it.
    ///
    /// # Errors
    /// A sentence where another process has it, where it cannot be opened, or where it is damaged.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let lock = lock(&dir.join(LOCK))?;
        let path = dir.join(FILE);
        let (disk, entries, now) = Disk::open(&path)?;
        let shared = Arc::new(Shared { entries: entries.into(), trouble: Mutex::default() });
        let (orders, taken) = mpsc::sync_channel(QUEUE_MAX);
        let swept = Instant::now();
        let clock = Clock(now, swept);
        let writer =
            Writer { disk, orders: taken, shared: shared.clone(), clock, swept, ticked: swept };
        let thread = thread::Builder::new().name("dedup-writer".into()).spawn(|| writer.run());
        let writer =
            thread.map_err(|error| StoreError(format!("cannot start the dedup store: {error}")))?;
        Ok(Self { path, shared, orders: Some(orders), writer: Some(writer), lock })
    }

    async fn ask(&self, subject: &Subject, input: Input) -> Result<Reply, StoreError> {
        let (answer, answered) = oneshot::channel();
        let order = Order { subject: *subject, input, answer: Some(answer) };
        if self.orders.as_ref().is_none_or(|orders| orders.try_send(order).is_err()) {
            return Err(StoreError("the disk does not keep up".into()));
        }
        match timeout(TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError("it could not be read or written".into())),
            Err(_) => Err(StoreError(format!("the disk took longer than {TIMEOUT:?}"))),
        }
    }
}

impl DedupStore for Embedded {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(self.ask(subject, input))
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        let trouble = self.shared.trouble().clone();
        let (path, version) = (self.path.display(), rusqlite::version());
        let health = trouble.map_or_else(|| Ok(format!("{path}, SQLite {version}")), Err);
        Box::pin(std::future::ready(health))
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn entries(&self) -> Option<u64> {
        Some(self.shared.entries.load(Ordering::Relaxed))
    }
}

/// Writes what is left and waits for it: a short block, when the process ends.
impl Drop for Embedded {
    fn drop(&mut self) {
        self.orders = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of the dedup store panicked");
        }
        // Said, not left to closing: a process that is being started may hold a copy of the descriptor for a moment.
        self.lock.unlock().ok(); // it ends with the process at the latest
    }
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn run(mut self) {
        loop {
            let taken = match self.orders.recv_timeout(SWEEP_PAUSE) {
                Ok(order) => vec![order],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return drop(self.end()),
            };
            self.carry_out(taken);
        }
    }

    /// Or the time since the last transaction would count twice.
    fn end(&mut self) -> Result<(), StoreError> {
        let batch = self.disk.begin()?;
        batch.tick(self.clock.now())?;
        batch.commit()
    }

    /// Carries out `taken`, and what comes meanwhile. What an operation runs into (a page of the file that is damaged) ends
    /// that operation; the others are carried out without it.
    fn carry_out(&mut self, mut taken: Vec<Order>) {
        while let Err((at, error)) = self.transact(&mut taken) {
            tracing::error!(%error, "the dedup store could not be read or written");
            *self.shared.trouble() = Some(error.clone());
            match at {
                At::Sweep => {} // tried again when it is due
                At::Order(at) => taken.remove(at).tell(Err(error)),
                At::All => {
                    let refused = taken.into_iter().chain(self.orders.try_iter());
                    return refused.for_each(|mut order| order.tell(Err(error.clone())));
                }
            }
        }
    }

    /// One transaction: now and then a sweep, `taken`, and what comes while nobody waits for the disk. Where it fails, `taken`
    /// holds all of them, and may be carried out once more: to those who have their answer it is the same.
    fn transact(&mut self, taken: &mut Vec<Order>) -> Result<(), (At, StoreError)> {
        let (clock, all) = (self.clock, |error| (At::All, error));
        let batch = self.disk.begin().map_err(all)?;
        // As long as the disk does not take what is done, nothing new is let through before it has taken that.
        let in_trouble = self.shared.trouble().is_some();
        if in_trouble {
            batch.tick(clock.now()).map_err(all)?; // whether it takes anything
        }
        let mut added = 0;
        if self.swept.elapsed() >= SWEEP_PAUSE {
            self.swept = Instant::now();
            added -= batch.sweep(clock.now()).map_err(|error| (At::Sweep, error))?;
        }
        let (mut replies, begun) = (Vec::new(), Instant::now());
        let mut end = begun + LINGER;
        for at in 0..BATCH_MAX {
            if taken.get(at).is_none() {
                taken.extend(
                    self.orders.recv_timeout(end.saturating_duration_since(Instant::now())),
                );
            }
            let Some(order) = taken.get_mut(at) else { break };
            let applied = batch.apply(&order.subject, order.input, clock.now());
            let (reply, new) = applied.map_err(|error| (At::Order(at), error))?;
            added += i64::from(new);
            replies.push(reply);
            if in_trouble || matches!(order.input, Input::Complete(_)) {
                end = begun; // somebody waits for the disk
            } else {
                order.tell(Ok(reply));
            }
        }
        // With what was to be written anyway: a disk may sleep. After a crash everything lasts longer by what is not written down.
        let ticks = !replies.is_empty() && self.ticked.elapsed() >= SWEEP_PAUSE;
        if ticks {
            batch.tick(clock.now()).map_err(all)?;
        }
        crash::point("in_transaction");
        batch.commit().map_err(all)?;
        crash::point("after_transaction");
        if ticks {
            self.ticked = Instant::now();
        }
        *self.shared.trouble() = None;
        let entries = self.shared.entries.load(Ordering::Relaxed).saturating_add_signed(added);
        self.shared.entries.store(entries, Ordering::Relaxed);
        taken.drain(..).zip(replies).for_each(|(mut order, reply)| order.tell(Ok(reply)));
        Ok(())
    }
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
