//! Decides whether the sender knew the secret, from bytes and a time. Pure: no clock, no I/O.
//!
//! The one maker of [`Verified`].

mod container;
mod scheme;
mod template;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use scheme::{Scheme, Timestamps};
pub use template::{From, Part, Template, TemplateError, Transform, Value};

use crate::{answer::Reason, event::Timestamp, receive::Envelope, secret::Secret};

/// What a scheme looks at: the request as it arrived, the public URL that the provider signs, and one time.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Public URL of the source, as configured at the provider; with the query of the request.
    pub url: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    /// Headers as sent.
    pub headers: &'a HeaderMap,
    /// Body as sent.
    pub body: &'a [u8],
    /// When the request was received.
    pub received_at: Timestamp,
}

/// One of a source's secrets.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// The secret as configured.
    pub secret: Secret,
    /// From when on it is not accepted any more.
    pub expires: Option<Timestamp>,
}

/// How the sender was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The scheme's name, such as `hmac-sha256`.
    pub scheme: Arc<str>,
    /// Which secret matched, counted from 1.
    pub slot: usize,
    /// That secret's fingerprint.
    pub label: Arc<str>,
    /// The signed time, where the scheme has one.
    pub signed_at: Option<Timestamp>,
}

/// All schemes and secrets of one source, with keys prepared.
#[derive(Debug)]
pub struct Verifier {
    _schemes: Vec<Scheme>,
}

impl Verifier {
    /// Prepares every key of every scheme.
    ///
    /// # Errors
    /// A sentence for the operator where a secret does not have the form that a scheme needs (for example: not base64).
    pub fn new(
        schemes: Vec<Scheme>,
        secrets: Vec<LiveSecret>,
        public_url: &str,
    ) -> Result<Self, String> {
        let _ = (secrets, public_url);
        Ok(Self { _schemes: schemes })
    }

    /// Checks a request.
    pub fn verify(&self, presented: &Presented<'_>) -> Result<Proof, Reason> {
        let _ = presented;
        Err(Reason::SignatureWrong)
    }

    /// Signs a body the way the provider would, with the first live secret: what `gatepost send` does. `headers` holds
    /// what the scheme signs over besides (ids, for instance); the signature and timestamp headers are returned.
    ///
    /// # Errors
    /// A sentence where the scheme cannot be signed forwards.
    pub fn sign(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let _ = presented;
        Err("not yet".into())
    }
}

/// A request whose sender knew a live secret.
#[derive(Clone, Debug)]
pub struct Verified {
    envelope: Envelope,
    proof: Proof,
}

impl Verified {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// How its sender was recognised.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (Envelope, Proof) {
        (self.envelope, self.proof)
    }

    /// One made by hand, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test(envelope: Envelope) -> Self {
        let proof =
            Proof { scheme: "hmac-sha256".into(), slot: 1, label: "label".into(), signed_at: None };
        Self { envelope, proof }
    }
}

/// A request that was **not** verified and passes only because its source is in shadow mode (`decisions` 33).
#[derive(Clone, Debug)]
pub struct Unverified {
    envelope: Envelope,
    reason: Reason,
}

impl Unverified {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Why it would have been refused.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// One made by hand, for tests of the stages after this one.
    #[cfg(test)]
    pub(crate) fn for_test(envelope: Envelope, reason: Reason) -> Self {
        Self { envelope, reason }
    }
}
