//! A process that can die at every effect. A dead one is cut off: what it still does reaches nobody, which from outside is
//! the same as being gone.

use std::{
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::world::{World, lock};

#[derive(Debug)]
pub struct Process {
    pub world: Arc<World>,
    pub name: String,
    pub dead: CancellationToken,
    /// It died with its machine: what was not synced may be gone.
    pub power_lost: AtomicBool,
    paused: Mutex<Instant>,
}

impl Process {
    pub fn new(world: &Arc<World>, name: String) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            name,
            dead: CancellationToken::new(),
            power_lost: AtomicBool::new(false),
            paused: Mutex::new(Instant::now()),
        })
    }

    pub fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    pub fn die(&self, why: &str) {
        let power_lost = self.world.below(2) == 0;
        self.power_lost.store(power_lost, Relaxed);
        let how = if power_lost { "power cut" } else { "killed" };
        self.world.count(how);
        self.world.say(|| format!("{} †     {how}: {why}", self.name));
        self.dead.cancel();
    }

    pub fn pause(&self, until: Instant) {
        *lock(&self.paused) = until;
    }

    /// Passes an effect, unless the process dies here or is dead.
    pub fn lives(&self, what: &str) -> bool {
        if !self.is_dead() && self.world.happens(self.world.plan.crash) {
            self.die(what);
        }
        !self.is_dead()
    }

    /// The same for what happens at once.
    pub fn check(&self, what: &str) -> io::Result<()> {
        if self.lives(what) { Ok(()) } else { Err(io::Error::other("dead")) }
    }

    /// The same for what takes time: waits while the process is paused, and forever where it is dead.
    pub async fn gate(&self, what: &str) {
        let until = *lock(&self.paused);
        if until > Instant::now() {
            sleep_until(until).await;
        }
        if !self.lives(what) {
            pending::<()>().await;
        }
    }
}
