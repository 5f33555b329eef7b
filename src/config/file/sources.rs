//! The three lists people can picture: sources, routes, upstreams.

use std::{collections::BTreeMap, num::NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DedupPolicy, Hidden, SecretForm, count};
use crate::{
    deliver::{Balance, HttpVersion, UpstreamTls},
    providers::{
        AnswerShape,
        shape::{EventFields, HandshakeRule, OneOrMany, Verify},
    },
    units::{Size, Span, choices, sections},
};

sections! {
    /// Who may call us, and how we believe them.
    pub(crate) struct Source {
        /// A preset such as `stripe` (`gatepost providers list`), or `custom` with `verify` and `event` below.
        #[schemars(required)]
        pub provider: Option<String>,
        /// The path it answers at. Default: `/` and the source's name.
        pub path: Option<String>,
        /// The signing secret, or a list: any of them may match, which is how secrets are rotated. Where the sender signs with a
        /// key of its own: its public key; nothing, where that is fetched.
        pub secret: Option<OneOrMany<SecretForm>>,
        /// What is shown to whoever has the sender's public keys, where they are fetched and not for everybody: an API key.
        pub keys_secret: Option<SecretForm>,
        /// What its preset wants to know besides a secret (`gatepost providers show`): `{ verify_token: "${META_VERIFY_TOKEN}" }`.
        pub params: BTreeMap<String, Hidden>,
        /// How far the signed time may be from ours. Default: what the preset says.
        pub tolerance: Option<Span>,
        /// What `defaults.source` may say as well.
        #[serde(flatten)]
        pub shared: SourceDefaults,
        /// Networks that may send; anybody, where empty. Checked before the body is read.
        pub allow_ips: Vec<String>,
        /// Bodies with a `Content-Encoding`: `reject` (415), or `allow` (passed on as they are; never inflated).
        pub content_encoding: ContentEncoding,
        /// How its repeated events are recognised; what is left out is as under `dedup`.
        pub dedup: DedupPolicy,
        /// How its requests are verified. Replaces all of the preset's `verify`.
        pub verify: Option<Verify>,
        /// Where an event's id and type are. Replaces key by key what the preset says.
        pub event: Option<EventFields>,
        /// The one of the preset's schemes that counts, by its name; no other is accepted then.
        pub pin: Option<String>,
        /// What its provider wants to hear when an event was taken. Default: what the preset says.
        pub ack: Option<AnswerShape>,
        /// What it wants to hear when a request was not verified.
        pub invalid: Option<AnswerShape>,
        /// What stops it from repeating an event that nobody wants.
        pub drop_forever: Option<AnswerShape>,
        /// The URL that its provider has on file, where it differs from `server.public_url` and `path`.
        pub public_url: Option<String>,
    }

    /// Values for every source that does not say otherwise.
    pub(crate) struct SourceDefaults {
        /// False is shadow mode: check, record, forward anyway, flagged.
        pub enforce: bool = true,
        /// What happens to events that no route takes: `accept` (200, recorded as ignored) or `reject` (404).
        pub unrouted: Unrouted,
        /// How long a body may be. Presets raise it where the provider sends more.
        pub max_body: Size = Size::mib(1),
        /// Whether the provider's challenges are answered: `auto` (as the preset says), `none`, or rules of its own.
        pub handshake: Handshake,
    }

    /// Which events go where.
    pub(crate) struct Route {
        /// Its name in records and metrics. Default: `route-` and its number.
        pub name: Option<String>,
        /// Whose events.
        #[schemars(required)]
        pub source: Option<String>,
        /// Which types: `*` matches any run of characters, dots included; `!` in front excludes.
        pub events: OneOrMany<String> = OneOrMany::One("*".into()),
        /// A value of the body that must be equal besides.
        pub when: Option<When>,
        /// The upstream that gets them and answers.
        pub to: Option<OneOrMany<String>>,
        /// Answered 200, recorded, not delivered.
        pub drop: bool,
        /// What `defaults.route` may say as well.
        #[serde(flatten)]
        pub shared: RouteDefaults,
    }

    /// Values for every route that does not say otherwise.
    pub(crate) struct RouteDefaults {
        /// `proxy`: forwarded once, the upstream's answer goes back to the sender.
        pub mode: Mode,
        /// How long the upstream may take, in all.
        pub timeout: Span = Span::secs(10),
        /// What of a 2xx goes back: `status-only`, or `full` with a bounded body and its content type.
        pub reply: Reply,
    }

    /// A value of the body that must be equal.
    #[schemars(rename = "RouteWhen")]
    pub(crate) struct When {
        /// Where it is: `data.object.metadata.tier`.
        #[schemars(required)]
        pub json: Option<String>,
        /// What it must be.
        #[schemars(required)]
        pub equals: Option<Scalar>,
    }

    /// An app.
    pub(crate) struct Upstream {
        /// Where it answers.
        pub url: Option<String>,
        /// Where it answers, if at several places. Either `url` or `urls`.
        pub urls: Vec<String>,
        /// How one of several is chosen.
        pub balance: Balance,
        /// How long connecting, TLS included, may take.
        pub connect_timeout: Span = Span::secs(2),
        /// Attempts in flight at once; more wait within the route's timeout.
        pub concurrency: NonZeroUsize = count(256),
        /// Idle connections are closed after this; keep it below the app's own keep-alive (Node: 5s).
        pub idle_timeout: Span = Span::secs(4),
        /// `auto` (HTTP/2 where TLS negotiates it), `"1.1"` or `"2"`.
        pub http: HttpVersion,
        /// Changes to the request's headers.
        pub headers: Headers,
        /// Events are signed for the app. Default: they keep the signature that they came with, and get no other.
        pub sign: Option<Sign>,
        /// TLS towards the app.
        pub tls: UpstreamTls,
        /// Networks that the URL's name may lead to. Default: anywhere but to a cloud's metadata service.
        pub networks: Vec<String>,
    }

    /// How events are signed for an app.
    #[schemars(rename = "UpstreamSign")]
    pub(crate) struct Sign {
        /// `standard-webhooks`: the app verifies one scheme, whatever its providers use; `native`: the provider's own scheme
        /// again, with a time of now and the app's own secret.
        pub scheme: SignScheme,
        /// The key, or a list. Standard Webhooks: `whsec_…` (HMAC-SHA256) or `whsk_…` (Ed25519), signed by each. Native: as the
        /// provider's secrets are, signed by the first that fits.
        #[schemars(required)]
        pub secret: Option<OneOrMany<SecretForm>>,
    }

    /// Changes to the request's headers.
    pub(crate) struct Headers {
        /// Taken out, by name.
        pub remove: Vec<String>,
        /// Set, by name.
        pub set: BTreeMap<String, Hidden>,
    }
}

choices! {
    pub(crate) enum Unrouted { Accept, Reject }
    pub(crate) enum ContentEncoding { Reject, Allow }
    pub(crate) enum HandshakeWord { Auto, None }
    pub(crate) enum Mode { Proxy }
    pub(crate) enum Reply { StatusOnly, Full }
    pub(crate) enum SignScheme { StandardWebhooks, Native }
}

/// A text, a whole number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// Whether challenges are answered: `auto` or `none`, or a list of how each is recognised and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Handshake {
    Word(HandshakeWord),
    Rules(Vec<HandshakeRule>),
}

impl Default for Handshake {
    fn default() -> Self {
        Self::Word(HandshakeWord::Auto)
    }
}

/// An app: its URL, or a mapping with `url` and more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum UpstreamForm {
    Url(String),
    Full(Box<Upstream>),
}
