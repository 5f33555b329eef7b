//! What HTTP is spoken over: a socket, or TLS on it; what of it the [`Guard`] lets hyper hear; and how long it may stay as
//! it is: silent, in the middle of a head, or idle between requests. hyper's own header timer runs while nothing comes,
//! too, so it cannot tell a slow head from an idle connection.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, StatusCode};
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep},
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{Front, Guard, Unreadable, frames::Frames, wire::Wire};
use crate::event::Peer;

/// A socket, or TLS on it.
pub(super) type Carrier = Either<Wire, Box<TlsStream<Wire>>>;

/// One connection, as HTTP sees it. What hyper refuses by itself, because it is no HTTP, leaves with a receipt like every
/// other answer.
pub(super) struct Voice {
    pub(super) io: Carrier,
    pub(super) front: Arc<Front>,
    pub(super) peer: Peer,
    pub(super) pulse: Arc<Pulse>,
    /// None for HTTP/1.
    pub(super) frames: Option<Frames>,
    pub(super) receipt_header: HeaderName,
    /// What the peer says from here on is not heard.
    pub(super) is_deaf: bool,
}

impl Voice {
    /// `said` with a receipt in it, where it is hyper's own refusal: a head without one, while something was heard of which
    /// no request was made.
    fn received(&self, said: &[u8]) -> Option<Vec<u8>> {
        let is_refusal = said.starts_with(b"HTTP/1.") && said.get(8..10) == Some(b" 4");
        if !is_refusal || !said.ends_with(b"\r\n\r\n") || !self.pulse.is_ahead() {
            return None;
        }
        if memmem::find(said, self.receipt_header.as_str().as_bytes()).is_some() {
            return None;
        }
        let (status, rest) = said.split_at_checked(memmem::find(said, b"\r\n")?)?;
        let code = StatusCode::from_bytes(said.get(9..12)?).ok()?;
        let is_large = matches!(code.as_u16(), 414 | 431);
        let why = if is_large { "its head is too large" } else { "it is no HTTP" };
        let receipt = (self.front.unheard)(self.peer, why, code);
        let receipt = format!("\r\n{}: {receipt}", self.receipt_header);
        Some([status, receipt.as_bytes(), rest].concat())
    }
}

impl AsyncRead for Voice {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(())); // as if the peer had ended: what was answered until here still arrives
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let read = out.filled().get(before..).unwrap_or_default();
        if let Some(frames) = &mut self.frames {
            frames.heard(read)?;
        }
        let passed = self.pulse.heard(read)?;
        self.is_deaf = passed < read.len();
        out.set_filled(before + passed);
        Poll::Ready(Ok(()))
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
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    /// None for HTTP/2, where frames come without a request, too.
    header_timeout: Option<Duration>,
}

#[derive(Debug)]
struct State {
    /// When the connection is closed, unless something happens; says nothing while requests run.
    until: Instant,
    idle_timeout: Duration,
    in_head: bool,
    /// Whether the answers say that the connection ends.
    leaving: bool,
    requests: usize,
    /// Bytes read since the last request began.
    unused: usize,
    /// None for HTTP/2, whose frames leave nothing to guess.
    guard: Option<Guard>,
}

impl Pulse {
    /// A connection that has `first` to begin its first request.
    pub(super) fn new(
        first: Duration,
        header_timeout: Option<Duration>,
        idle_timeout: Duration,
    ) -> Arc<Self> {
        let until = Instant::now() + first;
        let guard = header_timeout.is_some().then(Guard::default);
        let (in_head, leaving) = (false, false);
        let state = State { until, idle_timeout, in_head, leaving, requests: 0, unused: 0, guard };
        Arc::new(Self { state: Mutex::new(state), header_timeout })
    }

    /// From now on each answer says that it is the last; whether answers can. HTTP/2 says so beside them, and waits until the
    /// peer has heard it: for no longer than `patience` while no request runs.
    pub(super) fn leave(&self, patience: Duration) -> bool {
        let mut state = self.state();
        state.leaving = self.header_timeout.is_some();
        if !state.leaving {
            state.idle_timeout = state.idle_timeout.min(patience);
            state.until = state.until.min(Instant::now() + patience);
        }
        state.leaving
    }

    /// A request has begun, with a body of this length where it is known; it ends when the returned value is dropped.
    /// Beside it, what the guard says of its head.
    pub(super) fn begin(
        self: &Arc<Self>,
        length: Option<u64>,
    ) -> (Running, Result<(), Unreadable>) {
        let mut state = self.state();
        state.requests += 1;
        state.in_head = false;
        state.unused = 0;
        let verdict = state.guard.as_mut().map_or(Ok(()), |guard| guard.begin(length));
        drop(state);
        (Running(Arc::clone(self)), verdict)
    }

    /// Bytes were read; so many of them may be passed on. Where no request comes of many, they are a flood of frames.
    fn heard(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        let passed = state.guard.as_mut().map_or(bytes.len(), |guard| guard.hear(bytes));
        if state.requests > 0 {
            return Ok(passed);
        }
        state.unused += bytes.len();
        if state.unused > UNUSED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes without a request"));
        }
        if let Some(limit) = self.header_timeout
            && !state.in_head
        {
            state.in_head = true;
            state.until = Instant::now() + limit;
        }
        Ok(passed)
    }

    /// Whether something was heard of which no request was made.
    fn is_ahead(&self) -> bool {
        self.state().guard.as_ref().is_some_and(Guard::is_ahead)
    }

    /// Ends when the connection has been as it is for too long. To be polled after the connection, in the same task. A
    /// deadline that moves away costs nothing: it is looked at again when the one before is over.
    pub(super) async fn expired(&self) {
        let mut timer = pin!(sleep(self.deadline().1));
        poll_fn(|cx| {
            loop {
                let (deadline, idle_timeout) = self.deadline();
                if let Some(at) = deadline.filter(|at| *at < timer.deadline()) {
                    timer.as_mut().reset(at);
                }
                ready!(timer.as_mut().poll(cx));
                match deadline {
                    Some(at) if at <= Instant::now() => return Poll::Ready(()),
                    Some(at) => timer.as_mut().reset(at),
                    // A request may end without a wake-up of this task: look again after a while.
                    None => timer.as_mut().reset(Instant::now() + idle_timeout),
                }
            }
        })
        .await;
    }

    /// When the connection is closed, none while requests run; and how long it may be idle.
    fn deadline(&self) -> (Option<Instant>, Duration) {
        let state = self.state();
        ((state.requests == 0).then_some(state.until), state.idle_timeout)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running request. It runs as long as one of its clones is there.
#[derive(Debug)]
pub(super) struct Running(Arc<Pulse>);

impl Running {
    /// Whether the connection ends with its answer: because it is asked to end, or because hyper closes it where an answer
    /// comes before the end of the body.
    pub(super) fn is_last(&self) -> bool {
        let state = self.0.state();
        state.leaving || state.guard.as_ref().is_some_and(Guard::is_in_body)
    }
}

impl Clone for Running {
    fn clone(&self) -> Self {
        self.0.state().requests += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.until = Instant::now() + state.idle_timeout;
    }
}

/// What may be read without a request coming of it: a head, or an HTTP/2 connection's settings, pings and windows.
const UNUSED_BYTES_MAX: usize = 256 * 1024;
