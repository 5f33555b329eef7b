//! Reading a log from which retention removes segments at the same time.

use std::{fs, os::unix::fs::symlink};

use gatepost::{
    audit::{export, segments::Segments},
    event::Timestamp,
};

use crate::audit_world::World;

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
