//! The protocol, in every order of events: the product's own functions for what is kept (`dedup::claim::step`), for what a
//! request does next (`dedup::course`) and for who waits for whom (`dedup::twins`), under the stateright model checker.
//!
//! `GATEPOST_MODEL_SIZE=long` checks more requests and more faults at once; `tests/long model` does that in release.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and say how much they saw"
)]

mod bugs;
mod effects;
mod moves;
mod promises;
mod settle;
mod time;
mod world;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatepost::{
    dedup::{OnStoreError, Policy, Subject},
    event::{Digest, EventKey},
};
use stateright::{Checker, HasDiscoveries, Model};

use bugs::{BUGS, Bug};
use world::{ALL_FAULTS, Fault, Gate, HOLD, Known, LEASE, WINDOW};

/// Whether there is time for the large worlds.
fn long() -> bool {
    std::env::var("GATEPOST_MODEL_SIZE").is_ok_and(|size| size == "long")
}

fn policy() -> Policy {
    Policy {
        window: WINDOW,
        lease: LEASE,
        join_timeout: LEASE,
        hold: HOLD,
        replay_guard: true,
        on_store_error: OnStoreError::Reject,
    }
}

fn event(source: u8, id: &str, body: &str, guard: Option<&str>) -> (u8, Subject) {
    let of = |parts: &[&[u8]]| EventKey::of(parts);
    let guard = guard.map(|bytes| of(&[b"guard", &[source], bytes.as_bytes()]));
    let key = of(&[&[source], id.as_bytes()]);
    (source, Subject { key, guard, suppress: true, digest: Digest::of(body.as_bytes()) })
}

/// A world of these requests, each with its gateway and its event.
fn world(requests: &[(usize, usize)], events: &[(u8, Subject)], faults: u8) -> Gate {
    let (mut keys, mut guards) = (Vec::new(), Vec::new());
    let slot_of = |keys: &mut Vec<EventKey>, key: EventKey| {
        keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        })
    };
    let known = |&(source, subject): &(u8, Subject)| Known {
        subject,
        source,
        slot: slot_of(&mut keys, subject.key),
        guard: subject.guard.map(|guard| slot_of(&mut guards, guard)),
    };
    Gate {
        requests: requests.to_vec(),
        events: events.iter().map(known).collect(),
        slots: keys.len(),
        guards: guards.len(),
        gateways: requests.iter().map(|(gateway, _)| gateway + 1).max().unwrap(),
        policy: policy(),
        by_bytes: false,
        faults,
        kinds: ALL_FAULTS,
        bug: None,
    }
}

/// One event: two requests at one gateway, one at another.
fn twins(faults: u8) -> Gate {
    world(&[(0, 0), (0, 0), (1, 0)], &[event(0, "id", "body", None)], faults)
}

/// What makes words arrive at the wrong time.
const LATE: &[Fault] = &[Fault::Store, Fault::Pause];

/// What a clock that is set back makes worse.
const BACK: &[Fault] = &[Fault::Clock, Fault::Crash, Fault::Store];

/// Two requests at each of two gateways.
const FOUR: [(usize, usize); 4] = [(0, 0), (0, 0), (1, 0), (1, 0)];

/// One request about each of two events at each of two gateways.
const TWO_EACH: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// Two sources whose providers use the same id.
fn sources(faults: u8) -> Gate {
    let events = [event(0, "id", "body", None), event(1, "id", "body", None)];
    world(&[(0, 0), (0, 1), (1, 0)], &events, faults)
}

/// One id with two bodies, which are one event or two.
fn bodies(faults: u8, by_bytes: bool) -> Gate {
    let events = ["one", "two"].map(|body| {
        let (source, subject) = event(0, "id", body, None);
        let key = EventKey::of(&[&subject.key.0, &subject.digest.0]);
        (source, if by_bytes { Subject { key, ..subject } } else { subject })
    });
    Gate { by_bytes, ..world(&[(0, 0), (0, 1), (1, 0)], &events, faults) }
}

/// Two ids with the same signed bytes.
fn replays(faults: u8) -> Gate {
    let events = [event(0, "id", "body", Some("bytes")), event(0, "new", "body", Some("bytes"))];
    world(&[(0, 0), (0, 0), (1, 1)], &events, faults)
}

fn print(name: &str, began: Instant, checked: &impl Checker<Gate>) {
    let (states, depth) = (checked.unique_state_count(), checked.max_depth());
    println!(
        "model: {name}: {states} states, {depth} deep, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// Looks at every state of a world; all promises hold. Returns what was reached.
fn keeps_its_promises(name: &str, gate: Gate) -> (Vec<&'static str>, usize) {
    let began = Instant::now();
    let checked = gate.checker().threads(2).spawn_bfs().join();
    print(name, began, &checked);
    let mut reached = Vec::new();
    for (property, path) in checked.discoveries() {
        let broken = property.starts_with('S');
        assert!(!broken, "{name}: {property}\n{:#?}", path.into_actions());
        reached.push(property);
    }
    (reached, checked.unique_state_count())
}

/// Checks worlds; everything that must be reachable is reached in one of them.
fn all_keep_their_promises(worlds: Vec<(&str, Gate)>) -> (Vec<&'static str>, usize) {
    let (mut reached, mut states) = (Vec::new(), 0);
    for (name, gate) in worlds {
        let (more, count) = keeps_its_promises(name, gate);
        reached.extend(more);
        states += count;
    }
    (reached, states)
}

/// Promises about what never happens are worth nothing.
fn all_happen(wanted: &[&str], reached: &[&str]) {
    let never: Vec<_> = wanted.iter().filter(|name| !reached.contains(name)).collect();
    assert!(never.is_empty() && !wanted.is_empty(), "never happened: {never:#?}");
}

#[test]
fn one_event_in_every_order() {
    let mut worlds = vec![
        ("four requests", Gate { requests: FOUR.to_vec(), ..twins(0) }),
        ("three requests, a fault", twins(1)),
        ("three requests, two faults", twins(2)),
        ("three faults of store and time", Gate { kinds: LATE, ..twins(3) }),
        ("a clock that is set back", Gate { kinds: BACK, ..twins(2) }),
        ("without hold", Gate { policy: Policy { hold: Duration::ZERO, ..policy() }, ..twins(1) }),
    ];
    if long() {
        worlds.push(("four requests, two faults", Gate { requests: FOUR.to_vec(), ..twins(2) }));
        worlds.push(("three requests, three faults", twins(3)));
    }
    let (reached, states) = all_keep_their_promises(worlds);
    all_happen(&promises::reachable(false), &reached);
    let enough = if long() { 1_000_000 } else { 100_000 };
    assert!(states > enough, "{states} states are too few to mean anything");
}

#[test]
fn several_events_in_every_order() {
    let forward = Policy { on_store_error: OnStoreError::Forward, ..policy() };
    let faults = if long() { 2 } else { 1 };
    let mut worlds = vec![
        ("two sources, one id", sources(faults)),
        ("one id, two bodies, flagged", Gate { requests: TWO_EACH.to_vec(), ..bodies(1, false) }),
        ("one id, two bodies, delivered", bodies(faults, true)),
        ("two ids, the same signed bytes", replays(faults)),
        ("forwarded while the store is away", Gate { policy: forward, ..twins(faults) }),
    ];
    if long() {
        worlds.push(("one id, two bodies, flagged, two faults", bodies(faults, false)));
    }
    let (reached, _) = all_keep_their_promises(worlds);
    all_happen(&promises::reachable(true), &reached);
}

/// The smallest world in which a mistake can show.
fn world_of(bug: Bug) -> Gate {
    let gate = match bug {
        Bug::OtherBodyShares => bodies(0, false),
        Bug::KeyWithoutBody => Gate { by_bytes: true, ..bodies(0, false) },
        Bug::GuardAtClaim => replays(1),
        Bug::ShortWindow => Gate { policy: Policy { window: LEASE / 2, ..policy() }, ..twins(0) },
        Bug::KeyWithoutSource => {
            let mut events = [event(0, "id", "body", None), event(1, "id", "body", None)];
            events[1].1.key = events[0].1.key;
            world(&[(0, 0), (0, 1), (1, 0)], &events, 0)
        }
        Bug::RevivesLease => Gate { kinds: LATE, ..twins(3) },
        Bug::TrustsClock => Gate { kinds: BACK, ..twins(1) },
        Bug::LetGoBlindly | Bug::OneToken | Bug::DoubtForgotten | Bug::LostIsLeft => twins(2),
        _ => twins(1),
    };
    Gate { bug: Some(bug), ..gate }
}

#[test]
fn every_seeded_mistake_is_caught_by_its_promise() {
    for (bug, promise) in BUGS {
        let began = Instant::now();
        let found = HasDiscoveries::AnyOf(BTreeSet::from([promise.name()]));
        let checked = world_of(bug).checker().threads(2).finish_when(found).spawn_bfs().join();
        print(&format!("{bug:?}"), began, &checked);
        let path = checked.discovery(promise.name());
        let path = path.unwrap_or_else(|| panic!("{bug:?} does not break {}", promise.name()));
        println!("model: {bug:?} breaks {} in {} moves", promise.name(), path.into_actions().len());
    }
}
