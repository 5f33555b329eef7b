//! Makes a test event: a realistic body with the id and the type put where the source says that they are.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::Value as Json;

use crate::{
    event::{Receipt, Timestamp},
    identify::PlanParts,
    json::{self, Step, put},
    verify::{From, Part, Template},
};

/// A realistic body of a provider, and the type to put into it: nothing, where the body says it.
type Sample = (&'static str, &'static str, &'static str);

macro_rules! sample {
    ($name:literal, $kind:literal) => {
        sample!($name, $kind, "json")
    };
    ($name:literal, $kind:literal, $form:literal) => {
        ($name, $kind, include_str!(concat!("samples/", $name, ".", $form)))
    };
}

const SAMPLES: [Sample; 28] = [
    sample!("stripe", "invoice.paid"),
    sample!("github", "pull_request.opened"),
    sample!("gitlab", "Push Hook"),
    sample!("shopify", "orders/create"),
    sample!("slack", "app_mention"),
    sample!("paddle", "transaction.completed"),
    sample!("square", "payment.created"),
    sample!("linear", "Issue.create"),
    sample!("adyen", ""),
    sample!("clerk", ""),
    sample!("discord", ""),
    sample!("hubspot", ""),
    sample!("intercom", ""),
    sample!("mailgun", ""),
    sample!("meta", ""),
    sample!("notion", ""),
    sample!("openai", ""),
    sample!("paypal", ""),
    sample!("paystack", ""),
    sample!("razorpay", ""),
    sample!("resend", ""),
    sample!("sendgrid", ""),
    sample!("telegram", ""),
    sample!("twitch", "channel.follow"),
    sample!("xero", ""),
    sample!("zoom", ""),
    sample!("twilio", "", "form"),
    // Last, because it stands for all others.
    sample!("standard-webhooks", "payment.succeeded"),
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
    /// An event of `provider`, with an id of its own where none is given. A sentence where an id or a type that was asked for
    /// cannot be put where the source reads it from.
    pub(super) fn new(
        provider: &str,
        plan: &PlanParts,
        id: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Self, String> {
        let [.., other] = &SAMPLES;
        let known = SAMPLES.iter().find(|(name, ..)| *name == provider);
        let (_, known_kind, body) = known.unwrap_or(other);
        let mut payload = Self::parse(body.trim_end());
        let own = new_id(plan);
        payload.put_first(&plan.id, id, &own, plan.id_is_integer, "id")?;
        if !payload.headers.is_empty() {
            payload.mark(id.unwrap_or(&own));
        }
        if kind.is_some() || !known_kind.is_empty() {
            payload.put_first(&plan.kind, kind, known_kind, false, "type")?;
        }
        if !payload.form.is_empty() {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            payload.headers.insert(CONTENT_TYPE, form);
        }
        Ok(payload)
    }

    /// A sample: JSON, or else a form.
    fn parse(body: &str) -> Self {
        let headers = HeaderMap::new();
        if let Ok(json) = serde_json::from_str(body) {
            return Self { headers, json, form: Vec::new() };
        }
        let form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        Self { headers, json: Json::Null, form }
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
        if self.form.is_empty() {
            return serde_json::to_vec_pretty(&self.json).unwrap_or_default().into();
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.form);
        form.finish().into()
    }

    /// Makes the body another one. Where the signed body does not hold the id, an equal one under a new id would be a suspected
    /// replay.
    fn mark(&mut self, id: &str) {
        let key = Step::Key("gatepost_test".into());
        match &self.json {
            Json::Array(_) => put(&mut self.json, &[Step::Index(0), key], id.into()),
            Json::Null => self.set_field("gatepost_test", id.to_owned()),
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
    /// be read as it is: where no template can express it, it is the first value of the first.
    fn put_first(
        &mut self,
        templates: &[Template],
        asked: Option<&str>,
        own: &str,
        integer: bool,
        what: &str,
    ) -> Result<(), String> {
        let text = asked.unwrap_or(own);
        let expressed = templates.iter().find_map(|template| unrender(template, text));
        let parts = || templates.first().and_then(|template| template.values().next());
        let values = match (expressed, asked) {
            (Some(values), _) => values,
            (None, None) => parts().map(|value| (&value.from, text)).into_iter().collect(),
            (None, Some(_)) => {
                let why = "cannot be expressed the way this source reads it";
                return Err(format!("the {what} {text:?} {why}"));
            }
        };
        for (from, value) in values {
            self.place(from, value, integer);
        }
        Ok(())
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

/// A new id in a form that every provider's would have.
pub(super) fn new_id(plan: &PlanParts) -> String {
    if plan.id_is_integer {
        return Timestamp::now().as_millis().to_string();
    }
    Receipt::random().to_string().replace("req_", "evt_test_")
}
