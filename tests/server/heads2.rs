//! Heads of HTTP/2 byte by byte: what no library would send is refused by a status or with its stream, and never read as something
//! else; the connection serves who comes next on it.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::client::TlsStream;

use super::{
    flood::Target,
    h2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, block, frame, next, preface},
    world::soon,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A status that has an entry in the table of HPACK (RFC 7541, appendix A).
    Status(u16),
    /// The stream was reset.
    Reset,
    /// The connection was closed, or is about to be.
    Closed,
}

const OK: End = End::Status(200);
const BAD: End = End::Status(400);
const USUAL: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":path", "/hooks"), (":authority", "a.test")];

/// The usual head, with fields in the place of those of the same name, and others behind.
fn head(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let is_there = |name: &str| fields.iter().any(|(other, _)| *other == name);
    let pseudo = |(name, _): &&(&str, &str)| name.starts_with(':');
    let mut all: Vec<_> = USUAL.into_iter().filter(|(name, _)| !is_there(name)).collect();
    all.extend(fields.iter().filter(pseudo));
    all.extend(fields.iter().filter(|field| !pseudo(field)));
    all
}

/// Sends a request on a stream; how it ends.
async fn sent(
    stream: &mut TlsStream<TcpStream>,
    id: u32,
    block: &[u8],
    body: Option<&[u8]>,
) -> End {
    let last = if body.is_some() { 0 } else { END_STREAM };
    let mut bytes = frame(HEADERS, END_HEADERS | last, id, block);
    bytes.extend(body.map(|body| frame(DATA, END_STREAM, id, body)).unwrap_or_default());
    if soon(stream.write_all(&bytes)).await.is_err() {
        return End::Closed;
    }
    loop {
        match soon(next(stream)).await {
            Ok((HEADERS, _, of, payload)) if of == id => {
                return match payload[0] {
                    0x88 => End::Status(200),
                    0x8c => End::Status(400),
                    other => panic!("another status: {other:x}"),
                };
            }
            Ok((RST_STREAM, _, of, _)) if of == id => return End::Reset,
            Ok((GOAWAY, ..)) | Err(_) => return End::Closed,
            Ok(_) => {}
        }
    }
}

/// Sends a request on a connection of its own, and a good one behind it where it is still open.
async fn ends(target: &Target, fields: &[(&str, &str)], body: Option<&[u8]>) -> End {
    let mut stream = target.connect("h2").await;
    soon(stream.write_all(&preface())).await.unwrap();
    let end = sent(&mut stream, 1, &block(fields), body).await;
    if end != End::Closed {
        let good = block(&head(&[]));
        assert_eq!(sent(&mut stream, 3, &good, Some(b"{}")).await, OK, "behind {end:?}");
    }
    end
}

#[tokio::test]
async fn heads_that_two_readers_could_read_differently() {
    let target = Target::start(|_| {});
    let rows: &[(&[(&str, &str)], End)] = &[
        (&[], OK),
        (&[("host", "a.test")], OK),
        (&[("host", "A.TEST")], OK),
        (&[("x", "")], OK),
        (&[("host", "b.test")], BAD),
        (&[("host", "a.test"), ("host", "a.test")], BAD),
        (&[(":authority", "u@a.test")], BAD),
        (&[(":authority", "a.test,b.test")], BAD),
        (&[(":path", "*")], BAD),
        (&[("a_b", "y")], BAD),
        (&[("content_length", "5")], BAD),
        (&[("x", " y")], BAD),
        (&[("x", "y ")], BAD),
        (&[("x", "y\t")], BAD),
    ];
    for (fields, expected) in rows {
        assert_eq!(ends(&target, &head(fields), None).await, *expected, "{fields:?}");
    }
}

#[tokio::test]
async fn heads_that_are_none() {
    let target = Target::start(|_| {});
    let rows: &[&[(&str, &str)]] = &[
        &[("x", "a\rb")],
        &[("x", "a\nb")],
        &[("x", "a\0b")],
        &[("x y", "z")],
        &[("X", "upper case")],
        &[("", "no name")],
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("keep-alive", "1")],
        &[("proxy-connection", "close")],
        &[("upgrade", "websocket")],
        &[("te", "gzip")],
        &[(":status", "200")],
        &[(":unknown", "x")],
        &[(":path", "")],
        &[(":path", "hooks")],
        &[(":path", "/a\r\nb")],
        &[(":method", "PO ST")],
        &[(":authority", "a\0b")],
        &[(":authority", "a.test/x")],
        &[("content-length", "1, 1")],
        &[("content-length", "+1")],
    ];
    for fields in rows {
        let end = ends(&target, &head(fields), None).await;
        assert!(matches!(end, BAD | End::Reset | End::Closed), "{fields:?}: {end:?}");
    }
    // A pseudo-header that comes late, or twice, or not at all.
    let late = [&USUAL[..2], &[("x", "y")], &USUAL[2..]].concat();
    let twice = [&USUAL[..], &[(":path", "/other")]].concat();
    for (what, fields) in [("late", &late[..]), ("twice", &twice), ("no path", &USUAL[..2])] {
        let end = ends(&target, fields, None).await;
        assert!(matches!(end, BAD | End::Reset | End::Closed), "{what}: {end:?}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_that_of_the_body() {
    let target = Target::start(|_| {});
    for (length, expected) in [("3", Some(OK)), ("2", None), ("4", None), ("03", None)] {
        let end = ends(&target, &head(&[("content-length", length)]), Some(b"abc")).await;
        match expected {
            Some(expected) => assert_eq!(end, expected, "{length}"),
            None => assert!(matches!(end, BAD | End::Reset | End::Closed), "{length}: {end:?}"),
        }
    }
    // Two of them, alike or not.
    for other in ["3", "4"] {
        let fields = head(&[("content-length", "3"), ("content-length", other)]);
        let end = ends(&target, &fields, Some(b"abc")).await;
        assert!(matches!(end, BAD | End::Reset | End::Closed), "3 and {other}: {end:?}");
    }
}
