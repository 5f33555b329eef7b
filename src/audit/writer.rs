//! The one thread that writes. It takes whatever is waiting, writes it at once, syncs once and answers everybody; while it
//! syncs, the next batch gathers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Params,
    checkpoint::Signer,
    journal::{AuditError, BATCH_BYTES_MAX, Journal, Recovery, is_full, is_out_of_descriptors},
    log::{Job, Shared, Waiters},
    record::{Draft, Kind, RECORD_BYTES_MAX},
    removed::{Unsealed, unsealed},
    seal::{Before, Sealer},
    segments::{self, Head, Segments},
    storage::Storage,
};
use crate::event::Timestamp;

/// How often it looks after the disk when nothing happens.
const IDLE_WAIT: Duration = Duration::from_secs(5);
/// How often the disk, and old segments, are looked after.
const HOUSE_EVERY: Duration = Duration::from_secs(1);
/// When a segment that found no room is compressed again.
const PACK_AGAIN: Duration = Duration::from_mins(1);
/// A clock that goes back by more than this is put on record.
const CLOCK_BACK_MILLIS: i64 = 1000;

/// Where the writer reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The chain, and all that is done with it.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    journal: Journal,
    sealer: Sealer,
    clock: Clock,
    params: Params,
    /// The time of the last record; record times do not go back by themselves.
    last: Timestamp,
    /// Who waits for a record of the batch.
    waiters: Waiters,
    /// What the batch holds, and whether somebody waits for it since then.
    batch: Vec<(Kind, Option<Instant>)>,
    packing: Option<(u64, JoinHandle<io::Result<()>>)>,
    /// Whether what is being compressed is given up.
    ending: Arc<AtomicBool>,
    /// When something is compressed next, at the earliest.
    pack: Instant,
    /// Whether it cannot be told which segments are old.
    stuck: bool,
    /// When the disk is looked after next.
    house: Instant,
    /// Whether more segments are too old than there has been time for.
    overdue: bool,
    /// The segment of which it is on record that it goes.
    going: Option<u64>,
    /// When the next segment is begun at the earliest, where one is due.
    rotate: Instant,
}

impl Writer {
    pub(super) fn take_up(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        params: &Params,
        signer: Signer,
        clock: Clock,
    ) -> io::Result<(Self, Recovery, Vec<Unsealed>)> {
        let sealer = Sealer::open(storage.clone(), signer, params.fsync, &params.copy_to)?;
        let covered = sealer.last.as_ref().map_or(0, |last| last.size);
        let (journal, recovery) = Journal::open(storage.clone(), params.clone(), covered)?;
        let removals = unsealed(&Segments::of(storage.path())?, sealer.before.size);
        let writer = Self {
            shared,
            storage,
            journal,
            sealer,
            clock,
            params: params.clone(),
            last: recovery.time.unwrap_or(Timestamp::from_millis(i64::MIN)),
            waiters: Waiters::default(),
            batch: Vec::new(),
            packing: None,
            ending: Arc::default(),
            pack: Instant::now(),
            stuck: false,
            house: Instant::now(),
            overdue: false,
            going: None,
            rotate: Instant::now(),
        };
        Ok((writer, recovery, removals))
    }

    /// The first record of a run: what was found, and the checkpoint that was seen last. It is sealed before anything
    /// follows, so that a log without checkpoints is one that somebody took them from.
    pub(super) fn begin(
        &mut self,
        found: Recovery,
        removals: &[Unsealed],
    ) -> Result<(), AuditError> {
        let mut start = Draft::control("started")
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("key", self.sealer.signer.public.fingerprint());
        if let Some(last) = &self.sealer.last {
            start = start.with("checkpoint_size", last.size);
            start = start.with("checkpoint_hash", hex::encode(last.hash));
        }
        let mut records = vec![start];
        if let Before { size, other: Some(key) } = &self.sealer.before {
            tracing::warn!(size, key, "the audit log was sealed with another key until now");
            let record = Draft::control("key_changed").with("from", key.as_str());
            records.push(record.with("size", *size));
        }
        if found.torn > 0 {
            let bytes = found.torn;
            tracing::warn!(bytes, "the audit log ended in an unfinished record, which was cut off");
            records.push(Draft::control("torn_tail_cut").with("bytes", bytes));
        }
        if let Some(record) = found.damaged {
            tracing::error!(record, "the audit log is damaged: run `gatepost audit verify`");
            records.push(Draft::control("damage_found").with("record", record));
        }
        records.extend(removals.iter().map(Unsealed::told));
        let result = self.write(records).and_then(|()| self.seal());
        self.look_after_disk();
        result
    }

    pub(super) fn run(mut self) {
        let (mut jobs, mut busy) = (Vec::with_capacity(256), false);
        loop {
            let behind = self.sealer.is_behind(self.journal.durable);
            let idle = idle(behind, self.sealer.age(), self.params.checkpoint_every);
            let idle = if self.overdue { Duration::ZERO } else { idle };
            let closed = self.shared.take(&mut jobs, busy, idle);
            busy = !jobs.is_empty();
            if busy {
                drop(self.record(&mut jobs)); // whoever waits was told
            }
            self.keep_house();
            if closed && !busy {
                return self.end();
            }
        }
    }

    /// Writes everything that is waiting, in as few batches as their size allows.
    pub(super) fn record(&mut self, jobs: &mut Vec<Job>) -> Result<(), AuditError> {
        let at = self.now();
        let ts = at.to_string();
        if self.journal.is_due(at) && self.rotate <= Instant::now() {
            let rotated = self.seal().and_then(|()| self.journal.rotate());
            if rotated == Ok(false) {
                tracing::warn!("too many files are open: the log goes on in its old segment");
                self.rotate = Instant::now() + HOUSE_EVERY;
            }
            self.settle(rotated.map(drop));
        }
        let mut result = Ok(());
        for Job { draft, waiter } in jobs.drain(..) {
            let seq = self.journal.push(&draft, at, &ts);
            self.batch.push((draft.kind, waiter.as_ref().map(|waiter| waiter.since)));
            if let Some(waiter) = waiter {
                self.waiters.add(waiter, seq);
            }
            if self.journal.batch.len() >= BATCH_BYTES_MAX - RECORD_BYTES_MAX {
                result = result.and(self.flush());
            }
        }
        result.and(self.flush())
    }

    /// Our own records, as a batch of their own.
    fn write(&mut self, drafts: Vec<Draft>) -> Result<(), AuditError> {
        let job = |draft| Job { draft, waiter: None };
        self.record(&mut drafts.into_iter().map(job).collect())
    }

    /// Makes the batch durable and answers. Nobody is answered before.
    fn flush(&mut self) -> Result<(), AuditError> {
        if self.journal.batch.is_empty() {
            return Ok(());
        }
        let result = self.journal.commit();
        self.settle(result.clone()); // whoever is refused finds us unready
        // First those who wait: everything else has time.
        self.waiters.answer(&result, &self.shared.answering);
        let (metrics, now) = (&self.shared.metrics, Instant::now());
        for (kind, since) in self.batch.drain(..) {
            if let Some(since) = since {
                metrics.append.observe(now.saturating_duration_since(since).as_secs_f64());
            }
            match (&result, since) {
                (Ok(()), _) => metrics.records.count(kind.as_str()),
                (Err(_), None) => drop(metrics.dropped.inc()),
                (Err(_), Some(_)) => {}
            }
        }
        let seq = self.journal.durable.seq;
        self.shared.report(|health| health.seq = seq);
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
            let record = Draft::control("clock_went_back").with("from", self.last.to_string());
            self.journal.push(&record, now, &now.to_string());
            self.batch.push((record.kind, None));
            self.last = now;
        }
        self.last = self.last.max(now);
        self.last
    }

    pub(super) fn keep_house(&mut self) {
        let prepared = self.journal.prepare();
        self.settle(prepared);
        if self.sealer.age() >= self.params.checkpoint_every {
            drop(self.seal()); // it says so itself
        }
        if self.overdue || Instant::now() >= self.house {
            self.look_after_disk();
            self.pack();
            self.retire();
        }
    }

    fn seal(&mut self) -> Result<(), AuditError> {
        let head = self.journal.durable;
        self.journal.unfenced()?;
        if !self.sealer.is_behind(head) {
            return Ok(());
        }
        let now = (self.clock)();
        let sealed = self.sealer.seal(head, &now.to_string());
        let sealed = sealed.map_err(|error| self.journal.refuse(&error));
        if sealed.is_ok() {
            self.shared.metrics.checkpoint.set(now.as_seconds());
        }
        self.settle(sealed.clone());
        sealed
    }

    /// Free space, and whether a full disk has room again.
    fn look_after_disk(&mut self) {
        self.house = Instant::now() + HOUSE_EVERY;
        let Ok(free) = self.storage.free_bytes() else { return };
        #[expect(clippy::cast_precision_loss, reason = "a gauge; nobody needs the last bytes")]
        self.shared.metrics.free.set(free as f64);
        match (free < self.params.free_bytes_min, self.shared.trouble()) {
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
        let now = self.params.compress && self.pack <= Instant::now();
        let next = self.journal.unpacked().filter(|_| now);
        let (None, Some(first)) = (&self.packing, next) else { return };
        let (storage, stop) = (self.storage.clone(), self.ending.clone());
        let work = move || segments::pack(&*storage, first, &stop);
        match thread::Builder::new().name("audit-pack".into()).spawn(work) {
            Ok(thread) => self.packing = Some((first, thread)),
            Err(error) => tracing::warn!(%error, "a closed segment was not compressed"),
        }
    }

    fn packed(&mut self, first: u64, thread: JoinHandle<io::Result<()>>) {
        let result = thread.join().unwrap_or_else(|_panic| Err(io::Error::other("panicked")));
        match result {
            Ok(()) => self.journal.packed(first),
            Err(error) if is_full(&error) || is_out_of_descriptors(&error) => {
                self.pack = Instant::now() + PACK_AGAIN;
            }
            Err(error) => {
                tracing::warn!(segment = first, %error, "a closed segment was not compressed");
                self.params.compress = false; // until the next start; it is only about space
            }
        }
    }

    /// Removes the oldest segment if it is older than the retention. What is removed is put on record before, and that is sealed, or
    /// anybody could have written it. Only one at a time: what waits meanwhile comes between it and the next.
    fn retire(&mut self) {
        self.overdue = false;
        let now = (self.clock)();
        let Some((first, last)) = self.expired(now) else { return };
        let held = self.packing.as_ref().is_some_and(|(packing, _)| *packing == first);
        if held || self.journal.unfenced().is_err() {
            return;
        }
        if self.going != Some(first) {
            let record = Draft::control("segment_removed")
                .with("removed_seq", last.seq)
                .with("removed_hash", hex::encode(last.hash));
            if self.write(vec![record]).is_err() {
                return;
            }
            self.going = Some(first);
        }
        if self.seal().is_err() {
            return; // it says so itself, and this goes on where there is room again
        }
        if let Err(error) = self.journal.remove(first) {
            tracing::error!(segment = first, %error, "an old segment was not removed");
            return;
        }
        self.overdue = self.expired(now).is_some();
        // Until the last one is gone, and where too many files are open, their checkpoints lie there and do no harm.
        if !self.overdue
            && let Err(error) = self.sealer.forget_before(last.seq)
            && !is_out_of_descriptors(&error)
        {
            let forgotten = Err(self.journal.refuse(&error));
            self.settle(forgotten);
        }
    }

    /// The segment that goes next. Where none can be told, because another one cannot be read, that is said once.
    fn expired(&mut self, now: Timestamp) -> Option<(u64, Head)> {
        let found = self.journal.expired(now);
        let was_stuck = std::mem::replace(&mut self.stuck, found.is_err());
        if let Err(error) = &found
            && !was_stuck
        {
            tracing::error!(%error, "old segments are kept, whatever their age");
        }
        found.ok().flatten()
    }

    /// The last record, the last checkpoint, and no zeros left behind.
    pub(super) fn end(mut self) {
        self.ending.store(true, Ordering::Relaxed); // the next run does it
        if self.write(vec![Draft::control("stopped")]).is_ok() {
            let result = self.seal().and_then(|()| self.journal.cut());
            self.settle(result);
        }
        if let Some((_, thread)) = self.packing.take() {
            drop(thread.join());
        }
        self.sealer.close();
    }
}

/// How long the writer may sleep: not past the next checkpoint, where something is not sealed and the last one is so old.
pub fn idle(behind: bool, age: Duration, every: Duration) -> Duration {
    let due = if behind { every.saturating_sub(age) } else { IDLE_WAIT };
    due.clamp(Duration::from_millis(100), IDLE_WAIT)
}
