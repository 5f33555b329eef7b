//! The PROXY protocol: the parsers by table, then over sockets.

use gatepost::{
    config::ProxyProtocol,
    server::{
        Settings,
        proxy_protocol::{Header, Malformed, parse_v1, parse_v2},
    },
    units::Span,
};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::world::{
    Authority, GET, SHORT, Sender, Server, ask, closed, connect, limits, settings, soon, tls,
    with_tls,
};

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_START, &[command, family], &length, rest].concat()
}

fn whole(source: &str, length: usize) -> Result<Option<Header>, Malformed> {
    Ok(Some(Header { source: Some(source.parse().unwrap()), length }))
}

#[test]
fn version_1_is_read_with_what_follows_left_alone() {
    let tcp4 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /";
    assert_eq!(parse_v1(tcp4), whole("192.0.2.1", tcp4.len() - 5));
    let tcp6 = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
    assert_eq!(parse_v1(tcp6), whole("2001:db8::1", tcp6.len()));
    let unknown = b"PROXY UNKNOWN ffff:: ::1 1 2\r\n";
    assert_eq!(parse_v1(unknown), Ok(Some(Header { source: None, length: unknown.len() })));
}

#[test]
fn version_1_is_strict() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +6324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 ::1 198.51.100.1 1 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
        "PROXY \r\n",
        "proxy UNKNOWN\r\n",
    ] {
        assert_eq!(parse_v1(line.as_bytes()), Err(Malformed), "{line}");
    }
    let endless = [V1_START, &[b'1'; 107]].concat();
    assert_eq!(parse_v1(&endless), Err(Malformed));
}

#[test]
fn version_2_is_read_and_tlvs_are_skipped() {
    let with_tlv = [&V4[..], &[4, 0, 1, 9]].concat();
    assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &V4)), whole("192.0.2.1", 28));
    assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &with_tlv)), whole("192.0.2.1", 32));
    let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[7], &[0; 20]].concat();
    assert_eq!(parse_v2(&v2(PROXY, TCP_V6, &v6)), whole("2001:db8::7", 52));
    for (command, family) in [(LOCAL, TCP_V4), (LOCAL, 0), (PROXY, 0)] {
        let none = Ok(Some(Header { source: None, length: 28 }));
        assert_eq!(parse_v2(&v2(command, family, &V4)), none);
    }
}

#[test]
fn version_2_is_strict() {
    for (command, family, rest) in [
        (0x11, TCP_V4, &V4[..]),
        (0x22, TCP_V4, &V4),
        (PROXY, 0x12, &V4),
        (PROXY, 0x31, &[0; 216]),
        (PROXY, TCP_V4, &V4[..11]),
        (PROXY, TCP_V6, &V4),
        (PROXY, TCP_V4, &[0; 2048]),
    ] {
        assert_eq!(parse_v2(&v2(command, family, rest)), Err(Malformed), "{command} {family}");
    }
    assert_eq!(parse_v2(b"GET / HTTP/1.1\r\n"), Err(Malformed));
}

proptest! {
    #[test]
    fn every_beginning_is_partial(cut in 0_usize..28) {
        prop_assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &V4)[..cut]), Ok(None));
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\n";
        prop_assert_eq!(parse_v1(&line[..cut]), Ok(None));
    }

    #[test]
    fn never_more_is_taken_than_is_there(bytes: Vec<u8>, start in 0_usize..3) {
        let bytes = [[&b""[..], V1_START, V2_START][start], &bytes].concat();
        for header in [parse_v1(&bytes), parse_v2(&bytes)] {
            if let Ok(Some(Header { length, .. })) = header {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}

fn behind(version: ProxyProtocol, trusted: &str) -> Settings {
    Settings {
        proxy_protocol: version,
        trusted_proxies: vec![trusted.parse().unwrap()],
        ..settings()
    }
}

const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";

#[tokio::test]
async fn the_sender_is_who_the_proxy_says() {
    let server = Server::start(behind(ProxyProtocol::V1, "127.0.0.0/8"));
    let (status, seen) = ask(&mut server.connect().await, format!("{LINE}{GET}")).await;
    assert_eq!((status, seen.as_str()), (200, "HTTP/1.1 http 192.0.2.1 / "));

    let server = Server::start(behind(ProxyProtocol::V2, "127.0.0.0/8"));
    let header = v2(PROXY, TCP_V4, &V4);
    let (_, seen) = ask(&mut server.connect().await, [&header, GET.as_bytes()].concat()).await;
    assert_eq!(seen, "HTTP/1.1 http 192.0.2.1 / ");
    let header = v2(LOCAL, 0, &[]);
    let (_, seen) = ask(&mut server.connect().await, [&header, GET.as_bytes()].concat()).await;
    assert_eq!(seen, "HTTP/1.1 http 127.0.0.1 / ", "a health check of the proxy itself");
}

#[tokio::test]
async fn it_stands_before_tls_and_may_come_in_pieces() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let with_tls = with_tls(&tls(vec![ca.files(dir.path(), &["a.test"])]));
    let server =
        Server::start(Settings { tls: with_tls.tls, ..behind(ProxyProtocol::V2, "127.0.0.1/32") });
    let mut stream = server.connect().await;
    for byte in v2(PROXY, TCP_V4, &V4) {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut stream = connect(Sender::trusting(&ca.pem).config(), stream, "a.test").await.unwrap();
    assert_eq!(ask(&mut stream, GET).await.1, "HTTP/1.1 https 192.0.2.1 / ");
}

#[tokio::test]
async fn whoever_does_not_say_it_is_closed() {
    let server = Server::start(behind(ProxyProtocol::V1, "127.0.0.0/8"));
    for opening in [GET.as_bytes(), b"PROXY TCP9 1 2 3 4\r\n", &v2(PROXY, TCP_V4, &V4)] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        assert_eq!(closed(&mut stream).await, b"", "no answer either");
    }
    let server = Server::start(behind(ProxyProtocol::V1, "10.0.0.0/8"));
    let mut stream = server.connect().await;
    stream.write_all(format!("{LINE}{GET}").as_bytes()).await.unwrap();
    assert_eq!(closed(&mut stream).await, b"", "not a trusted proxy");
}

#[tokio::test]
async fn half_a_header_is_waited_for_only_so_long() {
    let mut limits = limits();
    limits.first_byte_timeout = Span(SHORT);
    let server = Server::start(Settings { limits, ..behind(ProxyProtocol::V1, "127.0.0.0/8") });
    let mut stream = server.connect().await;
    soon(stream.write_all(b"PROXY TCP4 192.0")).await.unwrap();
    closed(&mut stream).await;
}
