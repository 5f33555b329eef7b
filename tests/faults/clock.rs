//! The wall clock is wrong: by years, by a little, or it runs. It changes while a gateway runs and while none does. Events go
//! through all the same, each once; only a signature that names a time is refused, and only while it is out of bounds.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    app::Act,
    forged::seen_through,
    ledger::{Ledger, Received, Standing, Told},
    run::Run,
    scene::{Scene, repeated},
    server::Server,
    wire::Wire,
    world::{Gateway, PATIENCE, eventually, wall::WallClock},
};

/// How the clock is wrong, and whether that is more than a signature may be off.
const SHIFTS: [(&str, bool); 4] =
    [("-3650d", true), ("+3650d", true), ("+0 x100", true), ("+60", false)];
const EVENTS: usize = 160;
const DEDUP: &str = "store: embedded, claim: 2s, join_timeout: 100ms, on_unknown: 2s";

/// A run on a clock.
struct Wrong {
    run: Run,
    clock: WallClock,
    shift: &'static str,
}

impl Wrong {
    async fn gateway(&self, home: TempDir) -> Gateway {
        let state = home.path().to_owned();
        self.run.gateway_under(&self.clock.wrapper(), home, &state, DEDUP).await
    }

    async fn send(&self, gateway: &Gateway, event: &str, standing: Standing) -> Told {
        let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
        let (told, _) = self.run.senders.exchange(wire, 0, event, standing).await;
        told.expect("an answer")
    }

    /// Leaves an event on hold, has the clock changed, starts again, and sees the event through: that takes as long as the
    /// hold, whatever the clock says.
    async fn hold_over(&self, event: &str, gateway: Gateway, shift: &str) -> Gateway {
        let told = self.send(&gateway, event, Standing::Genuine).await;
        assert_eq!((told.status, &*told.outcome), (504, "upstream_timeout"), "{}", self.shift);
        let dir = self.run.end(gateway, false).await;
        self.clock.set(shift);
        let gateway = self.gateway(dir).await;
        let told = self.run.persist(&gateway, event).await.pop().unwrap();
        assert_eq!(told.outcome, "accepted", "{}", self.shift);
        gateway
    }

    /// Right, wrong while it runs, wrong at a start, right at a start.
    async fn through(&self, tolerated: bool) -> (Ledger, Range<u64>) {
        let home = tempfile::tempdir().unwrap();
        let mut gateway = self.gateway(home).await;
        let names = || (0..EVENTS).map(|n| format!("evt_{n:04}"));
        let begin = || self.run.senders.begin_of(["stripe", "github"], names(), 8, 5);
        let lanes = begin();
        self.run.more(20).await;
        let from = self.run.clock.now();
        self.clock.set(self.shift);
        eventually("its time counts", || async {
            let told = self.send(&gateway, "stripe/evt_timed", Standing::Genuine).await;
            assert!(
                told.status == 401 && !tolerated || told.status == 200,
                "{}: {told:?}",
                self.shift
            );
            tolerated || told.status == 401
        })
        .await;
        let forged = self.send(&gateway, "github/evt_0001", Standing::Forged).await;
        assert_eq!(forged.status, 401);
        self.clock.set("+0");
        gateway = self.hold_over("github/evt_held_1", gateway, self.shift).await;
        gateway = self.hold_over("github/evt_held_2", gateway, "+0").await;
        let to = self.run.clock.now();
        timeout(3 * PATIENCE, lanes.join_all()).await.expect("every event gets through in the end");
        timeout(3 * PATIENCE, begin().join_all()).await.expect("and once more");
        (self.run.settle(vec![gateway]).await, from..to)
    }
}

/// An app that takes some events without a word when they come for the first time.
fn silent_once(run: &Run) {
    let mut seen = BTreeSet::new();
    run.app.script(move |_, received| {
        let first = received.id.starts_with("evt_held") && seen.insert(received.id.clone());
        if first { Act::Never } else { Act::Late(Duration::from_millis(20), 200) }
    });
}

impl Ledger {
    /// A signature that names a time may be refused while the clock is wrong, and at no other time.
    pub fn doubt(&mut self, while_wrong: Range<u64>) {
        for sent in self.sent.iter_mut().filter(|sent| sent.source == "stripe") {
            let ended = sent.told.as_ref().map_or(sent.at, |told| told.at);
            let amid = sent.at < while_wrong.end && ended > while_wrong.start;
            if amid && sent.standing == Standing::Genuine {
                sent.standing = Standing::Doubtful;
            }
        }
    }
}

/// Requests that were refused because of what they are signed with.
fn refused(run: &Run) -> usize {
    let requests = run.senders.requests();
    requests.iter().filter_map(|r| r.sent.told.as_ref()).filter(|told| told.status == 401).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_is_wrong_neither_repeats_nor_blocks_an_event() {
    join_all(SHIFTS.map(|(shift, refuses)| async move {
        let (run, home) = (Run::new(1).await, tempfile::tempdir().unwrap());
        silent_once(&run);
        let wrong = Wrong { run, clock: WallClock::in_dir(home.path()), shift };
        let (mut ledger, while_wrong) = wrong.through(!refuses).await;
        let refused = refused(&wrong.run);
        if refuses {
            ledger.doubt(while_wrong);
        }
        seen_through(shift, &ledger);
        assert_eq!(refuses, refused > 1, "{shift}: {refused} were refused");
        assert_eq!(repeated(&ledger), 0, "{shift}");
        let excused = ledger.records.iter().filter(|r| r.reason == "previous_attempt_unknown");
        assert_eq!(excused.count(), 2, "{shift}: what was on hold came again, and says why");
    }))
    .await;
}

/// A gateway's clock jumps while the app has an event: the gateway goes on renewing its claim, and another one is kept away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_kept_while_its_owners_wall_clock_jumps() {
    join_all(["-3650d", "+3650d"].map(|shift| async move {
        let run = Run { timeout: 8_000, ..Run::new(2).await };
        let open = |received: &Received| received.id == "evt_open";
        run.app.script(move |_, it| if open(it) { Act::Gated(200) } else { Act::Say(200) });
        let (home, redis) = (tempfile::tempdir().unwrap(), Server::start(&[]));
        let url = format!("redis: {{ url: \"redis://{}\" }}", redis.address());
        let dedup = format!("store: redis, claim: 9s, join_timeout: 100ms, {url}");
        let (clock, own) = (WallClock::in_dir(home.path()), tempfile::tempdir().unwrap());
        let state = own.path().to_owned();
        let owner = run.gateway_under(&clock.wrapper(), own, &state, &dedup).await;
        let other = run.gateway(1, &dedup).await;
        let wrong = Wrong { run, clock, shift };
        let send = |gateway, event| wrong.send(gateway, event, Standing::Genuine);
        let jump = async {
            eventually("the app has it", || async { wrong.run.app.count() == 1 }).await;
            let key = redis.cli(&["keys", "gatepost:*evt_*"]);
            wrong.clock.set(shift);
            let refused = || async { send(&owner, "stripe/evt_timed").await.status == 401 };
            eventually("its time counts", refused).await;
            // What is kept of a claim says for how long it was given.
            let hash = "return redis.sha1hex(redis.call('GET', KEYS[1]))";
            let kept = || redis.cli(&["eval", hash, "1", &key]);
            let since = kept();
            eventually("the claim is renewed", || async {
                let told = send(&other, "github/evt_open").await;
                assert_eq!(told.outcome, "duplicate_in_flight", "{shift}");
                kept() != since
            })
            .await;
            wrong.run.app.open();
        };
        let (told, ()) = tokio::join!(send(&owner, "github/evt_open"), jump);
        assert_eq!((told.status, &*told.outcome), (200, "accepted"), "{shift}");
        for gateway in [&owner, &other] {
            assert_eq!(send(gateway, "github/evt_open").await.outcome, "duplicate", "{shift}");
        }
        let mut ledger = wrong.run.settle(vec![owner, other]).await;
        ledger.doubt(0..u64::MAX);
        seen_through(shift, &ledger);
        assert_eq!(repeated(&ledger), 0, "{shift}");
    }))
    .await;
}

/// Redis counts leases, holds and windows by its own wall clock. Ahead by years, it forgets; back by years, it would keep
/// everybody away for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_of_redis_that_is_wrong_costs_what_it_forgets_and_blocks_nothing() {
    join_all(["-3650d", "+3650d", "+0 x100"].map(|shift| async move {
        let home = tempfile::tempdir().unwrap();
        let clock = WallClock::in_dir(home.path());
        let redis = Server::start_under(&clock.wrapper(), &[]);
        let dedup = "claim: 1500ms, on_unknown: 1s, redis: { ";
        let scene = Scene::over(Run::new(2).await, redis, dedup).await;
        silent_once(&scene.run);
        let mut at = 0;
        let wrong = async {
            scene.acked(60).await;
            let told = scene.send("evt_held").await;
            assert_eq!((told.status, &*told.outcome), (504, "upstream_timeout"), "{shift}");
            at = overslept(&scene, &clock, shift).await;
            persist(&scene, "evt_held").await;
            let right = set(&scene, &clock, "+0").await;
            if shift == "-3650d" {
                at = right;
            }
            // However quick the senders were: one event that comes when all is well again.
            persist(&scene, "evt_after").await;
        };
        scene.through(wrong).await;
        // A clock that leaps ahead loses what was there; so does one that was behind when it is put right. One that runs ends leases
        // while their owners are at work, if these are slow.
        let leaps = shift != "+0 x100";
        let run = &scene.run;
        let forgotten = if leaps { run.touched(at) } else { run.claimed_again() };
        let ledger = scene.settle(forgotten).await;
        seen_through(shift, &ledger);
        let repeated = repeated(&ledger);
        assert!(repeated > 0 || !leaps, "{shift}: {repeated} without an excuse on record");
    }))
    .await;
}

/// Changes the clock while one gateway sleeps over its lease on an event; the other one takes it over soon. When it changed.
async fn overslept(scene: &Scene, clock: &WallClock, shift: &str) -> u64 {
    let sleeper = &scene.gateways[1];
    let owner = async {
        let wire = Wire::new(TcpStream::connect(sleeper.address).await.unwrap());
        scene.run.senders.exchange(wire, 1, "evt_held_too", Standing::Genuine).await
    };
    let meanwhile = async {
        let came = || scene.run.app.received().iter().any(|r| r.id == "evt_held_too");
        eventually("the app has it", || async { came() }).await;
        scene.run.senders.gateway(1, None);
        let others = async {
            let at = set(scene, clock, shift).await;
            persist(scene, "evt_held_too").await;
            at
        };
        let at = scene.run.asleep(1, sleeper, others).await;
        scene.run.senders.gateway(1, Some(sleeper.address));
        at
    };
    let ((told, _), at) = tokio::join!(owner, meanwhile);
    assert_eq!(told.unwrap().status, 504, "the app kept silent");
    at
}

/// Changes the clock, and sees an event through by the new time. When that began: what was claimed by the old one had come.
async fn set(scene: &Scene, clock: &WallClock, shift: &str) -> u64 {
    clock.set(shift);
    let at = scene.run.clock.now();
    persist(scene, &format!("evt_by_{shift}")).await;
    at
}

/// Sends until it is accepted.
async fn persist(scene: &Scene, event: &str) {
    let told = scene.run.persist(&scene.gateways[0], event).await.pop().unwrap();
    assert_eq!(told.outcome, "accepted", "{event}");
}
