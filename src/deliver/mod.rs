//! Brings a recorded event to an upstream and says what became of it. The end of the flow.
//!
//! A `POST` is never repeated once a byte of it was written; redirects are never followed; of an upstream's answer only
//! the status, and with `reply: full` a bounded body and its content type, reach the provider (`decisions` 24).

mod connect;
mod headers;
mod pool;
mod sign;
mod upstream;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::{
    answer::{Answer, Answered, Outcome, RETRY_AFTER, Refusal, Relayed, annotate},
    audit::{Flagged, Recorded},
    crash,
    event::{Name, Timestamp},
    receive::Envelope,
    route::Target,
    stage::Next,
    units::{choices, sections},
};
pub use connect::Dial;
pub(crate) use connect::is_metadata;
use headers::{Names, Standing};
pub use sign::{Sign, StandardKey};
pub use upstream::Upstream;
use upstream::{Exchanged, Late};

/// An upstream as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamParams {
    /// Its name.
    pub name: Name,
    /// Where it answers; several are balanced.
    pub urls: Vec<Uri>,
    /// How one of several is chosen.
    pub balance: Balance,
    /// How long connecting (TLS included) may take.
    pub connect_timeout: Duration,
    /// Attempts in flight at once; more wait within their timeout.
    pub concurrency: usize,
    /// Idle connections are closed after this; keep it below the app's own keep-alive (Node: 5 s).
    pub idle_timeout: Duration,
    /// Which HTTP version is spoken.
    pub http: HttpVersion,
    /// Request headers that are taken out.
    pub remove_headers: Vec<HeaderName>,
    /// Request headers that are set.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// How its certificate is checked and ours is shown.
    pub tls: UpstreamTls,
    /// Where its names may lead; anywhere but to a cloud's metadata service, where there are none.
    pub networks: Vec<IpNet>,
}

choices! {
    /// How one of several urls is chosen.
    pub enum Balance {
        /// In turn.
        RoundRobin,
        /// The one with the fewest attempts in flight.
        LeastBusy,
    }

    /// Which HTTP version is spoken to an upstream.
    pub enum HttpVersion {
        /// By ALPN over TLS; HTTP/1.1 without.
        #[serde(rename = "auto")]
        Auto,
        /// HTTP/1.1.
        #[serde(rename = "1.1")]
        Http1,
        /// HTTP/2; without TLS by prior knowledge (RFC 9113 §3.3).
        #[serde(rename = "2")]
        Http2,
    }
}

sections! {
    /// TLS towards an upstream.
    pub struct UpstreamTls {
        /// PEM of the CA to trust instead of the system's.
        pub ca: Option<PathBuf>,
        /// PEM of our client certificate.
        pub cert: Option<PathBuf>,
        /// PEM of its key.
        pub key: Option<PathBuf>,
        /// Name to check and to send (SNI) instead of the url's host.
        pub server_name: Option<String>,
    }
}

/// What goes to upstreams besides the event itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose events these are.
    pub source: Name,
    /// Prefix of our headers, such as `gatepost-`.
    pub header_prefix: String,
    /// Our public host, for `Forwarded` and `X-Forwarded-Host`.
    pub host: Option<String>,
    /// Whether the source's own scheme reads `Authorization`, so that it is passed on.
    pub keep_authorization: bool,
}

/// How events of a source are signed, by upstream; those of others go out as they came in.
pub type Signs = HashMap<Name, Sign>;

/// The end of the flow. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deliver(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    upstreams: Arc<HashMap<Name, Arc<Upstream>>>,
    names: Names,
    signs: Arc<Signs>,
    tracker: TaskTracker,
    /// How long a late answer is waited for.
    late: Duration,
}

impl Deliver {
    /// Delivers to `upstreams`. Attempts that outlast their timeout are watched for `late` more, in tasks of `tracker`.
    pub fn new(
        upstreams: Arc<HashMap<Name, Arc<Upstream>>>,
        identity: &Identity,
        signs: Arc<Signs>,
        tracker: TaskTracker,
        late: Duration,
    ) -> Self {
        Self(Arc::new(Parts { upstreams, names: Names::new(identity), signs, tracker, late }))
    }

    /// The end of a stack for what was verified.
    pub fn service(self) -> impl Next<Recorded> {
        tower::service_fn(move |recorded| self.clone().forward(recorded))
    }

    /// The end of a stack for what passes in shadow mode only.
    pub fn flagged_service(self) -> impl Next<Flagged> {
        tower::service_fn(move |flagged| self.clone().forward_flagged(flagged))
    }

    async fn forward(self, recorded: Recorded) -> Answer {
        let (routed, lease) = (recorded.routed(), recorded.lease());
        let event = routed.event();
        let standing = Standing::Verified {
            about: event.about(),
            attempt: lease.attempt(),
            after_unknown: lease.after_unknown(),
            unclaimed: lease.unclaimed(),
        };
        // Past its lease somebody else may deliver the event; then it must not be sent.
        if !lease.ensure(routed.target().timeout + LEASE_MARGIN).await {
            return Err(Refusal::StoreUnavailable.into());
        }
        let sent = self.attempt(event.envelope(), standing, routed.target(), Some(&recorded));
        let answer = sent.await;
        annotate(answer, |notes| notes.attempt = Some(lease.attempt()))
    }

    async fn forward_flagged(self, flagged: Flagged) -> Answer {
        let shadow = flagged.shadow();
        let standing = Standing::Unverified(shadow.unverified().reason());
        let answer =
            self.attempt(shadow.unverified().envelope(), standing, shadow.target(), None).await;
        answer.map(|answered| match answered.what {
            Outcome::Accepted(relayed) => Answered { what: Outcome::Shadowed(relayed), ..answered },
            _ => answered,
        })
    }

    /// One attempt, from headers to a verdict.
    async fn attempt(
        &self,
        envelope: &Envelope,
        standing: Standing<'_>,
        target: &Target,
        recorded: Option<&Recorded>,
    ) -> Answer {
        let Some(upstream) = self.0.upstreams.get(&target.upstream) else {
            return Err(Refusal::Bug.into()); // the configuration knows every upstream that a route names
        };
        let mut request = Request::new(Full::new(envelope.body().clone()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() =
            headers::build(envelope, standing, &self.0.names, upstream.params());
        if let Err(why) = self.sign(request.headers_mut(), envelope, standing, target) {
            return annotate(Err(Refusal::UpstreamFailed.into()), |notes| {
                notes.error = Some(format!("cannot be signed for the app: {why}").into());
            });
        }
        let since = Instant::now();
        let exchanged = upstream.exchange(request, target.reply_full, since + target.timeout).await;
        crash::point("after_upstream");
        let took = since.elapsed();
        upstream.metrics.duration.observe(took.as_secs_f64());
        annotate(self.conclude(exchanged, upstream, recorded), |notes| {
            notes.upstream = Some(target.upstream.clone());
            notes.upstream_time = Some(took);
        })
    }

    /// Signs what was verified, where the upstream wants that.
    fn sign(
        &self,
        headers: &mut HeaderMap,
        envelope: &Envelope,
        standing: Standing<'_>,
        target: &Target,
    ) -> Result<(), String> {
        match (self.0.signs.get(&target.upstream), standing) {
            (Some(sign), Standing::Verified { about, .. }) => {
                let (id, original) = (about.key.event_id(), self.0.names.original());
                sign.apply(headers, envelope, &id, original, Timestamp::now())
            }
            (None, _) | (_, Standing::Unverified(_)) => Ok(()),
        }
    }

    /// Counts an exchange and says what it means.
    fn conclude(
        &self,
        exchanged: Exchanged,
        upstream: &Upstream,
        recorded: Option<&Recorded>,
    ) -> Answer {
        let failed = |refusal: Refusal, result, error: String| {
            upstream.metrics.results.count(result);
            annotate(Err(refusal.into()), |notes| notes.error = Some(error.into()))
        };
        match exchanged {
            Exchanged::Answered { status, headers, body } => {
                upstream.metrics.results.count(class(status));
                let relayed = judge(status, &headers).map(|()| Relayed {
                    status,
                    content_type: body
                        .is_some()
                        .then(|| headers.get(header::CONTENT_TYPE))
                        .flatten()
                        .cloned(),
                    full: body.is_some(),
                    body: body.unwrap_or_default(),
                });
                let answer = relayed.map(|relayed| Outcome::Accepted(relayed).into());
                annotate(answer.map_err(Answered::from), |notes| {
                    notes.upstream_status = Some(status);
                })
            }
            Exchanged::NotSent(why) => failed(Refusal::UpstreamFailed, why.result, why.error),
            Exchanged::NoRoom => Err(Refusal::Overloaded("upstream_concurrency").into()),
            Exchanged::Broke(result, error) => failed(Refusal::UpstreamBroke, result, error),
            Exchanged::Late(late) => {
                upstream.metrics.results.count("timeout");
                self.wait_for(late, recorded);
                Err(Refusal::UpstreamTimeout.into())
            }
        }
    }

    /// The app may still accept the event; then it is done, and its retry a duplicate that rests on a record.
    fn wait_for(&self, late: Late, recorded: Option<&Recorded>) {
        let Some(recorded) = recorded else { return };
        let (lease, ending) = (recorded.lease().clone(), recorded.late_ending());
        let until = Instant::now() + self.0.late;
        drop(self.0.tracker.spawn(async move {
            let Ok(Some(status)) = timeout_at(until, late).await else { return };
            if status.is_success() {
                let unsettled = lease.settle_late().await.err();
                if let Some(error) = &unsettled {
                    tracing::error!(kind = "attempt", %error, "a late success could not be recorded as done");
                }
                ending.accepted(status, unsettled);
            }
        }));
    }
}

/// What an upstream's answer means for the provider; `Ok` where the event was accepted.
///
/// Nothing reaches a provider that could make it give up: no 3xx, 409, 410, 429, and nothing that is our own
/// misconfiguration and not the event's fault.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Refusal> {
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 425 | 429 | 503 => Err(Refusal::UpstreamBusy { retry_after: retry_after(headers) }),
        401 | 403 | 404 | 405 | 407 | 410 => Err(Refusal::UpstreamFailed),
        // "Conflict" makes some senders believe that the event is known; the app meant that it cannot take it.
        409 => Err(Refusal::UpstreamRejected(StatusCode::UNPROCESSABLE_ENTITY)),
        400..=499 => Err(Refusal::UpstreamRejected(status)),
        _ => Err(Refusal::UpstreamFailed),
    }
}

/// The upstream's `Retry-After` (RFC 9110 §10.2.3) in seconds, between one second and an hour.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds =
        headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = seconds.map_or(RETRY_AFTER, Duration::from_secs);
    wait.clamp(Duration::from_secs(1), RETRY_AFTER_MAX)
}

/// The class under which an answer is counted.
const fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx", // as is everything beyond (RFC 9110 §15)
    }
}

/// How much lease is left at the least when a delivery ends at its timeout.
const LEASE_MARGIN: Duration = Duration::from_millis(250);
/// The longest `Retry-After` that is passed on.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
