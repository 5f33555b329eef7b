//! A directory with an audit log in it, and events to put on record.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gatepost::{
    audit::{
        AuditLog, Draft, Kind, Params, open, open_on,
        segments::Segments,
        storage,
        verify::{self, Report},
    },
    event::{About, Digest, EventId, EventKey, EventType, Name, Receipt, Timestamp},
    telemetry::Metrics,
};

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

    /// A log whose clock stands where `clock` says, in milliseconds.
    pub fn open_at(&self, clock: &Arc<AtomicI64>) -> AuditLog {
        let storage = Arc::new(storage::Directory::open(self.dir()).expect("a directory"));
        let clock = clock.clone();
        let now = move || Timestamp::from_millis(clock.load(Ordering::SeqCst));
        open_on(storage, &self.params, self.metrics.audit(), Arc::new(now)).expect("a log")
    }

    pub fn verify(&self) -> Report {
        verify(self.dir())
    }

    pub fn against(&self, file: &Path) -> Result<Report, String> {
        let against = Some(file.to_owned());
        let dir = self.dir().to_owned();
        verify::verify(&verify::Request { dir, against, public_key: None })
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
        let mut found: Vec<_> = std::fs::read_dir(self.dir())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().ends_with(suffix))
            .collect();
        found.sort();
        found
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
    let request = verify::Request { dir: dir.to_owned(), ..verify::Request::default() };
    verify::verify(&request).expect("readable")
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
        scheme: "hmac-sha256".into(),
        secret_slot: 1,
        secret_label: "whsec_…9c1e".into(),
        items: Vec::new(),
    })
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub fn attempt(n: u32) -> Draft {
    Draft {
        kind: Kind::Attempt,
        receipt: Some(Receipt::random()),
        source: Some(name("stripe")),
        about: Some(about(n)),
        route: Some(name("money-in")),
        upstream: Some(name("billing")),
        attempt: Some(1),
        client_ip: Some([54, 187, 174, 169].into()),
        ..Draft::default()
    }
}
