//! A socket as we use it: read in few system calls, written under a deadline, closed so that the last answer arrives.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// One connection's socket.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    /// Read from the socket, not yet asked for.
    ahead: Vec<u8>,
    /// How much of `ahead` was given out.
    given: usize,
    write_timeout: Duration,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    /// Neither side has ended.
    Open,
    /// The peer has said that it sends no more.
    Ended,
    /// We have said so and wait a little for the peer.
    Lingering(Pin<Box<Sleep>>),
}

impl Wire {
    pub(super) fn new(socket: TcpStream, write_timeout: Duration) -> Self {
        let (ahead, closing) = (Vec::new(), Closing::Open);
        Self { socket, ahead, given: 0, write_timeout, stalled: None, closing }
    }

    /// Waits for the first byte; it stays there to be read.
    pub(super) async fn first_byte(&mut self) -> io::Result<()> {
        let mut wire = Pin::new(self);
        poll_fn(|cx| wire.as_mut().poll_read(cx, &mut ReadBuf::new(&mut []))).await
    }

    /// Puts `bytes` back to be read again.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let rest = self.ahead.get(self.given..).unwrap_or_default();
        self.ahead = [bytes, rest].concat();
        self.given = 0;
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let rest = self.ahead.get(self.given..).unwrap_or_default();
        let now = rest.len().min(out.remaining());
        out.put_slice(rest.get(..now).unwrap_or_default());
        self.given += now;
        if self.given >= self.ahead.len() {
            self.ahead = Vec::new(); // an idle connection keeps no buffer
            self.given = 0;
        }
    }

    /// What a write came to; one that waits, waits for so long only.
    fn watched(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.write_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and drops what the peer still sends, until it ends or the time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [const { MaybeUninit::uninit() }; CHUNK_BYTES];
        loop {
            let Closing::Lingering(until) = &mut self.closing else { return Poll::Ready(()) };
            if until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut chunk = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk)) {
                Ok(()) if !chunk.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Wire {
    /// rustls asks for 4 KiB at a time; a whole record is read at once instead, and the socket is then known to be
    /// empty, which saves the read that would only say so.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            self.give(out);
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        let ended = if out.remaining() > SMALL_BYTES_MAX {
            ready!(Pin::new(&mut self.socket).poll_read(cx, out))?;
            out.filled().len() == before
        } else {
            let mut space = [const { MaybeUninit::uninit() }; CHUNK_BYTES];
            let mut chunk = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
            let (now, later) = chunk.filled().split_at(chunk.filled().len().min(out.remaining()));
            out.put_slice(now);
            self.ahead.extend_from_slice(later);
            chunk.filled().is_empty()
        };
        if ended {
            self.closing = Closing::Ended;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Closing a socket with unread bytes in it resets the connection, and a reset can overtake the answer. So a sender
    /// that is told *too large* in the middle of its body is heard out for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.closing, Closing::Open) {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.closing = Closing::Lingering(Box::pin(sleep(LINGER)));
        }
        self.poll_linger(cx).map(Ok)
    }
}

/// What is read in one call: a TLS record, nearly.
const CHUNK_BYTES: usize = 16 * 1024;
/// Who asks for no more than that gets it from a larger read.
const SMALL_BYTES_MAX: usize = 4096;
/// How long a peer may take to end after we did.
const LINGER: Duration = Duration::from_secs(1);
