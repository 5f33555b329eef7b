//! Every store answers as the pure functions do, whatever is asked in whatever order.
//!
//! Times are either over at once or far away, so that no answer depends on how fast the machine is.

use std::{cell::RefCell, path::Path};

use gatepost::dedup::claim::{Kept, Phase, Reply, step};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rusqlite::Connection;
use tokio::runtime::Runtime;

use super::{wall::WallClock, *};

/// What happens to one of the subjects of a case.
#[derive(Clone, Copy, Debug)]
enum Op {
    Ask(Input),
    /// The store starts again; it has forgotten nothing but its leases.
    Restart,
    /// The store loses what it kept about the event, but not about its signed bytes.
    Lose,
    /// The store's clock is set back by ten years.
    Leap,
}

/// How often that can happen, from now to the epoch.
const LEAPS_MAX: u32 = 5;

/// A store to compare, and what can be done to it.
pub(crate) struct Compared<'a> {
    pub(crate) open: &'a dyn Fn() -> Store,
    pub(crate) restart: Option<&'a dyn Fn(Store) -> Store>,
    pub(crate) lose: Option<&'a dyn Fn(&Subject)>,
    pub(crate) leap: Option<&'a dyn Fn(u32)>,
}

impl<'a> Compared<'a> {
    pub(crate) fn new(open: &'a dyn Fn() -> Store) -> Self {
        Self { open, restart: None, lose: None, leap: None }
    }
}

fn times() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(HOUR), Just(HOUR)]
}

fn inputs() -> impl Strategy<Value = Input> {
    let token = prop_oneof![Just(A), Just(B), Just(Token(u128::MAX))];
    let terms =
        prop_oneof![Just((HOUR, HOUR)), Just((HOUR, Duration::ZERO)), Just((Duration::ZERO, HOUR))];
    prop_oneof![
        6 => (token.clone(), terms).prop_map(|(t, (l, w))| Input::Claim(t, l, w)),
        1 => times().prop_map(Input::Complete),
        2 => token.clone().prop_map(Input::Release),
        2 => (token.clone(), times()).prop_map(|(t, time)| Input::Hold(t, time)),
        1 => (token, times()).prop_map(|(t, lease)| Input::Renew(t, lease)),
    ]
}

/// Three subjects: two with the same guard, one of them with another body as well.
fn subjects() -> [Subject; 4] {
    let ((one, two), alone) = (fresh_pair(), fresh());
    [one, two, Subject { digest: Digest::of(b"other body"), ..one }, alone]
}

/// The pure functions' answer, over what they keep about each key.
#[derive(Default)]
struct Model {
    kept: std::collections::HashMap<EventKey, Kept>,
    /// How often the store's clock was set back.
    leaps: u32,
}

impl Model {
    /// Later than any leap.
    const NOW: u64 = 10_000_000_000_000;

    fn now(&self) -> u64 {
        Self::NOW - u64::from(self.leaps) * 3650 * 24 * 3_600_000
    }

    fn apply(&mut self, subject: &Subject, input: Input) -> Reply {
        let event = self.kept.get(&subject.key).and_then(|kept| kept.event);
        let guard = subject.guard.and_then(|key| self.kept.get(&key)?.guard);
        let (after, reply) = step(Kept { event, guard }, subject, input, self.now());
        self.kept.insert(subject.key, Kept { event: after.event, guard: None });
        if let Some(key) = subject.guard {
            self.kept.insert(key, Kept { event: None, guard: after.guard });
        }
        reply
    }

    /// A restart ends every lease, unsettled.
    fn restart(&mut self) {
        for kept in self.kept.values_mut() {
            if let Some(record) = &mut kept.event
                && matches!(record.phase, Phase::Leased(_))
            {
                record.until = 0;
            }
        }
    }
}

/// An answer without the time that the test itself took.
fn rounded(reply: Reply) -> Reply {
    let round = |left: Duration| if left + PATIENCE > HOUR { HOUR } else { left };
    match reply {
        Reply::Claimed(Claimed::InFlight { left }) => {
            Reply::Claimed(Claimed::InFlight { left: round(left) })
        }
        Reply::Claimed(Claimed::Held { left }) => {
            Reply::Claimed(Claimed::Held { left: round(left) })
        }
        other => other,
    }
}

/// Runs random cases.
fn differs_never(cases: u32, store: &Compared<'_>) {
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    differs(config, store).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs random cases until a store answers as the pure functions do not, and says where.
pub(crate) fn differs(config: Config, compared: &Compared<'_>) -> Result<(), String> {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let op = prop_oneof![
        40 => inputs().prop_map(Op::Ask),
        compared.restart.map_or(0, |_| 3) => Just(Op::Restart),
        compared.lose.map_or(0, |_| 2) => Just(Op::Lose),
        compared.leap.map_or(0, |_| 3) => Just(Op::Leap),
    ];
    let ops = prop::collection::vec((0..4_usize, op), 1..40);
    let store = RefCell::new(Some((compared.open)()));
    let case = |ops: Vec<(usize, Op)>| {
        let (subjects, mut model) = (subjects(), Model::default());
        compared.leap.inspect(|leap| leap(0));
        for (which, op) in ops {
            let subject = &subjects[which];
            match (op, compared.restart, compared.lose) {
                (Op::Ask(input), ..) => {
                    let expected = model.apply(subject, input);
                    let store = store.borrow().clone().unwrap();
                    let answered = runtime.block_on(store.run(subject, input));
                    let answered = answered.map_err(|e| TestCaseError::fail(e.to_string()))?;
                    prop_assert_eq!(rounded(answered), rounded(expected), "{} {:?}", which, input);
                }
                (Op::Restart, Some(restart), _) => {
                    let old = store.take().unwrap();
                    store.replace(Some(restart(old)));
                    model.restart();
                }
                (Op::Lose, _, Some(lose)) => {
                    lose(subject);
                    model.kept.remove(&subject.key);
                }
                (Op::Leap, ..) => {
                    model.leaps = LEAPS_MAX.min(model.leaps + 1);
                    compared.leap.unwrap()(model.leaps);
                }
                (Op::Restart | Op::Lose, ..) => unreachable!("nobody asked for it"),
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&ops, case).map_err(|error| error.to_string())
}

/// Deletes what a Redis keeps about an event.
pub(crate) fn lose_in_redis(server: &redis::Server, subject: &Subject) {
    server.cli(&["del", &format!("gatepost:{}", subject.key.event_id())]);
}

/// Deletes what a file keeps about an event.
pub(crate) fn lose_in_file(dir: &Path, subject: &Subject) {
    let tables = Connection::open(dir.join("dedup.sqlite3")).unwrap();
    tables.busy_timeout(PATIENCE).unwrap();
    tables.execute("DELETE FROM event WHERE key = ?1", [subject.key.0]).unwrap();
}

#[test]
fn memory_answers_as_the_pure_functions_do() {
    differs_never(400, &Compared::new(&|| Arc::new(Memory::default())));
}

#[test]
fn embedded_answers_as_the_pure_functions_do() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Embedded::open(dir.path()).unwrap()) as Store;
    let restart = |old: Store| {
        drop(old);
        open()
    };
    let lose = |subject: &Subject| lose_in_file(dir.path(), subject);
    let store = Compared { open: &open, restart: Some(&restart), lose: Some(&lose), leap: None };
    differs_never(60, &store);
}

#[test]
fn redis_answers_as_the_pure_functions_do() {
    let server = redis::Server::start(&[]);
    let lose = |subject: &Subject| lose_in_redis(&server, subject);
    let open = || standalone(&server);
    differs_never(250, &Compared { lose: Some(&lose), ..Compared::new(&open) });
}

/// Redis counts by the wall clock.
#[test]
fn a_redis_whose_clock_leaps_answers_as_the_pure_functions_do() {
    let dir = tempfile::tempdir().unwrap();
    let clock = WallClock::in_dir(dir.path());
    let server = redis::Server::start_under(&clock.wrapper(), &[]);
    let leap = |leaps: u32| clock.set(&format!("-{}d", 3650 * leaps));
    let open = || standalone(&server);
    differs_never(100, &Compared { leap: Some(&leap), ..Compared::new(&open) });
}

#[test]
fn a_redis_cluster_answers_as_the_pure_functions_do() {
    let nodes = redis::cluster();
    let url = format!("redis+cluster://{}", nodes[0].address());
    differs_never(60, &Compared::new(&|| connect(&settings(url.clone()))));
}
