//! HTTP/1 byte by byte: `http1.json` says what is sent and how it must end. `tests/edge/desync.py` sends the same table to
//! Gatepost, straight and through proxies.

use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::world::{Server, answer, closed, head, settings, soon};

/// One input, and its end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    row: String,
    name: String,
    /// All of it; or else `lines` and `body`, which make a POST.
    send: Option<String>,
    #[serde(default)]
    lines: String,
    #[serde(default)]
    body: String,
    /// What stands for REPEAT.
    #[serde(default)]
    repeat: (usize, String),
    want: Want,
    /// The reason on a refusal of our own.
    why: Option<String>,
    /// The body that is read.
    #[serde(default)]
    sees: String,
    /// What Gatepost answers where it is not the same.
    #[serde(rename = "gate")]
    _gate: Option<u16>,
}

#[derive(Deserialize, PartialEq)]
#[serde(untagged)]
enum Want {
    Status(u16),
    /// Closed, with or without a word.
    Closed(String),
}

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = serde_json::from_str(include_str!("http1.json")).unwrap();
    assert!(cases.len() > 150, "the table is all there");
    cases
}

impl Case {
    /// The bytes: characters below U+0100 are bytes.
    fn bytes(&self) -> Vec<u8> {
        let made =
            || format!("POST PATH HTTP/1.1\r\nHost: HOST\r\n{}\r\n{}", self.lines, self.body);
        let text = self.send.clone().unwrap_or_else(made);
        let (times, what) = &self.repeat;
        let text =
            text.replace("PATH", "/x").replace("HOST", "a").replace("REPEAT", &what.repeat(*times));
        text.chars().map(|c| u8::try_from(c).unwrap()).collect()
    }

    /// Reads how it ended; a second request in the same bytes is answered or not, as the first one says. What was otherwise.
    async fn wrong(&self, stream: &mut TcpStream) -> Option<String> {
        let Want::Status(status) = self.want else {
            let said = String::from_utf8_lossy(&closed(stream).await).into_owned();
            return (!said.is_empty() && !said.starts_with("HTTP/1.1 400 ")).then_some(said);
        };
        let (head, body) = whole(stream).await;
        let is = |holds: bool, what: &str| (!holds).then(|| format!("{what}: {head}{body}"));
        let status = is(head[8..].starts_with(&format!(" {status} ")), "another status");
        if status.is_some() || self.want == Want::Status(200) {
            let seen = format!("HTTP/1.1 http 127.0.0.1 /x {}", self.sees);
            let seen = status.or_else(|| is(body == seen, "another body"));
            if seen.is_some() {
                return seen;
            }
            return is(answer(stream).await == (200, AFTER_SEEN.to_owned()), "not kept open");
        }
        // What hyper refuses by itself has no body; of a torn one the front here says no more than that.
        let receipts = head.matches("\r\nwebhook-receipt: req_").count();
        is(receipts == usize::from(body.is_empty()), "receipts")
            .or_else(|| is(self.why.as_ref().is_none_or(|why| *why == body), "another reason"))
            .or_else(|| {
                is(
                    body == "body" || head.contains("\r\nconnection: close\r\n"),
                    "not said to be closed",
                )
            })
            .or(is(closed(stream).await.is_empty(), "more is answered"))
    }

    async fn check(&self, stream: &mut TcpStream, wrong: &mut Vec<String>) {
        if let Some(what) = self.wrong(stream).await {
            wrong.push(format!("{}: {}: {what}", self.row, self.name));
        }
    }
}

const BEFORE: &str = "POST /before HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const BEFORE_SEEN: &str = "HTTP/1.1 http 127.0.0.1 /before abc";
const AFTER: &str =
    "POST /after HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const AFTER_SEEN: &str = "HTTP/1.1 http 127.0.0.1 /after abc";

async fn whole(stream: &mut TcpStream) -> (String, String) {
    use tokio::io::AsyncReadExt as _;
    let head = head(stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    soon(stream.read_exact(&mut body)).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Sends; a server that has refused already may have closed.
async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _refused = soon(stream.write_all(bytes)).await;
}

#[tokio::test]
async fn every_row_ends_as_the_table_says() {
    let (server, mut wrong) = (Server::start(settings()), Vec::new());
    for case in cases() {
        let mut stream = server.connect().await;
        send(&mut stream, &[&case.bytes(), AFTER.as_bytes()].concat()).await;
        case.check(&mut stream, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.running(), 0);
}

#[tokio::test]
async fn it_ends_the_same_however_the_bytes_arrive() {
    let (server, mut wrong) = (Server::start(settings()), Vec::new());
    for case in cases().iter().filter(|case| case.repeat.0 == 0) {
        let mut stream = server.connect().await;
        stream.set_nodelay(true).unwrap();
        let mut bytes = case.bytes();
        bytes.extend(AFTER.as_bytes());
        for byte in bytes {
            send(&mut stream, &[byte]).await;
            tokio::task::yield_now().await;
        }
        case.check(&mut stream, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn it_ends_the_same_behind_a_good_request() {
    let (server, mut wrong) = (Server::start(settings()), Vec::new());
    for case in cases() {
        let mut stream = server.connect().await;
        send(&mut stream, &[BEFORE.as_bytes(), &case.bytes(), AFTER.as_bytes()].concat()).await;
        assert_eq!(answer(&mut stream).await, (200, BEFORE_SEEN.to_owned()), "{}", case.name);
        case.check(&mut stream, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
