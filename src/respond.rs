//! Answers, counts, and writes the one log line of a request: the only place that speaks HTTP outward.
//!
//! The table is in [`crate::answer`]; here it is applied. No input is echoed, and no answer tells a
//! stranger more than the table says.

use std::{panic::AssertUnwindSafe, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use prometheus_client::metrics::histogram::Histogram;
use tower::ServiceExt as _;
use tracing::Level;

use crate::{
    answer::{
        Answer, Answered, Challenge, INTERNAL, Manners, Notes, Outcome, Problem, Refusal, Relayed,
        Said, Verdict, set,
    },
    crash,
    event::{Name, Peer, Receipt, TEXT_BYTES_MAX, Timestamp},
    receive::Inbound,
    stage::Next,
    telemetry::{OneMore, SourceMetrics},
};

/// What we answer with.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Everything that the answers of one source have in common.
#[derive(Debug)]
pub(crate) struct Respond {
    source: String,
    receipt_header: HeaderName,
    metrics: SourceMetrics,
    /// From received to delivered, by upstream.
    latency: Vec<(Name, Histogram)>,
    /// What its provider wants to hear.
    manners: Manners,
}

/// What is remembered of a request until it is answered.
struct Asked {
    receipt: Receipt,
    received_at: Timestamp,
    peer: Peer,
    user_agent: Option<HeaderValue>,
    /// Whether a person with a browser asks.
    browses: bool,
    since: Instant,
}

impl Respond {
    /// The voice of `source`, which is `_unknown` for requests that no source takes. `receipt_header` names each request;
    /// `latency` is observed for the upstreams in it.
    pub(crate) fn new(
        source: &str,
        receipt_header: HeaderName,
        metrics: SourceMetrics,
        latency: Vec<(Name, Histogram)>,
    ) -> Self {
        let manners = Manners::default();
        Self { source: source.to_owned(), receipt_header, metrics, latency, manners }
    }

    /// The same for a provider that wants to hear something special.
    pub(crate) fn with(self, manners: Manners) -> Self {
        Self { manners, ..self }
    }

    /// Runs the flow and answers, whatever happens in it: a panic is an answer, too.
    pub(crate) async fn answer<B, N>(&self, inbound: Inbound<B>, flow: N) -> Reply
    where
        B: Send + 'static,
        N: Next<Inbound<B>>,
    {
        let asked = Asked::of(&inbound);
        let _counted = OneMore::on(&self.metrics.in_flight);
        let answer = AssertUnwindSafe(flow.oneshot(inbound)).catch_unwind().await;
        self.finish(&answer.unwrap_or_else(|_panic| Err(Refusal::Bug.into())), &asked)
    }

    /// Answers a request that never got as far as a flow.
    pub(crate) fn refuse<B>(&self, inbound: &Inbound<B>, refusal: Refusal) -> Reply {
        self.finish(&Err(refusal.into()), &Asked::of(inbound))
    }

    /// Counts and logs a refusal that the server has answered with `status`; the name that goes with it.
    pub(crate) fn unheard(&self, peer: Peer, refusal: Refusal, status: StatusCode) -> Receipt {
        let asked = Asked::by(peer, Receipt::random(), Timestamp::now());
        let verdict = Verdict { status, ..refusal.verdict() };
        self.note(&Err(refusal.into()), &verdict, &Notes::default(), &asked);
        asked.receipt
    }

    fn finish(&self, answer: &Answer, asked: &Asked) -> Reply {
        crash::point("before_answer");
        let verdict = self.manners.verdict(answer);
        let notes = match answer {
            Ok(outcome) => &outcome.notes,
            Err(refusal) => &refusal.notes,
        };
        self.note(answer, &verdict, notes, asked);
        let mut reply = match answer {
            Ok(outcome) => succeed(&outcome.what, &verdict, notes),
            Err(refusal) => problem(&refusal.what, &verdict, asked),
        };
        if let Some(said) = self.manners.instead(answer) {
            reply = match answer {
                Err(refused) if said.set_error => set_error(&refused.what, verdict.status),
                _ => instead(said, reply),
            };
        }
        self.dress(reply.headers_mut(), answer, &verdict, asked);
        reply
    }

    fn note(&self, answer: &Answer, verdict: &Verdict, notes: &Notes, asked: &Asked) {
        let seconds = asked.since.elapsed().as_secs_f64();
        self.count(answer, verdict, notes, asked, seconds);
        self.log(answer, verdict, notes, asked, seconds);
    }

    /// Headers that every answer has.
    fn dress(&self, headers: &mut HeaderMap, answer: &Answer, verdict: &Verdict, asked: &Asked) {
        if let Ok(receipt) = HeaderValue::from_str(&asked.receipt.short()) {
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

    fn count(
        &self,
        answer: &Answer,
        verdict: &Verdict,
        notes: &Notes,
        asked: &Asked,
        seconds: f64,
    ) {
        self.metrics.outcomes.count(verdict.name);
        self.metrics.duration.observe(seconds);
        match answer.as_ref().map(|outcome| &outcome.what).map_err(|refusal| &refusal.what) {
            Ok(Outcome::Accepted(_)) => {
                self.metrics.last_accepted.set(asked.received_at.as_seconds());
                let to =
                    |(upstream, _): &&(Name, Histogram)| notes.upstream.as_ref() == Some(upstream);
                if let Some((_, latency)) = self.latency.iter().find(to) {
                    latency.observe(seconds);
                }
            }
            Err(Refusal::Overloaded(limit)) => self.metrics.shed.count(limit),
            Err(Refusal::AuditUnavailable) => self.metrics.shed.count("disk"),
            _ => {}
        }
    }

    /// One wide line per request. Refused ones and answered challenges are capped per second, so that a flood does not fill
    /// the disk; the next line that is written says how many were left out.
    fn log(&self, answer: &Answer, verdict: &Verdict, notes: &Notes, asked: &Asked, seconds: f64) {
        let about = notes.about.as_deref();
        macro_rules! line {
            ($level:ident) => {{
                if !tracing::enabled!(target: "gatepost::request", Level::$level) {
                    return;
                }
                let Some(suppressed) = self.admitted(answer, asked) else { return };
                tracing::event!(
                    target: "gatepost::request",
                    Level::$level,
                    kind = "request",
                    receipt = %asked.receipt,
                    source = &*self.source,
                    outcome = verdict.name,
                    reason = answer.as_ref().err().and_then(|refusal| refusal.what.reason()),
                    status = verdict.status.as_u16(),
                    duration_seconds = seconds,
                    event_id = about.map(|a| a.key.event_id()).as_deref(),
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
                    user_agent = asked.user_agent.as_ref().and_then(short),
                    report = notes.report.as_deref(),
                    error = notes.error.as_deref(),
                    suppressed = (suppressed > 0).then_some(suppressed),
                    "request {}", verdict.name,
                );
            }};
        }
        match verdict.level {
            Level::ERROR => line!(ERROR),
            Level::WARN => line!(WARN),
            Level::INFO => line!(INFO),
            Level::DEBUG | Level::TRACE => line!(DEBUG),
        }
    }

    /// How many lines were left out before this one; `None` leaves this one out, too.
    fn admitted(&self, answer: &Answer, asked: &Asked) -> Option<u64> {
        let by_anybody = match answer {
            Ok(Answered { what: Outcome::Handshake(challenge), .. }) => challenge.report.is_none(),
            Ok(_) => false,
            Err(_) => true,
        };
        if by_anybody { self.metrics.refused_lines.take(asked.since) } else { Some(0) }
    }
}

/// Says how a verified request ended.
pub(crate) const OUTCOME_HEADER: HeaderName = HeaderName::from_static("webhook-outcome");

impl Asked {
    fn of<B>(inbound: &Inbound<B>) -> Self {
        let (method, headers) = (inbound.request.method(), inbound.request.headers());
        let accepts_html =
            |value: &HeaderValue| value.to_str().is_ok_and(|kinds| kinds.contains("text/html"));
        Self {
            user_agent: headers.get(header::USER_AGENT).cloned(),
            browses: method != Method::POST
                && headers.get(header::ACCEPT).is_some_and(accepts_html),
            ..Self::by(inbound.peer, inbound.receipt, inbound.received_at)
        }
    }

    /// A request of which nothing else is known.
    fn by(peer: Peer, receipt: Receipt, received_at: Timestamp) -> Self {
        let since = Instant::now();
        Self { receipt, received_at, peer, user_agent: None, browses: false, since }
    }
}

/// What of a header is logged: a stranger's line is no longer than others.
fn short(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    text.get(..TEXT_BYTES_MAX).or(Some(text))
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
        | Outcome::Duplicate(Some(relayed)) => relay(relayed, verdict.status),
        Outcome::Handshake(challenge) => answer_challenge(challenge),
        Outcome::Duplicate(None)
        | Outcome::SameIdOtherBody
        | Outcome::SuspectedReplay
        | Outcome::Ignored(_) => {
            let id = notes.about.as_ref().map(|about| about.key.event_id()).unwrap_or_default();
            let body = format!(r#"{{"status":"{}","id":"{id}"}}"#, verdict.name);
            with_body(verdict.status, "application/json", body.into())
        }
    }
}

/// The provider's own words in place of ours, as far as it has some.
fn instead(said: &Said, mut reply: Reply) -> Reply {
    let Some(body) = &said.body else { return reply };
    reply.headers_mut().remove(header::CONTENT_TYPE);
    if !body.is_empty() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let content_type = said.content_type.clone().unwrap_or(plain);
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    *reply.body_mut() = Full::new(body.clone());
    reply
}

/// What the transmitter of a security event token hears instead.
fn set_error(refusal: &Refusal, status: StatusCode) -> Reply {
    let mut reply = with_body(status, "application/json", set::error(refusal).into());
    let language = HeaderValue::from_static(set::LANGUAGE);
    reply.headers_mut().insert(header::CONTENT_LANGUAGE, language);
    reply
}

/// The upstream's answer, as far as the provider may see it.
fn relay(relayed: &Relayed, status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::new(relayed.body.clone()));
    *reply.status_mut() = status;
    if let Some(content_type) = &relayed.content_type {
        reply.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    reply
}

fn answer_challenge(challenge: &Challenge) -> Reply {
    let mut reply = Response::new(Full::new(challenge.body.clone()));
    *reply.status_mut() = challenge.status;
    let headers = reply.headers_mut();
    if let Some(content_type) = &challenge.content_type {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(challenge.headers.iter().cloned());
    reply
}

/// An error as RFC 9457 has it; a person with a browser gets a sentence.
fn problem(refusal: &Refusal, verdict: &Verdict, asked: &Asked) -> Reply {
    if matches!(refusal, Refusal::MethodNotAllowed) && asked.browses {
        return with_body(verdict.status, "text/html; charset=utf-8", PAGE.into());
    }
    let Problem { slug, title } = verdict.problem.unwrap_or(INTERNAL);
    let (status, receipt) = (verdict.status.as_u16(), asked.receipt);
    let more = match (refusal, verdict.retry_after) {
        (Refusal::TooLarge { bytes_max }, _) => format!(r#","max_bytes":{bytes_max}"#),
        (Refusal::Malformed(what), _) => format!(r#","detail":"{what}""#),
        (_, Some(wait)) => format!(r#","retry_after_seconds":{}"#, wait.as_secs().max(1)),
        _ => String::new(),
    };
    let body = format!(
        r#"{{"type":"{PROBLEMS}{slug}","title":"{title}","status":{status},"receipt":"{receipt}"{more}}}"#
    );
    with_body(verdict.status, "application/problem+json", body.into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

const PAGE: &str = "<!doctype html><title>Webhook endpoint</title>\n\
    <p>This is a webhook endpoint. It accepts POST from the provider only.</p>\n";
/// Where problem types are described.
const PROBLEMS: &str = "https://gatepost.example/problems/";
