//! Redis fails in every way it has while events come. None is lost; what is delivered twice has an excuse on record, or Redis
//! had lost its key.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    app::Act,
    ledger::{Ledger, Standing, Told, Verdict},
    network::{Line, Network},
    run::{Run, sound},
    server::{Server, free_port},
    wire::Wire,
    world::{Gateway, PATIENCE, eventually},
};

/// A gateway or several on one Redis, and the line to it.
struct Scene {
    run: Run,
    redis: Server,
    network: Network,
    gateways: Vec<Gateway>,
}

/// How many events a run has.
const EVENTS: usize = 300;
const LANES: usize = 16;

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Scene {
    async fn new(lines: &[&str], gateways: usize, more: &str) -> Self {
        Self::on(Run::new(gateways).await, lines, more, "1500ms").await
    }

    async fn on(run: Run, lines: &[&str], more: &str, claim: &str) -> Self {
        let gateways = run.senders.gateways();
        let redis = Server::start(lines);
        let network = Network::to(local(redis.port)).await;
        // So that a fault comes while there is still something to do.
        run.app.always(Act::Late(Duration::from_millis(30), 200));
        let mut scene = Self { run, redis, network, gateways: Vec::new() };
        for number in 0..gateways {
            let dedup = format!(
                "store: redis, claim: {claim}, join_timeout: 300ms{more}, redis: {{ url: \"redis://{}\", require_noeviction: {} }}",
                scene.network.address,
                !more.contains("forward") && !lines.iter().any(|line| line.contains("lru"))
            );
            let gateway = scene.run.gateway(number, &dedup).await;
            eventually("it is ready", || async {
                gateway.admin("GET", "/readyz").await.status == 200
            })
            .await;
            scene.gateways.push(gateway);
        }
        scene
    }

    /// The first of its gateways, as an address to send to by hand.
    fn door(&self) -> SocketAddr {
        self.gateways[0].address
    }

    fn begin(&self) -> JoinSet<()> {
        self.run.senders.begin((0..EVENTS).map(|n| format!("evt_{n:04}")), LANES, 5)
    }

    /// Sends all events while `fault` goes on, and all of them once more when all is well.
    async fn through(&self, fault: impl Future<Output = ()>) {
        let sending = async {
            let lanes = self.begin();
            timeout(3 * PATIENCE, lanes.join_all())
                .await
                .expect("every event gets through in the end");
        };
        let ((), ()) = tokio::join!(sending, fault);
        self.again().await;
    }

    /// Sends all events once more.
    async fn again(&self) {
        timeout(3 * PATIENCE, self.begin().join_all()).await.expect("and once more");
    }

    /// Waits until so many events were acknowledged.
    async fn acked(&self, count: usize) {
        eventually("events get through", || async { self.run.senders.acked() >= count }).await;
    }

    /// Waits until so many requests, from now on, were told this.
    async fn told(&self, outcome: &str, count: usize) {
        let before = self.count(outcome);
        eventually(outcome, || async { self.count(outcome) >= before + count }).await;
    }

    fn count(&self, outcome: &str) -> usize {
        let requests = self.run.senders.requests();
        let told = requests.iter().filter_map(|request| request.sent.told.as_ref());
        told.filter(|told| told.outcome == outcome).count()
    }

    /// Events whose delivery had begun before `at`: their keys may be lost.
    fn begun(&self, at: u64) -> BTreeSet<String> {
        let received = self.run.app.received();
        received.into_iter().filter(|r| r.at <= at).map(|r| r.event_id).collect()
    }

    /// The books, where Redis has lost what it knew of `forgotten`. No more than that comes twice without another excuse.
    async fn settle(self, forgotten: BTreeSet<String>) -> Ledger {
        let mut ledger = self.run.settle(self.gateways).await;
        ledger.forgotten = forgotten.into_iter().map(|event| (event, 1)).collect();
        sound(&ledger);
        ledger
    }

    /// The same, where Redis has lost nothing.
    async fn settle_whole(self) -> Ledger {
        self.settle(BTreeSet::new()).await
    }

    /// One request.
    async fn send(&self, event: &str) -> Told {
        let wire = Wire::new(tokio::net::TcpStream::connect(self.door()).await.unwrap());
        let (told, _) = self.run.senders.exchange(wire, 0, event, Standing::Genuine).await;
        told.expect("an answer")
    }
}

/// The events that a Redis knows of, by our ids.
fn events_in(redis: &Server) -> BTreeSet<String> {
    let keys = redis.cli(&["keys", "gatepost:evt_*"]);
    keys.lines().map(|key| key.trim_start_matches("gatepost:").to_owned()).collect()
}

/// How many deliveries there were beyond one of each event, but for those with an excuse on record.
fn repeated(ledger: &Ledger) -> usize {
    let events: BTreeSet<_> = ledger.received.iter().map(|r| &r.event_id).collect();
    let excused = ledger.records.iter().filter(|r| r.kind == "attempt" && !r.reason.is_empty());
    ledger.received.len() - events.len() - excused.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_that_comes_back_empty() {
    let mut scene = Scene::new(&[], 2, "").await;
    let lanes = scene.begin();
    scene.acked(60).await;
    scene.redis.kill();
    let lost = scene.run.clock.now();
    scene.told("store_unavailable", 3).await;
    scene.redis.up();
    timeout(PATIENCE, lanes.join_all()).await.unwrap();
    scene.again().await;
    let forgotten = scene.begun(lost);
    let ledger = scene.settle(forgotten.clone()).await;
    let repeated = repeated(&ledger);
    assert!((30..=forgotten.len()).contains(&repeated), "{repeated} of {} lost", forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_redis_that_remembers_but_for_its_scripts() {
    let mut scene = Scene::new(&["appendonly yes", "appendfsync always"], 2, "").await;
    let lanes = scene.begin();
    for count in [60, 180] {
        scene.acked(count).await;
        scene.redis.kill();
        scene.told("store_unavailable", 3).await;
        scene.redis.up();
    }
    timeout(PATIENCE, lanes.join_all()).await.unwrap();
    scene.again().await;
    assert!(
        scene.redis.cli(&["info", "commandstats"]).contains("cmdstat_eval:"),
        "scripts were sent again"
    );
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_that_carries_commands_out_later() {
    let scene = Scene::new(&[], 2, "").await;
    scene
        .through(async {
            for count in [60, 180] {
                scene.acked(count).await;
                scene.redis.signal("STOP");
                scene.told("store_unavailable", 3).await;
                scene.redis.signal("CONT");
            }
        })
        .await;
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_redis() {
    let scene = Scene::new(&[], 2, "").await;
    scene
        .through(async {
            for (count, what) in [(40, "write"), (140, "all")] {
                scene.acked(count).await;
                scene.redis.cli(&["client", "pause", "700", what]);
                scene.told("store_unavailable", 3).await;
            }
        })
        .await;
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis() {
    let scene = Scene::new(&[], 2, "").await;
    let mut lost = 0;
    scene
        .through(async {
            scene.acked(100).await;
            scene.redis.cli(&["flushall"]);
            lost = scene.run.clock.now();
        })
        .await;
    let forgotten = scene.begun(lost);
    let ledger = scene.settle(forgotten.clone()).await;
    let repeated = repeated(&ledger);
    assert!((60..=forgotten.len()).contains(&repeated), "{repeated} of {} lost", forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_redis_costs_as_many_duplicates_as_keys() {
    let scene = Scene::new(&["maxmemory 3mb", "maxmemory-policy allkeys-lru"], 1, "").await;
    timeout(PATIENCE, scene.begin().join_all()).await.unwrap();
    // Others fill it.
    let fill = "for n = 1, 4000 do redis.call('SET', 'other' .. n, string.rep('x', 500)) end";
    scene.redis.cli(&["eval", fill, "0"]);
    scene.redis.cli(&["config", "set", "maxmemory", "0"]);
    let forgotten = &scene.begun(u64::MAX) - &events_in(&scene.redis);
    assert!(forgotten.len() > EVENTS / 10, "some are evicted: {} of {EVENTS}", forgotten.len());
    scene.again().await;
    let ledger = scene.settle(forgotten.clone()).await;
    assert_eq!(repeated(&ledger), forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes() {
    let scene = Scene::new(&[], 2, "").await;
    let nowhere = free_port().to_string();
    let refuse: [(&[&str], &[&str]); 3] = [
        // READONLY: made a replica of a master that is not there.
        (&["replicaof", "127.0.0.1", &nowhere], &["replicaof", "no", "one"]),
        // OOM.
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
        // NOREPLICAS.
        (
            &["config", "set", "min-replicas-to-write", "1"],
            &["config", "set", "min-replicas-to-write", "0"],
        ),
    ];
    scene
        .through(async {
            for (round, (begin, end)) in refuse.iter().enumerate() {
                scene.acked(40 + 80 * round).await;
                scene.redis.cli(begin);
                scene.told("store_unavailable", 5).await;
                scene.redis.cli(end);
            }
        })
        .await;
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_save() {
    let scene = Scene::new(&["save 3600 1", "enable-protected-configs yes"], 1, "").await;
    let (dir, gone) = (scene.redis.path("."), scene.redis.path("gone"));
    std::fs::create_dir(&gone).unwrap();
    let to = |dir: &Path| scene.redis.cli(&["config", "set", "dir", dir.to_str().unwrap()]);
    scene
        .through(async {
            scene.acked(60).await;
            to(&gone);
            std::fs::remove_dir(&gone).unwrap();
            scene.redis.cli(&["bgsave"]);
            let refused = || scene.redis.cli(&["set", "x", "y"]);
            eventually("MISCONF", || async { refused().contains("MISCONF") }).await;
            scene.told("store_unavailable", 5).await;
            to(&dir);
            scene.redis.cli(&["bgsave"]);
        })
        .await;
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_still_loading() {
    let mut scene = Scene::new(
        &["save 3600 1", "key-load-delay 300", "loading-process-events-interval-bytes 1024"],
        1,
        "",
    )
    .await;
    let lanes = scene.begin();
    scene.acked(60).await;
    let fill = "for n = 1, 3000 do redis.call('SET', 'other' .. n, string.rep('x', 100)) end";
    scene.redis.cli(&["eval", fill, "0"]);
    let saved = scene.begun(u64::MAX);
    scene.redis.cli(&["save"]);
    scene.redis.kill();
    let forgotten = &scene.begun(u64::MAX) - &saved;
    scene.redis.up();
    let mut loading = false;
    eventually("it has loaded", || {
        let info = scene.redis.cli(&["info", "persistence"]);
        loading |= info.contains("loading:1");
        async move { info.contains("loading:0") }
    })
    .await;
    assert!(loading, "it took its time");
    let requests = scene.run.senders.requests();
    assert!(scene.count("store_unavailable") > 0, "{:?}", requests.last());
    timeout(PATIENCE, lanes.join_all()).await.unwrap();
    scene.again().await;
    // What was delivered between the save and the kill.
    scene.settle(forgotten).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_replica_that_takes_over() {
    let scene = Scene::new(&[], 2, "").await;
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", scene.redis.port)]);
    let mut forgotten = BTreeSet::new();
    eventually("replication", || async { replica.cli(&["role"]).contains("connected") }).await;
    scene
        .through(async {
            scene.acked(60).await;
            // The replica hears nothing any more; then it is made the master, and everybody led there.
            replica.cli(&["replicaof", "no", "one"]);
            let stale = events_in(&replica);
            scene.acked(180).await;
            scene.network.lead_to(local(replica.port));
            forgotten = &events_in(&scene.redis) - &stale;
        })
        .await;
    let ledger = scene.settle(forgotten.clone()).await;
    let repeated = repeated(&ledger);
    assert!((50..=forgotten.len()).contains(&repeated), "{repeated} of {} lost", forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_misbehaves() {
    let lines = [Line::Cut, Line::Frozen, Line::HalfAnswer, Line::HalfClosed, Line::Garbled];
    join_all(lines.map(|line| async move {
        let scene = Scene::new(&[], 1, "").await;
        scene
            .through(async {
                for count in [60, 180] {
                    scene.acked(count).await;
                    scene.network.set(line);
                    scene.told("store_unavailable", 3).await;
                    scene.network.set(Line::Fair);
                }
            })
            .await;
        scene.settle_whole().await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_delays_and_does_no_more() {
    let scene = Scene::new(&[], 2, "").await;
    scene.network.set(Line::Slow(Duration::from_millis(200)));
    scene
        .through(async {
            scene.acked(40).await;
            scene.network.set(Line::Fair);
        })
        .await;
    scene.settle_whole().await;
}

/// After the forward Redis is not there: the app has said yes, so the sender is told so. *Done* is written later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_after_the_forward() {
    let scene = Scene::on(Run::patient(2).await, &[], "", "12s").await;
    scene.run.app.always(Act::Gated(200));
    let cutting = async {
        eventually("the app has it", || async { scene.run.app.count() == 1 }).await;
        scene.network.set(Line::Cut);
        scene.run.app.open();
    };
    let (told, ()) = tokio::join!(scene.send("evt_1"), cutting);
    assert_eq!((told.status, &*told.outcome), (200, "accepted"));
    let told = scene.send("evt_1").await;
    assert_eq!(
        (told.status, &*told.outcome),
        (200, "duplicate"),
        "its twins know as long as it cannot be written"
    );
    assert_eq!(scene.send("evt_2").await.outcome, "store_unavailable");
    scene.network.set(Line::Fair);
    let key = || scene.redis.cli(&["keys", "gatepost:evt_*"]);
    eventually("it is written", || async {
        let keys = key();
        !keys.is_empty() && scene.redis.cli(&["get", keys.trim()]).starts_with('D')
    })
    .await;
    assert_eq!(scene.send("evt_1").await.outcome, "duplicate");
    let ledger = scene.settle_whole().await;
    assert_eq!(ledger.received.len(), 1);
    let unsettled = ledger.records.iter().filter(|r| r.error.starts_with("not settled"));
    assert!(unsettled.count() > 0, "that a duplicate may follow is on record");
}

/// A gateway is stopped for longer than its lease while the app has the event; another one delivers it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_that_goes_on() {
    let scene = Scene::new(&[], 2, "").await;
    scene.run.app.script(|n, _| if n == 1 { Act::Gated(200) } else { Act::Say(200) });
    let meanwhile = async {
        eventually("the app has it", || async { scene.run.app.count() == 1 }).await;
        scene.gateways[0].signal("STOP");
        scene.run.app.open();
        // The other gateway lets the retry through once the lease is over.
        let other = scene.gateways[1].address;
        loop {
            let wire = Wire::new(tokio::net::TcpStream::connect(other).await.unwrap());
            let (told, _) = scene.run.senders.exchange(wire, 1, "evt_1", Standing::Genuine).await;
            let told = told.unwrap();
            if told.status == 200 {
                assert_eq!(told.outcome, "accepted");
                break;
            }
            assert_eq!(told.outcome, "duplicate_in_flight");
        }
        scene.gateways[0].signal("CONT");
    };
    let (told, ()) = tokio::join!(scene.send("evt_1"), meanwhile);
    // The app had said yes in time, or the gateway woke up past its own patience: a duplicate, or a failure that is retried.
    assert!(matches!(told.status, 200 | 504), "{told:?}");
    assert_eq!(scene.send("evt_1").await.outcome, "duplicate");
    let mut ledger = scene.run.settle(scene.gateways).await;
    assert_eq!(ledger.received.len(), 2);
    // The app did answer, but nobody was awake to hear it in time.
    ledger.received[0].verdict = Verdict::Silent;
    sound(&ledger);
    let excused = ledger.records.iter().filter(|r| r.reason == "previous_attempt_unknown");
    assert_eq!(excused.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_a_source_may_choose_duplicates() {
    let scene = Scene::new(&[], 1, ", on_store_error: forward").await;
    scene
        .through(async {
            scene.acked(60).await;
            scene.network.set(Line::Cut);
            scene.acked(120).await;
            scene.network.set(Line::Fair);
        })
        .await;
    assert_eq!(scene.count("store_unavailable"), 0);
    let ledger = scene.settle_whole().await;
    assert!(ledger.records.iter().any(|r| r.reason == "dedup_unavailable"));
}
