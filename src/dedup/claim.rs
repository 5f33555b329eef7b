//! The claim protocol as one pure function, shared by the stores, the tests and the model checker (`decisions` 18, 35).
//!
//! Order is a lattice: *absent < leased, unknown < done*; only time moves down from *done*.

use std::time::Duration;

use crate::event::Digest;

/// Who claims: random, fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u128);

/// What a store holds about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing.
    Absent,
    /// Claimed, for a time.
    Leased {
        /// By whom.
        token: Token,
        /// How often it was claimed, this time included.
        attempt: u32,
        /// For how much longer.
        left: Duration,
    },
    /// The outcome is unknown; nobody may try again for a time.
    Unknown {
        /// Whose attempt it was.
        token: Token,
        /// How often it was claimed.
        attempt: u32,
        /// For how much longer.
        left: Duration,
    },
    /// Delivered.
    Done {
        /// The body that was delivered.
        digest: Digest,
        /// For how much longer this is remembered.
        left: Duration,
    },
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claimed {
    /// It is ours.
    Won {
        /// How often it was claimed, this time included.
        attempt: u32,
        /// Whether an earlier attempt ended unknown.
        after_unknown: bool,
    },
    /// Somebody else has it.
    InFlight {
        /// For how much longer at most.
        left: Duration,
    },
    /// It was delivered.
    Done {
        /// Whether with this very body.
        same_body: bool,
    },
    /// Its signed bytes were delivered under another id.
    Replayed,
}
