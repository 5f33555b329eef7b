//! The end: running requests finish, new ones are not taken, and nothing takes for ever.

use gatepost::server::Settings;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    flood::Target,
    h2,
    world::{
        Authority, DEADLINE, GET, SHORT, Sender, Server, ask, closed, settings, tls, until,
        with_tls,
    },
};

#[tokio::test]
async fn a_running_request_finishes_and_new_ones_are_refused() {
    let server = Server::start(settings());
    let mut idle = server.connect().await;
    assert_eq!(ask(&mut idle, GET).await.0, 200);
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| server.running() == 1).await;

    server.shutdown.cancel();
    assert_eq!(closed(&mut idle).await, b"", "idle connections close at once");
    until(|| std::net::TcpStream::connect(server.address).is_err()).await;

    let (gate, address) = (std::sync::Arc::clone(&server.gate), server.address);
    gate.notify_one();
    let said = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(said.contains("connection: close") && said.ends_with(" /wait "), "{said}");
    assert_eq!(server.drained().await, 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn http2_streams_finish_too() {
    use http_body_util::{BodyExt as _, Empty};
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let stream = Sender::trusting(&ca.pem).alpn(&["h2"]).connect(&server, "a.test").await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(connection);
    let request = http::Request::get("https://a.test/wait").body(Empty::<bytes::Bytes>::new());
    let answer = tasks.spawn(sender.send_request(request.unwrap()));
    until(|| server.running() == 1).await;
    server.shutdown.cancel();
    server.gate.notify_one();
    let body = answer.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b" /wait "));
    drop(sender);
    assert_eq!(server.drained().await, 0);
}

/// The end of an HTTP/2 connection is a question and its answer. One who never answers is not waited for, and loses nothing.
#[tokio::test]
async fn an_http2_peer_that_answers_no_ping_does_not_hold_up_the_end() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let settings = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])]));
    let server = Server::start(Settings { drain_timeout: 100 * DEADLINE, ..settings });
    let sender = Sender::trusting(&ca.pem).alpn(&["h2"]);
    let mut idle = sender.connect(&server, "a.test").await.unwrap();
    idle.write_all(&h2::preface()).await.unwrap();
    let mut busy = sender.connect(&server, "a.test").await.unwrap();
    let request =
        h2::frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &h2::post("/wait", &[]));
    busy.write_all(&[h2::preface(), request].concat()).await.unwrap();
    until(|| server.running() == 1).await;

    server.shutdown.cancel();
    let left = closed(&mut idle).await;
    let asks = |said: &[u8]| said.windows(4).any(|bytes| bytes == [8, h2::PING, 0, 0]);
    assert!(asks(&left), "{left:?}");
    assert_eq!(server.running(), 1, "what runs is waited for");
    server.gate.notify_one();
    let said = closed(&mut busy).await;
    assert!(asks(&said) && said.ends_with(b" /wait "), "{said:?}");
    assert_eq!(server.drained().await, 0);
}

#[tokio::test]
async fn what_does_not_finish_is_cut_and_said() {
    let server = Server::start(Settings { drain_timeout: SHORT, ..settings() });
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| server.running() == 1).await;
    let (metrics, drained) = (server.metrics.clone(), server.drained().await);
    assert_eq!(drained, 1);
    assert_eq!(closed(&mut stream).await, b"");
    assert_eq!(metrics.connections().get(), 0);
}

#[tokio::test]
async fn half_a_handshake_does_not_hold_up_the_end() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let mut stream = server.connect().await;
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
    until(|| server.open() == 1).await;
    assert_eq!(server.drained().await, 0);
}

/// A sender cannot know that the end was asked for: what it has sent by then, on a connection that it may use, is answered,
/// and the answer tells it to use this connection no more.
#[tokio::test]
async fn requests_that_cross_the_end_on_their_way_are_answered() {
    let target = Target::start(|_| {});
    let mut used = target.connect("http/1.1").await;
    assert_eq!(ask(&mut used, GET).await.0, 200);
    let fresh = target.connect("http/1.1").await;
    let silent = target.server.connect().await;
    until(|| target.server.open() == 3).await;

    target.server.shutdown.cancel();
    let shaken = target.shake(silent, "http/1.1").await.unwrap();
    for (name, mut stream) in [("used", used), ("fresh", fresh), ("silent", shaken)] {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let said = String::from_utf8(closed(&mut stream).await).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 "), "{name}: {said}");
        assert!(said.contains("connection: close"), "{name}: {said}");
    }
    assert_eq!(target.drained().await, 0);
}
