//! The app fails in every way it has. Nothing is lost, the sender is told what makes it come again, and what comes twice has
//! its excuse on record.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;

use crate::{
    app::{Act, End},
    bounds::{Use, all_is_closed, is_given_back, limits, peak},
    dice::Dice,
    ledger::{
        PREVIOUS_UNKNOWN, Standing, Told,
        Verdict::{Accepted, Silent},
    },
    run::{Run, sound},
    wire::Wire,
    world::{Gateway, PATIENCE, eventually, size},
};

/// What the app does with an event that it sees for the first time, what its sender is told, and how often it comes in all.
struct Case {
    name: &'static str,
    act: Act,
    told: (u16, &'static str),
    receipts: usize,
}

fn bytes(text: &str, end: End, verdict: crate::ledger::Verdict) -> Act {
    Act::Bytes(text.as_bytes().to_vec(), end, verdict)
}

const WHOLE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n";
const GIGABYTE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
/// More than enough for anything to take too long.
const LATE: Duration = Duration::from_millis(900);

fn flood(first: &str, again: &str, verdict: crate::ledger::Verdict) -> Act {
    let again = again.repeat(16 * 1024 / again.len());
    Act::Flood(first.as_bytes().to_vec(), again.into_bytes(), verdict)
}

fn cases() -> Vec<Case> {
    let case = |name, act, told, receipts| Case { name, act, told, receipts };
    let (broke, failed) = ((502, "upstream_broke"), (502, "upstream_failed"));
    let (timeout, well) = ((504, "upstream_timeout"), (200, "accepted"));
    vec![
        case("resets before it answers", bytes("", End::Reset, Silent), broke, 2),
        case("closes before it answers", bytes("", End::Close, Silent), broke, 2),
        case(
            "resets in its head",
            bytes("HTTP/1.1 200 OK\r\ncontent-le", End::Reset, Silent),
            broke,
            2,
        ),
        case("closes in its head", bytes("HTTP/1.1 200 OK\r\n", End::Close, Silent), broke, 2),
        case("stops in its head", bytes("HTTP/1.1 200 OK\r\n", End::Stay, Silent), timeout, 2),
        case("resets after its head", bytes(WHOLE_HEAD, End::Reset, Accepted), well, 1),
        case(
            "closes in its body",
            bytes(&format!("{WHOLE_HEAD}half"), End::Close, Accepted),
            well,
            1,
        ),
        case(
            "stops in its body",
            bytes(&format!("{WHOLE_HEAD}half"), End::Stay, Accepted),
            well,
            1,
        ),
        case(
            "speaks something else",
            bytes("SSH-2.0-OpenSSH_9.2\r\n", End::Stay, Silent),
            broke,
            2,
        ),
        case("says nonsense", bytes("\x00\x01\x02\r\n\r\n", End::Close, Silent), broke, 2),
        case(
            "says two lengths",
            bytes(
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
                End::Close,
                Silent,
            ),
            broke,
            2,
        ),
        case(
            "some 1xx, then 200",
            bytes(
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                End::Close,
                Accepted,
            ),
            well,
            1,
        ),
        case(
            "headers without end",
            flood("HTTP/1.1 200 OK\r\n", "x-more: and more and more\r\n", Silent),
            broke,
            2,
        ),
        case("1xx without end", flood("", "HTTP/1.1 102 Processing\r\n\r\n", Silent), broke, 2),
        case("a gigabyte", flood(GIGABYTE, "0123456789abcdef", Accepted), well, 1),
        case(
            "chunks without end",
            flood(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "4\r\nmore\r\n",
                Accepted,
            ),
            well,
            1,
        ),
        case("says yes too late", Act::Late(LATE, 200), timeout, 1),
        case("says no too late", Act::Late(LATE, 500), timeout, 2),
        case("never answers", Act::Never, timeout, 2),
        case("500", Act::Say(500), failed, 2),
        case("503", Act::Say(503), (503, "upstream_busy"), 2),
        case("429", Act::Say(429), (503, "upstream_busy"), 2),
        case("410", Act::Say(410), failed, 2),
        case("302", Act::Say(302), failed, 2),
        case("409", Act::Say(409), (422, "upstream_rejected"), 2),
        case("400", Act::Say(400), (400, "upstream_rejected"), 2),
    ]
}

/// Of eight requests one meets one of these failures, whichever; the others are accepted.
pub fn chaos(seed: u64) -> impl FnMut() -> Act + Send {
    let acts: Vec<_> = cases().into_iter().map(|case| case.act).collect();
    let mut dice = Dice(seed);
    move || {
        let chosen = dice.below(acts.len() as u64 * 8);
        acts.get(chosen as usize).cloned().unwrap_or(Act::Say(200))
    }
}

async fn send(run: &Run, gateway: &Gateway, event: &str) -> Told {
    let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
    let (told, _) = run.senders.exchange(wire, 0, event, Standing::Genuine).await;
    told.expect("an answer")
}

/// Sends until it is acknowledged; how it was in the end.
async fn persist(run: &Run, gateway: &Gateway, event: &str) -> Told {
    run.persist(gateway, event).await.pop().unwrap()
}

/// How much memory the gateway has taken more than `before`, in MiB.
async fn grown(gateway: &Gateway, before: f64) -> f64 {
    (gateway.metric("process_resident_memory_bytes").await - before) / 1024.0 / 1024.0
}

/// On one gateway at once, so that none disturbs another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_fail_is_told_and_the_event_goes_through() {
    let run = Run::new(1).await;
    let gateway =
        run.gateway(0, "store: embedded, claim: 3s, join_timeout: 100ms, on_unknown: 3s").await;
    let acts: Vec<_> = cases().into_iter().map(|case| case.act).collect();
    let mut seen = vec![0; acts.len()];
    run.app.script(move |_, received| {
        let case: usize = received.id.trim_start_matches("evt_").parse().unwrap();
        seen[case] += 1;
        if seen[case] == 1 { acts[case].clone() } else { Act::Say(200) }
    });
    let memory = gateway.metric("process_resident_memory_bytes").await;
    let fds = gateway.metric("process_open_fds").await;
    let one = |(n, case): (usize, Case)| {
        let (run, gateway) = (&run, &gateway);
        async move {
            let event = format!("evt_{n}");
            let told = send(run, gateway, &event).await;
            assert_eq!((told.status, &*told.outcome), case.told, "the app {}", case.name);
            let last = persist(run, gateway, &event).await;
            let then = if case.receipts == 1 { "duplicate" } else { "accepted" };
            assert_eq!(last.outcome, then, "the app {}", case.name);
            let came = run.app.received().into_iter().filter(|r| r.id == event);
            let came: Vec<_> = came.map(|received| (received.attempt, received.reason)).collect();
            let dark = matches!(case.told.1, "upstream_broke" | "upstream_timeout");
            let again = (2, if dark { PREVIOUS_UNKNOWN } else { "" }.to_owned());
            let expected = [(1, String::new()), again];
            assert_eq!(came, expected[..case.receipts], "the app {}", case.name);
        }
    };
    join_all(cases().into_iter().enumerate().map(one)).await;
    let grown = grown(&gateway, memory).await;
    assert!(grown < 64.0, "{grown} MiB more");
    eventually("connections are closed", || async {
        gateway.metric("process_open_fds").await <= fds + cases().len() as f64
    })
    .await;
    sound(&run.settle(vec![gateway]).await);
}

/// Informational answers without end are cut off after so many, and hold up nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_1xx_stops_nobody_else() {
    let run = Run { timeout: 3000, ..Run::new(1).await };
    let gateway = run.gateway(0, "store: embedded, on_unknown: release").await;
    let memory = gateway.metric("process_resident_memory_bytes").await;
    run.app.script(|n, _| match n {
        1 => flood("", "HTTP/1.1 102 Processing\r\n\r\n", Silent),
        _ => Act::Say(200),
    });
    let flooded = send(&run, &gateway, "evt_flooded");
    let others = async {
        eventually("the flood has begun", || async { run.app.count() == 1 }).await;
        for n in 0..16 {
            assert_eq!(send(&run, &gateway, &format!("evt_{n}")).await.outcome, "accepted");
        }
        grown(&gateway, memory).await
    };
    let (told, grown) = tokio::join!(flooded, others);
    assert_eq!((told.status, &*told.outcome), (502, "upstream_broke"));
    assert!(grown < 64.0, "{grown} MiB more");
    assert_eq!(persist(&run, &gateway, "evt_flooded").await.outcome, "accepted");
    sound(&run.settle(vec![gateway]).await);
}

/// What an app takes that says something without end is given back each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_an_app_leave_nothing() {
    const FLOODS: usize = 160;
    let run = Run { limits: limits(64, 16), ..Run::new(1).await };
    let gateway = run.gateway(0, "store: embedded, on_unknown: release").await;
    let floods = cases().into_iter().filter(|case| matches!(case.act, Act::Flood(..)));
    let (acts, told): (Vec<_>, Vec<_>) = floods.map(|case| (case.act, case.told)).unzip();
    run.app.script(move |n, _| acts[(n - 1) % acts.len()].clone());
    let each = async |numbers: std::ops::Range<usize>| {
        for n in numbers {
            let was = send(&run, &gateway, &format!("evt_{n}")).await;
            assert_eq!((was.status, &*was.outcome), told[n % told.len()]);
        }
    };
    each(0..FLOODS / 8).await; // once all is in use that ever is
    let before = Use::of(&gateway);
    let most = peak(&gateway, each(FLOODS / 8..FLOODS)).await;
    assert!(most.is_within(before.at_most(64, 16)), "{before:?} {most:?}");
    all_is_closed(&gateway, before).await;
    is_given_back(&gateway, before);
    run.app.always(Act::Say(200));
    for n in 0..FLOODS {
        persist(&run, &gateway, &format!("evt_{n}")).await;
    }
    sound(&run.settle(vec![gateway]).await);
}

#[tokio::test]
async fn an_app_that_is_not_there_releases_the_claim() {
    let run = Run::new(1).await;
    let gateway = run.gateway(0, "store: embedded").await;
    run.app.go();
    eventually("nobody answers", || async { TcpStream::connect(run.app.address).await.is_err() })
        .await;
    for _ in 0..3 {
        let told = send(&run, &gateway, "evt_1").await;
        assert_eq!((told.status, &*told.outcome), (502, "upstream_failed"), "never in flight");
    }
    run.app.come_back().await;
    assert_eq!(send(&run, &gateway, "evt_1").await.outcome, "accepted");
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), 1);
    sound(&ledger);
}

/// Every way to fail at random, under load, and the app goes and comes back. `CHAOS_EVENTS` sizes the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_in_chaos_loses_nothing() {
    let events = size("CHAOS_EVENTS", 3000) as usize;
    let run = Run::new(1).await;
    let gateway = run.gateway(0, "store: embedded, claim: 3s, join_timeout: 100ms").await;
    let mut chaos = chaos(size("CHAOS_SEED", 11));
    run.app.script(move |_, _| chaos());
    let sending = async {
        let events = (0..events).map(|n| format!("evt_{n:07}"));
        let lanes = run.senders.begin(events, 32, 5);
        lanes.join_all().await;
    };
    let mut bounds = None;
    let leaving = async {
        eventually("a third of them", || async { run.senders.acked() >= events / 3 }).await;
        bounds = Some(Use::of(&gateway));
        run.app.go();
        let failed = || run.senders.requests().iter().filter(|r| told_502(&r.sent.told)).count();
        let before = failed();
        eventually("its absence is felt", || async { failed() >= before + 20 }).await;
        run.app.come_back().await;
    };
    tokio::join!(sending, leaving);
    // What the app did not end, or ended in the middle, is not kept: neither memory nor a connection for each.
    let before: Use = bounds.unwrap();
    eventually("connections are closed", || async {
        Use::of(&gateway).descriptors <= before.descriptors
    })
    .await;
    Use::of(&gateway).is_at_most(before, 6 * 1024);
    let ledger = run.settle(vec![gateway]).await;
    sound(&ledger);
    let more = ledger.received.len() - events;
    eprintln!("{events} events, {} requests, {more} deliveries more", ledger.sent.len());
    assert!(more > events / 20, "failures were frequent: {more}");
}

fn told_502(told: &Option<Told>) -> bool {
    told.as_ref().is_some_and(|told| told.status == 502)
}
