//! The source language as YAML shapes: what a preset file holds, and what a user may write under a source.
//!
//! Shapes say only what was typed. [`super::compile()`] turns them into what the stages run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::challenges::HandshakeRule;
use crate::{
    units::{Span, choices, sections},
    verify::{Algorithm, Encoding, KeyForm, Unit, UrlVariant},
};

/// One value, or a list of them tried in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    // Before `One`: a list would otherwise be read as the fields of a struct, by position.
    /// Several, in order.
    Many(Vec<T>),
    /// One.
    One(T),
}

impl<T> OneOrMany<T> {
    /// Each, and its place below `path`: `path` itself, where there is but one.
    pub(crate) fn placed(&self, path: &str) -> impl Iterator<Item = (String, &T)> {
        let is_list = matches!(self, Self::Many(_));
        let place = move |i| if is_list { format!("{path}[{i}]") } else { path.to_owned() };
        self.as_slice().iter().enumerate().map(move |(i, one)| (place(i), one))
    }

    /// As a slice.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

sections! {
    /// How requests of a source are verified (`verify:`): one scheme, or several tried by what is present.
    pub struct Verify {
        /// The scheme, or what several have in common.
        #[serde(flatten)]
        pub scheme: Scheme,
        /// Alternatives: the first whose `when` holds is the one that counts; a failed one never falls through to another.
        pub schemes: Vec<Alternative>,
    }

    /// One of several schemes. What it leaves out is taken from the block around it.
    pub struct Alternative {
        /// What `pin` calls it.
        pub name: Option<String>,
        /// When this one counts; always, where absent.
        pub when: Option<When>,
        /// Where its events have their id and type, where it is not as `event` says; key by key.
        pub event: Option<EventFields>,
        /// What it has of its own.
        #[serde(flatten)]
        pub scheme: Scheme,
    }

    /// One scheme.
    pub struct Scheme {
        /// What form the configured secret has.
        pub key: Option<KeyForm>,
        /// Where the signature is. Several places, where any of them may hold a good one.
        pub signature: Option<OneOrMany<Signature>>,
        /// The exact bytes that are signed, as a template: `{t}.{body}`. Several, where any of them may be what was signed.
        pub signed: Option<OneOrMany<String>>,
        /// The algorithm. Default: `hmac-sha256`.
        pub mac: Option<Algorithm>,
        /// The signed time and how far from ours it may be.
        pub timestamp: Option<TimestampRule>,
        /// Equalities that must hold besides.
        pub require: Vec<Requirement>,
        /// Items that are signed one by one, inside the body: `items[*]`. All must hold, and JSON paths begin at an item.
        pub for_each: Option<String>,
        /// Forms of the public URL, any of which may be what was signed. Default: as it is configured.
        pub url_variants: Vec<UrlVariant>,
    }

    /// What must hold for an alternative to count. All of it, where several things are said.
    #[serde(deny_unknown_fields)]
    pub struct When {
        /// A header that is present.
        pub header: Option<String>,
        /// Headers and what they say: `{ X-Signature-Version: v2 }`.
        pub header_equals: BTreeMap<String, String>,
        /// A parameter that is in the query.
        pub query: Option<String>,
        /// The content type, without its parameters: `application/json`.
        pub content_type: Option<String>,
        /// Values of the JSON body: `{ type: batch }`.
        pub json: BTreeMap<String, String>,
    }

    /// A signature container (`providers/hmac.md` §3.2).
    #[serde(deny_unknown_fields)]
    pub struct Signature {
        /// The header that carries it. `X-Signature-*` is a family of headers that end in a number from 1.
        pub header: Option<String>,
        /// Any other place, as a template: `{json:signature.signature}`, `{query:sig}`.
        pub from: Option<String>,
        /// Literal that leads each element: `sha256=`.
        pub prefix: Option<String>,
        /// Whether a signature may come without it.
        pub prefix_optional: bool,
        /// Separator of groups, each with variables of its own: a space in `t=1,v1=ab t=2,v1=cd`.
        pub groups: Option<String>,
        /// Separator of elements: `,`.
        pub split: Option<String>,
        /// Separator of key and value inside an element: `=`.
        pub pair: Option<String>,
        /// The key that holds a signature: `v1`, or several. Values of other keys become template variables.
        pub pick: Option<OneOrMany<String>>,
        /// Names of the leading elements: `[ts]` for `1700000000,ab,cd`. They become variables; what follows are signatures.
        pub positional: Vec<String>,
        /// Encoding of the signature. Default: `hex`.
        pub encoding: Option<Encoding>,
        /// Whether the provider sends the header on several lines. Default: no; a repeated header is refused.
        pub repeated: bool,
        /// Spaces around elements are removed (`t=1, v1=…`). Default: no; they are refused.
        pub trim: bool,
        /// The one secret that it is made with, by its place in `secret`, from 1. Default: any.
        pub secret_slot: Option<u16>,
        /// What names the secret that it is made with, by its `id`: `{header:X-Key}`.
        pub key_id: Option<String>,
    }
}

/// The signed time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimestampRule {
    /// Where it is: `{t}`, `{header:X-Request-Timestamp}`, `{json:webhookTimestamp}`.
    pub from: String,
    /// Its form. Default: `s`.
    #[serde(default)]
    pub unit: Unit,
    /// How old it may be, such as `5m`.
    pub past: Span,
    /// How far ahead it may be. Default: as `past`.
    #[serde(default)]
    pub future: Option<Span>,
}

/// An equality that must hold besides the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// A template.
    pub left: String,
    /// Another.
    pub right: String,
}

sections! {
    /// Where an event's id and type are (`event:`).
    #[serde(deny_unknown_fields)]
    pub struct EventFields {
        /// The id, as a template: `{json:id}`, `{header:X-Delivery}`, `{body|sha256_hex}`. The first of a list that is there counts.
        pub id: Option<OneOrMany<String>>,
        /// The type. A template may join several values: `{header:X-GitHub-Event}.{json:action}`.
        #[serde(rename = "type")]
        pub kind: Option<OneOrMany<String>>,
        /// The provider's account, shop or workspace, where one source serves several.
        pub account: Option<OneOrMany<String>>,
        /// The JSON type that ids have. Default: `string`; anything else is refused.
        pub id_json: Option<IdJson>,
        /// Path of the items, where the body is a batch: `events[*]`, `[*]`. They are listed on the record, never split.
        pub items: Option<String>,
        /// At this provider one body never serves two types, so the same signed bytes under another type are a replay.
        pub one_type_per_body: bool,
    }
}

impl EventFields {
    /// These fields, and those of `base` where they say nothing.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let (own, base) = (self.clone(), base.clone());
        Self {
            id: own.id.or(base.id),
            kind: own.kind.or(base.kind),
            account: own.account.or(base.account),
            id_json: own.id_json.or(base.id_json),
            items: own.items.or(base.items),
            one_type_per_body: own.one_type_per_body || base.one_type_per_body,
        }
    }
}

choices! {
    /// The JSON type of an id.
    pub enum IdJson {
        /// A string.
        String,
        /// An integer.
        Integer,
    }
}
