//! Chains of certificates: whether a key that came with a message, or from where it said, leads to a root that is trusted.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use serde_json::Value as Json;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{
    foreign::{Claimed, Ring, Stop},
    jose::Header,
    keyset::{Allowed, KeySet},
    public::{self, PublicKey},
};
use crate::{answer::Reason, event::Timestamp, secret::Secret};

/// Certificates in a token's header (`x5c`), below roots that the configuration pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// An extension that the leaf must have.
    pub(crate) leaf_oid: Option<String>,
    /// One that each certificate between must have.
    pub(crate) intermediate_oid: Option<String>,
}

/// Certificates of a chain, at most.
const CERTIFICATES_MAX: usize = 6;
/// How signatures of certificates may be made.
const ALGORITHMS: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

impl Chain {
    /// Which slot's root vouches for the key that made the signature.
    pub(super) fn find(
        &self,
        header: &Header,
        claimed: &Claimed<'_>,
        allowed: &[Allowed],
        ring: &Ring<'_>,
        now: Timestamp,
    ) -> Result<u16, Stop> {
        let chain = x5c(header).ok_or(Reason::CertificateRefused)?;
        let (leaf, rest) = chain.split_first().ok_or(Reason::CertificateRefused)?;
        let sets = ring.sets.iter();
        let mut roots = sets.flat_map(|(slot, set)| set.roots().map(|root| (*slot, root)));
        // A root that comes with the message proves nothing; those between do their part only.
        let between = rest.iter().filter(|der| !is_self_issued(der));
        let between: Vec<_> = between.map(|der| CertificateDer::from(der.as_slice())).collect();
        let has = |der: &[u8], oid: &Option<String>| {
            oid.as_ref().is_none_or(|oid| has_extension(der, oid))
        };
        let fit = has(leaf, &self.leaf_oid)
            && between.iter().all(|der| has(der, &self.intermediate_oid))
            && (self.intermediate_oid.is_none() || !between.is_empty());
        let vouches = |root: &[u8]| {
            let root = CertificateDer::from(root);
            let anchor = anchor_from_trusted_cert(&root);
            anchor.is_ok_and(|anchor| {
                leads_to(leaf, &between, &[anchor], now, KeyUsage::client_auth())
            })
        };
        let (slot, _) =
            roots.find(|(_, root)| fit && vouches(root)).ok_or(Reason::CertificateRefused)?;
        let key = PublicKey::from_certificate(leaf).map_err(|_| Reason::CertificateRefused)?;
        let set = KeySet::prepare(vec![key], allowed).map_err(|_| Reason::CertificateRefused)?;
        let claimed = Claimed { key_id: None, ..*claimed };
        Ok(claimed.find(&[(slot, &set)])?)
    }
}

/// Roots as an operator pins them: certificates in PEM, or one in base64.
pub(crate) fn roots(secret: &Secret) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| "is not text")?.trim();
    let roots = if text.starts_with("-----BEGIN ") {
        public::certificates(text)?
    } else {
        vec![STANDARD.decode(text).map_err(|_| "is neither PEM nor base64")?]
    };
    for root in &roots {
        let der = CertificateDer::from(root.as_slice());
        anchor_from_trusted_cert(&der).map_err(|_| "is not a certificate that can be a root")?;
    }
    Ok(roots)
}

/// Whether a fetched certificate is for `name` and leads to one of `anchors`; the first of a text is the leaf, and the rest is
/// between it and the root.
pub(super) fn check_fetched(
    chain: &[Vec<u8>],
    name: &str,
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("holds no certificate")?;
    let rest: Vec<_> = rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let der = CertificateDer::from(leaf.as_slice());
    let parsed = EndEntityCert::try_from(&der).map_err(|_| "is not a certificate")?;
    let server = ServerName::try_from(name).map_err(|_| format!("`{name}` is no name"))?;
    let named = parsed.verify_is_valid_for_subject_name(&server);
    named.map_err(|_| format!("is not a certificate for {name}"))?;
    if leads_to(leaf, &rest, anchors, now, KeyUsage::server_auth()) {
        Ok(())
    } else {
        Err("is a certificate that leads to no root that is trusted".into())
    }
}

/// From when and until when a certificate is good.
pub(crate) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let time = |time: i64| Timestamp::from_millis(time.saturating_mul(1000));
    Some((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

/// The certificates in a token's header, the leaf first.
fn x5c(header: &Header) -> Option<Vec<Vec<u8>>> {
    let list = header.members.get("x5c")?.as_array()?;
    let decode = |value: &Json| STANDARD.decode(value.as_str()?).ok();
    if list.len() > CERTIFICATES_MAX { None } else { list.iter().map(decode).collect() }
}

fn leads_to(
    leaf: &[u8],
    between: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
    usage: KeyUsage,
) -> bool {
    let der = CertificateDer::from(leaf);
    let Ok(leaf) = EndEntityCert::try_from(&der) else { return false };
    let now =
        UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().try_into().unwrap_or(0)));
    leaf.verify_for_usage(ALGORITHMS, anchors, between, now, usage, None, None).is_ok()
}

fn is_self_issued(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, cert)| cert.subject() == cert.issuer())
}

fn has_extension(der: &[u8], oid: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    certificate.extensions().iter().any(|extension| extension.oid.to_id_string() == oid)
}
