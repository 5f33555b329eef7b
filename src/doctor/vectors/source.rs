//! The source that a vector is for: its provider's preset or a scheme beside the file, and the secrets, keys and parameters that it brings.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{Vector, flow::Ready};
use crate::{
    answer::Manners,
    providers::{self, Compiled, Options, Preset, Problem, shape},
    secret::Secret,
    verify::{Keyring, LiveSecret, Scheme, Verifier},
};

/// Schemes of senders without a preset, by provider, or by `provider/name` for a vector that has one of its own.
pub(crate) type Schemes = BTreeMap<String, Own>;

/// What a source without a preset says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Own {
    verify: shape::Verify,
    event: shape::EventFields,
    #[serde(default)]
    handshake: Vec<shape::HandshakeRule>,
}

/// Where a vector's source is described.
pub(super) enum Of<'s> {
    Preset(&'static Preset),
    Own(&'s Own),
}

/// What describes the source of a vector; of a preset's names, `_` and `-` are equal.
pub(super) fn of<'s>(provider: &str, name: &str, schemes: &'s Schemes) -> Option<Of<'s>> {
    let own = schemes.get(&format!("{provider}/{name}")).or_else(|| schemes.get(provider));
    if let Some(own) = own {
        return Some(Of::Own(own));
    }
    let plain = |name: &str| name.replace('_', "-");
    let is_it = |other: &str| plain(other) == plain(provider);
    let called = providers::catalogue().find(|preset| is_it(&preset.name));
    let has = |preset: &&Preset| preset.vectors.iter().any(|group| is_it(group));
    called.or_else(|| providers::catalogue().find(has)).map(Of::Preset)
}

/// What a source of a vector has that brings no secret: what such a vector is about comes before a signature, or behind it.
const NO_SECRET: &str = "61207365637265742074686174206e6f20766563746f72206272696e67732e2e";

/// Names under which a vector has the one secret that both sides have.
const SECRETS: [&str; 10] = [
    "signature_secret",
    "signing_secret",
    "consumer_secret",
    "client_secret",
    "secret_token",
    "secret",
    "webhook_key",
    "token",
    "authorization",
    "client_state",
];

/// What vectors call parameters, where they call them something else.
const ALSO: [(&str, &str); 4] = [
    ("app_id", "audiences"),
    ("service_account", "email"),
    ("client_id", "recipient_client_id"),
    ("topic", "topic_arns"),
];

impl Vector {
    /// A source of its provider, ready for the request; a sentence where there can be none.
    pub(super) fn set_up(&self, of: &Of<'_>) -> Result<Ready, String> {
        let all = |problems: Vec<Problem>| {
            let all: Vec<_> =
                problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
            all.join("; ")
        };
        let (compiled, manners) = match of {
            Of::Preset(preset) => {
                let options = Options { params: self.params_of(preset), ..Options::default() };
                let Preset { verify, event, handshake, .. } = preset;
                let manners =
                    providers::manners(&preset.ack, &preset.invalid, &preset.drop_forever);
                (providers::compile(verify, event, handshake, &options), manners.map_err(all)?)
            }
            Of::Own(Own { verify, event, handshake }) => {
                let options = Options::default();
                (providers::compile(verify, event, handshake, &options), Manners::default())
            }
        };
        let compiled = compiled.map_err(all)?;
        self.ready(compiled, manners)
    }

    fn ready(&self, compiled: Compiled, manners: Manners) -> Result<Ready, String> {
        let finds_keys = compiled.schemes.iter().all(Scheme::finds_keys);
        let mut secrets = self.live_secrets(finds_keys);
        let brings_none = secrets.is_empty() && !finds_keys;
        if brings_none {
            secrets.push((None, NO_SECRET.to_owned()));
        }
        let live = |(id, text): (Option<String>, String)| LiveSecret {
            secret: Secret::new(text),
            expires: None,
            id: id.map(Arc::from),
        };
        let secrets = secrets.into_iter().map(live).collect();
        let verifier = Verifier::new(compiled.schemes.clone(), secrets, self.on_file())?;
        let verifier = Arc::new(verifier);
        let given = Keyring::given(Arc::clone(&verifier), &self.documents(), self.time());
        let keyring = verifier.fetches().then(|| Arc::new(given));
        Ok(Ready { compiled, manners, verifier, keyring, brings_none })
    }

    /// What the source says about itself; where the vector does not say it, what the preset gives for an example.
    fn params_of(&self, preset: &Preset) -> BTreeMap<String, String> {
        let said = preset.params.iter().map(|(name, param)| {
            let value = self.param(name).unwrap_or_else(|| param.example.clone());
            (name.clone(), value)
        });
        said.collect()
    }

    /// Of several values the first.
    fn param(&self, name: &str) -> Option<String> {
        let everything = self.params.iter().chain([&self.keys]);
        let find = |name: &str| everything.clone().find_map(|map| map.get(name));
        let also = ALSO.iter().find(|(known, _)| *known == name);
        let found = find(name).or_else(|| find(&format!("{name}s")));
        match found.or_else(|| also.and_then(|(_, other)| find(other)))? {
            Value::Array(values) => values.first().and_then(text),
            value => text(value),
        }
    }

    /// Its secrets and its keys, each with its name, as a source would have them. Where keys are published they are
    /// [fetched](Self::documents), but for one that is pinned.
    fn live_secrets(&self, finds_keys: bool) -> Vec<(Option<String>, String)> {
        let ids = self.params.as_ref().and_then(|params| params.get("key_ids"));
        let ids = ids.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let named = self.secrets.iter().enumerate();
        let named = named.map(|(at, secret)| (ids.get(at).and_then(text), secret.clone()));
        let mut found: Vec<_> = named.collect();
        let user = self.keys.get("username").and_then(text);
        for (name, value) in &self.keys {
            match (name.as_str(), value) {
                ("certs_by_url" | "keys_by_path", _) => {}
                ("jwks", jwks) if !finds_keys && self.keys.get("client_state").is_none() => {
                    found.push((None, jwks.to_string()));
                }
                ("password", Value::String(word)) if user.is_some() => {
                    found.push((None, format!("{}:{word}", user.clone().unwrap_or_default())));
                }
                (name, Value::String(text)) if is_public(name) => found.push((None, text.clone())),
                (name, Value::String(text)) if SECRETS.contains(&name) && !finds_keys => {
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
                ("query_token", token) => {
                    found.extend(token.get("value").and_then(text).map(|word| (None, word)));
                }
                ("jwks", _) => {}
                (_, Value::Object(by_id)) => {
                    found.extend(
                        by_id.iter().filter_map(|(id, one)| Some((Some(id.clone()), key(one)?))),
                    );
                }
                _ => {}
            }
        }
        found
    }

    /// What its provider publishes, by URL; without one, at the place that the scheme names.
    fn documents(&self) -> Vec<(Option<String>, String)> {
        let base = self.keys.get("key_base").and_then(text).unwrap_or_default();
        let at = |name: &str| self.keys.get(name).and_then(Value::as_object).into_iter().flatten();
        let pairs = at("certs_by_url").map(|(url, body)| (url.clone(), body));
        let pairs =
            pairs.chain(at("keys_by_path").map(|(path, body)| (format!("{base}{path}"), body)));
        let named = pairs.filter_map(|(url, body)| Some((Some(url), text(body)?)));
        named.chain(self.keys.get("jwks").map(|jwks| (None, jwks.to_string()))).collect()
    }
}

/// Whether a member is a key that everybody may know.
fn is_public(name: &str) -> bool {
    name.starts_with("public_key") || name.starts_with("pinned_public_key")
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(ToOwned::to_owned)
}

/// A key as text, or within an object that says what form it has.
fn key(value: &Value) -> Option<String> {
    let forms = ["key_spki_der_base64", "spki_der_base64", "pem", "secret"];
    text(value).or_else(|| forms.iter().find_map(|form| value.get(form).and_then(text)))
}
