//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who the sender is, said by a proxy in front of
//! its first byte. A receiver must not guess whether the header is there, so a missing one closes the connection.

use std::{
    io::{Error, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::AsyncReadExt as _;

use super::wire::Wire;
use crate::config::ProxyProtocol;

/// What the bytes read so far are.
#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// The beginning of a header.
    Partial,
    /// A header of `length` bytes. No source: the proxy speaks for itself (a health check).
    Whole { source: Option<IpAddr>, length: usize },
    /// Not a header.
    Malformed,
}

/// Reads the header off `wire`; what came behind it stays there to be read.
pub(super) async fn read(
    wire: &mut Wire,
    version: ProxyProtocol,
) -> std::io::Result<Option<IpAddr>> {
    let parse = match version {
        ProxyProtocol::None => return Ok(None),
        ProxyProtocol::V1 => parse_v1,
        ProxyProtocol::V2 => parse_v2,
    };
    let mut bytes = Vec::with_capacity(512);
    loop {
        match parse(&bytes) {
            Header::Whole { source, length } => {
                wire.unread(bytes.get(length..).unwrap_or_default());
                return Ok(source.map(|ip| ip.to_canonical()));
            }
            Header::Malformed => return Err(Error::new(ErrorKind::InvalidData, "no PROXY header")),
            Header::Partial => {
                if wire.read_buf(&mut bytes).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`
fn parse_v1(bytes: &[u8]) -> Header {
    let window = bytes.get(..bytes.len().min(V1_BYTES_MAX)).unwrap_or_default();
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        let known = bytes.len().min(V1_START.len());
        let starts = bytes.get(..known) == V1_START.get(..known);
        return if starts && bytes.len() < V1_BYTES_MAX {
            Header::Partial
        } else {
            Header::Malformed
        };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    match line.and_then(|line| std::str::from_utf8(line).ok()).and_then(source_v1) {
        Some(source) => Header::Whole { source, length: end + 1 },
        None => Header::Malformed,
    }
}

fn source_v1(line: &str) -> Option<Option<IpAddr>> {
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let is_v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        "UNKNOWN" => return Some(None),
        _ => return None,
    };
    let mut addresses = [words.next()?, words.next()?].into_iter().map(str::parse::<IpAddr>);
    let (source, destination) = (addresses.next()?.ok()?, addresses.next()?.ok()?);
    let ports_hold = [words.next()?, words.next()?].into_iter().all(is_port);
    let whole = words.next().is_none() && ports_hold;
    (whole && source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4).then_some(Some(source))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Signature, version and command, family and transport, length; addresses; TLVs, which are skipped.
fn parse_v2(bytes: &[u8]) -> Header {
    let known = bytes.len().min(V2_START.len());
    if bytes.get(..known) != V2_START.get(..known) {
        return Header::Malformed;
    }
    let Some(&[command, family, high, low]) = bytes.get(12..16).and_then(|b| b.first_chunk())
    else {
        return Header::Partial;
    };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if length > V2_BYTES_MAX {
        return Header::Malformed;
    }
    let Some(rest) = bytes.get(16..length) else {
        return Header::Partial;
    };
    let source = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => Some(None),
        (PROXY, TCP_V4) => source_v4(rest).map(Some),
        (PROXY, TCP_V6) => source_v6(rest).map(Some),
        _ => None,
    };
    source.map_or(Header::Malformed, |source| Header::Whole { source, length })
}

/// Two addresses and two ports: 12 bytes.
fn source_v4(rest: &[u8]) -> Option<IpAddr> {
    let source: [u8; 4] = *rest.get(..12)?.first_chunk()?;
    Some(Ipv4Addr::from(source).into())
}

/// Two addresses and two ports: 36 bytes.
fn source_v6(rest: &[u8]) -> Option<IpAddr> {
    let source: [u8; 16] = *rest.get(..36)?.first_chunk()?;
    Some(Ipv6Addr::from(source).into())
}

const V1_START: &[u8] = b"PROXY ";
/// The longest line that version 1 allows, its end included.
const V1_BYTES_MAX: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Far more than addresses and the TLVs in use need; 64 KiB would be legal.
const V2_BYTES_MAX: usize = 2048;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &length, rest].concat()
    }

    fn whole(source: &str, length: usize) -> Header {
        Header::Whole { source: Some(source.parse().unwrap()), length }
    }

    #[test]
    fn version_1_is_read_with_what_follows_left_alone() {
        let tcp4 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /";
        assert_eq!(parse_v1(tcp4), whole("192.0.2.1", tcp4.len() - 5));
        let tcp6 = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
        assert_eq!(parse_v1(tcp6), whole("2001:db8::1", tcp6.len()));
        let unknown = b"PROXY UNKNOWN ffff:: ::1 1 2\r\n";
        assert_eq!(parse_v1(unknown), Header::Whole { source: None, length: unknown.len() });
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
            assert_eq!(parse_v1(line.as_bytes()), Header::Malformed, "{line}");
        }
        let endless = [V1_START, &[b'1'; V1_BYTES_MAX]].concat();
        assert_eq!(parse_v1(&endless), Header::Malformed);
    }

    #[test]
    fn version_2_is_read_and_tlvs_are_skipped() {
        let with_tlv = [&V4[..], &[4, 0, 1, 9]].concat();
        assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &V4)), whole("192.0.2.1", 28));
        assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &with_tlv)), whole("192.0.2.1", 32));
        let v6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[7], &[0; 20]].concat();
        assert_eq!(parse_v2(&v2(PROXY, TCP_V6, &v6)), whole("2001:db8::7", 52));
        for (command, family) in [(LOCAL, TCP_V4), (LOCAL, 0), (PROXY, UNSPECIFIED)] {
            let none = Header::Whole { source: None, length: 28 };
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
            (PROXY, TCP_V4, &[0; V2_BYTES_MAX]),
        ] {
            assert_eq!(
                parse_v2(&v2(command, family, rest)),
                Header::Malformed,
                "{command} {family}"
            );
        }
        assert_eq!(parse_v2(b"GET / HTTP/1.1\r\n"), Header::Malformed);
    }

    proptest! {
        #[test]
        fn every_beginning_is_partial(cut in 0_usize..28) {
            prop_assert_eq!(parse_v2(&v2(PROXY, TCP_V4, &V4)[..cut]), Header::Partial);
            let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\r\n";
            prop_assert_eq!(parse_v1(&line[..cut]), Header::Partial);
        }

        #[test]
        fn never_more_is_taken_than_is_there(bytes: Vec<u8>, start in 0_usize..3) {
            let bytes = [[&b""[..], V1_START, V2_START][start], &bytes].concat();
            for header in [parse_v1(&bytes), parse_v2(&bytes)] {
                if let Header::Whole { length, .. } = header {
                    prop_assert!(length <= bytes.len());
                }
            }
        }
    }
}
