//! Private keys of our own making: test events are signed with them the way a provider would.

use std::borrow::Cow;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    key::{Algorithm, Key},
    keyset::Allowed,
    public::Kind,
};

/// A private key, for one algorithm.
#[derive(Debug)]
pub(super) struct SigningKey {
    allowed: Allowed,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    /// A secret that the source has as well.
    Shared(Key),
}

impl SigningKey {
    /// Makes a key for an algorithm; says why where that cannot be.
    pub(super) fn generate(allowed: Allowed) -> Result<Self, String> {
        let failed = |_| "a key could not be made".to_owned();
        let pair = match Kind::of(allowed.algorithm) {
            Some(Kind::Ed25519) => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            Some(Kind::Rsa) => {
                rsa_encoding(allowed.algorithm)?;
                Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?))
            }
            Some(_) => Pair::Ecdsa(EcdsaKeyPair::generate(ecdsa(allowed)?).map_err(failed)?),
            None => return Err("its secret is one that both sides have".into()),
        };
        Ok(Self { allowed, pair })
    }

    /// A secret that both sides have.
    pub(super) const fn shared(algorithm: Algorithm, key: Key) -> Self {
        Self { allowed: Allowed { algorithm, raw: true }, pair: Pair::Shared(key) }
    }

    /// Reads what [`Self::to_pem`] wrote.
    pub(super) fn from_pem(text: &str, allowed: Allowed) -> Result<Self, String> {
        let body = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let body: String = body.unwrap_or_default().split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).ok().filter(|der| !der.is_empty());
        let der = der.ok_or("is not a private key in PEM (PKCS#8)")?;
        let name = allowed.algorithm.as_str();
        let other = |_| format!("is not a private key for `{name}`");
        let pair = match Kind::of(allowed.algorithm) {
            Some(Kind::Ed25519) => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(other)?)
            }
            Some(Kind::Rsa) => {
                rsa_encoding(allowed.algorithm)?;
                Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).map_err(other)?))
            }
            Some(_) => Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(ecdsa(allowed)?, &der).map_err(other)?),
            None => return Err("its secret is one that both sides have".into()),
        };
        Ok(Self { allowed, pair })
    }

    /// The private key in PEM (PKCS#8).
    pub(super) fn to_pem(&self) -> Result<String, String> {
        let failed = |_| "the key cannot be written".to_owned();
        let der = match &self.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Shared(_) => return Err("the key is the source's secret".into()),
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
        };
        Ok(format!("{BEGIN}\n{}{END}\n", lines(&der)))
    }

    /// The public key in PEM: what a source has for a secret.
    pub(super) fn public_pem(&self) -> Result<String, String> {
        let failed = |_| "the key cannot be written".to_owned();
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_der().map_err(failed)?,
            Pair::Ecdsa(pair) => pair.public_key().as_der().map_err(failed)?,
            Pair::Rsa(pair) => pair.public_key().as_der().map_err(failed)?,
            Pair::Shared(_) => return Err("the key is the source's secret".into()),
        };
        let body = lines(der.as_ref());
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n"))
    }

    /// The algorithm that it signs with.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.allowed.algorithm
    }

    /// A signature over `signed`.
    pub(super) fn sign(&self, signed: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "the key could not sign".to_owned();
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Shared(key) => {
                let tag = key.tag(&[Cow::Borrowed(signed)], 0);
                Ok(tag.bytes(self.allowed.algorithm).to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(signed).as_ref().to_vec()),
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, signed).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let encoding = rsa_encoding(self.allowed.algorithm)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, signed, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

fn lines(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    text.as_bytes()
        .chunks(64)
        .fold(String::new(), |lines, line| lines + &String::from_utf8_lossy(line) + "\n")
}

fn unsigned(algorithm: Algorithm) -> String {
    // What a provider signed so is checked; a new signature of that kind is not made, even by the library.
    format!(
        "nothing here signs with `{}`: signatures with SHA-1 are only checked",
        algorithm.as_str()
    )
}

fn ecdsa(allowed: Allowed) -> Result<&'static EcdsaSigningAlgorithm, String> {
    Ok(match (allowed.algorithm, allowed.raw) {
        (Algorithm::EcdsaP256Sha256, false) => &aws::ECDSA_P256_SHA256_ASN1_SIGNING,
        (Algorithm::EcdsaP256Sha256, true) => &aws::ECDSA_P256_SHA256_FIXED_SIGNING,
        (Algorithm::EcdsaP384Sha384, false) => &aws::ECDSA_P384_SHA384_ASN1_SIGNING,
        (Algorithm::EcdsaP384Sha384, true) => &aws::ECDSA_P384_SHA384_FIXED_SIGNING,
        (Algorithm::EcdsaP521Sha512, false) => &aws::ECDSA_P521_SHA512_ASN1_SIGNING,
        (Algorithm::EcdsaP521Sha512, true) => &aws::ECDSA_P521_SHA512_FIXED_SIGNING,
        (Algorithm::EcdsaSecp256k1Sha256, false) => &aws::ECDSA_P256K1_SHA256_ASN1_SIGNING,
        (Algorithm::EcdsaSecp256k1Sha256, true) => &aws::ECDSA_P256K1_SHA256_FIXED_SIGNING,
        (algorithm, _) => return Err(unsigned(algorithm)),
    })
}

fn rsa_encoding(algorithm: Algorithm) -> Result<&'static aws::RsaSignatureEncoding, String> {
    Ok(match algorithm {
        Algorithm::RsaPkcs1Sha256 => &aws::RSA_PKCS1_SHA256,
        Algorithm::RsaPkcs1Sha384 => &aws::RSA_PKCS1_SHA384,
        Algorithm::RsaPkcs1Sha512 => &aws::RSA_PKCS1_SHA512,
        Algorithm::RsaPssSha256 => &aws::RSA_PSS_SHA256,
        Algorithm::RsaPssSha384 => &aws::RSA_PSS_SHA384,
        Algorithm::RsaPssSha512 => &aws::RSA_PSS_SHA512,
        algorithm => return Err(unsigned(algorithm)),
    })
}
