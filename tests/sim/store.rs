//! A dedup store that does what the protocol's own function says, and has every trouble on the way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use gatepost::{
    dedup::{
        DedupStore, StoreError, Subject,
        claim::{Claimed, Guarded, Input, Kept, Record, Reply, step},
    },
    event::EventKey,
    stage::BoxFuture,
};
use tokio::time::sleep;

use crate::{
    process::Process,
    world::{Mistake, World, lock},
};

/// What is kept, whoever lives.
#[derive(Debug)]
pub struct Shelf {
    world: Arc<World>,
    kept: Mutex<Tables>,
    /// An older state, for a failover to a replica that had not kept up.
    stale: Mutex<Tables>,
    /// Keys as they should be, and the one that mixes up sources.
    pub mixed: Mutex<HashMap<EventKey, EventKey>>,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    events: HashMap<EventKey, Record>,
    guards: HashMap<EventKey, Guarded>,
    /// In the order in which they came.
    order: Vec<EventKey>,
}

impl Shelf {
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            kept: Mutex::default(),
            stale: Mutex::default(),
            mixed: Mutex::default(),
        })
    }

    fn apply(&self, subject: &Subject, mut input: Input) -> Reply {
        let (world, mut subject) = (&self.world, *subject);
        let now = u64::try_from(world.elapsed().as_millis()).expect("a short run") + 1;
        world.ledger().stored.insert(subject.key.event_id().to_string());
        if world.has(Mistake::OneKeyForAll) {
            subject.key = lock(&self.mixed).get(&subject.key).copied().unwrap_or(subject.key);
        }
        if let Input::Claim(_, lease, _) = &mut input
            && world.has(Mistake::EndlessLease)
        {
            *lease = Duration::from_hours(1);
        }
        let mut kept = lock(&self.kept);
        let kept = &mut *kept;
        let event = kept.events.get(&subject.key).copied();
        let guard = subject.guard.and_then(|key| kept.guards.get(&key).copied());
        let (mut after, mut reply) = step(Kept { event, guard }, &subject, input, now);
        let won = matches!(reply, Reply::Claimed(Claimed::Won { .. }));
        if won && world.has(Mistake::CompleteEarly) {
            (after, _) = step(after, &subject, Input::Complete(Duration::from_hours(1)), now);
        }
        if matches!(input, Input::Complete(_)) && world.has(Mistake::ForgetDone) {
            (after, reply) = (Kept::default(), Reply::Applied(true));
        }
        if matches!(reply, Reply::Claimed(Claimed::InFlight { .. } | Claimed::Done { .. }))
            && world.has(Mistake::NobodyWaits)
        {
            reply = Reply::Claimed(Claimed::Won { attempt: 1, after_unknown: false });
        }
        if event.is_none() {
            kept.order.push(subject.key);
        }
        put(&mut kept.events, subject.key, after.event);
        if let Some(key) = subject.guard {
            put(&mut kept.guards, key, after.guard);
        }
        reply
    }

    /// Loses something: one event, everything, or what happened since a while ago.
    pub fn lose(&self) {
        let mut kept = lock(&self.kept);
        let before = kept.clone();
        match self.world.below(4) {
            0 => *kept = Tables::default(),
            1 => *kept = lock(&self.stale).clone(),
            _ => {
                let at = usize::try_from(self.world.below(kept.order.len() as u64)).unwrap();
                if let Some(key) = kept.order.get(at).copied() {
                    kept.events.remove(&key);
                }
            }
        }
        let changed = |key: &&EventKey| before.events.get(*key) != kept.events.get(*key);
        let mut lost: Vec<_> =
            before.order.iter().filter(changed).map(EventKey::event_id).collect();
        lost.sort_unstable();
        lost.dedup();
        self.world.count("store loss");
        self.world.say(|| format!("store       lost {} events", lost.len()));
        for event in lost {
            *self.world.ledger().forgotten.entry(event.to_string()).or_default() += 1;
        }
    }

    /// Remembers how it is now, for a failover later.
    pub fn replicate(&self) {
        *lock(&self.stale) = lock(&self.kept).clone();
    }
}

fn put<T>(table: &mut HashMap<EventKey, T>, key: EventKey, value: Option<T>) {
    match value {
        Some(value) => drop(table.insert(key, value)),
        None => drop(table.remove(&key)),
    }
}

/// The store as one process reaches it.
#[derive(Debug)]
pub struct Store {
    pub shelf: Arc<Shelf>,
    pub process: Arc<Process>,
}

impl Store {
    async fn attempt(&self, subject: &Subject, input: Input) -> Result<Reply, StoreError> {
        let (world, what) = (&self.shelf.world, name(input));
        self.process.gate(what).await;
        let event = subject.key.event_id();
        let trouble = if world.happens(world.plan.store) { 1 + world.below(5) } else { 0 };
        if trouble > 0 {
            world.count("store trouble");
        }
        if trouble == 1 {
            sleep(world.millis(3)).await;
            world.say(|| format!("{} store {what} {event}: failed", self.process.name));
            return Err(StoreError("unreachable".into()));
        }
        if trouble == 2 {
            self.apply_later(*subject, input);
            sleep(Duration::from_millis(150)).await;
            world.say(|| format!("{} store {what} {event}: timed out", self.process.name));
            return Err(StoreError("timeout".into()));
        }
        sleep(world.millis(if trouble == 3 { 900 } else { 2 })).await;
        self.process.gate(what).await;
        let reply = self.shelf.apply(subject, input);
        world.say(|| format!("{} store {what} {event}: {}", self.process.name, short(&reply)));
        if trouble == 4 {
            return Err(StoreError("connection lost".into()));
        }
        self.process.gate(what).await;
        Ok(reply)
    }

    /// A command that is under way is carried out, although nobody waits for it any more.
    fn apply_later(&self, subject: Subject, input: Input) {
        let (shelf, wait) = (Arc::clone(&self.shelf), self.shelf.world.millis(1500));
        let process = self.process.name.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            let reply = shelf.apply(&subject, input);
            let (what, event) = (name(input), subject.key.event_id());
            shelf.world.say(|| format!("{process} store {what} {event}, late: {}", short(&reply)));
        });
    }
}

fn name(input: Input) -> &'static str {
    match input {
        Input::Claim(..) => "claim",
        Input::Complete(_) => "complete",
        Input::Release(_) => "release",
        Input::Hold(..) => "hold",
        Input::Renew(..) => "renew",
    }
}

fn short(reply: &Reply) -> String {
    match reply {
        Reply::Claimed(claimed) => format!("{claimed:?}"),
        Reply::Applied(applied) => format!("{applied}"),
    }
}

impl DedupStore for Store {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(self.attempt(subject, input))
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(std::future::ready(Ok("simulated".into())))
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}
