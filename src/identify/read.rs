//! One reading of a request: everything that a plan looks for, or the first thing that is wrong.

use std::borrow::Cow;

use super::{AsRead, ITEM_ID, ITEM_ITSELF, ITEM_KIND, Plan};
use crate::{
    event::{Digest, EventId, EventType, TEXT_BYTES_MAX},
    json::Scalar,
    receive::Envelope,
    verify::{
        Form, From, NOT_JSON, Part, Presented, Template, Token, Transform, Value, View, transform,
    },
};

/// What a request says about itself.
pub(super) struct Names {
    pub(super) id: EventId,
    pub(super) kind: EventType,
    pub(super) account: Option<EventId>,
    pub(super) items: Vec<Item>,
    pub(super) captured: Vec<Option<String>>,
}

type Item = (Option<EventId>, Option<EventType>);

/// What is wrong, named by its place.
type Wrong = &'static str;

/// A request, seen by a plan.
pub(super) struct Reader<'r> {
    plan: &'r Plan,
    view: View<'r>,
    digest: Digest,
}

/// A name that a plan has templates for.
struct Role {
    /// Which JSON types are taken for it: `1` and `"1"` are never one id, but may be one type. Null is as if it were not there, since providers
    /// write optional names so; but no id is optional.
    takes: fn(&Scalar<'_>) -> bool,
    mistyped: Wrong,
    unfit: Wrong,
}

const ID: Role = Role {
    takes: |scalar| matches!(scalar, Scalar::String(_)),
    mistyped: "the event id is not a string",
    unfit: "the event id is empty, too long, or holds control characters",
};
const INTEGER_ID: Role = Role {
    takes: |scalar| matches!(scalar, Scalar::Integer(_)),
    mistyped: "the event id is not an integer",
    ..ID
};
const KIND: Role = Role {
    takes: |scalar| matches!(scalar, Scalar::String(_) | Scalar::Integer(_) | Scalar::Null),
    mistyped: "the event type is neither a string nor an integer",
    unfit: "the event type is empty, too long, or holds control characters",
};
const ACCOUNT: Role = Role {
    takes: |scalar| matches!(scalar, Scalar::String(_) | Scalar::Integer(_) | Scalar::Null),
    mistyped: "the account is neither a string nor an integer",
    unfit: "the account is empty, too long, or holds control characters",
};

impl<'r> Reader<'r> {
    pub(super) fn new(
        plan: &'r Plan,
        envelope: &'r Envelope,
        digest: Digest,
        token: Option<&'r Token>,
    ) -> Self {
        let request = Presented::of(envelope, "");
        // The host says nothing about an event.
        let view = View::new(Presented { url: request.target, ..request }, &plan.sought);
        let view = match token {
            Some(token) => view.with_token(token),
            None => view,
        };
        Self { plan, view, digest }
    }

    /// Everything that is looked for.
    pub(super) fn names(&self) -> Result<Names, Wrong> {
        let parts = &self.plan.parts;
        if self.plan.sought.in_body {
            self.view.read()?;
        }
        let id = self.name(&parts.id, self.id_role(), EventId::parse)?;
        let kind = self.name(&parts.kind, &KIND, EventType::parse)?;
        Ok(Names {
            id: id.ok_or_else(|| self.missing(&parts.id, "no event id"))?,
            kind: kind.ok_or_else(|| self.missing(&parts.kind, "no event type"))?,
            account: self.name(&parts.account, &ACCOUNT, EventId::parse)?,
            items: self.items(),
            captured: self.captured(),
        })
    }

    /// Everything that can be read and is usable.
    pub(super) fn leniently(&self) -> AsRead {
        let parts = &self.plan.parts;
        AsRead {
            kind: self.name(&parts.kind, &KIND, EventType::parse).ok().flatten(),
            captured: self.captured(),
        }
    }

    fn id_role(&self) -> &'static Role {
        if self.plan.parts.id_is_integer { &INTEGER_ID } else { &ID }
    }

    /// The first of `templates` whose values are all there. A value that is there but is not usable ends the search:
    /// another reader could take it for the name.
    fn name<T>(
        &self,
        templates: &[Template],
        role: &Role,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        let found = templates.iter().find_map(|template| self.text(template, role).transpose());
        let parse = |text: Cow<'_, [u8]>| std::str::from_utf8(&text).ok().and_then(&parse);
        found.transpose()?.map(|text| parse(text).ok_or(role.unfit)).transpose()
    }

    fn text(&self, template: &Template, role: &Role) -> Result<Option<Cow<'_, [u8]>>, Wrong> {
        if let Some(value) = template.sole_value() {
            return self.value(value, role);
        }
        let mut joined = Vec::new();
        for part in &template.parts {
            let value = match part {
                Part::Literal(text) => {
                    joined.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Value(value) => value,
            };
            let Some(text) = self.value(value, role)? else { return Ok(None) };
            // An empty part would make two different names look the same.
            if text.is_empty() && !value.transforms.contains(&Transform::DefaultEmpty) {
                return Err(role.unfit);
            }
            joined.extend_from_slice(&text);
        }
        Ok(Some(Cow::Owned(joined)))
    }

    fn value(&self, value: &Value, role: &Role) -> Result<Option<Cow<'_, [u8]>>, Wrong> {
        if let Ok(Some(scalar)) = self.view.scalar(&value.from)
            && !(role.takes)(scalar)
        {
            return Err(role.mistyped);
        }
        let (found, transforms) = match (&value.from, value.transforms.as_slice()) {
            (From::Body, [Transform::Sha256Hex, rest @ ..]) => {
                (Ok(Cow::Owned(self.digest.to_string().into())), rest)
            }
            (place, transforms) => (self.view.find(place, &[]), transforms),
        };
        let is_header = matches!(value.from, From::Header(_));
        if is_header && found.as_ref().is_ok_and(|text| !text.is_ascii()) {
            return Err(role.unfit); // its charset is anybody's guess
        }
        Ok(transform(found, transforms).ok())
    }

    /// What is said where a name is not there.
    fn missing(&self, templates: &[Template], plain: Wrong) -> Wrong {
        let mut values = templates.iter().flat_map(Template::values);
        let wants_json = values.any(|value| matches!(value.from, From::Json(_)));
        if wants_json && self.view.form() != Ok(Form::Json) { NOT_JSON } else { plain }
    }

    fn captured(&self) -> Vec<Option<String>> {
        let short = |text: Cow<'_, str>| (text.len() <= CAPTURED_BYTES_MAX).then(|| text.into());
        let value = |place| self.view.scalar(place).ok()??.to_text().and_then(short);
        self.plan.captures.iter().map(value).collect()
    }

    fn items(&self) -> Vec<Item> {
        let text = |item: &[Option<Scalar<'_>>], n: usize, role: &Role| {
            let scalar = item.get(n)?.as_ref().filter(|scalar| (role.takes)(scalar))?;
            scalar.to_text().map(Cow::into_owned)
        };
        let item = |item: &Vec<_>| {
            let role = self.id_role();
            let id = text(item, ITEM_ITSELF, role).or_else(|| text(item, ITEM_ID, role));
            let kind = text(item, ITEM_KIND, &KIND);
            (id.and_then(|id| EventId::parse(&id)), kind.and_then(|kind| EventType::parse(&kind)))
        };
        self.view.items().iter().map(item).collect()
    }
}

/// Longer values are not compared with a route's `when`.
const CAPTURED_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX;
