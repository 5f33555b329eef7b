//! The pure half of the flow, from bytes to a route: signatures (the providers' own, attackers', and ours), challenges, names,
//! routes; the record's stages on top; and what is said about a description of a source that is none.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::pedantic,
    clippy::string_slice,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod asymmetric;
mod attacks;
mod audited;
mod bodies;
mod catalogue;
mod certificates;
mod challenges;
mod claims;
mod coverage;
#[path = "../support/dice.rs"]
mod dice;
mod doors;
mod examples;
mod flow;
mod foreign;
#[path = "../support/forgeries.rs"]
mod forged;
mod forgeries;
mod grammar;
mod handshake;
mod identify;
mod json;
mod keyring;
mod keys;
mod language;
mod lines;
mod messages;
mod mixed;
mod near_misses;
mod noted;
mod oracles;
mod places;
mod public_keys;
mod refused;
mod replays;
mod roundtrip;
mod route;
mod rules;
mod scheme;
mod signing;
mod source;
mod stages;
mod tenants;
mod timing;
mod tokens;
mod values;
mod vendors;
#[path = "../support/welch.rs"]
mod welch;
