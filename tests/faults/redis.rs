//! Redis fails in every way it has while events come. None is lost; what is delivered twice has an excuse on record, or Redis
//! had lost its key.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    app::Act,
    bounds::{CONNECTIONS, REQUESTS, Use, limits, peak},
    ledger::Standing,
    network::Line,
    run::{Run, sound},
    scene::{EVENTS, LANES, Scene, events_in, local, repeated},
    server::{self, Server, free_port},
    wire::Wire,
    world::{Gateway, PATIENCE, eventually},
};

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
    let forgotten = scene.run.touched(lost);
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

/// It is down, and so is its port: who connects is refused, and not accepted first and cut off then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_connections() {
    let redis = Server::start(&["appendonly yes", "appendfsync always"]);
    let run = Run { limits: limits(CONNECTIONS, REQUESTS), ..Run::new(2).await };
    let mut scene = Scene::direct(run, redis, "claim: 1500ms, redis: { ").await;
    let before: Vec<_> = scene.gateways.iter().map(Use::of).collect();
    let lanes = scene.begin();
    // What its requests are refused for is on a gateway's log.
    let refused = |gateway: &Gateway| {
        gateway.log().iter().filter(|line| line.contains("Connection refused")).count()
    };
    for count in [60, 180] {
        scene.acked(count).await;
        let until: Vec<_> = scene.gateways.iter().map(|gateway| refused(gateway) + 8).collect();
        scene.redis.kill();
        let met =
            || scene.gateways.iter().map(refused).zip(&until).all(|(now, until)| now >= *until);
        let both = async {
            scene.told("store_unavailable", 3).await;
            eventually("both are refused", || async { met() }).await;
        };
        let mut other = Use::default();
        let work = async { other = peak(&scene.gateways[1], both).await };
        let one = peak(&scene.gateways[0], work).await;
        for (most, before) in [one, other].into_iter().zip(&before) {
            let allowed = before.at_most(CONNECTIONS, REQUESTS);
            assert!(most.is_within(allowed), "{before:?} {most:?} {allowed:?}");
        }
        scene.redis.up();
    }
    timeout(PATIENCE, lanes.join_all()).await.unwrap();
    scene.again().await;
    scene.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_that_carries_commands_out_later() {
    let scene = Scene::new(&[], 2, "").await;
    // A claim that was given up is carried out all the same, after its gateway has lost the line: nobody else says anything.
    assert_eq!(scene.send("evt_early").await.outcome, "accepted");
    scene.redis.signal("STOP");
    assert_eq!(scene.send("evt_late").await.outcome, "store_unavailable");
    scene.network.set(Line::Cut);
    scene.redis.signal("CONT");
    eventually("it is carried out", || async { events_in(&scene.redis).len() == 2 }).await;
    assert_eq!(scene.run.app.count(), 1, "the early one");
    scene.network.set(Line::Fair);
    let ready = || async { scene.gateways[0].admin("GET", "/readyz").await.status == 200 };
    eventually("it is reached again", ready).await;
    let told = scene.run.persist(&scene.gateways[0], "evt_late").await.pop().unwrap();
    assert_eq!(told.outcome, "accepted");
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
    let forgotten = scene.run.touched(lost);
    let ledger = scene.settle(forgotten.clone()).await;
    let repeated = repeated(&ledger);
    assert!((60..=forgotten.len()).contains(&repeated), "{repeated} of {} lost", forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicting_redis_costs_as_many_duplicates_as_keys() {
    let scene = Scene::new(&["maxmemory 3mb", "maxmemory-policy allkeys-lru"], 1, "").await;
    timeout(PATIENCE, scene.begin().join_all()).await.unwrap();
    // Others fill it. Which keys go is a matter of chance, as all of them are young: it goes on until enough have gone.
    let fill =
        "for n = 1, 1000 do redis.call('SET', 'other' .. ARGV[1] .. n, string.rep('x', 500)) end";
    let forgotten = || &scene.run.touched(u64::MAX) - &events_in(&scene.redis);
    let mut round = 0;
    while forgotten().len() <= EVENTS / 10 {
        round += 1;
        assert!(round < 100, "{} of {EVENTS} are evicted", forgotten().len());
        scene.redis.cli(&["eval", fill, "0", &format!("{round}-")]);
    }
    scene.redis.cli(&["config", "set", "maxmemory", "0"]);
    let forgotten = forgotten();
    scene.again().await;
    let ledger = scene.settle(forgotten.clone()).await;
    assert_eq!(repeated(&ledger), forgotten.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes() {
    let scene = Scene::new(&[], 2, "").await;
    let nowhere = free_port().to_string();
    let refuse: [(&str, &[&str], &[&str]); 3] = [
        // Made a replica of a master that is not there.
        ("READONLY", &["replicaof", "127.0.0.1", &nowhere], &["replicaof", "no", "one"]),
        ("OOM", &["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"]),
        (
            "NOREPLICAS",
            &["config", "set", "min-replicas-to-write", "1"],
            &["config", "set", "min-replicas-to-write", "0"],
        ),
    ];
    scene
        .through(async {
            for (round, (why, begin, end)) in refuse.iter().enumerate() {
                scene.acked(40 + 80 * round).await;
                scene.redis.cli(begin);
                scene.told("store_unavailable", 5).await;
                let said = scene.redis.cli(&["info", "errorstats"]);
                assert!(said.contains(&format!("errorstat_{why}:")), "{why}: {said}");
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
        &["save 3600 1", "key-load-delay 3000", "loading-process-events-interval-bytes 1024"],
        1,
        "",
    )
    .await;
    let lanes = scene.begin();
    scene.acked(60).await;
    let fill = "for n = 1, 3000 do redis.call('SET', 'other' .. n, string.rep('x', 100)) end";
    scene.redis.cli(&["eval", fill, "0"]);
    let saved = events_in(&scene.redis);
    scene.redis.cli(&["save"]);
    scene.redis.kill();
    let lost = scene.run.clock.now();
    scene.redis.up();
    // It goes on loading until it was met so: ten seconds, were it left alone.
    let says = |what: &'static str| scene.redis.cli(&["info", "persistence"]).contains(what);
    eventually("loading", || async { says("loading:1") }).await;
    scene.told("store_unavailable", 5).await;
    assert!(says("loading:1"), "they were told for another reason");
    scene.redis.cli(&["config", "set", "key-load-delay", "0"]);
    eventually("loaded", || async { says("loading:0") }).await;
    timeout(PATIENCE, lanes.join_all()).await.unwrap();
    scene.again().await;
    // What was claimed or done between the save and the kill.
    let forgotten = &scene.run.touched(lost) - &saved;
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

/// A cluster, and a gateway that uses it.
async fn on_a_cluster(run: &Run) -> (Vec<Server>, Gateway) {
    let nodes = server::cluster();
    let hosts: Vec<_> = nodes.iter().map(Server::address).collect();
    let dedup = format!(
        "store: redis, claim: 1500ms, join_timeout: 300ms, redis: {{ url: \"redis+cluster://{}\" }}",
        hosts.join(",")
    );
    let gateway = run.gateway(0, &dedup).await;
    eventually("it is ready", || async { gateway.admin("GET", "/readyz").await.status == 200 })
        .await;
    (nodes, gateway)
}

/// What servers have refused so far, by their reasons.
fn refusals(nodes: &[Server]) -> String {
    nodes.iter().map(|node| node.cli(&["info", "errorstats"])).collect()
}

/// A slot after the other goes to another server while events come: MOVED, scripts that the new server does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_moves_its_slots() {
    let run = Run::new(1).await;
    run.app.always(Act::Late(Duration::from_millis(30), 200));
    let (nodes, gateway) = on_a_cluster(&run).await;
    let ids: Vec<_> = nodes.iter().map(|node| node.cli(&["cluster", "myid"])).collect();
    let events = || (0..2 * EVENTS).map(|n| format!("evt_{n:04}"));
    let lanes = run.senders.begin(events(), LANES, 5);
    run.more(60).await;
    let (from, to, at) = (ids[0].clone(), ids[1].clone(), nodes[0].address());
    let moving = tokio::task::spawn_blocking(move || {
        let (from, to) = (["--cluster-from", &from], ["--cluster-to", &to]);
        let reshard = ["--cluster", "reshard", &at, "--cluster-slots", "2000", "--cluster-yes"];
        server::cli(&[&reshard[..], &from, &to].concat())
    });
    let done = moving.await.unwrap();
    assert!(done.contains("Moving slot"), "{done}");
    timeout(3 * PATIENCE, lanes.join_all()).await.expect("every event gets through in the end");
    run.again(|| run.senders.begin(events(), LANES, 0)).await;
    let refusals = refusals(&nodes);
    assert!(refusals.contains("errorstat_MOVED"), "{refusals}");
    let ledger = run.settle(vec![gateway]).await;
    sound(&ledger);
    assert_eq!(repeated(&ledger), 0);
}

/// Events went to another server and their slots did not, or not yet: ASK. Half of them were delivered before, the others
/// were refused by the app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_slots_are_half_moved() {
    let run = Run::new(1).await;
    run.app.script(|count, _| Act::Say(if count % 2 == 0 { 200 } else { 500 }));
    let (nodes, gateway) = on_a_cluster(&run).await;
    let send = async |n: usize| {
        let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
        let event = format!("evt_{n}");
        run.senders.exchange(wire, 0, &event, Standing::Genuine).await.0.unwrap().outcome
    };
    let mut told = Vec::new();
    for n in 0..8 {
        told.push(send(n).await);
    }
    let keys = nodes.iter().map(|node| node.cli(&["keys", "gatepost:evt_*"])).collect::<Vec<_>>();
    let keys: Vec<_> = keys.iter().flat_map(|keys| keys.lines()).collect();
    assert_eq!(keys.len(), 8);
    keys.iter().for_each(|key| server::half_move(&nodes, key));
    run.app.always(Act::Say(200));
    for (n, before) in told.iter().enumerate() {
        let now = if before == "accepted" { "duplicate" } else { "accepted" };
        assert_eq!(send(n).await, now, "{before}");
        assert_eq!(send(n).await, "duplicate");
    }
    let refusals = refusals(&nodes);
    assert!(refusals.contains("errorstat_ASK"), "{refusals}");
    let ledger = run.settle(vec![gateway]).await;
    sound(&ledger);
    assert_eq!(ledger.received.len(), 12);
}
