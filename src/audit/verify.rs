//! Says whether a log is what was written: offline, from its files alone, record by record.
//!
//! A chain alone cannot show that its tail was cut off, so the checkpoints beside the log are always used. Whoever can write
//! the directory can cut everything behind the last checkpoint, or put an older copy of everything back: that shows only
//! against a checkpoint that left the machine (`--against`).

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    checkpoint::{CHECKPOINTS, Checkpoint, Entry, Notes, PUBLIC_KEY, PublicKey},
    journal::{Head, ORIGIN},
    lines::{Frame, parse_hash},
    read::{Piece, Reader, Segments},
    record::hash_of,
};

/// The stand-alone verifier that goes with every export.
pub const SCRIPT: &str = include_str!("verify.py");
/// What says that a directory is an export, and where it begins.
pub const EXPORT: &str = "export.json";
/// After so many findings the rest is not listed.
const FINDINGS_MAX: usize = 20;

/// What to verify, and against what.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The log, or an export.
    pub dir: PathBuf,
    /// Public keys to believe instead of those that lie beside the log.
    pub public_key: Option<PathBuf>,
    /// Checkpoints that left the machine.
    pub against: Option<PathBuf>,
}

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
    /// Times of the first and the last record.
    pub times: Option<(String, String)>,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// The last of them.
    pub sealed: Option<(u64, String)>,
    /// Copied checkpoints that agree with the log.
    pub copies: u64,
    /// Copied checkpoints that cover only records that are no longer here.
    pub copies_before: u64,
    /// The keys that were believed.
    pub keys: Vec<String>,
    /// Bytes of an unfinished record at the very end: one that is being written, or that a crash tore.
    pub torn_bytes: u64,
    /// Whether it is an export, so that earlier and later records are elsewhere.
    pub export: bool,
    /// Whether the file of checkpoints ends in the middle of one.
    pub checkpoint_torn: bool,
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

/// Verifies a directory.
///
/// # Errors
/// A sentence where it cannot be read, which says nothing about whether it is good.
pub fn verify(request: &Request) -> Result<Report, String> {
    let dir = &request.dir;
    let mut report = Report::default();
    let keys = keys(request)?;
    report.keys = keys.iter().map(PublicKey::fingerprint).collect();
    let beside = dir.join(CHECKPOINTS);
    // Checkpoints before records: a running gateway may add both meanwhile, and records come first there.
    let own = match load(&beside, &keys, Origin::Beside, &mut report) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result.map_err(|error| format!("{}: {error}", beside.display()))?,
    };
    let copied =
        request.against.as_ref().map(|path| copies(path, &keys, &mut report)).transpose()?;
    let begin = begin(dir, &own)?;
    report.export = begin.is_some();
    let failed = |error| format!("{}: {error}", dir.display());
    let segments = Segments::of(dir).map_err(failed)?;
    if segments.firsts().is_empty() {
        return Err(format!("{}: no segments of an audit log here", dir.display()));
    }
    let mut walk = Walk::new(report, own, copied.unwrap_or_default());
    walk.segments(&segments).map_err(failed)?;
    let report = walk.finish(begin);
    match &request.against {
        Some(path) if report.is_good() && report.copies == 0 => {
            Err(format!("{}: none of its checkpoints covers a record that is here", path.display()))
        }
        _ => Ok(report),
    }
}

fn keys(request: &Request) -> Result<Vec<PublicKey>, String> {
    let beside = request.dir.join(PUBLIC_KEY);
    let path = request.public_key.as_ref().unwrap_or(&beside);
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    PublicKey::parse_all(&text)
        .ok_or_else(|| format!("{}: no public key of an audit log", path.display()))
}

/// Where a file of checkpoints comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Beside,
    Copied,
}

/// Reads checkpoints and keeps those that one of `keys` signed; everything else in the file is a finding.
fn load(
    path: &Path,
    keys: &[PublicKey],
    origin: Origin,
    report: &mut Report,
) -> io::Result<Vec<Checkpoint>> {
    let mut notes = Notes::new(BufReader::new(File::open(path)?));
    let mut found: Vec<Checkpoint> = Vec::new();
    while let Some(entry) = notes.advance()? {
        match entry {
            Entry::Note(note) if note.is_signed_by(keys) => found.push(note.checkpoint),
            Entry::Note(note) => report.find(
                note.checkpoint.size,
                &[],
                format!("a checkpoint in {} is not signed by this log's key", path.display()),
            ),
            // An ordinary log file may hold anything beside the copies.
            Entry::Rubbish(_) if origin == Origin::Copied => {}
            Entry::Rubbish(line) => {
                report.find(0, &[], format!("{}:{line}: not a checkpoint", path.display()));
            }
            Entry::Unfinished(_) => report.checkpoint_torn |= origin == Origin::Beside,
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.size);
    Ok(found)
}

fn copies(path: &Path, keys: &[PublicKey], report: &mut Report) -> Result<Vec<Checkpoint>, String> {
    let findings = report.findings.len();
    let found = load(path, keys, Origin::Copied, report)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() && report.findings.len() == findings {
        return Err(format!("{}: no checkpoint of an audit log", path.display()));
    }
    Ok(found)
}

/// The record before an export's first one, proven by a checkpoint; `None` where this is a log and no export.
fn begin(dir: &Path, own: &[Checkpoint]) -> Result<Option<Head>, String> {
    #[derive(Deserialize)]
    struct Export {
        after: u64,
    }
    let path = dir.join(EXPORT);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let export: Export =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let proven = own.iter().find(|c| c.size == export.after).map(|c| c.hash);
    let nothing = Head { seq: export.after, hash: [0xff; 32] }; // nobody's hash, so that the first link fails
    match (export.after, proven) {
        (0, _) => Ok(Some(ORIGIN)),
        (_, hash) => Ok(Some(hash.map_or(nothing, |hash| Head { hash, ..nothing }))),
    }
}

/// A walk over all records.
struct Walk {
    report: Report,
    own: Promises,
    copied: Promises,
    head: Option<Head>,
    /// The line of `head`.
    line: Vec<u8>,
    /// The first record, and what it says of the one before.
    begins: Option<Head>,
    /// What control records say was removed: the last one's number and hash.
    removed: Vec<Head>,
    suspect: Option<Suspect>,
    ended: bool,
}

/// A link that does not hold: either the record or what the next one says of it was changed. The one after the next tells.
struct Suspect {
    seq: u64,
    line: Vec<u8>,
}

/// Checkpoints, by size, and how many of them were looked at.
struct Promises {
    sorted: Vec<Checkpoint>,
    next: usize,
}

impl Promises {
    /// The checkpoints of exactly `size`; smaller ones are passed by.
    fn at(&mut self, size: u64) -> impl Iterator<Item = &Checkpoint> {
        let rest = self.sorted.get(self.next..).unwrap_or_default();
        let from = self.next + rest.iter().take_while(|c| c.size < size).count();
        let count = self.sorted.iter().skip(from).take_while(|c| c.size == size).count();
        self.next = from + count;
        self.sorted.iter().skip(from).take(count)
    }

    fn beyond(&self, size: u64) -> impl Iterator<Item = &Checkpoint> {
        self.sorted.iter().filter(move |c| c.size > size)
    }

    fn before(&self, size: u64) -> impl Iterator<Item = &Checkpoint> {
        self.sorted.iter().take_while(move |c| c.size < size)
    }
}

impl Walk {
    fn new(report: Report, own: Vec<Checkpoint>, copied: Vec<Checkpoint>) -> Self {
        let promises = |sorted| Promises { sorted, next: 0 };
        Self {
            report,
            own: promises(own),
            copied: promises(copied),
            head: None,
            line: Vec::new(),
            begins: None,
            removed: Vec::new(),
            suspect: None,
            ended: false,
        }
    }

    fn segments(&mut self, segments: &Segments) -> io::Result<()> {
        for (index, first) in segments.firsts().iter().enumerate() {
            let last = index + 1 == segments.firsts().len();
            self.report.segments += 1;
            self.ended = false;
            let mut lines = segments.open(*first)?;
            match self.segment(&mut lines, *first, last) {
                Err(error) if is_damage(&error) => {
                    let next = self.next();
                    let problem = format!("segment {first} cannot be unpacked: {error}");
                    self.report.find(next, &[], problem);
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
        let mut begins = true;
        loop {
            match lines.advance()? {
                Piece::End => return Ok(()),
                Piece::Zeros => self.ended = true,
                Piece::Torn if last && !self.ended => {
                    self.ended = true;
                    self.report.torn_bytes = lines.bytes().len() as u64;
                }
                Piece::Torn | Piece::Line if self.ended => {
                    let next = self.next();
                    self.report.find(
                        next,
                        lines.bytes(),
                        "there is something behind the end of the segment",
                    );
                }
                Piece::Torn => {
                    let next = self.next();
                    self.report.find(next, lines.bytes(), "the record is cut short");
                }
                Piece::Line => {
                    self.record(lines.bytes(), begins.then_some(first));
                    begins = false;
                }
            }
        }
    }

    fn record(&mut self, line: &[u8], begins: Option<u64>) {
        self.report.records += 1;
        let hash = hash_of(line);
        let Some(frame) = Frame::parse(line) else {
            let next = self.next();
            self.report.find(next, line, "this is not a record");
            self.advance(Head { seq: next, hash }, line);
            return;
        };
        if begins.is_some_and(|first| first != frame.seq) {
            self.report.find(frame.seq, line, "its segment's name says another number");
        }
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
        let holds = frame.prev == head.hash;
        self.resolve(holds);
        match frame.seq.checked_sub(head.seq) {
            Some(1) if holds => {}
            Some(1) => self.suspect = Some(Suspect { seq: head.seq, line: self.line.clone() }),
            Some(2..) => {
                let gap = format!("records {} to {} are missing", head.seq + 1, frame.seq - 1);
                self.report.find(head.seq + 1, line, gap);
            }
            _ => {
                let problem =
                    format!("it stands behind record {}, where it does not belong", head.seq);
                self.report.find(frame.seq, line, problem);
            }
        }
    }

    /// The next record decides: where it vouches for the one that did not fit, the one before that was changed.
    fn resolve(&mut self, vouched: bool) {
        let Some(suspect) = self.suspect.take() else { return };
        if vouched {
            let problem =
                format!("its content does not match the hash in record {}", suspect.seq + 1);
            self.report.find(suspect.seq, &suspect.line, problem);
        } else {
            let line = std::mem::take(&mut self.line);
            let problem = format!(
                "its content matches no other record (does not link to record {})",
                suspect.seq
            );
            self.report.find(suspect.seq + 1, &line, problem);
            self.line = line;
        }
    }

    /// What control records say about what is no longer here.
    fn note(&mut self, frame: &Frame<'_>, line: &[u8]) {
        #[derive(Deserialize)]
        struct Removed {
            removed_seq: u64,
            removed_hash: String,
        }
        if frame.kind == "control"
            && let Ok(removed) = serde_json::from_slice::<Removed>(line)
            && let Some(hash) = parse_hash(&removed.removed_hash)
        {
            self.removed.push(Head { seq: removed.removed_seq, hash });
        }
    }

    /// Takes a record as the last one, and holds the checkpoints of this size against it.
    fn advance(&mut self, head: Head, line: &[u8]) {
        for checkpoint in self.own.at(head.seq) {
            if checkpoint.hash != head.hash {
                self.report.find(head.seq, line, over("the checkpoint of", checkpoint));
            }
        }
        for checkpoint in self.copied.at(head.seq) {
            if checkpoint.hash == head.hash {
                self.report.copies += 1;
            } else {
                self.report.find(head.seq, line, over("the copied checkpoint of", checkpoint));
            }
        }
        if self.report.first == 0 {
            self.report.first = head.seq;
        }
        self.report.last = head.seq;
        self.head = Some(head);
        self.line.clear();
        self.line.extend_from_slice(line);
    }

    fn finish(mut self, export: Option<Head>) -> Report {
        self.settle_last();
        self.check_beginning(export);
        self.check_end();
        let (first, own) = (self.begins.map_or(0, |begins| begins.seq + 1), &self.own.sorted);
        self.report.checkpoints = own.len() as u64;
        let last = self.report.last;
        self.report.sealed = own.iter().rfind(|c| c.size <= last).map(|c| (c.size, c.time.clone()));
        self.report.copies_before = self.copied.before(first).count() as u64;
        self.report.findings.sort_by_key(|finding| finding.record);
        self.report
    }

    /// A doubt about the last link: the checkpoint of the last record, where there is one, vouches for it.
    fn settle_last(&mut self) {
        let Some(head) = self.head else { return };
        let vouched = self.own.sorted.iter().any(|c| c.size == head.seq && c.hash == head.hash);
        self.resolve(vouched || self.own.sorted.iter().all(|c| c.size < head.seq));
    }

    /// A log begins with record 1, or where a control record in it says that the rest was removed, or, for an export, behind
    /// a checkpoint.
    fn check_beginning(&mut self, export: Option<Head>) {
        let Some(begins) = self.begins else { return };
        let problem = match export {
            Some(after) if after == begins || self.removed.contains(&begins) => return,
            Some(_) => "the export does not begin where its checkpoint says",
            None if begins == ORIGIN || self.removed.contains(&begins) => return,
            None if begins.seq == 0 => "the first record claims that there was one before it",
            None => "what was before is missing, and no record says that it was removed",
        };
        self.report.find(begins.seq + 1, &[], problem);
    }

    /// No checkpoint may cover more than there is.
    fn check_end(&mut self) {
        let last = self.report.last;
        // An export may end before a copied checkpoint; the log itself may not.
        let nothing = Promises { sorted: Vec::new(), next: 0 };
        let copied = if self.report.export { &nothing } else { &self.copied };
        for (what, promises) in [("a checkpoint", &self.own), ("a copied checkpoint", copied)] {
            if let Some(checkpoint) = promises.beyond(last).last() {
                let Checkpoint { size, time, .. } = checkpoint;
                let problem = format!(
                    "the log ends with record {last}, but {what} of {time} covers {size}: its end was cut off, or an older copy was put in its place"
                );
                self.report.find(last + 1, &[], problem);
            }
        }
    }
}

/// Whether a compressed segment was changed, and not merely a disk unreadable.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
    matches!(error.kind(), Other | InvalidData | UnexpectedEof)
}

fn over(what: &str, checkpoint: &Checkpoint) -> String {
    format!("{what} {} was made over another record", checkpoint.time)
}

/// What a line says of itself, for people, as far as it can be read.
fn describe(line: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        ts: String,
        kind: String,
        source: String,
        event_type: String,
    }
    let said: Said = serde_json::from_slice(line).unwrap_or_default();
    let words = [said.ts, said.source, said.kind, said.event_type];
    let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).map(String::as_str).collect();
    words.join(" ").chars().filter(|c| !super::is_hidden(*c)).take(200).collect()
}
