//! Templates prepared for one pass over the body.

use crate::{
    json::{Extractor, Path, Scalar, Step},
    verify::{From, Part, Template, Value},
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
    /// What is looked for in a JSON body.
    pub(super) json: Option<Paths>,
    /// What is looked for in the documents of form fields.
    pub(super) forms: Vec<(String, Paths)>,
    reads_form: bool,
}

/// Paths in one document, and the one pass that finds them.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    paths: Vec<Path>,
    pub(super) extractor: Extractor,
}

/// Where the scalars of an item are kept.
pub(super) const ITEM_ITSELF: usize = 0;
pub(super) const ITEM_ID: usize = 1;
pub(super) const ITEM_KIND: usize = 2;

impl Plan {
    /// Prepares one pass over the body for everything that is looked for.
    pub fn new(parts: PlanParts) -> Self {
        let mut json = parts.captures.clone();
        let mut forms: Vec<(String, Vec<Path>)> = Vec::new();
        let mut reads_form = false;
        for from in values(&parts) {
            match from {
                From::Json(path) => json.push(path.clone()),
                From::FormJson(field, path) => match forms.iter_mut().find(|(f, _)| f == field) {
                    Some((_, paths)) => paths.push(path.clone()),
                    None => forms.push((field.clone(), vec![path.clone()])),
                },
                From::Form(_) => reads_form = true,
                From::Body
                | From::Method
                | From::Url
                | From::Path
                | From::Header(_)
                | From::Query(_)
                | From::Variable(_) => {}
            }
        }
        reads_form |= !forms.is_empty();
        let json = match &parts.items {
            Some(items) => Some(Paths { extractor: with_items(&json, items, &parts), paths: json }),
            None => (!json.is_empty()).then(|| Paths::new(json)),
        };
        let forms = forms.into_iter().map(|(field, paths)| (field, Paths::new(paths))).collect();
        Self { parts, json, forms, reads_form }
    }

    /// What it was made from.
    pub fn parts(&self) -> &PlanParts {
        &self.parts
    }

    /// Whether anything is looked for in the body, other than its digest.
    pub(super) fn reads_body(&self) -> bool {
        self.json.is_some() || self.reads_form
    }
}

impl Paths {
    fn new(paths: Vec<Path>) -> Self {
        Self { extractor: Extractor::new(&paths), paths }
    }

    /// What was found at `path`, among all that was `found`.
    pub(super) fn at<'f, 'a>(
        &self,
        path: &Path,
        found: &'f [Option<Scalar<'a>>],
    ) -> Option<&'f Scalar<'a>> {
        found.get(self.paths.iter().position(|known| known == path)?)?.as_ref()
    }
}

/// Every value of every template.
fn values(parts: &PlanParts) -> impl Iterator<Item = &From> {
    let templates = parts.id.iter().chain(&parts.kind).chain(&parts.account);
    templates.flat_map(|template| &template.parts).filter_map(|part| match part {
        Part::Value(value) => Some(&value.from),
        Part::Literal(_) => None,
    })
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
