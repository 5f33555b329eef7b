//! The source language as YAML shapes: what a preset file holds, and what a user may write under a source.
//!
//! Shapes say only what was typed. [`super::compile()`] turns them into what the stages run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// How requests of a source are verified (`verify:`): one scheme, or several tried by what is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// What form the configured secret has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Where the signature is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The exact bytes that are signed, as a template: `{t}.{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// The algorithm. Default: `hmac-sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The signed time and how far from ours it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampRule>,
    /// Equalities that must hold besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// Alternatives: the first whose `when` holds is the one that counts; a failed one never falls through to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<Alternative>,
}

/// One of several schemes. What it leaves out is taken from the block around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// When this one counts; always, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What form the configured secret has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Where the signature is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The exact bytes that are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// The algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The signed time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampRule>,
    /// Equalities that must hold besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
}

/// What must be present for an alternative to count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// A header that is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// How configured text becomes key bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Encoding of the text. Default: `utf8` (the text's own bytes).
    #[serde(default)]
    pub encoding: KeyEncoding,
    /// Prefixes that are removed first, in this order, where present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strip_prefix: Vec<String>,
}

/// Encoding of a secret's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// Standard base64, canonical.
    Base64,
    /// Hexadecimal.
    Hex,
}

/// A signature container (`providers/hmac.md` §3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The header that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Any other place, as a template: `{json:signature.signature}`, `{query:sig}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Literal that leads each element: `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Separator of elements: `,`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Separator of key and value inside an element: `=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// The key that holds a signature: `v1`. Values of other keys become template variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<String>,
    /// Encoding of the signature. Default: `hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<SignatureEncoding>,
    /// Whether the provider sends the header on several lines. Default: no; a repeated header is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Spaces around elements are removed (`t=1, v1=…`). Default: no; they are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trim: bool,
}

/// Encoding of a signature; canonical forms only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal.
    #[default]
    #[serde(rename = "hex")]
    Hex,
    /// Hexadecimal in either case.
    #[serde(rename = "hex-any")]
    HexAny,
    /// Standard base64 with padding.
    #[serde(rename = "base64")]
    Base64,
    /// URL-safe base64, padding optional.
    #[serde(rename = "base64url")]
    Base64Url,
}

/// How the signature is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mac {
    /// HMAC with SHA-1 (RFC 2104). Old schemes only.
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    /// The secret itself is sent: a plain token. Covers nothing.
    #[serde(rename = "token")]
    Token,
    /// HTTP Basic (RFC 7617); the secret is `user:password`. Covers nothing.
    #[serde(rename = "basic")]
    Basic,
}

/// The signed time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimestampRule {
    /// Where it is: `{t}`, `{header:X-Request-Timestamp}`, `{json:webhookTimestamp}`.
    pub from: String,
    /// Its form. Default: `s`.
    #[serde(default)]
    pub unit: TimestampUnit,
    /// How old it may be, such as `5m`.
    #[schemars(extend("format" = "duration"))]
    pub past: String,
    /// How far ahead it may be. Default: as `past`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration"))]
    pub future: Option<String>,
}

/// The form of a signed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimestampUnit {
    /// Seconds since the epoch.
    #[default]
    S,
    /// Milliseconds since the epoch.
    Ms,
    /// RFC 3339.
    Rfc3339,
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

/// Where an event's id and type are (`event:`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFields {
    /// The id, as a template: `{json:id}`, `{header:X-Delivery}`, `{body|sha256_hex}`. The first of a list that is there counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OneOrMany<String>>,
    /// The type. A template may join several values: `{header:X-GitHub-Event}.{json:action}`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<OneOrMany<String>>,
    /// The provider's account, shop or workspace, where one source serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<OneOrMany<String>>,
    /// The JSON type that ids have. Default: `string`; anything else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_json: Option<IdJson>,
    /// Path of the items, where the body is a batch: `events[*]`, `[*]`. They are listed on the record, never split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// At this provider one body never serves two types, so the same signed bytes under another type are a replay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_type_per_body: bool,
}

/// The JSON type of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdJson {
    /// A string.
    #[default]
    String,
    /// An integer.
    Integer,
}

/// A provider's challenge and the exact reply (`providers/hmac.md` §3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandshakeRule {
    /// What a challenge looks like.
    pub when: ChallengeShape,
    /// Whether its signature is checked first.
    pub verify: bool,
    /// What to answer.
    pub reply: ReplyShape,
}

/// What a challenge looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeShape {
    /// JSON values that must be equal: `{ type: url_verification }`.
    #[serde(default)]
    pub json: std::collections::BTreeMap<String, String>,
}

/// The reply to a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyShape {
    /// Status. Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Content type. Default: `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body as a template: `{json:challenge}`. Values put in are at most 256 characters of `A-Za-z0-9._~-`.
    pub body: String,
}

/// A provider's habits in delivering (`delivery:`): what `check` warns by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How long the provider waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration"))]
    pub deadline: Option<String>,
    /// Whether it retries by itself.
    #[serde(default)]
    pub retries: bool,
    /// For how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "duration"))]
    pub horizon: Option<String>,
    /// In words: the schedule, what is retried, when it gives an endpoint up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// What people get wrong with a provider's secret, and where to find it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretHints {
    /// Prefix that a real one has, such as `whsec_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Prefixes of what is not a signing secret, and what it is: `{ sk_live_: an API key }`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub mistaken: std::collections::BTreeMap<String, String>,
    /// Where to find it: `Workbench > Webhooks > your endpoint > Signing secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_at: Option<String>,
}

/// One preset file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name under `provider:`.
    pub name: String,
    /// For people: `Stripe`.
    pub title: String,
    /// Where the facts are from.
    pub docs: Vec<String>,
    /// What is known about its secrets.
    #[serde(default)]
    pub secret: SecretHints,
    /// How its requests are verified.
    pub verify: Verify,
    /// Where id and type are.
    pub event: EventFields,
    /// Its challenges.
    #[serde(default)]
    pub handshake: Vec<HandshakeRule>,
    /// How long a body may be, where it sends more than the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "size"))]
    pub max_body: Option<String>,
    /// How it delivers.
    pub delivery: Profile,
    /// Types that it is known to send; others are fine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_types: Vec<String>,
}
