//! What happens to gateways as wholes: time passes, one dies.

use std::time::Duration;

use gatepost::dedup::{
    claim::{Kept, Millis, Phase, Reply},
    course::{self, LOST},
};

use crate::{
    bugs,
    world::{At, Command, Excuse, Gate, Gateway, NOW, Said, State, Wire},
};

impl Gate {
    /// Until the next lease or hold is over. Whoever works and runs renews its own meanwhile.
    pub(crate) fn wait(&self, state: &mut State) {
        let Some((end, stalls)) = self.next_end(state) else { return };
        state.faults += u8::from(stalls);
        for number in 0..self.requests.len() {
            if !state.gateways[self.requests[number].0].paused {
                self.renew_until(state, number, end);
            }
        }
        for number in 0..self.requests.len() {
            self.overrun(state, number, end);
        }
        state.pass(end - NOW, self.policy.window);
    }

    fn renew_until(&self, state: &mut State, number: usize, end: Millis) {
        let request = state.requests[number];
        let Some(mut work) = request.at.work().filter(|work| work.won.is_some()) else { return };
        let known = &self.events[request.event];
        while work.ends <= end {
            let now = (work.ends - 1).max(NOW);
            let kept = Kept { event: state.events[known.slot], guard: None };
            let renewal = self.input(Command::Renew(work.token));
            let (after, reply) = bugs::step(self.bug, kept, &known.subject, renewal, now);
            state.events[known.slot] = after.event;
            let ours = reply == Reply::Applied(true);
            let now = Duration::from_millis(now);
            work.ends = course::renewed(work.ends, now, self.policy.lease, ours);
        }
        state.requests[number].at = match request.at {
            At::Records(_) => At::Records(work),
            At::Forwards(_) => At::Forwards(work),
            _ => At::Sent(work),
        };
    }

    /// A lease that ends while its owner's event is at the upstream, and nobody knows how that ended.
    fn overrun(&self, state: &mut State, number: usize, end: Millis) {
        let request = &mut state.requests[number];
        let (At::Sent(work) | At::Settles(work, Said::Accepted)) = request.at else { return };
        let record = state.events[self.events[request.event].slot];
        let lapses = record.is_some_and(|record| {
            record.phase == Phase::Leased(work.token) && record.until <= end && record.until > NOW
        });
        if lapses && request.wire != Wire::None {
            request.excuse.get_or_insert(Excuse::Overrun);
        }
    }

    pub(crate) fn crash(&self, state: &mut State, gateway: usize) {
        state.faults += 1;
        state.adrift = true;
        for number in 0..self.requests.len() {
            if self.requests[number].0 != gateway {
                continue;
            }
            let request = &mut state.requests[number];
            request.watched = false;
            let Some(point) = request.at.point() else { continue };
            if request.wire != Wire::None && !matches!(request.at, At::Doubts(_)) {
                request.excuse.get_or_insert(Excuse::Crashed);
            }
            request.crashed = Some(point);
            request.at = At::Done;
        }
        let life = state.gateways[gateway].life + 1;
        state.gateways[gateway] = Gateway::new(gateway, life);
    }
}

/// That a claim is lost is a time that no other exceeds.
const _: () = assert!(LOST == Millis::MAX);
