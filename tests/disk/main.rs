//! The record on a disk that loses power, fails and is tampered with: every state that a crash can leave, every fault that a
//! disk can show, every change that a stranger can make.

#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

#[path = "../audit_world/mod.rs"]
mod audit_world;
mod bits;
mod crash;
mod diary;
#[path = "../support/dice.rs"]
mod dice;
mod faults;
mod faulty;
mod meanwhile;
mod packing;
mod planted;
mod power;
mod report;
mod room;
#[path = "../support/said.rs"]
mod said;
mod seeds;
mod tamper;
mod torn;
mod verdict;
mod workload;

/// A size of a test: what the environment says, or what fits a quick run.
pub fn size(name: &str, quick: usize) -> usize {
    std::env::var(name).map_or(quick, |text| text.parse().expect("a number"))
}
