//! The chain on disk: segments that are laid out ahead with zeros, written in batches, cut to size when they are closed.
//!
//! A batch is written into zeros that are durable already, so syncing it does not touch the file's metadata. A new segment
//! is durable, name included, before the first record goes into it. After a failed write or sync nobody knows what the disk
//! holds, and a later success proves nothing: the journal is fenced and stays so until it is opened again.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use rustix::io::Errno;

use super::{
    Params,
    record::{Draft, hash_of},
    segments::{Frame, Head, Piece, SEQ_MAX, Segments, segment_name, tidy_up},
    storage::{Storage, StorageFile, write_again},
};
use crate::{crash, event::Timestamp};

/// How far a segment is laid out ahead, for so many batches like the last one, within bounds: while zeros are synced no
/// record is, so that few records need a short step, and many a long one that is seldom.
const STEP_BATCHES: u64 = 64;
const STEP_BYTES_MIN: u64 = 256 * 1024;
const STEP_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// So many times between segments make up the retention at the least.
const GAPS_MIN: u32 = 8;
/// Most bytes in one batch, and so the most that a crash can tear.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

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

/// The log's files while they are written. Knows nothing of threads, queues and keys.
#[derive(Debug)]
pub(super) struct Journal {
    storage: Arc<dyn Storage>,
    params: Params,
    live: Live,
    closed: Segments,
    head: Head,
    /// Where the chain stood before the batch that is being put together.
    pub(super) durable: Head,
    /// Records that are not written yet.
    pub(super) batch: Vec<u8>,
    /// How far ahead zeros are laid out.
    step: u64,
    /// What the first records of segments say, once they were asked.
    begins: BTreeMap<u64, (Head, Timestamp)>,
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
        params: Params,
        sealed: u64,
    ) -> io::Result<(Self, Recovery)> {
        let mut closed = tidy_up(&*storage)?;
        let (from, first, file) = match closed.found.last_key_value() {
            Some((&first, false)) => {
                (before(&closed, first)?, first, storage.open(&segment_name(first))?)
            }
            last => {
                let from = last.map_or(Ok(Head::ORIGIN), |(first, _)| closed.end_of(*first))?;
                let file = storage.create(&segment_name(from.seq + 1))?;
                storage.sync_dir()?;
                (from, from.seq + 1, file)
            }
        };
        closed.found.remove(&first);
        let scan = scan(&closed, from, first)?;
        let (head, len, recovery) = scan.judge(sealed);
        file.truncate(len)?;
        write_again(&*storage, &segment_name(first), &*file, len, BATCH_BYTES_MAX as u64)?;
        let live = Live { file, first, since: scan.since, len, laid: len };
        let (batch, step, fence) = (Vec::new(), STEP_BYTES_MIN, None);
        let durable = head;
        let begins = BTreeMap::new();
        let mut journal =
            Self { storage, params, live, closed, head, durable, batch, step, begins, fence };
        journal.lay_out(STEP_BYTES_MIN)?;
        Ok((journal, recovery))
    }

    /// Puts a record into the batch; returns its number, which is nobody's until [`Self::commit`] has succeeded.
    pub(super) fn push(&mut self, draft: &Draft, at: Timestamp, ts: &str) -> u64 {
        let seq = self.head.seq + 1;
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
        self.unfenced()?;
        let need = self.batch.len() as u64;
        self.step = (need * STEP_BATCHES).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        if self.live.laid < self.live.len + need {
            self.lay_out(need + self.step).map_err(|error| self.refuse(&error))?;
        }
        crash::point("before_write");
        crash::after("half_written", || {
            self.live.file.write_at(self.live.len, self.batch.split_at(self.batch.len() / 2).0)
        });
        let written = self.live.file.write_at(self.live.len, &self.batch);
        crash::point("written");
        written.and_then(|()| self.sync()).map_err(|error| self.fence_off(&error))?;
        crash::point("synced");
        self.live.len += need;
        Ok(())
    }

    /// Whether anything may be written.
    pub(super) fn unfenced(&self) -> Result<(), AuditError> {
        self.fence.clone().map_or(Ok(()), |why| Err(AuditError::Fenced(why)))
    }

    /// A full disk is found out while zeros are laid out, before any record is touched: that passes. Everything else stays.
    pub(super) fn refuse(&mut self, error: &io::Error) -> AuditError {
        if is_full(error) { AuditError::Full } else { self.fence_off(error) }
    }

    /// Nothing is written any more.
    pub(super) fn fence_off(&mut self, error: &io::Error) -> AuditError {
        let name = segment_name(self.live.first);
        let why = self.fence.get_or_insert_with(|| format!("{name}: {error}").into());
        AuditError::Fenced(why.clone())
    }

    fn sync(&self) -> io::Result<()> {
        if self.params.fsync { self.live.file.sync() } else { Ok(()) }
    }

    /// Writes zeros ahead and makes them durable, so that the file's size and blocks stand before records need them.
    fn lay_out(&mut self, bytes: u64) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 256 * 1024];
        let upto = self.live.len.saturating_add(bytes);
        while self.live.laid < upto {
            self.live.file.write_at(self.live.laid, ZEROS)?;
            self.live.laid += ZEROS.len() as u64;
        }
        // A sync that fails, for whatever reason, must never pass for a disk that is merely full.
        self.sync().map_err(io::Error::other)
    }

    /// What can be done between two batches, so that no record has to wait for it: more zeros.
    pub(super) fn prepare(&mut self) -> Result<(), AuditError> {
        if self.fence.is_some() || self.live.laid >= self.live.len + self.step / 2 {
            return Ok(());
        }
        self.lay_out(self.step).map_err(|error| self.refuse(&error))
    }

    /// Whether the live segment has become large or old enough to be closed. One that begins in a time to come was begun by a
    /// clock that was wrong, and would not become old for as long.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let old = |since: Timestamp| now < since || now >= since.plus(self.params.rotate_every);
        self.live.len > 0
            && (self.live.len >= self.params.rotate_bytes || self.live.since.is_some_and(old))
    }

    /// Begins a new segment and closes the live one; false where the process has too many files open for that, and nothing was
    /// done. Between batches only.
    pub(super) fn rotate(&mut self) -> Result<bool, AuditError> {
        self.unfenced()?;
        let first = self.durable.seq + 1;
        let file = match self.storage.create(&segment_name(first)) {
            Err(error) if is_out_of_descriptors(&error) => return Ok(false),
            made => made.map_err(|error| self.refuse(&error))?,
        };
        let fresh = Live { file, first, since: None, len: 0, laid: 0 };
        let old = std::mem::replace(&mut self.live, fresh);
        let made = self.lay_out(self.step);
        let made = made.and_then(|()| self.storage.sync_dir().map_err(io::Error::other));
        if let Err(error) = made {
            // Durably, or after a power cut it would be there again, beside the records that went on in the old one.
            let undone = self.storage.remove(&segment_name(first));
            let undone = undone.and_then(|()| self.storage.sync_dir());
            self.live = old;
            undone.map_err(|error| self.fence_off(&error))?;
            return Err(self.refuse(&error));
        }
        self.closed.found.insert(old.first, false);
        let cut = old.file.truncate(old.len).map_err(|error| self.fence_off(&error));
        cut.map(|()| true)
    }

    /// The oldest closed segment that is not compressed.
    pub(super) fn unpacked(&self) -> Option<u64> {
        self.closed.found.iter().find(|(_, packed)| !**packed).map(|(first, _)| *first)
    }

    /// A closed segment is compressed now.
    pub(super) fn packed(&mut self, first: u64) {
        self.closed.found.entry(first).and_modify(|packed| *packed = true);
    }

    /// The oldest closed segment, and where its chain ended, if that is longer ago than the retention.
    ///
    /// A clock that was wrong for a while must not make evidence old: by itself it is asked first, but the age that counts
    /// is made up of the times between the segments behind it, none of which counts for more than a part of the retention.
    pub(super) fn expired(&mut self, now: Timestamp) -> io::Result<Option<(u64, Head)>> {
        let Params { retention, rotate_every, .. } = self.params;
        let mut firsts = self.closed.firsts();
        let Some(oldest) = firsts.next() else { return Ok(None) };
        let next = firsts.next().unwrap_or(self.live.first);
        drop(firsts);
        let (end, closed) = match self.begin_of(next)? {
            Some(begins) => begins,
            None if next == self.live.first => return Ok(None), // it was just begun
            None => {
                let damaged = format!("{}: its first line is no record", segment_name(next));
                return Err(io::Error::other(damaged));
            }
        };
        if closed <= now && closed.plus(retention) >= now {
            return Ok(None);
        }
        let most = (retention / GAPS_MIN).max(rotate_every * 2);
        let (mut age, mut from) = (Duration::ZERO, closed);
        // A time that is still to come was none: it was closed before the first that is not.
        let mut passed = Some(closed).filter(|closed| *closed <= now);
        let later: Vec<_> = self.closed.firsts().skip(2).chain([self.live.first]).collect();
        for first in later {
            if let Some((_, begun)) = self.begin_of(first)? {
                age += begun.since(from).min(most);
                from = begun;
                passed = passed.or(Some(begun).filter(|begun| *begun <= now));
            }
        }
        age += now.since(from).min(most);
        let old = passed.is_some_and(|closed| closed.plus(retention) < now) && age > retention;
        Ok(old.then_some((oldest, end)))
    }

    /// What the first record of a segment says, read once.
    fn begin_of(&mut self, first: u64) -> io::Result<Option<(Head, Timestamp)>> {
        if let Some(known) = self.begins.get(&first) {
            return Ok(Some(*known));
        }
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", segment_name(first)))
        };
        let begins = self.closed.beginning(first).map_err(failed)?;
        self.begins.extend(begins.map(|begins| (first, begins)));
        Ok(begins)
    }

    /// Removes a closed segment.
    pub(super) fn remove(&mut self, first: u64) -> io::Result<()> {
        let packed = self.closed.found.remove(&first).unwrap_or(false);
        self.begins.remove(&first);
        super::segments::remove(&*self.storage, first, packed)
    }

    /// Cuts the live segment to size: the end of a clean run.
    pub(super) fn cut(&mut self) -> Result<(), AuditError> {
        self.unfenced()?;
        self.live.laid = self.live.len;
        self.live.file.truncate(self.live.len).map_err(|error| self.fence_off(&error))
    }
}

/// Whether there was no room, which may get better.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a file was not opened, nor made, because too many are open: that says nothing about the disk, and passes. Strangers
/// can bring it about, with connections.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let known = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| known.contains(&code))
}

/// What a segment continues: as its first record says, or where that cannot be read, the end of the one before. Its name says the
/// number.
fn before(segments: &Segments, first: u64) -> io::Result<Head> {
    if let Some((head, _)) = segments.beginning(first)? {
        return Ok(head);
    }
    match segments.firsts().rfind(|earlier| *earlier < first) {
        Some(earlier) => segments.end_of(earlier),
        None => Ok(Head::ORIGIN),
    }
}

/// What a segment holds.
#[derive(Debug)]
struct Scan {
    /// When its first record was written.
    since: Option<Timestamp>,
    /// The last record up to which every link holds, and where it ends.
    whole: (Head, u64),
    /// The record with the highest number of those that can be read at all, and where the last of those ends.
    readable: (Head, u64),
    /// Where the last byte that is not zero ends.
    used: u64,
    /// When the last record was written.
    time: Option<Timestamp>,
}

/// Reads the live segment, which continues `from`.
fn scan(segments: &Segments, from: Head, first: u64) -> io::Result<Scan> {
    let mut lines = segments.open(first, 0)?;
    let end = (Head { seq: first.saturating_sub(1), ..from }, 0);
    let mut scan = Scan { since: None, whole: end, readable: end, used: 0, time: None };
    let mut broken = false;
    loop {
        let piece = lines.advance()?;
        let frame = Frame::parse(lines.bytes()).filter(|_| piece == Piece::Line);
        match (piece, frame) {
            (Piece::End, _) => return Ok(scan),
            (_, None) => broken = true,
            (_, Some(frame)) => {
                scan.time = frame.time().or(scan.time);
                scan.since = scan.since.or(scan.time);
                let (last, _) = scan.whole;
                broken |= frame.seq != last.seq + 1 || frame.prev != last.hash;
                scan.readable.1 = lines.end();
                // Numbers never go back, or what is sealed would pass for a torn tail the next time. One that leaves no
                // room for more was made up.
                if scan.readable.0.seq < frame.seq && frame.seq < SEQ_MAX / 2 {
                    scan.readable.0 = Head { seq: frame.seq, hash: hash_of(lines.bytes()) };
                }
                if !broken {
                    scan.whole = scan.readable;
                }
            }
        }
        scan.used = lines.end();
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
        let (head, end) = self.readable;
        let torn = self.used.saturating_sub(end);
        (head, end, Recovery { torn, damaged: Some(whole.seq + 1), time: self.time })
    }
}
