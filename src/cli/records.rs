//! What records say, in words.

use std::{io, path::Path};

use serde_json::Value;

use super::out;
use crate::audit::segments::Segments;

/// All records about one event or request, by receipt, our id or the provider's, oldest first; `line` sees each as it stands.
pub(super) fn about(dir: &Path, id: &str, line: impl Fn(&str)) -> io::Result<Vec<Value>> {
    let quoted = Value::from(id).to_string();
    let mut found = Vec::new();
    Segments::of(dir)?.each(0, |_, bytes| {
        let said = std::str::from_utf8(bytes).unwrap_or_default();
        if said.contains(&quoted)
            && let Ok(record) = serde_json::from_str::<Value>(said)
            && ["receipt", "event_id", "provider_id"].iter().any(|key| text(&record, key) == id)
        {
            line(said);
            found.push(record);
        }
        Ok(true)
    })?;
    Ok(found)
}

/// What all records of an event have in common.
pub(super) fn story(record: &Value) {
    let line = |what: &str, parts: &[String]| {
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).cloned().collect();
        if !parts.is_empty() {
            out::line(&format!("{what:<9} {}", parts.join("  ")));
        }
    };
    let get = |key| text(record, key);
    line("Event", &[get("event_id"), get("source"), get("event_type")]);
    line("Provider", &[get("provider_id"), get("account")]);
    line("Signed", &[get("scheme"), get("secret")]);
    line("Body", &[get("bytes") + " bytes", get("digest")]);
}

/// One record of an event: when, what, how it ended, and under which number it is on record.
pub(super) fn step(record: &Value) -> String {
    let (time, kind, receipt) = (text(record, "ts"), text(record, "kind"), text(record, "receipt"));
    let seq = text(record, "seq");
    format!("{time}  {kind:<9}  {receipt}  {:<40}  #{seq}", result(record))
}

/// A member as text; empty where it is not there.
pub(super) fn text(record: &Value, key: &str) -> String {
    match record.get(key) {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The event's type, vouched for or not.
pub(super) fn kind(record: &Value) -> String {
    text(record, "event_type") + &text(record, "unverified_type")
}

/// What a record says beyond who and what: where to, how it ended, why.
pub(super) fn result(record: &Value) -> String {
    let get = |key| text(record, key);
    let mut parts = match get("kind").as_str() {
        "control" => control(record),
        "attempt" => vec![format!("→ {}", get("upstream")), format!("attempt {}", get("attempt"))],
        _ => vec![get("outcome"), get("status")],
    };
    if let Some(seconds) = record.get("upstream_seconds").and_then(Value::as_f64) {
        let status = get("upstream_status");
        parts.push(format!("({} {status} in {:.0} ms)", get("upstream"), seconds * 1000.0));
    }
    parts.extend([get("reason"), get("error")]);
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// All that a record about the process itself says.
fn control(record: &Value) -> Vec<String> {
    let frame = ["v", "seq", "ts", "kind", "what", "prev"];
    let members = record.as_object().into_iter().flatten();
    let facts = members.filter(|(key, _)| !frame.contains(&key.as_str()));
    let facts = facts.map(|(key, _)| format!("{key}={}", text(record, key)));
    std::iter::once(text(record, "what")).chain(facts).collect()
}
