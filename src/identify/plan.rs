//! Templates prepared for one pass over the body.

use crate::{
    json::{Path, Step},
    verify::{From, Part, Sought, Template, Value},
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
    pub(super) captures: Vec<From>,
    pub(super) sought: Sought,
}

/// Where the scalars of an item are kept.
pub(super) const ITEM_ITSELF: usize = 0;
pub(super) const ITEM_ID: usize = 1;
pub(super) const ITEM_KIND: usize = 2;

impl Plan {
    /// Prepares one pass over the body for everything that is looked for.
    pub fn new(parts: PlanParts) -> Self {
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
        Self { parts, captures, sought }
    }

    /// What it was made from.
    pub fn parts(&self) -> &PlanParts {
        &self.parts
    }
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
