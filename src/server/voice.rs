//! What HTTP is spoken over: a socket, or TLS on it. What hyper refuses by itself, because it is no HTTP, leaves with a
//! receipt like every other answer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::HeaderName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::{pulse::Pulse, wire::Wire};
use crate::event::Receipt;

/// A socket, or TLS on it.
pub(super) type Carrier = Either<Wire, Box<TlsStream<Wire>>>;

/// One connection, as HTTP sees it.
pub(super) struct Voice {
    io: Carrier,
    pulse: Arc<Pulse>,
    receipt_header: HeaderName,
}

impl Voice {
    /// From now on `pulse` feels what is read.
    pub(super) fn new(
        mut io: Carrier,
        pulse: &Arc<Pulse>,
        receipt_header: HeaderName,
    ) -> io::Result<Self> {
        let wire = match &mut io {
            Either::Left(wire) => wire,
            Either::Right(tls) => tls.get_mut().0,
        };
        wire.felt_by(pulse)?;
        Ok(Self { io, pulse: Arc::clone(pulse), receipt_header })
    }

    /// `said` with a receipt in it, where it is hyper's own refusal: an answer for which no request was begun.
    fn received(&self, said: &[u8]) -> Option<Vec<u8>> {
        if !said.starts_with(b"HTTP/1.1 4") || self.pulse.is_answering() {
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
        Pin::new(&mut self.io).poll_read(cx, out)
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
