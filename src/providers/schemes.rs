//! A `verify:` block to signature schemes.

use std::time::Duration;

use http::{HeaderName, header::AUTHORIZATION};

use super::{
    compile::{Problems, Reported},
    foreign, shape,
};
use crate::{
    units::Span,
    verify::{
        Algorithm, Container, Foreign, From, Place, Scheme, SchemeParts, Template, Timestamps,
        Value,
    },
};

/// Compiles every alternative; what an alternative leaves out is taken from the block around it.
pub(super) fn compile(
    verify: &shape::Verify,
    tolerance: Option<Duration>,
    problems: &mut Problems,
) -> Vec<Scheme> {
    let nothing = shape::Scheme::default();
    let numbered = verify.schemes.iter().enumerate();
    let mut parts: Vec<_> = numbered
        .map(|(i, own)| (own.when.as_ref(), &own.scheme, format!("verify.schemes[{i}]")))
        .collect();
    if parts.is_empty() {
        parts.push((None, &nothing, "verify".to_owned()));
    }
    for (_, _, path) in parts.iter().rev().skip(1).filter(|(when, ..)| when.is_none()) {
        let help = "give it a `when`, or put it last";
        problems.add(path, "always counts, so those after it never do", help);
    }
    let mut timeless = tolerance.is_some();
    let mut schemes = Vec::new();
    for (when, own, path) in parts {
        let built = Block { outer: &verify.scheme, own, when, path, tolerance, problems }.scheme();
        timeless &= built.as_ref().is_ok_and(|scheme| scheme.parts.timestamps.is_none());
        schemes.extend(built);
    }
    if timeless {
        let help = "remove the key; repeated requests are caught by their id";
        problems.add("tolerance", "requests of this sender carry no signed time", help);
    }
    schemes
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
        let container = self.container(algorithm);
        let signed = self.signed(algorithm);
        let timestamps = self.timestamps(algorithm);
        let require = self.require();
        let foreign = self.foreign(algorithm);
        let key = self.own.key.as_ref().or(self.outer.key.as_ref());
        Ok(SchemeParts {
            when: when?,
            key: key.cloned().unwrap_or_default(),
            container: container?,
            signed: signed?,
            algorithm,
            timestamps: timestamps?,
            require: require?,
            foreign: foreign?,
        })
    }

    /// What is needed where signatures are not compared but checked.
    fn foreign(&mut self, algorithm: Algorithm) -> Result<Option<Box<Foreign>>, Reported> {
        let jwt = self.part("jwt", |scheme| scheme.jwt.as_ref());
        let keys = self.part("keys", |scheme| scheme.keys.as_ref());
        let signature = self.part("signature", |scheme| scheme.signature.as_ref());
        let prehash = self.part("prehash", |scheme| scheme.prehash.as_ref());
        let described =
            foreign::Described { algorithm, prehash, jwt, keys, signature, path: &self.path };
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

    fn when(&mut self) -> Result<Option<HeaderName>, Reported> {
        let Some(when) = self.when else { return Ok(None) };
        let path = format!("{}.when", self.path);
        let Some(name) = &when.header else {
            let help = "name a header: `when: { header: X-Signature }`";
            return Err(self.problems.add(path, "says nothing", help));
        };
        self.problems.header(&format!("{path}.header"), name).map(Some)
    }

    fn container(&mut self, algorithm: Algorithm) -> Result<Container, Reported> {
        let authorization =
            shape::Signature { header: Some(AUTHORIZATION.to_string()), ..Default::default() };
        let (signature, path) = match self.part("signature", |scheme| scheme.signature.as_ref()) {
            Some(found) => found,
            None if algorithm == Algorithm::Basic => (&authorization, String::new()),
            None => {
                let help = "say where the signature is: `signature: { header: X-Signature }`";
                return Err(self.problems.add(format!("{}.signature", self.path), "missing", help));
            }
        };
        if signature.encoding.is_some() && !algorithm.signs() {
            let message = format!("means nothing with `mac: {}`", algorithm.as_str());
            self.problems.add(format!("{path}.encoding"), message, "remove it");
        }
        let place = place(signature, &path, self.problems);
        let split = separator(&format!("{path}.split"), signature.split.as_deref(), self.problems);
        let pair = pair(signature, &path, self.problems);
        Ok(Container {
            place: place?,
            prefix: signature.prefix.clone(),
            split: split?,
            pair: pair?,
            encoding: signature.encoding.unwrap_or_default(),
            repeated: signature.repeated,
            trim: signature.trim,
        })
    }

    fn signed(&mut self, algorithm: Algorithm) -> Result<Option<Template>, Reported> {
        let path = format!("{}.signed", self.path);
        let found = self.part("signed", |scheme| scheme.signed.as_ref());
        if !algorithm.signs_template() {
            // What stands around several alternatives is meant for those that sign.
            if found.is_none_or(|(_, place)| place != path) {
                return Ok(None);
            }
            let what =
                if algorithm.signs() { "says itself what is signed" } else { "signs nothing" };
            let message = format!("`mac: {}` {what}", algorithm.as_str());
            return Err(self.problems.add(path, message, "remove the key"));
        }
        let Some((text, path)) = found else {
            let help = "say what is signed: `signed: \"{body}\"`";
            return Err(self.problems.add(path, "missing", help));
        };
        self.problems.any_template(&path, text).map(Some)
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

    fn require(&mut self) -> Result<Vec<(Template, Template)>, Reported> {
        let (rules, path) = match self.own.require.as_slice() {
            [] => (&self.outer.require, "verify"),
            _ => (&self.own.require, &*self.path),
        };
        let problems = &mut *self.problems;
        let rules = rules.iter().enumerate().map(|(i, rule)| {
            let left = problems.any_template(&format!("{path}.require[{i}].left"), &rule.left);
            let right = problems.any_template(&format!("{path}.require[{i}].right"), &rule.right);
            Ok((left?, right?))
        });
        rules.collect()
    }

    /// Variables exist only where the container holds keys and values, and the signature's own key is none.
    fn check_variables(&mut self, parts: &SchemeParts) -> Result<(), Reported> {
        let pick = parts.container.pair.as_ref().map(|(_, pick)| pick);
        let required = parts.require.iter().flat_map(|(left, right)| [left, right]);
        let templates = parts.signed.iter().chain(required).flat_map(Template::values);
        let values = templates.chain(parts.timestamps.iter().map(|time| &time.from));
        let mut checked = Ok(());
        for value in values {
            let From::Variable(name) = &value.from else { continue };
            let problem = match pick {
                None => "stands for nothing: the signature has no `pair`",
                Some(pick) if pick == name => "is the signature itself",
                Some(_) => continue,
            };
            let help = "known values: body, method, url, path, header:NAME, query:NAME, form:NAME, json:PATH";
            checked = Err(self.problems.add(&self.path, format!("`{{{name}}}` {problem}"), help));
        }
        checked
    }

    /// A time that is not signed protects nothing: whoever replays a request writes a new one.
    fn check_time(&mut self, scheme: &Scheme) -> Result<(), Reported> {
        let time = scheme.parts.timestamps.as_ref();
        if time.is_none_or(|time| scheme.covers(&time.from)) {
            return Ok(());
        }
        let help = "name a value that `signed` holds, or remove `timestamp`";
        let path = format!("{}.timestamp.from", self.path);
        Err(self.problems.add(path, "is not signed, so anyone can change it", help))
    }
}

fn place(
    signature: &shape::Signature,
    path: &str,
    problems: &mut Problems,
) -> Result<Place, Reported> {
    match (&signature.header, &signature.from) {
        (Some(name), None) => problems.header(&format!("{path}.header"), name).map(Place::Header),
        (None, Some(text)) => elsewhere(&format!("{path}.from"), text, problems),
        (Some(_), Some(_)) => {
            Err(problems.add(path, "`header` and `from` name two places", "keep one of them"))
        }
        (None, None) => {
            Err(problems.add(path, "names no place", "name a header: `header: X-Signature`"))
        }
    }
}

fn elsewhere(path: &str, text: &str, problems: &mut Problems) -> Result<Place, Reported> {
    let template = problems.any_template(path, text)?;
    if template.values().any(|value| matches!(value.from, From::Variable(_))) {
        return Err(problems.add(path, "variables come from the signature itself", ""));
    }
    Ok(match template.sole_value() {
        Some(Value { from: From::Header(name), transforms }) if transforms.is_empty() => {
            Place::Header(name.clone())
        }
        _ => Place::Elsewhere(template),
    })
}

fn pair(
    signature: &shape::Signature,
    path: &str,
    problems: &mut Problems,
) -> Result<Option<(u8, String)>, Reported> {
    let (pair, pick) = (signature.pair.as_deref(), signature.pick.as_ref());
    if pair.is_some() != pick.is_some() {
        let help =
            "`pair` separates key and value, `pick` names the key: `pair: \"=\"`, `pick: v1`";
        return Err(problems.add(path, "`pair` and `pick` go together", help));
    }
    if pair.is_some() && signature.prefix.is_some() {
        let help = "a key in front of the signature is `pick`, not `prefix`";
        return Err(problems.add(path, "`prefix` and `pair` do not go together", help));
    }
    let separator = separator(&format!("{path}.pair"), pair, problems)?;
    Ok(separator.zip(pick.cloned()))
}

fn separator(
    path: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Result<Option<u8>, Reported> {
    match text.map(str::as_bytes) {
        None => Ok(None),
        Some([byte]) => Ok(Some(*byte)),
        Some(_) => {
            let help = "write one character; spaces around elements are removed by `trim: true`";
            Err(problems.add(path, "is not one ASCII character", help))
        }
    }
}
