//! Every preset finds the id and the type that its provider's vectors name, or another for a reason.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Options, compile, preset};
use crate::{event::Timestamp, identify::identify, receive::Envelope, verify::Verified};

#[derive(Deserialize)]
struct Vector {
    name: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    valid: bool,
    event_id: Option<String>,
    event_type: Option<String>,
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

fn envelope(vector: &Vector) -> Envelope {
    let line = |(name, value): (&String, &String)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    };
    let headers: HeaderMap = vector.headers.iter().filter_map(line).collect();
    let body = STANDARD.decode(&vector.body_base64).expect("base64");
    Envelope::for_test("source", headers, body, Timestamp::from_millis(0))
}

fn names(provider: &str, vector: &Vector) -> (Option<String>, Option<String>) {
    let preset = preset(provider).expect("a preset");
    let compiled = compile(&preset.verify, &preset.event, &preset.handshake, &Options::default());
    let plan = compiled.expect("it compiles").identify;
    identify(&plan, Verified::for_test(envelope(vector))).map_or((None, None), |event| {
        let about = event.about();
        (Some(about.id.as_str().to_owned()), Some(about.kind.as_str().to_owned()))
    })
}

#[test]
fn ids_and_types_are_found() {
    let files = [
        ("github", include_str!("../../tests/vectors/github.json")),
        ("gitlab", include_str!("../../tests/vectors/gitlab.json")),
        ("linear", include_str!("../../tests/vectors/linear.json")),
        ("paddle", include_str!("../../tests/vectors/paddle.json")),
        ("shopify", include_str!("../../tests/vectors/shopify.json")),
        ("slack", include_str!("../../tests/vectors/slack.json")),
        ("square", include_str!("../../tests/vectors/square.json")),
        ("standard-webhooks", include_str!("../../tests/vectors/standard-webhooks.json")),
        ("stripe", include_str!("../../tests/vectors/stripe.json")),
        ("svix", include_str!("../../tests/vectors/svix.json")),
    ];
    for (provider, vectors) in files {
        let vectors: Vec<Vector> = serde_json::from_str(vectors).expect("vectors");
        for vector in vectors.into_iter().filter(|vector| vector.valid) {
            let known = OTHERWISE.iter().find(|row| (row.0, row.1) == (provider, &*vector.name));
            let found = names(provider, &vector);
            let want = known.map_or((vector.event_id.clone(), vector.event_type.clone()), |row| {
                (Some(row.2.to_owned()), Some(row.3.to_owned()))
            });
            // Without both there is no event.
            let want = if want.0.is_some() && want.1.is_some() { want } else { (None, None) };
            assert_eq!(found, want, "{provider}: {}", vector.name);
        }
    }
}
