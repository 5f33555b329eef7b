//! Every store answers as the pure functions do, whatever is asked in whatever order.
//!
//! Times are either over at once or far away, so that no answer depends on how fast the machine is.

use std::cell::RefCell;

use gatepost::dedup::claim::{Kept, Phase, Reply, step};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::Runtime;

use super::*;

/// Which of the subjects of a case, and what happens to it; `None` is a restart.
type Op = (usize, Option<Input>);

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
struct Model(std::collections::HashMap<EventKey, Kept>);

impl Model {
    const NOW: u64 = 1_000_000;

    fn apply(&mut self, subject: &Subject, input: Input) -> Reply {
        let event = self.0.get(&subject.key).and_then(|kept| kept.event);
        let guard = subject.guard.and_then(|key| self.0.get(&key)?.guard);
        let (after, reply) = step(Kept { event, guard }, subject, input, Self::NOW);
        self.0.insert(subject.key, Kept { event: after.event, guard: None });
        if let Some(key) = subject.guard {
            self.0.insert(key, Kept { event: None, guard: after.guard });
        }
        reply
    }

    /// A restart ends every lease, unsettled.
    fn restart(&mut self) {
        for kept in self.0.values_mut() {
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

/// Runs random cases; `restart` gives back a store that has forgotten nothing but its leases.
fn differs_never(
    cases: u32,
    restarts: u32,
    open: impl Fn() -> Store,
    restart: impl Fn(Store) -> Store,
) {
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    differs(config, restarts, open, restart).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs random cases until a store answers as the pure functions do not, and says where.
pub(crate) fn differs(
    config: Config,
    restarts: u32,
    open: impl Fn() -> Store,
    restart: impl Fn(Store) -> Store,
) -> Result<(), String> {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let op = prop_oneof![40 => inputs().prop_map(Some), restarts => Just(None)];
    let ops = prop::collection::vec((0..4_usize, op), 1..40);
    let store = RefCell::new(Some(open()));
    let case = |ops: Vec<Op>| {
        let (subjects, mut model) = (subjects(), Model::default());
        for (which, input) in ops {
            let Some(input) = input else {
                let old = store.take().unwrap();
                store.replace(Some(restart(old)));
                model.restart();
                continue;
            };
            let expected = model.apply(&subjects[which], input);
            let store = store.borrow().clone().unwrap();
            let answered = runtime.block_on(store.run(&subjects[which], input));
            let answered = answered.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(rounded(answered), rounded(expected), "{} {:?}", which, input);
        }
        Ok(())
    };
    TestRunner::new(config).run(&ops, case).map_err(|error| error.to_string())
}

pub(crate) fn never(_: Store) -> Store {
    unreachable!("no restarts were asked for")
}

#[test]
fn memory_answers_as_the_pure_functions_do() {
    differs_never(400, 0, || Arc::new(Memory::default()), never);
}

#[test]
fn embedded_answers_as_the_pure_functions_do() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Embedded::open(dir.path()).unwrap()) as Store;
    differs_never(60, 3, open, |old| {
        drop(old);
        open()
    });
}

#[test]
fn redis_answers_as_the_pure_functions_do() {
    let server = redis::Server::start(&[]);
    differs_never(250, 0, || standalone(&server), never);
}

#[test]
fn a_redis_cluster_answers_as_the_pure_functions_do() {
    let nodes = redis::cluster();
    let url = format!("redis+cluster://{}", nodes[0].address());
    differs_never(60, 0, || connect(&settings(url.clone())), never);
}
