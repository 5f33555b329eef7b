//! Closed segments: finding them, compressing them, removing the oldest.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::Arc,
};

use super::{
    journal::{Head, ORIGIN, parse_time, scan_lines},
    lines::{Frame, Lines, Piece, packed_name, parse_name, segment_name},
    storage::{Cursor, Storage, StorageFile},
};
use crate::event::Timestamp;

/// Compression of closed segments: zstd's own default, about a fifth of the size.
const LEVEL: i32 = 3;
/// A compressed segment before it has its name.
const UNFINISHED: &str = ".tmp";

/// A segment that is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// Its first record.
    pub(super) first: u64,
    /// Its last record.
    pub(super) last: Head,
    /// When the next segment began.
    pub(super) until: Option<Timestamp>,
    /// Whether it is compressed.
    pub(super) packed: bool,
}

/// The segment that was being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// The record it begins with.
    pub(super) first: u64,
    /// The record before that.
    pub(super) before: Head,
}

/// The names of segments among `names`, as (first record, compressed), in order. Where both forms of one are there, its
/// compression was interrupted and the plain one counts.
pub(super) fn segments_of<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(u64, bool)> {
    let mut found: Vec<_> = names.filter_map(parse_name).collect();
    found.sort_unstable();
    found.dedup_by_key(|(first, _)| *first);
    found
}

/// Finds what is there, and takes away what an interrupted compression left.
pub(super) fn survey(storage: &dyn Storage) -> io::Result<(Vec<Closed>, Option<Last>)> {
    let names = storage.list()?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        storage.remove(name)?;
    }
    let found = segments_of(names.iter().map(String::as_str));
    for (first, _) in found.iter().filter(|(_, packed)| !packed) {
        if names.contains(&packed_name(*first)) {
            storage.remove(&packed_name(*first))?;
        }
    }
    let mut closed: Vec<Closed> = Vec::with_capacity(found.len());
    let mut last = None;
    for (index, &(first, packed)) in found.iter().enumerate() {
        let (prev, since) = first_line(storage, first, packed)?;
        let before = match (prev, closed.last()) {
            (Some(before), _) => before,
            (None, Some(before)) => end_of(storage, before)?,
            (None, None) => Head { seq: first - 1, ..ORIGIN },
        };
        if let Some(previous) = closed.last_mut() {
            (previous.last, previous.until) = (before, since);
        }
        if packed || index + 1 < found.len() {
            closed.push(Closed { first, last: before, until: None, packed });
        } else {
            last = Some(Last { first, before });
        }
    }
    if let (None, Some(end)) = (last, closed.last().copied()) {
        let end = end_of(storage, &end)?;
        closed.iter_mut().rev().take(1).for_each(|closed| closed.last = end);
    }
    Ok((closed, last))
}

/// What the first line of a segment says: the record before it, and the time.
fn first_line(
    storage: &dyn Storage,
    first: u64,
    packed: bool,
) -> io::Result<(Option<Head>, Option<Timestamp>)> {
    read(storage, first, packed, |reader| {
        let mut lines = Lines::new(reader);
        let whole = lines.advance()? == Piece::Line;
        let frame = Frame::parse(lines.bytes()).filter(|frame| whole && frame.seq == first);
        let before = frame.map(|frame| Head { seq: first - 1, hash: frame.prev });
        Ok((before, frame.and_then(|frame| parse_time(frame.ts))))
    })
}

/// The last record of a closed segment, by reading all of it.
fn end_of(storage: &dyn Storage, closed: &Closed) -> io::Result<Head> {
    let before = Head { seq: closed.first - 1, ..closed.last };
    read(storage, closed.first, closed.packed, |reader| {
        Ok(scan_lines(&mut Lines::new(reader), before)?.last())
    })
}

/// Opens a segment, compressed or not.
fn read<T>(
    storage: &dyn Storage,
    first: u64,
    packed: bool,
    look: impl FnOnce(&mut dyn BufRead) -> io::Result<T>,
) -> io::Result<T> {
    let name = if packed { packed_name(first) } else { segment_name(first) };
    let file = storage.open(&name)?;
    let mut reader = BufReader::new(Cursor(&*file, 0));
    if packed { look(&mut BufReader::new(unpacked(reader)?)) } else { look(&mut reader) }
}

/// Reads a compressed segment.
pub(super) fn unpacked(packed: impl BufRead) -> io::Result<impl Read> {
    zstd::stream::read::Decoder::with_buffer(packed)
}

/// Compresses a closed segment. The plain one goes only when the compressed one is durable under its name.
pub(super) fn pack(storage: &Arc<dyn Storage>, first: u64) -> io::Result<()> {
    let (plain, packed) = (segment_name(first), packed_name(first));
    let unfinished = format!("{packed}{UNFINISHED}");
    let source = storage.open(&plain)?;
    let mut sink = Sink { file: storage.create(&unfinished)?, at: 0 };
    zstd::stream::copy_encode(Cursor(&*source, 0), &mut sink, LEVEL)?;
    sink.file.sync()?;
    storage.rename(&unfinished, &packed)?;
    storage.sync_dir()?;
    storage.remove(&plain)?;
    storage.sync_dir()
}

/// Removes a closed segment in whichever form it is there.
pub(super) fn remove(storage: &dyn Storage, closed: &Closed) -> io::Result<()> {
    let name = if closed.packed { packed_name(closed.first) } else { segment_name(closed.first) };
    storage.remove(&name)?;
    storage.sync_dir()
}

/// Writes a stored file from its beginning.
struct Sink {
    file: Box<dyn StorageFile>,
    at: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
