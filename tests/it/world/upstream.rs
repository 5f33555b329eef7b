//! An app behind the gateway: answers as told and remembers what it received.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// What an upstream answers.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: &'static str,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: "" }
    }
}

/// A request as the app saw it.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

#[derive(Debug)]
struct State {
    reply: Mutex<Reply>,
    received: Mutex<Vec<Received>>,
    /// One permit per answer; tests that hold answers back start with none.
    gate: Semaphore,
}

/// The app.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Answers everything with 200.
    pub async fn start() -> Self {
        Self::with_gate(usize::MAX >> 4).await
    }

    /// Answers nothing until [`Self::open`].
    pub async fn closed() -> Self {
        Self::with_gate(0).await
    }

    async fn with_gate(permits: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            reply: Mutex::new(Reply::status(200)),
            received: Mutex::new(Vec::new()),
            gate: Semaphore::new(permits),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// What it answers from now on.
    pub fn answer(&self, reply: Reply) {
        *self.state.reply.lock().unwrap() = reply;
    }

    /// Lets `count` answers go.
    pub fn open(&self, count: usize) {
        self.state.gate.add_permits(count);
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
    let path = parts.uri.path().to_owned();
    let received = Received { path, headers: parts.headers, body: body.to_bytes() };
    state.received.lock().unwrap().push(received);
    state.gate.acquire().await.unwrap().forget();
    let reply = state.reply.lock().unwrap().clone();
    let mut response = Response::new(Full::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    Ok(response)
}

/// An address on which nothing listens.
pub async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Long enough for anything, short enough to notice.
pub const LONG: Duration = Duration::from_secs(30);
