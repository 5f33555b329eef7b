//! Which route takes what, why, and which never take anything.

use std::{sync::Arc, time::Duration};

use gatepost::{
    event::Name,
    route::{Choice, Patterns, Route, Routes, Target},
};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn patterns(list: &[&str]) -> Patterns {
    Patterns::parse(&list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
}

/// A route to an upstream of the same name; names that begin with `drop` drop.
fn route(text: &str, list: &[&str], when: Option<(usize, &str)>) -> Route {
    let target = Target {
        route: name(text),
        upstream: name(text),
        timeout: Duration::from_secs(1),
        reply_full: false,
    };
    Route {
        name: name(text),
        patterns: patterns(list),
        when: when.map(|(index, value)| (index, value.to_owned())),
        target: (!text.starts_with("drop")).then(|| Arc::new(target)),
    }
}

fn chosen(choice: Choice) -> Option<String> {
    match choice {
        Choice::To(target) => Some(target.route.to_string()),
        Choice::Dropped(route) => Some(route.to_string()),
        Choice::Unrouted => None,
    }
}

fn shop() -> Routes {
    let routes = vec![
        route("money-in", &["invoice.*", "payment_intent.*", "!invoice.upcoming"], None),
        route("big", &["customer.*"], Some((0, "enterprise"))),
        route("drop-noise", &["*.upcoming", "balance.available"], None),
        route("customers", &["customer.*"], None),
    ];
    Routes::new(routes, false)
}

#[test]
fn patterns_take_runs_of_anything() {
    let table: [(&[&str], &str, bool); 14] = [
        (&["customer.*"], "customer.subscription.created", true),
        (&["customer.*"], "Customer.created", false),
        (&["customer.*"], "customer", false),
        (&["orders/*"], "orders/create", true),
        (&["*"], "", true),
        (&[], "anything", true),
        (&["!a"], "a", false),
        (&["!a"], "b", true),
        (&["!a*", "ab"], "ab", false),
        (&["a*a"], "a", false),
        (&["a*b*c"], "abbc", true),
        (&["*.created"], "x.created.created", true),
        (&["**"], "x", true),
        (&["a.b"], "a.b", true),
    ];
    for (list, kind, takes) in table {
        assert_eq!(patterns(list).take(kind), takes, "{list:?} {kind}");
    }
    assert!(patterns(&["a", "**"]).take_everything());
    assert!(!patterns(&["*", "!a"]).take_everything());
    assert!(!patterns(&["a*"]).take_everything());
}

#[test]
fn the_first_route_that_takes_it_wins() {
    let table = [
        ("invoice.paid", None, Some("money-in")),
        ("invoice.upcoming", None, Some("drop-noise")),
        ("customer.created", Some("enterprise"), Some("big")),
        ("customer.created", Some("small"), Some("customers")),
        ("customer.created", None, Some("customers")),
        ("charge.failed", None, None),
    ];
    for (kind, tier, taker) in table {
        let choice = shop().choose(kind, |n| tier.filter(|_| n == 0));
        assert_eq!(chosen(choice).as_deref(), taker, "{kind}");
    }
    assert_eq!(shop().choose_untyped(|_| None), Choice::Unrouted);
}

/// Who leaves nothing for the last of these.
fn takers(lists: &[&[&str]]) -> Option<Vec<usize>> {
    let mut all: Vec<_> = lists.iter().map(|list| patterns(list)).collect();
    let last = all.pop().unwrap();
    last.taken_by(&all).map(|by| by.into_iter().collect())
}

#[test]
fn routes_that_can_never_take_anything_are_found() {
    let table: [(&[&[&str]], Option<&[usize]>); 9] = [
        (&[&["*"], &["x.*"]], Some(&[0])),
        (&[&["x.*"], &["x.y.*", "x.z"]], Some(&[0])),
        (&[&["x.*"], &["y"], &["y", "x.z"]], Some(&[0, 1])),
        (&[&["x.*", "!x.y"], &["x.*"]], None),
        (&[&["x.*", "!x.y"], &["x.*", "!x.y*"]], Some(&[0])),
        (&[&["x.*", "!*.y"], &["x.z"]], Some(&[0])),
        (&[&["x.*", "!x.y"], &["*.y"], &["x.*"]], Some(&[0, 1])),
        (&[&["x.*"], &["*"]], None),
        (&[&["x.y", "!x.*"]], Some(&[])),
    ];
    for (lists, by) in table {
        assert_eq!(takers(lists).as_deref(), by, "{lists:?}");
    }
}

#[test]
fn many_routes_are_judged_quickly() {
    let spares: Vec<String> = (0..20).map(|n| format!("!x{n}*")).chain(["*".to_owned()]).collect();
    let spares: Vec<&str> = spares.iter().map(String::as_str).collect();
    assert_eq!(takers(&[&spares[..]; 60]), Some(vec![0]));
}

proptest! {
    #[test]
    fn a_route_that_is_called_unreachable_takes_nothing(
        lists in prop::collection::vec(prop::collection::vec("!?[ab*]{1,3}", 1..4), 1..5),
        kinds in prop::collection::vec("[abz]{1,5}", 50),
    ) {
        let lists: Vec<_> = lists.iter().map(|list| Patterns::parse(list)).collect();
        let (last, before) = lists.split_last().unwrap();
        let is_unreachable = last.taken_by(before).is_some();
        for kind in kinds {
            let is_left = last.take(&kind) && !before.iter().any(|earlier| earlier.take(&kind));
            prop_assert!(!(is_unreachable && is_left), "{kind} is left");
        }
    }

    #[test]
    fn matches_what_the_definition_says(pattern in "[ab*]{0,6}", text in "[ab]{0,9}") {
        prop_assert_eq!(patterns(&[&pattern]).take(&text), naive(pattern.as_bytes(), text.as_bytes()));
    }
}

/// The definition, tried in every way.
fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
    }
}

/// All texts of up to seven letters: two, and a third that no pattern names.
fn texts() -> impl Iterator<Item = String> {
    let longer = |texts: &Vec<String>| -> Vec<String> {
        texts.iter().flat_map(|text| ["a", "b", "z"].map(|c| format!("{text}{c}"))).collect()
    };
    let lengths =
        std::iter::successors(Some(vec![String::new()]), move |texts| Some(longer(texts)));
    lengths.take(8).flatten()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// One pattern leaves nothing for another if and only if no text tells them apart; and what a route spares is left for
    /// the next if and only if some text is matched by both.
    #[test]
    fn unreachable_is_exact(one in "[ab*]{1,4}", other in "[ab*]{1,3}") {
        let matching = |p: &str, t: &str| naive(p.as_bytes(), t.as_bytes());
        let is_unreachable = |first: &[&str], second: &str| takers(&[first, &[second]]).is_some();
        let covers = texts().all(|t| !matching(&other, &t) || matching(&one, &t));
        prop_assert_eq!(is_unreachable(&[&one], &other), covers);
        let spares = texts().any(|t| matching(&other, &t) && matching(&one, &t));
        prop_assert_eq!(is_unreachable(&["*", &format!("!{one}")], &other), !spares);
    }
}
