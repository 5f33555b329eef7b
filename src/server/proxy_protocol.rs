//! The PROXY protocol, versions 1 and 2 (`HAProxy`'s proxy-protocol.txt): who the sender is, said by a proxy in front of
//! its first byte. A receiver must not guess whether the header is there, so a missing one closes the connection.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::AsyncReadExt as _;

use super::wire::Wire;
use crate::config::ProxyProtocol;

/// A header of `length` bytes. Without a source the proxy speaks for itself (a health check).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who opened the connection to the proxy.
    pub source: Option<IpAddr>,
    /// How many bytes it took to say so.
    pub length: usize,
}

/// The bytes do not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header")]
pub struct Malformed;

/// Reads the header off `wire`; what came behind it stays there to be read.
pub(super) async fn read(wire: &mut Wire, version: ProxyProtocol) -> io::Result<Option<IpAddr>> {
    let parse = match version {
        ProxyProtocol::None => return Ok(None),
        ProxyProtocol::V1 => parse_v1,
        ProxyProtocol::V2 => parse_v2,
    };
    let mut bytes = Vec::with_capacity(512);
    loop {
        let parsed =
            parse(&bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if let Some(Header { source, length }) = parsed {
            wire.unread(bytes.get(length..).unwrap_or_default());
            return Ok(source.map(|ip| ip.to_canonical()));
        }
        if wire.read_buf(&mut bytes).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`; `None` where more bytes are needed.
pub fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    begins(bytes, V1_START)?;
    let line = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|b| *b == b'\n') else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let line = line.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        Some("UNKNOWN") => return Ok(Some(Header { source: None, length: end + 1 })),
        _ => return Err(Malformed),
    };
    let source = source_v1(words, is_v4).ok_or(Malformed)?;
    Ok(Some(Header { source: Some(source), length: end + 1 }))
}

/// Source and destination, their ports, and nothing else.
fn source_v1<'a>(mut words: impl Iterator<Item = &'a str>, is_v4: bool) -> Option<IpAddr> {
    let source: IpAddr = words.next()?.parse().ok()?;
    let destination: IpAddr = words.next()?.parse().ok()?;
    let ports_hold = is_port(words.next()?) && is_port(words.next()?);
    let family_holds = source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4;
    (words.next().is_none() && ports_hold && family_holds).then_some(source)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether `bytes` are a beginning of `start`, or begin with it.
fn begins(bytes: &[u8], start: &[u8]) -> Result<(), Malformed> {
    let known = bytes.len().min(start.len());
    if bytes.get(..known) == start.get(..known) { Ok(()) } else { Err(Malformed) }
}

/// Signature, version and command, family and transport, length; addresses; TLVs, which are skipped. `None` where more bytes are
/// needed.
pub fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    begins(bytes, V2_START)?;
    let Some(&[command, family, high, low]) = bytes.get(12..16).and_then(|b| b.first_chunk())
    else {
        return Ok(None);
    };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if length > V2_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(rest) = bytes.get(16..length) else {
        return Ok(None);
    };
    let source = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => None,
        (PROXY, TCP_V4) => Some(source_v4(rest).ok_or(Malformed)?),
        (PROXY, TCP_V6) => Some(source_v6(rest).ok_or(Malformed)?),
        _ => return Err(Malformed),
    };
    Ok(Some(Header { source, length }))
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
