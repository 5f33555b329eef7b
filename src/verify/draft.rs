//! A request under work: all that goes with a signature is put where its scheme reads it, and last the signature itself.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};

use super::{
    Container, From, Place, Presented, Scheme, Signed, Template, Transform, Value,
    form::{Form, field},
    keyset::at,
    view::{Variable, View},
    when::Condition,
};
use crate::{
    event::Digest,
    json::{Path, Step, put},
};

/// A request that is being signed by one scheme.
pub(super) struct Draft<'s> {
    scheme: &'s Scheme,
    request: Presented<'s>,
    /// Whether more than headers may change.
    whole: bool,
    headers: HeaderMap,
    added: Vec<(HeaderName, HeaderValue)>,
    /// Where it differs from what came.
    body: Option<Vec<u8>>,
    is_form: bool,
    /// Where one is added: it, and URL and target with it.
    query: Option<(String, String, String)>,
    /// What stands beside the signature: its name there, and itself.
    beside: Option<(String, String)>,
}

const NO_PLACE: &str = "something that is signed has no place in this body";
const NOT_IN_HEADER: &str = "the signature is not in a header, so it cannot be added to a body";

impl<'s> Draft<'s> {
    /// A request that lacks its signature: with the name of the key, and with what never differs.
    pub(super) fn new(
        scheme: &'s Scheme,
        request: &Presented<'s>,
        key_id: Option<(&From, &str)>,
        whole: bool,
    ) -> Result<Self, String> {
        let mut draft = Self::bare(scheme, request, whole);
        if let Some((place @ From::Header(_), id)) = key_id {
            draft.put(place, None, id)?;
        }
        for (place, text) in scheme.fixed() {
            let said = |draft: &Self| Some(draft.view(None).find(&place, &[]).ok()?.into_owned());
            let is_header = matches!(place, From::Header(_));
            if is_header || (whole && said(&draft).as_deref() != Some(text.as_bytes())) {
                draft.put(&place, None, text)?;
            }
        }
        Ok(draft)
    }

    /// The request as it came.
    pub(super) fn bare(scheme: &'s Scheme, request: &Presented<'s>, whole: bool) -> Self {
        let is_form = Form::of(request.headers, request.body).is_ok_and(|f| f == Form::Fields);
        Self {
            scheme,
            request: *request,
            whole,
            headers: request.headers.clone(),
            added: Vec::new(),
            body: None,
            is_form,
            query: None,
            beside: None,
        }
    }

    /// Adds what a signature needs, of the request or of one of its items: a time, and what is signed and is not there.
    pub(super) fn fill(&mut self, item: Option<usize>) -> Result<(), String> {
        let parts = &self.scheme.parts;
        if let Some(time) = &parts.timestamps {
            let text = time.unit.write(self.request.received_at);
            match &time.from.from {
                place @ (From::Header(_) | From::Variable(_)) => self.put(place, item, &text)?,
                place @ (From::Json(_) | From::Form(_) | From::FormJson(..) | From::Query(_))
                    if self.whole =>
                {
                    self.put(place, item, &text)?;
                }
                _ => {}
            }
        }
        for Value { from, transforms } in
            parts.signed.first().into_iter().flat_map(Template::values)
        {
            let is_there = self.view(item).find(from, &self.variables()).is_ok();
            if !is_there && !transforms.contains(&Transform::DefaultEmpty) {
                self.make_up(from, item)?;
            }
        }
        let missing = self.scheme.missing(&self.headers).join(", ");
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("the signature covers headers that are not there: {missing}"))
        }
    }

    /// Puts in something that is signed, and that says nothing to anybody.
    fn make_up(&mut self, place: &From, item: Option<usize>) -> Result<(), String> {
        match place {
            // A time that nobody checks.
            From::Variable(_) => {
                let now = self.request.received_at.as_millis().to_string();
                self.put(place, item, &now)
            }
            From::Json(_) | From::Form(_) | From::FormJson(..) if self.whole => {
                let text = Digest::of(self.request.body).to_string();
                self.put(place, item, &text)
            }
            From::SignedHeaders(list) => {
                let names = self.headers.keys().chain([list]).map(HeaderName::as_str);
                let mut names: Vec<_> = names.collect();
                names.sort_unstable();
                let names = names.join(",");
                self.add(list, &names)
            }
            _ => Ok(()),
        }
    }

    /// Puts the signature where the scheme looks for it. What shows the secret is marked so.
    pub(super) fn sign(
        &mut self,
        container: &Container,
        item: Option<usize>,
        signature: &str,
    ) -> Result<(), String> {
        let text = container.text(signature, self.beside())?;
        let Place::Elsewhere(template) = &container.place else {
            let (name, mut value) = (container.header()?, text);
            value.set_sensitive(!self.scheme.parts.algorithm.signs());
            self.added.push((name, value));
            return Ok(());
        };
        let place = template.sole_value().map(|value| &value.from);
        let place = place.ok_or("the signature has no place of its own")?;
        let signs_body = || {
            let mut signed = self.scheme.parts.signed.iter().flat_map(Template::values);
            signed.any(|value| value.from == From::Body)
        };
        if !matches!(place, From::Query(_) | From::Header(_)) && signs_body() {
            return Err("what is signed holds the signature".into());
        }
        self.put(place, item, &String::from_utf8_lossy(text.as_bytes()))
    }

    /// Puts a text where the scheme reads it; in an item, where there are items.
    pub(super) fn put(
        &mut self,
        place: &From,
        item: Option<usize>,
        text: &str,
    ) -> Result<(), String> {
        let body = self.body.as_deref().unwrap_or(self.request.body);
        let body = match place {
            From::Header(name) => return self.add(name, text),
            From::Variable(name) => {
                self.beside = Some((name.clone(), text.to_owned()));
                return Ok(());
            }
            _ if !self.whole => return Err(NOT_IN_HEADER.into()),
            From::Query(name) => {
                self.ask(name, text);
                return Ok(());
            }
            From::Body => text.as_bytes().to_vec(),
            From::Json(path) if !self.is_form => {
                let items = self.scheme.parts.for_each.as_ref().zip(item);
                let mut steps =
                    items.map(|(items, item)| steps_to(items, item)).unwrap_or_default();
                steps.extend_from_slice(path.steps());
                with(body, &steps, text)
            }
            From::Form(name) if self.is_form => with_field(body, name, text),
            From::FormJson(name, path) if self.is_form => {
                let inner = field(body, name).unwrap_or_default();
                let inner = with(&inner, path.steps(), text);
                with_field(body, name, &String::from_utf8_lossy(&inner))
            }
            _ => return Err(NO_PLACE.into()),
        };
        self.body = Some(body);
        Ok(())
    }

    /// Adds a header, in place of one that may be there.
    pub(super) fn add(&mut self, name: &HeaderName, text: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(text).map_err(|_| format!("`{name}` cannot say that"))?;
        self.headers.insert(name.clone(), value.clone());
        self.added.push((name.clone(), value));
        Ok(())
    }

    /// Adds a parameter to the query.
    fn ask(&mut self, name: &str, text: &str) {
        let Presented { url, target, .. } = self.presented();
        let path = |text: &str| text.split_once('?').map_or(text, |(path, _)| path).to_owned();
        let others = target.split_once('?').map_or("", |(_, query)| query);
        let query =
            String::from_utf8_lossy(&with_field(others.as_bytes(), name, text)).into_owned();
        let with_query = |text| format!("{}?{query}", path(text));
        self.query = Some((query.clone(), with_query(url), with_query(target)));
    }

    /// The request as it is by now.
    pub(super) fn presented(&self) -> Presented<'_> {
        let (url, target) = match &self.query {
            Some((_, url, target)) => (url.as_str(), target.as_str()),
            None => (self.request.url, self.request.target),
        };
        let body = self.body.as_deref().unwrap_or(self.request.body);
        Presented { url, target, body, headers: &self.headers, ..self.request }
    }

    /// The same, as templates see it.
    pub(super) fn view(&self, item: Option<usize>) -> View<'_> {
        let view = self.scheme.view(self.presented());
        view.look_at_item(item);
        view
    }

    /// What stands beside the signature.
    pub(super) fn beside(&self) -> Option<(&str, &str)> {
        self.beside.as_ref().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The same, as templates see it.
    pub(super) fn variables(&self) -> Vec<Variable<'_>> {
        self.beside().map(|(name, text)| (name.as_bytes(), text.as_bytes())).into_iter().collect()
    }

    /// What was added.
    pub(super) fn signed(self) -> Signed {
        let query = self.query.map(|(query, ..)| query);
        Signed { headers: self.added, body: self.body, query }
    }
}

/// The way to an item of a list.
fn steps_to(items: &Path, item: usize) -> Vec<Step> {
    let step = |step: &Step| match step {
        Step::Each => Step::Index(item),
        other => other.clone(),
    };
    items.steps().iter().map(step).collect()
}

/// A JSON document with a text at a path; a number, where one stands there.
fn with(document: &[u8], steps: &[Step], text: &str) -> Vec<u8> {
    let mut document = serde_json::from_slice(document).unwrap_or_else(|_| json!({}));
    let is_number = at(&document, steps).is_some_and(Json::is_number);
    let number = text.parse::<i64>().ok().filter(|_| is_number);
    put(&mut document, steps, number.map_or_else(|| text.into(), Json::from));
    document.to_string().into_bytes()
}

/// A form with one field of this name.
fn with_field(form: &[u8], name: &str, text: &str) -> Vec<u8> {
    let others = form_urlencoded::parse(form).filter(|(known, _)| known != name);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(others).append_pair(name, text);
    form.finish().into_bytes()
}

impl Scheme {
    /// Names of headers that are signed over and that `headers` lacks.
    pub(super) fn missing<'s>(&'s self, headers: &HeaderMap) -> Vec<&'s str> {
        let signed = self.parts.signed.iter().take(1).flat_map(Template::values);
        let names = signed.filter_map(|value| match &value.from {
            From::Header(name) if !headers.contains_key(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// What must say one thing, and what: a request that is signed here says it.
    fn fixed(&self) -> impl Iterator<Item = (From, &str)> {
        let conditions = self.parts.when.iter().filter_map(|condition| match condition {
            Condition::HeaderEquals(name, text) => {
                Some((From::Header(name.clone()), text.as_str()))
            }
            Condition::Json(place, text) => Some((place.clone(), text.as_str())),
            Condition::JsonPresent(_)
            | Condition::HeaderPrefix(..)
            | Condition::Header(_)
            | Condition::Query(_)
            | Condition::ContentType(_) => None,
        });
        let required = self.parts.require.iter().filter_map(|equal| {
            let Value { from, transforms } = equal.left.sole_value()?;
            let can_say = matches!(from, From::Header(_) | From::Query(_) | From::Json(_));
            let text = equal.right.literal().filter(|_| can_say && transforms.is_empty())?;
            Some((from.clone(), if equal.one_of { text.split(' ').next()? } else { text }))
        });
        conditions.chain(required)
    }
}
