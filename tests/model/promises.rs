//! What must hold in every state, and what must happen in some: a promise about something that never happens is worth nothing.

use std::time::Duration;

use gatepost::dedup::{
    claim::{Claimed, Input, Kept, Phase, Record, Reply, Token},
    course,
};
use stateright::Property;

use crate::{
    bugs,
    world::{At, Excuse, Fault, Gate, Known, NOW, Point, Request, Said, State, Wire, blocks},
};

/// A promise of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    AckRests,
    OncePerExcuse,
    RecordFirst,
    QuietIsDone,
    NoWedge,
    OwnerOnly,
    RepeatsAreTold,
    SuccessIsTold,
    SourcesApart,
    NoneLeftBehind,
}

impl Promise {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AckRests => "S1: a 2xx rests on an upstream's 2xx for this event",
            Self::OncePerExcuse => "S2: an upstream gets an event once, and once more per excuse",
            Self::RecordFirst => "S3: nothing is forwarded before its record",
            Self::QuietIsDone => "S4: without faults all is answered 2xx, applied once, and done",
            Self::NoWedge => "S5: whatever a crash leaves can be claimed after one lease",
            Self::OwnerOnly => "S6: only its owner, time or loss ends a claim",
            Self::RepeatsAreTold => "S7: an attempt that may be a repeat is told so",
            Self::SuccessIsTold => "S8: after an upstream's 2xx the answer is 2xx",
            Self::SourcesApart => "S9: one source's events are nothing to another's",
            Self::NoneLeftBehind => "S10: a claim without an answer is taken up, or let go",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl State {
    /// Notes that a promise was broken on the way here.
    pub(crate) fn breaks(&mut self, promise: Promise, broken: bool) {
        if broken {
            self.broken |= promise.bit();
        }
    }

    fn keeps(&self, promise: Promise) -> bool {
        self.broken & promise.bit() == 0
    }
}

/// Every property: promises first.
pub(crate) fn properties() -> Vec<Property<Gate>> {
    let mut all = promises();
    all.extend(crashes());
    all.extend(repeats());
    all.extend(ways());
    all.extend(of_several());
    all
}

/// What must happen in some world: names of those that one event is enough for, or of those that need several.
pub(crate) fn reachable(several: bool) -> Vec<&'static str> {
    let needing: Vec<_> = of_several().iter().map(|property| property.name).collect();
    let all = properties().into_iter().map(|property| property.name);
    all.filter(|name| !name.starts_with('S') && needing.contains(name) == several).collect()
}

fn promises() -> Vec<Property<Gate>> {
    let always = Property::<Gate>::always;
    vec![
        always(Promise::AckRests.name(), |_, s| s.keeps(Promise::AckRests)),
        always(Promise::OncePerExcuse.name(), |gate, s| {
            (0..gate.slots).all(|slot| s.applied(gate, slot) <= 1 + s.excuses(gate, slot))
        }),
        always(Promise::RecordFirst.name(), |_, s| s.keeps(Promise::RecordFirst)),
        always(Promise::QuietIsDone.name(), quiet_is_done),
        always(Promise::NoWedge.name(), no_wedge),
        always(Promise::OwnerOnly.name(), |gate, s| {
            s.keeps(Promise::OwnerOnly) && (0..gate.slots).all(|slot| one_owner(gate, s, slot))
        }),
        always(Promise::RepeatsAreTold.name(), |_, s| s.keeps(Promise::RepeatsAreTold)),
        always(Promise::SuccessIsTold.name(), |_, s| s.keeps(Promise::SuccessIsTold)),
        always(Promise::SourcesApart.name(), |_, s| s.keeps(Promise::SourcesApart)),
        always(Promise::NoneLeftBehind.name(), none_left_behind),
    ]
}

fn quiet_is_done(gate: &Gate, state: &State) -> bool {
    let settled = |slot: usize| {
        let mut requests = state.of(gate, slot).peekable();
        if requests.peek().is_none() {
            return true;
        }
        let answers: Vec<_> = requests.filter_map(|request| request.said).collect();
        if answers.contains(&Said::Replayed) && state.applied(gate, slot) == 0 {
            return true;
        }
        let done = state.events[slot].is_some_and(|r| matches!(r.phase, Phase::Done(_)));
        done && state.applied(gate, slot) == 1 && answers.iter().any(|said| said.is_ack())
    };
    !(state.faults == 0 && state.quiet()) || (0..gate.slots).all(settled)
}

/// Were every gateway to die now: after one lease, or hold, a stranger's claim of any event is won, or it is done. And where
/// nothing is under way, nobody has a seat.
fn no_wedge(gate: &Gate, state: &State) -> bool {
    let later = gate.policy.lease.max(gate.policy.hold);
    let later = NOW + u64::try_from(later.as_millis()).unwrap();
    let stranger = Input::Claim(Token(u128::MAX), gate.policy.lease, gate.policy.window);
    let free = gate.events.iter().all(|known| {
        let guard = known.guard.and_then(|guard| state.guards[guard]);
        let kept = Kept { event: state.events[known.slot], guard };
        let (_, reply) = bugs::step(gate.bug, kept, &known.subject, stranger, later);
        let Reply::Claimed(claimed) = reply else { return false };
        !matches!(claimed, Claimed::InFlight { .. } | Claimed::Held { .. })
    });
    free && (!state.quiet() || state.gateways.iter().all(|gateway| gateway.twins.led.is_empty()))
}

/// Where nothing is under way, nobody has to wait for a lease to end: a claim that is there is the next one's at its gateway.
fn none_left_behind(gate: &Gate, state: &State) -> bool {
    let kept = |slot: usize, owner: Token| {
        let all = state.gateways.iter().flat_map(|gateway| &gateway.twins.unanswered);
        let of_it = |key| gate.events.iter().any(|e| e.slot == slot && e.subject.key == key);
        all.into_iter().any(|(key, (token, _))| *token == owner && of_it(*key))
    };
    let left = |(slot, record): (usize, &Option<Record>)| match record {
        Some(record) if blocks(record) => match record.phase {
            Phase::Leased(owner) => !kept(slot, owner),
            Phase::Free | Phase::Held | Phase::Done(_) => false,
        },
        _ => false,
    };
    state.adrift || !state.quiet() || !state.events.iter().enumerate().any(left)
}

/// At most one request believes with reason that an event is its own, unless the store forgot about it.
fn one_owner(gate: &Gate, state: &State, slot: usize) -> bool {
    let owns = |request: &&Request| {
        let now = Duration::from_millis(NOW);
        let work = request.at.work().filter(|work| work.won.is_some());
        work.is_some_and(|work| !course::left(work.ends, now).is_zero())
    };
    state.lost[slot] > 0 || state.of(gate, slot).filter(owns).count() <= 1
}

/// A crash is met at every point.
fn crashes() -> Vec<Property<Gate>> {
    let sometimes = Property::<Gate>::sometimes;
    vec![
        sometimes("crash while following", |_, s| crashed(s, Point::Following)),
        sometimes("crash while claiming", |_, s| crashed(s, Point::Claiming)),
        sometimes("crash before the record", |_, s| crashed(s, Point::Recording)),
        sometimes("crash before the forward", |_, s| crashed(s, Point::Forwarding)),
        sometimes("crash after the forward", |_, s| crashed(s, Point::Sent)),
        sometimes("crash before done is written", |_, s| crashed(s, Point::Settling)),
        sometimes("crash while done is still to be written", |_, s| {
            crashed(s, Point::SettlingLate)
        }),
        sometimes("crash with a claim in doubt", |_, s| crashed(s, Point::Doubting)),
    ]
}

/// Each excuse makes a repeat, or it would be none.
fn repeats() -> Vec<Property<Gate>> {
    let sometimes = Property::<Gate>::sometimes;
    vec![
        sometimes("accepted after a crash", |_, s| {
            any(s, |r| r.said == Some(Said::Accepted))
                && any(s, |r| r.crashed.is_some() && r.said.is_none())
        }),
        sometimes("repeated after an unknown outcome", |g, s| repeated(g, s, Excuse::Unknown)),
        sometimes("repeated after a crash", |g, s| repeated(g, s, Excuse::Crashed)),
        sometimes("repeated because done was not written", |g, s| {
            repeated(g, s, Excuse::Unwritten)
        }),
        sometimes("repeated because a lease was overrun", |g, s| repeated(g, s, Excuse::Overrun)),
        sometimes("repeated because a key was lost", |g, s| {
            g.kinds.contains(&Fault::Loss) && forgotten(g, s)
        }),
        sometimes("repeated because a clock was set back", |g, s| {
            !g.kinds.contains(&Fault::Loss) && forgotten(g, s)
        }),
    ]
}

/// Whatever a promise is about does happen.
fn ways() -> Vec<Property<Gate>> {
    let sometimes = Property::<Gate>::sometimes;
    vec![
        sometimes("the app's late 2xx counts", |_, s| {
            any(s, |r| r.said == Some(Said::TimedOut))
                && any(s, |r| r.said == Some(Said::Duplicate))
                && !any(s, |r| r.said == Some(Said::Accepted))
        }),
        sometimes("a twin shares the leader's answer", |_, s| {
            any(s, |r| r.said == Some(Said::Joined))
        }),
        sometimes("a twin is told of one that is done", |_, s| {
            any(s, |r| r.said == Some(Said::Duplicate))
        }),
        sometimes("a twin is sent away", |_, s| any(s, |r| r.said == Some(Said::Later))),
        sometimes("a second attempt is told of an unknown one", |_, s| {
            any(s, |r| matches!(r.at, At::Sent(w) if w.won.is_some_and(|won| won.after_unknown)))
        }),
        sometimes("a second attempt follows a certain failure", |_, s| {
            any(s, |r| r.said == Some(Said::Failed)) && any(s, |r| r.said == Some(Said::Accepted))
        }),
        sometimes("a claim without an answer is taken up by the next", |_, s| {
            let doubted = any(s, |r| r.said == Some(Said::Doubt));
            doubted
                && any(s, |r| matches!(r.at, At::Sent(w) if w.token.0 & 0xff == 1))
                && s.faults == 1
        }),
        sometimes("a claim without an answer is let go", |_, s| {
            any(s, |r| matches!(r.at, At::LetsGo(_)))
        }),
        sometimes("a claim without an answer is let go by one that was sent away", |_, s| {
            any(s, |r| r.said == Some(Said::Later) && matches!(r.at, At::LetsGo(_)))
        }),
        sometimes("an unknown outcome is held though the store lost its claim", |_, s| {
            let held = s.events[0].is_some_and(|record| record.phase == Phase::Held);
            held && s.lost[0] > 0 && any(s, |r| r.said == Some(Said::TimedOut)) && s.faults == 2
        }),
        sometimes("somebody else takes what a clock that was set back would keep", |_, s| {
            let works = |r: &Request| r.at.work().is_some_and(|work| work.won.is_some());
            s.requests.iter().filter(|r| works(r)).count() > 1 && s.lost[0] > 0 && s.faults == 1
        }),
        sometimes("a lost lease is noticed before the forward", |_, s| {
            any(s, |r| r.said == Some(Said::LeaseGone))
        }),
        sometimes("a success is answered though done is not written", |_, s| {
            any(s, |r| r.said == Some(Said::Accepted) && matches!(r.at, At::SettlesLate(..)))
        }),
        sometimes("without a record nothing is forwarded", |_, s| {
            any(s, |r| r.said == Some(Said::Unrecorded) && r.wire == Wire::None)
        }),
    ]
}

/// What needs several events, or a gateway that forwards without its store.
fn of_several() -> Vec<Property<Gate>> {
    let sometimes = Property::<Gate>::sometimes;
    vec![
        sometimes("repeated because nobody could be asked for a claim", |g, s| {
            repeated(g, s, Excuse::Unclaimed)
        }),
        sometimes("another body under the same id is told so", |_, s| {
            any(s, |r| r.said == Some(Said::OtherBody))
        }),
        sometimes("two bodies of one id are two events", |g, s| {
            both_applied(g, s, |one, two| {
                one.source == two.source && one.subject.digest != two.subject.digest
            })
        }),
        sometimes("one id of two sources is two events", |g, s| {
            both_applied(g, s, |one, two| one.source != two.source)
        }),
        sometimes("the same signed bytes under another id are told so", |_, s| {
            any(s, |r| r.said == Some(Said::Replayed))
        }),
        sometimes("the same signed bytes pass where the store forgot them", |g, s| {
            let twice =
                both_applied(g, s, |one, two| one.guard.is_some() && one.guard == two.guard);
            twice && s.lost_guards == 1 && s.faults == 1
        }),
    ]
}

/// Whether two such events have both come to their upstream.
fn both_applied(gate: &Gate, state: &State, such: impl Fn(&Known, &Known) -> bool) -> bool {
    let applied = state.requests.iter().filter(|request| request.wire == Wire::Applied);
    let known: Vec<_> = applied.map(|request| &gate.events[request.event]).collect();
    let other = |one: &Known, two: &Known| one.slot != two.slot && such(one, two);
    known.iter().any(|one| known.iter().any(|two| other(one, two)))
}

/// An upstream got the event twice, and all that excuses it is that the store does not know what it was told.
fn forgotten(gate: &Gate, state: &State) -> bool {
    state.lost[0] == 1 && state.applied(gate, 0) == 2 && state.excuses(gate, 0) == 1
}

fn any(state: &State, matches: impl Fn(&Request) -> bool) -> bool {
    state.requests.iter().any(matches)
}

fn crashed(state: &State, point: Point) -> bool {
    any(state, |request| request.crashed == Some(point))
}

/// An upstream got the event twice, with this one excuse.
fn repeated(gate: &Gate, state: &State, excuse: Excuse) -> bool {
    any(state, |request| request.excuse == Some(excuse))
        && (0..gate.slots)
            .any(|slot| state.applied(gate, slot) == 2 && state.excuses(gate, slot) == 1)
}
