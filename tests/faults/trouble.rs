//! What may go wrong around a gateway while it is reloaded, its secrets are rotated, and it is told to end.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    ledger::{Ledger, Standing},
    network::{Line, Network},
    run::Run,
    scene::local,
    server::Server,
    wire::Wire,
    world::{
        Gateway,
        disk::{Failing, SmallDisk},
        eventually, strangers,
        wall::WallClock,
    },
};

/// An app may take 600 ms here.
const CLAIMS: &str = "claim: 1600ms, join_timeout: 100ms";

/// One of many.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// The line to Redis does this.
    Line(Line),
    /// Redis stands still.
    Stopped,
    /// Redis is told this, and that when it is over.
    Told(&'static [&'static str], &'static [&'static str]),
    /// Redis loses all that it knows.
    Flushed,
    /// Redis loses the scripts that it was told.
    Scripts,
    /// These calls on the record end like that: nothing is taken any more until a new start.
    Record(&'static str, &'static str),
    /// The same on the embedded store, which recovers.
    Store(&'static str, &'static str),
    /// The disk is full.
    Full,
    /// The wall clock is off.
    Clock(&'static str),
    /// Strangers of every kind.
    Strangers,
}

impl Trouble {
    /// Whether a gateway that ends may not have been able to bring everything to its end.
    pub fn is_in_the_way(self) -> bool {
        !matches!(self, Self::Flushed | Self::Scripts | Self::Clock(_) | Self::Strangers)
    }
}

/// Everything around a gateway that trouble can come from, as far as it is there.
pub struct Around {
    pub run: Run,
    pub dedup: String,
    pub redis: Option<(Server, Network)>,
    /// A disk and a clock of its own.
    pub own: Option<(SmallDisk, WallClock)>,
    /// Where its state is.
    pub state: PathBuf,
    /// When the clock was off.
    pub off: Vec<(u64, u64)>,
    /// When Redis lost all that it knew.
    pub flushed: Option<u64>,
}

/// What ends a trouble when it goes.
pub enum Going {
    By(Failing),
    Filler(PathBuf),
    Since(u64),
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
        Self {
            run,
            dedup: format!("store: embedded, {CLAIMS}"),
            redis: None,
            own,
            state: state.unwrap_or_else(|| home.path().to_owned()),
            off: Vec::new(),
            flushed: None,
        }
    }

    pub async fn with_redis(home: &TempDir) -> Self {
        let redis = Server::start(&[]);
        let network = Network::to(local(redis.port)).await;
        let dedup =
            format!("store: redis, {CLAIMS}, redis: {{ url: \"redis://{}\" }}", network.address);
        let embedded = Self::with_embedded(home, None).await;
        Self { dedup, redis: Some((redis, network)), ..embedded }
    }

    pub async fn gateway(&self, home: TempDir) -> Gateway {
        let Some((disk, clock)) = &self.own else {
            return self.run.gateway_in(0, home, &self.dedup, &[]).await;
        };
        let wrapper = [disk.wrapper(), clock.wrapper()].concat();
        self.run.gateway_under(&wrapper, home, &self.state, &self.dedup).await
    }

    /// Where the state can be read when the gateway has ended, whose home is this.
    pub fn seen<'a>(&self, home: &'a Path) -> std::borrow::Cow<'a, Path> {
        self.own.as_ref().map_or(home.into(), |(disk, _)| disk.seen().into())
    }

    fn redis(&self) -> &Server {
        &self.redis.as_ref().unwrap().0
    }

    /// Begins a trouble, and waits until it is felt.
    pub async fn begin(&mut self, trouble: Trouble, gateway: &Gateway) -> Going {
        let audit = gateway.dir().join("audit");
        let mut going = Going::Nothing;
        match trouble {
            Trouble::Line(line) => self.redis.as_ref().unwrap().1.set(line),
            Trouble::Stopped => self.redis().signal("STOP"),
            Trouble::Told(begin, _) => drop(self.redis().cli(begin)),
            Trouble::Flushed => {
                self.redis().cli(&["flushall"]);
                self.flushed = Some(self.run.clock.now());
            }
            Trouble::Scripts => drop(self.redis().cli(&["script", "flush"])),
            Trouble::Record(calls, how) => {
                going = Going::By(Failing::start(gateway, calls, how, &live(&audit)));
            }
            Trouble::Store(calls, how) => {
                let wal = gateway.dir().join("dedup.sqlite3-wal");
                going = Going::By(Failing::start(gateway, calls, how, &wal));
            }
            Trouble::Full => going = Going::Filler(self.own.as_ref().unwrap().0.fill()),
            Trouble::Clock(shift) => {
                going = Going::Since(self.run.clock.now());
                self.own.as_ref().unwrap().1.set(shift);
            }
            Trouble::Strangers => strangers::flood(gateway, 100, 8).await,
        }
        self.felt(trouble, gateway).await;
        going
    }

    async fn felt(&self, trouble: Trouble, gateway: &Gateway) {
        match trouble {
            Trouble::Line(_) | Trouble::Stopped | Trouble::Told(..) | Trouble::Store(..) => {
                self.run.told("store_unavailable", 3).await;
            }
            Trouble::Record(..) => self.run.told("audit_unavailable", 3).await,
            Trouble::Full => self.run.told("store_unavailable", 3).await,
            Trouble::Clock(_) => eventually("its time counts", || self.is_refused(gateway)).await,
            Trouble::Flushed | Trouble::Scripts | Trouble::Strangers => self.run.more(20).await,
        }
    }

    /// Whether an event that is signed now is refused.
    async fn is_refused(&self, gateway: &Gateway) -> bool {
        let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
        let senders = &self.run.senders;
        let (told, _) = senders.exchange(wire, 0, "stripe/evt_timed", Standing::Genuine).await;
        told.expect("an answer").status == 401
    }

    /// Ends it.
    pub fn end(&mut self, trouble: Trouble, going: Going) {
        match trouble {
            Trouble::Line(_) => self.redis.as_ref().unwrap().1.set(Line::Fair),
            Trouble::Stopped => self.redis().signal("CONT"),
            Trouble::Told(_, end) => drop(self.redis().cli(end)),
            Trouble::Clock(_) => self.own.as_ref().unwrap().1.set("+0"),
            _ => {}
        }
        match going {
            Going::Filler(file) => std::fs::remove_file(file).unwrap(),
            Going::Since(at) => self.off.push((at, self.run.clock.now())),
            Going::By(_) | Going::Nothing => {}
        }
    }

    /// The books; who signed a time while the clock was off may have been refused.
    pub fn ledger(self, home: &Path) -> Ledger {
        let mut ledger = self.run.ledger(&[&self.seen(home)]);
        for (from, to) in self.off {
            ledger.doubt(from..to);
        }
        let forgotten = self.flushed.map(|at| self.run.touched(at)).unwrap_or_default();
        ledger.forgotten = forgotten.into_iter().map(|event| (event, 1)).collect();
        ledger
    }
}

/// The part of the record that is written to.
fn live(audit: &Path) -> PathBuf {
    let files = std::fs::read_dir(audit).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|e| e == "ndjson"));
    segments.max().expect("a segment")
}
