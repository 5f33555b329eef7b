//! Writes checkpoints beside the segments, and carries copies of them off this log.

use std::{
    fs::OpenOptions,
    io::{self, BufReader, Write as _},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    CopyTo,
    checkpoint::{
        self, CHECKPOINTS, Checkpoint, Entry, Note, Notes, PUBLIC_KEY, PublicKey, Signer,
    },
    journal::Head,
    storage::{Cursor, Storage, StorageFile},
};

/// How much of the end of the file is read to find the last checkpoint.
const TAIL_BYTES: u64 = 64 * 1024;
/// Copies that may wait for a place that is slow.
const COPIES_MAX: usize = 64;
/// How long the last copies get at the end.
const COPIES_WAIT: Duration = Duration::from_secs(2);

/// Signs and stores checkpoints.
#[derive(Debug)]
pub(super) struct Sealer {
    storage: Arc<dyn Storage>,
    file: Box<dyn StorageFile>,
    len: u64,
    fsync: bool,
    signer: Signer,
    last: Option<Checkpoint>,
    /// When the last one was written by this process.
    since: Instant,
    copies: Option<Copies>,
}

impl Sealer {
    /// Finds the last checkpoint; cuts one that was not finished.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        signer: Signer,
        fsync: bool,
        copy_to: &[CopyTo],
    ) -> io::Result<Self> {
        publish(&*storage, signer.public())?;
        let file = open_or_create(&*storage, CHECKPOINTS)?;
        let (last, len) = last_of(&*file, signer.public())?;
        if len < file.size()? {
            file.truncate(len)?;
        }
        storage.sync_dir()?;
        let copies = (!copy_to.is_empty()).then(|| Copies::start(copy_to.to_vec())).transpose()?;
        Ok(Self { storage, file, len, fsync, signer, last, since: Instant::now(), copies })
    }

    /// The last checkpoint that this log's key signed.
    pub(super) fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref()
    }

    /// The key that signs.
    pub(super) fn key(&self) -> &PublicKey {
        self.signer.public()
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
        let note = self.signer.sign(&checkpoint);
        self.since = Instant::now();
        self.append(format!("{note}\n").as_bytes())?;
        self.last = Some(checkpoint);
        if let Some(copies) = &self.copies {
            copies.carry(note);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.len, bytes)?;
        if self.fsync {
            self.file.sync().map_err(io::Error::other)?; // never mistaken for a full disk
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Leaves out the checkpoints that cover only records before `seq`: those were removed with their segments.
    pub(super) fn forget_before(&mut self, seq: u64) -> io::Result<()> {
        let unfinished = format!("{CHECKPOINTS}.tmp");
        let fresh = self.storage.create(&unfinished)?;
        let (mut len, mut kept) = (0, String::new());
        let mut notes = Notes::new(BufReader::new(Cursor(&*self.file, 0)));
        while let Some(entry) = notes.advance()? {
            let Entry::Note(note) = entry else { continue };
            if note.checkpoint.size >= seq {
                kept.push_str(&note.render());
                kept.push('\n');
            }
            if kept.len() > 1 << 20 {
                fresh.write_at(len, kept.as_bytes())?;
                len += kept.len() as u64;
                kept.clear();
            }
        }
        fresh.write_at(len, kept.as_bytes())?;
        fresh.sync()?;
        self.storage.rename(&unfinished, CHECKPOINTS)?;
        self.storage.sync_dir()?;
        (self.file, self.len) = (fresh, len + kept.len() as u64);
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

/// Puts the public key beside the log; keys that signed before stay there.
fn publish(storage: &dyn Storage, key: &PublicKey) -> io::Result<()> {
    let file = open_or_create(storage, PUBLIC_KEY)?;
    let mut known = String::new();
    io::Read::read_to_string(&mut Cursor(&*file, 0), &mut known)?;
    if !known.lines().any(|line| line == key.line()) {
        let begin = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
        file.write_at(known.len() as u64, format!("{begin}{}\n", key.line()).as_bytes())?;
        file.sync()?;
    }
    Ok(())
}

/// The last checkpoint in a file that `key` signed, and the length of the file without an unfinished one.
fn last_of(file: &dyn StorageFile, key: &PublicKey) -> io::Result<(Option<Checkpoint>, u64)> {
    let size = file.size()?;
    let from = size.saturating_sub(TAIL_BYTES);
    let mut notes = Notes::new(BufReader::new(Cursor(file, from)));
    let (mut last, mut len) = (None, size);
    while let Some(entry) = notes.advance()? {
        match entry {
            Entry::Note(note) if note.is_signed_by(std::slice::from_ref(key)) => {
                last = Some(note.checkpoint);
            }
            Entry::Note(Note { .. }) | Entry::Rubbish(_) => {}
            Entry::Unfinished(at) => len = from + at,
        }
    }
    Ok((last, len))
}

/// A thread that carries checkpoints away, so that a pipe nobody reads or a network drive cannot stop the log.
#[derive(Debug)]
struct Copies {
    queue: mpsc::SyncSender<String>,
    done: mpsc::Receiver<()>,
}

impl Copies {
    fn start(places: Vec<CopyTo>) -> io::Result<Self> {
        let (queue, notes) = mpsc::sync_channel::<String>(COPIES_MAX);
        let (finished, done) = mpsc::channel();
        thread::Builder::new().name("audit-copies".into()).spawn(move || {
            for note in notes {
                for place in &places {
                    copy(place, &note);
                }
            }
            drop(finished);
        })?;
        Ok(Self { queue, done })
    }

    fn carry(&self, note: String) {
        if self.queue.try_send(note).is_err() {
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

fn copy(place: &CopyTo, note: &str) {
    let result = match place {
        CopyTo::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(checkpoint::as_line(note).as_bytes()).and_then(|()| out.flush())
        }
        CopyTo::File(path) => {
            OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| {
                file.write_all(format!("{note}\n").as_bytes()).and(file.sync_data())
            })
        }
    };
    if let Err(error) = result {
        tracing::error!(?place, %error, "a checkpoint was not copied");
    }
}
