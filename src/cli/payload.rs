//! Makes a test event: a realistic body with the id and the type put where the source says that they are.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value as Json;

use crate::{
    identify::PlanParts,
    json::{self, Step},
    verify::{From, Part, Template},
};

/// A test event, not yet signed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Payload {
    /// Headers that carry the id, the type and the like.
    pub(crate) headers: HeaderMap,
    /// The JSON body; `None` where the source takes its values from a form.
    pub(crate) json: Json,
    /// Form fields, where the source takes its values from a form.
    pub(crate) form: Vec<(String, String)>,
}

impl Payload {
    /// An event of `provider` with this id and type.
    ///
    /// # Errors
    /// A sentence where a type cannot be put into the form that the source reads it from.
    pub(crate) fn new(
        provider: &str,
        plan: &PlanParts,
        id: &str,
        kind: &str,
    ) -> Result<Self, String> {
        let json = sample(provider).and_then(|text| serde_json::from_str(text).ok());
        let mut payload = Self {
            headers: HeaderMap::new(),
            json: json.unwrap_or_else(|| serde_json::json!({})),
            form: Vec::new(),
        };
        payload.put_first(&plan.id, id, plan.id_is_integer, "id")?;
        payload.put_first(&plan.kind, kind, false, "type")?;
        Ok(payload)
    }

    /// Sets the value at a path; text that reads as JSON becomes that value.
    pub(crate) fn set(&mut self, path: &json::Path, text: &str) {
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        put(&mut self.json, path.steps(), value);
    }

    /// The bytes to send.
    pub(crate) fn body(&self) -> Bytes {
        if self.form.is_empty() {
            return serde_json::to_vec_pretty(&self.json).unwrap_or_default().into();
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.form);
        form.finish().into()
    }

    /// Puts `text` where the first template that can express it reads it from.
    fn put_first(
        &mut self,
        templates: &[Template],
        text: &str,
        integer: bool,
        what: &str,
    ) -> Result<(), String> {
        for template in templates {
            if let Some(values) = unrender(template, text) {
                for (from, value) in values {
                    self.place(from, value, integer);
                }
                return Ok(());
            }
        }
        Err(format!("the {what} {text:?} cannot be expressed the way this source reads it"))
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
            From::Form(name) => self.form.push((name.clone(), value.to_owned())),
            From::FormJson(field, path) => {
                let mut json = serde_json::json!({});
                put(&mut json, path.steps(), value.into());
                self.form.push((field.clone(), json.to_string()));
            }
            // The body's own digest, the path and the like follow from what is sent.
            From::Body
            | From::Method
            | From::Url
            | From::Path
            | From::Query(_)
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

/// Puts `value` at `steps`, making objects and arrays on the way.
fn put(json: &mut Json, steps: &[Step], value: Json) {
    let Some((step, rest)) = steps.split_first() else {
        *json = value;
        return;
    };
    match step {
        Step::Key(key) => {
            if !json.is_object() {
                *json = serde_json::json!({});
            }
            if let Json::Object(map) = json {
                put(map.entry(key.clone()).or_insert(Json::Null), rest, value);
            }
        }
        Step::Index(_) | Step::Each => {
            let index = if let Step::Index(index) = step { *index } else { 0 };
            if !json.is_array() {
                *json = serde_json::json!([]);
            }
            if let Json::Array(items) = json {
                while items.len() <= index.min(99) {
                    items.push(Json::Null);
                }
                if let Some(item) = items.get_mut(index.min(99)) {
                    put(item, rest, value);
                }
            }
        }
    }
}

/// A realistic body of a provider.
fn sample(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "stripe" => include_str!("samples/stripe.json"),
        "github" => include_str!("samples/github.json"),
        "gitlab" => include_str!("samples/gitlab.json"),
        "shopify" => include_str!("samples/shopify.json"),
        "slack" => include_str!("samples/slack.json"),
        "paddle" => include_str!("samples/paddle.json"),
        "square" => include_str!("samples/square.json"),
        "linear" => include_str!("samples/linear.json"),
        "standard-webhooks" | "svix" | "custom" => include_str!("samples/standard-webhooks.json"),
        _ => return None,
    })
}
