//! An app behind the gateway: answers as told and remembers what it received.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

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
    pub method: String,
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
    connections: AtomicUsize,
    ended: AtomicUsize,
    /// One permit per answer; tests that hold answers back start with none.
    gate: Semaphore,
    /// What an answer takes.
    takes: Mutex<Duration>,
}

/// How an app is spoken to.
#[derive(Clone, Debug, Default)]
pub struct Speaks {
    pub h2: bool,
    pub tls: Option<Arc<ServerConfig>>,
}

/// The app.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Answers everything with 200.
    pub async fn start() -> Self {
        Self::speaking(Speaks::default()).await
    }

    /// The same, over TLS or HTTP/2.
    pub async fn speaking(speaks: Speaks) -> Self {
        Self::with_gate(usize::MAX >> 4, speaks).await
    }

    /// Answers nothing until [`Self::open`].
    pub async fn closed() -> Self {
        Self::with_gate(0, Speaks::default()).await
    }

    /// Answers everything with 200, at an address of the test's choice.
    pub async fn at(address: SocketAddr) -> Self {
        Self::with_gate_at(address, usize::MAX >> 4, Speaks::default()).await
    }

    /// Gives so many answers, and more once it is opened.
    pub async fn with_gate(permits: usize, speaks: Speaks) -> Self {
        Self::with_gate_at((Ipv4Addr::LOCALHOST, 0).into(), permits, speaks).await
    }

    async fn with_gate_at(address: SocketAddr, permits: usize, speaks: Speaks) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            reply: Mutex::new(Reply::status(200)),
            received: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
            takes: Mutex::default(),
        });
        let scheme = if speaks.tls.is_some() { "https" } else { "http" };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state), speaks));
        Self { address, scheme, state, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}/hooks", self.scheme, self.address.port())
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many of them have ended.
    pub fn ended(&self) -> usize {
        self.state.ended.load(Ordering::Relaxed)
    }

    /// What it answers from now on.
    pub fn answer(&self, reply: Reply) {
        *self.state.reply.lock().unwrap() = reply;
    }

    /// How long it works on each request from now on.
    pub fn takes(&self, time: Duration) {
        *self.state.takes.lock().unwrap() = time;
    }

    /// Lets `count` answers go.
    pub fn open(&self, count: usize) {
        self.state.gate.add_permits(count);
    }

    /// As if it had received `request`.
    pub fn receive(&self, request: Received) {
        self.state.received.lock().unwrap().push(request);
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.state.received.lock().unwrap().len()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, speaks: Speaks) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, speaks) = (Arc::clone(&state), speaks.clone());
        connections.spawn(async move {
            let Some(tls) = speaks.tls else { return converse(stream, state, speaks.h2).await };
            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                converse(stream, state, speaks.h2).await;
            }
        });
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
    h2: bool,
) {
    state.connections.fetch_add(1, Ordering::Relaxed);
    let answering = Arc::clone(&state);
    let service = service_fn(move |request| answer(request, Arc::clone(&answering)));
    let io = TokioIo::new(stream);
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
    state.ended.fetch_add(1, Ordering::Relaxed);
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let received = Received { method, path, headers: parts.headers, body: body.to_bytes() };
    state.received.lock().unwrap().push(received);
    state.gate.acquire().await.unwrap().forget();
    let takes = *state.takes.lock().unwrap();
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
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

/// An app that says exactly these bytes to each request, HTTP or not, and then hangs up or stays.
#[derive(Debug)]
pub struct RawUpstream {
    pub address: SocketAddr,
    /// Heads of the requests that were read to their end, in lower case.
    pub heads: Arc<Mutex<Vec<String>>>,
    /// Connections that it closed.
    pub closed: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// What becomes of the connection once the bytes were said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Stay,
    HangUp,
}

impl RawUpstream {
    pub async fn start(says: Vec<u8>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, closed) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicUsize::new(0)));
        let seen = (Arc::clone(&heads), Arc::clone(&closed));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (says, (heads, closed)) = (says.clone(), seen.clone());
                connections.spawn(async move {
                    while let Some(head) = read_request(&mut stream).await {
                        heads.lock().unwrap().push(head);
                        let said = stream.write_all(&says).await;
                        if said.is_err() || then == Then::HangUp {
                            break;
                        }
                    }
                    drop(stream);
                    closed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, heads, closed, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Reads a request with a `Content-Length` to its end; its head, in lower case.
pub async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}
