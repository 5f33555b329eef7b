//! The disk as the log sees it: a directory of flat files. Everything above goes through these two traits, so that tests
//! can put a disk below it that fills up, fails and loses what was not synced.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// A directory of files. Names are plain: no separators.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The names that are there, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;
    /// Makes a file; an error where the name is taken.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;
    /// Puts `from` in the place of `to`, at once.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Positions are always given; there is no cursor.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads some bytes at `offset`; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes what was written durable, and the size where it grew.
    fn sync(&self) -> io::Result<()>;
    /// Cuts (or extends with zeros) to `len` bytes, durably.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// Reads a stored file from its beginning.
#[derive(Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a dyn StorageFile, pub(super) u64);

impl io::Read for Cursor<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(self.1, into)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else writes there.
    #[error("another gatepost holds the log in {} (pid {pid})", dir.display())]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// What the holder wrote into the lock file.
        pid: String,
    },
    /// The directory cannot be made, opened or locked.
    #[error("{}: {error}", dir.display())]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A real directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    _lock: File,
}

/// The file whose lock says who writes.
pub const LOCK: &str = "lock";

impl Directory {
    /// Makes the directory where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { dir: path.to_owned(), error };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = Self::lock(path)?;
        let handle = File::open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), handle, _lock: lock })
    }

    fn lock(path: &Path) -> Result<File, LockError> {
        let failed = |error| LockError::Io { dir: path.to_owned(), error };
        let mut options = private();
        let lock = options.create(true).open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let known = (&lock).take(20).read_to_string(&mut pid).is_ok();
                let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
                return Err(LockError::Held { dir: path.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).and_then(|()| (&lock).rewind()).map_err(failed)?;
        writeln!(&lock, "{}", std::process::id()).map_err(failed)?;
        Ok(lock)
    }
}

/// Read and write, for the owner (and the group's eyes) only, and never through a symbolic link.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o640);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

impl Storage for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string()));
        names.filter_map(|name: io::Result<_>| name.map(Result::ok).transpose()).collect()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(private().open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(private().create_new(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let figures = rustix::fs::fstatvfs(&self.handle)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

impl StorageFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len).and_then(|()| self.sync_all())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
