//! The claim that an event carries down the stack, and the event that carries it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    DedupStore, StoreError, Subject,
    claim::{self, Token},
};
use crate::route::Routed;

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

    /// The event and where it goes.
    pub fn routed(&self) -> &Routed {
        &self.routed
    }

    /// Our claim.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Routed, Lease) {
        (self.routed, self.lease)
    }

    /// A fresh event made by hand, for tests of the stages after this one.
    #[cfg(test)]
    #[allow(dead_code, reason = "for the stages below")]
    pub(crate) fn for_test(routed: Routed) -> Self {
        Self { routed, lease: Lease::for_test() }
    }
}

/// A claim that is ours until it is settled. Cloning shares it.
///
/// Its end is counted by the monotonic clock, from before the store was asked: the store never thinks that it ends sooner
/// than we do.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
struct Held {
    store: Arc<dyn DedupStore>,
    subject: Subject,
    token: Token,
    won: Won,
    term: Duration,
    window: Duration,
    began: Instant,
    /// When it ends, in milliseconds since it began.
    ends: AtomicU64,
    lost: AtomicBool,
}

/// What a claim won.
#[derive(Clone, Copy, Debug)]
pub(super) enum Won {
    /// The event.
    Claim {
        /// How many times it was claimed, this time included.
        attempt: u32,
        /// Whether an earlier attempt ended unknown.
        after_unknown: bool,
    },
    /// Nothing: the store does not answer, and the source prefers duplicates to refusals.
    Nothing,
}

impl Lease {
    /// A claim for `term` that was asked for at `began`.
    pub(super) fn new(
        store: Arc<dyn DedupStore>,
        subject: Subject,
        token: Token,
        won: Won,
        (term, window): (Duration, Duration),
        began: Instant,
    ) -> Self {
        let ends = AtomicU64::new(claim::millis(term));
        let lost = AtomicBool::new(false);
        Self(Arc::new(Held { store, subject, token, won, term, window, began, ends, lost }))
    }

    /// How many times the event was claimed, this time included; 1 where nobody knows.
    pub fn attempt(&self) -> u32 {
        match self.0.won {
            Won::Claim { attempt, .. } => attempt,
            Won::Nothing => 1,
        }
    }

    /// Whether an earlier attempt ended in an unknown outcome (`Gatepost-Previous-Attempt: unknown`).
    pub fn after_unknown(&self) -> bool {
        matches!(self.0.won, Won::Claim { after_unknown: true, .. })
    }

    /// Whether there is no claim behind it, because the store did not answer (`Gatepost-Dedup: unavailable`).
    pub fn unclaimed(&self) -> bool {
        matches!(self.0.won, Won::Nothing)
    }

    /// For how much longer it is surely ours; without end where there is no claim that could be lost.
    pub fn remaining(&self) -> Duration {
        if self.unclaimed() {
            return Duration::MAX;
        }
        if self.is_lost() {
            return Duration::ZERO;
        }
        claim::span(self.0.ends.load(Ordering::Relaxed)).saturating_sub(self.0.began.elapsed())
    }

    /// Makes sure that at least `time` is left, renewing where it is not. False: somebody else may have the event by
    /// then, so it must not be forwarded.
    pub async fn ensure(&self, time: Duration) -> bool {
        self.remaining() >= time || self.renew(self.0.term.max(time)).await.unwrap_or(false)
    }

    /// Records a success that came after the attempt had been given up.
    pub async fn settle_late(&self) -> Result<(), StoreError> {
        self.complete().await
    }

    /// Records the event as done.
    pub(super) async fn complete(&self) -> Result<(), StoreError> {
        self.0.store.complete(&self.0.subject, self.0.token, self.0.window).await
    }

    /// Gives the claim back.
    pub(super) async fn release(&self) -> Result<bool, StoreError> {
        self.0.store.release(&self.0.subject, self.0.token).await
    }

    /// Keeps everyone away for `time`.
    pub(super) async fn hold(&self, time: Duration) -> Result<bool, StoreError> {
        self.0.store.hold(&self.0.subject, self.0.token, time).await
    }

    /// Extends the claim to `term` from now.
    pub(super) async fn renew(&self, term: Duration) -> Result<bool, StoreError> {
        let asked = self.0.began.elapsed();
        let ours = self.0.store.renew(&self.0.subject, self.0.token, term).await?;
        if ours {
            self.0.ends.fetch_max(claim::millis(asked + term), Ordering::Relaxed);
        } else {
            self.0.lost.store(true, Ordering::Relaxed);
        }
        Ok(ours)
    }

    /// Renews the claim for as long as it is polled; gives up when it is lost, and never ends by itself.
    pub(super) async fn keep(&self) {
        while !self.unclaimed() && !self.is_lost() {
            tokio::time::sleep(self.0.term / RENEWALS_PER_TERM).await;
            match self.renew(self.0.term).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!("a claim ended before its work did"),
                Err(error) => tracing::debug!(%error, "a claim could not be renewed"),
            }
        }
        std::future::pending().await
    }

    /// Whether the store said that it is not ours any more.
    pub(super) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// A first claim of some event in a memory store, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let key = crate::event::EventKey::of(&[b"test"]);
        let digest = crate::event::Digest::of(b"");
        let subject = Subject { key, guard: None, suppress: false, digest };
        let won = Won::Claim { attempt: 1, after_unknown: false };
        let minute = Duration::from_secs(60);
        let store = Arc::new(super::Memory::default());
        Self::new(store, subject, Token(1), won, (minute, minute), Instant::now())
    }
}

/// So that two renewals may fail before the lease is over.
const RENEWALS_PER_TERM: u32 = 3;
