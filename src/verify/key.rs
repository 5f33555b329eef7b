//! Keys: how a configured secret becomes one, prepared once, and the tags that it makes.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac};
use icu_normalizer::DecomposingNormalizerBorrowed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How a signature is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-1.
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    /// Plain SHA-256 of a text that holds the secret: `{secret}` stands in the template.
    #[serde(rename = "hash-sha256")]
    HashSha256,
    /// The secret itself is sent. Covers nothing.
    #[serde(rename = "token")]
    Token,
    /// HTTP Basic; the secret is `user:password`. Covers nothing.
    #[serde(rename = "basic")]
    Basic,
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-1, which a provider or two still use.
    #[serde(rename = "ecdsa-p256-sha1")]
    EcdsaP256Sha1,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ecdsa-p384-sha384")]
    EcdsaP384Sha384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ecdsa-p521-sha512")]
    EcdsaP521Sha512,
    /// ECDSA on secp256k1 with SHA-256.
    #[serde(rename = "ecdsa-secp256k1-sha256")]
    EcdsaSecp256k1Sha256,
    /// RSA PKCS#1 v1.5 with SHA-1, which a provider or two still use.
    #[serde(rename = "rsa-pkcs1-sha1")]
    RsaPkcs1Sha1,
    /// RSA PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "rsa-pkcs1-sha256")]
    RsaPkcs1Sha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    #[serde(rename = "rsa-pkcs1-sha384")]
    RsaPkcs1Sha384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    #[serde(rename = "rsa-pkcs1-sha512")]
    RsaPkcs1Sha512,
    /// RSA PSS with SHA-256.
    #[serde(rename = "rsa-pss-sha256")]
    RsaPssSha256,
    /// RSA PSS with SHA-384.
    #[serde(rename = "rsa-pss-sha384")]
    RsaPssSha384,
    /// RSA PSS with SHA-512.
    #[serde(rename = "rsa-pss-sha512")]
    RsaPssSha512,
    /// A JSON Web Token: `jwt.algs` says which algorithms it may be signed with.
    #[serde(rename = "jwt")]
    Jwt,
    /// A JSON Web Signature without its payload, which is `signed`.
    #[serde(rename = "jws-detached")]
    JwsDetached,
    /// HTTP Message Signatures (RFC 9421), with digests of the body (RFC 9530).
    #[serde(rename = "rfc9421")]
    Rfc9421,
}

impl Algorithm {
    /// Its name in configuration, records and headers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
            Self::HashSha256 => "hash-sha256",
            Self::Token => "token",
            Self::Basic => "basic",
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP256Sha1 => "ecdsa-p256-sha1",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::EcdsaP521Sha512 => "ecdsa-p521-sha512",
            Self::EcdsaSecp256k1Sha256 => "ecdsa-secp256k1-sha256",
            Self::RsaPkcs1Sha1 => "rsa-pkcs1-sha1",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPkcs1Sha384 => "rsa-pkcs1-sha384",
            Self::RsaPkcs1Sha512 => "rsa-pkcs1-sha512",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::RsaPssSha384 => "rsa-pss-sha384",
            Self::RsaPssSha512 => "rsa-pss-sha512",
            Self::Jwt => "jwt",
            Self::JwsDetached => "jws-detached",
            Self::Rfc9421 => "rfc9421",
        }
    }

    /// Whether it signs anything, or only shows that the sender knows the secret.
    pub(crate) const fn signs(self) -> bool {
        !matches!(self, Self::Token | Self::Basic)
    }

    /// Whether what the sender shows lets whoever has it in.
    pub(crate) const fn is_shown(self) -> bool {
        matches!(self, Self::Token | Self::Basic | Self::Jwt)
    }

    /// Whether what is signed is a template; a token holds it itself, and a message signature lists it.
    pub(crate) const fn signs_template(self) -> bool {
        self.signs() && !matches!(self, Self::Jwt | Self::Rfc9421)
    }

    /// Whether the sender's key is another than ours, or the scheme has a form of its own; such schemes are judged by
    /// [`super::foreign`], all others by comparing tags.
    pub(crate) const fn is_foreign(self) -> bool {
        !matches!(
            self,
            Self::HmacSha1
                | Self::HmacSha256
                | Self::HmacSha384
                | Self::HmacSha512
                | Self::HashSha256
                | Self::Token
                | Self::Basic
        )
    }

    /// Length of a tag. Tokens are compared by their SHA-256, so that not even their length shows in the time it takes.
    pub(super) const fn tag_bytes(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 | Self::HashSha256 | Self::Token | Self::Basic => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            // Their signatures are not compared.
            _ => 0,
        }
    }
}

/// How configured text becomes key bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyForm {
    /// Encoding of the text. Default: `utf8`, the text's own bytes.
    pub encoding: KeyEncoding,
    /// Prefixes that are removed first, in this order, where present.
    pub strip_prefix: Vec<String>,
    /// Character references in the text are read as what they stand for: `html` (`&amp;`).
    pub unescape: Option<Unescape>,
    /// The text's Unicode normalization form: `nfkd`.
    pub normalize: Option<Normalize>,
    /// The key is the digest of the bytes: `sha1`.
    pub digest: Option<KeyDigest>,
}

/// What is read in a secret's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unescape {
    /// What `WordPress` writes for these characters: `&` `<` `>` `"` `'`.
    Html,
}

/// A Unicode normalization form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// Compatibility decomposition.
    Nfkd,
}

/// A digest that makes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyDigest {
    /// SHA-1.
    Sha1,
}

/// Encoding of a secret's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// The text's own bytes.
    #[default]
    Utf8,
    /// Standard base64, canonical.
    Base64,
    /// Hexadecimal.
    Hex,
    /// PEM: a public key, or a certificate. (Public keys are recognised in PEM, and as a JWK, whatever is said here.)
    Pem,
    /// A JWK, or a JWKS.
    Jwk,
}

impl KeyForm {
    /// Whether `secret` begins the way that this form's secrets begin.
    pub(super) fn claims(&self, secret: &Secret) -> bool {
        self.strip_prefix.iter().any(|prefix| secret.expose().starts_with(prefix.as_bytes()))
    }

    /// The key's bytes, or what is wrong with the secret. The sentence never holds any part of it.
    pub(super) fn bytes(&self, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut text = secret.expose();
        for prefix in &self.strip_prefix {
            text = text.strip_prefix(prefix.as_bytes()).unwrap_or(text);
        }
        if text.is_empty() {
            return Err("is empty but for its prefix".into());
        }
        let text = self.text(text)?;
        let decoded = match self.encoding {
            KeyEncoding::Utf8 | KeyEncoding::Pem | KeyEncoding::Jwk => Ok(text),
            KeyEncoding::Base64 => STANDARD.decode(&text).map(Zeroizing::new).map_err(|_| "base64"),
            KeyEncoding::Hex => hex::decode(&text).map(Zeroizing::new).map_err(|_| "hexadecimal"),
        };
        let bytes = decoded.map_err(|form| format!("is not {form}, which this scheme needs"))?;
        Ok(match self.digest {
            Some(KeyDigest::Sha1) => Zeroizing::new(Sha1::digest(&bytes).to_vec()),
            None => bytes,
        })
    }

    fn text(&self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        if self.unescape.is_none() && self.normalize.is_none() {
            return Ok(Zeroizing::new(text.to_vec()));
        }
        let text =
            std::str::from_utf8(text).map_err(|_| "is not UTF-8, which this scheme needs")?;
        let text = Zeroizing::new(match self.unescape {
            Some(Unescape::Html) => unescaped(text),
            None => text.to_owned(),
        });
        Ok(Zeroizing::new(match self.normalize {
            Some(Normalize::Nfkd) => {
                DecomposingNormalizerBorrowed::new_nfkd().normalize(&text).into_owned().into_bytes()
            }
            None => text.as_bytes().to_vec(),
        }))
    }
}

/// The references that `WordPress` decodes, once each: `&amp;lt;` is `&lt;`.
fn unescaped(mut text: &str) -> String {
    const REFERENCES: [(&str, char); 13] = [
        ("&amp;", '&'),
        ("&#038;", '&'),
        ("&#x26;", '&'),
        ("&lt;", '<'),
        ("&#060;", '<'),
        ("&gt;", '>'),
        ("&#062;", '>'),
        ("&quot;", '"'),
        ("&#034;", '"'),
        ("&#x22;", '"'),
        ("&#039;", '\''),
        ("&#39;", '\''),
        ("&#x27;", '\''),
    ];
    let mut out = String::with_capacity(text.len());
    while let Some((before, from)) = text.find('&').and_then(|at| text.split_at_checked(at)) {
        out.push_str(before);
        let known = REFERENCES.iter().find_map(|(name, c)| Some((from.strip_prefix(name)?, *c)));
        let (rest, c) = known.unwrap_or_else(|| (from.strip_prefix('&').unwrap_or(""), '&'));
        out.push(c);
        text = rest;
    }
    out.push_str(text);
    out
}

/// A tag, or a candidate for one: at most 64 bytes, zeros behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag([u8; 64]);

impl Tag {
    /// The first 64 of `bytes`, which are never more.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut tag = Self([0; 64]);
        tag.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        tag
    }

    /// The tag of something that is not signed but shown.
    pub(super) fn of_shown(bytes: &[u8]) -> Self {
        Self::of(&Sha256::digest(bytes))
    }

    /// Whether both are equal, in constant time.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    pub(super) fn bytes(&self, algorithm: Algorithm) -> &[u8] {
        self.0.get(..algorithm.tag_bytes()).unwrap_or_default()
    }
}

/// A prepared key: the state of the MAC after its key block, cloned per request.
#[derive(Clone)]
pub(crate) enum Key {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Box<Hmac<Sha384>>),
    Sha512(Box<Hmac<Sha512>>),
    /// Stands in the hashed text.
    Hashed(Zeroizing<Vec<u8>>),
    Shown(Tag),
}

impl Key {
    pub(super) fn prepare(
        algorithm: Algorithm,
        form: &KeyForm,
        secret: &Secret,
    ) -> Result<Self, String> {
        let bytes = form.bytes(secret)?;
        let prepared = match algorithm {
            Algorithm::HmacSha1 => Hmac::new_from_slice(&bytes).map(Self::Sha1),
            Algorithm::HmacSha256 => Hmac::new_from_slice(&bytes).map(Self::Sha256),
            Algorithm::HmacSha384 => Hmac::new_from_slice(&bytes).map(Box::new).map(Self::Sha384),
            Algorithm::HmacSha512 => Hmac::new_from_slice(&bytes).map(Box::new).map(Self::Sha512),
            Algorithm::HashSha256 => Ok(Self::Hashed(bytes)),
            Algorithm::Basic if !bytes.contains(&b':') => {
                return Err("is not `user:password`, which HTTP Basic needs".into());
            }
            Algorithm::Token | Algorithm::Basic => Ok(Self::Shown(Tag::of_shown(&bytes))),
            _ => return Err("is not a key that tags are made with".into()),
        };
        prepared.map_err(|_| "has a length that no key can have".into())
    }

    /// The tag over `pieces`, one after the other. A secret that is hashed itself stands before the piece `secret_at`.
    pub(super) fn tag(&self, pieces: &[Cow<'_, [u8]>], secret_at: usize) -> Tag {
        match self {
            Self::Sha1(mac) => finish(mac.clone(), pieces),
            Self::Sha256(mac) => finish(mac.clone(), pieces),
            Self::Sha384(mac) => finish((**mac).clone(), pieces),
            Self::Sha512(mac) => finish((**mac).clone(), pieces),
            Self::Hashed(secret) => {
                let (before, behind) = pieces.split_at_checked(secret_at).unwrap_or((pieces, &[]));
                let hash = before.iter().fold(Sha256::new(), Sha256::chain_update);
                let hash = behind.iter().fold(hash.chain_update(secret), Sha256::chain_update);
                Tag::of(&hash.finalize())
            }
            Self::Shown(tag) => *tag,
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

fn finish<M: Mac>(mut mac: M, pieces: &[Cow<'_, [u8]>]) -> Tag {
    for piece in pieces {
        mac.update(piece);
    }
    Tag::of(&mac.finalize().into_bytes())
}

/// What no scheme accepts as a secret.
pub(super) fn check(secret: &Secret) -> Result<(), String> {
    let bytes = secret.expose();
    match bytes {
        [] => Err("is empty".into()),
        _ if bytes.iter().all(u8::is_ascii_whitespace) => Err("is nothing but white space".into()),
        // HMAC pads keys with zeros: `key` and `key\0` would be one key.
        _ if bytes.contains(&0) => Err("holds a NUL byte".into()),
        _ => Ok(()),
    }
}
