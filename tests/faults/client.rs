//! Senders hang up: in the middle of a request, before and after the claim, while the app works, while they wait for a twin.
//! Whoever leaves, cancels nothing.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use crate::{
    app::Act,
    bounds::{Use, all_is_closed, is_given_back, limits, peak},
    ledger::{Standing, Told},
    run::{Run, sound},
    sender::request,
    wire::{Leaves, WAYS, Wire},
    world::{Gateway, RedisServer, eventually, provider::stripe_event},
};

async fn connect(gateway: &Gateway) -> Wire {
    Wire::new(TcpStream::connect(gateway.address).await.unwrap())
}

async fn send(run: &Run, gateway: &Gateway, event: &str) -> Told {
    let sent = run.senders.exchange(connect(gateway).await, 0, event, Standing::Genuine).await;
    sent.0.expect("an answer")
}

/// Sends a whole request and puts it into the books as one without an answer.
async fn say(run: &Run, gateway: &Gateway, event: &str) -> Wire {
    let body = stripe_event(event, "invoice.paid");
    let mut wire = connect(gateway).await;
    run.senders.note(event, &body, 0, Standing::Genuine, run.clock.now(), None);
    wire.write(&request(event, &body, Standing::Genuine)).await.unwrap();
    wire
}

#[tokio::test]
async fn a_request_that_breaks_off_leaves_nothing() {
    let run = Run::new(1).await;
    let gateway = run.gateway(0, "store: embedded").await;
    let body = stripe_event("evt_1", "invoice.paid");
    let whole = request("evt_1", &body, Standing::Genuine);
    let head = whole.len() - body.len();
    let calm = "gatepost_requests_in_flight";
    assert_eq!(gateway.metric(calm).await, 0.0); // the connection for this is kept, too
    let mut before = Use::of(&gateway);
    for round in 0..30 {
        for upto in [1, head / 2, head - 1, head, head + body.len() / 2, whole.len() - 1] {
            for how in WAYS {
                let mut wire = connect(&gateway).await;
                wire.write(&whole[..upto]).await.unwrap();
                if let Some(mut wire) = wire.leave(how).await {
                    wire.closed().await;
                }
            }
        }
        eventually("all are gone", || async { gateway.metric(calm).await == 0.0 }).await;
        all_is_closed(&gateway, before).await;
        if round == 2 {
            before = Use::of(&gateway); // once all is in use that ever is
        }
    }
    is_given_back(&gateway, before);
    assert!(gateway.records().iter().all(|record| record["event_id"].is_null()));
    assert_eq!(send(&run, &gateway, "evt_1").await.outcome, "accepted");
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), 1);
    sound(&ledger);
}

/// Before the claim, as soon as the request is said; and after it, while the app works.
#[tokio::test]
async fn a_sender_that_leaves_cancels_nothing() {
    let run = Run::patient(1).await;
    let gateway = run.gateway(0, "store: embedded").await;
    let (mut events, before) = (0, Use::of(&gateway));
    for how in WAYS {
        for early in [true, false] {
            let event = format!("evt_{events}");
            let before = run.app.count();
            run.app.always(if early { Act::Say(200) } else { Act::Gated(200) });
            let wire = say(&run, &gateway, &event).await;
            if !early {
                eventually("the app has it", || async { run.app.count() == before + 1 }).await;
            }
            let listening = wire.leave(how).await;
            run.app.open();
            if let Some(mut wire) = listening {
                let (head, _) = wire.message().await.expect("who only stops to speak is answered");
                assert_eq!((head.status(), head.get("webhook-outcome")), (200, "accepted"));
            } else if !early {
                let done = || {
                    gateway
                        .records()
                        .iter()
                        .any(|r| r["kind"] == "outcome" && r["provider_id"] == *event)
                };
                eventually("it is delivered all the same", || async { done() }).await;
            }
            // Before the claim the gateway may notice that nobody is there; then the retry is the first.
            let told = send(&run, &gateway, &event).await;
            assert!(
                told.status == 200 && (early || told.outcome == "duplicate"),
                "{how:?} {told:?}"
            );
            events += 1;
        }
    }
    all_is_closed(&gateway, before).await;
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), events, "each once");
    sound(&ledger);
}

/// A follower leaves, then the leader does; the ones who stay are answered, and so is who only has nothing more to say.
#[tokio::test]
async fn a_twin_that_leaves_while_it_waits_takes_nobody_along() {
    let run = Run::patient(1).await;
    let gateway = run.gateway(0, "store: embedded, join_timeout: 10s").await;
    let waiting = "gatepost_requests_in_flight";
    assert_eq!(gateway.metric(waiting).await, 0.0); // the connection for this is kept, too
    let before = Use::of(&gateway);
    run.app.always(Act::Gated(200));
    let leader = say(&run, &gateway, "evt_1").await;
    eventually("the app has it", || async { run.app.count() == 1 }).await;
    let followers = [say(&run, &gateway, "evt_1").await, say(&run, &gateway, "evt_1").await];
    let listener = say(&run, &gateway, "evt_1").await;
    let (one, other) = (send(&run, &gateway, "evt_1"), send(&run, &gateway, "evt_1"));
    let leaving = async {
        eventually("all wait", || async { gateway.metric(waiting).await == 6.0 }).await;
        let mut listening = listener.leave(Leaves::HalfCloses).await.unwrap();
        for (follower, how) in followers.into_iter().zip([Leaves::Resets, Leaves::Closes]) {
            follower.leave(how).await;
        }
        leader.leave(Leaves::Closes).await;
        run.app.open();
        listening.message().await.expect("who only stops to speak is answered").0
    };
    let (one, other, head) = tokio::join!(one, other, leaving);
    for told in [one, other] {
        assert_eq!((told.status, &*told.outcome), (200, "duplicate"));
    }
    assert_eq!((head.status(), head.get("webhook-outcome")), (200, "duplicate"));
    all_is_closed(&gateway, before).await;
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), 1);
    sound(&ledger);
}

/// What is taken meanwhile is what fifty connections and one request to the app may take, on each of the two.
#[tokio::test]
async fn a_hundred_twins_on_two_gateways_of_which_some_leave() {
    let redis = RedisServer::start(&[]).await;
    let dedup = format!(
        "store: redis, claim: 12s, join_timeout: 10s, redis: {{ url: \"{}\" }}",
        redis.url()
    );
    let run = Run { limits: limits(64, 64), ..Run::patient(2).await };
    let gateways = [run.gateway(0, &dedup).await, run.gateway(1, &dedup).await];
    for (gateway, event) in gateways.iter().zip(["evt_first", "evt_second"]) {
        assert_eq!(send(&run, gateway, event).await.outcome, "accepted"); // once all is in use that ever is
    }
    run.app.always(Act::Gated(200));
    let before = gateways.each_ref().map(Use::of);
    let stay = (0..80).map(|n| send(&run, &gateways[n % 2], "evt_1"));
    let leaving = async {
        let mut listening = Vec::new();
        for n in 0..20 {
            let wire = say(&run, &gateways[n % 2], "evt_1").await;
            listening.extend(wire.leave(WAYS[n % 3]).await);
        }
        eventually("the app has it", || async { run.app.count() == 3 }).await;
        run.app.open();
        for mut wire in listening {
            let (head, _) = wire.message().await.expect("who only stops to speak is answered");
            assert_eq!(head.status(), 200);
        }
    };
    let (mut told, mut other) = (Vec::new(), Use::default());
    let work = async { told = tokio::join!(join_all(stay), leaving).0 };
    let one = peak(&gateways[0], async { other = peak(&gateways[1], work).await }).await;
    assert!(told.iter().all(|told| told.status == 200), "{told:?}");
    for (gateway, (most, before)) in gateways.iter().zip([one, other].into_iter().zip(before)) {
        let allowed = before.at_most(50, 1);
        assert!(most.is_within(allowed), "{before:?} {most:?} {allowed:?}");
        assert!(
            most.descriptors >= before.descriptors + 20,
            "they were there: {before:?} {most:?}"
        );
        all_is_closed(gateway, before).await;
    }
    let ledger = run.settle(gateways.into()).await;
    assert_eq!(ledger.received.len(), 3);
    sound(&ledger);
}

/// Of three requests one is given up at some moment, under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_senders_lose_nothing() {
    // Who left may still be there for a moment when the next one comes.
    let run = Run { limits: limits(64, 64), ..Run::new(1).await };
    let gateway = run.gateway(0, "store: embedded, claim: 3s").await;
    let calm = "gatepost_requests_in_flight";
    let warm = run.senders.begin((0..64).map(|n| format!("evt_warm_{n}")), 32, 5);
    warm.join_all().await; // once all is in use that ever is
    eventually("nobody is left", || async { gateway.metric(calm).await == 0.0 }).await;
    let before = Use::of(&gateway);
    run.senders.rude(33);
    run.app.always(Act::Late(Duration::from_millis(2), 200));
    let lanes = run.senders.begin((0..1500).map(|n| format!("evt_{n:04}")), 32, 5);
    let most = peak(&gateway, async { drop(lanes.join_all().await) }).await;
    assert!(most.is_within(before.at_most(64, 64)), "{before:?} {most:?}");
    eventually("nobody is left", || async { gateway.metric(calm).await == 0.0 }).await;
    let idle = before.descriptors + 32; // connections to the app, kept for the next event
    eventually("all are closed", || async { Use::of(&gateway).descriptors <= idle }).await;
    let ledger = run.settle(vec![gateway]).await;
    let gone = ledger.sent.iter().filter(|sent| sent.told.is_none()).count();
    assert!(gone > 300, "{gone} were given up");
    assert_eq!(ledger.received.len(), 1564, "a hang-up costs no duplicate");
    sound(&ledger);
}
