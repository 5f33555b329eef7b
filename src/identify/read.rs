//! One reading of a request: everything that a plan looks for, or the first thing that is wrong.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header};

use super::{
    AsRead,
    plan::{ITEM_ID, ITEM_ITSELF, ITEM_KIND, Piece, Place, Plan, Text},
};
use crate::{
    event::{Digest, EventId, EventType, TEXT_BYTES_MAX},
    handshake::{field, sole},
    json::{Found, JsonError, Scalar},
    receive::Envelope,
    verify::Transform,
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
    mistyped: "the event id is not a string",
    unfit: "the event id is empty, too long, or holds control characters",
};
const INTEGER_ID: Role =
    Role { accepts: Accepts::Integer, mistyped: "the event id is not an integer", ..ID };
const KIND: Role = Role {
    accepts: Accepts::String,
    mistyped: "the event type is not a string",
    unfit: "the event type is empty, too long, or holds control characters",
};
const ACCOUNT: Role = Role {
    accepts: Accepts::Either,
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
                let found = self.plan.json.as_ref().map(|extractor| extractor.find(self.body));
                self.json = found.transpose().map_err(unreadable)?;
            }
            Form::Fields => {
                self.is_form = true;
                for (name, extractor) in &self.plan.forms {
                    let document = field(self.body, name);
                    let found = document.map(|text| extractor.run(text.as_bytes()).map(owned));
                    self.forms.push(found.transpose().map_err(unreadable)?.unwrap_or_default());
                }
            }
            Form::Other => {}
        }
        Ok(())
    }

    /// Everything that is looked for.
    pub(super) fn names(self) -> Result<Names, Wrong> {
        let id = self.text(&self.plan.id, &self.id_role())?;
        let id = id.ok_or_else(|| self.missing(&self.plan.id, "no event id"))?;
        let kind = self.text(&self.plan.kind, &KIND)?;
        let kind = kind.ok_or_else(|| self.missing(&self.plan.kind, "no event type"))?;
        let account = self.text(&self.plan.account, &ACCOUNT)?;
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
            id: text(&self.plan.id, &self.id_role()).and_then(|id| EventId::parse(&id)),
            kind: text(&self.plan.kind, &KIND).and_then(|kind| EventType::parse(&kind)),
            captured: self.captured(),
        }
    }

    fn id_role(&self) -> Role {
        if self.plan.parts().id_is_integer { INTEGER_ID } else { ID }
    }

    /// The first of `texts` whose values are all there. A value that is there but is not usable ends the search: another
    /// reader could take it for the name.
    fn text(&self, texts: &[Text], role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        for pieces in texts {
            if let Some(text) = self.joined(pieces, role)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn joined(&self, pieces: &Text, role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        if let [Piece::Value(place, transforms)] = pieces.as_slice() {
            return self.value(place, transforms, role);
        }
        let mut joined = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(text) => joined.push_str(text),
                Piece::Value(place, transforms) => {
                    match self.value(place, transforms, role)? {
                        // A part that is empty would make two different names look the same.
                        Some(text)
                            if text.is_empty()
                                && !transforms.contains(&Transform::DefaultEmpty) =>
                        {
                            return Err(role.unfit);
                        }
                        Some(text) => joined.push_str(&text),
                        None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some(Cow::Owned(joined)))
    }

    fn value(
        &self,
        place: &Place,
        transforms: &[Transform],
        role: &Role,
    ) -> Result<Option<Cow<'_, str>>, Wrong> {
        let mut text = self.find(place, role)?;
        for transform in transforms {
            text = match (transform, text) {
                (Transform::DefaultEmpty, None) => Some(Cow::Borrowed("")),
                (Transform::Sha256Hex, Some(text)) => {
                    Some(Cow::Owned(Digest::of(text.as_bytes()).to_string()))
                }
                (Transform::Lower, Some(text)) => Some(Cow::Owned(text.to_ascii_lowercase())),
                (Transform::DefaultEmpty | Transform::Sha256Hex | Transform::Lower, text) => text,
            };
        }
        Ok(text)
    }

    fn find(&self, place: &Place, role: &Role) -> Result<Option<Cow<'_, str>>, Wrong> {
        let values = |found: &'_ Found<'r>, n: usize| found.values.get(n).cloned().flatten();
        Ok(match place {
            Place::Json(n) => {
                let scalar = self.json.as_ref().and_then(|found| values(found, *n));
                scalar.map(|scalar| role.take(scalar)).transpose()?
            }
            Place::FormJson(form, n) => {
                let scalar = self.forms.get(*form).and_then(|values| values.get(*n)?.clone());
                scalar.map(|scalar| role.take(scalar)).transpose()?
            }
            Place::Header(name) => {
                let value = sole(self.headers.get_all(name));
                value.map(|v| v.to_str().map(Cow::Borrowed).map_err(|_| role.unfit)).transpose()?
            }
            Place::Query(name) => field(self.uri.query().unwrap_or_default().as_bytes(), name),
            Place::Form(name) => self.is_form.then(|| field(self.body, name)).flatten(),
            Place::Target => self.uri.path_and_query().map(|target| target.as_str().into()),
            Place::Method => Some("POST".into()), // the one method that gets here
            Place::Body => Some(std::str::from_utf8(self.body).map_err(|_| role.unfit)?.into()),
            Place::BodyDigest => Some(self.digest.to_string().into()),
            Place::Nowhere => None,
        })
    }

    /// What is said where a name is not there.
    fn missing(&self, texts: &[Text], plain: Wrong) -> Wrong {
        let in_json = |piece: &Piece| matches!(piece, Piece::Value(Place::Json(_), _));
        let wants_json = texts.iter().flatten().any(in_json);
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
        let text = |item: &[Option<Scalar<'r>>], n: usize, role: &Role| {
            let scalar = item.get(n).cloned().flatten()?;
            role.take(scalar).ok()
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
    /// The text of a JSON value of the right type.
    fn take<'a>(&self, scalar: Scalar<'a>) -> Result<Cow<'a, str>, Wrong> {
        match scalar {
            Scalar::String(text) if self.accepts != Accepts::Integer => Ok(text),
            Scalar::Integer(number) if self.accepts != Accepts::String => {
                Ok(number.to_string().into())
            }
            Scalar::String(_) | Scalar::Integer(_) | Scalar::Bool(_) | Scalar::Other => {
                Err(self.mistyped)
            }
        }
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
        let essence = parameters.next().unwrap_or_default().to_ascii_lowercase();
        if !parameters.filter_map(charset).all(is_ascii_superset) {
            return Err("the body is in a charset that is not read");
        }
        Ok(match essence.as_str() {
            "application/x-www-form-urlencoded" => Self::Fields,
            "application/json" | "text/json" => Self::Json,
            suffixed if suffixed.ends_with("+json") => Self::Json,
            _ if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) => Self::Json,
            _ => Self::Other,
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
