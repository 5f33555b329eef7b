//! What a move does: the product's functions, called in the order in which the stage calls them.

use std::time::Duration;

use gatepost::{
    answer::Outcome,
    dedup::{
        StoreError,
        claim::{Claimed, Kept, Phase, Reply, Token},
        course::{self, Course, Way},
        twins::Place,
    },
};

use crate::{
    bugs::{self, Bug},
    moves::{Answered, Move, Patience},
    promises::Promise,
    world::*,
};

impl Gate {
    pub(crate) fn carry_out(&self, state: &mut State, action: Move) {
        match action {
            Move::Enter(number) => self.enter(state, number),
            Move::GiveUp(number) => self.end(state, number, Some(Said::Later)),
            Move::Claim(number, patience, answered) => {
                self.claim(state, number, patience, answered);
            }
            Move::Record(number) => self.record(state, number),
            Move::RecordFails(number) => self.fails(state, number, Said::Unrecorded),
            Move::Forward(number, answered) => self.forward(state, number, answered),
            Move::Apply(number) => state.requests[number].wire = Wire::Applied,
            Move::Accept(number) => self.ends(state, number, Said::Accepted),
            Move::Refuse(number) => {
                state.requests[number].wire = Wire::None; // an app that says no is taken at its word
                self.fails(state, number, Said::Failed);
            }
            Move::Break(number) => self.unknown(state, number, Said::Broke),
            Move::TimeOut(number) => self.unknown(state, number, Said::TimedOut),
            Move::Settle(number, answered) => self.settle(state, number, answered),
            Move::ClaimAgain(number, answered) => self.claim_again(state, number, answered),
            Move::Abandon(number) => {
                state.faults += 1;
                state.adrift = true;
                self.leave_seat(state, number);
                self.end(state, number, None);
            }
            Move::LateSuccess(number, answered) => {
                state.requests[number].watched = false;
                self.ask(state, number, Command::Complete, answered).ok();
            }
            Move::LookAfter(number) => self.look_after(state, number),
            Move::Renew(number, answered) => self.renew(state, number, answered),
            Move::LetGo(number, answered) => self.let_go(state, number, answered),
            Move::Arrive(late) => {
                let order = state.late.remove(late);
                self.run(state, order);
            }
            Move::SetBack => {
                state.faults += 1;
                state.set_back();
            }
            Move::Wait => self.wait(state),
            Move::Crash(gateway) => self.crash(state, gateway),
            Move::Pause(gateway) => {
                state.faults += 1;
                state.gateways[gateway].paused = true;
            }
            Move::Resume(gateway) => state.gateways[gateway].paused = false,
            Move::Lose(slot) => {
                state.faults += 1;
                state.lost[slot] += 1;
                state.events[slot] = None;
            }
            Move::LoseGuard(guard) => {
                state.faults += 1;
                state.lost_guards += 1;
                state.guards[guard] = None;
            }
        }
    }

    /// The store carries out a command.
    fn run(&self, state: &mut State, (number, event, command): Order) -> Reply {
        let known = &self.events[event];
        let guard = known.guard.and_then(|guard| state.guards[guard]);
        let kept = Kept { event: state.events[known.slot], guard };
        let input = self.input(command);
        let (after, reply) = bugs::step(self.bug, kept, &known.subject, input, NOW);
        let live = kept.event.filter(blocks).map(|record| record.phase);
        if let Some(Phase::Leased(owner)) = live
            && command != Command::Complete
            && after.event.map(|record| record.phase) != live
        {
            let theirs =
                matches!(command, Command::Release(token) | Command::Hold(token) if token == owner);
            let works = |(other, request): (usize, &Request)| {
                let work = request.at.work().filter(|_| other != number);
                work.is_some_and(|work| work.token == owner && request.event == event)
            };
            let robbed = !theirs || state.requests.iter().enumerate().any(works);
            state.breaks(Promise::OwnerOnly, robbed);
        }
        state.events[known.slot] = after.event;
        if let Some(guard) = known.guard {
            state.guards[guard] = after.guard;
        }
        state.pass(0, self.policy.window);
        reply
    }

    /// Asks the store for something, which may be carried out at any later time where there is no answer.
    pub(crate) fn ask(
        &self,
        state: &mut State,
        number: usize,
        command: Command,
        answered: Answered,
    ) -> Result<Reply, StoreError> {
        let order = (number, state.requests[number].event, command);
        if answered == Answered::Yes {
            return Ok(self.run(state, order));
        }
        state.faults += 1;
        state.late.push(order);
        Err(StoreError("no answer".into()))
    }

    pub(crate) fn apply(
        &self,
        state: &mut State,
        number: usize,
        command: Command,
        answered: Answered,
    ) -> Result<bool, StoreError> {
        self.ask(state, number, command, answered).map(|reply| reply == Reply::Applied(true))
    }

    /// Nobody but another request of the same source can be the reason of this.
    fn stands_alone(&self, state: &State, number: usize) -> bool {
        let source = |request: &Request| self.events[request.event].source;
        let own = source(&state.requests[number]);
        let others = state.requests.iter().enumerate().filter(|(other, _)| *other != number);
        !others.into_iter().any(|(_, other)| other.at != At::Unsent && source(other) == own)
    }

    fn enter(&self, state: &mut State, number: usize) {
        let (gateway, event) = self.requests[number];
        let twins = &mut state.gateways[gateway].twins;
        match twins.enter(&self.events[event].subject, || Waits(number)) {
            Place::Leader { token, doubtful } => {
                let token = bugs::token(self.bug, token);
                state.requests[number].at = At::Claims(Claiming { token, seen: false, doubtful });
                return;
            }
            Place::Answered(answer) => self.end(state, number, Some(answer.relayed())),
            Place::Waiting => state.requests[number].at = At::Follows,
            Place::Full => self.end(state, number, Some(Said::Later)),
        }
        let alone = self.stands_alone(state, number);
        state.breaks(Promise::SourcesApart, alone);
    }

    fn claim(&self, state: &mut State, number: usize, patience: Patience, answered: Answered) {
        let At::Claims(mut claiming) = state.requests[number].at else { return };
        let claimed = match self.ask(state, number, Command::Claim(claiming.token), answered) {
            Ok(Reply::Claimed(claimed)) => Ok(claimed),
            Ok(Reply::Applied(_)) => Err(StoreError("a claim has no answer".into())),
            Err(error) => Err(error),
        };
        claiming.doubtful |= claimed.is_err();
        let ours = matches!(claimed, Ok(Claimed::Won { .. }) | Err(_));
        let alone = !ours && self.stands_alone(state, number);
        state.breaks(Promise::SourcesApart, alone);
        let seen = claiming.seen.then_some(Claimed::InFlight { left: LEASE });
        let way = match course::after_claim(claimed, seen, patience == Patience::Left, &self.policy)
        {
            Course::Again(_) => {
                state.requests[number].at = At::Claims(Claiming { seen: true, ..claiming });
                return;
            }
            Course::Take(way) => way,
        };
        self.go(state, number, claiming, &way);
    }

    fn go(&self, state: &mut State, number: usize, claiming: Claiming, way: &Way) {
        let (now, token) = (Duration::from_millis(NOW), claiming.token);
        let said = match way {
            &Way::Work(won) => {
                let ends = course::ends(now, self.policy.lease);
                state.requests[number].at = At::Records(Work { token, won, ends });
                return;
            }
            Way::Known(Outcome::SameIdOtherBody) => Said::OtherBody,
            Way::Known(Outcome::SuspectedReplay) => Said::Replayed,
            Way::Later(_) if self.is(Bug::AckInFlight) => Said::Duplicate,
            Way::Known(_) => Said::Duplicate,
            Way::Later(_) => Said::Later,
            Way::Doubt(_) => Said::Doubt,
        };
        let forgets = self.is(Bug::DoubtForgotten) && said != Said::Doubt;
        let looks_after = claiming.doubtful && course::looks_after(way) && !forgets;
        if !looks_after && matches!(way, Way::Known(_)) {
            self.overtakes(state, token, number);
        }
        if looks_after {
            self.keep_token(state, number, token);
        }
        self.publish(state, number, said);
        self.end(state, number, Some(said));
        if looks_after {
            state.requests[number].at = At::Doubts(token);
        }
    }

    fn record(&self, state: &mut State, number: usize) {
        let request = &mut state.requests[number];
        if let At::Records(work) = request.at {
            request.recorded = !self.is(Bug::RecordAfter);
            request.at = At::Forwards(work);
        }
    }

    fn forward(&self, state: &mut State, number: usize, answered: Answered) {
        let At::Forwards(mut work) = state.requests[number].at else { return };
        let now = Duration::from_millis(NOW);
        let left = work.won.map_or(Duration::MAX, |_| course::left(work.ends, now));
        let enough = match course::shortfall(left, DELIVERY, self.policy.lease) {
            None => true,
            Some(_) if self.is(Bug::LeaseUnchecked) => true,
            Some(term) => {
                let ours = self.apply(state, number, Command::Renew(work.token), answered);
                if let Ok(ours) = ours {
                    let before = bugs::ends_before(self.bug, work.ends);
                    work.ends = course::renewed(before, now, term, ours);
                }
                ours.is_ok() && work.ends != course::LOST
            }
        };
        if !enough {
            state.requests[number].at = At::Settles(work, Said::LeaseGone);
            return;
        }
        let slot = self.events[state.requests[number].event].slot;
        let repeats = state
            .of(self, slot)
            .any(|before| before.wire != Wire::None && before.excuse != Some(Excuse::Unclaimed));
        let told = work.won.is_none_or(|won| won.after_unknown) || state.lost[slot] > 0;
        state.breaks(Promise::RepeatsAreTold, repeats && !told);
        state.breaks(Promise::RecordFirst, !state.requests[number].recorded);
        let request = &mut state.requests[number];
        request.wire = Wire::OnTheWay;
        request.excuse = work.won.is_none().then_some(Excuse::Unclaimed);
        request.at = At::Sent(work);
    }

    /// The work ended by a fault.
    fn fails(&self, state: &mut State, number: usize, said: Said) {
        state.faults += 1;
        self.ends(state, number, said);
    }

    fn unknown(&self, state: &mut State, number: usize, said: Said) {
        let request = &mut state.requests[number];
        request.excuse.get_or_insert(Excuse::Unknown);
        request.watched = said == Said::TimedOut;
        self.fails(state, number, said);
    }

    fn ends(&self, state: &mut State, number: usize, said: Said) {
        let request = &mut state.requests[number];
        let work = request.at.work().expect("it works");
        request.recorded = true; // the second record; a mistake makes it the first
        request.at = At::Settles(work, bugs::ended(self.bug, said));
    }

    fn look_after(&self, state: &mut State, number: usize) {
        let (gateway, event) = self.requests[number];
        let twins = &mut state.gateways[gateway].twins;
        let place = twins.enter(&self.events[event].subject, || Waits(number));
        let Place::Leader { token, doubtful } = place else {
            state.requests[number].at = At::Done;
            return;
        };
        if !doubtful {
            self.leave_seat(state, number);
            self.end(state, number, None);
            return;
        }
        state.requests[number].at = if self.is(Bug::LetGoBlindly) {
            At::LetsGo(token)
        } else {
            At::Renews(bugs::token(self.bug, token))
        };
    }

    fn renew(&self, state: &mut State, number: usize, answered: Answered) {
        let At::Renews(token) = state.requests[number].at else { return };
        let renewed = self.apply(state, number, Command::Renew(token), answered);
        if course::lets_go(&renewed) {
            state.requests[number].at = At::LetsGo(token);
        } else {
            self.keep_token(state, number, token);
            self.leave_seat(state, number);
            self.end(state, number, None);
        }
    }

    fn let_go(&self, state: &mut State, number: usize, answered: Answered) {
        let At::LetsGo(token) = state.requests[number].at else { return };
        let gone = self.apply(state, number, Command::Release(token), answered).is_ok();
        self.overtakes(state, token, number);
        state.adrift |= !gone;
        if !gone && self.is(Bug::LetGoBlindly) {
            self.keep_token(state, number, token);
        }
        self.leave_seat(state, number);
        self.end(state, number, None);
    }

    fn keep_token(&self, state: &mut State, number: usize, token: Token) {
        let (gateway, key) = (self.requests[number].0, self.key(number));
        let until = *ZERO_HOUR + self.policy.lease;
        state.gateways[gateway].twins.unanswered(key, token, until, *ZERO_HOUR);
    }

    /// The leader's answer goes to its twins, and those with another body look for a seat again.
    pub(crate) fn publish(&self, state: &mut State, number: usize, said: Said) {
        let (gateway, key) = (self.requests[number].0, self.key(number));
        let Some(led) = state.gateways[gateway].twins.vacate(&key) else { return };
        self.answer_all(state, &led.twins, said);
        if self.is(Bug::OtherBodyShares) {
            self.answer_all(state, &led.others, said);
        }
        let_in(state, &led.others);
    }

    /// Nobody gets an answer.
    pub(crate) fn leave_seat(&self, state: &mut State, number: usize) {
        let (gateway, key) = (self.requests[number].0, self.key(number));
        let Some(led) = state.gateways[gateway].twins.vacate(&key) else { return };
        let_in(state, &led.twins);
        let_in(state, &led.others);
    }

    pub(crate) fn answer_all(&self, state: &mut State, waiting: &[Waits], said: Said) {
        for Waits(number) in waiting {
            if state.requests[*number].at == At::Follows {
                self.end(state, *number, Some(said.relayed()));
            }
        }
    }

    pub(crate) fn end(&self, state: &mut State, number: usize, said: Option<Said>) {
        state.requests[number].at = At::Done;
        if let Some(said) = said {
            state.tell(self, number, said);
        }
    }
}

/// Those who followed look for a seat again.
fn let_in(state: &mut State, waiting: &[Waits]) {
    for Waits(number) in waiting {
        if state.requests[*number].at == At::Follows {
            state.requests[*number].at = At::Again;
        }
    }
}
