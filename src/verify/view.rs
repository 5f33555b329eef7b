//! A request as templates see it: finds values, reads forms and JSON once, copies nothing that it need not. Verification,
//! challenges and identification all look through it, so that no two of them can see two requests.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};

use super::{
    From, Presented, Token, Value,
    form::{Form, bytes, field, joined, sole},
    hook0, sns, transform, truelayer,
};
use crate::{
    answer::Reason,
    json::{Extractor, Found, ITEMS_MAX, Items, JsonError, Path, Scalar, Step},
};

/// What a set of templates looks for in bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    documents: Vec<Document>,
    /// What is looked for in each item, where every item is looked at by itself.
    in_items: Vec<Path>,
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
    /// A header, in base64.
    Coded(F),
    /// The claims of a token whose signature held.
    Claims,
    /// Its header.
    Header,
}

impl Within<String> {
    fn is(&self, other: Within<&str>) -> bool {
        match (self, other) {
            (Self::Field(own), Within::Field(other)) | (Self::Coded(own), Within::Coded(other)) => {
                own == other
            }
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
        for place in places.into_iter().flat_map(sns::members) {
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
                Within::Coded(name) => Within::Coded(name.to_owned()),
                Within::Claims => Within::Claims,
                Within::Header => Within::Header,
            };
            Document { within, paths, extractor }
        };
        let documents = wanted.into_iter().map(prepare).collect();
        Self { documents, in_items: Vec::new(), in_body }
    }

    /// Prepares what `places` look for in each item of `items`, and what `outside` looks for in all of the body. `items` is
    /// `list[*]`, and what may follow.
    pub(super) fn for_each<'f>(
        items: &Path,
        places: impl IntoIterator<Item = &'f From>,
        outside: impl IntoIterator<Item = &'f From>,
    ) -> Self {
        let path = |place: &From| match document_and_path(place) {
            Some((Within::Body, path)) => Some(path.clone()),
            _ => None,
        };
        let (inside, elsewhere): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|place| path(place).is_some());
        let in_items: Vec<Path> = inside.into_iter().filter_map(path).collect();
        // Items behind those that are looked at would pass unseen.
        let one_more = items.with_each(Step::Index(ITEMS_MAX));
        let paths: Vec<Path> =
            [one_more].into_iter().chain(outside.into_iter().filter_map(path)).collect();
        let inside: Vec<&[Step]> = in_items.iter().map(Path::steps).collect();
        let extractor = Extractor::new(&paths, Some((items, &inside)));
        let document = Document { within: Within::Body, paths, extractor };
        // The body comes first: its items are counted.
        let others = Self::new(elsewhere, None).documents;
        let documents = [document].into_iter().chain(others).collect();
        Self { documents, in_items, in_body: true }
    }
}

/// The document, and the path in there.
fn document_and_path(place: &From) -> Option<(Within<&str>, &Path)> {
    match place {
        From::Json(path) => Some((Within::Body, path)),
        From::FormJson(field, path) => Some((Within::Field(field), path)),
        From::HeaderJson(name, path) => Some((Within::Coded(name.as_str()), path)),
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
pub(super) type Unreadable = &'static str;

pub(crate) const NOT_JSON: Unreadable = "the body is not a JSON document";

/// A variable that the signature's container captured: its name and its value.
pub(crate) type Variable<'v> = (&'v [u8], &'v [u8]);

/// A request, and what was read of its body so far.
pub(crate) struct View<'a> {
    pub(super) request: Presented<'a>,
    sought: &'a Sought,
    token: Option<&'a Token>,
    found: OnceCell<Result<Vec<Found<'a>>, Unreadable>>,
    /// The item that JSON paths begin at, where every item is looked at by itself.
    item: Cell<Option<usize>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(request: Presented<'a>, sought: &'a Sought) -> Self {
        Self { request, sought, token: None, found: OnceCell::new(), item: Cell::new(None) }
    }

    /// The token that was believed.
    pub(super) fn token(&self) -> Option<&'a Token> {
        self.token
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

    fn find_in(&self, document: &Document, form: Form<'_>) -> Result<Found<'a>, Unreadable> {
        let text = match (&document.within, form, self.token) {
            (Within::Body, Form::Json, _) => Ok(Cow::Borrowed(self.request.body)),
            (Within::Field(name), form, _) => form.field(self.request.body, name),
            (Within::Coded(name), ..) => decoded(self.request.headers, name),
            (Within::Claims, _, Some(token)) => Ok(Cow::Borrowed(token.claims.as_slice())),
            (Within::Header, _, Some(token)) => Ok(Cow::Borrowed(token.header.as_slice())),
            _ => Err(Unusable::Absent),
        };
        let found = match text {
            Ok(Cow::Borrowed(text)) => document.extractor.find(text),
            Ok(Cow::Owned(text)) => document.extractor.find(&text).map(Found::into_owned),
            Err(_) => Ok(Found::default()),
        };
        match (found, &document.within) {
            (Ok(found), _) => Ok(found),
            (Err(JsonError::NotJson), Within::Coded(_)) => Ok(Found::default()),
            (Err(JsonError::NotJson), _) => Err(NOT_JSON),
            (Err(JsonError::DuplicateKey), _) => {
                Err("a key comes twice on the way to a value that is looked for")
            }
        }
    }

    /// What was found in each item of a batch.
    pub(crate) fn items(&self) -> &[Vec<Option<Scalar<'a>>>] {
        // Where there are items, the body is the first document.
        self.read().ok().and_then(<[_]>::first).map_or(&[], |found| &found.items)
    }

    /// How many items there are; none, where there are more than are looked at.
    pub(super) fn items_count(&self) -> Option<usize> {
        let found = self.read().ok()?.first()?;
        found.values.first()?.is_none().then_some(found.items.len())
    }

    /// Lets JSON paths begin at an item, or at the document.
    pub(super) fn look_at_item(&self, item: Option<usize>) {
        self.item.set(item);
    }

    /// What the body is.
    pub(crate) fn form(&self) -> Result<Form<'a>, Unreadable> {
        Form::of(self.request.headers, self.request.body)
    }

    /// What stands at a JSON path.
    pub(crate) fn scalar(&self, place: &From) -> Result<Option<&Scalar<'a>>, Unreadable> {
        let Some((within, path)) = document_and_path(place) else { return Ok(None) };
        if let (Some(item), Within::Body) = (self.item.get(), within) {
            let at = self.sought.in_items.iter().position(|known| known == path);
            let found = self.read()?.first().and_then(|found| found.items.get(item)?.get(at?));
            return Ok(found.and_then(Option::as_ref));
        }
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
            From::Form(name) => self.form().map_err(|_| Unusable::Absent)?.field(body, name),
            From::Fields { unique } => match self.form() {
                Ok(Form::Fields) => joined(body, *unique).map(Cow::Owned),
                // A request without a body has no content type, and no fields.
                _ if body.is_empty() => Ok(Cow::default()),
                _ => Err(Unusable::Absent),
            },
            From::SignedHeaders(name) => signed_headers(headers, name).map(Cow::Owned),
            From::Hook0(name) => {
                hook0::text(self.request, variable(variables, name)?).map(Cow::Owned)
            }
            From::AwsSns => sns::text(self).map(Cow::Owned),
            From::TrueLayer => truelayer::payload(self).map(Cow::Owned),
            From::Secret => Ok(Cow::default()),
            From::Param(_) => Err(Unusable::Absent),
            From::Json(_)
            | From::FormJson(..)
            | From::HeaderJson(..)
            | From::Claim(_)
            | From::TokenHeader(_) => {
                let scalar = self.scalar(place).map_err(|_unreadable| Unusable::Repeated)?;
                scalar.and_then(Scalar::to_text).map(bytes).ok_or(Unusable::Absent)
            }
            From::Variable(name) => variable(variables, name).map(Cow::Borrowed),
        }
    }
}

/// The one variable of a name.
fn variable<'v>(variables: &[Variable<'v>], name: &str) -> Result<&'v [u8], Unusable> {
    sole(variables.iter().filter(|(known, _)| *known == name.as_bytes())).map(|(_, value)| *value)
}

/// The document that a header holds in base64.
fn decoded<'h>(headers: &HeaderMap, name: &str) -> Result<Cow<'h, [u8]>, Unusable> {
    let value = sole(headers.get_all(name).iter())?;
    STANDARD.decode(value).map(Cow::Owned).map_err(|_| Unusable::Absent)
}

/// The headers that `list` names, as `name:value`, sorted, `;` between them. The list must name itself: then nobody can move
/// anything from one value into another and still have the same text.
fn signed_headers(headers: &HeaderMap, list: &HeaderName) -> Result<Vec<u8>, Unusable> {
    let names = sole(headers.get_all(list).iter())?.to_str().map_err(|_| Unusable::Repeated)?;
    let mut names: Vec<_> = names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    names.sort_unstable();
    if !names.iter().any(|name| name == list.as_str()) || names.len() > SIGNED_HEADERS_MAX {
        return Err(Unusable::Repeated);
    }
    let mut text = Vec::new();
    for name in &names {
        let value = sole(headers.get_all(name).iter())?.as_bytes().trim_ascii();
        if !text.is_empty() {
            text.push(b';');
        }
        text.extend([name.as_bytes(), b":", value].concat());
    }
    Ok(text)
}

/// Headers that are signed over at most.
const SIGNED_HEADERS_MAX: usize = 64;

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
