//! The connection: kept by one task, shared by all operations, checked when it is made and every second.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::redis::{
    Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::ConnectionLike as _,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};
use arc_swap::ArcSwapOption;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    StoreError,
    target::{Connection, Target},
};

/// How long connecting may take in all: TLS, sentinels and the first questions included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nobody tries again after connecting failed; operations fail at once meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often the connection is checked, and how long that may take.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// How often a timer is due while there are operations.
const TICK: Duration = Duration::from_millis(50);
/// The first Redis whose scripts may say that they work when memory is full.
const REDIS_MIN: u32 = 7;

/// How a script is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// By its hash.
    Known,
    /// With its text, because Redis does not know it (any more).
    New,
}

/// The connection to Redis.
pub(super) struct Link {
    target: Target,
    timeout: Duration,
    require_noeviction: bool,
    /// The connection, or why there is none; nothing while nobody knows.
    status: ArcSwapOption<Result<Up, StoreError>>,
    /// The status is another one.
    changed: Notify,
    /// The connection is no good.
    broken: Notify,
    /// Somebody began an operation.
    used: Notify,
    /// How long the last check took, in microseconds.
    latency: AtomicU64,
}

struct Up {
    connection: Connection,
    /// What the servers say about themselves.
    facts: String,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.target.shown)
    }
}

impl Link {
    pub(super) fn new(target: Target, timeout: Duration, require_noeviction: bool) -> Self {
        Self {
            target,
            timeout,
            require_noeviction,
            status: ArcSwapOption::empty(),
            changed: Notify::new(),
            broken: Notify::new(),
            used: Notify::new(),
            latency: AtomicU64::new(0),
        }
    }

    /// Runs a script, for at most the timeout; once more on a new connection where the old one turns out to be no good.
    /// That may repeat what was done after all: every script is safe to repeat.
    pub(super) async fn run(&self, command: impl Fn(Verb) -> Cmd) -> Result<Value, StoreError> {
        self.used.notify_one();
        let tries = async {
            let (mut verb, mut again) = (Verb::Known, true);
            loop {
                let status = self.settled().await;
                let mut connection =
                    status.as_ref().as_ref().map_err(Clone::clone)?.connection.clone();
                match connection.send(&command(verb)).await {
                    Ok(value) => return Ok(value),
                    Err(error) if verb == Verb::Known && is_unknown_script(&error) => {
                        verb = Verb::New;
                    }
                    Err(error) => {
                        let broken = is_broken(&error);
                        if broken {
                            self.drop_connection(&status);
                        }
                        if !(broken && again) {
                            return Err(self.error(&error));
                        }
                        again = false;
                    }
                }
            }
        };
        let silent = |_elapsed| Err(self.error(&format!("no answer within {:?}", self.timeout)));
        timeout(self.timeout, tries).await.unwrap_or_else(silent)
    }

    /// What people want to know, or why it cannot be used.
    pub(super) async fn health(&self) -> Result<String, StoreError> {
        let slow = |_elapsed| self.error(&format!("no answer within {CONNECT_TIMEOUT:?}"));
        let status = timeout(CONNECT_TIMEOUT, self.settled()).await.map_err(slow)?;
        let facts = &status.as_ref().as_ref().map_err(Clone::clone)?.facts;
        let latency = Duration::from_micros(self.latency.load(Ordering::Relaxed));
        Ok(format!("{facts}, {}, {latency:.1?}", self.target.shown))
    }

    /// Connects, checks, and connects again, until it is dropped.
    pub(super) async fn keep(&self) {
        loop {
            let connecting = timeout(CONNECT_TIMEOUT, self.connect()).await;
            let late = format!("not connected within {CONNECT_TIMEOUT:?}");
            match connecting.unwrap_or_else(|_elapsed| Err(self.error(&late))) {
                Ok(Up { connection, facts }) => {
                    tracing::info!(redis = %self.target.shown, %facts, "connected");
                    self.set(Ok(Up { connection: connection.clone(), facts }));
                    self.watch(connection).await;
                    tracing::warn!(redis = %self.target.shown, "connection lost");
                }
                Err(error) => {
                    self.set(Err(error));
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Registering a timer costs a system call where it is due before all others of its thread. While there are operations
    /// this one is due sooner, and spares that to the timeout of each.
    pub(super) async fn tick(&self) {
        loop {
            self.used.notified().await;
            sleep(TICK).await;
        }
    }

    async fn connect(&self) -> Result<Up, StoreError> {
        let mut connection = self.target.open().await.map_err(|error| self.error(&error))?;
        let facts = self.facts(&mut connection).await?;
        Ok(Up { connection, facts })
    }

    /// Checks the connection until it is no good.
    async fn watch(&self, mut connection: Connection) {
        while timeout(PROBE_PAUSE, self.broken.notified()).await.is_err() {
            let silent = |_elapsed| Err(self.error(&format!("no answer within {PROBE_PAUSE:?}")));
            let facts = timeout(PROBE_PAUSE, self.facts(&mut connection)).await;
            if let Err(error) = facts.unwrap_or_else(silent) {
                return self.set(Err(error));
            }
        }
    }

    /// Version and eviction policy of every server, if they are such that we may work with it.
    async fn facts(&self, connection: &mut Connection) -> Result<String, StoreError> {
        let asked = Instant::now();
        let infos = connection.info().await.map_err(|error| self.error(&error))?;
        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.latency.store(micros, Ordering::Relaxed);
        let facts = infos.iter().map(|info| fitness(info, self.require_noeviction));
        let facts = facts.reduce(Result::and);
        facts.unwrap_or_else(|| Err("INFO says nothing".into())).map_err(|why| self.error(&why))
    }

    /// The status, once there is one.
    async fn settled(&self) -> Arc<Result<Up, StoreError>> {
        loop {
            let changed = self.changed.notified();
            if let Some(status) = self.status.load_full() {
                return status;
            }
            changed.await;
        }
    }

    fn set(&self, status: Result<Up, StoreError>) {
        self.status.store(Some(Arc::new(status)));
        self.changed.notify_waiters();
    }

    /// Has the connection made anew, unless that was done already.
    fn drop_connection(&self, status: &Arc<Result<Up, StoreError>>) {
        let before = self.status.compare_and_swap(status, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, status)) {
            self.broken.notify_one();
        }
    }

    fn error(&self, what: &dyn fmt::Display) -> StoreError {
        StoreError(format!("{}: {what}", self.target.shown))
    }
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        let reply = match self {
            Self::Single(connection) => connection.send_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        reply.extract_error()
    }

    /// What every server that takes writes says about itself.
    async fn info(&mut self) -> Result<Vec<String>, RedisError> {
        let command = ::redis::cmd("INFO");
        match self {
            Self::Single(connection) => Ok(vec![command.query_async(connection).await?]),
            Self::Cluster(connection) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let infos = connection.route_command(command, masters).await?;
                let infos: HashMap<String, String> = ::redis::from_redis_value(infos)?;
                Ok(infos.into_values().collect())
            }
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether another connection may do better: this one is lost, or its server is not the master any more.
fn is_broken(error: &RedisError) -> bool {
    let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    demoted || error.is_unrecoverable_error()
}

/// Whether a server is new enough, takes writes, and keeps what it is told to keep.
fn fitness(info: &str, require_noeviction: bool) -> Result<String, String> {
    let field = |name| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("unknown", str::trim)
    };
    let (version, policy) = (field("redis_version"), field("maxmemory_policy"));
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < REDIS_MIN) {
        return Err(format!("Redis {version} is too old, {REDIS_MIN} is needed"));
    }
    if field("role") == "slave" {
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
