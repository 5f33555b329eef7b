//! Examples of sections, as their schema has them, written the way that a file has them.

use serde_json::Value as Json;

use super::{
    scalar::{self, Plain},
    tree::{Kind, Node, Path},
};

/// How the section at `path` is written: `signature: { header: X-Signature }`. Where a text stands in its place and one key is
/// enough, with that text.
pub(crate) fn of(schema: &Json, path: &Path, instead: Option<&Node>) -> Option<String> {
    let mut example = schema.get("examples")?.get(0)?.clone();
    let instead = instead.map(|node| &node.kind);
    if let (Some(fields), Some(Kind::Scalar { text, .. })) = (example.as_object_mut(), instead)
        && fields.len() == 1
        && let Some(Json::String(value)) = fields.values_mut().next()
        && !text.is_empty()
    {
        *value = scalar::clip(text);
    }
    let name = path.name().map_or_else(String::new, |name| format!("{name}: "));
    Some(format!("{name}{}", flow(&example)))
}

/// A value in one line of YAML.
fn flow(value: &Json) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match value {
        Json::Object(fields) => {
            let each = fields.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{ {} }}", each.collect::<Vec<_>>().join(", "))
        }
        Json::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Json::String(text) if text.chars().all(is_plain) && Plain::of(text) == Plain::Text => {
            text.clone()
        }
        other => other.to_string(),
    }
}
