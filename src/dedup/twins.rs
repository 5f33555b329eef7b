//! Twins in one process, as plain data: who leads, who waits for whose answer, and which tokens may have a claim that
//! nobody heard of.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    time::Instant,
};

use super::{Subject, claim::Token};
use crate::event::{Digest, EventKey};

/// How many twins wait for one event at most; more are sent away at once.
const FOLLOWERS_MAX: usize = 1024;

/// How many claims without an answer are remembered at most.
const UNANSWERED_MAX: usize = 4096;

/// One that waits for an answer.
pub trait Waiter {
    /// Whether it waits no longer.
    fn gone(&self) -> bool;
}

/// The events under way in a process. `W` waits, for an `A`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twins<W, A> {
    /// Events with a leader.
    pub led: HashMap<EventKey, Led<W, A>>,
    /// Tokens of claims that may have been carried out without an answer, and until when that matters.
    pub unanswered: HashMap<EventKey, (Token, Instant)>,
    /// The last token that was given out.
    pub last: Token,
}

/// An event with a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Led<W, A> {
    /// The leader's body.
    pub digest: Digest,
    /// Those with the same body: they get its answer.
    pub twins: Vec<W>,
    /// Those with another body, who are judged by themselves once the leader is through.
    pub others: Vec<W>,
    /// The leader's answer, where the store does not know yet how it ended.
    pub answer: Option<A>,
}

/// Where a request finds itself among its twins.
#[derive(Debug)]
pub enum Place<A> {
    /// It is the first, and claims with this.
    Leader {
        /// By what it claims.
        token: Token,
        /// Whether an earlier claim by it has had no answer: it may have been carried out, or may still be.
        doubtful: bool,
    },
    /// The leader has the same body, and its answer is known already.
    Answered(A),
    /// Another one is ahead.
    Waiting,
    /// Too many wait already.
    Full,
}

impl<W: Waiter, A: Clone> Twins<W, A> {
    /// Nothing under way, in a process whose tokens follow `name`.
    pub fn new(name: Token) -> Self {
        Self { led: HashMap::new(), unanswered: HashMap::new(), last: name }
    }

    /// Takes a place among the twins of `subject`; `waiter` is called where it has to wait.
    pub fn enter(&mut self, subject: &Subject, waiter: impl FnOnce() -> W) -> Place<A> {
        match self.led.entry(subject.key) {
            Entry::Vacant(entry) => {
                entry.insert(Led {
                    digest: subject.digest,
                    twins: Vec::new(),
                    others: Vec::new(),
                    answer: None,
                });
                self.lead(&subject.key)
            }
            Entry::Occupied(entry) => entry.into_mut().follow(subject.digest, waiter),
        }
    }

    /// With a new token, or that of a claim without an answer.
    fn lead(&mut self, key: &EventKey) -> Place<A> {
        let nothing = self.unanswered.is_empty(); // nearly always, and then nothing is hashed
        if !nothing && let Some((token, _)) = self.unanswered.remove(key) {
            return Place::Leader { token, doubtful: true };
        }
        self.last.0 += 1;
        Place::Leader { token: self.last, doubtful: false }
    }

    /// The leader is through. Gives back those who waited; what comes now is the first again.
    pub fn vacate(&mut self, key: &EventKey) -> Option<Led<W, A>> {
        self.led.remove(key)
    }

    /// The leader has an answer, but stays until the store knows it too. Gives back the twins to whom it goes; it goes to all
    /// who come later as well.
    pub fn keep(&mut self, key: &EventKey, answer: A) -> Vec<W> {
        let Some(led) = self.led.get_mut(key) else { return Vec::new() };
        led.answer = Some(answer);
        mem::take(&mut led.twins)
    }

    /// Notes that the claim of `key` by `token` may have been carried out without an answer, for as long as it takes to get from
    /// `now` to `until`.
    pub fn unanswered(&mut self, key: EventKey, token: Token, until: Instant, now: Instant) {
        if self.unanswered.len() >= UNANSWERED_MAX {
            self.unanswered.retain(|_, (_, until)| now < *until);
        }
        if self.unanswered.len() < UNANSWERED_MAX {
            self.unanswered.insert(key, (token, until));
        }
    }
}

impl<W: Waiter, A: Clone> Led<W, A> {
    fn follow(&mut self, digest: Digest, waiter: impl FnOnce() -> W) -> Place<A> {
        let same_body = digest == self.digest;
        if let Some(answer) = self.answer.as_ref().filter(|_| same_body) {
            return Place::Answered(answer.clone());
        }
        if self.followers() >= FOLLOWERS_MAX {
            self.twins.retain(|follower| !follower.gone());
            self.others.retain(|follower| !follower.gone());
        }
        if self.followers() >= FOLLOWERS_MAX {
            return Place::Full;
        }
        if same_body { &mut self.twins } else { &mut self.others }.push(waiter());
        Place::Waiting
    }

    fn followers(&self) -> usize {
        self.twins.len() + self.others.len()
    }
}
