//! The sections about what is kept, dedup and audit, and how secrets are named.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    audit::{ClientIp, Rejected},
    dedup::OnStoreError,
    units::{Size, Span, choices, sections},
};

sections! {
    /// How repeated events are recognised.
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
    pub(crate) struct DedupPolicy {
        /// How long a completed event is remembered; longer than the provider retries.
        pub window: Span = Span::days(7),
        /// How long an unfinished one blocks its twins; renewed while work goes on.
        pub claim: Span = Span::secs(60),
        /// How long a twin waits for the first one's answer.
        pub join_timeout: Span = Span::secs(2),
        /// When the store is away: `reject` (503, the provider retries) or `forward` (a duplicate may pass).
        pub on_store_error: OnStoreError,
        /// After an unknown outcome the event is held so long, or `release`d at once. Default: the route's timeout.
        pub on_unknown: Option<OnUnknown>,
        /// A known id with another body: `flag` (a duplicate, and said) or `deliver` (an event of its own; so is a retry of other bytes).
        pub same_id_other_body: SameIdOtherBody,
        /// What was signed and comes again under a new unsigned id, or in other bytes: `suppress`, or `off`.
        pub replay_guard: ReplayGuard,
    }

    /// How Redis is reached.
    pub(crate) struct Redis {
        /// `redis://`, `rediss://` (TLS), `redis+sentinel://host,host/master`, `redis+cluster://host,host`.
        pub url: String = "redis://127.0.0.1:6379/0".into(),
        /// User name.
        pub username: Option<String>,
        /// Password.
        pub password: Option<SecretForm>,
        /// Put before every key.
        pub prefix: String = "gatepost:".into(),
        /// How long one operation may take, reconnecting included.
        pub timeout: Span = Span::millis(250),
        /// Not ready on a Redis that may evict our keys.
        pub require_noeviction: bool = true,
        /// PEM of the CA that signed Redis's certificate; the system's roots where absent.
        pub ca: Option<String>,
    }

    /// The record.
    pub(crate) struct Audit {
        /// Directory of the segments. Default: `audit` in the storage directory.
        pub dir: Option<String>,
        /// How long closed segments are kept.
        pub retention: Span = Span::days(400),
        /// Request headers that go on the record.
        pub headers: Vec<String> = RECORDED_HEADERS.map(str::to_owned).to_vec(),
        /// What is kept of the sender's address: all, its network (/24, /48), nothing.
        pub client_ip: ClientIp,
        /// What is kept of rejected requests: at most five a second and source, or nothing. All are counted.
        pub rejected: Rejected,
        /// When a segment is closed.
        pub rotate: Rotate,
        /// Compression of closed segments.
        pub compress: Compress,
        /// A signed statement of length and head, which shows a cut tail.
        pub checkpoint: Checkpoint,
    }

    /// When a segment is closed.
    pub(crate) struct Rotate {
        /// At this size.
        pub size: Size = Size::mib(256),
        /// At this age.
        pub every: Span = Span::days(1),
    }

    /// Signed statements of length and head.
    pub(crate) struct Checkpoint {
        /// How often, while records arrive.
        pub every: Span = Span::secs(60),
        /// The Ed25519 key (PKCS#8 PEM). Default: `audit-signing.key` in the storage directory, made on first start.
        pub key: Option<KeyFile>,
        /// Where each is copied to, off this log: `stdout`, `{ file: PATH }`.
        pub copy_to: Vec<CopyTo>,
    }

    /// A file that holds a key.
    pub(crate) struct KeyFile {
        /// Its path.
        #[schemars(required)]
        pub file: Option<String>,
    }

    /// Where a secret is, and until when it counts.
    pub(crate) struct SecretPlace {
        /// In this environment variable.
        pub env: Option<String>,
        /// In this file; one newline at its end is dropped.
        pub file: Option<String>,
        /// In this systemd credential (`LoadCredential=`).
        pub credential: Option<String>,
        /// Sent by the provider, and taken while `gatepost providers capture SOURCE` waits for it; only at a source.
        pub captured: bool,
        /// Not accepted any more from this date or time on (RFC 3339).
        pub expires: Option<String>,
        /// What its provider calls it, where requests name the secret that they are signed with.
        pub id: Option<String>,
    }
}

const RECORDED_HEADERS: [&str; 5] =
    ["content-type", "user-agent", "webhook-id", "x-github-event", "x-github-delivery"];

choices! {
    pub(crate) enum Store { Embedded, Redis, Memory }
    pub(crate) enum SameIdOtherBody { Flag, Deliver }
    pub(crate) enum ReplayGuard { Suppress, Off }
    pub(crate) enum Compress { Zstd, None }
    pub(crate) enum Release { Release }
    pub(crate) enum Stdout { Stdout }
}

/// After an unknown outcome: `release`, or how long to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OnUnknown {
    Word(Release),
    Hold(Span),
}

/// A place for copies of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CopyTo {
    Word(Stdout),
    File(KeyFile),
}

/// Where a secret is: `${NAME}`, or a mapping with one of `env`, `file`, `credential`. Text written here works, warns, and
/// is refused where others may read the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SecretForm {
    Text(SecretText),
    Place(SecretPlace),
}

/// Text that may hold a secret, such as a header that authorizes: completed, but never printed.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline, extend("format" = "hidden"))]
pub(crate) struct Hidden(pub String);

/// Text that may be a secret: neither completed nor printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
