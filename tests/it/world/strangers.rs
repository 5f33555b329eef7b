//! Strangers at a gateway's door: requests of every kind that nobody signed who may, challenges, and what is no HTTP at all.

use std::future::Future;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Dialer, PATIENCE, Provider,
    provider::{Headers, now, stripe_event},
};
use crate::{GITHUB, STRIPE};

/// A way to be refused, or to be answered unknown: the request's first line and headers, its body, and the answer. All of them
/// leave the connection open.
type Forgery = (&'static str, Headers, Vec<u8>, u16);

fn own(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// As many ids as there are numbers. Each is one that a provider could send, and will.
fn forgeries(n: u64) -> Vec<Forgery> {
    let body = stripe_event(&format!("evt_forged_{n}"), "invoice.paid");
    let stripe = Provider::Stripe(STRIPE);
    let stranger = Provider::Stripe("whsec_another_secret_0123456789");
    let github = Provider::GitHub("another secret 0123456789").sign("guid-forged", "push", &body);
    let tabs = format!("a{}b", "\t".repeat(2000));
    let agent = own("user-agent", format!("forger/{n} {}", "x".repeat(4000)));
    let long = own("x-long", tabs);
    let with = |mut headers: Headers, more: &[(String, String)]| {
        headers.extend_from_slice(more);
        headers
    };
    let large = [&body[..], &vec![b' '; 60_000]].concat();
    vec![
        ("POST /stripe", stranger.sign("", "", &body), body.clone(), 401),
        ("POST /stripe", vec![], body.clone(), 401),
        ("POST /stripe", vec![own("stripe-signature", "")], body.clone(), 401),
        ("POST /stripe", vec![own("stripe-signature", "t=1,v1=zz")], body.clone(), 401),
        ("POST /stripe", stripe.sign_at(now() - 400, "", "", &body), body.clone(), 401),
        ("POST /stripe", stripe.sign_at(now() + 400, "", "", &body), body.clone(), 401),
        ("POST /stripe", stripe.sign("", "", b"another body"), body.clone(), 401),
        ("POST /stripe", Provider::Stripe(GITHUB).sign("", "", &body), body.clone(), 401),
        (
            "POST /stripe",
            with(stripe.sign("", "", &body), &stripe.sign("", "", &body)),
            body.clone(),
            401,
        ),
        ("POST /stripe", with(stranger.sign("", "", &body), &[agent, long]), body.clone(), 401),
        ("POST /stripe", stranger.sign("", "", &large), large, 401),
        ("POST /stripe", stranger.sign("", "", b"{"), b"{".to_vec(), 401),
        ("POST /stripe", github.clone(), body.clone(), 401),
        ("POST /nobody", stripe.sign("", "", &body), body.clone(), 404),
        ("POST /stripe/../github", github, body, 404),
    ]
}

fn written((line, headers, body, status): &Forgery) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\n\r\n", body.len());
    // What is too long by its own account is refused before it comes.
    let sent = if *status == 413 { &[][..] } else { body };
    [text.as_bytes(), sent].concat()
}

/// What is said over one connection, and the statuses of so many answers to it.
async fn converse(stream: impl AsyncRead + AsyncWrite, said: &[u8], answers: usize) -> Vec<u16> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // What is long may be refused before its end.
    let speak = async { drop((writer.write_all(said).await, writer.flush().await)) };
    let listen = async {
        let mut statuses = Vec::new();
        let mut heard = Vec::new();
        while statuses.len() < answers {
            let end = heard.windows(4).position(|four| four == b"\r\n\r\n");
            let whole = end.and_then(|end| {
                let head = String::from_utf8(heard[..end].to_vec()).unwrap();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
                let length = end + 4 + length.parse::<usize>().unwrap();
                (heard.len() >= length).then_some((head, length))
            });
            if let Some((head, length)) = whole {
                statuses.push(head[9..12].parse().unwrap());
                heard.drain(..length);
                continue;
            }
            let read = reader.read_buf(&mut heard).await.unwrap();
            assert!(read > 0, "the connection stays open");
        }
        statuses
    };
    in_time(async { tokio::join!(speak, listen).1 }).await
}

/// What ends a connection, too; each is the last request on one.
fn last_words(n: u64) -> Forgery {
    let body = stripe_event(&format!("evt_forged_{n}"), "invoice.paid");
    let signed = Provider::Stripe(STRIPE).sign("", "", &body);
    let with = |name: &str, value: &str| [signed.clone(), vec![own(name, value)]].concat();
    match n % 4 {
        0 => ("GET /stripe", signed, body, 405),
        1 => ("POST /stripe", with("content-encoding", "gzip"), body, 415),
        2 => ("POST /stripe", with("x_forwarded_for", "127.0.0.1"), body, 400),
        _ => ("POST /stripe", signed, vec![b' '; 1_100_000], 413),
    }
}

/// What is no request, byte for byte, and the status that ends a connection over it.
fn no_request(n: u64) -> (Vec<u8>, u16) {
    let head =
        |lines: &str| format!("POST /stripe HTTP/1.1\r\nhost: a\r\n{lines}\r\n").into_bytes();
    match n % 4 {
        0 => (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), 400),
        1 => (head("content-length: +1\r\n"), 400),
        2 => (head(&format!("x-long: {}\r\n", "x".repeat(HEAD_BYTES_MAX))), 431),
        _ => (head(&"x: 1\r\n".repeat(101)), 431),
    }
}

/// Longest head that a gateway reads by default.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Of challenges, as many are answered as may be in a second.
fn is_due(status: u16, (.., due): &Forgery) -> bool {
    status == *due || (*due == 200 && status == 503)
}

async fn over_http1(dialer: &Dialer, requests: &[Forgery], number: u64) {
    let mut stream = dialer.connect().await.unwrap();
    let said: Vec<u8> = requests.iter().flat_map(written).collect();
    let statuses = converse(&mut stream, &said, requests.len()).await;
    let due = statuses.iter().zip(requests).all(|(status, request)| is_due(*status, request));
    assert!(due, "{statuses:?}");
    let last = last_words(number);
    assert_eq!(converse(stream, &written(&last), 1).await, [last.3]);
    let (said, status) = no_request(number);
    assert_eq!(converse(dialer.connect().await.unwrap(), &said, 1).await, [status]);
}

async fn over_http2(dialer: &Dialer, requests: &[Forgery], number: u64) {
    let io = TokioIo::new(dialer.connect().await.unwrap());
    let (mut open, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let too_large = vec![own("x-long", "x".repeat(HEAD_BYTES_MAX))];
    let last = [last_words(number), ("POST /stripe", too_large, Vec::new(), 431)];
    for asked in requests.iter().chain(&last) {
        let (line, headers, body, due) = asked;
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::<Bytes>::from(body.clone())).unwrap();
        let answer = in_time(async {
            open.ready().await.unwrap();
            open.send_request(request).await.unwrap()
        })
        .await;
        assert!(is_due(answer.status().as_u16(), asked), "{line}: {}, not {due}", answer.status());
    }
    // Another language than was agreed on, and no TLS.
    ended(dialer.connect().await.unwrap()).await;
    ended(TcpStream::connect(dialer.address).await.unwrap()).await;
}

/// Says what is no HTTP/2 and no TLS; the connection ends without an answer.
async fn ended(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut heard = Vec::new();
    in_time(async {
        stream.write_all(b"GET /stripe HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        drop(stream.flush().await);
        drop(stream.read_to_end(&mut heard).await); // a reset is an end, too
    })
    .await;
    assert!(!heard.starts_with(b"HTTP/"), "{heard:?}");
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("every request is answered")
}

/// About `count` requests by `senders` strangers at once, in the language of `dialer`; with the first line of a challenge that
/// anybody may ask, where there is one. Every one gets the answer that its kind gets.
pub async fn flood(dialer: &Dialer, challenge: Option<&'static str>, count: u64, senders: u64) {
    let requests = move |number| {
        let challenge = challenge.map(|line| (line, Headers::new(), Vec::new(), 200));
        forgeries(number).into_iter().chain(challenge).collect::<Vec<_>>()
    };
    let each = requests(0).len() as u64 + 2;
    let mut strangers = JoinSet::new();
    for sender in 0..senders {
        let dialer = dialer.clone();
        strangers.spawn(async move {
            for n in 0..count.div_ceil(each * senders) {
                let number = n * senders + sender;
                if dialer.http2 {
                    over_http2(&dialer, &requests(number), number).await;
                } else {
                    over_http1(&dialer, &requests(number), number).await;
                }
            }
        });
    }
    strangers.join_all().await;
}
