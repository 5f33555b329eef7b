//! A disk that does as it is told: fills up, fails to sync, and forgets what was not synced.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
};

use gatepost::audit::storage::{Directory, Storage, StorageFile};

/// What is wrong with a disk, and what it was asked to do.
#[derive(Debug, Default)]
pub struct Faults {
    /// Files cannot grow.
    pub full: AtomicBool,
    /// The error with which files are not made, as the system numbers it; 0 for none.
    pub errno: AtomicI32,
    /// Syncs of files fail.
    pub sync_fails: AtomicBool,
    /// While it is held, syncs hang.
    pub gate: Mutex<()>,
    /// Syncs of segments so far.
    pub syncs: AtomicUsize,
    /// Syncs of the directory so far.
    pub dir_syncs: AtomicUsize,
    /// How often the checkpoints were written anew.
    pub rewritten: AtomicUsize,
    /// Free space as the disk tells it; 0 for what there really is.
    pub free: AtomicUsize,
}

/// A real directory with faults.
#[derive(Debug)]
pub struct Disk {
    below: Directory,
    pub faults: Arc<Faults>,
}

impl Disk {
    pub fn open(dir: &Path) -> Arc<Self> {
        let below = Directory::open(dir).expect("a directory");
        Arc::new(Self { below, faults: Arc::default() })
    }
}

#[derive(Debug)]
struct File {
    below: Box<dyn StorageFile>,
    faults: Arc<Faults>,
    size: AtomicU64,
}

impl Disk {
    fn file(&self, below: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(File { below, faults: self.faults.clone(), size: AtomicU64::new(0) })
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        self.below.path()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(self.below.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        match self.faults.errno.load(Ordering::SeqCst) {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        Ok(self.file(self.below.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.faults.rewritten.fetch_add(usize::from(to == "checkpoints"), Ordering::SeqCst);
        self.below.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.faults.dir_syncs.fetch_add(1, Ordering::SeqCst);
        self.below.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        match self.faults.free.load(Ordering::SeqCst) {
            0 => self.below.free_bytes(),
            told => Ok(told as u64),
        }
    }
}

impl StorageFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let grows = self.size.load(Ordering::SeqCst) < end;
        if grows && self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.below.write_at(offset, bytes)?;
        self.size.fetch_max(end, Ordering::SeqCst);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.faults.gate.lock());
        if self.faults.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        self.below.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.below.truncate(len)
    }
}
