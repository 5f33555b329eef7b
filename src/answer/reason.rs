//! Why a signature was not believed.

/// Why a signature was not believed. Flat, for logs, metrics and tests; never sent out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The signature (or what carries it) is not there.
    SignatureMissing,
    /// A header that must come once came several times.
    HeaderRepeated,
    /// The signature's container or encoding is not what the scheme says.
    SignatureMalformed,
    /// More candidate signatures than are looked at.
    SignaturesTooMany,
    /// No signature matches under any live secret.
    SignatureWrong,
    /// The timestamp is not there.
    TimestampMissing,
    /// The timestamp came several times.
    TimestampRepeated,
    /// The timestamp is not a canonical number (or date).
    TimestampMalformed,
    /// Signed longer ago than the tolerance.
    TimestampPast,
    /// Signed in the future, beyond the tolerance.
    TimestampFuture,
    /// Something else that is signed over is not there, or is not what it must be.
    InputMissing,
    /// An identifier in the signed text could shift a delimiter.
    InputAmbiguous,
    /// An equality that the scheme requires does not hold.
    RequirementFailed,
    /// Every configured secret has expired.
    SecretExpired,
    /// A token is signed with an algorithm that the scheme does not allow.
    AlgorithmRefused,
    /// A signed token does not say what it must.
    ClaimFailed,
    /// A signed token is another issuer's.
    IssuerWrong,
    /// A signed token is for another audience.
    AudienceWrong,
    /// No key has the name that the sender gives.
    KeyUnknown,
    /// The place that the sender names for its key or certificate is not one that is asked.
    KeySourceRefused,
    /// The certificate does not lead to a root that is trusted, or is not for this.
    CertificateRefused,
    /// The key would have to be fetched, and nobody is there to do it.
    KeyNotFetched,
    /// A provider's challenge, but for a token or a name that must be equal.
    ChallengeRefused,
    /// A secret that nobody waits for: `gatepost providers capture` was not run, or its time is over.
    CaptureClosed,
    /// The signed text is one that the provider's challenge lets anybody have signed.
    SignedForAnybody,
}

/// Under what verification failures are counted: the closed list of the metric label `reason`.
pub(crate) const REASON_CLASSES: [&str; 5] =
    ["signature", "timestamp", "missing", "encoding", "key"];

impl Reason {
    /// The reason's name in logs and records, and its class in metrics.
    const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::SignatureMissing => ("signature_missing", "missing"),
            Self::HeaderRepeated => ("header_repeated", "encoding"),
            Self::SignatureMalformed => ("signature_malformed", "encoding"),
            Self::SignaturesTooMany => ("signatures_too_many", "encoding"),
            Self::SignatureWrong => ("signature_wrong", "signature"),
            Self::TimestampMissing => ("timestamp_missing", "missing"),
            Self::TimestampRepeated => ("timestamp_repeated", "timestamp"),
            Self::TimestampMalformed => ("timestamp_malformed", "timestamp"),
            Self::TimestampPast => ("timestamp_past", "timestamp"),
            Self::TimestampFuture => ("timestamp_future", "timestamp"),
            Self::InputMissing => ("input_missing", "missing"),
            Self::InputAmbiguous => ("input_ambiguous", "encoding"),
            Self::RequirementFailed => ("requirement_failed", "signature"),
            Self::SecretExpired => ("secret_expired", "key"),
            Self::AlgorithmRefused => ("algorithm_refused", "signature"),
            Self::ClaimFailed => ("claim_failed", "signature"),
            Self::IssuerWrong => ("issuer_wrong", "signature"),
            Self::AudienceWrong => ("audience_wrong", "signature"),
            Self::KeyUnknown => ("key_unknown", "key"),
            Self::KeySourceRefused => ("key_source_refused", "key"),
            Self::CertificateRefused => ("certificate_refused", "key"),
            Self::KeyNotFetched => ("key_not_fetched", "key"),
            Self::ChallengeRefused => ("challenge_refused", "signature"),
            Self::CaptureClosed => ("capture_closed", "key"),
            Self::SignedForAnybody => ("signed_for_anybody", "signature"),
        }
    }

    /// The reason's name in logs and records.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// One of [`REASON_CLASSES`].
    pub(crate) const fn class(self) -> &'static str {
        self.row().1
    }
}

/// The three names under which verification failures of a class are answered and counted.
pub(crate) fn not_verified_name(class: &'static str) -> &'static str {
    match class {
        "missing" => "rejected_missing",
        "timestamp" => "rejected_timestamp",
        _ => "rejected_signature",
    }
}
