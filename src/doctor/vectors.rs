//! Vectors: requests with the verdict that they must get, in files of JSON. Each brings its own time, secrets and keys.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::explain;
use crate::{
    answer::Reason,
    event::Timestamp,
    providers::{self, Options, Preset, shape::OneOrMany},
    secret::Secret,
    verify::{LiveSecret, Presented, Verifier},
};

/// A request, and whether it is genuine.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vector {
    /// A preset, or one of the names that a preset has for its vectors; what its file is called where it is left out.
    #[serde(default)]
    provider: Option<String>,
    name: String,
    #[serde(default)]
    method: Option<String>,
    /// What the provider has on file, with the query of the request.
    url: String,
    headers: BTreeMap<String, OneOrMany<String>>,
    body_base64: String,
    #[serde(default)]
    secrets: Vec<String>,
    /// Keys of providers that sign with private ones, and what a source says besides.
    #[serde(default)]
    keys: Map<String, Value>,
    #[serde(default)]
    params: Option<Map<String, Value>>,
    now_unix: i64,
    valid: bool,
    /// Why not, in its maker's words.
    #[serde(default, rename = "reason_if_invalid")]
    why_not: Option<String>,
    /// `handshake` for a challenge, which is no event.
    #[serde(default)]
    kind: Option<String>,
}

/// Where a file and Gatepost do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    pub(crate) vector: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// How a file came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Vectors that got the verdict that they must get.
    pub(crate) agreed: usize,
    /// Challenges, which are answered and not verified here.
    pub(crate) challenges: usize,
    pub(crate) disagreements: Vec<Disagreement>,
    /// Providers without a preset, and how many vectors they have.
    pub(crate) unknown: BTreeMap<String, usize>,
}

/// Reads a file of vectors; a sentence where it is none.
pub(crate) fn read(text: &str) -> Result<Vec<Vector>, String> {
    serde_json::from_str(text).map_err(|e| format!("is no list of vectors: {e}"))
}

/// Checks all vectors of a file; `called` is its name without its ending.
pub(crate) fn check(vectors: &[Vector], called: &str) -> Tally {
    let mut tally = Tally::default();
    for vector in vectors {
        if vector.kind.as_deref() == Some("handshake") {
            tally.challenges += 1;
            continue;
        }
        let provider = vector.provider.as_deref().unwrap_or(called);
        let Some(preset) = preset(provider) else {
            *tally.unknown.entry(provider.to_owned()).or_insert(0) += 1;
            continue;
        };
        let verdict = vector.verdict(preset);
        if verdict.is_ok() == vector.valid {
            tally.agreed += 1;
        } else {
            let expected = match (&vector.why_not, vector.valid) {
                (_, true) => "valid".to_owned(),
                (Some(why), false) => format!("invalid ({why})"),
                (None, false) => "invalid".to_owned(),
            };
            let got = verdict.err().unwrap_or_else(|| "valid".to_owned());
            let vector = format!("{provider}/{}", vector.name);
            tally.disagreements.push(Disagreement { vector, expected, got });
        }
    }
    tally
}

/// The preset that is called `name`, or whose vectors are; `_` and `-` are equal.
fn preset(name: &str) -> Option<&'static Preset> {
    let plain = |name: &str| name.replace('_', "-");
    let is_it = |other: &str| plain(other) == plain(name);
    let called = providers::catalogue().find(|preset| is_it(&preset.name));
    let has = |preset: &&Preset| preset.vectors.iter().any(|group| is_it(group));
    called.or_else(|| providers::catalogue().find(has))
}

impl Vector {
    /// What a source of that preset would say to it; a sentence where it is refused, or where there is no such source.
    fn verdict(&self, preset: &Preset) -> Result<(), String> {
        let body = STANDARD.decode(&self.body_base64).map_err(|e| format!("body_base64: {e}"))?;
        let headers = self.header_map()?;
        let on_file = self.url.split('?').next().unwrap_or_default();
        let behind = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let target = behind.find('/').map_or("/", |slash| behind.split_at(slash).1);
        let proof = self.verifier(preset, on_file)?.verify(&Presented {
            method: self.method.as_deref().unwrap_or("POST"),
            url: &self.url,
            target,
            headers: &headers,
            body: &body,
            received_at: Timestamp::from_millis(self.now_unix * 1000),
        });
        let refused = |reason: Reason| format!("{}: {}", reason.as_str(), explain(reason.as_str()));
        proof.map(drop).map_err(refused)
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        // A header that came in several lines, of which `headers` shows the first.
        let lines = self.params.as_ref().and_then(|params| params.get("header_lines"));
        let lines =
            lines.and_then(Value::as_array).map(|all| all.iter().filter_map(text).collect());
        let lines: Vec<String> = lines.unwrap_or_default();
        let mut headers = HeaderMap::new();
        for (name, values) in &self.headers {
            let values = values.as_slice();
            let is_split = values.iter().any(|v| lines.iter().any(|line| v.contains(line)));
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|e| format!("{name}: {e}"))?;
            for value in if is_split { &lines } else { values } {
                let value = HeaderValue::from_str(value).map_err(|e| format!("{name}: {e}"))?;
                headers.append(parsed.clone(), value);
            }
        }
        Ok(headers)
    }

    fn verifier(&self, preset: &Preset, url: &str) -> Result<Verifier, String> {
        let declared = preset.params.keys();
        let params = declared.filter_map(|name| Some((name.clone(), self.param(name)?)));
        let options = Options { params: params.collect(), ..Options::default() };
        let compiled = providers::compile(&preset.verify, &preset.event, &[], &options);
        let compiled = compiled.map_err(|problems| {
            let all: Vec<_> =
                problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
            all.join("; ")
        })?;
        Verifier::new(compiled.schemes, self.secrets(), url)
    }

    /// What the source says about itself; of several values the first.
    fn param(&self, name: &str) -> Option<String> {
        let everything = self.params.iter().chain([&self.keys]);
        let find = |name: &str| everything.clone().find_map(|map| map.get(name));
        match find(name).or_else(|| find(&format!("{name}s")))? {
            Value::Array(values) => values.first().and_then(text),
            value => text(value),
        }
    }

    /// Its secrets, and its keys as a source would have them.
    fn secrets(&self) -> Vec<LiveSecret> {
        let ids = self.params.as_ref().and_then(|params| params.get("key_ids"));
        let ids = ids.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let named = self.secrets.iter().enumerate();
        let named = named.map(|(at, secret)| (ids.get(at).and_then(text), secret.clone()));
        let mut found: Vec<_> = named.collect();
        if let (Some(user), Some(password)) = (self.keys.get("username"), self.keys.get("password"))
        {
            found.extend(
                text(user).zip(text(password)).map(|(user, word)| (None, format!("{user}:{word}"))),
            );
        }
        for (name, value) in &self.keys {
            match (name.as_str(), value) {
                ("jwks", jwks) => found.push((None, jwks.to_string())),
                (name, Value::String(text)) if KEYS.contains(&name) => {
                    found.push((None, text.clone()));
                }
                ("roots_der_base64", Value::Array(roots)) => {
                    found.extend(roots.iter().filter_map(text).map(|root| (None, root)));
                }
                ("public_keys", Value::Array(list)) => {
                    found.extend(list.iter().filter_map(|one| {
                        Some((one.get("key_identifier").and_then(text), key(one)?))
                    }));
                }
                (_, Value::Object(by_id)) => {
                    found.extend(
                        by_id.iter().filter_map(|(id, one)| Some((Some(id.clone()), key(one)?))),
                    );
                }
                _ => {}
            }
        }
        let live = |(id, text): (Option<String>, String)| LiveSecret {
            secret: Secret::new(text),
            expires: None,
            id: id.map(Arc::from),
        };
        found.into_iter().map(live).collect()
    }
}

/// Names under which a vector has its one key.
const KEYS: [&str; 10] = [
    "public_key",
    "public_key_hex",
    "public_key_spki_der_base64",
    "public_key_pem",
    "pinned_public_key_pem",
    "signature_secret",
    "secret",
    "token",
    "authorization",
    "client_state",
];

fn text(value: &Value) -> Option<String> {
    value.as_str().map(ToOwned::to_owned)
}

/// A key as text, or within an object that says what form it has.
fn key(value: &Value) -> Option<String> {
    let forms = ["key_spki_der_base64", "spki_der_base64", "pem", "secret"];
    text(value).or_else(|| forms.iter().find_map(|form| value.get(form).and_then(text)))
}
