//! The audit log from outside: what is durable, what survives a broken disk, what a verifier says, in both languages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod audit_world;
#[path = "audit/edges.rs"]
mod edges;
#[path = "audit/house.rs"]
mod house;
#[path = "support/said.rs"]
mod said;
#[path = "audit/starts.rs"]
mod starts;

use std::{
    fs,
    future::Future as _,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use audit_world::{World, about, attempt, disk::Disk, name};
use gatepost::{
    audit::{
        AuditError, CopyTo, Draft, Kind, QUEUE_RECORDS_MAX, REJECTED_BYTES_PER_SECOND,
        REJECTED_PER_SECOND, idle, is_ripe, open, open_by_hand, open_on, siblings,
    },
    event::Timestamp,
};
use sha2::{Digest as _, Sha256};

/// Records a fresh log has before anybody appends: `started`.
const OURS: u64 = 1;

#[tokio::test]
async fn a_log_that_was_written_verifies() {
    let world = World::new();
    let log = world.open();
    for n in 0..10 {
        assert_eq!(log.append(attempt(n)).await, Ok(u64::from(n) + 1 + OURS));
    }
    log.close().await.expect("in order");
    assert_eq!(log.append(attempt(11)).await, Err(AuditError::Closed));
    let report = world.verify();
    assert_eq!(report.findings, []);
    assert_eq!((report.first, report.last, report.records), (1, 12, 12));
    assert_eq!((report.unanchored(), report.torn_bytes), (0, 0));
    let kinds: Vec<_> = world.records().iter().map(|r| r["kind"].clone()).collect();
    assert!(kinds[1..11].iter().all(|kind| kind == "attempt"));
    let ours: Vec<_> =
        world.records().iter().filter_map(|r| Some(r["what"].as_str()?.to_owned())).collect();
    assert_eq!(ours, ["started", "stopped"], "a start without an end before it follows a crash");
    let live = &world.files(".ndjson")[0];
    assert!(!fs::read(live).unwrap().contains(&0), "the zeros laid out ahead are cut at the end");
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_said() {
    for tail in [&b"{\"v\":1,\"seq\":7,\"ts\":\"2026"[..], &[0; 5000], b"\0\0\0\0half a page"] {
        let world = World::new();
        world.fill(5).await;
        let live = world.files(".ndjson").pop().unwrap();
        let whole = fs::read(&live).unwrap();
        fs::write(&live, [&whole[..], tail].concat()).unwrap();
        world.fill(1).await;
        let report = world.verify();
        assert_eq!(report.findings, []);
        assert!(fs::read(&live).unwrap().starts_with(&whole), "not a byte more than was torn");
        let torn = tail.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let said = world.records().into_iter().find(|r| r["what"] == "torn_tail_cut");
        assert_eq!(said.map_or(0, |r| r["bytes"].as_u64().unwrap()), torn as u64);
    }
}

#[tokio::test]
async fn every_cut_of_the_file_recovers_to_a_prefix_of_its_records() {
    let world = World::new();
    world.fill(3).await;
    let live = world.files(".ndjson").pop().unwrap();
    let whole = fs::read(&live).unwrap();
    let checkpoints = world.files("checkpoints").pop().unwrap();
    fs::write(&checkpoints, "").unwrap(); // what a checkpoint covers is never cut
    let records = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
    for len in (0..whole.len()).step_by(97) {
        fs::write(&live, &whole[..len]).unwrap();
        drop(world.open());
        let recovered = fs::read(&live).unwrap();
        let kept = whole[..len].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(recovered[..kept], whole[..kept]);
        let ours = 2 + usize::from(kept < len); // started, stopped, and what was cut
        assert_eq!(records(&recovered), records(&whole[..kept]) + ours);
        assert_eq!(world.verify().findings, []);
        fs::write(&checkpoints, "").unwrap();
    }
}

#[tokio::test]
async fn what_a_checkpoint_covers_is_never_cut() {
    let world = World::new();
    world.fill(5).await;
    let live = world.files(".ndjson").pop().unwrap();
    let mut bytes = fs::read(&live).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&live, &bytes).unwrap();
    world.fill(1).await;
    assert!(fs::read(&live).unwrap().starts_with(&bytes), "evidence stays");
    assert!(world.records().iter().any(|r| r["what"] == "damage_found"));
    assert!(!world.verify().is_good());
}

/// A checkpoint from before, put behind the others, makes nobody forget that a later one covers more.
#[tokio::test]
async fn the_checkpoint_that_covers_most_counts_wherever_it_stands() {
    let world = World::new();
    world.fill(5).await;
    let checkpoints = world.files("checkpoints").pop().unwrap();
    let text = fs::read_to_string(&checkpoints).unwrap();
    let first = text.split_inclusive('\n').next().unwrap();
    fs::write(&checkpoints, format!("{text}{first}")).unwrap();
    let live = world.files(".ndjson").pop().unwrap();
    let damaged = fs::read_to_string(&live).unwrap().replacen("evt_4", "evt_x", 1);
    fs::write(&live, &damaged).unwrap();
    world.fill(1).await;
    assert!(fs::read_to_string(&live).unwrap().starts_with(&damaged), "evidence stays");
    let records = world.records();
    let changed = records.iter().find(|r| r["provider_id"] == "evt_x").unwrap()["seq"].as_u64();
    let found = records.iter().find(|r| r["what"] == "damage_found").unwrap();
    assert_eq!(found["record"].as_u64(), changed.map(|seq| seq + 1), "whose link does not hold");
}

/// Numbers go on where they were, even where nothing is left that says what they were but a file's name.
#[tokio::test]
async fn numbers_go_on_behind_a_log_of_which_nothing_can_be_read() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(5).await;
    let mut segments = world.files(".ndjson");
    let live = segments.pop().unwrap();
    let begins: u64 =
        live.file_stem().unwrap().to_str().unwrap()["segment-".len()..].parse().unwrap();
    for segment in &segments {
        fs::remove_file(segment).unwrap();
    }
    fs::write(&live, "nothing\n").unwrap();
    world.fill(1).await;
    let seqs: Vec<_> =
        world.files(".ndjson").into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let seqs = seqs.concat();
    assert!(seqs.contains(&format!("\"seq\":{begins},")) && !seqs.contains("\"seq\":1,"), "{seqs}");
    assert!(begins > 1);
}

/// The numbers of records never go back, or what was sealed would look like a tail that a crash tore, at the next start.
#[tokio::test]
async fn what_a_checkpoint_covers_is_never_cut_whatever_stands_behind_it() {
    let limit = 999_999_999_999_999_999;
    for number in [1, 7, limit / 2, limit, u64::MAX] {
        let world = World::new();
        world.fill(5).await;
        let live = world.files(".ndjson").pop().unwrap();
        let text = fs::read_to_string(&live).unwrap();
        let first = text.split_inclusive('\n').next().unwrap();
        let behind = first.split_once(",\"ts\"").unwrap().1;
        let damaged = text.replacen("evt_2", "evt_x", 1);
        let forged = format!("{{\"v\":1,\"seq\":{number},\"ts\"{behind}");
        fs::write(&live, format!("{damaged}{forged}")).unwrap();
        let sealed = hex::encode(Sha256::digest(text.lines().nth(6).unwrap()));
        for _ in 0..3 {
            world.fill(1).await;
            let now = fs::read_to_string(&live).unwrap();
            assert!(now.starts_with(&damaged), "evidence stays");
            let next = now.lines().find(|line| line.contains("\"checkpoint_size\"")).unwrap();
            assert!(next.starts_with("{\"v\":1,\"seq\":8,"), "behind what was sealed: {next}");
            assert!(next.ends_with(&format!("\"prev\":\"{sealed}\"}}")), "{next}");
            let said = world.records().iter().filter(|r| r["what"] == "damage_found").count();
            assert!(said > 0 && !world.verify().is_good());
        }
    }
}

#[tokio::test]
async fn the_signing_key_is_for_its_owner_alone() {
    let world = World::new();
    world.fill(1).await;
    let mode = fs::metadata(&world.params.checkpoint_key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What a record quotes of a stranger is bounded, and no terminal acts on it.
#[tokio::test]
async fn what_a_terminal_would_act_on_is_escaped() {
    let world = World::new();
    let log = world.open();
    let says = format!("a\tb\u{202e}\"}}\\{}", "x".repeat(300));
    let value = http::HeaderValue::from_bytes(says.as_bytes()).unwrap();
    let mut draft = attempt(0);
    draft.origin(None, [(&http::header::USER_AGENT, &value)]);
    log.append(draft).await.expect("durable");
    log.close().await.unwrap();
    let live = fs::read_to_string(&world.files(".ndjson")[0]).unwrap();
    assert!(live.contains(r#"{"user-agent":"a\u0009b\u202e\"}\\xxx"#), "{live}");
    let quoted = world.records()[1]["headers"]["user-agent"].as_str().unwrap().to_owned();
    assert!(says.starts_with(&quoted), "{quoted}");
    assert_eq!(quoted.len(), 256);
}

#[tokio::test]
async fn only_one_process_writes() {
    let world = World::new();
    let first = world.open();
    let second = open(&world.params, world.metrics.audit()).unwrap_err().to_string();
    assert!(second.contains("another gatepost"), "{second}");
    assert!(second.contains(&format!("(pid {})", std::process::id())), "{second}");
    first.close().await.unwrap();
    drop(open(&world.params, world.metrics.audit()).expect("given up at the end"));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_until_a_restart() {
    let world = World::new();
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    assert_eq!(log.append(attempt(0)).await, Ok(1 + OURS));
    disk.faults.sync_fails.store(true, Ordering::SeqCst);
    assert!(matches!(log.append(attempt(1)).await, Err(AuditError::Fenced(_))));
    disk.faults.sync_fails.store(false, Ordering::SeqCst);
    assert!(matches!(log.append(attempt(2)).await, Err(AuditError::Fenced(_))), "a fence stays");
    assert!(matches!(log.health().trouble, Some(AuditError::Fenced(_))));
    assert!(log.close().await.is_err());
    drop((log, disk));
    let log = world.open();
    assert!(log.append(attempt(3)).await.is_ok(), "a restart looks at what is really there");
    log.close().await.unwrap();
    assert_eq!(world.verify().findings, []);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let world = World::with(|params| params.free_bytes_min = 1000);
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    log.append(attempt(0)).await.unwrap();
    disk.faults.free.store(10, Ordering::SeqCst);
    world
        .until(&log, "the disk is low", |log| log.health().trouble == Some(AuditError::Full))
        .await;
    assert_eq!(log.append(attempt(1)).await, Err(AuditError::Full));
    let mut ending = Draft::new(Kind::Outcome);
    ending.event(&about(2));
    log.note(ending); // how something ended that was begun before
    disk.faults.free.store(1 << 30, Ordering::SeqCst);
    world.until(&log, "there is room again", |log| log.health().trouble.is_none()).await;
    log.append(attempt(3)).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(world.verify().findings, []);
    let records = world.records();
    let ids: Vec<_> = records.iter().filter_map(|r| r["provider_id"].as_str()).collect();
    assert_eq!(ids, ["evt_0", "evt_2", "evt_3"]);
}

#[tokio::test]
async fn a_disk_without_room_for_another_segment_tears_nothing() {
    let world = World::with(|params| params.rotate_bytes = 1);
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    log.append(attempt(0)).await.unwrap();
    disk.faults.full.store(true, Ordering::SeqCst);
    assert_eq!(log.append(attempt(1)).await, Ok(2 + OURS), "there was room for it already");
    assert_eq!(log.append(attempt(2)).await, Err(AuditError::Full));
    disk.faults.full.store(false, Ordering::SeqCst);
    world.until(&log, "there is room again", |log| log.health().trouble.is_none()).await;
    log.append(attempt(3)).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(world.verify().findings, []);
}

#[tokio::test]
async fn segments_rotate_are_compressed_and_go_as_wholes() {
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000));
    let world = World::with(|params| params.retention = Duration::from_hours(48));
    let disk = Disk::open(world.dir());
    let at = clock.clone();
    let now = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
    let log = open_on(disk.clone(), &world.params, world.metrics.audit(), now).unwrap();
    let synced = disk.faults.dir_syncs.load(Ordering::SeqCst);
    for day in 0..4 {
        for n in 0..3 {
            log.append(attempt(day * 3 + n)).await.unwrap();
        }
        clock.fetch_add(25 * 3_600_000, Ordering::SeqCst);
    }
    assert!(disk.faults.dir_syncs.load(Ordering::SeqCst) >= synced + 3, "names are durable too");
    // Two of five are older than the retention, and all but the live one are compressed.
    let count = |suffix| world.files(suffix).len();
    let settled = |_: &_| count(".zst") == 2 && count(".ndjson") == 1;
    world.until(&log, "old segments are gone", settled).await;
    log.close().await.unwrap();
    let report = world.verify();
    assert_eq!((report.findings.as_slice(), report.segments), ([].as_slice(), 3));
    assert!(report.first > 4, "{report:?}");
    assert!(world.records().iter().any(|r| r["what"] == "segment_removed"));
    drop((log, disk));
    world.fill(1).await;
    assert_eq!(world.verify().findings, [], "a log is taken up behind its compressed segments");
}

#[tokio::test]
async fn only_a_copy_that_left_shows_a_cut_tail_and_a_rollback() {
    let world = World::with_root(|params, root| {
        params.copy_to = vec![CopyTo::File(root.join("elsewhere")), CopyTo::File(root.join("two"))];
    });
    let copy = world.root.path().join("elsewhere");
    world.fill(3).await;
    let yesterday = world.snapshot();
    world.fill(3).await;
    let report = world.against(&copy).expect("readable");
    // Each run is sealed behind its beginning, and at its end.
    assert_eq!((report.findings.as_slice(), report.copies), ([].as_slice(), 4));
    world.restore(&yesterday);
    assert!(world.verify().is_good(), "by itself it looks well");
    let report = world.against(&copy).expect("readable");
    assert!(report.findings[0].problem.contains("cut off"), "{report:?}");
    // A log collector's own words around the copies do not matter.
    let log = fs::read_to_string(&copy).unwrap().replace("{\"v\"", "host app[7]: {\"v\"");
    fs::write(&copy, format!("something else\n{log}")).unwrap();
    assert!(!world.against(&copy).expect("readable").is_good());
    fs::write(&copy, "nothing of the kind\n").unwrap();
    assert!(world.against(&copy).is_err(), "which proves nothing either way");
    // A directory cut behind a checkpoint, and sealed anew with the stolen key.
    world.fill(4).await;
    assert!(world.verify().is_good());
    let resealed = world.against(&world.root.path().join("two")).expect("readable");
    assert!(resealed.findings.iter().any(|f| f.problem.contains("another record")), "{resealed:?}");
}

#[tokio::test]
async fn both_verifiers_find_the_same_in_healthy_and_tampered_logs() {
    let world = World::new();
    world.fill(6).await;
    world.fill(6).await;
    let whole = world.export();
    assert_eq!(whole.ours(), whole.theirs());
    assert_eq!(whole.ours(), (true, vec![]));
    let (segment, checkpoints) = (whole.file("segment-"), whole.file("checkpoints"));
    let lines: Vec<String> = segment.1.lines().map(|line| format!("{line}\n")).collect();
    let mut cases: Vec<(&str, String)> = Vec::new();
    for at in [0, 1, 5, 9, lines.len() - 1] {
        let mut changed = lines.clone();
        changed[at] = changed[at].replacen("\"v\":1", "\"v\":2", 1);
        cases.push(("changed frame", changed.concat()));
        changed.clone_from(&lines);
        changed[at] = changed[at].replacen("Z\",\"kind\"", "0\",\"kind\"", 1);
        cases.push(("changed time", changed.concat()));
        changed.clone_from(&lines);
        changed[at] = flip_last_digit(&changed[at]);
        cases.push(("changed link", changed.concat()));
        changed.clone_from(&lines);
        changed.remove(at);
        cases.push(("removed", changed.concat()));
        changed.clone_from(&lines);
        changed.insert(at, lines[3].clone());
        cases.push(("inserted", changed.concat()));
    }
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    cases.push(("swapped", swapped.concat()));
    cases.push(("cut", lines[..lines.len() - 2].concat()));
    for (what, text) in cases {
        fs::write(&segment.0, text).unwrap();
        let (ours, theirs) = (whole.ours(), whole.theirs());
        assert!(!ours.0, "{what} is not seen");
        assert_eq!(ours, theirs, "{what}");
    }
    fs::write(&segment.0, &segment.1).unwrap();
    let forged = checkpoints.1.replacen("time 2", "time 3", 1);
    fs::write(&checkpoints.0, forged).unwrap();
    assert_eq!(whole.ours(), whole.theirs());
    assert!(!whole.ours().0, "a forged checkpoint is not seen");
}

fn flip_last_digit(line: &str) -> String {
    let at = line.len() - "0\"}\n".len();
    let digit = if line[at..].starts_with('0') { "1" } else { "0" };
    format!("{}{digit}{}", &line[..at], &line[at + 1..])
}

#[tokio::test]
async fn every_flipped_bit_is_found() {
    let world = World::new();
    world.fill(2).await;
    let live = world.files(".ndjson").pop().unwrap();
    let whole = fs::read(&live).unwrap();
    let ends: Vec<_> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).collect();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&live, &changed).unwrap();
        let report = world.verify();
        let found = report.findings.first().map(|finding| finding.record);
        let record = ends.partition_point(|end| *end < at) as u64 + 1;
        assert!(found.is_some_and(|found| found.abs_diff(record) <= 1), "byte {at}: {report:?}");
    }
}

#[tokio::test]
async fn rejected_requests_are_sampled_in_records_and_in_bytes() {
    // Tabs are written as six bytes each, and so are counted as that.
    for (value, most) in [("x".repeat(250), 3), ("\t".repeat(100), 1), ("\t".repeat(250), 0)] {
        let world = World::new();
        let log = world.open();
        let value = http::HeaderValue::from_str(&format!("a{value}b")).unwrap();
        let headers = vec![(http::header::USER_AGENT, value); 5];
        for n in 0..100 {
            if let Some(whole) =
                log.admits(&name("stripe"), headers.iter().map(|(name, value)| (name, value)))
            {
                let mut draft = attempt(n);
                let kept = headers.iter().filter(|_| whole).map(|(name, value)| (name, value));
                draft.origin(None, kept);
                log.note(draft);
            }
        }
        log.close().await.unwrap();
        let records = world.records();
        let sampled: Vec<_> = records.iter().filter(|r| r["kind"] == "attempt").collect();
        assert_eq!(sampled.len(), REJECTED_PER_SECOND as usize);
        let whole = || sampled.iter().filter(|r| r["headers"].is_object());
        assert_eq!(
            whole().count(),
            most,
            "{REJECTED_BYTES_PER_SECOND} bytes a second hold so many"
        );
        let bytes: usize = whole().map(|r| r["headers"].to_string().len()).sum();
        assert!(bytes <= REJECTED_BYTES_PER_SECOND, "{bytes}");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_fills_the_queue_and_no_more() {
    let world = World::new();
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    let hanging = disk.faults.gate.lock().unwrap();
    for n in 0..3 * u32::try_from(QUEUE_RECORDS_MAX).unwrap() {
        log.note(attempt(n));
    }
    drop(hanging);
    log.close().await.unwrap();
    let kept = world.records().iter().filter(|record| record["kind"] == "attempt").count();
    assert!((QUEUE_RECORDS_MAX / 2..=QUEUE_RECORDS_MAX).contains(&kept), "{kept} records");
    let text = world.metrics.render();
    let dropped = text.lines().find_map(|l| l.strip_prefix("gatepost_audit_notes_dropped_total "));
    assert_ne!(dropped, Some("0"), "what was dropped is counted");
}

/// Counts how often it is woken by a thread other than the one it was made on, which costs a system call.
struct FarWakes(ThreadId, AtomicUsize);

impl Wake for FarWakes {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(usize::from(thread::current().id() != self.0), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_batch_is_answered_with_one_wake_whoever_went_away() {
    let world = World::new();
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    let wakes = Arc::new(FarWakes(thread::current().id(), AtomicUsize::new(0)));
    let hanging = disk.faults.gate.lock().unwrap();
    let mut appends: Vec<_> = (0..20).map(|n| Box::pin(log.append(attempt(n)))).collect();
    for append in &mut appends {
        let far = Waker::from(wakes.clone());
        assert!(append.as_mut().poll(&mut Context::from_waker(&far)).is_pending());
    }
    drop(appends.remove(1));
    drop(hanging);
    assert_eq!(log.append(attempt(20)).await, Ok(21 + OURS));
    // The first may have been written alone, and was then answered by the writer.
    assert!(wakes.1.load(Ordering::SeqCst) <= 1, "{} system calls", wakes.1.load(Ordering::SeqCst));
    let numbers = futures_util::future::join_all(appends).await;
    assert!(numbers.into_iter().eq([0].into_iter().chain(2..20).map(|n| Ok(n + 1 + OURS))));
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_under_way_share_a_sync() {
    const EACH: u32 = 30;
    let world = World::new();
    let disk = Disk::open(world.dir());
    let log = world.open_disk(&disk);
    let before = disk.faults.syncs.load(Ordering::SeqCst);
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let log = log.clone();
            #[expect(clippy::disallowed_methods, reason = "a test waits for its own tasks")]
            tokio::spawn(async move {
                for n in 0..EACH {
                    let _under_way = log.under_way();
                    log.append(attempt(task * EACH + n)).await.expect("durable");
                    log.note(attempt(task * EACH + n));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let syncs = disk.faults.syncs.load(Ordering::SeqCst) - before;
    let records = 2 * 64 * EACH as usize;
    assert!(records / syncs >= 12, "{records} records in {syncs} syncs");
}

/// Few are written at once; of many, a batch waits for most of those whose record is still to come, where somebody waits already.
#[test]
fn a_batch_waits_for_those_that_may_still_come() {
    let cases = [
        (1, 0, 0, None),
        (1, 15, 0, None),
        (1, 16, 0, Some(12)),
        (0, 16, 0, None),
        (2, 16, 0, Some(12)),
        (1, 64, 0, Some(48)),
        (0, 64, 0, None),
        (1, 64, 40, Some(18)),
        (1, 64, 49, None),
        (1, 1, 2, None), // a sender hung up, and its work goes on
    ];
    for (awaited, under_way, recorded, expected) in cases {
        let found = siblings(awaited, under_way, recorded);
        assert_eq!(found, expected, "{awaited} wait, {under_way}, {recorded} recorded");
    }
}

/// Whoever writes sleeps for five seconds at the most, and not past the next checkpoint where there is something to seal.
#[test]
fn a_writer_does_not_sleep_past_the_next_checkpoint() {
    let millis = Duration::from_millis;
    let cases = [
        (false, 0, 60_000, 5000),
        (false, 59_000, 60_000, 5000),
        (false, 0, 1, 5000),
        (true, 0, 60_000, 5000),
        (true, 58_000, 60_000, 2000),
        (true, 0, 1000, 1000),
        (true, 59_950, 60_000, 100),
        (true, 60_000, 60_000, 100),
        (true, 90_000, 60_000, 100),
    ];
    for (behind, age, every, expected) in cases {
        let found = idle(behind, millis(age), millis(every));
        assert_eq!(found, millis(expected), "{behind}, {age} of {every}");
    }
}
