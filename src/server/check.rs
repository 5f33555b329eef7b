//! What hyper lets through and we do not: requests that two readers could read differently.
//!
//! Everything here is visible in a parsed head. A head that hyper itself refuses never comes this far.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};

use crate::config::Limits;

/// What is wrong with a request's head, for logs; senders are not told.
pub type Unreadable = &'static str;

/// Whether a request has one meaning and keeps the limits on its head.
pub fn check<B>(request: &Request<B>, limits: &Limits) -> Result<(), Unreadable> {
    check_target(request.uri(), limits.path_length.in_memory())?;
    check_host(request)?;
    check_framing(request.headers())?;
    check_headers(request.headers(), limits)
}

fn check_target(uri: &Uri, bytes_max: usize) -> Result<(), Unreadable> {
    let target = uri.path_and_query().map_or("", |p| p.as_str());
    if !target.starts_with('/') {
        return Err("the request target is not a path");
    }
    if target.len() > bytes_max {
        return Err("the path is too long");
    }
    Ok(())
}

/// Exactly one host, said once; `Host` and the target's own authority must agree where both are there.
fn check_host<B>(request: &Request<B>) -> Result<(), Unreadable> {
    let host = one(request.headers(), HOST, "more than one Host")?;
    let http2 = request.version() == Version::HTTP_2;
    let authority = request.uri().authority().map(|a| a.as_str().as_bytes());
    match (host, authority) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Err("Host differs from the request target")
        }
        (Some(host), _) => check_host_text(host),
        (None, Some(authority)) if http2 => check_host_text(authority),
        (None, _) => Err("no Host"),
    }
}

/// Characters of a name or address and a port; no user, no list, no path.
fn check_host_text(host: &[u8]) -> Result<(), Unreadable> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(b);
    if host.is_empty() || !host.iter().all(plain) {
        return Err("Host is not a name or an address");
    }
    Ok(())
}

/// One length, said in one way. hyper drops `Content-Length` beside `Transfer-Encoding`, so both are rarely seen here.
fn check_framing(headers: &HeaderMap) -> Result<(), Unreadable> {
    let length = one(headers, CONTENT_LENGTH, "more than one Content-Length")?;
    if length.is_some_and(|digits| digits.len() > 1 && digits.first() == Some(&b'0')) {
        return Err("Content-Length has leading zeros");
    }
    let encoding = one(headers, TRANSFER_ENCODING, "more than one Transfer-Encoding")?;
    match encoding.map(<[u8]>::trim_ascii) {
        None => Ok(()),
        Some(_) if length.is_some() => Err("both Content-Length and Transfer-Encoding"),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        Some(_) => Err("Transfer-Encoding is not chunked"),
    }
}

/// The value of a header that may be there only once.
fn one(
    headers: &HeaderMap,
    name: HeaderName,
    more: Unreadable,
) -> Result<Option<&[u8]>, Unreadable> {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = lines.next();
    lines.next().map_or(Ok(first), |_| Err(more))
}

/// Underscores: many apps take `X_A` and `X-A` for the same header. Outer spaces: HTTP/1 would have cut them off.
fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<(), Unreadable> {
    if headers.len() > limits.headers.get() {
        return Err("too many headers");
    }
    for (name, value) in headers {
        if name.as_str().as_bytes().contains(&b'_') {
            return Err("a header name has an underscore");
        }
        let value = value.as_bytes();
        if value.trim_ascii().len() != value.len() {
            return Err("a header value begins or ends with a space");
        }
    }
    Ok(())
}
