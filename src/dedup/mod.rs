//! Lets one of many equal events pass.
//!
//! The one maker of [`Fresh`]. The protocol is in [`claim`], [`course`] and [`twins`]: a claim is a lease with a token; *done*
//! is written whatever is there; only the owner releases. A store may forget and may fail: that costs duplicates, not events.

pub mod claim;
mod clock;
pub mod course;
mod embedded;
mod join;
mod lease;
mod memory;
mod redis;
mod stage;
pub mod twins;

use std::{fmt, time::Duration};

pub use clock::suspended;
pub use embedded::Embedded;
pub use join::{Joins, LATE_MAX};
pub use lease::{Fresh, Lease};
pub use memory::Memory;
pub use redis::{Redis, RedisSettings};
pub use stage::{Dedup, Parts};

use crate::{
    event::{Digest, EventKey},
    stage::BoxFuture,
    units::choices,
};
use claim::{Claimed, Input, Reply, Token};

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
    /// Whether a hit of the guard suppresses; where it does not, the guard is kept all the same, for the day it shall.
    pub suppress: bool,
    /// SHA-256 of the body: the same id with another body is flagged.
    pub digest: Digest,
}

/// Where claims are kept.
pub trait DedupStore: fmt::Debug + Send + Sync + 'static {
    /// Carries out one operation of the protocol: in one round trip, and safe to repeat.
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>>;

    /// For people, how the store is (version, latency, eviction policy), or why it cannot be used now (readiness, `check`).
    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>>;

    /// The backend's name as a metric label: `memory`, `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// How many events are remembered, where that is cheap to know.
    fn entries(&self) -> Option<u64>;
}

impl dyn DedupStore {
    /// Claims an event for `lease`, or says who has it; how often it was tried is remembered for `window`.
    pub async fn claim(
        &self,
        subject: &Subject,
        token: Token,
        lease: Duration,
        window: Duration,
    ) -> Result<Claimed, StoreError> {
        match self.run(subject, Input::Claim(token, lease, window)).await? {
            Reply::Claimed(claimed) => Ok(claimed),
            Reply::Applied(_) => Err(StoreError("a claim has no answer".into())),
        }
    }

    /// Carries out anything but a claim; says whether it was.
    pub async fn apply(&self, subject: &Subject, input: Input) -> Result<bool, StoreError> {
        Ok(self.run(subject, input).await? == Reply::Applied(true))
    }
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
    /// Whether the replay guard suppresses.
    pub replay_guard: bool,
    /// What happens to events while the store does not answer.
    pub on_store_error: OnStoreError,
}

choices! {
    /// What happens to events while the store does not answer.
    pub enum OnStoreError {
        /// They are refused with 503; their senders try again.
        Reject,
        /// They pass without a claim, marked as such: duplicates may reach the upstream.
        Forward,
    }
}
