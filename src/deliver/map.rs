//! What an upstream's answer means for the provider. Pure.
//!
//! Nothing reaches a provider that could make it give up: no 3xx, 409, 410, 429, and nothing that is our own
//! misconfiguration and not the event's fault.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use crate::answer::{RETRY_AFTER, Refusal};

/// The longest `Retry-After` that is passed on.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// `Ok` where the upstream accepted the event.
pub(super) fn map(status: StatusCode, headers: &HeaderMap) -> Result<(), Refusal> {
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
pub(super) const fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "garbage",
    }
}
