//! One scalar against one schema: what YAML 1.2 makes of the text, what was wanted, and what to write instead.

use serde_json::Value as Json;
use serde_yaml::Value;

use super::{
    report::{Explain as _, Problem},
    shape::accepts,
    subst::{Env, SubstError},
    suggest,
    tree::Mark,
};
use crate::units::{Size, Span, UnitError};

/// What an unquoted text is to YAML 1.2's core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number that is not whole, or too large.
    Number,
    /// Text.
    Text,
}

/// Why a text does not fit: the code, the message and the label of the problem.
pub(crate) type Misfit = (&'static str, String, String);

impl Plain {
    /// Reads an unquoted text.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let radix =
            |prefix, radix| digits.strip_prefix(prefix).map(|d| i64::from_str_radix(d, radix));
        if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return number.map_or(Self::Text, Self::Integer);
        }
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        match text.parse() {
            Ok(number) => Self::Integer(number),
            Err(_) if numeric && text.parse::<f64>().is_ok() => Self::Number,
            Err(_) if matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") => {
                Self::Number
            }
            Err(_) => Self::Text,
        }
    }
}

/// The value of a scalar under a schema, or why it has none. `name` is what the scalar is called.
pub(crate) fn typed(text: &str, plain: bool, schema: &Json, name: &str) -> Result<Value, Misfit> {
    let read = if plain { Plain::of(text) } else { Plain::Text };
    let words = words(schema);
    let wrong =
        |instead| Err(("wrong-type", format!("`{name}` must be {}", wanted(schema)), instead));
    match read {
        Plain::Null if accepts(schema, "null") => Ok(Value::Null),
        Plain::Null => {
            let label = format!("write {}, or remove the key", wanted(schema));
            Err(("wrong-type", format!("`{name}` has no value"), label))
        }
        Plain::Text if words.contains(&text) => Ok(text.into()),
        _ if words.contains(&text) => wrong(format!("quote it: `\"{text}\"`")),
        _ if !words.is_empty() => {
            let label = match suggest::nearest(text, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it is {}", quoted(&words)),
            };
            Err(("bad-value", format!("`{name}` cannot be `{}`", clip(text)), label))
        }
        Plain::Bool(value) if accepts(schema, "boolean") => Ok(value.into()),
        Plain::Integer(value) if accepts(schema, "integer") => match bounds(value, schema) {
            None => Ok(value.into()),
            Some(label) => Err(("bad-value", format!("`{name}` is out of range"), label)),
        },
        Plain::Text if accepts(schema, "string") => {
            quantity(text, schema, name).map(|()| text.into())
        }
        Plain::Integer(_) if quantity(text, schema, name).is_err() => {
            quantity(text, schema, name).map(|()| Value::Null)
        }
        other => wrong(instead(text, other, schema)),
    }
}

/// What an integer must be, where it is not.
fn bounds(value: i64, schema: &Json) -> Option<String> {
    let bound = |key| schema.get(key).and_then(Json::as_i64);
    let (min, max) = (bound("minimum"), bound("maximum"));
    if min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max) {
        return None;
    }
    Some(match (min, max) {
        (Some(min), Some(max)) if min == max => format!("it must be {min}"),
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, max) => format!("at most {}", max.unwrap_or(i64::MAX)),
    })
}

/// Whether a text is the duration or size that a schema wants.
fn quantity(text: &str, schema: &Json, name: &str) -> Result<(), Misfit> {
    let (error, misfit): (_, fn(&str, UnitError) -> Misfit) =
        match schema.get("format").and_then(Json::as_str) {
            Some("duration") => (Span::parse(text).err(), duration_misfit),
            Some("size") => (Size::parse(text).err(), size_misfit),
            _ => return Ok(()),
        };
    match error {
        None => Ok(()),
        Some(UnitError::TooLarge) => {
            Err(("bad-value", format!("`{name}` is too large"), String::new()))
        }
        Some(error) => Err(misfit(&clip(text), error)),
    }
}

/// What to write instead of a scalar of the wrong type.
fn instead(text: &str, read: Plain, schema: &Json) -> String {
    if accepts(schema, "string") {
        return format!("quote it: `\"{text}\"`");
    }
    if accepts(schema, "boolean") {
        return match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "1" => "write `true`".into(),
            "no" | "off" | "false" | "0" => "write `false`".into(),
            _ => "write `true` or `false`".into(),
        };
    }
    match (read, Plain::of(text)) {
        (Plain::Text, Plain::Integer(_)) => format!("write `{text}` without quotes"),
        _ => "write a whole number".into(),
    }
}

/// The words that a schema allows.
pub(crate) fn words(schema: &Json) -> Vec<&str> {
    let consts = |key| {
        let forms = schema.get(key).and_then(Json::as_array).into_iter().flatten();
        forms.flat_map(words).collect::<Vec<_>>()
    };
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return vec![word];
    }
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    let mut words: Vec<_> = listed.filter_map(Json::as_str).collect();
    words.extend(consts("oneOf"));
    words
}

/// What a schema wants, in words.
pub(crate) fn wanted(schema: &Json) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return format!("one of {}", quoted(&words));
    }
    let kinds = [
        ("string", "a text"),
        ("integer", "a whole number"),
        ("boolean", "`true` or `false`"),
        ("array", "a list"),
        ("object", "a mapping"),
    ];
    let forms = schema.get("anyOf").and_then(Json::as_array);
    if let Some(forms) = forms {
        let forms: Vec<_> = forms.iter().map(wanted).filter(|form| !form.is_empty()).collect();
        return forms.join(" or ");
    }
    match schema.get("format").and_then(Json::as_str) {
        Some("duration") => "a duration".into(),
        Some("size") => "a size".into(),
        _ => {
            let kinds =
                kinds.iter().filter(|(kind, _)| accepts(schema, kind)).map(|(_, words)| *words);
            kinds.collect::<Vec<_>>().join(" or ")
        }
    }
}

fn duration_misfit(shown: &str, error: UnitError) -> Misfit {
    let (message, label) = match error {
        UnitError::NoUnit => (
            "a duration needs a unit".to_owned(),
            format!("write `{shown}s` (seconds) or `{shown}ms`"),
        ),
        UnitError::Unknown | UnitError::TooLarge => (
            format!("`{shown}` is not a duration"),
            "write `500ms`, `10s`, `5m`, `2h` or `14d`".to_owned(),
        ),
    };
    ("duration-unit", message, label)
}

fn size_misfit(shown: &str, error: UnitError) -> Misfit {
    if error == UnitError::NoUnit {
        let label = format!("write `{shown}B` (bytes), `{shown}KiB` or `{shown}MiB`");
        return ("size-unit", "a size needs a unit".to_owned(), label);
    }
    let digits = shown.trim_end_matches(|c: char| !c.is_ascii_digit());
    let (binary, decimal) = match shown.trim_start_matches(digits).to_ascii_lowercase() {
        unit if unit.starts_with('k') => ("KiB", "kB"),
        unit if unit.starts_with('g') => ("GiB", "GB"),
        _ => ("MiB", "MB"),
    };
    let meant = |unit| {
        let size = Size::parse(&format!("{digits}{unit}")).ok()?;
        Some(format!("`{digits}{unit}` ({} bytes)", grouped(size.0)))
    };
    let label = match meant(binary).zip(meant(decimal)) {
        Some((binary, decimal)) => format!("write {binary} or {decimal}"),
        None => "write `512KiB`, `1MiB` or `5GiB`, or `kB`, `MB`, `GB`".into(),
    };
    ("size-unit", format!("`{shown}` is not a size"), label)
}

/// `10 485 760`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let ends = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    let grouped = digits.chars().enumerate();
    grouped.flat_map(|(at, c)| ends(at).then_some(' ').into_iter().chain([c])).collect()
}

/// A reference that cannot be completed.
pub(crate) fn not_expanded(error: &SubstError, mark: Mark, env: &Env) -> Problem {
    match error {
        SubstError::Unset(name, message) => {
            let said = format!("environment variable `{name}` is not set");
            let problem = Problem::error("env-unset", mark, said);
            let problem = match message {
                Some(message) => problem.help(message.clone()),
                None => problem.help(format!("set it, or give a default: `${{{name}:-default}}`")),
            };
            with_similar(problem, name, env)
        }
        SubstError::Stray(word) if word.is_empty() => {
            Problem::error("env-syntax", mark, "a `$` begins nothing here")
                .help("write `$$` for a dollar sign")
        }
        SubstError::Stray(word) => {
            Problem::error("env-syntax", mark, format!("`${word}` is not completed"))
                .help(format!("write `${{{word}}}` for the variable, `$$` for a dollar sign"))
        }
    }
}

/// Names variables that may have been meant.
pub(crate) fn with_similar(problem: Problem, name: &str, env: &Env) -> Problem {
    match env.similar(name).join(", ") {
        none if none.is_empty() => problem,
        similar => problem.note(format!("similar variables that are set: {similar}")),
    }
}

/// Text as it may stand in a message.
pub(crate) fn clip(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" | ")
}
