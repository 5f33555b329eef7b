//! One connection from its first byte to its last: PROXY header, TLS handshake, HTTP/1.1 or HTTP/2.

use std::{
    convert::Infallible, future::Future, io, net::IpAddr, pin::Pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Version,
    header::{CONNECTION, EXPECT},
};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    rt::Executor,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Arriving, Front, Settings, check, forwarded,
    frames::Frames,
    proxy_protocol,
    voice::{Carrier, Pulse, Voice},
    wire::Wire,
};
use crate::{config::ProxyProtocol, event::Peer};

/// What a connection is served with.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) settings: Arc<Settings>,
    pub(super) front: Arc<Front>,
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

impl Connection {
    /// Serves `socket`, which was accepted from `address`, to its end; false where it was cut short.
    pub(super) async fn serve(self, socket: TcpStream, address: IpAddr) -> bool {
        let greet = Box::pin(self.greet(socket, address));
        let greeted = tokio::select! {
            biased;
            greeted = greet => Some(greeted),
            () = self.after_shutdown(self.last_call()) => None,
        };
        let ended = match greeted {
            None => return true,
            Some(Ok((io, peer))) if speaks_http2(&io) => self.http2(io, peer).await,
            Some(Ok((io, peer))) => self.http1(io, peer).await,
            Some(Err(error)) => Err(error.into()),
        };
        let Err(error) = ended else { return true };
        tracing::debug!(%address, %error, "connection ended early");
        !error.is::<CutShort>()
    }

    /// Everything before HTTP, each step under its own deadline.
    async fn greet(&self, socket: TcpStream, address: IpAddr) -> io::Result<(Carrier, Peer)> {
        let limits = &self.settings.limits;
        let mut wire = Wire::new(socket, limits.write_timeout.0);
        timeout(limits.first_byte_timeout.0, wire.first_byte()).await??;
        let ip = timeout(limits.first_byte_timeout.0, self.proxied(&mut wire, address)).await??;
        let Some(tls) = &self.settings.tls else {
            return Ok((Carrier::Left(wire), Peer { ip, https: false }));
        };
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(wire);
        let stream = timeout(limits.handshake_timeout.0, handshake).await??;
        Ok((Carrier::Right(Box::new(stream)), Peer { ip, https: true }))
    }

    /// The sender's address: the PROXY header's where one is expected, else the socket's.
    async fn proxied(&self, wire: &mut Wire, address: IpAddr) -> io::Result<IpAddr> {
        let version = self.settings.proxy_protocol;
        if version == ProxyProtocol::None {
            return Ok(address);
        }
        if !self.settings.trusted_proxies.iter().any(|net| net.contains(&address)) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a trusted proxy"));
        }
        Ok(proxy_protocol::read(wire, version).await?.unwrap_or(address))
    }

    async fn http1(&self, io: Carrier, peer: Peer) -> Result<(), Ended> {
        let limits = &self.settings.limits;
        let (first, idle) = (limits.first_byte_timeout.0, limits.idle_timeout.0);
        let header_bytes_max = limits.header_size.in_memory();
        let pulse = Pulse::new(first, Some(limits.header_timeout.0), idle);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None) // the pulse does it
            .max_headers(limits.headers.get())
            .max_header_size(header_bytes_max)
            .max_buf_size(header_bytes_max.max(HTTP1_BUFFER_BYTES_MIN))
            .half_close(true) // who has sent everything may still wait for the answer
            .serve_connection(self.voice(io, peer, &pulse, None), self.service(peer, &pulse));
        self.drive(Box::pin(connection), &pulse).await
    }

    async fn http2(&self, io: Carrier, peer: Peer) -> Result<(), Ended> {
        let limits = &self.settings.limits;
        let (idle, streams) = (limits.idle_timeout.0, limits.h2_streams.get());
        let pulse = Pulse::new(limits.first_byte_timeout.0.min(idle), None, idle);
        let connection = http2::Builder::new(Tracked(self.tracker.clone()))
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .max_header_list_size(u32::try_from(limits.header_size.0).unwrap_or(u32::MAX))
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_local_error_reset_streams(local_resets_max(streams))
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
            .keep_alive_interval(idle / 2)
            .keep_alive_timeout(limits.write_timeout.0)
            .serve_connection(
                self.voice(io, peer, &pulse, Some(Frames::new())),
                self.service(peer, &pulse),
            );
        self.drive(Box::pin(connection), &pulse).await
    }

    fn voice(
        &self,
        io: Carrier,
        peer: Peer,
        pulse: &Arc<Pulse>,
        frames: Option<Frames>,
    ) -> TokioIo<Voice> {
        let receipt_header = self.settings.receipt_header.clone();
        let (front, pulse) = (Arc::clone(&self.front), Arc::clone(pulse));
        TokioIo::new(Voice { io, front, peer, pulse, frames, receipt_header, is_deaf: false })
    }

    /// Runs a connection until it ends, is too long silent, or is asked to end: when it is old, and at shutdown. A peer
    /// that does not let it end then must not keep us: what is left after the drain timeout is cut.
    async fn drive<C: GracefulConnection<Error = hyper::Error>>(
        &self,
        mut connection: Pin<Box<C>>,
        pulse: &Pulse,
    ) -> Result<(), Ended> {
        let expired = pulse.expired();
        let asked = async {
            let age = sleep(self.settings.limits.connection_age_max.0);
            self.shutdown.run_until_cancelled(age).await;
            if pulse.leave(self.patience()) {
                sleep(self.last_call()).await;
            }
        };
        let late = self.after_shutdown(self.settings.drain_timeout);
        tokio::pin!(expired, asked, late);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Ok(ended?),
            () = &mut expired => return Err("nothing happened for too long".into()),
            () = asked => connection.as_mut().graceful_shutdown(),
            () = &mut late => return Err(CutShort.into()),
        }
        tokio::select! {
            biased;
            ended = connection.as_mut() => Ok(ended?),
            () = expired => Err("nothing happened for too long".into()),
            () = late => Err(CutShort.into()),
        }
    }

    /// Ends `time` after the end was asked for.
    async fn after_shutdown(&self, time: Duration) {
        self.shutdown.cancelled().await;
        sleep(time).await;
    }

    /// How long a connection without a request is kept when it should end: a sender does not know that, and what it has
    /// just sent would be lost.
    fn last_call(&self) -> Duration {
        (self.settings.drain_timeout / 10).min(LAST_CALL_MAX)
    }

    /// How long an HTTP/2 peer has, while no request runs, to say that it heard of the end. Shutdown does not wait for one
    /// that never does.
    fn patience(&self) -> Duration {
        (self.settings.drain_timeout / 5).min(PATIENCE_MAX)
    }

    /// What hyper calls for each request of this connection.
    fn service(
        &self,
        direct: Peer,
        pulse: &Arc<Pulse>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<> {
        let (settings, front) = (Arc::clone(&self.settings), Arc::clone(&self.front));
        let (pulse, tracker) = (Arc::clone(pulse), self.tracker.clone());
        service_fn(move |request: Request<Incoming>| {
            let (running, heard) = pulse.begin(request.body().size_hint().exact());
            let resolved = forwarded::resolve(direct, request.headers(), &settings.trusted_proxies);
            let checked =
                heard.and_then(|()| check(&request, &settings.limits)).and(resolved.map(|_| ()));
            let is_http1 = request.version() != Version::HTTP_2;
            let reads_on = (!is_http1).then(|| (tracker.clone(), running.clone()));
            let request = request.map(|body| Arriving::new(body, reads_on));
            let refused = is_http1 && checked.is_err();
            let expects = is_http1 && request.headers().contains_key(EXPECT);
            let answer = (front.answer)(request, resolved.unwrap_or(direct), checked);
            async move {
                let mut response = answer.await;
                // Who could not be understood once is not listened to further on this connection. Who was to wait for
                // leave to send a body, and is refused, may send it or not: what comes next cannot be told.
                let unclear = refused || (expects && !response.status().is_success());
                if unclear || running.is_last() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(running);
                Ok::<_, Infallible>(response)
            }
        })
    }
}

/// Whether both sides agreed on HTTP/2 (ALPN); it is never guessed.
fn speaks_http2(io: &Carrier) -> bool {
    matches!(io, Carrier::Right(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
}

/// Why a connection ended before its time.
type Ended = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("it did not end within the drain timeout")]
struct CutShort;

/// Spawns what HTTP/2 runs beside the connection, streams above all, where shutdown can wait for it.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<T> Executor<T> for Tracked
where
    T: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: T) {
        drop(self.0.spawn(task));
    }
}

/// A sender may open 100 streams before it has read our limit; refusing those must not count against it.
fn local_resets_max(streams: u32) -> usize {
    let refused = usize::try_from(100_u32.saturating_sub(streams)).unwrap_or_default();
    HTTP2_LOCAL_RESETS_MAX + 3 * refused // its headers, and what follows them
}

/// HTTP/1 can only say in an answer that a connection will end. HTTP/2 says so and waits by itself.
const LAST_CALL_MAX: Duration = Duration::from_secs(1);
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// hyper's smallest read buffer.
const HTTP1_BUFFER_BYTES_MIN: usize = 8192;
/// Flow control: what a sender may have under way on one stream, and on all of them together.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Streams reset for the peer's mistakes (`MadeYouReset`), and reset by the peer before we took them (rapid reset).
const HTTP2_LOCAL_RESETS_MAX: usize = 64;
const HTTP2_PENDING_RESETS_MAX: usize = 20;
