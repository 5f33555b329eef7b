//! One walk over all records of a log: numbers, links, and the checkpoints made over them.

use std::io;

use serde_json::Value;

use super::{
    checkpoint::Checkpoint,
    journal::BATCH_BYTES_MAX,
    record::hash_of,
    segments::{Frame, Head, Piece, Reader, Segments, parse_hash},
    verify::Report,
};

/// A signed checkpoint, from beside the log or copied off it before.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) checkpoint: Checkpoint,
    pub(super) copied: bool,
}

/// A walk over all records.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    pub(super) report: Report,
    /// By size.
    pub(super) promises: Vec<Promise>,
    /// How many of them were looked at.
    kept: usize,
    head: Option<Head>,
    /// The line of `head`.
    line: Vec<u8>,
    /// What the first record says of the one before.
    begins: Option<Head>,
    /// What control records say was removed: the last one's number and hash.
    removed: Vec<Head>,
    /// Which record the segment that is read begins with, as its name says.
    named: u64,
    /// The `started` of the run whose records are being read.
    started: u64,
    /// The last record of which the log itself shows that a checkpoint covered it: every run is sealed behind its
    /// `started`, and every segment before the next one begins.
    pub(super) sealed_once: u64,
}

impl Walk {
    pub(super) fn new(report: Report, promises: Vec<Promise>) -> Self {
        Self { report, promises, ..Self::default() }
    }

    pub(super) fn segments(&mut self, segments: &Segments) -> io::Result<()> {
        let last = segments.firsts().next_back();
        for first in segments.firsts() {
            self.report.segments += 1;
            self.named = first;
            self.sealed_once = self.head.map_or(0, |head| head.seq);
            let mut lines = segments.open(first, 0)?;
            match self.segment(&mut lines, first, last == Some(first)) {
                Err(error) if is_damage(&error) => {
                    let problem = format!("segment {first} cannot be unpacked: {error}");
                    self.report.find(self.next(), &[], problem);
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        self.head.map_or(self.named, |head| head.seq + 1)
    }

    fn segment(&mut self, lines: &mut Reader, first: u64, last: bool) -> io::Result<()> {
        let mut begins = Some(first);
        let mut torn = None;
        loop {
            let end = lines.end();
            let piece = lines.advance()?;
            if last && torn.is_none() && is_unfinished(piece, lines.bytes()) && self.may_be_torn() {
                torn = Some((end, self.clone()));
            }
            match piece {
                Piece::Line => self.record(lines.bytes(), begins.take()),
                Piece::Torn => {
                    self.report.find(self.next(), lines.bytes(), "the record is cut short");
                }
                Piece::End => break,
            }
        }
        // What begins like one unfinished batch, and is no longer than one, was never there.
        if let Some((end, before)) = torn
            && lines.end() - end <= BATCH_BYTES_MAX as u64
        {
            *self = before;
            self.report.torn_bytes = lines.end() - end;
        }
        Ok(())
    }

    /// Whether nothing that comes now was ever said to be whole.
    fn may_be_torn(&self) -> bool {
        let last = self.head.map_or(0, |head| head.seq);
        self.promises.iter().all(|promise| promise.checkpoint.size <= last)
    }

    fn record(&mut self, line: &[u8], begins: Option<u64>) {
        self.report.records += 1;
        let hash = hash_of(line);
        let Some(frame) = Frame::parse(line) else {
            self.report.find(self.next(), line, "this is not a record");
            return self.advance(Head { seq: self.next(), hash }, line);
        };
        if let Some(first) = begins.filter(|first| *first != frame.seq) {
            let problem =
                format!("it says that it is {}, its segment's name says {first}", frame.seq);
            self.report.find(first, line, problem);
        }
        if self.head.is_none() {
            frame.ts.clone_into(&mut self.report.times.0);
        }
        frame.ts.clone_into(&mut self.report.times.1);
        self.link(&frame, line);
        self.note(&frame, line);
        self.advance(Head { seq: frame.seq, hash }, line);
    }

    /// Number and link: does this record follow the last one?
    fn link(&mut self, frame: &Frame<'_>, line: &[u8]) {
        let Some(head) = self.head else {
            self.begins = Some(Head { seq: frame.seq.saturating_sub(1), hash: frame.prev });
            return;
        };
        let (seq, report) = (frame.seq, &mut self.report);
        match seq.checked_sub(head.seq) {
            Some(1) if frame.prev == head.hash => {}
            Some(1) => {
                let problem = format!("its content does not match the hash in record {seq}");
                report.find(head.seq, &self.line, problem);
            }
            Some(2..) => {
                let (from, to) = (head.seq + 1, seq - 1);
                report.find(from, line, format!("records {from} to {to} are missing"));
            }
            _ => {
                let place = head.seq + 1;
                let problem = format!("here stands record {seq}, where it does not belong");
                report.find(place, line, problem);
            }
        }
    }

    /// What control records say about what is no longer here.
    fn note(&mut self, frame: &Frame<'_>, line: &[u8]) {
        if frame.kind != "control" {
            self.sealed_once = self.sealed_once.max(self.started);
        } else if let Ok(said) = serde_json::from_slice::<Value>(line) {
            let number = |key| said.get(key).and_then(Value::as_u64);
            if said.get("what").and_then(Value::as_str) == Some("started") {
                self.started = frame.seq;
                self.sealed_once = self.sealed_once.max(number("checkpoint_size").unwrap_or(0));
            }
            if let Some(seq) = number("removed_seq")
                && let Some(hash) = said.get("removed_hash").and_then(Value::as_str)
                && let Some(hash) = parse_hash(hash)
            {
                self.removed.push(Head { seq, hash });
            }
        }
    }

    /// Takes a record as the last one, and holds the checkpoints of this size against it.
    fn advance(&mut self, head: Head, line: &[u8]) {
        while let Some(promise) = self.promises.get(self.kept)
            && promise.checkpoint.size <= head.seq
        {
            self.kept += 1;
            let Checkpoint { size, hash, time } = &promise.checkpoint;
            if *size == head.seq && *hash == head.hash {
                self.report.copies += u64::from(promise.copied);
            } else if *size == head.seq {
                let what = if promise.copied { "the copied checkpoint" } else { "the checkpoint" };
                let problem = format!("{what} of {time} was made over another record");
                self.report.find(head.seq, line, problem);
            }
        }
        if self.head.is_none() {
            self.report.first = head.seq;
        }
        self.report.last = head.seq;
        self.head = Some(head);
        self.line.clear();
        self.line.extend_from_slice(line);
    }

    pub(super) fn finish(mut self, export: Option<Head>) -> Report {
        self.check_beginning(export);
        self.check_end();
        self.check_checkpoints();
        let own = self.promises.iter().filter(|promise| !promise.copied).map(|p| &p.checkpoint);
        self.report.checkpoints = own.clone().count();
        let sealed = own.rev().find(|c| c.size <= self.report.last);
        self.report.sealed = sealed.map(|c| (c.size, c.time.clone()));
        self.report.findings.sort_by_key(|finding| finding.record);
        self.report
    }

    /// A log begins with record 1, or where a control record in it says that the rest was removed, or, for an export, behind
    /// a checkpoint.
    fn check_beginning(&mut self, export: Option<Head>) {
        let Some(begins) = self.begins else { return };
        let problem = match export {
            _ if self.removed.contains(&begins) || export.unwrap_or(Head::ORIGIN) == begins => {
                return;
            }
            Some(_) => "the export does not begin where its checkpoint says",
            None if begins.seq == 0 => "the first record claims that there was one before it",
            None => "what was before is missing, and no record says that it was removed",
        };
        self.report.find(begins.seq + 1, &[], problem);
    }

    /// A log that was sealed keeps the checkpoint that says so.
    fn check_checkpoints(&mut self) {
        let (size, once) = (own_size(&self.promises), self.sealed_once);
        if size < once {
            let problem = format!(
                "the log was sealed up to record {once} at least, but no checkpoint covers more than {size}: they were removed"
            );
            self.report.find(size + 1, &[], problem);
        }
    }

    /// No checkpoint may cover more than there is; only an export may end before a copied one.
    fn check_end(&mut self) {
        let (last, export) = (self.report.last, self.report.export);
        let beyond = |promise: &&Promise| promise.checkpoint.size > last;
        let counts = |promise: &&Promise| !(promise.copied && export);
        let Some(promise) = self.promises.iter().filter(beyond).rfind(counts) else { return };
        let what = if promise.copied { "a copied checkpoint" } else { "a checkpoint" };
        let Checkpoint { size, time, .. } = &promise.checkpoint;
        let problem = format!(
            "the log ends with record {last}, but {what} of {time} covers {size}: its end was cut off, or an older copy was put in its place"
        );
        self.report.find(last + 1, &[], problem);
    }
}

/// How much the checkpoints beside the log cover.
pub(super) fn own_size(promises: &[Promise]) -> u64 {
    let own = promises.iter().filter(|promise| !promise.copied);
    own.map(|promise| promise.checkpoint.size).max().unwrap_or(0)
}

/// Whether a part of this piece never reached the disk: zeros are in its place, or nothing.
fn is_unfinished(piece: Piece, bytes: &[u8]) -> bool {
    piece == Piece::Torn || bytes.contains(&0)
}

/// Whether a compressed segment was changed, and not merely a disk unreadable.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
    matches!(error.kind(), Other | InvalidData | UnexpectedEof)
}
