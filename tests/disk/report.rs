//! What a verifier says: in which words, of which record, how much of it, and when it says that it cannot tell.

use std::fs;

use gatepost::{audit::verify, event::Timestamp};

use crate::{
    audit_world::{World, by_hand},
    verdict::{Log, Verdict, judge},
    workload::{BEGIN_MILLIS, directory},
};

/// The record, and how the problem begins.
type Said = (u64, &'static str);

fn report(log: &Log) -> verify::Report {
    let home = directory();
    log.put(home.path());
    by_hand(home.path(), None).expect("readable")
}

#[test]
fn each_kind_of_change_is_said_in_its_words() {
    let log = Log::of(8);
    let text = log.text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let changed = lines[4].replacen("evt_3", "evt_x", 1);
    let (begin, end) = lines[0].split_at(lines[0].len() - "0\"}\n".len());
    let predecessor = format!("{begin}1{}", &end[1..]);
    let with = |at: usize, line| [&lines[..at], &[line], &lines[at + 1..]].concat();
    let without = |from: usize, to: usize| [&lines[..from], &lines[to..]].concat();
    let table: [(Vec<&str>, &[Said]); 6] = [
        (without(3, 5), &[(4, "records 4 to 5 are missing")]),
        (
            [&lines[..3], &lines[2..]].concat(),
            &[(4, "here stands record 3, where it does not belong")],
        ),
        (
            [&lines[..5], &lines[1..2], &lines[5..]].concat(),
            &[
                (3, "records 3 to 5 are missing"),
                (6, "here stands record 2, where it does not belong"),
            ],
        ),
        (with(4, changed.as_str()), &[(5, "its content does not match the hash in record 6")]),
        (
            with(0, predecessor.as_str()),
            &[
                (1, "the checkpoint of"),
                (1, "its content does not match the hash in record 2"),
                (1, "the first record claims that there was one before it"),
            ],
        ),
        (
            without(0, 2),
            &[
                (1, "it says that it is 3, its segment's name says 1"),
                (3, "what was before is missing, and no record says that it was removed"),
            ],
        ),
    ];
    for (lines, expected) in table {
        let found = report(&log.with_lines(&lines)).findings;
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, (record, problem)) in found.iter().zip(expected) {
            assert!(found.problem.starts_with(problem), "{problem}: {found:?}");
            assert_eq!(found.record, *record, "{problem}");
        }
    }
}

/// An export begins behind a checkpoint, or it is not what was exported.
#[test]
fn an_export_that_begins_elsewhere_is_said_to() {
    let part = Log::sealed_every(30, 10).parts(3, 10).remove(1);
    assert_eq!(report(&part).findings, []);
    let text = part.text();
    let later: Vec<&str> = text.split_inclusive('\n').skip(1).collect();
    let found = report(&part.with_lines(&later)).findings;
    let problems: Vec<_> =
        found.iter().map(|found| (found.record, found.problem.as_str())).collect();
    let words = "the export does not begin where its checkpoint says";
    assert!(problems.contains(&(12, words)), "{problems:?}");
}

/// A finding shows what the record says of itself, as far as a terminal can be shown it.
#[test]
fn a_finding_says_which_event_it_is_about() {
    let log = Log::of(8);
    let time = Timestamp::from_millis(BEGIN_MILLIS);
    let long = "x".repeat(300);
    let table: [(&str, &str, String); 5] = [
        ("invoice.paid", "invoice.paid\u{202e}", format!("{time} stripe attempt invoice.paid")),
        ("invoice.paid", "in\\u0007voice", format!("{time} stripe attempt invoice")),
        (
            "invoice.paid",
            &long,
            format!("{time} stripe attempt {long}").chars().take(200).collect(),
        ),
        ("\"source\":\"stripe\"", "\"source\":7", format!("{time} attempt invoice.paid")),
        ("\"source\":\"stripe\"", "\"source\"", String::new()),
    ];
    for (from, to, about) in table {
        let lines = log.text();
        let mut lines: Vec<&str> = lines.split_inclusive('\n').collect();
        let changed = lines[4].replacen(from, to, 1);
        lines[4] = &changed;
        let found = report(&log.with_lines(&lines)).findings;
        assert_eq!((found.len(), found[0].record, &found[0].about), (1, 5, &about));
    }
}

/// Where everything is wrong, twenty findings are enough.
#[test]
fn findings_are_listed_up_to_twenty() {
    let log = Log::of(60);
    for (changes, listed) in [(19, 19), (20, 20), (21, 20), (58, 20)] {
        let changed = log.text().replacen("provider_id\":\"evt_", "provider_id\":\"evt-", changes);
        assert_eq!(report(&log.with_bytes(changed.into_bytes())).findings.len(), listed);
    }
}

/// The last checkpoint may be unfinished. Everything else in the file is one, or somebody else wrote it.
#[test]
fn what_is_no_checkpoint_is_said_to_be_none_unless_it_was_being_written() {
    let log = Log::of(8);
    let text = log.checkpoints();
    let (first, second) = text.split_at(text.find('\n').unwrap() + 1);
    let table: [(String, &[u64]); 7] = [
        (format!("{text}{{\"v\":1,\"check"), &[]),
        (format!("{text}\0\0\0point\"}}\n"), &[]),
        (format!("{text}\0\0\0"), &[]),
        (format!("{text}nothing\n"), &[3]),
        (format!("nothing\n{text}"), &[1]),
        (format!("\0\0\0point\"}}\n{text}"), &[1]),
        (format!("{first}a\n{second}\0b\nc\n"), &[2, 4, 5]),
    ];
    let logs = table.each_ref().map(|(text, _)| log.with_checkpoints(text.clone()));
    for ((log, (text, expected)), (ours, theirs)) in
        logs.iter().zip(&table).zip(judge(&logs.each_ref().map(|log| (log, None))))
    {
        let verdict = if expected.is_empty() { Verdict::Good } else { Verdict::Tampered(vec![0]) };
        assert_eq!((&ours, &theirs), (&verdict, &verdict), "{text}");
        let found = report(log).findings;
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, number) in found.iter().zip(*expected) {
            let place = format!("checkpoints:{number}: not a checkpoint");
            assert!(found.problem.ends_with(&place), "{text}: {found:?}");
        }
    }
}

/// Checkpoints that cannot be read are not checkpoints that are missing.
#[test]
fn a_file_that_cannot_be_read_says_nothing_about_the_log() {
    let (log, home) = (Log::of(8), directory());
    log.put(home.path());
    let checkpoints = home.path().join("checkpoints");
    fs::remove_file(&checkpoints).unwrap();
    fs::create_dir(&checkpoints).unwrap();
    let why = verify::verify(home.path(), None, None).unwrap_err();
    assert!(why.contains("checkpoints: ") && why.contains("directory"), "{why}");
}

/// Copies of which none covers a record that is here prove nothing, and must not pass for a proof.
#[test]
fn copies_of_what_is_elsewhere_prove_nothing() {
    let log = Log::sealed_every(30, 10);
    let parts = log.parts(3, 10);
    let anchors: Vec<String> = parts.iter().map(Log::checkpoints).collect();
    let asked = [(&parts[2], Some(anchors[0].as_str())), (&parts[2], Some(anchors[2].as_str()))];
    let verdicts = judge(&asked);
    assert_eq!(verdicts[0], (Verdict::CannotTell, Verdict::CannotTell));
    assert_eq!(verdicts[1], (Verdict::Good, Verdict::Good));
}

/// A compressed segment that was changed is a finding; a disk that does not give it is none.
#[tokio::test]
async fn a_compressed_segment_that_was_changed_is_found() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(5).await;
    let plain = &world.files(".ndjson")[1];
    let bytes = zstd::encode_all(&fs::read(plain).unwrap()[..], 3).unwrap();
    let packed = plain.with_extension("ndjson.zst");
    fs::remove_file(plain).unwrap();
    fs::write(&packed, &bytes).unwrap();
    let good = world.verify();
    assert_eq!(good.findings, []);
    let turned: Vec<u8> =
        bytes.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 1)).collect();
    for damaged in [&b"this is nothing of the kind"[..], &bytes[..bytes.len() / 2], &turned[..]] {
        fs::write(&packed, damaged).unwrap();
        let found = world.verify().findings;
        let unpacked = found.iter().find(|found| found.problem.contains("cannot be unpacked"));
        let unpacked = unpacked.expect("that it is damaged");
        assert!(unpacked.problem.starts_with("segment 2 cannot"), "{unpacked:?}");
        assert_eq!(unpacked.record, 2);
    }
    fs::remove_file(&packed).unwrap();
    fs::create_dir(&packed).unwrap();
    let why = verify::verify(world.dir(), None, None).unwrap_err();
    assert!(why.contains("directory"), "{why}");
}
