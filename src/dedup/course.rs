//! What a request does next, in pure functions: when the store answered its claim or did not, when its work ended, when how
//! it ended was written or was not.
//!
//! The stage carries out what they say. `tests/model` does so too, in every order that is possible.

use std::time::Duration;

use super::{
    OnStoreError, Policy, StoreError,
    claim::{Claimed, Input, Millis, Token, millis, span},
};
use crate::answer::{Answer, Outcome};

/// What follows from the answer to a claim.
#[derive(Debug)]
pub enum Course {
    /// Another process works on it: claim again in a moment. Holds what was seen.
    Again(Claimed),
    /// No more claims.
    Take(Way),
}

/// What is done about an event.
#[derive(Debug)]
pub enum Way {
    /// The work: under a claim, or without one where the store does not answer and the source prefers duplicates.
    Work(Option<Won>),
    /// It was done; nothing but an answer.
    Known(Outcome),
    /// The sender shall come back later: somebody else has it for at most this long.
    Later(Duration),
    /// The sender shall come back later, and the claim may have been carried out without an answer.
    Doubt(StoreError),
}

/// What a claim won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Won {
    /// How many times the event was claimed, this time included.
    pub attempt: u32,
    /// Whether an earlier attempt ended unknown.
    pub after_unknown: bool,
}

/// What follows from the answer to a claim, while the request waits for a twin in another process since it saw one (`seen`),
/// and may do so for longer (`patient`).
#[must_use]
pub fn after_claim(
    claimed: Result<Claimed, StoreError>,
    seen: Option<Claimed>,
    patient: bool,
    policy: &Policy,
) -> Course {
    let claimed = match (claimed, seen) {
        (Ok(claimed), _) => claimed,
        (Err(_), Some(in_flight)) => in_flight, // patience bounds this
        (Err(error), None) => {
            return Course::Take(match policy.on_store_error {
                OnStoreError::Forward => Way::Work(None),
                OnStoreError::Reject => Way::Doubt(error),
            });
        }
    };
    Course::Take(match claimed {
        Claimed::Won { attempt, after_unknown } => Way::Work(Some(Won { attempt, after_unknown })),
        Claimed::InFlight { .. } if patient => return Course::Again(claimed),
        Claimed::InFlight { left } | Claimed::Held { left } => Way::Later(left),
        Claimed::Done { same_body: true } => Way::Known(Outcome::Duplicate(None)),
        Claimed::Done { same_body: false } => Way::Known(Outcome::SameIdOtherBody),
        Claimed::Replayed => Way::Known(Outcome::SuspectedReplay),
    })
}

/// What the store is to be told about an attempt that ended so.
#[must_use]
pub fn settlement(answer: &Answer, token: Token, policy: &Policy) -> Input {
    match answer.as_ref().map_err(|refused| refused.what.verdict().holds) {
        Ok(_) => Input::Complete(policy.window),
        Err(false) => Input::Release(token),
        Err(true) => Input::Hold(token, policy.hold),
    }
}

/// Whether that is told before the answer: a success without a claim, because the store was away, does not wait for it.
#[must_use]
pub fn settles_first(won: Option<Won>, answer: &Answer) -> bool {
    won.is_some() || answer.is_err()
}

/// Whether the request keeps its seat among its twins until that is written: not where the lease may just end.
#[must_use]
pub fn keeps_seat(settlement: Input, settled: bool) -> bool {
    !settled && !matches!(settlement, Input::Release(_))
}

/// Whether the event is claimed once more, to be settled so under that claim: the store knows of none of ours, because it lost
/// it, was away, or time ended it; but the upstream may have the event, and who tries again shall wait and be told. Somebody
/// else who has it by now keeps it.
#[must_use]
pub fn claims_again(settlement: Input, applied: bool) -> bool {
    !applied && matches!(settlement, Input::Hold(..))
}

/// Whether a claim that had no answer is looked after by a request that goes this way: not behind what is done, where none is carried
/// out, nor where the work is, whose end is told by the same token.
#[must_use]
pub fn looks_after(way: &Way) -> bool {
    match way {
        Way::Work(_) | Way::Known(Outcome::Duplicate(_) | Outcome::SameIdOtherBody) => false,
        Way::Known(_) | Way::Later(_) | Way::Doubt(_) => true,
    }
}

/// Whether a claim that had no answer is released, now that renewing it was answered so. Otherwise it may still be on its
/// way, and its token has to be kept.
#[must_use]
pub fn lets_go(renewed: &Result<bool, StoreError>) -> bool {
    matches!(renewed, Ok(true))
}

/// The end of a claim that the store said is not ours: later than every other, so that the word stands.
pub const LOST: Millis = Millis::MAX;

/// When a claim ends at the earliest that was asked for at `asked`, for `term`. Times are the owner's own.
#[must_use]
pub fn ends(asked: Duration, term: Duration) -> Millis {
    millis(asked.saturating_add(term))
}

/// When a claim ends that ended at `before` until it was renewed. One that was over before asking is lost, whatever the store
/// says: a late command may have brought it back, but in between somebody else may have had the event.
#[must_use]
pub fn renewed(before: Millis, asked: Duration, term: Duration, ours: bool) -> Millis {
    let unbroken = ours && !left(before, asked).is_zero();
    if unbroken { before.max(ends(asked, term)) } else { LOST }
}

/// For how much longer a claim that ends so is surely ours.
#[must_use]
pub fn left(ends: Millis, now: Duration) -> Duration {
    if ends == LOST { Duration::ZERO } else { span(ends).saturating_sub(now) }
}

/// For how long a claim has to be renewed before work of `time` may begin, if what is `left` is too little.
#[must_use]
pub fn shortfall(left: Duration, time: Duration, lease: Duration) -> Option<Duration> {
    (left < time).then(|| lease.max(time))
}
