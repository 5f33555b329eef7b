//! One signature scheme.

use std::time::Duration;

/// One signature scheme, compiled.
#[derive(Clone, Debug)]
pub struct Scheme;

/// Tolerances of a signed time.
#[derive(Clone, Copy, Debug)]
pub struct Timestamps {
    /// How old.
    pub past: Duration,
    /// How far ahead.
    pub future: Duration,
}
