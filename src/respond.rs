//! Answers, counts, and writes the one log line of a request: the only place that speaks HTTP outward.
//!
//! The table is in [`crate::answer`]; here it is applied. No input is echoed, and no answer tells a
//! stranger more than the table says.

use std::{fmt::Write as _, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Challenge, Notes, Outcome, Problem, Refusal, Relayed, Verdict},
    event::{Peer, Receipt, Timestamp},
    receive::Inbound,
    stage::Next,
    telemetry::{Sampler, SourceMetrics},
};

/// What we answer with.
pub type Reply = Response<Full<Bytes>>;

/// Everything that the answers of one source have in common.
#[derive(Debug)]
pub struct Respond {
    /// The source's name; `_unknown` for requests that no source takes.
    pub source: Arc<str>,
    /// The header that names the request.
    pub receipt_header: HeaderName,
    /// Counters.
    pub metrics: SourceMetrics,
    /// Bounds the log lines about refused requests.
    pub sampler: Sampler,
}

/// What is remembered of a request until it is answered.
struct Asked {
    receipt: Receipt,
    received_at: Timestamp,
    peer: Peer,
    user_agent: Option<HeaderValue>,
    html: bool,
    since: Instant,
}

impl Respond {
    /// Runs the flow and answers, whatever happens in it: a panic is an answer, too.
    pub async fn answer<B, N>(self: Arc<Self>, inbound: Inbound<B>, flow: N) -> Reply
    where
        B: Send + 'static,
        N: Next<Inbound<B>>,
    {
        let asked = Asked::of(&inbound);
        self.metrics.in_flight.inc();
        let _counted = Counted(&self.metrics);
        let answer = caught(flow.oneshot(inbound)).await;
        self.finish(&answer, &asked)
    }

    /// Answers a request that never got as far as a flow.
    pub fn refuse<B>(&self, inbound: &Inbound<B>, refusal: Refusal) -> Reply {
        self.finish(&Err(refusal.into()), &Asked::of(inbound))
    }

    fn finish(&self, answer: &Answer, asked: &Asked) -> Reply {
        let (verdict, notes) = match answer {
            Ok(outcome) => (outcome.what.verdict(), &outcome.notes),
            Err(refusal) => (refusal.what.verdict(), &refusal.notes),
        };
        self.count(answer, &verdict, asked);
        self.log(answer, &verdict, notes, asked);
        let mut reply = match answer {
            Ok(outcome) => succeed(&outcome.what, &verdict, notes),
            Err(refusal) => problem(&refusal.what, &verdict, asked),
        };
        self.dress(reply.headers_mut(), answer, &verdict, asked);
        reply
    }

    /// Headers that every answer has.
    fn dress(&self, headers: &mut HeaderMap, answer: &Answer, verdict: &Verdict, asked: &Asked) {
        if let Ok(receipt) = HeaderValue::try_from(asked.receipt.to_string()) {
            headers.insert(self.receipt_header.clone(), receipt);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if was_verified(answer) {
            headers.insert(OUTCOME_HEADER, HeaderValue::from_static(verdict.name));
        }
        if let Some(wait) = verdict.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        if verdict.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if verdict.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Webhook-Signature"));
        }
        if verdict.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
    }

    fn count(&self, answer: &Answer, verdict: &Verdict, asked: &Asked) {
        self.metrics.ended(verdict.name);
        self.metrics.duration.observe(asked.since.elapsed().as_secs_f64());
        if let Ok(outcome) = answer
            && matches!(outcome.what, Outcome::Accepted(_))
        {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 2^53")]
            self.metrics.last_accepted.set(asked.received_at.as_millis() as f64 / 1000.0);
        }
    }

    /// One wide line per request. Refused ones are capped per second, so that a flood does not fill
    /// the disk; the next line that is written says how many were left out.
    fn log(&self, answer: &Answer, verdict: &Verdict, notes: &Notes, asked: &Asked) {
        if !crate::telemetry::is_logged(verdict.level) {
            return;
        }
        let suppressed = match answer {
            Ok(_) => 0,
            Err(_) => match self.sampler.take(asked.since) {
                Some(suppressed) => suppressed,
                None => return,
            },
        };
        let about = notes.about.as_deref();
        let reason = answer.as_ref().err().and_then(|refusal| refusal.what.reason());
        let event_id = about.map(|a| a.key.event_id());
        macro_rules! line {
            ($($level:ident => $write:ident),*) => {
                match verdict.level {
                    $(tracing::Level::$level => tracing::$write!(
                        target: "gatepost::request",
                        kind = "request",
                        receipt = %asked.receipt,
                        source = &*self.source,
                        outcome = verdict.name,
                        reason,
                        status = verdict.status.as_u16(),
                        duration_seconds = asked.since.elapsed().as_secs_f64(),
                        event_id = event_id.as_deref(),
                        provider_id = about.map(|a| a.id.as_str()),
                        event_type = about.map(|a| a.kind.as_str()),
                        bytes = about.map(|a| a.body_bytes),
                        secret_slot = about.map(|a| a.secret_slot),
                        route = notes.route.as_ref().map(|r| r.as_str()),
                        upstream = notes.upstream.as_ref().map(|u| u.as_str()),
                        upstream_status = notes.upstream_status.map(|s| s.as_u16()),
                        upstream_seconds = notes.upstream_time.map(|t| t.as_secs_f64()),
                        attempt = notes.attempt,
                        audit_seq = notes.audit_seq,
                        dedup_seconds = notes.dedup.map(|t| t.as_secs_f64()),
                        client_ip = %asked.peer.ip,
                        user_agent = asked.user_agent.as_ref().and_then(|v| v.to_str().ok()),
                        error = notes.error.as_deref(),
                        suppressed = (suppressed > 0).then_some(suppressed),
                        "request {}", verdict.name,
                    ),)*
                }
            };
        }
        line!(TRACE => trace, DEBUG => debug, INFO => info, WARN => warn, ERROR => error);
    }
}

/// Says how a verified request ended.
pub const OUTCOME_HEADER: HeaderName = HeaderName::from_static("webhook-outcome");

/// Gives the in-flight gauge back, also when the sender hangs up.
struct Counted<'a>(&'a SourceMetrics);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl Asked {
    fn of<B>(inbound: &Inbound<B>) -> Self {
        let headers = inbound.request.headers();
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        Self {
            receipt: inbound.receipt,
            received_at: inbound.received_at,
            peer: inbound.peer,
            user_agent: headers.get(header::USER_AGENT).cloned(),
            html: accepts.is_some_and(|kinds| kinds.contains("text/html")),
            since: Instant::now(),
        }
    }
}

/// Runs to an answer, even through a panic.
async fn caught(flow: impl Future<Output = Answer> + Send) -> Answer {
    AssertUnwindSafe(flow).catch_unwind().await.unwrap_or_else(|_panic| Err(Refusal::Bug.into()))
}

/// Whether the sender has proven itself: only then may it learn more than the status.
fn was_verified(answer: &Answer) -> bool {
    match answer {
        Ok(outcome) => !matches!(outcome.what, Outcome::Shadowed(_) | Outcome::Handshake(_)),
        Err(refusal) => {
            refusal.notes.about.is_some() || matches!(refusal.what, Refusal::Malformed(_))
        }
    }
}

fn succeed(outcome: &Outcome, verdict: &Verdict, notes: &Notes) -> Reply {
    match outcome {
        Outcome::Accepted(relayed)
        | Outcome::Shadowed(relayed)
        | Outcome::Duplicate(Some(relayed)) => relay(relayed),
        Outcome::Handshake(challenge) => answer_challenge(challenge),
        Outcome::Duplicate(None)
        | Outcome::SameIdOtherBody
        | Outcome::SuspectedReplay
        | Outcome::Ignored(_) => {
            let id = notes.about.as_ref().map(|about| about.key.event_id()).unwrap_or_default();
            let body = format!(r#"{{"status":"{}","id":"{id}"}}"#, verdict.name);
            with_body(verdict.status, JSON, body.into())
        }
    }
}

/// The upstream's answer, as far as the provider may see it.
fn relay(relayed: &Relayed) -> Reply {
    let mut reply = Response::new(Full::new(relayed.body.clone()));
    *reply.status_mut() = relayed.status;
    if let Some(content_type) = &relayed.content_type {
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    reply
}

fn answer_challenge(challenge: &Challenge) -> Reply {
    let mut reply = Response::new(Full::new(challenge.body.clone()));
    *reply.status_mut() = challenge.status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, challenge.content_type.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(challenge.headers.iter().cloned());
    reply
}

/// An error as RFC 9457 has it; a person with a browser gets a sentence.
fn problem(refusal: &Refusal, verdict: &Verdict, asked: &Asked) -> Reply {
    if matches!(refusal, Refusal::MethodNotAllowed) && asked.html {
        return with_body(verdict.status, HTML, Bytes::from_static(PAGE.as_bytes()));
    }
    let Problem { slug, title } = verdict.problem.unwrap_or(crate::answer::INTERNAL);
    let mut body = String::with_capacity(256);
    let status = verdict.status.as_u16();
    let receipt = asked.receipt;
    // Writing to a String does not fail.
    let _ = write!(
        body,
        r#"{{"type":"{PROBLEMS}{slug}","title":"{title}","status":{status},"receipt":"{receipt}""#
    );
    let _ = match (refusal, verdict.retry_after) {
        (Refusal::TooLarge { bytes_max }, _) => write!(body, r#","max_bytes":{bytes_max}"#),
        (Refusal::Malformed(what), _) => write!(body, r#","detail":"{what}""#),
        (_, Some(wait)) => write!(body, r#","retry_after_seconds":{}"#, wait.as_secs().max(1)),
        _ => Ok(()),
    };
    body.push('}');
    with_body(verdict.status, PROBLEM, body.into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = "<!doctype html><title>Webhook endpoint</title>\n\
    <p>This is a webhook endpoint. It accepts POST from the provider only.</p>\n";
/// Where problem types are described.
const PROBLEMS: &str = "https://gatepost.example/problems/";
