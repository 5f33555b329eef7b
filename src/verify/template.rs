//! Templates: the exact bytes that are signed, and where ids and types are, as text such as `{t}.{body}`.

use std::borrow::Cow;

use http::HeaderName;

use super::view::{Unusable, Variable, View};
use crate::json;

/// A parsed template: literals and values, in order; never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub(crate) parts: Vec<Part>,
    /// As it was written.
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Value(Value),
}

/// Something of the request, and what is done to it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) from: From,
    pub(crate) transforms: Vec<Transform>,
}

/// Where a value is. What comes several times is not usable, because two readers could take two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// `{body}`: its bytes.
    Body,
    /// `{method}`.
    Method,
    /// `{url}`: the configured public URL with the query as sent.
    Url,
    /// `{path}`: path and query as sent.
    Path,
    /// `{header:NAME}`.
    Header(HeaderName),
    /// `{query:NAME}`: a parameter of the query, decoded.
    Query(String),
    /// `{form:NAME}`: a field of a form (`application/x-www-form-urlencoded`, or `multipart/form-data`).
    Form(String),
    /// `{form|sorted_concat}`: names and values of a URL-encoded form, sorted by name, nothing between them. With
    /// `sorted_unique_concat`, the values of one name are sorted too, and equal ones stand once.
    Fields { unique: bool },
    /// `{json:PATH}`: a scalar of a JSON body.
    Json(json::Path),
    /// `{formjson:FIELD/PATH}`: a scalar of the JSON document in a form field (Slack interactivity: `payload/type`).
    FormJson(String, json::Path),
    /// `{headerjson:NAME/PATH}`: a scalar of the JSON document that a header holds in base64.
    HeaderJson(HeaderName, json::Path),
    /// `{hook0:VARIABLE}`: names of headers as this variable lists them, and their values, a dot before each.
    Hook0(String),
    /// `{aws_sns}`: the text that Amazon SNS signs.
    AwsSns,
    /// `{truelayer}`: what `TrueLayer` signs.
    TrueLayer,
    /// `{jwt:PATH}`: a claim of the token that was believed.
    Claim(json::Path),
    /// `{jws:PATH}`: a scalar of its header.
    TokenHeader(json::Path),
    /// `{signed_headers:NAME}`: the headers that this header lists (itself among them), as `name:value;name:value`, sorted.
    SignedHeaders(HeaderName),
    /// `{secret}`: where the secret stands in a text that is hashed.
    Secret,
    /// `{param:NAME}`: what the source says about itself. Gone once a scheme is compiled.
    Param(String),
    /// `{t}`: a variable that the signature's container captured.
    Variable(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    /// `|sha256_hex`: lower-case hex.
    Sha256Hex,
    /// `|sha512_hex`: lower-case hex.
    Sha512Hex,
    /// `|sha512_base64`: standard, padded.
    Sha512Base64,
    /// `|crc32`: CRC-32, in decimal.
    Crc32,
    /// `|base64`: standard, padded.
    Base64,
    /// `|base64_decode`: standard, padded.
    Base64Decode,
    /// `|hubspot_uri`: the twelve percent-encodings that `HubSpot` decodes, decoded.
    HubspotUri,
    /// `|contentful_path`: encoded once more, the way Contentful's library does.
    ContentfulPath,
    /// `|lower`: ASCII only.
    Lower,
    /// `|default_empty`: empty where it is not there.
    DefaultEmpty,
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Where, in bytes from the start.
    pub at: usize,
    pub(crate) message: String,
    /// What was meant, perhaps.
    pub(crate) help: Option<String>,
}

/// Names of values, and how those that need one are written.
const PLACES: [(&str, &str); 19] = [
    ("body", ""),
    ("method", ""),
    ("url", ""),
    ("path", ""),
    ("secret", ""),
    ("item", ""),
    ("aws_sns", ""),
    ("truelayer", ""),
    ("signed_headers", "write it like `{signed_headers:X-Signed-Headers}`"),
    ("param", "write it like `{param:public_key}`"),
    ("header", "write it like `{header:X-Event-Id}`"),
    ("query", "write it like `{query:sig}`"),
    ("form", "write it like `{form:command}`, or `{form|sorted_concat}` for all of it"),
    ("json", "write it like `{json:data.id}`"),
    ("formjson", "write it like `{formjson:payload/type}`"),
    ("headerjson", "write it like `{headerjson:X-Signature/kid}`"),
    ("hook0", "write it like `{hook0:h}`"),
    ("jwt", "write it like `{jwt:jti}`"),
    ("jws", "write it like `{jws:kid}`"),
];

const TRANSFORMS: [(&str, Transform); 10] = [
    ("sha256_hex", Transform::Sha256Hex),
    ("sha512_hex", Transform::Sha512Hex),
    ("sha512_base64", Transform::Sha512Base64),
    ("crc32", Transform::Crc32),
    ("lower", Transform::Lower),
    ("default_empty", Transform::DefaultEmpty),
    ("base64", Transform::Base64),
    ("base64_decode", Transform::Base64Decode),
    ("hubspot_uri", Transform::HubspotUri),
    ("contentful_path", Transform::ContentfulPath),
];

/// How all of a form is joined. These make text of what is none, so they stand first.
const JOINS: [(&str, bool); 2] = [("sorted_concat", false), ("sorted_unique_concat", true)];

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
        Ok(Self { parts, text: text.to_owned() })
    }

    /// Names of the parameters in it.
    pub(crate) fn params(&self) -> Vec<String> {
        let names = self.values().filter_map(|value| match &value.from {
            From::Param(name) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Literal(_) => None,
        })
    }

    /// The part at which the secret stands; behind all, where it does not.
    pub(super) fn secret_at(&self) -> usize {
        let is_secret = |part: &Part| matches!(part, Part::Value(Value { from: From::Secret, .. }));
        self.parts.iter().position(is_secret).unwrap_or(usize::MAX)
    }

    /// The one value that it consists of, if it does.
    pub(crate) fn sole_value(&self) -> Option<&Value> {
        match self.parts.as_slice() {
            [Part::Value(value)] => Some(value),
            _ => None,
        }
    }

    /// The text that it consists of, if it holds no value.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Puts what the source says in place of `{param:NAME}`; the error is the name of one that it does not say.
    pub(crate) fn fill<'p>(
        &mut self,
        param: impl Fn(&str) -> Option<&'p str>,
    ) -> Result<(), String> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        for part in self.parts.drain(..) {
            match part {
                Part::Literal(text) => literal.push_str(&text),
                Part::Value(Value { from: From::Param(name), transforms }) => {
                    let is_optional = transforms.contains(&Transform::DefaultEmpty);
                    let text = param(&name).or_else(|| is_optional.then_some(""));
                    literal.push_str(text.ok_or(name)?);
                }
                part @ Part::Value(_) => {
                    end_literal(&mut parts, &mut literal);
                    parts.push(part);
                }
            }
        }
        end_literal(&mut parts, &mut literal);
        self.parts = parts;
        Ok(())
    }

    /// What it says of a request, in one piece; for small things, never for what is signed.
    pub(crate) fn text<'s>(
        &self,
        view: &'s View<'_>,
        variables: &[Variable<'s>],
    ) -> Result<Cow<'s, [u8]>, Unusable> {
        if let Some(value) = self.sole_value() {
            return view.value(value, variables);
        }
        let mut text = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Value(value) => text.extend_from_slice(&view.value(value, variables)?),
            }
        }
        Ok(Cow::Owned(text))
    }
}

fn end_literal(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

fn parse_value(text: &str, at: usize) -> Result<Value, TemplateError> {
    let mut pieces = text.split('|').peekable();
    let place = pieces.next().unwrap_or_default();
    let mut value = Value { from: From::Body, transforms: Vec::new() };
    let mut at = at + place.len() + 1;
    let join = JOINS.iter().find(|(known, _)| place == "form" && pieces.peek() == Some(known));
    if let Some((join, unique)) = join {
        value.from = From::Fields { unique: *unique };
        pieces.next();
        at += join.len() + 1;
    } else {
        value.from = parse_place(place, at - place.len() - 1)?;
    }
    for name in pieces {
        if JOINS.iter().any(|(known, _)| *known == name) {
            let help = format!("write `{{form|{name}}}`");
            return Err(wrong(at, format!("`{name}` joins all of a form"), help));
        }
        let found = TRANSFORMS.iter().find(|(known, _)| *known == name);
        let unknown = || unknown("transform", name, &TRANSFORMS.map(|(known, _)| known), at);
        value.transforms.push(found.ok_or_else(unknown)?.1);
        at += name.len() + 1;
    }
    Ok(value)
}

fn parse_place(text: &str, at: usize) -> Result<From, TemplateError> {
    let (name, argument) =
        text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
    let behind = at + name.len() + 1;
    let example = PLACES.iter().find(|(known, _)| *known == name).map(|(_, example)| *example);
    let path = |text: &str, at| {
        json::Path::parse(text).map_err(|e| wrong(at, e, "write it like `data.object.id`"))
    };
    match (name, argument, example) {
        ("body", None, _) => Ok(From::Body),
        ("method", None, _) => Ok(From::Method),
        ("url", None, _) => Ok(From::Url),
        ("path", None, _) => Ok(From::Path),
        ("secret", None, _) => Ok(From::Secret),
        ("item", None, _) => Ok(From::Json(json::Path::ITEM)),
        ("aws_sns", None, _) => Ok(From::AwsSns),
        ("truelayer", None, _) => Ok(From::TrueLayer),
        (_, Some(_), Some("")) => {
            Err(wrong(at, format!("`{name}` takes no name"), format!("write `{{{name}}}`")))
        }
        (_, None, Some(example)) => Err(wrong(at, format!("`{name}` needs a name"), example)),
        (_, Some(""), Some(example)) => {
            Err(wrong(behind, format!("`{name}:` without a name"), example))
        }
        ("header", Some(name), _) => header(name, behind).map(From::Header),
        ("signed_headers", Some(name), _) => header(name, behind).map(From::SignedHeaders),
        ("param", Some(name), _) => Ok(From::Param(name.to_owned())),
        ("query", Some(name), _) => Ok(From::Query(name.to_owned())),
        ("form", Some(name), _) => Ok(From::Form(name.to_owned())),
        ("json", Some(inner), _) => path(inner, behind).map(From::Json),
        ("jwt", Some(inner), _) => path(inner, behind).map(From::Claim),
        ("jws", Some(inner), _) => path(inner, behind).map(From::TokenHeader),
        ("hook0", Some(name), _) => Ok(From::Hook0(name.to_owned())),
        ("formjson" | "headerjson", Some(argument), Some(example)) => {
            let parts = argument.split_once('/').filter(|(field, _)| !field.is_empty());
            let lacking = || wrong(behind, format!("`{name}:` needs a name and a path"), example);
            let (field, inner) = parts.ok_or_else(lacking)?;
            let inner = path(inner, behind + field.len() + 1)?;
            Ok(match name {
                "formjson" => From::FormJson(field.to_owned(), inner),
                _ => From::HeaderJson(header(field, behind)?, inner),
            })
        }
        ("", None, _) => Err(wrong(at, "`{}` names nothing", "name a value, such as `{body}`")),
        (_, None, None) if may_be_variable(name) => Ok(From::Variable(name.to_owned())),
        _ => Err(unknown("value", name, &PLACES.map(|(known, _)| known), at)),
    }
}

fn header(name: &str, at: usize) -> Result<HeaderName, TemplateError> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map_err(|_| wrong(at, format!("`{name}` is not a header name"), ""))
}

/// A variable may have any name; one that is nearly a value's name is a slip.
fn may_be_variable(name: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    name.bytes().all(is_word) && nearest(name, &PLACES.map(|(known, _)| known)).is_none()
}

fn unknown(what: &str, name: &str, known: &[&str], at: usize) -> TemplateError {
    let help = nearest(name, known).map_or_else(
        || format!("known {what}s: {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    wrong(at, format!("no {what} is called `{name}`"), help)
}

fn wrong(at: usize, message: impl Into<String>, help: impl Into<String>) -> TemplateError {
    let help = help.into();
    TemplateError { at, message: message.into(), help: (!help.is_empty()).then_some(help) }
}

/// The candidate that `word` is a slip of: one edit away, two in words of six letters and more, or another case.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let allowed = match word.len() {
        0..3 => 0,
        3..6 => 1,
        _ => 2,
    };
    let near = candidates.iter().map(|c| (strsim::levenshtein(&word, c), *c));
    near.filter(|(edits, _)| *edits <= allowed).min_by_key(|(edits, _)| *edits).map(|(_, c)| c)
}
