//! Who the sender is behind trusted proxies.

use gatepost::{event::Peer, server::forwarded::resolve};
use http::{HeaderMap, HeaderValue};

/// Header lines as (name, value), and what comes of them for a connection from 10.0.0.1 without TLS.
type Row = (&'static [(&'static str, &'static str)], Option<(&'static str, bool)>);

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const RFC: &str = "forwarded";

const ROWS: &[Row] = &[
    (&[], Some(("10.0.0.1", false))),
    (&[(FOR, "192.0.2.9")], Some(("192.0.2.9", false))),
    (&[(FOR, "192.0.2.9"), (PROTO, "https")], Some(("192.0.2.9", true))),
    // What the sender wrote is to the left of what the proxy wrote.
    (&[(FOR, "127.0.0.1, 192.0.2.9"), (PROTO, "https, http")], Some(("192.0.2.9", false))),
    (&[(FOR, "127.0.0.1"), (FOR, "192.0.2.9")], Some(("192.0.2.9", false))),
    (&[(FOR, "127.0.0.1, 192.0.2.9, 10.0.0.2"), (PROTO, "https")], Some(("192.0.2.9", true))),
    (&[(FOR, "x, 192.0.2.9:4711, [::ffff:10.0.0.2]:80")], Some(("192.0.2.9", false))),
    (&[(FOR, "[2001:db8::7]")], Some(("2001:db8::7", false))),
    (&[(FOR, "unknown")], Some(("10.0.0.1", false))),
    (&[(PROTO, "https")], Some(("10.0.0.1", true))),
    (&[(FOR, "somebody")], None),
    (&[(FOR, "")], None),
    (&[(RFC, "for=192.0.2.9;proto=https")], Some(("192.0.2.9", true))),
    (&[(RFC, "For=\"[2001:db8::7]:4711\"; Proto=HTTPS;by=_x")], Some(("2001:db8::7", true))),
    (
        &[(RFC, "for=127.0.0.1;proto=https, for=192.0.2.9;proto=http, for=10.0.0.2;proto=https")],
        Some(("192.0.2.9", false)),
    ),
    (&[(RFC, "for=_hidden")], Some(("10.0.0.1", false))),
    // A quote that the sender leaves open must not swallow what the proxy adds.
    (&[(RFC, "for=\"127.0.0.1, for=192.0.2.9")], None),
    (&[(RFC, "for=\"127.0.0.1"), (RFC, "for=192.0.2.9")], None),
    (&[(RFC, "for=127.0.0.1;for=192.0.2.9")], None),
    (&[(RFC, "for=\"\\\"\"")], None),
    (&[(RFC, "192.0.2.9")], None),
    // The proxy writes one of them and passes on the other.
    (&[(RFC, "for=127.0.0.1"), (FOR, "192.0.2.9")], None),
    (
        &[(RFC, "for=192.0.2.9;proto=https"), (FOR, "192.0.2.9"), (PROTO, "http")],
        Some(("192.0.2.9", false)),
    ),
];

fn resolved(from: &str, lines: &[(&'static str, &str)]) -> Option<(String, bool)> {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let peer = Peer { ip: from.parse().unwrap(), https: false };
    resolve(peer, &headers, &trusted).ok().map(|p| (p.ip.to_string(), p.https))
}

#[test]
fn trusted_hops_are_followed_and_no_others() {
    for (lines, expected) in ROWS {
        let expected = expected.map(|(ip, https)| (ip.to_owned(), https));
        assert_eq!(resolved("10.0.0.1", lines), expected, "{lines:?}");
    }
}

#[test]
fn a_stranger_is_not_even_read() {
    for (lines, _) in ROWS {
        assert_eq!(resolved("192.0.2.66", lines), Some(("192.0.2.66".into(), false)));
    }
}
