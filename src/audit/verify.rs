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
    checkpoint::{CHECKPOINTS, PUBLIC_KEY, PublicKey, Signer, each_note, is_half_written},
    segments::{Head, SEQ_MAX, Segments},
    walk::{Export, Promise, Walk, own_size},
};
use crate::event::is_hidden;

/// The stand-alone verifier that goes with every export.
pub(super) const SCRIPT: &str = include_str!("verify.py");
/// What says that a directory is an export, and where it begins.
pub(super) const EXPORT: &str = "export.json";
/// After so many findings the rest is not listed.
const FINDINGS_MAX: usize = 20;

/// What is verified, and what is believed meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where the records are.
    pub dir: &'a Path,
    /// Whether that may be an export. Who asks says so: whoever can write a log's directory can put the note of an export there.
    pub may_be_export: bool,
    /// Public keys to believe in place of those that lie beside the records.
    pub public_key: Option<&'a Path>,
    /// The key that seals this log: what lies beside the records may be anybody's.
    pub signing_key: Option<&'a Path>,
    /// Checkpoints that left the machine.
    pub against: Option<&'a Path>,
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
    /// When the first and the last record were written, as they say.
    pub times: (String, String),
    /// Checkpoints whose signature holds.
    pub checkpoints: usize,
    /// The last of them: the record that it covers, and its time.
    pub sealed: Option<(u64, String)>,
    /// Copied checkpoints that agree with the log.
    pub copies: u64,
    /// Copied checkpoints of records behind the end of an export.
    pub later: u64,
    /// Checkpoints among the copies that are of other logs.
    pub others: u64,
    /// The keys that were believed.
    pub keys: Vec<String>,
    /// Who says that they are this log's.
    pub keys_from: String,
    /// The key that seals this log, where that is known.
    pub own_key: Option<String>,
    /// Other keys that signed checkpoints of it, and how many each.
    pub other_keys: Vec<(String, usize)>,
    /// Bytes of an unfinished batch at the very end: one that is being written, or that a crash tore. The next start cuts it.
    pub torn_bytes: u64,
    /// The first and the last record that an export says it has: earlier and later ones are elsewhere.
    pub export: Option<(u64, u64)>,
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

/// Verifies the log in a directory, with the keys in `public_key` in place of those that lie beside it, and `against` checkpoints
/// that left the machine.
///
/// # Errors
/// A sentence where it cannot be read, which says nothing about whether it is good.
pub fn verify(
    dir: &Path,
    public_key: Option<&Path>,
    against: Option<&Path>,
) -> Result<Report, String> {
    Asked { dir, may_be_export: false, public_key, signing_key: None, against }.verify()
}

impl Asked<'_> {
    /// Verifies it.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(&self) -> Result<Report, String> {
        let Self { dir, against, .. } = *self;
        let mut report = Report::default();
        let (keys, own) = self.keys(&mut report)?;
        let beside = dir.join(CHECKPOINTS);
        // Checkpoints before records: a running gateway may add both meanwhile, and records come first there.
        let mut promises = match load(&beside, false, &keys, &mut report) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            result => result.map_err(failed(&beside))?,
        };
        if let Some(own) = own {
            weigh(own, &keys, &promises, &mut report);
        }
        let export = self.export(&promises, &mut report)?;
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
        if own_size(&walk.promises) < walk.claimed() {
            let later = load(&beside, false, &keys, &mut Report::default()).unwrap_or_default();
            if own_size(&later) >= walk.claimed() {
                // A running gateway added a checkpoint and what follows it meanwhile.
                return self.verify();
            }
        }
        let report = walk.finish(export);
        match against {
            Some(path) if report.is_good() && report.copies == 0 => Err(format!(
                "{}: none of its checkpoints covers a record that is here",
                path.display()
            )),
            _ => Ok(report),
        }
    }

    /// The keys that are believed, and which of them seals this log, where that is known.
    fn keys(&self, report: &mut Report) -> Result<(Vec<PublicKey>, Option<usize>), String> {
        let beside = self.dir.join(PUBLIC_KEY);
        let path = self.public_key.unwrap_or(&beside);
        let text = std::fs::read_to_string(path).map_err(failed(path))?;
        let keys = PublicKey::parse_all(&text);
        let none = || format!("{}: no public key of an audit log", path.display());
        let mut keys = keys.ok_or_else(none)?;
        report.keys_from = path.display().to_string();
        let signing_key = self.signing_key.filter(|_| self.public_key.is_none());
        let own = match signing_key.map(Signer::public_half) {
            None => None,
            Some(Err(why)) => {
                let place = &report.keys_from;
                report.keys_from = format!("{place} (audit.checkpoint.key cannot be read: {why})");
                None
            }
            Some(Ok(own)) => {
                report.own_key = Some(own.fingerprint());
                let known = keys.iter().position(|key| *key == own);
                known.or_else(|| {
                    keys.push(own);
                    Some(keys.len() - 1)
                })
            }
        };
        report.keys = keys.iter().map(PublicKey::fingerprint).collect();
        Ok((keys, own))
    }

    /// The note of an export; `None` where this is a log.
    fn export(&self, own: &[Promise], report: &mut Report) -> Result<Option<Export>, String> {
        let path = self.dir.join(EXPORT);
        let found = std::fs::read_to_string(&path);
        if !self.may_be_export && path.symlink_metadata().is_ok() {
            let problem =
                format!("somebody put {EXPORT} here: this is a log, and no export of one");
            report.find(0, &[], problem);
        }
        let text = match found {
            Ok(text) if self.may_be_export => text,
            Err(error) if self.may_be_export && error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&path)(error));
            }
            _ => return Ok(None),
        };
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let number =
            |key| said.get(key).and_then(Value::as_u64).filter(|number| *number <= SEQ_MAX);
        let (Some(seq), Some(last)) = (number("after"), number("last")) else {
            return Err(format!("{}: not the note of an export", path.display()));
        };
        report.export = Some((seq + 1, last));
        let proven = own.iter().map(|promise| &promise.checkpoint).find(|c| c.size == seq);
        let hash = proven.map_or([0xff; 32], |c| c.hash); // nobody's hash, so that the first link fails
        let begins = if seq == 0 { Head::ORIGIN } else { Head { seq, hash } };
        Ok(Some(Export { begins, last }))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

/// Holds against each other who sealed a log and who should have. Keys are replaced, so that others may have, but not last.
fn weigh(own: usize, keys: &[PublicKey], promises: &[Promise], report: &mut Report) {
    let signed = |by: usize| promises.iter().filter(move |promise| promise.key == by);
    let size = own_size(promises);
    let others = (0..keys.len()).filter(|by| *by != own).map(|by| (by, signed(by).count()));
    for (by, count) in others.filter(|(_, count)| *count > 0) {
        report.other_keys.extend(keys.get(by).map(|key| (key.fingerprint(), count)));
    }
    if size > 0 && !signed(own).any(|promise| promise.checkpoint.size == size) {
        let problem = "the newest checkpoint is signed by another key than audit.checkpoint.key: somebody else sealed the log, or the key was replaced and the gateway has not been started since";
        report.find(size, &[], problem);
    }
}

/// Reads checkpoints and keeps those that one of `keys` signed; everything else in the file is a finding.
fn load(
    path: &Path,
    copied: bool,
    keys: &[PublicKey],
    report: &mut Report,
) -> io::Result<Vec<Promise>> {
    let (mut found, mut number, mut torn) = (Vec::new(), 0, false);
    let (mut foreign, mut foreigners) = (0, Report::default());
    let problem = |number| format!("{}:{number}: not a checkpoint", path.display());
    each_note(BufReader::new(File::open(path)?), |line, note| {
        if std::mem::take(&mut torn) {
            report.find(0, &[], problem(number));
        }
        number += 1;
        // Only copies may stand in something else.
        let Some(note) = note.filter(|note| copied || note.is_alone) else {
            match copied {
                true => {} // an ordinary log file may hold anything
                false if is_half_written(line) => torn = true,
                false => report.find(0, &[], problem(number)),
            }
            return Ok(());
        };
        let unsigned = || {
            let place = path.display();
            format!("a checkpoint in {place} is not signed by this log's key")
        };
        if let Some(key) = note.signer(keys) {
            found.push(Promise { checkpoint: note.checkpoint, copied, key });
        } else if copied && !note.names(keys) {
            // Several gateways may write into one file.
            foreign += 1;
            foreigners.find(note.checkpoint.size, &[], unsigned());
        } else {
            report.find(note.checkpoint.size, &[], unsigned());
        }
        Ok(())
    })?;
    if found.is_empty() {
        report.findings.extend(foreigners.findings);
        report.findings.truncate(FINDINGS_MAX);
    } else {
        report.others += foreign;
    }
    Ok(found)
}

/// What a line says of itself, for people, as far as it can be read.
fn describe(line: &[u8]) -> String {
    let said: Value = serde_json::from_slice(line).unwrap_or_default();
    let words = ["ts", "source", "kind", "event_type"];
    let words: Vec<_> = words.iter().filter_map(|key| said.get(key)?.as_str()).collect();
    words.join(" ").chars().filter(|c| !is_hidden(*c)).take(200).collect()
}
