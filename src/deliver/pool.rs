//! Connections to one upstream address: HTTP/1.1 ones, idle until they are used again; or one of HTTP/2.
//!
//! An HTTP/1.1 connection is driven by whoever uses it, in the same task: no message passes between tasks on the way of
//! an event. While it is idle nobody reads from it; that the app has closed it is seen at the next use, before a byte is
//! written, and the request goes out on another one. What is not used any more is swept.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::{connect::Address, upstream::NotSent};

pub(super) type Outgoing = Request<Full<Bytes>>;
pub(super) type Stream = Either<Either<TcpStream, DuplexStream>, TlsStream<TcpStream>>;
type Conn1 = http1::Connection<TokioIo<Metered>, Full<Bytes>>;

/// A connection that can take a request.
#[derive(Debug)]
pub(super) enum Connection {
    /// One request at a time.
    Http1(Http1),
    /// Any number of requests.
    Http2(Http2),
}

/// An HTTP/1.1 connection until it ends, and the handle that sends on it.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Option<Pin<Box<Conn1>>>,
}

/// A share of an HTTP/2 connection. The task that moves it ends with the last share.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    task: Arc<JoinSet<()>>,
}

/// What the pool knows a shared connection by that was given to somebody.
pub(super) type SharedBy = Weak<JoinSet<()>>;

impl Connection {
    /// Speaks the first words of HTTP on `stream`.
    pub(super) async fn open(stream: Stream, h2: bool) -> Result<Self, NotSent> {
        let failed = |error: hyper::Error| NotSent::connect(&cause(&error));
        if !h2 {
            let io = TokioIo::new(Metered { io: stream, left: ANSWER_BYTES_MAX });
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HEAD_BYTES_MAX as usize).max_headers(HEADERS_MAX);
            let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
            return Ok(Self::Http1(Http1 { sender, connection: Some(Box::pin(connection)) }));
        }
        let io = TokioIo::new(stream);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.keep_alive_interval(H2_PING).keep_alive_timeout(H2_PONG);
        builder.max_header_list_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
        // How the connection ends is seen by the requests on it.
        let mut task = JoinSet::new();
        task.spawn(async move { drop(connection.await) });
        Ok(Self::Http2(Http2 { sender, task: Arc::new(task) }))
    }

    /// What others have it by, too.
    pub(super) fn shared(&self) -> Option<SharedBy> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(http2) => Some(Arc::downgrade(&http2.task)),
        }
    }

    /// Sends a request and waits for the head of its answer. What was certainly not written comes back with the error.
    pub(super) async fn send(
        mut self,
        request: Outgoing,
    ) -> (Self, Result<Response<Incoming>, TrySendError<Outgoing>>) {
        let answer = match &mut self {
            Self::Http1(http1) => {
                let sent = http1.sender.try_send_request(request);
                http1.drive(sent).await
            }
            Self::Http2(http2) => http2.sender.try_send_request(request).await,
        };
        (self, answer)
    }

    /// The body of an answer, whole; `None` where it is longer than `limit` bytes or breaks off.
    pub(super) async fn read(&mut self, body: Incoming, limit: usize) -> Option<Bytes> {
        let reading = Limited::new(body, limit).collect();
        let whole = match self {
            Self::Http1(http1) => http1.drive(reading).await,
            Self::Http2(_) => reading.await,
        };
        whole.ok().map(http_body_util::Collected::to_bytes)
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
                let ended = |open: &mut Pin<Box<Conn1>>| open.as_mut().poll(cx).is_ready();
                if !self.connection.as_mut().is_some_and(ended) {
                    return work.as_mut().poll(cx); // the connection may have brought what it waits for
                }
                self.connection = None; // dropped, it gives back what it had not begun to send
            }
        })
        .await
    }

    fn is_open(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// A stream on which an answer ends: hyper reads interim answers (1xx) as long as there are any, and nobody else would have
/// a turn meanwhile.
#[derive(Debug)]
struct Metered {
    io: Stream,
    /// What may still be read before something is written.
    left: usize,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let left = self.left.checked_sub(out.filled().len() - before);
        self.left = left.ok_or_else(|| io::Error::other("the answer does not end"))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.left = ANSWER_BYTES_MAX;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.left = ANSWER_BYTES_MAX;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The connections to one address.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<(Http1, Instant)>>,
    /// And when it was last used.
    shared: Mutex<Option<(Http2, Instant)>>,
    /// Held while a connection is made that all may share.
    connecting: tokio::sync::Mutex<()>,
    /// The last connection was not one to share.
    apart: AtomicBool,
}

impl Pool {
    /// A connection that was used before, the youngest first; none that was idle for `idle_timeout`.
    pub(super) fn take(&self, idle_timeout: Duration) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        while let Some((http1, since)) = idle.pop() {
            if since.elapsed() >= idle_timeout {
                idle.clear(); // what is below is older
            } else if http1.is_open() {
                return Some(Connection::Http1(http1));
            }
        }
        drop(idle);
        let mut shared = self.shared(idle_timeout);
        let (http2, used) = shared.as_mut()?;
        *used = Instant::now();
        Some(Connection::Http2(http2.clone()))
    }

    /// The connection that is shared, unless it has ended, or nobody but us has it and it was idle for `idle_timeout`.
    fn shared(&self, idle_timeout: Duration) -> MutexGuard<'_, Option<(Http2, Instant)>> {
        let mut shared = lock(&self.shared);
        shared.take_if(|(http2, used)| {
            let is_idle = Arc::strong_count(&http2.task) == 1 && used.elapsed() >= idle_timeout;
            is_idle || http2.sender.is_closed()
        });
        shared
    }

    /// A new connection; where it may be shared, one for all who need one now.
    pub(super) async fn connect(
        &self,
        address: &Address,
        idle_timeout: Duration,
    ) -> Result<Connection, NotSent> {
        let _turn = if address.may_share() && !self.apart.load(Relaxed) {
            let turn = self.connecting.lock().await;
            if let Some(connection) = self.take(idle_timeout) {
                return Ok(connection);
            }
            Some(turn)
        } else {
            None
        };
        let connection = address.connect().await?;
        if let Connection::Http2(http2) = &connection {
            *lock(&self.shared) = Some((http2.clone(), Instant::now()));
        }
        self.apart.store(matches!(connection, Connection::Http1(_)), Relaxed);
        Ok(connection)
    }

    /// Keeps a connection for the next request; one that is shared is kept already.
    pub(super) fn put(&self, connection: Connection) {
        match connection {
            Connection::Http1(http1) => {
                let mut idle = lock(&self.idle);
                if http1.is_open() && idle.len() < IDLE_MAX {
                    idle.push((http1, Instant::now()));
                }
            }
            Connection::Http2(_) => {
                lock(&self.shared).iter_mut().for_each(|(_, used)| *used = Instant::now());
            }
        }
    }

    /// Gives a connection to nobody else, because an answer on it is late: it may have died in silence, and would take every
    /// event until that is found out. Who has it goes on.
    pub(super) fn retire(&self, connection: &SharedBy) {
        let late = |(http2, _): &mut (Http2, _)| Arc::as_ptr(&http2.task) == connection.as_ptr();
        drop(lock(&self.shared).take_if(late));
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, idle_timeout: Duration) {
        lock(&self.idle).retain(|(_, since)| since.elapsed() < idle_timeout);
        drop(self.shared(idle_timeout));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The innermost cause of an error: `connection refused` says more than `error trying to connect`.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

const IDLE_MAX: usize = 1024;
/// Size of an answer's head.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// All of an answer of HTTP/1.1: interim ones, head, and as much of its body as is read, in chunks of a byte at the worst.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Header lines of an answer.
const HEADERS_MAX: usize = 128;
/// How long an HTTP/2 connection on which an answer is waited for may be silent before it is asked whether it lives.
const H2_PING: Duration = Duration::from_secs(5);
/// How long that may take. Long, because an app may be busy with an event for as long as a route waits; what comes meanwhile
/// has another connection as soon as one answer on this one is late.
const H2_PONG: Duration = Duration::from_secs(20);
