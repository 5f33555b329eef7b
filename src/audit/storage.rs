//! The disk as the log writes it: a directory of flat files. Every effect goes through these two traits, so that tests can
//! put a disk below the log that fills up, fails and loses what was not synced. Reading has no effect and uses plain files.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, OFlags, RenameFlags, renameat_with},
    io::Errno,
};

use super::OpenError;
use crate::event::Receipt;

/// A directory of files. Names are plain: no separators.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where it is, for reading.
    fn path(&self) -> &Path;
    /// Opens an existing file for writing.
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

/// A file that is written. Positions are always given; there is no cursor.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable, and the size where it grew.
    fn sync(&self) -> io::Result<()>;
    /// Cuts (or extends with zeros) to `len` bytes, durably.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Writes a stored file from its beginning to its end.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) file: Box<dyn StorageFile>,
    /// Bytes written.
    pub(super) len: u64,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the name of a file ends with that is not whole yet; what an interrupted run left of it is thrown away.
pub(super) const UNFINISHED: &str = ".tmp";

/// Writes a file anew and puts it in the place of the old one: after a crash one of the two is there, and whole.
pub(super) fn replace(
    storage: &dyn Storage,
    name: &str,
    fill: impl FnOnce(&mut Sink) -> io::Result<()>,
) -> io::Result<Sink> {
    let unfinished = format!("{name}{UNFINISHED}");
    let write = || {
        let mut sink = Sink { file: storage.create(&unfinished)?, len: 0 };
        fill(&mut sink)?;
        sink.file.sync()?;
        storage.rename(&unfinished, name)?;
        Ok(sink)
    };
    drop(storage.remove(&unfinished)); // of an interrupted run
    let made = write().inspect_err(|_| drop(storage.remove(&unfinished))); // a full disk needs the room
    made.and_then(|sink| storage.sync_dir().map_err(io::Error::other).map(|()| sink))
}

/// Puts a small file of its own in its place, durably: whatever interrupts it, the old one is there or all of the new one, and
/// nothing is in the way of the next try.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = unfinished(path, "")?;
    write_out(&unfinished, bytes, mode, || fs::rename(&unfinished, path))?;
    sync_parent(path)
}

/// The same for a file that must be new: an error of the kind `AlreadyExists`, and nothing is changed, where anything has the name by
/// then, and if another process gave it in this moment.
pub fn put_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = unfinished(path, &format!(".{}", Receipt::random()))?;
    write_out(&unfinished, bytes, mode, || rename_new(&unfinished, path))?;
    sync_parent(path)
}

/// Renames a file to a name that nothing has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS among others; there a link is never made over a name.
        Err(Errno::INVAL) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        renamed => Ok(renamed?),
    }
}

/// Where a file of its own is written before it is put in its place.
fn unfinished(path: &Path, by: &str) -> io::Result<PathBuf> {
    let mut name = OsString::from("."); // no source, key or certificate is called so
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(by);
    name.push(UNFINISHED);
    Ok(path.with_file_name(name))
}

/// Writes an unfinished file, and then does with it as `place` does; where that cannot be, nothing is left of it.
fn write_out(
    unfinished: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        place()
    };
    drop(fs::remove_file(unfinished)); // of an interrupted run
    write().inspect_err(|_| drop(fs::remove_file(unfinished))) // a full disk needs the room
}

/// Whether a file was made and its content never came: that is what a crash leaves where it was written in its place.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Writes the last bytes of a file that ends at `end` once more. What a failed sync left behind can be read, but the kernel
/// believes that it is on the disk, and would not write it with the next sync either.
pub(super) fn write_again(
    storage: &dyn Storage,
    name: &str,
    file: &dyn StorageFile,
    end: u64,
    most: u64,
) -> io::Result<()> {
    let (from, mut tail) = (end.saturating_sub(most), Vec::new());
    let mut old = File::open(storage.path().join(name))?;
    old.seek(SeekFrom::Start(from))?;
    old.read_to_end(&mut tail)?;
    file.write_at(from, &tail)
}

/// A real directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    lock: File,
}

/// Said, not left to closing: a process that is being started may hold a copy of the descriptor for a moment.
impl Drop for Directory {
    fn drop(&mut self) {
        self.lock.unlock().ok(); // it ends with the process at the latest
    }
}

impl Directory {
    /// Makes the directory where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let open = || {
            create_dir(path)?;
            let lock = private().create(true).open(path.join("lock"))?;
            Ok((lock, File::open(path)?))
        };
        let (lock, handle) = open().map_err(|error: io::Error| OpenError::failed(path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::held(path, &holder(&lock)));
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::failed(path, &error)),
        }
        let sign = || {
            lock.set_len(0).and_then(|()| (&lock).rewind())?;
            writeln!(&lock, "{}", std::process::id())
        };
        sign().map_err(|error| OpenError::failed(path, &error))?;
        Ok(Self { path: path.to_owned(), handle, lock })
    }
}

/// Makes a directory, and what is missing above it, under names that survive a crash. One that is there may have been made by a
/// run that ended before its name was durable: where that cannot be said of what holds it, somebody else made it.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(()); // where we are
    }
    if path.exists() {
        sync_parent(path).ok();
        return Ok(());
    }
    path.parent().map_or(Ok(()), create_dir)?;
    fs::create_dir_all(path)?;
    sync_parent(path)
}

/// Makes the name of a new file or directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    File::open(path.parent().unwrap_or(&path))?.sync_all()
}

/// Which process says that it holds a lock.
fn holder(lock: &File) -> String {
    let mut pid = String::new();
    match lock.take(20).read_to_string(&mut pid) {
        Ok(_) => pid.trim().to_owned(),
        Err(_) => "unknown".to_owned(),
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
    fn path(&self) -> &Path {
        &self.path
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

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len).and_then(|()| self.sync_all())
    }
}
