//! What becomes of a claim: renewed, lost, abandoned, settled late.

use gatepost::{
    answer::{Outcome, Refusal},
    dedup::{Lease, OnStoreError, Policy},
};

use super::{embedded, faulty::Faulty, stage::*, *};

#[tokio::test]
async fn a_late_success_settles_a_held_event() {
    let world = over_memory();
    let mut kept = None;
    let work = |lease: Lease| {
        kept = Some(lease);
        std::future::ready(refused(Refusal::UpstreamTimeout))
    };
    drop(world.stage.once(subject("a", ""), work).await);
    kept.unwrap().settle_late().await.unwrap();
    let retry = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(retry, Ok(Outcome::Duplicate(None)));
}

#[tokio::test]
async fn a_cancelled_leader_wedges_nobody() {
    let brief = Policy { lease: Duration::from_millis(200), ..policy() };
    let world = World::new(Arc::<Memory>::default(), brief);
    let mut leader =
        Box::pin(world.pass_when(subject("a", ""), std::future::pending(), accepted()));
    assert!(futures_util::poll!(&mut leader).is_pending());
    let mut twin = Box::pin(world.pass(subject("a", ""), accepted()));
    assert!(futures_util::poll!(&mut twin).is_pending());
    drop(leader);
    let twin = tokio::time::timeout(SOON, twin).await.expect("it waits for the lease to end");
    assert_eq!(what(twin), Ok(Outcome::Accepted(relayed())), "and takes over");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_work_goes_on() {
    let brief = Policy { lease: Duration::from_millis(150), ..policy() };
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let world = World::new(store.clone(), brief);
    let long = |lease: Lease| async move {
        let attempt = lease.attempt();
        for _ in 0..40 {
            let seen = claim(&store, &subject("a", ""), A).await;
            assert!(matches!(seen, Claimed::InFlight { .. }), "{seen:?} in attempt {attempt}");
            sleep(Duration::from_millis(10)).await;
        }
        accepted()
    };
    let answer = world.stage.once(subject("a", ""), long).await.unwrap();
    assert_eq!(answer.notes.error, None);
}

#[tokio::test]
async fn a_lost_lease_is_noticed_before_the_forward() {
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let world = World::new(store.clone(), policy());
    let robbed = |lease: Lease| async move {
        assert!(lease.ensure(Duration::from_secs(1)).await, "enough is left");
        assert!(lease.remaining() <= Duration::from_mins(1));
        assert!(lease.ensure(Duration::from_secs(90)).await, "renewed for longer");
        assert!(lease.remaining() > Duration::from_secs(85));
        store.complete(&subject("a", ""), Duration::ZERO).await.unwrap();
        assert!(!lease.ensure(Duration::from_mins(2)).await, "it is not ours any more");
        assert_eq!(lease.remaining(), Duration::ZERO);
        refused(Refusal::StoreUnavailable)
    };
    let answer = world.stage.once(subject("a", ""), robbed).await.unwrap_err();
    assert_eq!(answer.notes.error.as_deref(), Some("the claim ended before the work did"));
}

/// How often the store was asked to do something.
fn asked(world: &World, operation: &str) -> u32 {
    let (said, operation) = (world.metrics.render(), format!("operation=\"{operation}\""));
    let mut of_it = said.lines().filter(|l| l.contains("_count{") && l.contains(&operation));
    let count = of_it.next().expect("a count of them").rsplit(' ').next().unwrap();
    count.parse().unwrap()
}

/// At once, after 50, 150, 350, and 750 ms, then every second, until the lease would be over, or half a minute at least.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_tried_again_in_measure() {
    for (lease, tries) in [(60_550, 5 + 60), (1000, 5 + 30)] {
        let policy = Policy { lease: Duration::from_millis(lease), ..policy() };
        let world = World::new(Arc::new(Faulty::failing(&["complete"])), policy);
        drop(world.pass(subject("a", ""), accepted()).await);
        sleep(Duration::from_mins(2)).await;
        assert_eq!(asked(&world, "complete"), tries, "for {lease} ms");
    }
}

/// The store is asked for as long as there is a claim, and not where there is none.
#[tokio::test(start_paused = true)]
async fn only_a_claim_is_renewed() {
    let renewals = |world: &World| asked(world, "renew");
    let long = || sleep(policy().lease * 2);
    let store: Store = Arc::new(Memory::default());
    let world = World::new(store.clone(), policy());
    drop(world.pass_when(subject("a", ""), long(), accepted()).await);
    assert_eq!(renewals(&world), 5, "three in each lease, and one of them at the end");

    let robbed = async {
        store.complete(&subject("b", ""), Duration::ZERO).await.unwrap();
        long().await;
    };
    drop(world.pass_when(subject("b", ""), robbed, accepted()).await);
    assert_eq!(renewals(&world), 6, "one, which says that it is lost");

    let forward = Policy { on_store_error: OnStoreError::Forward, ..policy() };
    let without = World::new(Arc::new(Faulty::failing(&["claim"])), forward);
    drop(without.pass_when(subject("a", ""), long(), accepted()).await);
    assert_eq!(renewals(&without), 0);
}

/// There is a limit to how many are remembered, and none is forgotten for another one as long as it may be under way.
#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_known_among_thousands() {
    let store = Arc::new(Faulty::losing_answers(&["claim"]));
    let world = World::new(store.clone(), policy());
    for n in 0..=4096 {
        let lost = world.pass(subject(&n.to_string(), ""), accepted()).await;
        assert_eq!(what(lost), Err(Refusal::StoreUnavailable));
    }
    store.heal();
    let first = world.pass(subject("0", ""), accepted()).await.expect("its own claim");
    assert_eq!(first.notes.attempt, Some(1));
}

#[tokio::test]
async fn a_claim_that_was_carried_out_without_an_answer_is_let_go() {
    let faulty = Arc::new(Faulty::losing_answers(&["claim"]));
    let world = World::new(faulty.clone(), policy());
    let answer = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(answer, Err(Refusal::StoreUnavailable));
    faulty.heal();
    let seen = claim(&world.store, &subject("a", ""), A).await;
    assert!(matches!(seen, Claimed::InFlight { .. }), "{seen:?}");
    world.settled().await;
    let again = Claimed::Won { attempt: 2, after_unknown: false };
    assert_eq!(claim(&world.store, &subject("a", ""), A).await, again);
}

#[tokio::test]
async fn a_claim_that_was_carried_out_without_an_answer_is_taken_up_by_the_next_try() {
    let faulty = Arc::new(Faulty::losing_answers(&["claim"]));
    let world = World::new(faulty.clone(), policy());
    for _ in 0..3 {
        let answer = what(world.pass(subject("a", ""), accepted()).await);
        assert_eq!(answer, Err(Refusal::StoreUnavailable));
    }
    faulty.heal();
    let answer = world.pass(subject("a", ""), accepted()).await.unwrap();
    assert_eq!((answer.what, answer.notes.attempt), (Outcome::Accepted(relayed()), Some(1)));
    world.settled().await;
    assert_eq!(claim(&world.store, &subject("a", ""), A).await, DONE, "and not released later");
}

#[tokio::test]
async fn a_claim_that_may_still_be_on_its_way_would_be_the_next_tries() {
    let faulty = Arc::new(Faulty::failing(&["claim"]));
    let world = World::new(faulty.clone(), policy());
    let answer = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(answer, Err(Refusal::StoreUnavailable));
    world.settled().await; // the store answers, and knows of no claim
    faulty.heal();
    assert!(world.pass(subject("a", ""), accepted()).await.is_ok());
    let claimants = faulty.claimants.lock().unwrap().clone();
    assert_eq!(claimants, [claimants[0]; 2], "the same token");
}

/// A wait for somebody else does not make anybody forget that a claim of it had no answer.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_in_a_wait_for_a_twin_is_let_go() {
    let faulty = Arc::new(Faulty::losing_answers(&[]));
    let (world, event) = (World::new(faulty.clone(), policy()), subject("a", ""));
    assert_eq!(claim(&world.store, &event, A).await, WON);
    let mut twin = Box::pin(world.pass(event, accepted()));
    assert!(futures_util::poll!(&mut twin).is_pending(), "it sees that somebody is at work");
    assert!(world.store.release(&event, A).await.unwrap());
    faulty.fail(&["claim"]);
    assert!(is_in_flight(twin.await));
    faulty.heal();
    world.settled().await;
    let free = Claimed::Won { attempt: 3, after_unknown: false };
    assert_eq!(claim(&world.store, &event, B).await, free, "nobody waits for its lease to end");
}

/// It may still be on its way, whatever is answered to those that follow it; also to those of the next try.
#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_after_later_ones_were_answered_is_let_go() {
    for next_try in [false, true] {
        let faulty = Arc::new(Faulty::failing(&[]));
        let (world, event) = (World::new(faulty.clone(), policy()), subject("a", ""));
        if next_try {
            faulty.fail(&["claim"]);
            let lost = what(world.pass(event, accepted()).await);
            assert_eq!(lost, Err(Refusal::StoreUnavailable));
            world.settled().await;
            faulty.heal();
        }
        let (token, others) = (faulty.claimants.lock().unwrap().first().copied(), A);
        assert_eq!(claim(&world.store, &event, others).await, WON);
        let mut twin = Box::pin(world.pass(event, accepted()));
        assert!(futures_util::poll!(&mut twin).is_pending());
        let token = token.unwrap_or_else(|| *faulty.claimants.lock().unwrap().last().unwrap());
        if !next_try {
            faulty.fail(&["claim"]);
            sleep(Duration::from_millis(60)).await;
            assert!(futures_util::poll!(&mut twin).is_pending(), "one that has no answer");
            faulty.heal();
        }
        assert!(is_in_flight(twin.await));
        assert!(world.store.release(&event, others).await.unwrap());
        let late = claim(&world.store, &event, token).await;
        assert_eq!(late, Claimed::Won { attempt: 2, after_unknown: false }, "it is carried out");
        world.settled().await;
        let free = Claimed::Won { attempt: 3, after_unknown: false };
        assert_eq!(claim(&world.store, &event, B).await, free, "in the next try: {next_try}");
    }
}

/// Behind *done* no claim is carried out any more: there is nothing to be looked after, however many come again.
#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_is_forgotten_once_the_event_is_done() {
    let faulty = Arc::new(Faulty::failing(&["claim"]));
    let (world, event) = (World::new(faulty.clone(), policy()), subject("a", ""));
    let lost = what(world.pass(event, accepted()).await);
    assert_eq!(lost, Err(Refusal::StoreUnavailable));
    world.settled().await;
    faulty.heal();
    world.store.complete(&event, HOUR).await.expect("another gateway has it done");
    for _ in 0..3 {
        let again = what(world.pass(event, accepted()).await);
        assert_eq!(again, Ok(Outcome::Duplicate(None)));
        world.settled().await;
    }
    let mut tokens = faulty.claimants.lock().unwrap().clone();
    assert_eq!(tokens.len(), 4);
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "the second took the first one's up, and nobody the second one's");
}

/// Where the kernel's clocks are told that the machine slept for an hour more than it did. That needs root.
#[test]
fn how_long_the_machine_was_suspended_is_read_off_its_clocks() {
    const TELLS: &str = "TELLS_HOW_LONG_IT_SLEPT";
    let slept = gatepost::dedup::suspended();
    if let Some(file) = std::env::var_os(TELLS) {
        return std::fs::write(file, slept.as_secs().to_string()).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let test = "leases::how_long_the_machine_was_suspended_is_read_off_its_clocks";
    let out = std::process::Command::new("unshare")
        .args(["--time", "--boottime", "3600", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(TELLS, file.path())
        .output()
        .expect("unshare: it comes with util-linux");
    let told = std::fs::read_to_string(file.path()).unwrap();
    let told: u64 = told.parse().unwrap_or_else(|_| panic!("{out:?}"));
    let more = told - slept.as_secs();
    assert!((3600..3605).contains(&more), "{more} s more");
}

/// Redis does not sleep with the machine, and the lease ends there.
#[tokio::test(start_paused = true)]
async fn a_lease_goes_on_while_the_machine_is_suspended() {
    static SUSPENDED: AtomicU64 = AtomicU64::new(3600); // seconds; before all this
    let clock = || Duration::from_secs(SUSPENDED.load(Ordering::Relaxed));
    let world = World::on_a_machine(clock, Arc::<Memory>::default(), policy());
    let sleeper = |lease: Lease| async move {
        assert_eq!(lease.remaining(), policy().lease);
        SUSPENDED.fetch_add(20, Ordering::Relaxed);
        assert_eq!(lease.remaining(), Duration::from_secs(40));
        SUSPENDED.fetch_add(40, Ordering::Relaxed);
        assert_eq!(lease.remaining(), Duration::ZERO);
        let second = Duration::from_secs(1);
        assert!(!lease.ensure(second).await, "whatever the store says: somebody may have had it");
        refused(Refusal::StoreUnavailable)
    };
    let ended = world.stage.once(subject("a", ""), sleeper).await.unwrap_err();
    assert_eq!(ended.notes.error.as_deref(), Some("the claim ended before the work did"));
}

/// The store has nothing to say about it: it is asked for nothing between the end of the lease and that of the work.
#[tokio::test]
async fn a_lease_that_was_overrun_is_on_record() {
    for answer in [accepted(), refused(Refusal::UpstreamTimeout)] {
        let brief = Policy { lease: Duration::from_millis(20), ..policy() };
        let world = World::new(Arc::<Memory>::default(), brief);
        let stands_still = |lease: Lease| async move {
            while !lease.remaining().is_zero() {
                std::hint::spin_loop();
            }
            answer
        };
        let ended = world.stage.once(subject("a", ""), stands_still).await;
        let notes = ended.map_or_else(|refused| refused.notes, |answered| answered.notes);
        assert_eq!(notes.error.as_deref(), Some("the claim ended before the work did"));
    }
}

/// The app may have the event, whether the store knows of the claim or not; unless it is somebody else's by now.
#[tokio::test]
async fn an_unknown_outcome_is_held_where_the_store_knows_of_no_claim() {
    let (event, unknown) = (subject("a", ""), || refused(Refusal::UpstreamTimeout));
    let is_held = |seen| assert!(matches!(seen, Claimed::Held { .. }), "{seen:?}");

    let world = over_memory();
    let store = world.store.clone();
    let forgets = async { store.complete(&event, Duration::ZERO).await.unwrap() };
    drop(world.pass_when(event, forgets, unknown()).await);
    is_held(claim(&store, &event, A).await);

    let forward = Policy { on_store_error: OnStoreError::Forward, ..policy() };
    let away = Arc::new(Faulty::failing(&["claim"]));
    let world = World::new(away.clone(), forward);
    drop(world.pass_when(event, async { away.heal() }, unknown()).await);
    is_held(claim(&world.store, &event, A).await);

    let (world, others) = (over_memory(), subject("b", ""));
    let store = world.store.clone();
    let taken = async {
        store.complete(&others, Duration::ZERO).await.unwrap();
        assert_eq!(claim(&store, &others, A).await, WON);
    };
    drop(world.pass_when(others, taken, unknown()).await);
    assert!(store.release(&others, A).await.unwrap(), "it is still the other's");
}

/// A claim is answered before its commit, and so may be lost while the event is at the app.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_held_where_the_commit_of_its_claim_failed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (embedded::open(dir.path()), || embedded::file(dir.path()));
    let (world, event) = (World::new(store.clone(), policy()), fresh());
    // Only the end of a transaction meets it.
    let fails = "CREATE TABLE nobody (id INTEGER PRIMARY KEY);
        CREATE TABLE lost (id REFERENCES nobody DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER fails AFTER INSERT ON event BEGIN INSERT INTO lost VALUES (1); END";
    file().execute_batch(fails).unwrap();
    let meanwhile = async {
        store.complete(&fresh(), HOUR).await.expect_err("what came before it is lost, too");
        file().execute_batch("DROP TRIGGER fails").unwrap();
    };
    let told = what(world.pass_when(event, meanwhile, refused(Refusal::UpstreamTimeout)).await);
    assert_eq!(told, Err(Refusal::UpstreamTimeout));
    world.settled().await;
    let seen = claim(&store, &event, B).await;
    assert!(matches!(seen, Claimed::Held { .. }), "{seen:?}");
}

#[tokio::test]
async fn a_hold_that_could_not_be_written_keeps_twins_away_and_is_written_later() {
    let faulty = Arc::new(Faulty::failing(&["hold"]));
    let world = World::new(faulty.clone(), policy());
    let unknown = || refused(Refusal::UpstreamTimeout);
    assert_eq!(what(world.pass(subject("a", ""), unknown()).await), Err(Refusal::UpstreamTimeout));
    let twin = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(twin, Err(Refusal::UpstreamTimeout), "the same answer, and no second attempt");
    faulty.heal();
    world.settled().await;
    let seen = claim(&world.store, &subject("a", ""), A).await;
    assert!(matches!(seen, Claimed::Held { .. }), "{seen:?}");
}
