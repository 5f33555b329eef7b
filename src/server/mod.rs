//! Accept, handshake, serve, drain.
//!
//! Knows sockets, TLS and HTTP, and nothing of events: each request is handed to the front together with its peer and
//! with the verdict of [`check`], so that every answer is made in one place.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::Incoming;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Limits, ProxyProtocol},
    event::Peer,
    stage::BoxFuture,
    telemetry::Metrics,
};

pub use check::{Unreadable, check};
pub use listener::{ListenError, listen};

mod certificate;
mod check;
mod connection;
pub mod forwarded;
mod internal;
mod listener;
pub mod proxy_protocol;
mod pulse;
pub mod tls;
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
            tls,
        }
    }
}

/// What the server runs on.
#[derive(Clone, Debug)]
pub struct ServerParams {
    /// Read once per accepted connection; store new ones to reload.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Counts connections and what was shed.
    pub metrics: Metrics,
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Every connection finished its requests.
    Whole,
    /// That many connections were cut after the drain timeout.
    CutShort(usize),
}

/// What a request is answered by.
type Front = Arc<
    dyn Fn(
            http::Request<Incoming>,
            Peer,
            Result<(), Unreadable>,
        ) -> BoxFuture<'static, Result<http::Response<Full<Bytes>>, Infallible>>
        + Send
        + Sync,
>;

/// Serves every listener until `shutdown`, then lets running requests finish within the drain timeout.
pub async fn serve<F, Fut>(
    listeners: Vec<TcpListener>,
    params: ServerParams,
    front: F,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) -> Drained
where
    F: Fn(http::Request<Incoming>, Peer, Result<(), Unreadable>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = http::Response<Full<Bytes>>> + Send + 'static,
{
    let front: Front = Arc::new(move |request, peer, checked| {
        let answer = front(request, peer, checked);
        Box::pin(async move { Ok(answer.await) })
    });
    let door = Door {
        params,
        front,
        tracker,
        shutdown,
        open: TaskTracker::new(),
        cut: CancellationToken::new(),
    };
    join_all(listeners.into_iter().map(|listener| door.accept(listener))).await;
    door.drain().await
}

/// Where connections come in, and what is needed to see them out.
struct Door {
    params: ServerParams,
    front: Front,
    /// Everybody's tasks.
    tracker: TaskTracker,
    /// Our connections among them.
    open: TaskTracker,
    /// Asks connections to finish.
    shutdown: CancellationToken,
    /// Tells connections to stop at once.
    cut: CancellationToken,
}

impl Door {
    /// Takes connections in until shutdown; the listener is closed when this returns.
    async fn accept(&self, listener: TcpListener) {
        let accepting = listener::accept(&listener, |stream, from| self.admit(stream, from));
        self.shutdown.run_until_cancelled(accepting).await;
    }

    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let settings = self.params.settings.load_full();
        if self.open.len() >= settings.limits.connections {
            self.params.metrics.shed("connections").inc();
            return;
        }
        let connection = connection::Connection {
            settings,
            front: Arc::clone(&self.front),
            tracker: self.tracker.clone(),
            shutdown: self.shutdown.clone(),
            open: self.params.metrics.connections(),
        };
        let cut = self.cut.clone();
        let served = async move {
            cut.run_until_cancelled(connection.serve(stream, from.ip().to_canonical())).await;
        };
        drop(self.tracker.spawn(self.open.track_future(served)));
    }

    /// A peer that never answers must not keep us: the wait is bounded, what is left then is cut.
    async fn drain(&self) -> Drained {
        self.open.close();
        let limit = self.params.settings.load().drain_timeout;
        if tokio::time::timeout(limit, self.open.wait()).await.is_ok() {
            return Drained::Whole;
        }
        let left = self.open.len();
        self.cut.cancel();
        self.open.wait().await;
        Drained::CutShort(left)
    }
}
