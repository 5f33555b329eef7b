//! Changes that a stranger with the directory can make: every one is reported, where it is, by both verifiers alike; what
//! only a copy that left the machine can show is shown against it.
//!
//! `GATEPOST_TAMPER_RECORDS` is the size of the log in which every record is removed, doubled and moved;
//! `GATEPOST_TAMPER_BITS` how many bits of a log of 1,000 records are turned over. `GATEPOST_TAMPER_CUT=1` cuts behind every byte,
//! and turns over every bit of the checkpoints.

use std::{fs, path::Path};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::audit::CopyTo;

use crate::{
    dice::Dice,
    size,
    verdict::{Log, Verdict, judge, ours},
    workload::directory,
};

/// A log, changed, and where the change is.
struct Change {
    what: String,
    log: Log,
    record: u64,
}

fn change(what: impl Into<String>, log: &Log, lines: &[&str], record: usize) -> Change {
    let (what, record) = (what.into(), record as u64);
    Change { what, log: log.with_lines(lines), record }
}

/// Each is found, with its position, by both.
fn all_found(changes: &[Change]) {
    let logs: Vec<(&Log, Option<&str>)> = changes.iter().map(|c| (&c.log, None)).collect();
    for (change, (ours, theirs)) in changes.iter().zip(judge(&logs)) {
        let Change { what, record, .. } = change;
        assert!(ours.finds(*record), "{what} {record} is {ours:?}");
        assert_eq!(ours, theirs, "{what} {record}");
    }
}

#[test]
fn every_record_removed_doubled_moved_or_taken_from_elsewhere_is_found_where_it_is() {
    let count = size("GATEPOST_TAMPER_RECORDS", 40);
    let log = Log::of(count as u32);
    let text = log.text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut changes = Vec::new();
    for at in 0..lines.len() {
        let mut changed = lines.clone();
        changed.remove(at);
        changes.push(change("without", &log, &changed, at + 1));
        changed.clone_from(&lines);
        changed.insert(at, lines[at]);
        changes.push(change("twice", &log, &changed, at + 1));
        changed.clone_from(&lines);
        let other = (at + lines.len() / 2) % lines.len();
        changed.insert(at, lines[other]);
        changes.push(change("a copy of another before", &log, &changed, at + 1));
        if at > 0 {
            changed.clone_from(&lines);
            changed.swap(at - 1, at);
            changes.push(change("swapped with the one before", &log, &changed, at));
        }
        if changes.len() >= 200 || at + 1 == lines.len() {
            all_found(&changes);
            changes.clear();
        }
    }
}

fn lines_before(bytes: &[u8], at: usize) -> u64 {
    bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64
}

#[test]
fn a_turned_bit_anywhere_in_a_thousand_records_is_found_where_it_is() {
    let log = Log::of(1000);
    let text = log.text();
    let mut dice = Dice(3);
    let mut changes = Vec::new();
    for turn in 0..size("GATEPOST_TAMPER_BITS", 60) {
        // The first and the last byte are among them.
        let at = [0, text.len() - 1].get(turn).copied().unwrap_or_else(|| dice.roll(text.len()));
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1 << dice.roll(8);
        let record = lines_before(text.as_bytes(), at) + 1;
        let (what, log) = (format!("byte {at}"), log.with_bytes(bytes));
        changes.push(Change { what, log, record });
        if changes.len() == 20 {
            all_found(&changes);
            changes.clear();
        }
    }
    all_found(&changes);
}

#[test]
fn a_cut_tail_is_seen_against_an_anchor_and_else_shown_as_a_shorter_tail() {
    let log = Log::of(12);
    let (text, anchor) = (log.text(), log.checkpoints());
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // The end is not sealed: only the checkpoint behind `started` lies beside it.
    let young = log.with_checkpoints(anchor.split_inclusive('\n').take(1).collect::<String>());
    let last_two = text.len() - lines[lines.len() - 1].len() - lines[lines.len() - 2].len();
    let step = size("GATEPOST_TAMPER_CUT", 7);
    let from = if step == 1 { lines[0].len() } else { last_two };
    let mut cuts: Vec<usize> = (from..text.len()).step_by(step).collect();
    let mut end = 0;
    cuts.extend(lines.iter().map(|line| {
        end += line.len();
        end
    }));
    cuts.retain(|cut| (lines[0].len()..text.len()).contains(cut));
    let cut: Vec<Log> =
        cuts.iter().map(|at| young.with_bytes(text.as_bytes()[..*at].to_vec())).collect();
    let with_own: Vec<Log> =
        cuts.iter().map(|at| log.with_bytes(text.as_bytes()[..*at].to_vec())).collect();
    let mut asked: Vec<(&Log, Option<&str>)> = cut.iter().map(|log| (log, None)).collect();
    asked.extend(cut.iter().map(|log| (log, Some(anchor.as_str()))));
    asked.extend(with_own.iter().map(|log| (log, None)));
    let verdicts = judge(&asked);
    let (alone, anchored) = verdicts.split_at(cut.len());
    for ((at, verdict), log) in cuts.iter().zip(alone).zip(&cut) {
        let expected = if log.torn() > 0 { Verdict::Torn } else { Verdict::Good };
        assert_eq!(*verdict, (expected.clone(), expected), "a young log, cut at {at}");
        let whole = lines_before(text.as_bytes(), *at);
        assert_eq!(log.tail(), (whole - 1, log.torn()), "it says how much is not sealed");
    }
    for (at, verdict) in cuts.iter().chain(&cuts).zip(anchored) {
        let missing = lines_before(text.as_bytes(), *at) + 1;
        let found = Verdict::Tampered(vec![missing]);
        assert_eq!(*verdict, (found.clone(), found), "against a checkpoint, cut at {at}");
    }
}

#[test]
fn a_rollback_a_second_history_and_a_new_seal_are_seen_against_an_anchor() {
    let home = directory();
    let (root, copy) = (home.path(), home.path().join("copy"));
    let world =
        crate::verdict::world(root, |params| params.copy_to = vec![CopyTo::File(copy.clone())]);
    crate::verdict::fill(&world, 0..6);
    let yesterday = Log::read(&world.dir);
    crate::verdict::fill(&world, 6..12);
    let anchor = fs::read_to_string(&copy).unwrap();
    let today = Log::read(&world.dir);
    // A second history from yesterday on, with the same key.
    yesterday.put(&world.dir);
    crate::verdict::fill(&world, 100..110);
    let other = Log::read(&world.dir);
    // Everything anew.
    for entry in fs::read_dir(&world.dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    crate::verdict::fill(&world, 200..230);
    let anew = Log::read(&world.dir);
    let asked: Vec<(&Log, Option<&str>)> = [&today, &yesterday, &other, &anew]
        .into_iter()
        .flat_map(|log| [(log, None), (log, Some(anchor.as_str()))])
        .collect();
    let verdicts = judge(&asked);
    for (alone, against) in verdicts.chunks(2).map(|pair| (&pair[0], &pair[1])).skip(1) {
        assert_eq!(*alone, (Verdict::Good, Verdict::Good), "by itself it looks well");
        assert!(matches!(against.0, Verdict::Tampered(_)), "{against:?}");
        assert_eq!(against.0, against.1);
    }
    assert_eq!(verdicts[1], (Verdict::Good, Verdict::Good), "the log that the copies are of");
}

/// A checkpoint says what was there, so that one is not believed that says something else.
#[test]
fn a_turned_bit_in_a_checkpoint_is_found() {
    let log = Log::of(12);
    let checkpoints = log.checkpoints().into_bytes();
    let bits: Vec<usize> =
        (0..checkpoints.len() * 8).step_by(size("GATEPOST_TAMPER_CUT", 7)).collect();
    let turned = bits.iter().map(|bit| {
        let mut bytes = checkpoints.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        log.with_checkpoint_bytes(bytes)
    });
    let turned: Vec<Log> = turned.collect();
    let asked: Vec<(&Log, Option<&str>)> = turned.iter().map(|log| (log, None)).collect();
    for (bit, (ours, theirs)) in bits.iter().zip(judge(&asked)) {
        assert_eq!(ours, theirs, "bit {bit}");
        // The last line without its end is one that a crash tore: what it would have sealed is not sealed, and that is said.
        let is_end = bit / 8 == checkpoints.len() - 1;
        let found = matches!(ours, Verdict::Tampered(_));
        let around = &checkpoints[(bit / 8).saturating_sub(40)..checkpoints.len().min(bit / 8 + 8)];
        let around = String::from_utf8_lossy(around);
        assert!(found != is_end, "bit {bit}, the byte but eight of {around:?}: {ours:?}");
    }
    assert!(bits.len() > 300, "{}", bits.len());
}

#[test]
fn checkpoints_that_were_taken_away_are_missed() {
    let home = directory();
    let world = crate::verdict::world(home.path(), |_| {});
    crate::verdict::fill(&world, 0..3);
    crate::verdict::fill(&world, 3..6);
    let log = Log::read(&world.dir);
    let (text, checkpoints) = (log.text(), log.checkpoints());
    let lines: Vec<&str> = checkpoints.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 4, "one behind each start, one at each end");
    let started = text.lines().take_while(|line| !line.contains("\"checkpoint_size\"")).count();
    let first_line = text.split_inclusive('\n').next().unwrap();
    let asked = [
        log.without_checkpoints(),
        log.with_checkpoints(String::new()),
        log.with_checkpoints(lines[..1].concat()),
        log.with_checkpoints(lines[..2].concat()),
        log.with_checkpoints(lines[..3].concat()),
        log.without_checkpoints().with_bytes(first_line.into()),
    ];
    let asked: Vec<(&Log, Option<&str>)> = asked.iter().map(|log| (log, None)).collect();
    let verdicts: Vec<Verdict> = judge(&asked)
        .into_iter()
        .map(|(ours, theirs)| {
            assert_eq!(ours, theirs);
            ours
        })
        .collect();
    let missed = |record| Verdict::Tampered(vec![record]);
    let end = started as u64; // the first run's last record
    assert_eq!(verdicts[..3], [missed(1), missed(1), missed(2)], "where what is not sealed begins");
    assert_eq!(verdicts[3], missed(end + 1), "the second run was sealed behind its start");
    assert_eq!(verdicts[4..], [Verdict::Good, Verdict::Good], "a tail, and a log that just began");
}

#[test]
fn every_closed_segment_was_sealed() {
    let home = directory();
    let world = crate::verdict::world(home.path(), |params| {
        (params.rotate_bytes, params.compress) = (3000, false);
    });
    crate::verdict::fill(&world, 0..20);
    let log = Log::read(&world.dir);
    let firsts = log.firsts();
    assert!(firsts.len() > 3);
    let checkpoints = log.checkpoints();
    let first = checkpoints.split_inclusive('\n').next().unwrap();
    let verdicts = judge(&[(&log, None), (&log.with_checkpoints(first.to_owned()), None)]);
    assert_eq!(verdicts[0], (Verdict::Good, Verdict::Good));
    let missed = Verdict::Tampered(vec![2]);
    assert_eq!(verdicts[1], (missed.clone(), missed), "one start, and no end of a segment");
}

#[test]
fn a_log_is_not_written_through_a_link() {
    let home = directory();
    let world = crate::verdict::world(home.path(), |_| {});
    crate::verdict::fill(&world, 0..3);
    for name in ["checkpoints", &Log::read(&world.dir).segment] {
        let (path, away) = (world.dir.join(name), home.path().join("away"));
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&away, &path).unwrap();
        let before = fs::read(&away).unwrap();
        let refused = gatepost::audit::open(&world, gatepost::telemetry::Metrics::new().audit());
        let why = refused.expect_err("not through a link").to_string();
        assert!(why.contains("symbolic link"), "{name}: {why}");
        assert_eq!(fs::read(&away).unwrap(), before);
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
    crate::verdict::fill(&world, 3..6);
    assert_eq!(ours(Path::new(&world.dir), None), Verdict::Good);
}

/// Where only one of two readers minds, the other one is told so by this: bytes that are no text, and control records that are
/// no JSON any more, in a part of the log that no checkpoint covers.
#[test]
fn both_verifiers_read_a_record_in_the_same_way() {
    let log = Log::of(8);
    let young = log.checkpoints().split_inclusive('\n').take(1).collect::<String>();
    let young = log.with_checkpoints(young);
    let text = young.text();
    let last = text[..text.len() - 1].rfind('\n').unwrap() + 1;
    let touched = |from: &str, to: &[u8]| {
        let at = last + text[last..].find(from).expect("it is there");
        young.with_bytes([&text.as_bytes()[..at], to, &text.as_bytes()[at + from.len()..]].concat())
    };
    let cases = [
        ("no text", touched("stopped", b"stopp\xffd"), Verdict::Tampered(vec![8])),
        ("half a character", touched("stopped", b"stop\xc3\"d"), Verdict::Tampered(vec![8])),
        ("no JSON", touched("\"what\":\"stopped\"", b"\"what\":stopped\""), Verdict::Good),
        ("a number for a key", touched("\"what\":\"stopped\"", b"8:9"), Verdict::Good),
        ("a number with a sign", touched("\"seq\":8", b"\"seq\":+8"), Verdict::Tampered(vec![8])),
        ("a number with zeros", touched("\"seq\":8", b"\"seq\":08"), Verdict::Tampered(vec![8])),
    ];
    let verdicts = judge(&cases.each_ref().map(|(_, log, _)| (log, None)));
    for ((what, _, expected), verdict) in cases.iter().zip(verdicts) {
        assert_eq!(verdict, (expected.clone(), expected.clone()), "{what}");
    }
}

/// A checkpoint that says of itself that another log made it is none of this one, nor one that names another key, even where the
/// right key signed it.
#[test]
fn a_checkpoint_counts_under_the_name_and_the_hash_of_its_key_only() {
    let home = directory();
    let world = crate::verdict::world(home.path(), |_| {});
    crate::verdict::fill(&world, 0..6);
    let log = Log::read(&world.dir);
    let pem = fs::read_to_string(&world.checkpoint_key).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = Ed25519KeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    let checkpoints = log.checkpoints();
    let (first, last) = checkpoints.split_at(checkpoints.find('\n').unwrap() + 1);
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let (text, signature) = last["checkpoint"].as_str().unwrap().split_once("\n\n").unwrap();
    let (origin, said) = text.split_once('\n').unwrap();
    let signature = STANDARD.decode(signature.trim_end().rsplit(' ').next().unwrap()).unwrap();
    let signed_as = |origin: &str, hash: [u8; 4]| {
        let text = format!("{origin}\n{said}\n");
        let signature = STANDARD.encode([&hash[..], key.sign(text.as_bytes()).as_ref()].concat());
        let note = format!("{text}\n\u{2014} {origin} {signature}\n");
        let note = serde_json::Value::from(note);
        log.with_checkpoints(format!("{first}{{\"v\":1,\"checkpoint\":{note}}}\n"))
    };
    let hash: [u8; 4] = signature[..4].try_into().unwrap();
    let other = hash.map(|byte| !byte);
    let logs = [
        signed_as(origin, hash),
        signed_as("gatepost-audit/0123456789abcdef", hash),
        signed_as(origin, other),
        signed_as("gatepost-audit/0123456789abcdef", other),
    ];
    let verdicts = judge(&logs.each_ref().map(|log| (log, None)));
    assert_eq!(verdicts[0], (Verdict::Good, Verdict::Good));
    let found = Verdict::Tampered(vec![8]);
    for verdict in &verdicts[1..] {
        assert_eq!(*verdict, (found.clone(), found.clone()));
    }
}
