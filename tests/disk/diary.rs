//! A disk that keeps a diary: everything the log asks of it, in order, with what the log promised in between.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use gatepost::audit::storage::{Storage, StorageFile};

/// Something that was asked of the disk, or told to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create {
        file: usize,
        name: String,
    },
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    /// Zeros that are laid out behind the end.
    Zeros {
        file: usize,
        to: usize,
    },
    Cut {
        file: usize,
        to: usize,
    },
    Sync {
        file: usize,
    },
    /// What was written before is clean to the kernel, and not on the disk.
    SyncFailed {
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    SyncDir,
    /// An event was acknowledged: it is record `seq`.
    Acked {
        seq: u64,
        event: u32,
    },
}

/// The diary, and which file has which name now.
#[derive(Debug, Default)]
struct Book {
    ops: Vec<Op>,
    names: BTreeMap<String, usize>,
    files: usize,
}

/// A directory without syncs, and a diary of it.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    book: Arc<Mutex<Book>>,
    failing: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Recorded {
    below: File,
    id: usize,
    book: Arc<Mutex<Book>>,
    failing: Arc<AtomicUsize>,
}

/// Whether these are the zeros that are laid out ahead.
pub fn is_zeros(bytes: &[u8]) -> bool {
    const ZEROS: &[u8] = &[0; 256 * 1024];
    ZEROS.get(..bytes.len()) == Some(bytes)
}

impl Recorder {
    /// A disk on which `present` is there already.
    pub fn new(path: &Path) -> Arc<Self> {
        let mut book = Book::default();
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            book.names.insert(name, 0);
        }
        for id in book.names.values_mut() {
            book.files += 1;
            *id = book.files;
        }
        let book = Arc::new(Mutex::new(book));
        Arc::new(Self { path: path.to_owned(), book, failing: Arc::default() })
    }

    pub fn acked(&self, seq: u64, event: u32) {
        self.book.lock().unwrap().ops.push(Op::Acked { seq, event });
    }

    /// From now on the sync after `count` more fails, once.
    pub fn fail_sync(&self, count: usize) {
        self.failing.store(count + 1, Ordering::SeqCst);
    }

    pub fn ops(&self) -> Vec<Op> {
        self.book.lock().unwrap().ops.clone()
    }

    fn file(&self, below: File, id: usize) -> Box<dyn StorageFile> {
        let (book, failing) = (self.book.clone(), self.failing.clone());
        Box::new(Recorded { below, id, book, failing })
    }
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    options
}

impl Storage for Recorder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let book = self.book.lock().unwrap();
        let below = options().open(self.path.join(name))?;
        Ok(self.file(below, book.names[name]))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut book = self.book.lock().unwrap();
        let below = options().create_new(true).open(self.path.join(name))?;
        book.files += 1;
        let file = book.files;
        book.names.insert(name.to_owned(), file);
        book.ops.push(Op::Create { file, name: name.to_owned() });
        Ok(self.file(below, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut book = self.book.lock().unwrap();
        fs::rename(self.path.join(from), self.path.join(to))?;
        let file = book.names.remove(from).unwrap();
        book.names.insert(to.to_owned(), file);
        book.ops.push(Op::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut book = self.book.lock().unwrap();
        fs::remove_file(self.path.join(name))?;
        book.names.remove(name);
        book.ops.push(Op::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.book.lock().unwrap().ops.push(Op::SyncDir);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl StorageFile for Recorded {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut book = self.book.lock().unwrap();
        let (file, at) = (self.id, offset as usize);
        if is_zeros(bytes) && offset >= self.below.metadata()?.len() {
            let to = at + bytes.len();
            self.below.set_len(to as u64)?;
            book.ops.push(Op::Zeros { file, to });
        } else {
            self.below.write_all_at(bytes, offset)?;
            book.ops.push(Op::Write { file, at, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut book = self.book.lock().unwrap();
        let failing = self.failing.load(Ordering::SeqCst);
        self.failing.store(failing.saturating_sub(1), Ordering::SeqCst);
        if failing == 1 {
            book.ops.push(Op::SyncFailed { file: self.id });
            return Err(io::Error::from_raw_os_error(5)); // EIO
        }
        book.ops.push(Op::Sync { file: self.id });
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut book = self.book.lock().unwrap();
        self.below.set_len(len)?;
        book.ops.extend([Op::Cut { file: self.id, to: len as usize }, Op::Sync { file: self.id }]);
        Ok(())
    }
}
