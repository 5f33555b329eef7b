//! The source language as YAML shapes: what a preset file holds, and what a user may write under a source.
//!
//! Shapes say only what was typed. [`super::compile()`] turns them into what the stages run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::challenge::HandshakeRule;
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
    #[schemars(extend("examples" = [{ "signature": { "header": "X-Signature" }, "signed": "{body}" }]))]
    pub struct Verify {
        /// The scheme, or what several have in common.
        #[serde(flatten)]
        pub scheme: Scheme,
        /// Alternatives: the first whose `when` holds is the one that counts; a failed one never falls through to another.
        pub schemes: Vec<Alternative>,
    }

    /// One of several schemes. What it leaves out is taken from the block around it.
    #[schemars(extend("examples" = [{ "when": { "header": "X-Signature" }, "signature": { "header": "X-Signature" } }]))]
    pub struct Alternative {
        /// What `pin` calls it.
        pub name: Option<String>,
        /// When this one counts; always, where absent.
        pub when: Option<When>,
        /// Another alternative, by name, that must hold as well.
        pub besides: Option<String>,
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
        /// What a JSON Web Token must be and say (`mac: jwt`, `mac: jws-detached`).
        pub jwt: Option<Jwt>,
        /// What message signatures must be and cover (`mac: rfc9421`).
        pub rfc9421: Option<Rfc9421>,
        /// A digest of what is signed that is signed in its stead (and digested once more by the algorithm).
        pub prehash: Option<BodyDigest>,
        /// Where the sender's public keys are, if not under `secret`.
        pub keys: Option<KeysAt>,
    }

    /// What a JSON Web Token must be and say. `exp` and `nbf` count wherever they are.
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "algs": ["ES256"] }]))]
    pub struct Jwt {
        /// Algorithms that it may be signed with: `[ES256]`. The token itself has no say in it.
        pub algs: Vec<String>,
        /// What its header must call it: `secevent+jwt`.
        pub typ: Option<String>,
        /// Claims that must equal a template, or one of several: `{ iss: me, aud: "{url}" }`; `a|b` is the first of both that is there.
        pub equal: BTreeMap<String, OneOrMany<String>>,
        /// Claims that must be there.
        pub present: Vec<String>,
        /// A claim that is a time, and how old it may be: `{ claim: iat, past: 5m }`.
        pub max_age: Option<MaxAge>,
        /// How far the sender's clock may be off. Default: `1m`.
        pub skew: Option<Span>,
        /// A claim that is a digest of the body: `{ claim: request_body_sha256, encoding: hex }`.
        pub body_hash: Option<BodyHash>,
        /// A claim that is Atlassian's hash of method, path and query: `qsh`.
        pub path_hash: Option<String>,
        /// The path of the URL that the hashed paths are relative to, where it has one: `/connect`.
        pub path_base: Option<String>,
    }

    /// What HTTP Message Signatures must be and cover.
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "algs": ["ed25519"] }]))]
    pub struct Rfc9421 {
        /// Algorithms, by their registered names: `[ed25519, ecdsa-p256-sha256]`. The message itself has no say in it.
        pub algs: Vec<String>,
        /// Components that must be covered. Default: `@method`, `@authority`, `@path`, `content-digest`.
        pub require: Option<Vec<String>>,
        /// What the signature must be for (`tag`).
        pub tag: Option<String>,
        /// How old it may be: `5m`. It then must say when it was made.
        pub max_age: Option<Span>,
        /// How far the sender's clock may be off. Default: `1m`.
        pub skew: Option<Span>,
    }

    /// Where the sender's public keys are. One of `jwks_url`, `list_url`, `cert_url` and `x5c`, or none of them, where the keys
    /// under `secret` have names.
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "jwks_url": "https://idp.example/jwks.json" }]))]
    pub struct KeysAt {
        /// URL of a JWKS.
        pub jwks_url: Option<String>,
        /// URL of a list of keys: with `items`, `id` and `key`.
        pub list_url: Option<String>,
        /// Where the list's items are: `public_keys[*]`.
        pub items: Option<String>,
        /// Where an item has its name: `key_identifier`.
        pub id: Option<String>,
        /// Where an item has its key: `key`.
        pub key: Option<String>,
        /// A template of a URL that the message names: `{header:PAYPAL-CERT-URL}`. Goes with `hosts` and `path`. A list has one for
        /// each place of `signature`.
        pub cert_url: Option<OneOrMany<String>>,
        /// Hosts that `cert_url` may name; `*` stands for one label: `sns.*.amazonaws.com`.
        pub hosts: Vec<String>,
        /// The path that it may name; `*` stands for anything but a slash: `/*.pem`.
        pub path: Option<String>,
        /// The name that the certificate must be for; it must then lead to a root that is trusted.
        pub dns_name: Option<String>,
        /// The token brings its certificates along; the root under `secret` decides.
        pub x5c: Option<X5c>,
        /// What names the key, as a template: `{header:X-Key-Id}`. A token names it itself.
        pub key_id: Option<String>,
        /// Where the key stands in what is fetched from `cert_url`, if that is a JSON document: `data.publicKey`.
        pub fetched_key: Option<String>,
        /// The header in which whoever asks for keys shows the source's `keys_secret`: `{ header: Authorization, prefix: "Bearer " }`.
        pub credential: Option<Credential>,
    }

    /// How a credential is shown.
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "header": "Authorization", "prefix": "Bearer " }]))]
    pub struct Credential {
        /// The header.
        pub header: String,
        /// What leads it there: `Bearer `.
        pub prefix: String,
    }

    /// Certificates in a token's header.
    #[serde(deny_unknown_fields)]
    pub struct X5c {
        /// An extension that the leaf must have.
        pub leaf_oid: Option<String>,
        /// An extension that each certificate between leaf and root must have.
        pub intermediate_oid: Option<String>,
    }

    /// What must hold for an alternative to count. All of it, where several things are said.
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "header": "X-Signature" }]))]
    pub struct When {
        /// A header that is present.
        pub header: Option<String>,
        /// Headers and what they say: `{ X-Signature-Version: v2 }`.
        pub header_equals: BTreeMap<String, String>,
        /// Headers and what they begin with: `{ X-Hub-Signature: "sha512=" }`.
        pub header_prefix: BTreeMap<String, String>,
        /// A parameter that is in the query.
        pub query: Option<String>,
        /// The content type, without its parameters: `application/json`.
        pub content_type: Option<String>,
        /// Values of the JSON body: `{ type: batch }`.
        pub json: BTreeMap<String, String>,
        /// A path of the JSON body where something stands: `items[0]`.
        pub json_present: Option<String>,
    }

    /// A signature container (`providers/hmac.md` §3.2).
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "header": "X-Signature" }]))]
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
        /// How ECDSA writes its two numbers: `der` (default) or `raw`, side by side.
        pub form: Option<SignatureForm>,
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
#[schemars(extend("examples" = [{ "from": "{header:X-Timestamp}", "past": "5m" }]))]
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

/// A claim that is a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "claim": "iat", "past": "5m" }]))]
pub struct MaxAge {
    /// Which: `iat`.
    pub claim: String,
    /// How old it may be, such as `5m`.
    pub past: Span,
}

/// A claim that is a digest of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "claim": "request_body_sha256" }]))]
pub struct BodyHash {
    /// Which: `request_body_sha256`.
    pub claim: String,
    /// `sha256` (default) or `sha512`.
    #[serde(default)]
    pub hash: BodyDigest,
    /// `hex` (default) or `base64`.
    #[serde(default)]
    pub encoding: DigestText,
    /// Whether a request without a body comes without the claim.
    #[serde(default)]
    pub or_no_body: bool,
}

/// An equality that must hold besides the signature, or before a challenge is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "left": "{query:token}", "right": "{param:token}" }]))]
pub struct Requirement {
    /// A template.
    pub left: String,
    /// Another.
    pub right: Option<String>,
    /// Instead of `right`: a list, separated by spaces, of which one must be equal.
    pub one_of: Option<String>,
}

impl Requirement {
    /// The other side, under its key; an error with its help, where there is not exactly one.
    pub(super) fn other(&self) -> Result<(&'static str, &str), [&'static str; 2]> {
        match (&self.right, &self.one_of) {
            (Some(right), None) => Ok(("right", right)),
            (None, Some(list)) => Ok((ONE_OF, list)),
            _ => Err([
                "needs `right` or `one_of`",
                "write it like `{ left: \"{query:token}\", right: \"{param:token}\" }`",
            ]),
        }
    }
}

/// The key of a list of which one must be equal.
pub(super) const ONE_OF: &str = "one_of";

sections! {
    /// Where an event's id and type are (`event:`).
    #[serde(deny_unknown_fields)]
    #[schemars(extend("examples" = [{ "id": "{json:id}", "type": "{json:type}" }]))]
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
        /// Each text is signed for one event only, so that the same signature around anything else is a replay.
        pub signed_once: bool,
    }
}

impl KeysAt {
    /// Whether they are anywhere but in the configuration.
    pub(super) fn are_fetched(&self) -> bool {
        self.jwks_url.is_some() || self.list_url.is_some() || self.cert_url.is_some()
    }
}

choices! {
    /// How ECDSA writes its two numbers.
    pub enum SignatureForm {
        /// ASN.1.
        Der,
        /// Side by side, each as wide as the curve.
        Raw,
    }

    /// A digest of the body.
    pub enum BodyDigest {
        /// SHA-256.
        Sha256,
        /// SHA-512.
        Sha512,
    }

    /// How a digest is written.
    pub enum DigestText {
        /// Lower-case hexadecimal.
        Hex,
        /// Standard base64.
        Base64,
    }

    /// The JSON type of an id.
    pub enum IdJson {
        /// A string.
        String,
        /// An integer.
        Integer,
    }
}
