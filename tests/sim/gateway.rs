//! A machine with a gateway on it: the real stack and the real record, started again whenever it died.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use gatepost::{
    audit::{self, AuditLog, ByHand},
    config::{self, Config, Env},
    dedup::Joins,
    deliver::{Balance, Dial, HttpVersion, Upstream, UpstreamParams, UpstreamTls},
    event::{Name, Peer, Receipt, Timestamp},
    handshake::Captures,
    receive::{Budget, Inbound},
    stack::{Front, Shared, Upstreams},
    telemetry::Metrics,
};
use http::Request;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::Network,
    disk::{Disk, Mount},
    ledger::Told,
    process::Process,
    sender::{Body, SECRETS},
    store::{Shelf, Store},
    world::{Mistake, WALL, World, lock},
};

/// How long a claim blocks its twins.
pub const LEASE: Duration = Duration::from_secs(3);

const CONFIG: &str = r#"version: 1
server: { host: hooks.example.com }
tls: { mode: none }
sources:
  shop: { provider: stripe, secret: SECRETS, enforce: ENFORCE }
  bank: { provider: stripe, secret: { env: BANK }MORE }
  lax: { provider: stripe, secret: { env: LAX }, dedup: { on_store_error: forward } }
  hub: { provider: github, secret: { env: HUB }, dedup: { on_unknown: release } }
routes:
  - { name: noise, source: shop, events: ["noise.*"], drop: true }
  - { source: shop, events: ["order.*"], to: app, timeout: TIMEOUT }
  - { source: bank, to: app, timeout: TIMEOUT }
  - { source: lax, to: app, timeout: TIMEOUT }
  - { source: hub, to: app, timeout: TIMEOUT }
upstreams: { app: { url: "http://app.internal:8080" } }
dedup: { store: memory, claim: 3s, join_timeout: 400ms }
audit: { headers: [user-agent] }
"#;

/// Configurations that replace each other while requests are under way: another timeout, a secret being rotated.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let variants = [
        ("{ env: SHOP }", "true", "1s", ""),
        ("[{ env: NEXT }, { env: SHOP }]", "true", "900ms", ""),
        ("[{ env: SHOP }, { env: NEXT }]", "true", "1s", ""),
        ("{ env: SHOP }", "false", "1s", ""), // a mistake, and another
        ("{ env: SHOP }", "true", "1s", ", event: { account: \"{json:id}\" }"),
    ];
    variants.map(parse).into()
});

fn parse((secrets, enforce, timeout, more): (&str, &str, &str, &str)) -> Config {
    let text = CONFIG.replace("SECRETS", secrets).replace("ENFORCE", enforce).replace("MORE", more);
    let options = config::Options {
        env: Env::from(SECRETS),
        offline: false,
        now: Timestamp::from_millis(WALL),
    };
    let loaded = config::parse_str("sim.yaml", &text.replace("TIMEOUT", timeout), &options);
    loaded.unwrap_or_else(|report| panic!("{report:?}")).config
}

/// A machine. What is on its disk and what its clock says stays when its process dies.
pub struct Machine {
    pub world: Arc<World>,
    pub number: usize,
    pub disk: Arc<Disk>,
    shelf: Arc<Shelf>,
    /// By how many milliseconds its clock is wrong.
    skew: Arc<AtomicI64>,
    /// How often the clock was set.
    wild: AtomicI64,
    running: Mutex<Option<Arc<Running>>>,
    pub params: audit::Params,
}

/// A gateway that runs.
pub struct Running {
    pub process: Arc<Process>,
    front: ArcSwap<Front<Body>>,
    upstreams: Upstreams,
    shared: Shared,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Machine {
    pub fn new(world: &Arc<World>, number: usize, shelf: &Arc<Shelf>, dir: &Path) -> Arc<Self> {
        let params = params(dir, number, world.plan.rotate_bytes);
        let disk = Disk::new(world, params.dir.clone());
        Arc::new(Self {
            world: Arc::clone(world),
            number,
            disk,
            shelf: Arc::clone(shelf),
            skew: Arc::default(),
            wild: AtomicI64::new(0),
            running: Mutex::new(None),
            params,
        })
    }

    /// The gateway, if one runs.
    pub fn running(&self) -> Option<Arc<Running>> {
        lock(&self.running).clone()
    }

    pub fn clock(&self) -> Timestamp {
        Timestamp::from_millis(self.world.wall().as_millis() + self.skew.load(Relaxed))
    }

    /// By how many seconds the clock is wrong.
    pub fn skew_secs(&self) -> i64 {
        self.skew.load(Relaxed).abs() / 1000
    }

    /// Starts a gateway; nothing where its record cannot be opened.
    fn start(&self, generation: usize) -> Option<Arc<Running>> {
        let world = &self.world;
        let process = Process::new(world, format!("gw{}.{generation}", self.number));
        let mount = Mount { disk: Arc::clone(&self.disk), process: Arc::clone(&process) };
        let (skew, of) = (Arc::clone(&self.skew), Arc::clone(world));
        let clock = move || Timestamp::from_millis(of.wall().as_millis() + skew.load(Relaxed));
        let metrics = Metrics::new();
        let opened =
            audit::open_by_hand(Arc::new(mount), &self.params, metrics.audit(), Arc::new(clock));
        let (log, by_hand) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let (name, error) = (&process.name, error.to_string());
                let why = error.rsplit(": ").next().unwrap_or_default(); // without a path, which is never the same
                world.say(|| format!("{name} does not start: {why}"));
                process.settle(&self.disk);
                return None;
            }
        };
        let store = Store { shelf: Arc::clone(&self.shelf), process: Arc::clone(&process) };
        let shared = Shared {
            captures: Captures::new().0,
            metrics,
            log,
            store: Arc::new(store),
            joins: Joins::default(),
            tracker: TaskTracker::new(),
            room: Budget::new("requests_in_flight", world.plan.room),
            memory: Budget::new("body_memory", 1 << 20),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
        };
        let upstreams = upstreams(&process, &shared.metrics);
        let front = Front::new(world.config(), &upstreams, &shared);
        let running = Arc::new(Running {
            process,
            front: ArcSwap::from_pointee(front),
            upstreams,
            shared,
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&running).write(by_hand));
        world.say(|| format!("{} runs", running.process.name));
        *lock(&self.running) = Some(Arc::clone(&running));
        Some(running)
    }

    /// Keeps a gateway running, and makes trouble, until all is calm and it runs well.
    pub async fn supervise(self: Arc<Self>) {
        for generation in 1.. {
            sleep(self.world.millis(1500)).await;
            let Some(running) = self.start(generation) else { continue };
            let process = Arc::clone(&running.process);
            while !process.is_dead() {
                let wait = Duration::from_millis(150 + self.world.below(1500));
                timeout(wait, process.dead.cancelled()).await.ok();
                if !process.is_dead() {
                    self.trouble(&running).await;
                }
            }
            *lock(&self.running) = None;
            process.settle(&self.disk);
        }
    }

    /// What operators and machines do to a gateway.
    async fn trouble(&self, running: &Running) {
        let (world, plan) = (&self.world, &self.world.plan);
        let name = &running.process.name;
        if let Some(trouble) = running.shared.log.health().trouble {
            world.count("audit trouble");
            world.say(|| format!("{name} {trouble}: restarted"));
            return running.process.die("operator");
        }
        if world.calm.load(Relaxed) {
            self.skew.store(0, Relaxed);
            return;
        }
        if world.happens(plan.clock) {
            const DECADE: i64 = 10 * 365 * 86_400_000;
            const SKEWS: [i64; 7] = [0, 1500, -1500, 200_000, -250_000, DECADE, -DECADE];
            // By years in the first few times only: more such jumps than make up the retention would make all of it old.
            let wild = self.wild.fetch_add(1, Relaxed) < 4;
            let skew = SKEWS[usize::try_from(world.below(if wild { 7 } else { 5 })).unwrap()];
            world.count("clock");
            world.say(|| format!("{name} clock is off by {skew} ms"));
            self.skew.store(skew, Relaxed);
        }
        if world.happens(plan.reload) {
            world.count("reload");
            world.say(|| format!("{name} reloads"));
            running.reload(world.config());
        }
        if world.happens(plan.pause) {
            let time = world.millis(2 * 3000);
            world.count("pause");
            world.say(|| format!("{name} is paused for {} ms", time.as_millis()));
            running.process.pause(Instant::now() + time);
        }
        if world.happens(plan.amnesia) {
            self.shelf.lose();
        } else if world.below(2) == 0 {
            self.shelf.replicate();
        }
        if world.happens(plan.reload / 4) {
            world.count("restart");
            world.say(|| format!("{name} stops in good order"));
            running.stop().await;
        }
    }

    /// Ends the gateway in good order.
    pub async fn stop(&self) {
        let running = lock(&self.running).clone();
        if let Some(running) = running {
            running.stop().await;
        }
    }
}

impl World {
    /// Any configuration that may be in force.
    fn config(&self) -> &'static Config {
        let at = match self.mistake {
            Some(Mistake::AnybodyIsBelieved) => 3,
            Some(Mistake::KnownAnew) => 4 * self.below(2),
            _ => self.below(3),
        };
        &CONFIGS[usize::try_from(at).unwrap()]
    }
}

/// How the record of a machine is kept, below `dir`.
pub fn params(dir: &Path, number: usize, rotate_bytes: u64) -> audit::Params {
    audit::Params {
        dir: dir.join(format!("audit-{number}")),
        retention: Duration::from_hours(9600),
        rotate_bytes,
        rotate_every: Duration::from_hours(24),
        compress: false,
        checkpoint_every: Duration::from_secs(2),
        checkpoint_key: dir.join("audit-signing.key"),
        copy_to: Vec::new(),
        free_bytes_min: 1 << 30,
        fsync: true,
    }
}

/// Connections of one process to the app.
fn upstreams(process: &Arc<Process>, metrics: &Metrics) -> Upstreams {
    let name = Name::parse("app").unwrap();
    let params = UpstreamParams {
        name: name.clone(),
        urls: vec!["http://app.internal:8080".parse().unwrap()],
        balance: Balance::RoundRobin,
        connect_timeout: Duration::from_millis(500),
        concurrency: 64,
        idle_timeout: Duration::from_secs(4),
        http: HttpVersion::Http1,
        remove_headers: Vec::new(),
        set_headers: Vec::new(),
        tls: UpstreamTls::default(),
        networks: Vec::new(),
    };
    let network: Arc<dyn Dial> = Arc::new(Network(Arc::clone(process)));
    let upstream = Upstream::over(Some(&network), params, metrics.upstream(&name)).unwrap();
    Arc::new(HashMap::from([(name, Arc::new(upstream))]))
}

impl Running {
    /// The record's writer: takes what is waiting, now and then, and sometimes the disk takes long.
    async fn write(self: Arc<Self>, mut by_hand: ByHand) {
        let (process, world) = (&self.process, &self.process.world);
        let mut wait = Duration::ZERO;
        while !process.is_dead() {
            timeout(wait, self.stop.cancelled()).await.ok();
            if world.happens(world.plan.disk) {
                sleep(world.millis(2500)).await;
            }
            process.gate("writer").await;
            if self.stop.is_cancelled() {
                by_hand.end();
                return self.stopped.cancel();
            }
            let busy = by_hand.turn();
            wait = if busy { world.millis(2) } else { (wait * 2).min(Duration::from_millis(64)) };
            wait = wait.max(Duration::from_millis(1));
        }
    }

    fn reload(&self, config: &Config) {
        self.front.store(Arc::new(Front::new(config, &self.upstreams, &self.shared)));
    }

    /// No new requests; what is under way gets its time; the record is closed last.
    async fn stop(&self) {
        self.shared.draining.cancel();
        self.shared.closed.cancel();
        self.shared.tracker.close();
        let drained = timeout(Duration::from_secs(4), self.shared.tracker.wait()).await;
        if drained.is_ok() && !self.process.is_dead() {
            self.stop.cancel();
            tokio::select! {
                biased;
                () = self.process.dead.cancelled() => {}
                () = self.stopped.cancelled() => {}
            }
        }
        if !self.process.is_dead() {
            self.process.die("stopped");
        }
    }

    /// Hands a request to the gateway, and its answer back; nothing where it dies before.
    pub async fn answer(&self, request: Request<Body>, received_at: Timestamp) -> Option<Told> {
        let (process, world) = (&self.process, &self.process.world);
        let inbound = Inbound {
            request,
            peer: Peer { ip: [192, 0, 2, 1].into(), https: true },
            receipt: Receipt::from_bytes(world.receipt()),
            received_at,
            place: None,
        };
        let reply = async {
            process.gate("request").await;
            let reply = self.front.load_full().answer_as(inbound, Ok(())).await;
            process.gate("reply").await;
            reply
        };
        let reply = tokio::select! {
            biased;
            () = process.dead.cancelled() => return None,
            reply = reply => reply,
        };
        let text = |name: &str| {
            let value = reply.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let outcome = text("webhook-outcome");
        let mut status = reply.status().as_u16();
        if outcome == "upstream_timeout" && world.has(Mistake::TimeoutIsSuccess) {
            status = 200;
        }
        if outcome == "accepted" && world.has(Mistake::FailAfterSuccess) && world.below(20) == 0 {
            status = 500;
        }
        let retry_after = !text("retry-after").is_empty();
        Some(Told {
            at: world.tick(),
            status,
            outcome,
            receipt: text("webhook-receipt"),
            retry_after,
        })
    }

    /// The log, to look at.
    pub fn log(&self) -> &AuditLog {
        &self.shared.log
    }
}
