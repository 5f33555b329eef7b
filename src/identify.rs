//! Finds id and type, after the signature held. Pure.
//!
//! The one maker of [`Event`].

use std::sync::Arc;

use crate::{
    event::{About, EventKey},
    receive::Envelope,
};

/// An authentic request with a name.
#[derive(Debug)]
pub struct Event {
    envelope: Envelope,
    about: Arc<About>,
    guard: Option<Guard>,
    captured: Vec<Option<String>>,
}

/// What tells a replay of signed bytes under a new unsigned id (`decisions` 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Hash of source and signed bytes (and of the type, unless one body never serves two types at this provider).
    pub key: EventKey,
}

impl Event {
    /// The request.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Id, type, key and digest.
    pub fn about(&self) -> &Arc<About> {
        &self.about
    }

    /// The replay guard, where the id is not covered by the signature.
    pub fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// The value at the `index`-th of the JSON paths that this source's routes look at; `None` where it is not there or
    /// not a string, a number or a boolean.
    pub fn captured(&self, index: usize) -> Option<&str> {
        self.captured.get(index)?.as_deref()
    }
}

/// Where id, type, account, items and the values that routes look at are.
#[derive(Clone, Debug)]
pub struct Plan;

/// What a [`Plan`] is made from.
#[derive(Clone, Debug, Default)]
pub struct PlanParts {
    /// Templates of the id; the first that yields a value counts.
    pub id: Vec<crate::verify::Template>,
    /// Templates of the type.
    pub kind: Vec<crate::verify::Template>,
    /// Templates of the account.
    pub account: Vec<crate::verify::Template>,
    /// Whether ids are JSON integers instead of strings.
    pub id_is_integer: bool,
    /// Path of a batch's items.
    pub items: Option<crate::json::Path>,
    /// Paths that routes look at.
    pub captures: Vec<crate::json::Path>,
    /// Whether the signature covers the id.
    pub id_covered: bool,
    /// Whether one body never serves two types at this provider.
    pub one_type_per_body: bool,
}

impl Plan {
    /// Prepares one pass over the body for everything that is looked for.
    pub fn new(parts: PlanParts) -> Self {
        let _ = parts;
        Self
    }
}
