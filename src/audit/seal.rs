//! Writes checkpoints beside the segments, and carries copies of them off this log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    CopyTo,
    checkpoint::{
        CHECKPOINTS, Checkpoint, PUBLIC_KEY, PublicKey, Signer, each_note, is_half_written,
        next_note,
    },
    segments::Head,
    storage::{Storage, StorageFile, replace, write_again},
};

/// How much of the end of the file is read to find the last checkpoint.
const TAIL_BYTES: u64 = 64 * 1024;
/// The part of the file that has to be of no use any more before it is written anew.
const STALE_PART: u64 = 10;
/// Copies that may wait for a place that is slow.
const COPIES_MAX: usize = 64;
/// How long the last copies get at the end.
const COPIES_WAIT: Duration = Duration::from_secs(2);

/// Signs and stores checkpoints.
pub(super) struct Sealer {
    storage: Arc<dyn Storage>,
    file: Box<dyn StorageFile>,
    len: u64,
    /// How much of its beginning is known to be about removed records only.
    stale: u64,
    fsync: bool,
    pub(super) signer: Signer,
    /// The one that covers most of those that this log's key signed.
    pub(super) last: Option<Checkpoint>,
    /// What was sealed when this process began.
    pub(super) before: Before,
    /// When the last one was written by this process.
    since: Instant,
    copies: Option<Copies>,
}

/// How far a log was sealed, by its key or by one that signed before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The last record that is covered.
    pub(super) size: u64,
    /// Who says so, if another key.
    pub(super) other: Option<String>,
}

impl Sealer {
    /// Finds the last checkpoint; cuts one that was not finished.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        signer: Signer,
        fsync: bool,
        copy_to: &[CopyTo],
    ) -> io::Result<Self> {
        let keys = publish(&*storage, &signer.public)?;
        let file = open_or_create(&*storage, CHECKPOINTS)?;
        let (last, before, len) = last_of(&*storage, &signer.public, &keys)?;
        file.truncate(len)?;
        write_again(&*storage, CHECKPOINTS, &*file, len, TAIL_BYTES)?;
        file.sync()?;
        storage.sync_dir()?;
        let copies = (!copy_to.is_empty()).then(|| Copies::start(copy_to.to_vec())).transpose()?;
        let (stale, since) = (0, Instant::now());
        Ok(Self { storage, file, len, stale, fsync, signer, last, before, since, copies })
    }

    /// How long ago the last one was written.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether `head` is newer than the last checkpoint.
    pub(super) fn is_behind(&self, head: Head) -> bool {
        self.last.as_ref().is_none_or(|last| last.size != head.seq)
    }

    /// Signs where the chain stands. The records are durable already.
    pub(super) fn seal(&mut self, head: Head, time: &str) -> io::Result<()> {
        let checkpoint = Checkpoint { size: head.seq, hash: head.hash, time: time.to_owned() };
        let line = self.signer.sign(&checkpoint);
        self.since = Instant::now();
        self.file.write_at(self.len, line.as_bytes())?;
        if self.fsync {
            self.file.sync().map_err(io::Error::other)?; // never mistaken for a full disk
        }
        self.len += line.len() as u64;
        self.last = Some(checkpoint);
        if let Some(copies) = &self.copies {
            copies.carry(line);
        }
        Ok(())
    }

    /// Leaves out the checkpoints that cover only records before `seq`: those were removed with their segments. While they are few they
    /// stay, because all others have to be written once more without them, and no record is meanwhile.
    pub(super) fn forget_before(&mut self, seq: u64) -> io::Result<()> {
        let mut old = File::open(self.storage.path().join(CHECKPOINTS))?;
        self.stale += stale(&old, self.stale, seq)?;
        if self.stale * STALE_PART < self.len {
            return Ok(());
        }
        old.rewind()?;
        let fresh = replace(&*self.storage, CHECKPOINTS, |sink| {
            let mut fresh = BufWriter::new(sink);
            each_note(BufReader::new(old), |line, note| match note {
                Some(note) if note.checkpoint.size >= seq => fresh.write_all(line),
                _ => Ok(()),
            })?;
            fresh.flush()
        })?;
        (self.file, self.len, self.stale) = (fresh.file, fresh.len, 0);
        Ok(())
    }

    /// Waits, for a bounded time, until the last copies are where they belong.
    pub(super) fn close(&mut self) {
        if let Some(copies) = self.copies.take() {
            copies.finish();
        }
    }
}

fn open_or_create(storage: &dyn Storage, name: &str) -> io::Result<Box<dyn StorageFile>> {
    match storage.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => storage.create(name),
        result => result,
    }
}

/// Puts the public key beside the log; keys that signed before stay there. Returns all of them.
fn publish(storage: &dyn Storage, key: &PublicKey) -> io::Result<Vec<PublicKey>> {
    let known = match fs::read_to_string(storage.path().join(PUBLIC_KEY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result?,
    };
    let mut all: Vec<_> =
        known.lines().filter_map(|line| PublicKey::parse(line.trim_end())).collect();
    if known.lines().any(|line| line == key.line()) {
        return Ok(all);
    }
    all.push(key.clone());
    let begin = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let keys = format!("{known}{begin}{}\n", key.line());
    replace(storage, PUBLIC_KEY, |sink| sink.write_all(keys.as_bytes())).map(|_| all)
}

/// What the checkpoints come to: the one that `own` signed and that covers most; how much one of `keys` says is covered, and which, if
/// it is another; and the length of the file without an unfinished one at its end, which may have its newline and zeros where the rest
/// should be.
fn last_of(
    storage: &dyn Storage,
    own: &PublicKey,
    keys: &[PublicKey],
) -> io::Result<(Option<Checkpoint>, Before, u64)> {
    let mut file = File::open(storage.path().join(CHECKPOINTS))?;
    let mut len = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(len))?;
    let (mut last, mut before, mut end) = (None::<Checkpoint>, Before::default(), len);
    each_note(BufReader::new(file), |line, note| {
        end += line.len() as u64;
        let signed = note.and_then(|note| Some((keys.get(note.signer(keys)?)?, note.checkpoint)));
        if signed.is_some() || !is_half_written(line) {
            len = end; // what counts stays, whatever stands behind it in its line
        }
        match signed {
            Some((key, checkpoint)) if key == own => {
                last = last.take().into_iter().chain([checkpoint]).max_by_key(|last| last.size);
            }
            Some((key, checkpoint)) if checkpoint.size > before.size => {
                before = Before { size: checkpoint.size, other: Some(key.fingerprint()) };
            }
            _ => {}
        }
        Ok(())
    })?;
    if let Some(last) = last.as_ref().filter(|last| last.size >= before.size) {
        before = Before { size: last.size, other: None };
    }
    Ok((last, before, len))
}

/// How many bytes, from `at` on, stand before the first checkpoint that covers record `seq`.
fn stale(file: &File, at: u64, seq: u64) -> io::Result<u64> {
    let (mut reader, mut line, mut found) = (BufReader::new(file), Vec::new(), 0);
    reader.seek(SeekFrom::Start(at))?;
    loop {
        let note = next_note(&mut reader, &mut line)?;
        if line.is_empty() || note.is_some_and(|note| note.checkpoint.size >= seq) {
            return Ok(found);
        }
        found += line.len() as u64;
    }
}

/// A thread that carries checkpoints away, so that a pipe nobody reads or a network drive cannot stop the log.
struct Copies {
    queue: mpsc::SyncSender<String>,
    done: mpsc::Receiver<()>,
}

impl Copies {
    fn start(places: Vec<CopyTo>) -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel::<String>(COPIES_MAX);
        let (finished, done) = mpsc::channel();
        thread::Builder::new().name("audit-copies".into()).spawn(move || {
            for line in lines {
                for place in &places {
                    if let Err(error) = copy(place, line.as_bytes()) {
                        tracing::error!(?place, %error, "a checkpoint was not copied");
                    }
                }
            }
            drop(finished);
        })?;
        Ok(Self { queue, done })
    }

    fn carry(&self, line: String) {
        if self.queue.try_send(line).is_err() {
            tracing::warn!("a checkpoint was not copied: the place it goes to is too slow");
        }
    }

    fn finish(self) {
        drop(self.queue);
        if self.done.recv_timeout(COPIES_WAIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the last checkpoints were not copied in time");
        }
    }
}

fn copy(place: &CopyTo, line: &[u8]) -> io::Result<()> {
    match place {
        CopyTo::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(line).and_then(|()| out.flush())
        }
        CopyTo::File(path) => {
            // A line of its own, whatever a crash or a full disk broke off before it.
            let begin: &[u8] = if is_broken_off(path)? { b"\n" } else { b"" };
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(&[begin, line].concat()).and_then(|()| file.sync_data())
        }
    }
}

/// Whether a file ends in the middle of a line.
fn is_broken_off(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(false);
    }
    let (mut file, mut last) = (File::open(path)?, [0]);
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
