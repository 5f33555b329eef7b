//! The real stack in a simulated world, and the ledger by which it is judged.

#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test may"
)]

mod app;
#[path = "../support/dice.rs"]
mod dice;
mod disk;
mod forged;
mod gateway;
#[path = "../support/ledger/mod.rs"]
mod ledger;
mod process;
mod rng;
mod seeds;
mod sender;
mod store;
mod world;
