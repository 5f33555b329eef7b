//! Twins in one process: the first becomes the leader, the others wait for its answer instead of asking the store.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Subject, claim::Token};
use crate::{
    answer::{Answer, Outcome},
    event::{Digest, EventKey},
};

/// How many twins wait for one event at most; more are sent away at once.
const FOLLOWERS_MAX: usize = 1024;

/// How many claims without an answer are remembered at most.
const UNANSWERED_MAX: usize = 4096;

/// The events under way in this process. Cloning shares them: all stacks of a process use one, through reloads.
#[derive(Clone, Debug)]
pub struct Joins(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    led: HashMap<EventKey, Led>,
    /// Tokens of claims that may have been carried out without an answer, and until when that matters.
    unanswered: HashMap<EventKey, (Token, Instant)>,
    /// The token of the next claim: the process's random name, and a number.
    next: Token,
}

/// An event with a leader.
#[derive(Debug)]
struct Led {
    digest: Digest,
    followers: Vec<oneshot::Sender<Answer>>,
    /// The leader's answer, where the store does not know yet how it ended.
    answer: Option<Box<Answer>>,
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
    token: Token,
    /// Taken when the seat is given up: from then on the key may be somebody else's.
    key: Option<EventKey>,
}

impl Default for Joins {
    /// Nothing under way, in a process with a name of its own.
    fn default() -> Self {
        let name = RandomState::new().build_hasher().finish();
        let next = Token(u128::from(name) << 64);
        let (led, unanswered) = (HashMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(Table { led, unanswered, next })))
    }
}

impl Joins {
    /// Takes a place among the twins of `subject`.
    pub(super) fn enter(&self, subject: &Subject) -> Place {
        let mut table = self.lock();
        let table = &mut *table;
        match table.led.entry(subject.key) {
            Entry::Vacant(entry) => {
                let digest = subject.digest;
                entry.insert(Led { digest, followers: Vec::new(), answer: None });
                let token = table.token(&subject.key);
                Place::Leader(Seat { joins: self.clone(), token, key: Some(subject.key) })
            }
            Entry::Occupied(entry) => entry.into_mut().follow(subject.digest),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// A new token, or that of a claim without an answer: if it was carried out, it is ours.
    fn token(&mut self, key: &EventKey) -> Token {
        if !self.unanswered.is_empty()
            && let Some((token, _)) = self.unanswered.remove(key)
        {
            return token;
        }
        self.next.0 += 1;
        self.next
    }
}

impl Led {
    fn follow(&mut self, digest: Digest) -> Place {
        let (sender, receiver) = oneshot::channel();
        let place = Place::Follower { same_body: digest == self.digest, answer: receiver };
        if let Some(answer) = self.answer.as_ref().filter(|_| digest == self.digest) {
            drop(sender.send(relayed(answer)));
            return place;
        }
        if self.followers.len() >= FOLLOWERS_MAX {
            self.followers.retain(|follower| !follower.is_closed());
        }
        if self.followers.len() >= FOLLOWERS_MAX {
            return Place::Full;
        }
        self.followers.push(sender);
        place
    }
}

impl Seat {
    /// By what the leader claims.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Gives the leader's answer to all who wait for it.
    pub(super) fn publish(mut self, answer: &Answer) {
        answer_all(self.vacate(), answer);
    }

    /// The same, and to all who come while the seat is kept, because the store does not know yet how it ended.
    pub(super) fn keep(&self, answer: &Answer) {
        let mut table = self.joins.lock();
        let led = self.key.and_then(|key| table.led.get_mut(&key));
        let followers = led.map(|led| {
            led.answer = Some(Box::new(answer.clone()));
            mem::take(&mut led.followers)
        });
        drop(table);
        answer_all(followers.unwrap_or_default(), answer);
    }

    /// Notes that the claim may have been carried out without an answer, and blocks the event for `lease`.
    pub(super) fn unanswered(&self, lease: Duration) {
        let mut table = self.joins.lock();
        if table.unanswered.len() >= UNANSWERED_MAX {
            let now = Instant::now();
            table.unanswered.retain(|_, (_, until)| now < *until);
        }
        if let Some(key) = self.key
            && table.unanswered.len() < UNANSWERED_MAX
        {
            table.unanswered.insert(key, (self.token, Instant::now() + lease));
        }
    }

    fn vacate(&mut self) -> Vec<oneshot::Sender<Answer>> {
        let led = self.key.take().and_then(|key| self.joins.lock().led.remove(&key));
        led.map(|led| led.followers).unwrap_or_default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.vacate());
    }
}

fn answer_all(followers: Vec<oneshot::Sender<Answer>>, answer: &Answer) {
    for follower in followers {
        drop(follower.send(relayed(answer))); // one that gave up waiting needs no answer
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
