//! The file of the embedded store: one table of events, one of replay guards, both by key.

use std::path::Path;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};

use super::super::{
    StoreError, Subject,
    claim::{Guarded, Input, Kept, Millis, Phase, Record, Reply, Token, step},
};
use crate::event::{Digest, EventKey};

const VERSION: i64 = 1;
/// Rows that one sweep deletes at most, per table.
const SWEEP_ROWS: i64 = 2000;

const SCHEMA: &str = "
    CREATE TABLE event (
        key BLOB PRIMARY KEY,
        phase TEXT NOT NULL,     -- free, leased, held, done
        mark BLOB NOT NULL,      -- of what is leased, the token; of what is done, the digest of the body
        until INTEGER NOT NULL,  -- end of lease, hold or window, in milliseconds by the clock below
        attempt INTEGER NOT NULL,
        unknown INTEGER NOT NULL,
        forget INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX event_over ON event (forget);
    CREATE INDEX event_leased ON event (phase) WHERE phase = 'leased';
    CREATE TABLE guard (
        key BLOB PRIMARY KEY,
        event BLOB NOT NULL,
        forget INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE INDEX guard_over ON guard (forget);
";

/// Set by the wall once, when it is made.
const CLOCK: &str = "
    CREATE TABLE IF NOT EXISTS clock (now INTEGER NOT NULL) STRICT;
    INSERT INTO clock SELECT unixepoch() * 1000 WHERE NOT EXISTS (SELECT * FROM clock);
";

pub(super) struct Disk(Connection);

pub(super) struct Batch<'a>(Transaction<'a>);

impl Disk {
    /// Opens the file, or makes it; says how many events are in it, and the time. Leases in it belong to nobody any more:
    /// they end.
    pub(super) fn open(path: &Path) -> Result<(Self, u64, Millis), StoreError> {
        let db = Connection::open(path).map_err(|error| refused(path, &error))?;
        let version = prepare(&db).map_err(|error| refused(path, &error))?;
        if version != VERSION {
            let path = path.display();
            return Err(StoreError(format!("{path} was written by another version of gatepost")));
        }
        let (entries, now) = take_up(&db).map_err(|error| refused(path, &error))?;
        Ok((Self(db), entries, now))
    }

    pub(super) fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        Ok(Batch(self.0.transaction_with_behavior(TransactionBehavior::Immediate)?))
    }
}

fn prepare(db: &Connection) -> Result<i64, rusqlite::Error> {
    db.execute_batch(
        "PRAGMA busy_timeout = 1000; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;
         PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
    )?;
    let version = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != 0 {
        return Ok(version);
    }
    db.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?;
    Ok(VERSION)
}

fn take_up(db: &Connection) -> Result<(u64, Millis), rusqlite::Error> {
    db.execute_batch(CLOCK)?;
    db.execute("UPDATE event SET until = 0 WHERE phase = 'leased'", [])?;
    let read = |row: &Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)));
    db.query_row("SELECT (SELECT count(*) FROM event), now FROM clock", [], read)
}

impl Batch<'_> {
    /// Carries out one step of the protocol; says whether that added an event.
    pub(super) fn apply(
        &self,
        subject: &Subject,
        input: Input,
        now: Millis,
    ) -> Result<(Reply, bool), StoreError> {
        let event = self.find_event(subject.key)?;
        let guard = match subject.guard {
            Some(key) => self.find_guard(key)?,
            None => None,
        };
        let before = Kept { event, guard };
        let (after, reply) = step(before, subject, input, now);
        if after.event != before.event {
            self.write_event(subject.key, after.event)?;
        }
        if let Some(key) = subject.guard
            && after.guard != before.guard
        {
            self.write_guard(key, after.guard)?;
        }
        Ok((reply, before.event.is_none() && after.event.is_some()))
    }

    fn find_event(&self, key: EventKey) -> Result<Option<Record>, rusqlite::Error> {
        let query = "SELECT phase, mark, until, attempt, unknown, forget FROM event WHERE key = ?1";
        self.0.prepare_cached(query)?.query_row([key.0], read_record).optional()
    }

    fn find_guard(&self, key: EventKey) -> Result<Option<Guarded>, rusqlite::Error> {
        let query = "SELECT event, forget FROM guard WHERE key = ?1";
        let read =
            |row: &Row<'_>| Ok(Guarded { by: EventKey(row.get(0)?), until: unsigned(row.get(1)?) });
        self.0.prepare_cached(query)?.query_row([key.0], read).optional()
    }

    fn write_event(&self, key: EventKey, record: Option<Record>) -> Result<(), rusqlite::Error> {
        let Some(Record { phase, until, attempt, unknown, forget, term: _ }) = record else {
            let delete = "DELETE FROM event WHERE key = ?1";
            return self.0.prepare_cached(delete)?.execute([key.0]).map(drop);
        };
        let (phase, mark) = match phase {
            Phase::Free => ("free", Vec::new()),
            Phase::Leased(token) => ("leased", token.0.to_be_bytes().to_vec()),
            Phase::Held => ("held", Vec::new()),
            Phase::Done(digest) => ("done", digest.0.to_vec()),
        };
        let insert = "INSERT OR REPLACE INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = params![key.0, phase, mark, signed(until), attempt, unknown, signed(forget)];
        self.0.prepare_cached(insert)?.execute(values).map(drop)
    }

    fn write_guard(&self, key: EventKey, guard: Option<Guarded>) -> Result<(), rusqlite::Error> {
        let Some(Guarded { by, until }) = guard else {
            let delete = "DELETE FROM guard WHERE key = ?1";
            return self.0.prepare_cached(delete)?.execute([key.0]).map(drop);
        };
        let insert = "INSERT OR REPLACE INTO guard VALUES (?1, ?2, ?3)";
        self.0.prepare_cached(insert)?.execute(params![key.0, by.0, signed(until)]).map(drop)
    }

    /// Deletes some of what is over; says how many events.
    pub(super) fn sweep(&self, now: Millis) -> Result<i64, StoreError> {
        let delete = |table| {
            let over = format!(
                "DELETE FROM {table} WHERE key IN
                 (SELECT key FROM {table} WHERE forget <= ?1 ORDER BY forget LIMIT ?2)"
            );
            self.0.prepare_cached(&over)?.execute(params![signed(now), SWEEP_ROWS])
        };
        delete("guard")?;
        Ok(signed(delete("event")? as u64))
    }

    /// Remembers the time.
    pub(super) fn tick(&self, now: Millis) -> Result<(), StoreError> {
        self.0.prepare_cached("UPDATE clock SET now = ?1")?.execute([signed(now)])?;
        Ok(())
    }

    pub(super) fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit()?)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let hint =
            if is_damage(&error) { " (the file is damaged: stop, and move it away)" } else { "" };
        Self(format!("SQLite: {error}{hint}"))
    }
}

fn read_record(row: &Row<'_>) -> Result<Record, rusqlite::Error> {
    let phase = match row.get_ref(0)?.as_str()? {
        "leased" => Phase::Leased(Token(u128::from_be_bytes(row.get(1)?))),
        "held" => Phase::Held,
        "done" => Phase::Done(Digest(row.get(1)?)),
        _ => Phase::Free,
    };
    let (until, forget) = (unsigned(row.get(2)?), unsigned(row.get(5)?));
    let term = Millis::MAX; // our clock is not set back
    Ok(Record { phase, until, term, attempt: row.get(3)?, unknown: row.get(4)?, forget })
}

fn signed(millis: Millis) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn unsigned(millis: i64) -> Millis {
    u64::try_from(millis).unwrap_or_default()
}

/// Why the file cannot be used, and what to do.
fn refused(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    StoreError(if is_damage(error) {
        format!(
            "{path} is damaged ({error}): move it away to start with an empty memory; \
             events of the last days may then be delivered again"
        )
    } else {
        format!("cannot open {path}: {error}")
    })
}

/// Whether the file is none of ours any more: `SQLite` says so, or has no objection to what makes no sense to us.
fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    code.is_none_or(|code| matches!(code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
