//! Turns a stream into bytes that we can afford.
//!
//! The one maker of [`Envelope`]: method, headers and body are read here, under a size, a time, a minimum rate and a
//! memory limit, and before anything is believed. `Content-Length` is checked before the first byte of the body is read.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::sync::OwnedSemaphorePermit;

use crate::event::{Name, Peer, Receipt, Timestamp};

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
    permit: Arc<Option<OwnedSemaphorePermit>>,
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
            permit: Arc::new(None),
        }
    }
}
