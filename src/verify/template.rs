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
    /// What was meant, perhaps.
    pub help: Option<String>,
}

/// Names of values, as they are written.
const PLACES: [&str; 9] =
    ["body", "method", "url", "path", "header", "query", "form", "json", "formjson"];
const TRANSFORMS: [(&str, Transform); 3] = [
    ("sha256_hex", Transform::Sha256Hex),
    ("lower", Transform::Lower),
    ("default_empty", Transform::DefaultEmpty),
];

impl Template {
    /// Parses a template. `{{` and `}}` are literal braces.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(brace) = rest.find(['{', '}']) {
            let at = text.len() - rest.len() + brace;
            let (before, from_brace) = rest.split_at(brace);
            literal.push_str(before);
            if let Some(after) = from_brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from_brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(inside) = from_brace.strip_prefix('{') {
                let Some((value, after)) = inside.split_once('}') else {
                    return Err(wrong(at, "`{` without its `}`", "write `{{` for a brace"));
                };
                end_literal(&mut parts, &mut literal);
                parts.push(Part::Value(parse_value(value, at + 1)?));
                rest = after;
            } else {
                return Err(wrong(at, "`}` without its `{`", "write `}}` for a brace"));
            }
        }
        literal.push_str(rest);
        end_literal(&mut parts, &mut literal);
        if parts.is_empty() {
            return Err(wrong(0, "an empty template", "name a value, such as `{body}`"));
        }
        Ok(Self { parts })
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Literal(_) => None,
        })
    }

    /// The one value that it consists of, if it does.
    pub fn sole_value(&self) -> Option<&Value> {
        match self.parts.as_slice() {
            [Part::Value(value)] => Some(value),
            _ => None,
        }
    }
}

fn end_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

fn parse_value(text: &str, at: usize) -> Result<Value, TemplateError> {
    let mut pieces = text.split('|');
    let place = pieces.next().unwrap_or_default();
    let mut value = Value { from: parse_place(place, at)?, transforms: Vec::new() };
    let mut at = at + place.len() + 1;
    for name in pieces {
        let found = TRANSFORMS.iter().find(|(known, _)| *known == name);
        let (_, transform) = found.ok_or_else(|| unknown_transform(name, at))?;
        value.transforms.push(*transform);
        at += name.len() + 1;
    }
    Ok(value)
}

fn unknown_transform(name: &str, at: usize) -> TemplateError {
    let known = TRANSFORMS.map(|(known, _)| known);
    let help = nearest(name, &known).map_or_else(
        || format!("known transforms: {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    wrong(at, format!("no transform is called `{name}`"), help)
}

fn parse_place(text: &str, at: usize) -> Result<From, TemplateError> {
    let Some((name, argument)) = text.split_once(':') else { return parse_bare(text, at) };
    let behind = at + name.len() + 1;
    if argument.is_empty() && PLACES.contains(&name) {
        return Err(wrong(behind, format!("`{name}:` without a name"), example(name)));
    }
    let path = |text: &str, at| {
        json::Path::parse(text).map_err(|e| wrong(at, e, "write it like `data.object.id`"))
    };
    match name {
        "header" => HeaderName::from_bytes(argument.as_bytes())
            .map(From::Header)
            .map_err(|_| wrong(behind, format!("`{argument}` is not a header name"), "")),
        "query" => Ok(From::Query(argument.to_owned())),
        "form" => Ok(From::Form(argument.to_owned())),
        "json" => path(argument, behind).map(From::Json),
        "formjson" => match argument.split_once('/') {
            Some((field, inner)) if !field.is_empty() => path(inner, behind + field.len() + 1)
                .map(|inner| From::FormJson(field.to_owned(), inner)),
            Some(_) | None => {
                Err(wrong(behind, "`formjson:` needs a field and a path", example(name)))
            }
        },
        "body" | "method" | "url" | "path" => {
            Err(wrong(at, format!("`{name}` takes no name"), format!("write `{{{name}}}`")))
        }
        _ => Err(unknown_place(name, at)),
    }
}

/// A value without a name behind a colon: one of four, or a variable of the signature's container.
fn parse_bare(name: &str, at: usize) -> Result<From, TemplateError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match name {
        "body" => Ok(From::Body),
        "method" => Ok(From::Method),
        "url" => Ok(From::Url),
        "path" => Ok(From::Path),
        "" => Err(wrong(at, "`{}` names nothing", "name a value, such as `{body}`")),
        _ if PLACES.contains(&name) => {
            Err(wrong(at, format!("`{name}` needs a name"), example(name)))
        }
        // A variable may have any name; one that is nearly a value's name is a slip.
        _ if nearest(name, &PLACES).is_some() || !name.bytes().all(is_word) => {
            Err(unknown_place(name, at))
        }
        _ => Ok(From::Variable(name.to_owned())),
    }
}

fn unknown_place(name: &str, at: usize) -> TemplateError {
    let help = nearest(name, &PLACES).map_or_else(
        || format!("known values: {}", PLACES.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    wrong(at, format!("no value is called `{name}`"), help)
}

fn example(name: &str) -> &'static str {
    match name {
        "header" => "write it like `{header:X-Event-Id}`",
        "json" => "write it like `{json:data.id}`",
        "formjson" => "write it like `{formjson:payload/type}`",
        "query" => "write it like `{query:sig}`",
        _ => "write it like `{form:command}`",
    }
}

fn wrong(at: usize, message: impl Into<String>, help: impl Into<String>) -> TemplateError {
    let help = help.into();
    TemplateError { at, message: message.into(), help: (!help.is_empty()).then_some(help) }
}

/// The candidate that `word` is a slip of: one edit away, two in words of six letters and more, or another case.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let allowed = match word.len() {
        0..3 => 0,
        3..6 => 1,
        _ => 2,
    };
    let near = candidates.iter().map(|c| (distance(&word, &c.to_ascii_lowercase()), *c));
    near.filter(|(edits, _)| *edits <= allowed).min_by_key(|(edits, _)| *edits).map(|(_, c)| c)
}

/// Edits between two words (Levenshtein), one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (pair, y) in row.windows(2).zip(b.chars()) {
            let [diagonal, above] = pair else { continue };
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != y));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
