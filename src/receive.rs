//! Turns a stream into bytes that we can afford.
//!
//! The one maker of [`Envelope`]: method, headers and body are read here, under a size, a time, a minimum rate and a
//! memory limit, and before anything is believed. `Content-Length` is checked before the first byte of the body is read.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Refusal},
    event::{Name, Peer, Receipt, Timestamp},
    stage::{Next, Stage},
};

/// A request as it comes from the server, before anything about it was checked.
#[derive(Debug)]
pub struct Inbound<B> {
    /// The request.
    pub request: http::Request<B>,
    /// Who sent it.
    pub peer: Peer,
    /// Its name from now on.
    pub receipt: Receipt,
    /// When its head was read; the one time that every later check uses.
    pub received_at: Timestamp,
    /// Its place among the requests in flight, once it was let in.
    pub place: Option<Share>,
}

/// Something that all requests of a process share and that is not waited for: who finds too little is sent away.
#[derive(Debug)]
pub struct Budget {
    limit: &'static str,
    left: AtomicU64,
}

impl Budget {
    /// A budget of `amount`; `limit` is its name, one of [`crate::telemetry::SHED_REASONS`].
    pub fn new(limit: &'static str, amount: u64) -> Arc<Self> {
        Arc::new(Self { limit, left: AtomicU64::new(amount) })
    }

    fn share(self: &Arc<Self>, amount: u64) -> Result<Share, Refusal> {
        let mut share = Share { budget: Arc::clone(self), held: 0 };
        share.grow(amount).map(|()| share)
    }

    /// A share of nothing yet, which may grow to `amount` if nobody else takes it: who can only be sent away is sent away early.
    fn prospect(self: &Arc<Self>, amount: u64) -> Result<Share, Refusal> {
        let fits = amount <= self.left.load(Relaxed);
        if fits { self.share(0) } else { Err(Refusal::Overloaded(self.limit)) }
    }
}

/// What one request holds of a budget, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: u64,
}

impl Share {
    /// Makes sure that at least `amount` is held.
    fn grow(&mut self, amount: u64) -> Result<(), Refusal> {
        let more = amount.saturating_sub(self.held);
        let Budget { left, limit } = &*self.budget;
        left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(more))
            .map_err(|_too_little| Refusal::Overloaded(limit))?;
        self.held += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.held, Relaxed);
    }
}

/// Lets a request in while there is room, and time.
#[derive(Clone, Debug)]
pub struct Admit {
    /// Requests between here and their answers (`limits.requests_in_flight`).
    pub room: Arc<Budget>,
    /// Cancelled when the process will soon end.
    pub closed: CancellationToken,
}

impl<B: Send + 'static, N: Next<Inbound<B>>> Stage<Inbound<B>, N> for Admit {
    async fn pass(self, mut inbound: Inbound<B>, next: N) -> Answer {
        if self.closed.is_cancelled() {
            return Err(Refusal::Draining.into());
        }
        inbound.place = Some(self.room.share(1)?);
        next.oneshot(inbound).await
    }
}

/// Reads the body, once, into bytes.
#[derive(Clone, Debug)]
pub struct Receive(pub Arc<Accepts>);

/// What a source takes.
#[derive(Debug)]
pub struct Accepts {
    /// The source's name.
    pub source: Name,
    /// Methods besides POST that a challenge of its provider has; nothing else is done with such a request.
    pub methods: Vec<Method>,
    /// Length of a body, in bytes.
    pub body_bytes_max: u64,
    /// Time for a whole body.
    pub body_timeout: Duration,
    /// Bytes per second that a body must keep up after its first two seconds.
    pub body_rate_min: u64,
    /// Whether compressed bodies are taken, as they are.
    pub allow_encoded: bool,
    /// Who may send; anybody, where empty.
    pub allow_ips: Vec<IpNet>,
    /// Whether a wrong method looks like an unknown path.
    pub hide_paths: bool,
    /// Bytes of bodies in flight (`limits.body_memory`).
    pub memory: Arc<Budget>,
    /// How long bodies are.
    pub lengths: Histogram,
}

impl<B, N> Stage<Inbound<B>, N> for Receive
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    N: Next<Envelope>,
{
    async fn pass(self, inbound: Inbound<B>, next: N) -> Answer {
        let Inbound { request, peer, receipt, received_at, place } = inbound;
        let (parts, body) = request.into_parts();
        let length = self.0.check(&parts, peer)?;
        let mut memory = self.0.memory.prospect(length.unwrap_or(0))?;
        let body = self.0.collect(body, length, &mut memory).await?;
        let body = Bytes::from_owner(Paid { body, _memory: memory });
        #[expect(clippy::cast_precision_loss, reason = "no body is longer than 2^53 bytes")]
        self.0.lengths.observe(body.len() as f64);
        let source = self.0.source.clone();
        let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
        let whole =
            Whole { source, receipt, received_at, peer, method, uri, headers, body, _place: place };
        next.oneshot(Envelope(Arc::new(whole))).await
    }
}

impl Accepts {
    /// Judges the head; returns the declared length of the body, if there is one.
    fn check(&self, parts: &http::request::Parts, peer: Peer) -> Result<Option<u64>, Refusal> {
        if parts.method != Method::POST && !self.methods.contains(&parts.method) {
            let hidden =
                if self.hide_paths { Refusal::UnknownSource } else { Refusal::MethodNotAllowed };
            return Err(hidden);
        }
        if !self.allow_ips.is_empty() && !self.allow_ips.iter().any(|net| net.contains(&peer.ip)) {
            return Err(Refusal::AddressNotAllowed);
        }
        if !self.allow_encoded && is_encoded(&parts.headers) {
            return Err(Refusal::Unsupported("content_encoding"));
        }
        let length = declared_length(&parts.headers)?;
        if length.is_some_and(|bytes| bytes > self.body_bytes_max) {
            return Err(self.too_large());
        }
        Ok(length)
    }

    fn too_large(&self) -> Refusal {
        Refusal::TooLarge { bytes_max: self.body_bytes_max }
    }

    /// When a body of which `received` bytes are here must have brought the next one.
    fn deadline(&self, start: Instant, received: u64) -> Instant {
        let at_rate = Duration::from_secs(received / self.body_rate_min.max(1));
        start + self.body_timeout.min(RATE_GRACE.max(at_rate))
    }

    /// How large a buffer has to be for a body of which `received` bytes are here, `held` of which fit. It doubles, so that what came
    /// is copied a few times at most; and once an eighth of what was announced is here, it is large enough for all of that, so that
    /// a long body is never there twice.
    fn room(&self, length: Option<u64>, held: u64, received: u64) -> u64 {
        let most = length.unwrap_or(self.body_bytes_max).max(received);
        let is_under_way = length.is_some_and(|length| received >= length / ANNOUNCED_PART);
        let more = (held * 2).max(BUFFER_BYTES_MIN).max(received);
        if is_under_way { most } else { more.min(most) }
    }

    /// Reads a body to its end. Trailers are dropped. A body that comes in one piece is not copied. What is announced takes no
    /// memory, or few strangers could take all of it with a head each: what came does, and the buffer for more of it.
    async fn collect<B: Body<Data = Bytes> + Send>(
        &self,
        body: B,
        length: Option<u64>,
        memory: &mut Share,
    ) -> Result<Bytes, Refusal> {
        let mut body = pin!(body);
        let start = Instant::now();
        let mut first = Bytes::new();
        let mut pieces = Vec::new();
        let mut received = 0_u64;
        while !body.is_end_stream() {
            // What is there already costs no timer.
            let next = timeout_at(self.deadline(start, received), body.frame());
            let Some(frame) = next.await.map_err(|_late| Refusal::TooSlow)? else { break };
            let Ok(frame) = frame else { return Err(Refusal::Unreadable("body_ended_early")) };
            let Ok(data) = frame.into_data() else { continue };
            received += data.len() as u64;
            if received > self.body_bytes_max {
                return Err(self.too_large());
            }
            if pieces.is_empty() && first.is_empty() {
                memory.grow(received)?;
                first = data;
                continue;
            }
            if received > pieces.capacity() as u64 {
                memory.grow(self.room(length, memory.held, received))?;
                // Exactly, or it could be rounded up to more than is held.
                let held = usize::try_from(memory.held).unwrap_or(usize::MAX);
                pieces.reserve_exact(held - pieces.len());
            }
            if pieces.is_empty() {
                pieces.extend_from_slice(&first);
                first = Bytes::new();
            }
            pieces.extend_from_slice(&data);
        }
        Ok(if pieces.is_empty() { first } else { pieces.into() })
    }
}

/// The least that a buffer for a body in pieces has room for, where the body can be as long.
const BUFFER_BYTES_MIN: u64 = 16 * 1024;
/// The part of an announced body that has to be here before there is room for all of it.
const ANNOUNCED_PART: u64 = 8;
/// How long a body may be slower than the minimum rate.
const RATE_GRACE: Duration = Duration::from_secs(2);

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok());
    length.map(Some).ok_or(Refusal::Unreadable("content_length"))
}

/// A request that fits: nothing about it is believed yet. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Envelope(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    source: Name,
    receipt: Receipt,
    received_at: Timestamp,
    peer: Peer,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Given back when the last clone of the envelope is dropped, wherever the work goes on by then.
    _place: Option<Share>,
}

/// A body and its memory, which is given back with the last that holds any of it: what was begun to be sent may outlast the
/// envelope.
struct Paid {
    body: Bytes,
    _memory: Share,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Envelope {
    pub(crate) fn source(&self) -> &Name {
        &self.0.source
    }

    pub(crate) fn receipt(&self) -> Receipt {
        self.0.receipt
    }

    pub(crate) fn received_at(&self) -> Timestamp {
        self.0.received_at
    }

    pub(crate) fn peer(&self) -> Peer {
        self.0.peer
    }

    /// POST for everything that may become an event.
    pub(crate) fn method(&self) -> &Method {
        &self.0.method
    }

    /// Path and query as sent.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// Headers as sent.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The body, byte for byte.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }
}
