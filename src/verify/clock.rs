//! Signed times: their canonical forms, and how far from ours they may be.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Value;
use crate::{answer::Reason, event::Timestamp};

/// Where a signed time is, and how far from ours it may be. Both limits still pass: with five minutes, a time that is
/// exactly five minutes old is good.
#[derive(Clone, Debug)]
pub(crate) struct Timestamps {
    pub(crate) from: Value,
    pub(crate) unit: Unit,
    pub(crate) past: Duration,
    pub(crate) future: Duration,
}

/// The form of a signed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Seconds since the epoch.
    #[default]
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds since the epoch.
    #[serde(rename = "ms")]
    Millis,
    /// RFC 3339.
    #[serde(rename = "rfc3339")]
    Rfc3339,
    /// The date of HTTP headers: `Thu, 09 Oct 2025 08:53:20 GMT`.
    #[serde(rename = "http_date")]
    HttpDate,
    /// Seconds or milliseconds since the epoch; milliseconds have thirteen digits until the year 2286.
    #[serde(rename = "auto")]
    Auto,
}

/// Digits from which on a number is one of milliseconds, where a provider is of two minds; as seconds they lie in the year 5138.
const AUTO_MILLIS_DIGITS: usize = 12;

impl Timestamps {
    /// Reads a time and checks it against the one at which the request was received.
    pub(super) fn check(&self, text: &[u8], received_at: Timestamp) -> Result<Timestamp, Reason> {
        let unit = self.unit.of(text);
        let signed_at = unit.read(text).ok_or(Reason::TimestampMalformed)?;
        // A sender that counts whole seconds is held to whole seconds.
        let is_whole = matches!(unit, Unit::Seconds | Unit::HttpDate);
        let whole = || Timestamp::from_millis(received_at.as_secs().saturating_mul(1000));
        let now = if is_whole { whole() } else { received_at };
        if now > signed_at.plus(self.past) {
            Err(Reason::TimestampPast)
        } else if signed_at > now.plus(self.future) {
            Err(Reason::TimestampFuture)
        } else {
            Ok(signed_at)
        }
    }
}

impl Unit {
    /// The one of two that a number is in, where its provider is of two minds.
    const fn of(self, text: &[u8]) -> Self {
        match self {
            Self::Auto if text.len() < AUTO_MILLIS_DIGITS => Self::Seconds,
            Self::Auto => Self::Millis,
            known => known,
        }
    }

    pub(super) fn read(self, text: &[u8]) -> Option<Timestamp> {
        match self.of(text) {
            Self::Seconds => canonical_integer(text)?.checked_mul(1000).map(Timestamp::from_millis),
            Self::Millis | Self::Auto => canonical_integer(text).map(Timestamp::from_millis),
            Self::Rfc3339 => rfc3339(text),
            Self::HttpDate => http_date(text),
        }
    }

    /// Writes a time the way a provider would.
    pub(super) fn write(self, time: Timestamp) -> String {
        match self {
            Self::Seconds | Self::Auto => time.as_secs().to_string(),
            Self::Millis => time.as_millis().to_string(),
            Self::Rfc3339 => time.to_string(),
            Self::HttpDate => {
                let time = jiff::Timestamp::from_second(time.as_secs()).unwrap_or_default();
                time.strftime(HTTP_DATE).to_string()
            }
        }
    }
}

/// Digits only, without a leading zero: one number has one spelling.
fn canonical_integer(text: &[u8]) -> Option<i64> {
    let plain =
        text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first() != Some(&b'0'));
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

/// `2026-11-24T17:03:00Z`, with up to nine decimals, `Z` or an offset. The parser alone would take many forms more.
fn rfc3339(text: &[u8]) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let zone = match rest.strip_prefix(b".") {
        None => rest,
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=9).contains(&digits).then(|| rest.split_at(digits).1)?
        }
    };
    let fits = has_shape(date_time, b"dddd-dd-ddTdd:dd:dd")
        && (zone == b"Z" || has_shape(zone, b"+dd:dd") || has_shape(zone, b"-dd:dd"));
    let time: jiff::Timestamp = std::str::from_utf8(text).ok().filter(|_| fits)?.parse().ok()?;
    Some(Timestamp::from_millis(time.as_millisecond()))
}

const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// The one spelling of today: what is written again is the same text, so that no weekday is wrong and no form obsolete.
fn http_date(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let time = jiff::fmt::strtime::parse(HTTP_DATE, text).ok()?.to_datetime().ok()?;
    let time = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
    let time = Timestamp::from_millis(time.as_millisecond());
    (Unit::HttpDate.write(time) == text).then_some(time)
}

/// Whether `text` is like `shape`, where `d` stands for a digit.
fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    let like = |(byte, form): (&u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    text.len() == shape.len() && text.iter().zip(shape).all(like)
}
