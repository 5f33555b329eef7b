//! The stage: claims, waits for twins, carries the claim through the work, settles it.

use std::{
    borrow::Cow,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::{
    DedupStore, Fresh, Joins, Lease, Policy, StoreError, Subject,
    claim::{Claimed, Input, Token},
    clock::Watch,
    course::{self, Course, Way},
    join::{Place, Seat},
};
use crate::{
    answer::{Answer, Answered, Notes, Outcome, Refusal, annotate},
    crash,
    identify::Event,
    route::Routed,
    stage::{Next, Stage},
    telemetry::{DedupMetrics, SourceMetrics},
};

/// How long at least it is tried to write how an attempt ended, if the store fails.
const SETTLE_RETRY_MIN: Duration = Duration::from_secs(30);
/// How often a claim of another process is looked at, at first and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));
/// When what the store did not do is tried again, at most.
const RETRY_SOON: Duration = Duration::from_secs(1);

const NOT_WRITTEN: &str = "how an event ended could not be written: a duplicate may follow";

/// The stage.
#[derive(Clone, Debug)]
pub struct Dedup(pub Arc<Parts>);

/// What the stage works with.
#[derive(Debug)]
pub struct Parts {
    /// Where claims are kept.
    pub store: Arc<dyn DedupStore>,
    /// What the source says about duplicates.
    pub policy: Arc<Policy>,
    /// The events under way in this process; one for all stacks.
    pub joins: Joins,
    /// Knows the tasks that settle late.
    pub tracker: TaskTracker,
    /// Metrics of the store.
    pub metrics: DedupMetrics,
    /// Metrics of the source.
    pub source: SourceMetrics,
    /// For how long the machine was suspended so far: [`suspended`](super::suspended).
    pub suspended: fn() -> Duration,
}

impl<N: Next<Fresh>> Stage<Routed, N> for Dedup {
    async fn pass(self, routed: Routed, next: N) -> Answer {
        let subject = self.0.subject(routed.event());
        let may_be_forged = routed.event().may_be_forged();
        let answer = self.once(subject, |lease| next.oneshot(Fresh::new(routed, lease))).await;
        if may_be_forged { not_acknowledged(answer) } else { answer }
    }
}

/// A replay in other bytes than what was delivered is not acknowledged: it may be the genuine event, and the other one was
/// made of it by somebody who was faster.
fn not_acknowledged(answer: Answer) -> Answer {
    match answer {
        Ok(Answered { what: Outcome::SuspectedReplay, notes }) => {
            Err(Answered { what: Refusal::SignedBefore, notes })
        }
        answer => answer,
    }
}

impl Dedup {
    /// Does `work` unless a twin does or did.
    pub async fn once<F>(&self, subject: Subject, work: impl FnOnce(Lease) -> F + Send) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        let until = Instant::now() + self.0.policy.join_timeout;
        match self.seat(&subject, until).await {
            Ok(seat) => self.lead(seat, subject, until, work).await,
            Err(answer) => *answer,
        }
    }

    /// Waits until this request is the first of its twins in this process, or has the answer of the one that was.
    async fn seat(&self, subject: &Subject, until: Instant) -> Result<Seat, Box<Answer>> {
        let in_flight = || Err(Box::new(in_flight(self.0.policy.lease)));
        loop {
            match self.0.joins.enter(subject) {
                Place::Leader(seat) => return Ok(seat),
                Place::Answered(answer) => return Err(Box::new(answer)),
                Place::Full => return in_flight(),
                Place::Follower(answer) => match timeout_at(until, answer).await {
                    Ok(Ok(answer)) => return Err(Box::new(answer)),
                    Ok(Err(_let_go)) => {}
                    Err(_elapsed) => return in_flight(),
                },
            }
        }
    }

    /// Claims, and does what the claim's answer says.
    async fn lead<F>(
        &self,
        mut seat: Seat,
        subject: Subject,
        until: Instant,
        work: impl FnOnce(Lease) -> F + Send,
    ) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        crash::point("before_claim");
        let (way, age, took) = self.claim(&mut seat, &subject, until).await;
        let timed = |answer| annotate(answer, |notes| notes.dedup = Some(took));
        let looks_after = seat.is_doubtful() && course::looks_after(&way);
        let answer = match way {
            Way::Work(won) => {
                crash::point("after_claim");
                let lease = Lease::new(self.0.clone(), subject, seat.token(), won, age);
                return timed(self.carry(seat, lease, work).await);
            }
            Way::Known(outcome) => Ok(outcome.into()),
            Way::Later(left) => in_flight(left),
            Way::Doubt(error) => failed(Refusal::StoreUnavailable, error.to_string()),
        };
        if looks_after {
            seat.unanswered(self.0.policy.lease);
            self.let_go_later(subject);
        }
        seat.publish(&answer);
        timed(answer)
    }

    /// Claims; while another process works on the event, again and again. An id that was done with another body is counted. Says
    /// when the last claim was asked for, too, and how long it took.
    async fn claim(
        &self,
        seat: &mut Seat,
        subject: &Subject,
        until: Instant,
    ) -> (Way, Watch, Duration) {
        let (mut pause, mut seen) = (POLL.0, None);
        loop {
            let Timed { done: claimed, age, took } = self.0.claim(subject, seat.token()).await;
            if claimed.is_err() {
                seat.doubt();
            }
            if matches!(claimed, Ok(Claimed::Done { same_body: false })) {
                self.0.source.body_mismatch.inc();
            }
            let patient = Instant::now() + pause <= until;
            match course::after_claim(claimed, seen, patient, &self.0.policy) {
                Course::Take(way) => return (way, age, took),
                Course::Again(in_flight) => {
                    seen = Some(in_flight);
                    sleep(pause).await;
                    pause = (pause * 3 / 2).min(POLL.1);
                }
            }
        }
    }

    /// Does the work under the claim and settles it. A panic below is a bug whose effect nobody knows.
    async fn carry<F>(&self, seat: Seat, lease: Lease, work: impl FnOnce(Lease) -> F) -> Answer
    where
        F: Future<Output = Answer> + Send,
    {
        let work = AssertUnwindSafe(work(lease.clone())).catch_unwind();
        let answer = tokio::select! {
            biased;
            answer = work => answer.unwrap_or_else(|_panic| Err(Refusal::Bug.into())),
            () = lease.keep() => Err(Refusal::Bug.into()),
        };
        let is_overrun = lease.remaining().is_zero();
        let settlement = course::settlement(&answer, seat.token(), &self.0.policy);
        crash::point("before_complete");
        let unsettled = if course::settles_first(lease.won(), &answer) {
            let settled = lease.settle(settlement).await;
            settled.err().map(|error| format!("not settled: {error}").into())
        } else {
            Some("forwarded without a claim: the dedup store is unavailable".into())
        };
        crash::point("after_complete");
        let settled = unsettled.is_none();
        let answer = annotate(answer, |notes| {
            notes.attempt = Some(lease.attempt());
            if let Some(unsettled) = unsettled {
                add(notes, unsettled);
            }
            if is_overrun {
                add(notes, "the claim ended before the work did".into());
            }
        });
        lease.ended(&answer);
        if course::keeps_seat(settlement, settled) {
            self.settle_later(seat, &answer, lease, settlement);
        } else {
            seat.publish(&answer);
        }
        answer
    }

    /// Goes on trying to write how it ended, for a time; meanwhile twins that come here get the answer. What a crash or a
    /// longer outage leaves is a lease that ends by itself.
    fn settle_later(&self, seat: Seat, answer: &Answer, lease: Lease, settlement: Input) {
        let kept = match seat.keep(answer) {
            Ok(kept) => kept,
            Err(seat) => {
                tracing::error!("{NOT_WRITTEN}: too many events wait for the store");
                return seat.publish(answer);
            }
        };
        let deadline = Instant::now() + SETTLE_RETRY_MIN.max(self.0.policy.lease);
        self.0.tracker.spawn(async move {
            let mut pause = POLL.0;
            while Instant::now() < deadline {
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_SOON);
                if lease.settle(settlement).await.is_ok() {
                    return drop(kept);
                }
            }
            tracing::error!("{NOT_WRITTEN}");
        });
    }

    /// A claim without an answer may have been carried out after all. The next try here takes it up; nobody elsewhere shall
    /// wait for its lease to end.
    fn let_go_later(&self, subject: Subject) {
        let (parts, lease) = (self.0.clone(), self.0.policy.lease);
        self.0.tracker.spawn(async move {
            sleep(RETRY_SOON).await;
            // Who has the seat by now has the token with it, and looks after it.
            let Place::Leader(seat) = parts.joins.enter(&subject) else { return };
            if !seat.is_doubtful() {
                return; // it was taken up
            }
            let (store, token) = (&parts.store, seat.token());
            // First whether the store answers: a release that comes late must not meet a claim that was taken up again.
            if course::lets_go(&store.apply(&subject, Input::Renew(token, lease)).await) {
                store.apply(&subject, Input::Release(token)).await.ok(); // if this fails, the lease does end
            } else {
                seat.unanswered(lease); // it may still be on its way
            }
        });
    }
}

impl Parts {
    fn subject(&self, event: &Event) -> Subject {
        Subject {
            key: event.about().key,
            guard: event.guard(),
            suppress: self.policy.replay_guard,
            digest: event.about().digest,
        }
    }

    pub(super) async fn claim(&self, subject: &Subject, token: Token) -> Timed<Claimed> {
        let Policy { lease, window, .. } = *self.policy;
        self.timed("claim", self.store.claim(subject, token, lease, window)).await
    }

    /// Times an operation and notes whether the store answers.
    pub(super) async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Timed<T> {
        let age = Watch::start(self.suspended);
        let done = work.await;
        let took = age.elapsed();
        self.metrics.operations.observe(operation, took.as_secs_f64());
        self.metrics.up.set(i64::from(done.is_ok()));
        Timed { done, age, took }
    }
}

/// What an operation of the store brought, when it was begun, and how long it took.
pub(super) struct Timed<T> {
    pub(super) done: Result<T, StoreError>,
    age: Watch,
    took: Duration,
}

fn failed(refusal: Refusal, error: String) -> Answer {
    let mut answered = Answered::from(refusal);
    add(&mut answered.notes, error.into());
    Err(answered)
}

/// A twin is under way for at most `left`: come again then, but not all at once.
fn in_flight(left: Duration) -> Answer {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let jitter = Duration::from_millis(TURN.fetch_add(617, Ordering::Relaxed) % 1000);
    Err(Refusal::InFlight { retry_after: left + jitter }.into())
}

/// Adds to what went wrong.
fn add(notes: &mut Notes, error: Cow<'static, str>) {
    notes.error = Some(match notes.error.take() {
        Some(first) => format!("{first}; {error}").into(),
        None => error,
    });
}
