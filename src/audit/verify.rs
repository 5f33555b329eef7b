//! Says whether a log is what was written: offline, from its files alone, record by record.
//!
//! A chain alone cannot show that its tail was cut off, so the checkpoints beside the log are always used. Whoever can write
//! the directory can cut everything behind the last checkpoint, or put an older copy of everything back: that shows only
//! against a checkpoint that left the machine (`--against`).

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use serde_json::Value;

use super::{
    checkpoint::{CHECKPOINTS, Checkpoint, PUBLIC_KEY, PublicKey, each_note},
    record::hash_of,
    segments::{Frame, Head, Piece, Reader, Segments, parse_hash},
};
use crate::event::is_hidden;

/// The stand-alone verifier that goes with every export.
pub(super) const SCRIPT: &str = include_str!("verify.py");
/// What says that a directory is an export, and where it begins.
pub(super) const EXPORT: &str = "export.json";
/// After so many findings the rest is not listed.
const FINDINGS_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the log; empty for a good one.
    pub findings: Vec<Finding>,
    /// Segments read.
    pub segments: usize,
    /// Records read.
    pub records: u64,
    /// The first record that is there.
    pub first: u64,
    /// The last record that is there.
    pub last: u64,
    /// When the first and the last record were written, as they say.
    pub times: (String, String),
    /// Checkpoints whose signature holds.
    pub checkpoints: usize,
    /// The last of them: the record that it covers, and its time.
    pub sealed: Option<(u64, String)>,
    /// Copied checkpoints that agree with the log.
    pub copies: u64,
    /// The keys that were believed.
    pub keys: Vec<String>,
    /// Bytes of an unfinished record at the very end: one that is being written, or that a crash tore.
    pub torn_bytes: u64,
    /// Whether it is an export, so that earlier and later records are elsewhere.
    pub export: bool,
}

/// Something that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The record it is about.
    pub record: u64,
    /// What it says of itself: time, source, type.
    pub about: String,
    /// What is wrong.
    pub problem: String,
}

impl Report {
    /// Whether everything fits together.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// Records behind the last checkpoint: they can be cut off without anybody noticing.
    pub fn unanchored(&self) -> u64 {
        self.last.saturating_sub(self.sealed.as_ref().map_or(0, |(size, _)| *size))
    }

    fn find(&mut self, record: u64, line: &[u8], problem: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let finding = Finding { record, about: describe(line), problem: problem.into() };
            self.findings.push(finding);
        }
    }
}

/// Verifies a directory that is a log or an export, with the keys in `public_key` in place of those that lie beside it, and
/// `against` checkpoints that left the machine.
///
/// # Errors
/// A sentence where it cannot be read, which says nothing about whether it is good.
pub fn verify(
    dir: &Path,
    public_key: Option<&Path>,
    against: Option<&Path>,
) -> Result<Report, String> {
    let mut report = Report::default();
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let keys = keys(public_key.unwrap_or(&dir.join(PUBLIC_KEY)))?;
    report.keys = keys.iter().map(PublicKey::fingerprint).collect();
    let beside = dir.join(CHECKPOINTS);
    // Checkpoints before records: a running gateway may add both meanwhile, and records come first there.
    let mut promises = match load(&beside, false, &keys, &mut report) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result.map_err(failed(&beside))?,
    };
    let begin = begin(dir, &promises)?;
    report.export = begin.is_some();
    if let Some(path) = against {
        let copied = load(path, true, &keys, &mut report).map_err(failed(path))?;
        if copied.is_empty() && report.is_good() {
            return Err(format!("{}: no checkpoint of an audit log", path.display()));
        }
        promises.extend(copied);
    }
    promises.sort_by_key(|promise| promise.checkpoint.size);
    let segments = Segments::of(dir).map_err(failed(dir))?;
    if segments.firsts().next().is_none() {
        return Err(format!("{}: no segments of an audit log here", dir.display()));
    }
    let mut walk = Walk { report, promises, ..Walk::default() };
    walk.segments(&segments).map_err(failed(dir))?;
    let report = walk.finish(begin);
    match against {
        Some(path) if report.is_good() && report.copies == 0 => {
            Err(format!("{}: none of its checkpoints covers a record that is here", path.display()))
        }
        _ => Ok(report),
    }
}

fn keys(path: &Path) -> Result<Vec<PublicKey>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    PublicKey::parse_all(&text)
        .ok_or_else(|| format!("{}: no public key of an audit log", path.display()))
}

/// A signed checkpoint, from beside the log or copied off it before.
#[derive(Debug)]
struct Promise {
    checkpoint: Checkpoint,
    copied: bool,
}

/// Reads checkpoints and keeps those that one of `keys` signed; everything else in the file is a finding.
fn load(
    path: &Path,
    copied: bool,
    keys: &[PublicKey],
    report: &mut Report,
) -> io::Result<Vec<Promise>> {
    let (mut found, mut number) = (Vec::new(), 0);
    each_note(BufReader::new(File::open(path)?), |line, note| {
        number += 1;
        match note {
            Some(note) if note.is_signed_by(keys) => {
                found.push(Promise { checkpoint: note.checkpoint, copied });
            }
            Some(note) => {
                let place = path.display();
                let problem = format!("a checkpoint in {place} is not signed by this log's key");
                report.find(note.checkpoint.size, &[], problem);
            }
            // An ordinary log file may hold anything beside the copies, and the last line may be unfinished.
            None if copied || !line.ends_with(b"\n") => {}
            None => report.find(0, &[], format!("{}:{number}: not a checkpoint", path.display())),
        }
        Ok(())
    })?;
    Ok(found)
}

/// The record before an export's first one, proven by a checkpoint; `None` where this is a log and no export.
fn begin(dir: &Path, own: &[Promise]) -> Result<Option<Head>, String> {
    let path = dir.join(EXPORT);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let export: Value = serde_json::from_str(&text).unwrap_or_default();
    let unreadable = || format!("{}: not the note of an export", path.display());
    let seq = export.get("after").and_then(Value::as_u64).ok_or_else(unreadable)?;
    if seq == 0 {
        return Ok(Some(Head::ORIGIN));
    }
    let proven = own.iter().map(|promise| &promise.checkpoint).find(|c| c.size == seq);
    let hash = proven.map_or([0xff; 32], |c| c.hash); // nobody's hash, so that the first link fails
    Ok(Some(Head { seq, hash }))
}

/// A walk over all records.
#[derive(Debug, Default)]
struct Walk {
    report: Report,
    /// By size.
    promises: Vec<Promise>,
    /// How many of them were looked at.
    kept: usize,
    head: Option<Head>,
    /// The line of `head`.
    line: Vec<u8>,
    /// What the first record says of the one before.
    begins: Option<Head>,
    /// What control records say was removed: the last one's number and hash.
    removed: Vec<Head>,
}

impl Walk {
    fn segments(&mut self, segments: &Segments) -> io::Result<()> {
        let last = segments.firsts().next_back();
        for first in segments.firsts() {
            self.report.segments += 1;
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
        self.head.map_or(1, |head| head.seq + 1)
    }

    fn segment(&mut self, lines: &mut Reader, first: u64, last: bool) -> io::Result<()> {
        let mut begins = Some(first);
        loop {
            match lines.advance()? {
                Piece::End => return Ok(()),
                Piece::Line if self.report.torn_bytes == 0 => {
                    self.record(lines.bytes(), begins.take());
                }
                Piece::Torn if last && self.report.torn_bytes == 0 => {
                    self.report.torn_bytes = lines.bytes().len() as u64;
                }
                Piece::Torn if !last => {
                    self.report.find(self.next(), lines.bytes(), "the record is cut short");
                }
                Piece::Torn | Piece::Line => {
                    let problem = "there is something behind the end of the segment";
                    self.report.find(self.next(), lines.bytes(), problem);
                }
            }
        }
    }

    fn record(&mut self, line: &[u8], begins: Option<u64>) {
        self.report.records += 1;
        let hash = hash_of(line);
        let Some(frame) = Frame::parse(line) else {
            self.report.find(self.next(), line, "this is not a record");
            return self.advance(Head { seq: self.next(), hash }, line);
        };
        if begins.is_some_and(|first| first != frame.seq) {
            self.report.find(frame.seq, line, "its segment's name says another number");
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
                let problem =
                    format!("it stands behind record {}, where it does not belong", head.seq);
                report.find(seq, line, problem);
            }
        }
    }

    /// What control records say about what is no longer here.
    fn note(&mut self, frame: &Frame<'_>, line: &[u8]) {
        if frame.kind == "control"
            && let Ok(said) = serde_json::from_slice::<Value>(line)
            && let Some(seq) = said.get("removed_seq").and_then(Value::as_u64)
            && let Some(Value::String(hash)) = said.get("removed_hash")
            && let Some(hash) = parse_hash(hash)
        {
            self.removed.push(Head { seq, hash });
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

    fn finish(mut self, export: Option<Head>) -> Report {
        self.check_beginning(export);
        self.check_end();
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

/// Whether a compressed segment was changed, and not merely a disk unreadable.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
    matches!(error.kind(), Other | InvalidData | UnexpectedEof)
}

/// What a line says of itself, for people, as far as it can be read.
fn describe(line: &[u8]) -> String {
    let said: Value = serde_json::from_slice(line).unwrap_or_default();
    let words = ["ts", "source", "kind", "event_type"];
    let words: Vec<_> = words.iter().filter_map(|key| said.get(key)?.as_str()).collect();
    words.join(" ").chars().filter(|c| !is_hidden(*c)).take(200).collect()
}
