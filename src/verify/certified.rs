//! Certificates for a test key, the way a provider sends them along: a root, one between, and the key's own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyPair,
};

use super::{Chain, signing::SigningKey};

/// What vouches for a key.
#[derive(Clone, Debug)]
pub(super) struct Vouched {
    /// The root in PEM: what a source has for a secret.
    pub(super) root: String,
    /// The key's certificate and those above it, in base64.
    pub(super) chain: Vec<String>,
}

/// DER of nothing: what such an extension holds.
const NULL: [u8; 2] = [5, 0];

/// Makes certificates that lead to `key` as `wanted` has it.
pub(super) fn vouch(key: &SigningKey, wanted: &Chain) -> Result<Vouched, String> {
    make(key, wanted).map_err(|error| format!("no certificate can be made: {error}"))
}

fn make(key: &SigningKey, wanted: &Chain) -> Result<Vouched, Box<dyn std::error::Error>> {
    // The root is the key's own, so that those who were given one root believe every chain that is made for the same key.
    let own = || key.to_pem().map(|pem| KeyPair::from_pem(&pem));
    let (top, middle) = (own()??, KeyPair::generate()?);
    let params = authority("Gatepost test root", None);
    let root = params.self_signed(&top)?;
    let above = Issuer::new(params, top);
    let params = authority("Gatepost test authority", wanted.intermediate_oid.as_deref());
    let between = params.signed_by(&middle, &above)?;
    let above = Issuer::new(params, middle);
    let leaf = named("Gatepost test signer", wanted.leaf_oid.as_deref());
    let leaf = leaf.signed_by(&own()??, &above)?;
    let text = |certificate: &Certificate| STANDARD.encode(certificate.der());
    Ok(Vouched { chain: [&leaf, &between, &root].map(text).to_vec(), root: root.pem() })
}

fn authority(name: &str, oid: Option<&str>) -> CertificateParams {
    let mut params = named(name, oid);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn named(name: &str, oid: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.custom_extensions = oid.into_iter().map(extension).collect();
    params
}

fn extension(oid: &str) -> CustomExtension {
    let numbers: Vec<u64> = oid.split('.').filter_map(|number| number.parse().ok()).collect();
    CustomExtension::from_oid_content(&numbers, NULL.to_vec())
}
