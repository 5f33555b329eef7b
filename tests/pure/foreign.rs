//! Schemes whose keys are not ours: signatures by public keys, tokens, message signatures, certificates.

use gatepost::{
    answer::Reason,
    event::Timestamp,
    verify::{Presented, Signed, TestKey, Verifier},
};
use http::HeaderMap;
use serde_json::{Map, Value as Json};

use crate::source::{URL, custom, verifier};

pub(crate) const NOW: i64 = 1_700_000_000;

/// A verifier of `verify:`, with these secrets.
pub(crate) fn of(verify: &str, secrets: &[&str]) -> Verifier {
    attempt(verify, secrets).expect("good keys")
}

pub(crate) fn attempt(verify: &str, secrets: &[&str]) -> Result<Verifier, String> {
    let indented = verify.trim().replace('\n', "\n  ");
    verifier(custom(&format!("verify:\n  {indented}")), secrets)
}

/// A source, a key of our own, and the verifier that knows its public half.
pub(crate) struct Own {
    pub(crate) key: TestKey,
    pub(crate) verifier: Verifier,
}

impl Own {
    pub(crate) fn new(verify: &str) -> Self {
        let any = Self::any(verify);
        let key = any.test_key().expect("a scheme with keys of its own").expect("a key");
        let verifier = of(verify, &[&key.public_pem().unwrap()]);
        Self { key, verifier }
    }

    /// A verifier that makes keys; it has one that is of no use.
    fn any(verify: &str) -> Verifier {
        let useless = |pem: &&&str| attempt(verify, &[pem]).is_ok();
        let found = PUBLIC.iter().find(useless).expect("a key that fits");
        of(verify, &[found])
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

/// Public keys of nobody in particular, one of each kind.
pub(crate) const PUBLIC: [&str; 6] = [
    "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
    include_str!("foreign/p384.pem"),
    include_str!("foreign/p521.pem"),
    include_str!("foreign/rsa.pem"),
    "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE8odzwtl1KIvH0dIFw3SGUbB1+8ZhDljN3u3fjxlAWqgKsJAujYgKiXWCEutlza9HOhoG2lIfqR8ptctS2wPtgQ==",
];
