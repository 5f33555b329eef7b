//! The judgement: which route takes an event.

use std::sync::Arc;

use super::{Route, Target};
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
}

impl Route {
    /// Whether the value that it looks at besides the type is right.
    fn holds<'v>(&self, captured: impl Fn(usize) -> Option<&'v str>) -> bool {
        self.when.as_ref().is_none_or(|(index, wanted)| captured(*index) == Some(wanted))
    }
}
