//! Genuine requests that forgers begin with: vectors of `tests/vectors/asymmetric.json`, each with what a source would say in YAML.

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

use crate::source::headers;

#[derive(Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) provider: String,
    pub(crate) name: String,
    method: String,
    url: String,
    headers: BTreeMap<String, Json>,
    body_base64: String,
    pub(crate) keys: Json,
    now_unix: i64,
    pub(crate) valid: bool,
}

pub(crate) fn vectors() -> Vec<Vector> {
    let text = include_str!("../vectors/asymmetric.json");
    serde_json::from_str(text).expect("vectors")
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

const APPLE: &str = r#"
mac: jwt
signature: { from: "{json:signedPayload}" }
keys:
  x5c: { leaf_oid: 1.2.840.113635.100.6.11.1, intermediate_oid: 1.2.840.113635.100.6.2.1 }
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

pub(crate) fn describe(vector: &Vector) -> Option<Described> {
    let v = vector;
    match &*vector.provider {
        "aws-sns" => {
            let topic = &v.keys["topic_arns"][0];
            let right = format!("require: [{{ left: \"{{json:TopicArn}}\", right: {topic} }}]\n");
            described(format!("{SNS}{right}"), &[])
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
}

impl Fetched {
    /// Adds a document, where the scheme can read it.
    pub(crate) fn add(
        &mut self,
        verifier: &Verifier,
        scheme: usize,
        url: &str,
        text: &str,
        now: i64,
    ) {
        let want = Want { scheme, url: url.to_owned(), is_stale: false };
        let now = Timestamp::from_millis(now * 1000);
        if let Ok(keys) = verifier.read(&want, text.as_bytes(), &[], now) {
            self.0.insert((scheme, want.url), Arc::new(keys));
        }
    }
}

impl Vector {
    /// What is at the places that the message may name: certificates, or a key that was recovered from its signatures.
    pub(crate) fn published(&self, verifier: &Verifier) -> Fetched {
        let mut documents: Vec<(String, &str)> = Vec::new();
        if let Some(certs) = self.keys["certs_by_url"].as_object() {
            documents.extend(certs.iter().map(|(url, pem)| (url.clone(), pem.as_str().unwrap())));
        }
        let mut fetched = Fetched::default();
        for (url, text) in documents {
            for scheme in 0..2 {
                fetched.add(verifier, scheme, &url, text, self.now_unix);
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
