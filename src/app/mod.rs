//! Owns everything that lives: every task, every store, the running configuration. Starts, reloads and stops it.
//!
//! Events live on workers, one thread each; signals, reload, health and watching stay on the thread that started.
//! Shutdown is one function, read downward: stop accepting, let connections finish, wait for detached work, close the
//! record last. A reload is a swap, never an edit: the new configuration is taken over whole, or nothing changes.

mod build;
mod capture;
mod reload;
mod signals;
mod watch;
mod worker;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use reload::Loader;
pub(crate) use signals::run_until_signalled;

use crate::{
    audit,
    config::Config,
    dedup::Joins,
    event::Timestamp,
    handshake::Captures,
    receive::Budget,
    server::{self, Settings, tls::Facts},
    stack::Shared,
    telemetry::Metrics,
};
use build::InUse;
use worker::{Common, Worker};

/// Why the process cannot start; a sentence for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StartError(pub(crate) String);

impl StartError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A running gateway.
pub(crate) struct App {
    /// The configuration in force.
    config: ArcSwap<Config>,
    /// What new connections are served by.
    settings: Arc<ArcSwap<Settings>>,
    /// What outlives a reload, as this thread uses it.
    shared: Shared,
    workers: Vec<Worker>,
    /// How many connections each worker cut, until it is asked at the end.
    drained: Mutex<Vec<oneshot::Receiver<usize>>>,
    /// Workers, store connections, admin, watching: what is part of no event.
    background: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
    /// Locked while a reload goes on.
    upstreams: tokio::sync::Mutex<InUse>,
    /// Where a new configuration comes from.
    loader: Option<Loader>,
    /// At start.
    pub(crate) certificates: Vec<Facts>,
    /// Where events are taken, with the ports that the system chose.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where health and metrics are.
    pub(crate) admin: SocketAddr,
}

/// How the process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Clean,
    /// Connections were cut, or work outlasted the drain timeout.
    CutShort,
}

impl App {
    /// Brings everything up; when this returns, requests are answered.
    pub(crate) async fn start(
        config: Config,
        loader: Option<Loader>,
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Metrics::new();
        let (background, stop) = (TaskTracker::new(), CancellationToken::new());
        let (tls, certificates) = build::tls(&config, &metrics)?;
        let (count, listen) = (config.server.workers, &config.server.listen);
        let nothing = InUse::none(count, &config.dedup);
        let listeners = server::listen(listen, count).map_err(StartError::of)?;
        let (asked, admin) = (config.admin.listen, build::admin_listeners(&config.admin).await?);
        let (captures, to_keep) = Captures::new();
        let shared = Shared {
            captures,
            metrics: metrics.clone(),
            log: audit::open(&config.audit, metrics.audit()).map_err(StartError::of)?,
            store: build::dedup_store(&config, &background, &stop)?,
            joins: Joins::default(),
            tracker: TaskTracker::new(),
            room: Budget::new("requests_in_flight", config.limits.requests_in_flight.get() as u64),
            memory: Budget::new("body_memory", config.limits.body_memory.0),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
        };
        let addresses = bound(&listeners);
        let settings = Settings::new(&config.server, &config.limits, tls);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let upstreams = build::upstreams(&config, &metrics, &nothing)?;
        let (mut workers, mut drained) = (Vec::new(), Vec::new());
        let common = Common {
            config: &config,
            shared: &shared,
            settings: &settings,
            background: &background,
            stop: &stop,
        };
        for (number, (own, listeners)) in upstreams.each.iter().zip(listeners).enumerate() {
            let (worker, ended) = Worker::start(number, &common, own, listeners)?;
            workers.push(worker);
            drained.push(ended);
        }
        let app = Arc::new(Self {
            workers,
            settings,
            config: ArcSwap::from_pointee(config),
            upstreams: tokio::sync::Mutex::new(upstreams),
            shared,
            drained: Mutex::new(drained),
            background,
            stop,
            loader,
            certificates,
            addresses,
            admin: admin.first().and_then(|(own, _)| own.local_addr().ok()).unwrap_or(asked),
        });
        app.shared.metrics.reloaded(true, Timestamp::now().as_seconds());
        app.serve_admin(admin);
        app.watch(to_keep);
        Ok(app)
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Stops in order. What does not end within the drain timeout is cut short, and that is said.
    pub(crate) async fn stop(&self) -> Stopped {
        let (begun, time) = (Instant::now(), self.config.load().server.drain_timeout);
        let deadline = begun + time;
        // Listeners close; requests that are on their way are answered, the late ones by being told to come back.
        self.shared.draining.cancel();
        let drained =
            std::mem::take(&mut *self.drained.lock().unwrap_or_else(PoisonError::into_inner));
        let connections = async {
            let drained = join_all(drained);
            tokio::pin!(drained);
            let early = timeout_at(begun + time / 2, &mut drained).await;
            self.shared.closed.cancel();
            if let Ok(drained) = early { drained } else { drained.await }
        };
        let connections = connections.await;
        // Work that no connection waits for any more: claims, forwards, late answers.
        let detached = join_all(self.workers.iter().map(|worker| {
            worker.shared.tracker.close();
            timeout_at(deadline.max(grace()), worker.shared.tracker.wait())
        }));
        let detached = detached.await.iter().all(Result::is_ok);
        // Nothing is left that needs them.
        self.stop.cancel();
        self.background.close();
        let ended = timeout_at(grace(), self.background.wait()).await.is_ok();
        // The record is closed last: everything above may still have had something to say.
        let closed = timeout_at(deadline.max(closing()), self.shared.log.close()).await;
        match &closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the record was not closed properly"),
            Err(_elapsed) => tracing::error!("the record was not closed in time: its disk hangs"),
        }
        let whole = connections.iter().all(|drained| matches!(drained, Ok(0)));
        let clean = whole && detached && ended && matches!(closed, Ok(Ok(())));
        if clean { Stopped::Clean } else { Stopped::CutShort }
    }

    /// Stops, and closes what is left: the stores. On a thread of its own, because a disk that hangs is not waited for for ever.
    pub(crate) async fn end(self: Arc<Self>) -> Stopped {
        let stopped = self.stop().await;
        let closed = tokio::task::spawn_blocking(move || drop(self));
        if timeout_at(closing(), closed).await.is_err() {
            tracing::error!("the stores were not closed in time: their disk hangs");
            return Stopped::CutShort;
        }
        stopped
    }
}

/// Where senders reach us.
fn bound(listeners: &[Vec<TcpListener>]) -> Vec<SocketAddr> {
    let own = listeners.first().into_iter().flatten();
    own.filter_map(|listener| listener.local_addr().ok()).collect()
}

/// The least that whatever is on disk gets for being closed.
fn closing() -> Instant {
    Instant::now() + Duration::from_secs(4)
}

/// The least that each step of stopping gets, whatever the steps before it took.
fn grace() -> Instant {
    Instant::now() + Duration::from_secs(1)
}
