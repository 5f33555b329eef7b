//! One signature scheme: what is looked for, in which order, and when it holds.

use std::{borrow::Cow, collections::BTreeSet, iter};

use arrayvec::ArrayVec;
use http::HeaderName;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{
    Container, Equality, Foreign, From, KeySource, Place, Presented, Template, Timestamps,
    UrlVariant, Value,
    container::GROUPS_MAX,
    foreign,
    key::{Algorithm, Key, KeyForm, Tag},
    sign::unusable,
    text::PARTS_MAX,
    view::{Sought, Unusable, Variable, View},
    when::Condition,
};
use crate::{
    answer::Reason,
    event::{Digest, Timestamp},
    json::{Path, Step},
};

/// Signed texts that are tried at most, of which any may be what the provider signed.
const SIGNED_MAX: usize = 4;

/// What a [`Scheme`] is made from.
#[derive(Clone, Debug)]
pub(crate) struct SchemeParts {
    /// What must hold for this scheme to be the one that counts; always, where there is nothing.
    pub(crate) when: Vec<Condition>,
    /// How configured text becomes a key.
    pub(crate) key: KeyForm,
    /// Where signatures are: one place, or several of which any may hold a good one.
    pub(crate) containers: Vec<Container>,
    /// The exact bytes that are signed, any of them; none for an algorithm that signs nothing.
    pub(crate) signed: Vec<Template>,
    pub(crate) algorithm: Algorithm,
    /// The signed time.
    pub(crate) timestamps: Option<Timestamps>,
    /// What must be equal besides.
    pub(crate) require: Vec<Equality>,
    /// What is needed where signatures are not compared but checked.
    pub(crate) foreign: Option<Box<Foreign>>,
    /// The items of the body, each of which is signed by itself and begins its JSON paths.
    pub(crate) for_each: Option<Path>,
    /// Forms of the URL, any of which may be what the provider signed.
    pub(crate) url_variants: Vec<UrlVariant>,
    /// A scheme that compares a secret and must hold as well.
    pub(crate) besides: Option<Box<Scheme>>,
    /// Whether the text that was signed tells a replay, where more of a request can be changed than that.
    pub(crate) text_tells: bool,
}

/// One signature scheme, compiled.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(crate) parts: SchemeParts,
    sought: Sought,
    needs_public_url: bool,
}

/// What matched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Which secret, counted from 1; 0 where none did.
    pub(super) slot: u16,
    /// The signed time.
    pub(super) signed_at: Option<Timestamp>,
    /// Of the text that was signed, where it tells replays; of all items' texts, where those are signed one by one.
    pub(super) text: Option<Digest>,
}

const NO_MATCH: Match = Match { slot: 0, signed_at: None, text: None };

impl Scheme {
    /// Compiles a scheme, or says in a sentence why the parts do not make one.
    pub(crate) fn new(parts: SchemeParts) -> Result<Self, String> {
        let name = parts.algorithm.as_str();
        if parts.signed.is_empty() == parts.algorithm.signs_template() {
            return Err(format!("`{name}` and what is signed do not fit"));
        }
        if parts.signed.len() > SIGNED_MAX || parts.url_variants.len() > SIGNED_MAX + 1 {
            return Err(format!("more than {SIGNED_MAX} signed texts are tried"));
        }
        if parts.signed.iter().any(|signed| signed.parts.len() > PARTS_MAX) {
            return Err(format!("the signed text has more than {PARTS_MAX} parts"));
        }
        if let Some(key) = foreign::odd(&parts) {
            return Err(format!("`{key}` does not go with `mac: {name}`: remove it"));
        }
        let secrets =
            |signed: &Template| signed.values().filter(|v| v.from == From::Secret).count();
        let wanted = usize::from(parts.algorithm == Algorithm::HashSha256);
        if parts.signed.iter().any(|signed| secrets(signed) != wanted) {
            let how = if wanted == 1 {
                "stands once in what is signed: `signed: \"{secret}{body}\"`"
            } else {
                "does not stand in what is signed: write `mac: hash-sha256` where it does"
            };
            return Err(format!("with `mac: {name}`, `{{secret}}` {how}"));
        }
        let is_item = |value: &Value| value.from == From::Json(Path::ITEM);
        if parts.for_each.is_none() && values(&parts).any(is_item) {
            return Err("`{item}` is one of a list: name it with `for_each`".into());
        }
        let each = |value: &Value| match &value.from {
            From::Json(path) | From::FormJson(_, path) => path.steps().contains(&Step::Each),
            _ => false,
        };
        if values(&parts).any(each) {
            return Err("`[*]` names many values where one is needed".into());
        }
        let conditions = parts.when.iter().filter_map(Condition::place);
        let places = values(&parts).map(|value| &value.from);
        let sought = match &parts.for_each {
            Some(items) => Sought::for_each(items, places, conditions),
            None => Sought::new(places.chain(conditions), None),
        };
        let needs_public_url = parts.algorithm == Algorithm::Rfc9421
            || values(&parts).any(|value| value.from == From::Url);
        Ok(Self { parts, sought, needs_public_url })
    }

    /// Whether it is the one that counts for a request, if no earlier one does.
    pub(crate) fn counts(&self, request: &Presented<'_>) -> bool {
        self.parts.when.iter().all(|condition| condition.holds(request, &self.sought))
    }

    /// Itself, and what must hold besides.
    pub(crate) fn with_besides(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.parts.besides.as_deref())
    }

    /// Headers that carry signatures.
    pub(crate) fn signature_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.parts.containers.iter().filter_map(|container| match &container.place {
            Place::Header(name) => Some(name),
            Place::Numbered(_) | Place::Elsewhere(_) => None,
        })
    }

    /// The time that a request shows, signed or not, and whether it is near enough.
    pub fn shown_time(&self, request: &Presented<'_>) -> Option<(Timestamp, bool)> {
        let timestamps = self.parts.timestamps.as_ref()?;
        let view = View::new(*request, &self.sought);
        self.parts.containers.iter().find_map(|container| {
            let lines = container.lines(&view).ok()?;
            let elements = container.elements(&lines).ok()?;
            let text = view.value(&timestamps.from, &elements).ok()?;
            let is_near = timestamps.check(&text, request.received_at).is_ok();
            Some((timestamps.unit.read(&text)?, is_near))
        })
    }

    /// Whether it can be used without a configured key.
    pub(crate) fn finds_keys(&self) -> bool {
        let source = self.parts.foreign.as_ref().and_then(|foreign| foreign.source.as_ref());
        source.is_some_and(KeySource::finds_keys)
    }

    /// How whoever asks for its keys shows that it may.
    pub(crate) fn credential(&self) -> Option<&(HeaderName, String)> {
        self.parts.foreign.as_ref()?.credential.as_ref()
    }

    /// Whether it signs the URL as the provider knows it.
    pub(crate) fn needs_public_url(&self) -> bool {
        self.needs_public_url
    }

    /// Checks a request under `keys`. Before a signature held, what is done depends on the request and on how many keys there are,
    /// never on what they are; and nothing of the body is parsed, unless the provider signs a value out of it.
    pub(super) fn check(
        &self,
        request: Presented<'_>,
        keys: &Keys<'_, impl May>,
    ) -> Result<Match, Reason> {
        if self.parts.url_variants.is_empty() {
            return self.check_items(&View::new(request, &self.sought), keys);
        }
        for variant in &self.parts.url_variants {
            let url = variant.of(request.url);
            let view = View::new(Presented { url: &url, ..request }, &self.sought);
            let found = self.check_items(&view, keys)?;
            if found != NO_MATCH {
                return Ok(found);
            }
        }
        Ok(NO_MATCH)
    }

    /// Every item by itself, where the provider signs so: all must hold, and there must be one.
    fn check_items(&self, view: &View<'_>, keys: &Keys<'_, impl May>) -> Result<Match, Reason> {
        if self.parts.for_each.is_none() {
            return self.check_places(view, keys);
        }
        let count = view.items_count().ok_or(Reason::InputAmbiguous)?;
        let mut first = Err(Reason::SignatureMissing);
        // Nobody needs a secret to list items in another order, or one of them twice.
        let mut texts = BTreeSet::new();
        for item in (0..count).rev() {
            view.look_at_item(Some(item));
            let found = self.check_places(view, keys)?;
            if found.slot == 0 {
                return Ok(NO_MATCH);
            }
            texts.extend(found.text.map(|text| text.0));
            first = Ok(found);
        }
        let texts: Vec<_> = texts.into_iter().collect();
        let of_all = |found: Match| found.text.map(|_| Digest::of(&texts.concat()));
        first.map(|found| Match { text: of_all(found), ..found })
    }

    /// Every place where a signature may be; one that is empty counts only where all are.
    fn check_places(&self, view: &View<'_>, keys: &Keys<'_, impl May>) -> Result<Match, Reason> {
        let mut found = Err(Reason::SignatureMissing);
        for container in &self.parts.containers {
            match self.check_groups(container, view, keys) {
                Ok(NO_MATCH) => found = Ok(NO_MATCH),
                Err(Reason::SignatureMissing) => {}
                decided => return decided,
            }
        }
        found
    }

    fn check_groups(
        &self,
        container: &Container,
        view: &View<'_>,
        keys: &Keys<'_, impl May>,
    ) -> Result<Match, Reason> {
        let lines = container.lines(view)?;
        let Some(separator) = container.groups else {
            return self.check_group(container, view, &container.elements(&lines)?, keys);
        };
        let groups: ArrayVec<[Cow<'_, [u8]>; 1], GROUPS_MAX> = {
            let mut groups = ArrayVec::new();
            for text in lines.iter().flat_map(|line| line.split(|byte| *byte == separator)) {
                groups.try_push([text.into()]).map_err(|_| Reason::SignaturesTooMany)?;
            }
            groups
        };
        // All are taken apart before the first is believed: rubbish behind a good one is rubbish.
        let mut apart = ArrayVec::<_, GROUPS_MAX>::new();
        for group in &groups {
            apart.push(container.elements(group)?);
        }
        for elements in apart {
            let found = self.check_group(container, view, &elements, keys)?;
            if found != NO_MATCH {
                return Ok(found);
            }
        }
        Ok(NO_MATCH)
    }

    fn check_group(
        &self,
        container: &Container,
        view: &View<'_>,
        elements: &[Variable<'_>],
        keys: &Keys<'_, impl May>,
    ) -> Result<Match, Reason> {
        let candidates = container.candidates(elements, self.parts.algorithm)?;
        let key_id = container.key_id.as_ref().map(|template| template.text(view, elements));
        let key_id = key_id.transpose().map_err(|unusable| unusable.input(&From::Body))?;
        let own = |slot| container.secret_slot == 0 || container.secret_slot == slot;
        let (mut matched, mut matched_text) = (0_u16, 0_u8);
        let nothing = [Template::default()];
        let texts = if self.parts.signed.is_empty() { &nothing[..] } else { &self.parts.signed };
        for (signed, number) in texts.iter().zip(0_u8..) {
            let pieces = self.pieces(signed, view, elements)?;
            for (slot, key) in keys.all {
                let tag = key.tag(&pieces, signed.secret_at());
                let is =
                    candidates.iter().fold(Choice::from(0), |is, candidate| is | tag.is(candidate));
                let may = own(*slot) && (keys.may)(*slot, key_id.as_deref());
                let hit = is & Choice::from(u8::from(may)) & matched.ct_eq(&0);
                matched_text.conditional_assign(&number, hit);
                matched.conditional_assign(slot, hit);
            }
        }
        if matched == 0 {
            return Ok(NO_MATCH);
        }
        self.check_requirements(view, elements)?;
        let signed_at = self.signed_at(view, elements)?;
        let text = texts.get(usize::from(matched_text)).filter(|_| self.parts.text_tells);
        let text = text.map(|signed| self.pieces(signed, view, elements)).transpose()?;
        let text = text.map(|pieces| Digest::of(&pieces.concat()));
        Ok(Match { slot: matched, signed_at, text })
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
        let holds = self.parts.require.iter().all(|equal| equal.holds(view, elements));
        if holds { Ok(()) } else { Err(Reason::RequirementFailed) }
    }

    /// A request as its templates see it.
    pub(super) fn view<'a>(&'a self, request: Presented<'a>) -> View<'a> {
        View::new(request, &self.sought)
    }

    /// Whether requests name the secret that they are signed with.
    pub(super) fn names_secrets(&self) -> bool {
        self.parts.containers.iter().any(|container| container.key_id.is_some())
    }

    /// How many items a body has that are signed one by one.
    pub(super) fn items_of(&self, request: &Presented<'_>) -> Option<usize> {
        self.parts.for_each.as_ref()?;
        self.view(*request).items_count()
    }

    /// The tag of a request, or of one of its items: over the first of the texts that may be signed, with the first form of the URL.
    pub(super) fn tag(
        &self,
        request: Presented<'_>,
        key: &Key,
        variable: Option<(&str, &str)>,
        item: Option<usize>,
    ) -> Result<Tag, String> {
        if self.parts.for_each.is_some() != item.is_some() {
            return Err("every item of the body is signed by itself, inside of it".into());
        }
        let signed = self.parts.signed.first().ok_or("nothing is signed")?;
        let variant = self.parts.url_variants.first();
        let url = variant.map_or(Cow::Borrowed(request.url), |variant| variant.of(request.url));
        let view = View::new(Presented { url: &url, ..request }, &self.sought);
        view.look_at_item(item);
        let variable = variable.map(|(name, time)| (name.as_bytes(), time.as_bytes()));
        let pieces = self.pieces(signed, &view, variable.as_slice()).map_err(unusable)?;
        Ok(key.tag(&pieces, signed.secret_at()))
    }
}

/// Keys, numbered by slot, and which of them may match.
pub(super) struct Keys<'k, M> {
    pub(super) all: &'k [(u16, Key)],
    pub(super) may: M,
}

/// Says of a slot whether its secret is live and, where the request names one, has this id.
pub(super) trait May: Fn(u16, Option<&[u8]>) -> bool {}

impl<F: Fn(u16, Option<&[u8]>) -> bool> May for F {}

/// Every value that a scheme looks at.
fn values(parts: &SchemeParts) -> impl Iterator<Item = &Value> {
    let places = parts.containers.iter().flat_map(|container| {
        let place = match &container.place {
            Place::Header(_) | Place::Numbered(_) => None,
            Place::Elsewhere(template) => Some(template),
        };
        place.into_iter().chain(&container.key_id)
    });
    let required = parts.require.iter().flat_map(Equality::templates);
    let foreign = parts.foreign.iter().flat_map(|foreign| foreign.templates());
    let templates = parts.signed.iter().chain(places).chain(required).chain(foreign);
    templates.flat_map(Template::values).chain(parts.timestamps.iter().map(|time| &time.from))
}
