//! Mistakes that a protocol like this one is likely to be made with, each seeded where the model calls the product.

use gatepost::dedup::{
    Subject,
    claim::{self, Claimed, Input, Kept, Millis, Phase, Record, Reply, Token},
};

use crate::{
    promises::Promise,
    world::{NOW, Said, WINDOW},
};

/// A seeded mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A duplicate of what is still under way gets 200.
    AckInFlight,
    /// *Done* is written when the event is claimed: the home-made `SET NX` with a time to live.
    DoneFirst,
    /// A timeout counts as success.
    UnknownIsSuccess,
    /// A twin with another body gets the leader's answer.
    OtherBodyShares,
    /// The replay guard is written when an event is claimed, not when it completes.
    GuardAtClaim,
    /// *Done* is forgotten sooner than the sender gives up.
    ShortWindow,
    /// The forward does not look at what is left of the lease.
    LeaseUnchecked,
    /// A success is settled like a failure.
    SuccessReleases,
    /// The record follows the forward.
    RecordAfter,
    /// A claim never ends by itself.
    NoLease,
    /// A lease that has more left than it can have is believed.
    TrustsClock,
    /// A leader that failed keeps its seat.
    SeatStays,
    /// Releasing asks for no token.
    ReleaseAnyones,
    /// A claim does not look whether somebody has the event.
    ClaimSteals,
    /// All claims of a gateway have one token.
    OneToken,
    /// A claim without an answer is released without asking first whether it is there.
    LetGoBlindly,
    /// That a claim had no answer is forgotten where a twin was seen.
    DoubtForgotten,
    /// An unknown outcome is not held where the store lost the claim.
    LostIsLeft,
    /// A timeout counts as a certain failure.
    UnknownReleases,
    /// The store does not remember that an attempt ended in the dark.
    ForgetsUnknown,
    /// A lease that was over is renewed where the store says that it is ours.
    RevivesLease,
    /// A success is told as a failure when *done* cannot be written.
    UnwrittenRefused,
    /// The key leaves the source out.
    KeyWithoutSource,
    /// The key leaves the body out where another body is another event.
    KeyWithoutBody,
}

/// Each mistake, and the promise that it breaks.
pub(crate) const BUGS: [(Bug, Promise); 24] = [
    (Bug::AckInFlight, Promise::AckRests),
    (Bug::DoneFirst, Promise::AckRests),
    (Bug::UnknownIsSuccess, Promise::AckRests),
    (Bug::OtherBodyShares, Promise::AckRests),
    (Bug::GuardAtClaim, Promise::AckRests),
    (Bug::KeyWithoutBody, Promise::AckRests),
    (Bug::ShortWindow, Promise::OncePerExcuse),
    (Bug::LeaseUnchecked, Promise::OncePerExcuse),
    (Bug::RecordAfter, Promise::RecordFirst),
    (Bug::SuccessReleases, Promise::QuietIsDone),
    (Bug::NoLease, Promise::NoWedge),
    (Bug::TrustsClock, Promise::NoWedge),
    (Bug::SeatStays, Promise::NoWedge),
    (Bug::ReleaseAnyones, Promise::OwnerOnly),
    (Bug::ClaimSteals, Promise::OwnerOnly),
    (Bug::OneToken, Promise::OwnerOnly),
    (Bug::LetGoBlindly, Promise::OwnerOnly),
    (Bug::UnknownReleases, Promise::RepeatsAreTold),
    (Bug::ForgetsUnknown, Promise::RepeatsAreTold),
    (Bug::RevivesLease, Promise::RepeatsAreTold),
    (Bug::LostIsLeft, Promise::RepeatsAreTold),
    (Bug::UnwrittenRefused, Promise::SuccessIsTold),
    (Bug::KeyWithoutSource, Promise::SourcesApart),
    (Bug::DoubtForgotten, Promise::NoneLeftBehind),
];

/// The product's `step`, or what a mistake makes of it.
pub(crate) fn step(
    bug: Option<Bug>,
    mut kept: Kept,
    subject: &Subject,
    mut input: Input,
    now: u64,
) -> (Kept, Reply) {
    let owner = kept.event.and_then(|record| match record.phase {
        Phase::Leased(token) => Some(token),
        Phase::Free | Phase::Held | Phase::Done(_) => None,
    });
    match (bug, &mut input) {
        (Some(Bug::NoLease), Input::Claim(_, lease, _) | Input::Renew(_, lease)) => *lease = WINDOW,
        (Some(Bug::TrustsClock), Input::Claim(..)) => {
            kept.event = kept.event.map(|record| Record { term: Millis::MAX, ..record });
        }
        (Some(Bug::ReleaseAnyones), Input::Release(token)) => *token = owner.unwrap_or(*token),
        (Some(Bug::ClaimSteals), Input::Claim(..)) if owner.is_some() => {
            kept.event = kept.event.map(|record| Record { until: now, ..record });
        }
        (Some(Bug::ForgetsUnknown), Input::Claim(..)) => {
            kept.event = kept.event.map(|mut record| {
                if matches!(record.phase, Phase::Leased(_) | Phase::Held) && record.until <= now {
                    record.phase = Phase::Free;
                }
                record.unknown = false;
                record
            });
        }
        _ => {}
    }
    let (mut after, reply) = claim::step(kept, subject, input, now);
    if let (Input::Claim(_, _, window), Reply::Claimed(Claimed::Won { .. })) = (input, reply) {
        let window = Input::Complete(window);
        let done = || claim::step(after, subject, window, now).0;
        match bug {
            Some(Bug::DoneFirst) => after = done(),
            Some(Bug::GuardAtClaim) => after.guard = done().guard,
            _ => {}
        }
    }
    (after, reply)
}

/// The token of a claim, or what a mistake makes of it.
pub(crate) fn token(bug: Option<Bug>, token: Token) -> Token {
    if bug == Some(Bug::OneToken) { Token(token.0 >> 64 << 64) } else { token }
}

/// When a lease that is to be renewed ends.
pub(crate) fn ends_before(bug: Option<Bug>, ends: Millis) -> Millis {
    if bug == Some(Bug::RevivesLease) { ends.max(NOW + 1) } else { ends }
}

/// How an attempt ended, as the gateway takes it.
pub(crate) fn ended(bug: Option<Bug>, said: Said) -> Said {
    match (bug, said) {
        (Some(Bug::UnknownIsSuccess), Said::TimedOut) => Said::Accepted,
        _ => said,
    }
}
