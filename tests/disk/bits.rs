//! Every bit of a log that is turned over is found, where it is, by our verifier.
//!
//! `GATEPOST_TAMPER_EVERY=1` turns every one of 1,000 records, in the part between two checkpoints that it lies in;
//! `GATEPOST_TAMPER_WHOLE` is the size of the log of which every bit is turned in the whole of it. `GATEPOST_SHARD` of
//! `GATEPOST_SHARDS` says which of them.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use tempfile::TempDir;

use crate::{
    size,
    verdict::{Log, Verdict, ours},
    workload::directory,
};

/// A log on disk of which bits are turned over, one after the other.
struct Bits {
    home: TempDir,
    path: PathBuf,
    text: Vec<u8>,
    /// Where its lines end.
    ends: Vec<usize>,
    first: u64,
}

impl Bits {
    fn of(log: &Log) -> Self {
        let home = directory();
        log.put(home.path());
        assert_eq!(ours(home.path(), None), Verdict::Good);
        let path = home.path().join(&log.segment);
        let text = log.bytes();
        let ends = (0..text.len()).filter(|at| text[*at] == b'\n').collect();
        Self { home, path, text, ends, first: log.first }
    }

    /// Each is found where it is; how many they are.
    fn all_found(&self, which: impl Iterator<Item = usize>) -> usize {
        let file = File::options().write(true).open(&self.path).unwrap();
        let turn = |bit: usize| {
            let turned = [self.text[bit / 8] ^ (1 << (bit % 8))];
            file.write_all_at(&turned, (bit / 8) as u64).unwrap();
            let record = self.ends.partition_point(|end| *end < bit / 8) as u64 + self.first;
            let verdict = ours(self.home.path(), None);
            assert!(verdict.finds(record), "bit {bit} of record {record} is {verdict:?}");
            file.write_all_at(&[self.text[bit / 8]], (bit / 8) as u64).unwrap();
        };
        let turned = which.take_while(|bit| *bit < self.text.len() * 8).map(turn).count();
        assert_eq!(ours(self.home.path(), None), Verdict::Good, "each was turned back");
        turned
    }
}

fn said_of(turned: usize) {
    eprintln!("{turned} bits turned, all found");
    assert!(turned > 1000);
}

/// Every bit of a part of the log that begins and ends with a checkpoint, one after the other.
#[test]
fn every_bit_between_two_checkpoints_is_found_where_it_is() {
    let every = size("GATEPOST_TAMPER_EVERY", 0);
    let (shard, shards) = (size("GATEPOST_SHARD", 0), size("GATEPOST_SHARDS", 1));
    let (records, stride) = if every == 0 { (20, 31) } else { (1000, every) };
    let log = Log::sealed_every(records, 10);
    let parts = log.parts(records / 10, 10);
    let mine = parts.iter().skip(shard).step_by(shards);
    said_of(mine.map(|part| Bits::of(part).all_found((0..).step_by(stride))).sum());
}

/// Every bit of a whole log, one after the other.
#[test]
fn every_bit_of_a_whole_log_is_found_where_it_is() {
    let records = size("GATEPOST_TAMPER_WHOLE", 12);
    let (shard, shards) = (size("GATEPOST_SHARD", 0), size("GATEPOST_SHARDS", 5));
    let log = Log::sealed_every(records as u32, records as u32 / 4);
    said_of(Bits::of(&log).all_found((shard..).step_by(shards)));
}
