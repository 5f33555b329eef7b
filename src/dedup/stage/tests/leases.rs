//! What becomes of a claim: renewed, lost, abandoned, settled late.

use super::*;

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
    assert!(is_in_flight(twin.await), "the claim of the one that vanished lasts for its lease");
    let passes = async {
        while !matches!(
            what(world.pass(subject("a", ""), accepted()).await),
            Ok(Outcome::Accepted(_))
        ) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, passes).await.expect("it passes once the lease is over");
}

#[tokio::test]
async fn a_lease_is_renewed_while_work_goes_on() {
    let brief = Policy { lease: Duration::from_millis(150), ..policy() };
    let store: Arc<dyn DedupStore> = Arc::new(Memory::default());
    let world = World::new(store.clone(), brief);
    let long = |lease: Lease| async move {
        let (attempt, end) = (lease.attempt(), Instant::now() + Duration::from_millis(400));
        while Instant::now() < end {
            let state = store.look(&subject("a", "")).await.unwrap();
            assert!(matches!(state, State::Leased { .. }), "{state:?} in attempt {attempt}");
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

#[tokio::test]
async fn a_claim_that_was_carried_out_without_an_answer_is_let_go() {
    let store: Arc<dyn DedupStore> = Arc::new(Faulty::losing_answers(&["claim"]));
    let world = World::new(store.clone(), policy());
    let answer = what(world.pass(subject("a", ""), accepted()).await);
    assert_eq!(answer, Err(Refusal::StoreUnavailable));
    assert!(matches!(store.look(&subject("a", "")).await.unwrap(), State::Leased { .. }));
    world.tracker.close();
    world.tracker.wait().await;
    assert_eq!(store.look(&subject("a", "")).await.unwrap(), State::Absent);
}
