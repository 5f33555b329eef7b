//! The guard in front of hyper. An input is what a peer sends on one connection.
//!
//! hyper reads it behind the guard, whole and in pieces. A request that both believe must be the one that a strict reader
//! reads there: the same place, the same headers, the same body. What a strict reader reads and hyper takes must be believed.
//! And pieces make no difference.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use gatepost::server::Guard;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Body as _, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};

use super::{Finding, dice::Dice, ensure};

/// Longer inputs only take longer.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Longest line that the guard takes for one that frames a body.
const FRAMING_LINE_MAX: usize = 64;
/// A connection whose bytes are all there needs fewer turns than this.
const TURNS_MAX: usize = 100_000;

/// What hears a connection.
pub trait Ear: Default + 'static {
    /// See [`Guard::hear`].
    fn hear(&mut self, bytes: &[u8]) -> usize;
    /// Whether [`Guard::begin`] finds no fault.
    fn begin(&mut self, length: Option<u64>) -> bool;
}

impl Ear for Guard {
    fn hear(&mut self, bytes: &[u8]) -> usize {
        Self::hear(self, bytes)
    }

    fn begin(&mut self, length: Option<u64>) -> bool {
        Self::begin(self, length).is_ok()
    }
}

/// Tries the guard.
pub fn check(data: &[u8]) -> Finding {
    judge::<Guard>(data)
}

/// Tries anything that hears.
pub fn judge<E: Ear>(data: &[u8]) -> Finding {
    let data = data.get(..INPUT_BYTES_MAX).unwrap_or(data);
    let strict = strict(data);
    let seen = connection::<E>(data, &[])?;
    for (n, request) in seen.iter().enumerate() {
        let there = strict.get(n);
        let told = || format!("request {n} is {request:?}, where a strict reader reads {there:?}");
        let same = |there: &Strict| {
            let same_body = request.body.is_none() || request.body == there.body;
            request.method == there.method && request.headers == there.headers && same_body
        };
        ensure(!request.is_believed || there.is_some_and(same), told)?;
        // What is heard at once may be refused for what is wrong with its body.
        let is_whole = there.is_some_and(|there| there.body.is_some());
        ensure(request.is_believed || !is_whole, told)?;
    }
    let taken = |seen: &[Seen]| seen.iter().take_while(|request| request.body.is_some()).count();
    let mut dice = Dice::of(data);
    let some: [Vec<usize>; 2] = [3, 8].map(|n| (0..n).map(|_| dice.roll(data.len())).collect());
    for cuts in some.into_iter().chain([(0..data.len()).collect()]) {
        let pieces = connection::<E>(data, &cuts)?;
        let (some, all) = (taken(&pieces), taken(&seen));
        let same = some == all && pieces[..some] == seen[..all];
        ensure(same, || format!("in pieces it is {pieces:?}, in one {seen:?}"))?;
    }
    Ok(())
}

/// A request, as hyper and the guard see it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    headers: usize,
    is_believed: bool,
    /// Nothing where it breaks off, or was not asked for.
    body: Option<Vec<u8>>,
}

/// The requests of a connection whose bytes come in pieces.
fn connection<E: Ear>(data: &[u8], cuts: &[usize]) -> Result<Vec<Seen>, String> {
    let mut cuts = cuts.to_vec();
    cuts.push(data.len());
    cuts.sort_unstable();
    let (ear, seen) = (Rc::new(RefCell::new(E::default())), Rc::new(RefCell::new(Vec::new())));
    let wire = Wire { data, at: 0, cuts, ear: Rc::clone(&ear), is_deaf: false };
    let service = service_fn(|request| answer(request, Rc::clone(&ear), Rc::clone(&seen)));
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).half_close(true).max_headers(256);
    let mut serving = pin!(builder.serve_connection(wire, service));
    let mut context = Context::from_waker(Waker::noop());
    let mut turns = 0..TURNS_MAX;
    while serving.as_mut().poll(&mut context).is_pending() {
        turns.next().ok_or("the connection does not end")?;
    }
    Ok(seen.take())
}

async fn answer<E: Ear>(
    request: Request<Incoming>,
    ear: Rc<RefCell<E>>,
    seen: Rc<RefCell<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_believed = ear.borrow_mut().begin(request.body().size_hint().exact());
    let (method, headers) = (request.method().to_string(), request.headers().len());
    let mut response = Response::new(Full::default());
    let at = seen.borrow().len();
    seen.borrow_mut().push(Seen { method, headers, is_believed, body: None });
    if is_believed {
        let body = request.into_body().collect().await;
        seen.borrow_mut()[at].body = body.ok().map(|body| body.to_bytes().to_vec());
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(http::header::CONNECTION, close);
    }
    Ok(response)
}

/// A peer that has sent everything, in pieces, behind what hears them.
struct Wire<'d, E> {
    data: &'d [u8],
    at: usize,
    /// Where pieces end.
    cuts: Vec<usize>,
    ear: Rc<RefCell<E>>,
    is_deaf: bool,
}

impl<E> Unpin for Wire<'_, E> {}

impl<E: Ear> Read for Wire<'_, E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let from = self.at;
        let end = self.cuts.iter().find(|cut| **cut > from).copied().unwrap_or(from);
        let piece = &self.data[from..end.min(from + out.remaining())];
        if self.is_deaf || piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let passed = self.ear.borrow_mut().hear(piece).min(piece.len());
        out.put_slice(&piece[..passed]);
        (self.at, self.is_deaf) = (from + piece.len(), passed < piece.len());
        Poll::Ready(Ok(()))
    }
}

impl<E> Write for Wire<'_, E> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request, as somebody reads it who takes nothing that can be read in two ways.
#[derive(Debug)]
struct Strict {
    method: String,
    headers: usize,
    /// Nothing where it is not whole, or not well formed.
    body: Option<Vec<u8>>,
}

/// All requests up to the first that is not clean.
fn strict(mut rest: &[u8]) -> Vec<Strict> {
    let mut found = Vec::new();
    loop {
        while let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        }
        let Some((request, after)) = strict_one(rest) else { return found };
        found.push(request);
        let Some(after) = after else { return found };
        rest = after;
    }
}

/// A request and what follows it; nothing follows one that is not whole.
fn strict_one(stream: &[u8]) -> Option<(Strict, Option<&[u8]>)> {
    let end = stream.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = stream[..end].split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.by_ref().map(|l| l.strip_suffix(b"\r").unwrap_or(l)).collect();
    let bare = stream[..end].iter().enumerate();
    let mut bare =
        bare.filter(|(at, byte)| **byte == b'\n' && stream[..*at].last() != Some(&b'\r'));
    if bare.next().is_some() {
        return None;
    }
    let (request_line, headers) = lines.split_first()?;
    let values = |name: &[u8]| -> Option<Vec<&[u8]>> {
        let mut values = Vec::new();
        for line in headers {
            let (before, value) = line.split_at_checked(name.len()).unwrap_or_default();
            if before.eq_ignore_ascii_case(name) {
                values.push(trim(value));
                (line.len() <= FRAMING_LINE_MAX).then_some(())?;
            }
        }
        Some(values)
    };
    let (lengths, codings) = (values(b"content-length:")?, values(b"transfer-encoding:")?);
    let rest = &stream[end + 4..];
    let body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some((Vec::new(), rest)),
        ([length], []) => {
            let length = number(length, 10)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            rest.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunks(rest),
        _ => return None,
    };
    let method = request_line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let method = String::from_utf8_lossy(method).into_owned();
    let (body, after) = body.unzip();
    Some((Strict { method, headers: headers.len(), body }, after))
}

/// The data of chunks, and what follows them.
fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut data = Vec::new();
    loop {
        let (line, after) = line(rest)?;
        let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, extension) = line.split_at(end);
        let is_clean = extension.first().is_none_or(|byte| b" \t;".contains(byte));
        let size = number(digits, 16).filter(|_| is_clean && digits.len() < FRAMING_LINE_MAX)?;
        if size == 0 {
            rest = after;
            break;
        }
        let (chunk, after) = after.split_at_checked(usize::try_from(size).ok()?)?;
        data.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, after) = line(rest)?;
        if trailer.is_empty() {
            return Some((data, after));
        }
        rest = after;
    }
}

/// A line that ends with CR LF, and what follows it.
fn line(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some((rest[..end].strip_suffix(b"\r")?, &rest[end + 1..]))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(|b| char::from(*b).is_digit(radix));
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    u64::from_str_radix(text, radix).ok()
}
