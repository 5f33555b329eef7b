//! A crash at each named point, one event, and what the protocol says must follow: what the sender sees, what the next
//! delivery finds, whether the app gets the event twice.

use std::ops::RangeInclusive;

use futures_util::future::join_all;
use tokio::{net::TcpStream, sync::mpsc};

use crate::{
    app::Act,
    ledger::{PREVIOUS_UNKNOWN, Standing},
    run::{Run, sound},
    wire::Wire,
    world::{Gateway, RedisServer},
};

/// Where it crashes, how often the app gets the event in all, and what the first answer after the crash may be.
struct Case {
    point: &'static str,
    receipts: RangeInclusive<usize>,
    then: &'static str,
}

const fn case(point: &'static str, receipts: RangeInclusive<usize>, then: &'static str) -> Case {
    Case { point, receipts, then }
}

/// In the order of the flow: C0, C1, C2, C3 and C4 of the protocol. A record before the first is that of the start.
const CASES: [Case; 13] = [
    case("accepted:1", 1..=1, "accepted"),
    case("before_claim:1", 1..=1, "accepted"),
    case("after_claim:1", 1..=1, "accepted"),
    case("before_write:2", 1..=1, "accepted"),
    case("half_written:2", 1..=1, "accepted"),
    case("written:2", 1..=1, "accepted"),
    case("synced:2", 1..=1, "accepted"),
    case("after_record:1", 1..=1, "accepted"),
    case("forwarded", 2..=2, "accepted"),
    case("after_upstream:1", 2..=2, "accepted"),
    case("before_complete:1", 2..=2, "accepted"),
    case("after_complete:1", 1..=1, "duplicate"),
    case("before_answer:1", 1..=1, "duplicate"),
];

/// Where nothing has been claimed yet.
const UNCLAIMED: [&str; 2] = ["accepted:1", "before_claim:1"];

/// Inside of the embedded store. Claim and *done* may share a transaction.
const STORE_CASES: [Case; 2] =
    [case("in_transaction:1", 1..=2, "accepted"), case("after_transaction:1", 1..=2, "")];

/// Crashes at the point with one event, starts again, and sends the event until it is acknowledged.
async fn crash(case: &Case, dedup: &str, stuck: bool) {
    let run = Run::new(1).await;
    let outside = !case.point.contains(':');
    let (tell, mut forwarded) = mpsc::unbounded_channel();
    run.app.script(move |n, _| {
        if outside && n == 1 {
            tell.send(()).unwrap();
            return Act::Never;
        }
        Act::Say(200)
    });
    let dir = tempfile::tempdir().unwrap();
    let env = [("GATEPOST_CRASH_AT", case.point)];
    let gateway = run.gateway_in(0, dir, dedup, &env).await;
    let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
    let first = run.senders.exchange(wire, 0, "evt_1", Standing::Genuine);
    let killing = async {
        if outside {
            forwarded.recv().await.unwrap();
            gateway.kill().await
        } else {
            gateway.ended().await;
            gateway.leave()
        }
    };
    let ((told, _), dir) = tokio::join!(first, killing);
    assert!(told.is_none(), "{}: the sender sees the connection break, {told:?}", case.point);
    let before = run.app.count();
    let claimed = run.senders.requests()[0].sent.at;
    let gateway = run.gateway_in(0, dir, dedup, &[]).await;
    let answers = run.persist(&gateway, "evt_1").await;
    // Only a claim that outlives its gateway keeps the event away, and only for as long as a lease.
    let (last, waits) = answers.split_last().unwrap();
    assert!(last.outcome.starts_with(case.then), "{}: {answers:?}", case.point);
    let held = stuck && case.then == "accepted" && !UNCLAIMED.contains(&case.point);
    let soon = run.senders.requests()[1].sent.at < claimed + 2_500_000; // the machine was not too slow for it
    assert!(waits.is_empty() != held || held && !soon, "{}: {answers:?}", case.point);
    let attempts = run.app.received();
    assert!(case.receipts.contains(&attempts.len()), "{}: {attempts:?}", case.point);
    if case.receipts.start() == case.receipts.end() {
        let came = usize::from(*case.receipts.end() > 1 || case.then != "accepted");
        assert_eq!(before, came, "{}", case.point);
    }
    assert_eq!(
        says(&gateway, "torn_tail_cut"),
        case.point.starts_with("half_written"),
        "{}",
        case.point
    );
    assert!(says(&gateway, "\"started\"") && !says(&gateway, "\"stopped\""), "{}", case.point);
    let ledger = run.settle(vec![gateway]).await;
    sound(&ledger);
    // The app is told of a claim that ended in the dark, where the store still knows of it, and of nothing else.
    let told: Vec<_> = attempts.iter().map(|came| (came.attempt, &*came.reason)).collect();
    let (first, dark) = ((1, ""), (2, PREVIOUS_UNKNOWN));
    let last = [if held { dark } else { first }];
    let expected = [&[first; 1][..before], &last[..attempts.len() - before]].concat();
    let forgot = !stuck && told == vec![first; attempts.len()];
    let knew = !stuck && told.split_last() == Some((&dark, &vec![first; before]));
    assert!(told == expected || forgot || knew, "{}: {told:?} {expected:?}", case.point);
}

/// Whether this stands in the log of `gateway`.
fn says(gateway: &Gateway, what: &str) -> bool {
    let files = std::fs::read_dir(gateway.dir().join("audit")).unwrap();
    let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let said = |text: Vec<u8>| String::from_utf8_lossy(&text).contains(what);
    files.into_iter().any(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_each_point_with_the_embedded_store() {
    let cases = CASES.iter().chain(&STORE_CASES);
    join_all(cases.map(|case| crash(case, "store: embedded, claim: 3s", false))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_each_point_with_redis() {
    let crash = |case: &'static Case| async move {
        let redis = RedisServer::start(&[]).await;
        let dedup = format!(
            "store: redis, claim: 3s, join_timeout: 100ms, redis: {{ url: \"{}\" }}",
            redis.url()
        );
        crash(case, &dedup, true).await;
    };
    join_all(CASES.iter().map(crash)).await;
}
