//! A request as templates see it: finds values, reads forms and JSON once, copies nothing that it need not. Verification,
//! challenges and identification all look through it, so that no two of them can see two requests.

use std::{borrow::Cow, cell::OnceCell};

use http::{HeaderMap, HeaderValue, header};

use super::{From, Presented, Token, Transform, Value};
use crate::{
    answer::Reason,
    event::Digest,
    json::{Extractor, Found, Items, JsonError, Path, Scalar},
};

/// What a set of templates looks for in bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    documents: Vec<Document>,
    /// Whether anything is looked for in the body, other than its bytes.
    pub(crate) in_body: bool,
}

/// What is looked for in one JSON document, prepared for one pass.
#[derive(Clone, Debug)]
struct Document {
    within: Within<String>,
    paths: Vec<Path>,
    extractor: Extractor,
}

/// Which document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within<F> {
    Body,
    /// A field of a form.
    Field(F),
    /// The claims of a token whose signature held.
    Claims,
    /// Its header.
    Header,
}

impl Within<String> {
    fn is(&self, other: Within<&str>) -> bool {
        match (self, other) {
            (Self::Field(own), Within::Field(other)) => own == other,
            (Self::Body, Within::Body)
            | (Self::Claims, Within::Claims)
            | (Self::Header, Within::Header) => true,
            _ => false,
        }
    }
}

impl Sought {
    /// Prepares what `places` look for, and what is looked for in a batch's items.
    pub(crate) fn new<'f>(
        places: impl IntoIterator<Item = &'f From>,
        items: Option<Items<'_>>,
    ) -> Self {
        let mut in_body = items.is_some();
        let mut wanted: Vec<(Within<&str>, Vec<Path>)> = Vec::new();
        wanted.extend(items.map(|_| (Within::Body, Vec::new())));
        for place in places {
            in_body |= matches!(place, From::Json(_) | From::Form(_) | From::FormJson(..));
            let Some((within, path)) = document_and_path(place) else { continue };
            match wanted.iter_mut().find(|(known, _)| *known == within) {
                Some((_, paths)) => paths.push(path.clone()),
                None => wanted.push((within, vec![path.clone()])),
            }
        }
        let prepare = |(within, paths): (Within<&str>, Vec<Path>)| {
            let extractor = Extractor::new(&paths, items.filter(|_| within == Within::Body));
            let within = match within {
                Within::Body => Within::Body,
                Within::Field(name) => Within::Field(name.to_owned()),
                Within::Claims => Within::Claims,
                Within::Header => Within::Header,
            };
            Document { within, paths, extractor }
        };
        Self { documents: wanted.into_iter().map(prepare).collect(), in_body }
    }
}

/// The document, and the path in there.
fn document_and_path(place: &From) -> Option<(Within<&str>, &Path)> {
    match place {
        From::Json(path) => Some((Within::Body, path)),
        From::FormJson(field, path) => Some((Within::Field(field), path)),
        From::Claim(path) => Some((Within::Claims, path)),
        From::TokenHeader(path) => Some((Within::Header, path)),
        _ => None,
    }
}

/// Why a value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is not there.
    Absent,
    /// It is there more than once, or where readers may differ: another might take another.
    Repeated,
}

/// Why a body cannot be read, in words for the operator.
type Unreadable = &'static str;

pub(crate) const NOT_JSON: Unreadable = "the body is not a JSON document";

/// A variable that the signature's container captured: its name and its value.
pub(super) type Variable<'v> = (&'v [u8], &'v [u8]);

/// A request, and what was read of its body so far.
pub(crate) struct View<'a> {
    pub(super) request: Presented<'a>,
    sought: &'a Sought,
    token: Option<&'a Token>,
    found: OnceCell<Result<Vec<Found<'a>>, Unreadable>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(request: Presented<'a>, sought: &'a Sought) -> Self {
        Self { request, sought, token: None, found: OnceCell::new() }
    }

    /// The same, where a token was believed.
    pub(crate) fn with_token(self, token: &'a Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// What was found in each document, in the order in which they are sought.
    pub(crate) fn read(&self) -> Result<&[Found<'a>], Unreadable> {
        let found = self.found.get_or_init(|| {
            let form = self.form()?;
            let mut found = Vec::with_capacity(self.sought.documents.len());
            for document in &self.sought.documents {
                found.push(self.find_in(document, form)?);
            }
            Ok(found)
        });
        found.as_deref().map_err(|unreadable| *unreadable)
    }

    fn find_in(&self, document: &Document, form: Form) -> Result<Found<'a>, Unreadable> {
        let text = match (&document.within, form, self.token) {
            (Within::Body, Form::Json, _) => Ok(Cow::Borrowed(self.request.body)),
            (Within::Field(name), Form::Fields, _) => field(self.request.body, name),
            (Within::Claims, _, Some(token)) => Ok(Cow::Borrowed(token.claims.as_slice())),
            (Within::Header, _, Some(token)) => Ok(Cow::Borrowed(token.header.as_slice())),
            _ => Err(Unusable::Absent),
        };
        let found = match text {
            Ok(Cow::Borrowed(text)) => document.extractor.find(text),
            Ok(Cow::Owned(text)) => document.extractor.find(&text).map(Found::into_owned),
            Err(_) => Ok(Found::default()),
        };
        found.map_err(|why| match why {
            JsonError::NotJson => NOT_JSON,
            JsonError::DuplicateKey => "a key comes twice on the way to a value that is looked for",
        })
    }

    /// What was found in each item of a batch.
    pub(crate) fn items(&self) -> &[Vec<Option<Scalar<'a>>>] {
        // Where there are items, the body is the first document.
        self.read().ok().and_then(<[_]>::first).map_or(&[], |found| &found.items)
    }

    /// What the body is.
    pub(crate) fn form(&self) -> Result<Form, Unreadable> {
        Form::of(self.request.headers, self.request.body)
    }

    /// What stands at a JSON path.
    pub(crate) fn scalar(&self, place: &From) -> Result<Option<&Scalar<'a>>, Unreadable> {
        let Some((within, path)) = document_and_path(place) else { return Ok(None) };
        let documents = self.sought.documents.iter().zip(self.read()?);
        let document = documents.into_iter().find(|(d, _)| d.within.is(within));
        Ok(document.and_then(|(document, found)| {
            let at = document.paths.iter().position(|known| known == path)?;
            found.values.get(at)?.as_ref()
        }))
    }

    /// A value, transformed.
    pub(crate) fn value<'s>(
        &'s self,
        value: &Value,
        variables: &[Variable<'s>],
    ) -> Result<Cow<'s, [u8]>, Unusable> {
        transform(self.find(&value.from, variables), &value.transforms)
    }

    /// A value as it stands.
    pub(crate) fn find<'s>(
        &'s self,
        place: &From,
        variables: &[Variable<'s>],
    ) -> Result<Cow<'s, [u8]>, Unusable> {
        let Presented { method, url, target, headers, body, .. } = self.request;
        match place {
            From::Body => Ok(body.into()),
            From::Method => Ok(method.as_bytes().into()),
            From::Url => Ok(url.as_bytes().into()),
            From::Path => Ok(target.as_bytes().into()),
            From::Header(name) => {
                sole(headers.get_all(name).iter()).map(|value| value.as_bytes().into())
            }
            From::Query(name) => {
                field(target.split_once('?').map_or("", |(_, query)| query).as_bytes(), name)
            }
            From::Form(name) if self.form() == Ok(Form::Fields) => field(body, name),
            From::Form(_) => Err(Unusable::Absent),
            From::Json(_) | From::FormJson(..) | From::Claim(_) | From::TokenHeader(_) => {
                let scalar = self.scalar(place).map_err(|_unreadable| Unusable::Repeated)?;
                scalar.and_then(Scalar::to_text).map(bytes).ok_or(Unusable::Absent)
            }
            From::Variable(name) => {
                let named = variables.iter().filter(|(known, _)| *known == name.as_bytes());
                sole(named).map(|(_, value)| Cow::Borrowed(*value))
            }
        }
    }
}

/// Does to what was found what a template says.
pub(crate) fn transform<'f>(
    mut found: Result<Cow<'f, [u8]>, Unusable>,
    transforms: &[Transform],
) -> Result<Cow<'f, [u8]>, Unusable> {
    for transform in transforms {
        found = match (transform, found) {
            (Transform::DefaultEmpty, Err(Unusable::Absent)) => Ok(Cow::Borrowed(&[])),
            (Transform::Sha256Hex, Ok(bytes)) => {
                Ok(Cow::Owned(Digest::of(&bytes).to_string().into()))
            }
            (Transform::Lower, Ok(bytes)) => Ok(Cow::Owned(bytes.to_ascii_lowercase())),
            (_, found) => found,
        };
    }
    found
}

/// The one of `items`.
fn sole<T>(mut items: impl Iterator<Item = T>) -> Result<T, Unusable> {
    let first = items.next().ok_or(Unusable::Absent)?;
    if items.next().is_some() { Err(Unusable::Repeated) } else { Ok(first) }
}

/// A field of form-encoded text.
fn field<'t>(text: &'t [u8], name: &str) -> Result<Cow<'t, [u8]>, Unusable> {
    let fields = form_urlencoded::parse(text).filter(|(known, _)| known == name);
    sole(fields.map(|(_, value)| value)).map(bytes)
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

impl Unusable {
    /// The reason where something is signed over that cannot be used.
    pub(super) fn input(self, place: &From) -> Reason {
        match (self, place) {
            (Self::Absent, _) => Reason::InputMissing,
            (Self::Repeated, From::Header(_)) => Reason::HeaderRepeated,
            (Self::Repeated, _) => Reason::InputAmbiguous,
        }
    }

    /// The reason where it is the signed time.
    pub(super) fn time(self) -> Reason {
        match self {
            Self::Absent => Reason::TimestampMissing,
            Self::Repeated => Reason::TimestampRepeated,
        }
    }
}

/// What a body says it is; where it does not say, what it begins like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Fields,
    Other,
}

impl Form {
    fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, Unreadable> {
        let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
            return Err("the body is compressed");
        }
        let declared = sole(headers.get_all(header::CONTENT_TYPE).iter()).ok();
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
    ["utf-8", "utf8", "us-ascii", "iso-8859-1"].iter().any(|c| charset.eq_ignore_ascii_case(c))
}
