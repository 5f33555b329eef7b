//! Dotted paths, as they are written in presets and configuration.

/// A place in a document: `data.object.id`, `items[0].id`, `items[*]`, `[*].sg_event_id`. Keys that hold a dot, a bracket
/// or a space are quoted: `"event.name".id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A key of an object.
    Key(String),
    /// An element of an array.
    Index(usize),
    /// Every element of an array.
    Each,
}

/// Steps of a path, at most. Wanted paths are the only thing that extraction recurses along.
const STEPS_MAX: usize = 32;

impl Path {
    /// Parses a path.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
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
        if steps.len() > STEPS_MAX {
            return Err(format!("the path has more than {STEPS_MAX} steps"));
        }
        Ok(Self { steps })
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
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
    Ok((Step::Key(key.into()), after))
}

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
