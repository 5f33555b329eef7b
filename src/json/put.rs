//! The other way round: a value is put where a path leads.

use serde_json::Value as Json;

use super::Step;

/// Puts `value` at `steps`, making objects and arrays on the way: for test events, which are the only documents that we write.
pub(crate) fn put(json: &mut Json, steps: &[Step], value: Json) {
    let Some((step, rest)) = steps.split_first() else {
        *json = value;
        return;
    };
    match step {
        Step::Key(key) => {
            if !json.is_object() {
                *json = serde_json::json!({});
            }
            if let Json::Object(map) = json {
                put(map.entry(key.clone()).or_insert(Json::Null), rest, value);
            }
        }
        // The name of a key comes with what stands under it, where something does.
        Step::FirstKey(_) => {
            let is_empty = json.as_object().is_none_or(serde_json::Map::is_empty);
            if let (Json::String(name), true) = (value, is_empty) {
                *json = serde_json::json!({ name: {} });
            }
        }
        Step::Index(_) | Step::Each => {
            let index = if let Step::Index(index) = step { *index } else { 0 };
            if !json.is_array() {
                *json = serde_json::json!([]);
            }
            if let Json::Array(items) = json {
                while items.len() <= index.min(99) {
                    items.push(Json::Null);
                }
                if let Some(item) = items.get_mut(index.min(99)) {
                    put(item, rest, value);
                }
            }
        }
    }
}
