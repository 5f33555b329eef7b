//! Puts the layers of a configuration on top of each other: built in < preset < `defaults` < the item itself, and above all the
//! few environment variables that platforms set. Each entry remembers where it came from.

use serde_yaml::Value;

use super::{
    subst::Env,
    tree::{Entry, Kind, Mark, Node, Origin, Path},
};
use crate::providers;

const OVERRIDES: [(&str, &str); 4] = [
    ("GATEPOST_LISTEN", "server.listen"),
    ("GATEPOST_ADMIN_LISTEN", "admin.listen"),
    ("GATEPOST_DATA_DIR", "storage.dir"),
    ("GATEPOST_LOG", "telemetry.log.level"),
];
/// Keys of `dedup` that are about the store and not about a source.
const STORE_KEYS: [&str; 2] = ["store", "redis"];

/// Fills `tree`, after it was held against the schema, from the outer layers. A key that the file has stays alone even
/// where its value does not fit.
pub(crate) fn apply(tree: &mut Node, env: &Env) {
    for (variable, path) in OVERRIDES {
        if let Some(text) = env.value(variable).filter(|text| !text.is_empty()) {
            let kind = match variable {
                "GATEPOST_LISTEN" => Kind::List(text.split(',').map(scalar).collect()),
                _ => scalar(text).kind,
            };
            let value = Node { mark: Mark::START, kind };
            set(tree, path, value, Origin::Env(variable));
        }
    }
    let (source_defaults, route_defaults) =
        (defaults(tree, "defaults.source"), defaults(tree, "defaults.route"));
    let mut dedup = defaults(tree, "dedup");
    dedup.retain(|entry| !STORE_KEYS.contains(&entry.key.as_str()));
    let mut sections = tree.entries_mut().iter_mut();
    let sources = sections.find(|section| section.key == "sources");
    for source in sources.into_iter().flat_map(|sources| sources.value.entries_mut()) {
        fill(&mut source.value, &source_defaults);
        preset(source);
        let mut own = take(&mut source.value, "dedup", source.mark);
        fill(&mut own.value, &dedup);
        source.value.entries_mut().push(own);
    }
    let routes = tree.entries_mut().iter_mut().find(|section| section.key == "routes");
    if let Some(Entry { value: Node { kind: Kind::List(routes), .. }, .. }) = routes {
        for route in routes {
            fill(route, &route_defaults);
        }
    }
}

/// What a section sets for others.
fn defaults(tree: &Node, section: &str) -> Vec<Entry> {
    let Some(Node { kind: Kind::Map(entries), .. }) = tree.at(&Path::of(section)) else {
        return Vec::new();
    };
    let origin = |key| Origin::Default(format!("{section}.{key}"));
    entries.iter().map(|entry| Entry { origin: origin(&entry.key), ..entry.clone() }).collect()
}

fn fill(item: &mut Node, from: &[Entry]) {
    let entries = item.entries_mut();
    for entry in from {
        if entries.iter().all(|own| own.key != entry.key) {
            entries.push(entry.clone());
        }
    }
}

/// What a preset sets. Where the source is verified in its own way, the preset's tolerance means nothing.
fn preset(source: &mut Entry) {
    let name = source.value.text(&Path::of("provider")).unwrap_or_default().to_owned();
    let Some(preset) = providers::preset(&name) else { return };
    let time = preset.verify.scheme.timestamp.as_ref();
    let time = time.filter(|time| time.future.is_none() && source.value.key("verify").is_none());
    let values = [
        ("max_body", preset.max_body.map(|size| size.to_string())),
        ("tolerance", time.map(|time| time.past.to_string())),
    ];
    let entry = |(key, text): (&str, Option<String>)| {
        let value = Node { mark: source.mark, ..scalar(&text?) };
        Some(Entry {
            key: key.into(),
            mark: source.mark,
            value,
            origin: Origin::Preset(name.clone()),
        })
    };
    let entries: Vec<_> = values.into_iter().filter_map(entry).collect();
    fill(&mut source.value, &entries);
}

/// Puts `value` at `path`, whatever stood there.
fn set(node: &mut Node, path: &str, value: Node, origin: Origin) {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let mut entry = take(node, key, Mark::START);
    if rest.is_empty() {
        entry = Entry { value, origin, ..entry };
    } else {
        set(&mut entry.value, rest, value, origin);
    }
    node.entries_mut().push(entry);
}

/// Takes the entry of `key` out, or makes one, to be put back.
fn take(node: &mut Node, key: &str, mark: Mark) -> Entry {
    let entries = node.entries_mut();
    let at = entries.iter().position(|entry| entry.key == key);
    let value = Node { mark, kind: Kind::Map(Vec::new()) };
    let made = || Entry { key: key.to_owned(), mark, value, origin: Origin::Here };
    at.map_or_else(made, |at| entries.swap_remove(at))
}

fn scalar(text: &str) -> Node {
    let text = text.trim();
    let value = Some(Value::from(text));
    Node { mark: Mark::START, kind: Kind::Scalar { text: text.to_owned(), plain: false, value } }
}
