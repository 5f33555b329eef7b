//! What a disk may hold when the power fails: what was synced, and anything of the rest.
//!
//! Of writes that were not synced: none, all, any prefix to the byte, with or without the file's new size (zeros stand for
//! what is missing), any subset of their sectors. Of names that were not synced: any subset, in order. A sync that failed
//! makes what was written before clean: it stays readable, and reaches the disk only if it is written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    path::Path,
};

use crate::{diary::Op, dice::Dice};

const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// How many of the zeros at the end of a file are kept in most states: one like the other, and reading takes time.
const ZEROS_KEPT: usize = 1024;

/// A file's bytes; behind `bytes` come zeros up to `len`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub len: usize,
}

/// Files by name.
pub type State = BTreeMap<String, Content>;

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Grow(usize),
    Cut(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// As the running process reads it.
    cache: Content,
    durable: Content,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Entry {
    Put(String, usize),
    Rename(String, String),
    Remove(String),
}

/// A disk in the middle of a diary.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<usize, Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Entry>,
    /// What was acknowledged so far.
    pub acked: Vec<(u64, u32)>,
    /// Every line of checkpoints that was durable once, and so may have left the machine, by how much it covers.
    pub promised: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
        self.len = self.len.max(end);
    }

    fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.len = len;
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(at, bytes) => self.write(*at, bytes),
            Change::Grow(to) => self.len = self.len.max(*to),
            Change::Cut(to) => self.cut(*to),
        }
    }

    fn copy_from(&mut self, other: &Self, from: usize, to: usize) {
        let end = to.min(other.bytes.len());
        if from < end {
            self.write(from, &other.bytes[from..end]);
        }
        let (zeros, end) = (from.max(end), to.min(self.bytes.len()));
        if zeros < end {
            self.bytes[zeros..end].fill(0);
        }
    }

    fn trimmed(mut self, zeros: usize) -> Self {
        while self.bytes.pop_if(|last| *last == 0).is_some() {}
        self.len = self.len.min(self.bytes.len() + zeros);
        self
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        self.cache.apply(&change);
        self.pending.push(change);
    }

    /// The kernel writes whole pages, and only those that were touched since.
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(at, bytes) => {
                    let end = (at + bytes.len()).next_multiple_of(PAGE);
                    self.durable.copy_from(&self.cache, at / PAGE * PAGE, end);
                }
                Change::Grow(_) => {}
                Change::Cut(to) => self.durable.cut(to),
            }
        }
        self.durable.cut(self.durable.bytes.len().min(self.cache.len));
        self.durable.len = self.cache.len;
    }

    fn whole(&self) -> Content {
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|change| content.apply(change));
        content
    }

    /// What this file may hold after a crash, none and all of it first.
    fn outcomes(&self, dice: &mut Dice) -> Vec<Content> {
        let whole = self.whole();
        let mut found = vec![self.durable.clone(), whole.clone()];
        let mut before = self.durable.clone();
        for change in &self.pending {
            for cut in cuts(change, dice) {
                let mut content = before.clone();
                if let Change::Write(at, bytes) = change {
                    content.write(*at, &bytes[..cut]);
                }
                if let Change::Grow(to) = change {
                    content.len = content.len.max(*to - cut);
                }
                let mut grown = content.clone();
                grown.len = whole.len.max(content.len);
                found.extend([content, grown]);
            }
            before.apply(change);
            found.push(before.clone());
        }
        found.extend(self.sector_subsets(&whole, dice));
        found
    }

    fn sector_subsets(&self, whole: &Content, dice: &mut Dice) -> Vec<Content> {
        let touched: BTreeSet<usize> = self.pending.iter().flat_map(sectors).collect();
        let touched: Vec<usize> = touched.into_iter().collect();
        let mut subsets: Vec<Vec<usize>> = Vec::new();
        for index in 0..touched.len().min(40) {
            subsets.push(vec![touched[index]]);
            let mut but = touched.clone();
            but.remove(index);
            subsets.push(but);
        }
        for odd in 0..2 {
            subsets.push(touched.iter().copied().skip(odd).step_by(2).collect());
        }
        for _ in 0..6 {
            subsets.push(touched.iter().copied().filter(|_| dice.roll(2) == 0).collect());
        }
        let content = |subset: Vec<usize>| {
            let mut content = self.durable.clone();
            for sector in subset {
                content.copy_from(whole, sector * SECTOR, (sector + 1) * SECTOR);
            }
            content.bytes.truncate(whole.len);
            content.len = whole.len;
            content
        };
        subsets.into_iter().map(content).collect()
    }
}

/// Where a write may be torn: around its ends, its sectors and its lines, and anywhere.
fn cuts(change: &Change, dice: &mut Dice) -> Vec<usize> {
    let (at, bytes): (usize, &[u8]) = match change {
        Change::Write(at, bytes) => (*at, bytes),
        Change::Grow(to) => return vec![1.min(*to), (4096 + dice.roll(9000)).min(*to)],
        Change::Cut(_) => return Vec::new(),
    };
    let mut cuts = vec![0, 1, bytes.len() / 2, bytes.len() - 1];
    cuts.extend((0..4).map(|_| dice.roll(bytes.len())));
    let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(end, _)| end);
    cuts.extend(ends.flat_map(|end| [end, end + 1]).take(24));
    let first = at.next_multiple_of(SECTOR) - at;
    let sectors = (first..bytes.len()).step_by(SECTOR);
    cuts.extend(sectors.flat_map(|cut| [cut, cut + 1]).take(24));
    cuts.retain(|cut| *cut < bytes.len());
    cuts
}

fn sectors(change: &Change) -> std::ops::Range<usize> {
    match change {
        Change::Write(at, bytes) => at / SECTOR..(at + bytes.len()).div_ceil(SECTOR),
        Change::Grow(_) | Change::Cut(_) => 0..0,
    }
}

fn enter(names: &mut BTreeMap<String, usize>, entry: &Entry) {
    match entry {
        Entry::Put(name, file) => drop(names.insert(name.clone(), *file)),
        Entry::Remove(name) => drop(names.remove(name)),
        Entry::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl Disk {
    /// A disk that holds this, durably; its files have the numbers that [`crate::diary::Recorder`] gives them.
    pub fn holding(state: &State) -> Self {
        let mut disk = Self::default();
        for (index, (name, content)) in state.iter().enumerate() {
            let (cache, durable) = (content.clone(), content.clone());
            disk.files.insert(index + 1, Inode { cache, durable, pending: Vec::new() });
            disk.names.insert(name.clone(), index + 1);
        }
        disk.durable_names.clone_from(&disk.names);
        disk
    }

    fn entry(&mut self, entry: Entry) {
        enter(&mut self.names, &entry);
        self.pending_names.push(entry);
    }

    pub fn apply(&mut self, op: &Op) {
        let change = |disk: &mut Self, file: &usize, change| {
            disk.files.get_mut(file).unwrap().change(change);
        };
        match op {
            Op::Create { file, name } => {
                self.files.insert(*file, Inode::default());
                self.entry(Entry::Put(name.clone(), *file));
            }
            Op::Write { file, at, bytes } => change(self, file, Change::Write(*at, bytes.clone())),
            Op::Zeros { file, to } => change(self, file, Change::Grow(*to)),
            Op::Cut { file, to } => change(self, file, Change::Cut(*to)),
            Op::Sync { file } => {
                self.files.get_mut(file).unwrap().sync();
                if self.names.get("checkpoints") == Some(file) {
                    let lines = self.files[file].durable.bytes.split_inclusive(|b| *b == b'\n');
                    let whole = lines.filter(|line| line.ends_with(b"\n"));
                    self.promised.extend(whole.map(|line| (size_of(line), line.to_vec())));
                }
            }
            Op::SyncFailed { file } => self.files.get_mut(file).unwrap().pending.clear(),
            Op::Rename { from, to } => self.entry(Entry::Rename(from.clone(), to.clone())),
            Op::Remove { name } => self.entry(Entry::Remove(name.clone())),
            Op::SyncDir => {
                self.pending_names.clear();
                self.durable_names.clone_from(&self.names);
            }
            Op::Acked { seq, event } => self.acked.push((*seq, *event)),
        }
    }

    /// Up to `count` of the states that a crash may leave here, chosen by `dice`.
    pub fn crashes(&self, count: usize, dice: &mut Dice) -> Vec<State> {
        let names = self.name_outcomes(dice);
        let outcomes: BTreeMap<usize, Vec<Content>> = self
            .files
            .iter()
            .filter(|(_, inode)| !inode.pending.is_empty())
            .map(|(file, inode)| (*file, inode.outcomes(dice)))
            .collect();
        let busy: Vec<usize> = outcomes.keys().copied().collect();
        let mut found = Vec::new();
        for turn in 0..count {
            let focus = (!busy.is_empty()).then(|| busy[dice.roll(busy.len())]);
            let (rest, whole) = (dice.roll(3), dice.roll(1000) == 0);
            let names = &names[if turn < names.len() { turn } else { dice.roll(names.len()) }];
            let pick = |file: &usize, dice: &mut Dice| match outcomes.get(file) {
                None => self.files[file].durable.clone(),
                Some(all) if Some(*file) == focus || rest == 2 => all[dice.roll(all.len())].clone(),
                Some(all) => all[rest].clone(),
            };
            let zeros = if whole { usize::MAX / 2 } else { ZEROS_KEPT };
            let state =
                names.iter().map(|(name, file)| (name.clone(), pick(file, dice).trimmed(zeros)));
            found.push(state.collect());
        }
        found
    }

    /// Which names may be there: none of what was not synced, all of it, every subset of a few, some of many.
    fn name_outcomes(&self, dice: &mut Dice) -> Vec<BTreeMap<String, usize>> {
        let count = self.pending_names.len().min(16);
        let masks: Vec<usize> = match count {
            0 => vec![0],
            1..=4 => (0..1 << count).collect(),
            _ => {
                let prefixes = (0..=count).map(|kept| (1 << kept) - 1);
                prefixes.chain((0..16).map(|_| dice.roll(1 << count))).collect()
            }
        };
        let outcome = |mask: usize| {
            let mut names = self.durable_names.clone();
            for (index, entry) in self.pending_names.iter().enumerate() {
                if mask >> index.min(15) & 1 == 1 {
                    enter(&mut names, entry);
                }
            }
            names
        };
        masks.into_iter().map(outcome).collect()
    }
}

/// How many records a line of checkpoints covers.
pub fn size_of(line: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(line);
    text.split("\\n").nth(1).and_then(|size| size.parse().ok()).unwrap_or_default()
}

/// What tells two states apart.
pub fn hash_of(state: &State, acked: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (state, acked).hash(&mut hasher);
    hasher.finish()
}

/// Puts a state into a directory, in place of what is there.
pub fn put(state: &State, dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, Content { bytes, len }) in state {
        let mut file = File::create(dir.join(name)).unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(*len as u64).unwrap();
    }
}
