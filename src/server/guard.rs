//! Reads requests of HTTP/1 beside hyper, for what a parsed head does not show: line ends, and how often and how a length
//! was said. hyper joins equal lengths, drops a length beside `Transfer-Encoding`, and takes a bare LF for a line end;
//! another reader in front of us may not, and a request that two readers end in two places carries a second one inside.
//!
//! The guard follows heads and bodies through the stream, so both always look for the next head in the same place; that
//! they found it there is checked for every request. It decides nothing by itself: a fault is the verdict on the request
//! that has it, and what follows is not heard.

use arrayvec::ArrayVec;
use memchr::memchr;

use super::Unreadable;

/// What one connection has said so far.
#[derive(Debug, Default)]
pub struct Guard {
    place: Place,
    /// The beginning of a line whose end has not come yet.
    partial: Line,
    /// What the head that is being read says of its body.
    framing: Framing,
    /// Whether its request line is there.
    in_head: bool,
    /// Heads that are complete, and requests that hyper made of them.
    heads: u64,
    requests: u64,
    /// How long the body after the last complete head is; none where it is chunked.
    length: Option<u64>,
    fault: Option<Unreadable>,
    /// Nothing more is heard.
    is_over: bool,
}

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Head,
    /// In a body or a chunk of which so much is left.
    Data {
        left: u64,
        then: Then,
    },
    ChunkSize,
    ChunkEnd,
    Trailer,
}

/// What follows a run of bytes.
#[derive(Clone, Copy, Debug)]
enum Then {
    Head,
    ChunkEnd,
}

#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_chunked: bool,
}

/// The first bytes of a line, its length, and its last byte so far.
#[derive(Debug, Default)]
struct Line {
    start: ArrayVec<u8, START_BYTES>,
    bytes: usize,
    last: u8,
}

/// A whole line without its end.
#[derive(Clone, Copy)]
struct Whole<'a> {
    start: &'a [u8],
    /// Whether `start` is all of it.
    is_short: bool,
    has_cr: bool,
}

impl Guard {
    /// Hears what was read; returns how many of these bytes may be passed on. Where not all may, nothing after them may.
    pub fn hear(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_over {
            if let Place::Data { left, then } = self.place {
                rest = self.skip(rest, left, then);
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.partial.keep(rest);
                return bytes.len();
            };
            let (line, after) = rest.split_at(end + 1);
            if !self.line(line) {
                self.is_over = true;
                break;
            }
            rest = after;
        }
        bytes.len() - rest.len()
    }

    /// hyper has made a request whose body has this length, none where it is chunked: whether its head was faultless.
    pub fn begin(&mut self, length: Option<u64>) -> Result<(), Unreadable> {
        self.requests += 1;
        if self.requests < self.heads {
            return Ok(()); // what came behind it in one piece was heard already
        }
        if let Some(fault) = self.fault.filter(|_| self.is_over) {
            return Err(fault);
        }
        if self.requests > self.heads || self.length != length {
            return Err("its end was read in two ways");
        }
        Ok(())
    }

    /// Whether something was heard of which hyper has not made a request.
    pub fn is_ahead(&self) -> bool {
        self.in_head || self.partial.bytes > 0 || self.heads > self.requests
    }

    /// Whether the body of the last request has not come to its end.
    pub(super) fn is_in_body(&self) -> bool {
        self.heads == self.requests && !matches!(self.place, Place::Head)
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, then: Then) -> &'a [u8] {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - now as u64;
        self.place = match then {
            _ if left > 0 => Place::Data { left, then },
            Then::Head => Place::Head,
            Then::ChunkEnd => Place::ChunkEnd,
        };
        bytes.get(now..).unwrap_or_default()
    }

    /// Reads a line, LF included; false where it must not be passed on.
    fn line(&mut self, line: &[u8]) -> bool {
        if self.partial.bytes == 0 {
            return self.whole(Whole::of(line));
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.keep(line.strip_suffix(b"\n").unwrap_or(line));
        self.whole(partial.whole())
    }

    fn whole(&mut self, line: Whole<'_>) -> bool {
        if !matches!(self.place, Place::Head) {
            return self.chunk_line(line);
        }
        if !line.has_cr {
            self.wrong("a line ends without CR");
        }
        match (self.in_head, line.is_empty()) {
            (false, true) => {} // an empty line before a request is nothing
            (false, false) => self.in_head = true,
            (true, false) => self.header(line),
            (true, true) => self.end_head(),
        }
        true
    }

    /// Looks at a header for what frames the body. Names with a space before the colon are refused by hyper.
    fn header(&mut self, line: Whole<'_>) {
        if let Some(value) = line.value_of(b"content-length:") {
            let seen = self.framing.length.is_some();
            self.framing.length = Some(decimal(value).unwrap_or_default());
            if seen {
                self.wrong("more than one Content-Length");
            } else if !line.is_short || decimal(value).is_none() {
                self.wrong("Content-Length is not a number");
            }
        } else if let Some(value) = line.value_of(b"transfer-encoding:") {
            let seen = std::mem::replace(&mut self.framing.is_chunked, true);
            if seen {
                self.wrong("more than one Transfer-Encoding");
            } else if !line.is_short || !value.eq_ignore_ascii_case(b"chunked") {
                self.wrong("Transfer-Encoding is not chunked");
            }
        } else {
            return;
        }
        if self.framing.is_chunked && self.framing.length.is_some() {
            self.wrong("both Content-Length and Transfer-Encoding");
        }
    }

    fn end_head(&mut self) {
        let Framing { length, is_chunked } = std::mem::take(&mut self.framing);
        self.in_head = false;
        self.heads += 1;
        self.is_over = self.fault.is_some();
        self.length = (!is_chunked).then(|| length.unwrap_or(0));
        self.place = match self.length {
            None => Place::ChunkSize,
            Some(0) => Place::Head,
            Some(left) => Place::Data { left, then: Then::Head },
        };
    }

    /// Reads a line of a chunked body; what stands there otherwise than it must is not passed on, so that the body ends
    /// too early.
    fn chunk_line(&mut self, line: Whole<'_>) -> bool {
        let next = match self.place {
            _ if !line.has_cr => None,
            Place::ChunkSize => line.chunk_size().map(|size| match size {
                0 => Place::Trailer,
                left => Place::Data { left, then: Then::ChunkEnd },
            }),
            Place::ChunkEnd => line.is_empty().then_some(Place::ChunkSize),
            Place::Trailer if line.is_empty() => Some(Place::Head),
            place => Some(place),
        };
        match next {
            Some(place) => self.place = place,
            None => self.wrong("a chunk is malformed"),
        }
        next.is_some()
    }

    /// The first thing that is wrong is what is told.
    fn wrong(&mut self, why: Unreadable) {
        self.fault.get_or_insert(why);
    }
}

impl Line {
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.start.remaining_capacity().min(bytes.len());
        self.start.extend(bytes.iter().take(room).copied());
        self.bytes += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn whole(&self) -> Whole<'_> {
        Whole::new(&self.start, self.bytes, self.last == b'\r')
    }
}

impl<'a> Whole<'a> {
    fn of(line: &'a [u8]) -> Self {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let has_cr = text.last() == Some(&b'\r');
        Self::new(text.get(..START_BYTES).unwrap_or(text), text.len(), has_cr)
    }

    /// A line of `bytes`, CR included where it has one.
    fn new(start: &'a [u8], bytes: usize, has_cr: bool) -> Self {
        let bytes = bytes - usize::from(has_cr);
        Self { start: start.get(..bytes).unwrap_or(start), is_short: bytes <= START_BYTES, has_cr }
    }

    fn is_empty(&self) -> bool {
        self.start.is_empty()
    }

    fn value_of(&self, name: &[u8]) -> Option<&'a [u8]> {
        let (before, value) = self.start.split_at_checked(name.len())?;
        before.eq_ignore_ascii_case(name).then(|| trimmed(value))
    }

    /// Hexadecimal digits; an extension after them is nobody's business.
    fn chunk_size(&self) -> Option<u64> {
        let digits = self.start.iter().position(|b| !b.is_ascii_hexdigit());
        let (digits, rest) = self.start.split_at(digits.unwrap_or(self.start.len()));
        let ends = rest.first().map_or(self.is_short, |b| b" \t;".contains(b));
        number(digits.iter().copied(), 16).filter(|_| ends)
    }
}

/// Without the spaces and tabs that may stand around a value (RFC 9110 §5.5).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn decimal(digits: &[u8]) -> Option<u64> {
    number(digits.iter().copied(), 10)
}

fn number(mut digits: impl ExactSizeIterator<Item = u8>, radix: u32) -> Option<u64> {
    let add = |sum: u64, digit: u8| {
        let digit = char::from(digit).to_digit(radix)?;
        sum.checked_mul(radix.into())?.checked_add(digit.into())
    };
    if digits.len() == 0 { None } else { digits.try_fold(0, add) }
}

/// What is kept of a line that comes in pieces: enough for every line that frames a body.
const START_BYTES: usize = 64;
