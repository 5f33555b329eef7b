//! Lines on their way to standard error. Who logs never waits for who reads: a pipe that nobody empties would hold up workers,
//! and with them leases and signals. What finds no room is dropped and counted, and once lines are read again that is said.
//!
//! `tracing-appender` has the same in a crate; its end is not ours: with a full queue it prints, and nothing of what waits is
//! written. It does not say what was lost, and its room is counted in lines, of any length.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

/// What the writer's buffer keeps of its room when it is empty.
const SPARE_BYTES: usize = 64 << 10;

/// When what is full, and waits for nobody, is tried again.
const FULL_WAIT: Duration = Duration::from_millis(10);

/// The lines that wait.
#[derive(Debug)]
pub struct Lines {
    room: usize,
    state: Mutex<State>,
    /// For the writer: there is something to write.
    some: Condvar,
    /// For who waits until everything is written.
    none: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that were lost, and not yet said to be.
    unsaid: u64,
    /// Whether the last write failed: what was lost is said when one does not.
    failing: bool,
    /// Whether the writer has taken what it has not written yet.
    writing: bool,
    /// Whether it sleeps: most of the time under load it does not, and a line costs no system call.
    asleep: bool,
}

impl Lines {
    /// Room for so many bytes.
    pub fn new(room: usize) -> Self {
        let (some, none) = (Condvar::new(), Condvar::new());
        Self { room, state: Mutex::default(), some, none, lost: Counter::default() }
    }

    /// How many lines were lost.
    pub fn lost(&self) -> Counter {
        self.lost.clone()
    }

    /// Adds a line, or several, where there is room.
    pub fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + lines.len() > self.room {
            let lost = count(lines);
            state.unsaid += lost;
            self.lost.inc_by(lost);
        } else {
            state.waiting.extend_from_slice(lines);
        }
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.some.notify_one();
        }
    }

    /// Writes what comes, for ever; `say` is told how many lines were lost, each time that it goes on.
    pub fn carry(&self, mut out: impl Write, say: impl Fn(u64)) -> ! {
        let (mut batch, mut broken_off) = (Vec::new(), false);
        loop {
            let due = self.take(&mut batch);
            if due > 0 {
                say(due); // in the place of what was lost: what waited was taken, so that there is room
            }
            let is_begun = !broken_off || written(&mut out, b"\n") == 1;
            let taken = if is_begun { written(&mut out, &batch) } else { 0 };
            let (taken, rest) = batch.split_at(taken);
            broken_off = taken.last().map_or(!is_begun, |last| *last != b'\n');
            let lost = count(rest);
            self.lost.inc_by(lost);
            batch.clear();
            batch.shrink_to(SPARE_BYTES);
            let mut state = self.lock();
            state.unsaid += lost;
            state.failing = lost > 0;
        }
    }

    /// Waits until everything is written and said, for so long at most; whether it is.
    pub fn drained(&self, within: Duration) -> bool {
        let busy = |state: &mut State| state.writing || !state.is_idle();
        let waited = self.none.wait_timeout_while(self.lock(), within, busy);
        !waited.map_or_else(|poisoned| poisoned.into_inner().1, |(_, over)| over).timed_out()
    }

    /// Swaps what waits into `batch`, once there is something to do. Returns how many lines are to be called lost.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.writing = false;
        while state.is_idle() {
            state.asleep = true;
            self.none.notify_all();
            state = self.some.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        state.writing = true;
        mem::swap(&mut state.waiting, batch);
        state.due()
    }

    /// A panic while it is held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the writer has nothing to do.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && (self.failing || self.unsaid == 0)
    }

    fn due(&mut self) -> u64 {
        if self.failing { 0 } else { mem::take(&mut self.unsaid) }
    }
}

/// What `tracing` writes an event with, in one call.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `bytes`; returns how many of them were taken.
fn written(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(n) if n > 0 => rest = rest.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody who has the other end of it, too, wanted no write to wait.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_WAIT),
            Ok(_) | Err(_) => break,
        }
    }
    bytes.len() - rest.len()
}

fn count(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').map(|_| 1).sum()
}
