//! How the store gets to know how an attempt ended.

use gatepost::dedup::{
    claim::{Claimed, Input, Phase, Reply},
    course,
};

use crate::{
    bugs::Bug,
    moves::Answered,
    promises::Promise,
    world::{At, Command, Excuse, Gate, Said, State, Work, command},
};

impl Gate {
    pub(crate) fn settle(&self, state: &mut State, number: usize, answered: Answered) {
        let (work, said, late, again) = match state.requests[number].at {
            At::Settles(work, said) => (work, said, false, false),
            At::SettlesLate(work, said) => (work, said, true, false),
            At::SettlesAgain(work, said, late) => (work, said, late, true),
            _ => return,
        };
        let answer = said.answer();
        let settlement = self.settlement_of(work, said);
        let settled = late || course::settles_first(work.won, &answer);
        let settled = settled
            .then(|| self.apply(state, number, command(settlement), answered).ok())
            .flatten();
        if settled.is_some_and(|applied| !again && course::claims_again(settlement, applied))
            && !self.is(Bug::LostIsLeft)
        {
            state.requests[number].at = At::ClaimsAgain(work, said, late);
            return;
        }
        let known = again || !matches!(settlement, Input::Hold(..)) || self.knows(state, number);
        state.breaks(Promise::RepeatsAreTold, settled.is_some() && !known);
        self.settled(state, number, (work, said, late), settled.is_some());
    }

    fn settlement_of(&self, work: Work, said: Said) -> Input {
        self.settlement(work, course::settlement(&said.answer(), work.token, &self.policy))
    }

    /// Whether the store knows that somebody has, or may have, delivered the event.
    fn knows(&self, state: &State, number: usize) -> bool {
        let known = &self.events[state.requests[number].event];
        let suppressed = known.guard.is_some_and(|guard| state.guards[guard].is_some());
        let kept = state.events[known.slot];
        suppressed || kept.is_some_and(|record| record.unknown || record.phase != Phase::Free)
    }

    pub(crate) fn claim_again(&self, state: &mut State, number: usize, answered: Answered) {
        let At::ClaimsAgain(work, said, late) = state.requests[number].at else { return };
        match self.ask(state, number, Command::Claim(work.token), answered) {
            Ok(Reply::Claimed(Claimed::Won { .. })) => {
                state.requests[number].at = At::SettlesAgain(work, said, late);
            }
            answer => {
                let known = answer.is_err() || self.knows(state, number);
                state.breaks(Promise::RepeatsAreTold, !known);
                self.settled(state, number, (work, said, late), answer.is_ok());
            }
        }
    }

    /// The store knows how it ended, or cannot be told now.
    fn settled(
        &self,
        state: &mut State,
        number: usize,
        (work, said, late): (Work, Said, bool),
        settled: bool,
    ) {
        let settlement = self.settlement_of(work, said);
        self.overtakes(state, work.token, number);
        state.adrift |= !settled && settlement == Input::Release(work.token);
        if late {
            self.leave_seat(state, number);
            return self.end(state, number, None);
        }
        if said == Said::Accepted && !settled {
            state.requests[number].excuse.get_or_insert(Excuse::Unwritten);
        }
        let told = if self.is(Bug::UnwrittenRefused) && !settled { Said::Doubt } else { said };
        state.breaks(Promise::SuccessIsTold, said == Said::Accepted && !told.is_ack());
        if course::keeps_seat(settlement, settled) {
            let (gateway, key) = (self.requests[number].0, self.key(number));
            let twins = state.gateways[gateway].twins.keep(&key, told);
            self.answer_all(state, &twins, told);
            self.end(state, number, Some(told));
            state.requests[number].at = At::SettlesLate(work, told);
        } else {
            if !(self.is(Bug::SeatStays) && said == Said::Failed) {
                self.publish(state, number, told);
            }
            self.end(state, number, Some(told));
        }
    }

    fn settlement(&self, work: Work, settlement: Input) -> Input {
        match (self.bug, settlement) {
            (Some(Bug::UnknownReleases), Input::Hold(token, _)) => Input::Release(token),
            (Some(Bug::SuccessReleases), Input::Complete(_)) => Input::Release(work.token),
            _ => settlement,
        }
    }
}
