//! A worker: one thread with a runtime, sockets, stacks and connections of its own. What becomes of an event happens on
//! the thread that accepted its connection, so that threads neither wake each other nor fight over memory.

use std::{net::TcpListener, sync::Arc};

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use tokio::{runtime, sync::oneshot};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::StartError;
use crate::{
    config::Config,
    server::{self, Drained, ServerParams},
    stack::{Front, Shared, Upstreams},
};

/// What the rest of the process knows of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Shared,
    front: Arc<ArcSwap<Front<Incoming>>>,
}

impl Worker {
    /// A worker that does not run yet.
    pub(super) fn new(config: &Config, upstreams: &Upstreams, shared: Shared) -> Self {
        let front = Front::new(config, upstreams, &shared);
        Self { front: Arc::new(ArcSwap::from_pointee(front)), shared }
    }

    /// The stacks of another configuration, for this worker.
    pub(super) fn front(&self, config: &Config, upstreams: &Upstreams) -> Front<Incoming> {
        Front::new(config, upstreams, &self.shared)
    }

    /// What new requests are answered by.
    pub(super) fn swap(&self, front: Front<Incoming>) {
        self.front.store(Arc::new(front));
    }

    /// Its tasks that outlive their connections.
    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.shared.tracker
    }

    /// Serves on a thread of its own until `stop`, and says how its connections ended. `alive` is dropped with the last
    /// of its tasks.
    pub(super) fn start(
        &self,
        number: usize,
        listeners: Vec<TcpListener>,
        params: ServerParams,
        (alive, stop): (TaskTrackerToken, CancellationToken),
    ) -> Result<oneshot::Receiver<Drained>, StartError> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::of)?;
        let (said, drained) = oneshot::channel();
        let front = Arc::clone(&self.front);
        let work = async move {
            let front = move |request, peer, readable| {
                let front = front.load_full();
                front.answer(request, peer, readable)
            };
            let ended = server::serve(listeners, params, front).await;
            said.send(ended).ok(); // nobody listens where the process ends otherwise
            stop.cancelled().await; // work that no connection waits for goes on until then
        };
        let body = move || {
            let _essential = Essential;
            runtime.block_on(work);
            drop(runtime);
            drop(alive);
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        thread.spawn(body).map_err(StartError::of)?;
        Ok(drained)
    }
}

/// A process that has lost a worker would look alive and answer only some of its senders: it ends instead, so that
/// whoever watches it starts it anew. Panics of requests do not come this far.
struct Essential;

impl Drop for Essential {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(kind = "stop", "a worker thread panicked: the process ends");
            std::process::abort();
        }
    }
}
