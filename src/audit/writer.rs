//! The one thread that writes. It takes whatever is waiting, writes it at once, syncs once and answers everybody: while it
//! syncs, the next batch gathers by itself, so there is no timer to tune.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Params,
    checkpoint::Signer,
    journal::{AuditError, BATCH_BYTES_MAX, Journal, Recovery, Rules},
    log::{AuditLog, Health, Job, Shared, Sleep},
    record::{Draft, Kind, RECORD_BYTES_MAX},
    seal::Sealer,
    segments,
    storage::{Directory, LockError, Storage},
};
use crate::{event::Timestamp, telemetry::AuditMetrics};

/// How soon the writer looks for records that nobody waits for.
const NOTES_WAIT: Duration = Duration::from_millis(100);
/// How often it looks after the disk when nothing happens.
const IDLE_WAIT: Duration = Duration::from_secs(5);
/// How often free space is looked at.
const FREE_EVERY: Duration = Duration::from_secs(1);
/// A clock that goes back by more than this is put on record.
const CLOCK_BACK_MILLIS: i64 = 1000;

/// Where the writer reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be had.
    #[error("audit log: {0}")]
    Directory(#[from] LockError),
    /// The checkpoint key cannot be had.
    #[error("audit checkpoint key: {0}")]
    Key(String),
    /// The files cannot be read or written.
    #[error("audit log in {}: {error}", dir.display())]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The first record could not be made durable.
    #[error("audit log in {}: {error}", dir.display())]
    Start {
        /// Which directory.
        dir: PathBuf,
        /// Why.
        error: AuditError,
    },
}

/// Locks the directory, takes up the chain where it ended, and starts the writer.
pub fn open(params: &Params, metrics: AuditMetrics) -> Result<AuditLog, OpenError> {
    let storage = Arc::new(Directory::open(&params.dir)?);
    open_on(storage, params, metrics, Arc::new(Timestamp::now))
}

/// The same on a given disk, with a given clock.
pub fn open_on(
    storage: Arc<dyn Storage>,
    params: &Params,
    metrics: AuditMetrics,
    clock: Clock,
) -> Result<AuditLog, OpenError> {
    let failed = |error| OpenError::Io { dir: params.dir.clone(), error };
    let signer = Signer::load_or_make(&params.checkpoint_key).map_err(OpenError::Key)?;
    let (journal, recovery, sealer) = take_up(&storage, params, signer, &clock).map_err(failed)?;
    let free_bytes = storage.free_bytes().map_err(failed)?;
    let covered = sealer.last().map_or(0, |last| last.size);
    let health = Health { trouble: None, seq: 0, sealed: covered, free_bytes };
    let shared = Shared::new(metrics, health);
    let mut writer = Writer {
        shared: shared.clone(),
        storage,
        journal,
        sealer,
        clock,
        params: params.clone(),
        last: recovery.time.unwrap_or(Timestamp::from_millis(i64::MIN)),
        replies: Vec::new(),
        packing: None,
        looked: None,
    };
    writer.begin(recovery).map_err(|error| OpenError::Start { dir: params.dir.clone(), error })?;
    let farewell = Farewell(shared.clone());
    let run = move || {
        let _farewell = farewell; // dropped last, after the lock was given up, and in a panic too
        writer.run();
    };
    let thread = thread::Builder::new().name("audit-writer".into()).spawn(run).map_err(failed)?;
    Ok(AuditLog::new(shared, thread))
}

fn take_up(
    storage: &Arc<dyn Storage>,
    params: &Params,
    signer: Signer,
    clock: &Clock,
) -> io::Result<(Journal, Recovery, Sealer)> {
    let sealer = Sealer::open(storage.clone(), signer, params.fsync, &params.copy_to)?;
    let rules = Rules {
        fsync: params.fsync,
        rotate_bytes: params.rotate_bytes,
        rotate_millis: millis(params.rotate_every),
    };
    let covered = sealer.last().map_or(0, |last| last.size);
    let (journal, recovery) = Journal::open(storage.clone(), rules, covered, clock())?;
    Ok((journal, recovery, sealer))
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

struct Writer {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    journal: Journal,
    sealer: Sealer,
    clock: Clock,
    params: Params,
    /// The time of the last record; record times do not go back by themselves.
    last: Timestamp,
    replies: Vec<Reply>,
    packing: Option<(u64, JoinHandle<io::Result<()>>)>,
    looked: Option<Instant>,
}

/// Who waits for a record of the batch.
struct Reply {
    to: Option<oneshot::Sender<Result<u64, AuditError>>>,
    seq: u64,
    kind: Kind,
    since: Instant,
}

impl Writer {
    /// The first record of a run: what was found, and the checkpoint that was seen last.
    fn begin(&mut self, found: Recovery) -> Result<(), AuditError> {
        let mut start = Draft::control("started")
            .text("version", env!("CARGO_PKG_VERSION"))
            .text("key", self.sealer.key().fingerprint());
        if let Some(last) = self.sealer.last() {
            start = start.number("checkpoint_size", last.size);
            start = start.text("checkpoint_hash", hex::encode(last.hash));
        }
        let mut records = vec![start];
        if found.torn > 0 {
            tracing::warn!(
                bytes = found.torn,
                "the audit log ended in an unfinished record, which was cut off"
            );
            records.push(Draft::control("torn_tail_cut").number("bytes", found.torn));
        }
        if let Some(record) = found.damaged {
            tracing::error!(record, "the audit log is damaged: run `gatepost audit verify`");
            records.push(Draft::control("damage_found").number("record", record));
        }
        let result = self.write(records);
        self.look_after_disk();
        result
    }

    fn run(mut self) {
        let mut jobs = Vec::with_capacity(256);
        let mut busy = false;
        loop {
            let (sleep, limit) =
                if busy { (Sleep::Short, NOTES_WAIT) } else { (Sleep::Long, self.idle()) };
            let taken = self.shared.take(&mut jobs, sleep, limit);
            busy = !jobs.is_empty();
            if busy {
                drop(self.batch(&mut jobs)); // whoever waits was told
            }
            self.keep_house();
            if taken.closed && !busy {
                break;
            }
        }
        self.end();
    }

    /// How long it may sleep: not past the next checkpoint.
    fn idle(&self) -> Duration {
        if !self.sealer.is_behind(self.journal.durable()) {
            return IDLE_WAIT;
        }
        let due = self.params.checkpoint_every.saturating_sub(self.sealer.age());
        due.clamp(NOTES_WAIT, IDLE_WAIT)
    }

    /// Writes everything that is waiting, in as few batches as their size allows.
    fn batch(&mut self, jobs: &mut Vec<Job>) -> Result<(), AuditError> {
        let at = self.now();
        let ts = at.to_string();
        if self.journal.is_due(at) {
            self.rotate(at);
        }
        let mut result = Ok(());
        for Job { draft, reply, since } in jobs.drain(..) {
            let seq = self.journal.push(&draft, at, &ts);
            self.replies.push(Reply { to: reply, seq, kind: draft.kind, since });
            if self.journal.pending() >= BATCH_BYTES_MAX - RECORD_BYTES_MAX {
                result = result.and(self.flush());
            }
        }
        result.and(self.flush())
    }

    /// Our own records, as a batch of their own.
    fn write(&mut self, drafts: Vec<Draft>) -> Result<(), AuditError> {
        let since = Instant::now();
        let job = |draft| Job { draft, reply: None, since };
        self.batch(&mut drafts.into_iter().map(job).collect())
    }

    /// Makes the batch durable and answers. Nobody is answered before.
    fn flush(&mut self) -> Result<(), AuditError> {
        if self.journal.pending() == 0 {
            return Ok(());
        }
        let result = self.journal.commit();
        let metrics = &self.shared.metrics;
        for Reply { to, seq, kind, since } in self.replies.drain(..) {
            if result.is_ok() {
                metrics.recorded(kind.as_str());
            } else if to.is_none() {
                metrics.dropped.inc();
            }
            if let Some(to) = to {
                metrics.append.observe(since.elapsed().as_secs_f64());
                drop(to.send(result.clone().map(|()| seq))); // who went away does not want to know
            }
        }
        let seq = self.journal.durable().seq;
        self.shared.report(|health| health.seq = seq);
        self.settle(result.clone());
        result
    }

    /// Says what went wrong, once.
    fn settle(&mut self, result: Result<(), AuditError>) {
        let Err(error) = result else { return };
        self.shared.report(|health| {
            if health.trouble.as_ref() != Some(&error) {
                tracing::error!(%error, "nothing is accepted until the audit log can be written");
            }
            health.trouble = Some(error);
        });
    }

    /// Now, but never before the last record. A clock that was set back is put on record.
    fn now(&mut self) -> Timestamp {
        let now = (self.clock)();
        if now.as_millis() < self.last.as_millis().saturating_sub(CLOCK_BACK_MILLIS) {
            tracing::warn!(from = %self.last, to = %now, "the clock went back");
            let record = Draft::control("clock_went_back").text("from", self.last.to_string());
            self.journal.push(&record, now, &now.to_string());
            self.last = now;
        }
        self.last = self.last.max(now);
        self.last
    }

    fn keep_house(&mut self) {
        if let Err(error) = self.journal.prepare() {
            self.settle(Err(error));
        }
        if self.sealer.age() >= self.params.checkpoint_every {
            self.seal();
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= FREE_EVERY) {
            self.look_after_disk();
            self.pack();
            self.retire();
        }
    }

    fn seal(&mut self) {
        let head = self.journal.durable();
        if self.journal.fence().is_some() || !self.sealer.is_behind(head) {
            return;
        }
        let now = (self.clock)();
        match self.sealer.seal(head, &now.to_string()) {
            Ok(()) => {
                self.shared.report(|health| health.sealed = head.seq);
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "whole seconds fit a double for ages"
                )]
                self.shared.metrics.checkpoint.set(now.as_secs() as f64);
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.settle(Err(AuditError::Full));
            }
            Err(error) => {
                let fenced = self.journal.fence_off(&error);
                self.settle(Err(fenced));
            }
        }
    }

    fn rotate(&mut self, now: Timestamp) {
        self.seal();
        let result = self.journal.rotate(now);
        self.settle(result);
    }

    /// Free space, and whether a full disk has room again.
    fn look_after_disk(&mut self) {
        self.looked = Some(Instant::now());
        let Ok(free) = self.storage.free_bytes() else { return };
        #[expect(clippy::cast_precision_loss, reason = "a gauge; nobody needs the last bytes")]
        self.shared.metrics.free.set(free as f64);
        let low = free < self.params.free_bytes_min;
        let trouble = self.shared.trouble();
        self.shared.report(|health| health.free_bytes = free);
        match (low, trouble) {
            (true, None) => self.settle(Err(AuditError::Full)),
            (false, Some(AuditError::Full)) if self.journal.prepare().is_ok() => {
                tracing::info!(free, "the audit log has room again");
                self.shared.report(|health| health.trouble = None);
            }
            _ => {}
        }
    }

    /// Compresses closed segments, one at a time and beside the writer: it may take a second.
    fn pack(&mut self) {
        if let Some((first, done)) = self.packing.take_if(|(_, thread)| thread.is_finished()) {
            self.packed(first, done);
        }
        if self.packing.is_some() || !self.params.compress {
            return;
        }
        let Some(first) = self.journal.closed.iter().find(|c| !c.packed).map(|c| c.first) else {
            return;
        };
        let storage = self.storage.clone();
        let work = move || segments::pack(&storage, first);
        match thread::Builder::new().name("audit-pack".into()).spawn(work) {
            Ok(thread) => self.packing = Some((first, thread)),
            Err(error) => tracing::warn!(%error, "a closed segment was not compressed"),
        }
    }

    fn packed(&mut self, first: u64, thread: JoinHandle<io::Result<()>>) {
        let result = thread.join().unwrap_or_else(|_panic| Err(io::Error::other("panicked")));
        if let Err(error) = result {
            tracing::warn!(segment = first, %error, "a closed segment was not compressed");
            self.params.compress = false; // until the next start; it is only about space
            return;
        }
        let closed = self.journal.closed.iter_mut().find(|closed| closed.first == first);
        if let Some(closed) = closed {
            closed.packed = true;
        }
    }

    /// Removes segments that are older than the retention, oldest first. What is removed is put on record before.
    fn retire(&mut self) {
        let limit = (self.clock)().as_millis().saturating_sub(millis(self.params.retention));
        while let Some(oldest) = self.journal.closed.first().copied() {
            let old = oldest.until.is_some_and(|until| until.as_millis() < limit);
            let held = self.packing.as_ref().is_some_and(|(first, _)| *first == oldest.first);
            if !old || held || self.journal.fence().is_some() {
                return;
            }
            let record = Draft::control("segment_removed")
                .number("removed_seq", oldest.last.seq)
                .text("removed_hash", hex::encode(oldest.last.hash));
            if self.write(vec![record]).is_err() {
                return;
            }
            self.journal.closed.remove(0);
            let removed = segments::remove(&*self.storage, &oldest)
                .and_then(|()| self.sealer.forget_before(oldest.last.seq));
            if let Err(error) = removed {
                tracing::error!(segment = oldest.first, %error, "an old segment was not removed");
            }
        }
    }

    /// The last record, the last checkpoint, and no zeros left behind.
    fn end(mut self) {
        if self.write(vec![Draft::control("stopped")]).is_ok() {
            self.seal();
            let result = self.journal.cut();
            self.settle(result);
        }
        if let Some((first, thread)) = self.packing.take() {
            self.packed(first, thread);
        }
        self.sealer.close();
    }
}

/// However the writer ends, nobody waits for it in vain.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.finish();
    }
}
