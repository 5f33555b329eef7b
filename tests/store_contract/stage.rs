//! The stage over a memory store, with work that does as it is told.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Mutex, atomic::AtomicU32},
};

use futures_util::{FutureExt as _, poll};
use gatepost::{
    answer::{Answer, Outcome, Refusal, Relayed},
    dedup::{Dedup, Joins, LATE_MAX, Lease, OnStoreError, Parts, Policy, claim::Reply},
    stage::BoxFuture,
    telemetry::Metrics,
};
use http::StatusCode;
use tokio::sync::Notify;

use super::{faulty::Faulty, *};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A gateway's dedup stage, over a store that others may share.
pub(crate) struct World {
    pub(crate) stage: Dedup,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    tracker: TaskTracker,
    ran: Arc<AtomicU32>,
}

pub(crate) fn policy() -> Policy {
    Policy {
        window: Duration::from_hours(1),
        lease: Duration::from_mins(1),
        join_timeout: SOON,
        hold: Duration::from_secs(30),
        replay_guard: true,
        on_store_error: OnStoreError::Reject,
    }
}

impl World {
    pub(crate) fn new(store: Arc<dyn DedupStore>, policy: Policy) -> Self {
        Self::on_a_machine(gatepost::dedup::suspended, store, policy)
    }

    /// On a machine that was suspended for that long so far.
    pub(crate) fn on_a_machine(
        suspended: fn() -> Duration,
        store: Arc<dyn DedupStore>,
        policy: Policy,
    ) -> Self {
        let (metrics, tracker) = (Metrics::new(), TaskTracker::new());
        let stage = Dedup(Arc::new(Parts {
            store: store.clone(),
            policy: Arc::new(policy),
            joins: Joins::default(),
            tracker: tracker.clone(),
            metrics: metrics.dedup("memory"),
            source: metrics.source("stripe", "proxy", 1),
            suspended,
        }));
        Self { stage, store, metrics, tracker, ran: Arc::default() }
    }

    /// Lets `subject` pass, to work that answers `answer`.
    pub(crate) async fn pass(&self, subject: Subject, answer: Answer) -> Answer {
        self.pass_when(subject, std::future::ready(()), answer).await
    }

    /// Lets `subject` pass, to work that answers `answer` when `ready`.
    pub(crate) async fn pass_when(
        &self,
        subject: Subject,
        ready: impl Future<Output = ()> + Send,
        answer: Answer,
    ) -> Answer {
        let ran = self.ran.clone();
        let work = |_lease| async move {
            ran.fetch_add(1, Ordering::SeqCst);
            ready.await;
            answer
        };
        self.stage.once(subject, work).await
    }

    /// Waits until nothing is to be settled any more.
    pub(crate) async fn settled(&self) {
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("all is settled");
    }

    fn ran(&self) -> u32 {
        self.ran.load(Ordering::SeqCst)
    }

    /// Waits until work has begun `times` times.
    async fn begun(&self, times: u32) {
        let begun = async {
            while self.ran() < times {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, begun).await.expect("work begins");
    }
}

pub(crate) fn over_memory() -> World {
    World::new(Arc::new(Memory::default()), policy())
}

pub(crate) fn subject(id: &str, body: &str) -> Subject {
    let (key, digest) = (EventKey::of(&[id.as_bytes()]), Digest::of(body.as_bytes()));
    Subject { key, guard: None, suppress: true, digest }
}

pub(crate) fn relayed() -> Relayed {
    Relayed { status: StatusCode::CREATED, content_type: None, body: "thanks".into(), full: false }
}

#[expect(clippy::unnecessary_wraps, reason = "an answer like the others")]
pub(crate) fn accepted() -> Answer {
    Ok(Outcome::Accepted(relayed()).into())
}

pub(crate) fn refused(refusal: Refusal) -> Answer {
    Err(refusal.into())
}

pub(crate) fn what(answer: Answer) -> Result<Outcome, Refusal> {
    answer.map(|answered| answered.what).map_err(|refused| refused.what)
}

pub(crate) fn is_in_flight(answer: Answer) -> bool {
    matches!(what(answer), Err(Refusal::InFlight { .. }))
}

#[tokio::test]
async fn an_accepted_event_passes_once() {
    let world = over_memory();
    let first = world.pass(subject("a", ""), accepted()).await.unwrap();
    assert_eq!(first.what, Outcome::Accepted(relayed()));
    assert_eq!(first.notes.attempt, Some(1));
    assert!(first.notes.dedup.is_some());
    let second = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(second, Ok(Outcome::Duplicate(None)));
    assert_eq!(
        what(world.pass(subject("b", ""), accepted()).await),
        Ok(Outcome::Accepted(relayed()))
    );
    assert_eq!(world.ran(), 2);
    assert!(world.metrics.render().contains("gatepost_dedup_store_up{store=\"memory\"} 1"));
}

#[tokio::test]
async fn twins_get_the_leaders_answer() {
    let world = over_memory();
    let go = Notify::new();
    let leader = world.pass_when(subject("a", ""), go.notified(), accepted());
    let twins = async {
        world.begun(1).await;
        let mut twins = Vec::new();
        for _ in 0..49 {
            twins.push(Box::pin(world.pass(subject("a", ""), accepted())));
        }
        for twin in &mut twins {
            assert!(futures_util::poll!(twin).is_pending(), "a twin waits");
        }
        go.notify_one();
        futures_util::future::join_all(twins).await
    };
    let (leader, twins) = tokio::join!(leader, twins);
    assert_eq!(what(leader), Ok(Outcome::Accepted(relayed())));
    for twin in twins {
        assert_eq!(what(twin), Ok(Outcome::Duplicate(Some(relayed()))));
    }
    assert_eq!(world.ran(), 1);
}

/// The answers of a leader there that ends with `answer`, and of a twin here that came while it was under way.
async fn with_a_twin(there: &World, here: &World, answer: Answer) -> (Answer, Answer) {
    let go = Notify::new();
    let leader = there.pass_when(subject("a", ""), go.notified(), answer);
    let twin = async {
        there.begun(1).await;
        let mut twin = Box::pin(here.pass(subject("a", ""), accepted()));
        assert!(futures_util::poll!(&mut twin).is_pending());
        go.notify_one();
        twin.await
    };
    tokio::join!(leader, twin)
}

#[tokio::test]
async fn twins_of_a_failure_fail_too_and_the_next_try_passes() {
    let world = over_memory();
    let (leader, twin) = with_a_twin(&world, &world, refused(Refusal::UpstreamFailed)).await;
    assert_eq!(what(leader), Err(Refusal::UpstreamFailed));
    assert_eq!(what(twin), Err(Refusal::UpstreamFailed));
    let retry = world.pass(subject("a", ""), accepted()).await.unwrap();
    assert_eq!((retry.what, retry.notes.attempt), (Outcome::Accepted(relayed()), Some(2)));
}

#[tokio::test]
async fn beyond_a_thousand_twins_are_sent_away_until_one_has_gone() {
    let (world, go) = (over_memory(), Notify::new());
    let mut leader = Box::pin(world.pass_when(subject("a", ""), go.notified(), accepted()));
    assert!(poll!(&mut leader).is_pending());
    let twin = || Box::pin(world.pass(subject("a", ""), accepted()));
    let mut twins: Vec<_> = (0..1024).map(|_| twin()).collect();
    for twin in &mut twins {
        assert!(poll!(twin).is_pending());
    }
    assert!(is_in_flight(twin().now_or_never().expect("an answer at once")));
    drop(twins.pop());
    let mut last = twin();
    assert!(poll!(&mut last).is_pending(), "there is room again");
    twins.push(last);
    go.notify_one();
    assert_eq!(what(leader.await), Ok(Outcome::Accepted(relayed())));
    for twin in twins {
        assert_eq!(what(twin.await), Ok(Outcome::Duplicate(Some(relayed()))));
    }
}

#[tokio::test]
async fn a_twin_waits_for_another_process_too() {
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let here = World::new(store.clone(), policy());
    let there = World::new(store, policy());
    let (leader, twin) = with_a_twin(&there, &here, accepted()).await;
    assert!(leader.is_ok());
    assert_eq!(what(twin), Ok(Outcome::Duplicate(None)));
    assert_eq!(here.ran(), 0);
}

#[tokio::test]
async fn a_twin_takes_over_where_another_process_failed() {
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let here = World::new(store.clone(), policy());
    let there = World::new(store, policy());
    let (leader, twin) = with_a_twin(&there, &here, refused(Refusal::UpstreamFailed)).await;
    assert_eq!(what(leader), Err(Refusal::UpstreamFailed));
    let twin = twin.unwrap();
    assert_eq!((twin.what, twin.notes.attempt), (Outcome::Accepted(relayed()), Some(2)));
}

/// A store that takes its time, and notes when it was asked.
#[derive(Debug)]
struct Slow {
    memory: Memory,
    takes: Duration,
    asked: Mutex<Vec<tokio::time::Instant>>,
}

impl DedupStore for Slow {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        self.asked.lock().unwrap().push(tokio::time::Instant::now());
        Box::pin(async move {
            sleep(self.takes).await;
            self.memory.run(subject, input).await
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        self.memory.health()
    }

    fn kind(&self) -> &'static str {
        self.memory.kind()
    }

    fn entries(&self) -> Option<u64> {
        self.memory.entries()
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_elsewhere_is_looked_at_soon_then_less_often_and_not_beyond_patience() {
    let takes = Duration::from_millis(300);
    let store = Arc::new(Slow { memory: Memory::default(), takes, asked: Mutex::default() });
    let elsewhere = Input::Claim(A, HOUR, HOUR);
    store.memory.run(&subject("a", ""), elsewhere).await.unwrap();
    let (begun, world) = (tokio::time::Instant::now(), World::new(store.clone(), policy()));
    assert!(is_in_flight(world.pass(subject("a", ""), accepted()).await));
    let asked = store.asked.lock().unwrap().clone();
    let pauses: Vec<_> =
        asked.windows(2).map(|two| (two[1] - two[0]).checked_sub(takes).unwrap()).collect();
    assert_eq!(pauses[0], Duration::from_millis(50));
    assert!(pauses[1] < Duration::from_millis(100), "{pauses:?}");
    assert!(pauses.is_sorted() && pauses.ends_with(&[Duration::from_millis(200)]), "{pauses:?}");
    let last = *asked.last().unwrap() - begun;
    assert!(last <= SOON && last + takes + Duration::from_millis(200) > SOON, "{last:?}");
}

#[tokio::test]
async fn twins_that_are_sent_away_come_back_after_the_lease_and_not_all_at_once() {
    let impatient = Policy { join_timeout: Duration::ZERO, ..policy() };
    let world = World::new(Arc::<Memory>::default(), impatient);
    let leader = world.pass_when(subject("a", ""), std::future::pending(), accepted());
    let mut leader = Box::pin(leader);
    assert!(poll!(&mut leader).is_pending());
    let mut delays = BTreeSet::new();
    for _ in 0..2000 {
        let sent_away = what(world.pass(subject("a", ""), accepted()).await);
        let Err(Refusal::InFlight { retry_after }) = sent_away else { panic!("{sent_away:?}") };
        delays.insert(retry_after.checked_sub(policy().lease).expect("not before"));
    }
    assert!(delays.len() > 500 && *delays.last().unwrap() < Duration::from_secs(1), "{delays:?}");
}

#[tokio::test]
async fn a_wait_in_vain_ends_with_in_flight() {
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let short = Policy { join_timeout: Duration::from_millis(20), ..policy() };
    let here = World::new(store.clone(), short.clone());
    let there = World::new(store, short);
    let mut leader = Box::pin(here.pass_when(subject("a", ""), std::future::pending(), accepted()));
    assert!(futures_util::poll!(&mut leader).is_pending());
    for (place, world) in [("the same process", &here), ("another process", &there)] {
        let answer = what(world.pass(subject("a", ""), accepted()).await);
        let Err(Refusal::InFlight { retry_after }) = answer else { panic!("{place}: {answer:?}") };
        assert!(retry_after > Duration::from_secs(50), "{place}: what is left of the lease");
    }
    assert_eq!((here.ran(), there.ran()), (1, 0));
}

#[tokio::test]
async fn an_unknown_outcome_is_held_and_the_next_attempt_is_told() {
    for refusal in [Refusal::UpstreamTimeout, Refusal::UpstreamBroke] {
        let world = over_memory();
        assert_eq!(
            what(world.pass(subject("a", ""), refused(refusal.clone())).await),
            Err(refusal)
        );
        let retry = what(world.pass(subject("a", ""), accepted()).await);
        let Err(Refusal::InFlight { retry_after }) = retry else { panic!("{retry:?}") };
        assert!(retry_after > Duration::from_secs(20));
        assert_eq!(world.ran(), 1);
    }
    let at_once = World::new(Arc::<Memory>::default(), Policy { hold: Duration::ZERO, ..policy() });
    drop(at_once.pass(subject("a", ""), refused(Refusal::UpstreamTimeout)).await);
    let told = |lease: Lease| async move {
        assert!(lease.after_unknown());
        assert_eq!(lease.attempt(), 2);
        accepted()
    };
    assert!(at_once.stage.once(subject("a", ""), told).await.is_ok());
}

#[tokio::test]
async fn a_panic_below_is_a_bug_that_is_held() {
    let world = over_memory();
    let work = |_lease| async { panic!("as the test wants it") };
    assert_eq!(what(world.stage.once(subject("a", ""), work).await), Err(Refusal::Bug));
    assert!(is_in_flight(world.pass(subject("a", ""), accepted()).await));
    assert_eq!(world.ran(), 0);
}

#[tokio::test]
async fn another_body_under_the_same_id_is_flagged() {
    let world = over_memory();
    drop(world.pass(subject("a", "one"), accepted()).await);
    let flagged = what(world.pass(subject("a", "two"), accepted()).await);
    assert_eq!(flagged, Ok(Outcome::SameIdOtherBody));
    assert!(world.metrics.render().contains("gatepost_body_mismatch_total{source=\"stripe\"} 1"));
}

#[tokio::test]
async fn another_body_waits_for_the_first_but_does_not_share_its_answer() {
    let world = over_memory();
    let go = Notify::new();
    let leader = world.pass_when(subject("a", "one"), go.notified(), accepted());
    let other = async {
        world.begun(1).await;
        let mut other = Box::pin(world.pass(subject("a", "two"), accepted()));
        assert!(futures_util::poll!(&mut other).is_pending());
        go.notify_one();
        other.await
    };
    let (_, other) = tokio::join!(leader, other);
    assert_eq!(what(other), Ok(Outcome::SameIdOtherBody));
}

#[tokio::test]
async fn delivered_bytes_under_a_new_id_are_a_suspected_replay() {
    let guarded = |id, suppress| {
        let guard = Some(EventKey::of(&[b"signed bytes"]));
        Subject { guard, suppress, ..subject(id, "") }
    };
    let world = over_memory();
    let failed = what(world.pass(guarded("a", true), refused(Refusal::UpstreamFailed)).await);
    assert_eq!(failed, Err(Refusal::UpstreamFailed));
    assert!(world.pass(guarded("b", true), accepted()).await.is_ok(), "nothing had completed");
    let replay = what(world.pass(guarded("c", true), accepted()).await);
    assert_eq!(replay, Ok(Outcome::SuspectedReplay));
    let twin = what(world.pass(guarded("b", true), accepted()).await);
    assert_eq!(twin, Ok(Outcome::Duplicate(None)));
    assert!(world.pass(guarded("d", false), accepted()).await.is_ok(), "where the guard is off");
    assert_eq!(world.ran(), 3);
}

#[tokio::test]
async fn without_its_store_the_policy_decides() {
    let world = World::new(Arc::new(Faulty::failing(&["claim"])), policy());
    let answer = world.pass(subject("a", ""), accepted()).await.unwrap_err();
    assert_eq!(answer.what, Refusal::StoreUnavailable);
    assert_eq!(answer.notes.error.as_deref(), Some("dedup store: told to fail"));
    assert_eq!(world.ran(), 0);
    assert!(world.metrics.render().contains("gatepost_dedup_store_up{store=\"memory\"} 0"));

    let forward = Policy { on_store_error: OnStoreError::Forward, ..policy() };
    let faulty = Arc::new(Faulty::failing(&["claim"]));
    let world = World::new(faulty.clone(), forward);
    let marked = |lease: Lease| async move {
        assert!(lease.unclaimed() && lease.ensure(Duration::from_hours(1)).await);
        accepted()
    };
    let answer = world.stage.once(subject("a", ""), marked).await.unwrap();
    let said = "forwarded without a claim: the dedup store is unavailable";
    assert_eq!(answer.notes.error.as_deref(), Some(said), "and it does not wait for the store");
    faulty.heal();
    world.settled().await;
    let seen = claim(&world.store, &subject("a", ""), A).await;
    assert_eq!(seen, DONE, "it is recorded as soon as the store answers");
}

#[tokio::test]
async fn a_success_stands_when_done_cannot_be_written_and_is_written_later() {
    let faulty = Arc::new(Faulty::failing(&["complete"]));
    let store: Arc<dyn DedupStore> = faulty.clone();
    let world = World::new(store.clone(), policy());
    let answer = world.pass(subject("a", ""), accepted()).await.unwrap();
    assert_eq!(answer.what, Outcome::Accepted(relayed()));
    assert!(answer.notes.error.unwrap().starts_with("not settled"));
    let twin = what(world.pass(subject("a", ""), accepted()).await);
    let known = Relayed { body: bytes::Bytes::new(), ..relayed() };
    assert_eq!(twin, Ok(Outcome::Duplicate(Some(known))), "it is known here all the same");
    faulty.heal();
    world.settled().await;
    assert_eq!(claim(&store, &subject("a", ""), A).await, DONE);
}

/// What an outage of the store may keep in memory is bounded, whatever apps say and however much comes.
#[tokio::test(start_paused = true)]
async fn no_more_events_than_there_is_room_for_wait_for_their_store() {
    let store = Arc::new(Faulty::failing(&["claim", "complete"]));
    let forward = OnStoreError::Forward;
    let policy = Policy { on_store_error: forward, lease: Duration::from_secs(2), ..policy() };
    let world = World::new(store, policy);
    for n in 0..LATE_MAX + 10 {
        let answer = world.pass(subject(&n.to_string(), ""), accepted()).await;
        assert_eq!(what(answer), Ok(Outcome::Accepted(relayed())));
    }
    assert_eq!(world.tracker.len(), LATE_MAX);
    let again = async |n: usize| what(world.pass(subject(&n.to_string(), ""), accepted()).await);
    let known = Relayed { body: bytes::Bytes::new(), ..relayed() };
    assert_eq!(again(0).await, Ok(Outcome::Duplicate(Some(known))));
    // Nothing is kept of it, as on record: it was forwarded without a claim.
    assert_eq!(again(LATE_MAX).await, Ok(Outcome::Accepted(relayed())));
    // Given up after a time, they make room.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(world.tracker.len(), 0);
    assert_eq!(again(0).await, Ok(Outcome::Accepted(relayed())));
    assert_eq!(world.tracker.len(), 1);
}
