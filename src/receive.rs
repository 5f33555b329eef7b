//! Turns a stream into bytes that we can afford.
//!
//! The one maker of [`Envelope`]: method, headers and body are read here, under a size, a time, a minimum rate and a
//! memory limit, and before anything is believed. `Content-Length` is checked before the first byte of the body is read.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
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
}

/// Lets a request in while there is room, and while the process is not stopping.
#[derive(Clone, Debug)]
pub struct Admit {
    /// One permit per request between here and its answer (`limits.requests_in_flight`); shared by all sources.
    pub room: Arc<Semaphore>,
    /// Counts those for whom there was none.
    pub shed: Counter,
    /// Cancelled when the process begins to stop.
    pub draining: CancellationToken,
}

impl<B: Send + 'static, N: Next<Inbound<B>>> Stage<Inbound<B>, N> for Admit {
    async fn pass(self, inbound: Inbound<B>, next: N) -> Answer {
        if self.draining.is_cancelled() {
            return Err(Refusal::Draining.into());
        }
        let Ok(_permit) = self.room.try_acquire() else {
            self.shed.inc();
            return Err(Refusal::Overloaded("requests_in_flight").into());
        };
        next.oneshot(inbound).await
    }
}

/// Reads the body, once, into bytes.
#[derive(Clone, Debug)]
pub struct Receive {
    /// What this source takes.
    pub accepts: Arc<Accepts>,
    /// Memory for bodies in flight, a permit per KiB (`limits.body_memory`); shared by all sources.
    pub memory: Arc<Semaphore>,
    /// Counts those for whom there was none.
    pub shed: Counter,
}

/// What a source takes.
#[derive(Clone, Debug)]
pub struct Accepts {
    /// The source's name.
    pub source: Name,
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
}

impl<B, N> Stage<Inbound<B>, N> for Receive
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    N: Next<Envelope>,
{
    async fn pass(self, inbound: Inbound<B>, next: N) -> Answer {
        let Inbound { request, peer, receipt, received_at } = inbound;
        let (parts, body) = request.into_parts();
        let length = self.accepts.check(&parts, peer)?;
        let mut room = Room { memory: &self.memory, shed: &self.shed, held: None };
        room.grow(length.unwrap_or(0))?;
        let body = collect(body, &self.accepts, length, &mut room).await?;
        next.oneshot(Envelope {
            source: self.accepts.source.clone(),
            receipt,
            received_at,
            peer,
            uri: parts.uri,
            headers: Arc::new(parts.headers),
            body,
            _permit: Arc::new(room.held),
        })
        .await
    }
}

impl Accepts {
    /// Judges the head; returns the declared length of the body, if there is one.
    fn check(&self, parts: &http::request::Parts, peer: Peer) -> Result<Option<u64>, Refusal> {
        if parts.method != Method::POST {
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
            return Err(Refusal::TooLarge { bytes_max: self.body_bytes_max });
        }
        Ok(length)
    }

    /// When a body of which `received` bytes are here must have brought the next one.
    fn deadline(&self, start: Instant, received: u64) -> Instant {
        let at_rate = Duration::from_secs(received / self.body_rate_min.max(1));
        start + self.body_timeout.min(RATE_GRACE.max(at_rate))
    }
}

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

/// The share of the memory budget that one body holds.
struct Room<'a> {
    memory: &'a Arc<Semaphore>,
    shed: &'a Counter,
    held: Option<OwnedSemaphorePermit>,
}

impl Room<'_> {
    /// Makes sure that at least `bytes` are covered.
    fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX);
        let Some(more) = wanted.checked_sub(held).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(self.memory).try_acquire_many_owned(more) else {
            self.shed.inc();
            return Err(Refusal::Overloaded("body_memory"));
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// Reads a body to its end. Trailers are dropped. A body that comes in one piece is not copied.
async fn collect<B: Body<Data = Bytes> + Send>(
    body: B,
    accepts: &Accepts,
    length: Option<u64>,
    room: &mut Room<'_>,
) -> Result<Bytes, Refusal> {
    let mut body = pin!(body);
    let start = Instant::now();
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    let mut received = 0_u64;
    while let Some(frame) = soon(accepts.deadline(start, received), body.frame()).await? {
        let Ok(frame) = frame else { return Err(Refusal::Unreadable("body_ended_early")) };
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        if received > accepts.body_bytes_max {
            return Err(Refusal::TooLarge { bytes_max: accepts.body_bytes_max });
        }
        room.grow(received)?;
        if pieces.is_empty() && whole.is_empty() {
            whole = data;
            continue;
        }
        if pieces.is_empty() {
            pieces.reserve(usize::try_from(length.unwrap_or(0)).unwrap_or(0).max(whole.len() * 2));
            pieces.extend_from_slice(&whole);
        }
        pieces.extend_from_slice(&data);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

async fn soon<T>(deadline: Instant, work: impl Future<Output = T> + Send) -> Result<T, Refusal> {
    timeout_at(deadline, work).await.map_err(|_late| Refusal::TooSlow)
}

/// A request that fits: nothing about it is believed yet. Cheap to clone; the body is shared.
#[derive(Clone, Debug)]
pub struct Envelope {
    source: Name,
    receipt: Receipt,
    received_at: Timestamp,
    peer: Peer,
    uri: Uri,
    headers: Arc<HeaderMap>,
    body: Bytes,
    /// The bytes of memory that the body may use; given back when the last clone of the envelope is dropped.
    _permit: Arc<Option<OwnedSemaphorePermit>>,
}

impl Envelope {
    /// The source at whose path it arrived.
    pub fn source(&self) -> &Name {
        &self.source
    }

    /// The request's name.
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// When it was received.
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Who sent it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Path and query as sent.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Headers as sent.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, byte for byte.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// An envelope made by hand, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test(
        source: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
        received_at: Timestamp,
    ) -> Self {
        Self {
            source: Name::parse(source).expect("a name"),
            receipt: Receipt::random(),
            received_at,
            peer: Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true },
            uri: Uri::from_static("/"),
            headers: Arc::new(headers),
            body: body.into(),
            _permit: Arc::new(None),
        }
    }
}
