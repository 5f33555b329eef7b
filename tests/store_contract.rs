//! One contract, all stores: memory, `SQLite` files, and real Redis processes in every arrangement; and the stage above.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

#[path = "store_contract/chaos.rs"]
mod chaos;
#[path = "store_contract/damaged.rs"]
mod damaged;
#[path = "store_contract/differential.rs"]
mod differential;
#[path = "store_contract/embedded.rs"]
mod embedded;
#[path = "store_contract/faulty.rs"]
mod faulty;
#[path = "store_contract/leases.rs"]
mod leases;
#[path = "store_contract/pretended.rs"]
mod pretended;
#[path = "store_contract/protocol.rs"]
mod protocol;
#[path = "support/redis.rs"]
mod redis;
#[path = "store_contract/seeded.rs"]
mod seeded;
#[path = "store_contract/stage.rs"]
mod stage;
#[path = "support/wall.rs"]
mod wall;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gatepost::{
    dedup::{
        DedupStore, Embedded, Memory, Redis, RedisSettings, StoreError, Subject,
        claim::{Claimed, Input, Token},
    },
    event::{Digest, EventKey},
    secret::Secret,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Store = Arc<dyn DedupStore>;

const A: Token = Token(0xa1);
const B: Token = Token(0xb2);
const HOUR: Duration = Duration::from_hours(1);
const WON: Claimed = Claimed::Won { attempt: 1, after_unknown: false };
const DONE: Claimed = Claimed::Done { same_body: true };

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The operations by name.
trait Operations {
    async fn complete(&self, subject: &Subject, window: Duration) -> Result<(), StoreError>;
    async fn release(&self, subject: &Subject, token: Token) -> Result<bool, StoreError>;
    async fn hold(
        &self,
        subject: &Subject,
        token: Token,
        time: Duration,
    ) -> Result<bool, StoreError>;
    async fn renew(
        &self,
        subject: &Subject,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError>;
}

impl Operations for Store {
    async fn complete(&self, subject: &Subject, window: Duration) -> Result<(), StoreError> {
        assert!(self.apply(subject, Input::Complete(window)).await?, "completing is unconditional");
        Ok(())
    }

    async fn release(&self, subject: &Subject, token: Token) -> Result<bool, StoreError> {
        self.apply(subject, Input::Release(token)).await
    }

    async fn hold(
        &self,
        subject: &Subject,
        token: Token,
        time: Duration,
    ) -> Result<bool, StoreError> {
        self.apply(subject, Input::Hold(token, time)).await
    }

    async fn renew(
        &self,
        subject: &Subject,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.apply(subject, Input::Renew(token, lease)).await
    }
}

/// An event that no other test has.
fn fresh() -> Subject {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Subject {
        key: EventKey::of(&[b"event", &number]),
        guard: None,
        suppress: true,
        digest: Digest::of(b"body"),
    }
}

/// Two ids with the same signed bytes.
fn fresh_pair() -> (Subject, Subject) {
    let (first, second) = (fresh(), fresh());
    let guard = Some(EventKey::of(&[b"signed bytes", &first.key.0]));
    (Subject { guard, ..first }, Subject { guard, ..second })
}

async fn claim(store: &Store, subject: &Subject, token: Token) -> Claimed {
    claim_for(store, subject, token, HOUR).await
}

async fn claim_for(store: &Store, subject: &Subject, token: Token, lease: Duration) -> Claimed {
    store.claim(subject, token, lease, HOUR).await.expect("the store answers")
}

/// Claims until it is won; the test fails if that never happens.
async fn claim_patiently(store: &Store, subject: &Subject, token: Token) -> Claimed {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let claimed = claim(store, subject, token).await;
        if matches!(claimed, Claimed::Won { .. }) {
            return claimed;
        }
        assert!(Instant::now() < deadline, "still {claimed:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn in_flight(claimed: Claimed) -> bool {
    matches!(claimed, Claimed::InFlight { left } if left > HOUR / 2 && left <= HOUR)
}

fn held(claimed: Claimed) -> bool {
    matches!(claimed, Claimed::Held { left } if left > HOUR / 2 && left <= HOUR)
}

/// All that a store promises.
async fn contract(store: &Store) {
    store.health().await.expect("it can be used");
    one_of_many_wins(store).await;
    claims_are_repeatable(store).await;
    only_the_owner_releases(store).await;
    done_is_unconditional(store).await;
    unknown_is_held(store).await;
    renewing_needs_a_live_claim(store).await;
    a_lease_ends_by_itself(store).await;
    a_window_ends_by_itself(store).await;
    the_guard_suppresses(store).await;
    keys_are_apart(store).await;
}

async fn one_of_many_wins(store: &Store) {
    let subjects: Vec<_> = (0..50).map(|_| fresh()).collect();
    let mut racers = JoinSet::new();
    for racer in 1..=20 {
        let (store, subjects) = (store.clone(), subjects.clone());
        racers.spawn(async move {
            let mut won = 0;
            for subject in &subjects {
                match claim(&store, subject, Token(racer)).await {
                    WON => won += 1,
                    other => assert!(in_flight(other), "{other:?}"),
                }
            }
            won
        });
    }
    let won: usize = racers.join_all().await.into_iter().sum();
    assert_eq!(won, subjects.len(), "each event has one winner");
}

async fn claims_are_repeatable(store: &Store) {
    let event = fresh();
    for _ in 0..3 {
        assert_eq!(claim(store, &event, A).await, WON);
    }
    assert!(in_flight(claim(store, &event, B).await));
    assert_eq!(claim(store, &event, A).await, WON, "another one's try changes nothing");
}

async fn only_the_owner_releases(store: &Store) {
    let event = fresh();
    assert!(!store.release(&event, A).await.unwrap(), "nothing to release");
    claim(store, &event, A).await;
    assert!(!store.release(&event, B).await.unwrap());
    assert!(in_flight(claim(store, &event, B).await));
    assert!(store.release(&event, A).await.unwrap());
    assert!(!store.release(&event, A).await.unwrap(), "only once");
    let again = Claimed::Won { attempt: 2, after_unknown: false };
    assert_eq!(claim(store, &event, B).await, again, "counted, and known to have failed");
    assert!(!store.release(&event, A).await.unwrap(), "a stale release does nothing");
    assert!(in_flight(claim(store, &event, A).await));
}

async fn done_is_unconditional(store: &Store) {
    let (absent, mine, theirs, on_hold) = (fresh(), fresh(), fresh(), fresh());
    claim(store, &mine, A).await;
    claim(store, &theirs, B).await;
    claim(store, &on_hold, A).await;
    store.hold(&on_hold, A, HOUR).await.unwrap();
    for event in [absent, mine, theirs, on_hold] {
        store.complete(&event, HOUR).await.unwrap();
        assert_eq!(claim(store, &event, A).await, DONE);
        assert_eq!(claim(store, &event, B).await, DONE);
        let other = Subject { digest: Digest::of(b"other body"), ..event };
        assert_eq!(claim(store, &other, B).await, Claimed::Done { same_body: false });
        assert!(!store.release(&event, B).await.unwrap(), "nothing but time ends done");
        assert!(!store.hold(&event, B, HOUR).await.unwrap());
        assert!(!store.renew(&event, B, HOUR).await.unwrap());
        assert_eq!(claim(store, &event, B).await, DONE);
    }
}

async fn unknown_is_held(store: &Store) {
    let event = fresh();
    claim(store, &event, A).await;
    assert!(!store.hold(&event, B, HOUR).await.unwrap());
    assert!(store.hold(&event, A, HOUR).await.unwrap());
    assert!(held(claim(store, &event, B).await));
    assert!(held(claim(store, &event, A).await), "the same one waits as well");
    assert!(!store.release(&event, A).await.unwrap(), "it is not leased any more");
    let brief = fresh();
    claim(store, &brief, A).await;
    assert!(store.hold(&brief, A, Duration::from_millis(30)).await.unwrap());
    let told = Claimed::Won { attempt: 2, after_unknown: true };
    assert_eq!(claim_patiently(store, &brief, B).await, told);
    let at_once = fresh();
    claim(store, &at_once, A).await;
    assert!(store.hold(&at_once, A, Duration::ZERO).await.unwrap());
    assert_eq!(claim(store, &at_once, B).await, told);
}

async fn renewing_needs_a_live_claim(store: &Store) {
    let event = fresh();
    assert!(!store.renew(&event, A, HOUR).await.unwrap());
    claim_for(store, &event, A, HOUR / 2).await;
    assert!(!store.renew(&event, B, HOUR).await.unwrap());
    assert!(store.renew(&event, A, HOUR).await.unwrap());
    assert!(in_flight(claim(store, &event, B).await), "for longer than before");
    let lost = fresh();
    claim_for(store, &lost, A, Duration::ZERO).await;
    assert!(!store.renew(&lost, A, HOUR).await.unwrap(), "the lease is over");
    claim(store, &lost, B).await;
    assert!(!store.renew(&lost, A, HOUR).await.unwrap(), "it is another one's");
}

async fn a_lease_ends_by_itself(store: &Store) {
    let event = fresh();
    claim_for(store, &event, A, Duration::from_millis(40)).await;
    let told = Claimed::Won { attempt: 2, after_unknown: true };
    assert_eq!(claim_patiently(store, &event, B).await, told);
    assert!(!store.release(&event, A).await.unwrap());
    assert!(!store.hold(&event, A, HOUR).await.unwrap());
    assert!(in_flight(claim(store, &event, A).await));
}

async fn a_window_ends_by_itself(store: &Store) {
    let event = fresh();
    store.complete(&event, Duration::from_millis(40)).await.unwrap();
    assert_eq!(claim_patiently(store, &event, B).await, WON, "all of it is forgotten");
}

async fn the_guard_suppresses(store: &Store) {
    let (first, second) = fresh_pair();
    assert_eq!(claim(store, &first, A).await, WON);
    assert_eq!(claim(store, &second, B).await, WON, "nothing has completed");
    store.release(&second, B).await.unwrap();
    store.complete(&first, HOUR).await.unwrap();
    assert_eq!(claim(store, &first, B).await, DONE, "the same id is an ordinary duplicate");
    assert_eq!(claim(store, &second, B).await, Claimed::Replayed);
    let lenient = Subject { suppress: false, ..second };
    let counted = Claimed::Won { attempt: 2, after_unknown: false };
    assert_eq!(claim(store, &lenient, B).await, counted);
    let (third, fourth) = fresh_pair();
    store.complete(&third, Duration::from_millis(40)).await.unwrap();
    assert_eq!(claim_patiently(store, &fourth, B).await, WON, "the guard has the same window");
}

async fn keys_are_apart(store: &Store) {
    let (one, other) = (fresh(), fresh());
    claim(store, &one, A).await;
    store.complete(&one, HOUR).await.unwrap();
    assert_eq!(claim(store, &other, A).await, WON, "the same token and body, another event");
    assert!(store.release(&other, A).await.unwrap());
    assert_eq!(claim(store, &one, A).await, DONE);
}

fn settings(url: String) -> RedisSettings {
    RedisSettings {
        url,
        username: None,
        password: None,
        prefix: "gatepost:".into(),
        timeout: Duration::from_secs(2),
        require_noeviction: true,
        ca: None,
    }
}

/// As the user of `redis::USER`.
fn as_user(settings: RedisSettings) -> RedisSettings {
    let (username, password) = (Some("gate".into()), Some(Secret::new("s3cr3t-p4ss")));
    RedisSettings { username, password, ..settings }
}

fn connect(settings: &RedisSettings) -> Store {
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    Arc::new(Redis::connect(settings, &tracker, &stop).expect("settings that can be right"))
}

fn standalone(server: &redis::Server) -> Store {
    connect(&settings(format!("redis://{}", server.address())))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    let store: Store = Arc::new(Memory::default());
    contract(&store).await;
    assert!(store.entries() > Some(50));
    assert_eq!(store.kind(), "memory");
}

#[tokio::test]
async fn a_full_memory_refuses_instead_of_forgetting() {
    let store: Store = Arc::new(Memory::with_capacity(64));
    let mut claimed = Vec::new();
    let error = loop {
        let event = fresh();
        match store.claim(&event, A, HOUR, HOUR).await {
            Ok(_) => claimed.push(event),
            Err(error) => break error,
        }
        assert!(claimed.len() <= 64, "it has a limit");
    };
    assert_eq!(error.to_string(), "dedup store: the memory store is full");
    for event in &claimed {
        assert!(in_flight(claim(&store, event, B).await), "nothing was forgotten");
        store.complete(event, HOUR).await.expect("what is known can be completed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_memory_full_of_what_is_over_makes_room_every_second() {
    let store: Store = Arc::new(Memory::with_capacity(64));
    let (second, (done, replay)) = (Duration::from_secs(1), fresh_pair());
    store.complete(&done, HOUR).await.unwrap();
    for _ in 0..5 {
        for _ in 0..63 {
            store.claim(&fresh(), A, second, second).await.expect("room");
        }
        store.claim(&fresh(), A, HOUR, HOUR).await.expect_err("nothing is over");
        sleep(second).await;
    }
    assert_eq!(claim(&store, &done, B).await, DONE, "what is not over stays");
    assert_eq!(store.entries(), Some(1));
    assert_eq!(claim(&store, &replay, B).await, Claimed::Replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store: Store = Arc::new(Embedded::open(dir.path()).unwrap());
    contract(&store).await;
    assert_eq!(store.kind(), "embedded");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    let server = redis::Server::start(&[]);
    let store = standalone(&server);
    contract(&store).await;
    assert_eq!((store.kind(), store.entries()), ("redis", None));
    let summary = store.health().await.unwrap();
    assert!(summary.contains("noeviction") && summary.contains(&server.address()), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_tls_keeps_the_contract() {
    let (server, ca) = redis::tls();
    let url = format!("rediss://{}", server.address());
    contract(&connect(&RedisSettings { ca: Some(ca), ..settings(url.clone()) })).await;
    let error = connect(&settings(url)).health().await.expect_err("a CA that nobody knows");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_a_user_of_few_rights_keeps_the_contract() {
    let server = redis::Server::start(&["user default off", redis::USER]);
    let right = as_user(settings(format!("redis://{}", server.address())));
    contract(&connect(&right)).await;
    let wrong = RedisSettings { password: Some(Secret::new("wr0ng-p4ss")), ..right.clone() };
    let error = connect(&wrong).health().await.expect_err("a wrong password");
    assert!(!error.to_string().contains("p4ss"), "{error}");
    let shown = format!("{right:?}");
    assert!(!shown.contains("s3cr3t") && shown.contains("redis://127.0.0.1"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_keeps_the_contract() {
    let nodes = redis::cluster();
    let hosts = nodes[..2].iter().map(redis::Server::address).collect::<Vec<_>>().join(",");
    contract(&connect(&as_user(settings(format!("redis+cluster://{hosts}"))))).await;
    for node in &nodes {
        assert_ne!(node.cli(&["dbsize"]), "0", "keys are spread over all nodes");
    }
}

#[test]
fn settings_that_cannot_be_right_are_refused() {
    let refused = |settings: &RedisSettings| {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        Redis::connect(settings, &tracker, &stop).expect_err("not right").to_string()
    };
    let url = |url: &str| refused(&settings(url.into()));
    assert!(url("localhost").contains("is not the url of a Redis"));
    let credentials = url("redis://user:p4ss@localhost");
    assert!(credentials.contains("more than scheme") && !credentials.contains("p4ss"));
    assert!(url("redis+sentinel://localhost").contains("the master's name is missing"));
    assert!(url("redis+ring://localhost").contains("…+cluster"));
    assert!(url("rediss://localhost/#insecure").contains("more than scheme"));
    let ca = Some(PathBuf::from("/nowhere/ca.pem"));
    let missing = RedisSettings { ca: ca.clone(), ..settings("rediss://localhost".into()) };
    assert!(refused(&missing).contains("/nowhere/ca.pem"));
    let plain = RedisSettings { ca, ..settings("redis://localhost".into()) };
    assert!(refused(&plain).contains("does not say `rediss`"));
}
