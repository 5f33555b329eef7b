//! One scalar against one schema: what YAML 1.2 makes of the text, what was wanted, and what to write instead.

use serde_json::Value as Json;
use serde_yaml::Value;

use super::{
    report::{Explain as _, Problem},
    shape::accepts,
    subst::{Env, SubstError},
    suggest,
    tree::{Mark, Path},
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

/// Why a text does not fit.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It is something else: wanted, and what to write.
    Type(String),
    /// It is not one of the words.
    Word,
    /// A duration or size: what is wrong with it.
    Quantity(UnitError),
    /// Beyond the bounds.
    Range,
    /// No value where one is needed.
    Nothing,
}

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

/// Whether a scalar can be meant by a schema, among several.
pub(crate) fn fits(text: &str, plain: bool, schema: &Json) -> bool {
    typed(text, plain, schema).is_ok()
}

/// The value of a scalar under a schema.
pub(crate) fn typed(text: &str, plain: bool, schema: &Json) -> Result<Value, Wrong> {
    let read = if plain { Plain::of(text) } else { Plain::Text };
    let words = words(schema);
    if !words.is_empty() {
        let quote = || Wrong::Type(format!("quote it: `\"{text}\"`"));
        let known = words.contains(&text);
        return match read {
            Plain::Text if known => Ok(text.into()),
            Plain::Number | Plain::Integer(_) | Plain::Bool(_) if known => Err(quote()),
            Plain::Null if !accepts(schema, "null") => Err(Wrong::Nothing),
            Plain::Null => Ok(Value::Null),
            _ => Err(Wrong::Word),
        };
    }
    match read {
        Plain::Null if accepts(schema, "null") => Ok(Value::Null),
        Plain::Null => Err(Wrong::Nothing),
        Plain::Bool(value) if accepts(schema, "boolean") => Ok(value.into()),
        Plain::Integer(value) if accepts(schema, "integer") => {
            if in_range(value, schema) {
                Ok(value.into())
            } else {
                Err(Wrong::Range)
            }
        }
        Plain::Text if accepts(schema, "string") => quantity(text, schema).map(|()| text.into()),
        Plain::Integer(_) if is_quantity(schema) => Err(Wrong::Quantity(UnitError::NoUnit)),
        other => Err(Wrong::Type(instead(text, other, schema))),
    }
}

fn in_range(value: i64, schema: &Json) -> bool {
    let bound = |key| schema.get(key).and_then(Json::as_i64);
    bound("minimum").is_none_or(|min| value >= min)
        && bound("maximum").is_none_or(|max| value <= max)
}

fn is_quantity(schema: &Json) -> bool {
    matches!(schema.get("format").and_then(Json::as_str), Some("duration" | "size"))
}

fn quantity(text: &str, schema: &Json) -> Result<(), Wrong> {
    match schema.get("format").and_then(Json::as_str) {
        Some("duration") => Span::parse(text).map(|_| ()).map_err(Wrong::Quantity),
        Some("size") => Size::parse(text).map(|_| ()).map_err(Wrong::Quantity),
        _ => Ok(()),
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

impl Wrong {
    /// What is said about it.
    pub(crate) fn problem(&self, shown: &str, path: &Path, mark: Mark, schema: &Json) -> Problem {
        let wanted = wanted(schema);
        let is_size = schema.get("format").is_some_and(|format| format == "size");
        match self {
            Self::Type(instead) => {
                let message = format!("`{path}` must be {wanted}");
                Problem::error("wrong-type", mark, message).label(instead)
            }
            Self::Nothing => {
                let message = format!("`{path}` has no value");
                Problem::error("wrong-type", mark, message)
                    .label(format!("write {wanted}, or remove the key"))
            }
            Self::Range => {
                let bound = |key| schema.get(key).and_then(Json::as_i64);
                let label = match (bound("minimum"), bound("maximum")) {
                    (Some(min), Some(max)) if min == max => format!("it must be {min}"),
                    (Some(min), Some(max)) => format!("from {min} to {max}"),
                    (Some(min), None) => format!("at least {min}"),
                    (None, Some(max)) => format!("at most {max}"),
                    (None, None) => String::new(),
                };
                Problem::error("bad-value", mark, format!("`{path}` is out of range")).label(label)
            }
            Self::Word => {
                let words = words(schema);
                let message = format!("`{path}` cannot be `{shown}`");
                let label = match suggest::nearest(shown, words.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it is {}", quoted(&words)),
                };
                Problem::error("bad-value", mark, message).label(label)
            }
            Self::Quantity(UnitError::TooLarge) => {
                Problem::error("bad-value", mark, format!("`{path}` is too large"))
            }
            Self::Quantity(error) if is_size => size_problem(shown, mark, *error),
            Self::Quantity(error) => duration_problem(shown, mark, *error),
        }
    }
}

fn duration_problem(shown: &str, mark: Mark, error: UnitError) -> Problem {
    if error == UnitError::NoUnit {
        let label = format!("write `{shown}s` (seconds) or `{shown}ms`");
        return Problem::error("duration-unit", mark, "a duration needs a unit").label(label);
    }
    Problem::error("duration-unit", mark, format!("`{shown}` is not a duration"))
        .label("write `500ms`, `10s`, `5m`, `2h` or `14d`")
}

fn size_problem(shown: &str, mark: Mark, error: UnitError) -> Problem {
    if error == UnitError::NoUnit {
        let label = format!("write `{shown}B` (bytes), `{shown}KiB` or `{shown}MiB`");
        return Problem::error("size-unit", mark, "a size needs a unit").label(label);
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
    Problem::error("size-unit", mark, format!("`{shown}` is not a size")).label(label)
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
