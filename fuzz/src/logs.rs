//! Logs to damage, and the damage that an input describes.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gatepost::{
    audit::{AuditLog, ByHand, Draft, Kind, Params, open_by_hand, storage::Directory},
    event::{About, Digest, EventId, EventKey, EventType, Name, Timestamp},
    telemetry::{AuditMetrics, Metrics},
};

/// A key that signs nothing but these logs.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
";
const BEGIN_MILLIS: i64 = 1_790_000_000_000;
/// Of the zeros that are laid out ahead so many are kept.
const ZEROS_KEPT: usize = 32;
/// No damaged segment unpacks to more than that.
const UNPACKED_BYTES_MAX: u64 = 1 << 20;
const EDITS_MAX: usize = 8;

/// The files of a log by name, without its lock.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A directory for a log: where `TMPDIR` says, or in memory, where there is such a place.
#[derive(Debug)]
pub struct Home {
    root: tempfile::TempDir,
    /// How a log is kept in it.
    pub params: Params,
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let in_memory = std::env::var_os("TMPDIR").is_none() && memory.is_dir();
        let root = if in_memory { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let root = root.expect("a directory");
        let checkpoint_key = root.path().join("key");
        fs::write(&checkpoint_key, KEY).expect("a key");
        let params = Params {
            dir: root.path().join("log"),
            retention: Duration::from_hours(9600),
            rotate_bytes: 1 << 28,
            rotate_every: Duration::from_hours(240),
            compress: false,
            checkpoint_every: Duration::from_hours(24),
            checkpoint_key,
            copy_to: Vec::new(),
            free_bytes_min: 0,
            fsync: false,
        };
        fs::create_dir(&params.dir).expect("a directory");
        Self { root, params }
    }

    /// A file beside the log.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a log into it, in place of what is there.
    pub fn put(&self, files: &Files) {
        for entry in fs::read_dir(&self.params.dir).expect("a directory") {
            fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
        for (name, bytes) in files {
            fs::write(self.params.dir.join(name), bytes).expect("written");
        }
    }

    /// The same where nothing but `was` is there: files that are the same are not written again.
    pub fn change(&self, was: &Files, files: &Files) {
        for name in was.keys().filter(|name| !files.contains_key(*name)) {
            fs::remove_file(self.params.dir.join(name)).expect("removed");
        }
        for (name, bytes) in files.iter().filter(|(name, bytes)| was.get(*name) != Some(bytes)) {
            fs::write(self.params.dir.join(name), bytes).expect("written");
        }
    }

    /// What is in it; of the zeros at the end of a segment a few.
    pub fn read(&self) -> Files {
        let entries = fs::read_dir(&self.params.dir).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
        let names = names.map(|name| name.expect("plain names")).filter(|name| name != "lock");
        let read = |name: String| {
            let mut bytes = fs::read(self.params.dir.join(&name)).expect("a file");
            trim(&mut bytes);
            (name, bytes)
        };
        names.map(read).collect()
    }

    /// Takes the log up, so and so many seconds after the first.
    pub fn open(&self, second: i64) -> Result<(AuditLog, ByHand), String> {
        thread_local! {
            static METRICS: AuditMetrics = Metrics::new().audit();
        }
        let storage = Arc::new(Directory::open(&self.params.dir).map_err(|e| e.to_string())?);
        let time = AtomicI64::new(BEGIN_MILLIS + second * 1000);
        let clock = move || Timestamp::from_millis(time.fetch_add(1, Ordering::Relaxed));
        let metrics = METRICS.with(Clone::clone);
        open_by_hand(storage, &self.params, metrics, Arc::new(clock)).map_err(|e| e.to_string())
    }

    /// Takes the log up, records events in batches, and leaves it as it is then.
    pub fn record(&self, second: i64, batches: &[std::ops::Range<u32>], ends: bool) {
        let (log, mut by_hand) = self.open(second).expect("a log");
        for batch in batches {
            batch.clone().for_each(|n| log.note(attempt(n)));
            by_hand.turn();
        }
        if ends {
            by_hand.end();
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

fn attempt(n: u32) -> Draft {
    let mut draft = Draft::new(Kind::Attempt);
    let body = format!("body {n}");
    draft.event(&About {
        id: EventId::parse(&format!("evt_{n}")).expect("an id"),
        kind: EventType::parse("invoice.paid").expect("a type"),
        account: None,
        key: EventKey::of(&[body.as_bytes()]),
        digest: Digest::of(body.as_bytes()),
        body_bytes: body.len() as u64,
        scheme: "hmac-sha256",
        secret_slot: 1,
        secret_label: "whsec_…9c1e".into(),
        items: Vec::new(),
    });
    draft.target(None, Name::parse("billing").as_ref(), Some(1));
    draft
}

/// Leaves out the zeros at the end, but for a few.
fn trim(bytes: &mut Vec<u8>) {
    while bytes.ends_with(&[0; 4096]) {
        bytes.truncate(bytes.len() - 4096);
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(used + ZEROS_KEPT);
}

/// The whole lines of all segments in their order; nothing where a packed one cannot be unpacked.
pub fn lines(files: &Files) -> Option<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("segment-")) {
        let text = match name.strip_suffix(".zst") {
            None => bytes.clone(),
            // Where both are there, the plain one counts.
            Some(plain) if files.contains_key(plain) => continue,
            Some(_) => unpack(bytes)?,
        };
        lines.extend(whole(&text).map(<[u8]>::to_vec));
    }
    Some(lines)
}

fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let unpacked = zstd::stream::read::Decoder::new(bytes).ok()?;
    unpacked.take(UNPACKED_BYTES_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Lines that end, with their ends.
pub fn whole(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

/// Numbers and bytes, until they end.
struct Script<'d>(&'d [u8]);

impl<'d> Script<'d> {
    fn take(&mut self, count: usize) -> &'d [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
    }
}

/// Damages the files called `names` as `data` says: up to eight times a kind of damage, a file, a place, a length.
pub fn damage(files: &mut Files, names: &[String], data: &[u8]) {
    let mut script = Script(data);
    for _ in 0..EDITS_MAX {
        if script.0.is_empty() {
            return;
        }
        let (kind, file) = (script.number(1) % 11, script.number(1) % names.len());
        let Some(bytes) = files.get_mut(&names[file]) else { continue };
        let at = script.number(2) % (bytes.len() + 1);
        let end = (at + script.number(1)).min(bytes.len());
        match kind {
            0 => {
                bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= script.number(1).max(1) as u8)
            }
            1 => drop(bytes.splice(at..at, script.take(end - at).to_vec())),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => bytes[at..end].fill(0),
            5 => {
                let (copy, to) = (bytes[at..end].to_vec(), script.number(2) % (bytes.len() + 1));
                drop(bytes.splice(to..to, copy));
            }
            6 => drop(bytes.drain(line_at(bytes, at))),
            7 => {
                let (copy, to) =
                    (bytes[line_at(bytes, at)].to_vec(), line_at(bytes, script.number(2)));
                drop(bytes.splice(to.start..to.start, copy));
            }
            8 => {
                let line = line_at(bytes, at);
                let next = line_at(bytes, line.end);
                bytes[line.start..next.end].rotate_left(line.len());
            }
            9 => drop(files.remove(&names[file])),
            _ => {
                let new = script.take(end - at);
                bytes[at..at + new.len()].copy_from_slice(new);
            }
        }
    }
}

/// The line that holds a byte, with its end.
fn line_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = bytes[at..].iter().position(|byte| *byte == b'\n');
    start..end.map_or(bytes.len(), |end| at + end + 1)
}
