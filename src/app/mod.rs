//! Owns everything that lives: every task, every store, the running configuration. Starts, reloads and stops it.
//!
//! Shutdown is one function, read downward: stop accepting, let connections finish, wait for detached work, close the
//! record last. A reload is a swap, never an edit: the new configuration is taken over whole, or nothing changes.

mod build;
mod reload;
mod signals;
mod watch;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use reload::{Loader, NotReloaded};
pub use signals::run_until_signalled;

use crate::{
    audit,
    config::Config,
    dedup::Joins,
    deliver::Upstream,
    event::{Name, Timestamp},
    server::{self, Drained, ServerParams, Settings},
    stack::{Front, Shared, Upstreams},
    telemetry::Metrics,
};

/// Why the process cannot start; a sentence for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl StartError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    /// The configuration in force.
    config: ArcSwap<Config>,
    /// Its stacks.
    front: ArcSwap<Front<Incoming>>,
    /// What new connections are served by.
    settings: Arc<ArcSwap<Settings>>,
    /// The upstreams in use; a reload keeps those about which nothing changed.
    upstreams: ArcSwap<HashMap<Name, Arc<Upstream>>>,
    /// What outlives a reload.
    shared: Shared,
    /// Listeners, store connections, admin, watching: tasks that are part of no event.
    background: TaskTracker,
    /// Ends them.
    stop: CancellationToken,
    /// The server's own task, until it is awaited at the end.
    serving: Mutex<Option<JoinHandle<Drained>>>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Where a new configuration comes from.
    loader: Option<Loader>,
    /// Where we listen, with the ports that the system chose.
    addresses: Vec<SocketAddr>,
    /// Where health and metrics are.
    admin: SocketAddr,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that was accepted was finished.
    Clean,
    /// Something was cut short: connections, or work that outlasted the drain timeout.
    CutShort,
}

impl App {
    /// Brings everything up; when this returns, requests are answered.
    ///
    /// # Errors
    /// What could not be had: a port, a certificate, the record, the store.
    pub async fn start(config: Config, loader: Option<Loader>) -> Result<Arc<Self>, StartError> {
        let metrics = Metrics::new();
        let (background, stop) = (TaskTracker::new(), CancellationToken::new());
        let tls = build::tls(&config, &metrics)?;
        let listeners = server::listen(&config.server.listen).map_err(StartError::of)?;
        let admin_listeners = build::admin_listeners(&config.admin).await?;
        let log = audit::open(&config.audit, metrics.audit()).map_err(StartError::of)?;
        let store = build::dedup_store(&config, &background, &stop)?;
        let shared = Shared {
            metrics: metrics.clone(),
            log,
            store,
            joins: Joins::default(),
            tracker: TaskTracker::new(),
            room: Arc::new(Semaphore::new(config.limits.requests_in_flight)),
            memory: Arc::new(Semaphore::new(build::memory_permits(config.limits.body_memory))),
            draining: CancellationToken::new(),
        };
        let upstreams = build::upstreams(&config, &metrics, &Upstreams::default())?;
        let settings = Settings::new(&config.server, &config.limits, tls);
        let app = Arc::new(Self {
            front: ArcSwap::from_pointee(Front::new(&config, &upstreams, &shared)),
            config: ArcSwap::from_pointee(config),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            upstreams: ArcSwap::new(upstreams),
            shared,
            background,
            stop,
            serving: Mutex::new(None),
            reloading: tokio::sync::Mutex::new(()),
            loader,
            addresses: listeners.iter().filter_map(|l| l.local_addr().ok()).collect(),
            admin: admin_listeners.own.local_addr().map_err(StartError::of)?,
        });
        app.shared.metrics.reloaded(true, now_seconds());
        app.serve_admin(admin_listeners);
        app.watch();
        app.accept(listeners);
        Ok(app)
    }

    fn accept(self: &Arc<Self>, listeners: Vec<TcpListener>) {
        let params = ServerParams {
            settings: Arc::clone(&self.settings),
            metrics: self.shared.metrics.clone(),
        };
        let app = Arc::clone(self);
        let front =
            move |request, peer, readable| app.front.load_full().answer(request, peer, readable);
        let shutdown = self.shared.draining.clone();
        let served = server::serve(listeners, params, front, self.background.clone(), shutdown);
        let task = self.background.spawn(served);
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Where events are taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health and metrics are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Stops in order. What does not end within the drain timeout is cut short, and that is said.
    pub async fn stop(&self) -> Stopped {
        let deadline = Instant::now() + self.config.load().server.drain_timeout;
        // Listeners close; new requests on open connections are told to come back; connections finish.
        self.shared.draining.cancel();
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connections = match serving {
            Some(task) => matches!(task.await, Ok(Drained::Whole)),
            None => true,
        };
        // Work that no connection waits for any more: claims, forwards, late answers.
        self.shared.tracker.close();
        let detached = timeout_at(deadline.max(grace()), self.shared.tracker.wait()).await.is_ok();
        // Nothing is left that needs them.
        self.stop.cancel();
        self.background.close();
        let ended = timeout_at(grace(), self.background.wait()).await.is_ok();
        // The record is closed last: everything above may still have had something to say.
        let closed = self.shared.log.close().await;
        if let Err(error) = &closed {
            tracing::error!(%error, "the record was not closed properly");
        }
        if connections && detached && ended && closed.is_ok() {
            Stopped::Clean
        } else {
            Stopped::CutShort
        }
    }
}

/// The least that each step of stopping gets, whatever the steps before it took.
fn grace() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 2^53")]
fn now_seconds() -> f64 {
    Timestamp::now().as_millis() as f64 / 1000.0
}
