//! Signatures: the providers' own, attackers', and ours; and what is said about a scheme that is none.

mod examples;
mod grammar;
mod language;
mod roundtrip;
mod rules;
mod source;
mod vectors;
