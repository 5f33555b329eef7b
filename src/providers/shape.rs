//! The source language as YAML shapes: what a preset file holds, and what a user may write under a source.
//!
//! Shapes say only what was typed. [`super::compile()`] turns them into what the stages run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::challenges::HandshakeRule;
use crate::{
    units::{Span, choices, sections},
    verify::{Algorithm, Encoding, KeyForm, Unit},
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
        /// When this one counts; always, where absent.
        pub when: Option<When>,
        /// What it has of its own.
        #[serde(flatten)]
        pub scheme: Scheme,
    }

    /// One scheme.
    pub struct Scheme {
        /// What form the configured secret has.
        pub key: Option<KeyForm>,
        /// Where the signature is.
        pub signature: Option<Signature>,
        /// The exact bytes that are signed, as a template: `{t}.{body}`.
        pub signed: Option<String>,
        /// The algorithm. Default: `hmac-sha256`.
        pub mac: Option<Algorithm>,
        /// The signed time and how far from ours it may be.
        pub timestamp: Option<TimestampRule>,
        /// Equalities that must hold besides.
        pub require: Vec<Requirement>,
    }

    /// What must be present for an alternative to count.
    #[serde(deny_unknown_fields)]
    pub struct When {
        /// A header that is present.
        pub header: Option<String>,
    }

    /// A signature container (`providers/hmac.md` §3.2).
    #[serde(deny_unknown_fields)]
    pub struct Signature {
        /// The header that carries it.
        pub header: Option<String>,
        /// Any other place, as a template: `{json:signature.signature}`, `{query:sig}`.
        pub from: Option<String>,
        /// Literal that leads each element: `sha256=`.
        pub prefix: Option<String>,
        /// Separator of elements: `,`.
        pub split: Option<String>,
        /// Separator of key and value inside an element: `=`.
        pub pair: Option<String>,
        /// The key that holds a signature: `v1`. Values of other keys become template variables.
        pub pick: Option<String>,
        /// Encoding of the signature. Default: `hex`.
        pub encoding: Option<Encoding>,
        /// Whether the provider sends the header on several lines. Default: no; a repeated header is refused.
        pub repeated: bool,
        /// Spaces around elements are removed (`t=1, v1=…`). Default: no; they are refused.
        pub trim: bool,
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

choices! {
    /// The JSON type of an id.
    pub enum IdJson {
        /// A string.
        String,
        /// An integer.
        Integer,
    }
}
