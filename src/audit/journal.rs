//! The chain on disk: segments that are laid out ahead with zeros, written in batches, cut to size when they are closed.
//!
//! A batch is written into zeros that are durable already, so syncing it does not touch the file's metadata. A new segment
//! is durable, name included, before the first record goes into it. After a failed write or sync nobody knows what the disk
//! holds, and a later success proves nothing: the journal is fenced and stays so until it is opened again.

use std::{
    io::{self, BufReader},
    sync::Arc,
};

use super::{
    lines::{Frame, Lines, Piece, segment_name},
    record::{Draft, GENESIS, Hash, hash_of},
    segments::Closed,
    storage::{Storage, StorageFile},
};
use crate::event::Timestamp;

/// How far a segment is laid out ahead.
const STEP_BYTES: u64 = 4 * 1024 * 1024;
/// When less than this is left, more is laid out between two batches.
const AHEAD_BYTES: u64 = 1024 * 1024;
/// Most bytes in one batch, and so the most that a crash can tear.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Where a chain stands: its last record's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the last record; 0 before the first.
    pub(super) seq: u64,
    /// Its line's hash.
    pub(super) hash: Hash,
}

/// What a chain begins from.
pub(super) const ORIGIN: Head = Head { seq: 0, hash: GENESIS };

/// Why records did not become durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The disk is full, or nearly; it may get better.
    #[error("the audit log's disk is full")]
    Full,
    /// More records are waiting than the writer's queue holds.
    #[error("the audit log is behind")]
    Behind,
    /// Writing failed; nothing is written any more until a restart.
    #[error("the audit log failed: {0}")]
    Fenced(Arc<str>),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recovery {
    /// Bytes of an unfinished batch that were cut off.
    pub(super) torn: u64,
    /// The record at which the chain is broken in a way that no crash explains. Nothing was cut; the verifier will say so.
    pub(super) damaged: Option<u64>,
    /// When the last record was written, as far as the live segment tells.
    pub(super) time: Option<Timestamp>,
}

/// How segments are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) fsync: bool,
    pub(super) rotate_bytes: u64,
    pub(super) rotate_millis: i64,
}

/// The log's files while they are written. Knows nothing of threads, queues and keys.
#[derive(Debug)]
pub(super) struct Journal {
    storage: Arc<dyn Storage>,
    rules: Rules,
    live: Live,
    /// Closed segments, oldest first.
    pub(super) closed: Vec<Closed>,
    head: Head,
    /// Where the chain stood before the batch that is being put together.
    durable: Head,
    batch: Vec<u8>,
    fence: Option<Arc<str>>,
}

/// The segment that is written.
#[derive(Debug)]
struct Live {
    file: Box<dyn StorageFile>,
    first: u64,
    /// When its first record was written.
    since: Option<Timestamp>,
    /// Bytes of records.
    len: u64,
    /// Bytes that are laid out.
    laid: u64,
}

impl Journal {
    /// Takes up the log where it ended. `sealed` is how many records the last checkpoint covers: those are never cut.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        rules: Rules,
        sealed: u64,
        now: Timestamp,
    ) -> io::Result<(Self, Recovery)> {
        let (mut closed, last) = super::segments::survey(&*storage)?;
        let from = last.as_ref().map_or_else(|| end_of(closed.last()), |last| last.before);
        let fresh = last.is_none();
        let (file, first) = match last {
            Some(last) => (storage.open(&segment_name(last.first))?, last.first),
            None => (storage.create(&segment_name(from.seq + 1))?, from.seq + 1),
        };
        let scan = scan(&*file, from, first)?;
        let (head, len, recovery) = scan.judge(sealed);
        file.truncate(len)?;
        if fresh {
            storage.sync_dir()?;
        }
        if let Some(closed) = closed.last_mut().filter(|closed| closed.until.is_none()) {
            closed.until = scan.since.or(Some(now));
        }
        let live = Live { file, first, since: scan.since, len, laid: len };
        let (batch, fence) = (Vec::new(), None);
        let mut journal = Self { storage, rules, live, closed, head, durable: head, batch, fence };
        journal.lay_out(STEP_BYTES)?;
        Ok((journal, recovery))
    }

    /// Where the durable chain stands.
    pub(super) fn durable(&self) -> Head {
        self.durable
    }

    /// Number of the record that is put into the batch next.
    pub(super) fn next(&self) -> u64 {
        self.head.seq + 1
    }

    /// Bytes in the batch.
    pub(super) fn pending(&self) -> usize {
        self.batch.len()
    }

    /// Why nothing is written any more.
    pub(super) fn fence(&self) -> Option<&Arc<str>> {
        self.fence.as_ref()
    }

    /// Puts a record into the batch; returns its number, which is nobody's until [`Self::commit`] has succeeded.
    pub(super) fn push(&mut self, draft: &Draft, at: Timestamp, ts: &str) -> u64 {
        let seq = self.next();
        self.head = Head { seq, hash: draft.write(seq, ts, &self.head.hash, &mut self.batch) };
        self.live.since.get_or_insert(at);
        seq
    }

    /// Makes the batch durable: one write, one sync. Where it cannot, the records were never there.
    pub(super) fn commit(&mut self) -> Result<(), AuditError> {
        let result = self.write();
        self.batch.clear();
        match &result {
            Ok(()) => self.durable = self.head,
            Err(_) => self.head = self.durable,
        }
        result
    }

    fn write(&mut self) -> Result<(), AuditError> {
        if let Some(why) = &self.fence {
            return Err(AuditError::Fenced(why.clone()));
        }
        let need = self.batch.len() as u64;
        if self.live.laid < self.live.len + need {
            self.lay_out(need + STEP_BYTES).map_err(|error| self.refuse(&error))?;
        }
        let written = self.live.file.write_at(self.live.len, &self.batch);
        written.and_then(|()| self.sync()).map_err(|error| self.fence_off(&error))?;
        self.live.len += need;
        Ok(())
    }

    /// A full disk is found out while zeros are laid out, before any record is touched: that passes. Everything else stays.
    fn refuse(&mut self, error: &io::Error) -> AuditError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AuditError::Full,
            _ => self.fence_off(error),
        }
    }

    /// Nothing is written any more.
    pub(super) fn fence_off(&mut self, error: &io::Error) -> AuditError {
        let name = segment_name(self.live.first);
        let why = self.fence.get_or_insert_with(|| format!("{name}: {error}").into());
        AuditError::Fenced(why.clone())
    }

    fn sync(&self) -> io::Result<()> {
        if self.rules.fsync { self.live.file.sync() } else { Ok(()) }
    }

    /// Writes zeros ahead and makes them durable, so that the file's size and blocks stand before records need them.
    fn lay_out(&mut self, bytes: u64) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 256 * 1024];
        let upto = self.live.len.saturating_add(bytes);
        while self.live.laid < upto {
            let count = (upto - self.live.laid).min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
            self.live.file.write_at(self.live.laid, zeros)?;
            self.live.laid += count;
        }
        // A sync that fails, for whatever reason, must never pass for a disk that is merely full.
        self.sync().map_err(io::Error::other)
    }

    /// What can be done between two batches, so that no record has to wait for it: more zeros.
    pub(super) fn prepare(&mut self) -> Result<(), AuditError> {
        if self.fence.is_some() || self.live.laid >= self.live.len + AHEAD_BYTES {
            return Ok(());
        }
        self.lay_out(STEP_BYTES).map_err(|error| self.refuse(&error))
    }

    /// Whether the live segment has become large or old enough to be closed.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let old =
            |since: Timestamp| now.as_millis() - since.as_millis() >= self.rules.rotate_millis;
        let large = self.live.len >= self.rules.rotate_bytes;
        self.live.len > 0 && (large || self.live.since.is_some_and(old))
    }

    /// Begins a new segment and closes the live one. Between batches only.
    pub(super) fn rotate(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if let Some(why) = &self.fence {
            return Err(AuditError::Fenced(why.clone()));
        }
        let first = self.durable.seq + 1;
        let created = self.storage.create(&segment_name(first)).map_err(|e| self.refuse(&e))?;
        let fresh = Live { file: created, first, since: None, len: 0, laid: 0 };
        let old = std::mem::replace(&mut self.live, fresh);
        let made = self.lay_out(STEP_BYTES).and_then(|()| self.storage.sync_dir());
        if let Err(error) = made {
            let undone = self.storage.remove(&segment_name(first));
            self.live = old;
            undone.map_err(|error| self.fence_off(&error))?;
            return Err(self.refuse(&error));
        }
        self.closed.push(Closed {
            first: old.first,
            last: self.durable,
            until: Some(now),
            packed: false,
        });
        old.file.truncate(old.len).map_err(|error| self.fence_off(&error))
    }

    /// Cuts the live segment to size: the end of a clean run.
    pub(super) fn cut(&mut self) -> Result<(), AuditError> {
        if let Some(why) = &self.fence {
            return Err(AuditError::Fenced(why.clone()));
        }
        self.live.laid = self.live.len;
        self.live.file.truncate(self.live.len).map_err(|error| self.fence_off(&error))
    }
}

fn end_of(closed: Option<&Closed>) -> Head {
    closed.map_or(ORIGIN, |closed| closed.last)
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// When its first record was written.
    pub(super) since: Option<Timestamp>,
    /// The last record up to which every link holds, and where it ends.
    whole: (Head, u64),
    /// The last record that can be read at all, and where it ends.
    readable: (Head, u64),
    /// Where the last byte that is not zero ends.
    used: u64,
    /// When the last record was written.
    time: Option<Timestamp>,
}

/// Reads a segment that continues `from`.
pub(super) fn scan(file: &dyn StorageFile, from: Head, first: u64) -> io::Result<Scan> {
    let mut lines =
        Lines::new(BufReader::with_capacity(64 * 1024, super::storage::Cursor(file, 0)));
    scan_lines(&mut lines, Head { seq: first - 1, ..from })
}

/// The same of any reader.
pub(super) fn scan_lines(lines: &mut Lines<impl io::BufRead>, from: Head) -> io::Result<Scan> {
    let end = (from, 0);
    let mut scan = Scan { since: None, whole: end, readable: end, used: 0, time: None };
    let mut broken = false;
    loop {
        let piece = lines.advance()?;
        let end = lines.range().end;
        match piece {
            Piece::End => return Ok(scan),
            Piece::Zeros => {
                broken = true; // whatever follows zeros was not written by a batch that was synced
                continue;
            }
            Piece::Torn => broken = true,
            Piece::Line => match Frame::parse(lines.bytes()) {
                None => broken = true,
                Some(frame) => {
                    scan.time = parse_time(frame.ts).or(scan.time);
                    scan.since = scan.since.or(scan.time);
                    let head = Head { seq: frame.seq, hash: hash_of(lines.bytes()) };
                    let (last, _) = scan.whole;
                    broken |= frame.seq != last.seq + 1 || frame.prev != last.hash;
                    scan.readable = (head, end);
                    if !broken {
                        scan.whole = (head, end);
                    }
                }
            },
        }
        scan.used = end;
    }
}

impl Scan {
    /// Where to go on. What one unfinished batch can leave behind is cut, unless a checkpoint says that it was whole; any
    /// other damage is evidence and stays, and the chain goes on behind it.
    fn judge(&self, sealed: u64) -> (Head, u64, Recovery) {
        let (whole, end) = self.whole;
        let torn = self.used.saturating_sub(end);
        if torn <= BATCH_BYTES_MAX as u64 && sealed <= whole.seq {
            return (whole, end, Recovery { torn, damaged: None, time: self.time });
        }
        let (head, end) = if self.readable.1 > end { self.readable } else { self.whole };
        let torn = self.used.saturating_sub(end);
        (head, end, Recovery { torn, damaged: Some(whole.seq + 1), time: self.time })
    }

    /// The last record.
    pub(super) fn last(&self) -> Head {
        self.readable.0
    }
}

/// A record's time; `None` where it is none.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}
