//! A provider's challenge, as it is written under `handshake:`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::{OneOrMany, Requirement};
use crate::{
    handshake::{Echo, Function},
    units::sections,
};

sections! {
    /// A provider's challenge and the exact reply.
    #[serde(deny_unknown_fields)]
    pub struct HandshakeRule {
        /// What makes a request this challenge.
        pub(crate) when: ChallengeShape,
        /// Whether its signature is checked first, as that of an event is.
        pub(crate) verify: bool,
        /// Equalities that must hold besides, compared in constant time; a request that fails one is refused.
        pub(crate) check: Vec<Requirement>,
        /// What becomes the source's secret, while the operator waits for it: `{header:X-Hook-Secret}`.
        pub(crate) capture: Option<String>,
        /// What the operator is told in the log and on record: `{json:SubscribeURL}`.
        pub(crate) report: Option<String>,
        /// The URL that confirms a subscription, fetched where the source says `confirm: true`.
        pub(crate) confirm: Option<ConfirmShape>,
        /// What is answered.
        pub(crate) reply: ReplyShape,
    }

    /// A URL that is fetched, once. Anything else that a request may name is not.
    #[serde(deny_unknown_fields)]
    pub(crate) struct ConfirmShape {
        /// Where it is: `{json:SubscribeURL}`.
        pub(crate) url: String,
        /// Hosts that are asked; `*` stands for one label.
        pub(crate) hosts: Vec<String>,
        /// Its path, and its query if it has one: `/?Action=Confirm&Token=*`. `*` stands for what is in one part of them.
        pub(crate) path: String,
    }

    /// What makes a request a challenge: all of it must hold.
    #[serde(deny_unknown_fields)]
    pub(crate) struct ChallengeShape {
        /// Its method: `GET`, `HEAD`, `OPTIONS`, or the default, `POST`.
        pub(crate) method: Option<OneOrMany<MethodName>>,
        /// Headers that are present.
        pub(crate) header: Option<OneOrMany<String>>,
        /// Headers that are equal: `{ X-Event-Type: challenge }`.
        pub(crate) header_equals: BTreeMap<String, String>,
        /// Parameters of the query that are present.
        pub(crate) query: Option<OneOrMany<String>>,
        /// Parameters of the query that are equal.
        pub(crate) query_equals: BTreeMap<String, String>,
        /// Fields of a form that are present.
        pub(crate) form: Option<OneOrMany<String>>,
        /// JSON values that are equal: `{ type: url_verification }`.
        pub(crate) json: BTreeMap<String, String>,
        /// JSON paths where something stands.
        pub(crate) json_present: Option<OneOrMany<String>>,
        /// JSON paths where nothing stands: `events[0]` for an empty list.
        pub(crate) json_absent: Option<OneOrMany<String>>,
    }

    /// What is answered. What a stranger says is put in only as `echo` allows.
    #[serde(deny_unknown_fields)]
    pub(crate) struct ReplyShape {
        /// Default: 200.
        pub(crate) status: Option<u16>,
        /// Default: `text/plain; charset=utf-8` where there is a body.
        pub(crate) content_type: Option<String>,
        /// Headers, as templates; one whose value was not in the request is left out.
        pub(crate) headers: BTreeMap<String, String>,
        /// Values that are computed, by the name under which `body` and `headers` know them: `{ response: { hmac_hex: "{query:token}" } }`.
        pub(crate) compute: BTreeMap<String, BTreeMap<Function, String>>,
        /// A template: `{json:challenge}`. Default: empty.
        pub(crate) body: Option<String>,
        /// Characters and length of what is put in. Default: at most 256 of `A-Za-z0-9._~-`.
        pub(crate) echo: Echo,
    }
}

/// A method that a challenge may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum MethodName {
    Post,
    Get,
    Head,
    Options,
}
