//! One reading of a request: everything that a plan looks for, or the first thing that is wrong.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header};

use super::{
    AsRead,
    plan::{ITEM_ID, ITEM_ITSELF, ITEM_KIND, Plan},
};
use crate::{
    event::{Digest, EventId, EventType, TEXT_BYTES_MAX},
    handshake::{field, sole},
    json::{Found, JsonError, Path, Scalar},
    receive::Envelope,
    verify::{From, Part, Template, Transform, Value},
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

/// A request whose body has been read once.
pub(super) struct Reader<'r> {
    plan: &'r Plan,
    headers: &'r HeaderMap,
    uri: &'r Uri,
    body: &'r [u8],
    digest: Digest,
    is_form: bool,
    json: Option<Found<'r>>,
    forms: Vec<Vec<Option<Scalar<'static>>>>,
}

/// A name that a plan has templates for, and what is said where it is not usable.
struct Role {
    accepts: Accepts,
    /// Whether null is as if it were not there: providers write optional names so, but no id is optional.
    optional: bool,
    mistyped: Wrong,
    unfit: Wrong,
}

/// The JSON types that are taken for a name; `1` and `"1"` are never one id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    String,
    Integer,
    Either,
}

const ID: Role = Role {
    accepts: Accepts::String,
    optional: false,
    mistyped: "the event id is not a string",
    unfit: "the event id is empty, too long, or holds control characters",
};
const INTEGER_ID: Role =
    Role { accepts: Accepts::Integer, mistyped: "the event id is not an integer", ..ID };
const KIND: Role = Role {
    accepts: Accepts::String,
    optional: true,
    mistyped: "the event type is not a string",
    unfit: "the event type is empty, too long, or holds control characters",
};
const ACCOUNT: Role = Role {
    accepts: Accepts::Either,
    optional: true,
    mistyped: "the account is neither a string nor an integer",
    unfit: "the account is empty, too long, or holds control characters",
};

impl<'r> Reader<'r> {
    /// Reads the body once, as far as the plan needs it.
    pub(super) fn new(
        plan: &'r Plan,
        envelope: &'r Envelope,
        digest: Digest,
    ) -> Result<Self, Wrong> {
        let mut reader = Self::unread(plan, envelope, digest);
        if plan.reads_body() {
            reader.read_body()?;
        }
        Ok(reader)
    }

    /// The same, where what cannot be read counts as not there.
    pub(super) fn lenient(plan: &'r Plan, envelope: &'r Envelope) -> Self {
        let digest = Digest::of(envelope.body());
        Self::new(plan, envelope, digest).unwrap_or_else(|_| Self::unread(plan, envelope, digest))
    }

    fn unread(plan: &'r Plan, envelope: &'r Envelope, digest: Digest) -> Self {
        let (headers, uri, body) = (envelope.headers(), envelope.uri(), envelope.body());
        Self { plan, headers, uri, body, digest, is_form: false, json: None, forms: Vec::new() }
    }

    fn read_body(&mut self) -> Result<(), Wrong> {
        match Form::of(self.headers, self.body)? {
            Form::Json => {
                let found = self.plan.json.as_ref().map(|json| json.extractor.find(self.body));
                self.json = found.transpose().map_err(unreadable)?;
            }
            Form::Fields => {
                self.is_form = true;
                for (name, paths) in &self.plan.forms {
                    let document = field(self.body, name);
                    let found =
                        document.map(|text| paths.extractor.run(text.as_bytes()).map(owned));
                    self.forms.push(found.transpose().map_err(unreadable)?.unwrap_or_default());
                }
            }
            Form::Other => {}
        }
        Ok(())
    }

    /// Everything that is looked for.
    pub(super) fn names(self) -> Result<Names, Wrong> {
        let id = self.text(&self.plan.parts().id, &self.id_role())?;
        let id = id.ok_or_else(|| self.missing(&self.plan.parts().id, "no event id"))?;
        let kind = self.text(&self.plan.parts().kind, &KIND)?;
        let kind = kind.ok_or_else(|| self.missing(&self.plan.parts().kind, "no event type"))?;
        let account = self.text(&self.plan.parts().account, &ACCOUNT)?;
        Ok(Names {
            id: EventId::parse(&id).ok_or(ID.unfit)?,
            kind: EventType::parse(&kind).ok_or(KIND.unfit)?,
            account: account.map(|a| EventId::parse(&a).ok_or(ACCOUNT.unfit)).transpose()?,
            items: self.items(),
            captured: self.captured(),
        })
    }

    /// Everything that can be read and is usable.
    pub(super) fn leniently(self) -> AsRead {
        let text = |texts, role| self.text(texts, role).ok().flatten();
        AsRead {
            id: text(&self.plan.parts().id, &self.id_role()).and_then(|id| EventId::parse(&id)),
            kind: text(&self.plan.parts().kind, &KIND).and_then(|kind| EventType::parse(&kind)),
            captured: self.captured(),
        }
    }

    fn id_role(&self) -> Role {
        if self.plan.parts().id_is_integer { INTEGER_ID } else { ID }
    }

    /// The first of `templates` whose values are all there. A value that is there but is not usable ends the search:
    /// another reader could take it for the name.
    fn text(&self, templates: &[Template], role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        let mut found = templates.iter().map(|template| self.joined(&template.parts, role));
        found.find_map(Result::transpose).transpose()
    }

    fn joined(&self, parts: &[Part], role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        if let [Part::Value(value)] = parts {
            return self.value(value, role);
        }
        let mut joined = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => joined.push_str(text),
                Part::Value(value) => match self.value(value, role)? {
                    // An empty part would make two different names look the same.
                    Some(text) if text.is_empty() && !may_be_empty(value) => return Err(role.unfit),
                    Some(text) => joined.push_str(&text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(Cow::Owned(joined)))
    }

    fn value(&self, value: &Value, role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        let (mut text, transforms) = match (&value.from, value.transforms.split_first()) {
            (From::Body, Some((Transform::Sha256Hex, rest))) => {
                (Some(self.digest.to_string().into()), rest)
            }
            (from, _) => (self.find(from, role)?, value.transforms.as_slice()),
        };
        for transform in transforms {
            text = match (transform, text) {
                (Transform::DefaultEmpty, None) => Some(Cow::Borrowed("")),
                (Transform::Sha256Hex, Some(text)) => {
                    Some(Digest::of(text.as_bytes()).to_string().into())
                }
                (Transform::Lower, Some(text)) => Some(text.to_ascii_lowercase().into()),
                (Transform::DefaultEmpty | Transform::Sha256Hex | Transform::Lower, text) => text,
            };
        }
        Ok(text)
    }

    fn find(&self, from: &From, role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        Ok(match from {
            From::Json(path) => role.take(self.json_at(path))?,
            From::FormJson(field, path) => role.take(self.form_json_at(field, path))?,
            From::Header(name) => {
                let value = sole(self.headers.get_all(name));
                value.map(|v| v.to_str().map(Cow::Borrowed).map_err(|_| role.unfit)).transpose()?
            }
            From::Query(name) => field(self.uri.query().unwrap_or_default().as_bytes(), name),
            From::Form(name) => self.is_form.then(|| field(self.body, name)).flatten(),
            // The host says nothing about an event.
            From::Url | From::Path => {
                self.uri.path_and_query().map(|target| target.as_str().into())
            }
            From::Method => Some("POST".into()), // the one method that gets here
            From::Body => Some(std::str::from_utf8(self.body).map_err(|_| role.unfit)?.into()),
            From::Variable(_) => None, // the signature's own parts are not kept
        })
    }

    fn json_at(&self, path: &Path) -> Option<&Scalar<'r>> {
        self.plan.json.as_ref()?.at(path, &self.json.as_ref()?.values)
    }

    fn form_json_at(&self, field: &str, path: &Path) -> Option<&Scalar<'static>> {
        let mut forms = self.plan.forms.iter().zip(&self.forms);
        forms
            .find(|((name, _), _)| name == field)
            .and_then(|((_, paths), found)| paths.at(path, found))
    }

    /// What is said where a name is not there.
    fn missing(&self, templates: &[Template], plain: Wrong) -> Wrong {
        let in_json = |part: &Part| matches!(part, Part::Value(Value { from: From::Json(_), .. }));
        let wants_json = templates.iter().flat_map(|template| &template.parts).any(in_json);
        if wants_json && self.json.is_none() { JSON_MISSING } else { plain }
    }

    fn captured(&self) -> Vec<Option<String>> {
        let values = self.json.as_ref().map_or(&[][..], |found| &found.values);
        let short = |text: Cow<'_, str>| (text.len() <= CAPTURED_BYTES_MAX).then(|| text.into());
        let captures = 0..self.plan.parts().captures.len();
        captures.map(|n| values.get(n)?.as_ref()?.to_text().and_then(short)).collect()
    }

    fn items(&self) -> Vec<Item> {
        let items = self.json.as_ref().map_or(&[][..], |found| &found.items);
        let role = self.id_role();
        let text = |item: &'_ [Option<Scalar<'r>>], n: usize, role: &Role| {
            role.take(item.get(n)?.as_ref()).ok().flatten().map(Cow::into_owned)
        };
        let item = |item: &Vec<_>| {
            let id = text(item, ITEM_ITSELF, &role).or_else(|| text(item, ITEM_ID, &role));
            let kind = text(item, ITEM_KIND, &KIND);
            (id.and_then(|id| EventId::parse(&id)), kind.and_then(|kind| EventType::parse(&kind)))
        };
        items.iter().map(item).collect()
    }
}

/// Longer values are not compared with a route's `when`.
const CAPTURED_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX;

const JSON_MISSING: Wrong = "the body is not a JSON document";

fn may_be_empty(value: &Value) -> bool {
    value.transforms.contains(&Transform::DefaultEmpty)
}

fn unreadable(error: JsonError) -> Wrong {
    match error {
        JsonError::NotJson => JSON_MISSING,
        JsonError::DuplicateKey => "a key comes twice on the way to a value that is looked for",
    }
}

fn owned(scalars: Vec<Option<Scalar<'_>>>) -> Vec<Option<Scalar<'static>>> {
    scalars.into_iter().map(|scalar| scalar.map(Scalar::into_owned)).collect()
}

impl Role {
    /// The text of a JSON value, which must be of the right type.
    fn take<'s>(&self, scalar: Option<&'s Scalar<'_>>) -> Result<Option<Cow<'s, str>>, Wrong> {
        let Some(scalar) = scalar else { return Ok(None) };
        let right = match scalar {
            Scalar::String(_) => self.accepts != Accepts::Integer,
            Scalar::Integer(_) => self.accepts != Accepts::String,
            Scalar::Null if self.optional => return Ok(None),
            Scalar::Null | Scalar::Bool(_) | Scalar::Other => false,
        };
        if right { Ok(scalar.to_text()) } else { Err(self.mistyped) }
    }
}

/// What a body says it is; where it does not say, what it begins like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Fields,
    Other,
}

impl Form {
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, Wrong> {
        let plain = |v: &http::HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
            return Err("the body is compressed");
        }
        let declared = sole(headers.get_all(header::CONTENT_TYPE));
        let declared = declared.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut parameters = declared.split(';').map(str::trim);
        let essence = parameters.next().unwrap_or_default();
        if !parameters.filter_map(charset).all(is_ascii_superset) {
            return Err("the body is in a charset that is not read");
        }
        let is = |known: &str| essence.eq_ignore_ascii_case(known);
        let suffix = essence.as_bytes().last_chunk::<5>();
        let is_json = is("application/json")
            || is("text/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"));
        Ok(if is("application/x-www-form-urlencoded") {
            Self::Fields
        } else if is_json || matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            Self::Json
        } else {
            Self::Other
        })
    }
}

/// The value of a `charset` parameter.
fn charset(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
}

/// Whether ASCII means itself in `charset`, so that no two readers see different keys. The rest is checked to be UTF-8.
fn is_ascii_superset(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "iso-8859-1"]
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known))
}
