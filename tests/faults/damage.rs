//! What a crash, a disk that lied, or time itself makes of the files of the embedded store: less than was written, zeros,
//! other bits, a name that is gone. It may forget, and then an event comes again; it loses none, and takes none for another.

use std::{collections::BTreeSet, fs, path::Path};

use futures_util::future::join_all;
use gatepost::event::EventKey;
use rusqlite::Connection;
use tokio::time::timeout;

use crate::{
    forged::seen_through,
    ledger::Ledger,
    run::Run,
    world::{Gateway, PATIENCE},
};

const EVENTS: usize = 160;
const DB: &str = "dedup.sqlite3";
const WAL: &str = "dedup.sqlite3-wal";

/// What happens to the files between the kill and the next start.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The half of a frame behind the last whole one: what was on its way.
    Torn,
    /// Zeros there: a length that reached the disk before its bytes.
    Zeros,
    /// The last third of what was written is not there.
    Cut,
    /// It is there, as zeros.
    Blank,
    /// A bit in the middle is another one.
    FlippedLog,
    /// The log has no name any more.
    NoLog,
    /// Neither has the table.
    NoFiles,
    /// A bit of the key of something done, in the table.
    FlippedKey,
    /// A bit of what is remembered of a body.
    FlippedBody,
    /// The head of the file is not one.
    NoHead,
}

impl Damage {
    const ALL: [Self; 10] = [
        Self::Torn,
        Self::Zeros,
        Self::Cut,
        Self::Blank,
        Self::FlippedLog,
        Self::NoLog,
        Self::NoFiles,
        Self::FlippedKey,
        Self::FlippedBody,
        Self::NoHead,
    ];

    /// Whether the gateway ends in order before it: then all is in the table, and the log is gone.
    fn in_table(self) -> bool {
        matches!(self, Self::FlippedKey | Self::FlippedBody | Self::NoHead)
    }

    /// Whether it takes what had been synced.
    fn forgets(self) -> bool {
        !matches!(self, Self::Torn | Self::Zeros | Self::FlippedBody)
    }

    fn to(self, dir: &Path) {
        let (db, wal) = (dir.join(DB), dir.join(WAL));
        match self {
            Self::Torn | Self::Zeros | Self::Cut | Self::Blank | Self::FlippedLog => {
                let mut log = Log::read(&wal);
                self.to_log(&mut log);
                fs::write(wal, log.bytes).unwrap();
            }
            Self::NoLog => fs::remove_file(wal).unwrap(),
            Self::NoFiles => {
                fs::remove_file(wal).unwrap();
                fs::remove_file(db).unwrap();
            }
            Self::FlippedKey => flip(&db, &mark(&db, "key")),
            Self::FlippedBody => flip(&db, &mark(&db, "mark")),
            Self::NoHead => {
                let mut bytes = fs::read(&db).unwrap();
                bytes[..16].fill(0);
                fs::write(db, bytes).unwrap();
            }
        }
    }

    fn to_log(self, log: &mut Log) {
        let (end, frame) = (log.end, log.frame);
        let frames = (end - Log::HEAD) / frame;
        assert!(frames > 10, "{frames} frames are too few to mean anything");
        let last_third = end - frames / 3 * frame;
        log.bytes.truncate(end);
        match self {
            Self::Torn => log.bytes.extend_from_within(end - frame..end - frame / 2),
            Self::Zeros => log.bytes.resize(end + 3 * frame, 0),
            Self::Cut => log.bytes.truncate(last_third + frame / 2),
            Self::Blank => log.bytes[last_third..].fill(0),
            _ => log.bytes[last_third + frame / 2] ^= 0x10,
        }
    }
}

/// The write-ahead log, as far as its frames belong to its head.
struct Log {
    bytes: Vec<u8>,
    frame: usize,
    end: usize,
}

impl Log {
    const HEAD: usize = 32;

    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let frame = 24 + usize::try_from(number(8)).unwrap();
        let salts = &bytes[16..24];
        let of_it = bytes[Self::HEAD..].chunks(frame);
        let frames = of_it.take_while(|f| f.len() == frame && f[8..16] == *salts).count();
        Self { frame, end: Self::HEAD + frames * frame, bytes }
    }
}

/// Key or digest of something that is done.
fn mark(db: &Path, column: &str) -> Vec<u8> {
    let query = format!("SELECT {column} FROM event WHERE phase = 'done' LIMIT 1");
    Connection::open(db).unwrap().query_row(&query, [], |row| row.get(0)).unwrap()
}

/// Flips a bit wherever these bytes stand.
fn flip(file: &Path, what: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(what)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + what.len() / 4] ^= 0x04);
    fs::write(file, bytes).unwrap();
}

/// The events that the files in `dir` know as done, by our ids.
fn known(dir: &Path) -> BTreeSet<String> {
    kept(dir, "WHERE phase = 'done'")
}

/// The events that the files in `dir` know of. A copy is looked at, so that nothing changes by it.
pub fn kept(dir: &Path, which: &str) -> BTreeSet<String> {
    let copy = tempfile::tempdir().unwrap();
    for name in [DB, WAL] {
        if dir.join(name).exists() {
            fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    let db = Connection::open(copy.path().join(DB)).unwrap();
    let Ok(mut query) = db.prepare(&format!("SELECT key FROM event {which}")) else {
        return BTreeSet::new(); // there is no table
    };
    let keys = query.query_map([], |row| row.get(0)).unwrap();
    keys.map(|key| EventKey(key.unwrap()).event_id().to_string()).collect()
}

/// Moves the files away that the gateway says it cannot use.
async fn moved_away(run: &Run, dir: tempfile::TempDir) -> tempfile::TempDir {
    let text = run.config(dir.path(), "store: embedded");
    let (dir, log) = Gateway::try_start(dir, &text, &[]).await.expect_err("it cannot be used");
    assert!(log.contains("is damaged") && log.contains("move it away"), "{log}");
    fs::rename(dir.path().join(DB), dir.path().join("damaged")).unwrap();
    dir
}

/// Kills a gateway under load, damages its store, and goes on. The books, with what was done and is forgotten.
async fn survive(damage: Damage) -> Ledger {
    let run = Run::patient(1).await;
    let gateway = run.gateway(0, "store: embedded").await;
    let begin = |upto| run.senders.begin((0..upto).map(|n| format!("evt_{n:04}")), 8, 5);
    let lanes = begin(EVENTS);
    run.more(80).await;
    let mut dir = run.end(gateway, !damage.in_table()).await;
    let done = known(dir.path());
    damage.to(dir.path());
    let forgotten = &done - &known(dir.path());
    if matches!(damage, Damage::NoHead) {
        dir = moved_away(&run, dir).await;
    }
    let gateway = run.gateway_in(0, dir, "store: embedded", &[]).await;
    timeout(3 * PATIENCE, lanes.join_all()).await.expect("every event gets through in the end");
    let calm = run.clock.now();
    // And some that are new: where all were done before the kill, all may be forgotten.
    timeout(3 * PATIENCE, begin(EVENTS + 20).join_all()).await.expect("and once more");
    let mut ledger = run.settle(vec![gateway]).await;
    ledger.calm_at = Some(calm);
    ledger.forgotten = forgotten.into_iter().map(|event| (event, 1)).collect();
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_costs_no_more_than_it_has_forgotten() {
    join_all(Damage::ALL.map(|damage| async move {
        let ledger = survive(damage).await;
        seen_through(&format!("{damage:?}"), &ledger);
        let forgotten = ledger.forgotten.len();
        assert_eq!(forgotten > 0, damage.forgets(), "{damage:?}: {forgotten} are forgotten");
        let events: BTreeSet<_> = ledger.received.iter().map(|r| &r.event_id).collect();
        let again = ledger.received.len() - events.len();
        assert!(again >= forgotten, "{damage:?}: what is forgotten comes again");
        let flagged = ledger.records.iter().any(|r| r.outcome == "same_id_other_body");
        assert_eq!(flagged, matches!(damage, Damage::FlippedBody), "{damage:?}");
    }))
    .await;
}
