//! Makes a test event: a body as its provider sends it, with the id and the type put where the source says that they are.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::{Map, Value as Json};

use crate::{
    event::{Receipt, Timestamp},
    identify::PlanParts,
    json::{self, Step, put},
    verify::{From, Part, Template, at},
};

/// What providers send, one on each line. The first stands for those of whom nothing is known.
const SAMPLES: &str = include_str!("samples.jsonl");

/// A provider, the type to put into its body (nothing, where the body says it or it is always the same), and the body: JSON, or
/// the text of a form, of XML, or of nothing.
type Sample = (String, String, Json);

/// What `provider` sends, and whether that is made up.
fn sample(provider: &str) -> Result<(Sample, bool), String> {
    let begins = format!("[\"{provider}\",");
    let known = SAMPLES.lines().find(|line| line.starts_with(&begins));
    let line = known.or_else(|| SAMPLES.lines().next()).unwrap_or_default();
    let sample =
        serde_json::from_str(line).map_err(|e| format!("the sample of {provider}: {e}"))?;
    Ok((sample, known.is_none()))
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Payload {
    /// Headers that carry the id, the type and the like.
    pub(super) headers: HeaderMap,
    /// What a token says, where the source takes its values from one.
    pub(super) claims: Map<String, Json>,
    /// Whether nothing is known of what its provider sends.
    pub(super) is_made_up: bool,
    /// A text, where it is something else.
    json: Json,
    /// Where the source takes its values from a form.
    form: Vec<(String, String)>,
}

impl Payload {
    /// An event of `provider`, with an id of its own where none is given. A sentence where an id or a type that was asked for
    /// cannot be put where the source reads it from.
    pub(super) fn new(
        provider: &str,
        plan: &PlanParts,
        id: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Self, String> {
        let ((_, known_kind, body), is_made_up) = sample(provider)?;
        let mut payload = Self::of(body, is_made_up);
        let own = new_id(plan);
        let unnamed = (payload.json.clone(), payload.form.clone());
        payload.put_first(&plan.id, id, &own, plan, "id")?;
        if (&payload.json, &payload.form) == (&unnamed.0, &unnamed.1) {
            payload.mark(id.unwrap_or(&own));
        }
        if kind.is_some() || !known_kind.is_empty() {
            payload.put_first(&plan.kind, kind, &known_kind, plan, "type")?;
        }
        if !payload.form.is_empty() {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            payload.headers.insert(CONTENT_TYPE, form);
        }
        Ok(payload)
    }

    fn of(body: Json, is_made_up: bool) -> Self {
        let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let text = body.as_str().filter(|text| {
            let first = text.split_once('=');
            first.is_some_and(|(name, _)| is_name(name))
        });
        let form = text.map(|text| form_urlencoded::parse(text.as_bytes()).into_owned().collect());
        let json = if form.is_some() { Json::Null } else { body };
        let (headers, claims) = (HeaderMap::new(), Map::new());
        Self { headers, claims, is_made_up, json, form: form.unwrap_or_default() }
    }

    /// Sets the value at a path; text that reads as JSON becomes that value. Of a form it is a field.
    pub(super) fn set(&mut self, path: &json::Path, text: &str) {
        if let (false, [Step::Key(name)]) = (self.form.is_empty(), path.steps()) {
            return self.set_field(name, text.to_owned());
        }
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        put(&mut self.json, path.steps(), value);
    }

    pub(super) fn body(&self) -> Bytes {
        if let Json::String(text) = &self.json {
            return text.clone().into();
        }
        if self.form.is_empty() {
            return serde_json::to_vec_pretty(&self.json).unwrap_or_default().into();
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.form);
        form.finish().into()
    }

    /// Makes the body another one. Where it does not hold the id, an equal one under a new id would be a suspected replay, or the
    /// same event.
    fn mark(&mut self, id: &str) {
        let key = Step::Key("gatepost_test".into());
        match &mut self.json {
            Json::Array(_) => put(&mut self.json, &[Step::Index(0), key], id.into()),
            Json::Null => self.set_field("gatepost_test", id.to_owned()),
            // What comes without a body has none.
            Json::String(text) if text.is_empty() => {}
            Json::String(xml) => *xml = format!("{xml}<!-- {id} -->"),
            _ => put(&mut self.json, &[key], id.into()),
        }
    }

    fn set_field(&mut self, name: &str, value: String) {
        match self.form.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.form.push((name.to_owned(), value)),
        }
    }

    /// Puts what was asked for, else `own`, where the first template that can express it reads it from. What is our own need not
    /// be read as it is.
    fn put_first(
        &mut self,
        templates: &[Template],
        asked: Option<&str>,
        own: &str,
        plan: &PlanParts,
        what: &str,
    ) -> Result<(), String> {
        let text = asked.unwrap_or(own);
        let expressed = templates.iter().find_map(|template| unrender(template, text));
        let values = match (expressed, asked) {
            (Some(values), _) => values,
            (None, None) => self.among(templates, text, &plan.kind),
            (None, Some(_)) => {
                let why = "cannot be expressed the way this source reads it";
                return Err(format!("the {what} {text:?} {why}"));
            }
        };
        for (from, value) in values {
            self.place(from, value, plan.id_is_integer && what == "id");
        }
        Ok(())
    }

    /// Makes `text` a part of what the first template yields whose other values are there, and leaves alone what the type is read
    /// from.
    fn among<'t, 'x>(
        &self,
        templates: &'t [Template],
        text: &'x str,
        kind: &[Template],
    ) -> Vec<(&'t From, &'x str)> {
        let is_kind =
            |from: &From| kind.iter().flat_map(Template::values).any(|value| value.from == *from);
        let free = |template: &'t Template| {
            template.values().map(|value| &value.from).filter(|from| !is_kind(from))
        };
        let is_whole = |template: &&'t Template| free(template).skip(1).all(|from| self.has(from));
        let Some(template) = templates.iter().find(is_whole).or(templates.first()) else {
            return Vec::new();
        };
        let others = free(template).skip(1).filter(|from| !self.has(from)).map(|from| (from, "1"));
        free(template).take(1).map(|from| (from, text)).chain(others).collect()
    }

    /// Whether there is a value.
    fn has(&self, from: &From) -> bool {
        match from {
            From::Header(name) => self.headers.contains_key(name),
            From::Form(name) => self.form.iter().any(|(field, _)| field == name),
            From::Json(path) => at(&self.json, path.steps()).is_some(),
            _ => true,
        }
    }

    fn place(&mut self, from: &From, value: &str, integer: bool) {
        match from {
            From::Header(name) => {
                if let Ok(value) = HeaderValue::from_str(value) {
                    self.headers.insert(name.clone(), value);
                }
            }
            From::Json(path) => {
                let number = value.parse::<i64>().ok().filter(|_| integer);
                let value = number.map_or_else(|| Json::from(value), Json::from);
                put(&mut self.json, path.steps(), value);
            }
            From::Form(name) => self.set_field(name, value.to_owned()),
            From::FormJson(field, path) => {
                let mut json = serde_json::json!({});
                put(&mut json, path.steps(), value.into());
                self.set_field(field, json.to_string());
            }
            From::Claim(path) => {
                let mut claims = Json::Object(std::mem::take(&mut self.claims));
                put(&mut claims, path.steps(), value.into());
                if let Json::Object(claims) = claims {
                    self.claims = claims;
                }
            }
            // The body's own digest, the path and the like follow from what is sent.
            From::Body
            | From::Method
            | From::Url
            | From::Path
            | From::Query(_)
            | From::HeaderJson(..)
            | From::Hook0(_)
            | From::AwsSns
            | From::TrueLayer
            | From::TokenHeader(_)
            | From::Fields { .. }
            | From::SignedHeaders(_)
            | From::Secret
            | From::Param(_)
            | From::Variable(_) => {}
        }
    }
}

/// Splits `text` into the values that would render to it: the other way round of a template.
fn unrender<'t, 'x>(template: &'t Template, text: &'x str) -> Option<Vec<(&'t From, &'x str)>> {
    let mut values = Vec::new();
    let mut rest = text;
    let mut open: Option<&From> = None;
    for part in &template.parts {
        match part {
            Part::Literal(literal) => {
                let at = rest.find(literal.as_str())?;
                let (value, after) = rest.split_at_checked(at)?;
                match open.take() {
                    Some(from) if !value.is_empty() => values.push((from, value)),
                    None if value.is_empty() => {}
                    _ => return None,
                }
                rest = after.strip_prefix(literal.as_str())?;
            }
            Part::Value(value) if open.is_none() => open = Some(&value.from),
            Part::Value(_) => return None, // two values without anything between cannot be told apart
        }
    }
    match open {
        Some(from) if !rest.is_empty() => values.push((from, rest)),
        None if rest.is_empty() => {}
        _ => return None,
    }
    Some(values)
}

/// A new id in a form that every provider's would have.
pub(super) fn new_id(plan: &PlanParts) -> String {
    if plan.id_is_integer {
        return Timestamp::now().as_millis().to_string();
    }
    Receipt::random().to_string().replace("req_", "evt_test_")
}
