//! What we need to know of a certificate of our own: its names and when it holds. A walk through DER (X.690) that
//! reads nothing else; whether a certificate can be trusted is for senders to judge.

use std::net::IpAddr;

use jiff::{civil::DateTime, tz::TimeZone};

use crate::event::Timestamp;

/// Names and validity of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names and addresses of its subject alternative names, in lower case.
    pub names: Vec<String>,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
}

/// The facts of a certificate in DER; `None` where it is not one.
pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let mut body = Der(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
    body.find(INTEGER)?; // behind the version, which may be absent, the serial number
    body.enter(SEQUENCE)?; // the algorithm
    body.enter(SEQUENCE)?; // the issuer
    let mut validity = body.enter(SEQUENCE)?;
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let names = subject_names(body).unwrap_or_default();
    Some(Facts { names, not_before, not_after })
}

fn subject_names(mut body: Der<'_>) -> Option<Vec<String>> {
    let mut extensions = body.find(EXTENSIONS)?.enter(SEQUENCE)?;
    loop {
        let mut extension = extensions.enter(SEQUENCE)?;
        if extension.next()?.1 != SUBJECT_ALT_NAME {
            continue;
        }
        let mut names = extension.find(OCTET_STRING)?.enter(SEQUENCE)?;
        return Some(std::iter::from_fn(|| names.next()).filter_map(name).collect());
    }
}

fn name((tag, value): (u8, &[u8])) -> Option<String> {
    match tag {
        DNS_NAME => Some(std::str::from_utf8(value).ok()?.to_ascii_lowercase()),
        IP_ADDRESS => Some(address(value)?.to_string()),
        _ => None,
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}

/// `YYMMDDHHMMSSZ`, where years from 50 on are of the last century, or `YYYYMMDDHHMMSSZ`.
fn time((tag, value): (u8, &[u8])) -> Option<Timestamp> {
    let digits = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let century = match (tag, digits.get(..2)?) {
        (GENERALIZED_TIME, _) => "",
        (UTC_TIME, year) if year < "50" => "20",
        (UTC_TIME, _) => "19",
        _ => return None,
    };
    let text = format!("{century}{digits}");
    if text.len() != 14 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse().ok()?;
    let moment = DateTime::new(
        year,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        0,
    );
    let moment = TimeZone::UTC.to_timestamp(moment.ok()?).ok()?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

/// Elements that follow each other: a tag, a length, that many bytes.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, short], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(short & 0x0f))?;
                (digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
            }
            _ => return None, // indefinite, or longer than any certificate
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The inside of the next element, which must be a `tag`.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        let (found, value) = self.next()?;
        (found == tag).then_some(Self(value))
    }

    /// The inside of the first `tag` among the elements to come.
    fn find(&mut self, tag: u8) -> Option<Self> {
        loop {
            let (found, value) = self.next()?;
            if found == tag {
                return Some(Self(value));
            }
        }
    }
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(names: &[&str]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 2);
        params.not_after = date_time_ymd(2051, 3, 4);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_both_forms_of_time_are_read() {
        let names = ["Hooks.example.com", "*.example.org", "192.0.2.7", "2001:db8::1"];
        let facts = facts(&made(&names)).unwrap();
        assert_eq!(facts.names, ["hooks.example.com", "*.example.org", "192.0.2.7", "2001:db8::1"]);
        assert_eq!(facts.not_before.to_string(), "2026-01-02T00:00:00.000Z");
        assert_eq!(facts.not_after.to_string(), "2051-03-04T00:00:00.000Z");
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(facts(&made(&[])).unwrap().names, Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn damage_is_never_a_panic(at in 0_usize..400, value: u8, cut in 0_usize..600) {
            let mut der = made(&["a.example"]);
            let length = der.len();
            der[at % length] = value;
            der.truncate(cut);
            let _facts = facts(&der);
        }
    }
}
