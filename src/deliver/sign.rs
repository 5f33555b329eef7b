//! Signs events anew for the app, when they are forwarded: whatever its provider's scheme, the app verifies one of ours; or
//! its provider's scheme again, with a time of now, so that a vendor's library accepts an event that waited.
//!
//! Only what was verified is ever signed: an event that passes in shadow mode keeps the signature that it came with.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    event::Timestamp,
    receive::Envelope,
    secret::Secret,
    verify::{Presented, Verifier, url_with},
};

/// How events are signed for an upstream.
#[derive(Debug)]
pub enum Sign {
    /// With [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md),
    /// by every key.
    Standard(Vec<StandardKey>),
    /// With the scheme that the event came with.
    Native {
        /// The source's schemes, with secrets of the upstream's own.
        verifier: Verifier,
        /// The URL that the provider has on file, which some schemes sign.
        url: Arc<str>,
    },
}

/// A key of Standard Webhooks.
#[derive(Clone)]
pub enum StandardKey {
    /// `v1`: HMAC-SHA256; the app has the same key.
    Symmetric(Hmac<Sha256>),
    /// `v1a`: Ed25519; the app has the public key only.
    Asymmetric(Arc<Ed25519KeyPair>),
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Lengths of a symmetric key, in bytes (Standard Webhooks, "Signature scheme").
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SEED_BYTES: usize = 32;

impl StandardKey {
    /// Reads a key: `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and base64 of an Ed25519 seed, behind which the public
    /// key may stand, as some libraries write it. The error says what is wrong, without any part of it.
    pub fn parse(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        let decode = |text| STANDARD.decode(text).map(Zeroizing::new).map_err(|_| NOT_BASE64);
        if let Some(text) = text.strip_prefix(b"whsec_") {
            let key = decode(text)?;
            if !KEY_BYTES.contains(&key.len()) {
                return Err("is not 24 to 64 bytes long");
            }
            return Hmac::new_from_slice(&key).map(Self::Symmetric).map_err(|_| NOT_BASE64);
        }
        let Some(text) = text.strip_prefix(b"whsk_") else {
            return Err("begins neither with `whsec_` nor with `whsk_`");
        };
        let key = decode(text)?;
        let pair = match key.split_at_checked(SEED_BYTES) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err("is not 32 bytes long, as an Ed25519 key is"),
        };
        pair.map(Arc::new).map(Self::Asymmetric).map_err(|_| "is not an Ed25519 key")
    }

    /// What the app verifies with, where that is no secret: `whpk_` and base64.
    pub fn public(&self) -> Option<String> {
        match self {
            Self::Symmetric(_) => None,
            Self::Asymmetric(pair) => {
                Some(format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref())))
            }
        }
    }

    fn sign(&self, pieces: [&[u8]; 2]) -> String {
        match self {
            Self::Symmetric(mac) => {
                let mut mac = mac.clone();
                for piece in pieces {
                    mac.update(piece);
                }
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            }
            Self::Asymmetric(pair) => {
                format!("v1a,{}", STANDARD.encode(pair.sign(&pieces.concat())))
            }
        }
    }
}

const NOT_BASE64: &str = "is not base64 behind its prefix";

impl fmt::Debug for StandardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandardKey(…)")
    }
}

impl Sign {
    /// Puts the signature into the headers that the app gets, in place of the one that came. `original` is a prefix under
    /// which the sender's own Standard Webhooks headers are kept. The error is a sentence for the operator.
    pub(super) fn apply(
        &self,
        headers: &mut HeaderMap,
        envelope: &Envelope,
        event_id: &str,
        original: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        match self {
            Self::Standard(keys) => {
                standard(keys, headers, envelope.body(), event_id, original, now)
            }
            Self::Native { verifier, url } => {
                let url = url_with(url, envelope.uri().query());
                let presented = Presented { received_at: now, ..Presented::of(envelope, &url) };
                let signed = verifier.sign_again(&presented)?;
                for name in verifier.signature_headers() {
                    headers.remove(name);
                }
                for (name, value) in signed {
                    headers.insert(name, value);
                }
                Ok(())
            }
        }
    }
}

fn standard(
    keys: &[StandardKey],
    headers: &mut HeaderMap,
    body: &[u8],
    event_id: &str,
    original: &str,
    now: Timestamp,
) -> Result<(), String> {
    let time = now.as_secs().to_string();
    let lead = format!("{event_id}.{time}.");
    let signatures: Vec<_> = keys.iter().map(|key| key.sign([lead.as_bytes(), body])).collect();
    let ours = [(ID, event_id), (TIMESTAMP, &*time), (SIGNATURE, &*signatures.join(" "))];
    for (name, value) in ours {
        let value = HeaderValue::from_str(value).map_err(|e| e.to_string())?;
        if let Some(theirs) = headers.insert(name.clone(), value)
            && let Ok(kept) = HeaderName::try_from(format!("{original}{name}"))
        {
            headers.insert(kept, theirs);
        }
    }
    Ok(())
}
