//! Finds id and type, after the signature held. Pure but for the stage at the end.
//!
//! The one maker of [`Event`].

mod read;

use std::sync::Arc;

use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Refusal, annotate},
    event::{About, Digest, EventId, EventKey, EventType, Name},
    json::{Path, Step},
    receive::Envelope,
    stage::{Next, Stage},
    verify::{From, Part, Sought, Template, Value, Verified, apart},
};
use read::{Names, Reader};

/// An authentic request with a name.
#[derive(Debug)]
pub struct Event {
    envelope: Envelope,
    about: Arc<About>,
    guard: Option<EventKey>,
    may_be_forged: bool,
    captured: Vec<Option<String>>,
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

    /// What tells a replay of signed bytes under a new id, where the signature does not cover the id, or of a signed text in other
    /// bytes: a hash of source and what was signed (and of the type, unless one body never serves two types at this provider).
    pub fn guard(&self) -> Option<EventKey> {
        self.guard
    }

    /// Whether a hit of the guard leaves open which of the two the provider sent: it tells by a signed text that does not name the
    /// event, and in other bytes that text may say something else to an app, or nothing.
    pub fn may_be_forged(&self) -> bool {
        self.may_be_forged
    }

    /// The value at the `index`-th of the JSON paths that this source's routes look at; `None` where it is not there or
    /// not a string, an integer or a boolean, or longer than any value that it could be compared with.
    pub fn captured(&self, index: usize) -> Option<&str> {
        self.captured.get(index)?.as_deref()
    }
}

/// What a [`Plan`] is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the provider")]
pub(crate) struct PlanParts {
    /// Templates of the id; the first that yields a value counts.
    pub(crate) id: Vec<Template>,
    /// Templates of the type.
    pub(crate) kind: Vec<Template>,
    /// Templates of the account.
    pub(crate) account: Vec<Template>,
    /// Whether ids are JSON integers instead of strings.
    pub(crate) id_is_integer: bool,
    /// Path of a batch's items. An item that is a scalar is its own id; otherwise id and type of an item are where the
    /// templates find them in one of the items: with items `[*]` and the id at `[0].eventId`, at `eventId` in each.
    pub(crate) items: Option<Path>,
    /// Paths that routes look at.
    pub(crate) captures: Vec<Path>,
    /// Whether the signature covers the id, and the account where there is one: all that an event is known by.
    pub(crate) key_covered: bool,
    /// Whether the scheme signs nothing of a request.
    pub(crate) nothing_signed: bool,
    /// Whether one body never serves two types at this provider.
    pub(crate) one_type_per_body: bool,
    /// Whether each text is signed for one event only.
    pub(crate) signed_once: bool,
    /// Whether another body under the same id is another event.
    pub(crate) by_bytes: bool,
}

/// Where id, type, account, items and the values that routes look at are.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) parts: PlanParts,
    captures: Vec<From>,
    sought: Sought,
    /// The plans of the source's other schemes, from the second on, where they are not the same.
    others: Vec<Self>,
}

/// Where the scalars of an item are kept.
const ITEM_ITSELF: usize = 0;
const ITEM_ID: usize = 1;
const ITEM_KIND: usize = 2;

impl Plan {
    /// Prepares one pass over the body for everything that is looked for.
    pub(crate) fn new(parts: PlanParts) -> Self {
        let captures: Vec<From> = parts.captures.iter().cloned().map(From::Json).collect();
        let templates = parts.id.iter().chain(&parts.kind).chain(&parts.account);
        let places = templates.flat_map(Template::values).map(|value| &value.from);
        let inside = |items| {
            let nowhere = &[Step::Each][..];
            let [id, kind] = [&parts.id, &parts.kind].map(|t| inside(items, t).unwrap_or(nowhere));
            [&[], id, kind]
        };
        let inside = parts.items.as_ref().map(|items| (items, inside(items)));
        let items = inside.as_ref().map(|(items, inside)| (*items, &inside[..]));
        let sought = Sought::new(places.chain(&captures), items);
        Self { parts, captures, sought, others: Vec::new() }
    }

    /// Prepares a plan for each of a source's schemes, in their order.
    pub(crate) fn of_schemes(parts: Vec<PlanParts>) -> Self {
        let mut plans = parts.into_iter();
        let first = plans.next().unwrap_or_default();
        let others: Vec<_> = plans.collect();
        let differ = others.iter().any(|parts| *parts != first);
        let others = if differ { others.into_iter().map(Self::new).collect() } else { Vec::new() };
        Self { others, ..Self::new(first) }
    }

    /// The plan of one of the source's schemes.
    fn of(&self, alternative: usize) -> &Self {
        alternative.checked_sub(1).and_then(|n| self.others.get(n)).unwrap_or(self)
    }
}

/// The steps from an item to the value of the first template that reads one item.
fn inside<'t>(items: &Path, templates: &'t [Template]) -> Option<&'t [Step]> {
    templates.iter().find_map(|template| match template.parts.as_slice() {
        [Part::Value(Value { from: From::Json(path), .. })] => path.leads_through(items),
        _ => None,
    })
}

/// Names a request whose signature held; the refusal names the place that has no usable value, never the value.
pub(crate) fn identify(plan: &Plan, verified: Verified) -> Result<Event, Refusal> {
    let (envelope, proof) = verified.into_parts();
    let plan = plan.of(proof.alternative);
    let digest = Digest::of(envelope.body());
    let names = Reader::new(plan, &envelope, digest, proof.token.as_deref()).names();
    let Names { id, kind, account, items, captured } = names.map_err(Refusal::Malformed)?;
    let source = envelope.source();
    let key = event_key(plan, source, account.as_ref(), &id, digest);
    // Where a token is all that a request shows, an empty body says nothing that could come a second time.
    let says_nothing = plan.parts.nothing_signed && envelope.body().is_empty();
    let guard = guard(plan, source, &kind, digest, proof.text).filter(|_| !says_nothing);
    let may_be_forged = proof.text.is_some() && !plan.parts.key_covered;
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
    Ok(Event { envelope, about, guard, may_be_forged, captured })
}

/// What a request says about itself that nobody vouches for, as far as it can be read.
pub(crate) struct AsRead {
    pub(crate) kind: Option<EventType>,
    /// The values that routes look at.
    pub(crate) captured: Vec<Option<String>>,
}

/// Reads a request that was not verified, for shadow mode. What is not usable counts as not there.
pub(crate) fn read(plan: &Plan, envelope: &Envelope) -> AsRead {
    Reader::new(plan, envelope, Digest::of(envelope.body()), None).leniently()
}

/// What makes two requests one event. The parts are always as many and an account is never empty, so that no two events
/// share a key. A batch is known by its bytes as well: its first item may come again in another company. So is every event
/// where another body is another event: what an app is told, and what is kept, is never that of the first one.
fn event_key(
    plan: &Plan,
    source: &Name,
    account: Option<&EventId>,
    id: &EventId,
    digest: Digest,
) -> EventKey {
    let account = account.map_or("", EventId::as_str);
    let by_bytes = plan.parts.by_bytes || !plan.parts.key_covered || plan.parts.items.is_some();
    let digest: &[u8] = if by_bytes { &digest.0 } else { &[] };
    EventKey::of(&[
        b"v1",
        source.as_str().as_bytes(),
        account.as_bytes(),
        id.as_str().as_bytes(),
        digest,
    ])
}

/// What a replay has in common with what was replayed: the text that was signed, where that tells it (`text`), else the body.
fn guard(
    plan: &Plan,
    source: &Name,
    kind: &EventType,
    digest: Digest,
    text: Option<Digest>,
) -> Option<EventKey> {
    let PlanParts { key_covered, by_bytes, .. } = plan.parts;
    // A batch is known by its bytes, which may be written anew around the signed texts of its items.
    let signs_items = plan.parts.items.is_some() && text.is_some();
    if key_covered && (!signs_items || by_bytes) {
        return None;
    }
    let one_type = plan.parts.one_type_per_body || plan.parts.signed_once || signs_items;
    let kind = if one_type { "" } else { kind.as_str() };
    let digest = text.unwrap_or(digest);
    Some(EventKey::of(&[b"guard", source.as_str().as_bytes(), &digest.0, kind.as_bytes()]))
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
