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
    checkpoint::{CHECKPOINTS, PUBLIC_KEY, PublicKey, each_note, is_half_written},
    segments::{Head, Segments},
    walk::{Promise, Walk, own_size},
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
    /// Bytes of an unfinished batch at the very end: one that is being written, or that a crash tore. The next start cuts it.
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

    pub(super) fn find(&mut self, record: u64, line: &[u8], problem: impl Into<String>) {
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
    let mut walk = Walk::new(report, promises);
    walk.segments(&segments).map_err(failed(dir))?;
    let covered = own_size(&walk.promises);
    if covered < walk.sealed_once {
        let later = load(&beside, false, &keys, &mut Report::default()).unwrap_or_default();
        if own_size(&later) > covered {
            // A running gateway added a checkpoint and what follows it meanwhile.
            return verify(dir, public_key, against);
        }
    }
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

/// Reads checkpoints and keeps those that one of `keys` signed; everything else in the file is a finding.
fn load(
    path: &Path,
    copied: bool,
    keys: &[PublicKey],
    report: &mut Report,
) -> io::Result<Vec<Promise>> {
    let (mut found, mut number, mut torn) = (Vec::new(), 0, false);
    let problem = |number| format!("{}:{number}: not a checkpoint", path.display());
    each_note(BufReader::new(File::open(path)?), |line, note| {
        if std::mem::take(&mut torn) {
            report.find(0, &[], problem(number));
        }
        number += 1;
        // Only copies may stand in something else.
        match note.filter(|note| copied || note.is_alone) {
            Some(note) if note.is_signed_by(keys) => {
                found.push(Promise { checkpoint: note.checkpoint, copied });
            }
            Some(note) => {
                let place = path.display();
                let problem = format!("a checkpoint in {place} is not signed by this log's key");
                report.find(note.checkpoint.size, &[], problem);
            }
            // An ordinary log file may hold anything beside the copies, and the last line may be unfinished.
            None if copied => {}
            None if is_half_written(line) => torn = true,
            None => report.find(0, &[], problem(number)),
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

/// What a line says of itself, for people, as far as it can be read.
fn describe(line: &[u8]) -> String {
    let said: Value = serde_json::from_slice(line).unwrap_or_default();
    let words = ["ts", "source", "kind", "event_type"];
    let words: Vec<_> = words.iter().filter_map(|key| said.get(key)?.as_str()).collect();
    words.join(" ").chars().filter(|c| !is_hidden(*c)).take(200).collect()
}
