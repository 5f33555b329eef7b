//! Which route takes what, why, and which never take anything.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{sync::Arc, time::Duration};

use gatepost::{
    event::Name,
    route::{Choice, Judgement, Patterns, Route, Routes, Target},
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

#[test]
fn every_route_says_what_it_does_and_why() {
    let routes = shop();
    let judged = |kind: &str, tier: Option<&'static str>| {
        let explained = routes.explain(kind, |_| tier);
        explained.into_iter().map(|e| e.judgement).collect::<Vec<_>>()
    };
    let no_match = |n: usize| Judgement::NoMatch(routes.as_slice()[n].patterns.include());
    let unreached = || Judgement::Unreached;
    assert_eq!(
        judged("customer.created", None),
        [
            no_match(0),
            Judgement::NotEqual(0, "enterprise"),
            no_match(2),
            Judgement::Takes("customer.*")
        ]
    );
    assert_eq!(
        judged("invoice.upcoming", None),
        [
            Judgement::Excluded("invoice.upcoming"),
            no_match(1),
            Judgement::Takes("*.upcoming"),
            unreached()
        ]
    );
    assert_eq!(
        judged("customer.x", Some("enterprise")),
        [no_match(0), Judgement::Takes("customer.*"), unreached(), unreached()]
    );
}

#[test]
fn routes_that_can_never_take_anything_are_found() {
    let when = Some((0, "a"));
    let table: [(&[Route], &[&str]); 10] = [
        (&[route("a", &["*"], None), route("b", &["x.*"], None)], &["b by a"]),
        (&[route("a", &["x.*"], None), route("b", &["x.y.*", "x.z"], None)], &["b by a"]),
        (
            &[
                route("a", &["x.*"], None),
                route("c", &["y"], None),
                route("b", &["y", "x.z"], None),
            ],
            &["b by a c"],
        ),
        (&[route("a", &["x.*", "!x.y"], None), route("b", &["x.*"], None)], &[]),
        (&[route("a", &["x.*", "!x.y"], None), route("b", &["x.*", "!x.y*"], None)], &["b by a"]),
        (&[route("a", &["x.*", "!*.y"], None), route("b", &["x.z"], None)], &["b by a"]),
        (
            &[
                route("a", &["x.*", "!x.y"], None),
                route("c", &["*.y"], None),
                route("b", &["x.*"], None),
            ],
            &["b by a c"],
        ),
        (&[route("a", &["*"], when), route("b", &["*"], None)], &[]),
        (&[route("a", &["*"], when), route("b", &["x"], when)], &["b by a"]),
        (&[route("a", &["x.y", "!x.*"], None)], &["a by"]),
    ];
    for (list, wanted) in table {
        let routes = Routes::new(list.to_vec(), false);
        let found: Vec<_> = routes
            .unreachable()
            .into_iter()
            .map(|u| u.by.iter().fold(format!("{} by", u.route), |text, by| format!("{text} {by}")))
            .collect();
        assert_eq!(found, wanted, "{list:?}");
    }
}

#[test]
fn many_routes_are_judged_quickly() {
    let spares: Vec<String> = (0..20).map(|n| format!("!x{n}*")).chain(["*".to_owned()]).collect();
    let spares: Vec<&str> = spares.iter().map(String::as_str).collect();
    let routes = (0..60).map(|n| route(&format!("r{n}"), &spares, None)).collect();
    assert_eq!(Routes::new(routes, false).unreachable().len(), 59);
}

proptest! {
    #[test]
    fn a_route_that_is_called_unreachable_takes_nothing(
        lists in prop::collection::vec(prop::collection::vec("!?[ab*]{1,3}", 1..4), 1..5),
        kinds in prop::collection::vec("[abz]{1,5}", 50),
    ) {
        let route = |(n, list): (usize, &Vec<String>)| {
            let list: Vec<_> = list.iter().map(String::as_str).collect();
            route(&format!("r{n}"), &list, None)
        };
        let routes = Routes::new(lists.iter().enumerate().map(route).collect(), false);
        let never: Vec<_> = routes.unreachable().iter().map(|u| u.route.to_string()).collect();
        for kind in kinds {
            let taker = chosen(routes.choose(&kind, |_| None)).unwrap_or_default();
            prop_assert!(!never.contains(&taker), "{taker} takes {kind}");
        }
    }
}
