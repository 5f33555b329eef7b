//! A store for tests of what happens when the store fails.

use std::{sync::Mutex, time::Duration};

use super::super::super::*;
use crate::stage::BoxFuture;

/// A memory store that fails in named operations until it is healed.
#[derive(Debug)]
pub(super) struct Faulty {
    memory: Memory,
    broken: Mutex<&'static [&'static str]>,
}

impl Faulty {
    pub(super) fn failing(operations: &'static [&'static str]) -> Self {
        Self { memory: Memory::default(), broken: operations.into() }
    }

    pub(super) fn heal(&self) {
        *self.broken.lock().unwrap() = &[];
    }

    fn unless_broken<'a, T: Send + 'a>(
        &self,
        operation: &str,
        work: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.broken.lock().unwrap().contains(&operation) {
            return Box::pin(std::future::ready(Err(StoreError("told to fail".into()))));
        }
        work
    }
}

impl DedupStore for Faulty {
    fn claim<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
        window: Duration,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        self.unless_broken("claim", self.memory.claim(subject, token, lease, window))
    }

    fn complete<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        window: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.unless_broken("complete", self.memory.complete(subject, token, window))
    }

    fn release<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.unless_broken("release", self.memory.release(subject, token))
    }

    fn hold<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        hold: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.unless_broken("hold", self.memory.hold(subject, token, hold))
    }

    fn renew<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.unless_broken("renew", self.memory.renew(subject, token, lease))
    }

    fn look<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<State, StoreError>> {
        self.unless_broken("look", self.memory.look(subject))
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, StoreError>> {
        self.memory.health()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        self.memory.entries()
    }
}
