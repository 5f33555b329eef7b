//! The memory store: claims that die with the process, for trying things out and for tests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    DedupStore, StoreError, Subject,
    claim::{Guarded, Input, Kept, Millis, Record, Reply, millis, step},
};
use crate::{event::EventKey, stage::BoxFuture};

/// How many events are remembered at most. New ones are refused beyond: nothing is forgotten before its time.
const ENTRIES_MAX: usize = 1 << 20;
/// What is over is looked for at most this often.
const SWEEP_PAUSE: Millis = 1000;

/// Claims in memory.
#[derive(Debug)]
pub struct Memory {
    tables: Mutex<Tables>,
    entries_max: usize,
    started: Instant,
}

#[derive(Debug, Default)]
struct Tables {
    events: HashMap<EventKey, Record>,
    guards: HashMap<EventKey, Guarded>,
    sweep_after: Millis,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_capacity(ENTRIES_MAX)
    }
}

impl Memory {
    /// An empty store that refuses new events when it holds `entries_max`.
    pub fn with_capacity(entries_max: usize) -> Self {
        Self { tables: Mutex::default(), entries_max, started: Instant::now() }
    }

    fn apply(&self, subject: &Subject, input: Input) -> Result<Reply, StoreError> {
        let now = millis(self.started.elapsed());
        let mut tables = self.tables();
        tables.sweep(now);
        let event = tables.events.get(&subject.key).copied();
        if event.is_none()
            && matches!(input, Input::Claim(..))
            && tables.events.len() >= self.entries_max
        {
            return Err(StoreError("the memory store is full".into()));
        }
        let guard = subject.guard.and_then(|key| tables.guards.get(&key).copied());
        let (after, reply) = step(Kept { event, guard }, subject, input, now);
        put(&mut tables.events, subject.key, after.event);
        if let Some(key) = subject.guard {
            put(&mut tables.guards, key, after.guard);
        }
        Ok(reply)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Drops what is over, now and then.
    fn sweep(&mut self, now: Millis) {
        if now >= self.sweep_after {
            self.events.retain(|_, record| record.lasts(now));
            self.guards.retain(|_, guard| guard.lasts(now));
            self.sweep_after = now + SWEEP_PAUSE;
        }
    }
}

fn put<T>(table: &mut HashMap<EventKey, T>, key: EventKey, value: Option<T>) {
    match value {
        Some(value) => drop(table.insert(key, value)),
        None => drop(table.remove(&key)),
    }
}

impl DedupStore for Memory {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(std::future::ready(self.apply(subject, input)))
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(std::future::ready(Ok("memory, forgotten at exit".into())))
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        Some(self.tables().events.len() as u64)
    }
}
