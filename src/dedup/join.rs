//! Twins in one process: the first becomes the leader, the others wait for its answer instead of asking the store.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Subject, claim::Token, twins};
use crate::{
    answer::{Answer, Outcome, Relayed},
    event::EventKey,
};

/// How many events a process keeps at most whose end the store could not be told. Without their apps' answers each takes less
/// than two kilobytes.
pub const LATE_MAX: usize = 32_768;

/// The events under way in this process. Cloning shares them: all stacks of a process use one, through reloads.
#[derive(Clone, Debug)]
pub struct Joins {
    twins: Arc<Mutex<Twins>>,
    /// Room for events that are kept after their answer.
    late: Arc<Semaphore>,
}

type Twins = twins::Twins<Follower, Box<Answer>>;
type Follower = oneshot::Sender<Answer>;

/// Where a request finds itself among its twins.
#[derive(Debug)]
pub(super) enum Place {
    /// It is the first.
    Leader(Seat),
    /// Another one is ahead, and its answer is here.
    Answered(Answer),
    /// Another one is ahead, and its answer will come here; closed without one if the leader vanished, or was of another
    /// body.
    Follower(oneshot::Receiver<Answer>),
    /// Too many wait already.
    Full,
}

/// The leader's seat. Whatever becomes of the leader, its followers are let go when the seat is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    joins: Joins,
    token: Token,
    /// Whether a claim by it has had no answer.
    doubtful: bool,
    /// Taken when the seat is given up: from then on the key may be somebody else's.
    key: Option<EventKey>,
}

/// A seat that is kept after its answer was given.
#[derive(Debug)]
pub(super) struct Kept {
    _seat: Seat,
    _room: OwnedSemaphorePermit,
}

impl Default for Joins {
    /// Nothing under way, in a process with a random name of its own.
    fn default() -> Self {
        let name = RandomState::new().build_hasher().finish();
        let twins = Mutex::new(Twins::new(Token(u128::from(name) << 64)));
        Self { twins: Arc::new(twins), late: Arc::new(Semaphore::new(LATE_MAX)) }
    }
}

impl Joins {
    /// Takes a place among the twins of `subject`.
    pub(super) fn enter(&self, subject: &Subject) -> Place {
        let mut place = Place::Full;
        let found = self.lock().enter(subject, || {
            let (sender, receiver) = oneshot::channel();
            place = Place::Follower(receiver);
            sender
        });
        match found {
            twins::Place::Leader { token, doubtful } => {
                let (joins, key) = (self.clone(), Some(subject.key));
                Place::Leader(Seat { joins, token, doubtful, key })
            }
            twins::Place::Answered(answer) => Place::Answered(relayed(&answer)),
            twins::Place::Waiting | twins::Place::Full => place,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Twins> {
        self.twins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl twins::Waiter for Follower {
    fn gone(&self) -> bool {
        self.is_closed()
    }
}

impl Seat {
    /// By what the leader claims.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// A claim had no answer: whatever is answered to the next one, it may have been carried out, or may still be.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Whether a claim by the token may be there that nobody knows of.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Keeps the doubt for the next one who claims the same, for as long as `lease`.
    pub(super) fn unanswered(&self, lease: Duration) {
        if let Some(key) = self.key {
            let now = Instant::now();
            self.joins.lock().unanswered(key, self.token, now + lease, now);
        }
    }

    /// Gives the leader's answer to all who wait for it.
    pub(super) fn publish(mut self, answer: &Answer) {
        answer_all(self.vacate(), answer);
    }

    /// The same, and without what the app said beside its status to all who come while the seat is kept, because the store does
    /// not know yet how it ended. Not where [`LATE_MAX`] are kept already; else until what this gives back is dropped.
    pub(super) fn keep(self, answer: &Answer) -> Result<Kept, Self> {
        let Ok(room) = Arc::clone(&self.joins.late).try_acquire_owned() else { return Err(self) };
        let kept = Box::new(brief(answer));
        let twins = self.key.map(|key| self.joins.lock().keep(&key, kept));
        answer_all(twins.unwrap_or_default(), answer);
        Ok(Kept { _seat: self, _room: room })
    }

    /// Gives back the twins that wait; those with another body are let go.
    fn vacate(&mut self) -> Vec<Follower> {
        let led = self.key.take().and_then(|key| self.joins.lock().vacate(&key));
        led.map(|led| led.twins).unwrap_or_default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.vacate());
    }
}

fn answer_all(followers: Vec<Follower>, answer: &Answer) {
    for follower in followers {
        drop(follower.send(relayed(answer))); // one that gave up waiting needs no answer
    }
}

/// An answer as it may be kept for long, and for many events.
fn brief(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    if let Ok(answered) = &mut answer
        && let Outcome::Accepted(relayed) = &mut answered.what
    {
        let (status, body) = (relayed.status, Bytes::new());
        *relayed = Relayed { status, content_type: None, body, full: false };
    }
    answer
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
