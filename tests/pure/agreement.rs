//! All that is known of how providers sign with a shared secret, as vectors: published by them, or signed and judged by their own
//! libraries, or made by their documented formula. Where we say something else, it stands in a list, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason,
    event::Timestamp,
    providers::{self, Options, Problem},
    secret::Secret,
    verify::{LiveSecret, Presented, Verifier},
};
use serde::Deserialize;

use crate::source::{Source, headers};

const VECTORS: [&str; 2] =
    [include_str!("../vectors/hmac.json"), include_str!("../vectors/hmac-derived.json")];
const SCHEMES: &str = include_str!("../vectors/schemes.yaml");

#[derive(Deserialize)]
struct Vector {
    provider: String,
    name: String,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    secrets: Vec<String>,
    now_unix: i64,
    valid: bool,
    reason_if_invalid: Option<String>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    public_key: Option<String>,
    key_ids: Vec<String>,
    header_lines: Vec<String>,
}

/// Where we say something else than a vector, and why.
const OTHERWISE: [(&str, &str, &str); 2] = [
    (
        "notion",
        "valid_uppercase_hex",
        "its library takes capitals, which Notion does not send: one spelling",
    ),
    ("x_twitter", "crc_get", "a challenge is no event: a handshake answers it"),
];

/// What a source of this provider says: as its preset does, or as the list beside the vectors.
fn source(provider: &str) -> Source {
    let preset = providers::catalogue().find(|p| p.vectors.iter().any(|group| group == provider));
    if let Some(preset) = preset {
        let (verify, event) = (preset.verify.clone(), preset.event.clone());
        return Source { verify, event, handshake: preset.handshake.clone() };
    }
    let mut schemes: BTreeMap<String, Source> = serde_yaml::from_str(SCHEMES).expect("schemes");
    schemes.remove(provider).unwrap_or_else(|| panic!("{provider} has no scheme"))
}

fn verifier(vector: &Vector) -> Result<Verifier, String> {
    let mut source = source(&vector.provider);
    source.event = Source::parse("event: { id: '{body|sha256_hex}', type: event }").event;
    let params = vector.params.public_key.clone().map(|key| ("public_key".to_owned(), key));
    let options = Options { params: params.into_iter().collect(), ..Options::default() };
    let compiled = providers::compile(&source.verify, &source.event, &[], &options);
    let compiled = compiled.map_err(|problems: Vec<Problem>| format!("{problems:?}"))?;
    let ids = vector.params.key_ids.iter().map(|id| Some(id.as_str().into()));
    let ids = ids.chain(std::iter::repeat(None));
    let live = |(secret, id): (&String, _)| LiveSecret {
        secret: Secret::new(secret.as_str()),
        expires: None,
        id,
    };
    let secrets = vector.secrets.iter().zip(ids).map(live).collect();
    Verifier::new(compiled.schemes, secrets, "https://gateway.example/hooks/x")
}

fn judge(vector: &Vector) -> Result<(), String> {
    let verifier = verifier(vector)?;
    let mut lines: Vec<_> = vector.headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
    if !vector.params.header_lines.is_empty() {
        lines.retain(|(name, _)| *name != "X-Mollie-Signature");
        lines.extend(vector.params.header_lines.iter().map(|line| ("X-Mollie-Signature", line)));
    }
    let body = STANDARD.decode(&vector.body_base64).expect("base64");
    let (_, rest) = vector.url.split_once("://").expect("a URL");
    let target = rest.find('/').map_or("/", |at| &rest[at..]);
    let verdict = verifier.verify(&Presented {
        method: &vector.method,
        url: &vector.url,
        target,
        headers: &headers(&lines),
        body: &body,
        received_at: Timestamp::from_millis(vector.now_unix * 1000),
    });
    verdict.map(drop).map_err(|reason: Reason| reason.as_str().to_owned())
}

fn vectors() -> impl Iterator<Item = Vector> {
    let parse = |text| serde_json::from_str::<Vec<Vector>>(text).expect("vectors").into_iter();
    // Convoy has no scheme of its own; see `convoy_agrees`.
    VECTORS.into_iter().flat_map(parse).filter(|vector| !vector.provider.starts_with("convoy"))
}

#[test]
fn every_vector_of_a_shared_secret_agrees() {
    let (mut count, mut otherwise, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for vector in vectors() {
        count += 1;
        let verdict = judge(&vector);
        if verdict.is_ok() == vector.valid {
            continue;
        }
        let key = (vector.provider.as_str(), vector.name.as_str());
        if let Some(row) = OTHERWISE.iter().find(|row| (row.0, row.1) == key) {
            otherwise.insert(row);
        } else {
            let why = vector.reason_if_invalid.as_deref().unwrap_or("it is valid");
            wrong.push(format!("{key:?}: {verdict:?}, although {why}"));
        }
    }
    assert_eq!(count, 344);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(otherwise, OTHERWISE.iter().collect(), "what agrees does not stand in the list");
}

/// A preset and a scheme of the tests would be two opinions.
#[test]
fn schemes_of_the_tests_are_those_without_a_preset() {
    let schemes: BTreeMap<String, Source> = serde_yaml::from_str(SCHEMES).expect("schemes");
    let groups: BTreeSet<String> = vectors().map(|vector| vector.provider).collect();
    for group in schemes.keys() {
        assert!(groups.contains(group), "{group} has no vectors");
        let has = |preset: &providers::Preset| preset.vectors.contains(group);
        assert!(!providers::catalogue().any(has), "{group} has a preset");
    }
}
