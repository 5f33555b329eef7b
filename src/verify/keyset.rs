//! Sets of keys, prepared for the algorithms that a scheme allows: one by one, a JWKS, or a list that a provider publishes.

use std::borrow::Cow;

use aws_lc_rs::signature::{self as aws, ParsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::TrustAnchor;

use super::{
    chain,
    foreign::Claimed,
    key::{Algorithm, Key, KeyForm, Tag},
    public::{self, Kind, PublicKey},
};
use crate::{answer::Reason, event::Timestamp, json, secret::Secret};

/// An algorithm that a scheme allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) algorithm: Algorithm,
    /// ECDSA as two numbers of fixed width, instead of DER.
    pub(crate) raw: bool,
}

/// How a provider lists its keys: where the items are, and in each its name and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) items: json::Path,
    pub(crate) id: json::Path,
    pub(crate) key: json::Path,
}

/// Keys, each with the algorithms that it may be used with.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Ready>,
    /// Certificates that keys which come with a message must lead to.
    roots: Vec<Vec<u8>>,
    /// Until when the certificate that holds it is good.
    not_after: Option<Timestamp>,
}

#[derive(Debug)]
struct Ready {
    ids: Vec<String>,
    checks: Vec<(Allowed, Check)>,
}

/// What checks a signature.
#[derive(Debug)]
pub(crate) enum Check {
    Public(ParsedPublicKey),
    Shared(Algorithm, Key),
}

impl Check {
    /// Whether `signature` was made over `signed`.
    pub(crate) fn holds(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Self::Shared(algorithm, key) => {
                let tag = key.tag(&[Cow::Borrowed(signed)], 0);
                let fits = signature.len() == algorithm.tag_bytes();
                fits && bool::from(tag.is(&Tag::of(signature)))
            }
        }
    }
}

impl KeySet {
    /// What an operator gave: one key, a JWKS, or a list as the provider publishes it.
    pub(crate) fn of_secret(
        secret: &Secret,
        form: &KeyForm,
        allowed: &[Allowed],
        listing: Option<&Listing>,
        id: Option<&str>,
    ) -> Result<Self, String> {
        let shared = |allowed: &Allowed| Kind::of(allowed.algorithm).is_none();
        if allowed.iter().any(shared) {
            let checks = allowed.iter().map(|allowed| {
                let key = Key::prepare(allowed.algorithm, form, secret)?;
                Ok((*allowed, Check::Shared(allowed.algorithm, key)))
            });
            let checks = checks.collect::<Result<_, String>>()?;
            let ids = id.map(str::to_owned).into_iter().collect();
            return Ok(Self { keys: vec![Ready { ids, checks }], ..Self::default() });
        }
        let listed = listing.and_then(|listing| list(secret.expose(), listing));
        let mut keys = match listed {
            Some(keys) => keys,
            None => PublicKey::read(secret.expose(), form)?,
        };
        if let (Some(id), [key]) = (id, keys.as_mut_slice()) {
            key.ids = vec![id.to_owned()];
        }
        Self::prepare(keys, allowed)
    }

    /// What was fetched.
    pub(crate) fn of_document(
        text: &[u8],
        allowed: &[Allowed],
        listing: Option<&Listing>,
    ) -> Result<Self, String> {
        let keys = match listing {
            Some(listing) => list(text, listing).ok_or("holds no list of keys where it should")?,
            None => PublicKey::of_document(text)?,
        };
        Self::prepare(keys, allowed)
    }

    /// The one key of a JSON document that was fetched. What named the document named the key.
    pub(crate) fn of_key_inside(
        text: &[u8],
        path: &json::Path,
        allowed: &[Allowed],
    ) -> Result<Self, String> {
        let document: serde_json::Value =
            serde_json::from_slice(text).map_err(|_| "is not a JSON document")?;
        let key = at(&document, path.steps()).and_then(serde_json::Value::as_str);
        let key = key.ok_or("holds no key where it should")?;
        Self::prepare(PublicKey::read(key.as_bytes(), &KeyForm::default())?, allowed)
    }

    /// A fetched certificate: for `name`, where one is given, below one of `anchors`; good now. Without a name it may be a key or a
    /// JWKS as well.
    pub(crate) fn of_certificates(
        text: &[u8],
        allowed: &[Allowed],
        name: Option<&str>,
        anchors: &[TrustAnchor<'_>],
        now: Timestamp,
    ) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "is not text")?;
        let is_bare =
            |text: &str| text.starts_with(['{']) || text.starts_with("-----BEGIN PUBLIC KEY-----");
        if name.is_none() && is_bare(text.trim_start()) {
            return Self::prepare(PublicKey::of_document(text.as_bytes())?, allowed);
        }
        let chain = public::certificates(text)?;
        let leaf = chain.first().ok_or("holds no certificate")?;
        let (not_before, not_after) = chain::validity(leaf).ok_or("is not a certificate")?;
        if now < not_before || now > not_after {
            return Err("is a certificate that is not good now".into());
        }
        if let Some(name) = name {
            chain::check_fetched(&chain, name, anchors, now)?;
        }
        // The message names the certificate, not the key in it.
        let key = PublicKey { ids: Vec::new(), ..PublicKey::from_certificate(leaf)? };
        Ok(Self { not_after: Some(not_after), ..Self::prepare(vec![key], allowed)? })
    }

    /// Whether it is good no more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| now > end)
    }

    /// Prepares those keys that an allowed algorithm can use; there must be one.
    pub(crate) fn prepare(keys: Vec<PublicKey>, allowed: &[Allowed]) -> Result<Self, String> {
        let mut wrong = "holds no key".to_owned();
        let mut ready = Vec::new();
        for key in keys {
            match Ready::new(key, allowed) {
                Ok(key) => ready.push(key),
                Err(why) => wrong = why,
            }
        }
        if ready.is_empty() {
            return Err(wrong);
        }
        Ok(Self { keys: ready, ..Self::default() })
    }

    /// Roots that are pinned.
    pub(crate) fn of_roots(secret: &Secret) -> Result<Self, String> {
        Ok(Self { roots: chain::roots(secret)?, ..Self::default() })
    }

    /// The secret that both sides have, and the algorithm that it is used with first.
    pub(super) fn shared(&self) -> Option<(Algorithm, &Key)> {
        self.keys.iter().flat_map(|key| &key.checks).find_map(|(_, check)| match check {
            Check::Shared(algorithm, key) => Some((*algorithm, key)),
            Check::Public(_) => None,
        })
    }

    /// Roots that are pinned, in DER.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(Vec::as_slice)
    }

    /// Whether its keys have names.
    pub(crate) fn is_named(&self) -> bool {
        self.keys.iter().any(|key| !key.ids.is_empty())
    }

    /// Whether a key has this name.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.is_called(id))
    }

    /// What may check a signature of `algorithm`: of the key that is called `id`, where that is known.
    pub(crate) fn checks<'k>(
        &'k self,
        id: Option<&'k str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'k Check> {
        let keys = self.keys.iter().filter(move |key| id.is_none_or(|id| key.is_called(id)));
        let checks = keys.flat_map(|key| &key.checks);
        checks.filter(move |(allowed, _)| allowed.algorithm == algorithm).map(|(_, check)| check)
    }
}

impl Ready {
    fn new(key: PublicKey, allowed: &[Allowed]) -> Result<Self, String> {
        let is_for = |allowed: &&Allowed| {
            let only = key.only_for.as_deref();
            let meant = only.is_none_or(|only| of_jose_name(only) == Some(allowed.algorithm));
            meant && Kind::of(allowed.algorithm) == Some(key.kind)
        };
        let mut checks = Vec::new();
        for allowed in allowed.iter().filter(is_for) {
            let parsed = ParsedPublicKey::new(verification(*allowed)?, &key.bytes);
            let parsed =
                parsed.map_err(|_| format!("is {} that is not on its curve", key.name()))?;
            checks.push((*allowed, Check::Public(parsed)));
        }
        if checks.is_empty() {
            let names: Vec<_> = allowed.iter().map(|a| a.algorithm.as_str()).collect();
            return Err(format!("is {}, which `{}` cannot use", key.name(), names.join("`, `")));
        }
        Ok(Self { ids: key.ids, checks })
    }

    fn is_called(&self, id: &str) -> bool {
        self.ids.iter().any(|known| known == id)
    }
}

/// Signatures that are checked for one request, at most: of those that are in it, under each key that it may be made with.
const CHECKS_MAX: usize = 32;

impl Claimed<'_> {
    /// Which slot's key made the signature. Where keys have names and the sender gives one, only that key is tried.
    pub(super) fn find(&self, sets: &[(u16, &KeySet)]) -> Result<u16, Reason> {
        if sets.is_empty() {
            return Err(Reason::SecretExpired);
        }
        let id = self.key_id.filter(|_| sets.iter().any(|(_, set)| set.is_named()));
        if id.is_some_and(|id| !sets.iter().any(|(_, set)| set.knows(id))) {
            return Err(Reason::KeyUnknown);
        }
        let mut left = CHECKS_MAX;
        for (slot, set) in sets {
            for check in set.checks(id, self.algorithm) {
                for signature in self.signatures {
                    left = left.checked_sub(1).ok_or(Reason::SignaturesTooMany)?;
                    if check.holds(self.signed, signature) {
                        return Ok(*slot);
                    }
                }
            }
        }
        Err(Reason::SignatureWrong)
    }
}

/// Keys of a list, by its description; `None` where it is not there.
fn list(text: &[u8], listing: &Listing) -> Option<Vec<PublicKey>> {
    let document: serde_json::Value = serde_json::from_slice(text).ok()?;
    let (items, each) = listing.items.steps().split_last().map(|(last, way)| (way, last))?;
    let items = at(&document, items).filter(|_| *each == json::Step::Each)?.as_array()?;
    let keys = items.iter().filter_map(|item| {
        let text = |path: &json::Path| at(item, path.steps())?.as_str();
        let key =
            PublicKey::read(text(&listing.key)?.as_bytes(), &KeyForm::default()).ok()?.pop()?;
        Some(PublicKey { ids: vec![text(&listing.id)?.to_owned()], ..key })
    });
    Some(keys.collect())
}

/// What stands at a path.
pub(crate) fn at<'v>(
    value: &'v serde_json::Value,
    steps: &[json::Step],
) -> Option<&'v serde_json::Value> {
    steps.iter().try_fold(value, |value, step| match step {
        json::Step::Key(key) => value.get(key),
        json::Step::Index(index) => value.get(index),
        json::Step::Each | json::Step::FirstKey(_) => None,
    })
}

/// JOSE's names (RFC 7518 §3.1, RFC 8037), for the algorithms that have one.
const JOSE: [(&str, Algorithm); 14] = [
    ("HS256", Algorithm::HmacSha256),
    ("HS384", Algorithm::HmacSha384),
    ("HS512", Algorithm::HmacSha512),
    ("ES256", Algorithm::EcdsaP256Sha256),
    ("ES384", Algorithm::EcdsaP384Sha384),
    ("ES512", Algorithm::EcdsaP521Sha512),
    ("EdDSA", Algorithm::Ed25519),
    ("Ed25519", Algorithm::Ed25519),
    ("RS256", Algorithm::RsaPkcs1Sha256),
    ("RS384", Algorithm::RsaPkcs1Sha384),
    ("RS512", Algorithm::RsaPkcs1Sha512),
    ("PS256", Algorithm::RsaPssSha256),
    ("PS384", Algorithm::RsaPssSha384),
    ("PS512", Algorithm::RsaPssSha512),
];

/// What JOSE calls an algorithm.
pub(crate) fn jose_name(algorithm: Algorithm) -> Option<&'static str> {
    JOSE.iter().find(|(_, known)| *known == algorithm).map(|(name, _)| *name)
}

/// The algorithm that JOSE calls `name`.
pub(crate) fn of_jose_name(name: &str) -> Option<Algorithm> {
    JOSE.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// JOSE's names, for an error.
pub(crate) fn jose_names() -> String {
    JOSE.map(|(name, _)| name).join(", ")
}

/// The library's name for it.
fn verification(allowed: Allowed) -> Result<&'static dyn VerificationAlgorithm, String> {
    Ok(match (allowed.algorithm, allowed.raw) {
        (Algorithm::Ed25519, _) => &aws::ED25519,
        (Algorithm::EcdsaP256Sha256, false) => &aws::ECDSA_P256_SHA256_ASN1,
        (Algorithm::EcdsaP256Sha256, true) => &aws::ECDSA_P256_SHA256_FIXED,
        (Algorithm::EcdsaP256Sha1, false) => &aws::ECDSA_P256_SHA1_ASN1,
        (Algorithm::EcdsaP384Sha384, false) => &aws::ECDSA_P384_SHA384_ASN1,
        (Algorithm::EcdsaP384Sha384, true) => &aws::ECDSA_P384_SHA384_FIXED,
        (Algorithm::EcdsaP521Sha512, false) => &aws::ECDSA_P521_SHA512_ASN1,
        (Algorithm::EcdsaP521Sha512, true) => &aws::ECDSA_P521_SHA512_FIXED,
        (Algorithm::EcdsaSecp256k1Sha256, false) => &aws::ECDSA_P256K1_SHA256_ASN1,
        (Algorithm::EcdsaSecp256k1Sha256, true) => &aws::ECDSA_P256K1_SHA256_FIXED,
        (Algorithm::RsaPkcs1Sha1, _) => &aws::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (Algorithm::RsaPkcs1Sha256, _) => &aws::RSA_PKCS1_2048_8192_SHA256,
        (Algorithm::RsaPkcs1Sha384, _) => &aws::RSA_PKCS1_2048_8192_SHA384,
        (Algorithm::RsaPkcs1Sha512, _) => &aws::RSA_PKCS1_2048_8192_SHA512,
        (Algorithm::RsaPssSha256, _) => &aws::RSA_PSS_2048_8192_SHA256,
        (Algorithm::RsaPssSha384, _) => &aws::RSA_PSS_2048_8192_SHA384,
        (Algorithm::RsaPssSha512, _) => &aws::RSA_PSS_2048_8192_SHA512,
        (algorithm, _) => return Err(format!("cannot be used with `{}`", algorithm.as_str())),
    })
}
