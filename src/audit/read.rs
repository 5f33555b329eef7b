//! Reads a log from its directory without writing to it: whole or by time, closed segments or the live one, one line in
//! memory at a time. Needs no lock, so it works beside a running gateway.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    journal::parse_time,
    lines::{Frame, Lines, packed_name, segment_name},
    segments::{segments_of, unpacked},
};
use crate::event::Timestamp;

pub use super::lines::Piece;

/// The segments of a directory, in order.
#[derive(Clone, Debug)]
pub struct Segments {
    dir: PathBuf,
    firsts: Vec<u64>,
}

/// A segment that is being read.
pub type Reader = Lines<Box<dyn BufRead>>;

impl Segments {
    /// Finds them.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let names: Vec<String> = std::fs::read_dir(dir)?
            .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
            .collect::<io::Result<_>>()?;
        let found = segments_of(names.iter().map(String::as_str));
        let firsts = found.into_iter().map(|(first, _)| first).collect();
        Ok(Self { dir: dir.to_owned(), firsts })
    }

    /// The numbers of the records that segments begin with.
    pub fn firsts(&self) -> &[u64] {
        &self.firsts
    }

    /// Without the first `count` of them.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.firsts.drain(..count.min(self.firsts.len()));
        self
    }

    /// Opens the segment that begins with record `first`, whichever form it has by now.
    pub fn open(&self, first: u64) -> io::Result<Reader> {
        match File::open(self.dir.join(segment_name(first))) {
            Ok(file) => Ok(Lines::new(Box::new(BufReader::with_capacity(256 * 1024, file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let packed = File::open(self.dir.join(packed_name(first)))?;
                Ok(Lines::new(Box::new(BufReader::with_capacity(
                    256 * 1024,
                    unpacked(BufReader::new(packed))?,
                ))))
            }
            Err(error) => Err(error),
        }
    }

    /// Calls `look` with every line, in order, from the segment on in which `since` falls, until it says that this is enough.
    pub fn each(
        &self,
        since: Option<Timestamp>,
        mut look: impl FnMut(&[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        for first in self.from(since)? {
            let mut lines = self.open(*first)?;
            loop {
                match lines.advance()? {
                    Piece::Line if !look(lines.bytes())? => return Ok(()),
                    Piece::Line | Piece::Torn | Piece::Zeros => {}
                    Piece::End => break,
                }
            }
        }
        Ok(())
    }

    /// The segments from the one on in which `since` falls: the last one that begins before it.
    fn from(&self, since: Option<Timestamp>) -> io::Result<&[u64]> {
        let Some(since) = since else { return Ok(&self.firsts) };
        for (index, first) in self.firsts.iter().enumerate().rev() {
            let mut lines = self.open(*first)?;
            let line = lines.advance()?;
            if line == Piece::Line && time_of(lines.bytes()).is_some_and(|time| time < since) {
                return Ok(self.firsts.get(index..).unwrap_or_default());
            }
        }
        Ok(&self.firsts)
    }
}

/// When a record was written; `None` for a line that is no record.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    parse_time(Frame::parse(line)?.ts)
}
