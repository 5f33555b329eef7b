//! Challenges as providers document them: the exact request, the exact reply.

use std::collections::BTreeMap;

use gatepost::answer::Reason;
use serde::Deserialize;

use crate::challenges::*;
use crate::source::headers;

#[derive(Deserialize)]
struct Vector {
    provider: String,
    name: String,
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
    now_unix: i64,
    valid: bool,
    secrets: Vec<String>,
    keys: BTreeMap<String, serde_json::Value>,
    expect: Expected,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Where we answer something else, and why.
const OTHERWISE: [(&str, &str); 5] = [
    // Who is not believed hears one status, whatever it was.
    ("hub_challenge_wrong_token", "401 for 403"),
    ("callback_verification_bad_signature", "401 for 403"),
    ("options_origin_not_allowed", "401 for 405"),
    // Characters that mean something somewhere are not echoed at all, inert or not.
    ("challenge_html_is_inert", "405 for 200"),
    // Captured in a window only: `capture` shows that it is answered there.
    ("x_hook_secret_ok", "401 for 200"),
];

/// Schemes of another family than that of the stand-in, or that are no challenge.
const ELSEWHERE: [&str; 3] = ["ssf-set-push", "discord", "notion"];

const SECRETS: [&str; 8] = [
    "consumer_secret",
    "secret_token",
    "signing_secret",
    "secret",
    "webhook_key",
    "client_secret",
    "query_token",
    "verify_token",
];

impl Vector {
    fn secret(&self) -> String {
        let key = SECRETS.iter().find_map(|name| self.keys.get(*name));
        let key = key.map(|key| key["value"].as_str().or_else(|| key.as_str()).unwrap().to_owned());
        key.or_else(|| self.secrets.first().cloned())
            .unwrap_or_else(|| "a secret of this test".into())
    }

    fn flow(&self) -> Flow {
        let provider = self.provider.replace('_', "-");
        let mut params = PARAMS;
        if let Some(token) = self.keys.get("verify_token") {
            params[0].1 = token.as_str().unwrap().to_owned().leak();
        }
        Flow::of(compiled(&provider, &params), &[&self.secret()])
    }

    fn told(&self) -> Told {
        let target = self.url.split_once("//").unwrap().1;
        let target = target.find('/').map_or("/", |at| &target[at..]);
        let lines: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v)).collect();
        told(ask(&self.flow(), &self.method, target, headers(&lines), &self.body, self.now_unix))
    }

    fn agrees(&self, told: &Told) -> Result<(), String> {
        let status = match told {
            Told::Answered(challenge) => challenge.status.as_u16(),
            Told::Refused(Refusal::NotVerified(_)) => 401,
            Told::Refused(Refusal::MethodNotAllowed) => 405,
            other => return Err(format!("{other:?}")),
        };
        if status != self.expect.status {
            return Err(format!("{status} for {}", self.expect.status));
        }
        let Told::Answered(challenge) = told else { return Ok(()) };
        if json_or_text(&challenge.body) != json_or_text(self.expect.body.as_bytes()) {
            return Err(format!("{:?}", challenge.body));
        }
        for (name, value) in &self.expect.headers {
            let found = match name.to_lowercase().as_str() {
                "x-content-type-options" => continue, // on every reply
                "content-type" => challenge.content_type.clone(),
                name => challenge.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()),
            };
            if found.is_none_or(|found| found != value.as_str()) {
                return Err(format!("{name} is not {value}: {challenge:?}"));
            }
        }
        Ok(())
    }
}

/// The order of JSON members is nobody's business.
fn json_or_text(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

#[test]
fn every_challenge_gets_its_exact_reply() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../vectors/handshakes.json")).unwrap();
    let mut looked_at = 0;
    let mut differing = Vec::new();
    for vector in vectors.iter().filter(|v| !ELSEWHERE.contains(&v.provider.as_str())) {
        looked_at += 1;
        let told = vector.told();
        if let Err(why) = vector.agrees(&told) {
            differing.push((vector.name.as_str(), why));
            continue;
        }
        assert!(vector.valid == matches!(told, Told::Answered(_)), "{}: {told:?}", vector.name);
    }
    let known: Vec<_> = OTHERWISE.iter().map(|(name, why)| (*name, (*why).to_owned())).collect();
    differing.sort_unstable();
    let mut expected = known;
    expected.sort_unstable();
    assert_eq!(differing, expected);
    assert_eq!(looked_at, 30);
}

#[test]
fn a_secret_is_captured_in_no_flow_without_a_window() {
    let flow = flow("notion", "a secret that was there before");
    let body = r#"{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}"#;
    let told = told(ask(&flow, "POST", "/in", HeaderMap::new(), body, 0));
    assert_eq!(told, Told::Refused(Refusal::NotVerified(Reason::CaptureClosed)));
}
