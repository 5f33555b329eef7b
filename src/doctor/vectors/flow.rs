//! The way of a vector: the stages of a source up to its event, and the answer that its provider would get.

use std::{
    convert::Infallible,
    future::{pending, ready},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderName, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tokio::sync::mpsc::Receiver;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use super::{Differs, Expected, Vector};
use crate::{
    answer::{Answer, Manners, Outcome, Refusal, Relayed},
    doctor::explain,
    event::{Name, Peer, Receipt},
    handshake::{Captured, Captures, Challenges, Signed, Unsigned},
    identify::{Event, Identify},
    providers::Compiled,
    receive::{Accepts, Budget, Inbound, Receive},
    respond::Respond,
    stage::{Next, StageExt as _},
    telemetry::{Metrics, SourceMetrics},
    verify::{Keyring, Verifier, Verify},
};

/// A source that waits for one request.
pub(super) struct Ready {
    pub(super) compiled: Compiled,
    pub(super) manners: Manners,
    pub(super) verifier: Arc<Verifier>,
    pub(super) keyring: Option<Arc<Keyring>>,
    /// Whether its secret is one of ours: then an event is signed with it, and a secret that its provider sends is waited for.
    pub(super) brings_none: bool,
}

/// What came of a request; a sentence where none could be made of the vector.
type Came = Result<(Answer, Response<Bytes>), String>;

/// How long anything may take: nothing here waits for anybody.
const PATIENCE: Duration = Duration::from_mins(1);

impl Ready {
    pub(super) async fn answer(&self, vector: &Vector) -> Came {
        let name = Name::parse("vectors").ok_or("a name")?;
        let (captures, sent) = Captures::new();
        if self.brings_none {
            captures.open(&name, PATIENCE, false);
        }
        let inbound = self.inbound(vector)?;
        let metrics = Metrics::new().source(name.as_str(), "proxy", 1);
        let receipt = HeaderName::from_static("webhook-receipt");
        let respond = Respond::new(name.as_str(), receipt, metrics.clone(), Vec::new());
        let respond = respond.with(self.manners.clone());
        let stack = self.stack(vector, name, captures, &Arc::new(metrics));
        let noted = Arc::new(Mutex::new(None));
        let answered = respond.answer(inbound, noting(stack, Arc::clone(&noted)));
        let reply = match select(pin!(answered), pin!(keep(sent))).await {
            Either::Left((reply, _)) => reply,
            Either::Right((never, _)) => match never {},
        };
        let (head, body) = reply.into_parts();
        let Ok(body) = body.collect().await;
        let body = body.to_bytes();
        let answer = noted.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((answer.ok_or("it was not answered")?, Response::from_parts(head, body)))
    }

    /// The stages of a source, in their order, as far as they look at requests; whatever is an event is accepted.
    fn stack(
        &self,
        vector: &Vector,
        source: Name,
        captures: Captures,
        metrics: &Arc<SourceMetrics>,
    ) -> impl Next<Inbound<Full<Bytes>>> {
        let challenges = Arc::new(Challenges {
            rules: self.compiled.handshakes.clone(),
            guards: self.compiled.guards.clone(),
            verifier: Arc::clone(&self.verifier),
            url: vector.on_file().into(),
            captures: Some(captures),
            confirmer: None,
            hide_paths: false,
            metrics: Arc::clone(metrics),
        });
        let accepts = Accepts {
            source,
            methods: challenges.methods(),
            body_bytes_max: u64::MAX,
            body_timeout: PATIENCE,
            body_rate_min: 0,
            allow_encoded: true,
            allow_ips: Vec::new(),
            hide_paths: false,
            memory: Budget::new("body_memory", u64::MAX),
            lengths: metrics.body.clone(),
        };
        let verify = Verify {
            verifier: Arc::clone(&self.verifier),
            url: vector.on_file().into(),
            metrics: Arc::clone(metrics),
            keyring: self.keyring.clone(),
            shadow: None,
        };
        ServiceBuilder::new()
            .stage(Receive(Arc::new(accepts)))
            .stage(Unsigned(Arc::clone(&challenges)))
            .stage(verify)
            .stage(Signed(challenges))
            .stage(Identify { plan: Arc::new(self.compiled.identify.clone()) })
            .service(service_fn(|_: Event| ready(accepted())))
    }

    /// The request. An event for which there is no secret is signed with ours: what is asked is what comes behind the signature.
    fn inbound(&self, vector: &Vector) -> Result<Inbound<Full<Bytes>>, String> {
        let (mut headers, body) = (vector.header_map()?, vector.bytes()?);
        if self.signs(vector) {
            let presented = vector.presented(&headers, &body);
            let signature = self.verifier.sign(&presented)?;
            headers.extend(signature);
        }
        let request = http::Request::builder().method(vector.method()).uri(vector.target());
        let mut request = request.body(Full::from(body)).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        let peer = Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true };
        let (receipt, received_at) = (Receipt::random(), vector.time());
        Ok(Inbound { request, peer, receipt, received_at, place: None })
    }

    fn signs(&self, vector: &Vector) -> bool {
        self.brings_none && vector.expect.is_none() && vector.method() == "POST"
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a stage answers")]
fn accepted() -> Answer {
    let (status, body) = (StatusCode::OK, Bytes::new());
    Ok(Outcome::Accepted(Relayed { status, content_type: None, body, full: false }).into())
}

/// Notes what the stages answered, before it is put into words.
fn noting(
    stack: impl Next<Inbound<Full<Bytes>>>,
    noted: Arc<Mutex<Option<Answer>>>,
) -> impl Next<Inbound<Full<Bytes>>> {
    service_fn(move |inbound| {
        let (stack, noted) = (stack.clone(), Arc::clone(&noted));
        async move {
            let answer = stack.oneshot(inbound).await;
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
            answer
        }
    })
}

/// Secrets that providers send are kept nowhere.
async fn keep(mut sent: Receiver<Captured>) -> Infallible {
    while let Some(secret) = sent.recv().await {
        secret.kept();
    }
    pending().await
}

impl Vector {
    /// Compares the verdict first, then the answer, the event's names, and what the operator is told.
    pub(super) fn compare(&self, ready: &Ready, came: &Came) -> Result<(), Differs> {
        let (answer, reply) = match came {
            Ok(came) => came,
            Err(why) => return self.verdict(Err(why.clone())),
        };
        self.verdict(believed(answer, ready.signs(self)))?;
        if let Some(expected) = &self.expect {
            expected.compare(reply)?;
        }
        let notes =
            answer.as_ref().map_or_else(|refused| &refused.notes, |answered| &answered.notes);
        if let Some(about) = &notes.about {
            differs("id", self.event_id.as_deref(), Some(about.id.as_str()))?;
            differs("type", self.event_type.as_deref(), Some(about.kind.as_str()))?;
        }
        let follow_up = self.follow_up.as_ref().map(|follow_up| &*follow_up.url);
        differs("report", follow_up, notes.report.as_deref())
    }
}

/// Whether a request was believed, or why not. One that is an event to nobody was believed; but where the signature is ours, its being an
/// event is what is asked.
fn believed(answer: &Answer, signed_here: bool) -> Result<(), String> {
    match answer.as_ref().map_err(|refused| &refused.what) {
        Ok(_) => Ok(()),
        Err(Refusal::Malformed(_)) if !signed_here => Ok(()),
        Err(refusal) => {
            let name = refusal.reason().unwrap_or(refusal.verdict().name);
            Err(format!("{name}: {}", explain(name)))
        }
    }
}

fn differs(what: &str, expected: Option<&str>, got: Option<&str>) -> Result<(), Differs> {
    match expected {
        Some(text) if got != Some(text) => {
            Err(Differs(format!("{what} {text}"), format!("{what} {}", got.unwrap_or("none"))))
        }
        _ => Ok(()),
    }
}

impl Expected {
    fn compare(&self, reply: &Response<Bytes>) -> Result<(), Differs> {
        let status = reply.status().as_u16();
        differs("status", Some(&self.status.to_string()), Some(&status.to_string()))?;
        for (name, value) in &self.headers {
            let found = reply.headers().get(name).and_then(|found| found.to_str().ok());
            differs(name, Some(value), found)?;
        }
        // What a refusal says beside its status is ours, where nothing is asked for.
        if status >= 400 && self.body.is_empty() {
            return Ok(());
        }
        let body = String::from_utf8_lossy(reply.body());
        match (serde_json::from_str(&self.body), serde_json::from_str(&body)) {
            (Ok(expected), Ok(got)) if is_like(&expected, &got) => Ok(()),
            _ => differs("body", Some(&self.body), Some(&body)),
        }
    }
}

/// Whether two bodies say the same: the order of members is nobody's business, and `...` is any text.
fn is_like(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(any), Value::String(_)) if any == "..." => true,
        (Value::Object(expected), Value::Object(got)) => {
            let has =
                |(name, value): (&String, &Value)| got.get(name).is_some_and(|g| is_like(value, g));
            expected.len() == got.len() && expected.iter().all(has)
        }
        _ => expected == got,
    }
}
