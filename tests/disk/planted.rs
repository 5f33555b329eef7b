//! What a stranger with the directory, and without the key, puts beside a log or at its end, so that what is missing looks as if
//! it were meant to be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gatepost::audit::{
    Params,
    verify::{self, Asked},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    audit_world::by_hand,
    said::said,
    verdict::{Log, Verdict, fill, judge, positions, world},
    workload::directory,
};

const GOOD: (Verdict, Verdict) = (Verdict::Good, Verdict::Good);

/// The log, and a file of copied checkpoints beside it.
fn put_down(log: &Log, copies: &str) -> (TempDir, PathBuf, PathBuf) {
    let home = directory();
    let (dir, copy) = (home.path().join("log"), home.path().join("copy"));
    fs::create_dir(&dir).unwrap();
    log.put(&dir);
    fs::write(&copy, copies).unwrap();
    (home, dir, copy)
}

/// What is said of a log that is known to be one.
fn as_log(log: &Log, against: Option<&str>) -> Verdict {
    let (_home, dir, copy) = put_down(log, against.unwrap_or_default());
    let report = verify::verify(&dir, None, against.map(|_| copy.as_path())).expect("readable");
    if report.is_good() {
        return Verdict::Good;
    }
    Verdict::Tampered(positions(report.findings.iter().map(|finding| finding.record)))
}

/// What is asked by who has the configuration, and so the key.
fn as_owner(params: &Params) -> Asked<'_> {
    Asked {
        dir: &params.dir,
        may_be_export: false,
        public_key: None,
        signing_key: Some(&params.checkpoint_key),
        against: None,
    }
}

/// A log of several segments below `root`, none of them compressed.
fn several_segments(root: &Path) -> (Params, Log) {
    let params = world(root, |params| (params.rotate_bytes, params.compress) = (3000, false));
    fill(&params, 0..20);
    let log = Log::read(&params.dir);
    assert!(log.segments().len() > 3);
    (params, log)
}

/// A log of six events, and one of so many others that another key sealed.
fn two_keys(events: u32) -> ([TempDir; 2], Params, Params) {
    let homes = [directory(), directory()];
    let [params, others] = homes.each_ref().map(|home| world(home.path(), |_| {}));
    fill(&params, 0..6);
    fill(&others, 0..events);
    (homes, params, others)
}

/// A line behind `before`, as anybody can make one.
fn forged(seq: u64, facts: &str, before: &str) -> String {
    let prev = hex::encode(Sha256::digest(before));
    format!(
        "{{\"v\":1,\"seq\":{seq},\"ts\":\"2026-11-24T17:03:00.123Z\",\"kind\":\"control\",{facts},\"prev\":\"{prev}\"}}\n"
    )
}

/// The log with a record at its end which says that everything before the segment `upto` was removed; and that record's number.
fn with_removal(log: &Log, upto: usize) -> (Log, u64) {
    let segments = log.segments();
    let before = log.file(&segments[upto - 1]);
    let end = before.lines().next_back().unwrap();
    let removed = log.firsts()[upto] - 1;
    let hash = hex::encode(Sha256::digest(end));
    let facts = format!(
        "\"what\":\"segment_removed\",\"removed_seq\":{removed},\"removed_hash\":\"{hash}\""
    );
    let text = log.text();
    let seq = log.first + text.lines().count() as u64;
    let line = forged(seq, &facts, text.lines().next_back().unwrap());
    (log.with_bytes((text + &line).into_bytes()), seq)
}

fn without_segments(log: &Log, count: usize) -> Log {
    let gone = &log.segments()[..count];
    gone.iter().fold(log.clone(), |log, name| log.without(name))
}

/// Records of this kind: the number of each, and of the record that it names.
fn named(log: &Log, what: &str) -> Vec<(u64, u64)> {
    let text: String = log.segments().iter().map(|name| log.file(name)).collect();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let found = records.filter(|record| record["what"] == what);
    found.map(|r| (r["seq"].as_u64().unwrap(), r["record"].as_u64().unwrap())).collect()
}

/// Who can write a log's directory can call it an export; what is missing at its ends is missing all the same.
#[test]
fn a_log_does_not_become_an_export_by_a_file_beside_it() {
    let log = Log::sealed_every(30, 10);
    let (text, anchor) = (log.text(), log.checkpoints());
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let seals: Vec<&str> = anchor.split_inclusive('\n').collect();
    let note = |text: &str| text.as_bytes().to_vec();
    // Cut behind the checkpoint over record 10, and before the one over record 20.
    let cut_tail = log.with_lines(&lines[..10]).with_checkpoints(seals[..2].concat());
    let name = "segment-00000000000000000021.ndjson";
    let cut_head = log.without(&log.segment).with(name, lines[20..].concat().into_bytes());
    let cases = [
        (cut_tail.with("export.json", note("{\"v\":1,\"after\":0,\"last\":10}")), 11),
        (cut_tail.with("export.json", note("{\"v\":1,\"after\":0}")), 11),
        (cut_head.with("export.json", note("{\"v\":1,\"after\":20,\"last\":30}")), 21),
    ];
    for (log, at) in &cases {
        assert_eq!(as_log(log, Some(&anchor)), Verdict::Tampered(vec![0, *at]));
    }
    let there = log.with("export.json", note("nothing of the kind"));
    assert_eq!(as_log(&there, None), Verdict::Tampered(vec![0]), "somebody put it there");
    assert_eq!(as_log(&log, Some(&anchor)), Verdict::Good);
}

/// Anybody can write that old records were removed; only what was sealed before is a reason for records to be missing.
#[test]
fn a_removal_counts_where_a_checkpoint_covers_the_record_of_it() {
    let home = directory();
    let (_, log) = several_segments(home.path());
    let (told, record) = with_removal(&log, 2);
    let missing = log.firsts()[2];
    let asked = [&told, &without_segments(&told, 2), &without_segments(&log, 2)];
    let verdicts = judge(&asked.map(|log| (log, None)));
    assert_eq!(verdicts[0], GOOD, "nothing is missing");
    let found = Verdict::Tampered(vec![missing]);
    let found = (found.clone(), found);
    assert_eq!(verdicts[1], found, "record {record} is not sealed");
    assert_eq!(verdicts[2], found, "there is no such record");
}

/// The next start seals the end of the log, whoever wrote it; so it says before what it does not believe.
#[test]
fn a_start_does_not_make_a_forged_removal_true() {
    let home = directory();
    let (params, log) = several_segments(home.path());
    let (told, record) = with_removal(&log, 2);
    without_segments(&told, 2).put(&params.dir);
    let error_log = said(|| fill(&params, 20..22));
    assert!(error_log.contains("was removed") && error_log.contains(&record.to_string()));
    let sealed = Log::read(&params.dir);
    assert_eq!(named(&sealed, "damage_found"), [(record + 2, record)]);
    let found = Verdict::Tampered(vec![log.firsts()[2], record]);
    assert_eq!(judge(&[(&sealed, None)]), [(found.clone(), found.clone())]);
    fill(&params, 22..24);
    let later = Log::read(&params.dir);
    assert_eq!(named(&later, "damage_found").len(), 1, "it is said once");
    assert_eq!(judge(&[(&later, None)]), [(found.clone(), found)]);
}

/// Nor where the records go only after it was sealed.
#[test]
fn a_removal_that_was_announced_and_not_sealed_is_taken_back_at_the_next_start() {
    let home = directory();
    let (params, log) = several_segments(home.path());
    let (told, record) = with_removal(&log, 2);
    told.put(&params.dir);
    fill(&params, 20..22);
    let sealed = Log::read(&params.dir);
    let found = Verdict::Tampered(vec![log.firsts()[2]]);
    let verdicts = judge(&[(&sealed, None), (&without_segments(&sealed, 2), None)]);
    assert_eq!(verdicts, [GOOD, (found.clone(), found)]);
    assert_eq!(named(&sealed, "segment_kept"), [(record + 2, record)]);
    assert_eq!(named(&sealed, "damage_found"), []);
}

/// The record of it may also stand in a segment that is closed by now, as far as anybody can tell.
#[test]
fn a_forged_removal_is_found_in_a_segment_that_was_begun_behind_it() {
    let home = directory();
    let (params, log) = several_segments(home.path());
    let (told, record) = with_removal(&log, 2);
    let text = told.text();
    let next = forged(record + 1, "\"what\":\"stopped\"", text.lines().next_back().unwrap());
    let name = format!("segment-{:020}.ndjson", record + 1);
    without_segments(&told, 2).with(&name, next.into_bytes()).put(&params.dir);
    fill(&params, 20..22);
    let sealed = Log::read(&params.dir);
    assert_eq!(named(&sealed, "damage_found"), [(record + 3, record)]);
    let (ours, theirs) = judge(&[(&sealed, None)]).remove(0);
    assert!(matches!(ours, Verdict::Tampered(_)));
    assert_eq!(ours, theirs);
}

/// Several gateways may write their checkpoints into one file. A log is none of them where that file has nothing from it.
#[test]
fn copies_of_other_logs_in_the_same_file_are_no_finding() {
    let (log, other) = (Log::of(12), Log::of(8));
    let (own, foreign) = (log.checkpoints(), other.checkpoints());
    let both = format!("{foreign}a line of a log\n{own}{foreign}");
    let cut: String = log.text().split_inclusive('\n').take(6).collect();
    let first = own.split_inclusive('\n').next().unwrap().to_owned();
    let cut = log.with_bytes(cut.into_bytes()).with_checkpoints(first);
    // Names this log's key, and is not what that signed.
    let spoilt = own.replacen("time 2", "time 3", 1);
    let spoilt = format!("{own}{spoilt}");
    let asked = [
        (&log, Some(both.as_str())),
        (&cut, Some(both.as_str())),
        (&log, Some(foreign.as_str())),
        (&log, Some(spoilt.as_str())),
    ];
    let verdicts = judge(&asked);
    assert_eq!(verdicts[0], GOOD);
    let found =
        |records: &[u64]| (Verdict::Tampered(records.into()), Verdict::Tampered(records.into()));
    assert_eq!(verdicts[1], found(&[7]), "what is cut off is still seen");
    assert_eq!(verdicts[2], found(&[1, 8]), "not one of them is signed by this log's key");
    assert_eq!(verdicts[3], found(&[1]));
    let (_home, dir, copy) = put_down(&log, &both);
    let report = by_hand(&dir, Some(&copy)).unwrap();
    assert_eq!(report.others, 2 * foreign.lines().count() as u64);
}

/// An export has both of the ends that its note says, and copies may be of more than it has.
#[test]
fn an_export_ends_where_its_note_says() {
    let log = Log::sealed_every(30, 10);
    let (part, anchor) = (log.parts(3, 10).remove(1), log.checkpoints());
    let text = part.text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let seals = part.checkpoints();
    let seals: Vec<&str> = seals.split_inclusive('\n').collect();
    let cut = part.with_lines(&lines[..9]).with_checkpoints(seals[..2].concat());
    let note = |last| part.with("export.json", format!("{{\"v\":1,\"after\":10{last}}}").into());
    let asked = [
        (&part, Some(anchor.as_str())),
        (&cut, None),
        (&note(",\"last\":19"), None),
        (&note(""), None),
        (&note(",\"last\":\"20\""), None),
    ];
    let verdicts = judge(&asked);
    let found = (Verdict::Tampered(vec![20]), Verdict::Tampered(vec![20]));
    let unknown = (Verdict::CannotTell, Verdict::CannotTell);
    assert_eq!(verdicts, [GOOD, found.clone(), found, unknown.clone(), unknown]);
    let (_home, dir, copy) = put_down(&part, &anchor);
    let report = by_hand(&dir, Some(&copy)).unwrap();
    assert_eq!((report.export, report.copies, report.later), (Some((11, 20)), 2, 2));
}

/// What lies beside the records may be anybody's; whoever has the configuration knows better.
#[test]
fn a_log_that_another_key_sealed_is_found_by_who_knows_the_right_one() {
    let ([home, _other], params, others) = two_keys(20);
    let (own, foreign) = (Log::read(&params.dir), Log::read(&others.dir));
    let public = home.path().join("known.pub");
    fs::write(&public, own.file("audit-signing.pub")).unwrap();
    foreign.put(&params.dir);
    let asked = as_owner(&params);
    let report = asked.verify().unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].problem.contains("another key than audit.checkpoint.key"));
    assert_eq!((report.findings[0].record, report.other_keys[0].1), (22, 2));
    // By itself it looks well to both, which say whom they believe.
    assert_eq!(judge(&[(&foreign, None)]), [GOOD]);
    let beside = verify::verify(&params.dir, None, None).unwrap();
    assert_eq!((&beside.keys[..], &beside.own_key), (&[report.other_keys[0].0.clone()][..], &None));
    assert!(beside.keys_from.ends_with("audit/audit-signing.pub"), "{}", beside.keys_from);
    let known = verify::verify(&params.dir, Some(&public), None).unwrap();
    assert!(!known.is_good() && known.keys == [report.own_key.unwrap()]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/audit/verify.py");
    let verify_py = |more: &[&Path]| {
        let mut python = Command::new("python3");
        let out = python.args(["-B", script]).arg(&params.dir).args(more).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = verify_py(&[]);
    assert_eq!(code, Some(0));
    assert!(text.contains(&format!("{}, from {}", beside.keys[0], beside.keys_from)), "{text}");
    let (code, text) = verify_py(&[Path::new("--public-key"), &public]);
    assert_eq!(code, Some(6));
    assert!(text.contains(&format!("{}, from {}", known.keys[0], public.display())), "{text}");
}

/// A key is replaced with good reason, too: that is said, and on record, and no finding once the new one has sealed the log.
#[test]
fn a_key_that_was_replaced_is_said_and_no_finding() {
    let (_homes, params, others) = two_keys(1);
    let asked = as_owner(&params);
    let before = asked.verify().unwrap();
    assert_eq!((&before.findings[..], &before.other_keys[..]), (&[][..], &[][..]));
    // The first line once more, as who joins two copies leaves it: what covers most counts, not what comes last.
    let log = Log::read(&params.dir);
    let seals = log.checkpoints();
    let first = seals.split_inclusive('\n').next().unwrap();
    log.with_checkpoints(format!("{seals}{first}")).put(&params.dir);
    let first_key = fs::read(&params.checkpoint_key).unwrap();
    fs::copy(&others.checkpoint_key, &params.checkpoint_key).unwrap();
    let between = asked.verify().unwrap();
    assert!(between.findings[0].problem.contains("has not been started since"), "{between:?}");
    let told = said(|| fill(&params, 6..9));
    assert!(told.contains("another key until now"), "{told}");
    fill(&params, 9..12);
    let after = asked.verify().unwrap();
    let old = before.own_key.unwrap();
    assert_eq!((&after.findings[..], &after.other_keys[..]), (&[][..], &[(old.clone(), 3)][..]));
    assert_eq!(after.keys.len(), 2);
    let text = Log::read(&params.dir).text();
    assert_eq!(text.matches("\"what\":\"key_changed\"").count(), 1);
    assert!(text.contains(&format!("\"from\":\"{old}\",\"size\":8")), "{text}");
    // The old one sealed much of it, and not the newest.
    fs::write(&params.checkpoint_key, first_key).unwrap();
    let back = asked.verify().unwrap();
    assert!(back.findings[0].problem.contains("has not been started since"), "{back:?}");
    // Where the key cannot be read, what lies beside the records is believed, and that is said.
    fs::write(&params.checkpoint_key, "no key").unwrap();
    let unread = asked.verify().unwrap();
    assert_eq!((&unread.findings[..], &unread.own_key), (&[][..], &None));
    assert!(unread.keys_from.contains("audit.checkpoint.key cannot be read"), "{unread:?}");
}

/// Who has the configuration needs no public key beside the log, and a log that nothing was sealed of is nobody else's.
#[test]
fn the_configured_key_is_believed_though_nothing_beside_the_log_names_it() {
    let (_homes, params, others) = two_keys(1);
    let own = as_owner(&params).verify().unwrap();
    fs::copy(others.dir.join("audit-signing.pub"), params.dir.join("audit-signing.pub")).unwrap();
    let report = as_owner(&params).verify().unwrap();
    assert_eq!((&report.findings[..], &report.other_keys[..]), (&[][..], &[][..]), "{report:?}");
    assert_eq!((report.own_key.as_ref(), report.keys.len()), (own.own_key.as_ref(), 2));
    assert!(!verify::verify(&params.dir, None, None).unwrap().is_good(), "who knows no better");
    fs::write(params.dir.join("checkpoints"), "").unwrap();
    let report = as_owner(&params).verify().unwrap();
    assert!(!format!("{:?}", report.findings).contains("another key"), "{report:?}");
}

/// What cannot be read is not what is not there.
#[test]
fn the_note_of_an_export_that_cannot_be_read_is_no_log() {
    let home = directory();
    Log::of(6).put(home.path());
    assert!(by_hand(home.path(), None).unwrap().is_good());
    fs::create_dir(home.path().join("export.json")).unwrap();
    let error = by_hand(home.path(), None).unwrap_err();
    assert!(error.contains("export.json: Is a directory"), "{error}");
}
