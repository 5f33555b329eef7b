//! Schemes whose keys are not ours: signatures by public keys, tokens, message signatures, certificates.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gatepost::{
    answer::Reason,
    event::Timestamp,
    providers::Compiled,
    verify::{Presented, Signed, TestKey, Verifier},
};
use http::HeaderMap;
use rcgen::KeyPair;
use serde_json::{Map, Value as Json};

use crate::source::{URL, custom, verifier};

pub(crate) const NOW: i64 = 1_700_000_000;

/// A verifier of `verify:`, with these secrets.
pub(crate) fn of(verify: &str, secrets: &[&str]) -> Verifier {
    attempt(verify, secrets).expect("good keys")
}

pub(crate) fn attempt(verify: &str, secrets: &[&str]) -> Result<Verifier, String> {
    verifier(scheme(verify), secrets)
}

pub(crate) fn scheme(verify: &str) -> Compiled {
    let indented = verify.trim().replace('\n', "\n  ");
    custom(&format!("verify:\n  {indented}"))
}

/// A source, a key of our own, and the verifier that knows its public half.
pub(crate) struct Own {
    pub(crate) key: TestKey,
    pub(crate) verifier: Verifier,
    pub(crate) compiled: Compiled,
}

impl Own {
    pub(crate) fn new(verify: &str) -> Self {
        Self::of(&scheme(verify))
    }

    pub(crate) fn of(compiled: &Compiled) -> Self {
        let knowing = |key: &str| verifier(compiled.clone(), &[key]);
        // One that makes keys; its own is of no use.
        let any = PUBLIC.iter().find_map(|key| knowing(key).ok()).expect("a key that fits");
        let key = any.test_key().expect("a scheme with keys of its own").expect("a key");
        let verifier = knowing(&key.public_pem().unwrap()).expect("its public half");
        Self { key, verifier, compiled: compiled.clone() }
    }

    pub(crate) fn sign(&self, body: &[u8], claims: &Map<String, Json>) -> Signed {
        let headers = HeaderMap::new();
        self.key_signs(&headers, body, claims)
    }

    pub(crate) fn key_signs(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        claims: &Map<String, Json>,
    ) -> Signed {
        self.verifier.sign_with(&self.key, &presented(headers, body), claims).expect("signed")
    }
}

pub(crate) fn presented<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Presented<'a> {
    Presented {
        method: "POST",
        url: URL,
        target: "/hooks/x",
        headers,
        body,
        received_at: Timestamp::from_millis(NOW * 1000),
    }
}

/// What is said to a request with these headers.
pub(crate) fn judge(verifier: &Verifier, headers: &HeaderMap, body: &[u8]) -> Result<(), Reason> {
    verifier.verify(&presented(headers, body)).map(drop)
}

/// A token by a key of ours on P-256, whatever its header says and whatever is in it.
pub(crate) fn token(key: &KeyPair, header: &Json, payload: &[u8]) -> String {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload));
    let signature = key.expect("a key").sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature.as_ref()))
}

/// Public keys of nobody in particular, one of each kind.
pub(crate) const PUBLIC: [&str; 7] = [
    "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
    include_str!("foreign/p384.pem"),
    include_str!("foreign/p521.pem"),
    include_str!("foreign/rsa.pem"),
    "26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb",
    "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE8odzwtl1KIvH0dIFw3SGUbB1+8ZhDljN3u3fjxlAWqgKsJAujYgKiXWCEutlza9HOhoG2lIfqR8ptctS2wPtgQ==",
];
