//! Logs to tamper with, and what both verifiers say of them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use gatepost::{
    audit::{Params, export, open_on, storage::Directory, verify},
    event::Timestamp,
    telemetry::Metrics,
};

use crate::{
    audit_world::{attempt, by_hand, params},
    workload::{BEGIN_MILLIS, directory},
};

/// What a verifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Good, but for the end, which was not written whole.
    Torn,
    /// The records at which something is wrong.
    Tampered(Vec<u64>),
    CannotTell,
}

impl Verdict {
    /// Whether something is wrong at this record or beside it.
    pub fn finds(&self, record: u64) -> bool {
        let near = |found: &u64| found.abs_diff(record) <= 1;
        matches!(self, Self::Tampered(found) if found.iter().any(near))
    }
}

/// The files of a log.
#[derive(Clone, Debug)]
pub struct Log {
    files: BTreeMap<String, Vec<u8>>,
    /// The file of its last records.
    pub segment: String,
    /// Its first record.
    pub first: u64,
}

/// A log's home below `root`.
pub fn world(root: &Path, change: impl FnOnce(&mut Params)) -> Params {
    let mut params = params(root);
    params.fsync = false;
    change(&mut params);
    params
}

/// Opens the log, records these events, and closes it.
pub fn fill(params: &Params, events: Range<u32>) {
    fill_at(params, events, Timestamp::now());
}

fn fill_at(params: &Params, events: Range<u32>, at: Timestamp) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let disk = Arc::new(Directory::open(&params.dir).expect("a directory"));
    let log = open_on(disk, params, Metrics::new().audit(), Arc::new(move || at)).expect("a log");
    for n in events {
        runtime.block_on(log.append(attempt(n))).expect("durable");
    }
    drop(log);
}

fn second(number: u32) -> Timestamp {
    Timestamp::from_millis(BEGIN_MILLIS + 1000 * i64::from(number))
}

impl Log {
    pub fn read(dir: &Path) -> Self {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files: BTreeMap<String, Vec<u8>> = entries
            .filter(|path| !path.ends_with("lock"))
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(&path).unwrap())
            })
            .collect();
        let segment = files.keys().rfind(|name| name.starts_with("segment-")).unwrap().clone();
        let first = segment[8..28].parse().unwrap();
        Self { files, segment, first }
    }

    /// A log of `count` records in all, sealed at its end.
    pub fn of(count: u32) -> Self {
        Self::sealed_every(count, count)
    }

    /// The same, sealed after each `step` records.
    pub fn sealed_every(count: u32, step: u32) -> Self {
        let home = directory();
        let params = world(home.path(), |_| {});
        for begin in (0..count).step_by(step as usize) {
            let events = begin..begin + step - 2; // and `started`, and `stopped`
            fill_at(&params, events, second(begin));
        }
        Self::read(&params.dir)
    }

    /// What was recorded in one second, exported by itself: `count` parts, `step` seconds apart.
    pub fn parts(&self, count: u32, step: u32) -> Vec<Self> {
        let (home, out) = (directory(), directory());
        self.put(home.path());
        let part = |number: u32| {
            let (place, begin) = (out.path().join(number.to_string()), number * step);
            let (since, until) = (Some(second(begin)), Some(second(begin + 1)));
            export::export(home.path(), &place, since, until).expect("exported");
            Self::read(&place)
        };
        (0..count).map(part).collect()
    }

    pub fn put(&self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in &self.files {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.files[&self.segment].clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    pub fn checkpoints(&self) -> String {
        String::from_utf8(self.files["checkpoints"].clone()).unwrap()
    }

    /// The records that segments begin with.
    pub fn firsts(&self) -> Vec<u64> {
        let segments = self.files.keys().filter(|name| name.starts_with("segment-"));
        segments.map(|name| name[8..28].parse().unwrap()).collect()
    }

    pub fn with(&self, name: &str, bytes: Vec<u8>) -> Self {
        let mut log = self.clone();
        log.files.insert(name.to_owned(), bytes);
        log
    }

    pub fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        self.with(&self.segment, bytes)
    }

    pub fn with_lines(&self, lines: &[&str]) -> Self {
        self.with_bytes(lines.concat().into_bytes())
    }

    pub fn with_checkpoints(&self, text: String) -> Self {
        self.with("checkpoints", text.into_bytes())
    }

    pub fn with_checkpoint_bytes(&self, bytes: Vec<u8>) -> Self {
        self.with("checkpoints", bytes)
    }

    pub fn without_checkpoints(&self) -> Self {
        self.without("checkpoints")
    }

    pub fn without(&self, name: &str) -> Self {
        let mut log = self.clone();
        log.files.remove(name);
        log
    }

    /// What a file holds.
    pub fn file(&self, name: &str) -> String {
        String::from_utf8(self.files[name].clone()).unwrap()
    }

    /// The names of segments.
    pub fn segments(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.starts_with("segment-")).cloned().collect()
    }

    /// Bytes of an unfinished record at the end.
    pub fn torn(&self) -> u64 {
        let bytes = &self.files[&self.segment];
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        (bytes.len() - end) as u64
    }

    /// How many records are not sealed, and bytes of an unfinished one, as our verifier says.
    pub fn tail(&self) -> (u64, u64) {
        let home = directory();
        self.put(home.path());
        let report = verify::verify(home.path(), None, None).unwrap();
        (report.unanchored(), report.torn_bytes)
    }
}

pub fn ours(dir: &Path, against: Option<&Path>) -> Verdict {
    match by_hand(dir, against) {
        Err(_) => Verdict::CannotTell,
        Ok(report) if report.is_good() && report.torn_bytes > 0 => Verdict::Torn,
        Ok(report) if report.is_good() => Verdict::Good,
        Ok(report) => Verdict::Tampered(positions(report.findings.iter().map(|f| f.record))),
    }
}

pub fn positions(records: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut records: Vec<u64> = records.collect();
    records.sort_unstable();
    records.dedup();
    records
}

/// What both verifiers say of each log, alone or against copied checkpoints.
pub fn judge(logs: &[(&Log, Option<&str>)]) -> Vec<(Verdict, Verdict)> {
    let home = directory();
    let mut asked = String::new();
    let mut first = Vec::new();
    for (number, (log, against)) in logs.iter().enumerate() {
        let place = home.path().join(number.to_string());
        fs::create_dir(&place).unwrap();
        log.put(&place);
        let copy = against.map(|text| {
            let copy = place.with_extension("copy");
            fs::write(&copy, text).unwrap();
            copy
        });
        first.push(ours(&place, copy.as_deref()));
        let args = [Some(place), copy].map(|path| path.map(|path| path.display().to_string()));
        asked.push_str(&format!("{}\n", serde_json::json!(args)));
    }
    first.into_iter().zip(theirs(home.path(), &asked)).collect()
}

/// Asks the verifier that goes with an export, as one process.
fn theirs(dir: &Path, asked: &str) -> Vec<Verdict> {
    let script = dir.join("verify.py");
    fs::write(&script, include_str!("../../src/audit/verify.py")).unwrap();
    let mut python = Command::new("python3")
        .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/verify_many.py")])
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut stdin = python.stdin.take().unwrap();
    let asked = asked.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let out = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let verdict = |line: &str| {
        let said: (Option<i32>, Vec<u64>) = serde_json::from_str(line).unwrap();
        match said {
            (Some(0), found) if found.is_empty() => Verdict::Good,
            (Some(75), found) if found.is_empty() => Verdict::Torn,
            (Some(6), found) => Verdict::Tampered(positions(found.into_iter())),
            _ => Verdict::CannotTell,
        }
    };
    text.lines().map(verdict).collect()
}
