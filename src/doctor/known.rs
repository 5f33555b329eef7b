//! What a scheme asks of a request, in an operator's words: what its key is called, what it covers, how it is written, and when it was
//! signed.

use std::time::Duration;

use super::{Case, ago};
use crate::{
    event::Timestamp,
    units::Span,
    verify::{From, Scheme, Value},
};

/// Whose a scheme's key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Both sides have it, and sign with it.
    Shared,
    /// Both sides have it, and the sender shows it.
    Shown,
    /// The sender's; we have its public half.
    Public,
}

impl Key {
    pub(super) fn of(scheme: &Scheme) -> Self {
        let parts = &scheme.parts;
        let foreign = parts.foreign.iter().flat_map(|foreign| &foreign.allowed);
        if foreign.into_iter().any(|allowed| allowed.algorithm.is_foreign()) {
            Self::Public
        } else if parts.algorithm.signs() {
            Self::Shared
        } else {
            Self::Shown
        }
    }

    /// What it is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shared | Self::Shown => "secret",
            Self::Public => "public key",
        }
    }
}

/// Whether whoever changes the body breaks the signature.
pub(super) fn covers_body(scheme: &Scheme) -> bool {
    scheme.covers(&Value { from: From::Body, transforms: Vec::new() })
}

/// A scheme in a line: `hmac-sha256 over "{t}.{body}"`.
pub(super) fn written(scheme: &Scheme) -> String {
    let name = scheme.parts.algorithm.as_str();
    let texts = scheme.parts.signed.iter().map(|template| format!("{:?}", template.text));
    match texts.collect::<Vec<_>>().as_slice() {
        [] if scheme.parts.algorithm.signs() => name.to_owned(),
        [] => format!("{name}, which covers nothing"),
        texts => format!("{name} over {}", texts.join(" or ")),
    }
}

/// The time that a request shows.
pub(super) struct Signed {
    at: Timestamp,
    is_near: bool,
    /// How far from ours it may be, on its side of ours.
    limit: Duration,
    ago: String,
}

impl Signed {
    pub(super) fn of(case: &Case) -> Option<Self> {
        let scheme = case.scheme()?;
        let rule = scheme.parts.timestamps.as_ref()?;
        let (at, is_near) = scheme.shown_time(&case.presented(&case.url))?;
        let limit = if at > case.received_at { rule.future } else { rule.past };
        Some(Self { at, is_near, limit, ago: ago(case.received_at, at) })
    }

    /// As something that was looked at.
    pub(super) fn finding(&self) -> (String, String) {
        let Self { at, ago, limit, .. } = self;
        let far = if self.is_near { "" } else { ": too far" };
        ("signed time".to_owned(), format!("{at}, {ago}{far} (limit {})", Span(*limit)))
    }

    /// What is wrong with it, beside something else.
    pub(super) fn besides(&self) -> Option<String> {
        let Self { ago, limit, .. } = self;
        let limit = Span(*limit);
        (!self.is_near).then(|| {
            format!(" Besides, its time is too far from ours: {ago}, and {limit} are allowed.")
        })
    }
}
