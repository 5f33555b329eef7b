//! Templates prepared for one pass over the body.

use http::HeaderName;

use crate::{
    json::{Extractor, Path, Step},
    verify::{From, Part, Template, Transform, Value},
};

/// What a [`Plan`] is made from.
#[derive(Clone, Debug, Default)]
pub struct PlanParts {
    /// Templates of the id; the first that yields a value counts.
    pub id: Vec<Template>,
    /// Templates of the type.
    pub kind: Vec<Template>,
    /// Templates of the account.
    pub account: Vec<Template>,
    /// Whether ids are JSON integers instead of strings.
    pub id_is_integer: bool,
    /// Path of a batch's items. An item that is a scalar is its own id; otherwise id and type of an item are where the
    /// templates find them in one of the items: with items `[*]` and the id at `[0].eventId`, at `eventId` in each.
    pub items: Option<Path>,
    /// Paths that routes look at.
    pub captures: Vec<Path>,
    /// Whether the signature covers the id.
    pub id_covered: bool,
    /// Whether one body never serves two types at this provider.
    pub one_type_per_body: bool,
}

/// Where id, type, account, items and the values that routes look at are.
#[derive(Clone, Debug)]
pub struct Plan {
    parts: PlanParts,
    pub(super) id: Vec<Text>,
    pub(super) kind: Vec<Text>,
    pub(super) account: Vec<Text>,
    /// Of the body; the first values are the captures.
    pub(super) json: Option<Extractor>,
    /// Of documents in form fields.
    pub(super) forms: Vec<(String, Extractor)>,
    pub(super) any_form: bool,
}

/// A template whose values know where they are.
pub(super) type Text = Vec<Piece>;

/// A part of a [`Text`].
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(String),
    Value(Place, Vec<Transform>),
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The `n`-th value of the body's extractor.
    Json(usize),
    /// The `n`-th value of a form field's extractor.
    FormJson(usize, usize),
    Header(HeaderName),
    Query(String),
    Form(String),
    /// Path and query; the host says nothing about an event.
    Target,
    Method,
    Body,
    BodyDigest,
    /// A variable of the signature: not there any more.
    Nowhere,
}

/// Where the scalars of an item are kept.
pub(super) const ITEM_ITSELF: usize = 0;
pub(super) const ITEM_ID: usize = 1;
pub(super) const ITEM_KIND: usize = 2;

impl Plan {
    /// Prepares one pass over the body for everything that is looked for.
    pub fn new(parts: PlanParts) -> Self {
        let mut paths = Paths { json: parts.captures.clone(), forms: Vec::new() };
        let mut texts = |templates: &[Template]| -> Vec<Text> {
            templates.iter().map(|template| paths.text(template)).collect()
        };
        let (id, kind, account) = (texts(&parts.id), texts(&parts.kind), texts(&parts.account));
        let extractor = match &parts.items {
            Some(items) => Some(with_items(&paths.json, items, &parts)),
            None => (!paths.json.is_empty()).then(|| Extractor::new(&paths.json)),
        };
        let prepared =
            paths.forms.into_iter().map(|(field, paths)| (field, Extractor::new(&paths)));
        let is_form =
            |piece: &Piece| matches!(piece, Piece::Value(Place::Form(_) | Place::FormJson(..), _));
        let any_form = [&id, &kind, &account].into_iter().flatten().flatten().any(is_form);
        Self { id, kind, account, json: extractor, forms: prepared.collect(), any_form, parts }
    }

    /// What it was made from.
    pub fn parts(&self) -> &PlanParts {
        &self.parts
    }

    /// Whether anything is looked for in the body, other than its digest.
    pub(super) fn reads_body(&self) -> bool {
        self.json.is_some() || self.any_form
    }
}

/// Paths gathered so far.
struct Paths {
    json: Vec<Path>,
    forms: Vec<(String, Vec<Path>)>,
}

impl Paths {
    fn text(&mut self, template: &Template) -> Text {
        let piece = |part: &Part| match part {
            Part::Literal(text) => Piece::Literal(text.clone()),
            Part::Value(value) => self.value(value),
        };
        template.parts.iter().map(piece).collect()
    }

    fn value(&mut self, Value { from, transforms }: &Value) -> Piece {
        let place = match from {
            From::Body => match transforms.split_first() {
                Some((Transform::Sha256Hex, rest)) => {
                    return Piece::Value(Place::BodyDigest, rest.to_vec());
                }
                _ => Place::Body,
            },
            From::Method => Place::Method,
            From::Url | From::Path => Place::Target,
            From::Header(name) => Place::Header(name.clone()),
            From::Query(name) => Place::Query(name.clone()),
            From::Form(name) => Place::Form(name.clone()),
            From::Json(path) => Place::Json(add(&mut self.json, path)),
            From::FormJson(field, path) => self.form_json(field, path),
            From::Variable(_) => Place::Nowhere,
        };
        Piece::Value(place, transforms.clone())
    }

    fn form_json(&mut self, field: &str, path: &Path) -> Place {
        let known = self.forms.iter().position(|(f, _)| f == field);
        let form = known.unwrap_or_else(|| {
            self.forms.push((field.to_owned(), Vec::new()));
            self.forms.len() - 1
        });
        let paths = self.forms.get_mut(form);
        Place::FormJson(form, paths.map_or(0, |(_, paths)| add(paths, path)))
    }
}

fn add(paths: &mut Vec<Path>, path: &Path) -> usize {
    paths.push(path.clone());
    paths.len() - 1
}

/// Prepares what is looked for in every item, in the order of the `ITEM_…` constants.
fn with_items(paths: &[Path], items: &Path, parts: &PlanParts) -> Extractor {
    let id = inside(items, &parts.id).unwrap_or_default();
    let kind = inside(items, &parts.kind).unwrap_or(&[Step::Each]); // finds nothing
    Extractor::with_items(paths, items, &[&[], id, kind])
}

/// The steps from an item to the value of the first template that reads one item.
fn inside<'t>(items: &Path, templates: &'t [Template]) -> Option<&'t [Step]> {
    templates.iter().find_map(|template| match template.parts.as_slice() {
        [Part::Value(Value { from: From::Json(path), .. })] => {
            let (way, rest) = path.steps().split_at_checked(items.steps().len())?;
            let same = |(at, item): (&Step, &Step)| match item {
                Step::Each => matches!(at, Step::Index(_)),
                Step::Key(_) | Step::Index(_) => at == item,
            };
            way.iter().zip(items.steps()).all(same).then_some(rest)
        }
        _ => None,
    })
}
