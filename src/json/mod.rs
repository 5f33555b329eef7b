//! Finds scalars in a JSON body in one pass, without building a tree.
//!
//! The whole document is validated (UTF-8, syntax, nothing after its end); a duplicate key on the way to a wanted value is an
//! error, because two readers would see two values. Skipped parts are not recursed into, so depth costs no stack.

mod extract;
mod path;

use std::borrow::Cow;

pub use extract::{Extractor, Found, ITEMS_MAX, Items};
pub use path::{Path, Step};

/// A scalar as found; strings without escapes are borrowed from the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An integer, as long as it fits 64 bits.
    Integer(i128),
    /// A boolean.
    Bool(bool),
    /// Null.
    Null,
    /// Something that is no id: a fraction, a longer integer, an object, an array.
    Other,
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not UTF-8, not JSON, or something after its end.
    NotJson,
    /// A key on the way to a wanted value comes twice.
    DuplicateKey,
}

impl Scalar<'_> {
    /// The value as text, where it is a string, an integer or a boolean.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::String(text) => Some(Cow::Borrowed(text)),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Bool(true) => Some(Cow::Borrowed("true")),
            Self::Bool(false) => Some(Cow::Borrowed("false")),
            Self::Null | Self::Other => None,
        }
    }

    /// The same, without a borrow of the body.
    fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::String(text) => Scalar::String(Cow::Owned(text.into_owned())),
            Self::Integer(number) => Scalar::Integer(number),
            Self::Bool(value) => Scalar::Bool(value),
            Self::Null => Scalar::Null,
            Self::Other => Scalar::Other,
        }
    }
}
