//! The audit log from outside: what is durable, what a verifier says, in both languages.

mod audit_world;

use std::{fs, io, time::Duration};

use audit_world::{World, attempt};
use gatepost::audit::{AuditError, CopyTo, Kind, OpenError, QUEUE_RECORDS_MAX, open, verify};

#[tokio::test]
async fn a_log_that_was_written_verifies() {
    let world = World::new();
    let log = world.open();
    for n in 0..10 {
        assert_eq!(log.append(attempt(n)).await, Ok(u64::from(n) + 2));
    }
    log.close().await.expect("in order");
    let report = world.verify();
    assert_eq!(report.findings, []);
    assert_eq!((report.first, report.last, report.records), (1, 12, 12));
    assert_eq!((report.unanchored(), report.torn_bytes), (0, 0));
    let kinds: Vec<_> = world.records().iter().map(|r| r["kind"].clone()).collect();
    assert_eq!(kinds.len(), 12);
    assert!(kinds[1..11].iter().all(|kind| kind == "attempt"));
}
