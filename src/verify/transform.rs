//! What templates do to a value. Closed and named: no provider's habit needs a language of its own.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest as _, Sha512};

use super::{Transform, view::Unusable};
use crate::event::Digest;

/// Does to what was found what a template says.
pub(crate) fn transform<'f>(
    mut found: Result<Cow<'f, [u8]>, Unusable>,
    transforms: &[Transform],
) -> Result<Cow<'f, [u8]>, Unusable> {
    for transform in transforms {
        found = match found {
            Ok(bytes) => one(bytes, *transform),
            Err(Unusable::Absent) if *transform == Transform::DefaultEmpty => Ok(Cow::default()),
            Err(unusable) => Err(unusable),
        };
    }
    found
}

fn one(bytes: Cow<'_, [u8]>, transform: Transform) -> Result<Cow<'_, [u8]>, Unusable> {
    let made: Vec<u8> = match transform {
        Transform::DefaultEmpty => return Ok(bytes),
        Transform::Sha256Hex => Digest::of(&bytes).to_string().into(),
        Transform::Sha512Hex => hex::encode(Sha512::digest(&bytes)).into(),
        Transform::Sha512Base64 => STANDARD.encode(Sha512::digest(&bytes)).into(),
        Transform::Crc32 => crc32(&bytes).to_string().into(),
        Transform::Lower => bytes.to_ascii_lowercase(),
        Transform::Base64 => STANDARD.encode(&bytes).into(),
        Transform::Base64Decode => STANDARD.decode(&bytes).map_err(|_| Unusable::Repeated)?,
        Transform::HubspotUri => hubspot_uri(&bytes),
        Transform::ContentfulPath => contentful_path(&bytes),
    };
    Ok(Cow::Owned(made))
}

/// CRC-32 as in gzip. It is signed over, never trusted, so that its speed is all that is asked of it, and bodies are small.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// `%3A %2F %3F %40 %21 %24 %27 %28 %29 %2A %2C %3B`, and nothing else.
fn hubspot_uri(mut url: &[u8]) -> Vec<u8> {
    const DECODED: &[u8] = b":/?@!$'()*,;";
    let mut out = Vec::with_capacity(url.len());
    while let Some((first, rest)) = url.split_first() {
        let escaped = rest.first_chunk::<2>().filter(|_| *first == b'%').copied().and_then(byte);
        let decoded = escaped.filter(|byte| DECODED.contains(byte));
        out.push(decoded.unwrap_or(*first));
        url = rest.get(if decoded.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    out
}

/// The query is escaped as one component, then all of it as a URI: an escape that was there is escaped again.
fn contentful_path(target: &[u8]) -> Vec<u8> {
    const URI: &AsciiSet = &without(COMPONENT, b";,/?:@&=+$#");
    let escape = |bytes: &[u8], set| percent_encode(bytes, set).to_string().into_bytes();
    let Some(at) = target.iter().position(|byte| *byte == b'?') else { return escape(target, URI) };
    let (path, query) = target.split_at_checked(at).unwrap_or((target, b"?"));
    let query = escape(query.get(1..).unwrap_or_default(), COMPONENT);
    escape(&[path, b"?", &query].concat(), URI)
}

/// What JavaScript's `encodeURIComponent` escapes.
pub(super) const COMPONENT: &AsciiSet = &without(NON_ALPHANUMERIC, b"-_.!~*'()");

const fn without(set: &AsciiSet, mut kept: &[u8]) -> AsciiSet {
    let mut set = set.remove(b'~');
    while let [byte, rest @ ..] = kept {
        set = set.remove(*byte);
        kept = rest;
    }
    set
}

/// The byte that two hexadecimal digits stand for.
fn byte(digits: [u8; 2]) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some(byte[0])
}
