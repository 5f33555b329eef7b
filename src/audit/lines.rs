//! Reads a segment: complete lines, torn ones, and the zeros that are laid out ahead. Believes nothing and keeps one line in
//! memory at a time.

use std::io::{self, BufRead};

use super::record::{Hash, RECORD_BYTES_MAX};

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line that ended with its newline; without it in [`Lines::bytes`].
    Line,
    /// Bytes that end without a newline: at zeros, at the end of the file, or at the longest line allowed.
    Torn,
    /// A run of zeros.
    Zeros,
    /// Nothing.
    End,
}

/// Takes a segment apart.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    start: u64,
    end: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from where `reader` stands.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), start: 0, end: 0 }
    }

    /// The bytes of the piece that was read last, without a newline; empty for zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Where that piece begins and ends in the segment; a line's newline belongs to it.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start..self.end
    }

    /// Reads the next piece.
    pub fn advance(&mut self) -> io::Result<Piece> {
        self.line.clear();
        self.start = self.end;
        match self.reader.fill_buf()?.first() {
            None => Ok(Piece::End),
            Some(0) => self.zeros(),
            Some(_) => self.text(),
        }
    }

    fn zeros(&mut self) -> io::Result<Piece> {
        loop {
            let held = self.reader.fill_buf()?;
            let run = held.iter().take_while(|b| **b == 0).count();
            let whole = run == held.len() && run > 0;
            self.consume(run);
            if !whole {
                return Ok(Piece::Zeros);
            }
        }
    }

    fn text(&mut self) -> io::Result<Piece> {
        loop {
            let held = self.reader.fill_buf()?;
            let stop = held.iter().position(|b| *b == b'\n' || *b == 0);
            let text = held.get(..stop.unwrap_or(held.len())).unwrap_or_default();
            self.line.extend_from_slice(text);
            let newline = stop.is_some_and(|at| held.get(at) == Some(&b'\n'));
            let done = stop.is_some() || held.is_empty() || self.line.len() > RECORD_BYTES_MAX;
            let used = text.len() + usize::from(newline);
            self.consume(used);
            if done {
                return Ok(if newline { Piece::Line } else { Piece::Torn });
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.end += count as u64;
    }
}

/// What a verifier needs of a line: the members that stand at fixed places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The record's number.
    pub seq: u64,
    /// When it was written.
    pub ts: &'a str,
    /// What it is about.
    pub kind: &'a str,
    /// What it says of the line before.
    pub prev: Hash,
}

impl<'a> Frame<'a> {
    /// Reads the fixed members; `None` where they are not as this program writes them.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (seq, rest) = text.strip_prefix("{\"v\":1,\"seq\":")?.split_once(",\"ts\":\"")?;
        let (ts, rest) = rest.split_once("\",\"kind\":\"")?;
        let (kind, rest) = rest.split_once('"')?;
        let (_, prev) = rest.strip_suffix("\"}")?.rsplit_once(",\"prev\":\"")?;
        let canonical = !seq.starts_with('0') && seq.bytes().all(|b| b.is_ascii_digit());
        let seq = seq.parse().ok().filter(|_| canonical)?;
        Some(Self { seq, ts, kind, prev: parse_hash(prev)? })
    }
}

/// 64 lower-case hexadecimal digits.
pub fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(hash)
}

const SEGMENT: &str = "segment-";
const PLAIN: &str = ".ndjson";
const PACKED: &str = ".ndjson.zst";

/// The file name of the segment that begins with record `first`.
pub fn segment_name(first: u64) -> String {
    format!("{SEGMENT}{first:020}{PLAIN}")
}

/// The file name of the same segment once it is compressed.
pub fn packed_name(first: u64) -> String {
    format!("{SEGMENT}{first:020}{PACKED}")
}

/// Which record a segment begins with, and whether it is compressed; `None` for the name of something else.
pub fn parse_name(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(SEGMENT)?;
    let (digits, packed) = match rest.strip_suffix(PACKED) {
        Some(digits) => (digits, true),
        None => (rest.strip_suffix(PLAIN)?, false),
    };
    let fits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| fits).map(|first| (first, packed))
}
