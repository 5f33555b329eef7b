//! Floods of frames: each ends its connection and no other, and who lets them through is found out.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use super::{
    h2::{
        ACK, DATA, END_HEADERS, END_STREAM, End, FLOODS, HEADERS, PING, PRIORITY, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, frame, next, post, preface,
    },
    world::{Authority, GET, Sender, Server, ask, connect, soon, tls, until, with_tls},
};

/// A server that speaks TLS, and what its senders need.
pub struct Target {
    pub server: Server,
    ca: String,
    _dir: tempfile::TempDir,
}

impl Target {
    pub fn start(limit: impl FnOnce(&mut gatepost::config::Limits)) -> Self {
        let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
        let mut settings = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])]));
        limit(&mut settings.limits);
        Self { server: Server::start(settings), ca: ca.pem, _dir: dir }
    }

    pub async fn connect(&self, alpn: &'static str) -> TlsStream<TcpStream> {
        self.dial(alpn).await.unwrap()
    }

    pub async fn dial(&self, alpn: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        self.shake(self.server.connect().await, alpn).await
    }

    /// The handshake alone.
    pub async fn shake(
        &self,
        stream: TcpStream,
        alpn: &'static str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let sender = Sender::trusting(&self.ca).alpn(&[alpn]);
        connect(sender.config(), stream, "a.test").await
    }

    pub async fn drained(self) -> usize {
        self.server.drained().await
    }
}

#[tokio::test]
async fn every_flood_ends_its_connection_and_no_other() {
    let target = Target::start(|_| {});
    let mut honest = target.connect("http/1.1").await;
    for flood in &FLOODS {
        let end = flood.over(target.connect("h2").await).await;
        assert!(end.is_closed_for(flood.reason), "{}: {end:?}", flood.name);
        assert_eq!(ask(&mut honest, GET).await.0, 200, "{}", flood.name);
        until(|| target.server.open() == 1 && target.server.running() == 0).await;
    }
}

/// Every limit off: what stands between a flood and a server that was set up in haste.
fn careless() -> DuplexStream {
    let (ours, theirs) = duplex(64 * 1024);
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(None)
        .max_header_list_size(u32::MAX)
        .max_local_error_reset_streams(None)
        .max_pending_accept_reset_streams(usize::MAX)
        .serve_connection(
            TokioIo::new(theirs),
            service_fn(|request: http::Request<Incoming>| async {
                drop(request.into_body().collect().await);
                Ok::<_, Infallible>(http::Response::new(Full::<bytes::Bytes>::default()))
            }),
        );
    drop(TaskTracker::new().spawn(connection));
    ours
}

/// Takes everything and answers pings: not even what h2 always refuses is refused.
fn sink() -> DuplexStream {
    let (ours, mut theirs) = duplex(64 * 1024);
    drop(TaskTracker::new().spawn(async move {
        theirs.read_exact(&mut [0; 24]).await?;
        loop {
            let (kind, flags, _, payload) = next(&mut theirs).await?;
            if kind == PING && flags & ACK == 0 {
                theirs.write_all(&frame(PING, ACK, 0, &payload)).await?;
            }
        }
        #[expect(unreachable_code, reason = "says what the block may fail with")]
        Ok::<_, std::io::Error>(())
    }));
    ours
}

#[tokio::test]
async fn a_server_without_the_limits_is_found_out() {
    for flood in &FLOODS {
        // h2 counts empty DATA whatever it is told.
        let victim = if flood.name == "empty data" { sink() } else { careless() };
        assert_eq!(flood.over(victim).await, End::Survived, "{}", flood.name);
    }
    // And one reason does not pass for another.
    let end = End::Closed(Some((11, "too_many_resets".to_owned())));
    assert!(end.is_closed_for("") && !end.is_closed_for("too_many_pings"));
    assert!(!End::Closed(None).is_closed_for("too_many_resets"));
}

/// Senders measure the line, open windows and give up on requests: what goes with requests is not a flood.
#[tokio::test]
async fn frames_that_go_with_requests_are_not_counted_against_them() {
    let target = Target::start(|_| {});
    let mut stream = target.connect("h2").await;
    stream.get_ref().0.set_nodelay(true).unwrap();
    soon(stream.write_all(&preface())).await.unwrap();
    for n in 0..500 {
        let id = 2 * n + 1;
        let one = |kind, payload: &[u8]| frame(kind, 0, 0, payload);
        let request = [
            frame(PRIORITY, 0, id, &[0, 0, 0, 0, 7]),
            frame(HEADERS, END_HEADERS, id, &post("/", &[("content-length", "2")])),
            one(PING, b"12345678"),
            frame(DATA, END_STREAM, id, b"{}"),
            one(WINDOW_UPDATE, &1_u32.to_be_bytes()),
            frame(WINDOW_UPDATE, 0, id, &1_u32.to_be_bytes()),
            one(SETTINGS, &[]),
        ];
        soon(stream.write_all(&request.concat())).await.unwrap();
        while soon(next(&mut stream)).await.unwrap().0 != DATA {}
        soon(stream.write_all(&frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()))).await.unwrap();
    }
    assert_eq!(target.server.open(), 1);
}
