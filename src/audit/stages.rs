//! The stages: record before the effect, note what became of it, and look at every answer on its way back.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderName, HeaderValue, StatusCode};
use tower::ServiceExt as _;

use super::{AuditError, AuditLog, Detail, Draft, Flagged, Kind, Recorded, Rejected};
use crate::{
    answer::{Answer, Answered, Manners, Notes, Outcome, Recording, Refusal, Verdict, annotate},
    crash,
    dedup::{Fresh, Lease, StoreError},
    event::{Digest, EventType, Name, Receipt},
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
        let (mut attempt, ending) = delivery(Kind::Attempt, &routed, &lease).and_ending();
        origin(&mut attempt, routed.event().envelope(), &self.detail);
        attempt.text("reason", excuse(&lease));
        let (held, log) = (lease.clone(), self.log.clone());
        let recorded = |seq| Recorded { routed, lease, seq, log };
        let (log, detail) = (self.log.clone(), Arc::clone(&self.detail));
        let note = |ending, _: &Answer| {
            held.finally(move |answer| conclude(&log, ending, answer, &detail.manners));
        };
        record_first(&self.log, attempt, next, recorded, ending, note).await
    }
}

impl Recorded {
    /// What is left to be said once the app's word comes after its time.
    pub fn late_ending(&self) -> LateEnding {
        let mut draft = delivery(Kind::Outcome, &self.routed, &self.lease);
        draft.number("attempt_seq", Some(self.seq));
        LateEnding { log: self.log.clone(), draft }
    }
}

/// A second ending of an attempt that was given up.
#[derive(Debug)]
pub struct LateEnding {
    log: AuditLog,
    draft: Draft,
}

impl LateEnding {
    /// The app has accepted the event, and the store knows it or could not be told. No sender hears of it before its retry,
    /// whose answer rests on this.
    pub fn accepted(mut self, status: StatusCode, unsettled: Option<StoreError>) {
        self.draft.text("outcome", Some("accepted"));
        self.draft.text("reason", Some("late"));
        self.draft.number("upstream_status", Some(status.as_u16()));
        let unsettled = unsettled.map(|error| format!("not settled: {error}"));
        self.draft.text("error", unsettled.as_deref());
        self.log.note(self.draft);
    }
}

/// Room first, then the record, then the effect: what cannot be taken on is refused without a record.
async fn record_first<T, N: Next<T>>(
    log: &AuditLog,
    attempt: Draft,
    mut next: N,
    recorded: impl FnOnce(u64) -> T,
    mut ending: Draft,
    note: impl FnOnce(Draft, &Answer),
) -> Answer {
    next.ready().await?;
    let seq = log.append(attempt).await.map_err(|error| unavailable(&error))?;
    let _under_way = log.recorded();
    crash::point("after_record");
    let answer = next.call(recorded(seq)).await;
    ending.number("attempt_seq", Some(seq));
    note(ending, &answer);
    annotate(answer, |notes| notes.audit_seq = Some(seq))
}

/// Notes how an attempt ended.
fn conclude(log: &AuditLog, mut ending: Draft, answer: &Answer, manners: &Manners) {
    ended(&mut ending, answer, manners);
    log.note(ending);
}

fn unavailable(error: &AuditError) -> Answered<Refusal> {
    let mut answered = Answered::from(Refusal::AuditUnavailable);
    answered.notes.error = Some(error.to_string().into());
    answered
}

/// Why the app may have had the event before.
fn excuse(lease: &Lease) -> Option<&'static str> {
    match (lease.unclaimed(), lease.after_unknown()) {
        (true, _) => Some("dedup_unavailable"),
        (false, true) => Some("previous_attempt_unknown"),
        (false, false) => None,
    }
}

fn request(kind: Kind, envelope: &Envelope) -> Draft {
    let mut draft = Draft::new(kind);
    draft.request(envelope.receipt(), envelope.source());
    draft
}

/// The same where an event is delivered: which one it is, and where it goes.
fn delivery(kind: Kind, routed: &Routed, lease: &Lease) -> Draft {
    let (event, target) = (routed.event(), routed.target());
    let mut draft = request(kind, event.envelope());
    draft.event(event.about());
    draft.target(Some(&target.route), Some(&target.upstream), Some(lease.attempt()));
    draft
}

/// What only the first record of a request says.
fn origin(draft: &mut Draft, envelope: &Envelope, detail: &Detail) {
    draft.origin(detail.keep_ip(envelope.peer().ip), detail.keep_headers(envelope.headers()));
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
        let envelope = shadow.unverified().envelope();
        let headers = || self.detail.keep_headers(envelope.headers());
        if let Some(whole) = self.log.admits(envelope.source(), headers()) {
            let (mut attempt, ending) = would_refuse(&shadow);
            let client_ip = self.detail.keep_ip(envelope.peer().ip);
            attempt.origin(client_ip, headers().filter(|_| whole));
            let reason = shadow.unverified().reason();
            attempt.text("outcome", Some(Refusal::NotVerified(reason).verdict().name));
            attempt.text("reason", Some(reason.as_str()));
            let manners = &self.detail.manners;
            let note = |ending, answer: &Answer| conclude(&self.log, ending, answer, manners);
            let flagged = |_| Flagged { shadow };
            return record_first(&self.log, attempt, next, flagged, ending, note).await;
        }
        // Without a working log nothing is forwarded, recorded or not.
        if let Some(trouble) = self.log.health().trouble {
            return Err(unavailable(&trouble));
        }
        next.oneshot(Flagged { shadow }).await
    }
}

fn would_refuse(shadow: &Shadow) -> (Draft, Draft) {
    let (envelope, target) = (shadow.unverified().envelope(), shadow.target());
    let mut both = request(Kind::Shadow, envelope);
    both.text("unverified_type", shadow.kind().map(EventType::as_str));
    both.body(&Digest::of(envelope.body()), envelope.body().len() as u64);
    both.target(Some(&target.route), Some(&target.upstream), None);
    both.and_ending()
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

/// What is known of a request before anything is done with it.
struct Seen {
    receipt: Receipt,
    client_ip: Option<IpAddr>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<B: Send + 'static, N: Next<Inbound<B>>> Stage<Inbound<B>, N> for Note {
    async fn pass(self, inbound: Inbound<B>, next: N) -> Answer {
        let _under_way = self.log.under_way();
        let headers = self.detail.keep_headers(inbound.request.headers());
        let seen = Seen {
            receipt: inbound.receipt,
            client_ip: self.detail.keep_ip(inbound.peer.ip),
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        let answer = next.oneshot(inbound).await;
        self.record(seen, answer).await
    }
}

impl Note {
    async fn record(&self, mut seen: Seen, answer: Answer) -> Answer {
        match read(&answer, &self.detail.manners).0.recording {
            Recording::ByDelivery | Recording::Counted => {}
            Recording::Sampled if self.detail.rejected == Rejected::None => {}
            Recording::Sampled => {
                if let Some(whole) = self.log.admits(&self.source, pairs(&seen.headers)) {
                    seen.headers.truncate(if whole { usize::MAX } else { 0 });
                    self.log.note(self.draft(&seen, &answer));
                }
            }
            Recording::Noted => self.log.note(self.draft(&seen, &answer)),
            Recording::Durable => {
                return match self.log.append(self.draft(&seen, &answer)).await {
                    Ok(seq) => annotate(answer, |notes| notes.audit_seq = Some(seq)),
                    Err(error) => Err(keep_notes(unavailable(&error), answer)),
                };
            }
        }
        answer
    }

    fn draft(&self, seen: &Seen, answer: &Answer) -> Draft {
        let (.., notes) = read(answer, &self.detail.manners);
        let mut draft = Draft::new(kind(answer));
        draft.request(seen.receipt, &self.source);
        if let Some(about) = &notes.about {
            draft.event(about);
        }
        draft.target(notes.route.as_ref(), notes.upstream.as_ref(), notes.attempt);
        draft.origin(seen.client_ip, pairs(&seen.headers));
        ended(&mut draft, answer, &self.detail.manners);
        draft
    }
}

fn pairs(
    headers: &[(HeaderName, HeaderValue)],
) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().map(|(name, value)| (name, value))
}

/// A refusal that knows what was known about the answer it replaces.
fn keep_notes(mut refusal: Answered<Refusal>, answer: Answer) -> Answered<Refusal> {
    let mut notes = answer.map_or_else(|refused| refused.notes, |answered| answered.notes);
    notes.error = refusal.notes.error.take();
    Answered { what: refusal.what, notes }
}

fn read<'a>(answer: &'a Answer, manners: &Manners) -> (Verdict, Option<&'static str>, &'a Notes) {
    let verdict = manners.verdict(answer);
    match answer {
        Ok(answered) => (verdict, None, &answered.notes),
        Err(refused) => (verdict, refused.what.reason(), &refused.notes),
    }
}

fn ended(draft: &mut Draft, answer: &Answer, manners: &Manners) {
    let (verdict, reason, notes) = read(answer, manners);
    draft.text("outcome", Some(verdict.name));
    draft.text("reason", reason);
    draft.number("status", Some(verdict.status.as_u16()));
    draft.number("upstream_status", notes.upstream_status.map(|status| status.as_u16()));
    if let Some(time) = notes.upstream_time {
        let (seconds, micros) = (time.as_secs(), time.subsec_micros());
        draft.print("upstream_seconds", &format_args!("{seconds}.{micros:06}"));
    }
    draft.text("report", notes.report.as_deref());
    draft.text("error", notes.error.as_deref());
}

/// Under which kind an answer goes on record that is not recorded by its delivery.
fn kind(answer: &Answer) -> Kind {
    match answer.as_ref().map(|a| &a.what).map_err(|r| &r.what) {
        Ok(Outcome::Duplicate(_) | Outcome::SameIdOtherBody | Outcome::SuspectedReplay)
        | Err(Refusal::InFlight { .. } | Refusal::SignedBefore) => Kind::Duplicate,
        Ok(Outcome::Ignored(_)) | Err(Refusal::Unrouted) => Kind::Ignored,
        Ok(Outcome::Handshake(_)) => Kind::Handshake,
        Ok(Outcome::Accepted(_) | Outcome::Shadowed(_)) => Kind::Outcome,
        Err(Refusal::Malformed(_)) => Kind::Malformed,
        Err(_) => Kind::Rejected,
    }
}
