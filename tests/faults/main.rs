//! The real binary while everything around it fails, and while it is killed: what senders were told, what the app received and
//! what the audit log says are joined, and every rule of the promise must hold. `docs/faults.md` says which test holds what.

#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::pedantic,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "a test may; helpers are shared, and not every binary uses all of them"
)]

mod app;
mod books;
mod bounds;
mod client;
mod clock;
mod crash;
mod damage;
#[path = "../support/dice.rs"]
mod dice;
mod disk;
mod flood;
mod forged;
#[path = "../support/h2.rs"]
mod h2;
mod kill;
#[path = "../support/ledger/mod.rs"]
mod ledger;
mod line;
mod matrix;
mod network;
mod points;
mod redis;
mod run;
mod scene;
mod sender;
#[path = "../support/redis.rs"]
mod server;
mod signals;
mod streams;
mod trouble;
mod upstream;
mod wire;
mod witness;
#[path = "../it/world/mod.rs"]
mod world;

/// The secrets of two sources that have equal ids.
pub const STRIPE: &str = "whsec_test_0123456789abcdefghijklmnop";
pub const BANK: &str = "whsec_bank_0123456789abcdefghijklmnop";
/// Of one whose signatures name no time.
pub const GITHUB: &str = "github-test-secret-0123456789";
