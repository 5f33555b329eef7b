//! One walk over all records of a log: numbers, links, and the checkpoints made over them.

use std::io;

use serde_json::Value;

use super::{
    checkpoint::Checkpoint,
    journal::BATCH_BYTES_MAX,
    record::hash_of,
    removed::removed,
    segments::{Frame, Head, Piece, Reader, Segments},
    verify::Report,
};

/// A signed checkpoint, from beside the log or copied off it before.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) checkpoint: Checkpoint,
    pub(super) copied: bool,
    /// Which of the keys that are believed signed it.
    pub(super) key: usize,
}

/// What the note of an export says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Export {
    /// The record before its first one, proven by a checkpoint.
    pub(super) begins: Head,
    /// The number of its last record.
    pub(super) last: u64,
}

/// What a control record says about another one.
#[derive(Clone, Copy, Debug)]
struct Removal {
    record: u64,
    /// Where the chain ended that was removed.
    end: Head,
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
    /// What control records say was removed.
    removals: Vec<Removal>,
    /// Records that a later start did not believe, and whether something was missing by then.
    unbelieved: Vec<(u64, bool)>,
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
            self.sealed_once = self.sealed_once.max(self.started).max(1); // the first record is sealed first
        } else if let Ok(said) = serde_json::from_slice::<Value>(line) {
            let number = |key| said.get(key).and_then(Value::as_u64);
            let what = said.get("what").and_then(Value::as_str).unwrap_or_default();
            if what == "started" {
                self.started = frame.seq;
                self.sealed_once = self.sealed_once.max(number("checkpoint_size").unwrap_or(0));
            } else if matches!(what, "damage_found" | "segment_kept") {
                let earlier = number("record").filter(|record| *record < frame.seq);
                self.unbelieved.extend(earlier.map(|record| (record, what == "damage_found")));
            } else if let Some(end) = removed(&said) {
                self.removals.push(Removal { record: frame.seq, end });
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

    /// Up to where the log claims to be sealed, by what it was and by what a removal that would explain its beginning needs.
    pub(super) fn claimed(&self) -> u64 {
        let removal = self.begins.and_then(|begins| self.removal_before(begins));
        self.sealed_once.max(removal.unwrap_or(0))
    }

    /// The first record that says that everything up to `begins` was removed, and that no start has called in question.
    fn removal_before(&self, begins: Head) -> Option<u64> {
        let believed = |record: u64| self.unbelieved.iter().all(|(other, _)| *other != record);
        let fits = |removal: &&Removal| removal.end == begins && believed(removal.record);
        self.removals.iter().filter(fits).map(|removal| removal.record).min()
    }

    pub(super) fn finish(mut self, export: Option<Export>) -> Report {
        self.check_beginning(export.map(|export| export.begins));
        self.check_removals();
        self.check_end(export.map(|export| export.last));
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
        let (removal, covered) = (self.removal_before(begins), own_size(&self.promises));
        let problem = match (export, removal) {
            _ if export.unwrap_or(Head::ORIGIN) == begins => return,
            (_, Some(record)) if record <= covered => return,
            (Some(_), _) => "the export does not begin where its checkpoint says",
            (None, Some(_)) => {
                "what was before is missing, and no checkpoint covers the record that says that it was removed"
            }
            (None, None) if begins.seq == 0 => {
                "the first record claims that there was one before it"
            }
            (None, None) => "what was before is missing, and no record says that it was removed",
        };
        self.report.find(begins.seq + 1, &[], problem);
    }

    /// What a start did not believe stays a finding, also where later removals have passed the gap.
    fn check_removals(&mut self) {
        for Removal { record, end } in &self.removals {
            if self.unbelieved.contains(&(*record, true)) {
                let problem = format!(
                    "it says that records up to {} were removed, which no checkpoint covered when they were found to be missing",
                    end.seq
                );
                self.report.find(*record, &[], problem);
            }
        }
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

    /// No checkpoint may cover more than there is. An export ends where its note says; copies may go on behind that.
    fn check_end(&mut self, export: Option<u64>) {
        let last = self.report.last;
        let later = |promise: &&Promise| {
            promise.copied && export.is_some_and(|last| promise.checkpoint.size > last)
        };
        self.report.later = self.promises.iter().filter(later).count() as u64;
        if let Some(end) = export.filter(|end| *end != last) {
            let problem =
                format!("the export ends with record {last}, and its note says with {end}");
            self.report.find(end.min(last) + 1, &[], problem);
        }
        let beyond = |promise: &&Promise| promise.checkpoint.size > last && !later(promise);
        let Some(promise) = self.promises.iter().rfind(beyond) else { return };
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
