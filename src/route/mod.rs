//! Chooses the upstream by type, or says that none wants it. Pure but for the stages.
//!
//! The one maker of [`Routed`], and of [`Shadow`].

mod choose;
mod pattern;
mod stage;

use std::{sync::Arc, time::Duration};

pub use choose::{Choice, Explained, Judgement, Routes, Unreachable};
pub use pattern::Patterns;
pub use stage::{Choose, ShadowRoute};

use crate::{
    event::{EventId, EventType, Name},
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

    /// One made by hand, for tests of the stages after this one: a route `r` to the upstream `u`.
    #[cfg(test)]
    pub(crate) fn for_test(event: Event) -> Self {
        let name = |text| Name::parse(text).expect("a name");
        let timeout = Duration::from_secs(10);
        let target = Target { route: name("r"), upstream: name("u"), timeout, reply_full: false };
        Self { event: Arc::new(event), target: Arc::new(target) }
    }
}

/// An unverified request of a source in shadow mode, routed by the type as it was read.
#[derive(Clone, Debug)]
pub struct Shadow {
    unverified: Unverified,
    id: Option<EventId>,
    kind: Option<EventType>,
    target: Arc<Target>,
}

impl Shadow {
    /// The request and why it would have been refused.
    pub fn unverified(&self) -> &Unverified {
        &self.unverified
    }

    /// The id as read; nobody vouches for it.
    pub fn id(&self) -> Option<&EventId> {
        self.id.as_ref()
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
