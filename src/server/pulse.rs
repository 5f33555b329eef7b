//! How long a connection may stay as it is: silent, in the middle of a head, or idle between requests.
//!
//! hyper's own header timer runs while nothing comes, too, so it cannot tell a slow head from an idle connection.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Shared by the reader, the service and the watch of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    /// None for HTTP/2, where frames come without a request, too.
    header_timeout: Option<Duration>,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct State {
    /// When the connection is closed, unless something happens; says nothing while requests run.
    until: Instant,
    in_head: bool,
    /// Whether what is written is the answer to a request.
    answering: bool,
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
        let state =
            Mutex::new(State { until, in_head: false, answering: false, requests: 0, unused: 0 });
        Arc::new(Self { state, header_timeout, idle_timeout })
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
    pub(super) fn heard(&self, bytes: usize) -> io::Result<()> {
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

    /// Whether what is written now is the answer to a request.
    pub(super) fn is_answering(&self) -> bool {
        self.state().answering
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
#[derive(Debug)]
pub(super) struct Running(Arc<Pulse>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        state.answering = true;
        state.until = Instant::now() + self.0.idle_timeout;
    }
}

/// Ends when the connection has been as it is for too long. To be polled after the connection, in the same task.
pub(super) async fn expired(pulse: &Pulse) {
    let mut sleep = pin!(tokio::time::sleep(pulse.idle_timeout));
    poll_fn(|cx| pulse.poll_expired(sleep.as_mut(), cx)).await;
}

impl Pulse {
    /// A deadline that moves away costs nothing: it is looked at again when the one before is over.
    fn poll_expired(&self, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(at) = self.deadline()
                && at < sleep.deadline()
            {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            match self.deadline() {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => sleep.as_mut().reset(at),
                // A request may end without a wake-up of this task: look again after a while.
                None => sleep.as_mut().reset(now + self.idle_timeout),
            }
        }
    }
}

/// What may be read without a request coming of it: a head, or an HTTP/2 connection's settings, pings and windows.
const UNUSED_BYTES_MAX: usize = 256 * 1024;
