//! Holds the tree against the schema: finds every misplaced, misspelt or mistyped piece in one walk, and leaves a clean
//! value without them, so that the rest of the file can be looked at in the same run.

use std::collections::HashSet;

use serde_json::Value as Json;
use serde_yaml::Value;

use super::{
    report::{At, Problem},
    scalar::{self, Plain},
    spans::{Entry, Kind, Mark, Node, Path},
    subst::Env,
    suggest,
};

/// What the walk found.
#[derive(Default)]
pub(crate) struct Walk {
    /// All that is wrong with the shape.
    pub(crate) problems: Vec<Problem>,
    /// Where values were left out because of that: whatever else is said about these places would only confuse.
    pub(crate) left_out: HashSet<Mark>,
    /// Where secrets stand in the file, and what is shown instead.
    pub(crate) masks: Vec<(Mark, String)>,
}

/// Walks `tree` along `schema`; what is returned has the schema's shape, as far as it goes.
pub(crate) fn walk(tree: &mut Node, schema: &Json, env: &Env) -> (Value, Walk) {
    let mut walker = Walker { root: schema, env, found: Walk::default() };
    let value = walker.value(tree, Mark::START, schema, &Path::default());
    (value.unwrap_or_default(), walker.found)
}

struct Walker<'a> {
    root: &'a Json,
    env: &'a Env,
    found: Walk,
}

impl<'a> Walker<'a> {
    /// The clean value of `node`, whose key stands at `key`.
    fn value(
        &mut self,
        node: &mut Node,
        key: Mark,
        schema: &'a Json,
        path: &Path,
    ) -> Option<Value> {
        let schema = self.form(schema, node);
        let value = match &mut node.kind {
            Kind::Map(entries) if accepts(schema, "object") => {
                return Some(self.map(entries, key, schema, path));
            }
            Kind::List(items) if accepts(schema, "array") => {
                return Some(self.list(items, schema, path));
            }
            Kind::Scalar { text, plain } if is_scalar(schema) => {
                self.scalar(node.mark, text, *plain, schema, path)
            }
            Kind::Map(_) => Err(self.wrong_kind("a mapping", node, schema, path)),
            Kind::List(_) => Err(self.wrong_kind("a list", node, schema, path)),
            Kind::Scalar { text, .. } => {
                let is = format!("`{}`", scalar::clip(text));
                Err(self.wrong_kind(&is, node, schema, path))
            }
        };
        value
            .map_err(|problem| {
                self.found.problems.push(*problem);
                self.found.left_out.insert(node.mark);
                self.hide(node);
            })
            .ok()
    }

    /// Follows references, and picks the form of a choice that `node` has.
    fn form(&self, schema: &'a Json, node: &Node) -> &'a Json {
        let schema = self.resolve(schema);
        let Some(forms) = schema.get("anyOf").and_then(Json::as_array) else { return schema };
        let forms = || forms.iter().map(|form| self.resolve(form));
        let nested =
            |form: &'a Json| if form.get("anyOf").is_some() { self.form(form, node) } else { form };
        let chosen = forms().find(|form| self.fits(form, node));
        let scalar = || forms().filter(|form| is_scalar(form) && !accepts(form, "null")).last();
        chosen.or_else(scalar).or_else(|| forms().next()).map_or(schema, nested)
    }

    /// Whether a node could have this form, or one of the forms that it stands for.
    fn fits(&self, form: &'a Json, node: &Node) -> bool {
        if let Some(forms) = form.get("anyOf").and_then(Json::as_array) {
            return forms.iter().any(|form| self.fits(self.resolve(form), node));
        }
        match &node.kind {
            Kind::Map(_) => accepts(form, "object"),
            Kind::List(_) => accepts(form, "array"),
            Kind::Scalar { text, plain } => scalar::fits(text, *plain, form),
        }
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let name = schema.get("$ref").and_then(Json::as_str);
        let target = name.and_then(|name| self.root.pointer(name.trim_start_matches('#')));
        target.unwrap_or(schema)
    }

    fn map(&mut self, entries: &mut [Entry], key: Mark, schema: &'a Json, path: &Path) -> Value {
        let mut map = serde_yaml::Mapping::new();
        for index in 0..entries.len() {
            let taken = |key: &str| entries.iter().any(|entry| entry.key == key);
            let free: Vec<_> = self.keys(schema).into_iter().filter(|key| !taken(key)).collect();
            let Some(entry) = entries.get_mut(index) else { break };
            let Some(known) = self.known(entry, &free, schema, path) else { continue };
            let below = path.key(&entry.key);
            if !self.is_empty_section(&entry.value, known)
                && let Some(value) = self.value(&mut entry.value, entry.mark, known, &below)
            {
                map.insert(entry.key.as_str().into(), value);
            }
        }
        for required in strings(schema.get("required")) {
            if !entries.iter().any(|entry| entry.key == required) {
                self.missing_key(required, key, schema, path);
            }
        }
        map.into()
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
        match suggest::nearest(&entry.key, free.iter().copied()) {
            Some(meant) => {
                meant.clone_into(&mut entry.key);
                property(meant)
            }
            None => {
                self.hide(&entry.value);
                None
            }
        }
    }

    /// `dedup:` with nothing but comments under it.
    fn is_empty_section(&self, node: &Node, schema: &'a Json) -> bool {
        let empty = matches!(&node.kind, Kind::Scalar { text, plain: true } if text.is_empty());
        empty && accepts(self.resolve(schema), "object")
    }

    fn list(&mut self, items: &mut [Node], schema: &'a Json, path: &Path) -> Value {
        let item = schema.get("items").unwrap_or(&ANYTHING);
        let clean = items.iter_mut().enumerate();
        let clean = clean.filter_map(|(at, node)| {
            let mark = Mark { end_line: node.mark.line, ..node.mark };
            // A bad item stays in the list as a hole, so that the numbers of the others still hold.
            let hole = accepts(self.form(item, node), "object");
            let hole = hole.then(|| Value::Mapping(serde_yaml::Mapping::new()));
            self.value(node, mark, item, &path.item(at)).or(hole)
        });
        Value::Sequence(clean.collect())
    }

    fn scalar(&mut self, mark: Mark, text: &str, plain: bool, schema: &Json, path: &Path) -> Found {
        match schema.get("format").and_then(Json::as_str) {
            Some("secret") => return self.secret(mark, text, plain, path),
            Some("hidden") => self.mask(mark, plain, "…"),
            _ if text.contains("://") && text.contains('@') => {
                let scheme = text.split("://").next().unwrap_or_default();
                self.mask(mark, plain, &format!("{scheme}://…"));
            }
            _ => {}
        }
        let full = super::subst::expand(text, self.env);
        let full = full.map_err(|error| Box::new(scalar::not_expanded(&error, mark, self.env)))?;
        scalar::typed(&full, plain, schema).map_err(|wrong| match full == text {
            true => Box::new(wrong.problem(&scalar::clip(text), path, mark, schema)),
            // What a variable holds is not shown: it may be a secret in the wrong place.
            false => {
                let message = format!("`{path}` must be {}", scalar::wanted(schema));
                Box::new(
                    Problem::error("bad-value", mark, message).label("what it is set to is not"),
                )
            }
        })
    }

    /// A secret is neither completed nor typed here; it is only kept out of sight.
    fn secret(&mut self, mark: Mark, text: &str, plain: bool, path: &Path) -> Found {
        if super::subst::reference(text).is_none() {
            let print = crate::secret::Secret::new(text).fingerprint();
            self.mask(mark, plain, &print);
        }
        if plain && !matches!(Plain::of(text), Plain::Text) {
            let problem =
                Problem::error("wrong-type", mark, format!("`{path}` is not text for YAML"));
            return Err(problem.help("quote it: `\"…\"`").into());
        }
        Ok(Value::from(text))
    }

    fn wrong_kind(&self, is: &str, node: &Node, schema: &'a Json, path: &Path) -> Box<Problem> {
        let wanted = scalar::wanted(schema);
        let name = if *path == Path::default() { "the file".into() } else { format!("`{path}`") };
        let problem =
            Problem::error("wrong-type", node.mark, format!("{name} must be {wanted}, not {is}"));
        let keys = self.keys(schema).join(", ");
        Box::new(if keys.is_empty() { problem } else { problem.help(format!("keys here: {keys}")) })
    }

    fn unknown_key(&mut self, entry: &Entry, schema: &'a Json, path: &Path) {
        let key = &entry.key;
        let keys = self.keys(schema);
        let message = match path.to_string() {
            root if root.is_empty() => format!("`{key}` is not a known top-level key"),
            section => format!("`{key}` is not a known key of `{section}`"),
        };
        let near = suggest::nearest(key, keys.iter().copied());
        let label = match (near, self.home(key)) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, home) if !home.is_empty() => format!("it belongs under {home}"),
            (None, _) => format!("known here: {}", keys.join(", ")),
        };
        let mut problem = Problem::error("unknown-key", entry.mark, message).label(label);
        if path.to_string().is_empty() && near.is_none() {
            problem = problem.help("top-level keys that begin with `x-` are ignored");
        }
        self.found.problems.push(problem);
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

    /// The sections where a key of this name is known.
    fn home(&self, key: &str) -> String {
        let sections = self.root.get("properties").and_then(Json::as_object).into_iter().flatten();
        let mut homes = Vec::new();
        for (name, schema) in sections {
            let section = self.resolve(schema);
            let below = section.get("properties").and_then(Json::as_object).into_iter().flatten();
            homes.extend(section.get("items").map(|s| (format!("`{name}[]`"), s)));
            homes
                .extend(section.get("additionalProperties").map(|s| (format!("`{name}.NAME`"), s)));
            homes.push((format!("`{name}`"), section));
            homes.extend(below.map(|(key, s)| (format!("`{name}.{key}`"), s)));
        }
        let has = |schema: &'a Json| self.keys(self.resolve(schema)).contains(&key);
        let homes = homes.into_iter().filter(|(_, schema)| has(schema)).map(|(name, _)| name);
        homes.collect::<Vec<_>>().join(" or ")
    }

    /// The keys that a schema knows.
    fn keys(&self, schema: &'a Json) -> Vec<&'a str> {
        let own = schema.get("properties").and_then(Json::as_object);
        let forms = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        let forms = forms.filter_map(|form| self.resolve(form).get("properties")?.as_object());
        own.into_iter().chain(forms).flat_map(|map| map.keys().map(String::as_str)).collect()
    }

    /// Shows `instead` of a scalar, quotes aside, in every line that is printed.
    fn mask(&mut self, mark: Mark, plain: bool, instead: &str) {
        let quotes = usize::from(!plain && mark.line == mark.end_line);
        let inner =
            Mark { column: mark.column + quotes, end_column: mark.end_column - quotes, ..mark };
        self.found.masks.push((inner, instead.to_owned()));
    }

    /// Keeps what nobody understood out of sight where it may be a secret.
    fn hide(&mut self, node: &Node) {
        match &node.kind {
            Kind::Scalar { text, plain } if text.len() >= 16 && !text.contains("${") => {
                self.mask(node.mark, *plain, "…");
            }
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| self.hide(&entry.value)),
        }
    }
}

static ANYTHING: Json = Json::Bool(true);

type Found = Result<Value, Box<Problem>>;

fn is_scalar(schema: &Json) -> bool {
    let scalars = ["string", "integer", "number", "boolean", "null"];
    !scalar::words(schema).is_empty() || scalars.iter().any(|kind| accepts(schema, kind))
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
