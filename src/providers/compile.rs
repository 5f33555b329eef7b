//! Shapes to what the stages run, or to everything that is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::HeaderName;

use super::{Covers, Field, challenges, schemes, shape};
use crate::{
    handshake, identify,
    json::{Path, Step},
    verify::{Algorithm, From, Place, Scheme, Template, Value},
};

/// What a source says besides its preset.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Replaces the preset's `past` and `future` tolerance.
    pub tolerance: Option<Duration>,
    /// JSON paths that the source's routes look at (`when:`), in the order in which routes refer to them.
    pub captures: Vec<String>,
    /// What the source says about itself, for `{param:NAME}`.
    pub params: BTreeMap<String, String>,
    /// The one scheme that counts, by its name.
    pub pin: Option<String>,
    /// Whether another body under the same id is another event.
    pub by_bytes: bool,
}

/// What the stages of a source run.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Schemes, in order.
    pub schemes: Vec<Scheme>,
    /// Where id and type are.
    pub identify: identify::Plan,
    /// Challenges.
    pub handshakes: Vec<handshake::Rule>,
    /// What they could be asked to sign must be no event.
    pub guards: Vec<handshake::Guard>,
    /// Parameters without which a challenge is not answered.
    pub missing_params: Vec<String>,
    /// Whether the id is covered by the signature (of every scheme).
    pub id_covered: bool,
    /// Whether the type is.
    pub type_covered: bool,
    /// Which fields of an event are there and covered.
    pub covers_event: Vec<Field>,
    /// What of a request the weakest of its schemes covers.
    pub covers: Covers,
    /// What the strongest covers.
    pub covers_best: Covers,
    /// Whether verification needs the public URL.
    pub needs_public_url: bool,
    /// What it asks of a source, by `{param:NAME}`.
    pub params: BTreeSet<String>,
}

impl Compiled {
    /// Whether every scheme, and what must hold besides, can do without a configured key.
    pub(crate) fn finds_keys(&self) -> bool {
        self.schemes.iter().flat_map(Scheme::with_besides).all(Scheme::finds_keys)
    }
}

/// A mistake in a source's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, below the source: `verify.signed`, `event.id[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Turns shapes into what the stages run, or into all that is wrong with them.
pub fn compile(
    verify: &shape::Verify,
    event: &shape::EventFields,
    handshake: &[shape::HandshakeRule],
    options: &Options,
) -> Result<Compiled, Vec<Problem>> {
    let mut problems = Problems { params: options.params.clone(), ..Problems::default() };
    let numbered = schemes::compile(verify, options, &mut problems);
    let captures = options.captures.iter().enumerate();
    let captures: Vec<_> =
        captures.flat_map(|(i, path)| problems.path(&format!("captures[{i}]"), path)).collect();
    let own = |number: usize| verify.schemes.get(number).and_then(|s| s.event.as_ref());
    let each: Vec<_> = numbered.iter().map(|(number, _)| (*number, own(*number))).collect();
    let plans = plans(event, &each, &mut problems);
    let (numbers, mut schemes): (Vec<_>, Vec<_>) = numbered.into_iter().unzip();
    problems.signed_once(&plans, &schemes);
    let challenges = challenges::compile(handshake, &schemes, &options.params, &mut problems);
    if !problems.found.is_empty() {
        return Err(problems.found);
    }
    let (mut id_covered, mut type_covered, mut account_covered) = (true, true, true);
    let mut plans = plans.into_iter();
    let general = plans.next().unwrap_or_default();
    let mut identify = Vec::new();
    for (number, scheme) in numbers.into_iter().zip(&mut schemes) {
        let own = own(number).and_then(|_| plans.next());
        let mut parts = own.unwrap_or_else(|| general.clone());
        parts.captures.clone_from(&captures);
        let [id, kind, account] =
            [&parts.id, &parts.kind, &parts.account].map(|named| is_covered(named, scheme));
        id_covered &= id;
        type_covered &= kind;
        account_covered &= account && !parts.account.is_empty();
        parts.key_covered = id && account;
        parts.by_bytes = options.by_bytes;
        tell_replays(&mut parts, scheme);
        identify.push(parts);
    }
    let fields =
        [(Field::Id, id_covered), (Field::Type, type_covered), (Field::Account, account_covered)];
    Ok(Compiled {
        covers: schemes.iter().map(coverage).max().unwrap_or(Covers::Nothing),
        covers_best: schemes.iter().map(coverage).min().unwrap_or(Covers::Nothing),
        covers_event: fields.into_iter().filter(|(_, is)| *is).map(|(field, _)| field).collect(),
        needs_public_url: schemes.iter().any(Scheme::needs_public_url),
        identify: identify::Plan::of_schemes(identify),
        schemes,
        handshakes: challenges.rules,
        guards: challenges.guards,
        missing_params: challenges.missing,
        params: problems.asked,
        id_covered,
        type_covered,
    })
}

impl shape::EventFields {
    /// These fields, and those of `base` where they say nothing.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let (own, base) = (self.clone(), base.clone());
        Self {
            id: own.id.or(base.id),
            kind: own.kind.or(base.kind),
            account: own.account.or(base.account),
            id_json: own.id_json.or(base.id_json),
            items: own.items.or(base.items),
            one_type_per_body: own.one_type_per_body || base.one_type_per_body,
            signed_once: own.signed_once || base.signed_once,
        }
    }
}

/// Whether nobody can change what `templates` yield without breaking the signature, whichever template counts.
fn is_covered(templates: &[Template], scheme: &Scheme) -> bool {
    templates.iter().flat_map(Template::values).all(|value| scheme.covers(value))
}

impl Problems {
    /// Every event needs a name.
    fn names_events(&mut self, event: &shape::EventFields, path: &str) {
        if event.id.is_none() {
            let help = "say where the event's id is, such as `{json:id}`; `{body|sha256_hex}` where there is none";
            self.add(format!("{path}.id"), "missing", help);
        }
        if event.kind.is_none() {
            let help = "say where the event's type is, such as `{json:type}`; plain text where all are of one type";
            self.add(format!("{path}.type"), "missing", help);
        }
    }

    /// A text that is signed once needs one that is signed.
    fn signed_once(&mut self, plans: &[identify::PlanParts], schemes: &[Scheme]) {
        let signs = |scheme: &Scheme| !scheme.parts.signed.is_empty();
        if plans.iter().any(|plan| plan.signed_once) && !schemes.iter().all(signs) {
            let help = "remove it; it is for signatures over a text that is never signed again";
            self.add("event.signed_once", "nothing is signed here", help);
        }
    }
}

/// The plan of schemes that say nothing of their events, and behind it those of the schemes that do, by their numbers.
fn plans(
    event: &shape::EventFields,
    each: &[(usize, Option<&shape::EventFields>)],
    problems: &mut Problems,
) -> Vec<identify::PlanParts> {
    let mut plans = vec![event_parts(event, "event", problems)];
    if each.is_empty() || each.iter().any(|(_, own)| own.is_none()) {
        problems.names_events(event, "event");
    }
    for (number, own) in each.iter().filter_map(|(n, own)| Some((n, own.as_ref()?.over(event)))) {
        let path = format!("verify.schemes[{number}].event");
        plans.push(event_parts(&own, &path, problems));
        problems.names_events(&own, &path);
    }
    plans
}

/// Settles what tells a replay of what this scheme signs.
fn tell_replays(parts: &mut identify::PlanParts, scheme: &mut Scheme) {
    parts.nothing_signed = coverage(scheme) == Covers::Nothing;
    parts.one_type_per_body |= scheme.signs_form() && is_of_form(&parts.kind);
    // What is signed of every item names it; whoever has a batch can change the rest.
    let names_items = parts.key_covered && scheme.parts.for_each.is_some();
    scheme.parts.text_tells = parts.signed_once || names_items || scheme.signs_form();
}

/// Whether `templates` read nothing but a form.
fn is_of_form(templates: &[Template]) -> bool {
    let is = |value: &Value| matches!(value.from, From::Form(_) | From::FormJson(..));
    templates.iter().flat_map(Template::values).all(is)
}

/// What of a request a scheme covers.
fn coverage(scheme: &Scheme) -> Covers {
    let body = Value { from: From::Body, transforms: Vec::new() };
    let algorithm = scheme.parts.algorithm;
    match scheme.parts.containers.first().map(|container| &container.place) {
        _ if !algorithm.signs() => Covers::Nothing,
        _ if scheme.covers(&body) => Covers::Body,
        // What a token says is signed; the rest of a request is not.
        Some(Place::Elsewhere(place)) if place.sole_value() == Some(&body) => Covers::Body,
        Some(Place::Header(_)) if algorithm == Algorithm::Jwt => Covers::Nothing,
        _ => Covers::Fields,
    }
}

fn event_parts(
    event: &shape::EventFields,
    path: &str,
    problems: &mut Problems,
) -> identify::PlanParts {
    let [id_path, kind_path, account_path, items_path] =
        ["id", "type", "account", "items"].map(|key| format!("{path}.{key}"));
    let id = problems.templates(&id_path, event.id.as_ref());
    if id.iter().any(|template| template.values().next().is_none()) {
        let help = "name a value of the request, such as `{json:id}`";
        problems.add(&id_path, "would be the same for all events", help);
    }
    let kind = problems.templates(&kind_path, event.kind.as_ref());
    let items = event.items.as_ref().and_then(|path| problems.path(&items_path, path).ok());
    if items.as_ref().is_some_and(|path| !path.steps().contains(&Step::Each)) {
        problems.add(&items_path, "names no list", "write it like `events[*]`");
    }
    identify::PlanParts {
        id,
        kind,
        account: problems.templates(&account_path, event.account.as_ref()),
        id_is_integer: event.id_json == Some(shape::IdJson::Integer),
        items,
        captures: Vec::new(),
        key_covered: false,
        nothing_signed: false,
        one_type_per_body: event.one_type_per_body,
        signed_once: event.signed_once,
        by_bytes: false,
    }
}

/// What was found so far, where nothing is said twice; and what the source says about itself.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    params: BTreeMap<String, String>,
    /// Names that templates asked for.
    pub(super) asked: BTreeSet<String>,
}

/// Something is not there because of a problem that was noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

impl Problems {
    /// All that was found.
    pub(super) fn all(self) -> Vec<Problem> {
        self.found
    }

    pub(super) fn add(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Reported {
        let (path, message, help) = (path.into(), message.into(), help.into());
        let problem = Problem { path, message, help: (!help.is_empty()).then_some(help) };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
        Reported
    }

    /// A template outside of `verify`, where no container captures variables.
    pub(super) fn template(&mut self, path: &str, text: &str) -> Result<Template, Reported> {
        let template = self.any_template(path, text)?;
        let variable = template.values().find_map(|value| match &value.from {
            From::Variable(name) => Some(name.clone()),
            _ => None,
        });
        let Some(name) = variable else { return Ok(template) };
        let help = format!("write `{{json:{name}}}` or `{{header:{name}}}`");
        Err(self.add(path, format!("`{{{name}}}` does not say where to look"), help))
    }

    /// The same for each word of a parameter: a source may name several, with a space between them.
    pub(super) fn each_template(
        &mut self,
        path: &str,
        text: &str,
    ) -> Result<Vec<Template>, Reported> {
        let asked = Template::parse(text).map_or_else(|_| Vec::new(), |template| template.params());
        let several = asked.into_iter().find_map(|name| {
            let words = self.params.get(&name).filter(|words| words.contains(' '))?;
            Some((name, words.clone()))
        });
        let Some((name, words)) = several else {
            return self.any_template(path, text).map(|template| vec![template]);
        };
        let mut templates = Vec::new();
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            self.params.insert(name.clone(), word.to_owned());
            templates.push(self.each_template(path, text));
        }
        self.params.insert(name, words);
        templates.into_iter().collect::<Result<Vec<_>, _>>().map(|each| each.concat())
    }

    pub(super) fn any_template(&mut self, path: &str, text: &str) -> Result<Template, Reported> {
        let mut template = Template::parse(text).map_err(|e| {
            let message = format!("{}, at byte {} of `{text}`", e.message, e.at);
            self.add(path, message, e.help.unwrap_or_default())
        })?;
        self.asked.extend(template.params());
        let param = |name: &str| self.params.get(name).map(String::as_str);
        if let Err(name) = template.fill(param) {
            let help = format!("set it at the source: `params: {{ {name}: … }}`");
            return Err(self.add(format!("params.{name}"), "missing", help));
        }
        let each = template.values().any(|value| match &value.from {
            From::Json(path) | From::FormJson(_, path) => path.steps().contains(&Step::Each),
            _ => false,
        });
        if each {
            let help = "name one element, such as `items[0].id`";
            return Err(self.add(path, "`[*]` stands for many values where one is needed", help));
        }
        Ok(template)
    }

    fn templates(&mut self, path: &str, texts: Option<&shape::OneOrMany<String>>) -> Vec<Template> {
        let Some(texts) = texts else { return Vec::new() };
        if texts.as_slice().is_empty() {
            self.add(path, "an empty list", "");
        }
        texts.placed(path).flat_map(|(path, text)| self.template(&path, text)).collect()
    }

    pub(super) fn header(&mut self, path: &str, name: &str) -> Result<HeaderName, Reported> {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        parsed.map_err(|_| self.add(path, format!("`{name}` is not a header name"), ""))
    }

    pub(super) fn path(&mut self, path: &str, text: &str) -> Result<Path, Reported> {
        Path::parse(text).map_err(|e| self.add(path, e, "write it like `data.object.id`"))
    }
}
