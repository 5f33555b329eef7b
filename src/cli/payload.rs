//! Makes a test event: a realistic body with the id and the type put where the source says that they are.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::Value as Json;

use crate::{
    event::{Receipt, Timestamp},
    identify::PlanParts,
    json::{self, Step},
    verify::{From, Part, Template},
};

/// What a provider sends: a type that it is known for, and a realistic body.
const SAMPLES: [(&str, &str, &str); 9] = [
    ("stripe", "invoice.paid", include_str!("samples/stripe.json")),
    ("github", "pull_request.opened", include_str!("samples/github.json")),
    ("gitlab", "Push Hook", include_str!("samples/gitlab.json")),
    ("shopify", "orders/create", include_str!("samples/shopify.json")),
    ("slack", "app_mention", include_str!("samples/slack.json")),
    ("paddle", "transaction.completed", include_str!("samples/paddle.json")),
    ("square", "payment.created", include_str!("samples/square.json")),
    ("linear", "Issue.create", include_str!("samples/linear.json")),
    // Last, because it stands for all others.
    ("standard-webhooks", "payment.succeeded", include_str!("samples/standard-webhooks.json")),
];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Payload {
    /// Headers that carry the id, the type and the like.
    pub(super) headers: HeaderMap,
    json: Json,
    /// Where the source takes its values from a form.
    form: Vec<(String, String)>,
}

impl Payload {
    /// An event of `provider`; a sentence where its id or type cannot be put where the source reads it from.
    pub(super) fn new(
        provider: &str,
        plan: &PlanParts,
        id: &str,
        kind: Option<&str>,
    ) -> Result<Self, String> {
        let [.., other] = &SAMPLES;
        let known = SAMPLES.iter().find(|(name, ..)| *name == provider);
        let (_, known_kind, body) = known.unwrap_or(other);
        let json = serde_json::from_str(body).map_err(|e| e.to_string())?;
        let mut payload = Self { headers: HeaderMap::new(), json, form: Vec::new() };
        payload.put_first(&plan.id, id, plan.id_is_integer, "id")?;
        if !payload.headers.is_empty() {
            // Where the signed body does not hold the id, an equal one under a new id would be a suspected replay.
            put(&mut payload.json, &[Step::Key("gatepost_test".into())], id.into());
        }
        payload.put_first(&plan.kind, kind.unwrap_or(known_kind), false, "type")?;
        Ok(payload)
    }

    /// Sets the value at a path; text that reads as JSON becomes that value.
    pub(super) fn set(&mut self, path: &json::Path, text: &str) {
        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        put(&mut self.json, path.steps(), value);
    }

    pub(super) fn body(&self) -> Bytes {
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
            | From::AwsSns
            | From::TrueLayer
            | From::Claim(_)
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
        // The name of a key comes with what stands under it.
        Step::FirstKey(_) => {}
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

/// A new id in a form that every provider's would have.
pub(super) fn new_id(plan: &PlanParts) -> String {
    if plan.id_is_integer {
        return Timestamp::now().as_millis().to_string();
    }
    Receipt::random().to_string().replace("req_", "evt_test_")
}
