//! One signature scheme: what is looked for, in which order, and when it holds.

use std::borrow::Cow;

use arrayvec::ArrayVec;
use http::{HeaderMap, HeaderName};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{
    Container, Foreign, From, KeySource, Part, Place, Presented, Template, Timestamps, Transform,
    Value,
    key::{Algorithm, Key, KeyForm},
    view::{Sought, Unusable, Variable, View},
};
use crate::{
    answer::Reason,
    event::{TEXT_BYTES_MAX, Timestamp},
    json::Step,
};

/// Parts that a signed text may have at most.
const PARTS_MAX: usize = 16;

/// The signed text in pieces, borrowed wherever they stand.
type Pieces<'s> = ArrayVec<Cow<'s, [u8]>, PARTS_MAX>;

/// What a [`Scheme`] is made from.
#[derive(Clone, Debug)]
pub(crate) struct SchemeParts {
    /// The header whose presence makes this scheme the one that counts; always, where there is none.
    pub(crate) when: Option<HeaderName>,
    /// How configured text becomes a key.
    pub(crate) key: KeyForm,
    /// Where the signature is.
    pub(crate) container: Container,
    /// The exact bytes that are signed; none for an algorithm that signs nothing.
    pub(crate) signed: Option<Template>,
    pub(crate) algorithm: Algorithm,
    /// The signed time.
    pub(crate) timestamps: Option<Timestamps>,
    /// Pairs that must be equal besides.
    pub(crate) require: Vec<(Template, Template)>,
    /// What is needed where signatures are not compared but checked.
    pub(crate) foreign: Option<Box<Foreign>>,
}

/// One signature scheme, compiled.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) parts: SchemeParts,
    sought: Sought,
}

impl Scheme {
    /// Compiles a scheme, or says in a sentence why the parts do not make one.
    pub(crate) fn new(parts: SchemeParts) -> Result<Self, String> {
        let template = parts.signed.as_ref().map_or(&[][..], |signed| &signed.parts);
        if template.is_empty() == parts.algorithm.signs_template() {
            return Err(format!("`{}` and what is signed do not fit", parts.algorithm.as_str()));
        }
        if template.len() > PARTS_MAX {
            return Err(format!("the signed text has more than {PARTS_MAX} parts"));
        }
        let each = |value: &Value| match &value.from {
            From::Json(path) | From::FormJson(_, path) => path.steps().contains(&Step::Each),
            _ => false,
        };
        if values(&parts).any(each) {
            return Err("`[*]` names many values where one is needed".into());
        }
        let sought = Sought::new(values(&parts).map(|value| &value.from), None);
        Ok(Self { parts, sought })
    }

    /// Whether it is the one that counts for a request, if no earlier one does.
    pub(super) fn counts(&self, headers: &HeaderMap) -> bool {
        self.parts.when.as_ref().is_none_or(|name| headers.contains_key(name))
    }

    /// The header that carries the signature, where one does.
    pub(crate) fn signature_header(&self) -> Option<&HeaderName> {
        match &self.parts.container.place {
            Place::Header(name) => Some(name),
            Place::Elsewhere(_) => None,
        }
    }

    /// The time that a request shows, signed or not.
    pub(crate) fn shown_time(&self, request: &Presented<'_>) -> Option<Timestamp> {
        let timestamps = self.parts.timestamps.as_ref()?;
        let view = View::new(*request, &self.sought);
        let lines = self.parts.container.lines(&view).ok()?;
        let elements = self.parts.container.elements(&lines).ok()?;
        timestamps.unit.read(&view.value(&timestamps.from, &elements).ok()?)
    }

    /// Whether it can be used without a configured key.
    pub(crate) fn finds_keys(&self) -> bool {
        let source = self.parts.foreign.as_ref().and_then(|foreign| foreign.source.as_ref());
        source.is_some_and(KeySource::finds_keys)
    }

    /// Whether it signs the URL as the provider knows it.
    pub(crate) fn needs_public_url(&self) -> bool {
        values(&self.parts).any(|value| value.from == From::Url)
    }

    /// Whether whoever changes `value` breaks the signature.
    pub(crate) fn covers(&self, value: &Value) -> bool {
        if self.parts.foreign.as_ref().is_some_and(|foreign| foreign.covers(value, self)) {
            return true;
        }
        let signed = self.parts.signed.iter().flat_map(Template::values);
        let mut whole = signed.filter(|v| v.transforms.iter().all(|t| *t != Transform::Lower));
        whole.any(|signed| match &value.from {
            From::Json(_) | From::Form(_) | From::FormJson(..) if signed.from == From::Body => true,
            From::Query(_) | From::Path if signed.from == From::Path => true,
            From::Query(_) if signed.from == From::Url => true,
            from => *from == signed.from,
        })
    }

    /// Checks a request under `keys`, which are numbered by slot. Returns the slot that matched, 0 where none did, and the
    /// signed time. Before a signature held, what is done depends on the request and on how many keys there are, never on
    /// what they are; and nothing of the body is parsed, unless the provider signs a value out of it.
    pub(super) fn check(
        &self,
        request: Presented<'_>,
        keys: &[(u16, Key)],
        is_live: impl Fn(u16) -> bool,
    ) -> Result<(u16, Option<Timestamp>), Reason> {
        let view = View::new(request, &self.sought);
        let lines = self.parts.container.lines(&view)?;
        let elements = self.parts.container.elements(&lines)?;
        let candidates = self.parts.container.candidates(&elements, self.parts.algorithm)?;
        let pieces = self.pieces(&view, &elements)?;

        let mut matched = 0_u16;
        for (slot, key) in keys {
            let tag = key.tag(&pieces);
            let is =
                candidates.iter().fold(Choice::from(0), |is, candidate| is | tag.is(candidate));
            let hit = is & Choice::from(u8::from(is_live(*slot)));
            matched.conditional_assign(slot, hit & matched.ct_eq(&0));
        }
        if matched == 0 {
            return Ok((0, None));
        }
        self.check_requirements(&view, &elements)?;
        Ok((matched, self.signed_at(&view, &elements)?))
    }

    pub(super) fn signed_at(
        &self,
        view: &View<'_>,
        elements: &[Variable<'_>],
    ) -> Result<Option<Timestamp>, Reason> {
        let Some(timestamps) = &self.parts.timestamps else { return Ok(None) };
        let text = view.value(&timestamps.from, elements).map_err(Unusable::time)?;
        timestamps.check(&text, view.request.received_at).map(Some)
    }

    pub(super) fn check_requirements(
        &self,
        view: &View<'_>,
        elements: &[Variable<'_>],
    ) -> Result<(), Reason> {
        let text = |template: &Template| template.text(view, elements);
        let equal = |(left, right): &(Template, Template)| match (text(left), text(right)) {
            (Ok(left), Ok(right)) => left.as_ref().ct_eq(right.as_ref()).into(),
            _ => false,
        };
        let holds = self.parts.require.iter().all(equal);
        if holds { Ok(()) } else { Err(Reason::RequirementFailed) }
    }

    pub(super) fn pieces<'s>(
        &'s self,
        view: &'s View<'_>,
        elements: &[Variable<'s>],
    ) -> Result<Pieces<'s>, Reason> {
        let parts = self.parts.signed.as_ref().map_or(&[][..], |signed| &signed.parts);
        let next = parts.iter().skip(1).map(Some).chain([None]);
        let piece = |(part, next): (&'s Part, Option<&Part>)| match part {
            Part::Literal(text) => Ok(Cow::Borrowed(text.as_bytes())),
            Part::Value(value) => self.piece(value, next, view, elements),
        };
        parts.iter().zip(next).map(piece).collect()
    }

    fn piece<'s>(
        &self,
        value: &Value,
        next: Option<&Part>,
        view: &'s View<'_>,
        elements: &[Variable<'s>],
    ) -> Result<Cow<'s, [u8]>, Reason> {
        let is_time = self.parts.timestamps.as_ref().is_some_and(|time| time.from == *value);
        let found = view.value(value, elements);
        let found = found.map_err(|e| if is_time { e.time() } else { e.input(&value.from) })?;
        // The form of a time is checked elsewhere, and of these there is but one each.
        let is_open =
            is_time || matches!(value.from, From::Body | From::Method | From::Url | From::Path);
        if is_open || is_unambiguous(&found, next) {
            Ok(found)
        } else {
            Err(Reason::InputAmbiguous)
        }
    }

    /// Names of headers that are signed over and that `headers` lacks.
    pub(super) fn missing<'s>(&'s self, headers: &HeaderMap) -> Vec<&'s str> {
        let signed = self.parts.signed.iter().flat_map(Template::values);
        let names = signed.filter_map(|value| match &value.from {
            From::Header(name) if !headers.contains_key(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    pub(super) fn view<'a>(&'a self, request: Presented<'a>) -> View<'a> {
        View::new(request, &self.sought)
    }
}

/// Every value that a scheme looks at.
fn values(parts: &SchemeParts) -> impl Iterator<Item = &Value> {
    let place = match &parts.container.place {
        Place::Header(_) => None,
        Place::Elsewhere(template) => Some(template),
    };
    let required = parts.require.iter().flat_map(|(left, right)| [left, right]);
    let foreign = parts.foreign.iter().flat_map(|foreign| foreign.templates());
    let templates = parts.signed.iter().chain(place).chain(required).chain(foreign);
    templates.flat_map(Template::values).chain(parts.timestamps.iter().map(|time| &time.from))
}

/// Whether no other values give the same signed text: bounded, without control characters, and without the first byte of
/// the literal that follows.
fn is_unambiguous(bytes: &[u8], next: Option<&Part>) -> bool {
    let separator = next.and_then(|next| match next {
        Part::Literal(text) => text.bytes().next(),
        Part::Value(_) => None,
    });
    let shifts = |byte: &u8| {
        byte.is_ascii_control() || separator.is_some_and(|s| *byte == s || *byte == b' ')
    };
    bytes.len() <= TEXT_BYTES_MAX && !bytes.iter().any(shifts)
}
