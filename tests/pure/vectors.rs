//! Signatures that providers published, or that their own libraries made or judged, get the same verdict here.

use std::collections::BTreeMap;

use crate::source::{compiled, custom, headers, verifier};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{answer::Reason, event::Timestamp, providers::Compiled, verify::Presented};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    url: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    secrets: Vec<String>,
    now_unix: i64,
    valid: bool,
    reason_if_invalid: Option<String>,
    params: Option<Params>,
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
fn verdict(vector: &Vector, compiled: Compiled) -> Option<Result<(), Reason>> {
    let secrets: Vec<&str> = vector.secrets.iter().map(String::as_str).collect();
    let verifier = verifier(compiled, &secrets).ok()?;
    let lines: Vec<_> = vector.headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
    let body = STANDARD.decode(&vector.body_base64).expect("base64");
    let headers = headers(&lines);
    let verdict = verifier.verify(&Presented {
        method: "POST",
        url: &vector.url,
        target: "/",
        headers: &headers,
        body: &body,
        received_at: Timestamp::from_millis(vector.now_unix * 1000),
    });
    Some(verdict.map(drop))
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
