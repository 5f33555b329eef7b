//! The file of the embedded store: one table of events, one of replay guards, both by key.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};

use super::{
    super::{
        StoreError, Subject,
        claim::{Guarded, Kept, Millis, Phase, Record, Token},
    },
    hot::Place,
};
use crate::event::{Digest, EventKey};

/// Version of the tables.
const VERSION: i64 = 1;
/// Rows that one sweep looks at, per table.
const SWEEP_ROWS: i64 = 2000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS event (
        key BLOB PRIMARY KEY,
        phase TEXT NOT NULL,     -- free, leased, held, done
        mark BLOB NOT NULL,      -- the claim's token, or the digest of the body that was delivered
        until INTEGER NOT NULL,  -- end of lease, hold or window, in milliseconds since the epoch
        attempt INTEGER NOT NULL,
        unknown INTEGER NOT NULL,
        forget INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE IF NOT EXISTS guard (
        key BLOB PRIMARY KEY,
        event BLOB NOT NULL,
        forget INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
";

/// One connection to the file.
#[derive(Debug)]
pub(super) struct Disk {
    db: Connection,
    /// Where the sweep goes on: in the tables of events and guards.
    swept: [Vec<u8>; 2],
    /// Live events that this pass of the sweep has seen.
    counted: u64,
}

/// Changes that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whether somebody waits for it to be synced.
    pub(super) synced: bool,
    /// Events, and which change made them so.
    pub(super) events: Vec<(EventKey, Option<Record>, u64)>,
    /// Guards, and which change made them so.
    pub(super) guards: Vec<(EventKey, Option<Guarded>, u64)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.guards.is_empty()
    }

    /// What it changes, with the number of each change.
    pub(super) fn changes(&self) -> impl Iterator<Item = (Place, u64)> {
        let events = self.events.iter().map(|(key, _, change)| (Place::Event(*key), *change));
        events.chain(self.guards.iter().map(|(key, _, change)| (Place::Guard(*key), *change)))
    }
}

impl Disk {
    /// Opens the file for writing, and makes it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let disk = Self::open_beside(path)?;
        match disk.prepare().map_err(|error| refused(path, &error))? {
            VERSION => Ok(disk),
            _ => {
                let path = path.display();
                Err(StoreError(format!("{path} was written by another version of gatepost")))
            }
        }
    }

    /// Opens another connection to the file.
    pub(super) fn open_beside(path: &Path) -> Result<Self, StoreError> {
        let db = Connection::open(path).map_err(|error| refused(path, &error))?;
        let setup = db.execute_batch(
            "PRAGMA busy_timeout = 1000; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;",
        );
        setup.map_err(|error| refused(path, &error))?;
        Ok(Self { db, swept: Default::default(), counted: 0 })
    }

    /// Makes the tables, and returns their version. The log may grow large before the writer itself copies it into the
    /// file: normally the keeper thread does.
    fn prepare(&self) -> Result<i64, rusqlite::Error> {
        self.db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 8192;")?;
        let version = self.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != 0 {
            return Ok(version);
        }
        self.db.execute_batch(SCHEMA)?;
        self.db.pragma_update(None, "user_version", VERSION)?;
        Ok(VERSION)
    }

    /// What is kept about `subject`. A lease in the file belongs to nobody any more: live ones are in memory.
    pub(super) fn find(&self, subject: &Subject) -> Result<Kept, StoreError> {
        let event = self.find_event(subject.key).map_err(|error| failed(&error))?;
        let guard = match subject.guard {
            Some(key) => self.find_guard(key).map_err(|error| failed(&error))?,
            None => None,
        };
        Ok(Kept { event, guard })
    }

    fn find_event(&self, key: EventKey) -> Result<Option<Record>, rusqlite::Error> {
        let query = "SELECT phase, mark, until, attempt, unknown, forget FROM event WHERE key = ?1";
        self.db.prepare_cached(query)?.query_row([key.0], read_record).optional()
    }

    fn find_guard(&self, key: EventKey) -> Result<Option<Guarded>, rusqlite::Error> {
        let query = "SELECT event, forget FROM guard WHERE key = ?1";
        let read =
            |row: &Row<'_>| Ok(Guarded { by: EventKey(row.get(0)?), until: unsigned(row.get(1)?) });
        self.db.prepare_cached(query)?.query_row([key.0], read).optional()
    }

    /// Writes a batch in one transaction; synced where somebody waits for it.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.write_batch(batch).map_err(|error| failed(&error))
    }

    fn write_batch(&mut self, batch: &Batch) -> Result<(), rusqlite::Error> {
        let synchronous = if batch.synced { "FULL" } else { "NORMAL" };
        self.db.pragma_update(None, "synchronous", synchronous)?;
        let transaction = self.db.transaction()?;
        for (key, record, _) in &batch.events {
            write_event(&transaction, *key, *record)?;
        }
        for (key, guard, _) in &batch.guards {
            write_guard(&transaction, *key, *guard)?;
        }
        transaction.commit()
    }

    /// Deletes some of what is over. At the end of each pass, says how many events there are.
    pub(super) fn sweep(&mut self, now: Millis) -> Result<Option<u64>, StoreError> {
        self.sweep_some(now).map_err(|error| failed(&error))
    }

    fn sweep_some(&mut self, now: Millis) -> Result<Option<u64>, rusqlite::Error> {
        let Self { db, swept: [events, guards], counted } = self;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let transaction = db.transaction()?;
        let (live, ended) = sweep_table(&transaction, "event", events, now)?;
        sweep_table(&transaction, "guard", guards, now)?;
        transaction.commit()?;
        *counted += live;
        Ok(ended.then(|| std::mem::take(counted)))
    }

    /// Copies the log into the file as far as nobody is in the way.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        let checkpoint = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        checkpoint.map_err(|error| failed(&error))
    }
}

fn write_event(
    db: &Connection,
    key: EventKey,
    record: Option<Record>,
) -> Result<(), rusqlite::Error> {
    let Some(Record { phase, until, attempt, unknown, forget }) = record else {
        return db.prepare_cached("DELETE FROM event WHERE key = ?1")?.execute([key.0]).map(drop);
    };
    let (phase, mark) = match phase {
        Phase::Free => ("free", Vec::new()),
        Phase::Leased(token) => ("leased", token.0.to_be_bytes().to_vec()),
        Phase::Held(token) => ("held", token.0.to_be_bytes().to_vec()),
        Phase::Done(digest) => ("done", digest.0.to_vec()),
    };
    let insert = "INSERT OR REPLACE INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![key.0, phase, mark, signed(until), attempt, unknown, signed(forget)];
    db.prepare_cached(insert)?.execute(values).map(drop)
}

fn write_guard(
    db: &Connection,
    key: EventKey,
    guard: Option<Guarded>,
) -> Result<(), rusqlite::Error> {
    let Some(Guarded { by, until }) = guard else {
        return db.prepare_cached("DELETE FROM guard WHERE key = ?1")?.execute([key.0]).map(drop);
    };
    let insert = "INSERT OR REPLACE INTO guard VALUES (?1, ?2, ?3)";
    db.prepare_cached(insert)?.execute(params![key.0, by.0, signed(until)]).map(drop)
}

fn read_record(row: &Row<'_>) -> Result<Record, rusqlite::Error> {
    let phase: String = row.get(0)?;
    let token = || row.get(1).map(|bytes| Token(u128::from_be_bytes(bytes)));
    let (phase, orphaned) = match phase.as_str() {
        "leased" => (Phase::Leased(token()?), true),
        "held" => (Phase::Held(token()?), false),
        "done" => (Phase::Done(Digest(row.get(1)?)), false),
        _ => (Phase::Free, false),
    };
    let until = if orphaned { 0 } else { unsigned(row.get(2)?) };
    let (attempt, unknown) = (row.get(3)?, row.get(4)?);
    Ok(Record { phase, until, attempt, unknown, forget: unsigned(row.get(5)?) })
}

/// Looks at the next rows of a table: how many live on, and whether the end was reached.
fn sweep_table(
    db: &Connection,
    table: &'static str,
    from: &mut Vec<u8>,
    now: Millis,
) -> Result<(u64, bool), rusqlite::Error> {
    let query = format!("SELECT key, forget FROM {table} WHERE key > ?1 ORDER BY key LIMIT ?2");
    let delete = format!("DELETE FROM {table} WHERE key = ?1");
    let mut statement = db.prepare_cached(&query)?;
    let mut rows = statement.query(params![*from, SWEEP_ROWS])?;
    let (mut live, mut seen, mut over) = (0, 0, Vec::new());
    while let Some(row) = rows.next()? {
        *from = row.get(0)?;
        seen += 1;
        if unsigned(row.get(1)?) > now {
            live += 1;
        } else {
            over.push(from.clone());
        }
    }
    for key in over {
        db.prepare_cached(&delete)?.execute([key])?;
    }
    let ended = seen < SWEEP_ROWS;
    if ended {
        from.clear();
    }
    Ok((live, ended))
}

fn signed(millis: Millis) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn unsigned(millis: i64) -> Millis {
    u64::try_from(millis).unwrap_or_default()
}

fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError(format!("SQLite: {error}"))
}

/// Why the file cannot be used, and what to do.
fn refused(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    StoreError(match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!(
            "{path} is damaged ({error}): move it away to start with an empty memory; \
             events of the last days may then be delivered again"
        ),
        _ => format!("cannot open {path}: {error}"),
    })
}
