//! Shapes to what the stages run.

use crate::{handshake, identify, verify::Scheme};

use super::shape;

/// What a source says besides its preset.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Replaces the preset's `past` and `future` tolerance.
    pub tolerance: Option<std::time::Duration>,
    /// JSON paths that the source's routes look at (`when:`), in the order in which routes refer to them.
    pub captures: Vec<String>,
}

/// What the stages of a source run.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Schemes, in order.
    pub schemes: Vec<Scheme>,
    /// Where id and type are.
    pub identify: identify::Plan,
    /// Challenges.
    pub handshakes: Vec<handshake::Rule>,
    /// Whether the id is covered by the signature (of every scheme).
    pub id_covered: bool,
    /// Whether the type is.
    pub type_covered: bool,
    /// Whether verification needs the public URL.
    pub needs_public_url: bool,
}

/// A mistake in a source's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, below the source: `verify.signed`, `event.id[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Turns shapes into what the stages run, or into all that is wrong with them.
pub fn compile(
    verify: &shape::Verify,
    event: &shape::EventFields,
    handshake: &[shape::HandshakeRule],
    options: &Options,
) -> Result<Compiled, Vec<Problem>> {
    let _ = (verify, event, handshake, options);
    Err(Vec::new())
}
