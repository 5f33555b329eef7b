//! The statistics of `benches/timing.rs`: what they find, and what they do not.

use crate::{
    dice::Dice,
    welch::{LIMIT, Timed, farthest, welch},
};

/// About as many nanoseconds as something takes, with the noise that a machine has: a few in a hundred take much longer.
fn time(dice: &mut Dice) -> u32 {
    let noise: u32 = (0..6).map(|_| dice.below(30) as u32).sum();
    let interrupted = if dice.below(40) == 0 { dice.below(50_000) as u32 } else { 0 };
    500 + noise + interrupted
}

/// Measurements of both kinds, of which one takes `more`.
fn measured(count: usize, more: impl Fn(u32) -> u32) -> Vec<Timed> {
    let mut dice = Dice(7);
    let one = |_| {
        let (kind, time) = (dice.below(2) == 0, time(&mut dice));
        (kind, if kind { more(time) } else { time })
    };
    (0..count).map(one).collect()
}

#[test]
fn t_is_welchs() {
    let two = |one: &[u32], other: &[u32]| {
        let one = one.iter().map(|time| (false, *time));
        one.chain(other.iter().map(|time| (true, *time))).collect::<Vec<_>>()
    };
    // By hand: means 3 and 6, variances 2.5 and 10, five of each: -3 / sqrt(0.5 + 2).
    let welch = |timed: Vec<Timed>| welch(&timed, u32::MAX);
    let t = welch(two(&[1, 2, 3, 4, 5], &[2, 4, 6, 8, 10])).unwrap();
    assert!((t + 1.897_366_596).abs() < 1e-9, "{t}");
    let t = welch(two(&[2, 4, 6, 8, 10], &[1, 2, 3, 4, 5])).unwrap();
    assert!((t - 1.897_366_596).abs() < 1e-9, "{t}");
    // Unequal numbers: means 10 and 12, variances 4 and 1, 3 and 5 of them.
    let t = welch(two(&[8, 10, 12], &[11, 11, 12, 13, 13])).unwrap();
    assert!((t + 2.0 / (4.0_f64 / 3.0 + 1.0 / 5.0).sqrt()).abs() < 1e-9, "{t}");
    for nothing in [two(&[1, 2], &[]), two(&[], &[]), two(&[3, 3], &[3, 3])] {
        assert_eq!(welch(nothing), None);
    }
}

#[test]
fn equal_times_are_not_told_apart() {
    let t = farthest(&measured(200_000, |time| time));
    assert!(t.abs() < LIMIT, "{t}");
}

#[test]
fn a_difference_of_a_nanosecond_is_found_under_the_noise() {
    let t = farthest(&measured(200_000, |time| time + 1));
    assert!(t.abs() > LIMIT, "{t}");
    let t = farthest(&measured(200_000, |time| time - 1));
    assert!(t.abs() > LIMIT, "{t}");
}

/// It is lost among interruptions where all are looked at alike, and lost where only the quick ones are.
#[test]
fn a_difference_is_found_wherever_it_is() {
    let quick = measured(200_000, |time| if time < 600 { time - 4 } else { time });
    assert!(farthest(&quick).abs() > LIMIT);
    let slow = measured(200_000, |time| if time > 650 { time + 8000 } else { time });
    assert!(farthest(&slow).abs() > LIMIT);
}
