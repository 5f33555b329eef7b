//! A store for tests of what happens when the store fails.

use std::sync::Mutex;

use gatepost::{dedup::claim::Reply, stage::BoxFuture};

use super::*;

/// A memory store that fails in named operations until it is healed.
#[derive(Debug)]
pub(crate) struct Faulty {
    memory: Memory,
    broken: Mutex<&'static [&'static str]>,
    /// Whether it does what it is asked, and only the answer is lost.
    silent: bool,
    /// Who has claimed, in vain or not.
    pub(crate) claimants: Mutex<Vec<Token>>,
}

impl Faulty {
    pub(crate) fn failing(operations: &'static [&'static str]) -> Self {
        let (memory, claimants) = (Memory::default(), Mutex::default());
        Self { memory, broken: operations.into(), silent: false, claimants }
    }

    pub(crate) fn losing_answers(operations: &'static [&'static str]) -> Self {
        Self { silent: true, ..Self::failing(operations) }
    }

    pub(crate) fn heal(&self) {
        self.fail(&[]);
    }

    /// Fails in these operations from now on.
    pub(crate) fn fail(&self, operations: &'static [&'static str]) {
        *self.broken.lock().unwrap() = operations;
    }
}

impl DedupStore for Faulty {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        if let Input::Claim(token, ..) = input {
            self.claimants.lock().unwrap().push(token);
        }
        let operation = format!("{input:?}").to_lowercase();
        if self.broken.lock().unwrap().iter().any(|broken| operation.starts_with(broken)) {
            return Box::pin(async move {
                if self.silent {
                    self.memory.run(subject, input).await?;
                }
                Err(StoreError("told to fail".into()))
            });
        }
        self.memory.run(subject, input)
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        self.memory.health()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        self.memory.entries()
    }
}
