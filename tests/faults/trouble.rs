//! What may go wrong around a gateway while it is reloaded, its secrets are rotated, and it is told to end.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use gatepost::event::Timestamp;
use tempfile::TempDir;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    ledger::{Ledger, Received, Standing, Told},
    network::{Line, Network},
    run::{Run, verified},
    scene::{events_in, local},
    server::{self, Server},
    wire::Wire,
    world::{
        Dialer, Gateway,
        disk::{Failing, SmallDisk},
        eventually,
        gateway::records,
        strangers,
        wall::WallClock,
    },
};

/// An app may take 600 ms here.
const CLAIMS: &str = "claim: 1600ms, join_timeout: 100ms";
/// What Redis is told at its start, where it may be unable to save, and has time to load.
const SAVES: [&str; 4] = [
    "save 3600 1",
    "enable-protected-configs yes",
    "key-load-delay 3000",
    "loading-process-events-interval-bytes 1024",
];
/// What a slow line, and a slow disk, take more.
const SLOW_LINE: Duration = Duration::from_millis(200);
const SLOW_DISK: (&str, Duration) = ("delay_enter=100000", Duration::from_millis(100));

/// Events of these names take so long at the app; it leaves the first attempt of the other ones without an answer.
pub const TWINS: &str = "evt_twins";
pub const SLOW_TWINS: Duration = Duration::from_millis(300);
pub const HELD: &str = "evt_held";

/// One of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The line to Redis does this.
    Line(Line),
    /// The way of every answer of Redis takes 200 ms.
    Slow,
    /// Redis stands still.
    Stopped,
    /// Redis is told this, and that when it is over.
    Told(&'static [&'static str], &'static [&'static str]),
    /// Redis loses all that it knows.
    Flushed,
    /// Redis has no room for all that it knows.
    Evicted,
    /// Redis is killed, refuses connections, and comes back with nothing.
    Emptied,
    /// Redis is killed, and comes back; it is slow to load what it had saved.
    Loading,
    /// A replica that had lost touch takes over.
    Stale,
    /// Redis cannot save, and so takes no writes.
    Unsaved,
    /// Redis loses the scripts that it was told.
    Scripts,
    /// Slots of a cluster move to another server.
    Moving,
    /// Events of a cluster went to another server, and their slots did not yet.
    HalfMoved,
    /// These calls on the record end like that: nothing is taken any more until a new start.
    Record(&'static str, &'static str),
    /// The record's syncs take 100 ms more.
    SlowRecord,
    /// The same on the embedded store, which recovers.
    Store(&'static str, &'static str),
    /// The disk is full.
    Full,
    /// The wall clock is off.
    Clock(&'static str),
    /// The same, by less than a signature's time may be.
    Step(&'static str),
    /// Strangers of every kind.
    Strangers,
    /// The gateway stands still, until another one has delivered what it had claimed.
    Asleep,
    /// A hundred equal deliveries at once, on two gateways.
    Twins,
}

impl Trouble {
    /// Whether a gateway that ends may not have been able to bring everything to its end.
    pub fn is_in_the_way(self) -> bool {
        match self {
            Self::Line(_)
            | Self::Stopped
            | Self::Told(..)
            | Self::Emptied
            | Self::Loading
            | Self::Unsaved
            | Self::Record(..)
            | Self::Store(..)
            | Self::Full => true,
            Self::Slow
            | Self::Flushed
            | Self::Evicted
            | Self::Stale
            | Self::Scripts
            | Self::Moving
            | Self::HalfMoved
            | Self::SlowRecord
            | Self::Clock(_)
            | Self::Step(_)
            | Self::Strangers
            | Self::Asleep
            | Self::Twins => false,
        }
    }
}

/// Everything around a gateway that trouble can come from, as far as it is there.
pub struct Around {
    pub run: Run,
    pub dedup: String,
    /// One server, or the nodes of a cluster.
    redis: Vec<Server>,
    /// The line to it.
    network: Option<Network>,
    /// A disk and a clock of its own.
    own: Option<(SmallDisk, WallClock)>,
    /// Where its state is.
    state: PathBuf,
    /// Another gateway on the same Redis, which goes on all the time.
    peer: Option<Gateway>,
    /// When the clock was off.
    off: Vec<(u64, u64)>,
    /// When Redis lost all that it knew, or some of it.
    lost: Vec<u64>,
}

/// What ends a trouble when it goes.
pub enum Going {
    By(Failing),
    Filler(PathBuf),
    Since(u64),
    /// Senders who wait for an answer, or somebody else who has begun something.
    Tasks(JoinSet<()>),
    Nothing,
}

impl Around {
    /// With the embedded store, in its home or on what is its own.
    pub async fn with_embedded(
        home: &TempDir,
        own: Option<((SmallDisk, WallClock), PathBuf)>,
    ) -> Self {
        let (own, state) = own.unzip();
        let run = Run::new(1).await;
        if let Some((disk, _)) = &own {
            run.app.watch(&disk.seen());
        }
        let dedup = format!("store: embedded, {CLAIMS}");
        Self { own, ..Self::of(run, state.unwrap_or_else(|| home.path().to_owned()), dedup) }
    }

    fn of(run: Run, state: PathBuf, dedup: String) -> Self {
        let (redis, off, lost) = (Vec::new(), Vec::new(), Vec::new());
        Self { run, dedup, redis, network: None, own: None, state, peer: None, off, lost }
    }

    /// With a Redis, and a line to it that can be made to misbehave.
    pub async fn with_redis(home: &TempDir) -> Self {
        Self::over_a_line(Run::new(1).await, home, "").await
    }

    async fn over_a_line(run: Run, home: &TempDir, more: &str) -> Self {
        let redis = Server::start(&["repl-diskless-sync-delay 0"]);
        let network = Network::to(local(redis.port)).await;
        let url = format!("redis: {{ url: \"redis://{}\"{more} }}", network.address);
        let dedup = format!("store: redis, {CLAIMS}, {url}");
        let of = Self::of(run, home.path().to_owned(), dedup);
        Self { redis: vec![redis], network: Some(network), ..of }
    }

    /// With a Redis without anything in between, that saves when it is told to.
    pub async fn on_redis(home: &TempDir) -> Self {
        let redis = Server::start(&SAVES);
        let dedup =
            format!("store: redis, {CLAIMS}, redis: {{ url: \"redis://{}\" }}", redis.address());
        let of = Self::of(Run::new(1).await, home.path().to_owned(), dedup);
        Self { redis: vec![redis], ..of }
    }

    pub async fn on_a_cluster(home: &TempDir) -> Self {
        let redis = server::cluster();
        let hosts: Vec<_> = redis.iter().map(Server::address).collect();
        let url = format!("redis: {{ url: \"redis+cluster://{}\" }}", hosts.join(","));
        let dedup = format!("store: redis, {CLAIMS}, {url}");
        Self { redis, ..Self::of(Run::new(1).await, home.path().to_owned(), dedup) }
    }

    /// With a Redis that may take its time, and another gateway on it, whose configuration `change` has changed.
    pub async fn with_a_peer(home: &TempDir, change: impl Fn(&str) -> String) -> Self {
        let mut around = Self::over_a_line(Run::new(2).await, home, ", timeout: 1s").await;
        let dir = tempfile::tempdir().unwrap();
        let text = change(&around.run.config(dir.path(), &around.dedup));
        let peer = Gateway::start_whole(dir, &text).await;
        around.run.senders.gateway(1, Some(peer.address));
        around.peer = Some(peer);
        around
    }

    pub async fn gateway(&self, home: TempDir) -> Gateway {
        let Some((disk, clock)) = &self.own else {
            return self.run.gateway_in(0, home, &self.dedup, &[]).await;
        };
        let wrapper = [disk.wrapper(), clock.wrapper()].concat();
        self.run.gateway_under(&wrapper, home, &self.state, &self.dedup).await
    }

    /// Where the state can be read of the gateway whose home is this.
    pub fn seen<'a>(&self, home: &'a Path) -> std::borrow::Cow<'a, Path> {
        self.own.as_ref().map_or(home.into(), |(disk, _)| disk.seen().into())
    }

    fn redis(&self) -> &Server {
        &self.redis[0]
    }

    fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    fn clock(&self) -> &WallClock {
        &self.own.as_ref().unwrap().1
    }

    fn peer(&self) -> &Gateway {
        self.peer.as_ref().unwrap()
    }

    /// Begins a trouble, and waits until it is felt.
    pub async fn begin(&mut self, trouble: Trouble, gateway: &Gateway) -> Going {
        let audit = gateway.dir().join("audit");
        let from = self.run.clock.now();
        let mut going = Going::Nothing;
        match trouble {
            Trouble::Line(line) => self.network().set(line),
            Trouble::Slow => self.network().set(Line::Slow(SLOW_LINE)),
            Trouble::Stopped => self.redis().signal("STOP"),
            Trouble::Told(begin, _) => drop(self.redis().cli(begin)),
            Trouble::Flushed | Trouble::Evicted | Trouble::Loading | Trouble::Stale => {
                self.lose(trouble).await;
                self.lost.push(self.run.clock.now());
            }
            Trouble::Emptied => self.redis[0].kill(),
            Trouble::Unsaved => self.cannot_save().await,
            Trouble::Scripts => drop(self.redis().cli(&["script", "flush"])),
            Trouble::Moving => going = Going::Tasks(self.move_slots()),
            Trouble::HalfMoved => self.half_move(gateway).await,
            Trouble::Record(calls, how) => {
                going = Going::By(Failing::start(gateway, calls, how, &live(&audit)));
            }
            Trouble::SlowRecord => {
                let (how, _) = SLOW_DISK;
                going = Going::By(Failing::start(gateway, "fdatasync,fsync", how, &live(&audit)));
            }
            Trouble::Store(calls, how) => {
                let wal = gateway.dir().join("dedup.sqlite3-wal");
                going = Going::By(Failing::start(gateway, calls, how, &wal));
            }
            Trouble::Full => going = Going::Filler(self.own.as_ref().unwrap().0.fill()),
            Trouble::Clock(shift) => {
                going = Going::Since(from);
                self.clock().set(shift);
            }
            Trouble::Step(shift) => self.clock().set(shift),
            Trouble::Strangers => {
                strangers::flood(&Dialer::plain(gateway.address), None, 100, 8).await;
            }
            Trouble::Asleep => going = Going::Tasks(self.oversleep(gateway).await),
            Trouble::Twins => going = Going::Tasks(self.twins(gateway).await),
        }
        self.felt(trouble, gateway, from).await;
        going
    }

    async fn felt(&self, trouble: Trouble, gateway: &Gateway, from: u64) {
        match trouble {
            Trouble::Line(_)
            | Trouble::Stopped
            | Trouble::Told(..)
            | Trouble::Emptied
            | Trouble::Unsaved
            | Trouble::Store(..)
            | Trouble::Full => self.run.told("store_unavailable", 3).await,
            Trouble::Loading => {
                self.run.told("store_unavailable", 3).await;
                assert!(self.says("persistence", "loading:1"), "they were told for another reason");
            }
            Trouble::Record(..) => self.run.told("audit_unavailable", 3).await,
            // It waits for Redis twice, and for the record once.
            Trouble::Slow => self.takes(from, 2 * SLOW_LINE).await,
            Trouble::SlowRecord => self.takes(from, SLOW_DISK.1).await,
            Trouble::Moving => {
                eventually("MOVED", || async { self.says("errorstats", "errorstat_MOVED") }).await;
            }
            Trouble::HalfMoved => assert!(self.says("errorstats", "errorstat_ASK")),
            Trouble::Clock(_) => {
                let refused =
                    || async { self.send(gateway, "stripe/evt_timed").await.status == 401 };
                eventually("its time counts", refused).await;
            }
            Trouble::Step(_) => {
                let ahead = Timestamp::now().plus(Duration::from_secs(30)).to_string();
                let audit = self.seen(gateway.dir()).join("audit");
                let dated =
                    || records(&audit).last().is_some_and(|r| *r["ts"].as_str().unwrap() > *ahead);
                eventually("its time counts", || async { dated() }).await;
            }
            Trouble::Flushed
            | Trouble::Evicted
            | Trouble::Stale
            | Trouble::Scripts
            | Trouble::Strangers => self.run.more(20).await,
            Trouble::Asleep | Trouble::Twins => {}
        }
    }

    /// Waits until an event was accepted that took so long.
    async fn takes(&self, from: u64, least: Duration) {
        let least = u64::try_from(least.as_micros()).unwrap();
        let slow = || {
            let mut sent = self.run.senders.requests().into_iter().map(|request| request.sent);
            sent.any(|sent| {
                let told = sent.told.filter(|told| sent.at >= from && told.outcome == "accepted");
                told.is_some_and(|told| told.at - sent.at >= least)
            })
        };
        eventually("it is slow", || async { slow() }).await;
    }

    /// One request by hand.
    async fn send(&self, gateway: &Gateway, event: &str) -> Told {
        let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
        let (told, _) = self.run.senders.exchange(wire, 0, event, Standing::Genuine).await;
        told.expect("an answer")
    }

    /// Whether a server says this in a section of what it says of itself.
    fn says(&self, section: &str, what: &str) -> bool {
        self.redis.iter().any(|server| server.cli(&["info", section]).contains(what))
    }

    /// Redis loses what it knows, or some of it.
    async fn lose(&mut self, trouble: Trouble) {
        let fill = "for n = 1, 3000 do redis.call('SET', 'other' .. n, string.rep('x', 500)) end";
        match trouble {
            Trouble::Evicted => {
                let before = events_in(self.redis());
                self.redis().cli(&["eval", fill, "0"]);
                self.redis().cli(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
                self.redis().cli(&["config", "set", "maxmemory", "2mb"]);
                let all = || events_in(self.redis()).is_superset(&before);
                eventually("some events are evicted", || async { !all() }).await;
                self.redis().cli(&["config", "set", "maxmemory", "0"]);
                self.redis().cli(&["config", "set", "maxmemory-policy", "noeviction"]);
            }
            Trouble::Loading => {
                self.redis().cli(&["eval", fill, "0"]);
                self.redis().cli(&["save"]);
                self.redis[0].kill();
                self.redis[0].up();
                eventually("loading", || async { self.says("persistence", "loading:1") }).await;
            }
            Trouble::Stale => {
                let replica =
                    Server::start(&[&format!("replicaof 127.0.0.1 {}", self.redis().port)]);
                let connected = || async { replica.cli(&["role"]).contains("connected") };
                eventually("replication", connected).await;
                replica.cli(&["replicaof", "no", "one"]);
                self.run.more(40).await;
                self.network().lead_to(local(replica.port));
                self.redis = vec![replica];
            }
            _ => drop(self.redis().cli(&["flushall"])),
        }
    }

    async fn cannot_save(&self) {
        let gone = self.redis().path("gone");
        std::fs::create_dir(&gone).unwrap();
        self.redis().cli(&["config", "set", "dir", gone.to_str().unwrap()]);
        std::fs::remove_dir(&gone).unwrap();
        self.redis().cli(&["bgsave"]);
        let refused = || async { self.redis().cli(&["set", "x", "y"]).contains("MISCONF") };
        eventually("MISCONF", refused).await;
    }

    /// Begins to move slots from one node to another.
    fn move_slots(&self) -> JoinSet<()> {
        let id = |node: &Server| node.cli(&["cluster", "myid"]);
        let (from, to, at) = (id(&self.redis[0]), id(&self.redis[1]), self.redis[0].address());
        let mut moving = JoinSet::new();
        moving.spawn_blocking(move || {
            let (from, to) = (["--cluster-from", &from], ["--cluster-to", &to]);
            let reshard = ["--cluster", "reshard", &at, "--cluster-slots", "1000", "--cluster-yes"];
            let done = server::cli(&[&reshard[..], &from, &to].concat());
            assert!(done.contains("Moving slot"), "{done}");
        });
        moving
    }

    /// Moves some events, and asks for them.
    async fn half_move(&self, gateway: &Gateway) {
        let keys = |node: &Server| node.cli(&["keys", "gatepost:evt_*"]);
        let keys: Vec<_> = self.redis.iter().map(keys).collect();
        let keys: BTreeSet<_> = keys.iter().flat_map(|keys| keys.lines()).collect();
        let received = self.run.app.received();
        let is_there = |r: &&Received| keys.contains(&*format!("gatepost:{}", r.event_id));
        for event in received.iter().filter(is_there).take(8) {
            server::half_move(&self.redis, &format!("gatepost:{}", event.event_id));
            self.send(gateway, &format!("{}/{}", event.source, event.id)).await;
        }
    }

    /// The gateway sleeps over the lease of an event that it has sent to the app; it is told to reload in its sleep.
    async fn oversleep(&self, gateway: &Gateway) -> JoinSet<()> {
        let event = format!("{HELD}_{}", self.run.clock.now());
        let owner = self.sent(&[gateway], 1, &event).await;
        let came = || self.run.app.received().iter().any(|received| received.id == event);
        eventually("the app has it", || async { came() }).await;
        let others = async {
            self.run.persist(self.peer(), &event).await;
            gateway.signal("HUP");
        };
        self.run.asleep(0, gateway, others).await;
        owner
    }

    /// A hundred senders of one event, of whom none was answered yet.
    async fn twins(&self, gateway: &Gateway) -> JoinSet<()> {
        let event = format!("{TWINS}_{}", self.run.clock.now());
        let twins = self.sent(&[gateway, self.peer()], 100, &event).await;
        let came = || self.run.app.received().iter().any(|received| received.id == event);
        eventually("the app has it", || async { came() }).await;
        twins
    }

    /// Has `count` senders send an event to these gateways, over a connection each that is there already.
    async fn sent(&self, gateways: &[&Gateway], count: usize, event: &str) -> JoinSet<()> {
        let mut wires = Vec::new();
        for n in 0..count {
            let number = n % gateways.len();
            let stream = TcpStream::connect(gateways[number].address).await.unwrap();
            wires.push((number, Wire::new(stream)));
        }
        let mut sending = JoinSet::new();
        for (number, wire) in wires {
            let (senders, event) = (self.run.senders.clone(), event.to_owned());
            sending.spawn(async move {
                senders.exchange(wire, number, &event, Standing::Genuine).await;
            });
        }
        sending
    }

    /// Ends it.
    pub async fn end(&mut self, trouble: Trouble, going: Going) {
        match trouble {
            Trouble::Line(_) | Trouble::Slow => self.network().set(Line::Fair),
            Trouble::Stopped => self.redis().signal("CONT"),
            Trouble::Told(_, end) => drop(self.redis().cli(end)),
            Trouble::Emptied => {
                let _ = std::fs::remove_file(self.redis().path("dump.rdb")); // nothing may have been saved
                self.redis[0].up();
                self.lost.push(self.run.clock.now());
            }
            Trouble::Loading => {
                self.redis().cli(&["config", "set", "key-load-delay", "0"]);
                eventually("loaded", || async { self.says("persistence", "loading:0") }).await;
            }
            Trouble::Unsaved => {
                let dir = self.redis().path(".");
                self.redis().cli(&["config", "set", "dir", dir.to_str().unwrap()]);
                self.redis().cli(&["bgsave"]);
                let taken = || async { self.redis().cli(&["set", "x", "y"]) == "OK" };
                eventually("it saves", taken).await;
            }
            Trouble::HalfMoved => {
                let fix = ["--cluster", "fix", &self.redis().address(), "--cluster-yes"];
                let done = server::cli(&fix);
                assert!(done.contains("All 16384 slots covered"), "{done}");
            }
            Trouble::Clock(_) | Trouble::Step(_) => self.clock().set("+0"),
            _ => {}
        }
        match going {
            Going::Filler(file) => std::fs::remove_file(file).unwrap(),
            Going::Since(at) => self.off.push((at, self.run.clock.now())),
            Going::Tasks(tasks) => drop(tasks.join_all().await),
            Going::By(_) | Going::Nothing => {}
        }
    }

    /// The books; who signed a time while the clock was off may have been refused.
    pub async fn ledger(mut self, home: &Path) -> Ledger {
        let mut homes = vec![self.seen(home).into_owned()];
        let peer = match self.peer.take() {
            Some(peer) => Some(peer.stop().await.1),
            None => None,
        };
        homes.extend(peer.iter().map(|dir| dir.path().to_owned()));
        homes.iter().for_each(|home| verified(home));
        let homes: Vec<_> = homes.iter().map(PathBuf::as_path).collect();
        let mut ledger = self.run.ledger(&homes);
        for (from, to) in self.off {
            ledger.doubt(from..to);
        }
        for event in self.lost.iter().flat_map(|at| self.run.touched(*at)) {
            *ledger.forgotten.entry(event).or_default() += 1;
        }
        ledger
    }
}

/// The part of the record that is written to.
fn live(audit: &Path) -> PathBuf {
    let files = std::fs::read_dir(audit).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|e| e == "ndjson"));
    segments.max().expect("a segment")
}
