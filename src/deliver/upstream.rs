//! One upstream: its addresses, its connections, and one exchange with it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    Balance, UpstreamParams,
    connect::{Address, ConnectError},
    pool::{Connection, Pool, cause, closes, is_garbage},
};
use crate::telemetry::UpstreamMetrics;

/// An upstream as configured, with its connections. A reload keeps it where nothing about it changed.
#[derive(Debug)]
pub struct Upstream {
    params: UpstreamParams,
    doors: Vec<Door>,
    next: AtomicUsize,
    room: Arc<Semaphore>,
    pub(super) metrics: UpstreamMetrics,
}

/// One of its urls.
#[derive(Debug)]
struct Door {
    uri: Uri,
    host: HeaderValue,
    address: Address,
    pool: Pool,
    busy: Arc<AtomicUsize>,
}

/// What came of an exchange.
#[derive(Debug)]
pub(super) enum Exchanged {
    /// An answer; its body where it was wanted, whole, and in bounds.
    Answered { status: StatusCode, headers: HeaderMap, body: Option<Bytes> },
    /// Nothing was sent: it was certainly not taken.
    NotSent { result: &'static str, error: String },
    /// No room within the time; nothing was sent.
    NoRoom,
    /// The connection broke after something was sent: it may have been taken.
    Broke(String),
    /// The answer was no HTTP.
    Garbage(String),
}

impl Upstream {
    /// Prepares an upstream; nothing is connected yet.
    ///
    /// # Errors
    /// A sentence where its certificates cannot be read.
    pub fn new(params: UpstreamParams, metrics: UpstreamMetrics) -> Result<Self, String> {
        let doors =
            params.urls.iter().map(|uri| Door::new(uri, &params)).collect::<Result<_, _>>()?;
        let room = Arc::new(Semaphore::new(params.concurrency));
        Ok(Self { doors, next: AtomicUsize::new(0), room, metrics, params })
    }

    /// The same upstream for another thread: with connections of its own, under the same limit.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        Self {
            params: self.params.clone(),
            doors: self.doors.iter().map(|door| door.sibling(self.params.idle_timeout)).collect(),
            next: AtomicUsize::new(0),
            room: Arc::clone(&self.room),
            metrics: self.metrics.clone(),
        }
    }

    /// What it was made from.
    pub fn params(&self) -> &UpstreamParams {
        &self.params
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self) {
        self.doors.iter().for_each(|door| door.pool.sweep());
    }

    /// Sends `body` and reads the answer. `sent` turns true before the first byte could have left. A url that refuses the
    /// connection passes its turn to the next.
    pub(super) async fn exchange(
        &self,
        headers: HeaderMap,
        body: Bytes,
        want_body: bool,
        (deadline, sent): (Instant, &AtomicBool),
        tracker: &TaskTracker,
    ) -> Exchanged {
        let Ok(Ok(_room)) = timeout_at(deadline, self.room.acquire()).await else {
            return Exchanged::NoRoom;
        };
        let mut last = Exchanged::NotSent { result: "connect", error: "no url".to_owned() };
        for door in self.turn() {
            let busy = Busy::new(&door.busy);
            let request = door.request(&headers, &body);
            last = door.send(request, want_body, self.params.connect_timeout, sent, tracker).await;
            drop(busy);
            if !matches!(last, Exchanged::NotSent { .. }) {
                return last;
            }
        }
        last
    }

    /// The urls in the order in which they are tried.
    fn turn(&self) -> Vec<&Door> {
        let mut doors: Vec<_> = self.doors.iter().collect();
        if doors.len() > 1 {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % doors.len();
            doors.rotate_left(first);
            if self.params.balance == Balance::LeastBusy {
                doors.sort_by_key(|door| door.busy.load(Ordering::Relaxed));
            }
        }
        doors
    }
}

impl Door {
    fn new(uri: &Uri, params: &UpstreamParams) -> Result<Self, String> {
        let authority = uri.authority().ok_or_else(|| format!("{uri} has no host"))?;
        Ok(Self {
            uri: uri.clone(),
            host: HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?,
            address: Address::new(uri, &params.tls, params.http)?,
            pool: Pool::new(params.idle_timeout),
            busy: Arc::default(),
        })
    }

    fn sibling(&self, idle_timeout: Duration) -> Self {
        Self {
            uri: self.uri.clone(),
            host: self.host.clone(),
            address: self.address.clone(),
            pool: Pool::new(idle_timeout),
            busy: Arc::clone(&self.busy),
        }
    }

    fn request(&self, headers: &HeaderMap, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers.clone();
        request
    }

    /// One exchange. A connection from the pool that turns out to be closed before a byte was written is replaced by a
    /// new one; nothing else is ever repeated.
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        want_body: bool,
        connect_timeout: Duration,
        sent: &AtomicBool,
        tracker: &TaskTracker,
    ) -> Exchanged {
        while let Some(connection) = self.pool.take() {
            match self.once(connection, request, want_body, sent).await {
                Ok(exchanged) => return exchanged,
                Err(unsent) => request = *unsent,
            }
        }
        let connecting = self.connect(tracker);
        let connection = match tokio::time::timeout(connect_timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(not_sent)) => return not_sent,
            Err(_elapsed) => return not_sent("connect", "connecting took too long".to_owned()),
        };
        match self.once(connection, request, want_body, sent).await {
            Ok(exchanged) => exchanged,
            Err(_unsent) => not_sent("reset", "closed before anything was sent".to_owned()),
        }
    }

    async fn connect(&self, tracker: &TaskTracker) -> Result<Connection, Exchanged> {
        let (stream, h2) = self.address.connect().await.map_err(|error| match error {
            ConnectError::Tcp(error) => not_sent("connect", error.to_string()),
            ConnectError::Tls(error) => not_sent("tls", error.to_string()),
        })?;
        let connection = Connection::open(stream, h2, tracker).await;
        connection.map_err(|error| not_sent("connect", cause(&error)))
    }

    /// One exchange on one connection; the request comes back where nothing of it was written.
    async fn once(
        &self,
        mut connection: Connection,
        mut request: Request<Full<Bytes>>,
        want_body: bool,
        sent: &AtomicBool,
    ) -> Result<Exchanged, Box<Request<Full<Bytes>>>> {
        self.address_to(&mut request, &connection);
        sent.store(true, Ordering::Release);
        match connection.send(request).await {
            Ok(response) => Ok(self.finish(connection, response, want_body).await),
            Err(mut failed) => {
                if let Some(request) = failed.take_message() {
                    sent.store(false, Ordering::Release);
                    return Err(Box::new(request));
                }
                let error = failed.into_error();
                let why = cause(&error);
                Ok(if is_garbage(&error) { Exchanged::Garbage(why) } else { Exchanged::Broke(why) })
            }
        }
    }

    /// HTTP/1.1 names the host in a header and asks for a path; HTTP/2 has the whole url.
    fn address_to(&self, request: &mut Request<Full<Bytes>>, connection: &Connection) {
        match connection {
            Connection::Http1(_) => {
                let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                if let Ok(path) = Uri::try_from(path) {
                    *request.uri_mut() = path;
                }
                *request.version_mut() = Version::HTTP_11;
                request.headers_mut().insert(header::HOST, self.host.clone());
            }
            Connection::Http2(_) => {
                *request.uri_mut() = self.uri.clone();
                *request.version_mut() = Version::HTTP_2;
                request.headers_mut().remove(header::HOST);
            }
        }
    }

    /// Reads the rest of the answer, so that the connection can be used again. The status counts already: whatever
    /// happens to the body does not change what the app decided.
    async fn finish(
        &self,
        mut connection: Connection,
        response: Response<Incoming>,
        want_body: bool,
    ) -> Exchanged {
        let keep = !closes(&response);
        let (parts, body) = response.into_parts();
        let limit = if want_body { REPLY_BYTES_MAX } else { DISCARD_BYTES_MAX };
        let patience = Instant::now() + BODY_PATIENCE;
        let body = timeout_at(patience, connection.drive(read(body, limit))).await.ok().flatten();
        if keep && body.is_some() {
            self.pool.put(connection);
        }
        let body = body.filter(|_| want_body);
        Exchanged::Answered { status: parts.status, headers: parts.headers, body }
    }
}

/// A body of at most `limit` bytes, whole; `None` where it is longer or breaks off.
async fn read(mut body: Incoming, limit: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if whole.len() + data.len() > limit {
                return None;
            }
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}

fn not_sent(result: &'static str, error: String) -> Exchanged {
    Exchanged::NotSent { result, error }
}

/// Counts an attempt as long as it lives.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Longest body that is relayed with `reply: full`.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// How much of a body is read only to keep the connection.
const DISCARD_BYTES_MAX: usize = 4 * 1024;
/// How long the rest of an answer may take once its head is there.
const BODY_PATIENCE: Duration = Duration::from_secs(2);
