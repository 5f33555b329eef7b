//! The three lists people can picture: sources, routes, upstreams.

use std::{collections::BTreeMap, num::NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::{DedupPolicy, Hidden, SecretForm, count};
use crate::{
    deliver::{Balance, HttpVersion, UpstreamTls},
    providers::shape::{EventFields, OneOrMany, Verify},
    units::{Size, Span},
};

/// Who may call us, and how we believe them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Source {
    /// A preset such as `stripe` (`gatepost providers list`), or `custom` with `verify` and `event` below.
    #[schemars(required)]
    pub provider: Option<String>,
    /// The path it answers at. Default: `/` and the source's name.
    pub path: Option<String>,
    /// The signing secret, or a list: any of them may match, which is how secrets are rotated.
    #[schemars(required)]
    pub secret: Option<OneOrMany<SecretForm>>,
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
    /// The URL that its provider has on file, where it differs from `server.public_url` and `path`.
    pub public_url: Option<String>,
}

/// Values for every source that does not say otherwise.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct SourceDefaults {
    /// False is shadow mode: check, record, forward anyway, flagged.
    #[default(true)]
    pub enforce: bool,
    /// What happens to events that no route takes: `accept` (200, recorded as ignored) or `reject` (404).
    #[default(Unrouted::Accept)]
    pub unrouted: Unrouted,
    /// How long a body may be. Presets raise it where the provider sends more.
    #[default(Size::mib(1))]
    pub max_body: Size,
    /// Whether the provider's challenges are answered: `auto` (as the preset says) or `none` (the app does it).
    #[default(Handshake::Auto)]
    pub handshake: Handshake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unrouted {
    Accept,
    Reject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ContentEncoding {
    #[default]
    Reject,
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Handshake {
    Auto,
    None,
}

/// Which events go where.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Route {
    /// Its name in records and metrics. Default: `route-` and its number.
    pub name: Option<String>,
    /// Whose events.
    #[schemars(required)]
    pub source: Option<String>,
    /// Which types: `*` matches any run of characters, dots included; `!` in front excludes.
    #[default(OneOrMany::One("*".into()))]
    pub events: OneOrMany<String>,
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
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RouteDefaults {
    /// `proxy`: forwarded once, the upstream's answer goes back to the sender.
    #[default(Mode::Proxy)]
    pub mode: Mode,
    /// How long the upstream may take, in all.
    #[default(Span::secs(10))]
    pub timeout: Span,
    /// What of a 2xx goes back: `status-only`, or `full` with a bounded body and its content type.
    #[default(Reply::StatusOnly)]
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    StatusOnly,
    Full,
}

/// A value of the body that must be equal.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RouteWhen")]
pub(crate) struct When {
    /// Where it is: `data.object.metadata.tier`.
    #[schemars(required)]
    pub json: Option<String>,
    /// What it must be.
    #[schemars(required)]
    pub equals: Option<Scalar>,
}

/// A text, a whole number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// An app: its URL, or a mapping with `url` and more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum UpstreamForm {
    Url(String),
    Full(Box<Upstream>),
}

/// An app.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upstream {
    /// Where it answers.
    pub url: Option<String>,
    /// Where it answers, if at several places. Either `url` or `urls`.
    pub urls: Vec<String>,
    /// How one of several is chosen.
    #[default(Balance::RoundRobin)]
    pub balance: Balance,
    /// How long connecting, TLS included, may take.
    #[default(Span::secs(2))]
    pub connect_timeout: Span,
    /// Attempts in flight at once; more wait within the route's timeout.
    #[default(count(256))]
    pub concurrency: NonZeroUsize,
    /// Idle connections are closed after this; keep it below the app's own keep-alive (Node: 5s).
    #[default(Span::secs(4))]
    pub idle_timeout: Span,
    /// `auto` (HTTP/2 where TLS negotiates it), `"1.1"` or `"2"`.
    #[default(HttpVersion::Auto)]
    pub http: HttpVersion,
    /// Changes to the request's headers.
    pub headers: Headers,
    /// TLS towards the app.
    pub tls: UpstreamTls,
    /// Networks that the URL's name may lead to. Default: anywhere but to a cloud's metadata service.
    pub networks: Vec<String>,
}

/// Changes to the request's headers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Headers {
    /// Taken out, by name.
    pub remove: Vec<String>,
    /// Set, by name.
    pub set: BTreeMap<String, Hidden>,
}
