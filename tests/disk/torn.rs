//! What a batch that was not written whole leaves behind is no tampering, to either verifier: not only once the next start has
//! cut it off, but before it as well. Where a checkpoint says that it was whole, it is.

use gatepost::audit::export;

use crate::{
    audit_world::by_hand,
    verdict::{Log, Verdict, judge},
    workload::directory,
};

/// The record up to its first checkpoint, and a batch behind it with holes of these lengths, wherever they may be.
const HOLES: [usize; 4] = [1, 64, 512, 2000];

/// A log whose end is not sealed, how long the sealed part is, and the same with its checkpoints.
fn young() -> (Log, usize, Log) {
    let log = Log::of(12);
    let anchor = log.checkpoints();
    let first = anchor.split_inclusive('\n').next().unwrap();
    let sealed = log.text().find('\n').unwrap() + 1;
    (log.with_checkpoints(first.to_owned()), sealed, log)
}

/// Zeros in place of what did not reach the disk.
fn with_hole(bytes: &[u8], at: usize, length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let end = bytes.len().min(at + length);
    bytes[at..end].fill(0);
    bytes
}

/// What is left in front of the hole: whole lines, and whether anything else is there.
fn in_front(bytes: &[u8], at: usize) -> (u64, bool) {
    let lines = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    let end = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (lines, bytes[end..].iter().any(|byte| *byte != 0))
}

#[test]
fn a_batch_with_holes_is_torn_and_not_tampered_with_unless_it_was_sealed() {
    let (young, sealed, old) = young();
    let bytes = young.bytes();
    let places = (sealed..bytes.len()).step_by(149);
    let holes: Vec<(usize, usize)> =
        places.flat_map(|at| HOLES.map(|length| (at, length))).collect();
    let torn =
        |log: &Log, &(at, length): &(usize, usize)| log.with_bytes(with_hole(&bytes, at, length));
    let (fresh, whole): (Vec<Log>, Vec<Log>) =
        holes.iter().map(|hole| (torn(&young, hole), torn(&old, hole))).unzip();
    let asked: Vec<(&Log, Option<&str>)> =
        fresh.iter().chain(&whole).map(|log| (log, None)).collect();
    let verdicts = judge(&asked);
    for ((hole, log), verdict) in holes.iter().zip(&fresh).zip(&verdicts) {
        let (lines, more) = in_front(&log.bytes(), hole.0);
        let expected = if more { Verdict::Torn } else { Verdict::Good };
        assert_eq!(*verdict, (expected.clone(), expected), "hole {hole:?}");
        assert_eq!(log.tail().0, lines - 1, "hole {hole:?}: what is in front of it stays");
    }
    for (hole, (ours, theirs)) in holes.iter().zip(&verdicts[holes.len()..]) {
        assert!(matches!(ours, Verdict::Tampered(_)), "sealed, hole {hole:?}: {ours:?}");
        assert_eq!(ours, theirs, "sealed, hole {hole:?}");
    }
    assert!(holes.len() > 50);
}

/// A hole is excused at the end of a log only, and only as far as one batch reaches.
#[test]
fn what_no_single_batch_explains_is_tampering() {
    let (young, sealed, _) = young();
    let bytes = young.bytes();
    let (front, tail) = bytes.split_at(sealed);
    let mut long = with_hole(&bytes, sealed, 5);
    while long.len() < sealed + (1 << 20) {
        long.extend_from_slice(tail);
    }
    let exact = [front, &[0], &vec![b'x'; (1 << 20) - 2], b"\n"].concat();
    let touched = [front, b"not a record\n", tail].concat();
    let logs = [long, exact, touched].map(|bytes| young.with_bytes(bytes));
    let verdicts = judge(&logs.each_ref().map(|log| (log, None)));
    let of = |at: usize| (verdicts[at].0.clone(), verdicts[at].1.clone());
    assert!(matches!(of(0), (Verdict::Tampered(_), Verdict::Tampered(_))), "{:?}", of(0));
    assert_eq!(of(1), (Verdict::Torn, Verdict::Torn), "as long as a batch may be");
    assert!(matches!(&of(2).0, Verdict::Tampered(found) if found[0] == 2), "no zeros, no tear");
    assert_eq!(of(2).0, of(2).1);
}

/// A checkpoint whose beginning never reached the disk, at the end of its file and elsewhere.
#[test]
fn a_torn_checkpoint_is_no_tampering() {
    let (_, _, log) = young();
    let lines = log.checkpoints();
    let lines: Vec<&str> = lines.split_inclusive('\n').collect();
    let torn = |line: &str| format!("{}{}", "\0".repeat(40), &line[40..]);
    let last = lines.len() - 1;
    let at_end = [&lines[..], &[torn(lines[last]).as_str()]].concat().concat();
    let elsewhere = [&[torn(lines[0]).as_str()], &lines[..]].concat().concat();
    let logs = [at_end, elsewhere].map(|text| log.with_checkpoints(text));
    let verdicts = judge(&logs.each_ref().map(|log| (log, None)));
    assert_eq!(verdicts[0], (Verdict::Good, Verdict::Good));
    assert!(matches!(verdicts[1], (Verdict::Tampered(_), Verdict::Tampered(_))), "{verdicts:?}");
}

/// Lines behind a hole were never acknowledged: an export ends before it, and has no gap.
#[test]
fn an_export_ends_before_a_torn_batch() {
    let (young, sealed, _) = young();
    let (home, out) = (directory(), directory());
    let second = sealed + young.text()[sealed..].find('\n').unwrap() + 1;
    young.with_bytes(with_hole(&young.bytes(), second + 10, 300)).put(home.path());
    let place = out.path().join("export");
    let summary = export::export(home.path(), &place, None, None).expect("exported");
    assert_eq!((summary.first, summary.last), (1, 2));
    let report = by_hand(&place, None).expect("readable");
    assert_eq!((report.findings.as_slice(), report.records), ([].as_slice(), 2));
}
