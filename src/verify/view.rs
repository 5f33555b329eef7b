//! A request as templates see it: finds values, decodes forms and JSON once, copies nothing that it need not.

use std::{borrow::Cow, cell::OnceCell};

use http::{HeaderName, header::GetAll};
use sha2::{Digest as _, Sha256};

use super::{From, Part, Presented, Template, Transform, Value, container::Elements};
use crate::{
    answer::Reason,
    json::{Extractor, JsonError, Path, Scalar},
};

/// JSON paths that a scheme looks at, prepared for one pass.
#[derive(Clone, Debug)]
pub(super) struct JsonPaths {
    paths: Vec<Path>,
    extractor: Extractor,
}

impl JsonPaths {
    /// Prepares the paths among `values`; `None` where there are none.
    pub(super) fn among<'v>(values: impl Iterator<Item = &'v Value>) -> Option<Self> {
        let paths: Vec<Path> = values
            .filter_map(|value| match &value.from {
                From::Json(path) => Some(path.clone()),
                _ => None,
            })
            .collect();
        let extractor = Extractor::new(&paths);
        (!paths.is_empty()).then_some(Self { paths, extractor })
    }
}

/// Why a value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not there.
    Absent,
    /// It is there more than once.
    Repeated,
}

type Found<'a> = Result<Vec<Option<Scalar<'a>>>, JsonError>;

/// A request, and what was read of its body so far.
pub(super) struct View<'a> {
    request: &'a Presented<'a>,
    json: Option<&'a JsonPaths>,
    found: OnceCell<Found<'a>>,
}

impl<'a> View<'a> {
    pub(super) fn new(request: &'a Presented<'a>, json: Option<&'a JsonPaths>) -> Self {
        Self { request, json, found: OnceCell::new() }
    }

    pub(super) fn request(&self) -> &'a Presented<'a> {
        self.request
    }

    /// A value, transformed.
    pub(super) fn value<'s>(
        &'s self,
        value: &Value,
        elements: &Elements<'s>,
    ) -> Result<Cow<'s, [u8]>, Unusable> {
        let mut found = self.find(&value.from, elements);
        for transform in &value.transforms {
            found = match (transform, found) {
                (Transform::DefaultEmpty, Err(Unusable::Absent)) => Ok(Cow::Borrowed(&[])),
                (Transform::Sha256Hex, Ok(bytes)) => {
                    Ok(Cow::Owned(hex::encode(Sha256::digest(bytes)).into_bytes()))
                }
                (Transform::Lower, Ok(bytes)) => Ok(Cow::Owned(bytes.to_ascii_lowercase())),
                (_, found) => found,
            };
        }
        found
    }

    /// A whole template in one piece; for small things, never for what is signed.
    pub(super) fn text<'s>(
        &'s self,
        template: &Template,
        elements: &Elements<'s>,
    ) -> Result<Cow<'s, [u8]>, Unusable> {
        if let Some(value) = template.sole_value() {
            return self.value(value, elements);
        }
        let mut text = Vec::new();
        for part in &template.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Value(value) => text.extend_from_slice(&self.value(value, elements)?),
            }
        }
        Ok(Cow::Owned(text))
    }

    fn find<'s>(&'s self, from: &From, elements: &Elements<'s>) -> Result<Cow<'s, [u8]>, Unusable> {
        let request = self.request;
        match from {
            From::Body => Ok(Cow::Borrowed(request.body)),
            From::Method => Ok(Cow::Borrowed(request.method.as_bytes())),
            From::Url => Ok(Cow::Borrowed(request.url.as_bytes())),
            From::Path => Ok(Cow::Borrowed(request.target.as_bytes())),
            From::Header(name) => self.header(name),
            From::Query(name) => {
                let query = request.target.split_once('?').map_or("", |(_, query)| query);
                field(query.as_bytes(), name)
            }
            From::Form(name) => field(request.body, name),
            From::Json(path) => self.json(path),
            From::FormJson(name, path) => {
                let document = field(request.body, name)?;
                let extractor = Extractor::new(std::slice::from_ref(path));
                let found = extractor.run(&document).map_err(unusable)?;
                scalar(found.into_iter().next().flatten().as_ref())
                    .map(|text| Cow::Owned(text.into_owned()))
            }
            From::Variable(name) => elements.variable(name).map(Cow::Borrowed),
        }
    }

    fn header(&self, name: &HeaderName) -> Result<Cow<'a, [u8]>, Unusable> {
        let all: GetAll<'a, _> = self.request.headers.get_all(name);
        sole(all.iter().map(http::HeaderValue::as_bytes)).map(Cow::Borrowed)
    }

    fn json(&self, path: &Path) -> Result<Cow<'_, [u8]>, Unusable> {
        let json = self.json.ok_or(Unusable::Absent)?;
        let found = self.found.get_or_init(|| json.extractor.run(self.request.body));
        let found = found.as_ref().map_err(|e| unusable(*e))?;
        let at = json.paths.iter().position(|known| known == path);
        scalar(at.and_then(|at| found.get(at)?.as_ref()))
    }
}

/// The one of `items`; it is unusable where there are several, because another reader might take another.
pub(super) fn sole<T>(mut items: impl Iterator<Item = T>) -> Result<T, Unusable> {
    let first = items.next().ok_or(Unusable::Absent)?;
    if items.next().is_some() { Err(Unusable::Repeated) } else { Ok(first) }
}

/// A field of form-encoded text.
fn field<'t>(text: &'t [u8], name: &str) -> Result<Cow<'t, [u8]>, Unusable> {
    let fields = form_urlencoded::parse(text).filter(|(known, _)| known == name);
    sole(fields.map(|(_, value)| value)).map(bytes)
}

fn scalar<'s>(found: Option<&'s Scalar<'_>>) -> Result<Cow<'s, [u8]>, Unusable> {
    found.and_then(Scalar::to_text).map(bytes).ok_or(Unusable::Absent)
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn unusable(error: JsonError) -> Unusable {
    match error {
        JsonError::NotJson => Unusable::Absent,
        JsonError::DuplicateKey => Unusable::Repeated,
    }
}

impl Unusable {
    /// The reason where something is signed over that cannot be used.
    pub(super) fn input(self, from: &From) -> Reason {
        match (self, from) {
            (Self::Absent, _) => Reason::InputMissing,
            (Self::Repeated, From::Header(_)) => Reason::HeaderRepeated,
            (Self::Repeated, _) => Reason::InputAmbiguous,
        }
    }
}
