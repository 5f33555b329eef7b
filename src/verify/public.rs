//! Public keys: read in every form in which providers show them, and refused where they are none, or weak.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer as _, public_key::PublicKey as Parsed,
    x509::SubjectPublicKeyInfo,
};

use super::key::{Algorithm, KeyEncoding, KeyForm};

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ed25519,
    P256,
    P384,
    P521,
    /// Named in an SPKI only: bare, its points look like those of P-256.
    Secp256k1,
    Rsa,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) kind: Kind,
    /// The point, or RSA's modulus and exponent as `RSAPublicKey` in DER.
    pub(crate) bytes: Vec<u8>,
    /// What it is called: the JWK's `kid`, the certificate's serial number, what a list or the configuration calls it.
    pub(crate) ids: Vec<String>,
    /// The only algorithm that a JWK says it is for.
    pub(crate) only_for: Option<String>,
}

/// What is wrong with a key, as the end of a sentence that begins with `secret 1`.
type Wrong = String;

const PRIVATE: &str =
    "is a private key, where the provider's public key belongs; treat it as leaked";
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// Keys of a set that are looked at.
const KEYS_MAX: usize = 64;

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "an Ed25519 key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::P521 => "a P-521 key",
            Self::Secp256k1 => "a secp256k1 key",
            Self::Rsa => "an RSA key",
        }
    }

    /// Length of a coordinate.
    const fn coordinate(self) -> usize {
        match self {
            Self::Ed25519 | Self::P256 | Self::Secp256k1 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
            Self::Rsa => 0,
        }
    }

    /// What an algorithm is computed with.
    pub(crate) const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => Some(Self::Ed25519),
            Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP256Sha1 => Some(Self::P256),
            Algorithm::EcdsaP384Sha384 => Some(Self::P384),
            Algorithm::EcdsaP521Sha512 => Some(Self::P521),
            Algorithm::EcdsaSecp256k1Sha256 => Some(Self::Secp256k1),
            Algorithm::RsaPkcs1Sha1
            | Algorithm::RsaPkcs1Sha256
            | Algorithm::RsaPkcs1Sha384
            | Algorithm::RsaPkcs1Sha512
            | Algorithm::RsaPssSha256
            | Algorithm::RsaPssSha384
            | Algorithm::RsaPssSha512 => Some(Self::Rsa),
            _ => None,
        }
    }
}

impl PublicKey {
    /// Reads what an operator pasted: PEM, a JWK or JWKS, or the bytes of a key or its SPKI in hex or base64.
    pub(crate) fn read(text: &[u8], form: &KeyForm) -> Result<Vec<Self>, Wrong> {
        let text = std::str::from_utf8(text).map_err(|_| "is not text")?.trim();
        let text =
            form.strip_prefix.iter().fold(text, |text, p| text.strip_prefix(&**p).unwrap_or(text));
        if text.starts_with('{') {
            return jwks(text, true);
        }
        if text.starts_with("-----BEGIN ") {
            return Self::from_pem(text).map(|key| vec![key]);
        }
        if matches!(form.encoding, KeyEncoding::Pem | KeyEncoding::Jwk) {
            return Err("is neither PEM nor a JWK".into());
        }
        let is_hex = text.len() % 2 == 0 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes = match form.encoding {
            KeyEncoding::Hex => hex::decode(text).map_err(|_| "is not hexadecimal")?,
            KeyEncoding::Utf8 if is_hex => hex::decode(text).map_err(|_| "is not hexadecimal")?,
            _ => STANDARD.decode(text).map_err(|_| "is not base64, PEM or a JWK")?,
        };
        Self::from_bytes(&bytes).map(|key| vec![key])
    }

    /// Reads what a provider publishes: a JWKS or JWK, or PEM.
    pub(crate) fn of_document(text: &[u8]) -> Result<Vec<Self>, Wrong> {
        let text = std::str::from_utf8(text).map_err(|_| "is not text")?.trim();
        if text.starts_with('{') {
            return jwks(text, false);
        }
        Self::from_pem(text).map(|key| vec![key])
    }

    /// A bare key, recognised by its length, or SPKI.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Wrong> {
        match (bytes.len(), bytes.first()) {
            (32, _) => Self::checked(Kind::Ed25519, bytes.to_vec()),
            (65, Some(4)) => Self::checked(Kind::P256, bytes.to_vec()),
            (97, Some(4)) => Self::checked(Kind::P384, bytes.to_vec()),
            (133, Some(4)) => Self::checked(Kind::P521, bytes.to_vec()),
            _ => Self::from_spki(bytes),
        }
    }

    /// One PEM block; where a provider sends it without line breaks, too.
    pub(crate) fn from_pem(text: &str) -> Result<Self, Wrong> {
        let (label, der) = pem_block(text)?;
        match label {
            "PUBLIC KEY" => Self::from_spki(&der),
            "RSA PUBLIC KEY" => Self::checked(Kind::Rsa, der),
            "CERTIFICATE" => Self::from_certificate(&der),
            _ if label.ends_with("PRIVATE KEY") => Err(PRIVATE.into()),
            _ => Err(format!("holds `{label}`, where a public key or a certificate belongs")),
        }
    }

    /// The key that a certificate is for, under its serial number.
    pub(crate) fn from_certificate(der: &[u8]) -> Result<Self, Wrong> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| "is not a certificate")?;
        if !rest.is_empty() {
            return Err("has something behind its certificate".into());
        }
        let mut key = Self::from_spki(certificate.public_key().raw)?;
        let serial = certificate.raw_serial();
        let serial = serial.strip_prefix(&[0]).unwrap_or(serial);
        key.ids = vec![hex::encode_upper(serial), hex::encode(serial)];
        Ok(key)
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, Wrong> {
        let no_key = "is not a public key (a bare key, or SPKI, as PEM, base64 or hex)";
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| no_key)?;
        if !rest.is_empty() {
            return Err("has something behind its key".into());
        }
        let curve =
            || spki.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        let kind = match &*spki.algorithm.algorithm.to_id_string() {
            "1.3.101.112" => Kind::Ed25519,
            "1.2.840.113549.1.1.1" => Kind::Rsa,
            "1.2.840.10045.2.1" => match curve().as_deref() {
                Some("1.2.840.10045.3.1.7") => Kind::P256,
                Some("1.3.132.0.34") => Kind::P384,
                Some("1.3.132.0.35") => Kind::P521,
                Some("1.3.132.0.10") => Kind::Secp256k1,
                _ => return Err("is on a curve that no scheme here uses".into()),
            },
            _ => return Err("is a kind of key that no scheme here uses".into()),
        };
        Self::checked(kind, spki.subject_public_key.data.to_vec())
    }

    /// The points and moduli that no key has; that a point is on its curve is checked when the key is prepared.
    fn checked(kind: Kind, bytes: Vec<u8>) -> Result<Self, Wrong> {
        match kind {
            Kind::Ed25519 if bytes.len() != 32 => {
                return Err("is no Ed25519 key: those have 32 bytes".into());
            }
            Kind::Ed25519 if is_weak(&bytes) => {
                return Err(
                    "is a point of small order, under which anybody can sign anything".into()
                );
            }
            Kind::Rsa => check_rsa(&bytes)?,
            Kind::Ed25519 => {}
            Kind::P256 | Kind::P384 | Kind::P521 | Kind::Secp256k1 => {
                if bytes.len() != 1 + 2 * kind.coordinate() {
                    return Err("is not an uncompressed point".into());
                }
            }
        }
        Ok(Self { kind, bytes, ids: Vec::new(), only_for: None })
    }

    /// What it is, for an error.
    pub(crate) const fn name(&self) -> &'static str {
        self.kind.name()
    }
}

fn pem_block(text: &str) -> Result<(&str, Vec<u8>), Wrong> {
    let block = || {
        let (label, rest) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
        let (base64, rest) = rest.split_once("-----END ")?;
        let rest = rest.strip_prefix(label)?.strip_prefix("-----")?;
        Some((label, base64, rest.trim()))
    };
    let (label, base64, rest) = block().ok_or("is not one PEM block from BEGIN to END")?;
    if !rest.is_empty() {
        return Err("holds more than one PEM block; give each key a place of its own".into());
    }
    let base64: String = base64.split_ascii_whitespace().collect();
    let der = STANDARD.decode(base64).map_err(|_| "is PEM that is not base64 inside")?;
    Ok((label, der))
}

/// Every PEM block of a text that is a certificate, in order.
pub(crate) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest
            .match_indices("-----END ")
            .find_map(|(at, _)| rest.get(at + 9..)?.find("-----").map(|len| at + 9 + len + 5));
        let (block, after) = end.and_then(|end| rest.split_at_checked(end)).ok_or("is not PEM")?;
        let (label, der) = pem_block(block)?;
        if label != "CERTIFICATE" {
            return Err(format!("holds `{label}`, where certificates belong"));
        }
        found.push(der);
        rest = after.trim_start();
    }
    Ok(found)
}

fn check_rsa(der: &[u8]) -> Result<(), Wrong> {
    // The parser reads a whole SPKI or the key alone; this is the key alone.
    let read = x509_parser::public_key::RSAPublicKey::from_der(der).ok();
    let alone = read.filter(|(rest, _)| rest.is_empty());
    let (_, parsed) = alone.ok_or("is not an RSA key")?;
    let bits = Parsed::RSA(parsed).key_size();
    if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        Ok(())
    } else {
        Err(format!("is an RSA key of {bits} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are accepted"))
    }
}

/// Whether `key` is one of the eight points of small order, in any spelling, or is not spelt canonically: the library takes
/// those, and a signature of nothing but zeros then holds for every text.
fn is_weak(key: &[u8]) -> bool {
    const P_LOW: u8 = 0xed;
    let Some((last, low)) = key.split_last() else { return true };
    let last = last & 0x7f;
    let (first, middle) = low.split_first().unwrap_or((&0, &[]));
    let above_p = last == 0x7f && middle.iter().all(|b| *b == 0xff) && *first >= P_LOW - 1;
    let zeros = last == 0 && middle.iter().all(|b| *b == 0) && *first <= 1;
    let eighth = |y: &str| hex::decode(y).is_ok_and(|y| y.split_last() == Some((&last, low)));
    // y = p - 1 and all that is not below p; y = 0 and y = 1; and the two y of order eight.
    above_p || zeros || ORDER_EIGHT.into_iter().any(eighth)
}

const ORDER_EIGHT: [&str; 2] = [
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];

/// A key as JSON (RFC 7517). Members that come twice are refused by the reader.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    d: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    k: Option<serde::de::IgnoredAny>,
}

/// Keys of a JWK or JWKS. One that a set holds and that no scheme uses is passed over, as providers add kinds; but a private
/// key, or one alone that cannot be used, is an error where an operator gave it.
pub(crate) fn jwks(text: &str, from_operator: bool) -> Result<Vec<PublicKey>, Wrong> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let Ok(set) = serde_json::from_str::<Set>(text) else {
        let jwk: Jwk = serde_json::from_str(text).map_err(|_| "is neither a JWK nor a JWKS")?;
        return jwk.key().map(|key| vec![key]);
    };
    let mut keys = Vec::new();
    for value in set.keys.into_iter().take(KEYS_MAX) {
        let jwk = serde_json::from_value::<Jwk>(value);
        match jwk.map_err(|_| "holds something that is not a JWK".to_owned()).and_then(Jwk::key) {
            Ok(key) => keys.push(key),
            Err(wrong) if from_operator && wrong == PRIVATE => return Err(wrong),
            Err(_) => {}
        }
    }
    if keys.is_empty() { Err("holds no key that a scheme could use".into()) } else { Ok(keys) }
}

impl Jwk {
    fn key(self) -> Result<PublicKey, Wrong> {
        if self.d.is_some() || self.k.is_some() {
            return Err(PRIVATE.into());
        }
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !for_signatures || !self.key_ops.as_ref().is_none_or(verifies) {
            return Err("is not for signatures".into());
        }
        let part = |part: &Option<String>| {
            let part = part.as_deref().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            part.ok_or_else(|| "is a JWK without all its parts in base64url".to_owned())
        };
        let (kind, bytes) = match (&*self.kty, self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => (Kind::Ed25519, part(&self.x)?),
            ("EC", Some("P-256")) => {
                (Kind::P256, point(Kind::P256, &part(&self.x)?, &part(&self.y)?)?)
            }
            ("EC", Some("P-384")) => {
                (Kind::P384, point(Kind::P384, &part(&self.x)?, &part(&self.y)?)?)
            }
            ("EC", Some("P-521")) => {
                (Kind::P521, point(Kind::P521, &part(&self.x)?, &part(&self.y)?)?)
            }
            ("RSA", _) => (Kind::Rsa, rsa_der(&part(&self.n)?, &part(&self.e)?)),
            _ => return Err("is a kind of JWK that no scheme here uses".into()),
        };
        let key = PublicKey::checked(kind, bytes)?;
        Ok(PublicKey { ids: self.kid.into_iter().collect(), only_for: self.alg, ..key })
    }
}

/// A point. Some write coordinates without the zeros that lead them, although RFC 7518 wants them (`TrueLayer`).
fn point(kind: Kind, x: &[u8], y: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        let zeros = kind.coordinate().checked_sub(coordinate.len());
        let zeros = zeros.ok_or("is a JWK whose coordinates are longer than the curve has them")?;
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(coordinate);
    }
    Ok(point)
}

/// `RSAPublicKey` (RFC 8017 A.1.1).
fn rsa_der(n: &[u8], e: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let bytes = significant(bytes);
        let positive = bytes.first().is_none_or(|b| b & 0x80 != 0);
        let padded = if positive { [&[0], bytes].concat() } else { bytes.to_vec() };
        der_element(2, &padded)
    };
    der_element(0x30, &[integer(n), integer(e)].concat())
}

/// A tag, a length, and a value.
pub(super) fn der_element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let length = significant(&length);
    let mut element = vec![tag];
    match (value.len(), u8::try_from(length.len())) {
        (0..128, _) | (_, Err(_)) => element.extend(length.last().or(Some(&0))),
        (_, Ok(count)) => {
            element.push(0x80 + count);
            element.extend(length);
        }
    }
    element.extend_from_slice(value);
    element
}

/// Bytes without the zeros that lead them.
fn significant(bytes: &[u8]) -> &[u8] {
    let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    bytes.get(from..).unwrap_or_default()
}
