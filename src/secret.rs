//! Secrets that cannot be printed: no `Display`, a `Debug` that hides, no `Serialize`, zeroed on drop, compared in
//! constant time. What people may see of one is its fingerprint.

use std::{fmt, sync::Arc};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A secret's bytes as configured, before a scheme turns them into a key.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes. Named so that a reader stops at every use.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is equal, in time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }

    /// What people see instead of the secret: a well-known public prefix if there is one, and four hex digits of a hash,
    /// such as `whsec_…9c1e`.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::digest(self.0.as_slice());
        let tail = hex::encode(hash.get(..2).unwrap_or_default());
        let prefix = PUBLIC_PREFIXES
            .iter()
            .find(|p| self.0.starts_with(p.as_bytes()))
            .copied()
            .unwrap_or("");
        format!("{prefix}…{tail}")
    }
}

/// Prefixes that say what kind of secret it is and nothing about its value.
const PUBLIC_PREFIXES: [&str; 4] = ["whsec_", "whsk_", "pdl_ntfset_", "lin_wh_"];

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
