//! Segments: what they are called, and how they are read, compressed or not, closed or still written, one line in memory at
//! a time. Reading believes nothing and needs no lock, so it works beside a running gateway.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    record::{Hash, RECORD_BYTES_MAX, hash_of},
    storage::{Storage, UNFINISHED, replace},
};
use crate::event::Timestamp;

const SEGMENT: &str = "segment-";
const PLAIN: &str = ".ndjson";
const PACKED: &str = ".ndjson.zst";
/// Compression of closed segments: zstd's own default, about a fifth of the size.
const LEVEL: i32 = 3;

/// The file name of the segment that begins with record `first`.
pub fn segment_name(first: u64) -> String {
    format!("{SEGMENT}{first:020}{PLAIN}")
}

fn packed_name(first: u64) -> String {
    format!("{SEGMENT}{first:020}{PACKED}")
}

/// Which record a segment begins with, and whether it is compressed; `None` for the name of something else.
fn parse_name(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(SEGMENT)?;
    let (digits, packed) = match rest.strip_suffix(PACKED) {
        Some(digits) => (digits, true),
        None => (rest.strip_suffix(PLAIN)?, false),
    };
    let fits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| fits).map(|first| (first, packed))
}

/// The segments of a directory, in order: the record that each begins with, and whether it is compressed. Where both forms
/// of one are there, its compression was interrupted and the plain one counts.
#[derive(Clone, Debug)]
pub struct Segments {
    dir: PathBuf,
    pub(super) found: BTreeMap<u64, bool>,
}

/// A segment that is being read.
pub type Reader = Lines<BufReader<Box<dyn io::Read>>>;

impl Segments {
    /// Finds them.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(dir)? {
            let name = entry?.file_name();
            if let Some((first, packed)) = name.to_str().and_then(parse_name) {
                found.entry(first).and_modify(|both| *both &= packed).or_insert(packed);
            }
        }
        Ok(Self { dir: dir.to_owned(), found })
    }

    /// The numbers of the records that segments begin with.
    pub fn firsts(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.found.keys().copied()
    }

    /// Opens the segment that begins with record `first`, whichever form it has by now, `at` bytes behind its beginning.
    pub fn open(&self, first: u64, at: u64) -> io::Result<Reader> {
        let reader: Box<dyn io::Read> = match File::open(self.dir.join(segment_name(first))) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(at))?;
                Box::new(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let packed = File::open(self.dir.join(packed_name(first)))?;
                let mut unpacked = zstd::stream::read::Decoder::new(packed)?;
                io::copy(&mut (&mut unpacked).take(at), &mut io::sink())?;
                Box::new(unpacked)
            }
            Err(error) => return Err(error),
        };
        Ok(Lines::new(BufReader::with_capacity(256 * 1024, reader)))
    }

    /// Calls `look` with every record, in order, from the segment on that holds record `from`, until it says that this is
    /// enough. What is no record is passed over, and so is a segment that retention removed meanwhile.
    pub fn each(
        &self,
        from: u64,
        mut look: impl FnMut(&Frame<'_>, &[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let begin = self.firsts().rfind(|first| *first <= from).unwrap_or(0);
        for first in self.firsts().filter(|first| *first >= begin) {
            match self.each_in(first, &mut look) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(false) => break,
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// The same in the one segment that begins with record `first`; says whether more is wanted.
    fn each_in(
        &self,
        first: u64,
        mut look: impl FnMut(&Frame<'_>, &[u8]) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let mut lines = self.open(first, 0)?;
        loop {
            let piece = lines.advance()?;
            if piece == Piece::End {
                return Ok(true);
            }
            if let Some(frame) = Frame::parse(lines.bytes()).filter(|_| piece == Piece::Line)
                && !look(&frame, lines.bytes())?
            {
                return Ok(false);
            }
        }
    }

    /// The first record of the segment in which `since` falls: the last one that begins before it.
    pub fn at(&self, since: Option<Timestamp>) -> io::Result<u64> {
        let Some(since) = since else { return Ok(0) };
        for first in self.firsts().rev() {
            let begins = match self.beginning(first) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break, // removed
                result => result?,
            };
            if begins.is_some_and(|(_, time)| time < since) {
                return Ok(first);
            }
        }
        Ok(0)
    }

    /// What the first record of a segment says: where the chain stood before it, and when it was written.
    pub(super) fn beginning(&self, first: u64) -> io::Result<Option<(Head, Timestamp)>> {
        let mut begins = None;
        self.each_in(first, |frame, _| {
            let before = Head { seq: first.saturating_sub(1), hash: frame.prev };
            begins = frame.time().filter(|_| frame.seq == first).map(|time| (before, time));
            Ok(false)
        })?;
        Ok(begins)
    }

    /// Where the chain stands at the end of a segment, as far as it can be read.
    pub(super) fn end_of(&self, first: u64) -> io::Result<Head> {
        let mut last = None;
        self.each_in(first, |frame, line| {
            last = Some(Head { seq: frame.seq, hash: hash_of(line) });
            Ok(true)
        })?;
        last.ok_or_else(|| io::Error::other(format!("segment {first} holds no record")))
    }
}

/// Throws away what an interrupted run left half done, and finds the rest.
pub(super) fn tidy_up(storage: &dyn Storage) -> io::Result<Segments> {
    for entry in std::fs::read_dir(storage.path())? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(UNFINISHED)) {
            storage.remove(name)?;
        }
    }
    let segments = Segments::of(storage.path())?;
    for (first, _) in segments.found.iter().filter(|(_, packed)| !**packed) {
        if storage.path().join(packed_name(*first)).exists() {
            storage.remove(&packed_name(*first))?;
        }
    }
    Ok(segments)
}

/// Compresses a closed segment, unless it is told to `stop`. The plain one goes only when the compressed one is durable under its
/// name.
pub(super) fn pack(storage: &dyn Storage, first: u64, stop: &AtomicBool) -> io::Result<()> {
    let (plain, packed) = (segment_name(first), packed_name(first));
    let old = Until { file: File::open(storage.path().join(&plain))?, stop };
    replace(storage, &packed, |sink| {
        zstd::stream::copy_encode(&old, sink, LEVEL).and_then(|()| old.go_on())
    })?;
    storage.remove(&plain)?;
    storage.sync_dir()
}

/// A file that is read until somebody has no more time for it.
struct Until<'a> {
    file: File,
    stop: &'a AtomicBool,
}

impl Until<'_> {
    fn go_on(&self) -> io::Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(io::Error::other("given up")) } else { Ok(()) }
    }
}

impl io::Read for &Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.go_on().and_then(|()| (&self.file).read(into))
    }
}

/// Removes a closed segment.
pub(super) fn remove(storage: &dyn Storage, first: u64, packed: bool) -> io::Result<()> {
    storage.remove(&if packed { packed_name(first) } else { segment_name(first) })?;
    storage.sync_dir()
}

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line that ended with its newline; without it in [`Lines::bytes`].
    Line,
    /// Bytes that are no whole line, or that stand behind the zeros at the end.
    Torn,
    /// Nothing but the zeros that are laid out ahead.
    End,
}

/// Takes a segment apart.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// Bytes taken from the reader.
    taken: u64,
    /// Where the last piece ended.
    end: u64,
    zeros: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads from where `reader` stands.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), taken: 0, end: 0, zeros: false }
    }

    /// The bytes of the piece that was read last, without a newline and the zeros behind it.
    pub fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Where that piece ends in the segment; a line's newline belongs to it.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Reads the next piece.
    pub fn advance(&mut self) -> io::Result<Piece> {
        loop {
            self.line.clear();
            let start = self.taken;
            let limited = &mut (&mut self.reader).take(RECORD_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.line)?;
            self.taken += read as u64;
            if read == 0 {
                return Ok(Piece::End);
            }
            let whole = self.line.pop_if(|last| *last == b'\n').is_some();
            while self.line.pop_if(|last| *last == 0 && !whole).is_some() {}
            if whole || !self.line.is_empty() {
                self.end = start + self.line.len() as u64 + u64::from(whole);
                return Ok(if whole && !self.zeros { Piece::Line } else { Piece::Torn });
            }
            self.zeros = true;
        }
    }
}

/// Where a chain stands: its last record's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last record; 0 before the first.
    pub seq: u64,
    /// Its line's hash.
    pub hash: Hash,
}

impl Head {
    /// Where a chain begins.
    pub const ORIGIN: Self = Self { seq: 0, hash: [0; 32] };
}

/// The highest number that is read: no log comes that far, and one can still be added to it.
pub(super) const SEQ_MAX: u64 = 999_999_999_999_999_999;

/// What a verifier needs of a line: the members that stand at fixed places.
#[derive(Clone, Copy, Debug)]
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
    /// Reads the fixed members; `None` where they are not as this program writes them. A line that holds a zero was torn in
    /// its middle: its end may be that of a later record.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok().filter(|text| !text.contains('\0'))?;
        let (seq, rest) = text.strip_prefix("{\"v\":1,\"seq\":")?.split_once(",\"ts\":\"")?;
        let (ts, rest) = rest.split_once("\",\"kind\":\"")?;
        let (kind, rest) = rest.split_once('"')?;
        let (_, prev) = rest.strip_suffix("\"}")?.rsplit_once(",\"prev\":\"")?;
        let canonical = !seq.starts_with('0') && seq.bytes().all(|b| b.is_ascii_digit());
        let seq = seq.parse().ok().filter(|seq| canonical && *seq <= SEQ_MAX)?;
        Some(Self { seq, ts, kind, prev: parse_hash(prev)? })
    }

    /// When it was written; `None` where that is no time.
    pub fn time(&self) -> Option<Timestamp> {
        let time: jiff::Timestamp = self.ts.parse().ok()?;
        Some(Timestamp::from_millis(time.as_millisecond()))
    }
}

/// 64 lower-case hexadecimal digits.
pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(hash)
}
