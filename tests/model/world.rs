//! What the model looks at: gateways, requests on their way through them, a store, upstreams, and what the sender heard.
//!
//! Time is relative: now is always [`NOW`], and what lies ahead comes nearer.

use std::{
    hash::{Hash, Hasher},
    sync::LazyLock,
    time::{Duration, Instant},
};

use gatepost::{
    answer::{Answer, Outcome, Refusal, Relayed},
    dedup::{
        Policy, Subject,
        claim::{Guarded, Input, Millis, Phase, Record, Token},
        course::Won,
        twins::{Twins, Waiter},
    },
    event::EventKey,
};
use http::StatusCode;

use crate::bugs::Bug;

pub(crate) const NOW: Millis = 1000;
pub(crate) const LEASE: Duration = Duration::from_millis(10);
pub(crate) const HOLD: Duration = Duration::from_millis(6);
/// What a delivery may take, margin included.
pub(crate) const DELIVERY: Duration = Duration::from_millis(6);
/// Longer than any sender goes on.
pub(crate) const WINDOW: Duration = Duration::from_secs(1000);
/// What ends later than this never ends: the window is longer than the sender's retries.
const FAR: Millis = NOW + 10_000;
/// By how much a clock is set back: more than any lease lasts, and less than what is far.
const BACK: Millis = 1000;

pub(crate) static ZERO_HOUR: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// A gateway dies, whatever it is doing.
    Crash,
    /// A command gets no answer; it may be carried out at any later time, or never.
    Store,
    /// A gateway stands still for longer than its leases.
    Pause,
    /// The store forgets a key: an event's, or that of signed bytes.
    Loss,
    /// The store's clock is set back.
    Clock,
    /// The audit log takes no record.
    Audit,
    /// The upstream says that it failed.
    Failure,
    /// The upstream's answer does not come, or comes late, or the connection breaks.
    Unknown,
}

pub(crate) const ALL_FAULTS: &[Fault] = &[
    Fault::Crash,
    Fault::Store,
    Fault::Pause,
    Fault::Loss,
    Fault::Audit,
    Fault::Failure,
    Fault::Unknown,
];

/// An event as a sender sees it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) subject: Subject,
    pub(crate) source: u8,
    /// Under which number its key is kept, and its guard's.
    pub(crate) slot: usize,
    pub(crate) guard: Option<usize>,
}

/// What is checked: a set of requests, what may go wrong, and what the source says.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    /// Each one's gateway and event.
    pub(crate) requests: Vec<(usize, usize)>,
    pub(crate) events: Vec<Known>,
    pub(crate) slots: usize,
    pub(crate) guards: usize,
    pub(crate) gateways: usize,
    pub(crate) policy: Policy,
    /// Whether another body under the same id is another event.
    pub(crate) by_bytes: bool,
    /// How many faults at most, and which.
    pub(crate) faults: u8,
    pub(crate) kinds: &'static [Fault],
    pub(crate) bug: Option<Bug>,
}

/// What a sender hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Accepted,
    /// Done before.
    Duplicate,
    /// A twin's answer, which was an acceptance.
    Joined,
    OtherBody,
    Replayed,
    /// Come back later: a twin is under way.
    Later,
    /// Come back later: the store does not answer.
    Doubt,
    /// Come back later: the claim was lost before the forward.
    LeaseGone,
    Unrecorded,
    Failed,
    Broke,
    TimedOut,
}

impl Said {
    /// The product's answer.
    pub(crate) fn answer(self) -> Answer {
        let relayed = || Relayed {
            status: StatusCode::OK,
            content_type: None,
            body: bytes::Bytes::new(),
            full: false,
        };
        Err(match self {
            Self::Accepted => return Ok(Outcome::Accepted(relayed()).into()),
            Self::Duplicate => return Ok(Outcome::Duplicate(None).into()),
            Self::Joined => return Ok(Outcome::Duplicate(Some(relayed())).into()),
            Self::OtherBody => return Ok(Outcome::SameIdOtherBody.into()),
            Self::Replayed => return Ok(Outcome::SuspectedReplay.into()),
            Self::Later => Refusal::InFlight { retry_after: LEASE },
            Self::Doubt | Self::LeaseGone => Refusal::StoreUnavailable,
            Self::Unrecorded => Refusal::AuditUnavailable,
            Self::Failed => Refusal::UpstreamFailed,
            Self::Broke => Refusal::UpstreamBroke,
            Self::TimedOut => Refusal::UpstreamTimeout,
        }
        .into())
    }

    /// What a twin hears where its leader hears this.
    pub(crate) fn relayed(self) -> Self {
        if self == Self::Accepted { Self::Joined } else { self }
    }

    pub(crate) fn is_ack(self) -> bool {
        self.answer().is_ok()
    }
}

/// The work of one request: its claim, if it won one, and when that ends by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) token: Token,
    pub(crate) won: Option<Won>,
    pub(crate) ends: Millis,
}

/// A leader that claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claiming {
    pub(crate) token: Token,
    /// Whether it has seen somebody else at work.
    pub(crate) seen: bool,
    /// Whether a claim by this token had no answer.
    pub(crate) doubtful: bool,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Unsent,
    /// Let go by a leader of another body: about to look for a seat again.
    Again,
    /// Waits for its twin's answer.
    Follows,
    /// Leads, and claims.
    Claims(Claiming),
    Records(Work),
    Forwards(Work),
    Sent(Work),
    /// Knows how it ended; the store does not.
    Settles(Work, Said),
    /// The same, but the sender was answered.
    SettlesLate(Work, Said),
    /// The store knows of no claim of ours that could be settled so: claims once more. Whether the sender was answered.
    ClaimsAgain(Work, Said, bool),
    /// Has done so, and settles under that claim.
    SettlesAgain(Work, Said, bool),
    /// Was refused because the claim had no answer; looks after it in a moment.
    Doubts(Token),
    /// Has a seat for that, and asks whether the claim is there.
    Renews(Token),
    /// It is; gives it back.
    LetsGo(Token),
    Done,
}

/// Where a crash met a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    Following,
    Claiming,
    Recording,
    Forwarding,
    Sent,
    Settling,
    SettlingLate,
    Doubting,
}

impl At {
    pub(crate) fn point(self) -> Option<Point> {
        Some(match self {
            Self::Unsent | Self::Done => return None,
            Self::Again | Self::Follows => Point::Following,
            Self::Claims(..) => Point::Claiming,
            Self::Records(_) => Point::Recording,
            Self::Forwards(_) => Point::Forwarding,
            Self::Sent(_) => Point::Sent,
            Self::Settles(..) | Self::ClaimsAgain(.., false) | Self::SettlesAgain(.., false) => {
                Point::Settling
            }
            Self::SettlesLate(..) | Self::ClaimsAgain(..) | Self::SettlesAgain(..) => {
                Point::SettlingLate
            }
            Self::Doubts(_) | Self::Renews(_) | Self::LetsGo(_) => Point::Doubting,
        })
    }

    /// The work that is renewed while it goes on.
    pub(crate) fn work(self) -> Option<Work> {
        match self {
            Self::Records(work) | Self::Forwards(work) | Self::Sent(work) => Some(work),
            _ => None,
        }
    }
}

/// What became of the bytes that went to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    None,
    OnTheWay,
    /// The upstream has acted.
    Applied,
}

/// Why an upstream may get an event once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Excuse {
    Unknown,
    Crashed,
    Unwritten,
    Overrun,
    Unclaimed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    /// Which event.
    pub(crate) event: usize,
    pub(crate) at: At,
    pub(crate) said: Option<Said>,
    pub(crate) crashed: Option<Point>,
    pub(crate) recorded: bool,
    pub(crate) wire: Wire,
    /// Whether somebody waits for a late answer of the upstream.
    pub(crate) watched: bool,
    pub(crate) excuse: Option<Excuse>,
}

/// One that waits: a request by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waits(pub(crate) usize);

impl Waiter for Waits {
    fn gone(&self) -> bool {
        false
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) twins: Twins<Waits, Said>,
    pub(crate) paused: bool,
    /// How often it started.
    pub(crate) life: u8,
}

impl Gateway {
    pub(crate) fn new(number: usize, life: u8) -> Self {
        let name = (number as u128 * 10 + u128::from(life)) << 64;
        Self { twins: Twins::new(Token(name)), paused: false, life }
    }
}

impl Hash for Gateway {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { twins: Twins { led, unanswered, last }, paused, life } = self;
        let mut led: Vec<_> = led.iter().collect();
        led.sort_unstable_by_key(|(key, _)| key.0);
        let mut unanswered: Vec<_> = unanswered.iter().collect();
        unanswered.sort_unstable_by_key(|(key, _)| key.0);
        (led, unanswered, last, paused, life).hash(state);
    }
}

/// A command on its way to the store: of which request, about which event.
pub(crate) type Order = (usize, usize, Command);

/// An [`Input`] that can be part of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Command {
    Claim(Token),
    Complete,
    Release(Token),
    Hold(Token),
    Renew(Token),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) events: Vec<Option<Record>>,
    pub(crate) guards: Vec<Option<Guarded>>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) requests: Vec<Request>,
    /// Commands without an answer that may still be carried out.
    pub(crate) late: Vec<Order>,
    /// How often the store lost each event.
    pub(crate) lost: Vec<u8>,
    /// How often it lost what it knows of signed bytes.
    pub(crate) lost_guards: u8,
    pub(crate) faults: u8,
    /// Whether a claim may be left to its lease: what ends it had no answer, or was given up, or overtook the claim.
    pub(crate) adrift: bool,
    /// Promises broken on the way, by their bits.
    pub(crate) broken: u16,
}

/// Whether it keeps others away: its time is neither over nor more than it can be.
pub(crate) fn blocks(record: &Record) -> bool {
    (NOW + 1..NOW + BACK).contains(&record.until)
}

impl State {
    /// What the store keeps has so much longer to go. Who had a lease may not have it any more.
    pub(crate) fn set_back(&mut self) {
        for (slot, record) in self.events.iter_mut().enumerate() {
            let Some(record) = record else { continue };
            self.lost[slot] += u8::from(matches!(record.phase, Phase::Leased(_)));
            record.forget += BACK;
            if record.until > NOW {
                record.until += BACK;
            }
        }
        self.guards.iter_mut().flatten().for_each(|guard| guard.until += BACK);
    }

    /// Requests of `slot`.
    pub(crate) fn of<'a>(
        &'a self,
        gate: &'a Gate,
        slot: usize,
    ) -> impl Iterator<Item = &'a Request> {
        self.requests.iter().filter(move |request| gate.events[request.event].slot == slot)
    }

    pub(crate) fn applied(&self, gate: &Gate, slot: usize) -> usize {
        self.of(gate, slot).filter(|request| request.wire == Wire::Applied).count()
    }

    pub(crate) fn excuses(&self, gate: &Gate, slot: usize) -> usize {
        let excused = self.of(gate, slot).filter(|request| request.excuse.is_some()).count();
        excused + usize::from(self.lost[slot])
    }

    /// Whether nothing is under way and nothing will be sent any more.
    pub(crate) fn quiet(&self) -> bool {
        self.requests.iter().all(|request| request.at == At::Done)
    }

    /// Lets `span` pass: what is over is forgotten as the stores do it, and what is far away stays so.
    pub(crate) fn pass(&mut self, span: Millis, window: Duration) {
        let endless = window == WINDOW;
        let sooner = |time: Millis| match time.saturating_sub(span).max(NOW) {
            time if endless && time > FAR => NOW + u64::try_from(WINDOW.as_millis()).unwrap(),
            time => time,
        };
        for record in &mut self.events {
            *record = record
                .map(|r| Record { until: sooner(r.until), forget: sooner(r.forget), ..r })
                .filter(|r| r.forget > NOW);
        }
        for guard in &mut self.guards {
            *guard =
                guard.map(|g| Guarded { until: sooner(g.until), ..g }).filter(|g| g.until > NOW);
        }
        for request in &mut self.requests {
            if let At::Records(work)
            | At::Forwards(work)
            | At::Sent(work)
            | At::Settles(work, _)
            | At::SettlesLate(work, _)
            | At::ClaimsAgain(work, ..)
            | At::SettlesAgain(work, ..) = &mut request.at
                && work.ends != gatepost::dedup::course::LOST
            {
                work.ends = work.ends.saturating_sub(span).max(NOW);
            }
        }
    }
}

impl Gate {
    /// The command as the product gives it.
    pub(crate) fn input(&self, command: Command) -> Input {
        match command {
            Command::Claim(token) => Input::Claim(token, self.policy.lease, self.policy.window),
            Command::Complete => Input::Complete(self.policy.window),
            Command::Release(token) => Input::Release(token),
            Command::Hold(token) => Input::Hold(token, self.policy.hold),
            Command::Renew(token) => Input::Renew(token, self.policy.lease),
        }
    }

    pub(crate) fn key(&self, request: usize) -> EventKey {
        self.events[self.requests[request].1].subject.key
    }

    /// A request's claim by `token` is over; it may be carried out once more.
    pub(crate) fn overtakes(&self, state: &mut State, token: Token, number: usize) {
        let (key, claim) = (self.key(number), Command::Claim(token));
        let late =
            |(_, of, command): &Order| self.events[*of].subject.key == key && *command == claim;
        state.adrift |= state.late.iter().any(late);
    }

    pub(crate) fn may(&self, state: &State, kind: Fault) -> bool {
        state.faults < self.faults && self.kinds.contains(&kind)
    }
}

/// Back from the product's settlement.
pub(crate) fn command(input: Input) -> Command {
    match input {
        Input::Claim(token, ..) => Command::Claim(token),
        Input::Complete(_) => Command::Complete,
        Input::Release(token) => Command::Release(token),
        Input::Hold(token, _) => Command::Hold(token),
        Input::Renew(token, _) => Command::Renew(token),
    }
}
