//! Durations and sizes as people type them: always with a unit, exact, bounded; numbers of things as people read them; and how
//! what may be typed is declared.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `1 route`, `2 routes`.
pub(crate) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A length of time: `500ms`, `10s`, `5m`, `2h`, `14d`, and sums such as `1h30m`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "duration"))]
pub struct Span(pub Duration);

/// A number of bytes: `512KiB`, `1MiB`, `5GiB` (powers of 1024) or `kB`, `MB`, `GB` (powers of 1000).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "size"))]
pub struct Size(pub u64);

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A number without a unit.
    #[error("the unit is missing")]
    NoUnit,
    /// No quantity at all, or a unit that is not known.
    #[error("not a quantity with a known unit")]
    Unknown,
    /// Longer or larger than any sensible value.
    #[error("too large")]
    TooLarge,
}

/// Units, the largest first.
type Units = [(&'static str, u64)];

const MILLIS: &Units =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const BYTES: &Units = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];
/// A hundred years: far above any sensible setting, far below overflow.
const MILLIS_MAX: u64 = 36_525 * 86_400_000;
const BYTES_MAX: u64 = 1 << 50;

impl Span {
    /// So many milliseconds.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self::millis(secs * 1000)
    }

    /// So many days.
    pub(crate) const fn days(days: u64) -> Self {
        Self::secs(days * 86_400)
    }

    /// Parses a text; units may be summed, each at most once, largest first.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let (mut rest, mut millis, mut last) = (text, 0_u64, u64::MAX);
        while !rest.is_empty() || last == u64::MAX {
            let (number, factor, after) = leading(rest, MILLIS)?;
            if factor >= last {
                return Err(UnitError::Unknown);
            }
            let part = number.checked_mul(factor).filter(|millis| *millis <= MILLIS_MAX);
            millis += part.ok_or(UnitError::TooLarge)?;
            (rest, last) = (after, factor);
        }
        if millis > MILLIS_MAX { Err(UnitError::TooLarge) } else { Ok(Self::millis(millis)) }
    }
}

impl Size {
    /// So many MiB.
    pub(crate) const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many KiB.
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// As a length in memory.
    pub(crate) fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        match leading(text, BYTES)? {
            (number, factor, "") => {
                let bytes = number.checked_mul(factor).filter(|bytes| *bytes <= BYTES_MAX);
                bytes.map(Self).ok_or(UnitError::TooLarge)
            }
            _ => Err(UnitError::Unknown),
        }
    }
}

/// A number, the factor of the unit after it, and what follows.
fn leading<'a>(text: &'a str, units: &Units) -> Result<(u64, u64, &'a str), UnitError> {
    let (number, rest) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (unit, after) =
        rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    if unit.is_empty() && after.is_empty() && !number.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let number = number.parse().ok();
    number.zip(factor).map(|(number, factor)| (number, factor, after)).ok_or(UnitError::Unknown)
}

impl fmt::Display for Span {
    /// The way people write it: `1h30m`, `7d`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in MILLIS {
            if rest >= *factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    /// In the largest unit that is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        let (unit, factor) = BYTES.iter().find(exact).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// Written in files and read from them as text.
macro_rules! as_text {
    ($($quantity:ident)*) => {$(
        impl TryFrom<String> for $quantity {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                Self::parse(&text)
            }
        }

        impl From<$quantity> for String {
            fn from(quantity: $quantity) -> Self {
                quantity.to_string()
            }
        }
    )*};
}

as_text! { Span Size }

/// Declares sections: structs whose fields are the keys that may be typed. A key that is left out has the value behind its
/// `=`, or else its type's default.
macro_rules! sections {
    ($(
        $(#[$about:meta])* $vis:vis struct $name:ident {
            $($(#[$note:meta])* $key_vis:vis $key:ident: $kind:ty $(= $default:expr)?,)*
        }
    )*) => {$(
        #[derive(
            Clone, Debug, PartialEq, Eq,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        #[serde(default)]
        $(#[$about])*
        $vis struct $name { $($(#[$note])* $key_vis $key: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $crate::units::left_out!($($default)?),)* }
            }
        }
    )*};
}

macro_rules! left_out {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// Declares choices of words, of which one is typed. The first is the default.
macro_rules! choices {
    ($(
        $(#[$about:meta])* $vis:vis enum $name:ident {
            $(#[$of_first:meta])* $first:ident $(, $(#[$note:meta])* $word:ident)* $(,)?
        }
    )*) => {$(
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        #[serde(rename_all = "kebab-case")]
        $(#[$about])*
        $vis enum $name { #[default] $(#[$of_first])* $first, $($(#[$note])* $word,)* }
    )*};
}

pub(crate) use {choices, left_out, sections};
