//! A `verify:` block to signature schemes.

use std::time::Duration;

use http::HeaderName;

use super::{
    compile::{Problems, Reported},
    shape::{self, KeyEncoding, Mac, SignatureEncoding, TimestampUnit},
};
use crate::verify::{
    Algorithm, Container, Encoding, From, KeyForm, Place, Scheme, SchemeParts, Template,
    Timestamps, Unit, Value,
};

/// Compiles every alternative; what an alternative leaves out is taken from the block around it.
pub(super) fn compile(
    verify: &shape::Verify,
    tolerance: Option<Duration>,
    problems: &mut Problems,
) -> Vec<Scheme> {
    let whole = shape::Alternative::default();
    let blocks: Vec<Block<'_>> = if verify.schemes.is_empty() {
        vec![Block { outer: verify, own: &whole, path: "verify".to_owned() }]
    } else {
        let numbered = verify.schemes.iter().enumerate();
        numbered
            .map(|(i, own)| Block { outer: verify, own, path: format!("verify.schemes[{i}]") })
            .collect()
    };
    for block in blocks.iter().rev().skip(1).filter(|block| block.own.when.is_none()) {
        let help = "give it a `when`, or put it last";
        problems.add(&block.path, "always counts, so those after it never do", help);
    }
    let built: Vec<_> = blocks.iter().map(|block| block.scheme(tolerance, problems)).collect();
    let has_time = |scheme: &Result<Scheme, Reported>| {
        scheme.as_ref().map_or(true, |scheme| scheme.parts().timestamps.is_some())
    };
    if tolerance.is_some() && !built.iter().any(has_time) {
        let help = "remove the key; repeated requests are caught by their id";
        problems.add("tolerance", "requests of this sender carry no signed time", help);
    }
    built.into_iter().flatten().collect()
}

/// One alternative and what is around it.
struct Block<'a> {
    outer: &'a shape::Verify,
    own: &'a shape::Alternative,
    path: String,
}

impl<'a> Block<'a> {
    /// A part and where it stands: in the alternative, or else around it.
    fn part<T>(
        &self,
        name: &str,
        own: Option<&'a T>,
        outer: Option<&'a T>,
    ) -> Option<(&'a T, String)> {
        let own = own.map(|part| (part, format!("{}.{name}", self.path)));
        own.or_else(|| outer.map(|part| (part, format!("verify.{name}"))))
    }

    fn scheme(
        &self,
        tolerance: Option<Duration>,
        problems: &mut Problems,
    ) -> Result<Scheme, Reported> {
        let parts = self.parts(tolerance, problems)?;
        self.check_variables(&parts, problems)?;
        let scheme = Scheme::new(parts).map_err(|e| problems.add(&self.path, e, ""))?;
        self.check_time(&scheme, problems)?;
        Ok(scheme)
    }

    /// Every part, each looked at before the first that is wrong ends it.
    fn parts(
        &self,
        tolerance: Option<Duration>,
        problems: &mut Problems,
    ) -> Result<SchemeParts, Reported> {
        let algorithm = algorithm(self.own.mac.or(self.outer.mac).unwrap_or_default());
        let when = self.when(problems);
        let container = self.container(algorithm, problems);
        let signed = self.signed(algorithm, problems);
        let timestamps = self.timestamps(algorithm, tolerance, problems);
        let require = self.require(problems);
        let key = self.part("key", self.own.key.as_ref(), self.outer.key.as_ref());
        Ok(SchemeParts {
            when: when?,
            key: key.map(|(key, _)| key_form(key)).unwrap_or_default(),
            container: container?,
            signed: signed?,
            algorithm,
            timestamps: timestamps?,
            require: require?,
        })
    }

    fn when(&self, problems: &mut Problems) -> Result<Option<HeaderName>, Reported> {
        let Some(when) = &self.own.when else { return Ok(None) };
        let path = format!("{}.when", self.path);
        let Some(name) = &when.header else {
            let help = "name a header: `when: { header: X-Signature }`";
            return Err(problems.add(path, "says nothing", help));
        };
        header(&format!("{path}.header"), name, problems).map(Some)
    }

    fn container(
        &self,
        algorithm: Algorithm,
        problems: &mut Problems,
    ) -> Result<Container, Reported> {
        let found =
            self.part("signature", self.own.signature.as_ref(), self.outer.signature.as_ref());
        let Some((signature, path)) = found else {
            if algorithm == Algorithm::Basic {
                return Ok(container(Place::Header(http::header::AUTHORIZATION)));
            }
            let help = "say where the signature is: `signature: { header: X-Signature }`";
            return Err(problems.add(format!("{}.signature", self.path), "missing", help));
        };
        if signature.encoding.is_some() && !algorithm.signs() {
            let message = format!("means nothing with `mac: {}`", algorithm.as_str());
            problems.add(format!("{path}.encoding"), message, "remove it");
        }
        let place = place(signature, &path, problems);
        let split = separator(&format!("{path}.split"), signature.split.as_deref(), problems);
        let pair = pair(signature, &path, problems);
        Ok(Container {
            prefix: signature.prefix.clone(),
            split: split?,
            pair: pair?,
            encoding: signature.encoding.map(encoding).unwrap_or_default(),
            repeated: signature.repeated,
            trim: signature.trim,
            ..container(place?)
        })
    }

    fn signed(
        &self,
        algorithm: Algorithm,
        problems: &mut Problems,
    ) -> Result<Option<Template>, Reported> {
        let path = format!("{}.signed", self.path);
        let (own, outer) = (self.own.signed.as_ref(), self.outer.signed.as_ref());
        if !algorithm.signs() {
            // What stands around several alternatives is meant for those that sign.
            let is_own = own.is_some() || (self.path == "verify" && outer.is_some());
            if is_own {
                let message = format!("`mac: {}` signs nothing", algorithm.as_str());
                return Err(problems.add(path, message, "remove the key"));
            }
            return Ok(None);
        }
        let Some((text, path)) = self.part("signed", own, outer) else {
            let help = "say what is signed: `signed: \"{body}\"`";
            return Err(problems.add(path, "missing", help));
        };
        problems.any_template(&path, text).map(Some)
    }

    fn timestamps(
        &self,
        algorithm: Algorithm,
        tolerance: Option<Duration>,
        problems: &mut Problems,
    ) -> Result<Option<Timestamps>, Reported> {
        let outer = self.outer.timestamp.as_ref();
        let outer = outer.filter(|_| algorithm.signs() || self.path == "verify");
        let found = self.part("timestamp", self.own.timestamp.as_ref(), outer);
        let Some((rule, path)) = found else { return Ok(None) };
        let past = span(&format!("{path}.past"), &rule.past, problems);
        let future = rule.future.as_ref();
        let future = future.map(|text| span(&format!("{path}.future"), text, problems));
        let path = format!("{path}.from");
        let from = problems.any_template(&path, &rule.from)?;
        let Some(from) = from.sole_value().cloned() else {
            let help = "write it like `{t}` or `{header:X-Timestamp}`";
            return Err(problems.add(path, "is not one value", help));
        };
        let (past, future) = (past?, future.transpose()?);
        Ok(Some(Timestamps {
            from,
            unit: unit(rule.unit),
            past: tolerance.unwrap_or(past),
            future: tolerance.or(future).unwrap_or(past),
        }))
    }

    fn require(&self, problems: &mut Problems) -> Result<Vec<(Template, Template)>, Reported> {
        let own = !self.own.require.is_empty();
        let (rules, path) =
            if own { (&self.own.require, &*self.path) } else { (&self.outer.require, "verify") };
        let rules = rules.iter().enumerate().map(|(i, rule)| {
            let left = problems.any_template(&format!("{path}.require[{i}].left"), &rule.left);
            let right = problems.any_template(&format!("{path}.require[{i}].right"), &rule.right);
            Ok((left?, right?))
        });
        rules.collect()
    }

    /// Variables exist only where the container holds keys and values, and the signature's own key is none.
    fn check_variables(
        &self,
        parts: &SchemeParts,
        problems: &mut Problems,
    ) -> Result<(), Reported> {
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
            checked = Err(problems.add(&self.path, format!("`{{{name}}}` {problem}"), help));
        }
        checked
    }

    /// A time that is not signed protects nothing: whoever replays a request writes a new one.
    fn check_time(&self, scheme: &Scheme, problems: &mut Problems) -> Result<(), Reported> {
        let time = scheme.parts().timestamps.as_ref();
        if time.is_none_or(|time| scheme.covers(&time.from)) {
            return Ok(());
        }
        let help = "name a value that `signed` holds, or remove `timestamp`";
        let path = format!("{}.timestamp.from", self.path);
        Err(problems.add(path, "is not signed, so anyone can change it", help))
    }
}

fn place(
    signature: &shape::Signature,
    path: &str,
    problems: &mut Problems,
) -> Result<Place, Reported> {
    match (&signature.header, &signature.from) {
        (Some(name), None) => header(&format!("{path}.header"), name, problems).map(Place::Header),
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

fn header(path: &str, name: &str, problems: &mut Problems) -> Result<HeaderName, Reported> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map_err(|_| problems.add(path, format!("`{name}` is not a header name"), ""))
}

fn span(path: &str, text: &str, problems: &mut Problems) -> Result<Duration, Reported> {
    let span = duration(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| {
        problems.add(path, format!("`{text}` is not a time span"), "write it like `5m` or `30s`")
    })
}

/// A time span such as `500ms`, `5m` or `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let span = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        total = total.checked_add(span)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

fn container(place: Place) -> Container {
    Container {
        place,
        prefix: None,
        split: None,
        pair: None,
        encoding: Encoding::default(),
        repeated: false,
        trim: false,
    }
}

fn key_form(key: &shape::Key) -> KeyForm {
    use crate::verify::KeyEncoding as Form;
    let encoding = match key.encoding {
        KeyEncoding::Utf8 => Form::Utf8,
        KeyEncoding::Base64 => Form::Base64,
        KeyEncoding::Hex => Form::Hex,
    };
    KeyForm { encoding, strip_prefix: key.strip_prefix.clone() }
}

fn encoding(encoding: SignatureEncoding) -> Encoding {
    match encoding {
        SignatureEncoding::Hex => Encoding::Hex,
        SignatureEncoding::HexAny => Encoding::HexAny,
        SignatureEncoding::Base64 => Encoding::Base64,
        SignatureEncoding::Base64Url => Encoding::Base64Url,
    }
}

fn algorithm(mac: Mac) -> Algorithm {
    match mac {
        Mac::HmacSha1 => Algorithm::HmacSha1,
        Mac::HmacSha256 => Algorithm::HmacSha256,
        Mac::HmacSha512 => Algorithm::HmacSha512,
        Mac::Token => Algorithm::Token,
        Mac::Basic => Algorithm::Basic,
    }
}

fn unit(unit: TimestampUnit) -> Unit {
    match unit {
        TimestampUnit::S => Unit::Seconds,
        TimestampUnit::Ms => Unit::Millis,
        TimestampUnit::Rfc3339 => Unit::Rfc3339,
    }
}
