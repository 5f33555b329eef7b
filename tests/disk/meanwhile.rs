//! Reading a log while a gateway adds to it, and while retention removes segments from it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use gatepost::{
    audit::{export, open_by_hand, segments::Segments, storage::Directory, verify},
    event::Timestamp,
};

use crate::{
    audit_world::{World, attempt},
    verdict::Log,
    workload::{BEGIN_MILLIS, directory},
};

#[tokio::test]
async fn reading_goes_on_where_retention_removes_a_segment_meanwhile() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(5).await;
    let found = Segments::of(world.dir()).unwrap();
    let firsts: Vec<u64> = found.firsts().collect();
    assert!(firsts.len() > 4);
    for file in &world.files(".ndjson")[..2] {
        fs::remove_file(file).unwrap();
    }
    let mut seen = Vec::new();
    let read = found.each(0, |frame, _| {
        seen.push(frame.seq);
        Ok(true)
    });
    read.expect("what is there");
    assert_eq!(seen.first(), Some(&firsts[2]));
    let since = Timestamp::from_millis(0);
    assert_eq!(found.at(Some(since)).expect("what is there"), 0);
}

/// What retention removes between two looks at the log is no gap in an export, but a reason to try again.
#[tokio::test]
async fn an_export_has_no_gap_where_retention_removes_a_segment_meanwhile() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(5).await;
    // The segment is there by name and cannot be opened, and no checkpoint closes it.
    let first = &world.files(".ndjson")[0];
    fs::remove_file(first).unwrap();
    symlink("/nowhere", first).unwrap();
    let checkpoints = &world.files("checkpoints")[0];
    let text = fs::read_to_string(checkpoints).unwrap();
    let last = text.split_inclusive('\n').next_back().unwrap();
    fs::write(checkpoints, last).unwrap();
    let out = world.root.path().join("export");
    let refused = export::export(world.dir(), &out, None, None).unwrap_err();
    assert!(refused.contains("removed meanwhile"), "{refused}");
}

/// Only what is not there was removed; what cannot be read is there.
#[tokio::test]
async fn a_segment_that_cannot_be_read_was_not_removed() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(5).await;
    let segment = &world.files(".ndjson")[2];
    fs::remove_file(segment).unwrap();
    symlink(segment, segment).unwrap();
    let found = Segments::of(world.dir()).unwrap();
    let out = world.root.path().join("export");
    let told = [
        found.each(0, |_, _| Ok(true)).unwrap_err().to_string(),
        found.at(Some(Timestamp::from_millis(0))).unwrap_err().to_string(),
        export::export(world.dir(), &out, None, None).unwrap_err(),
        verify::verify(world.dir(), None, None).unwrap_err(),
    ];
    for told in told {
        assert!(told.contains("symbolic links"), "{told}");
    }
}

/// A gateway seals what it has and goes on, after a verifier looked for checkpoints and before it has read everything. That is
/// no log whose checkpoints were taken away, nor one whose end was cut off; what counts is what is there at the second look.
#[test]
fn what_is_sealed_while_it_is_read_is_no_tampering() {
    let (log, home) = (Log::of(8), directory());
    log.put(home.path());
    let whole = log.text();
    let early: String = whole.split_inclusive('\n').take(5).collect();
    let pack = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    // The verifier waits at a pipe for its first look at the records, until everything else is as it will be.
    let segment = home.path().join(format!("{}.zst", log.segment));
    fs::remove_file(home.path().join(&log.segment)).unwrap();
    assert!(Command::new("mkfifo").arg(&segment).status().unwrap().success());
    let checkpoints = home.path().join("checkpoints");
    fs::write(&checkpoints, "").unwrap();
    let gateway = {
        let (segment, early, whole, sealed) =
            (segment.clone(), pack(&early), pack(&whole), log.checkpoints());
        move || {
            let mut pipe = fs::File::options().write(true).open(&segment).unwrap();
            fs::write(&checkpoints, sealed).unwrap();
            fs::write(segment.with_extension("new"), whole).unwrap();
            fs::rename(segment.with_extension("new"), &segment).unwrap();
            pipe.write_all(&early).unwrap();
        }
    };
    let gateway = thread::spawn(gateway);
    let report = verify::verify(home.path(), None, None).expect("readable");
    gateway.join().unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.checkpoints, report.unanchored()), (8, 2, 0));
}

/// Nor is a segment missing that went by its age, with a record that was sealed after the verifier looked for checkpoints.
#[tokio::test(start_paused = true)]
async fn what_is_removed_while_it_is_read_is_not_missing() {
    let world = World::with(|params| {
        (params.rotate_bytes, params.compress) = (1, false);
        params.retention = Duration::from_hours(48);
    });
    let millis = Arc::new(AtomicI64::new(BEGIN_MILLIS));
    let at = millis.clone();
    let clock = Arc::new(move || Timestamp::from_millis(at.load(Ordering::SeqCst)));
    let disk = Arc::new(Directory::open(world.dir()).unwrap());
    let opened = open_by_hand(disk, &world.params, world.metrics.audit(), clock);
    let (log, mut writer) = opened.expect("a log");
    let removal = loop {
        millis.fetch_add(24 * 3_600_000, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(2)).await;
        log.note(attempt(0));
        writer.turn();
        let last = world.records().pop().unwrap();
        if last["what"] == "segment_removed" {
            break last["seq"].as_u64().unwrap();
        }
    };
    drop((log, writer));
    let files = [world.files("checkpoints"), world.files(".ndjson")].map(|mut f| f.remove(0));
    let [checkpoints, segment] = files;
    let sealed = fs::read_to_string(&checkpoints).unwrap();
    let size = |line: &&str| line.split("\\n").nth(1).unwrap().parse::<u64>().unwrap();
    let early = sealed.split_inclusive('\n').filter(|line| size(line) < removal);
    fs::write(&checkpoints, early.collect::<String>()).unwrap();
    assert_eq!(world.verify().findings.len(), 1, "it was not sealed");
    // The verifier waits at a pipe for its first look at the records, until the removal is sealed.
    let text = fs::read(&segment).unwrap();
    let (packed, away) = (segment.with_extension("ndjson.zst"), segment.with_extension("away"));
    fs::rename(&segment, &away).unwrap();
    assert!(Command::new("mkfifo").arg(&packed).status().unwrap().success());
    let gateway = thread::spawn(move || {
        let mut pipe = fs::File::options().write(true).open(&packed).unwrap();
        fs::write(&checkpoints, sealed).unwrap();
        fs::rename(&away, &segment).unwrap();
        pipe.write_all(&zstd::encode_all(&text[..], 3).unwrap()).unwrap();
    });
    assert_eq!(world.verify().findings, []);
    gateway.join().unwrap();
}
