//! The sections about what is kept, dedup and audit, and how secrets are named.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use smart_default::SmartDefault;

use crate::{
    audit::{ClientIp, Rejected},
    dedup::{OnStoreError, SameIdOtherBody},
    units::{Size, Span},
};

/// How repeated events are recognised.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Dedup {
    /// `embedded` (a file, one gateway), `redis` (shared between gateways), or `memory` (forgotten at exit).
    pub store: Store,
    /// For every source that does not say otherwise.
    #[serde(flatten)]
    pub policy: DedupPolicy,
    /// The shared store.
    pub redis: Redis,
}

/// How a source's repeated events are recognised.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct DedupPolicy {
    /// How long a completed event is remembered; longer than the provider retries.
    #[default(Span::days(7))]
    pub window: Span,
    /// How long an unfinished one blocks its twins; renewed while work goes on.
    #[default(Span::secs(60))]
    pub claim: Span,
    /// How long a twin waits for the first one's answer.
    #[default(Span::secs(2))]
    pub join_timeout: Span,
    /// When the store is away: `reject` (503, the provider retries) or `forward` (a duplicate may pass).
    #[default(OnStoreError::Reject)]
    pub on_store_error: OnStoreError,
    /// After an unknown outcome the event is held so long, or `release`d at once. Default: the route's timeout.
    pub on_unknown: Option<OnUnknown>,
    /// A known id with another body: `flag` (a duplicate, and said) or `deliver` (an event of its own).
    #[default(SameIdOtherBody::Flag)]
    pub same_id_other_body: SameIdOtherBody,
    /// Signed bytes that come again under a new unsigned id: `suppress`, or `off`.
    #[default(ReplayGuard::Suppress)]
    pub replay_guard: ReplayGuard,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    #[default]
    Embedded,
    Redis,
    Memory,
}

/// After an unknown outcome: `release`, or how long to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OnUnknown {
    Word(Release),
    Hold(Span),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Release {
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReplayGuard {
    Suppress,
    Off,
}

/// How Redis is reached.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Redis {
    /// `redis://`, `rediss://` (TLS), `redis+sentinel://host,host/master`, `redis+cluster://host,host`.
    #[default("redis://127.0.0.1:6379/0".into())]
    pub url: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<SecretForm>,
    /// Put before every key.
    #[default("gatepost:".into())]
    pub prefix: String,
    /// How long one operation may take, reconnecting included.
    #[default(Span::millis(250))]
    pub timeout: Span,
    /// Not ready on a Redis that may evict our keys.
    #[default(true)]
    pub require_noeviction: bool,
    /// PEM of the CA that signed Redis's certificate; the system's roots where absent.
    pub ca: Option<String>,
}

/// The record.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Audit {
    /// Directory of the segments. Default: `audit` in the storage directory.
    pub dir: Option<String>,
    /// How long closed segments are kept.
    #[default(Span::days(400))]
    pub retention: Span,
    /// Request headers that go on the record.
    #[default(RECORDED_HEADERS.map(str::to_owned).to_vec())]
    pub headers: Vec<String>,
    /// What is kept of the sender's address: all, its network (/24, /48), nothing.
    #[default(ClientIp::Keep)]
    pub client_ip: ClientIp,
    /// What is kept of rejected requests: at most five a second and source, or nothing. All are counted.
    #[default(Rejected::Sampled)]
    pub rejected: Rejected,
    /// When a segment is closed.
    pub rotate: Rotate,
    /// Compression of closed segments.
    #[default(Compress::Zstd)]
    pub compress: Compress,
    /// A signed statement of length and head, which shows a cut tail.
    pub checkpoint: Checkpoint,
}

const RECORDED_HEADERS: [&str; 5] =
    ["content-type", "user-agent", "webhook-id", "x-github-event", "x-github-delivery"];

/// When a segment is closed.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rotate {
    /// At this size.
    #[default(Size::mib(256))]
    pub size: Size,
    /// At this age.
    #[default(Span::days(1))]
    pub every: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compress {
    Zstd,
    None,
}

/// Signed statements of length and head.
#[derive(Clone, Debug, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Checkpoint {
    /// How often, while records arrive.
    #[default(Span::secs(60))]
    pub every: Span,
    /// The Ed25519 key (PKCS#8 PEM). Default: `audit-signing.key` in the storage directory, made on first start.
    pub key: Option<KeyFile>,
    /// Where each is copied to, off this log: `stdout`, `{ file: PATH }`.
    pub copy_to: Vec<CopyTo>,
}

/// A file that holds a key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyFile {
    /// Its path.
    #[schemars(required)]
    pub file: Option<String>,
}

/// A place for copies of checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CopyTo {
    Word(Stdout),
    File(KeyFile),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stdout {
    Stdout,
}

/// Where a secret is: `${NAME}`, or a mapping with one of `env`, `file`, `credential`. Text written here works, warns, and
/// is refused where others may read the file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SecretForm {
    Text(SecretText),
    Place(SecretPlace),
}

/// Where a secret is, and until when it counts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SecretPlace {
    /// In this environment variable.
    pub env: Option<String>,
    /// In this file; one newline at its end is dropped.
    pub file: Option<String>,
    /// In this systemd credential (`LoadCredential=`).
    pub credential: Option<String>,
    /// Not accepted any more from this date or time on (RFC 3339).
    pub expires: Option<String>,
}

/// Text that may hold a secret, such as a header that authorizes: completed, but never printed.
#[derive(Clone, Deserialize, JsonSchema)]
#[schemars(inline, extend("format" = "hidden"))]
pub(crate) struct Hidden(pub String);

/// Text that may be a secret: neither completed nor printed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, extend("format" = "secret"))]
pub(crate) struct SecretText(pub Hidden);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}
