//! The demo app: answers 200 to everything and counts what it received.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct DemoApp {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
    /// The accept loop; dropped with the app, which ends it.
    _accepting: JoinSet<()>,
}

impl DemoApp {
    /// Listens on a free port of the loopback interface.
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&received)));
        Ok(Self { address, received, _accepting: accepting })
    }

    /// Where it answers.
    pub(super) fn url(&self) -> Uri {
        let url =
            Uri::builder().scheme("http").authority(self.address.to_string()).path_and_query("/");
        url.build().unwrap_or_default()
    }

    /// How many requests it answered.
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, received: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&received)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer);
            // A connection that breaks is the gateway's to report.
            drop(connection.await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    received: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(Limited::new(request.into_body(), 64 << 20).collect().await);
    received.fetch_add(1, Ordering::Relaxed);
    Ok(Response::new(Full::default()))
}
