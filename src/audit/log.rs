//! The handle that everybody holds: hands records over to the writer and waits, where the caller wants to, until they are
//! durable.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{journal::AuditError, record::Draft};
use crate::{
    event::{Name, TEXT_BYTES_MAX},
    telemetry::AuditMetrics,
};

/// Records that may wait for the writer. Requests in flight are fewer, so only a stuck disk fills it.
pub const QUEUE_RECORDS_MAX: usize = 8192;
/// Rejected requests on record, per source and second.
pub const REJECTED_PER_SECOND: u32 = 5;
/// Bytes of rejected requests on record, per source and second; beyond it a record goes without headers.
pub const REJECTED_BYTES_PER_SECOND: u32 = 4096;

/// How long a record that nobody waits for lies in the queue, for one that somebody waits for to take it along.
const NOTES_WAIT: Duration = Duration::from_millis(25);
/// How long a batch waits for others to join while many requests are under way: a sync costs about as much for one record
/// as for fifty. (`PostgreSQL` has the same under the same name.)
const COMMIT_DELAY: Duration = Duration::from_millis(1);
/// With fewer requests under way than this, nothing is gained by waiting, and every batch is written at once.
pub const COMMIT_SIBLINGS: usize = 16;
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
    /// Requests under way, which may bring a record soon.
    under_way: AtomicUsize,
    pub(super) metrics: AuditMetrics,
    samples: Mutex<HashMap<Name, Sample>>,
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

/// Tells who waits for a record what became of it.
pub(super) type Reply = oneshot::Sender<Result<u64, AuditError>>;

/// A record, and who has waited for it since when.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) draft: Draft,
    pub(super) reply: Option<(Reply, Instant)>,
}

/// A request that is under way, as long as this lives.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AuditLog {
    pub(super) fn new(shared: Arc<Shared>, thread: JoinHandle<()>) -> Self {
        Self(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Announces a request. The writer lets more records join a batch while many are announced.
    pub fn under_way(&self) -> UnderWay<'_> {
        let count = &self.0.shared.under_way;
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }

    /// Records `draft` and returns its number once it is durable.
    pub async fn append(&self, draft: Draft) -> Result<u64, AuditError> {
        let (reply, durable) = oneshot::channel();
        self.0.shared.push(Job { draft, reply: Some((reply, Instant::now())) })?;
        durable.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Records `draft` if that is possible without waiting; else drops and counts it. It rides with the next batch.
    pub fn note(&self, draft: Draft) {
        if self.0.shared.push(Job { draft, reply: None }).is_err() {
            self.0.shared.metrics.dropped.inc();
        }
    }

    /// Notes a request that was turned away, as far as the rate allows: a stranger must not be able to fill the disk.
    pub fn rejected(&self, source: &Name, mut draft: Draft) {
        let Some(whole) = self.0.shared.sample(source, weight(&draft)) else { return };
        if !whole {
            draft.headers.clear();
        }
        self.note(draft);
    }

    /// Whether one more record of an unverified request fits the rate; the caller writes it.
    pub(super) fn admits_shadow(&self, source: &Name) -> bool {
        self.0.shared.sample(source, weight(&Draft::default())).is_some()
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
    /// Whether one more may wait. While the disk is nearly full, only what is begun already goes on record.
    fn admit(&self, awaited: bool) -> Result<(), AuditError> {
        let room = if awaited { QUEUE_RECORDS_MAX } else { QUEUE_RECORDS_MAX / 2 };
        match &self.health.trouble {
            Some(AuditError::Full) if !awaited => {}
            Some(trouble) => return Err(trouble.clone()),
            None => {}
        }
        match (self.closed, self.jobs.len() < room) {
            (true, _) => Err(AuditError::Closed),
            (false, false) => Err(AuditError::Behind),
            (false, true) => Ok(()),
        }
    }

    /// Whether the writer, which wants so many awaited records, has something to do.
    fn is_ripe(&self, awaited: usize) -> bool {
        let many = self.jobs.len() >= BATCH_RECORDS;
        self.closed || many || (self.awaited >= awaited && !self.jobs.is_empty())
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
            metrics,
            samples: Mutex::default(),
        })
    }

    /// A panic while the queue is held leaves nothing half done: pushing and swapping are single steps.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer only when it sleeps and has reason to get up: most of the time a record costs no system call.
    fn push(&self, job: Job) -> Result<(), AuditError> {
        let mut queue = self.lock();
        let awaited = job.reply.is_some();
        queue.admit(awaited)?;
        queue.awaited += usize::from(awaited);
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
    /// Right `after` a batch, what nobody waits for is left lying for a while.
    pub(super) fn take(&self, jobs: &mut Vec<Job>, after: bool, idle: Duration) -> bool {
        let mut queue = self.lock();
        if after {
            queue = self.wait(queue, 1, NOTES_WAIT);
        }
        if queue.jobs.is_empty() {
            queue = self.wait(queue, 0, idle);
        }
        let under_way = self.under_way.load(Ordering::Relaxed);
        if queue.awaited > 0 && under_way >= COMMIT_SIBLINGS {
            queue = self.wait(queue, under_way / 2, COMMIT_DELAY);
        }
        std::mem::swap(&mut queue.jobs, jobs);
        queue.awaited = 0;
        queue.closed
    }

    fn wait<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        awaited: usize,
        limit: Duration,
    ) -> MutexGuard<'a, Queue> {
        if queue.is_ripe(awaited) {
            return queue;
        }
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

    fn sample(&self, source: &Name, bytes: f64) -> Option<bool> {
        let now = Instant::now();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.entry(source.clone()).or_insert_with(|| Sample::new(now)).take(now, bytes)
    }
}

/// Two buckets that fill up again with time: records and bytes.
#[derive(Clone, Copy, Debug)]
struct Sample {
    filled: Instant,
    records: f64,
    bytes: f64,
}

impl Sample {
    fn new(filled: Instant) -> Self {
        let (records, bytes) = (REJECTED_PER_SECOND.into(), REJECTED_BYTES_PER_SECOND.into());
        Self { filled, records, bytes }
    }

    /// Whether one more record fits, and if so, whether all of its bytes do.
    fn take(&mut self, now: Instant, bytes: f64) -> Option<bool> {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        let fill = |held: f64, rate: u32| (held + seconds * f64::from(rate)).min(rate.into());
        self.records = fill(self.records, REJECTED_PER_SECOND);
        self.bytes = fill(self.bytes, REJECTED_BYTES_PER_SECOND);
        self.filled = now;
        if self.records < 1.0 {
            return None;
        }
        let whole = self.bytes >= bytes;
        self.records -= 1.0;
        self.bytes -= if whole { bytes } else { 0.0 };
        Some(whole)
    }
}

/// About how long a record will be, in bytes.
fn weight(draft: &Draft) -> f64 {
    let values = draft.headers.iter().map(|(name, value)| {
        name.as_str().len() + value.len().min(TEXT_BYTES_MAX) // longer ones are cut
    });
    u32::try_from(400 + values.sum::<usize>()).map_or(f64::MAX, f64::from)
}
