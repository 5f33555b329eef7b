//! Accept, handshake, serve, drain.
//!
//! Knows sockets, TLS and HTTP, and nothing of events: each request is handed to the front together with its peer and
//! with the verdict of [`mod@check`], so that every answer is made in one place.

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, StatusCode};
use http_body_util::Full;
use ipnet::IpNet;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Limits, ProxyProtocol},
    crash,
    event::{Peer, Receipt},
    stage::BoxFuture,
    telemetry::{Metrics, OneMore},
};

pub use arriving::Arriving;
pub use check::{Unreadable, check};
pub use guard::Guard;
pub use listener::{ListenError, listen};

mod arriving;
mod check;
mod connection;
pub mod forwarded;
mod frames;
mod guard;
mod internal;
mod listener;
pub mod proxy_protocol;
pub mod tls;
mod voice;
mod wire;

/// What new connections are served by. Swapped as a whole: a connection keeps the settings it began with.
#[derive(Debug)]
pub struct Settings {
    /// Limits with names.
    pub limits: Limits,
    /// Only these may say who the sender is.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// How long running requests get at the end.
    pub drain_timeout: Duration,
    /// The header that every response carries.
    pub receipt_header: HeaderName,
    /// None where a proxy in front of us terminates TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Settings {
    /// The parts of a configuration that concern connections, and the certificates made of it by [`tls::load`].
    pub fn new(server: &config::Server, limits: &Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        Self {
            limits: limits.clone(),
            trusted_proxies: server.trusted_proxies.clone(),
            proxy_protocol: server.proxy_protocol,
            drain_timeout: server.drain_timeout,
            receipt_header: server.receipt_header.clone(),
            tls,
        }
    }
}

/// What the server of a worker runs on.
#[derive(Clone, Debug)]
pub struct ServerParams {
    /// Read once per accepted connection; store new ones to reload.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Counts connections and what was shed, of all workers.
    pub metrics: Metrics,
    /// Knows what HTTP/2 runs beside its connections.
    pub tracker: TaskTracker,
    /// Asks for the end.
    pub shutdown: CancellationToken,
}

type Reply = http::Response<Full<Bytes>>;
type Checked = Result<(), Unreadable>;

/// What a request is answered by.
struct Front {
    answer: Box<
        dyn Fn(http::Request<Arriving>, Peer, Checked) -> BoxFuture<'static, Reply> + Send + Sync,
    >,
    /// Counts and names what hyper answers by itself, and how.
    unheard: Box<dyn Fn(Peer, Unreadable, StatusCode) -> Receipt + Send + Sync>,
}

/// Serves every listener until `shutdown`, then lets running requests finish within the drain timeout; returns how many
/// connections were cut after it. What is no HTTP is answered here, and named by `unheard`. Runs on the runtime of one
/// worker.
pub async fn serve<F, Fut>(
    listeners: Vec<TcpListener>,
    params: ServerParams,
    front: F,
    unheard: impl Fn(Peer, Unreadable, StatusCode) -> Receipt + Send + Sync + 'static,
) -> usize
where
    F: Fn(http::Request<Arriving>, Peer, Checked) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let front = Arc::new(Front {
        answer: Box::new(move |request, peer, checked| Box::pin(front(request, peer, checked))),
        unheard: Box::new(unheard),
    });
    let (open, cut) = (TaskTracker::new(), Arc::default());
    let door = Door { connections: params.metrics.connections(), params, front, open, cut };
    join_all(listeners.into_iter().map(|listener| door.accept(listener))).await;
    door.open.close();
    door.open.wait().await; // every connection ends within its drain timeout
    door.cut.load(Relaxed)
}

/// Where connections come in, and what is needed to see them out.
struct Door {
    params: ServerParams,
    front: Arc<Front>,
    /// Open connections, of all workers.
    connections: Gauge,
    /// Ours among them.
    open: TaskTracker,
    /// How many of them were cut.
    cut: Arc<AtomicUsize>,
}

impl Door {
    /// Takes connections in until shutdown; the listener is closed when this returns.
    async fn accept(&self, listener: TcpListener) {
        let accepting = listener::accept(listener, |stream, from| self.admit(stream, from));
        if let Some(Err(error)) = self.params.shutdown.run_until_cancelled(accepting).await {
            tracing::error!(%error, "a listening socket cannot be used");
        }
    }

    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        crash::point("accepted");
        let settings = self.params.settings.load_full();
        let most = settings.limits.connections.get();
        if usize::try_from(self.connections.get()).is_ok_and(|open| open >= most) {
            self.params.metrics.shed("connections").inc();
            return;
        }
        let counted = OneMore::on(&self.connections);
        let connection = connection::Connection {
            settings,
            front: Arc::clone(&self.front),
            tracker: self.params.tracker.clone(),
            shutdown: self.params.shutdown.clone(),
        };
        let cut = Arc::clone(&self.cut);
        drop(self.open.spawn(async move {
            let _counted = counted;
            if !connection.serve(stream, from.ip().to_canonical()).await {
                cut.fetch_add(1, Relaxed);
            }
        }));
    }
}
