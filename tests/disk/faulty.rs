//! A disk that fails as it is told, runs full at any byte, hangs, and knows what it was asked to do.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use gatepost::audit::storage::{Directory, Storage, StorageFile};

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
/// No error, but a panic of the code below.
pub const PANIC: i32 = -1;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Write,
    Sync,
    Truncate,
    SyncDir,
    /// Carried out, and then not said to be.
    Rename,
}

/// What goes wrong, for files whose names begin so.
#[derive(Clone, Copy, Debug)]
pub struct Fault(pub Ask, pub &'static str, pub i32);

/// What was done to the segments.
#[derive(Clone, Copy, Debug)]
pub enum Done {
    Zeros { at: u64, len: u64 },
    Records { at: u64, len: u64 },
    Sync,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub done: Mutex<Vec<Done>>,
    fault: Mutex<Option<Fault>>,
    /// Bytes by which files may still grow.
    room: Mutex<Option<u64>>,
    /// Syncs of segments, and writes to what is not whole yet, that hang: whether they do, and how many.
    hanging: Mutex<(bool, usize)>,
    changed: Condvar,
}

#[derive(Debug)]
pub struct Faulty {
    below: Directory,
    pub plan: Arc<Plan>,
}

#[derive(Debug)]
struct File {
    below: Box<dyn StorageFile>,
    name: String,
    len: Mutex<u64>,
    plan: Arc<Plan>,
}

impl Plan {
    pub fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn check(&self, ask: Ask, name: &str) -> io::Result<()> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some(Fault(what, begin, errno)) if what == ask && name.starts_with(begin) => {
                assert_ne!(errno, PANIC, "as was asked");
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, name: &str, done: Done) {
        if name.starts_with("segment-") {
            self.done.lock().unwrap().push(done);
        }
    }

    pub fn give(&self, room: Option<u64>) {
        *self.room.lock().unwrap() = room;
    }

    pub fn hang(&self, hang: bool) {
        self.hanging.lock().unwrap().0 = hang;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut hanging = self.hanging.lock().unwrap();
        hanging.1 += usize::from(hanging.0);
        self.changed.notify_all();
        drop(self.changed.wait_while(hanging, |(hang, _)| *hang).unwrap());
    }

    /// Waits until so many hang.
    pub fn until_hanging(&self, count: usize) {
        let hanging = self.hanging.lock().unwrap();
        drop(self.changed.wait_while(hanging, |(_, hanging)| *hanging < count).unwrap());
    }
}

impl Faulty {
    pub fn open(dir: &Path) -> Arc<Self> {
        Arc::new(Self { below: Directory::open(dir).expect("a directory"), plan: Arc::default() })
    }

    fn file(&self, name: &str, below: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        let len = std::fs::metadata(self.path().join(name)).unwrap().len();
        let (name, plan) = (name.to_owned(), self.plan.clone());
        Box::new(File { below, name, len: Mutex::new(len), plan })
    }
}

impl Storage for Faulty {
    fn path(&self) -> &Path {
        self.below.path()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.below.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(name, self.below.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(from, to)?;
        self.plan.check(Ask::Rename, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.plan.check(Ask::SyncDir, "")?;
        self.below.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.plan.room.lock().unwrap().unwrap_or(1 << 40))
    }
}

impl StorageFile for File {
    /// A full disk takes what fits, and then says that it is full.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.plan.check(Ask::Write, &self.name)?;
        if self.name.ends_with(".tmp") {
            self.plan.wait();
        }
        let (mut len, mut room) = (self.len.lock().unwrap(), self.plan.room.lock().unwrap());
        let grows = (offset + bytes.len() as u64).saturating_sub(*len);
        let fits = grows.min(room.unwrap_or(u64::MAX));
        *len += fits;
        if let Some(room) = &mut *room {
            *room -= fits;
        }
        let written = bytes.len() as u64 - (grows - fits);
        let (at, len) = (offset, written);
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let done = if zeros { Done::Zeros { at, len } } else { Done::Records { at, len } };
        self.plan.note(&self.name, done);
        self.below.write_at(offset, &bytes[..written as usize])?;
        if fits < grows { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.name.starts_with("segment-") {
            self.plan.wait();
        }
        self.plan.note(&self.name, Done::Sync);
        self.plan.check(Ask::Sync, &self.name)?;
        self.below.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.plan.check(Ask::Truncate, &self.name)?;
        *self.len.lock().unwrap() = len;
        self.below.truncate(len)
    }
}
