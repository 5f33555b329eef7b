//! The claim that an event carries down the stack, and the event that carries it.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Parts, StoreError, Subject,
    claim::{Claimed, Input, Token},
    clock::Watch,
    course::{self, LOST, Won},
};
use crate::{answer::Answer, route::Routed};

/// So that two renewals may fail before the lease is over.
const RENEWALS_PER_TERM: u32 = 3;

/// An event that we, and only we, may deliver.
#[derive(Debug)]
pub struct Fresh {
    routed: Routed,
    lease: Lease,
}

impl Fresh {
    /// The only way to make one: with a claim.
    pub(super) fn new(routed: Routed, lease: Lease) -> Self {
        Self { routed, lease }
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Routed, Lease) {
        (self.routed, self.lease)
    }
}

/// A claim that is ours until it is settled. Cloning shares it.
///
/// Its end is counted from before the store was asked, by a clock that nobody sets and that goes on while the machine is
/// suspended: the store never thinks that it ends sooner than we do.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    parts: Arc<Parts>,
    subject: Subject,
    token: Token,
    won: Option<Won>,
    age: Watch,
    /// When it ends, in milliseconds since it began; [`LOST`] once the store said that it is not ours.
    ends: AtomicU64,
    ending: Ending,
}

type Note = Box<dyn FnOnce(&Answer) + Send>;

/// What waits to be told how it ended.
#[derive(Default)]
struct Ending(Mutex<Option<Note>>);

impl Ending {
    fn swap(&self, note: Option<Note>) -> Option<Note> {
        mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), note)
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ending")
    }
}

impl Lease {
    /// A claim that was asked for when `age` began. It won nothing where the store did not answer, and the source prefers
    /// duplicates to refusals.
    pub(super) fn new(
        parts: Arc<Parts>,
        subject: Subject,
        token: Token,
        won: Option<Won>,
        age: Watch,
    ) -> Self {
        let ends = course::ends(Duration::ZERO, parts.policy.lease).into();
        let ending = Ending::default();
        Self(Arc::new(Held { parts, subject, token, won, age, ends, ending }))
    }

    /// How many times the event was claimed, this time included; 1 where nobody knows.
    pub fn attempt(&self) -> u32 {
        self.0.won.map_or(1, |won| won.attempt)
    }

    /// Whether an earlier attempt ended in an unknown outcome (`Gatepost-Previous-Attempt: unknown`).
    pub fn after_unknown(&self) -> bool {
        self.0.won.is_some_and(|won| won.after_unknown)
    }

    /// What the claim won, if there is one.
    pub(super) fn won(&self) -> Option<Won> {
        self.0.won
    }

    /// Whether there is no claim behind it, because the store did not answer (`Gatepost-Dedup: unavailable`).
    pub fn unclaimed(&self) -> bool {
        self.0.won.is_none()
    }

    /// For how much longer it is surely ours; without end where there is no claim that could be lost.
    pub fn remaining(&self) -> Duration {
        if self.unclaimed() {
            return Duration::MAX;
        }
        course::left(self.0.ends.load(Ordering::Relaxed), self.0.age.elapsed())
    }

    /// Makes sure that at least `time` is left, renewing where it is not. False: somebody else may have the event by
    /// then, so it must not be forwarded.
    pub async fn ensure(&self, time: Duration) -> bool {
        match course::shortfall(self.remaining(), time, self.0.parts.policy.lease) {
            None => true,
            Some(term) => self.renew(term).await.unwrap_or(false),
        }
    }

    /// Has `note` told how it ended once the store knows it, or cannot be told: what stands on record as accepted, without a
    /// word about it, must not come again because of a crash in between.
    pub fn finally(&self, note: impl FnOnce(&Answer) + Send + 'static) {
        drop(self.0.ending.swap(Some(Box::new(note))));
    }

    /// It ended so.
    pub(super) fn ended(&self, answer: &Answer) {
        if let Some(note) = self.0.ending.swap(None) {
            note(answer);
        }
    }

    /// Records a success that came after the attempt had been given up.
    pub async fn settle_late(&self) -> Result<(), StoreError> {
        self.apply(Input::Complete(self.0.parts.policy.window)).await.map(drop)
    }

    /// Has the store know how it ended.
    pub(super) async fn settle(&self, settlement: Input) -> Result<(), StoreError> {
        let Held { parts, subject, token, .. } = &*self.0;
        let applied = self.apply(settlement).await?;
        if course::claims_again(settlement, applied)
            && let Claimed::Won { .. } = parts.claim(subject, *token).await.done?
        {
            self.apply(settlement).await?;
        }
        Ok(())
    }

    /// Carries out an operation on the event; says whether it was.
    pub(super) async fn apply(&self, input: Input) -> Result<bool, StoreError> {
        let operation = match input {
            Input::Claim(..) => "claim",
            Input::Complete(_) => "complete",
            Input::Release(_) => "release",
            Input::Hold(..) => "hold",
            Input::Renew(..) => "renew",
        };
        let parts = &self.0.parts;
        parts.timed(operation, parts.store.apply(&self.0.subject, input)).await.done
    }

    /// Renews the claim for as long as it is polled; gives up when it is lost, and never ends by itself.
    pub(super) async fn keep(&self) {
        let term = self.0.parts.policy.lease;
        while !self.unclaimed() && !self.is_lost() {
            tokio::time::sleep(term / RENEWALS_PER_TERM).await;
            match self.renew(term).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!("a claim ended before its work did"),
                Err(error) => tracing::debug!(%error, "a claim could not be renewed"),
            }
        }
        std::future::pending::<()>().await;
    }

    /// Whether the store said that it is not ours any more.
    pub(super) fn is_lost(&self) -> bool {
        self.0.ends.load(Ordering::Relaxed) == LOST
    }

    /// Extends the claim to `term` from now.
    async fn renew(&self, term: Duration) -> Result<bool, StoreError> {
        let asked = self.0.age.elapsed();
        let ours = self.apply(Input::Renew(self.0.token, term)).await?;
        let before = self.0.ends.load(Ordering::Relaxed);
        let ends = course::renewed(before, asked, term, ours);
        self.0.ends.fetch_max(ends, Ordering::Relaxed);
        Ok(ends != LOST)
    }
}
