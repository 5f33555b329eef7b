//! What is tried on bytes that nobody vouches for, and what must hold whatever they are. Each module is a target: `check`
//! tries the product, and `judge` the same on anything in its place, so that the judgement itself can be tested on
//! something that is wrong on purpose (`tests/fuzz`).
//!
//! libFuzzer calls these functions (`fuzz_targets/`), and so does `cargo test --test fuzz`, with the kept corpus.

pub mod audit;
pub mod config;
pub mod dice;
pub mod guard;
pub mod identify;
pub mod logs;
pub mod recovery;
pub mod scheme;
pub mod upstream;
pub mod verify;

/// What was found: nothing, or what does not hold.
pub type Finding = Result<(), String>;

/// A target: the name of its corpus, and what is tried on an input.
pub type Target = (&'static str, fn(&[u8]) -> Finding);

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("guard", guard::check),
    ("verify", verify::check),
    ("scheme", scheme::check),
    ("identify", identify::check),
    ("recovery", recovery::check),
    ("audit", audit::check),
    ("config", config::check),
    ("upstream", upstream::check),
];

/// A sentence where `holds` is false.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(what()) }
}
