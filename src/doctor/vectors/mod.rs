//! Vectors: requests with the verdict that they must get, in files of JSON. Each brings its own time, secrets and keys, and goes the
//! way of a request to a source of its provider, from its bytes to the answer ([`flow`]).

mod flow;
mod source;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    event::Timestamp,
    providers::shape::OneOrMany,
    verify::{Presented, digest_holds},
};
pub(crate) use source::Schemes;

/// A request, and whether it is genuine.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vector {
    /// A preset, one of the names that a preset has for its vectors, or a scheme beside the file; what its file is called where it is
    /// left out.
    #[serde(default)]
    provider: Option<String>,
    name: String,
    #[serde(default)]
    method: Option<String>,
    /// What the provider has on file, with the query of the request.
    url: String,
    headers: BTreeMap<String, OneOrMany<String>>,
    #[serde(default)]
    body_base64: Option<String>,
    /// The same as text.
    #[serde(default)]
    body: Option<String>,
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
    /// The exact answer, where that is known.
    #[serde(default, alias = "expect_response")]
    expect: Option<Expected>,
    /// What the event is called, where that is known.
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    event_type: Option<String>,
    /// What the operator must be told to fetch.
    #[serde(default)]
    follow_up: Option<FollowUp>,
}

#[derive(Clone, Debug, Deserialize)]
struct Expected {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

#[derive(Clone, Debug, Deserialize)]
struct FollowUp {
    url: String,
}

/// Where a file and Gatepost do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    pub(crate) vector: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// What was expected, and what came instead.
struct Differs(String, String);

/// How a file came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Vectors that came out as they must.
    pub(crate) agreed: usize,
    pub(crate) disagreements: Vec<Disagreement>,
    /// Providers without a preset or a scheme, and how many vectors they have.
    pub(crate) unknown: BTreeMap<String, usize>,
}

/// Digests of bodies alone: what a signature covers, and no signature.
const DIGESTS: &str = "rfc9530";

/// Reads a file of vectors; a sentence where it is none.
pub(crate) fn read(text: &str) -> Result<Vec<Vector>, String> {
    serde_json::from_str(text).map_err(|e| format!("is no list of vectors: {e}"))
}

/// Checks all vectors of a file; `called` is its name without its ending.
pub(crate) fn check(vectors: &[Vector], called: &str, schemes: &Schemes) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let mut tally = Tally::default();
    for vector in vectors {
        let provider = vector.provider.as_deref().unwrap_or(called);
        let found = match source::of(provider, &vector.name, schemes) {
            Some(of) => runtime.block_on(vector.run(&of)),
            None if provider == DIGESTS => vector.digest(),
            None => {
                *tally.unknown.entry(provider.to_owned()).or_insert(0) += 1;
                continue;
            }
        };
        match found {
            Ok(()) => tally.agreed += 1,
            Err(Differs(expected, got)) => {
                let vector = format!("{provider}/{}", vector.name);
                tally.disagreements.push(Disagreement { vector, expected, got });
            }
        }
    }
    Ok(tally)
}

impl Vector {
    /// Whether a source of its provider answers as it says.
    async fn run(&self, of: &source::Of<'_>) -> Result<(), Differs> {
        match self.set_up(of) {
            Ok(ready) => self.compare(&ready, &ready.answer(self).await),
            // No source with such a secret would start.
            Err(why) => self.verdict(Err(why)),
        }
    }

    fn digest(&self) -> Result<(), Differs> {
        let holds = self.header_map().and_then(|headers| {
            let body = self.bytes()?;
            digest_holds(&headers, &body).then_some(()).ok_or("the digest is another".into())
        });
        self.verdict(holds)
    }

    /// Compares what came of it, or why it was refused, with the verdict.
    fn verdict(&self, came: Result<(), String>) -> Result<(), Differs> {
        if came.is_ok() == self.valid {
            return Ok(());
        }
        let expected = match (&self.why_not, self.valid) {
            (_, true) => "valid".to_owned(),
            (Some(why), false) => format!("invalid ({why})"),
            (None, false) => "invalid".to_owned(),
        };
        Err(Differs(expected, came.err().unwrap_or_else(|| "valid".to_owned())))
    }

    /// The URL that the provider has on file.
    fn on_file(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// Path and query.
    fn target(&self) -> &str {
        let behind = self.url.split_once("://").map_or("", |(_, rest)| rest);
        behind.find('/').map_or("/", |slash| behind.split_at(slash).1)
    }

    fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now_unix * 1000)
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match (&self.body_base64, &self.body) {
            (Some(text), _) => STANDARD.decode(text).map_err(|e| format!("body_base64: {e}")),
            (None, text) => Ok(text.clone().unwrap_or_default().into_bytes()),
        }
    }

    fn presented<'p>(&'p self, headers: &'p HeaderMap, body: &'p [u8]) -> Presented<'p> {
        Presented {
            method: self.method(),
            url: &self.url,
            target: self.target(),
            headers,
            body,
            received_at: self.time(),
        }
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        // A header that came in several lines, of which `headers` shows the first.
        let lines = self.params.as_ref().and_then(|params| params.get("header_lines"));
        let lines = lines.and_then(Value::as_array);
        let lines: Vec<String> =
            lines.map(|all| all.iter().filter_map(source::text).collect()).unwrap_or_default();
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
}
