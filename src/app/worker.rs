//! A worker: one thread with a runtime, sockets, stacks and connections of its own. What becomes of an event happens on
//! the thread that accepted its connection, so that threads neither wake each other nor fight over memory.

use std::{net::TcpListener, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{runtime::Builder, sync::oneshot, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, build};
use crate::{
    config::{Config, Store},
    server::{self, Arriving, ServerParams, Settings},
    stack::{Front, Shared, Upstreams},
    telemetry::finish_log,
};

/// What workers are started with.
pub(super) struct Common<'a> {
    pub(super) config: &'a Config,
    pub(super) shared: &'a Shared,
    pub(super) settings: &'a Arc<ArcSwap<Settings>>,
    /// Knows what is part of no event.
    pub(super) background: &'a TaskTracker,
    /// Ends workers.
    pub(super) stop: &'a CancellationToken,
}

/// What the rest of the process knows of a worker.
pub(super) struct Worker {
    /// Its own tracker and store among it.
    pub(super) shared: Shared,
    /// What new requests are answered by.
    pub(super) front: Arc<ArcSwap<Front<Arriving>>>,
}

impl Worker {
    /// A worker that serves `listeners` until it is stopped, and says then how its connections ended.
    pub(super) fn start(
        number: usize,
        common: &Common<'_>,
        upstreams: &Upstreams,
        listeners: Vec<TcpListener>,
    ) -> Result<(Self, oneshot::Receiver<usize>), StartError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StartError::of)?;
        let entered = runtime.enter(); // what is spawned from here on runs there
        let (background, stop) = (common.background, common.stop);
        // A connection to Redis is served by the thread that made it: each has one of its own.
        let store = match common.config.dedup {
            Store::Redis(_) => build::dedup_store(common.config, background, stop)?,
            Store::Memory | Store::Embedded => Arc::clone(&common.shared.store),
        };
        let draining = common.shared.draining.child_token();
        let closed = common.shared.closed.child_token(); // asked for each request: not shared by workers
        let tracker = TaskTracker::new();
        let shared = Shared { store, tracker, draining, closed, ..common.shared.clone() };
        let front = Front::new(common.config, upstreams, &shared);
        let worker = Self { front: Arc::new(ArcSwap::from_pointee(front)), shared };
        let sweeping = sweep(Arc::clone(&worker.front));
        drop(background.spawn(stop.clone().run_until_cancelled_owned(sweeping)));
        drop(entered);
        let params = ServerParams {
            settings: Arc::clone(common.settings),
            metrics: worker.shared.metrics.clone(),
            tracker: worker.shared.tracker.clone(),
            shutdown: worker.shared.draining.clone(),
        };
        let (said, drained) = oneshot::channel();
        let (front, unheard) = (Arc::clone(&worker.front), Arc::clone(&worker.front));
        let alive = background.token(); // until the last of its tasks has ended
        let stopped = stop.clone();
        let work = async move {
            let front = move |request, peer, readable| {
                let front = front.load_full();
                front.answer(request, peer, readable)
            };
            let unheard = move |peer, why, status| unheard.load().unheard(peer, why, status);
            let ended = server::serve(listeners, params, front, unheard).await;
            said.send(ended).ok(); // nobody listens where the process ends otherwise
            stopped.cancelled().await; // work that no connection waits for goes on until then
        };
        let body = move || {
            let _essential = Essential;
            runtime.block_on(work);
            drop(runtime);
            drop(alive);
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        thread.spawn(body).map_err(StartError::of)?;
        Ok((worker, drained))
    }
}

/// Closes idle connections to apps from time to time: nobody looks at them while nothing comes.
async fn sweep(front: Arc<ArcSwap<Front<Arriving>>>) {
    loop {
        sleep(SWEEP_EVERY).await;
        front.load().sweep();
    }
}

/// How often that is.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A process that has lost a worker would look alive and answer only some of its senders: it ends instead, so that
/// whoever watches it starts it anew. Panics of requests do not come this far.
struct Essential;

impl Drop for Essential {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(kind = "stop", "a worker thread panicked: the process ends");
            finish_log();
            std::process::abort();
        }
    }
}
