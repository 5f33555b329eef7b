//! Durations and sizes as people type them: always with a unit, exact, bounded.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
/// A hundred years: far above any sensible setting, far below overflow.
const MILLIS_MAX: u64 = 36_525 * 86_400_000;

impl Span {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self::secs(days * 86_400)
    }

    /// Parses a text; units may be summed, each at most once, largest first.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnitError::NoUnit);
        }
        let (mut rest, mut millis, mut last) = (text, 0_u64, u64::MAX);
        while !rest.is_empty() {
            let (number, unit, after) = leading(rest).ok_or(UnitError::Unknown)?;
            let factor = factor(&DURATION_UNITS, unit).ok_or(UnitError::Unknown)?;
            if factor >= last {
                return Err(UnitError::Unknown);
            }
            let part = number.checked_mul(factor).ok_or(UnitError::TooLarge)?;
            millis = millis.checked_add(part).ok_or(UnitError::TooLarge)?;
            (rest, last) = (after, factor);
        }
        match millis {
            _ if last == u64::MAX => Err(UnitError::Unknown),
            too_long if too_long > MILLIS_MAX => Err(UnitError::TooLarge),
            fits => Ok(Self(Duration::from_millis(fits))),
        }
    }
}

impl Size {
    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnitError::NoUnit);
        }
        let (number, unit, rest) = leading(text).ok_or(UnitError::Unknown)?;
        let factor =
            factor(&SIZE_UNITS, unit).filter(|_| rest.is_empty()).ok_or(UnitError::Unknown)?;
        let bytes = number.checked_mul(factor).ok_or(UnitError::TooLarge)?;
        if bytes > 1 << 50 { Err(UnitError::TooLarge) } else { Ok(Self(bytes)) }
    }
}

/// A number, the letters after it, and what follows.
fn leading(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, rest))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

impl fmt::Display for Span {
    /// The way people write it: `1h30m`, `7d`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in DURATION_UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    /// In the largest binary unit that is exact, else in the largest decimal one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        let (unit, factor) = SIZE_UNITS.iter().find(exact).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl TryFrom<String> for Span {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for Size {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        Self::parse(&text)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        let millis = |text| Span::parse(text).map(|s| s.0.as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("14d"), Ok(14 * 86_400_000));
        assert_eq!(millis("0s"), Ok(0));
        assert_eq!(millis("30"), Err(UnitError::NoUnit));
        assert_eq!(millis("99999999d"), Err(UnitError::TooLarge));
        for text in ["", "s", "-1s", "1.5s", "1m1h", "1m2m", "10 s", "10S", "10w", "1h30"] {
            assert_eq!(millis(text), Err(UnitError::Unknown), "{text}");
        }
    }

    #[test]
    fn sizes_carry_units() {
        let bytes = |text| Size::parse(text).map(|s| s.0);
        assert_eq!(bytes("1MiB"), Ok(1_048_576));
        assert_eq!(bytes("25MB"), Ok(25_000_000));
        assert_eq!(bytes("512B"), Ok(512));
        assert_eq!(bytes("10"), Err(UnitError::NoUnit));
        assert_eq!(bytes("9999999TiB"), Err(UnitError::TooLarge));
        for text in ["", "10m", "10M", "1KB", "1 MiB", "1MiB1KiB", "MiB"] {
            assert_eq!(bytes(text), Err(UnitError::Unknown), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in ["1d12h", "250ms", "1m30s", "7d", "0s"] {
            assert_eq!(Span::parse(text).map(|s| s.to_string()), Ok(text.to_owned()));
        }
        for text in ["1MiB", "3kB", "1GiB", "1001B"] {
            assert_eq!(Size::parse(text).map(|s| s.to_string()), Ok(text.to_owned()));
        }
    }
}
