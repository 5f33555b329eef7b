//! Two bodies under one id at a source that delivers both, through the plan that names events and the stage that claims them.

use std::{future::ready, sync::Arc, time::Duration};

use bytes::Bytes;
use gatepost::{
    answer::{Answer, Outcome, Refusal},
    dedup::{Dedup, Fresh, Memory},
    providers::{self, Options},
    stage::StageExt as _,
};
use http_body_util::Full;
use tokio::{sync::mpsc, time::advance};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    audited::{accepted, dedup, sent},
    flow::{COVERING, Flow, SECRET},
    source::Source,
};

const A: &str = r#"{"id":"id-1","body":"a"}"#;
const B: &str = r#"{"id":"id-1","body":"b"}"#;

/// A gateway's stages from the request to the claim.
struct World {
    flow: Flow,
    dedup: Dedup,
}

impl World {
    fn new() -> Self {
        let event = "event: { id: '{json:id}', type: order.paid }";
        let source = Source::parse(&format!("{COVERING}{event}"));
        let options = Options { by_bytes: true, ..Options::default() };
        let compiled =
            providers::compile(&source.verify, &source.event, &source.handshake, &options);
        let flow = Flow::of(compiled.expect("a good source"), &[SECRET]);
        Self { flow, dedup: dedup(Arc::new(Memory::default())) }
    }

    /// Sends `body` to an app of which `answer` comes; what was told, and what the app was told of earlier attempts: how many
    /// there were with this one, and whether one of them ended unknown.
    async fn send(&self, body: &'static str, answer: Answer) -> (Answer, Option<(u32, bool)>) {
        let inbound = Flow::inbound(self.flow.signed(sent(), body.as_bytes()), Full::from(body));
        self.flow.stack::<Full<Bytes>>().oneshot(inbound).await.expect("it is routed");
        let (attempts, mut attempt) = mpsc::unbounded_channel();
        let app = service_fn(move |fresh: Fresh| {
            let (_, lease) = fresh.into_parts();
            attempts.send((lease.attempt(), lease.after_unknown())).unwrap();
            ready(answer.clone())
        });
        let stages = ServiceBuilder::new().stage(self.dedup.clone()).service(app);
        (stages.oneshot(self.flow.last_routed()).await, attempt.try_recv().ok())
    }

    /// What is told, and nothing else, where the app would accept it.
    async fn told(&self, body: &'static str) -> Outcome {
        self.send(body, accepted()).await.0.expect("a good answer").what
    }
}

fn is_accepted(told: &Outcome) -> bool {
    matches!(told, Outcome::Accepted(_))
}

#[test]
fn the_body_is_in_the_key_and_switches_on_no_guard() {
    let flow = World::new().flow;
    let [one, again, other] = [A, A, B].map(|body| flow.event(&[], body).unwrap());
    assert_eq!(one.about().key, again.about().key);
    assert_ne!(one.about().key, other.about().key);
    assert_eq!(other.guard(), None, "the signature covers the id");
}

/// The window of one body says nothing about another one's.
#[tokio::test(start_paused = true)]
async fn a_body_is_a_duplicate_for_its_own_window() {
    let (world, window) = (World::new(), dedup(Arc::new(Memory::default())).0.policy.window);
    assert!(is_accepted(&world.told(A).await));
    advance(window / 2).await;
    assert!(is_accepted(&world.told(B).await));
    advance(window / 2 + Duration::from_secs(1)).await;
    assert_eq!(world.told(B).await, Outcome::Duplicate(None));
    assert!(is_accepted(&world.told(A).await), "which is over");
}

/// How an attempt of one body ended is told to the next attempt of that body, and to no other.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_told_to_the_same_body() {
    let world = World::new();
    let (told, first) = world.send(B, Err(Refusal::UpstreamTimeout.into())).await;
    assert_eq!(told.unwrap_err().what, Refusal::UpstreamTimeout);
    assert_eq!(first, Some((1, false)));
    let (told, other) = world.send(A, accepted()).await;
    assert!(is_accepted(&told.expect("it is not held").what));
    assert_eq!(other, Some((1, false)));
    advance(world.dedup.0.policy.hold).await;
    let (told, again) = world.send(B, accepted()).await;
    assert!(is_accepted(&told.expect("the hold is over").what));
    assert_eq!(again, Some((2, true)));
}
