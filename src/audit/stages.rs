//! The stages: record before the effect, note what became of it, and look at every answer on its way back.

use std::sync::Arc;

use tower::ServiceExt as _;

use super::{AuditError, AuditLog, Detail, Draft, Flagged, Kind, Recorded, Rejected};
use crate::{
    answer::{Answer, Answered, Notes, Outcome, Recording, Refusal, Verdict, annotate},
    dedup::{Fresh, Lease},
    event::{Digest, Name},
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
    let ending = ending_of(&draft);
    let seq = log.append(draft).await.map_err(|error| unavailable(&error))?;
    let answer = next.call(recorded(seq)).await;
    log.note(ended(Draft { attempt_seq: Some(seq), ..ending }, &answer));
    annotate(answer, |notes| notes.audit_seq = Some(seq))
}

/// What the record of how it ended repeats of the attempt's: not where the request came from.
fn ending_of(attempt: &Draft) -> Draft {
    Draft {
        kind: Kind::Outcome,
        receipt: attempt.receipt,
        source: attempt.source.clone(),
        about: attempt.about.clone(),
        unverified_type: attempt.unverified_type.clone(),
        body: attempt.body,
        route: attempt.route.clone(),
        upstream: attempt.upstream.clone(),
        attempt: attempt.attempt,
        ..Draft::default()
    }
}

fn unavailable(error: &AuditError) -> Answered<Refusal> {
    let mut answered = Answered::from(Refusal::AuditUnavailable);
    answered.notes.error = Some(error.to_string().into());
    answered
}

fn attempt(routed: &Routed, lease: &Lease, detail: &Detail) -> Draft {
    let (event, target) = (routed.event(), routed.target());
    Draft {
        kind: Kind::Attempt,
        about: Some(event.about().clone()),
        route: Some(target.route.clone()),
        upstream: Some(target.upstream.clone()),
        attempt: Some(lease.attempt()),
        reason: excuse(lease),
        ..request(event.envelope(), detail)
    }
}

/// Why the app may have had the event before.
fn excuse(lease: &Lease) -> Option<&'static str> {
    match (lease.unclaimed(), lease.after_unknown()) {
        (true, _) => Some("dedup_unavailable"),
        (false, true) => Some("previous_attempt_unknown"),
        (false, false) => None,
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
            return record_first(&self.log, draft, next, |_| Flagged { shadow }).await;
        }
        // Without a working log nothing is forwarded, recorded or not.
        if let Some(trouble) = self.log.health().trouble {
            return Err(unavailable(&trouble));
        }
        next.oneshot(Flagged { shadow }).await
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
        let _under_way = self.log.under_way();
        let seen = Draft {
            receipt: Some(inbound.receipt),
            client_ip: self.detail.keep_ip(inbound.peer.ip),
            headers: self.detail.keep_headers(inbound.request.headers()),
            ..Draft::default()
        };
        let answer = next.oneshot(inbound).await;
        self.record(seen, answer).await
    }
}

impl Note {
    async fn record(&self, seen: Draft, answer: Answer) -> Answer {
        let (verdict, _, notes) = read(&answer);
        match verdict.recording {
            Recording::ByDelivery if notes.unsettled => self.log.note(self.draft(seen, &answer)),
            Recording::ByDelivery | Recording::Counted => {}
            Recording::Sampled if self.detail.rejected == Rejected::None => {}
            Recording::Sampled => self.log.rejected(&self.source, self.draft(seen, &answer)),
            Recording::Noted => self.log.note(self.draft(seen, &answer)),
            Recording::Durable => {
                return match self.log.append(self.draft(seen, &answer)).await {
                    Ok(seq) => annotate(answer, |notes| notes.audit_seq = Some(seq)),
                    Err(error) => Err(keep_notes(unavailable(&error), answer)),
                };
            }
        }
        answer
    }

    fn draft(&self, seen: Draft, answer: &Answer) -> Draft {
        let (.., notes) = read(answer);
        let draft = Draft {
            kind: kind(answer),
            source: Some(self.source.clone()),
            about: notes.about.clone(),
            attempt: notes.attempt,
            route: notes.route.clone(),
            upstream: notes.upstream.clone(),
            ..seen
        };
        ended(draft, answer)
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

fn ended(draft: Draft, answer: &Answer) -> Draft {
    let (verdict, reason, notes) = read(answer);
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

/// Under which kind an answer goes on record that is not recorded by its delivery.
fn kind(answer: &Answer) -> Kind {
    match answer.as_ref().map(|a| &a.what).map_err(|r| &r.what) {
        Ok(Outcome::Duplicate(_) | Outcome::SameIdOtherBody | Outcome::SuspectedReplay)
        | Err(Refusal::InFlight { .. }) => Kind::Duplicate,
        Ok(Outcome::Ignored(_)) | Err(Refusal::Unrouted) => Kind::Ignored,
        Ok(Outcome::Handshake(_)) => Kind::Handshake,
        Ok(Outcome::Accepted(_) | Outcome::Shadowed(_)) => Kind::Outcome,
        Err(Refusal::Malformed(_)) => Kind::Malformed,
        Err(_) => Kind::Rejected,
    }
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
