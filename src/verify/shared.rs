//! Signs a request with a secret that both sides have: the mirror image of what judges it.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};

use super::{
    Algorithm, Container, Encoding, From, LiveSecret, Place, Presented, Scheme, Signed, Transform,
    Value,
    container::BASIC,
    form::{Form, field},
    key::Key,
};
use crate::{
    event::Digest,
    json::{Path, Step},
};

/// Signs with one secret, in headers.
pub(super) fn sign(
    scheme: &Scheme,
    (slot, key): &(u16, Key),
    live: &LiveSecret,
    presented: &Presented<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let parts = &scheme.parts;
    let fits = |c: &&Container| c.secret_slot == 0 || c.secret_slot == *slot;
    let container = parts.containers.iter().find(fits);
    let container = container.ok_or("no signature is made with this secret")?;
    let time = parts.timestamps.as_ref();
    let time = time.map(|time| (&time.from.from, time.unit.write(presented.received_at)));
    let mut headers: HeaderMap = presented.headers.clone();
    let mut added = Vec::new();
    let mut add = |name: &HeaderName, text: &str| {
        let value = HeaderValue::from_str(text).map_err(|_| format!("`{name}` cannot say that"))?;
        headers.insert(name.clone(), value.clone());
        added.push((name.clone(), value));
        Ok::<_, String>(())
    };
    if let Some((From::Header(name), time)) = &time {
        add(name, time)?;
    }
    if let (Some(From::Header(name)), Some(id)) = (container.key_id_place(), &live.id) {
        add(name, id)?;
    }
    for (name, text) in scheme.fixed_headers() {
        add(name, text)?;
    }
    let missing = scheme.missing(&headers).join(", ");
    if !missing.is_empty() {
        return Err(format!("the signature covers headers that are not there: {missing}"));
    }
    let variable = match &time {
        Some((From::Variable(name), time)) => Some((name.as_str(), time.as_str())),
        _ => None,
    };
    let signature = match parts.algorithm {
        Algorithm::Token => String::from_utf8_lossy(&parts.key.bytes(&live.secret)?).into_owned(),
        Algorithm::Basic => {
            format!("{BASIC}{}", Encoding::Base64.encode(&parts.key.bytes(&live.secret)?))
        }
        algorithm => {
            let request = Presented { headers: &headers, ..*presented };
            container.encoding.encode(scheme.tag(request, key, variable, None)?.bytes(algorithm))
        }
    };
    let (name, mut value) = container.write(&signature, variable)?;
    value.set_sensitive(!parts.algorithm.signs());
    added.push((name, value));
    Ok(added)
}

/// Signs with one secret, inside of the body: the time is put there, what is signed and is not there, and then the signature; in
/// each item, where each is signed by itself.
pub(super) fn sign_body(
    scheme: &Scheme,
    (slot, key): &(u16, Key),
    live: &LiveSecret,
    presented: &Presented<'_>,
) -> Result<Signed, String> {
    let parts = &scheme.parts;
    let fits = |c: &&Container| c.secret_slot == 0 || c.secret_slot == *slot;
    let container = parts.containers.iter().find(fits);
    let container = container.ok_or("no signature is made with this secret")?;
    let place = match &container.place {
        Place::Elsewhere(template) => template.sole_value().map(|value| &value.from),
        Place::Header(_) | Place::Numbered(_) => None,
    };
    let place = place.ok_or("the signature has no place in the body")?;
    let signed = parts.signed.first().ok_or("the secret itself would stand in the body")?;
    if live.id.is_some() || signed.values().any(|value| value.from == From::Body) {
        return Err("what is signed holds the signature, or names its secret".into());
    }
    let is_form = Form::of(presented.headers, presented.body).is_ok_and(|f| f == Form::Fields);
    let mut body = Writing { bytes: Cow::Borrowed(presented.body), is_form };
    let items = scheme.items_of(presented).unwrap_or(1);
    for item in 0..items {
        let at = parts.for_each.as_ref().map(|_| item);
        if let Some(time) = &parts.timestamps {
            let text = time.unit.write(presented.received_at);
            body.put(scheme, at, &time.from.from, &text)?;
        }
        for Value { from, transforms } in signed.values() {
            let view = scheme.view(Presented { body: &body.bytes, ..*presented });
            view.look_at_item(at);
            let is_there = view.find(from, &[]).is_ok();
            if !is_there && !transforms.contains(&Transform::DefaultEmpty) {
                drop(view);
                let text = Digest::of(presented.body).to_string();
                body.put(scheme, at, from, &text)?;
            }
        }
        let request = Presented { body: &body.bytes, ..*presented };
        let tag = scheme.tag(request, key, None, at)?;
        let text = container.text(&container.encoding.encode(tag.bytes(parts.algorithm)), None)?;
        let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
        body.put(scheme, at, place, &text)?;
    }
    Ok(Signed { headers: Vec::new(), body: Some(body.bytes.into_owned()) })
}

/// A body under work.
struct Writing<'b> {
    bytes: Cow<'b, [u8]>,
    is_form: bool,
}

impl Writing<'_> {
    /// Puts a text where the scheme reads it; in an item, where there are items.
    fn put(
        &mut self,
        scheme: &Scheme,
        item: Option<usize>,
        place: &From,
        text: &str,
    ) -> Result<(), String> {
        let bytes = match place {
            From::Json(path) if !self.is_form => {
                let list = scheme.parts.for_each.iter().flat_map(Path::steps);
                let index = |step: &Step| match step {
                    Step::Each => Step::Index(item.unwrap_or_default()),
                    other => other.clone(),
                };
                let steps: Vec<_> = list.map(index).chain(path.steps().iter().cloned()).collect();
                with(&self.bytes, &steps, text)
            }
            From::Form(name) if self.is_form => with_field(&self.bytes, name, text),
            From::FormJson(name, path) if self.is_form => {
                let inner = field(&self.bytes, name).unwrap_or_default();
                let inner = with(&inner, path.steps(), text);
                with_field(&self.bytes, name, &String::from_utf8_lossy(&inner))
            }
            _ => return Err("something that is signed has no place in this body".into()),
        };
        self.bytes = Cow::Owned(bytes);
        Ok(())
    }
}

/// A JSON document with a text at a path.
fn with(document: &[u8], steps: &[Step], text: &str) -> Vec<u8> {
    let mut document = serde_json::from_slice(document).unwrap_or_else(|_| json!({}));
    put(&mut document, steps, text);
    document.to_string().into_bytes()
}

fn put(at: &mut Json, steps: &[Step], text: &str) {
    match steps.split_first() {
        None => *at = text.into(),
        Some((Step::Key(key), rest)) => {
            if !at.is_object() {
                *at = json!({});
            }
            if let Some(members) = at.as_object_mut() {
                put(members.entry(key.clone()).or_insert(Json::Null), rest, text);
            }
        }
        Some((Step::Index(index), rest)) => {
            if let Some(item) = at.get_mut(*index) {
                put(item, rest, text);
            }
        }
        Some((Step::Each | Step::FirstKey(_), _)) => {}
    }
}

/// A form with one field of this name.
fn with_field(form: &[u8], name: &str, text: &str) -> Vec<u8> {
    let others = form_urlencoded::parse(form).filter(|(known, _)| known != name);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(others).append_pair(name, text);
    form.finish().into_bytes()
}
