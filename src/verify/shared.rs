//! Signs a request with a secret that both sides have: the mirror image of what judges it.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::{
    Algorithm, Container, Encoding, From, LiveSecret, Place, Presented, Scheme, Signed, Transform,
    Value,
    container::BASIC,
    form::{Form, field},
    key::Key,
};
use crate::{
    event::Digest,
    json::{Path, Step, put},
};

/// Signs with one secret, in headers.
pub(super) fn sign(
    scheme: &Scheme,
    (slot, key): &(u16, Key),
    live: &LiveSecret,
    presented: &Presented<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let parts = &scheme.parts;
    let container = container(scheme, *slot)?;
    let Dressed { headers, mut added, time } =
        dress(scheme, presented, container.key_id_place().zip(live.id.as_deref()))?;
    let variable = time.as_ref().map(|(name, time)| (*name, time.as_str()));
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

/// Where signatures are that are made with the secret in a slot.
fn container(scheme: &Scheme, slot: u16) -> Result<&Container, &'static str> {
    let fits = |c: &&Container| c.secret_slot == 0 || c.secret_slot == slot;
    scheme.parts.containers.iter().find(fits).ok_or("no signature is made with this secret")
}

/// A request that only lacks its signature.
pub(super) struct Dressed<'s> {
    pub(super) headers: HeaderMap,
    /// Those of them that go with a signature.
    pub(super) added: Vec<(HeaderName, HeaderValue)>,
    /// The signed time, where it stands beside the signature: its name there, and itself.
    pub(super) time: Option<(&'s str, String)>,
}

/// Adds the headers that go with a signature: time, name of the key, and those that never differ.
pub(super) fn dress<'s>(
    scheme: &'s Scheme,
    presented: &Presented<'_>,
    key_id: Option<(&From, &str)>,
) -> Result<Dressed<'s>, String> {
    let mut dressed = Dressed { headers: presented.headers.clone(), added: Vec::new(), time: None };
    let mut add = |name: &HeaderName, text: &str| {
        let value = HeaderValue::from_str(text).map_err(|_| format!("`{name}` cannot say that"))?;
        dressed.headers.insert(name.clone(), value.clone());
        dressed.added.push((name.clone(), value));
        Ok::<_, String>(())
    };
    if let Some(time) = &scheme.parts.timestamps {
        let text = time.unit.write(presented.received_at);
        match &time.from.from {
            From::Header(name) => add(name, &text)?,
            From::Variable(name) => dressed.time = Some((name, text)),
            _ => {}
        }
    }
    if let Some((From::Header(name), id)) = key_id {
        add(name, id)?;
    }
    for (name, text) in scheme.fixed_headers() {
        add(name, text)?;
    }
    let missing = scheme.missing(&dressed.headers).join(", ");
    if missing.is_empty() {
        Ok(dressed)
    } else {
        Err(format!("the signature covers headers that are not there: {missing}"))
    }
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
    let container = container(scheme, *slot)?;
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
    put(&mut document, steps, text.into());
    document.to_string().into_bytes()
}

/// A form with one field of this name.
fn with_field(form: &[u8], name: &str, text: &str) -> Vec<u8> {
    let others = form_urlencoded::parse(form).filter(|(known, _)| known != name);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(others).append_pair(name, text);
    form.finish().into_bytes()
}
