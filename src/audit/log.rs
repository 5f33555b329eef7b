//! The handle that everybody holds: hands records over to the writer and waits, where the caller wants to, until they are
//! durable.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    journal::AuditError,
    record::{Draft, Kind, weight},
};
use crate::{event::Name, telemetry::AuditMetrics};

/// Records that may wait for the writer. Requests in flight are fewer, so only a stuck disk fills it.
pub const QUEUE_RECORDS_MAX: usize = 8192;
/// Rejected requests on record, per source and second.
pub const REJECTED_PER_SECOND: u32 = 5;
/// Bytes of rejected requests' headers on record, per source and second; beyond it a record goes without them.
pub const REJECTED_BYTES_PER_SECOND: usize = 4096;

/// How long a record that nobody waits for lies in the queue, for one that somebody waits for to take it along.
const NOTES_WAIT: Duration = Duration::from_millis(25);
/// How long a batch waits for most of the requests that are on their way to it, if they are many: a sync costs about as
/// much for one record as for fifty. (`PostgreSQL` has the same under the same name.)
const COMMIT_DELAY: Duration = Duration::from_millis(2);
/// With fewer requests on their way than this, nothing is gained by waiting, and every batch is written at once.
const COMMIT_SIBLINGS: usize = 16;
/// So many records make a batch, whoever waits.
const BATCH_RECORDS: usize = 1024;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditLog(Arc<Owner>);

/// How the log is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Why nothing can be recorded now, and so nothing accepted.
    pub trouble: Option<AuditError>,
    /// The last durable record.
    pub seq: u64,
}

/// Ends the writer when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What handles and writer share.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Requests under way.
    under_way: AtomicUsize,
    /// Those of them whose record is durable: they bring no other that somebody waits for.
    recorded: AtomicUsize,
    pub(super) metrics: AuditMetrics,
    samples: Mutex<HashMap<Name, Sample>>,
    /// Knows the tasks that answer.
    pub(super) answering: TaskTracker,
}

/// Records on their way to the writer.
#[derive(Debug)]
struct Queue {
    jobs: Vec<Job>,
    /// How many of them somebody waits for.
    awaited: usize,
    /// The writer sleeps until so many are awaited.
    wake_at: Option<usize>,
    closed: bool,
    health: Health,
}

/// A record, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) draft: Draft,
    pub(super) waiter: Option<Waiter>,
}

/// Who has waited for a record, since when, and on which runtime.
#[derive(Debug)]
pub(super) struct Waiter {
    reply: oneshot::Sender<Result<u64, AuditError>>,
    pub(super) since: Instant,
    runtime: Handle,
}

/// The waiters of a batch, by runtime. To wake a task on another thread is a system call, so that all of a runtime are
/// answered by one task there.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<(Handle, Vec<(Waiter, u64)>)>);

impl Waiters {
    /// Adds one who waits for the record `seq`.
    pub(super) fn add(&mut self, waiter: Waiter, seq: u64) {
        let same = |(runtime, _): &&mut (Handle, _)| runtime.id() == waiter.runtime.id();
        match self.0.iter_mut().find(same) {
            Some((_, waiters)) => waiters.push((waiter, seq)),
            None => self.0.push((waiter.runtime.clone(), vec![(waiter, seq)])),
        }
    }

    /// Tells everybody what became of their records. Who went away does not want to know.
    pub(super) fn answer(&mut self, result: &Result<(), AuditError>, answering: &TaskTracker) {
        for (runtime, waiters) in self.0.drain(..) {
            let (alone, result) = (waiters.len() == 1, result.clone());
            let answer = move || {
                for (waiter, seq) in waiters {
                    drop(waiter.reply.send(result.clone().map(|()| seq)));
                }
            };
            if alone {
                answer();
            } else {
                drop(answering.spawn_on(async { answer() }, &runtime));
            }
        }
    }
}

/// A request that is under way, as long as this lives.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AuditLog {
    pub(super) fn new(shared: Arc<Shared>, thread: Option<JoinHandle<()>>) -> Self {
        Self(Arc::new(Owner { shared, thread: Mutex::new(thread) }))
    }

    /// Announces a request. The writer lets more records join a batch while many are announced.
    pub fn under_way(&self) -> UnderWay<'_> {
        UnderWay::of(&self.0.shared.under_way)
    }

    /// Says of an announced request that its record is durable: the writer need not wait for it.
    pub fn recorded(&self) -> UnderWay<'_> {
        UnderWay::of(&self.0.shared.recorded)
    }

    /// Records `draft` and returns its number once it is durable.
    pub async fn append(&self, draft: Draft) -> Result<u64, AuditError> {
        let (reply, durable) = oneshot::channel();
        let waiter = Waiter { reply, since: Instant::now(), runtime: Handle::current() };
        self.0.shared.push(Job { draft, waiter: Some(waiter) })?;
        durable.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Records `draft` if that is possible without waiting; else drops and counts it. It rides with the next batch. While the
    /// disk is nearly full, only how something ended is taken.
    pub fn note(&self, draft: Draft) {
        if self.0.shared.push(Job { draft, waiter: None }).is_err() {
            self.0.shared.metrics.dropped.inc();
        }
    }

    /// Whether one more record of a stranger's request with these `headers` fits the rate, and if so, whether the headers
    /// do: a stranger must not be able to fill the disk.
    pub fn admits<'a>(
        &self,
        source: &Name,
        headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) -> Option<bool> {
        let now = Instant::now();
        let samples = &self.0.shared.samples;
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Sample { since: now, records: 0, bytes: 0 };
        samples.entry(source.clone()).or_insert(fresh).take(now, || weight(headers))
    }

    /// How the log is doing.
    pub fn health(&self) -> Health {
        self.0.shared.lock().health.clone()
    }

    /// Writes what is waiting, seals it, and gives the log up. Nothing is taken any more.
    ///
    /// # Errors
    /// Why the log did not end in good order.
    pub async fn close(&self) -> Result<(), AuditError> {
        let owner = Arc::clone(&self.0);
        drop(tokio::task::spawn_blocking(move || owner.end()).await); // it cannot panic
        self.0.shared.answering.close();
        self.0.shared.answering.wait().await;
        match self.health().trouble {
            None | Some(AuditError::Closed) => Ok(()),
            Some(trouble) => Err(trouble),
        }
    }
}

impl Owner {
    fn end(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit writer panicked");
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Queue {
    /// Whether one more may wait. While the disk is nearly full, only how something ended goes on record: what room is left is
    /// not for what strangers send.
    fn admit(&self, job: &Job) -> Result<(), AuditError> {
        let awaited = job.waiter.is_some();
        let room = if awaited { QUEUE_RECORDS_MAX } else { QUEUE_RECORDS_MAX / 2 };
        match &self.health.trouble {
            Some(AuditError::Full) if !awaited && job.draft.kind == Kind::Outcome => {}
            Some(trouble) => return Err(trouble.clone()),
            None => {}
        }
        match (self.closed, self.jobs.len() < room) {
            (true, _) => Err(AuditError::Closed),
            (false, false) => Err(AuditError::Behind),
            (false, true) => Ok(()),
        }
    }

    /// Swaps what is waiting into `jobs`; returns whether the log is closed.
    fn hand_over(&mut self, jobs: &mut Vec<Job>) -> bool {
        std::mem::swap(&mut self.jobs, jobs);
        self.awaited = 0;
        self.closed
    }

    /// Whether the writer, which wants so many awaited records, has something to do.
    fn is_ripe(&self, wanted: usize) -> bool {
        is_ripe(self.closed, self.jobs.len(), self.awaited, wanted)
    }
}

impl Shared {
    pub(super) fn new(metrics: AuditMetrics) -> Arc<Self> {
        let (jobs, health) = (Vec::with_capacity(256), Health { trouble: None, seq: 0 });
        let queue = Queue { jobs, awaited: 0, wake_at: None, closed: false, health };
        Arc::new(Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            under_way: AtomicUsize::new(0),
            recorded: AtomicUsize::new(0),
            metrics,
            samples: Mutex::default(),
            answering: TaskTracker::new(),
        })
    }

    /// A panic while the queue is held leaves nothing half done: pushing and swapping are single steps.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer only when it sleeps and has reason to get up: most of the time a record costs no system call.
    fn push(&self, job: Job) -> Result<(), AuditError> {
        let mut queue = self.lock();
        queue.admit(&job)?;
        queue.awaited += usize::from(job.waiter.is_some());
        queue.jobs.push(job);
        let wake = queue.wake_at.is_some_and(|awaited| queue.is_ripe(awaited));
        if wake {
            queue.wake_at = None;
        }
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Swaps what is waiting into `jobs`, after waiting for something at most for `idle`. Returns whether the log is closed.
    /// What nobody waits for is left lying for a while: it causes no sync of its own where another is coming.
    pub(super) fn take(&self, jobs: &mut Vec<Job>, after: bool, idle: Duration) -> bool {
        let mut queue = self.lock();
        if after {
            queue = self.wait(queue, 1, NOTES_WAIT);
        }
        if queue.jobs.is_empty() {
            queue = self.wait(queue, 0, idle);
            queue = self.wait(queue, 1, NOTES_WAIT);
        }
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let (under_way, recorded) = (count(&self.under_way), count(&self.recorded));
        if let Some(siblings) = siblings(queue.awaited, under_way, recorded) {
            queue = self.wait(queue, siblings, COMMIT_DELAY);
        }
        queue.hand_over(jobs)
    }

    /// The same without waiting for anything.
    pub(super) fn grab(&self, jobs: &mut Vec<Job>) {
        self.lock().hand_over(jobs);
    }

    fn wait<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        awaited: usize,
        limit: Duration,
    ) -> MutexGuard<'a, Queue> {
        queue.wake_at = Some(awaited);
        let waited = self.wake.wait_timeout_while(queue, limit, |queue| !queue.is_ripe(awaited));
        let mut queue = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        queue.wake_at = None;
        queue
    }

    /// Tells everybody how the log is doing.
    pub(super) fn report(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.lock().health);
    }

    /// Why nothing can be recorded now.
    pub(super) fn trouble(&self) -> Option<AuditError> {
        self.lock().health.trouble.clone()
    }

    /// The writer is gone: nobody waits in vain.
    pub(super) fn finish(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.health.trouble.get_or_insert(AuditError::Closed);
        queue.jobs.clear();
    }
}

/// Whether of so many records, of which some are awaited, a batch is made where so many awaited ones are wanted. A log that is
/// closed waits for nothing more.
pub fn is_ripe(closed: bool, waiting: usize, awaited: usize, wanted: usize) -> bool {
    closed || waiting >= BATCH_RECORDS || (awaited >= wanted && waiting > 0)
}

/// How many awaited records a batch waits for a little, if it waits at all: three in four of those that may still come, where
/// somebody waits already.
pub fn siblings(awaited: usize, under_way: usize, recorded: usize) -> Option<usize> {
    let coming = under_way.saturating_sub(recorded);
    (awaited > 0 && coming >= COMMIT_SIBLINGS).then_some(coming * 3 / 4)
}

/// What a source's strangers have on record of this second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    since: Instant,
    records: u32,
    bytes: usize,
}

impl Sample {
    /// Whether one more record fits, and if so, whether its headers do.
    fn take(&mut self, now: Instant, weight: impl FnOnce() -> usize) -> Option<bool> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, records: 0, bytes: 0 };
        }
        if self.records == REJECTED_PER_SECOND {
            return None;
        }
        let bytes = weight();
        let whole = self.bytes + bytes <= REJECTED_BYTES_PER_SECOND;
        self.records += 1;
        self.bytes += if whole { bytes } else { 0 };
        Some(whole)
    }
}
