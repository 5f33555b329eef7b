//! `${NAME}` inside a scalar that was already parsed, so that a value can never change the document.

use std::collections::BTreeMap;

/// The environment, taken once.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

/// Why a text cannot be completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubstError {
    /// A variable is not set; with the text after `:?`, if there is one.
    Unset(String, Option<String>),
    /// A dollar sign that begins nothing.
    Stray(String),
}

impl SubstError {
    /// The same without what stands there, which may be a part of a secret.
    pub(crate) fn without_text(self) -> Self {
        match self {
            Self::Stray(_) => Self::Stray(String::new()),
            unset @ Self::Unset(..) => unset,
        }
    }
}

impl Env {
    /// The environment of this process. A variable that is not UTF-8 counts as not set.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self(
            pairs
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// The value of a variable.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Variables that are set and have a name like `name`.
    pub(crate) fn similar(&self, name: &str) -> Vec<&str> {
        let near = |set: &&str| {
            let overlaps = set.len() > 3 && (set.starts_with(name) || name.starts_with(*set));
            overlaps || super::suggest::nearest(name, [*set]).is_some()
        };
        self.0.keys().map(String::as_str).filter(near).take(5).collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Env {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// Completes `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`.
pub(crate) fn expand(text: &str, env: &Env) -> Result<String, SubstError> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let inner = after.strip_prefix('{').and_then(|a| a.split_once('}'));
        let Some((reference, after)) = inner else {
            let word = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_');
            return Err(SubstError::Stray(word.collect()));
        };
        out.push_str(&resolve(reference, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The name, where `text` is one reference and nothing else.
pub(crate) fn reference(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?.strip_suffix('}')?;
    let (name, ..) = parts(inner);
    is_name(name).then_some(name)
}

fn resolve(reference: &str, env: &Env) -> Result<String, SubstError> {
    let (name, default, message) = parts(reference);
    if !is_name(name) {
        return Err(SubstError::Stray(reference.to_owned()));
    }
    let counts = |value: &&str| !value.is_empty() || (default.is_none() && message.is_none());
    let value = env.value(name).filter(counts).or(default).map(str::to_owned);
    value.ok_or_else(|| SubstError::Unset(name.to_owned(), message.map(str::to_owned)))
}

/// The name, and what stands behind `:-` or `:?`.
fn parts(reference: &str) -> (&str, Option<&str>, Option<&str>) {
    match (reference.split_once(":-"), reference.split_once(":?")) {
        (Some((name, default)), _) => (name, Some(default), None),
        (None, Some((name, message))) => (name, None, Some(message)),
        (None, None) => (reference, None, None),
    }
}

fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}
