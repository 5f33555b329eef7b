//! Compact JSON Web Signatures (RFC 7515), as strictly as they can be read: three parts in canonical base64url, JSON in which no
//! member comes twice, an algorithm that the configuration allows, and no extension that is not understood.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::key::Algorithm;
use crate::answer::Reason;

/// Bytes of a token, at most.
pub(super) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The same for one that brings its certificates along.
pub(super) const CERTIFIED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a key's name, at most.
const KEY_ID_BYTES_MAX: usize = 256;

/// A signature, and what it is about.
#[derive(Debug)]
pub(super) struct Compact<'t> {
    /// Header and payload as they are signed, in base64url with the dot between them.
    pub(super) signed: &'t str,
    pub(super) header: Header,
    /// In base64url; empty in a detached one.
    pub(super) payload: &'t str,
    pub(super) signature: Vec<u8>,
}

/// The header: what of it counts.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// Its text, for values that are taken from it once the signature held.
    pub(super) text: Vec<u8>,
    pub(super) members: Map<String, Value>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart. Which algorithms exist is decided by `algorithm`, never by the token.
    pub(super) fn parse(
        token: &'t str,
        algorithm: impl Fn(&str) -> Option<Algorithm>,
    ) -> Result<Self, Reason> {
        let malformed = Reason::SignatureMalformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        if payload.contains('.') {
            return Err(malformed);
        }
        let header = Header::parse(decode(header)?, algorithm)?;
        Ok(Self { signed, header, payload, signature: decode(signature)? })
    }
}

impl Header {
    fn parse(text: Vec<u8>, algorithm: impl Fn(&str) -> Option<Algorithm>) -> Result<Self, Reason> {
        let members = object(&text)?;
        let word = |name: &str| members.get(name).map(|value| value.as_str());
        let algorithm = word("alg").flatten().and_then(algorithm);
        let algorithm = algorithm.ok_or(Reason::AlgorithmRefused)?;
        // No extension is understood. (`b64`, RFC 7797, must be listed as critical; alone it is another reader's trap.)
        if members.contains_key("crit") || members.contains_key("b64") {
            return Err(Reason::SignatureMalformed);
        }
        let key_id = match word("kid") {
            None => None,
            Some(Some(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.to_owned()),
            Some(_) => return Err(Reason::SignatureMalformed),
        };
        Ok(Self { algorithm, key_id, text, members })
    }
}

/// Canonical base64url without padding.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Reason::SignatureMalformed)
}

/// Base64url without padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON object in which no member comes twice, at any depth.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, Reason> {
    let text = std::str::from_utf8(text).map_err(|_| Reason::SignatureMalformed)?;
    match serde_json::from_str(text) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        _ => Err(Reason::SignatureMalformed),
    }
}

/// Any JSON value without members that come twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Once).map(Self)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = elements.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, _>()? {
            if members.insert(key, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(Value::Object(members))
    }
}
