//! Senders that keep a connection and do nothing with it.

use gatepost::{config::Limits, server::Settings, units::Span};
use tokio::io::AsyncWriteExt as _;

use super::world::{
    Authority, GET, SHORT, Sender, Server, ask, closed, limits, settings, soon, tls, until,
    with_tls,
};

fn limited(limit: impl FnOnce(&mut Limits)) -> Settings {
    let mut limits = limits();
    limit(&mut limits);
    Settings { limits, ..settings() }
}

#[tokio::test]
async fn not_a_byte() {
    let server = Server::start(limited(|l| l.first_byte_timeout = Span(SHORT)));
    assert_eq!(closed(&mut server.connect().await).await, b"");
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn not_a_byte_of_tls_half_a_hello_and_nothing_after_the_handshake() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let config = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])).tls;

    let settings = limited(|l| l.first_byte_timeout = Span(SHORT));
    let server = Server::start(Settings { tls: config.clone(), ..settings });
    closed(&mut server.connect().await).await;
    let mut stream = Sender::trusting(&ca.pem).connect(&server, "a.test").await.unwrap();
    closed(&mut stream).await;

    let settings = limited(|l| l.handshake_timeout = Span(SHORT));
    let server = Server::start(Settings { tls: config, ..settings });
    let mut stream = server.connect().await;
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
    closed(&mut stream).await;
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn a_head_without_end() {
    let server = Server::start(limited(|l| l.header_timeout = Span(SHORT)));
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    closed(&mut stream).await;

    let mut stream = server.connect().await;
    assert_eq!(ask(&mut stream, GET).await.0, 200);
    soon(async {
        // A line now and then does not help: the time is for the whole head.
        while stream.write_all(b"GET / HTTP/1.1\r\nx: y\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
}

#[tokio::test]
async fn idle_after_a_request() {
    let server = Server::start(limited(|l| l.idle_timeout = Span(SHORT)));
    let mut stream = server.connect().await;
    assert_eq!(ask(&mut stream, GET).await.0, 200);
    assert_eq!(closed(&mut stream).await, b"");
}

#[tokio::test]
async fn idle_is_longer_than_a_head_may_take() {
    let server = Server::start(limited(|l| l.header_timeout = Span(SHORT)));
    let mut stream = server.connect().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut stream, GET).await.0, 200);
        tokio::time::sleep(SHORT * 2).await;
    }
    assert_eq!(ask(&mut stream, GET).await.0, 200);
}

#[tokio::test]
async fn a_running_request_is_not_idle() {
    let server = Server::start(limited(|l| {
        l.idle_timeout = Span(SHORT);
        l.header_timeout = Span(SHORT);
        l.first_byte_timeout = Span(SHORT);
    }));
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(server.running(), 1);
    server.gate.notify_one();
    assert_eq!(super::world::answer(&mut stream).await.0, 200);
}

#[tokio::test]
async fn http2_without_a_stream() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let tls = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])).tls;
    let server = Server::start(Settings { tls, ..limited(|l| l.idle_timeout = Span(SHORT)) });
    let sender = Sender::trusting(&ca.pem).alpn(&["h2"]);
    let mut stream = sender.connect(&server, "a.test").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    closed(&mut stream).await;
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes() {
    let server = Server::start(limited(|l| l.write_timeout = Span(SHORT)));
    let mut stream = server.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| server.open() == 1).await;
    until(|| server.open() == 0).await;
}

#[tokio::test]
async fn old_connections_are_asked_to_close() {
    let server = Server::start(limited(|l| l.connection_age_max = Span(SHORT)));
    let mut stream = server.connect().await;
    assert_eq!(ask(&mut stream, GET).await.0, 200);
    assert_eq!(closed(&mut stream).await, b"", "idle: at once");

    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    server.gate.notify_one();
    let said = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(said.contains("connection: close") && said.ends_with(" /wait "), "{said}");
}
