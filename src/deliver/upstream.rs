//! One upstream: its addresses, its connections, and one exchange with it.

use std::{
    fmt::Display,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    Balance, UpstreamParams,
    connect::{Address, Dial},
    pool::{Connection, Outgoing, Pool, cause},
};
use crate::telemetry::UpstreamMetrics;

/// An upstream as configured, with its connections. A reload keeps it where nothing about it changed.
#[derive(Debug)]
pub struct Upstream {
    params: Arc<UpstreamParams>,
    doors: Vec<Door>,
    next: AtomicUsize,
    room: Arc<Semaphore>,
    pub(super) metrics: UpstreamMetrics,
}

/// One of its urls, and the connections to it.
#[derive(Debug)]
struct Door {
    /// Held by each attempt in flight, so that its count says how busy it is.
    address: Arc<Address>,
    pool: Pool,
}

/// What came of an exchange.
pub(super) enum Exchanged {
    /// An answer; its body where it was wanted, whole, and in bounds.
    Answered { status: StatusCode, headers: HeaderMap, body: Option<Bytes> },
    /// It was certainly not taken: nothing of it was sent.
    NotSent(NotSent),
    /// No room within the time; nothing was sent.
    NoRoom,
    /// Something was sent, and no answer came that could be read: it may have been taken. What that counts as, and a
    /// sentence for the operator.
    Broke(&'static str, String),
    /// No answer within the time; one may still come.
    Late(Late),
}

/// Waits for the status of an answer that is late.
pub(super) type Late = Pin<Box<dyn Future<Output = Option<StatusCode>> + Send>>;

/// Why nothing was sent.
#[derive(Debug)]
pub(super) struct NotSent {
    /// What it counts as.
    pub(super) result: &'static str,
    /// A sentence for the operator.
    pub(super) error: String,
}

/// No attempt that may have been taken counts under these.
impl NotSent {
    pub(super) fn connect(error: &dyn Display) -> Self {
        Self { result: "connect", error: error.to_string() }
    }

    pub(super) fn tls(error: &dyn Display) -> Self {
        Self { result: "tls", error: error.to_string() }
    }
}

impl Upstream {
    /// Prepares an upstream; nothing is connected yet.
    ///
    /// # Errors
    /// A sentence where its certificates cannot be read.
    pub fn new(params: UpstreamParams, metrics: UpstreamMetrics) -> Result<Self, String> {
        Self::over(None, params, metrics)
    }

    /// The same over another network than TCP.
    ///
    /// # Errors
    /// As [`Upstream::new`].
    pub fn over(
        network: Option<&Arc<dyn Dial>>,
        params: UpstreamParams,
        metrics: UpstreamMetrics,
    ) -> Result<Self, String> {
        let door = |url| {
            let address = Address::new(url, &params, network.cloned())?;
            let address = Arc::new(address);
            Ok(Door { address, pool: Pool::default() })
        };
        Ok(Self {
            doors: params.urls.iter().map(door).collect::<Result<_, String>>()?,
            next: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(params.concurrency)),
            metrics,
            params: Arc::new(params),
        })
    }

    /// The same upstream for another thread: limits are shared, connections are not.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let door = |door: &Door| Door { address: Arc::clone(&door.address), pool: Pool::default() };
        Self {
            params: Arc::clone(&self.params),
            doors: self.doors.iter().map(door).collect(),
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
        self.doors.iter().for_each(|door| door.pool.sweep(self.params.idle_timeout));
    }

    /// Posts `body` as it is: what a sender does. Returns the status and headers of the answer.
    ///
    /// # Errors
    /// A sentence where there was no answer within `patience`.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<(StatusCode, HeaderMap), String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        match self.exchange(request, false, Instant::now() + patience).await {
            Exchanged::Answered { status, headers, .. } => Ok((status, headers)),
            Exchanged::NotSent(NotSent { error, .. }) | Exchanged::Broke(_, error) => Err(error),
            Exchanged::NoRoom | Exchanged::Late(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Sends a request and reads the answer. A url that cannot be reached passes its turn to the next.
    pub(super) async fn exchange(
        &self,
        mut request: Outgoing,
        want_body: bool,
        deadline: Instant,
    ) -> Exchanged {
        let room = timeout_at(deadline, Arc::clone(&self.room).acquire_owned()).await;
        let Ok(Ok(room)) = room else { return Exchanged::NoRoom };
        let mut why = NotSent::connect(&"no url");
        for door in self.turn() {
            let busy = Arc::clone(&door.address);
            match self.attempt(door, request, want_body, deadline).await {
                Ok(Exchanged::Late(late)) => {
                    return Exchanged::Late(Box::pin(async move {
                        let _held = (room, busy);
                        late.await
                    }));
                }
                Ok(exchanged) => return exchanged,
                Err(unsent) => (request, why) = *unsent,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Exchanged::NotSent(why)
    }

    /// One exchange with one url; the request comes back where nothing of it was written. A pooled connection that turns
    /// out to be closed before a byte was written is replaced; nothing else is ever repeated.
    async fn attempt(
        &self,
        door: &Door,
        mut request: Outgoing,
        want_body: bool,
        deadline: Instant,
    ) -> Result<Exchanged, Box<(Outgoing, NotSent)>> {
        loop {
            let pooled = door.pool.take(self.params.idle_timeout);
            let is_new = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                None => match self.connect(door, deadline).await {
                    Ok(connection) => connection,
                    Err(why) => return Err(Box::new((request, why))),
                },
            };
            door.address.direct(&mut request, &connection);
            let shared = connection.shared();
            let mut head = Box::pin(connection.send(request));
            let Ok((connection, answer)) = timeout_at(deadline, &mut head).await else {
                if let Some(shared) = shared {
                    door.pool.retire(&shared);
                }
                let late = async move { head.await.1.ok().map(|answer| answer.status()) };
                return Ok(Exchanged::Late(Box::pin(late)));
            };
            let mut failed = match answer {
                Ok(answer) if answer.status().is_informational() => {
                    return Ok(Exchanged::Broke(GARBAGE, "an upgrade nobody asked for".to_owned()));
                }
                Ok(answer) => {
                    return Ok(door.finish(connection, answer, want_body, deadline).await);
                }
                Err(failed) => failed,
            };
            match failed.take_message() {
                None => return Ok(broke(&failed.into_error())),
                Some(unsent) if is_new => {
                    let why = NotSent::connect(&"closed before anything was sent");
                    return Err(Box::new((unsent, why)));
                }
                Some(unsent) => request = unsent,
            }
        }
    }

    /// The urls in the order in which they are tried.
    fn turn(&self) -> impl Iterator<Item = &Door> {
        let count = self.doors.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count.max(1);
        let from = move |first| self.doors.iter().cycle().skip(first).take(count);
        let busy =
            |at: &usize| from(first + at).next().map(|door| Arc::strong_count(&door.address));
        match self.params.balance {
            Balance::RoundRobin => from(first),
            Balance::LeastBusy => from(first + (0..count).min_by_key(busy).unwrap_or(0)),
        }
    }

    async fn connect(&self, door: &Door, deadline: Instant) -> Result<Connection, NotSent> {
        let patience = Instant::now() + self.params.connect_timeout;
        // In a box, so that the many requests that find a connection do not carry the space for making one.
        let connecting = Box::pin(door.pool.connect(&door.address, self.params.idle_timeout));
        let connected = timeout_at(deadline.min(patience), connecting).await;
        connected.unwrap_or_else(|_late| Err(NotSent::connect(&"connecting took too long")))
    }
}

impl Door {
    /// Reads the rest of the answer, so that the connection can be used again. The status counts already: whatever
    /// happens to the body does not change what the app decided.
    async fn finish(
        &self,
        mut connection: Connection,
        answer: Response<Incoming>,
        want_body: bool,
        deadline: Instant,
    ) -> Exchanged {
        let (head, body) = answer.into_parts();
        let limit = if want_body { REPLY_BYTES_MAX } else { DISCARD_BYTES_MAX };
        let until = deadline.min(Instant::now() + BODY_PATIENCE);
        let body = timeout_at(until, connection.read(body, limit)).await.ok().flatten();
        if body.is_some() {
            self.pool.put(connection);
        }
        let body = body.filter(|_| want_body);
        Exchanged::Answered { status: head.status, headers: head.headers, body }
    }
}

/// An answer that we cannot read may be the 200 of an app that took the event.
fn broke(error: &hyper::Error) -> Exchanged {
    let garbage = error.is_parse() || error.is_parse_status() || error.is_parse_too_large();
    Exchanged::Broke(if garbage { GARBAGE } else { "reset" }, cause(error))
}

/// What an answer counts as that cannot be read.
const GARBAGE: &str = "garbage";

/// Longest body that is relayed with `reply: full`.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// How much of a body is read only to keep the connection.
const DISCARD_BYTES_MAX: usize = 4 * 1024;
/// How long the rest of an answer may take once its head is there.
const BODY_PATIENCE: Duration = Duration::from_secs(2);
