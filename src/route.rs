//! Chooses the upstream by type, or says that none wants it. Pure.
//!
//! The one maker of [`Routed`].

use std::{sync::Arc, time::Duration};

use crate::{
    event::{EventType, Name},
    identify::Event,
    verify::Unverified,
};

/// What a route does with an event that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The route's name.
    pub route: Name,
    /// The upstream that answers.
    pub upstream: Name,
    /// How long the upstream may take, in all.
    pub timeout: Duration,
    /// Whether the upstream's body and content type go back to the provider.
    pub reply_full: bool,
}

/// An event that somebody wants.
#[derive(Clone, Debug)]
pub struct Routed {
    event: Arc<Event>,
    target: Arc<Target>,
}

impl Routed {
    /// The event.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Where it goes.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

/// An unverified request of a source in shadow mode, routed by the type as it was read.
#[derive(Clone, Debug)]
pub struct Shadow {
    unverified: Unverified,
    kind: Option<EventType>,
    target: Arc<Target>,
}

impl Shadow {
    /// The request and why it would have been refused.
    pub fn unverified(&self) -> &Unverified {
        &self.unverified
    }

    /// The type as read; nobody vouches for it.
    pub fn kind(&self) -> Option<&EventType> {
        self.kind.as_ref()
    }

    /// Where it goes.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

/// The routes of one source, in order; the first that matches wins.
#[derive(Clone, Debug)]
pub struct Routes;

/// One route of a source.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Which types it takes: `*` matches any run of characters, `!` excludes.
    pub patterns: Patterns,
    /// A value that must be equal besides: index into the source's captures, and the value.
    pub when: Option<(usize, String)>,
    /// What it does; `None` drops.
    pub target: Option<Arc<Target>>,
}

/// Patterns of event types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Patterns {
    /// Parses patterns; those with a leading `!` exclude. No including pattern at all means `*`.
    pub fn parse(patterns: &[String]) -> Self {
        let exclude = patterns.iter().filter_map(|p| p.strip_prefix('!').map(str::to_owned));
        let include = patterns.iter().filter(|p| !p.starts_with('!')).cloned();
        Self { include: include.collect(), exclude: exclude.collect() }
    }
}

impl Routes {
    /// Routes in order; `reject_unrouted` says what happens to what none of them takes.
    pub fn new(routes: Vec<Route>, reject_unrouted: bool) -> Self {
        let _ = (routes, reject_unrouted);
        Self
    }
}
