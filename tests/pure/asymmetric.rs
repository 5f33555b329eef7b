//! The vectors of `tests/vectors/asymmetric.json` that are deliveries get the verdict that they carry. What stands here in YAML is
//! what a source would say.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason,
    event::Timestamp,
    verify::{KeySet, Keys, Presented, Stop, Verifier, Want},
};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::source::{custom, headers, verifier};

#[derive(Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) provider: String,
    pub(crate) name: String,
    kind: String,
    method: String,
    url: String,
    headers: BTreeMap<String, Json>,
    body_base64: String,
    pub(crate) keys: Json,
    now_unix: i64,
    pub(crate) valid: bool,
    reason_if_invalid: Option<String>,
}

pub(crate) fn vectors() -> Vec<Vector> {
    let text = include_str!("../vectors/asymmetric.json");
    let all: Vec<Vector> = serde_json::from_str(text).expect("vectors");
    all.into_iter().filter(|vector| vector.kind == "delivery").collect()
}

/// What a source of this provider says, and the secrets that it has.
pub(crate) struct Described {
    pub(crate) verify: String,
    pub(crate) secrets: Vec<String>,
}

fn described(verify: impl Into<String>, secrets: &[&str]) -> Option<Described> {
    let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
    Some(Described { verify: verify.into(), secrets })
}

const V1A: &str = r#"
mac: ed25519
key: { strip_prefix: [whpk_] }
signature: { header: webhook-signature, split: " ", pair: ",", pick: v1a, encoding: base64 }
signed: "{header:webhook-id}.{header:webhook-timestamp}.{body}"
timestamp: { from: "{header:webhook-timestamp}", past: 5m }
"#;

const SENDGRID: &str = r#"
mac: ecdsa-p256-sha256
signature: { header: X-Twilio-Email-Event-Webhook-Signature, encoding: base64 }
signed: "{header:X-Twilio-Email-Event-Webhook-Timestamp}{body}"
timestamp: { from: "{header:X-Twilio-Email-Event-Webhook-Timestamp}", past: 5m }
"#;

const WISE: &str = r#"
mac: rsa-pkcs1-sha256
signature: { header: X-Signature-SHA256, encoding: base64 }
signed: "{body}"
"#;

const GITHUB: &str = r#"
mac: ecdsa-p256-sha256
signature: { header: Github-Public-Key-Signature, encoding: base64 }
signed: "{body}"
keys:
  key_id: "{header:Github-Public-Key-Identifier}"
  items: "public_keys[*]"
  id: key_identifier
  key: key_spki_der_base64
"#;

const DISCORD: &str = r#"
mac: ed25519
signature: { header: X-Signature-Ed25519, encoding: hex-any }
signed: "{header:X-Signature-Timestamp}{body}"
timestamp: { from: "{header:X-Signature-Timestamp}", past: 5m }
"#;

const PLAID: &str = r#"
mac: jwt
signature: { header: Plaid-Verification }
jwt:
  algs: [ES256]
  max_age: { claim: iat, past: 5m }
  body_hash: { claim: request_body_sha256 }
"#;

const NETLIFY: &str = r#"
mac: jwt
signature: { header: X-Webhook-Signature }
jwt: { algs: [HS256], equal: { iss: netlify }, body_hash: { claim: sha256 } }
"#;

const KINDE: &str = r#"
mac: jwt
signature: { from: "{body}", trim: true }
jwt: { algs: [RS256] }
"#;

const FIREBLOCKS: &str = r#"
mac: jws-detached
signature: { header: Fireblocks-Webhook-Signature }
signed: "{body}"
jwt: { algs: [RS512] }
"#;

const FIREBLOCKS_LEGACY: &str = r#"
mac: rsa-pkcs1-sha512
signature: { header: Fireblocks-Signature, encoding: base64 }
signed: "{body}"
"#;

const CIRCLE: &str = r#"
mac: ecdsa-p256-sha256
signature: { header: X-Circle-Signature, encoding: base64 }
signed: "{body}"
keys: { key_id: "{header:X-Circle-Key-Id}", items: "keys[*]", id: id, key: key }
"#;

const BRIDGE: &str = r#"
mac: rsa-pkcs1-sha256
signature: { header: X-Webhook-Signature, split: ",", pair: "=", pick: v0, encoding: base64 }
signed: "{t}.{body}"
timestamp: { from: "{t}", unit: ms, past: 10m }
"#;

const APPLE: &str = r#"
mac: jwt
signature: { from: "{json:signedPayload}" }
keys:
  x5c: { leaf_oid: 1.2.840.113635.100.6.11.1, intermediate_oid: 1.2.840.113635.100.6.2.1 }
"#;

const ATLASSIAN: &str = r#"
mac: jwt
signature: { header: Authorization, prefix: "JWT " }
jwt: { algs: [HS256], path_hash: qsh, present: [exp, qsh] }
"#;

const SNS: &str = r#"
signature: { from: "{json:Signature}", encoding: base64 }
signed: "{aws_sns}"
timestamp: { from: "{json:Timestamp}", unit: rfc3339, past: 1h }
keys:
  cert_url: "{json:SigningCertURL}"
  hosts: ["sns.*.amazonaws.com", "sns.*.amazonaws.com.cn"]
  path: "/*.pem"
schemes:
  - { name: v2, when: { json: { SignatureVersion: "2" } }, mac: rsa-pkcs1-sha256 }
  - { name: v1, when: { json: { SignatureVersion: "1" } }, mac: rsa-pkcs1-sha1 }
"#;

const PAYPAL: &str = r#"
mac: rsa-pkcs1-sha256
signature: { header: PAYPAL-TRANSMISSION-SIG, encoding: base64 }
keys:
  cert_url: "{header:PAYPAL-CERT-URL}"
  hosts: [api.paypal.com, api.sandbox.paypal.com]
  path: "/v1/notifications/certs/*"
"#;

fn text<'v>(vector: &'v Vector, key: &str) -> &'v str {
    vector.keys[key].as_str().unwrap_or_else(|| panic!("{}: no {key}", vector.name))
}

pub(crate) fn describe(vector: &Vector) -> Option<Described> {
    let (v, jwks) = (vector, vector.keys["jwks"].to_string());
    match &*vector.provider {
        "standard-webhooks-v1a" => described(V1A, &[text(v, "public_key")]),
        "sendgrid" => described(SENDGRID, &[text(v, "public_key_spki_der_base64")]),
        "wise" => described(WISE, &[text(v, "public_key_pem")]),
        "github-secret-scanning" => described(GITHUB, &[&v.keys.to_string()]),
        "discord" => described(DISCORD, &[text(v, "public_key_hex")]),
        "plaid" => described(PLAID, &[&jwks]),
        "netlify" => described(NETLIFY, &[text(v, "secret")]),
        "kinde" => described(KINDE, &[&jwks]),
        "fireblocks-v2" => described(FIREBLOCKS, &[&jwks]),
        "fireblocks-legacy" => described(FIREBLOCKS_LEGACY, &[text(v, "public_key_pem")]),
        "bridge" => {
            let prehash = v.keys["prehash"].as_str();
            let prehash = prehash.map_or(String::new(), |hash| format!("prehash: {hash}\n"));
            described(format!("{BRIDGE}{prehash}"), &[text(v, "public_key_pem")])
        }
        "atlassian-connect" => {
            described(ATLASSIAN, &[v.keys["shared_secret_by_iss"]["client-key-1"].as_str()?])
        }
        "vonage" => {
            let bound = if v.name.starts_with("official_") {
                ""
            } else {
                ", body_hash: { claim: payload_hash }"
            };
            let verify = format!(
                "mac: jwt\nsignature: {{ header: Authorization, prefix: \"Bearer \" }}\n\
                 jwt: {{ algs: [HS256]{bound} }}\n"
            );
            described(verify, &[text(v, "signature_secret")])
        }
        "google-pubsub-push" => {
            let (issuers, aud, email) = (&v.keys["issuers"], &v.keys["audience"], &v.keys["email"]);
            let verify = format!(
                "mac: jwt\nsignature: {{ header: Authorization, prefix: \"Bearer \" }}\n\
                 jwt:\n  algs: [RS256]\n  present: [exp]\n  equal: {{ iss: {issuers}, aud: {aud}, \
                 email: {email}, email_verified: \"true\" }}\n"
            );
            described(verify, &[&jwks])
        }
        "ssf-set-push" => {
            let (issuer, aud) = (&v.keys["issuer"], &v.keys["audience"]);
            let verify = format!(
                "mac: jwt\nsignature: {{ from: \"{{body}}\" }}\n\
                 jwt:\n  algs: [RS256]\n  typ: secevent+jwt\n  present: [jti, iat, events]\n  \
                 equal: {{ iss: {issuer}, aud: {aud} }}\n"
            );
            described(verify, &[&jwks])
        }
        "aws-sns" => {
            let topic = &v.keys["topic_arns"][0];
            let right = format!("require: [{{ left: \"{{json:TopicArn}}\", right: {topic} }}]\n");
            described(format!("{SNS}{right}"), &[])
        }
        "paypal" => {
            let signed = format!(
                "signed: \"{{header:PAYPAL-TRANSMISSION-ID}}|{{header:PAYPAL-TRANSMISSION-TIME}}|{}|{{body|crc32}}\"\n\
                 require: [{{ left: \"{{header:PAYPAL-AUTH-ALGO}}\", right: SHA256withRSA }}]\n",
                text(v, "webhook_id")
            );
            described(format!("{PAYPAL}{signed}"), &[])
        }
        "rfc9421" => {
            let keys = v.keys["keys"].as_object()?;
            let key = |(id, key): (&String, &Json)| json!({"id": id, "key": key["pem"]});
            let keys = || keys.iter().filter(|(_, key)| key["alg"] != "hmac-sha256");
            let list = json!({"keys": keys().map(key).collect::<Vec<_>>()}).to_string();
            let mut algs: Vec<_> = keys().filter_map(|(_, key)| key["alg"].as_str()).collect();
            algs.sort_unstable();
            algs.dedup();
            let mut rules = format!("algs: {algs:?}, require: {}", v.keys["require"]);
            if let Some(age) = v.keys["max_age_s"].as_i64() {
                rules += &format!(", max_age: {age}s");
            }
            if let Some(skew) = v.keys["max_skew_s"].as_i64() {
                rules += &format!(", skew: {skew}s");
            }
            let verify = format!(
                "mac: rfc9421\nrfc9421: {{ {rules} }}\nkeys: {{ items: \"keys[*]\", id: id, key: key }}\n"
            );
            described(verify, &[&list])
        }
        "circle-v2" => {
            let keys = v.keys["public_keys_by_id"].as_object()?;
            let key = |(id, key): (&String, &Json)| {
                format!(r#"{{"id":"{id}","key":{}}}"#, key["spki_der_base64"])
            };
            let keys: Vec<_> = keys.iter().map(key).collect();
            described(CIRCLE, &[&format!(r#"{{"keys":[{}]}}"#, keys.join(","))])
        }
        "apple-asn-v2" => {
            let (bundle, environment) = (&v.keys["bundle_id"], &v.keys["environment"]);
            let verify = format!(
                "{APPLE}jwt: {{ algs: [ES256], equal: {{ data.bundleId: {bundle}, \
                 data.environment: {environment} }} }}\n"
            );
            let roots: Vec<_> = v.keys["roots_der_base64"].as_array()?.iter().collect();
            described(verify, &roots.iter().filter_map(|root| root.as_str()).collect::<Vec<_>>())
        }
        _ => None,
    }
}

/// Documents by URL, as if they had been fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetched(BTreeMap<(usize, String), Arc<KeySet>>);

impl Keys for Fetched {
    fn get(&self, scheme: usize, url: &str) -> Option<Arc<KeySet>> {
        self.0.get(&(scheme, url.to_owned())).cloned()
    }

    fn may_ask_again(&self, _: usize, _: &str) -> bool {
        false
    }
}

impl Vector {
    /// What is at the places that the message may name: certificates, or a key that was recovered from its signatures.
    pub(crate) fn published(&self, verifier: &Verifier) -> Fetched {
        let mut documents: Vec<(String, &str)> = Vec::new();
        if let Some(certs) = self.keys["certs_by_url"].as_object() {
            documents.extend(certs.iter().map(|(url, pem)| (url.clone(), pem.as_str().unwrap())));
        }
        if let Some(pem) = self.keys["pinned_public_key_pem"].as_str() {
            let url = self.headers["PAYPAL-CERT-URL"].as_str().unwrap_or_default();
            documents.push((url.to_owned(), pem));
        }
        let mut fetched = Fetched::default();
        for (url, text) in documents {
            for scheme in 0..2 {
                let want = Want { scheme, url: url.clone(), is_stale: false };
                let now = Timestamp::from_millis(self.now_unix * 1000);
                if let Ok(keys) = verifier.read(&want, text.as_bytes(), &[], now) {
                    fetched.0.insert((scheme, url.clone()), Arc::new(keys));
                }
            }
        }
        fetched
    }

    pub(crate) fn header_map(&self) -> HeaderMap {
        let mut lines = Vec::new();
        for (name, value) in &self.headers {
            match value {
                Json::Array(values) => lines
                    .extend(values.iter().map(|value| (name.as_str(), value.as_str().unwrap()))),
                value => lines.push((name.as_str(), value.as_str().expect("text"))),
            }
        }
        headers(&lines)
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        STANDARD.decode(&self.body_base64).expect("base64")
    }

    pub(crate) fn presented<'p>(&'p self, headers: &'p HeaderMap, body: &'p [u8]) -> Presented<'p> {
        let host = self.url.find("://").expect("a URL") + 3;
        let path = host + self.url[host..].find('/').expect("a path");
        Presented {
            method: &self.method,
            url: &self.url,
            target: &self.url[path..],
            headers,
            body,
            received_at: Timestamp::from_millis(self.now_unix * 1000),
        }
    }

    pub(crate) fn judge(&self, verifier: &Verifier, fetched: &Fetched) -> Result<(), Reason> {
        let (headers, body) = (self.header_map(), self.body());
        match verifier.judge(&self.presented(&headers, &body), fetched) {
            Ok(_) => Ok(()),
            Err(Stop::Refused(reason)) => Err(reason),
            Err(Stop::Wanting(want)) => panic!("{}: would fetch {}", self.name, want.url),
        }
    }
}

/// How many there are of each provider.
const SEEN: [(&str, usize); 20] = [
    ("apple-asn-v2", 6),
    ("atlassian-connect", 4),
    ("aws-sns", 16),
    ("bridge", 4),
    ("circle-v2", 4),
    ("discord", 10),
    ("fireblocks-legacy", 2),
    ("fireblocks-v2", 4),
    ("github-secret-scanning", 6),
    ("google-pubsub-push", 6),
    ("kinde", 3),
    ("netlify", 3),
    ("paypal", 9),
    ("plaid", 10),
    ("rfc9421", 16),
    ("sendgrid", 7),
    ("ssf-set-push", 8),
    ("standard-webhooks-v1a", 9),
    ("vonage", 5),
    ("wise", 3),
];

/// Where we say something else than the vector, and why.
const OTHERWISE: [(&str, &str, &str); 1] =
    [("circle-v2", "head_probe_ok", "a probe is a challenge: it is answered above verification")];

#[test]
fn vectors_agree() {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for vector in vectors() {
        let Some(described) = describe(&vector) else { continue };
        *seen.entry(vector.provider.clone()).or_default() += 1;
        let indented = described.verify.trim().replace('\n', "\n  ");
        let compiled = custom(&format!("verify:\n  {indented}"));
        let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
        let verdict = verifier(compiled, &secrets)
            .map(|verifier| vector.judge(&verifier, &vector.published(&verifier)));
        let accepted = matches!(verdict, Ok(Ok(())));
        let known =
            OTHERWISE.iter().any(|row| (row.0, row.1) == (&*vector.provider, &*vector.name));
        if (accepted == vector.valid) == known {
            let Vector { provider, name, reason_if_invalid: why, .. } = &vector;
            wrong.push(format!("{provider} {name}: {verdict:?}, although {why:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let seen: Vec<_> = seen.iter().map(|(provider, count)| (provider.as_str(), *count)).collect();
    assert_eq!(seen, SEEN);
}

/// The digests of bodies among the vectors carry no signature.
#[test]
fn digests_agree() {
    let all: Vec<_> = vectors().into_iter().filter(|v| v.provider == "rfc9530").collect();
    assert_eq!(all.len(), 5);
    for vector in all {
        let holds = gatepost::verify::digest_holds(&vector.header_map(), &vector.body());
        assert_eq!(holds, vector.valid, "{}", vector.name);
    }
}
