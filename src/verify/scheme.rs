//! One signature scheme: what is looked for, in which order, and when it holds.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{
    Container, From, Part, Place, Presented, Template, Timestamps, Transform, Value,
    container::Elements,
    few::{Few, Full},
    key::{Algorithm, Key, KeyForm, Tag},
    view::{JsonPaths, Unusable, View},
};
use crate::{
    answer::Reason,
    event::{TEXT_BYTES_MAX, Timestamp},
    json::Step,
};

/// Parts that a signed text may have at most.
pub const PARTS_MAX: usize = 16;

/// What a [`Scheme`] is made from.
#[derive(Clone, Debug)]
pub struct SchemeParts {
    /// The header whose presence makes this scheme the one that counts; always, where there is none.
    pub when: Option<HeaderName>,
    /// How configured text becomes a key.
    pub key: KeyForm,
    /// Where the signature is.
    pub container: Container,
    /// The exact bytes that are signed; none for an algorithm that signs nothing.
    pub signed: Option<Template>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The signed time.
    pub timestamps: Option<Timestamps>,
    /// Pairs that must be equal besides.
    pub require: Vec<(Template, Template)>,
}

/// One signature scheme, compiled.
#[derive(Clone, Debug)]
pub struct Scheme {
    parts: SchemeParts,
    signed: Vec<Piece>,
    json: Option<JsonPaths>,
}

/// A piece of the signed text.
#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Value { value: Value, guard: Guard },
}

/// What a value in the signed text must not hold, so that no other values give the same text.
#[derive(Clone, Copy, Debug)]
enum Guard {
    /// Nothing is forbidden: it is the body, it comes from our own configuration, or its form is checked elsewhere.
    Open,
    /// Control characters and more than 256 bytes are.
    Bounded,
    /// So are spaces and the first byte of the literal that follows.
    Before(u8),
}

impl Scheme {
    /// Compiles a scheme.
    ///
    /// # Errors
    /// A sentence where the parts do not make a scheme.
    pub fn new(parts: SchemeParts) -> Result<Self, String> {
        let template = parts.signed.as_ref().map_or(&[][..], |signed| &signed.parts);
        if template.is_empty() == parts.algorithm.signs() {
            return Err(format!("`{}` and what is signed do not fit", parts.algorithm.as_str()));
        }
        if template.len() > PARTS_MAX {
            return Err(format!("the signed text has more than {PARTS_MAX} parts"));
        }
        let time = parts.timestamps.as_ref().map(|timestamps| &timestamps.from);
        let next = template.iter().skip(1).map(Some).chain([None]);
        let signed = template.iter().zip(next).map(|(part, next)| Piece::new(part, next, time));
        let signed = signed.collect();
        let json = JsonPaths::among(values(&parts));
        let each = |value: &Value| match &value.from {
            From::Json(path) | From::FormJson(_, path) => path.steps().contains(&Step::Each),
            _ => false,
        };
        if values(&parts).any(each) {
            return Err("`[*]` names many values where one is needed".into());
        }
        Ok(Self { parts, signed, json })
    }

    /// What it was made from.
    pub fn parts(&self) -> &SchemeParts {
        &self.parts
    }

    /// Whether it is the one that counts for a request, if no earlier one does.
    pub(super) fn counts(&self, headers: &HeaderMap) -> bool {
        self.parts.when.as_ref().is_none_or(|name| headers.contains_key(name))
    }

    /// Whether it signs the URL as the provider knows it.
    pub fn needs_public_url(&self) -> bool {
        values(&self.parts).any(|value| value.from == From::Url)
    }

    /// Whether whoever changes `value` breaks the signature.
    pub fn covers(&self, value: &Value) -> bool {
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
    /// signed time. What is done depends on the request and on how many keys there are, never on what they are.
    pub(super) fn check(
        &self,
        request: &Presented<'_>,
        keys: &[(u64, Key)],
        is_live: impl Fn(u64) -> bool,
    ) -> Result<(u64, Option<Timestamp>), Reason> {
        let view = View::new(request, self.json.as_ref());
        let lines = self.parts.container.lines(&view)?;
        let elements = self.parts.container.elements(lines.as_slice())?;
        let candidates = self.parts.container.candidates(&elements, self.parts.algorithm)?;
        let signed_at = self.signed_at(&view, &elements)?;
        self.requirements(&view, &elements)?;
        let pieces = self.pieces(&view, &elements)?;

        let mut matched = 0_u64;
        for (slot, key) in keys {
            let tag = key.tag(pieces.as_slice());
            let hit = among(&tag, candidates.as_slice()) & Choice::from(u8::from(is_live(*slot)));
            matched.conditional_assign(slot, hit & matched.ct_eq(&0));
        }
        Ok((matched, signed_at))
    }

    fn signed_at(
        &self,
        view: &View<'_>,
        elements: &Elements<'_>,
    ) -> Result<Option<Timestamp>, Reason> {
        let Some(timestamps) = &self.parts.timestamps else { return Ok(None) };
        let text = view.value(&timestamps.from, elements).map_err(|e| match e {
            Unusable::Absent => Reason::TimestampMissing,
            Unusable::Repeated => Reason::TimestampRepeated,
        })?;
        timestamps.check(&text, view.request().received_at).map(Some)
    }

    fn requirements(&self, view: &View<'_>, elements: &Elements<'_>) -> Result<(), Reason> {
        for (left, right) in &self.parts.require {
            let text =
                |template| view.text(template, elements).map_err(|_| Reason::RequirementFailed);
            if !bool::from(text(left)?.as_ref().ct_eq(text(right)?.as_ref())) {
                return Err(Reason::RequirementFailed);
            }
        }
        Ok(())
    }

    /// The signed text in pieces, borrowed wherever they stand.
    pub(super) fn pieces<'s>(
        &'s self,
        view: &'s View<'_>,
        elements: &Elements<'s>,
    ) -> Result<Few<Cow<'s, [u8]>, PARTS_MAX>, Reason> {
        let mut pieces = Few::new();
        for piece in &self.signed {
            let bytes = match piece {
                Piece::Literal(text) => Cow::Borrowed(text.as_slice()),
                Piece::Value { value, guard } => {
                    let found = view.value(value, elements).map_err(|e| e.input(&value.from))?;
                    Some(found).filter(|f| guard.allows(f)).ok_or(Reason::InputAmbiguous)?
                }
            };
            pieces.push(bytes).map_err(|Full| Reason::InputAmbiguous)?;
        }
        Ok(pieces)
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

    pub(super) fn view<'a>(&'a self, request: &'a Presented<'a>) -> View<'a> {
        View::new(request, self.json.as_ref())
    }
}

/// Every value that a scheme looks at.
fn values(parts: &SchemeParts) -> impl Iterator<Item = &Value> {
    let place = match &parts.container.place {
        Place::Header(_) => None,
        Place::Elsewhere(template) => Some(template),
    };
    let required = parts.require.iter().flat_map(|(left, right)| [left, right]);
    let templates = parts.signed.iter().chain(place).chain(required);
    templates
        .flat_map(Template::values)
        .chain(parts.timestamps.iter().map(|timestamps| &timestamps.from))
}

/// Whether `tag` is one of `candidates`; all of them are compared.
fn among(tag: &Tag, candidates: &[Tag]) -> Choice {
    candidates.iter().fold(Choice::from(0), |hit, candidate| hit | tag.is(candidate))
}

impl Piece {
    fn new(part: &Part, next: Option<&Part>, time: Option<&Value>) -> Self {
        match part {
            Part::Literal(text) => Self::Literal(text.clone().into_bytes()),
            Part::Value(value) => {
                let guard = match (&value.from, next) {
                    (From::Body | From::Method | From::Url | From::Path, _) => Guard::Open,
                    _ if Some(value) == time => Guard::Open,
                    (_, Some(Part::Literal(text))) => {
                        text.bytes().next().map_or(Guard::Bounded, Guard::Before)
                    }
                    (_, Some(Part::Value(_)) | None) => Guard::Bounded,
                };
                Self::Value { value: value.clone(), guard }
            }
        }
    }
}

impl Guard {
    fn allows(self, bytes: &[u8]) -> bool {
        let bounded = || bytes.len() <= TEXT_BYTES_MAX && !bytes.iter().any(u8::is_ascii_control);
        match self {
            Self::Open => true,
            Self::Bounded => bounded(),
            Self::Before(separator) => {
                bounded() && !bytes.iter().any(|byte| *byte == separator || *byte == b' ')
            }
        }
    }
}
