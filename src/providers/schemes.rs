//! A `verify:` block to signature schemes.

use std::time::Duration;

use http::header::AUTHORIZATION;

use super::{
    compile::{Options, Problems, Reported},
    containers, foreign,
    shape::{self, OneOrMany},
};
use crate::{
    json::{Path, Step},
    units::Span,
    verify::{
        Algorithm, Condition, Container, Equality, Foreign, From, Scheme, SchemeParts, Template,
        Timestamps,
    },
};

/// Compiles every alternative, or the one that is pinned; what an alternative leaves out is taken from the block around it.
/// Each comes with its number in `verify.schemes`.
pub(super) fn compile(
    verify: &shape::Verify,
    options: &Options,
    problems: &mut Problems,
) -> Vec<(usize, Scheme)> {
    let nothing = shape::Scheme::default();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (number, own) in verify.schemes.iter().enumerate() {
        let path = format!("verify.schemes[{number}]");
        parts.push(Part { number, when: own.when.as_ref(), own: &own.scheme, path });
    }
    for part in parts.iter().rev().skip(1).filter(|part| part.when.is_none()) {
        let help = "give it a `when`, or put it last";
        problems.add(&part.path, "always counts, so those after it never do", help);
    }
    if let Some(pin) = &options.pin {
        parts.retain(|part| {
            verify.schemes.get(part.number).is_some_and(|s| s.name.as_ref() == Some(pin))
        });
        if parts.is_empty() {
            let names = verify.schemes.iter().filter_map(|s| s.name.as_deref()).collect::<Vec<_>>();
            let help = match names.as_slice() {
                [] => "remove the key; there is nothing to choose from".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            problems.add("pin", format!("no scheme is called `{pin}`"), help);
            return Vec::new();
        }
    } else if parts.is_empty() {
        parts.push(Part { number: 0, when: None, own: &nothing, path: "verify".to_owned() });
    }
    let tolerance = options.tolerance;
    let mut timeless = tolerance.is_some();
    let mut schemes = Vec::new();
    for Part { number, when, own, path } in parts {
        let built = Block { outer: &verify.scheme, own, when, path, tolerance, problems }.scheme();
        timeless &= built.as_ref().is_ok_and(|scheme| scheme.parts.timestamps.is_none());
        schemes.extend(built.map(|scheme| (number, scheme)));
    }
    let mut beside = |number| besides(verify, &schemes, number, tolerance, problems);
    let found: Vec<_> = schemes.iter().map(|(number, _)| beside(*number)).collect();
    for ((_, scheme), besides) in schemes.iter_mut().zip(found) {
        scheme.parts.besides = besides;
    }
    if timeless {
        let help = "remove the key; repeated requests are caught by their id";
        problems.add("tolerance", "requests of this sender carry no signed time", help);
    }
    schemes
}

/// What must hold beside an alternative. One that is not pinned is compiled for this alone, and counts for no request by itself.
fn besides(
    verify: &shape::Verify,
    schemes: &[(usize, Scheme)],
    number: usize,
    tolerance: Option<Duration>,
    problems: &mut Problems,
) -> Option<Box<Scheme>> {
    let path = format!("verify.schemes[{number}].besides");
    let name = verify.schemes.get(number)?.besides.as_ref()?;
    let mut named = verify.schemes.iter().enumerate();
    let Some((number, other)) = named.find(|(_, other)| other.name.as_ref() == Some(name)) else {
        problems.add(path, format!("no scheme is called `{name}`"), "give the other one a `name`");
        return None;
    };
    let compiled = schemes.iter().find(|(n, _)| *n == number).map(|(_, scheme)| scheme.clone());
    let scheme = compiled.or_else(|| {
        let path = format!("verify.schemes[{number}]");
        let own = &other.scheme;
        Block { outer: &verify.scheme, own, when: None, path, tolerance, problems }.scheme().ok()
    })?;
    if other.besides.is_some() || scheme.parts.foreign.is_some() {
        let help = "name one that compares a secret of yours and has no `besides`";
        problems.add(path, format!("`{name}` cannot hold besides"), help);
        return None;
    }
    Some(Box::new(scheme))
}

/// One of several schemes, as it was typed.
struct Part<'a> {
    number: usize,
    when: Option<&'a shape::When>,
    own: &'a shape::Scheme,
    path: String,
}

/// One alternative, what is around it, and what is wrong with it.
struct Block<'a> {
    outer: &'a shape::Scheme,
    own: &'a shape::Scheme,
    when: Option<&'a shape::When>,
    path: String,
    tolerance: Option<Duration>,
    problems: &'a mut Problems,
}

impl<'a> Block<'a> {
    fn scheme(mut self) -> Result<Scheme, Reported> {
        let parts = self.parts()?;
        self.check_variables(&parts)?;
        let scheme = Scheme::new(parts).map_err(|e| self.problems.add(&self.path, e, ""))?;
        self.check_time(&scheme)?;
        Ok(scheme)
    }

    /// Every part, each looked at before the first that is wrong ends it.
    fn parts(&mut self) -> Result<SchemeParts, Reported> {
        let algorithm = self.own.mac.or(self.outer.mac).unwrap_or_default();
        let when = self.when();
        let containers = self.containers(algorithm);
        let signed = self.signed(algorithm);
        let timestamps = self.timestamps(algorithm);
        let require = self.require();
        let foreign = self.foreign(algorithm);
        let for_each = self.for_each();
        let variants = match self.own.url_variants.as_slice() {
            [] => &self.outer.url_variants,
            _ => &self.own.url_variants,
        };
        let key = self.own.key.as_ref().or(self.outer.key.as_ref());
        Ok(SchemeParts {
            when: when?,
            key: key.cloned().unwrap_or_default(),
            containers: containers?,
            signed: signed?,
            algorithm,
            timestamps: timestamps?,
            require: require?,
            foreign: foreign?,
            for_each: for_each?,
            url_variants: variants.clone(),
            besides: None,
            text_tells: false,
        })
    }

    /// What is needed where signatures are not compared but checked.
    fn foreign(&mut self, algorithm: Algorithm) -> Result<Option<Box<Foreign>>, Reported> {
        let jwt = self.part("jwt", |scheme| scheme.jwt.as_ref());
        let keys = self.part("keys", |scheme| scheme.keys.as_ref());
        let signature =
            self.part("signature", |scheme| scheme.signature.as_ref()?.as_slice().first());
        let messages = self.part("rfc9421", |scheme| scheme.rfc9421.as_ref());
        let prehash = self.part("prehash", |scheme| scheme.prehash.as_ref());
        let described = foreign::Described {
            algorithm,
            prehash,
            jwt,
            messages,
            keys,
            signature,
            path: &self.path,
        };
        foreign::compile(&described, self.problems)
    }

    /// A part and where it stands: in the alternative, or else around it.
    fn part<T>(
        &self,
        name: &str,
        of: impl Fn(&'a shape::Scheme) -> Option<&'a T>,
    ) -> Option<(&'a T, String)> {
        let own = of(self.own).map(|part| (part, format!("{}.{name}", self.path)));
        own.or_else(|| of(self.outer).map(|part| (part, format!("verify.{name}"))))
    }

    fn when(&mut self) -> Result<Vec<Condition>, Reported> {
        let Some(when) = self.when else { return Ok(Vec::new()) };
        let path = format!("{}.when", self.path);
        if *when == shape::When::default() {
            let help = "name a header: `when: { header: X-Signature }`";
            return Err(self.problems.add(path, "says nothing", help));
        }
        let problems = &mut *self.problems;
        let mut conditions = Vec::new();
        if let Some(name) = &when.header {
            conditions.push(Condition::Header(problems.header(&format!("{path}.header"), name)?));
        }
        for (name, text) in &when.header_equals {
            let name = problems.header(&format!("{path}.header_equals"), name)?;
            conditions.push(Condition::HeaderEquals(name, text.clone()));
        }
        for (name, text) in &when.header_prefix {
            let name = problems.header(&format!("{path}.header_prefix"), name)?;
            conditions.push(Condition::HeaderPrefix(name, text.clone()));
        }
        conditions.extend(when.query.clone().map(Condition::Query));
        conditions.extend(when.content_type.clone().map(Condition::ContentType));
        for (name, text) in &when.json {
            let place = From::Json(problems.path(&format!("{path}.json"), name)?);
            conditions.push(Condition::Json(place, text.clone()));
        }
        if let Some(name) = &when.json_present {
            let place = From::Json(problems.path(&format!("{path}.json_present"), name)?);
            conditions.push(Condition::JsonPresent(place));
        }
        Ok(conditions)
    }

    fn containers(&mut self, algorithm: Algorithm) -> Result<Vec<Container>, Reported> {
        let usual =
            if algorithm == Algorithm::Rfc9421 { "signature" } else { AUTHORIZATION.as_str() };
        let usual = OneOrMany::One(shape::Signature {
            header: Some(usual.to_owned()),
            ..Default::default()
        });
        let (signatures, path) = match self.part("signature", |scheme| scheme.signature.as_ref()) {
            Some(found) => found,
            None if matches!(algorithm, Algorithm::Basic | Algorithm::Rfc9421) => {
                (&usual, String::new())
            }
            None => {
                let help = "say where the signature is: `signature: { header: X-Signature }`";
                return Err(self.problems.add(format!("{}.signature", self.path), "missing", help));
            }
        };
        if signatures.as_slice().is_empty() {
            let help = "write one mapping, or a list of them";
            return Err(self.problems.add(path, "an empty list", help));
        }
        let each = signatures.placed(&path);
        each.map(|(path, signature)| {
            containers::compile(signature, &path, algorithm, self.problems)
        })
        .collect()
    }

    fn signed(&mut self, algorithm: Algorithm) -> Result<Vec<Template>, Reported> {
        let path = format!("{}.signed", self.path);
        let found = self.part("signed", |scheme| scheme.signed.as_ref());
        if !algorithm.signs_template() {
            // What stands around several alternatives is meant for those that sign.
            if found.is_none_or(|(_, place)| place != path) {
                return Ok(Vec::new());
            }
            let what =
                if algorithm.signs() { "says itself what is signed" } else { "signs nothing" };
            let message = format!("`mac: {}` {what}", algorithm.as_str());
            return Err(self.problems.add(path, message, "remove the key"));
        }
        let Some((texts, path)) = found.filter(|(texts, _)| !texts.as_slice().is_empty()) else {
            let help = "say what is signed: `signed: \"{body}\"`";
            return Err(self.problems.add(path, "missing", help));
        };
        let signed: Vec<_> = texts.placed(&path).collect();
        signed.iter().map(|(path, text)| self.problems.any_template(path, text)).collect()
    }

    fn for_each(&mut self) -> Result<Option<Path>, Reported> {
        let Some((text, path)) = self.part("for_each", |scheme| scheme.for_each.as_ref()) else {
            return Ok(None);
        };
        let items = self.problems.path(&path, text)?;
        if items.steps().iter().filter(|step| **step == Step::Each).count() == 1 {
            return Ok(Some(items));
        }
        Err(self.problems.add(path, "names no list", "write it like `items[*]`"))
    }

    fn timestamps(&mut self, algorithm: Algorithm) -> Result<Option<Timestamps>, Reported> {
        let found = self.part("timestamp", |scheme| scheme.timestamp.as_ref());
        let meant = |path: &str| algorithm.signs() || path.starts_with(&self.path);
        let Some((rule, path)) = found.filter(|(_, path)| meant(path)) else { return Ok(None) };
        let past = self.span(&format!("{path}.past"), rule.past);
        let future = rule.future.map(|span| self.span(&format!("{path}.future"), span));
        let path = format!("{path}.from");
        let from = self.problems.any_template(&path, &rule.from)?;
        let Some(from) = from.sole_value().cloned() else {
            let help = "write it like `{t}` or `{header:X-Timestamp}`";
            return Err(self.problems.add(path, "is not one value", help));
        };
        let (past, future) = (past?, future.transpose()?);
        Ok(Some(Timestamps {
            from,
            unit: rule.unit,
            past: self.tolerance.unwrap_or(past),
            future: self.tolerance.or(future).unwrap_or(past),
        }))
    }

    fn span(&mut self, path: &str, span: Span) -> Result<Duration, Reported> {
        if span.0.is_zero() {
            return Err(self.problems.add(path, "cannot be zero", "write it like `5m` or `30s`"));
        }
        Ok(span.0)
    }

    /// What must hold besides, and where it stands.
    fn requirements(&self) -> (&'a [shape::Requirement], String) {
        match self.own.require.as_slice() {
            [] => (&self.outer.require, "verify.require".to_owned()),
            own => (own, format!("{}.require", self.path)),
        }
    }

    fn require(&mut self) -> Result<Vec<Equality>, Reported> {
        let (rules, path) = self.requirements();
        let problems = &mut *self.problems;
        let rules = rules.iter().enumerate().map(|(i, rule)| {
            let path = format!("{path}[{i}]");
            let (key, right) =
                rule.other().map_err(|[wrong, help]| problems.add(&path, wrong, help))?;
            let left = problems.any_template(&format!("{path}.left"), &rule.left);
            let right = problems.any_template(&format!("{path}.{key}"), right);
            Ok(Equality { left: left?, right: right?, one_of: key == shape::ONE_OF })
        });
        rules.collect()
    }

    /// Variables exist only where the container holds keys and values, and the signature's own key is none.
    fn check_variables(&mut self, parts: &SchemeParts) -> Result<(), Reported> {
        let captures = |c: &Container| c.pair.is_some() || !c.positional.is_empty();
        let captures = parts.containers.iter().any(captures);
        let pairs = parts.containers.iter().filter_map(|c| c.pair.as_ref());
        let picks: Vec<_> = pairs.flat_map(|(_, picks)| picks).collect();
        let mut checked = Ok(());
        for (path, name) in self.variables(parts) {
            let problem = if !captures {
                "stands for nothing: the signature has no `pair`"
            } else if picks.contains(&&name) {
                "is the signature itself"
            } else {
                continue;
            };
            let help = "known values: body, method, url, path, header:NAME, query:NAME, form:NAME, json:PATH; a list such as `t=1,v1=ab` is \
                        taken apart by `split: \",\"`, `pair: \"=\"`, `pick: v1`";
            checked = Err(self.problems.add(path, format!("`{{{name}}}` {problem}"), help));
        }
        checked
    }

    /// The variables that are named, each with where.
    fn variables(&self, parts: &SchemeParts) -> Vec<(String, String)> {
        let signed = self.part("signed", |scheme| scheme.signed.as_ref());
        let signed = signed.iter().flat_map(|(texts, path)| texts.placed(path)).zip(&parts.signed);
        let signed =
            signed.flat_map(|((path, _), text)| text.values().map(move |v| (path.clone(), v)));
        let (_, path) = self.requirements();
        let required = parts.require.iter().enumerate().flat_map(|(i, equal)| {
            let path = format!("{path}[{i}]");
            equal.templates().into_iter().flat_map(Template::values).map(move |v| (path.clone(), v))
        });
        let places = self.part("signature", |scheme| scheme.signature.as_ref());
        let places = places.iter().flat_map(|(places, path)| places.placed(path));
        let ids = places.zip(&parts.containers).filter_map(|((path, _), container)| {
            Some((format!("{path}.key_id"), container.key_id.as_ref()?.sole_value()?))
        });
        let time = self.part("timestamp", |scheme| scheme.timestamp.as_ref());
        let time = time.zip(parts.timestamps.as_ref());
        let time = time.map(|((_, path), time)| (format!("{path}.from"), &time.from));
        let all = signed.chain(required).chain(ids).chain(time);
        let named = all.filter_map(|(path, value)| match &value.from {
            From::Variable(name) => Some((path, name.clone())),
            _ => None,
        });
        named.collect()
    }

    /// A time that is not signed protects nothing: whoever replays a request writes a new one.
    fn check_time(&mut self, scheme: &Scheme) -> Result<(), Reported> {
        if scheme.covers_time() {
            return Ok(());
        }
        let help = "name a value that `signed` holds, or remove `timestamp`";
        let path = format!("{}.timestamp.from", self.path);
        Err(self.problems.add(path, "is not signed, so anyone can change it", help))
    }
}
