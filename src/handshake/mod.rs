//! Answers a provider's challenge, or lets the request pass: unsigned challenges before verification, signed ones after.
//!
//! A challenge is recognised by its method and by values of its head or body ([`Rule`]). It touches nothing: no store, no record that
//! the answer depends on, no app. The exception is a secret that a provider sends once: it is kept, and only in a window
//! that the operator has opened ([`Captures`]).

mod capture;
mod rule;

use std::{sync::Arc, time::Instant};

use http::Method;
use tower::ServiceExt as _;

pub use capture::{Captured, Captures, State};
pub use rule::{Charset, Echo, Function, Rule, RuleParts};
pub(crate) use rule::{Reply, Test};

use crate::{
    answer::{Answer, Outcome, Reason, Refusal, annotate},
    receive::Envelope,
    stage::{Next, Stage},
    telemetry::SourceMetrics,
    verify::{Presented, Sought, Template, Verified, Verifier, View},
};
use rule::{Met, With, is_signed_for_anybody};

/// Challenges of one source that are answered per second. Providers ask once in a while; whoever floods us must not keep
/// them from being heard.
const ANSWERS_PER_SECOND: u64 = 100;

/// A source's challenges, and what they are answered with.
#[derive(Clone, Debug)]
pub struct Challenges {
    /// How they are recognised and answered.
    pub rules: Vec<Rule>,
    /// What the rules could be asked to sign must be no event.
    pub guards: Vec<Guard>,
    /// Knows the source's secrets.
    pub verifier: Arc<Verifier>,
    /// The URL that the provider has on file.
    pub url: Arc<str>,
    /// Where captured secrets go; none where the source's secret is not captured.
    pub captures: Option<Captures>,
    /// Whether a method that no challenge has looks like an unknown path.
    pub hide_paths: bool,
    /// How many are answered, and how many are refused and why.
    pub metrics: Arc<SourceMetrics>,
}

/// A signed text that consists of nothing that sets it apart from what a responder signs for whoever asks.
#[derive(Clone, Debug)]
pub struct Guard {
    signed: Template,
    sought: Sought,
    echo: Echo,
}

impl Guard {
    /// Refuses requests whose text, as `signed` has it, is one that is signed for whoever asks.
    pub(crate) fn new(signed: Template, echo: Echo) -> Self {
        let sought = Sought::new(signed.values().map(|value| &value.from), None);
        Self { signed, sought, echo }
    }

    fn refuses(&self, request: &Envelope, url: &str) -> bool {
        let view = View::new(Presented::of(request, url), &self.sought);
        let signed = self.signed.text(&view, &[]);
        signed.is_ok_and(|text| is_signed_for_anybody(&text, self.echo))
    }
}

/// The stage of challenges that their provider does not sign.
#[derive(Clone, Debug)]
pub struct Unsigned(pub Arc<Challenges>);

/// The stage of challenges that their provider signs.
#[derive(Clone, Debug)]
pub struct Signed(pub Arc<Challenges>);

impl<N: Next<Envelope>> Stage<Envelope, N> for Unsigned {
    async fn pass(self, envelope: Envelope, next: N) -> Answer {
        match self.0.meet(false, &envelope, 0) {
            Some(met) => self.0.answer(met, &envelope).await,
            None if envelope.method() == Method::POST => next.oneshot(envelope).await,
            // Whatever else has another method than that of events is no request that we know.
            None if self.0.hide_paths => Err(Refusal::UnknownSource.into()),
            None => Err(Refusal::MethodNotAllowed.into()),
        }
    }
}

impl<N: Next<Verified>> Stage<Verified, N> for Signed {
    async fn pass(self, verified: Verified, next: N) -> Answer {
        let Challenges { guards, url, .. } = &*self.0;
        if guards.iter().any(|guard| guard.refuses(verified.envelope(), url)) {
            return Err(self.0.refuse(Reason::SignedForAnybody));
        }
        match self.0.meet(true, verified.envelope(), verified.slot()) {
            Some(met) => self.0.answer(met, verified.envelope()).await,
            None => next.oneshot(verified).await,
        }
    }
}

impl Challenges {
    /// Methods besides that of events.
    pub fn methods(&self) -> Vec<Method> {
        let others = [Method::GET, Method::HEAD, Method::OPTIONS];
        others
            .into_iter()
            .filter(|method| self.rules.iter().any(|rule| rule.takes(method)))
            .collect()
    }

    /// What a request is to the first rule whose challenge it is, among those that are asked at this place.
    fn meet(&self, verified: bool, request: &Envelope, slot: usize) -> Option<Met> {
        let with = With { verifier: &self.verifier, slot, url: &self.url };
        let mut rules = self.rules.iter().filter(|rule| rule.parts.verify == verified);
        rules.find_map(|rule| rule.meet(request, &with))
    }

    async fn answer(&self, met: Met, request: &Envelope) -> Answer {
        let challenge = match met {
            Met::Answered(challenge) => {
                let admitted = self.metrics.challenges.take_of(ANSWERS_PER_SECOND, Instant::now());
                admitted.ok_or(Refusal::Overloaded("challenges"))?;
                challenge
            }
            Met::Refused => return Err(self.refuse(Reason::ChallengeRefused)),
            Met::Capture { secret, challenge } => {
                let Some(captures) = &self.captures else {
                    return Err(self.refuse(Reason::CaptureClosed));
                };
                match captures.take(request.source(), request.receipt(), secret).await {
                    Ok(()) => challenge,
                    Err(State::Closed) => return Err(self.refuse(Reason::CaptureClosed)),
                    Err(_) => return Err(Refusal::AuditUnavailable.into()),
                }
            }
        };
        let report = challenge.report.clone();
        annotate(Ok(Outcome::Handshake(challenge).into()), |notes| notes.report = report)
    }

    fn refuse(&self, reason: Reason) -> crate::answer::Answered<Refusal> {
        self.metrics.failures.count(reason.class());
        Refusal::NotVerified(reason).into()
    }
}
