//! `kill -9` at random moments and at every named point, again and again, while senders go on: no acknowledged event is lost,
//! duplicates are no more than the requests in flight at the kill, and each has its excuse on record.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    app::Act,
    books::{Books, Life},
    dice::Dice,
    ledger::{Received, Record, Standing, explained},
    run::{Run, verified},
    world::{Gateway, RedisServer, size},
};

/// The points at which a debug build ends by itself: those that each request passes, and those of a batch.
const POINTS: [&str; 7] = [
    "before_claim",
    "after_claim",
    "after_record",
    "after_upstream",
    "before_complete",
    "after_complete",
    "before_answer",
];
const BATCH_POINTS: [&str; 4] = ["before_write", "half_written", "written", "synced"];
const STORE_POINTS: [&str; 2] = ["in_transaction", "after_transaction"];

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Size {
    kills: u64,
    events: u64,
    seed: u64,
}

impl Size {
    /// The variables are for long runs, and for running a seed again.
    fn of(kills: u64, events: u64) -> Self {
        Self {
            kills: size("KILL_COUNT", kills),
            events: size("KILL_EVENTS", events),
            seed: size("KILL_SEED", 1),
        }
    }
}

/// How a life of a gateway ends.
#[derive(Clone, Debug)]
enum Way {
    /// From outside, at a random moment.
    Kill,
    /// From outside, while the app has an event and has not answered.
    Forwarded,
    /// By itself, at a named point.
    Point(String),
}

/// A run of kills.
struct Killing {
    run: Run,
    size: Size,
    gateways: usize,
    dedup: String,
    points: Vec<(&'static str, u64)>,
    /// How often each gateway was killed.
    killed: Vec<AtomicU64>,
}

impl Killing {
    async fn new(size: Size, gateways: usize, dedup: String) -> Self {
        let per = size.events / size.kills / gateways as u64;
        let mut points: Vec<_> = POINTS.iter().map(|point| (*point, per)).collect();
        points.extend(BATCH_POINTS.iter().map(|point| (*point, per / 8 + 2)));
        if dedup.contains("embedded") {
            points.extend(STORE_POINTS.iter().map(|point| (*point, per / 8 + 2)));
        }
        let killed = (0..gateways).map(|_| 0.into()).collect();
        Self { run: Run::new(gateways).await, size, gateways, dedup, points, killed }
    }

    /// Notes that gateway `number` was killed so often; up to which event it lives this time at the most. On a slow machine
    /// the senders wait for the one that is behind, or the events would be over before the kills.
    fn allow(&self, number: usize, killed: u64) -> u64 {
        self.killed[number].store(killed, Relaxed);
        let per = self.size.events * self.gateways as u64 / self.size.kills;
        let least = self.killed.iter().map(|killed| killed.load(Relaxed)).min().unwrap();
        let over = (least + 1) * self.gateways as u64 > self.size.kills; // what was sent twice counts twice
        let enough = if over { u64::MAX } else { (least + 3) * per };
        self.run.senders.allow(usize::try_from(enough).unwrap());
        (killed + 3) * per
    }

    /// Half of the lives end from outside, half at a point, each in its turn.
    fn way(&self, kill: u64, dice: &mut Dice) -> Way {
        let points = self.points.len() as u64;
        match (kill * 5 + self.size.seed) % (2 * points) {
            n if n + 2 < points => Way::Kill,
            n if n < points => Way::Forwarded,
            n => {
                let (point, often) = self.points[usize::try_from(n - points).unwrap()];
                Way::Point(format!("{point}:{}", 1 + dice.below(often)))
            }
        }
    }

    /// Kills gateway `number` again and again; then it lives on.
    async fn lives(&self, number: usize) -> (Gateway, Vec<Life>) {
        let mut dice = Dice(self.size.seed * 1000 + number as u64);
        let (mut dir, mut lives) = (tempfile::tempdir().unwrap(), Vec::new());
        // What cannot be divided is the first one's.
        let (kills, over) =
            (self.size.kills / self.gateways as u64, self.size.kills % self.gateways as u64);
        let kills = kills + u64::from((number as u64) < over);
        for kill in 0..kills {
            let due = self.size.events * kill / kills + dice.below(self.size.events / kills);
            let (way, most) = (self.way(kill, &mut dice), self.allow(number, kill));
            // Where it ends by what happens, that is waited for: a slow machine comes by few points until it is due.
            let due = if matches!(way, Way::Kill) { due } else { most };
            let (life, left) = self.life(number, dir, &way, due, &mut dice).await;
            lives.push(life);
            dir = left;
        }
        self.allow(number, kills);
        (self.run.gateway_in(number, dir, &self.dedup, &[]).await, lives)
    }

    /// One life: until it ends by itself, or until about `due` events were acknowledged.
    async fn life(
        &self,
        number: usize,
        dir: TempDir,
        way: &Way,
        due: u64,
        dice: &mut Dice,
    ) -> (Life, TempDir) {
        let from = self.run.clock.now();
        let point = if let Way::Point(point) = way { point.as_str() } else { "" };
        let text = self.run.config(dir.path(), &self.dedup);
        let started = Gateway::try_start(dir, &text, &[("GATEPOST_CRASH_AT", point)]).await;
        let life =
            |way: &str| Life { gateway: number, from, to: self.run.clock.now(), way: way.into() };
        let gateway = match started {
            Ok(gateway) => gateway,
            Err((dir, _)) if !point.is_empty() => return (life(point), dir), // in its first breath
            Err((_, log)) => panic!("a gateway does not start after a crash:\n{log}"),
        };
        self.run.senders.gateway(number, Some(gateway.address));
        let mut forwarded = match way {
            Way::Forwarded => Some(self.forwarded(1 + dice.below(50) as usize)),
            Way::Kill | Way::Point(_) => None,
        };
        let reached = loop {
            if gateway.has_ended().is_some() {
                break point;
            }
            if forwarded.as_mut().is_some_and(|seen| seen.try_recv().is_ok()) {
                break "forwarded";
            }
            if self.run.senders.acked() as u64 >= due.min(self.size.events - 1) {
                sleep(Duration::from_micros(dice.below(5000))).await;
                break if gateway.has_ended().is_some() { point } else { "killed" };
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert!(!reached.is_empty(), "ended by itself: {:?}", gateway.log());
        self.run.senders.gateway(number, None);
        let dir = gateway.kill().await;
        (life(reached), dir)
    }

    /// Waits for the `count`-th event from now to be at the app, which then never answers it.
    fn forwarded(&self, count: usize) -> mpsc::UnboundedReceiver<()> {
        let (tell, seen) = mpsc::unbounded_channel();
        let at = self.run.app.count() + count;
        self.run.app.script(move |n, _| {
            if n == at && tell.send(()).is_ok() { Act::Never } else { Act::Say(200) }
        });
        seen
    }

    /// All of it: kills, until every event was acknowledged; then the books are joined.
    async fn go(&self) -> Books {
        let events = (0..self.size.events).map(|n| format!("evt_{n:07}"));
        self.run.senders.forged(FORGED);
        let mut lanes = self.run.senders.begin(events, LANES, 5);
        let ended = join_all((0..self.gateways).map(|number| self.lives(number))).await;
        while let Some(lane) = lanes.join_next().await {
            lane.unwrap();
        }
        let (mut records, mut lives) = (Vec::new(), Vec::new());
        for (gateway, of) in ended {
            let (status, dir) = gateway.stop().await;
            assert!(status.success(), "{status}");
            verified(dir.path());
            records.push(self.run.records(dir.path()));
            lives.extend(of);
        }
        Books {
            requests: self.run.senders.requests(),
            received: self.run.app.received(),
            records,
            lives,
            lease: self.run.most_kept_away(),
        }
    }
}

/// How many requests there are at once.
const LANES: usize = 32;
/// Before so many of a hundred requests comes one that is forged.
const FORGED: usize = 2;

/// What must hold after any number of kills, which are as many as were asked for.
#[track_caller]
fn hold(books: &Books, killing: &Killing) {
    assert_eq!(books.lives.len() as u64, killing.size.kills, "lives that ended by a kill");
    let ledger = books.ledger();
    let findings = ledger.check();
    assert!(findings.is_empty(), "{}", explained(&ledger, &findings));
    let (duplicates, findings) = books.unexplained();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    eprintln!("{}", books.figures(duplicates));
    assert!(books.forged() > books.requests.len() / 200, "some of them are forged");
    if books.lives.len() >= 100 {
        for (point, _) in killing.points.iter().chain(&[("killed", 0), ("forwarded", 0)]) {
            let reached = books.lives.iter().any(|life| life.way.split(':').next() == Some(point));
            assert!(reached, "no life ended at {point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_with_the_embedded_store() {
    let killing = Killing::new(Size::of(150, 30_000), 1, "store: embedded, claim: 3s".into()).await;
    let books = killing.go().await;
    hold(&books, &killing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_with_two_gateways_on_one_redis() {
    let redis = RedisServer::start(&[]).await;
    let dedup = format!(
        "store: redis, claim: 1500ms, join_timeout: 300ms, redis: {{ url: \"{}\" }}",
        redis.url()
    );
    let killing = Killing::new(Size::of(151, 30_200), 2, dedup).await; // not the same number for each
    let books = killing.go().await;
    hold(&books, &killing);
}

/// What was written down of a real run is forged in several ways, and each is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_run_is_seen_through() {
    let size = Size { kills: 4, events: 600, seed: 1 };
    let killing = Killing::new(size, 1, "store: embedded, claim: 3s".into()).await;
    let honest = killing.go().await;
    hold(&honest, &killing);
    // An event that was accepted at once, and that nobody was cut off with.
    let once = |received: &&Received| {
        let of_it =
            honest.received.iter().filter(|other| other.event_id == received.event_id).count();
        let cut = honest.requests.iter().any(|r| r.sent.id == received.id && r.sent.told.is_none());
        of_it == 1 && !cut
    };
    let event = honest.received.iter().find(once).unwrap().clone();
    let rules = |forge: &dyn Fn(&mut Books)| {
        let mut books = honest.clone();
        forge(&mut books);
        let rules: Vec<_> = books.ledger().check().iter().map(|finding| finding.rule).collect();
        (rules, books.unexplained().1.len())
    };
    let lost =
        rules(&|books| books.received.retain(|received| received.event_id != event.event_id));
    assert!(
        matches!(lost.0[0], "lost" | "isolated"),
        "{lost:?}: the other source has an event of this name"
    );
    let unrecorded = rules(&|books| {
        books.records[0].retain(|r| r.kind != "attempt" || r.receipt != event.receipt);
    });
    assert_eq!(unrecorded.0, ["unrecorded"]);
    let again = |books: &mut Books, reason: &str| {
        let begun = |r: &&Record| r.kind == "attempt" && r.receipt == event.receipt;
        let mut attempt = books.records[0].iter().find(begun).unwrap().clone();
        attempt.receipt = "req_again".into();
        (attempt.attempt, attempt.reason) = (2, reason.into());
        books.records[0].push(attempt);
        let at = killing.run.clock.now();
        books.received.push(Received {
            receipt: "req_again".into(),
            attempt: 2,
            reason: reason.into(),
            at,
            ended: at,
            ..event.clone()
        });
    };
    let unexcused = rules(&|books| again(books, ""));
    assert_eq!(
        unexcused,
        (vec!["unexcused"], 1),
        "the second has no excuse, and no kill explains it"
    );
    let unexplained = rules(&|books| again(books, "previous_attempt_unknown"));
    assert_eq!(unexplained, (vec![], 1), "it has an excuse, but no kill explains it");
    let believed = rules(&|books| {
        let mut sent = books.requests.iter_mut().map(|request| &mut request.sent);
        let forged = sent.find(|s| s.standing == Standing::Forged && s.told.is_some()).unwrap();
        forged.told.as_mut().unwrap().status = 200;
    });
    assert_eq!(believed, (vec!["unverified"], 0));
    let delivered = rules(&|books| {
        let forged = books.requests.iter().find(|r| r.sent.standing == Standing::Forged).unwrap();
        let digest = forged.sent.digest.clone();
        let received = books.received.iter_mut().find(|r| r.id == forged.sent.id).unwrap();
        received.digest = digest;
    });
    assert!(delivered.0.contains(&"unverified"), "{delivered:?}");
    // A duplicate that a kill did cause, of which the sender claims to have had an answer.
    let mut answered = honest.clone();
    let told = answered.requests.iter().find_map(|request| request.sent.told.clone());
    for request in &mut answered.requests {
        request.sent.told = request.sent.told.take().or_else(|| told.clone());
    }
    let duplicates = honest.unexplained().0;
    assert!(duplicates > 0, "four kills under load cause some");
    assert_eq!(answered.unexplained().1.len(), duplicates);
}
