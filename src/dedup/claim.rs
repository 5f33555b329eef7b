//! The claim protocol as pure functions: what is kept about an event, and what each operation makes of it.
//!
//! ```text
//!             claim              complete           window over
//!   absent ----------> leased ------------> done ----------------> absent
//!     ^                | | |                  ^
//!     |    release     | | | hold             | complete, from everywhere
//!     +----------------+ | +------> unknown --+
//!     |  lease over:     |             |
//!     |  was unsettled   |             |  hold over
//!     +------------------+-------------+
//! ```
//!
//! The order is a lattice, *absent < leased, unknown < done*: only time moves down from *done*, and only the owner or time
//! moves down from *leased*. Completing asks for no token, because what an upstream accepted is done whoever says so, and
//! saying so repairs a key that a store lost. Everything else that an owner does is checked against its token.
//!
//! How often an event was claimed is remembered past the end of a claim, and so is that one of the attempts ended in the
//! dark: it was put on hold, or its lease ran out unsettled. A new attempt is told. Whoever wants to know where an event
//! stands claims it.
//!
//! The replay guard is a second key, a hash of the signed bytes. It is written when an event completes, so it suppresses
//! only what was delivered, and never the event that wrote it: the same id is an ordinary duplicate.
//!
//! The functions know no clock: `now` is milliseconds on the store's own one, and so are all times that are kept. Where that
//! clock was set back, a lease or hold has more left than it can have: it is over, and blocks nobody for as long as the
//! clock has lost.

use std::time::Duration;

use super::Subject;
use crate::event::{Digest, EventKey};

/// Longest time that is counted with; longer ones are cut to it (ten years).
const SPAN_MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

/// Milliseconds on a store's clock.
pub type Millis = u64;

/// Who claims: its own for each claim, so that a late word of an old owner does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u128);

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
    /// Somebody else works on it.
    InFlight {
        /// For how much longer at most, unless the lease is renewed.
        left: Duration,
    },
    /// An attempt ended unknown; nobody may try again for a time.
    Held {
        /// For how much longer.
        left: Duration,
    },
    /// It was delivered.
    Done {
        /// Whether with this very body.
        same_body: bool,
    },
    /// What was signed for it was delivered, under another key.
    Replayed,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Released: only its history is kept.
    Free,
    /// Claimed.
    Leased(Token),
    /// On hold after an unknown outcome.
    Held,
    /// Delivered, with this body.
    Done(Digest),
}

/// What is kept about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Where it stands.
    pub phase: Phase,
    /// When lease, hold or window end.
    pub until: Millis,
    /// For how long lease or hold was given.
    pub term: Millis,
    /// How often it was claimed.
    pub attempt: u32,
    /// Whether an attempt ended unknown before this one.
    pub unknown: bool,
    /// When all of this is forgotten.
    pub forget: Millis,
}

/// What is kept about signed bytes that were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guarded {
    /// The event that they were.
    pub by: EventKey,
    /// When this is forgotten.
    pub until: Millis,
}

/// All that is kept under the keys of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    /// Under the event's key.
    pub event: Option<Record>,
    /// Under the guard's key.
    pub guard: Option<Guarded>,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Take an event that nobody has: by whom, for how long, and how long it is remembered that it was tried.
    Claim(Token, Duration, Duration),
    /// Record it as done, for how long.
    Complete(Duration),
    /// Give a claim back: the attempt failed for certain.
    Release(Token),
    /// Keep everyone away for a time: nobody knows how the attempt ended.
    Hold(Token, Duration),
    /// Extend a claim.
    Renew(Token, Duration),
}

/// The answer to an [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a claim.
    Claimed(Claimed),
    /// To everything else: whether it was carried out. What only the owner may do is not, where the claim is not ours.
    Applied(bool),
}

/// The whole protocol: what is kept after `input`, and the answer.
#[must_use]
pub fn step(kept: Kept, subject: &Subject, input: Input, now: Millis) -> (Kept, Reply) {
    match input {
        Input::Claim(token, lease, window) => {
            let (kept, claimed) = claim(kept.remembered(now), subject, token, lease, window, now);
            (kept, Reply::Claimed(claimed))
        }
        Input::Complete(window) => (complete(subject, window, now), Reply::Applied(true)),
        Input::Release(token) => {
            kept.owned(token, now, |record| Record { phase: Phase::Free, ..record })
        }
        // With no time at all the event is free at once, and the next attempt is still told.
        Input::Hold(token, time) => kept.owned(token, now, |record| {
            Record { phase: Phase::Held, ..record }.lasting(now, millis(time))
        }),
        Input::Renew(token, lease) => {
            kept.owned(token, now, |record| record.lasting(now, millis(lease)))
        }
    }
}

/// Takes an event that nobody has for `lease`, and remembers for `window` that it was tried. A claim that is ours already
/// is extended, so that repeating a claim whose answer was lost is safe.
fn claim(
    kept: Kept,
    subject: &Subject,
    token: Token,
    lease: Duration,
    window: Duration,
    now: Millis,
) -> (Kept, Claimed) {
    let past = kept.event.unwrap_or(Record::NONE);
    let left = span(past.left(now));
    let (attempt, unknown) = match past.phase {
        Phase::Done(digest) => {
            return (kept, Claimed::Done { same_body: digest == subject.digest });
        }
        Phase::Leased(owner) if !left.is_zero() && owner == token => (past.attempt, past.unknown),
        Phase::Leased(_) if !left.is_zero() => return (kept, Claimed::InFlight { left }),
        Phase::Held if !left.is_zero() => return (kept, Claimed::Held { left }),
        Phase::Free | Phase::Leased(_) | Phase::Held => {
            if subject.suppress && kept.guard.is_some_and(|guard| guard.by != subject.key) {
                return (kept, Claimed::Replayed);
            }
            (past.attempt.saturating_add(1), past.unknown || past.phase != Phase::Free)
        }
    };
    let record = Record {
        phase: Phase::Leased(token),
        until: now + millis(lease),
        term: millis(lease),
        attempt,
        unknown,
        forget: now + millis(lease.max(window)),
    };
    let kept = Kept { event: Some(record), ..kept }.remembered(now);
    (kept, Claimed::Won { attempt, after_unknown: unknown })
}

/// Records an event, and its signed bytes, as delivered for `window`, whatever is there.
fn complete(subject: &Subject, window: Duration, now: Millis) -> Kept {
    let (until, phase) = (now + millis(window), Phase::Done(subject.digest));
    Kept {
        event: Some(Record { phase, until, forget: until, ..Record::NONE }),
        guard: subject.guard.map(|_| Guarded { by: subject.key, until }),
    }
    .remembered(now)
}

impl Record {
    const NONE: Self =
        Self { phase: Phase::Free, until: 0, term: 0, attempt: 0, unknown: false, forget: 0 };

    fn lasting(self, now: Millis, term: Millis) -> Self {
        let until = now + term;
        Self { until, term, forget: self.forget.max(until), ..self }
    }

    /// Whether it is not forgotten yet.
    pub(super) fn lasts(&self, now: Millis) -> bool {
        now < self.forget
    }

    /// For how much longer it blocks. A clock that is put right by less than the term ends nothing.
    fn left(&self, now: Millis) -> Millis {
        let left = self.until.saturating_sub(now);
        if left > self.term.saturating_mul(2) { 0 } else { left }
    }
}

impl Guarded {
    /// Whether it is not forgotten yet.
    pub(super) fn lasts(&self, now: Millis) -> bool {
        now < self.until
    }
}

impl Kept {
    /// What is left once everything whose time is over was forgotten.
    fn remembered(self, now: Millis) -> Self {
        Self {
            event: self.event.filter(|record| record.lasts(now)),
            guard: self.guard.filter(|guard| guard.lasts(now)),
        }
    }

    /// Changes the event's record if `token` holds a live lease on it.
    fn owned(
        self,
        token: Token,
        now: Millis,
        change: impl FnOnce(Record) -> Record,
    ) -> (Self, Reply) {
        match self.event {
            Some(record) if record.phase == Phase::Leased(token) && now < record.until => {
                (Self { event: Some(change(record)), ..self }, Reply::Applied(true))
            }
            Some(_) | None => (self, Reply::Applied(false)),
        }
    }
}

pub(super) fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(SPAN_MAX_MS)
}

pub(super) fn span(millis: Millis) -> Duration {
    Duration::from_millis(millis)
}
