//! The judgement: which route takes an event, and which routes never will.

use std::sync::Arc;

use super::{Patterns, Route, Target, pattern::overlap};
use crate::event::Name;

/// The routes of one source, in order; the first that matches wins.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<Route>,
    reject_unrouted: bool,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It goes there.
    To(Arc<Target>),
    /// The route of this name drops it.
    Dropped(Name),
    /// No route takes it.
    Unrouted,
}

/// A route that can never take anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable<'r> {
    /// The route's name.
    pub route: &'r Name,
    /// The routes before it that take everything that it would; none where it excludes all that it includes.
    pub by: Vec<&'r Name>,
}

impl Routes {
    /// Routes in order; `reject_unrouted` says what happens to what none of them takes.
    pub fn new(routes: Vec<Route>, reject_unrouted: bool) -> Self {
        Self { routes, reject_unrouted }
    }

    /// Whether what no route takes is refused.
    pub fn reject_unrouted(&self) -> bool {
        self.reject_unrouted
    }

    /// The routes, in order.
    pub fn as_slice(&self) -> &[Route] {
        &self.routes
    }

    /// What becomes of an event of type `kind`; `captured` is the value at the n-th path that routes look at.
    pub fn choose<'v>(&self, kind: &str, captured: impl Fn(usize) -> Option<&'v str>) -> Choice {
        self.first(|route| route.patterns.take(kind) && route.holds(&captured))
    }

    /// The same where the type cannot be read: only a route that takes every type takes it.
    pub fn choose_untyped<'v>(&self, captured: impl Fn(usize) -> Option<&'v str>) -> Choice {
        self.first(|route| route.patterns.take_everything() && route.holds(&captured))
    }

    fn first(&self, takes: impl FnMut(&&Route) -> bool) -> Choice {
        match self.routes.iter().find(takes) {
            Some(Route { target: Some(target), .. }) => Choice::To(Arc::clone(target)),
            Some(Route { target: None, name, .. }) => Choice::Dropped(name.clone()),
            None => Choice::Unrouted,
        }
    }

    /// Routes that can never take anything. Only what is certain: a route that is left out may still be unreachable.
    pub fn unreachable(&self) -> Vec<Unreachable<'_>> {
        let judge = |(n, route)| {
            let before = self.routes.get(..n).unwrap_or_default();
            takers(route, before).map(|by| Unreachable { route: &route.name, by })
        };
        self.routes.iter().enumerate().filter_map(judge).collect()
    }
}

impl Route {
    /// Whether the value that it looks at besides the type is right.
    fn holds<'v>(&self, captured: impl Fn(usize) -> Option<&'v str>) -> bool {
        self.when.as_ref().is_none_or(|(index, wanted)| captured(*index) == Some(wanted))
    }
}

/// The routes of `before` that leave nothing for `route`, in order; `None` where they may leave something.
fn takers<'r>(route: &Route, before: &'r [Route]) -> Option<Vec<&'r Name>> {
    let whenever = |earlier: &&Route| earlier.when.is_none() || earlier.when == route.when;
    let before: Vec<&Route> = before.iter().filter(whenever).collect();
    let mut by = Vec::new();
    for pattern in route.patterns.include() {
        by.extend(who_takes(pattern, &route.patterns, &before, SPARED_DEPTH)?);
    }
    let in_order = before.iter().map(|earlier| &earlier.name).filter(|name| by.contains(name));
    Some(in_order.collect())
}

/// How often it is asked who takes what one route spares and another spares again; bounds the work.
const SPARED_DEPTH: u8 = 2;

/// Who of `before` takes everything that `pattern` matches but `own` excludes; `None` where some of it may be left.
///
/// A pattern that is covered by several others is covered by one of them alone (try it with letters that none of them
/// names), so it is enough to look for one; what that one spares must then be taken by others.
fn who_takes<'r>(
    pattern: &str,
    own: &Patterns,
    before: &[&'r Route],
    depth: u8,
) -> Option<Vec<&'r Name>> {
    if own.excluded_by(pattern).is_some() {
        return Some(Vec::new());
    }
    before.iter().find_map(|earlier| {
        earlier.patterns.included_by(pattern)?;
        let mut by = vec![&earlier.name];
        for spared in earlier.patterns.exclude().iter().filter(|s| overlap(s, pattern)) {
            by.extend(who_takes(spared, own, before, depth.checked_sub(1)?)?);
        }
        Some(by)
    })
}
