//! Connections to one upstream address: HTTP/1.1 ones, idle until they are used again; or one of HTTP/2.
//!
//! An HTTP/1.1 connection is driven by whoever uses it, in the same task: no message passes between tasks on the way of
//! an event. While it is idle nobody reads from it; that the app has closed it is seen at the next use, before a byte is
//! written, and the request goes out on another one.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::{either::Either, task::TaskTracker};

/// A stream to an upstream, encrypted or not.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;
type Conn1 = http1::Connection<TokioIo<Stream>, Full<Bytes>>;
type Failed = TrySendError<Request<Full<Bytes>>>;

/// An HTTP/1.1 connection and the handle that sends on it.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Pin<Box<Conn1>>,
    ended: bool,
}

/// A connection that can take a request.
#[derive(Debug)]
pub(super) enum Connection {
    /// One request at a time.
    Http1(Http1),
    /// Shared.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Speaks the first words of HTTP on `stream`.
    pub(super) async fn open(
        stream: Stream,
        h2: bool,
        tracker: &TaskTracker,
    ) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        if h2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(HEAD_BYTES_MAX)
                .keep_alive_interval(H2_PING)
                .handshake(io)
                .await?;
            // How the connection ends is seen by the requests on it.
            drop(tracker.spawn(async move { drop(connection.await) }));
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX as usize)
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await?;
        Ok(Self::Http1(Http1 { sender, connection: Box::pin(connection), ended: false }))
    }

    /// Sends a request. What was certainly not written comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failed> {
        match self {
            Self::Http1(http1) => {
                let sent = http1.sender.try_send_request(request);
                http1.drive(sent).await
            }
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    /// Does `work` that needs the connection to move.
    pub(super) async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        match self {
            Self::Http1(http1) => http1.drive(work).await,
            Self::Http2(_) => work.await,
        }
    }
}

impl Http1 {
    /// Polls `work` and the connection in turn, until `work` is done.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                if self.ended || self.connection.as_mut().poll(cx).is_pending() {
                    return work.as_mut().poll(cx); // the connection may have brought what it waits for
                }
                self.ended = true; // the error reaches `work` as well
            }
        })
        .await
    }

    fn is_open(&self) -> bool {
        !self.ended && self.sender.is_ready()
    }
}

/// The connections to one address.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<(Http1, Instant)>>,
    shared: Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
    idle_timeout: Duration,
}

impl Pool {
    /// An empty pool; a connection that was idle for `idle_timeout` is not used again.
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self { idle: Mutex::default(), shared: Mutex::default(), idle_timeout }
    }

    /// A connection that was used before, the youngest first.
    pub(super) fn take(&self) -> Option<Connection> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Some(Connection::Http2(sender.clone()));
        }
        drop(shared);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((http1, since)) = idle.pop() {
            if since.elapsed() >= self.idle_timeout {
                idle.clear(); // what is below is older
                return None;
            }
            if http1.is_open() {
                return Some(Connection::Http1(http1));
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, connection: Connection) {
        match connection {
            Connection::Http1(http1) if http1.is_open() => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE_MAX {
                    idle.push((http1, Instant::now()));
                }
            }
            Connection::Http1(_) => {}
            Connection::Http2(sender) => {
                *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            }
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < self.idle_timeout);
    }
}

/// Whether the app said that it will close.
pub(super) fn closes(response: &Response<Incoming>) -> bool {
    let said = response.headers().get(header::CONNECTION).and_then(|value| value.to_str().ok());
    said.is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The innermost cause of an error: `connection refused` says more than `error trying to connect`.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Whether a write could not reach the app because the connection was gone.
pub(super) fn is_garbage(error: &hyper::Error) -> bool {
    error.is_parse() || error.is_parse_status() || error.is_parse_too_large()
}

/// Idle connections per address.
const IDLE_MAX: usize = 1024;
/// Size of an answer's head.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Header lines of an answer.
const HEADERS_MAX: usize = 128;
/// How often an idle HTTP/2 connection is checked.
const H2_PING: Duration = Duration::from_secs(20);
