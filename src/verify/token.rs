//! Signed tokens: what a JSON Web Token must say, and what it binds the request to.

use std::time::Duration;

use base64::engine::{Engine as _, general_purpose::STANDARD};
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Presented, Template, jose,
    keyset::at,
    qsh,
    view::{Variable, View},
};
use crate::{answer::Reason, event::Timestamp, json};

/// What a token that was believed says. Templates read it as `{jwt:PATH}` and `{jws:PATH}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Its claims, or what else was signed in it; JSON.
    pub(crate) claims: Vec<u8>,
    /// Its header; JSON.
    pub(crate) header: Vec<u8>,
}

/// What a token must be and say.
#[derive(Clone, Debug)]
pub(crate) struct TokenRules {
    /// What its header must call it.
    pub(crate) kind: Option<String>,
    /// Claims of which the value, or one of a list, must be one of these; of several, the first that is there.
    pub(crate) equal: Vec<(Vec<json::Path>, Vec<Template>)>,
    /// Claims that must be there.
    pub(crate) present: Vec<json::Path>,
    /// A claim that is a time, and how old it may be.
    pub(crate) max_age: Option<(json::Path, Duration)>,
    /// How far the sender's clock may be off.
    pub(crate) skew: Duration,
    /// A claim that is a digest of the body.
    pub(crate) body_hash: Option<BodyHash>,
    /// A claim that is Atlassian's hash of method, path and query, and the path of the URL that paths are relative to.
    pub(crate) path_hash: Option<(json::Path, String)>,
}

/// A claim that is a digest of the body.
#[derive(Clone, Debug)]
pub(crate) struct BodyHash {
    pub(crate) claim: json::Path,
    pub(crate) sha512: bool,
    pub(crate) base64: bool,
    /// Whether a request without a body comes without the claim.
    pub(crate) may_be_empty: bool,
}

impl TokenRules {
    /// Whether the header calls it what it must be called. `application/` may be left out of a media type (RFC 7515 §4.1.9).
    pub(super) fn check_kind(&self, header: &jose::Header) -> Result<(), Reason> {
        let Some(kind) = &self.kind else { return Ok(()) };
        let plain = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.strip_prefix("application/").unwrap_or(&text).to_owned()
        };
        let typ = header.members.get("typ").and_then(Json::as_str);
        if typ.is_some_and(|typ| plain(typ) == plain(kind)) {
            Ok(())
        } else {
            Err(Reason::ClaimFailed)
        }
    }

    /// Checks every claim, after the signature held. Returns when it was issued.
    pub(super) fn check(
        &self,
        claims: &Map<String, Json>,
        view: &View<'_>,
        elements: &[Variable<'_>],
    ) -> Result<Option<Timestamp>, Reason> {
        let whole = Json::Object(claims.clone());
        let claim = |path: &json::Path| at(&whole, path.steps());
        let issued = self.check_times(claims, &claim, view.request.received_at)?;
        let is_there = |path: &json::Path| claim(path).is_some_and(|value| !value.is_null());
        if !self.present.iter().all(is_there) {
            return Err(Reason::ClaimFailed);
        }
        for (paths, accepted) in &self.equal {
            let accepted =
                accepted.iter().filter_map(|template| template.text(view, elements).ok());
            let accepted: Vec<_> = accepted.filter(|text| !text.is_empty()).collect();
            let is_accepted = |value: &Json| {
                scalar(value).is_some_and(|text| accepted.iter().any(|a| **a == *text.as_bytes()))
            };
            let holds = match paths.iter().find_map(claim) {
                Some(Json::Array(values)) => values.iter().any(is_accepted),
                Some(value) => is_accepted(value),
                None => false,
            };
            if !holds {
                return Err(wrong(paths));
            }
        }
        let text = |path| claim(path).and_then(Json::as_str);
        let body = self.body_hash.as_ref();
        let body = body.is_none_or(|hash| match claim(&hash.claim) {
            None => hash.may_be_empty && view.request.body.is_empty(),
            Some(said) => said.as_str().is_some_and(|said| hash.is(said, &view.request)),
        });
        let path = self.path_hash.as_ref();
        let path =
            path.is_none_or(|(path, base)| text(path) == Some(&*qsh::of(&view.request, base)));
        if body && path { Ok(issued) } else { Err(Reason::ClaimFailed) }
    }

    fn check_times<'c>(
        &self,
        claims: &Map<String, Json>,
        claim: &impl Fn(&json::Path) -> Option<&'c Json>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Reason> {
        let time = |name: &str| claims.get(name).map(numeric_date).transpose();
        if time("exp")?.is_some_and(|expires| now >= expires.plus(self.skew)) {
            return Err(Reason::TimestampPast);
        }
        let issued = time("iat")?;
        let is_ahead = |time: Timestamp| time > now.plus(self.skew);
        if time("nbf")?.is_some_and(is_ahead) || issued.is_some_and(is_ahead) {
            return Err(Reason::TimestampFuture);
        }
        let Some((path, age)) = &self.max_age else { return Ok(issued) };
        let signed_at = numeric_date(claim(path).ok_or(Reason::TimestampMissing)?)?;
        // A sender that counts whole seconds is held to whole seconds.
        let now_secs = Timestamp::from_millis(now.as_secs().saturating_mul(1000));
        if now_secs > signed_at.plus(*age) {
            Err(Reason::TimestampPast)
        } else if is_ahead(signed_at) {
            Err(Reason::TimestampFuture)
        } else {
            Ok(Some(signed_at))
        }
    }
}

impl BodyHash {
    fn is(&self, claimed: &str, request: &Presented<'_>) -> bool {
        let digest = self.of(request.body);
        claimed == digest || (!self.base64 && claimed.to_ascii_lowercase() == digest)
    }

    pub(super) fn of(&self, body: &[u8]) -> String {
        let digest =
            if self.sha512 { Sha512::digest(body).to_vec() } else { Sha256::digest(body).to_vec() };
        if self.base64 { STANDARD.encode(digest) } else { hex::encode(digest) }
    }
}

/// What it means that a claim is another.
fn wrong(paths: &[json::Path]) -> Reason {
    let [path] = paths else { return Reason::ClaimFailed };
    let is = |name: &str| matches!(path.steps(), [json::Step::Key(key)] if key == name);
    match () {
        () if is("iss") => Reason::IssuerWrong,
        () if is("aud") => Reason::AudienceWrong,
        () => Reason::ClaimFailed,
    }
}

/// Seconds since the epoch (RFC 7519 §2); fractions are allowed, anything else is no time.
fn numeric_date(value: &Json) -> Result<Timestamp, Reason> {
    /// Some time in the year 9999.
    const SECONDS_MAX: f64 = 253_000_000_000.0;
    let seconds = value.as_f64().filter(|seconds| (0.0..SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or(Reason::TimestampMalformed)?;
    #[expect(clippy::cast_possible_truncation, reason = "its bounds were checked")]
    Ok(Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// A claim as text.
fn scalar(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
