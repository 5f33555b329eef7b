//! Signatures: the providers' own, attackers', and ours; and what is said about a scheme that is none.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed, which is what it is for"
)]

mod examples;
mod grammar;
mod language;
mod roundtrip;
mod rules;
mod source;
mod vectors;
