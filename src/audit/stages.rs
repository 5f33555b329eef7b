//! The stages: record before the effect, note what became of it, and look at every answer on its way back.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderName, HeaderValue};
use tower::ServiceExt as _;

use super::{AuditError, AuditLog, Detail, Draft, Flagged, Kind, Recorded, Rejected};
use crate::{
    answer::{Answer, Answered, Notes, Outcome, Recording, Refusal, Verdict, annotate},
    dedup::{Fresh, Lease},
    event::{Digest, Name, Receipt},
    receive::{Envelope, Inbound},
    route::{Routed, Shadow},
    stage::{Next, Stage},
};

/// Makes the attempt durable before it happens, and notes how it ended.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where.
    pub log: AuditLog,
    /// What is written about a request.
    pub detail: Arc<Detail>,
}

impl<N: Next<Recorded>> Stage<Fresh, N> for Audit {
    async fn pass(self, fresh: Fresh, next: N) -> Answer {
        let (routed, lease) = fresh.into_parts();
        let draft = attempt(&routed, &lease, &self.detail);
        record_first(&self.log, draft, next, |seq| Recorded { routed, lease, seq }).await
    }
}

/// Room first, then the record, then the effect: what cannot be taken on is refused without a record.
async fn record_first<T, N: Next<T>>(
    log: &AuditLog,
    draft: Draft,
    mut next: N,
    recorded: impl FnOnce(u64) -> T,
) -> Answer {
    next.ready().await?;
    let ending =
        Draft { kind: Kind::Outcome, headers: Vec::new(), client_ip: None, ..draft.clone() };
    let seq = log.append(draft).await.map_err(|error| unavailable(&error))?;
    let answer = next.call(recorded(seq)).await;
    note_ending(log, ending, seq, &answer);
    annotate(answer, |notes| notes.audit_seq = Some(seq))
}

fn unavailable(error: &AuditError) -> Answered<Refusal> {
    let mut answered = Answered::from(Refusal::AuditUnavailable);
    answered.notes.error = Some(error.to_string().into());
    answered
}

fn note_ending(log: &AuditLog, ending: Draft, seq: u64, answer: &Answer) {
    let (verdict, reason, notes) = read(answer);
    log.note(Draft { attempt_seq: Some(seq), ..ended(ending, &verdict, reason, notes) });
}

fn attempt(routed: &Routed, lease: &Lease, detail: &Detail) -> Draft {
    let (event, target) = (routed.event(), routed.target());
    Draft {
        kind: Kind::Attempt,
        about: Some(event.about().clone()),
        route: Some(target.route.clone()),
        upstream: Some(target.upstream.clone()),
        attempt: Some(lease.attempt()),
        reason: lease.after_unknown().then_some("previous_attempt_unknown"),
        ..request(event.envelope(), detail)
    }
}

/// What a record says about any request.
fn request(envelope: &Envelope, detail: &Detail) -> Draft {
    Draft {
        receipt: Some(envelope.receipt()),
        source: Some(envelope.source().clone()),
        client_ip: detail.keep_ip(envelope.peer().ip),
        headers: detail.keep_headers(envelope.headers()),
        ..Draft::default()
    }
}

/// The same for a source in shadow mode: what would have been refused is recorded, as far as the rate allows.
#[derive(Clone, Debug)]
pub struct ShadowAudit {
    /// Where.
    pub log: AuditLog,
    /// What is written about a request.
    pub detail: Arc<Detail>,
}

impl<N: Next<Flagged>> Stage<Shadow, N> for ShadowAudit {
    async fn pass(self, shadow: Shadow, next: N) -> Answer {
        if self.log.admits_shadow(shadow.unverified().envelope().source()) {
            let draft = would_refuse(&shadow, &self.detail);
            let flagged = |seq| Flagged { shadow, seq: Some(seq) };
            return record_first(&self.log, draft, next, flagged).await;
        }
        // Without a working log nothing is forwarded, recorded or not.
        if let Some(trouble) = self.log.health().trouble {
            return Err(unavailable(&trouble));
        }
        next.oneshot(Flagged { shadow, seq: None }).await
    }
}

fn would_refuse(shadow: &Shadow, detail: &Detail) -> Draft {
    let (unverified, target) = (shadow.unverified(), shadow.target());
    let body = unverified.envelope().body();
    Draft {
        kind: Kind::Shadow,
        unverified_type: shadow.kind().cloned(),
        body: Some((Digest::of(body), body.len() as u64)),
        outcome: Some(Refusal::NotVerified(unverified.reason()).verdict().name),
        reason: Some(unverified.reason().as_str()),
        route: Some(target.route.clone()),
        upstream: Some(target.upstream.clone()),
        ..request(unverified.envelope(), detail)
    }
}

/// Looks at every answer on its way back, and puts it on record the way the one table says.
#[derive(Clone, Debug)]
pub struct Note {
    /// Where.
    pub log: AuditLog,
    /// Whose requests.
    pub source: Name,
    /// What is written about a request.
    pub detail: Arc<Detail>,
}

impl<B: Send + 'static, N: Next<Inbound<B>>> Stage<Inbound<B>, N> for Note {
    async fn pass(self, inbound: Inbound<B>, next: N) -> Answer {
        let seen = Seen {
            receipt: inbound.receipt,
            client_ip: self.detail.keep_ip(inbound.peer.ip),
            headers: self.detail.keep_headers(inbound.request.headers()),
        };
        let answer = next.oneshot(inbound).await;
        self.record(seen, answer).await
    }
}

/// What is kept of a request until it is answered.
struct Seen {
    receipt: Receipt,
    client_ip: Option<IpAddr>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Note {
    async fn record(&self, seen: Seen, answer: Answer) -> Answer {
        let (verdict, reason, notes) = read(&answer);
        let sampled = self.detail.rejected == Rejected::Sampled;
        match verdict.recording {
            Recording::ByDelivery | Recording::Counted => answer,
            Recording::Sampled if !sampled => answer,
            Recording::Sampled => {
                self.log.rejected(&self.source, self.draft(seen, &answer, &verdict, reason, notes));
                answer
            }
            Recording::Noted => {
                self.log.note(self.draft(seen, &answer, &verdict, reason, notes));
                answer
            }
            Recording::Durable => {
                let draft = self.draft(seen, &answer, &verdict, reason, notes);
                match self.log.append(draft).await {
                    Ok(seq) => annotate(answer, |notes| notes.audit_seq = Some(seq)),
                    Err(error) => Err(keep_notes(unavailable(&error), answer)),
                }
            }
        }
    }

    fn draft(
        &self,
        seen: Seen,
        answer: &Answer,
        verdict: &Verdict,
        reason: Option<&'static str>,
        notes: &Notes,
    ) -> Draft {
        let draft = Draft {
            kind: kind(answer),
            receipt: Some(seen.receipt),
            source: Some(self.source.clone()),
            client_ip: seen.client_ip,
            headers: seen.headers,
            about: notes.about.clone(),
            attempt: notes.attempt,
            route: notes.route.clone(),
            upstream: notes.upstream.clone(),
            ..Draft::default()
        };
        ended(draft, verdict, reason, notes)
    }
}

/// A refusal that knows what was known about the answer it replaces.
fn keep_notes(mut refusal: Answered<Refusal>, answer: Answer) -> Answered<Refusal> {
    let mut notes = answer.map_or_else(|refused| refused.notes, |answered| answered.notes);
    notes.error = refusal.notes.error.take();
    Answered { what: refusal.what, notes }
}

fn read(answer: &Answer) -> (Verdict, Option<&'static str>, &Notes) {
    match answer {
        Ok(answered) => (answered.what.verdict(), None, &answered.notes),
        Err(refused) => (refused.what.verdict(), refused.what.reason(), &refused.notes),
    }
}

fn ended(draft: Draft, verdict: &Verdict, reason: Option<&'static str>, notes: &Notes) -> Draft {
    Draft {
        outcome: Some(verdict.name),
        reason,
        status: Some(verdict.status.as_u16()),
        upstream_status: notes.upstream_status.map(|status| status.as_u16()),
        upstream_time: notes.upstream_time,
        error: notes.error.clone(),
        ..draft
    }
}

/// Under which kind an answer goes on record.
fn kind(answer: &Answer) -> Kind {
    match answer.as_ref().map(|a| &a.what).map_err(|r| &r.what) {
        Ok(Outcome::Accepted(_) | Outcome::Shadowed(_))
        | Err(
            Refusal::UpstreamBusy { .. }
            | Refusal::UpstreamRejected(_)
            | Refusal::UpstreamFailed
            | Refusal::UpstreamBroke
            | Refusal::UpstreamTimeout,
        ) => Kind::Outcome,
        Ok(Outcome::Duplicate(_) | Outcome::SameIdOtherBody | Outcome::SuspectedReplay)
        | Err(Refusal::InFlight { .. }) => Kind::Duplicate,
        Ok(Outcome::Ignored(_)) | Err(Refusal::Unrouted) => Kind::Ignored,
        Ok(Outcome::Handshake(_)) => Kind::Handshake,
        Err(Refusal::Malformed(_)) => Kind::Malformed,
        Err(
            Refusal::UnknownSource
            | Refusal::MethodNotAllowed
            | Refusal::TooLarge { .. }
            | Refusal::TooSlow
            | Refusal::Unreadable(_)
            | Refusal::Unsupported(_)
            | Refusal::AddressNotAllowed
            | Refusal::NotVerified(_)
            | Refusal::Overloaded(_)
            | Refusal::Draining
            | Refusal::StoreUnavailable
            | Refusal::AuditUnavailable
            | Refusal::Bug,
        ) => Kind::Rejected,
    }
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
