//! Finds id and type, after the signature held. Pure but for the stage at the end.
//!
//! The one maker of [`Event`].

mod plan;
mod read;

use std::sync::Arc;

use tower::ServiceExt as _;

pub use plan::{Plan, PlanParts};

use crate::{
    answer::{Answer, Refusal, annotate},
    event::{About, Digest, EventId, EventKey, EventType, Name},
    receive::Envelope,
    stage::{Next, Stage},
    verify::{Verified, apart},
};
use read::{Names, Reader};

/// An authentic request with a name.
#[derive(Debug)]
pub struct Event {
    envelope: Envelope,
    about: Arc<About>,
    guard: Option<Guard>,
    captured: Vec<Option<String>>,
}

/// What tells a replay of signed bytes under a new id, where the signature does not cover the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Hash of source and signed bytes (and of the type, unless one body never serves two types at this provider).
    pub key: EventKey,
}

impl Event {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Id, type, key and digest.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// The replay guard, where the id is not covered by the signature.
    pub fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// The value at the `index`-th of the JSON paths that this source's routes look at; `None` where it is not there or
    /// not a string, an integer or a boolean, or longer than any value that it could be compared with.
    pub fn captured(&self, index: usize) -> Option<&str> {
        self.captured.get(index)?.as_deref()
    }
}

/// Names a request whose signature held.
///
/// # Errors
/// [`Refusal::Malformed`] with the place that has no usable value, never the value.
pub fn identify(plan: &Plan, verified: Verified) -> Result<Event, Refusal> {
    let (envelope, proof) = verified.into_parts();
    let digest = Digest::of(envelope.body());
    let names = Reader::new(plan, &envelope, digest).names();
    let Names { id, kind, account, items, captured } = names.map_err(Refusal::Malformed)?;
    let source = envelope.source();
    let key = event_key(plan, source, account.as_ref(), &id, digest);
    let guard = guard(plan, source, &kind, digest);
    let about = Arc::new(About {
        id,
        kind,
        account,
        key,
        digest,
        body_bytes: envelope.body().len() as u64,
        scheme: proof.scheme,
        secret_slot: proof.slot,
        secret_label: proof.label,
        items,
    });
    Ok(Event { envelope, about, guard, captured })
}

/// What a request says about itself that nobody vouches for, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsRead {
    /// The type.
    pub kind: Option<EventType>,
    /// The values that routes look at.
    pub captured: Vec<Option<String>>,
}

/// Reads a request that was not verified, for shadow mode. What is not usable counts as not there.
pub fn read(plan: &Plan, envelope: &Envelope) -> AsRead {
    Reader::new(plan, envelope, Digest::of(envelope.body())).leniently()
}

/// What makes two requests one event. The parts are always as many and an account is never empty, so that no two events
/// share a key. A batch is known by its bytes as well: its first item may come again in another company.
fn event_key(
    plan: &Plan,
    source: &Name,
    account: Option<&EventId>,
    id: &EventId,
    digest: Digest,
) -> EventKey {
    let account = account.map_or("", EventId::as_str);
    let by_bytes = !plan.parts().id_covered || plan.parts().items.is_some();
    let digest: &[u8] = if by_bytes { &digest.0 } else { &[] };
    EventKey::of(&[
        b"v1",
        source.as_str().as_bytes(),
        account.as_bytes(),
        id.as_str().as_bytes(),
        digest,
    ])
}

/// The replay guard's key.
fn guard(plan: &Plan, source: &Name, kind: &EventType, digest: Digest) -> Option<Guard> {
    let parts = plan.parts();
    let kind = if parts.one_type_per_body { "" } else { kind.as_str() };
    let key = || EventKey::of(&[b"guard", source.as_str().as_bytes(), &digest.0, kind.as_bytes()]);
    (!parts.id_covered).then(|| Guard { key: key() })
}

/// The stage.
#[derive(Clone, Debug)]
pub struct Identify {
    /// Where everything is.
    pub plan: Arc<Plan>,
}

impl<N: Next<Event>> Stage<Verified, N> for Identify {
    async fn pass(self, verified: Verified, next: N) -> Answer {
        let body_bytes = verified.envelope().body().len();
        let event = apart(body_bytes, move || identify(&self.plan, verified)).await??;
        let about = Arc::clone(event.about());
        annotate(next.oneshot(event).await, |notes| notes.about = Some(about))
    }
}
