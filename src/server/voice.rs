//! What HTTP is spoken over: a socket, or TLS on it; and how long it may stay as it is: silent, in the middle of a head, or
//! idle between requests. hyper's own header timer runs while nothing comes, too, so it cannot tell a slow head from an
//! idle connection.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{frames::Frames, wire::Wire};
use crate::event::Receipt;

/// A socket, or TLS on it.
pub(super) type Carrier = Either<Wire, Box<TlsStream<Wire>>>;

/// One connection, as HTTP sees it. What hyper refuses by itself, because it is no HTTP, leaves with a receipt like every
/// other answer.
pub(super) struct Voice {
    pub(super) io: Carrier,
    pub(super) pulse: Arc<Pulse>,
    /// None for HTTP/1.
    pub(super) frames: Option<Frames>,
    pub(super) receipt_header: HeaderName,
}

impl Voice {
    /// `said` with a receipt in it, where it is hyper's own refusal: an answer for which no request was begun.
    fn received(&self, said: &[u8]) -> Option<Vec<u8>> {
        if !said.starts_with(b"HTTP/1.1 4") || self.pulse.state().answering {
            return None;
        }
        let (status, rest) = said.split_at_checked(said.windows(2).position(|w| w == b"\r\n")?)?;
        let receipt = format!("\r\n{}: {}", self.receipt_header, Receipt::random());
        Some([status, receipt.as_bytes(), rest].concat())
    }
}

impl AsyncRead for Voice {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let heard = out.filled().get(before..).unwrap_or_default();
        if let Some(frames) = &mut self.frames {
            frames.heard(heard)?;
        }
        Poll::Ready(self.pulse.heard(heard.len()))
    }
}

impl AsyncWrite for Voice {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(refusal) = self.received(bytes) {
            // A peer that has no room for these few bytes does without their end: the connection closes behind them.
            ready!(Pin::new(&mut self.io).poll_write(cx, &refusal))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [one] => self.poll_write(cx, one),
            _ => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
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

/// What the reader, the service and the watch of one connection know of it.
pub(super) struct Pulse {
    state: Mutex<State>,
    /// None for HTTP/2, where frames come without a request, too.
    header_timeout: Option<Duration>,
    idle_timeout: Duration,
}

struct State {
    /// When the connection is closed, unless something happens; says nothing while requests run.
    until: Instant,
    in_head: bool,
    /// Whether what is written is the answer to a request.
    answering: bool,
    /// Whether the answers say that the connection ends.
    leaving: bool,
    requests: usize,
    /// Bytes read since the last request began.
    unused: usize,
}

impl Pulse {
    /// A connection that has `first` to begin its first request.
    pub(super) fn new(
        first: Duration,
        header_timeout: Option<Duration>,
        idle_timeout: Duration,
    ) -> Arc<Self> {
        let until = Instant::now() + first;
        let (in_head, answering, leaving) = (false, false, false);
        let state = State { until, in_head, answering, leaving, requests: 0, unused: 0 };
        Arc::new(Self { state: Mutex::new(state), header_timeout, idle_timeout })
    }

    /// From now on each answer says that it is the last; whether answers can.
    pub(super) fn leave(&self) -> bool {
        let http1 = self.header_timeout.is_some();
        self.state().leaving = http1;
        http1
    }

    /// A request has begun; it ends when the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        let mut state = self.state();
        state.requests += 1;
        state.in_head = false;
        state.unused = 0;
        drop(state);
        Running(Arc::clone(self))
    }

    /// Bytes were read. Where no request comes of many, they are a flood of frames.
    fn heard(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        if state.requests > 0 {
            return Ok(());
        }
        state.answering = false;
        state.unused += bytes;
        if state.unused > UNUSED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes without a request"));
        }
        if let Some(limit) = self.header_timeout
            && !state.in_head
        {
            state.in_head = true;
            state.until = Instant::now() + limit;
        }
        Ok(())
    }

    /// Ends when the connection has been as it is for too long. To be polled after the connection, in the same task. A
    /// deadline that moves away costs nothing: it is looked at again when the one before is over.
    pub(super) async fn expired(&self) {
        let mut timer = pin!(sleep(self.idle_timeout));
        poll_fn(|cx| {
            loop {
                let deadline = self.deadline();
                if let Some(at) = deadline.filter(|at| *at < timer.deadline()) {
                    timer.as_mut().reset(at);
                }
                ready!(timer.as_mut().poll(cx));
                match deadline {
                    Some(at) if at <= Instant::now() => return Poll::Ready(()),
                    Some(at) => timer.as_mut().reset(at),
                    // A request may end without a wake-up of this task: look again after a while.
                    None => timer.as_mut().reset(Instant::now() + self.idle_timeout),
                }
            }
        })
        .await;
    }

    /// When the connection is closed; none while requests run.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        (state.requests == 0).then_some(state.until)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running request.
pub(super) struct Running(Arc<Pulse>);

impl Running {
    /// Whether the connection ends with its answer.
    pub(super) fn is_last(&self) -> bool {
        self.0.state().leaving
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.answering = true;
        state.until = Instant::now() + self.0.idle_timeout;
    }
}

/// What may be read without a request coming of it: a head, or an HTTP/2 connection's settings, pings and windows.
const UNUSED_BYTES_MAX: usize = 256 * 1024;
