//! HTTP/1.1: writes a request, finds the end of an answer.

use std::str;

use crate::{Options, events::Events};

const FIXED: &[u8] = b" HTTP/1.1\r\nHost: localhost\r\n\
    User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
    Content-Type: application/json; charset=utf-8\r\nAccept: */*\r\nContent-Length: ";

/// An answer that has arrived as a whole.
pub struct Answer {
    pub status: u16,
    /// How many bytes it takes.
    pub len: usize,
    /// The peer will close the connection.
    pub closes: bool,
}

pub fn write_request(options: &Options, events: &Events, event: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(options.path.as_bytes());
    out.extend_from_slice(FIXED);
    out.extend_from_slice(events.body_len(event).to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
    if options.close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    for header in events.headers(event) {
        out.extend_from_slice(header);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    events.write_body(event, out);
}

/// The answer at the start of `bytes`, once it is whole; `ended` says that no more will come.
pub fn parse(bytes: &[u8], ended: bool) -> Option<Answer> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let status = str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    let field = |name: &str| field(&bytes[..head], name);
    let closes = field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let length = field("content-length").and_then(|v| v.parse::<usize>().ok());
    let body = &bytes[head..];
    let body_len = match length {
        _ if status == 204 || status == 304 => 0,
        _ if field("transfer-encoding").is_some() => chunked_len(body)?,
        Some(length) if body.len() >= length => length,
        Some(_) => return None,
        None if ended => body.len(),
        None => return None,
    };
    Some(Answer { status, len: head + body_len, closes })
}

fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = head.split(|b| *b == b'\n').filter_map(|line| str::from_utf8(line).ok());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The length of a chunked body. Answers are small texts, in which the last chunk can be searched for.
fn chunked_len(body: &[u8]) -> Option<usize> {
    const LAST: &[u8] = b"0\r\n\r\n";
    if body.starts_with(LAST) { Some(LAST.len()) } else { Some(find(body, b"\r\n0\r\n\r\n")? + 7) }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
