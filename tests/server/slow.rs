//! Senders that begin something and do not go on: the same ones are ended by a server with limits and kept by one without.

use gatepost::units::Span;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    flood::Target,
    h2::{END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, next, post, preface},
    world::{GET, SHORT, ask, soon, until},
};

/// A connection that somebody holds.
enum Held {
    Plain { _stream: TcpStream },
    Tls { _stream: Box<TlsStream<TcpStream>> },
}

/// How far the sender goes before it says nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    NotAByte,
    HalfAHello,
    OnlyTls,
    HalfAHead,
    OneRequest,
    Http2Preface,
    Http2HalfAHead,
    Http2NoWindow,
}

const MANNERS: [Manner; 8] = [
    Manner::NotAByte,
    Manner::HalfAHello,
    Manner::OnlyTls,
    Manner::HalfAHead,
    Manner::OneRequest,
    Manner::Http2Preface,
    Manner::Http2HalfAHead,
    Manner::Http2NoWindow,
];

impl Manner {
    async fn begin(self, target: &Target) -> std::io::Result<Held> {
        let plain = || async { target.server.connect().await };
        let mut stream = match self {
            Self::NotAByte => return Ok(Held::Plain { _stream: plain().await }),
            Self::HalfAHello => {
                let mut stream = plain().await;
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await?;
                return Ok(Held::Plain { _stream: stream });
            }
            Self::OnlyTls | Self::HalfAHead | Self::OneRequest => target.dial("http/1.1").await?,
            _ => target.dial("h2").await?,
        };
        let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, &post("/large", &[]));
        let said = match self {
            Self::HalfAHead => b"GET / HTTP/1.1\r\nhost".to_vec(),
            Self::Http2Preface => preface(),
            Self::Http2HalfAHead => [preface(), frame(HEADERS, 0, 1, &post("/", &[]))].concat(),
            Self::Http2NoWindow => {
                [preface(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), get].concat()
            }
            _ => Vec::new(),
        };
        stream.write_all(&said).await?;
        match self {
            Self::OneRequest => assert_eq!(ask(&mut stream, GET).await.0, 200),
            // The answer has begun; its body stays with the server.
            Self::Http2NoWindow => while soon(next(&mut stream)).await?.0 != HEADERS {},
            _ => {}
        }
        Ok(Held::Tls { _stream: Box::new(stream) })
    }
}

#[tokio::test]
async fn who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else() {
    let limited = Target::start(|limits| {
        limits.first_byte_timeout = Span(SHORT);
        limits.handshake_timeout = Span(SHORT);
        limits.header_timeout = Span(SHORT);
        limits.idle_timeout = Span(SHORT);
        limits.write_timeout = Span(SHORT);
    });
    let patient = Target::start(|_| {});
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for manner in MANNERS {
        kept.push(manner.begin(&patient).await.unwrap());
        // On a busy machine the limit may come before the last word.
        ended.extend(manner.begin(&limited).await);
    }
    until(|| limited.server.open() == 0).await;
    until(|| patient.server.open() == 8 && patient.server.running() == 0).await;
    drop((kept, ended));
    until(|| patient.server.open() == 0).await;
}

/// Saying something now and then is not enough, where it asks for nothing.
#[tokio::test]
async fn pings_do_not_keep_a_connection() {
    let target = Target::start(|limits| limits.idle_timeout = Span(SHORT));
    let stream = target.connect("h2").await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let talk = async {
        writer.write_all(&preface()).await?;
        loop {
            writer.write_all(&frame(PING, 0, 0, b"are you?")).await?;
            tokio::time::sleep(SHORT / 10).await;
        }
        #[expect(unreachable_code, reason = "says what the block may fail with")]
        Ok::<_, std::io::Error>(())
    };
    let mut answers = Vec::new();
    let listen = async { drop(reader.read_to_end(&mut answers).await) };
    soon(async {
        tokio::select! {
            _cut = talk => {}
            () = listen => {}
        }
    })
    .await;
    until(|| target.server.open() == 0).await;
}
