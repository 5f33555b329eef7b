//! What the transmitter of a security event token hears of one that was not taken (RFC 8935 §2.3 and §2.4). The standard wants to hear
//! why, in one of six words; nobody else does.

use super::{Reason, Refusal};

/// The language of the descriptions.
pub(crate) const LANGUAGE: &str = "en";

/// The error's body, for a refusal that is about the token or its sender.
pub(crate) fn error(refusal: &Refusal) -> String {
    let (code, description) = if let Refusal::NotVerified(reason) = refusal {
        of_reason(*reason)
    } else if *refusal == Refusal::AddressNotAllowed {
        ("access_denied", "The transmitter may not send here")
    } else {
        ("invalid_request", "The token names no event")
    };
    format!(r#"{{"err":"{code}","description":"{description}"}}"#)
}

const fn of_reason(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::IssuerWrong => ("invalid_issuer", "The issuer is not the one of this stream"),
        Reason::AudienceWrong => ("invalid_audience", "The token is not for this receiver"),
        Reason::AlgorithmRefused
        | Reason::KeyUnknown
        | Reason::KeySourceRefused
        | Reason::KeyNotFetched
        | Reason::CertificateRefused
        | Reason::SecretExpired => ("invalid_key", "The key or its algorithm is not accepted"),
        Reason::SignatureWrong => ("authentication_failed", "The signature does not hold"),
        Reason::SignatureMissing
        | Reason::HeaderRepeated
        | Reason::SignatureMalformed
        | Reason::SignaturesTooMany
        | Reason::TimestampMissing
        | Reason::TimestampRepeated
        | Reason::TimestampMalformed
        | Reason::TimestampPast
        | Reason::TimestampFuture
        | Reason::InputMissing
        | Reason::InputAmbiguous
        | Reason::RequirementFailed
        | Reason::ClaimFailed
        | Reason::ChallengeRefused
        | Reason::CaptureClosed
        | Reason::SignedForAnybody => {
            ("invalid_request", "The body is not a security event token as it is expected here")
        }
    }
}
