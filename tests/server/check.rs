//! Which heads have one meaning.

use gatepost::server;
use http::{HeaderName, HeaderValue, Request, Version};
use proptest::prelude::*;

use super::world::limits;

fn request(version: Version, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.version_mut() = version;
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

fn verdict(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<(), &'static str> {
    server::check(&request(version, target, headers), &limits())
}

/// A target, its headers, and what is said of them.
type Row = (&'static str, &'static [(&'static str, &'static str)], Result<(), &'static str>);

const OK: Result<(), &str> = Ok(());

#[test]
fn http1() {
    const HOST: (&str, &str) = ("host", "a");
    let rows: &[Row] = &[
        ("/", &[HOST], OK),
        ("/stripe?x=1", &[("host", "Hooks.example.com:443")], OK),
        ("/", &[("host", "[::1]:8080")], OK),
        ("http://a/x", &[HOST], OK),
        ("/", &[], Err("no Host")),
        ("http://a/", &[], Err("no Host")),
        ("/", &[HOST, HOST], Err("more than one Host")),
        ("/", &[HOST, ("host", "b")], Err("more than one Host")),
        ("/", &[("host", "")], Err("Host is not a name or an address")),
        ("/", &[("host", "a@b")], Err("Host is not a name or an address")),
        ("/", &[("host", "a,b")], Err("Host is not a name or an address")),
        ("/", &[("host", "a/b")], Err("Host is not a name or an address")),
        ("http://evil/", &[HOST], Err("Host differs from the request target")),
        ("http://u@a/", &[HOST], Err("Host differs from the request target")),
        ("http://u@a/", &[("host", "u@a")], Err("Host is not a name or an address")),
        ("*", &[HOST], Err("the request target is not a path")),
        ("a:443", &[("host", "a:443")], Err("the request target is not a path")),
        ("/", &[HOST, ("content_length", "5")], Err("a header name has an underscore")),
        ("/", &[HOST, ("x-webhook_verified", "1")], Err("a header name has an underscore")),
        ("/", &[HOST, ("content-length", "0")], OK),
        ("/", &[HOST, ("content-length", "10")], OK),
        ("/", &[HOST, ("content-length", "010")], Err("Content-Length has leading zeros")),
        (
            "/",
            &[HOST, ("content-length", "1"), ("content-length", "1")],
            Err("more than one Content-Length"),
        ),
        ("/", &[HOST, ("transfer-encoding", "chunked")], OK),
        ("/", &[HOST, ("transfer-encoding", "ChUnKeD")], OK),
        ("/", &[HOST, ("transfer-encoding", "")], Err("Transfer-Encoding is not chunked")),
        ("/", &[HOST, ("transfer-encoding", ",chunked")], Err("Transfer-Encoding is not chunked")),
        (
            "/",
            &[HOST, ("transfer-encoding", "cow, chunked")],
            Err("Transfer-Encoding is not chunked"),
        ),
        (
            "/",
            &[HOST, ("transfer-encoding", "gzip, chunked")],
            Err("Transfer-Encoding is not chunked"),
        ),
        (
            "/",
            &[HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            Err("more than one Transfer-Encoding"),
        ),
        (
            "/",
            &[HOST, ("transfer-encoding", "chunked"), ("content-length", "1")],
            Err("both Content-Length and Transfer-Encoding"),
        ),
    ];
    for (target, headers, expected) in rows {
        assert_eq!(verdict(Version::HTTP_11, target, headers), *expected, "{target} {headers:?}");
    }
}

#[test]
fn http2() {
    let rows: &[Row] = &[
        ("https://a/", &[], OK),
        ("https://a/", &[("host", "A")], OK),
        ("/", &[("host", "a")], OK),
        ("/", &[], Err("no Host")),
        ("https://a/", &[("host", "b")], Err("Host differs from the request target")),
        ("https://u@a/", &[], Err("Host is not a name or an address")),
        ("https://a/", &[("x", " y")], Err("a header value begins or ends with a space")),
        ("https://a/", &[("x", "y\t")], Err("a header value begins or ends with a space")),
        ("https://a/", &[("x", "")], OK),
        ("https://a/", &[("a_b", "y")], Err("a header name has an underscore")),
    ];
    for (target, headers, expected) in rows {
        assert_eq!(verdict(Version::HTTP_2, target, headers), *expected, "{target} {headers:?}");
    }
}

#[test]
fn sizes() {
    let at = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(verdict(Version::HTTP_11, &at(8192), &[("host", "a")]), OK);
    let long = verdict(Version::HTTP_11, &at(8193), &[("host", "a")]);
    assert_eq!(long, Err("the path is too long"));

    let names: Vec<_> = (0..63).map(|n| format!("x-{n}")).collect();
    let mut headers: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    headers.push(("host", "a"));
    assert_eq!(verdict(Version::HTTP_2, "https://a/", &headers), OK);
    headers.push(("y", "1"));
    assert_eq!(verdict(Version::HTTP_2, "https://a/", &headers), Err("too many headers"));
}

proptest! {
    #[test]
    fn a_host_that_passes_names_one_place(host in "[ -~]{0,12}") {
        if let Ok(()) = verdict(Version::HTTP_11, "/", &[("host", &host)]) {
            prop_assert!(!host.is_empty() && !host.contains(['@', '/', ',', ' ', '?', '#', '\\']));
        }
    }
}
