//! The stage: claims, waits for twins, carries the claim through the work, settles it.

use std::{
    borrow::Cow,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::time::{Instant as Deadline, sleep, timeout_at};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::{
    DedupStore, Fresh, Joins, Lease, OnStoreError, Policy, SameIdOtherBody, StoreError, Subject,
    claim::{Claimed, State, Token},
    join::{Place, Seat},
    lease::Won,
};
use crate::{
    answer::{Answer, Answered, Notes, Outcome, Refusal, Settlement, annotate},
    event::{Digest, EventKey},
    identify::Event,
    route::Routed,
    stage::{Next, Stage},
    telemetry::{DedupMetrics, SourceMetrics},
};

/// How long *done* is tried to be written after an upstream accepted, if the store fails.
const COMPLETE_RETRY_MAX: Duration = Duration::from_secs(30);
/// How often a claim of another process is looked at, at first and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));
/// When a twin should come again whose leader failed or was about to finish.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The stage.
#[derive(Clone, Debug)]
pub struct Dedup(Arc<Parts>);

/// What the stage works with.
#[derive(Debug)]
pub struct Parts {
    /// Where claims are kept.
    pub store: Arc<dyn DedupStore>,
    /// What the source says about duplicates.
    pub policy: Arc<Policy>,
    /// The events under way in this process; one for all stacks.
    pub joins: Joins,
    /// Knows the tasks that write *done* late.
    pub tracker: TaskTracker,
    /// Metrics of the store.
    pub metrics: DedupMetrics,
    /// Metrics of the source.
    pub source: SourceMetrics,
}

impl From<Parts> for Dedup {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl<N: Next<Fresh>> Stage<Routed, N> for Dedup {
    async fn pass(self, routed: Routed, next: N) -> Answer {
        let subject = self.0.subject(routed.event());
        self.once(subject, |lease| next.oneshot(Fresh::new(routed, lease))).await
    }
}

impl Dedup {
    /// Does `work` unless a twin does or did.
    async fn once<F>(&self, subject: Subject, work: impl FnOnce(Lease) -> F + Send) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        let joined_until = Deadline::now() + self.0.policy.join_timeout;
        match self.seat(&subject, joined_until).await {
            Ok(seat) => {
                let answer = self.lead(subject, joined_until, work).await;
                seat.publish(&answer);
                answer
            }
            Err(answer) => *answer,
        }
    }

    /// Waits until this request is the first of its twins in this process, or has the answer of the one that was.
    async fn seat(&self, subject: &Subject, until: Deadline) -> Result<Seat, Box<Answer>> {
        loop {
            match self.0.joins.enter(subject) {
                Place::Leader(seat) => return Ok(seat),
                Place::Full => return Err(Box::new(in_flight(self.0.policy.lease))),
                Place::Follower { same_body, answer } => match timeout_at(until, answer).await {
                    Ok(Ok(answer)) if same_body => return Err(Box::new(answer)),
                    // Another body is judged by itself once the first is through; a leader that vanished answers nobody.
                    Ok(_) => {}
                    Err(_elapsed) => return Err(Box::new(in_flight(self.0.policy.lease))),
                },
            }
        }
    }

    /// Claims, and does what the claim's answer says.
    async fn lead<F>(
        &self,
        mut subject: Subject,
        joined_until: Deadline,
        work: impl FnOnce(Lease) -> F + Send,
    ) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        let Some(token) = Token::random() else {
            return failed(Refusal::StoreUnavailable, "the random source failed".into());
        };
        let began = Instant::now();
        let claimed = self.claim(&mut subject, token).await;
        let took = began.elapsed();
        let lease = |won| {
            let Policy { lease, window, .. } = *self.0.policy;
            Lease::new(self.0.store.clone(), subject, token, won, (lease, window), began)
        };
        let answer = match claimed {
            Ok(Claimed::Won { attempt, after_unknown }) => {
                self.carry(lease(Won::Claim { attempt, after_unknown }), work).await
            }
            Ok(Claimed::InFlight { left }) => self.watch(&subject, left, joined_until).await,
            Ok(Claimed::Done { same_body: true }) => Ok(Outcome::Duplicate(None).into()),
            Ok(Claimed::Done { same_body: false }) => Ok(Outcome::SameIdOtherBody.into()),
            Ok(Claimed::Replayed) => Ok(Outcome::SuspectedReplay.into()),
            Err(error) => match self.0.policy.on_store_error {
                OnStoreError::Reject => failed(Refusal::StoreUnavailable, error.to_string()),
                OnStoreError::Forward => self.carry(lease(Won::Nothing), work).await,
            },
        };
        annotate(answer, |notes| notes.dedup = Some(took))
    }

    /// Claims. An id that was done with another body is counted, and claimed as an event of its own where the source wants
    /// both delivered.
    async fn claim(&self, subject: &mut Subject, token: Token) -> Result<Claimed, StoreError> {
        let claimed = self.0.claim(subject, token).await?;
        if claimed != (Claimed::Done { same_body: false }) {
            return Ok(claimed);
        }
        self.0.source.body_mismatch.inc();
        match self.0.policy.same_id_other_body {
            SameIdOtherBody::Flag => Ok(claimed),
            SameIdOtherBody::Deliver => {
                subject.key = apart(subject.key, subject.digest);
                self.0.claim(subject, token).await
            }
        }
    }

    /// Does the work under the claim and settles it. A panic below is a bug whose effect nobody knows.
    async fn carry<F>(&self, lease: Lease, work: impl FnOnce(Lease) -> F) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        let work = AssertUnwindSafe(work(lease.clone())).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = work => answer.unwrap_or_else(|_panic| Err(Refusal::Bug.into())),
            () = lease.keep() => Err(Refusal::Bug.into()),
        };
        let trouble = self.settle(&lease, &answer).await;
        annotate(answer, |notes| {
            notes.attempt = Some(lease.attempt());
            if let Some(trouble) = trouble {
                add(notes, trouble);
            }
            if lease.is_lost() {
                add(notes, "the claim ended before the work did".into());
            }
        })
    }

    /// Says in the store how it ended; returns what went wrong with that. Whatever does, the answer stands.
    async fn settle(&self, lease: &Lease, answer: &Answer) -> Option<Cow<'static, str>> {
        let settled = match answer.as_ref().map_err(|refused| refused.what.settlement()) {
            Ok(_) if lease.unclaimed() => {
                self.complete_later(lease.clone());
                return Some("forwarded without a claim: the dedup store is unavailable".into());
            }
            Ok(_) => {
                let done = self.0.timed("complete", lease.complete()).await;
                if done.is_err() {
                    self.complete_later(lease.clone());
                }
                done
            }
            Err(_) if lease.unclaimed() => return None,
            Err(Settlement::Release) => self.0.timed("release", lease.release()).await.map(drop),
            Err(Settlement::Hold) => {
                self.0.timed("hold", lease.hold(self.0.policy.hold)).await.map(drop)
            }
        };
        let error = settled.err()?;
        tracing::error!(%error, "a claim could not be settled: a duplicate may follow");
        Some(format!("not settled: {error}").into())
    }

    /// Goes on trying to write *done*, for a time. What a crash or a longer outage leaves is a lease that ends by itself.
    fn complete_later(&self, lease: Lease) {
        let parts = self.0.clone();
        self.0.tracker.spawn(async move {
            let deadline = Instant::now() + COMPLETE_RETRY_MAX;
            let mut pause = POLL.0;
            while Instant::now() < deadline {
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_SOON);
                if parts.timed("complete", lease.complete()).await.is_ok() {
                    return;
                }
            }
            tracing::error!(
                "an accepted event could not be recorded as done: a duplicate may follow"
            );
        });
    }

    /// Waits for a claim of another process, or of one that is gone, to become *done*.
    async fn watch(&self, subject: &Subject, mut left: Duration, until: Deadline) -> Answer {
        let mut pause = POLL.0;
        loop {
            match self.0.store.look(subject).await {
                Ok(State::Done { digest, .. }) if digest == subject.digest => {
                    return Ok(Outcome::Duplicate(None).into());
                }
                // Done with another body, or given up: the next try is judged afresh.
                Ok(State::Done { .. } | State::Absent) => return in_flight(RETRY_SOON),
                Ok(State::Unknown { left, .. }) => return in_flight(left),
                Ok(State::Leased { left: now_left, .. }) => left = now_left,
                Err(_) => {} // the deadline bounds this
            }
            if Deadline::now() + pause > until {
                return in_flight(left);
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL.1);
        }
    }
}

impl Parts {
    fn subject(&self, event: &Event) -> Subject {
        Subject {
            key: event.about().key,
            guard: event.guard().map(|guard| guard.key),
            suppress: self.policy.replay_guard,
            digest: event.about().digest,
        }
    }

    async fn claim(&self, subject: &Subject, token: Token) -> Result<Claimed, StoreError> {
        let Policy { lease, window, .. } = *self.policy;
        let claimed = self.timed("claim", self.store.claim(subject, token, lease, window)).await;
        if let Some(entries) = self.store.entries() {
            self.metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        }
        claimed
    }

    /// Times an operation and notes whether the store answers.
    async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let done = work.await;
        self.metrics.took(operation, began.elapsed().as_secs_f64());
        self.metrics.up.set(i64::from(done.is_ok()));
        done
    }
}

impl Token {
    /// A new token; none where the system's random source fails, because a token that is not random fences nothing.
    fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

/// The key of an event that shares its id with another one but not its body.
fn apart(key: EventKey, digest: Digest) -> EventKey {
    EventKey::of(&[b"other body", &key.0, &digest.0])
}

fn failed(refusal: Refusal, error: String) -> Answer {
    let mut answered = Answered::from(refusal);
    add(&mut answered.notes, error.into());
    Err(answered)
}

/// A twin is under way for at most `left`: come again then, but not all at once.
fn in_flight(left: Duration) -> Answer {
    let spread = Token::random().map_or(0, |token| token.0 % 1000);
    let jitter = Duration::from_millis(u64::try_from(spread).unwrap_or_default());
    Err(Refusal::InFlight { retry_after: left + jitter }.into())
}

/// Adds to what went wrong.
fn add(notes: &mut Notes, error: Cow<'static, str>) {
    notes.error = Some(match notes.error.take() {
        Some(first) => format!("{first}; {error}").into(),
        None => error,
    });
}

#[cfg(test)]
mod tests;
