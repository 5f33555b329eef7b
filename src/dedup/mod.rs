//! Lets one of many equal events pass.
//!
//! The one maker of [`Fresh`]. The protocol is `protocol` §2: a claim is a lease with a token; *done* is written whatever
//! is there; only the owner releases. The store may forget and may fail: that costs duplicates, never events.

pub mod claim;
mod embedded;
mod memory;
mod redis;

use std::{fmt, sync::Arc, time::Duration};

pub use embedded::Embedded;
pub use memory::Memory;
pub use redis::{Redis, RedisSettings};

use crate::{
    event::{Digest, EventKey},
    route::Routed,
    stage::BoxFuture,
};
use claim::{Claimed, Token};

/// The store did not do as asked, or nobody knows whether it did.
#[derive(Clone, Debug, thiserror::Error)]
#[error("dedup store: {0}")]
pub struct StoreError(pub String);

/// Which event, and what guards against its bytes being replayed under another id.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The event's key.
    pub key: EventKey,
    /// The replay guard's key, for sources whose signature does not cover the id.
    pub guard: Option<EventKey>,
    /// SHA-256 of the body: the same id with another body is flagged.
    pub digest: Digest,
}

/// Where claims are kept. Every operation is one round trip; every one is safe to repeat with the same token.
pub trait DedupStore: fmt::Debug + Send + Sync + 'static {
    /// Claims an event for `lease`, or says who has it.
    fn claim<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>>;

    /// Records the event as done for `window`, whatever is there.
    fn complete<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        window: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Gives a claim back; false where it is no longer ours.
    fn release<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Keeps everyone away for `hold`, because the outcome is unknown; false where the claim is no longer ours.
    fn hold<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        hold: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Extends a claim; false where it is no longer ours.
    fn renew<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// What is known about the event, without changing it.
    fn look<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<claim::State, StoreError>>;

    /// Whether the store can be used now, and if not, why (readiness, `check`).
    fn health(&self) -> BoxFuture<'_, Result<Health, StoreError>>;

    /// The backend's name as a metric label: `memory`, `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// How many events are remembered, where that is cheap to know.
    fn entries(&self) -> Option<u64>;
}

/// A store that can be used.
#[derive(Clone, Debug)]
pub struct Health {
    /// For people: version, latency, eviction policy.
    pub summary: String,
}

/// What a source says about duplicates.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a completed event is remembered.
    pub window: Duration,
    /// How long an unfinished one blocks its twins; renewed while work goes on.
    pub lease: Duration,
    /// How long a twin waits for the first one's answer.
    pub join_timeout: Duration,
    /// How long an unknown outcome blocks a retry; zero lets it through at once.
    pub hold: Duration,
    /// What happens to an event whose id was done before with another body.
    pub same_id_other_body: SameIdOtherBody,
    /// Whether the replay guard suppresses.
    pub replay_guard: bool,
    /// What happens to events while the store does not answer.
    pub on_store_error: OnStoreError,
}

/// What happens to events while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreError {
    /// They are refused with 503; their senders try again.
    Reject,
    /// They pass without a claim, marked as such: duplicates may reach the upstream.
    Forward,
}

/// What happens to an event whose id was done before with another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameIdOtherBody {
    /// Treated as a duplicate, and said.
    Flag,
    /// Delivered as an event of its own.
    Deliver,
}

/// An event that we, and only we, may deliver.
#[derive(Debug)]
pub struct Fresh {
    routed: Routed,
    lease: Lease,
}

impl Fresh {
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
}

/// A claim that is ours until it is settled.
#[derive(Clone, Debug)]
pub struct Lease {
    store: Arc<dyn DedupStore>,
    subject: Subject,
    token: Token,
    attempt: u32,
    window: Duration,
    after_unknown: bool,
}

impl Lease {
    /// How many times the event was claimed, this time included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether an earlier attempt ended in an unknown outcome (`Gatepost-Previous-Attempt: unknown`).
    pub fn after_unknown(&self) -> bool {
        self.after_unknown
    }

    /// Records a success that came after the attempt had been given up.
    pub async fn settle_late(&self) -> Result<(), StoreError> {
        self.store.complete(&self.subject, self.token, self.window).await
    }
}
