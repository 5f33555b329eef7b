//! Says why a signature does or does not match: checks a request as the gateway would, and where it does not hold, tries what
//! usually was done to it on the way, one thing at a time.
//!
//! For operators, who have the secrets. What it says holds no secret, no expected signature, and nothing made from a secret
//! but fingerprints.

mod json;
mod known;
mod raw;
mod suspects;
pub(crate) mod vectors;

use std::fmt::Write as _;

use http::HeaderMap;

pub use raw::Raw;

use crate::{
    answer::Reason,
    config::Source,
    event::Timestamp,
    units::Span,
    verify::{LiveSecret, NoKeys, Presented, Proof, Scheme, Stop, Verifier, Want, url_with},
};
use known::{Key, Signed, written};

/// A request under examination: what it is, and by what it is checked.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) raw: Raw,
    schemes: Vec<Scheme>,
    secrets: Vec<LiveSecret>,
    /// What the provider has on file, without a query.
    url: String,
    received_at: Timestamp,
}

/// How a case came out; a sentence where it cannot even be checked.
type Verdict = Result<Result<Proof, Stop>, String>;

impl Case {
    /// The request as it would meet `source`.
    pub(crate) fn new(raw: Raw, source: &Source, received_at: Timestamp) -> Self {
        let url = source.public_url.clone();
        let (schemes, secrets) = (source.language.schemes.clone(), source.secrets.clone());
        Self { raw, schemes, secrets, url, received_at }
    }

    fn verdict(&self) -> Verdict {
        let verifier = Verifier::new(self.schemes.clone(), self.secrets.clone(), &self.url)?;
        let query = self.raw.target.split_once('?').map(|(_, query)| query);
        Ok(verifier.judge(&self.presented(&url_with(&self.url, query)), &NoKeys))
    }

    /// The scheme that counts for it; the first, where none does.
    fn scheme(&self) -> Option<&Scheme> {
        let request = self.presented(&self.url);
        let counting = self.schemes.iter().find(|scheme| scheme.counts(&request));
        counting.or(self.schemes.first())
    }

    fn presented<'p>(&'p self, url: &'p str) -> Presented<'p> {
        Presented {
            method: &self.raw.method,
            url,
            target: if self.raw.target.is_empty() { "/" } else { &self.raw.target },
            headers: &self.raw.headers,
            body: &self.raw.body,
            received_at: self.received_at,
        }
    }

    /// Whether the signature matches, whatever the time.
    fn is_signed(&self) -> bool {
        let off = |stop| matches!(stop, Stop::Refused(reason) if is_off(reason));
        self.verdict().is_ok_and(|verdict| verdict.map_or_else(off, |_| true))
    }
}

const fn is_off(reason: Reason) -> bool {
    matches!(reason, Reason::TimestampPast | Reason::TimestampFuture)
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    /// The scheme that counts, in a line.
    pub(crate) scheme: Option<String>,
    /// Whether the gateway would let the request pass.
    pub(crate) holds: bool,
    /// The name of the reason, where it would not.
    pub(crate) reason: Option<&'static str>,
    /// What was looked at, and how that came out.
    pub(crate) findings: Vec<(String, String)>,
    /// What was tried, and whether the signature matched then.
    pub(crate) tried: Vec<(String, bool)>,
    /// What it is, in a sentence or two.
    pub(crate) verdict: String,
}

/// Examines a request that is meant for `source`, one of `sources`.
pub(crate) fn examine(sources: &[Source], source: &Source, raw: Raw, at: Timestamp) -> Diagnosis {
    let case = Case::new(raw, source, at);
    let (key, signed) = (case.scheme().map_or(Key::Shared, Key::of), Signed::of(&case));
    let mut findings = headers(&case);
    findings.extend(body(&case));
    findings.extend(signed.as_ref().map(Signed::finding));
    let told = |holds, reason: Option<Reason>, verdict: String| Diagnosis {
        scheme: case.scheme().map(written),
        holds,
        reason: reason.map(Reason::as_str),
        findings: findings.clone(),
        tried: Vec::new(),
        verdict,
    };
    match case.verdict() {
        Err(why) => {
            told(false, None, format!("Source `{}` cannot be checked: {why}.", source.name))
        }
        Ok(Ok(proof)) => {
            let mut diagnosis = told(true, None, "The signature holds.".into());
            let signed_at = proof.signed_at.filter(|_| signed.is_none());
            let age = signed_at.map(|time| format!(", signed {}", ago(at, time)));
            let name = format!("{} #{} {}", key.name(), proof.slot, proof.label);
            diagnosis.findings.push((name, format!("match{}", age.unwrap_or_default())));
            diagnosis
        }
        Ok(Err(Stop::Wanting(want))) => told(false, Some(Reason::KeyNotFetched), unfetched(&want)),
        Ok(Err(Stop::Refused(reason))) if is_off(reason) => {
            told(false, Some(reason), off(&case, reason))
        }
        Ok(Err(Stop::Refused(reason))) => {
            let mut diagnosis = told(false, Some(reason), String::new());
            diagnosis.findings.extend(unmatched(source, key, at));
            let (tried, mut verdict) = suspects::find(sources, source, &case, reason);
            verdict.extend(signed.and_then(|signed| signed.besides()));
            Diagnosis { tried, verdict, ..diagnosis }
        }
    }
}

/// The source's keys, none of which made the signature.
fn unmatched(
    source: &Source,
    key: Key,
    at: Timestamp,
) -> impl Iterator<Item = (String, String)> + '_ {
    source.secrets.iter().enumerate().map(move |(i, live)| {
        let name = format!("{} #{} {}", key.name(), i + 1, live.secret.fingerprint());
        let expired = live.expires.is_some_and(|expires| expires <= at);
        (name, if expired { "expired" } else { "no match" }.to_owned())
    })
}

/// The key is published, and nothing is known without it.
fn unfetched(want: &Want) -> String {
    format!(
        "The key that checks this signature is published at {}, and is not fetched here, so nothing is known of the signature. Fetch it by \
         hand, and give the certificate, the public key or the JWKS to the source, in a copy of the configuration: `secret: {{ file: … }}`. \
         Then ask again.",
        want.url
    )
}

/// The signature is right and its time is not.
fn off(case: &Case, reason: Reason) -> String {
    let mut verifies_then = case.clone();
    let mut text = "The signature is right; ".to_owned();
    // The signed time itself: the one moment at which every tolerance holds.
    let times =
        case.schemes.iter().filter_map(|scheme| scheme.shown_time(&case.presented(&case.url)));
    let signed = times.map(|(time, _)| time).find(|time| {
        verifies_then.received_at = *time;
        verifies_then.verdict().is_ok_and(|verdict| verdict.is_ok())
    });
    let when =
        signed.map_or_else(String::new, |signed| format!(" ({})", ago(case.received_at, signed)));
    let _fits = if reason == Reason::TimestampPast {
        write!(
            text,
            "its time is further back{when} than `tolerance` allows. Check the clocks (`timedatectl`); if the request waited in a \
             queue or was replayed by hand, that is what this limit is for. For a request from a file, say when it came: `--at TIME`."
        )
    } else {
        write!(
            text,
            "its time is ahead of this machine's clock{when}. Check the clock (`timedatectl`)."
        )
    };
    text
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    let round = |span: std::time::Duration| match span.as_secs() {
        0 => Span(span),
        // Of days no minutes.
        secs @ 86_400.. => Span::secs(secs - secs % 3600),
        secs => Span::secs(secs),
    };
    if then > now {
        format!("{} ahead", round(then.since(now)))
    } else {
        format!("{} ago", round(now.since(then)))
    }
}

/// The headers that carry signatures, and whether they are there.
fn headers(case: &Case) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    for name in case.schemes.iter().flat_map(Scheme::signature_headers) {
        let found = match case.raw.headers.get_all(name).iter().count() {
            0 => "missing",
            1 => "present",
            _ => "there several times, which is refused",
        };
        let line = (format!("header {name}"), found.to_owned());
        if !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen
}

/// What is odd about the body.
fn body(case: &Case) -> Vec<(String, String)> {
    let (raw, mut found) = (&case.raw, Vec::new());
    if let Some(says) = raw.says_other_length() {
        let differs = format!("{} bytes, but `Content-Length` says {says}", raw.body.len());
        found.push(("body".to_owned(), differs));
    }
    if let Some(coding) = coding(&raw.headers) {
        let what = format!("`{coding}`: verified as it came, never inflated");
        found.push(("content-encoding".to_owned(), what));
    }
    if std::str::from_utf8(&raw.body).is_err() {
        found.push(("body".to_owned(), "is not UTF-8".to_owned()));
    }
    found
}

fn coding(headers: &HeaderMap) -> Option<&str> {
    let coding = headers.get(http::header::CONTENT_ENCODING)?.to_str().ok()?;
    (!coding.eq_ignore_ascii_case("identity")).then_some(coding)
}

/// Why a request was not believed, for an operator: what it means, and what to look at.
pub(crate) fn explain(reason: &str) -> &'static str {
    match reason {
        "signature_missing" => "The header that carries the signature was not there.",
        "header_repeated" => {
            "A header that must come once came several times: something on the way adds its own."
        }
        "signature_malformed" => {
            "What stood where the signature belongs is not one: another encoding, a prefix too much or too few, or cut off."
        }
        "signatures_too_many" => "There were more signatures than are looked at.",
        "signature_wrong" => {
            "The signature is well formed and no live secret made it: another secret, or the bytes were changed on the way."
        }
        "timestamp_missing" => "The signed time was not there.",
        "timestamp_repeated" => "The signed time came several times.",
        "timestamp_malformed" => "The signed time is not written as this scheme writes it.",
        "timestamp_past" => {
            "The signature was right and too old: a clock, a queue in front, or a replay."
        }
        "timestamp_future" => "The signature was right and its time ahead of ours: a clock.",
        "input_missing" => {
            "Something else that is signed over was not there: a header, a query parameter, a field of the body."
        }
        "input_ambiguous" => "Something that is signed over could be read in two ways.",
        "requirement_failed" => {
            "The signature was right, but what the scheme requires besides did not hold."
        }
        "secret_expired" => "Every secret of the source had expired.",
        "algorithm_refused" => {
            "The token is signed with an algorithm that the scheme does not allow."
        }
        "claim_failed" => "The signature was right, but the token does not say what it must.",
        "issuer_wrong" => "The signature was right, but the token is another issuer's.",
        "audience_wrong" => "The signature was right, but the token is for another audience.",
        "key_unknown" => "No key of the source has the name that the request gives.",
        "key_source_refused" => {
            "The request names a place for its key or certificate that is not one of its provider's."
        }
        "certificate_refused" => {
            "The certificate is not for this, is not good at that time, or leads to no root that is trusted."
        }
        "key_not_fetched" => "The key is published, and was not fetched here.",
        "challenge_refused" => "It was a challenge, and a token or a name in it was another.",
        "capture_closed" => {
            "It brought a secret that nobody waited for: run `gatepost providers capture` first."
        }
        "signed_for_anybody" => {
            "Its signed text is one that the provider's challenge lets anybody have signed."
        }
        _ => "It was not refused for its signature.",
    }
}
