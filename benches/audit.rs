//! What a durable record costs, alone and in company: appends that wait together share one sync.
//!
//! `cargo bench --bench audit` (the figures are the disk's that holds the temporary directory)

#![allow(clippy::expect_used, reason = "a benchmark that cannot start says so")]

#[path = "../tests/audit_world/mod.rs"]
mod audit_world;

use divan::{Bencher, counter::ItemsCount};
use futures_util::future::join_all;

use crate::audit_world::{World, attempt};

fn main() {
    divan::main();
}

/// Appends with fsync, this many in flight.
#[divan::bench(args = [1, 64])]
fn append(bencher: Bencher<'_, '_>, in_flight: u32) {
    let world = World::new(); // with fsync
    let log = world.open();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bencher.counter(ItemsCount::new(in_flight)).bench_local(|| {
        let all = join_all((0..in_flight).map(|n| log.append(attempt(n))));
        for appended in runtime.block_on(all) {
            appended.expect("durable");
        }
    });
    runtime.block_on(log.close()).expect("in order");
}
