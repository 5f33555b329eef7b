//! What the fuzzer tries, without the fuzzer: every file of the kept corpus, and mutations of them that are the same in every
//! run. The functions are those of `fuzz/src`, and here they are tested themselves: something that is wrong on purpose stands
//! in the product's place, and the kept corpus finds it.
//!
//! `GATEPOST_FUZZ_MUTATIONS` is how many mutations of its corpus a target gets, `GATEPOST_FUZZ_SEED` which ones. `tests/long
//! fuzz` runs the fuzzer.

#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

mod corpus;
mod mistakes;
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeMap;

use corpus::Corpus;

fn size(name: &str, quick: usize) -> usize {
    std::env::var(name).map_or(quick, |text| text.parse().expect("a number"))
}

/// The kept corpus of a target, and mutations of it.
fn holds(name: &str, mutations: usize) {
    let (_, check) = targets::TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = Corpus::of(name);
    for (file, input) in &corpus.files {
        check(input).unwrap_or_else(|what| panic!("{name}/{file}: {what}"));
    }
    let seed = size("GATEPOST_FUZZ_SEED", 1) as u64;
    let mutations = size("GATEPOST_FUZZ_MUTATIONS", mutations);
    for input in corpus.mutations(seed).take(mutations) {
        check(&input)
            .unwrap_or_else(|what| panic!("{name}: b\"{}\": {what}", input.escape_ascii()));
    }
}

#[test]
fn guard() {
    holds("guard", 3000);
}

#[test]
fn verify() {
    holds("verify", 6000);
}

#[test]
fn scheme() {
    holds("scheme", 3000);
}

#[test]
fn identify() {
    holds("identify", 4000);
}

#[test]
fn recovery() {
    holds("recovery", 600);
}

#[test]
fn audit() {
    holds("audit", 1000);
}

#[test]
fn config() {
    holds("config", 1500);
}

#[test]
fn upstream() {
    holds("upstream", 3000);
}

/// A target without a file for the fuzzer, without a corpus, or without a test above is none.
#[test]
fn every_target_is_run() {
    let read = |path: &str| {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (manifest, tests) = (read("fuzz/Cargo.toml"), include_str!("main.rs"));
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let body = read(&format!("fuzz/fuzz_targets/{name}.rs"));
        assert!(body.contains(&format!("gatepost_fuzz::{name}::check(data)")), "{name}");
        assert!(tests.contains(&format!("    holds(\"{name}\", ")), "{name}");
        assert!(Corpus::of(name).files.len() >= 8, "{name}");
    }
}

/// Names and versions in a lock file; without a source it is the project's own.
fn locked(text: &str) -> BTreeMap<(String, String), bool> {
    let packages = text.split("[[package]]").skip(1).map(|package| {
        let value = |key: &str| {
            let begin = format!("{key} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(begin.as_str()));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        let (name, version) =
            (value("name").expect("a name"), value("version").expect("a version"));
        ((name, version), value("source").is_some())
    });
    packages.collect()
}

/// What the fuzzer runs is what is shipped.
#[test]
fn the_fuzzer_is_built_from_the_same_versions() {
    let ours = locked(include_str!("../../Cargo.lock"));
    let theirs = locked(include_str!("../../fuzz/Cargo.lock"));
    assert!(theirs.len() > 100);
    let engine = ["libfuzzer-sys", "arbitrary"];
    let other: Vec<_> = theirs
        .iter()
        .filter(|(package, foreign)| **foreign && !ours.contains_key(*package))
        .map(|(package, _)| package)
        .filter(|(name, _)| !engine.contains(&name.as_str()))
        .collect();
    let mend = "cp Cargo.lock fuzz/ && cargo check --manifest-path fuzz/Cargo.toml";
    assert!(other.is_empty(), "{other:?} differ: {mend}");
}
