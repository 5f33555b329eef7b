//! Windows in which a secret that a provider sends once is taken: opened by the operator, for one secret and a bounded time.
//!
//! Such a request is not signed, and cannot be. Outside of a window it is refused, so that nobody can make the secret of a source one that
//! he knows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    event::{Name, Receipt},
    secret::Secret,
};

/// A captured secret on its way to where it is kept. Dropped, it was not kept, and its window is open again.
#[derive(Debug)]
pub struct Captured {
    /// Whose it is.
    pub source: Name,
    /// The request that brought it.
    pub receipt: Receipt,
    /// The secret.
    pub secret: Secret,
    /// Whether it takes the place of those captured before.
    pub replace: bool,
    told: Option<oneshot::Sender<()>>,
    windows: Captures,
}

impl Captured {
    /// Says that it is durable: its request is answered, and its window is over.
    pub fn kept(mut self) {
        self.windows.conclude(&self.source, State::Done(self.secret.fingerprint()));
        if let Some(told) = self.told.take() {
            told.send(()).ok(); // who sent the secret may be gone
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.windows.conclude(&self.source, State::Open);
        }
    }
}

/// How a source's window is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none, or it is over.
    Closed,
    /// Waiting for the secret.
    Open,
    /// A secret is being kept.
    Taking,
    /// A secret was captured; its fingerprint.
    Done(String),
}

/// The windows of all sources, shared by all threads.
#[derive(Clone, Debug)]
pub struct Captures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    windows: Mutex<HashMap<Name, Window>>,
    keeper: mpsc::Sender<Captured>,
}

#[derive(Debug)]
struct Window {
    until: Instant,
    replace: bool,
    state: State,
}

/// Secrets on their way at once; windows are opened by hand.
const QUEUE: usize = 16;

impl Captures {
    /// Windows, and where the secrets come out that were captured in them.
    pub fn new() -> (Self, mpsc::Receiver<Captured>) {
        let (keeper, captured) = mpsc::channel(QUEUE);
        (Self(Arc::new(Inner { windows: Mutex::default(), keeper })), captured)
    }

    /// Opens a window, in place of one that may be open.
    pub fn open(&self, source: &Name, time: Duration, replace: bool) {
        let until = Instant::now() + time;
        self.windows().insert(source.clone(), Window { until, replace, state: State::Open });
    }

    /// How the window of `source` is.
    pub fn state(&self, source: &Name) -> State {
        match self.windows().get(source) {
            Some(Window { state: State::Open, until, .. }) if *until <= Instant::now() => {
                State::Closed
            }
            Some(window) => window.state.clone(),
            None => State::Closed,
        }
    }

    /// Keeps a secret that came now; an error is the state of the window that it did not fit or was not kept by.
    pub(super) async fn take(
        &self,
        source: &Name,
        receipt: Receipt,
        secret: Vec<u8>,
    ) -> Result<(), State> {
        let replace = self.begin(source).ok_or(State::Closed)?;
        let (told, was_kept) = oneshot::channel();
        let captured = Captured {
            source: source.clone(),
            receipt,
            secret: Secret::new(secret),
            replace,
            told: Some(told),
            windows: self.clone(),
        };
        // Sent without waiting: whoever hangs up now leaves a window that somebody concludes.
        drop(self.0.keeper.try_send(captured));
        was_kept.await.map_err(|_dropped| State::Open)
    }

    fn conclude(&self, source: &Name, state: State) {
        if let Some(window) = self.windows().get_mut(source).filter(|w| w.state == State::Taking) {
            window.state = state;
        }
    }

    /// Takes the window for one secret; whether that takes the place of others.
    fn begin(&self, source: &Name) -> Option<bool> {
        let mut windows = self.windows();
        let window = windows.get_mut(source)?;
        if window.state != State::Open || window.until <= Instant::now() {
            return None;
        }
        window.state = State::Taking;
        Some(window.replace)
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<Name, Window>> {
        self.0.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
