//! Templates: the exact bytes that are signed, and where ids and types are, as text such as `{t}.{body}`.

use http::HeaderName;

use crate::json;

/// A parsed template: literals and values, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The parts, in order; never empty.
    pub parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Literal(String),
    /// Something of the request.
    Value(Value),
}

/// Something of the request, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where it is.
    pub from: From,
    /// What is done to it, in order.
    pub transforms: Vec<Transform>,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// `{body}`: the bytes of the body.
    Body,
    /// `{method}`.
    Method,
    /// `{url}`: the configured public URL with the query as sent.
    Url,
    /// `{path}`: path and query as sent.
    Path,
    /// `{header:NAME}`: a header; repeated, it counts as not there.
    Header(HeaderName),
    /// `{query:NAME}`: a parameter of the query, decoded; repeated, it counts as not there.
    Query(String),
    /// `{form:NAME}`: a field of an `application/x-www-form-urlencoded` body; repeated, it counts as not there.
    Form(String),
    /// `{json:PATH}`: a scalar of a JSON body.
    Json(json::Path),
    /// `{formjson:FIELD/PATH}`: a scalar of the JSON document in a form field (Slack interactivity: `payload/type`).
    FormJson(String, json::Path),
    /// `{t}`: a variable that the signature's container captured.
    Variable(String),
}

/// A named, closed transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// `|sha256_hex`: lower-case hex of SHA-256.
    Sha256Hex,
    /// `|lower`: ASCII lower case.
    Lower,
    /// `|default_empty`: empty where it is not there.
    DefaultEmpty,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl Template {
    /// Parses a template. `{{` and `}}` are literal braces.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let _ = text;
        Err(TemplateError { at: 0, message: "not yet".into() })
    }
}
