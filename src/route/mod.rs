//! Chooses the upstream by type, or says that none wants it. Pure but for the stages.
//!
//! The one maker of [`Routed`], and of [`Shadow`].

mod pattern;

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tower::ServiceExt as _;

pub use pattern::Patterns;

use crate::{
    answer::{Answer, Ignored, Outcome, Refusal, annotate},
    event::{EventType, Name},
    identify::{AsRead, Event, Plan, read},
    stage::{Next, Stage},
    verify::{Unverified, apart},
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

/// The routes of one source, in order; the first that matches wins.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<Route>,
    pub(crate) reject_unrouted: bool,
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

/// The stage: an event goes to the first route that takes it.
#[derive(Clone, Debug)]
pub struct Choose {
    /// The source's routes.
    pub routes: Arc<Routes>,
    /// Counts what no route takes.
    pub unrouted: Counter,
}

impl<N: Next<Routed>> Stage<Event, N> for Choose {
    async fn pass(self, event: Event, next: N) -> Answer {
        let choice = self.routes.choose(event.about().kind.as_str(), |index| event.captured(index));
        match choice {
            Choice::To(target) => {
                let routed = Routed { event: Arc::new(event), target: Arc::clone(&target) };
                note_target(next.oneshot(routed).await, &target)
            }
            Choice::Dropped(route) => {
                let dropped = Ok(Outcome::Ignored(Ignored::Dropped).into());
                annotate(dropped, |notes| notes.route = Some(route))
            }
            Choice::Unrouted => {
                self.unrouted.inc();
                if self.routes.reject_unrouted {
                    return Err(Refusal::Unrouted.into());
                }
                Ok(Outcome::Ignored(Ignored::Unrouted).into())
            }
        }
    }
}

/// The stage of shadow mode: a request that was not verified goes where it would go if what it says were true. Where
/// that is nowhere it is refused, as if the source were enforced.
#[derive(Clone, Debug)]
pub struct ShadowRoute {
    /// Where everything is.
    pub plan: Arc<Plan>,
    /// The source's routes.
    pub routes: Arc<Routes>,
}

impl<N: Next<Shadow>> Stage<Unverified, N> for ShadowRoute {
    async fn pass(self, unverified: Unverified, next: N) -> Answer {
        let (plan, envelope) = (self.plan, unverified.envelope().clone());
        let reading = apart(envelope.body().len(), move || read(&plan, &envelope));
        let AsRead { kind, captured } = reading.await?;
        let captured = |index: usize| captured.get(index)?.as_deref();
        let choice = match &kind {
            Some(kind) => self.routes.choose(kind.as_str(), captured),
            None => self.routes.choose_untyped(captured),
        };
        match choice {
            Choice::To(target) => {
                let shadow = Shadow { unverified, kind, target: Arc::clone(&target) };
                note_target(next.oneshot(shadow).await, &target)
            }
            Choice::Dropped(_) | Choice::Unrouted => {
                Err(Refusal::NotVerified(unverified.reason()).into())
            }
        }
    }
}

fn note_target(answer: Answer, target: &Target) -> Answer {
    annotate(answer, |notes| {
        notes.route = Some(target.route.clone());
        notes.upstream = Some(target.upstream.clone());
    })
}
