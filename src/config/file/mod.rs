//! What may be typed: one struct per section, with its defaults. The JSON Schema is generated from these structs, and the
//! same schema is what a file is checked against, so what editors show and what the gateway accepts are one thing.
//!
//! Required keys are `Option`s marked as required: a file with one mistake is still looked at as a whole.

mod process;
mod sources;
mod stores;

use std::{collections::BTreeMap, num::NonZeroU16};

use schemars::{
    Schema,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::Value as Json;

use super::shape::accepts;
pub(crate) use crate::providers::shape::OneOrMany;
use crate::units::sections;
pub(crate) use process::*;
pub use process::{Limits, Storage};
pub(crate) use sources::*;
pub(crate) use stores::*;

sections! {
    /// Configuration of gatepost, the webhook gateway. Strict: unknown and duplicate keys are errors; top-level keys that
    /// begin with `x-` are ignored, as a home for anchors.
    #[schemars(title = "gatepost.yaml", extend("patternProperties" = { "^x-": true }))]
    pub(crate) struct File {
        /// Version of this format: 1.
        #[schemars(required, range(min = 1, max = 1))]
        pub version: Option<u32>,
        /// Where and how we listen.
        pub server: Server,
        /// Where certificates come from; `mode` has no default, because every choice has consequences.
        #[schemars(required)]
        pub tls: Option<Tls>,
        /// Where state is.
        pub storage: Storage,
        /// Values for every source and every route that does not say otherwise.
        pub defaults: Defaults,
        /// Who may call us, by name.
        #[schemars(required)]
        pub sources: Option<BTreeMap<String, Source>>,
        /// Which events go where: per source, top to bottom, the first match wins.
        pub routes: Vec<Route>,
        /// Our apps, by name.
        pub upstreams: BTreeMap<String, UpstreamForm>,
        /// How the keys are fetched that senders publish.
        pub fetch: Fetch,
        /// How repeated events are recognised.
        pub dedup: Dedup,
        /// The record.
        pub audit: Audit,
        /// Health and metrics.
        pub admin: Admin,
        /// Limits with names; beyond them requests are refused, never queued without end.
        pub limits: Limits,
        /// Logs.
        pub telemetry: Telemetry,
    }

    /// Values for every source and every route that does not say otherwise.
    pub(crate) struct Defaults {
        /// For sources.
        pub source: SourceDefaults,
        /// For routes.
        pub route: RouteDefaults,
    }
}

fn count<N: From<NonZeroU16>>(n: u16) -> N {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN).into()
}

impl File {
    /// Whether a proxy in front of us has TLS.
    pub(crate) fn plain_http(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mode == Some(TlsMode::None))
    }
}

/// The schema, as it is checked against: formats `duration`, `size`, `secret` and `hidden` are ours.
pub(crate) fn schema() -> Schema {
    let mut schema = schemars::schema_for!(File);
    RecursiveTransform(tighten).transform(&mut schema);
    schema
}

/// The schema for editors: our formats become patterns that every validator knows.
pub fn public_schema() -> Json {
    let mut schema = schema();
    RecursiveTransform(publish).transform(&mut schema);
    schema.to_value()
}

/// A key that has no default and cannot be null is required, and no other key is known.
fn tighten(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    let Some(Json::Object(properties)) = map.get_mut("properties") else { return };
    let mut required = Vec::new();
    for (key, property) in properties {
        let forms = property.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        let nullable = forms.chain([&*property]).any(|form| accepts(form, "null"));
        if property.get("default").is_some_and(Json::is_null) && !nullable {
            required.push(Json::from(key.as_str()));
        }
    }
    map.entry("additionalProperties").or_insert(false.into());
    if let Some(Json::Array(known)) = map.get_mut("required") {
        known.extend(required);
    } else if !required.is_empty() {
        map.insert("required".to_owned(), required.into());
    }
}

/// Defaults of whole sections only repeat those of their keys.
fn publish(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
        map.remove("default");
    }
    let pattern = match map.get("format").and_then(Json::as_str) {
        Some("duration") => Some(r"^([0-9]+(ms|s|m|h|d))+$|\$\{"),
        Some("size") => Some(r"^[0-9]+(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$|\$\{"),
        Some("secret" | "hidden") => None,
        _ => return,
    };
    map.remove("format");
    map.extend(pattern.map(|pattern| ("pattern".to_owned(), pattern.into())));
}
