//! The stages: of events, and of what passes unverified in shadow mode.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tower::ServiceExt as _;

use super::{Choice, Routed, Routes, Shadow, Target};
use crate::{
    answer::{Answer, Ignored, Outcome, Refusal, annotate},
    identify::{AsRead, Event, Plan, read, read_apart},
    stage::{Next, Stage},
    verify::Unverified,
};

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
                if self.routes.reject_unrouted() {
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
        let reading = read_apart(envelope.body().len(), move || read(&plan, &envelope));
        let AsRead { id, kind, captured } = reading.await?;
        let captured = |index: usize| captured.get(index)?.as_deref();
        let choice = match &kind {
            Some(kind) => self.routes.choose(kind.as_str(), captured),
            None => self.routes.choose_untyped(captured),
        };
        match choice {
            Choice::To(target) => {
                let shadow = Shadow { unverified, id, kind, target: Arc::clone(&target) };
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use tower::service_fn;

    use super::*;
    use crate::{
        answer::{Reason, Relayed},
        event::{Name, Timestamp},
        identify::PlanParts,
        receive::Envelope,
        route::{Patterns, Route},
        verify::{From, Part, Template, Value},
    };

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn route(route: &str, pattern: &str, upstream: Option<&str>) -> Route {
        let target = upstream.map(|upstream| Target {
            route: name(route),
            upstream: name(upstream),
            timeout: Duration::from_secs(1),
            reply_full: false,
        });
        let patterns = Patterns::parse(&[pattern.to_owned()]);
        Route { name: name(route), patterns, when: None, target: target.map(Arc::new) }
    }

    fn routes(reject_unrouted: bool, rest: Option<Route>) -> Arc<Routes> {
        let mut routes =
            vec![route("noise", "noise.*", None), route("money", "money.*", Some("billing"))];
        routes.extend(rest);
        Arc::new(Routes::new(routes, reject_unrouted))
    }

    fn envelope(kind: &str) -> Envelope {
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", HeaderValue::from_str(kind).unwrap());
        Envelope::for_test("shop", headers, "{}", Timestamp::from_millis(0))
    }

    async fn below<T>(_: T) -> Answer {
        let (status, body) = (http::StatusCode::OK, bytes::Bytes::new());
        Ok(Outcome::Accepted(Relayed { status, content_type: None, body }).into())
    }

    #[tokio::test]
    async fn events_go_to_their_route_or_are_ignored_by_it() {
        let counter = Counter::default();
        let pass = |kind, reject| {
            let stage = Choose { routes: routes(reject, None), unrouted: counter.clone() };
            stage.pass(Event::for_test(envelope(kind), "id", kind), service_fn(below))
        };
        let taken = pass("money.in", true).await.unwrap();
        assert_eq!(taken.notes.route, Some(name("money")));
        assert_eq!(taken.notes.upstream, Some(name("billing")));
        let dropped = pass("noise.1", true).await.unwrap();
        assert_eq!(dropped.what, Outcome::Ignored(Ignored::Dropped));
        assert_eq!(dropped.notes.route, Some(name("noise")));
        assert_eq!(counter.get(), 0);
        let ignored = pass("other", false).await.unwrap();
        assert_eq!(ignored.what, Outcome::Ignored(Ignored::Unrouted));
        assert_eq!(pass("other", true).await.unwrap_err().what, Refusal::Unrouted);
        assert_eq!(counter.get(), 2);
    }

    #[tokio::test]
    async fn what_is_not_verified_goes_where_it_says_or_is_refused() {
        let kind = Value { from: From::Header("x-kind".parse().unwrap()), transforms: Vec::new() };
        let template = Template { parts: vec![Part::Value(kind)] };
        let plan = Arc::new(Plan::new(PlanParts { kind: vec![template], ..PlanParts::default() }));
        let pass = |kind, rest: Option<Route>| {
            let stage = ShadowRoute { plan: Arc::clone(&plan), routes: routes(false, rest) };
            let unverified = Unverified::for_test(envelope(kind), Reason::SignatureWrong);
            stage.pass(unverified, service_fn(below))
        };
        let rest = |pattern| Some(route("rest", pattern, Some("app")));
        let went = |answer: Answer| answer.unwrap().notes.route.unwrap();
        assert_eq!(went(pass("money.in", None).await), name("money"));
        assert_eq!(went(pass("", rest("*")).await), name("rest"));
        for answer in
            [pass("noise.1", rest("*")).await, pass("", rest("a*")).await, pass("x", None).await]
        {
            assert_eq!(answer.unwrap_err().what, Refusal::NotVerified(Reason::SignatureWrong));
        }
    }

    #[test]
    fn one_made_by_hand_has_a_target() {
        let routed = Routed::for_test(Event::for_test(envelope("a"), "id", "a"));
        assert_eq!(
            (routed.event().about().kind.as_str(), routed.target().route.as_str()),
            ("a", "r")
        );
    }
}
