//! A disk that fills up, fails, tears and forgets. What a process wrote is read through plain files, so each write goes
//! there as well; after a power cut the files are put back to what had been synced, and some of what had not.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use gatepost::audit::storage::{Storage, StorageFile};

use crate::{
    process::Process,
    world::{Mistake, World, lock},
};

const SECTOR: usize = 512;

/// The disk of one machine; it outlives processes.
#[derive(Debug)]
pub struct Disk {
    world: Arc<World>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<File>,
    /// Names as they are, and as they would be after a power cut.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Names as they were after each change that is not synced.
    changes: Vec<BTreeMap<String, usize>>,
}

/// Content without the zeros at its end: a file that is shorter than it was laid out reads the same.
#[derive(Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Where, and what.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    pub fn new(world: &Arc<World>, path: PathBuf) -> Arc<Self> {
        fs::create_dir_all(&path).expect("a directory");
        Arc::new(Self { world: Arc::clone(world), path, state: Mutex::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the machine finds when it has power again.
    pub fn lose_power(&self) {
        let state = &mut *lock(&self.state);
        let kept = usize::try_from(self.world.below(state.changes.len() as u64 + 1)).unwrap();
        let (now, sure) = (state.names.len(), state.durable.len());
        let of = state.changes.len();
        self.world.say(|| {
            format!("disk        of {now} files {sure} are sure, {kept} of {of} changes are kept")
        });
        if let Some(last) = kept.checked_sub(1) {
            state.durable.clone_from(&state.changes[last]);
        }
        for name in state.names.keys() {
            fs::remove_file(self.path.join(name)).expect("removed");
        }
        state.names.clone_from(&state.durable);
        state.changes.clear();
        for file in &mut state.files {
            for (at, bytes) in std::mem::take(&mut file.pending) {
                self.tear(&mut file.durable, at, &bytes);
            }
            file.now.clone_from(&file.durable);
        }
        for (name, file) in &state.names {
            fs::write(self.path.join(name), &state.files[*file].now).expect("written");
        }
    }

    /// All of a write reached the disk, or nothing, or any of its sectors.
    fn tear(&self, content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
        let how = self.world.below(3);
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if how == 0 || how == 1 && self.world.below(2) == 0 {
                put(content, at + index * SECTOR, sector);
            }
        }
    }

    /// Notes which attempts are durable from now on.
    fn note_durable(&self, bytes: &[u8]) {
        const MARK: &str = "\"kind\":\"attempt\",\"receipt\":\"";
        let (now, text) = (self.world.tick(), String::from_utf8_lossy(bytes));
        for (at, _) in text.match_indices(MARK) {
            let receipt = text[at + MARK.len()..].split('"').next().unwrap_or_default();
            lock(&self.world.durable).entry(receipt.to_owned()).or_insert(now);
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// The disk as one process sees it.
#[derive(Debug)]
pub struct Mount {
    pub disk: Arc<Disk>,
    pub process: Arc<Process>,
}

impl Mount {
    fn say(&self, line: impl FnOnce() -> String) {
        self.disk.world.say(|| format!("{} disk  {}", self.process.name, line()));
    }

    fn fails(&self) -> bool {
        let fails = self.disk.world.happens(self.disk.world.plan.disk);
        if fails {
            self.disk.world.count("disk trouble");
        }
        fails
    }

    fn change(
        &self,
        what: &str,
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        self.process.check(what)?;
        {
            let state = &mut *lock(&self.disk.state);
            change(state)?;
            let names = state.names.clone();
            state.changes.push(names);
        }
        self.process.check(what)
    }

    fn handle(&self, name: &str, index: usize) -> io::Result<Box<dyn StorageFile>> {
        let path = self.disk.path.join(name);
        let real = fs::OpenOptions::new().read(true).write(true).open(path)?;
        let (disk, process) = (Arc::clone(&self.disk), Arc::clone(&self.process));
        Ok(Box::new(Handle { mount: Self { disk, process }, index, real }))
    }
}

impl Storage for Mount {
    fn path(&self) -> &Path {
        &self.disk.path
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let found = lock(&self.disk.state).names.get(name).copied();
        self.handle(name, found.ok_or(io::ErrorKind::NotFound)?)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        if self.fails() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut index = 0;
        self.say(|| format!("creates {name}"));
        self.change("disk create", |state| {
            fs::File::create_new(self.disk.path.join(name))?;
            index = state.files.len();
            state.files.push(File::default());
            state.names.insert(name.to_owned(), index);
            Ok(())
        })?;
        self.handle(name, index)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.say(|| format!("renames {from} to {to}"));
        self.change("disk rename", |state| {
            fs::rename(self.disk.path.join(from), self.disk.path.join(to))?;
            let index = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), index);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.say(|| format!("removes {name}"));
        self.change("disk remove", |state| {
            fs::remove_file(self.disk.path.join(name))?;
            state.names.remove(name);
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.process.check("disk sync names")?;
        if self.fails() {
            return Err(io::Error::other("simulated: names not synced"));
        }
        self.say(|| "syncs names".into());
        if !self.disk.world.has(Mistake::NoSyncOfNames) {
            let state = &mut *lock(&self.disk.state);
            state.durable.clone_from(&state.names);
            state.changes.clear();
        }
        self.process.check("disk synced names")
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.fails() { 0 } else { 1 << 40 })
    }
}

#[derive(Debug)]
struct Handle {
    mount: Mount,
    index: usize,
    real: fs::File,
}

impl Handle {
    fn say(&self, line: impl FnOnce() -> String) {
        self.mount.say(|| format!("file {}: {}", self.index, line()));
    }

    fn with<T>(&self, change: impl FnOnce(&mut File) -> T) -> T {
        change(&mut lock(&self.mount.disk.state).files[self.index])
    }

    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        self.with(|file| {
            put(&mut file.now, at, bytes);
            file.pending.push((at, bytes.to_vec()));
        });
        self.say(|| format!("{} bytes at {at}", bytes.len()));
        self.real.write_all_at(bytes, at as u64)
    }
}

impl StorageFile for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mount.process.check("disk write")?;
        let at = usize::try_from(offset).expect("a small file");
        let ahead = bytes.iter().rev().take(64).all(|byte| *byte == 0);
        if ahead && self.with(|file| at >= file.now.len()) {
            // Laying out: this is where a full disk is found out. The zeros are not kept.
            let full = self.mount.fails();
            return if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        }
        if self.mount.fails() {
            let some = usize::try_from(self.mount.disk.world.below(bytes.len() as u64)).unwrap();
            self.write(at, &bytes[..some])?;
            return Err(io::Error::other("simulated: short write"));
        }
        self.write(at, bytes)?;
        self.mount.process.check("disk written")
    }

    fn sync(&self) -> io::Result<()> {
        self.mount.process.check("disk sync")?;
        let disk = &self.mount.disk;
        if self.mount.fails() {
            // What the kernel could not write it may drop: the file reads as written and is not.
            let lost = self.with(|file| std::mem::take(&mut file.pending));
            self.say(|| format!("sync failed, {} writes lost", lost.len()));
            return Err(io::Error::other("simulated: not synced"));
        }
        if !disk.world.has(Mistake::NoSync) {
            let synced = self.with(|file| {
                file.durable.clone_from(&file.now);
                std::mem::take(&mut file.pending)
            });
            self.say(|| format!("{} writes synced", synced.len()));
            synced.iter().for_each(|(_, bytes)| disk.note_durable(bytes));
        }
        self.mount.process.check("disk synced")
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.mount.process.check("disk truncate")?;
        let keep = usize::try_from(len).expect("a small file");
        self.say(|| format!("cut to {keep} bytes"));
        self.with(|file| {
            file.now.truncate(keep);
            file.durable.clone_from(&file.now);
            file.pending.clear();
        });
        let real = self.real.metadata()?.len();
        self.real.set_len(real.min(len))?;
        self.mount.process.check("disk truncated")
    }
}

impl Process {
    /// What the disk of its machine goes through when it dies.
    pub fn settle(&self, disk: &Disk) {
        if self.power_lost.load(Relaxed) {
            disk.lose_power();
        }
    }
}
