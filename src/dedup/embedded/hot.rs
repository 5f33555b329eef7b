//! What the embedded store holds in memory: claims under way, what was written lately, and what is still to be written.
//!
//! A record stays here until it was committed and has cooled for longer than any lookup may take. So a lookup that began
//! before a commit never hides it: memory has the last word.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    super::{
        StoreError, Subject,
        claim::{Guarded, Kept, Millis, Phase, Record},
    },
    disk::{Batch, Disk},
};
use crate::event::EventKey;

/// Events in memory; claims are refused beyond.
const HOT_MAX: usize = 1 << 20;
/// Changes that wait for the disk; claims are refused beyond.
const DIRTY_MAX: usize = 1 << 16;
/// How long a change that nobody waits for may wait for company.
const LINGER: Duration = Duration::from_millis(20);
/// How long the writer waits after a failed commit before it tries again unasked.
const TROUBLE_PAUSE: Duration = Duration::from_millis(500);
/// How often the writer looks after expired rows.
const TICK: Duration = Duration::from_secs(1);
/// How long a committed record stays in memory: twice as long as a lookup may take.
const COOL: Millis = 6000;

/// The state that requests and the writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    hot: Mutex<Hot>,
    wake: Condvar,
    rows: AtomicU64,
}

#[derive(Debug, Default)]
struct Hot {
    events: HashMap<EventKey, Warm<Record>>,
    guards: HashMap<EventKey, Warm<Guarded>>,
    dirty: Vec<(Place, u64)>,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
    trouble: Option<StoreError>,
    stop: bool,
    changes: u64,
}

/// A value and the change that made it; `None` is known to be absent.
#[derive(Clone, Copy, Debug)]
struct Warm<T> {
    value: Option<T>,
    change: u64,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the events.
    Event(EventKey),
    /// Among the guards.
    Guard(EventKey),
}

impl Shared {
    /// Applies a step to what is known; `found` counts where memory knows nothing. Without it the step is given back if
    /// memory alone cannot say everything about `subject`.
    pub(super) fn apply<T, S: FnOnce(Kept) -> (Kept, T)>(
        &self,
        subject: &Subject,
        found: Option<Kept>,
        step: S,
    ) -> Result<T, S> {
        let mut hot = self.lock();
        if found.is_none() && !hot.knows(subject) {
            return Err(step);
        }
        let kept = hot.kept(subject, found.unwrap_or_default());
        let (after, reply) = step(kept);
        if hot.put(subject, kept, after) {
            self.wake.notify_one();
        }
        Ok(reply)
    }

    /// Puts what must be on disk; the receiver is told when it is.
    pub(super) fn put_synced(
        &self,
        subject: &Subject,
        after: Kept,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let (sender, receiver) = oneshot::channel();
        let mut hot = self.lock();
        // Written even where it is as it was: the last time it may not have reached the disk.
        hot.put_event(subject.key, after.event);
        if let Some(key) = subject.guard {
            hot.put_guard(key, after.guard);
        }
        hot.waiting.push(sender);
        drop(hot);
        self.wake.notify_one();
        receiver
    }

    /// Refuses claims where memory is full or the disk does not keep up.
    pub(super) fn room(&self) -> Result<(), StoreError> {
        let hot = self.lock();
        if hot.events.len() < HOT_MAX && hot.dirty.len() < DIRTY_MAX {
            return Ok(());
        }
        Err(StoreError("the disk does not keep up".into()))
    }

    /// The last commit's error, until one succeeds.
    pub(super) fn healthy(&self) -> Result<(), StoreError> {
        self.lock().trouble.clone().map_or(Ok(()), Err)
    }

    /// Events in the file, as far as they have been counted.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Ends the writer once everything is written.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write, for company, or for the next tick.
    fn next_batch(&self) -> (Batch, Vec<oneshot::Sender<Result<(), StoreError>>>, bool) {
        let hot = self.lock();
        let quiet = |hot: &mut Hot| !hot.stop && hot.waiting.is_empty();
        let waited =
            self.wake.wait_timeout_while(hot, TICK, |hot| quiet(hot) && hot.dirty.is_empty());
        let (hot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let linger = match (&hot.trouble, hot.dirty.is_empty()) {
            (_, true) => Duration::ZERO,
            (Some(_), false) => TROUBLE_PAUSE,
            (None, false) => LINGER,
        };
        let waited = self.wake.wait_timeout_while(hot, linger, quiet);
        let (mut hot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let waiting = mem::take(&mut hot.waiting);
        (hot.take_dirty(!waiting.is_empty()), waiting, hot.stop)
    }

    /// Notes how a commit ended. What was not written is written again with the next one.
    fn committed(&self, batch: &Batch, result: &Result<(), StoreError>) {
        let mut hot = self.lock();
        hot.trouble = result.as_ref().err().cloned();
        if result.is_err() {
            hot.dirty.extend(batch.changes());
        }
    }

    /// Drops what has cooled, unless it changed since or is a claim under way; says when to look again.
    fn cool(&self, (place, change): (Place, u64), now: Millis) -> Option<Millis> {
        let mut hot = self.lock();
        match place {
            Place::Event(key) => {
                let warm = hot.events.get(&key).filter(|warm| warm.change == change)?;
                if let Some(Record { phase: Phase::Leased(_), until, .. }) = warm.value
                    && now < until
                {
                    return Some(until);
                }
                hot.events.remove(&key);
            }
            Place::Guard(key) => {
                if hot.guards.get(&key).is_some_and(|warm| warm.change == change) {
                    hot.guards.remove(&key);
                }
            }
        }
        None
    }
}

impl Hot {
    fn knows(&self, subject: &Subject) -> bool {
        let guard = subject.guard.is_none_or(|key| self.guards.contains_key(&key));
        guard && self.events.contains_key(&subject.key)
    }

    fn kept(&self, subject: &Subject, found: Kept) -> Kept {
        let guard = subject.guard.and_then(|key| self.guards.get(&key));
        Kept {
            event: self.events.get(&subject.key).map_or(found.event, |warm| warm.value),
            guard: guard.map_or(found.guard, |warm| warm.value),
        }
    }

    /// Puts what a step changed; says whether the writer has to be woken.
    fn put(&mut self, subject: &Subject, before: Kept, after: Kept) -> bool {
        let idle = self.dirty.is_empty();
        if before.event != after.event {
            self.put_event(subject.key, after.event);
        }
        if let Some(key) = subject.guard
            && before.guard != after.guard
        {
            self.put_guard(key, after.guard);
        }
        idle && !self.dirty.is_empty()
    }

    fn put_event(&mut self, key: EventKey, value: Option<Record>) {
        self.changes += 1;
        self.events.insert(key, Warm { value, change: self.changes });
        self.dirty.push((Place::Event(key), self.changes));
    }

    fn put_guard(&mut self, key: EventKey, value: Option<Guarded>) {
        self.changes += 1;
        self.guards.insert(key, Warm { value, change: self.changes });
        self.dirty.push((Place::Guard(key), self.changes));
    }

    /// What is to be written: of each place its last change only.
    fn take_dirty(&mut self, synced: bool) -> Batch {
        let mut batch = Batch { synced, ..Batch::default() };
        for (place, change) in self.dirty.drain(..) {
            match place {
                Place::Event(key) => {
                    let last = self.events.get(&key).filter(|warm| warm.change == change);
                    batch.events.extend(last.map(|warm| (key, warm.value, change)));
                }
                Place::Guard(key) => {
                    let last = self.guards.get(&key).filter(|warm| warm.change == change);
                    batch.guards.extend(last.map(|warm| (key, warm.value, change)));
                }
            }
        }
        batch
    }
}

/// The writer thread: one transaction for all that waits, then everyone is told; between them, some expired rows.
pub(super) fn write_behind(shared: &Shared, mut disk: Disk, now: impl Fn() -> Millis) {
    let mut cooling = VecDeque::new();
    let mut tick = now();
    loop {
        let (batch, waiting, stop) = shared.next_batch();
        let result = if batch.is_empty() { Ok(()) } else { disk.write(&batch) };
        if let Err(error) = &result {
            tracing::error!(%error, "the dedup store could not be written");
        }
        shared.committed(&batch, &result);
        if result.is_ok() {
            let due = now() + COOL;
            cooling.extend(batch.changes().map(|changed| (due, changed)));
        }
        for waiter in waiting {
            drop(waiter.send(result.clone())); // gave up waiting: the record is in memory and in the file all the same
        }
        if stop {
            return;
        }
        cool(shared, &mut cooling, now());
        if now() >= tick {
            tick = now() + u64::try_from(TICK.as_millis()).unwrap_or_default();
            sweep(shared, &mut disk, now());
        }
    }
}

fn cool(shared: &Shared, cooling: &mut VecDeque<(Millis, (Place, u64))>, now: Millis) {
    while let Some((due, changed)) = cooling.front().copied()
        && due <= now
    {
        cooling.pop_front();
        if let Some(until) = shared.cool(changed, now) {
            cooling.push_back((until.min(now + COOL), changed));
        }
    }
}

fn sweep(shared: &Shared, disk: &mut Disk, now: Millis) {
    match disk.sweep(now) {
        Ok(Some(rows)) => shared.rows.store(rows, Ordering::Relaxed),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "expired events could not be deleted"),
    }
}

#[cfg(test)]
mod tests;
