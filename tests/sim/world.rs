//! What all parts of a simulated run share: chance, time, the order of things, the trace, and the ledger.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gatepost::event::Timestamp;
use tokio::time::Instant;

use crate::{ledger::Ledger, rng::Rng};

/// A mistake that is put into the world on purpose, to see whether the run finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The store records an event as done when it is claimed.
    CompleteEarly,
    /// The store forgets what was done.
    ForgetDone,
    /// The store gives an event to whoever asks.
    NobodyWaits,
    /// A claim of a crashed process never ends.
    EndlessLease,
    /// The store knows an event by the provider's id alone.
    OneKeyForAll,
    /// The disk says that it has synced, and has not.
    NoSync,
    /// A new file's name is never made durable.
    NoSyncOfNames,
    /// Signatures are not enforced.
    AnybodyIsBelieved,
    /// Senders are told 200 when the app's answer is late.
    TimeoutIsSuccess,
    /// Senders are told 500 where the app had accepted and the store failed.
    FailAfterSuccess,
    /// Apps are not told that an attempt before may have reached them.
    NeverTold,
    /// What an event is known by changes with the configuration.
    KnownAnew,
    /// The last byte of a body is another one when it reaches the app.
    BodyTouched,
}

/// What happens in a run, and how often: so many in a thousand.
#[derive(Debug)]
pub struct Plan {
    pub gateways: usize,
    pub events: usize,
    /// Requests that a gateway takes at once.
    pub room: u64,
    pub rotate_bytes: u64,
    /// A process dies at an effect.
    pub crash: u64,
    /// The app does something else than accept.
    pub app: u64,
    /// A store operation fails, or is slow.
    pub store: u64,
    /// The store loses what it knew; chances per step of the supervisor.
    pub amnesia: u64,
    pub disk: u64,
    /// Senders hang up, send bodies slowly, break off.
    pub sender: u64,
    pub forged: u64,
    pub clock: u64,
    pub reload: u64,
    pub pause: u64,
}

impl Plan {
    /// Each kind of trouble is there or not, and rare or frequent: a run in which all of it happens at once gets nowhere.
    fn new(rng: &mut Rng, events: usize) -> Self {
        let mut often = |most: u64| match rng.next() % 4 {
            0 | 1 => 0,
            2 => most / 4,
            _ => most,
        };
        Self {
            crash: often(12),
            app: often(700),
            store: often(200),
            amnesia: often(150),
            disk: often(30),
            sender: often(400),
            forged: often(400),
            clock: often(300),
            reload: often(400),
            pause: often(300),
            gateways: 1 + usize::from(rng.next().is_multiple_of(3)),
            events,
            room: if rng.next().is_multiple_of(8) { 2 } else { 64 },
            rotate_bytes: if rng.next().is_multiple_of(2) { 6 * 1024 } else { 1 << 28 },
        }
    }
}

pub struct World {
    pub plan: Plan,
    pub mistake: Option<Mistake>,
    pub ledger: Mutex<Ledger>,
    /// When an attempt became durable, by receipt.
    pub durable: Mutex<BTreeMap<String, u64>>,
    /// Nothing fails any more.
    pub calm: AtomicBool,
    rng: Mutex<Rng>,
    began: Instant,
    order: AtomicU64,
    receipts: AtomicU64,
    trace: Option<Mutex<String>>,
    counts: Mutex<Tally>,
}

/// How often things happened.
pub type Tally = BTreeMap<String, u64>;

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// When every run begins by the clock on the wall.
pub const WALL: i64 = 1_800_000_000_000;

impl World {
    pub fn new(seed: u64, events: usize, mistake: Option<Mistake>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            plan: Plan::new(&mut rng, events),
            mistake,
            ledger: Mutex::default(),
            durable: Mutex::default(),
            calm: AtomicBool::new(false),
            rng: Mutex::new(rng),
            began: Instant::now(),
            order: AtomicU64::new(0),
            receipts: AtomicU64::new(0),
            trace: traced.then(Mutex::default),
            counts: Mutex::default(),
        }
    }

    /// The number of what happens now: later things have higher ones.
    pub fn tick(&self) -> u64 {
        self.order.fetch_add(1, Relaxed) + 1
    }

    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.rng).next() % bound.max(1)
    }

    /// Whether something happens that happens so many times in a thousand; nothing does when all is calm.
    pub fn happens(&self, in_thousand: u64) -> bool {
        in_thousand > 0 && self.below(1000) < in_thousand && !self.calm.load(Relaxed)
    }

    pub fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The right time.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millis(WALL).plus(self.elapsed())
    }

    /// A name for a request that no other has.
    pub fn receipt(&self) -> [u8; 16] {
        let number = self.receipts.fetch_add(1, Relaxed) + 1;
        (u128::from(number) << 88).to_be_bytes()
    }

    /// Adds a line to the trace, where somebody reads it.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let (at, order) = (self.elapsed().as_millis(), self.order.load(Relaxed));
            let line = format!("{at:>7} ms {order:>5}  {}\n", line());
            lock(trace).push_str(&line);
        }
    }

    /// Counts what happened.
    pub fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    pub fn counts(&self) -> Tally {
        lock(&self.counts).clone()
    }

    pub fn trace(&self) -> String {
        self.trace.as_ref().map(|trace| lock(trace).clone()).unwrap_or_default()
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
