//! What is in the record when the app has an event in hand: the files are read from outside, as they are at that moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use gatepost::audit::segments::Segments;

/// Reads what gateways write, as far as it is there.
#[derive(Debug, Default)]
pub struct Witness {
    logs: Vec<Log>,
    /// Receipts of attempts that are on record.
    seen: BTreeSet<String>,
}

/// A record of which each segment was read up to somewhere.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    read: BTreeMap<PathBuf, u64>,
}

impl Witness {
    /// From now on it looks at the record of a gateway whose state is in `dir`, too.
    pub fn watch(&mut self, dir: &Path) {
        let dir = dir.join("audit");
        if self.logs.iter().all(|log| log.dir != dir) {
            self.logs.push(Log { dir, read: BTreeMap::new() });
        }
    }

    /// Whether a record says by now that this request is about to be forwarded.
    pub fn knows(&mut self, receipt: &str) -> bool {
        if !self.seen.contains(receipt) {
            let Self { logs, seen } = self;
            logs.iter_mut().for_each(|log| log.go_on(seen));
        }
        // A segment that was closed and compressed meanwhile, or written over behind a write that failed.
        self.seen.contains(receipt) || self.logs.iter().any(|log| log.holds(receipt))
    }
}

impl Log {
    /// Takes what was added.
    fn go_on(&mut self, seen: &mut BTreeSet<String>) {
        let Ok(files) = std::fs::read_dir(&self.dir) else { return };
        for file in files.flatten().map(|entry| entry.path()) {
            if file.extension().is_some_and(|end| end == "ndjson") {
                let at = self.read.entry(file.clone()).or_default();
                let lines = added(&file, *at);
                *at += lines.len() as u64;
                seen.extend(lines.split(|byte| *byte == b'\n').filter_map(attempt));
            }
        }
    }

    /// The same by reading all of it.
    fn holds(&self, receipt: &str) -> bool {
        let Ok(segments) = Segments::of(&self.dir) else { return false };
        let mut found = false;
        let read = segments.each(0, |_, line| {
            found |= attempt(line).is_some_and(|of| of == receipt);
            Ok(!found)
        });
        read.is_ok() && found
    }
}

/// The whole lines from `at` on; behind what is written there are zeros.
fn added(file: &Path, at: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(mut file) = File::open(file) else { return bytes };
    let mut piece = [0; 4096];
    file.seek(SeekFrom::Start(at)).unwrap();
    while let Ok(read @ 1..) = file.read(&mut piece) {
        let written = piece[..read].iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(&piece[..written.unwrap_or(read)]);
        if written.is_some() {
            break;
        }
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes.truncate(whole);
    bytes
}

/// The receipt, where a line is about an attempt: both stand before anything that came from outside.
fn attempt(line: &[u8]) -> Option<String> {
    let (_, rest) =
        std::str::from_utf8(line).ok()?.split_once(r#","kind":"attempt","receipt":""#)?;
    rest.split_once('"').map(|(receipt, _)| receipt.to_owned())
}

/// A line counts when it is whole, and one of a segment that is compressed or was written over is found all the same.
#[test]
fn only_what_is_there_is_seen() {
    let line = |kind: &str, receipt: &str| {
        let prev = "0".repeat(64);
        format!(
            "{{\"v\":1,\"seq\":1,\"ts\":\"2026-11-24T17:03:00.123Z\",\"kind\":\"{kind}\",\"receipt\":\"{receipt}\",\"prev\":\"{prev}\"}}\n"
        )
    };
    let home = tempfile::tempdir().unwrap();
    let mut witness = Witness::default();
    witness.watch(home.path());
    assert!(!witness.knows("req_1"), "there is no directory yet");
    let dir = home.path().join("audit");
    std::fs::create_dir(&dir).unwrap();
    let segment = |first: u64| dir.join(format!("segment-{first:020}.ndjson"));
    let begun = line("attempt", "req_1");
    let half = begun.len() / 2;
    let zeros = "\0".repeat(64);
    std::fs::write(segment(1), [&line("outcome", "req_1"), &begun[..half], &zeros].concat())
        .unwrap();
    assert!(!witness.knows("req_1"), "another kind, and half a line");
    std::fs::write(segment(1), [&line("outcome", "req_1"), &*begun, &zeros].concat()).unwrap();
    assert!(witness.knows("req_1") && !witness.knows("req_2"));
    std::fs::write(segment(2), line("attempt", "req_2")).unwrap();
    assert!(witness.knows("req_2"), "in a new segment");
    std::fs::write(segment(2), line("attempt", "req_3").repeat(2)).unwrap();
    assert!(witness.knows("req_3"), "where it had read already");
    let packed = zstd::encode_all(line("attempt", "req_4").as_bytes(), 3).unwrap();
    std::fs::write(dir.join("segment-00000000000000000003.ndjson.zst"), packed).unwrap();
    assert!(witness.knows("req_4") && !witness.knows("req_5"));
}
