//! Certificates and what we demand of TLS: 1.2 and 1.3, no early data, the protocol by ALPN, the certificate by name.

use std::{
    collections::HashMap, fmt::Display, fs, io, net::IpAddr, os::unix::fs::PermissionsExt as _,
    path::Path, sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
};

use super::internal;
pub use internal::ca_file;

use crate::{
    config::{CertFiles, Tls, TlsMode},
    event::Timestamp,
    telemetry::Metrics,
};

/// Why there is no TLS; a sentence for the operator, which names the file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(super) String);

impl TlsError {
    pub(super) fn file(file: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {error}", file.display()))
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(format!("TLS cannot be set up: {error}"))
    }
}

/// TLS, ready to serve with.
#[derive(Debug)]
pub struct Loaded {
    /// For [`Settings::tls`](super::Settings::tls).
    pub config: Arc<ServerConfig>,
    /// What the certificates say, the default one first.
    pub certificates: Vec<Facts>,
    /// What works, but should not stay so.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Shows when each name's certificate expires; by the earliest, where several have the name.
    pub fn observe(&self, metrics: &Metrics) {
        let mut earliest: HashMap<&str, Timestamp> = HashMap::new();
        for certificate in &self.certificates {
            for name in &certificate.names {
                let end = earliest.entry(name).or_insert(certificate.not_after);
                *end = certificate.not_after.min(*end);
            }
        }
        for (name, end) in earliest {
            #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
            metrics.certificate_expiry(name).set(end.as_secs() as f64);
        }
    }
}

/// Reads certificates and keys as configured; `None` where a proxy in front of us terminates TLS. In mode `internal`
/// they are made for `hosts` and kept in `storage`. Nothing that runs is touched: on an error, keep what there is.
pub fn load(
    tls: &Tls,
    hosts: &[String],
    storage: &Path,
    now: Timestamp,
) -> Result<Option<Loaded>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let files = match &tls.mode {
        TlsMode::None => return Ok(None),
        TlsMode::Files(files) => files.clone(),
        TlsMode::Internal => vec![internal::files(storage, hosts, now)?],
    };
    let mut warnings = Vec::new();
    let mut certificates = Vec::new();
    let mut by_name = ByName::default();
    for pair in &files {
        let (key, facts) = certified(pair, &provider)?;
        warnings.extend(warn(pair, &facts, now));
        by_name.add(Arc::new(key), &facts.names);
        certificates.push(facts);
    }
    if certificates.is_empty() {
        return Err(TlsError("tls.files names no certificate".to_owned()));
    }
    let config = Arc::new(config(tls, provider, by_name)?);
    Ok(Some(Loaded { config, certificates, warnings }))
}

fn config(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
    by_name: ByName,
) -> Result<ServerConfig, TlsError> {
    let versions: &[_] = if tls.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let clients = tls.client_ca.as_deref().map(|file| clients(file, &provider)).transpose()?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let mut config = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0; // early data can be replayed
    // A resumed session would save the sender a signature check and us nothing: the key exchange, which costs most, is
    // done again. And it would not show its certificate again, even to a new CA.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn clients(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refused = |why: &dyn Display| {
        TlsError(format!("the client CA in {} cannot be used: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| refused(&error))
}

fn certified(
    files: &CertFiles,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Facts), TlsError> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let chain = chain(&files.cert)?;
    let facts = chain
        .first()
        .and_then(|certificate| facts(certificate))
        .ok_or_else(|| TlsError(format!("the first certificate in {cert} is not readable")))?;
    let der = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unreadable(&files.key, error, "private key"))?;
    let signing = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| TlsError(format!("the key in {key} cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| {
        TlsError(format!("the key in {key} does not belong to the certificate in {cert}"))
    })?;
    Ok((certified, facts))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => Err(nothing(file, "certificate")),
        chain => chain.map_err(|error| unreadable(file, error, "certificate")),
    }
}

fn unreadable(file: &Path, error: pem::Error, what: &'static str) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::file(file, &error),
        _ => nothing(file, what),
    }
}

fn nothing(file: &Path, what: &'static str) -> TlsError {
    TlsError(format!("{} holds no {what} in PEM", file.display()))
}

fn warn(files: &CertFiles, facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    let mode = fs::metadata(&files.key).map_or(0, |data| data.permissions().mode());
    if mode & 0o007 != 0 {
        let key = files.key.display();
        warnings.push(format!("{key} can be read by every user: chmod 640 {key}"));
    }
    let cert = files.cert.display();
    if facts.names.is_empty() {
        warnings.push(format!("{cert} has no subject alternative names: senders will refuse it"));
    }
    if facts.not_after <= now {
        warnings.push(format!("{cert} expired at {}: senders will refuse it", facts.not_after));
    } else if facts.not_before > now {
        warnings.push(format!("{cert} holds only from {}: our clock or its", facts.not_before));
    }
    warnings
}

/// Finds a certificate by the name that the sender asks for: exactly, then by wildcard, else the first of all.
#[derive(Debug, Default)]
struct ByName {
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn add(&mut self, key: Arc<CertifiedKey>, names: &[String]) {
        for name in names {
            self.names.entry(name.clone()).or_default().push(Arc::clone(&key));
        }
        self.all.push(key);
    }

    fn candidates(&self, asked: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(asked) = asked.map(str::to_ascii_lowercase) else { return &self.all };
        let wildcard = || {
            let (_, parent) = asked.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        };
        self.names.get(&asked).or_else(wildcard).map_or(&self.all, Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    /// Among several for one name (RSA beside ECDSA), the first that the sender can check.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let schemes = hello.signature_schemes();
        let fits = candidates.iter().find(|c| c.key.choose_scheme(schemes).is_some());
        fits.or(candidates.first()).cloned()
    }
}

/// What we need to know of a certificate of our own. Whether it can be trusted is for senders to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names and addresses of its subject alternative names, in lower case.
    pub names: Vec<String>,
    /// Not valid before.
    pub not_before: Timestamp,
    /// Not valid after.
    pub not_after: Timestamp,
}

/// The facts of a certificate in DER; `None` where it is not one.
pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let moment = |time: ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
    let validity = certificate.validity();
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.iter().flat_map(|extension| &extension.value.general_names);
    Some(Facts {
        names: names.filter_map(name).collect(),
        not_before: moment(validity.not_before),
        not_after: moment(validity.not_after),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(octets) => Some(address(octets)?.to_string()),
        _ => None,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
}
