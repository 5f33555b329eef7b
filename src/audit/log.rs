//! The handle that everybody holds: hands records over to the writer and waits, where the caller wants to, until they are
//! durable.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    journal::AuditError,
    record::{Draft, Kind},
};
use crate::{event::Name, telemetry::AuditMetrics};

/// Records that may wait for the writer. Requests in flight are fewer, so only a stuck disk fills it.
pub const QUEUE_RECORDS_MAX: usize = 8192;
/// Rejected requests on record, per source and second.
pub const REJECTED_PER_SECOND: u32 = 5;
/// Bytes of rejected requests on record, per source and second; beyond it a record goes without headers.
pub const REJECTED_BYTES_PER_SECOND: u32 = 4096;

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
    /// The last record that a checkpoint covers.
    pub sealed: u64,
    /// Free space, in bytes.
    pub free_bytes: u64,
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
    pub(super) metrics: AuditMetrics,
    samples: Mutex<HashMap<Name, Sample>>,
}

/// Records on their way to the writer.
#[derive(Debug)]
struct Queue {
    jobs: Vec<Job>,
    sleep: Sleep,
    closed: bool,
    health: Health,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A record, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) draft: Draft,
    pub(super) reply: Option<oneshot::Sender<Result<u64, AuditError>>>,
    pub(super) since: Instant,
}

/// Whether the writer has to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// It works, and looks again when it is done.
    No,
    /// It looks again soon: a record that nobody waits for need not wake it.
    Short,
    /// It looks again late.
    Long,
}

/// What the writer finds when it looks.
pub(super) struct Taken {
    pub(super) closed: bool,
}

impl AuditLog {
    pub(super) fn new(shared: Arc<Shared>, thread: JoinHandle<()>) -> Self {
        Self(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Records `draft` and returns its number once it is durable.
    pub async fn append(&self, draft: Draft) -> Result<u64, AuditError> {
        let (reply, durable) = oneshot::channel();
        self.push(draft, Some(reply))?;
        durable.await.unwrap_or(Err(AuditError::Closed))
    }

    fn push(
        &self,
        draft: Draft,
        reply: Option<oneshot::Sender<Result<u64, AuditError>>>,
    ) -> Result<(), AuditError> {
        let shared = &*self.0.shared;
        let mut queue = shared.lock();
        let room = if reply.is_some() { QUEUE_RECORDS_MAX } else { QUEUE_RECORDS_MAX / 2 };
        queue.admit(reply.is_some(), room)?;
        let wake = match queue.sleep {
            Sleep::No => false,
            Sleep::Short => reply.is_some(),
            Sleep::Long => true,
        };
        queue.jobs.push(Job { draft, reply, since: Instant::now() });
        drop(queue);
        if wake {
            shared.wake.notify_one();
        }
        Ok(())
    }

    /// Records `draft` if that is possible without waiting; else drops and counts it. It rides with the next batch.
    pub fn note(&self, draft: Draft) {
        if self.push(draft, None).is_err() {
            self.0.shared.metrics.dropped.inc();
        }
    }

    /// Notes a request that was turned away, as far as the rate allows: a stranger must not be able to fill the disk.
    pub fn rejected(&self, source: &Name, mut draft: Draft) {
        match self.0.shared.sample(source, Instant::now(), &draft) {
            Sampled::No => {}
            Sampled::Bare => {
                draft.headers.clear();
                self.note(draft);
            }
            Sampled::Whole => self.note(draft),
        }
    }

    /// Whether one more record of an unverified request fits the rate; the caller writes it.
    pub(super) fn admits_shadow(&self, source: &Name) -> bool {
        let draft = Draft { kind: Kind::Shadow, ..Draft::default() };
        !matches!(self.0.shared.sample(source, Instant::now(), &draft), Sampled::No)
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
        let (done, closed) = oneshot::channel();
        {
            let mut queue = self.0.shared.lock();
            queue.closed = true;
            if queue.health.trouble != Some(AuditError::Closed) {
                queue.waiting.push(done);
            }
        }
        self.0.shared.wake.notify_one();
        drop(closed.await); // an error only says that the writer is gone, which is what is waited for
        match self.health().trouble {
            None | Some(AuditError::Closed) => Ok(()),
            Some(trouble) => Err(trouble),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().map(|mut thread| thread.take());
        if let Ok(Some(thread)) = thread
            && thread.join().is_err()
        {
            tracing::error!("the audit writer panicked");
        }
    }
}

impl Queue {
    /// Whether one more may wait. While the disk is nearly full, only what is begun already goes on record.
    fn admit(&self, durable: bool, room: usize) -> Result<(), AuditError> {
        match &self.health.trouble {
            Some(AuditError::Full) if !durable => {}
            Some(trouble) => return Err(trouble.clone()),
            None => {}
        }
        match (self.closed, self.jobs.len() < room) {
            (true, _) => Err(AuditError::Closed),
            (false, false) => Err(AuditError::Behind),
            (false, true) => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn new(metrics: AuditMetrics, health: Health) -> Arc<Self> {
        let (jobs, waiting) = (Vec::with_capacity(256), Vec::new());
        let queue = Queue { jobs, sleep: Sleep::No, closed: false, health, waiting };
        let (queue, wake) = (Mutex::new(queue), Condvar::new());
        Arc::new(Self { queue, wake, metrics, samples: Mutex::default() })
    }

    /// A panic while the queue is held leaves nothing half done: pushing and swapping are single steps.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, at most for `limit`, until something is there, and swaps it into `jobs`.
    pub(super) fn take(&self, jobs: &mut Vec<Job>, sleep: Sleep, limit: Duration) -> Taken {
        let mut queue = self.lock();
        if queue.jobs.is_empty() && !queue.closed {
            queue.sleep = sleep;
            let waited = self.wake.wait_timeout(queue, limit);
            queue = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
            queue.sleep = Sleep::No;
        }
        std::mem::swap(&mut queue.jobs, jobs);
        Taken { closed: queue.closed }
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
        queue.waiting.clear();
    }

    fn sample(&self, source: &Name, now: Instant, draft: &Draft) -> Sampled {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Sample::new(now);
        samples.entry(source.clone()).or_insert_with(fresh).take(now, weight(draft))
    }
}

/// How much of a record the rate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampled {
    No,
    Bare,
    Whole,
}

/// Two buckets that fill up again with time: records and bytes.
#[derive(Clone, Copy, Debug)]
struct Sample {
    filled: Instant,
    records: f64,
    bytes: f64,
}

impl Sample {
    fn new(now: Instant) -> Self {
        let (records, bytes) = (REJECTED_PER_SECOND.into(), REJECTED_BYTES_PER_SECOND.into());
        Self { filled: now, records, bytes }
    }

    fn take(&mut self, now: Instant, bytes: f64) -> Sampled {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        let fill = |held: f64, rate: u32| (held + seconds * f64::from(rate)).min(rate.into());
        self.records = fill(self.records, REJECTED_PER_SECOND);
        self.bytes = fill(self.bytes, REJECTED_BYTES_PER_SECOND);
        self.filled = now;
        if self.records < 1.0 {
            return Sampled::No;
        }
        self.records -= 1.0;
        if self.bytes < bytes {
            return Sampled::Bare;
        }
        self.bytes -= bytes;
        Sampled::Whole
    }
}

/// About how long a record will be, in bytes.
fn weight(draft: &Draft) -> f64 {
    let header = |(name, value): &(http::HeaderName, http::HeaderValue)| {
        name.as_str().len() + value.len().min(crate::event::TEXT_BYTES_MAX)
    };
    let bytes = 400 + draft.headers.iter().map(header).sum::<usize>();
    u32::try_from(bytes).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_sampled_in_records_and_in_bytes() {
        let start = Instant::now();
        let mut sample = Sample::new(start);
        let burst: Vec<_> = (0..100).map(|_| sample.take(start, 1500.0)).collect();
        let count = |burst: &[Sampled], what| burst.iter().filter(|s| **s == what).count();
        assert_eq!(count(&burst, Sampled::Whole), 2, "4096 bytes a second hold two of these");
        assert_eq!(count(&burst, Sampled::Bare), 3);
        assert_eq!(count(&burst, Sampled::No), 95);
        let minute: Vec<_> =
            (1..=6000).map(|n| sample.take(start + Duration::from_millis(n * 10), 400.0)).collect();
        assert!((295..=305).contains(&(6000 - count(&minute, Sampled::No))));
    }
}
