//! HTTP/2 (RFC 9113) as far as a sender of small requests needs it, with header compression (RFC 7541) without a table.

use std::{collections::HashMap, str};

use crate::{Options, connection::Sent, events::Events};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const FRAME_HEAD: usize = 9;
const FRAME_BYTES_MAX: usize = 16_384;
const WINDOW: i64 = 65_535;
/// Answers are credited back in steps of so many bytes.
const CREDIT_STEP: usize = 20_000;

/// One connection's state.
pub struct Http2 {
    next_stream: u32,
    streams: HashMap<u32, Stream>,
    streams_max: usize,
    window: i64,
    stream_window: i64,
    received: usize,
    going_away: bool,
}

struct Stream {
    sent: Sent,
    body: Vec<u8>,
    written: usize,
    window: i64,
    status: u16,
}

/// What the bytes of a peer led to.
#[derive(Default)]
pub struct Step {
    /// Requests that are over; a status of 0 is a reset.
    pub finished: Vec<(Sent, u16)>,
    /// What has to be written.
    pub out: Vec<u8>,
    /// How many bytes were understood.
    pub consumed: usize,
}

impl Http2 {
    pub fn new(streams: usize) -> Self {
        Self {
            next_stream: 1,
            streams: HashMap::new(),
            streams_max: streams,
            window: WINDOW,
            stream_window: WINDOW,
            received: 0,
            going_away: false,
        }
    }

    /// The client's preface: no header table, no push, windows of 1 MiB for answers.
    pub fn preface() -> Vec<u8> {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut out, 18, SETTINGS, 0, 0);
        for (setting, value) in [(1_u16, 0_u32), (2, 0), (4, 1 << 20)] {
            out.extend_from_slice(&setting.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        out
    }

    /// How many more requests it takes now.
    pub fn room(&self) -> usize {
        if self.going_away { 0 } else { self.streams_max.saturating_sub(self.streams.len()) }
    }

    /// The peer wants to close, and nothing is under way any more.
    pub fn is_over(&self) -> bool {
        self.going_away && self.streams.is_empty()
    }

    pub fn under_way(&self) -> impl Iterator<Item = Sent> {
        self.streams.values().map(|stream| stream.sent)
    }

    pub fn send(&mut self, options: &Options, events: &Events, sent: Sent, out: &mut Vec<u8>) {
        let id = self.next_stream;
        self.next_stream += 2;
        let head = head(options, events, sent.event);
        frame(out, head.len(), HEADERS, END_HEADERS, id);
        out.extend_from_slice(&head);
        let mut body = Vec::with_capacity(events.body_len(sent.event));
        events.write_body(sent.event, &mut body);
        let mut stream = Stream { sent, body, written: 0, window: self.stream_window, status: 0 };
        stream.write(id, &mut self.window, out);
        self.streams.insert(id, stream);
    }

    /// Reads all whole frames.
    pub fn receive(&mut self, bytes: &[u8]) -> Step {
        let mut step = Step::default();
        while let Some((head, rest)) = bytes[step.consumed..].split_at_checked(FRAME_HEAD) {
            let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(payload) = rest.get(..len) else { break };
            let id = number(&head[5..]) & (u32::MAX >> 1);
            self.frame(head[3], head[4], id, payload, &mut step);
            step.consumed += FRAME_HEAD + len;
        }
        if self.received > CREDIT_STEP {
            frame(&mut step.out, 4, WINDOW_UPDATE, 0, 0);
            step.out.extend_from_slice(&(self.received as u32).to_be_bytes());
            self.received = 0;
        }
        step
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8], step: &mut Step) {
        match kind {
            DATA => self.received += payload.len(),
            HEADERS => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.status = status(block(flags, payload));
                }
            }
            RST_STREAM => step.finished.extend(self.streams.remove(&id).map(|s| (s.sent, 0))),
            SETTINGS if flags & ACK == 0 => self.settings(payload, &mut step.out),
            PING if flags & ACK == 0 => {
                frame(&mut step.out, 8, PING, ACK, 0);
                step.out.extend_from_slice(payload);
            }
            GOAWAY => self.going_away = true,
            WINDOW_UPDATE => self.credit(id, i64::from(number(payload)), &mut step.out),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.finish(id, step);
        }
    }

    fn finish(&mut self, id: u32, step: &mut Step) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if stream.written < stream.body.len() {
            const CANCEL: [u8; 4] = [0, 0, 0, 8];
            frame(&mut step.out, 4, RST_STREAM, 0, id);
            step.out.extend_from_slice(&CANCEL);
        }
        step.finished.push((stream.sent, stream.status));
    }

    fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                3 => self.streams_max = self.streams_max.min(value as usize),
                4 => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window = i64::from(value);
                    self.streams.values_mut().for_each(|stream| stream.window += more);
                }
                _ => {}
            }
        }
        frame(out, 0, SETTINGS, ACK, 0);
        self.write_all(out);
    }

    fn credit(&mut self, id: u32, bytes: i64, out: &mut Vec<u8>) {
        if id == 0 {
            self.window += bytes;
            self.write_all(out);
        } else if let Some(stream) = self.streams.get_mut(&id) {
            stream.window += bytes;
            stream.write(id, &mut self.window, out);
        }
    }

    fn write_all(&mut self, out: &mut Vec<u8>) {
        for (id, stream) in &mut self.streams {
            stream.write(*id, &mut self.window, out);
        }
    }
}

impl Stream {
    /// Writes as much of the body as the windows allow.
    fn write(&mut self, id: u32, connection_window: &mut i64, out: &mut Vec<u8>) {
        while self.written < self.body.len() {
            let allowed = self.window.min(*connection_window).clamp(0, FRAME_BYTES_MAX as i64);
            let len = (self.body.len() - self.written).min(allowed as usize);
            if len == 0 {
                return;
            }
            let last = self.written + len == self.body.len();
            frame(out, len, DATA, if last { END_STREAM } else { 0 }, id);
            out.extend_from_slice(&self.body[self.written..self.written + len]);
            self.written += len;
            self.window -= len as i64;
            *connection_window -= len as i64;
        }
    }
}

fn frame(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, id: u32) {
    out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
}

/// The first four bytes as a number.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_be_bytes(*four))
}

/// The request's header block. Numbers are places in HPACK's static table.
fn head(options: &Options, events: &Events, event: usize) -> Vec<u8> {
    const POST_HTTPS: [u8; 2] = [0x83, 0x87];
    let mut out = POST_HTTPS.to_vec();
    let length = events.body_len(event).to_string();
    let agent: &[u8] = b"Stripe/1.0 (+https://stripe.com/docs/webhooks)";
    let known = [
        (4, options.path.as_bytes()),
        (1, b"localhost"),
        (31, b"application/json; charset=utf-8"),
        (28, length.as_bytes()),
        (58, agent),
    ];
    for (name, value) in known {
        integer(&mut out, 4, name);
        text(&mut out, value);
    }
    for header in events.headers(event) {
        let Some(colon) = header.iter().position(|b| *b == b':') else { continue };
        integer(&mut out, 4, 0);
        text(&mut out, &header[..colon].to_ascii_lowercase());
        text(&mut out, header[colon + 1..].trim_ascii());
    }
    out
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 7, bytes.len());
    out.extend_from_slice(bytes);
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, bits: u8, mut value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        return out.push(value as u8);
    }
    out.push(max as u8);
    value -= max;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// The header block of a HEADERS frame without padding and priority.
fn block(flags: u8, mut payload: &[u8]) -> &[u8] {
    if flags & PADDED != 0 {
        let padding = usize::from(payload[0]);
        payload = &payload[1..payload.len() - padding];
    }
    if flags & PRIORITY != 0 { &payload[5..] } else { payload }
}

/// The status at the start of a header block; 0 where it cannot be read.
fn status(mut block: &[u8]) -> u16 {
    while let [0x20..=0x3f, rest @ ..] = block {
        block = rest; // the size of the table changes
    }
    match *block {
        [whole @ 0x80..=0xff, ..] => match whole & 0x7f {
            8 => 200,
            9 => 204,
            10 => 206,
            11 => 304,
            12 => 400,
            13 => 404,
            14 => 500,
            _ => 0,
        },
        [_, len, ref rest @ ..] => {
            let text = rest.get(..usize::from(len & 0x7f)).unwrap_or_default();
            if len & 0x80 == 0 { digits(text) } else { huffman_digits(text) }
        }
        _ => 0,
    }
}

fn digits(text: &[u8]) -> u16 {
    str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Three digits in HPACK's Huffman code: 0, 1, 2 take five bits, 3 to 9 take six.
fn huffman_digits(text: &[u8]) -> u16 {
    let bits = text.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = text.len() as u32 * 8;
    let mut take = |count: u32| {
        left = left.saturating_sub(count);
        (bits >> left) & ((1 << count) - 1)
    };
    let mut number = 0;
    for _ in 0..3 {
        let five = take(5);
        let digit = if five < 3 { five } else { (five << 1 | take(1)).wrapping_sub(0x19) + 3 };
        number = number * 10 + digit as u16;
    }
    number
}
