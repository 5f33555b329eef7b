//! A `signature:` block to a container.

use super::{
    compile::{Problems, Reported},
    shape::{self, OneOrMany},
};
use crate::verify::{Algorithm, Container, From, Place, Value};

/// Compiles one place of signatures, each part of it looked at before the first that is wrong ends it.
pub(super) fn compile(
    signature: &shape::Signature,
    path: &str,
    algorithm: Algorithm,
    problems: &mut Problems,
) -> Result<Container, Reported> {
    if !algorithm.signs() && signature.encoding.is_some() {
        let message = format!("means nothing with `mac: {}`", algorithm.as_str());
        problems.add(format!("{path}.encoding"), message, "remove it");
    }
    let place = place(signature, path, problems);
    let split = separator(&format!("{path}.split"), signature.split.as_deref(), problems);
    let groups = separator(&format!("{path}.groups"), signature.groups.as_deref(), problems);
    let pair = pair(signature, path, problems);
    let positional = positional(signature, path, problems);
    if signature.prefix_optional && signature.prefix.is_none() {
        let help = "say which: `prefix: \"sha256=\"`";
        problems.add(format!("{path}.prefix_optional"), "there is no prefix to leave out", help);
    }
    if signature.secret_slot == Some(0) {
        let help = "write 1 for the first of `secret`";
        return Err(problems.add(format!("{path}.secret_slot"), "is counted from 1", help));
    }
    let key_id = signature.key_id.as_ref().map(|text| {
        let path = format!("{path}.key_id");
        let template = problems.any_template(&path, text)?;
        if template.sole_value().is_some() {
            return Ok(template);
        }
        Err(problems.add(path, "is not one value", "write it like `{header:X-Key}`"))
    });
    Ok(Container {
        place: place?,
        prefix: signature.prefix.clone(),
        prefix_optional: signature.prefix_optional,
        groups: groups?,
        split: split?,
        pair: pair?,
        positional: positional?,
        encoding: signature.encoding.unwrap_or_default(),
        repeated: signature.repeated,
        trim: signature.trim,
        secret_slot: signature.secret_slot.unwrap_or_default(),
        key_id: key_id.transpose()?,
    })
}

fn place(
    signature: &shape::Signature,
    path: &str,
    problems: &mut Problems,
) -> Result<Place, Reported> {
    match (&signature.header, &signature.from) {
        (Some(name), None) => header(&format!("{path}.header"), name, problems),
        (None, Some(text)) => elsewhere(&format!("{path}.from"), text, problems),
        (Some(_), Some(_)) => {
            Err(problems.add(path, "`header` and `from` name two places", "keep one of them"))
        }
        (None, None) => {
            Err(problems.add(path, "names no place", "name a header: `header: X-Signature`"))
        }
    }
}

fn header(path: &str, name: &str, problems: &mut Problems) -> Result<Place, Reported> {
    let Some(family) = name.strip_suffix('*') else {
        return problems.header(path, name).map(Place::Header);
    };
    // As headers are kept: in lower case.
    problems.header(path, family).map(|family| Place::Numbered(family.as_str().to_owned()))
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
) -> Result<Option<(u8, Vec<String>)>, Reported> {
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
    let picks = picks(&format!("{path}.pick"), pick, problems)?;
    Ok(separator.zip(picks))
}

/// The keys that hold signatures. They may be what the source says about itself: `{param:public_key}`.
fn picks(
    path: &str,
    picks: Option<&OneOrMany<String>>,
    problems: &mut Problems,
) -> Result<Option<Vec<String>>, Reported> {
    let Some(picks) = picks else { return Ok(None) };
    let mut names = Vec::new();
    for (path, text) in picks.placed(path) {
        let template = problems.any_template(&path, text)?;
        let Some(name) = template.literal() else {
            let help = "write it like `v1`, or `{param:public_key}`";
            return Err(problems.add(path, "is not the name of a key", help));
        };
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(problems.add(path, "an empty list", "name the key that holds the signature"));
    }
    Ok(Some(names))
}

fn positional(
    signature: &shape::Signature,
    path: &str,
    problems: &mut Problems,
) -> Result<Vec<String>, Reported> {
    let (path, names) = (format!("{path}.positional"), &signature.positional);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if signature.split.is_none() || signature.pair.is_some() {
        let help = "give a `split`, and no `pair`: `split: \",\"`, `positional: [ts]`";
        return Err(problems.add(path, "counts elements without keys", help));
    }
    if names.iter().any(String::is_empty) {
        return Err(problems.add(path, "an element has no name", "write it like `[ts]`"));
    }
    Ok(names.clone())
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
