//! Gateways on one Redis, the line to it, and senders: what the tests of Redis and of the line have in common.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    app::Act,
    ledger::{Ledger, Standing, Told},
    network::Network,
    run::{Run, sound},
    server::Server,
    wire::Wire,
    world::{Gateway, PATIENCE, eventually},
};

/// A gateway or several on one Redis, and the line to it.
pub struct Scene {
    pub run: Run,
    pub redis: Server,
    pub network: Network,
    pub gateways: Vec<Gateway>,
}

/// How many events a run has.
pub const EVENTS: usize = 300;
pub const LANES: usize = 16;

pub fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

impl Scene {
    pub async fn new(lines: &[&str], gateways: usize, more: &str) -> Self {
        Self::on(Run::new(gateways).await, lines, more, "1500ms").await
    }

    pub async fn on(run: Run, lines: &[&str], more: &str, claim: &str) -> Self {
        let fit = !more.contains("forward") && !lines.iter().any(|line| line.contains("lru"));
        let more = format!("claim: {claim}{more}, redis: {{ require_noeviction: {fit}, ");
        Self::over(run, Server::start(lines), &more).await
    }

    /// On a Redis that runs already; `more` ends inside of what is said about it.
    pub async fn over(run: Run, redis: Server, more: &str) -> Self {
        let network = Network::to(local(redis.port)).await;
        let address = network.address;
        Self::at(address, run, redis, network, more).await
    }

    /// The same with nothing between the gateways and Redis: when it is down, its port refuses connections.
    pub async fn direct(run: Run, redis: Server, more: &str) -> Self {
        let network = Network::to(local(redis.port)).await;
        Self::at(local(redis.port), run, redis, network, more).await
    }

    async fn at(
        address: SocketAddr,
        run: Run,
        redis: Server,
        network: Network,
        more: &str,
    ) -> Self {
        let gateways = run.senders.gateways();
        // So that a fault comes while there is still something to do.
        run.app.always(Act::Late(Duration::from_millis(30), 200));
        let mut scene = Self { run, redis, network, gateways: Vec::new() };
        for number in 0..gateways {
            let url = format!("url: \"redis://{address}\" }}");
            let dedup = format!("store: redis, join_timeout: 300ms, {more}{url}");
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
    pub fn door(&self) -> SocketAddr {
        self.gateways[0].address
    }

    pub fn begin(&self) -> JoinSet<()> {
        self.run.senders.begin((0..EVENTS).map(|n| format!("evt_{n:04}")), LANES, 5)
    }

    /// Sends all events while `fault` goes on, and all of them once more when all is well.
    pub async fn through(&self, fault: impl Future<Output = ()>) {
        let sending = async {
            let lanes = self.begin();
            timeout(3 * PATIENCE, lanes.join_all())
                .await
                .expect("every event gets through in the end");
        };
        let ((), ()) = tokio::join!(sending, fault);
        self.again().await;
    }

    /// Sends all events once more, when all is well.
    pub async fn again(&self) {
        self.run.again(|| self.begin()).await;
    }

    /// Waits until so many events were acknowledged.
    pub async fn acked(&self, count: usize) {
        eventually("events get through", || async { self.run.senders.acked() >= count }).await;
    }

    /// Waits until so many requests, from now on, were told this.
    pub async fn told(&self, outcome: &str, count: usize) {
        self.run.told(outcome, count).await;
    }

    pub fn count(&self, outcome: &str) -> usize {
        self.run.count(outcome)
    }

    /// The books, where Redis has lost what it knew of `forgotten`. No more than that comes twice without another excuse.
    pub async fn settle(self, forgotten: BTreeSet<String>) -> Ledger {
        let mut ledger = self.run.settle(self.gateways).await;
        ledger.forgotten = forgotten.into_iter().map(|event| (event, 1)).collect();
        sound(&ledger);
        ledger
    }

    /// The same, where Redis has lost nothing.
    pub async fn settle_whole(self) -> Ledger {
        self.settle(BTreeSet::new()).await
    }

    /// Waits until so much time has passed for Redis.
    pub async fn pass(&self, time: Duration) {
        self.redis.cli(&["set", "passing", "", "px", &time.as_millis().to_string()]);
        let is_over = || self.redis.cli(&["exists", "passing"]).trim() == "0";
        eventually("time passes", || async { is_over() }).await;
    }

    /// One request.
    pub async fn send(&self, event: &str) -> Told {
        let wire = Wire::new(tokio::net::TcpStream::connect(self.door()).await.unwrap());
        let (told, _) = self.run.senders.exchange(wire, 0, event, Standing::Genuine).await;
        told.expect("an answer")
    }
}

/// The events that a Redis knows of, by our ids.
pub fn events_in(redis: &Server) -> BTreeSet<String> {
    let keys = redis.cli(&["keys", "gatepost:evt_*"]);
    keys.lines().map(|key| key.trim_start_matches("gatepost:").to_owned()).collect()
}

/// How many deliveries there were beyond the first of each event that have no excuse on record.
pub fn repeated(ledger: &Ledger) -> usize {
    let attempts = ledger.records.iter().filter(|r| r.kind == "attempt" && !r.reason.is_empty());
    let excused: BTreeSet<_> = attempts.map(|record| &record.receipt).collect();
    let (mut received, mut seen) = (ledger.received.iter().collect::<Vec<_>>(), BTreeSet::new());
    received.sort_by_key(|received| received.at);
    let again = received.into_iter().filter(|received| !seen.insert(&received.event_id));
    again.filter(|received| !excused.contains(&received.receipt)).count()
}
