//! What comes to the front, and what does not.

use gatepost::server::Settings;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::world::{
    Authority, GET, Sender, Server, answer, ask, closed, head, settings, soon, tls, until, with_tls,
};

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start(settings());
    let mut stream = server.connect().await;
    for n in 0..3 {
        let request = format!("POST /{n} HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
        let (status, seen) = ask(&mut stream, request).await;
        assert_eq!((status, seen), (200, format!("HTTP/1.1 http 127.0.0.1 /{n} body")));
    }
    let pipelined = [GET, GET].concat();
    assert_eq!(ask(&mut stream, pipelined).await.0, 200);
    assert_eq!(answer(&mut stream).await.0, 200);
}

#[tokio::test]
async fn large_bodies_over_tls_come_whole() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let mut stream = Sender::trusting(&ca.pem).connect(&server, "a.test").await.unwrap();
    for length in [1, 4095, 4096, 16_384, 16_385, 300_000] {
        let body: String = ('a'..='z').cycle().take(length).collect();
        let request =
            format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        let (_, seen) = ask(&mut stream, request).await;
        assert!(seen.ends_with(&format!(" /x {body}")), "{length}");
    }
}

#[tokio::test]
async fn what_check_refuses_is_answered_and_closed() {
    let server = Server::start(settings());
    for (request, why) in [
        ("GET / HTTP/1.1\r\n\r\n", "no Host"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "more than one Host"),
        ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", "Host differs from the request target"),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: cow, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding is not chunked",
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\na_b: c\r\n\r\n", "a header name has an underscore"),
    ] {
        let mut stream = server.connect().await;
        assert_eq!(ask(&mut stream, request).await, (400, why.to_owned()));
        assert_eq!(closed(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn what_hyper_refuses_never_comes_to_the_front() {
    let server = Server::start(settings());
    let many = "x: 1\r\n".repeat(70);
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for (lines, status) in [
        ("x : y\r\n", 400),
        ("x-hub-signature-256: sha256=\r\n 757107ea\r\n", 400), // folded
        ("content-length: +1\r\n", 400),
        ("content-length: 1\r\ncontent-length: 2\r\n", 400),
        ("transfer-encoding: xchunked\r\n", 400),
        (&many, 431),
        (&long, 431),
    ] {
        let mut stream = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
        // At first, and after an answer of ours.
        if status == 400 {
            assert_eq!(ask(&mut stream, GET).await.0, 200);
        }
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:.40}: {head}");
        assert_eq!(head.matches("\r\nwebhook-receipt: req_").count(), 1, "{head}");
        assert_eq!(closed(&mut stream).await, b"");
    }
    assert_eq!(server.running(), 0);
}

#[tokio::test]
async fn who_has_sent_everything_still_gets_the_answer() {
    let server = Server::start(settings());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    until(|| server.running() == 1).await;
    server.gate.notify_one();
    let said = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(said.ends_with("127.0.0.1 /wait "), "{said}");

    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let mut stream = Sender::trusting(&ca.pem).connect(&server, "a.test").await.unwrap();
    let request =
        "POST /wait HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    until(|| server.running() == 1).await;
    server.gate.notify_one();
    let said = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(said.ends_with("127.0.0.1 /wait ok"), "{said}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_arrives() {
    let server = Server::start(settings());
    for _ in 0..20 {
        let mut stream = server.connect().await;
        let start = "POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n";
        stream.write_all(start.as_bytes()).await.unwrap();
        // Bytes that nobody reads would make closing a reset, and the reset would overtake the answer.
        let _cut = stream.write_all(&vec![b'x'; 2_000_000]).await;
        assert_eq!(answer(&mut stream).await, (413, "too large".to_owned()));
    }
}

/// What is not read cannot be followed by another request: that is said, not just done.
#[tokio::test]
async fn an_answer_before_the_end_of_the_body_says_that_it_is_the_last() {
    let server = Server::start(settings());
    for (length, sent, is_last) in [(2, "", true), (2, "o", true), (2, "ok", false), (0, "", false)]
    {
        let mut stream = server.connect().await;
        let request =
            format!("POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{sent}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut said, mut piece) = (String::new(), [0; 4096]);
        while !said.contains("too large") {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "{said}");
            said += std::str::from_utf8(&piece[..read]).unwrap();
        }
        let says_so = said.to_ascii_lowercase().contains("connection: close");
        assert_eq!(says_so, is_last, "{sent:?} of {length}: {said}");
    }
}

#[tokio::test]
async fn continue_is_said_only_when_the_body_is_wanted() {
    let server = Server::start(settings());
    let expecting = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
    };
    let mut stream = server.connect().await;
    stream.write_all(expecting("/x").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    assert_eq!(ask(&mut stream, "ok").await.1, "HTTP/1.1 http 127.0.0.1 /x ok");

    let mut stream = server.connect().await;
    assert_eq!(ask(&mut stream, expecting("/deaf")).await.0, 413);
}

#[tokio::test]
async fn forwarded_headers_count_from_trusted_proxies_only() {
    let request = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n\r\n";
    let server = Server::start(settings());
    assert_eq!(ask(&mut server.connect().await, request).await.1, "HTTP/1.1 http 127.0.0.1 / ");

    let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let server = Server::start(Settings { trusted_proxies, ..settings() });
    assert_eq!(ask(&mut server.connect().await, request).await.1, "HTTP/1.1 https 192.0.2.1 / ");
    let torn = "GET / HTTP/1.1\r\nhost: a\r\nforwarded: for=\"192.0.2.1\r\n\r\n";
    let refused = ask(&mut server.connect().await, torn).await;
    assert_eq!(refused, (400, "Forwarded is not readable".to_owned()));
}

#[tokio::test]
async fn ipv6_is_served_and_mapped_addresses_are_plain() {
    let server = Server::at("[::1]:0", settings());
    assert_eq!(ask(&mut server.connect().await, GET).await.1, "HTTP/1.1 http ::1 / ");

    let server = Server::at("[::]:0", settings());
    let mut stream = TcpStream::connect(("127.0.0.1", server.address.port())).await.unwrap();
    assert_eq!(ask(&mut stream, GET).await.1, "HTTP/1.1 http 127.0.0.1 / ");
}

#[tokio::test]
async fn many_streams_share_an_http2_connection() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let stream = Sender::trusting(&ca.pem).alpn(&["h2"]).connect(&server, "a.test").await.unwrap();
    let (mut sender, connection) =
        soon(http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(connection);
    let answers: Vec<_> = (0..100)
        .map(|n| {
            let request = http::Request::post(format!("https://a.test/{n}"));
            let body = Full::<bytes::Bytes>::from(format!("body {n}"));
            tasks.spawn(sender.send_request(request.body(body).unwrap()))
        })
        .collect();
    for (n, answer) in answers.into_iter().enumerate() {
        let body = soon(answer).await.unwrap().unwrap().into_body().collect().await.unwrap();
        let expected = format!("HTTP/2.0 https 127.0.0.1 /{n} body {n}");
        assert_eq!(body.to_bytes(), expected.as_bytes());
    }
    assert_eq!(server.open(), 1);
}

#[tokio::test]
async fn streams_that_are_one_too_many_cost_only_themselves() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let mut few = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])]));
    few.limits.h2_streams = 10_u32.try_into().unwrap();
    let server = Server::start(few);
    let stream = Sender::trusting(&ca.pem).alpn(&["h2"]).connect(&server, "a.test").await.unwrap();
    let (mut sender, connection) =
        soon(http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(connection);
    // A sender may open a hundred before it has read how many it may.
    let answers: Vec<_> = (0..100)
        .map(|_| {
            let body = Full::<bytes::Bytes>::from("body");
            let request = http::Request::post("https://a.test/").body(body);
            tasks.spawn(sender.send_request(request.unwrap()))
        })
        .collect();
    let mut answered = 0;
    for answer in answers {
        answered += usize::from(soon(answer).await.unwrap().is_ok());
    }
    assert!(answered >= 10, "{answered}");
    let request = http::Request::get("https://a.test/").body(Full::default()).unwrap();
    assert_eq!(soon(sender.send_request(request)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn beyond_the_limit_connections_are_closed_at_once() {
    let mut limited = settings();
    limited.limits.connections = 2_usize.try_into().unwrap();
    let server = Server::start(limited);
    let mut kept = [server.connect().await, server.connect().await];
    for stream in &mut kept {
        assert_eq!(ask(stream, GET).await.0, 200);
    }
    let mut third = server.connect().await;
    assert_eq!(closed(&mut third).await, b"");
    assert_eq!(server.metrics.shed("connections").get(), 1);
    assert_eq!(ask(&mut kept[0], GET).await.0, 200, "those that are in stay");

    drop(kept);
    until(|| server.open() == 0).await;
    assert_eq!(ask(&mut server.connect().await, GET).await.0, 200);
}

#[tokio::test]
async fn frames_without_a_request_are_not_listened_to_for_ever() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let server = Server::start(with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])])));
    let mut stream =
        Sender::trusting(&ca.pem).alpn(&["h2"]).connect(&server, "a.test").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let window_updates = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01".repeat(30_000);
    let _cut = soon(stream.write_all(&window_updates)).await;
    let mut said = [0; 1024];
    while soon(stream.read(&mut said)).await.is_ok_and(|n| n > 0) {}
    until(|| server.open() == 0).await;
}
