//! The protocol, by example and by looking at every state that three twins can reach in a bounded time.

use std::collections::{HashSet, VecDeque};

use gatepost::{
    answer::Outcome,
    dedup::{
        claim::{Kept, Millis, Reply, step},
        course::{self, Way, Won},
        twins::{Led, Place, Twins, Waiter},
    },
};

use super::*;

const LEASE: Duration = Duration::from_millis(2);
const WINDOW: Duration = Duration::from_millis(5);

fn subject() -> Subject {
    let guard = Some(EventKey::of(&[b"signed bytes"]));
    Subject { key: EventKey::of(&[b"id"]), guard, suppress: true, digest: Digest::of(b"body") }
}

fn other_id() -> Subject {
    Subject { key: EventKey::of(&[b"other id"]), ..subject() }
}

fn won(attempt: u32, after_unknown: bool) -> Reply {
    Reply::Claimed(Claimed::Won { attempt, after_unknown })
}

/// Runs inputs at their times and returns the answers.
fn run(inputs: &[(Millis, Input)]) -> Vec<Reply> {
    let mut kept = Kept::default();
    let answer = |&(now, input): &(Millis, Input)| {
        let (after, reply) = step(kept, &subject(), input, now);
        kept = after;
        reply
    };
    inputs.iter().map(answer).collect()
}

fn claim_by(token: Token) -> Input {
    Input::Claim(token, LEASE, WINDOW)
}

#[test]
fn a_claim_is_repeatable_and_keeps_others_out() {
    let replies = run(&[(10, claim_by(A)), (11, claim_by(A)), (12, claim_by(B))]);
    let left = Duration::from_millis(1);
    assert_eq!(replies, [won(1, false), won(1, false), Reply::Claimed(Claimed::InFlight { left })]);
}

#[test]
fn a_released_event_is_tried_again_and_counted() {
    let replies = run(&[(10, claim_by(A)), (10, Input::Release(A)), (10, claim_by(B))]);
    assert_eq!(replies, [won(1, false), Reply::Applied(true), won(2, false)]);
}

#[test]
fn the_next_attempt_is_told_of_one_that_ended_in_the_dark() {
    let lapsed = run(&[(10, claim_by(A)), (12, claim_by(B))]);
    assert_eq!(lapsed[1], won(2, true), "the lease ran out unsettled");
    let held = run(&[(10, claim_by(A)), (10, Input::Hold(A, LEASE)), (12, claim_by(B))]);
    assert_eq!(held[2], won(2, true), "the hold is over");
    let at_once =
        run(&[(10, claim_by(A)), (10, Input::Hold(A, Duration::ZERO)), (10, claim_by(B))]);
    assert_eq!(at_once[2], won(2, true), "a hold of no time at all");
    let later =
        run(&[(10, claim_by(A)), (12, claim_by(B)), (12, Input::Release(B)), (12, claim_by(A))]);
    assert_eq!(later[3], won(3, true), "it is not forgotten by a later release");
}

#[test]
fn done_is_written_over_everything_and_ends_with_its_window() {
    let done = |same_body| Reply::Claimed(Claimed::Done { same_body });
    for before in [Input::Renew(A, LEASE), claim_by(B), Input::Release(B)] {
        let replies = run(&[(10, before), (10, Input::Complete(WINDOW)), (14, claim_by(A))]);
        assert_eq!(replies[2], done(true), "after {before:?}");
    }
    let replies = run(&[(10, Input::Complete(WINDOW)), (10, Input::Release(A)), (15, claim_by(A))]);
    assert_eq!(replies[1..], [Reply::Applied(false), won(1, false)]);
    let other = Subject { digest: Digest::of(b"other body"), ..subject() };
    let (kept, _) = step(Kept::default(), &subject(), Input::Complete(WINDOW), 10);
    assert_eq!(step(kept, &other, claim_by(A), 11).1, done(false));
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_away() {
    let set_back = |before| run(&[(100, claim_by(A)), (100, before), (1, claim_by(B))])[2];
    assert_eq!(set_back(Input::Renew(A, LEASE)), won(2, true), "a lease");
    assert_eq!(set_back(Input::Hold(A, LEASE)), won(2, true), "a hold");
    let done = Reply::Claimed(Claimed::Done { same_body: true });
    assert_eq!(set_back(Input::Complete(WINDOW)), done, "what is done stays done");
    // One that is put right by no more than the lease ends nothing.
    let left = LEASE * 2;
    let replies = run(&[(10, claim_by(A)), (8, claim_by(B)), (8, Input::Renew(A, LEASE))]);
    assert_eq!(replies[1..], [Reply::Claimed(Claimed::InFlight { left }), Reply::Applied(true)]);
}

#[test]
fn the_guard_suppresses_other_ids_of_what_completed_only() {
    let (kept, _) = step(Kept::default(), &subject(), Input::Complete(WINDOW), 10);
    let seen_as = |subject: &Subject, guard, now| {
        step(Kept { event: None, guard }, subject, claim_by(A), now).1
    };
    assert_eq!(seen_as(&other_id(), kept.guard, 11), Reply::Claimed(Claimed::Replayed));
    assert_eq!(seen_as(&other_id(), kept.guard, 15), won(1, false), "after its window");
    assert_eq!(seen_as(&subject(), kept.guard, 11), won(1, false), "never the id that wrote it");
    let lenient = Subject { suppress: false, ..other_id() };
    assert_eq!(seen_as(&lenient, kept.guard, 11), won(1, false), "only where it shall");
    let (claimed, _) = step(Kept::default(), &subject(), claim_by(A), 10);
    assert_eq!(claimed.guard, None, "a claim writes none");
}

#[test]
fn no_time_overflows() {
    let later = u64::from(u32::MAX);
    let inputs = [Input::Claim(A, Duration::MAX, Duration::MAX), Input::Renew(A, Duration::MAX)];
    let replies = run(&[(10, inputs[0]), (later, inputs[1]), (later * 2, claim_by(B))]);
    assert_eq!(replies[1], Reply::Applied(true));
    assert!(matches!(replies[2], Reply::Claimed(Claimed::InFlight { .. })));
}

#[test]
fn times_are_kept_as_asked_for_up_to_ten_years() {
    let years = Duration::from_hours(10 * 366 * 24);
    for asked in [years, years + Duration::from_millis(1), Duration::MAX] {
        let (kept, _) = step(Kept::default(), &subject(), Input::Claim(A, asked, asked), 7);
        let until = kept.event.expect("claimed").until;
        assert_eq!(u128::from(until), 7 + years.as_millis());
    }
}

#[test]
fn a_claim_is_renewed_where_the_work_would_outlast_it() {
    let secs = Duration::from_secs;
    for (left, term) in [(secs(5), None), (secs(4), Some(secs(60)))] {
        assert_eq!(course::shortfall(left, secs(5), secs(60)), term);
    }
    assert_eq!(course::shortfall(secs(5), secs(90), secs(60)), Some(secs(90)));
}

/// A request that waits, or waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twin {
    Waits,
    Gone,
}

impl Waiter for Twin {
    fn gone(&self) -> bool {
        *self == Self::Gone
    }
}

/// Those with another body count and stay as those with the same one do.
#[test]
fn a_thousand_wait_for_a_leader_and_only_who_has_gone_makes_room() {
    let same = subject();
    let other = Subject { digest: Digest::of(b"other body"), ..same };
    // Of the same body and of another one, how many wait and how many have gone.
    let crowds =
        [[(1024, 0), (0, 0)], [(0, 0), (1024, 0)], [(1, 1), (1022, 0)], [(300, 0), (700, 24)]];
    for crowd in crowds {
        let mut all = Twins::<Twin, ()>::new(Token(0));
        let first = all.enter(&same, || unreachable!("it leads"));
        assert!(matches!(first, Place::Leader { token: Token(1), doubtful: false }));
        for (subject, (waiting, gone)) in [same, other].iter().zip(crowd) {
            for twin in [vec![Twin::Waits; waiting], vec![Twin::Gone; gone]].concat() {
                assert!(matches!(all.enter(subject, || twin), Place::Waiting), "{crowd:?}");
            }
        }
        let has_room = crowd.iter().any(|(_, gone)| *gone > 0);
        for subject in [same, other] {
            let place = all.enter(&subject, || Twin::Gone);
            assert_eq!(matches!(place, Place::Waiting), has_room, "{crowd:?}: {place:?}");
            assert_eq!(matches!(place, Place::Full), !has_room, "{crowd:?}: {place:?}");
        }
        let Led { twins, others, .. } = all.vacate(&same.key).expect("it led");
        let waiting = |all: Vec<Twin>| all.iter().filter(|twin| !twin.gone()).count();
        let left = [waiting(twins), waiting(others)];
        assert_eq!(left, crowd.map(|(waiting, _)| waiting), "nobody is sent away for it");
    }
}

/// Whether a claim may be left there that nobody works under, and that nothing is done behind.
#[test]
fn a_claim_without_an_answer_is_looked_after_unless_it_is_over() {
    let rows = [
        (Way::Work(None), false),
        (Way::Work(Some(Won { attempt: 1, after_unknown: false })), false),
        (Way::Known(Outcome::Duplicate(None)), false),
        (Way::Known(Outcome::SameIdOtherBody), false),
        (Way::Known(Outcome::SuspectedReplay), true),
        (Way::Later(HOUR), true),
        (Way::Doubt(StoreError("away".into())), true),
    ];
    for (way, looks_after) in rows {
        assert_eq!(course::looks_after(&way), looks_after, "{way:?}");
    }
}

#[test]
fn claims_without_an_answer_are_remembered_up_to_a_limit_until_they_are_over() {
    const MOST: u64 = 4096;
    let mut twins = Twins::<Twin, ()>::new(Token(0));
    let key = |n: u64| EventKey::of(&[&n.to_be_bytes()]);
    let now = Instant::now();
    let over = now + HOUR;
    for n in 0..=MOST {
        twins.unanswered(key(n), Token(n.into()), over, now);
    }
    assert_eq!(twins.unanswered.len() as u64, MOST);
    assert!(!twins.unanswered.contains_key(&key(MOST)), "nothing live is forgotten for it");
    twins.unanswered(key(MOST), Token(1), over + HOUR, over);
    assert!(twins.unanswered.keys().eq([&key(MOST)]), "what is over is");
}

/// What an observer knows without looking at what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Observed {
    /// Who was told that it owns the event, and until when.
    owner: Option<(Token, Millis)>,
    held_until: Millis,
    done_until: Millis,
    attempt: u32,
    tried_until: Millis,
}

impl Observed {
    fn owns(&self, token: Token, now: Millis) -> bool {
        self.owner.is_some_and(|(owner, until)| owner == token && now < until)
    }

    /// Checks an answer against what was observed so far, and takes it in.
    fn check(&mut self, input: Input, reply: Reply, now: Millis) {
        let ends = |span| now + u64::try_from(Duration::as_millis(&span)).unwrap();
        match (input, reply) {
            (Input::Claim(token, lease, window), Reply::Claimed(claimed)) => {
                self.check_claim(token, claimed, now);
                if let Claimed::Won { attempt, .. } = claimed {
                    (self.owner, self.attempt) = (Some((token, ends(lease))), attempt);
                    self.tried_until = ends(window.max(lease));
                }
            }
            (Input::Complete(window), Reply::Applied(true)) => {
                *self = Self { done_until: ends(window), ..Self::default() };
            }
            (Input::Release(token), Reply::Applied(ours)) => {
                assert_eq!(ours, self.owns(token, now), "only the owner releases");
                self.owner = self.owner.filter(|_| !ours);
            }
            (Input::Hold(token, time), Reply::Applied(ours)) => {
                assert_eq!(ours, self.owns(token, now), "only the owner holds");
                if ours {
                    (self.owner, self.held_until) = (None, ends(time));
                }
            }
            (Input::Renew(token, lease), Reply::Applied(ours)) => {
                assert_eq!(ours, self.owns(token, now), "only the owner renews");
                if ours {
                    self.owner = Some((token, ends(lease)));
                }
            }
            (input, reply) => panic!("{input:?} was answered {reply:?}"),
        }
    }

    fn check_claim(&self, token: Token, claimed: Claimed, now: Millis) {
        let done = now < self.done_until;
        let busy = now < self.held_until || self.owner.is_some_and(|(_, until)| now < until);
        match claimed {
            Claimed::Done { same_body } => assert!(done && same_body),
            Claimed::InFlight { left } => {
                assert!(!done && now >= self.held_until && busy && !self.owns(token, now));
                assert!(!left.is_zero(), "a wait has a length");
            }
            Claimed::Held { left } => {
                assert!(!done && left == Duration::from_millis(self.held_until - now));
            }
            Claimed::Won { attempt, .. } => {
                assert!(!done && (!busy || self.owns(token, now)), "two owners at once");
                let remembered = now < self.tried_until && !self.owns(token, now);
                assert!(!remembered || attempt == self.attempt + 1, "attempts are counted");
            }
            Claimed::Replayed => panic!("nothing was completed under another id"),
        }
    }
}

#[test]
fn every_reachable_state_keeps_the_promises() {
    let mut inputs = vec![Input::Complete(WINDOW)];
    for token in [A, B, Token(3)] {
        inputs.extend([claim_by(token), Input::Release(token)]);
        inputs.extend([Input::Hold(token, LEASE), Input::Renew(token, LEASE)]);
    }
    let mut seen = HashSet::new();
    let mut next = VecDeque::from([(Kept::default(), Observed::default(), 1)]);
    while let Some((kept, observed, now)) = next.pop_front() {
        if now > 10 || observed.attempt > 3 || !seen.insert((kept, observed, now)) {
            continue;
        }
        next.push_back((kept, observed, now + 1));
        for &input in &inputs {
            let (after, reply) = step(kept, &subject(), input, now);
            let mut observed = observed;
            observed.check(input, reply, now);
            next.push_back((after, observed, now));
        }
    }
    assert!(seen.len() > 3000, "{} states are too few to mean anything", seen.len());
}
