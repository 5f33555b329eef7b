//! The memory store: claims that die with the process, for trying things out and for tests.

use std::{
    array,
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    DedupStore, Health, StoreError, Subject,
    claim::{self, Claimed, Guarded, Kept, Millis, Record, State, Token},
};
use crate::{event::EventKey, stage::BoxFuture};

/// How many events are remembered at most. New ones are refused beyond: nothing is forgotten before its time.
const ENTRIES_MAX: usize = 1 << 20;

/// Independent locks, so that threads seldom meet and looking for what is over is never long.
const SHARDS: usize = 64;
/// A shard looks for what is over whenever it has doubled, and from this size on.
const SWEEP_MIN: usize = 256;
/// A full shard looks at most this often.
const SWEEP_PAUSE: Millis = 1000;

/// Claims in memory.
#[derive(Debug)]
pub struct Memory {
    events: [Mutex<Shard<Record>>; SHARDS],
    guards: [Mutex<Shard<Guarded>>; SHARDS],
    shard_max: usize,
    started: Instant,
}

#[derive(Debug)]
struct Shard<T> {
    map: HashMap<EventKey, T>,
    sweep_len: usize,
    sweep_after: Millis,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_capacity(ENTRIES_MAX)
    }
}

impl Memory {
    /// An empty store that refuses new events when it holds about `entries_max`.
    pub fn with_capacity(entries_max: usize) -> Self {
        Self {
            events: array::from_fn(|_| Mutex::new(Shard::new())),
            guards: array::from_fn(|_| Mutex::new(Shard::new())),
            shard_max: entries_max.div_ceil(SHARDS),
            started: Instant::now(),
        }
    }

    /// Applies one step of the protocol. Locks are taken in one order: events before guards.
    fn apply<T>(&self, subject: &Subject, step: impl FnOnce(Kept, Millis) -> (Kept, T)) -> T {
        let now = self.now();
        let mut events = shard(&self.events, subject.key);
        let mut guards = subject.guard.map(|key| (key, shard(&self.guards, key)));
        let kept = Kept {
            event: events.map.get(&subject.key).copied(),
            guard: guards.as_ref().and_then(|(key, guards)| guards.map.get(key).copied()),
        };
        let (after, reply) = step(kept, now);
        events.put(subject.key, after.event);
        if let Some((key, guards)) = &mut guards {
            guards.put(*key, after.guard);
            guards.sweep(now, |guard| now < guard.until);
        }
        reply
    }

    /// Refuses a claim that would make the store grow beyond its limit.
    fn room(&self, subject: &Subject) -> Result<(), StoreError> {
        let now = self.now();
        let mut events = shard(&self.events, subject.key);
        events.sweep(now, |record| now < record.forget);
        if events.map.len() >= self.shard_max && !events.map.contains_key(&subject.key) {
            events.sweep_len = self.shard_max;
            return Err(StoreError("the memory store is full".into()));
        }
        Ok(())
    }

    /// Starts at one, so that what ends at zero is over.
    fn now(&self) -> Millis {
        claim::millis(self.started.elapsed()) + 1
    }
}

fn shard<T>(shards: &[Mutex<Shard<T>>; SHARDS], key: EventKey) -> MutexGuard<'_, Shard<T>> {
    let [first, ..] = key.0;
    let [fallback, ..] = shards;
    let shard = shards.get(usize::from(first) % SHARDS).unwrap_or(fallback);
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Shard<T> {
    fn new() -> Self {
        Self { map: HashMap::new(), sweep_len: SWEEP_MIN, sweep_after: 0 }
    }

    fn put(&mut self, key: EventKey, value: Option<T>) {
        match value {
            Some(value) => drop(self.map.insert(key, value)),
            None => drop(self.map.remove(&key)),
        }
    }

    /// Drops what is over, once the shard has doubled since the last time.
    fn sweep(&mut self, now: Millis, keep: impl Fn(&T) -> bool) {
        if self.map.len() >= self.sweep_len && now >= self.sweep_after {
            self.map.retain(|_, value| keep(value));
            self.sweep_len = SWEEP_MIN.max(self.map.len() * 2);
            self.sweep_after = now + SWEEP_PAUSE;
        }
    }
}

impl DedupStore for Memory {
    fn claim<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
        window: Duration,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            self.room(subject)?;
            Ok(self
                .apply(subject, |kept, now| claim::claim(kept, subject, token, lease, window, now)))
        })
    }

    fn complete<'a>(
        &'a self,
        subject: &'a Subject,
        _: Token,
        window: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.apply(subject, |_, now| (claim::complete(subject, window, now), ()));
            Ok(())
        })
    }

    fn release<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(
            async move { Ok(self.apply(subject, |kept, now| claim::release(kept, token, now))) },
        )
    }

    fn hold<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        hold: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(
            async move { Ok(self.apply(subject, |kept, now| claim::hold(kept, token, hold, now))) },
        )
    }

    fn renew<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            Ok(self.apply(subject, |kept, now| claim::renew(kept, token, lease, now)))
        })
    }

    fn look<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<State, StoreError>> {
        Box::pin(async move { Ok(self.apply(subject, |kept, now| (kept, claim::look(kept, now)))) })
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, StoreError>> {
        Box::pin(async { Ok(Health { summary: "memory, forgotten at exit".into() }) })
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        let lengths = self
            .events
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).map.len() as u64);
        Some(lengths.sum())
    }
}
