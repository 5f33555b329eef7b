//! Answers a provider's challenge, or lets the request pass: unsigned challenges before verification, signed ones after.

/// A challenge and its reply.
#[derive(Clone, Debug)]
pub struct Rule;

/// What a [`Rule`] is made from.
#[derive(Clone, Debug)]
pub struct RuleParts {
    /// JSON values that must be equal.
    pub json: Vec<(crate::json::Path, String)>,
    /// Whether the signature is checked first.
    pub verify: bool,
    /// Status to answer.
    pub status: http::StatusCode,
    /// Content type to answer.
    pub content_type: http::HeaderValue,
    /// Body to answer.
    pub body: crate::verify::Template,
}

impl Rule {
    /// Prepares a rule.
    pub fn new(parts: RuleParts) -> Self {
        let _ = parts;
        Self
    }
}
