//! The connection: made when it is needed, shared by all, checked whenever it is made, dropped when it is no good.
//!
//! While Redis is away no task runs: the next operation (or probe) that finds the pause over tries again, for everyone.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::ConnectionLike as _};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    StoreError,
    target::{Connection, Target},
};

/// How long connecting may take in all: TLS, sentinels and the first questions included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nobody tries again after connecting failed; operations fail at once meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A connection on which so many operations in a row got no answer is dropped.
const TIMEOUTS_MAX: u32 = 4;
/// The first Redis whose scripts may say that they work when memory is full.
const REDIS_MIN: u32 = 7;

/// How a script is called.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    /// By its hash.
    Known,
    /// With its text, because Redis does not know it (any more).
    New,
}

/// The connection to Redis.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    target: Target,
    timeout: Duration,
    require_noeviction: bool,
    tracker: TaskTracker,
    slot: Mutex<Slot>,
    timeouts: AtomicU32,
}

#[derive(Default)]
struct Slot {
    up: Option<Up>,
    /// Closed when the attempt to connect is over.
    trying: Option<watch::Receiver<()>>,
    failed: Option<(Instant, StoreError)>,
    made: u64,
}

/// A connection and which one it is.
#[derive(Clone)]
struct Up {
    connection: Connection,
    number: u64,
}

/// Why a try did not succeed.
enum Failure {
    /// The other try may.
    Again(StoreError),
    /// No try will.
    Final(StoreError),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.target.shown)
    }
}

impl Link {
    pub(super) fn new(
        target: Target,
        timeout: Duration,
        require_noeviction: bool,
        tracker: TaskTracker,
    ) -> Self {
        let (slot, timeouts) = (Mutex::default(), AtomicU32::new(0));
        Self(Arc::new(Inner { target, timeout, require_noeviction, tracker, slot, timeouts }))
    }

    /// Runs a script, at most twice and at most for the timeout. The second try may repeat what the first one did after
    /// all: every script is safe to repeat.
    pub(super) async fn run(&self, command: impl Fn(Verb) -> Cmd) -> Result<Value, StoreError> {
        let deadline = Instant::now() + self.0.timeout;
        let mut last = None;
        for until in [deadline - self.0.timeout / 2, deadline] {
            match timeout_at(until, self.once(&command)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(Failure::Again(error))) => last = Some(error),
                Err(_elapsed) => {
                    self.0.timed_out();
                    last = Some(self.0.error(&format!("no answer within {:?}", self.0.timeout)));
                }
            }
        }
        Err(last.unwrap_or_else(|| self.0.error(&"not tried")))
    }

    /// Asks for version and policy once more, and says what people want to know.
    pub(super) async fn health(&self) -> Result<String, StoreError> {
        let asked = async {
            let mut up = self.up().await?;
            let began = Instant::now();
            let facts = self.0.facts(&mut up.connection).await.inspect_err(|error| {
                self.0.drop_connection(up.number, Some(error.clone()));
            })?;
            let (shown, millis) = (&self.0.target.shown, began.elapsed().as_secs_f64() * 1e3);
            Ok(format!("{facts}, {shown}, {millis:.1} ms"))
        };
        let slow = |_| self.0.error(&format!("no answer within {CONNECT_TIMEOUT:?}"));
        timeout(CONNECT_TIMEOUT, asked).await.map_err(slow)?
    }

    async fn once(&self, command: &impl Fn(Verb) -> Cmd) -> Result<Value, Failure> {
        let mut up = self.up().await.map_err(Failure::Final)?;
        let mut reply = up.connection.send(&command(Verb::Known)).await;
        if let Err(error) = &reply
            && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        {
            reply = up.connection.send(&command(Verb::New)).await;
        }
        if self.0.timeouts.load(Ordering::Relaxed) > 0 && reply.is_ok() {
            self.0.timeouts.store(0, Ordering::Relaxed);
        }
        reply.map_err(|error| self.0.failure(&error, up.number))
    }

    /// The connection, or the error that keeps it from being made.
    async fn up(&self) -> Result<Up, StoreError> {
        let mut trying = {
            let mut slot = self.0.lock();
            if let Some(up) = &slot.up {
                return Ok(up.clone());
            }
            match (&slot.trying, &slot.failed) {
                (Some(trying), _) => trying.clone(),
                (None, Some((when, error))) if when.elapsed() < RETRY_PAUSE => {
                    return Err(error.clone());
                }
                (None, _) => self.try_connecting(&mut slot),
            }
        };
        drop(trying.changed().await); // closed when it is over
        let slot = self.0.lock();
        let error = || slot.failed.as_ref().map(|(_, error)| error.clone());
        slot.up.clone().ok_or_else(|| error().unwrap_or_else(|| self.0.error(&"not connected")))
    }

    /// Connects in a task of its own, so that nobody's short timeout cuts it off.
    fn try_connecting(&self, slot: &mut Slot) -> watch::Receiver<()> {
        let (over, trying) = watch::channel(());
        slot.trying = Some(trying.clone());
        let inner = self.0.clone();
        self.0.tracker.spawn(async move {
            let made = timeout(CONNECT_TIMEOUT, inner.connect()).await;
            let slow = |_| inner.error(&format!("not connected within {CONNECT_TIMEOUT:?}"));
            inner.tried(made.map_err(slow).flatten());
            drop(over);
        });
        trying
    }
}

impl Inner {
    async fn connect(&self) -> Result<Connection, StoreError> {
        let mut connection = self.target.open().await.map_err(|error| self.error(&error))?;
        let facts = self.facts(&mut connection).await?;
        tracing::info!(redis = %self.target.shown, %facts, "connected");
        Ok(connection)
    }

    /// Version and eviction policy of every server, if they are such that we may work with it.
    async fn facts(&self, connection: &mut Connection) -> Result<String, StoreError> {
        let reply = connection.send(&::redis::cmd("INFO")).await;
        let mut texts = Vec::new();
        collect(reply.map_err(|error| self.error(&error))?, &mut texts);
        let mut facts = None;
        for text in &texts {
            let fit = fitness(text, self.require_noeviction, self.target.is_cluster());
            facts = Some(fit.map_err(|why| self.error(&why))?);
        }
        facts.ok_or_else(|| self.error(&"INFO says nothing"))
    }

    /// Notes how connecting ended.
    fn tried(&self, made: Result<Connection, StoreError>) {
        let mut slot = self.lock();
        slot.trying = None;
        match made {
            Ok(connection) => {
                slot.made += 1;
                slot.up = Some(Up { connection, number: slot.made });
                slot.failed = None;
                self.timeouts.store(0, Ordering::Relaxed);
            }
            Err(error) => slot.failed = Some((Instant::now(), error)),
        }
    }

    /// What an error means for the connection and for a second try.
    fn failure(&self, error: &RedisError, number: u64) -> Failure {
        let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if demoted || error.is_connection_dropped() || error.is_unrecoverable_error() {
            self.drop_connection(number, None);
            return Failure::Again(self.error(error));
        }
        if error.is_timeout() {
            self.timed_out();
            return Failure::Again(self.error(error));
        }
        Failure::Final(self.error(error))
    }

    fn timed_out(&self) {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            let number = self.lock().made;
            self.drop_connection(number, None);
        }
    }

    /// Drops the connection of this number, if it is still in use.
    fn drop_connection(&self, number: u64, because: Option<StoreError>) {
        let mut slot = self.lock();
        if slot.up.as_ref().is_some_and(|up| up.number == number) {
            slot.up = None;
            slot.failed = because.map(|error| (Instant::now(), error));
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    fn error(&self, what: &dyn fmt::Display) -> StoreError {
        StoreError(format!("{}: {what}", self.target.shown))
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let reply = match self {
            Self::Single(connection) => connection.send_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        match reply {
            Value::ServerError(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }
}

/// The texts in an answer to INFO: one, or one per node.
fn collect(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } => texts.push(text),
        Value::Map(nodes) => nodes.into_iter().for_each(|(_, value)| collect(value, texts)),
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

/// Whether a server is new enough, takes writes, and keeps what it is told to keep. In a cluster replicas answer too.
fn fitness(info: &str, require_noeviction: bool, cluster: bool) -> Result<String, String> {
    let field = |name| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("unknown", str::trim)
    };
    let (version, policy) = (field("redis_version"), field("maxmemory_policy"));
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < REDIS_MIN) {
        return Err(format!("Redis {version} is too old, {REDIS_MIN} is needed"));
    }
    if !cluster && field("role") == "slave" {
        return Err("this Redis is a replica, the master is needed".into());
    }
    if require_noeviction && policy != "noeviction" {
        return Err(format!(
            "Redis may evict our keys (maxmemory-policy is {policy}), and then deliver events twice: \
             set `maxmemory-policy noeviction`"
        ));
    }
    Ok(format!("Redis {version}, {policy}"))
}
