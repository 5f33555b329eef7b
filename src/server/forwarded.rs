//! Who the sender is behind trusted proxies: `Forwarded` (RFC 7239) and `X-Forwarded-For` / `X-Forwarded-Proto`.
//!
//! Both lists are read from the right, and only as long as the writer of an element is a trusted proxy: an element is
//! written by the hop that the element to its right names. What a sender put there itself is never reached.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;

use super::Unreadable;
use crate::event::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The sender, beginning from the `peer` of the connection. Where the two families of headers name different senders,
/// one was not written by the proxy: the request is refused rather than believed.
pub fn resolve(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Result<Peer, Unreadable> {
    if !is_trusted(peer.ip, trusted) {
        return Ok(peer);
    }
    let standard = standard(headers).ok_or("Forwarded is not readable")?;
    let customary = customary(headers).ok_or("X-Forwarded-For is not readable")?;
    match (standard.is_empty(), customary.is_empty()) {
        (true, _) => walk(peer, &customary, trusted),
        (false, true) => walk(peer, &standard, trusted),
        (false, false) => {
            let (one, other) = (walk(peer, &standard, trusted)?, walk(peer, &customary, trusted)?);
            if one.ip != other.ip {
                return Err("Forwarded and X-Forwarded-For disagree");
            }
            Ok(Peer { ip: one.ip, https: one.https && other.https })
        }
    }
}

fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// What a hop says of the connection that it took in.
#[derive(Default)]
struct Hop<'a> {
    sender: Option<&'a str>,
    proto: Option<&'a str>,
}

fn walk(mut peer: Peer, hops: &[Hop<'_>], trusted: &[IpNet]) -> Result<Peer, Unreadable> {
    for hop in hops.iter().rev() {
        if let Some(proto) = hop.proto {
            peer.https = proto.eq_ignore_ascii_case("https");
        }
        let Some(sender) = hop.sender else { break };
        // A proxy may hide who it was: then it is the sender itself.
        if sender == "unknown" || sender.starts_with('_') {
            break;
        }
        peer.ip = address(sender).ok_or("a forwarded address is not readable")?;
        if !is_trusted(peer.ip, trusted) {
            break;
        }
    }
    Ok(peer)
}

/// An address as proxies write it: `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// The hops of all `X-Forwarded-For` lines. `X-Forwarded-Proto` has one value per hop, or one that stands for all.
fn customary(headers: &HeaderMap) -> Option<Vec<Hop<'_>>> {
    let senders = list(headers, &FORWARDED_FOR)?;
    let protos = list(headers, &FORWARDED_PROTO)?;
    let count = senders.len().max(usize::from(!protos.is_empty()));
    let hops = (0..count).map(|index| {
        let from_right = count - 1 - index;
        Hop {
            sender: senders.get(index).copied(),
            proto: protos.iter().rev().nth(from_right).or(protos.first()).copied(),
        }
    });
    Some(hops.collect())
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let mut items = Vec::new();
    for line in headers.get_all(name) {
        items.extend(line.to_str().ok()?.split(',').map(str::trim));
    }
    Some(items)
}

/// The hops of all `Forwarded` lines; `None` where one of them is not well-formed.
fn standard(headers: &HeaderMap) -> Option<Vec<Hop<'_>>> {
    let mut hops = Vec::new();
    for line in headers.get_all(FORWARDED).iter().map(HeaderValue::to_str) {
        for element in split_outside_quotes(line.ok()?, ',')? {
            hops.push(element_hop(element)?);
        }
    }
    Some(hops)
}

fn element_hop(element: &str) -> Option<Hop<'_>> {
    let mut hop = Hop::default();
    for pair in split_outside_quotes(element, ';')? {
        let (name, value) = pair.trim().split_once('=')?;
        let slot = match name {
            n if n.eq_ignore_ascii_case("for") => &mut hop.sender,
            n if n.eq_ignore_ascii_case("proto") => &mut hop.proto,
            _ => continue,
        };
        // Said twice, it could be read in two ways.
        if slot.replace(unquoted(value)?).is_some() {
            return None;
        }
    }
    Some(hop)
}

/// Escapes inside quotes are legal, but no address and no scheme needs one: refused.
fn unquoted(value: &str) -> Option<&str> {
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    (!inner.is_empty() && !inner.contains(['"', '\\'])).then_some(inner)
}

fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    let parts: Vec<_> = parts.map(str::trim).collect();
    (!quoted).then_some(parts)
}
