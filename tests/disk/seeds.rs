//! Wrong disciplines, each of which the power cuts must find. What a careless log would have asked of its disk is made from
//! the diary of ours; a careless recovery stands in for ours.

use std::{collections::BTreeMap, fs, path::Path};

use gatepost::audit::Params;

use crate::{
    crash::{Explorer, Recover, recover},
    diary::Op,
    dice::Dice,
    workload::live,
};

const LOST: &str = "acknowledged and lost|passes for damage";

/// What a discipline makes of a diary.
type Careless = fn(&[Op]) -> Vec<Op>;

/// What each file was called when it was made.
fn made(ops: &[Op]) -> BTreeMap<usize, &str> {
    let made = ops.iter().filter_map(|op| match op {
        Op::Create { file, name } => Some((*file, name.as_str())),
        _ => None,
    });
    made.collect()
}

fn without(ops: &[Op], left_out: impl Fn(&Op, &BTreeMap<usize, &str>) -> bool) -> Vec<Op> {
    let made = made(ops);
    ops.iter().filter(|op| !left_out(op, &made)).cloned().collect()
}

fn is_segment(name: &str) -> bool {
    name.starts_with("segment-") && name.ends_with(".ndjson")
}

fn syncs(op: &Op, made: &BTreeMap<usize, &str>, what: fn(&str) -> bool) -> bool {
    matches!(op, Op::Sync { file } if what(made[file]))
}

fn no_sync_of_segments(ops: &[Op]) -> Vec<Op> {
    without(ops, |op, made| syncs(op, made, is_segment))
}

fn no_sync_of_the_directory(ops: &[Op]) -> Vec<Op> {
    without(ops, |op, _| matches!(op, Op::SyncDir))
}

fn no_sync_before_renaming(ops: &[Op]) -> Vec<Op> {
    without(ops, |op, made| syncs(op, made, |name| name.ends_with(".zst.tmp")))
}

/// The checkpoint is written, and may be on the disk, before the sync of the records that it covers.
fn sealed_one_step_too_early(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let seals = |op: &Op| matches!(op, Op::Write { file, .. } if made[file] == "checkpoints");
    let mut careless = ops.to_vec();
    for at in 1..careless.len() {
        if syncs(&careless[at - 1], &made, is_segment) && seals(&careless[at]) {
            careless.swap(at - 1, at);
        }
    }
    careless
}

/// Each acknowledgement before the sync that it should have waited for.
fn acknowledged_before_the_sync(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let mut careless: Vec<Op> = Vec::new();
    for op in ops {
        let at = careless.iter().rposition(|op| syncs(op, &made, is_segment));
        match (op, at) {
            (Op::Acked { .. }, Some(at)) => careless.insert(at, op.clone()),
            _ => careless.push(op.clone()),
        }
    }
    careless
}

/// The records that a checkpoint covers are synced behind it.
fn sealed_before_the_sync(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let (mut careless, mut late) = (Vec::new(), Vec::new());
    for op in ops.iter().filter(|op| !matches!(op, Op::Acked { .. })) {
        if syncs(op, &made, is_segment) {
            late.push(op.clone());
            continue;
        }
        careless.push(op.clone());
        if syncs(op, &made, |name| name.starts_with("checkpoints")) {
            careless.append(&mut late);
        }
    }
    careless
}

/// The plain segment goes before its compressed form has its name for good.
fn removed_before_renaming(ops: &[Op]) -> Vec<Op> {
    let renamed = |op: &Op| matches!(op, Op::Rename { to, .. } if to.ends_with(".zst"));
    let index = |at: usize| at > 0 && renamed(&ops[at - 1]);
    let kept = ops.iter().enumerate().filter(|(at, op)| !(**op == Op::SyncDir && index(*at)));
    kept.map(|(_, op)| op.clone()).collect()
}

/// An old segment goes before it is on record that it does.
fn removed_before_it_is_on_record(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let mut careless: Vec<Op> = Vec::new();
    for op in ops {
        let at = careless.iter().rposition(|op| syncs(op, &made, is_segment));
        match (op, at) {
            (Op::Remove { name }, Some(at)) if name.ends_with(".ndjson.zst") => {
                let sync = careless.remove(at);
                careless.extend([op.clone(), Op::SyncDir, sync]);
            }
            _ => careless.push(op.clone()),
        }
    }
    careless
}

/// An old segment goes before the record of that is sealed.
fn removed_before_it_is_sealed(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let mut careless: Vec<Op> = Vec::new();
    for op in ops {
        let seals = |op: &Op| syncs(op, &made, |name| name.starts_with("checkpoints"));
        match (op, careless.iter().rposition(seals)) {
            (Op::Remove { name }, Some(at)) if name.ends_with(".ndjson.zst") => {
                let sync = careless.remove(at);
                careless.extend([op.clone(), Op::SyncDir, sync]);
            }
            _ => careless.push(op.clone()),
        }
    }
    careless
}

/// What a failed sync left is believed, because it can be read.
fn what_can_be_read_is_believed(ops: &[Op]) -> Vec<Op> {
    let made = made(ops);
    let mut shown: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let repeats = |op: &&Op| match op {
        Op::Write { file, at, bytes } => {
            let content = shown.entry(*file).or_default();
            let end = at + bytes.len();
            content.resize(content.len().max(end), 0);
            let same = content[*at..end] == bytes[..];
            content[*at..end].copy_from_slice(bytes);
            !(same && is_segment(made[file]))
        }
        Op::Cut { file, to } => {
            shown.entry(*file).or_default().truncate(*to);
            true
        }
        _ => true,
    };
    ops.iter().filter(repeats).cloned().collect()
}

fn as_it_is(ops: &[Op]) -> Vec<Op> {
    ops.to_vec()
}

fn no_sync_of_the_public_key(ops: &[Op]) -> Vec<Op> {
    without(ops, |op, made| syncs(op, made, |name| name.starts_with("audit-signing.pub")))
}

/// A recovery without a guard on each record: every line that has an end is taken for one, whatever it says and whatever it
/// follows, and the chain goes on behind the last one.
fn without_a_frame_guard(dir: &Path, params: &Params) -> Result<(), String> {
    let mut segments: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| is_segment(&path.file_name().unwrap().to_string_lossy()));
    let Some(live) = segments.into_iter().max() else { return recover(dir, params) };
    let bytes = fs::read(&live).unwrap();
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> = bytes[..end.saturating_sub(1)].split(|byte| *byte == b'\n').collect();
    let follows = |pair: &[&[u8]]| {
        let link = format!("\"prev\":\"{}\"}}", sha256(pair[0]));
        pair[1].starts_with(b"{\"v\":1") && pair[1].ends_with(link.as_bytes())
    };
    if lines.windows(2).all(follows) {
        return recover(dir, params);
    }
    let last = lines.last().unwrap();
    let text = String::from_utf8_lossy(last);
    let number = text.split("\"seq\":").nth(1).and_then(|t| t.split(',').next()?.parse().ok());
    let (seq, prev) = (number.unwrap_or(0_u64) + 1, sha256(last));
    let line = format!(
        "{{\"v\":1,\"seq\":{seq},\"ts\":\"2026-11-24T17:03:00.123Z\",\"kind\":\"control\",\"prev\":\"{prev}\"}}\n"
    );
    fs::write(&live, [&bytes[..end], line.as_bytes()].concat()).unwrap();
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(Sha256::digest(bytes))
}

/// So many lives are looked through for each mistake.
const LIVES_MAX: usize = 5;

#[test]
fn every_careless_discipline_is_found_out() {
    let seeds: [(&str, Careless, Recover, &str); 12] = [
        ("no fdatasync of segments", no_sync_of_segments, recover, LOST),
        ("no fsync of the directory", no_sync_of_the_directory, recover, LOST),
        ("no fsync before a rename", no_sync_before_renaming, recover, "cannot be read"),
        ("no fsync of the public key", no_sync_of_the_public_key, recover, "no public key"),
        ("acknowledged before the sync", acknowledged_before_the_sync, recover, LOST),
        (
            "sealed before the sync",
            sealed_before_the_sync,
            recover,
            "checkpoint|not a record|damage",
        ),
        ("sealed one step too early", sealed_one_step_too_early, recover, "checkpoint|damage"),
        (
            "removed before the rename is durable",
            removed_before_renaming,
            recover,
            "removed|lost|cannot be read",
        ),
        (
            "removed before it is on record",
            removed_before_it_is_on_record,
            recover,
            "removed|lost|cannot be read|damage",
        ),
        ("removed before it is sealed", removed_before_it_is_sealed, recover, "damage"),
        ("a failed sync believed", what_can_be_read_is_believed, recover, "lost|checkpoint|damage"),
        (
            "no guard on each record",
            as_it_is,
            without_a_frame_guard,
            "cannot be read|not a record|match|belong|lost|torn still",
        ),
    ];
    let mut dice = Dice(2);
    let mut lives = vec![live(&mut dice)];
    let mut missed = Vec::new();
    for (what, careless, recover, expected) in seeds {
        // How records fall into batches differs between lives, and not every life has what a mistake needs.
        for attempt in 0.. {
            if attempt == lives.len() {
                lives.push(live(&mut dice));
            }
            let life = &lives[attempt];
            let ops = careless(&life.ops);
            assert!(what == "no guard on each record" || ops != life.ops, "{what} changes nothing");
            let explorer = Explorer::new(&life.params, recover, 6000, dice.clone());
            let outcome = Explorer { per_point: 6, ..explorer }.explore(&ops);
            let found = outcome.violations.first().map_or("nothing", |v| v.lines().next().unwrap());
            eprintln!("{what}: after {} states, {found:.200}", outcome.states);
            if expected.split('|').any(|text| found.contains(text)) {
                break;
            }
            if attempt + 1 == LIVES_MAX {
                missed.push((what, found.to_owned()));
                break;
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
