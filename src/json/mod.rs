//! Finds scalars in a JSON body in one pass, without building a tree.
//!
//! The whole document is validated (UTF-8, syntax, nothing after its end); a duplicate key on the way to a wanted value is an
//! error, because two readers would see two values. Skipped parts are not recursed into, so depth costs no stack.

mod extract;
mod put;

use std::borrow::Cow;

pub use extract::{Extractor, Found, ITEMS_MAX, Items};
pub(crate) use put::put;

/// A scalar as found; strings without escapes are borrowed from the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An integer, as long as it fits 64 bits.
    Integer(i128),
    /// A boolean.
    Bool(bool),
    /// Null.
    Null,
    /// Something that is no id: a fraction, a longer integer, an object, an array.
    Other,
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not UTF-8, not JSON, or something after its end.
    NotJson,
    /// A key on the way to a wanted value comes twice.
    DuplicateKey,
}

impl Scalar<'_> {
    /// The value as text, where it is a string, an integer or a boolean.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::String(text) => Some(Cow::Borrowed(text)),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Bool(true) => Some(Cow::Borrowed("true")),
            Self::Bool(false) => Some(Cow::Borrowed("false")),
            Self::Null | Self::Other => None,
        }
    }

    /// The same, without a borrow of the body.
    fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::String(text) => Scalar::String(Cow::Owned(text.into_owned())),
            Self::Integer(number) => Scalar::Integer(number),
            Self::Bool(value) => Scalar::Bool(value),
            Self::Null => Scalar::Null,
            Self::Other => Scalar::Other,
        }
    }
}

/// A place in a document: `data.object.id`, `items[0].id`, `items[*]`, `[*].sg_event_id`. Keys that hold a dot, a bracket
/// or a space are quoted: `"event.name".id`. `$key0` is the name of the first key; `$key0!a!b` that of the first but `a` and `b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of an object.
    Key(String),
    /// An element of an array.
    Index(usize),
    /// Every element of an array.
    Each,
    /// The name of an object's first key that is none of these: always the last step.
    FirstKey(Vec<String>),
}

/// Steps of a path, at most. Wanted paths are the only thing that extraction recurses along.
const STEPS_MAX: usize = 32;

impl Path {
    /// The item itself, where paths begin at an item.
    pub(crate) const ITEM: Self = Self(Vec::new());

    /// Parses a path, or says in a sentence what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        refuse_other_languages(text)?;
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inner) => index(text, inner)?,
                None => key(text, rest, steps.is_empty())?,
            };
            steps.push(step);
            rest = after;
        }
        if steps.iter().rev().skip(1).any(|step| matches!(step, Step::FirstKey(_))) {
            return Err(format!("nothing comes behind `{FIRST_KEY}`, which is a name: `{text}`"));
        }
        if steps.len() > STEPS_MAX {
            return Err(format!("the path has more than {STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The steps that are left of this path behind an item of `items`, where it leads through one.
    pub(crate) fn leads_through(&self, items: &Self) -> Option<&[Step]> {
        let (way, rest) = self.0.split_at_checked(items.0.len())?;
        let same = |(at, item): (&Step, &Step)| match item {
            Step::Each => matches!(at, Step::Index(_)),
            Step::Key(_) | Step::Index(_) | Step::FirstKey(_) => at == item,
        };
        way.iter().zip(&items.0).all(same).then_some(rest)
    }

    /// The way to one element: this path up to its [`Step::Each`], and `step` in its place.
    pub(crate) fn with_each(&self, step: Step) -> Self {
        let before = self.0.iter().take_while(|s| **s != Step::Each).cloned();
        Self(before.chain([step]).collect())
    }
}

/// Says how to write what people bring along from `JSONPath`, JSON Pointer and templates.
fn refuse_other_languages(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the path is empty".into());
    }
    if text == "$" {
        return Err("the whole document is no value; name a key, such as `data.id`".into());
    }
    if let Some(rest) =
        text.strip_prefix("$.").or_else(|| text.strip_prefix('$').filter(|r| r.starts_with('[')))
    {
        return Err(format!("leave `$.` out: write `{rest}`"));
    }
    if let Some(rest) = text.strip_prefix('/') {
        return Err(format!("write dots instead of slashes: `{}`", rest.replace('/', ".")));
    }
    Ok(())
}

/// Reads `0]` or `*]`; `inner` begins after the bracket.
fn index<'t>(text: &str, inner: &'t str) -> Result<(Step, &'t str), String> {
    let (number, after) =
        inner.split_once(']').ok_or_else(|| format!("`[` is not closed in `{text}`"))?;
    if number == "*" {
        return Ok((Step::Each, after));
    }
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    match number.parse() {
        Ok(index) if digits => Ok((Step::Index(index), after)),
        _ => Err(format!("`[{number}]` in `{text}` is neither an index such as `[0]` nor `[*]`")),
    }
}

/// Reads a key, with the dot before it unless it is the first.
fn key<'t>(text: &str, rest: &'t str, first: bool) -> Result<(Step, &'t str), String> {
    let missing = || format!("a key is missing beside a dot in `{text}`");
    let rest = match rest.strip_prefix('.') {
        Some(_) if first => return Err(missing()),
        Some(rest) => rest,
        None if first => rest,
        None => return Err(format!("a dot is missing before `{rest}` in `{text}`")),
    };
    if let Some(inner) = rest.strip_prefix('"') {
        return quoted(text, inner);
    }
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (key, after) = rest.split_at(end);
    if key.is_empty() {
        return Err(missing());
    }
    if let Some(odd) = key.chars().find(|c| !is_bare(*c)) {
        return Err(format!(
            "{odd:?} in `{text}` stands only in a quoted key: `\"{}\"`",
            key.replace('"', "")
        ));
    }
    let but = key.strip_prefix(FIRST_KEY).filter(|but| but.is_empty() || but.starts_with('!'));
    let step = match but {
        Some(but) => Step::FirstKey(but.split('!').skip(1).map(str::to_owned).collect()),
        None => Step::Key(key.into()),
    };
    Ok((step, after))
}

/// The name of an object's first key.
const FIRST_KEY: &str = "$key0";

/// Reads the rest of a quoted key; `\"` and `\\` stand for themselves.
fn quoted<'t>(text: &str, inner: &'t str) -> Result<(Step, &'t str), String> {
    let mut key = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next() {
            Some('"') => return Ok((Step::Key(key), chars.as_str())),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\')) => key.push(c),
                _ => return Err(format!("only `\\\"` and `\\\\` are escapes in `{text}`")),
            },
            Some(c) => key.push(c),
            None => return Err(format!("a quoted key is not closed in `{text}`")),
        }
    }
}

/// Whether `c` may stand in a key without quotes.
fn is_bare(c: char) -> bool {
    !(c.is_whitespace() || c.is_control() || matches!(c, '.' | '[' | ']' | '"' | '\\'))
}
