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
mod crash;
mod diary;
mod faults;
mod meanwhile;
mod power;
mod seeds;
mod tamper;
mod torn;
mod verdict;
mod workload;

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }
}

/// A size of a test: what the environment says, or what fits a quick run.
pub fn size(name: &str, quick: usize) -> usize {
    std::env::var(name).map_or(quick, |text| text.parse().expect("a number"))
}
