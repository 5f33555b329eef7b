//! Signatures that providers published, or that their own libraries made or judged, get the same verdict here, and their
//! events the same names.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason,
    event::Timestamp,
    providers::{self, Compiled},
    verify::Presented,
};
use serde::Deserialize;

use crate::{
    flow::{COVERING, Flow},
    source::{compiled, custom, headers, verifier},
};

#[derive(Deserialize)]
pub(crate) struct Vector {
    #[serde(default)]
    pub(crate) provider: String,
    pub(crate) name: String,
    url: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    secrets: Vec<String>,
    now_unix: i64,
    pub(crate) valid: bool,
    pub(crate) reason_if_invalid: Option<String>,
    params: Option<Params>,
    pub(crate) event_id: Option<String>,
    pub(crate) event_type: Option<String>,
}

#[derive(Deserialize)]
struct Params {
    hash: String,
    encoding: String,
    advanced: bool,
    tolerance: u64,
}

/// A secret that is no secret must already be refused when the source is set up.
const REFUSED_AT_START: &str = "token_empty_config";

/// How a vector came out: not even a verifier, or a verdict.
pub(crate) fn verdict(vector: &Vector, compiled: Compiled) -> Option<Result<(), Reason>> {
    let secrets: Vec<&str> = vector.secrets.iter().map(String::as_str).collect();
    let verifier = verifier(compiled, &secrets).ok()?;
    let lines: Vec<_> = vector.headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
    let body = STANDARD.decode(&vector.body_base64).expect("base64");
    let headers = headers(&lines);
    let verdict = verifier.verify(&Presented {
        method: "POST",
        url: &vector.url,
        target: vector.url.trim_start_matches("https://gateway.example"),
        headers: &headers,
        body: &body,
        received_at: Timestamp::from_millis(vector.now_unix * 1000),
    });
    Some(verdict.map(drop))
}

/// Where a preset says something else than the vector, and why.
const OTHERWISE: [(&str, &str, &str, &str); 6] = [
    // One action may fire several topics under one event id.
    ("shopify", "valid_new_header_family", "ev-1:Product", "Product"),
    // A command has no event id; it is known by its trigger. Its type says that it is a command.
    ("slack", "valid", SLACK_TRIGGER, "command./webhook-collect"),
    ("slack", "age_300_edge", SLACK_TRIGGER, "command./webhook-collect"),
    // A challenge has no id; the digest of its body stands in.
    ("slack", "url_verification_ok", SLACK_CHALLENGE, "url_verification"),
    // The signed `type` and `action` instead of an unsigned header.
    ("linear", "valid", LINEAR_DELIVERY, "Comment.create"),
    ("linear", "age_60s_edge", LINEAR_DELIVERY, "Comment.create"),
];

const SLACK_TRIGGER: &str = "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
const SLACK_CHALLENGE: &str = "8127af867ad5e73766fa35d0e2e8faa0f98b08d402a173b1d5818bc974e75d7d";
const LINEAR_DELIVERY: &str = "234d1a4e-b617-4388-90fe-adc3633d6b72";

/// Id and type by a preset, behind a signature of our own. Without both there is no event.
pub(crate) fn names(provider: &str, vector: &Vector) -> Option<(String, String)> {
    let event = &providers::preset(provider).expect("a preset").event;
    let event = serde_yaml::to_string(&BTreeMap::from([("event", event)])).expect("YAML");
    // The name under which the signature of our own stands.
    let other = vector.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("X-Signature"));
    let lines: Vec<_> = other.map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let body = STANDARD.decode(&vector.body_base64).expect("base64");
    let event = Flow::new(&format!("{COVERING}{event}")).event(&lines, body).ok()?;
    let about = event.about();
    Some((about.id.as_str().to_owned(), about.kind.as_str().to_owned()))
}

fn names_agree(vectors: &str, provider: &str) {
    let vectors: Vec<Vector> = serde_json::from_str(vectors).expect("vectors");
    for vector in vectors.into_iter().filter(|vector| vector.valid) {
        let known = OTHERWISE.iter().find(|row| (row.0, row.1) == (provider, &*vector.name));
        let found = names(provider, &vector);
        let want = match known {
            Some((.., id, kind)) => Some(((*id).to_owned(), (*kind).to_owned())),
            None => vector.event_id.zip(vector.event_type),
        };
        assert_eq!(found, want, "{provider}: {}", vector.name);
    }
}

fn agree(vectors: &str, compiled: impl Fn(&Vector) -> Compiled, count: usize) {
    let vectors: Vec<Vector> = serde_json::from_str(vectors).expect("vectors");
    assert_eq!(vectors.len(), count);
    for vector in &vectors {
        let (name, verdict) = (&vector.name, verdict(vector, compiled(vector)));
        if name == REFUSED_AT_START {
            assert_eq!(verdict, None, "{name}");
            continue;
        }
        let verdict = verdict.expect("a good secret");
        let why = vector.reason_if_invalid.as_deref().unwrap_or("it is valid");
        assert_eq!(verdict.is_ok(), vector.valid, "{name}: {verdict:?}, although {why}");
    }
}

macro_rules! presets_agree {
    ($($test:ident: $provider:literal, $count:literal;)*) => {$(
        #[test]
        fn $test() {
            let vectors = include_str!(concat!("../vectors/", $provider, ".json"));
            agree(vectors, |_| compiled($provider), $count);
            names_agree(vectors, $provider);
        }
    )*};
}

presets_agree! {
    github_agrees: "github", 7;
    gitlab_agrees: "gitlab", 9;
    linear_agrees: "linear", 5;
    paddle_agrees: "paddle", 12;
    shopify_agrees: "shopify", 6;
    slack_agrees: "slack", 8;
    square_agrees: "square", 6;
    standard_webhooks_agrees: "standard-webhooks", 12;
    stripe_agrees: "stripe", 7;
    svix_agrees: "svix", 12;
}

/// Convoy lets its users choose hash, encoding and form, so its vectors show that a source without a preset has all of them.
#[test]
fn convoy_agrees() {
    let scheme = |vector: &Vector| {
        let params = vector.params.as_ref().expect("params");
        let (hash, encoding) = (params.hash.to_lowercase(), &params.encoding);
        custom(&if params.advanced {
            format!(
                "verify:\n  signature: {{ header: X-Convoy-Signature, split: \",\", pair: \"=\", \
                 pick: v1, encoding: {encoding} }}\n  signed: \"{{t}},{{body}}\"\n  mac: hmac-{hash}\n  \
                 timestamp: {{ from: \"{{t}}\", past: {}s }}",
                params.tolerance
            )
        } else {
            format!(
                "verify:\n  signature: {{ header: X-Convoy-Signature, encoding: {encoding} }}\n  \
                 signed: \"{{body}}\"\n  mac: hmac-{hash}"
            )
        })
    };
    agree(include_str!("../vectors/convoy.json"), scheme, 14);
}
