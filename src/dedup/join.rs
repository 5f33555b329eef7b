//! Twins in one process: the first becomes the leader, the others wait for its answer instead of asking the store.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::Subject;
use crate::{
    answer::{Answer, Outcome},
    event::{Digest, EventKey},
};

/// How many twins wait for one event at most; more are sent away at once.
const FOLLOWERS_MAX: usize = 1024;

/// The events under way in this process. Cloning shares them: all stacks of a process use one, through reloads.
#[derive(Clone, Debug, Default)]
pub struct Joins(Arc<Mutex<HashMap<EventKey, Led>>>);

/// An event with a leader.
#[derive(Debug)]
struct Led {
    digest: Digest,
    followers: Vec<oneshot::Sender<Answer>>,
}

/// Where a request finds itself among its twins.
#[derive(Debug)]
pub(super) enum Place {
    /// It is the first.
    Leader(Seat),
    /// Another one is ahead: with the same body or another, and its answer will come here.
    Follower {
        /// Whether the leader has the same body.
        same_body: bool,
        /// Where the answer comes; closed without one if the leader vanished.
        answer: oneshot::Receiver<Answer>,
    },
    /// Too many wait already.
    Full,
}

/// The leader's seat. Whatever becomes of the leader, its followers are let go when the seat is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    joins: Joins,
    /// Taken when the seat is given up: from then on the key may be somebody else's.
    key: Option<EventKey>,
}

impl Joins {
    /// Takes a place among the twins of `subject`.
    pub(super) fn enter(&self, subject: &Subject) -> Place {
        match self.lock().entry(subject.key) {
            Entry::Vacant(entry) => {
                entry.insert(Led { digest: subject.digest, followers: Vec::new() });
                Place::Leader(Seat { joins: self.clone(), key: Some(subject.key) })
            }
            Entry::Occupied(entry) => entry.into_mut().follow(subject.digest),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventKey, Led>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Led {
    fn follow(&mut self, digest: Digest) -> Place {
        if self.followers.len() >= FOLLOWERS_MAX {
            self.followers.retain(|follower| !follower.is_closed());
        }
        if self.followers.len() >= FOLLOWERS_MAX {
            return Place::Full;
        }
        let (sender, answer) = oneshot::channel();
        self.followers.push(sender);
        Place::Follower { same_body: digest == self.digest, answer }
    }
}

impl Seat {
    /// Gives the leader's answer to all who wait for it.
    pub(super) fn publish(mut self, answer: &Answer) {
        for follower in self.vacate() {
            drop(follower.send(relayed(answer))); // one that gave up waiting needs no answer
        }
    }

    fn vacate(&mut self) -> Vec<oneshot::Sender<Answer>> {
        let led = self.key.take().and_then(|key| self.joins.lock().remove(&key));
        led.map(|led| led.followers).unwrap_or_default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.vacate());
    }
}

/// What a follower answers: the same as its leader, except that it was a duplicate where the leader was accepted.
fn relayed(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    if let Ok(answered) = &mut answer
        && let Outcome::Accepted(relayed) = &answered.what
    {
        answered.what = Outcome::Duplicate(Some(relayed.clone()));
    }
    answer
}
