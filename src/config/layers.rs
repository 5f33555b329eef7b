//! Puts the layers of a configuration on top of each other: built in < preset < `defaults` < the item itself, and above all the
//! few environment variables that platforms set. What won is remembered.

use std::{collections::HashMap, fmt};

use serde_yaml::{Mapping, Value};

use super::{
    spans::{Node, Path},
    subst::Env,
};
use crate::providers;

/// Where a value came from that is not at its own place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From another place of the file.
    Default(Path),
    /// From an environment variable.
    Env(&'static str),
    /// From a preset.
    Preset(String),
}

/// Origins by path.
pub(crate) type Origins = HashMap<Path, Origin>;

const OVERRIDES: [(&str, &str); 4] = [
    ("GATEPOST_LISTEN", "server.listen"),
    ("GATEPOST_ADMIN_LISTEN", "admin.listen"),
    ("GATEPOST_DATA_DIR", "storage.dir"),
    ("GATEPOST_LOG", "telemetry.log.level"),
];
const SOURCE_KEYS: [&str; 4] = ["enforce", "unrouted", "max_body", "handshake"];
const ROUTE_KEYS: [&str; 3] = ["mode", "timeout", "reply"];
const DEDUP_KEYS: [&str; 7] = [
    "window",
    "claim",
    "join_timeout",
    "on_store_error",
    "on_unknown",
    "same_id_other_body",
    "replay_guard",
];

/// Fills `value` (the clean value of `tree`) from the outer layers. A key that the file has stays alone even where its value
/// was left out as wrong.
pub(crate) fn apply(value: &mut Value, tree: &Node, env: &Env) -> Origins {
    let mut layers = Layers { tree, origins: Origins::new() };
    let root = mapping(value);
    layers.overrides(root, env);
    let source_defaults = below(root, &["defaults", "source"]);
    let route_defaults = below(root, &["defaults", "route"]);
    let dedup = below(root, &["dedup"]);
    if let Some(Value::Mapping(sources)) = root.get_mut("sources") {
        for (name, source) in sources {
            let at = Path::of("sources").key(name.as_str().unwrap_or_default());
            let source = mapping(source);
            layers.fill(source, &at, &SOURCE_KEYS, &source_defaults, &Path::of("defaults.source"));
            layers.preset(source, &at);
            let own = source.entry("dedup".into()).or_insert_with(|| Mapping::new().into());
            layers.fill(mapping(own), &at.key("dedup"), &DEDUP_KEYS, &dedup, &Path::of("dedup"));
        }
    }
    if let Some(Value::Sequence(routes)) = root.get_mut("routes") {
        for (index, route) in routes.iter_mut().enumerate() {
            let at = Path::of("routes").item(index);
            let from = Path::of("defaults.route");
            layers.fill(mapping(route), &at, &ROUTE_KEYS, &route_defaults, &from);
        }
    }
    layers.origins
}

struct Layers<'a> {
    tree: &'a Node,
    origins: Origins,
}

impl Layers<'_> {
    fn overrides(&mut self, root: &mut Mapping, env: &Env) {
        for (variable, path) in OVERRIDES {
            let Some(text) = env.value(variable).filter(|text| !text.is_empty()) else { continue };
            let (sections, key) = path.rsplit_once('.').unwrap_or(("", path));
            let section = sections.split('.').fold(&mut *root, |map, section| {
                mapping(map.entry(section.into()).or_insert(Value::Null))
            });
            let list = text.split(',').map(|part| part.trim().into()).collect::<Vec<Value>>();
            let value = if variable == "GATEPOST_LISTEN" { list.into() } else { text.into() };
            section.insert(key.into(), value);
            self.origins.insert(Path::of(path), Origin::Env(variable));
        }
    }

    fn fill(
        &mut self,
        item: &mut Mapping,
        at: &Path,
        keys: &[&str],
        from: &Mapping,
        origin: &Path,
    ) {
        for key in keys {
            let Some(value) = from.get(*key) else { continue };
            if !item.contains_key(*key) && !self.tree.has(&at.key(key)) {
                item.insert((*key).into(), value.clone());
                self.origins.insert(at.key(key), Origin::Default(origin.key(key)));
            }
        }
    }

    fn preset(&mut self, source: &mut Mapping, at: &Path) {
        let name = source.get("provider").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(preset) = providers::preset(&name) else { return };
        if let Some(size) = &preset.max_body
            && !source.contains_key("max_body")
            && !self.tree.has(&at.key("max_body"))
        {
            source.insert("max_body".into(), size.as_str().into());
            self.origins.insert(at.key("max_body"), Origin::Preset(name));
        }
    }
}

/// The mapping that `value` is; what is not one becomes an empty one.
fn mapping(value: &mut Value) -> &mut Mapping {
    if !value.is_mapping() {
        *value = Mapping::new().into();
    }
    match value {
        Value::Mapping(map) => map,
        _ => unreachable!("it was made one in the line above"),
    }
}

fn below(root: &Mapping, keys: &[&str]) -> Mapping {
    let found = keys.iter().try_fold(root, |map, key| map.get(*key)?.as_mapping());
    found.cloned().unwrap_or_default()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(path) => write!(f, "{path}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Preset(name) => write!(f, "preset {name}"),
        }
    }
}
