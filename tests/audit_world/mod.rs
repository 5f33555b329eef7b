//! A directory with an audit log in it, and events to put on record.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]
#![allow(
    clippy::expect_used,
    clippy::must_use_candidate,
    clippy::new_without_default,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails"
)]

pub mod disk;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use gatepost::{
    audit::{
        AuditLog, Draft, Kind, Params, export, open, open_on,
        segments::Segments,
        verify::{self, Asked, Report},
    },
    event::{About, Digest, EventId, EventKey, EventType, Name, Receipt, Timestamp},
    telemetry::Metrics,
};

use disk::Disk;

/// A log's home.
pub struct World {
    pub root: tempfile::TempDir,
    pub params: Params,
    pub metrics: Metrics,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let params = params(root.path());
        Self { root, params, metrics: Metrics::new() }
    }

    pub fn with(change: impl FnOnce(&mut Params)) -> Self {
        let mut world = Self::new();
        change(&mut world.params);
        world
    }

    pub fn dir(&self) -> &Path {
        &self.params.dir
    }

    pub fn open(&self) -> AuditLog {
        open(&self.params, self.metrics.audit()).expect("a log")
    }

    /// The same with the root to put things into.
    pub fn with_root(change: impl FnOnce(&mut Params, &Path)) -> Self {
        let mut world = Self::new();
        let root = world.root.path().to_owned();
        change(&mut world.params, &root);
        world
    }

    /// A log on a disk of its own kind.
    pub fn open_disk(&self, disk: &Arc<Disk>) -> AuditLog {
        let clock = Arc::new(Timestamp::now);
        open_on(disk.clone(), &self.params, self.metrics.audit(), clock).expect("a log")
    }

    /// Opens the log, records `count` events, and closes it.
    pub async fn fill(&self, count: u32) {
        let log = self.open();
        for n in 0..count {
            log.append(attempt(n)).await.expect("durable");
        }
        log.close().await.expect("in order");
    }

    /// Appends nothing and waits until `check` holds; the writer looks after its house once a second.
    pub async fn until(&self, log: &AuditLog, what: &str, check: impl Fn(&AuditLog) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !check(log) {
            assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
            log.note(Draft::new(Kind::Outcome)); // which a full disk takes, too
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All files of the log, as they are now.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.files("")
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).expect("a file")))
            .collect()
    }

    /// Puts an old state back.
    pub fn restore(&self, snapshot: &[(PathBuf, Vec<u8>)]) {
        for path in self.files("") {
            fs::remove_file(path).expect("removed");
        }
        for (path, bytes) in snapshot {
            fs::write(path, bytes).expect("written");
        }
    }

    /// Exports everything.
    pub fn export(&self) -> Export {
        let out = self.root.path().join("export");
        export::export(self.dir(), &out, None, None).expect("exported");
        Export(out)
    }

    /// The log itself, with the other verifier beside it.
    pub fn itself(&self) -> Export {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/verify.py");
        fs::copy(script, self.dir().join("verify.py")).expect("copied");
        Export(self.dir().to_owned())
    }

    pub fn verify(&self) -> Report {
        verify(self.dir())
    }

    pub fn against(&self, file: &Path) -> Result<Report, String> {
        verify::verify(self.dir(), None, Some(file))
    }

    /// All records, in order.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let mut records = Vec::new();
        let segments = Segments::of(self.dir()).expect("segments");
        let read = segments.each(0, |_, line| {
            records.push(serde_json::from_slice(line).expect("a record"));
            Ok(true)
        });
        read.expect("readable");
        records
    }

    /// The files of the log, by suffix of their names.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(self.dir())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().ends_with(suffix))
            .collect();
        found.sort();
        found
    }
}

/// An exported log, verified in two languages: whether it is good, and the records at which it is not.
pub struct Export(PathBuf);

impl Export {
    pub fn ours(&self) -> (bool, Vec<u64>) {
        let report = by_hand(&self.0, None).expect("readable");
        let mut records: Vec<_> = report.findings.iter().map(|f| f.record).collect();
        records.dedup();
        (records.is_empty(), records)
    }

    pub fn theirs(&self) -> (bool, Vec<u64>) {
        let out = Command::new("python3").arg(self.0.join("verify.py")).arg(&self.0).output();
        let out = out.expect("python3");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            matches!(out.status.code(), Some(0 | 6)),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let found = text.lines().filter_map(|line| line.strip_prefix("  record ")?.split_once(':'));
        let mut records: Vec<_> = found.map(|(n, _)| n.parse().expect("a number")).collect();
        records.dedup();
        (out.status.success(), records)
    }

    /// Path and content of the one file whose name begins so.
    pub fn file(&self, begin: &str) -> (PathBuf, String) {
        let entries =
            fs::read_dir(&self.0).expect("a directory").map(|e| e.expect("an entry").path());
        let path = entries.into_iter().find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin))
        });
        let path = path.expect("a file");
        let text = fs::read_to_string(&path).expect("text");
        (path, text)
    }
}

pub fn params(root: &Path) -> Params {
    Params {
        dir: root.join("audit"),
        retention: Duration::from_hours(9600),
        rotate_bytes: 1 << 28,
        rotate_every: Duration::from_hours(24),
        compress: true,
        checkpoint_every: Duration::from_mins(1),
        checkpoint_key: root.join("audit-signing.key"),
        copy_to: Vec::new(),
        free_bytes_min: 0,
        fsync: true,
    }
}

pub fn verify(dir: &Path) -> Report {
    verify::verify(dir, None, None).expect("readable")
}

/// The same of a directory that somebody names, which may be an export.
pub fn by_hand(dir: &Path, against: Option<&Path>) -> Result<Report, String> {
    let (public_key, signing_key) = (None, None);
    Asked { dir, may_be_export: true, public_key, signing_key, against }.verify()
}

/// An event of the source `stripe`.
pub fn about(n: u32) -> Arc<About> {
    let body = format!("body {n}");
    Arc::new(About {
        id: EventId::parse(&format!("evt_{n}")).expect("an id"),
        kind: EventType::parse("invoice.paid").expect("a type"),
        account: None,
        key: EventKey::of(&[b"stripe", body.as_bytes()]),
        digest: Digest::of(body.as_bytes()),
        body_bytes: body.len() as u64,
        scheme: "hmac-sha256",
        secret_slot: 1,
        secret_label: "whsec_…9c1e".into(),
        items: Vec::new(),
    })
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub fn attempt(n: u32) -> Draft {
    let mut draft = Draft::new(Kind::Attempt);
    draft.request(Receipt::random(), &name("stripe"));
    draft.event(&about(n));
    draft.target(Some(&name("money-in")), Some(&name("billing")), Some(1));
    draft.origin(Some([54, 187, 174, 169].into()), []);
    draft
}
