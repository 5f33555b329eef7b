//! All that can happen next: what may, here; what it does, in `effects`.

use gatepost::dedup::claim::{Millis, Phase};
use stateright::{Model, Property};

use crate::{
    bugs::Bug,
    promises,
    world::{At, Fault, Gate, Gateway, Request, Said, State, WINDOW, Wire, blocks},
};

/// Something that happens; numbers are those of requests, if not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// The sender sends it, or it looks for a seat again.
    Enter(usize),
    /// It has waited for its twin long enough.
    GiveUp(usize),
    /// Whether it goes on claiming while somebody else is at work, and whether the store answers.
    Claim(usize, Patience, Answered),
    Record(usize),
    RecordFails(usize),
    /// Makes sure of its lease and sends.
    Forward(usize, Answered),
    /// The upstream acts on what it was sent.
    Apply(usize),
    Accept(usize),
    Refuse(usize),
    /// The connection breaks after something was sent.
    Break(usize),
    TimeOut(usize),
    Settle(usize, Answered),
    ClaimAgain(usize, Answered),
    /// Gives up writing how it ended.
    Abandon(usize),
    /// The upstream's answer comes after its time.
    LateSuccess(usize, Answered),
    /// Looks after a claim that had no answer.
    LookAfter(usize),
    Renew(usize, Answered),
    LetGo(usize, Answered),
    /// A command without an answer is carried out after all. The number is the command's.
    Arrive(usize),
    /// Until the next lease or hold is over that nobody renews.
    Wait,
    /// The numbers are gateways'.
    Crash(usize),
    Pause(usize),
    Resume(usize),
    /// The number is an event's.
    Lose(usize),
    /// The number is a guard's.
    LoseGuard(usize),
    /// The store's clock is set back.
    SetBack,
}

/// Whether there is time to wait for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Left,
    Over,
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Yes,
    No,
}

const BOTH: [Answered; 2] = [Answered::Yes, Answered::No];

impl Model for Gate {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let request = |&(_, event): &(usize, usize)| Request {
            event,
            at: At::Unsent,
            said: None,
            crashed: None,
            recorded: false,
            wire: Wire::None,
            watched: false,
            excuse: None,
        };
        vec![State {
            events: vec![None; self.slots],
            guards: vec![None; self.guards],
            gateways: (0..self.gateways).map(|number| Gateway::new(number, 0)).collect(),
            requests: self.requests.iter().map(request).collect(),
            late: Vec::new(),
            lost: vec![0; self.slots],
            lost_guards: 0,
            faults: 0,
            adrift: false,
            broken: 0,
        }]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        for number in 0..self.requests.len() {
            if !state.gateways[self.requests[number].0].paused {
                self.moves_of(state, number, moves);
            }
            if state.requests[number].wire == Wire::OnTheWay {
                moves.push(Move::Apply(number));
            }
        }
        moves.extend((0..state.late.len()).map(Move::Arrive));
        if let Some((_, stalls)) = self.next_end(state)
            && (!stalls || self.may(state, Fault::Pause))
        {
            moves.push(Move::Wait);
        }
        for gateway in 0..self.gateways {
            self.moves_of_gateway(state, gateway, moves);
        }
        if self.may(state, Fault::Loss) {
            let kept = (0..self.slots).filter(|&slot| state.events[slot].is_some());
            moves.extend(kept.map(Move::Lose));
            let kept = (0..self.guards).filter(|&guard| state.guards[guard].is_some());
            moves.extend(kept.map(Move::LoseGuard));
        }
        if self.may(state, Fault::Clock) {
            moves.push(Move::SetBack);
        }
    }

    fn next_state(&self, state: &State, action: Move) -> Option<State> {
        let mut next = state.clone();
        self.carry_out(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::properties()
    }
}

impl Gate {
    fn moves_of(&self, state: &State, number: usize, moves: &mut Vec<Move>) {
        let request = &state.requests[number];
        let answers = || BOTH.into_iter().filter(|a| self.can_be(state, *a));
        match request.at {
            At::Unsent if self.is_next(state, number) => moves.push(Move::Enter(number)),
            At::Unsent | At::Done => {}
            At::Again => moves.push(Move::Enter(number)),
            At::Follows => moves.push(Move::GiveUp(number)),
            At::Claims(..) => {
                for patience in [Patience::Left, Patience::Over] {
                    moves.extend(answers().map(|a| Move::Claim(number, patience, a)));
                }
            }
            At::Records(_) => {
                moves.push(Move::Record(number));
                if self.may(state, Fault::Audit) {
                    moves.push(Move::RecordFails(number));
                }
            }
            At::Forwards(_) => moves.extend(answers().map(|a| Move::Forward(number, a))),
            At::Sent(_) => self.ends_of(state, number, moves),
            At::Settles(..) | At::SettlesAgain(.., false) => {
                moves.extend(answers().map(|a| Move::Settle(number, a)));
            }
            At::SettlesAgain(.., true) => moves.push(Move::Settle(number, Answered::Yes)),
            At::ClaimsAgain(.., false) => {
                moves.extend(answers().map(|a| Move::ClaimAgain(number, a)));
            }
            At::ClaimsAgain(.., true) => moves.push(Move::ClaimAgain(number, Answered::Yes)),
            At::SettlesLate(..) => {
                moves.push(Move::Settle(number, Answered::Yes));
                if self.may(state, Fault::Store) {
                    moves.push(Move::Abandon(number));
                }
            }
            At::Doubts(_) => {
                let (gateway, key) = (self.requests[number].0, self.key(number));
                let taken = state.gateways[gateway].twins.led.contains_key(&key);
                moves.extend((!taken).then_some(Move::LookAfter(number)));
            }
            At::Renews(_) => moves.extend(answers().map(|a| Move::Renew(number, a))),
            At::LetsGo(_) => moves.extend(answers().map(|a| Move::LetGo(number, a))),
        }
        if request.watched && request.wire == Wire::Applied {
            moves.extend(answers().map(|a| Move::LateSuccess(number, a)));
        }
    }

    fn ends_of(&self, state: &State, number: usize, moves: &mut Vec<Move>) {
        match state.requests[number].wire {
            Wire::Applied => moves.push(Move::Accept(number)),
            Wire::OnTheWay if self.may(state, Fault::Failure) => moves.push(Move::Refuse(number)),
            Wire::OnTheWay | Wire::None => {}
        }
        if self.may(state, Fault::Unknown) {
            moves.extend([Move::Break(number), Move::TimeOut(number)]);
        }
    }

    fn moves_of_gateway(&self, state: &State, gateway: usize, moves: &mut Vec<Move>) {
        let here = |number: &usize| self.requests[*number].0 == gateway;
        let mut alive = (0..self.requests.len())
            .filter(here)
            .map(|number| &state.requests[number])
            .filter(|request| request.at.point().is_some() || request.watched)
            .peekable();
        if state.gateways[gateway].paused {
            moves.push(Move::Resume(gateway));
        } else if self.may(state, Fault::Pause) && alive.clone().any(|r| r.at.work().is_some()) {
            moves.push(Move::Pause(gateway));
        }
        if self.may(state, Fault::Crash) && alive.peek().is_some() {
            moves.push(Move::Crash(gateway));
        }
    }

    /// Whether the store can answer so.
    fn can_be(&self, state: &State, answered: Answered) -> bool {
        answered == Answered::Yes || self.may(state, Fault::Store)
    }

    /// Equal requests are sent in their order.
    fn is_next(&self, state: &State, number: usize) -> bool {
        let equal = |before: &usize| self.requests[*before] == self.requests[number];
        (0..number).filter(equal).all(|before| state.requests[before].at != At::Unsent)
    }

    /// When the next lease or hold is over that nobody renews, and whether somebody has to stand still for that.
    pub(crate) fn next_end(&self, state: &State) -> Option<(Millis, bool)> {
        let ends = |slot: usize| {
            let record = state.events[slot].filter(blocks)?;
            let token = match record.phase {
                Phase::Free => return None,
                Phase::Done(_) if self.policy.window == WINDOW => return None,
                Phase::Done(_) | Phase::Held => return Some((record.until, false)),
                Phase::Leased(token) => token,
            };
            let running = |number: &usize| !state.gateways[self.requests[*number].0].paused;
            let mut running = (0..self.requests.len())
                .filter(running)
                .map(|number| &state.requests[number])
                .filter(|request| self.events[request.event].slot == slot);
            let renewed = running.clone().any(|r| r.at.work().is_some_and(|w| w.token == token));
            let settling = |at| {
                let (At::Settles(work, _) | At::SettlesAgain(work, ..)) = at else { return false };
                work.token == token
            };
            (!renewed).then(|| (record.until, running.any(|r| settling(r.at))))
        };
        (0..self.slots).filter_map(ends).min_by_key(|(until, _)| *until)
    }

    /// What a seeded mistake does to an answer on its way to the sender.
    pub(crate) fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl State {
    /// The sender hears something, once.
    pub(crate) fn tell(&mut self, gate: &Gate, number: usize, said: Said) {
        let asked = &gate.events[self.requests[number].event];
        let rests_on = |request: &Request| {
            let known = &gate.events[request.event];
            let (key, guard) = (known.slot == asked.slot, known.guard == asked.guard);
            let body = known.subject.digest == asked.subject.digest;
            request.wire == Wire::Applied
                && known.source == asked.source
                && match said {
                    Said::OtherBody => key && !gate.by_bytes,
                    Said::Replayed => guard,
                    _ => key && body,
                }
        };
        let rests = self.requests.iter().any(rests_on);
        self.breaks(promises::Promise::AckRests, said.is_ack() && !rests);
        self.requests[number].said.get_or_insert(said);
    }
}
