//! Segments that are gone, and may be: control records say so. Whoever can write the directory can write such a record, and only
//! the gateway can seal it; so it counts where that was done before the segment went.

use serde_json::Value;

use super::{
    record::Draft,
    segments::{Frame, Head, Segments, parse_hash},
};

/// Where the chain ended that a control record says was removed.
pub(super) fn removed(said: &Value) -> Option<Head> {
    let text = |key| said.get(key).and_then(Value::as_str);
    let seq = said.get("removed_seq")?.as_u64().filter(|_| text("what") == Some("segment_removed"));
    Some(Head { seq: seq?, hash: parse_hash(text("removed_hash")?)? })
}

/// A removal that is on record behind everything that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsealed {
    /// The record that says so.
    pub(super) record: u64,
    /// Whether the segment is gone. A crash comes between its record and its seal, and leaves it there.
    pub(super) gone: bool,
}

impl Unsealed {
    /// What a run says of it, because it seals it now. Where the segment is there still, it goes with a record of its own.
    pub(super) fn told(&self) -> Draft {
        let Self { record, gone } = *self;
        if !gone {
            return Draft::control("segment_kept").with("record", record);
        }
        tracing::error!(
            record,
            "the audit log says that a segment was removed, and no checkpoint covers that: run `gatepost audit verify`"
        );
        Draft::control("damage_found").with("record", record)
    }
}

/// What a start finds behind record `sealed`: it must not seal it without a word. What cannot be read cannot be believed either.
pub(super) fn unsealed(segments: &Segments, sealed: u64) -> Vec<Unsealed> {
    let oldest = segments.firsts().next().unwrap_or(0);
    let mut found = Vec::new();
    let read = segments.each(sealed + 1, |frame: &Frame<'_>, line| {
        if frame.seq > sealed
            && frame.kind == "control"
            && let Ok(said) = serde_json::from_slice(line)
            && let Some(end) = removed(&said)
        {
            found.push(Unsealed { record: frame.seq, gone: end.seq < oldest });
        }
        Ok(true)
    });
    if let Err(error) = read {
        tracing::error!(%error, "the audit log cannot be read to its end: run `gatepost audit verify`");
    }
    found
}
