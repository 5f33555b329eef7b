//! Holds the tree against the schema: finds every misplaced, misspelt or mistyped piece in one walk, and leaves a clean
//! value without them, so that the rest of the file can be looked at in the same run.

use std::collections::HashSet;

use serde_json::Value as Json;
use serde_yaml::Value;

use super::{
    example,
    report::{At, Explain as _, Problem},
    scalar::{self, Plain},
    subst::{self, Env},
    suggest,
    tree::{Entry, Kind, Mark, Node, Path},
};

/// What the walk found.
#[derive(Default)]
pub(crate) struct Walk {
    /// All that is wrong with the shape.
    pub(crate) problems: Vec<Problem>,
    /// Where values were left out because of that: whatever else is said about these places would only confuse.
    pub(crate) left_out: HashSet<Mark>,
    /// Where secrets stand in the file.
    pub(crate) masks: Vec<Mark>,
}

/// Walks `tree` along `schema` and leaves in it what has the schema's shape, completed and typed. What was `dropped` before
/// is kept out of sight.
pub(crate) fn walk(tree: &mut Node, dropped: &[Node], schema: &Json, env: &Env) -> Walk {
    let mut walker = Walker { root: schema, env, found: Walk::default() };
    for node in dropped {
        walker.hide(node);
    }
    walker.node(tree, Mark::START, schema, &Path::default());
    walker.found
}

struct Walker<'a> {
    root: &'a Json,
    env: &'a Env,
    found: Walk,
}

impl<'a> Walker<'a> {
    /// Holds `node`, whose key stands at `key`, against its schema. False where it was left out as a whole, because it lacks
    /// what its shape cannot be without.
    fn node(&mut self, node: &mut Node, key: Mark, schema: &'a Json, path: &Path) -> bool {
        let schema = self.form(schema, node);
        let whole = match &mut node.kind {
            Kind::Map(entries) if accepts(schema, "object") => self.map(entries, key, schema, path),
            Kind::List(items) if accepts(schema, "array") => self.list(items, schema, path),
            Kind::Scalar { text, plain, value } if is_scalar(schema) => {
                match self.scalar(node.mark, text, *plain, schema, path) {
                    Ok(clean) => *value = Some(clean),
                    Err(problem) => self.leave_out(node, *problem),
                }
                true
            }
            Kind::Map(_) => self.wrong_kind("a mapping", node, schema, path),
            Kind::List(_) => self.wrong_kind("a list", node, schema, path),
            Kind::Scalar { text, .. } => {
                let is = format!("`{}`", scalar::clip(text));
                self.wrong_kind(&is, node, schema, path)
            }
        };
        if !whole {
            self.found.left_out.insert(node.mark);
            node.kind = Kind::NOTHING;
        }
        whole
    }

    fn leave_out(&mut self, node: &Node, problem: Problem) {
        self.found.problems.push(problem);
        self.found.left_out.insert(node.mark);
        self.hide(node);
    }

    /// Follows references, and picks the form of a choice that `node` has.
    fn form(&self, schema: &'a Json, node: &Node) -> &'a Json {
        let schema = self.resolve(schema);
        let Some(forms) = schema.get("anyOf").and_then(Json::as_array) else { return schema };
        let forms = || forms.iter().map(|form| self.resolve(form));
        let nested =
            |form: &'a Json| if form.get("anyOf").is_some() { self.form(form, node) } else { form };
        let chosen = forms().find(|form| self.fits(form, node));
        let scalar = || forms().rfind(|form| is_scalar(form) && !accepts(form, "null"));
        let section = || forms().find(|form| accepts(form, "object"));
        let other = || section().or_else(|| forms().next());
        chosen.or_else(scalar).or_else(other).map_or(schema, nested)
    }

    /// Whether a node could have this form, or one of the forms that it stands for.
    fn fits(&self, form: &'a Json, node: &Node) -> bool {
        if let Some(forms) = form.get("anyOf").and_then(Json::as_array) {
            return forms.iter().any(|form| self.fits(self.resolve(form), node));
        }
        match &node.kind {
            Kind::Map(_) => accepts(form, "object"),
            Kind::List(_) => accepts(form, "array"),
            Kind::Scalar { text, plain, .. } => scalar::typed(text, *plain, form, "").is_ok(),
        }
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let name = schema.get("$ref").and_then(Json::as_str);
        let target = name.and_then(|name| self.root.pointer(name.trim_start_matches('#')));
        target.unwrap_or(schema)
    }

    fn map(&mut self, entries: &mut Vec<Entry>, key: Mark, schema: &'a Json, path: &Path) -> bool {
        let taken: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        let mut free = self.keys(schema);
        free.retain(|key| !taken.iter().any(|taken| taken == key));
        entries.retain_mut(|entry| {
            let Some(known) = self.known(entry, &free, schema, path) else { return false };
            if !self.is_empty_section(&entry.value, known) {
                self.node(&mut entry.value, entry.mark, known, &path.key(&entry.key));
            }
            true
        });
        let mut whole = true;
        for required in strings(schema.get("required")) {
            let entry = entries.iter().find(|entry| entry.key == required);
            if entry.is_none() {
                self.missing_key(required, key, schema, path);
            }
            whole &= has_default(schema, required)
                || entry.is_some_and(|entry| entry.value.to_value().is_some());
        }
        whole
    }

    /// The schema of a key. A misspelt one is reported and then read as what was meant, so that what stands under it is looked
    /// at in the same run.
    fn known(
        &mut self,
        entry: &mut Entry,
        free: &[&'a str],
        schema: &'a Json,
        path: &Path,
    ) -> Option<&'a Json> {
        let property = |key: &str| schema.get("properties").and_then(|p| p.get(key));
        let named = || schema.get("additionalProperties").filter(|s| s.is_object());
        let known = property(&entry.key).or_else(named);
        let ignored = *path == Path::default() && entry.key.starts_with("x-");
        if known.is_some() || ignored {
            return known;
        }
        self.unknown_key(entry, schema, path);
        let Some(meant) = suggest::key(&entry.key, free.iter().copied()) else {
            self.hide(&entry.value);
            return None;
        };
        meant.clone_into(&mut entry.key);
        property(meant)
    }

    /// `dedup:` with nothing but comments under it.
    fn is_empty_section(&self, node: &Node, schema: &'a Json) -> bool {
        let empty = matches!(&node.kind, Kind::Scalar { text, plain: true, .. } if text.is_empty());
        empty && accepts(self.resolve(schema), "object")
    }

    fn list(&mut self, items: &mut [Node], schema: &'a Json, path: &Path) -> bool {
        let item = schema.get("items").unwrap_or(&ANYTHING);
        let mut whole = true;
        for (at, node) in items.iter_mut().enumerate() {
            let Mark { line, column, end_line, end_column } = node.mark;
            let end_column = if end_line == line { end_column } else { column + 1 };
            let mark = Mark { line, column, end_line: line, end_column };
            whole &= self.node(node, mark, item, &path.item(at));
        }
        whole
    }

    fn scalar(&mut self, mark: Mark, text: &str, plain: bool, schema: &Json, path: &Path) -> Typed {
        let format = schema.get("format").and_then(Json::as_str);
        match format {
            Some("secret") => return self.secret(mark, text, plain, path),
            Some("hidden") => self.found.masks.push(mark),
            _ => self.found.masks.extend(password(mark, text, plain)),
        }
        let full = subst::expand(text, self.env).map_err(|error| {
            let error = if format == Some("hidden") { error.without_text() } else { error };
            scalar::not_expanded(&error, mark, self.env)
        })?;
        scalar::typed(&full, plain, schema, &path.to_string()).map_err(|misfit| {
            // What a variable holds is not shown: it may be a secret in the wrong place.
            let hidden = || {
                let message = format!("`{path}` must be {}", scalar::wanted(schema));
                ("bad-value", message, "what it is set to is not".to_owned())
            };
            let (code, message, label) = if full == text { misfit } else { hidden() };
            Problem::error(code, mark, message).label(label).into()
        })
    }

    /// A secret is neither completed nor typed here; it is only kept out of sight.
    fn secret(&mut self, mark: Mark, text: &str, plain: bool, path: &Path) -> Typed {
        if subst::reference(text).is_none() {
            self.found.masks.push(mark);
        }
        if plain && !matches!(Plain::of(text), Plain::Text) {
            let message = format!("`{path}` is not text for YAML");
            return Err(Problem::error("wrong-type", mark, message)
                .help("quote it: `\"…\"`")
                .into());
        }
        Ok(Value::from(text))
    }

    fn wrong_kind(&mut self, is: &str, node: &mut Node, schema: &'a Json, path: &Path) -> bool {
        let wanted = scalar::wanted(schema);
        let name = if *path == Path::default() { "the file".into() } else { format!("`{path}`") };
        let message = format!("{name} must be {wanted}, not {is}");
        let mut problem = Problem::error("wrong-type", node.mark, message);
        if let Some(example) = example::of(schema, path, Some(node)) {
            problem = problem.help(format!("write it like `{example}`"));
        }
        let keys = self.keys(schema).join(", ");
        self.leave_out(
            node,
            match &*keys {
                "" => problem,
                keys => problem.help(format!("keys here: {keys}")),
            },
        );
        // A section stays as an empty one, so that the numbers of a list's other items still hold.
        let is_section = accepts(schema, "object");
        node.kind = if is_section { Kind::Map(Vec::new()) } else { Kind::NOTHING };
        strings(schema.get("required")).all(|key| has_default(schema, key))
    }

    fn unknown_key(&mut self, entry: &Entry, schema: &'a Json, path: &Path) {
        let key = &entry.key;
        let keys = self.keys(schema);
        let message = match path.to_string() {
            root if root.is_empty() => format!("`{key}` is not a known top-level key"),
            section => format!("`{key}` is not a known key of `{section}`"),
        };
        let near = suggest::key(key, keys.iter().copied());
        let elsewhere = self.elsewhere(key, schema, path);
        let label = match (near, &elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(place)) => format!("write `{place}`"),
            (None, None) => format!("known here: {}", keys.join(", ")),
        };
        let mut problem = Problem::error("unknown-key", entry.mark, message).label(label);
        let example = example::of(schema, path, None).filter(|_| elsewhere.is_none());
        if let Some(example) = example.filter(|_| near.is_none()) {
            problem = problem.help(format!("for example `{example}`"));
        }
        if path.to_string().is_empty() && near.is_none() {
            problem = problem.help("top-level keys that begin with `x-` are ignored");
        }
        self.found.problems.push(problem);
    }

    /// How a key is written that stands in one of the sections below: `event_id` as `event: { id: … }`, and `signature` of a source
    /// as `verify: { signature: … }`.
    fn elsewhere(&self, key: &str, schema: &'a Json, path: &Path) -> Option<String> {
        let properties = schema.get("properties")?.as_object()?;
        let sections = || properties.iter().map(|(name, schema)| (name, self.keys_below(schema)));
        let written = |(section, key): (&String, &str)| format!("{section}: {{ {key}: … }}");
        let split = sections().find_map(|(name, keys)| {
            let rest = key.strip_prefix(name.as_str())?.strip_prefix('_')?;
            Some((name, keys.into_iter().find(|known| *known == rest)?))
        });
        let mut inside = sections().filter_map(|(name, keys)| {
            let is_it = |known: &&str| *known == key || suggest::begins(known, key);
            Some((name, keys.into_iter().find(is_it)?))
        });
        // Of the file's sections one is as good as another.
        let is_root = *path == Path::default();
        let sole = || inside.next().filter(|_| !is_root && inside.next().is_none());
        split.or_else(sole).map(written)
    }

    /// The keys of a section, behind references and in whichever of several forms it has any.
    fn keys_below(&self, schema: &'a Json) -> Vec<&'a str> {
        let schema = self.resolve(schema);
        let forms = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        let below = forms.flat_map(|form| self.keys_below(form));
        let own = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
        own.map(|(key, _)| key.as_str()).chain(below).collect()
    }

    fn missing_key(&mut self, key: &str, at: Mark, schema: &'a Json, path: &Path) {
        let property = schema.get("properties").and_then(|p| p.get(key)).unwrap_or(&ANYTHING);
        let (holder, at) = match path.to_string() {
            root if root.is_empty() => ("the file".into(), At::Nowhere),
            section => (format!("`{section}`"), At::File(at)),
        };
        let words = scalar::words(self.resolve(property)).join(" | ");
        let value = if words.is_empty() { "…" } else { &words };
        let problem = Problem::error("missing-key", at, format!("{holder} has no `{key}`"));
        let problem = problem.label(format!("add `{key}: {value}`"));
        let about = property.get("description").and_then(Json::as_str);
        self.found.problems.push(match about {
            Some(about) => problem.note(format!("`{key}`: {}", about.replace('\n', " "))),
            None => problem,
        });
    }

    /// The keys that a schema knows.
    fn keys(&self, schema: &'a Json) -> Vec<&'a str> {
        let own = schema.get("properties").and_then(Json::as_object);
        let forms = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        let forms = forms.filter_map(|form| self.resolve(form).get("properties")?.as_object());
        own.into_iter().chain(forms).flat_map(|map| map.keys().map(String::as_str)).collect()
    }

    /// Keeps what nobody understood out of sight where it may be a secret.
    fn hide(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar { text, .. } if text.len() >= 16 && !text.contains("${") => {
                self.found.masks.push(node.mark);
            }
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| self.hide(&entry.value)),
        }
    }
}

/// Where user and password of a URL stand.
fn password(mark: Mark, text: &str, plain: bool) -> Option<Mark> {
    let (scheme, rest) = text.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    let column = mark.column + usize::from(!plain) + scheme.chars().count() + 3;
    let is_one_line = mark.line == mark.end_line && !text.contains("${");
    let end_column = column + user.chars().count();
    Some(if is_one_line { Mark { column, end_column, ..mark } } else { mark })
}

static ANYTHING: Json = Json::Bool(true);

type Typed = Result<Value, Box<Problem>>;

fn is_scalar(schema: &Json) -> bool {
    let scalars = ["string", "integer", "number", "boolean", "null"];
    !scalar::words(schema).is_empty() || scalars.iter().any(|kind| accepts(schema, kind))
}

/// Whether a shape can be without a key, if only to be looked at.
fn has_default(schema: &Json, key: &str) -> bool {
    schema.get("properties").and_then(|p| p.get(key)?.get("default")).is_some()
}

/// Whether `schema` names the JSON type `kind`.
pub(crate) fn accepts(schema: &Json, kind: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == kind,
        Some(Json::Array(many)) => many.iter().any(|one| one == kind),
        _ => *schema == Json::Bool(true),
    }
}

fn strings(list: Option<&Json>) -> impl Iterator<Item = &str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}
