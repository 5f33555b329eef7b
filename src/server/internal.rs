//! The certificates of `tls.mode: internal`: a CA of our own and one certificate, kept in the storage directory.
//!
//! Senders in a lab trust `ca.pem` once; it stays the same for ten years, while the certificate below it is made anew
//! a month before its end or when a host is added.

use std::{
    collections::HashSet,
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::{Facts, TlsError, facts};
use crate::{
    audit::storage::{put, sync_parent},
    config::CertFiles,
    event::{Digest, Timestamp},
};

/// Where the CA certificate is that senders have to trust.
pub fn ca_file(storage: &Path) -> PathBuf {
    storage.join("tls").join("ca.pem")
}

/// The certificate for `hosts` and this machine's own names, made where there is none that will do.
pub(super) fn files(
    storage: &Path,
    hosts: &[String],
    now: Timestamp,
) -> Result<CertFiles, TlsError> {
    let dir = storage.join("tls");
    let files = CertFiles { cert: dir.join("server.pem"), key: dir.join("server.key") };
    let mut names: Vec<_> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let whole = key_of(&files.cert, &files.key).is_some();
    if whole && lasts(&ca_file(storage), &[], now) && lasts(&files.cert, &names, now) {
        return Ok(files);
    }
    let mut private = fs::DirBuilder::new();
    let made = private.recursive(true).mode(0o700).create(&dir).and_then(|()| sync_parent(&dir));
    made.map_err(|error| TlsError::file(&dir, &error))?;
    remove(&files.cert)?; // so that half of a change is made anew, whatever interrupts it
    let ca = authority(&dir, now)?;
    let key = KeyPair::generate()?;
    let certificate = leaf(unique(names), now)?.signed_by(&key, &ca)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.cert, &certificate.pem(), 0o644)?;
    Ok(files)
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self(format!("the internal certificate cannot be made: {error}"))
    }
}

fn unique(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// Whether the certificate in `file` has all `names` and does not end soon.
fn lasts(file: &Path, names: &[String], now: Timestamp) -> bool {
    let facts = CertificateDer::from_pem_file(file).ok().and_then(|der| facts(&der));
    facts.is_some_and(|Facts { names: has, not_after, .. }| {
        not_after > now.plus(RENEW_BEFORE) && names.iter().all(|name| has.contains(name))
    })
}

/// The key in `key`, if it is that of the certificate in `cert`: a crash may have come between the writing of the two.
fn key_of(cert: &Path, key: &Path) -> Option<KeyPair> {
    let key = KeyPair::from_pem(&fs::read_to_string(key).ok()?).ok()?;
    let cert = CertificateDer::from_pem_file(cert).ok()?;
    let (_, cert) = X509Certificate::from_der(&cert).ok()?;
    (cert.public_key().subject_public_key.data == key.der_bytes()).then_some(key)
}

/// The CA, from its key: what it signs names it by its subject and key alone, so both are made of the key again.
fn authority(dir: &Path, now: Timestamp) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let (key_file, ca_file) = (dir.join("ca.key"), dir.join("ca.pem"));
    if lasts(&ca_file, &[], now)
        && let Some(key) = key_of(&ca_file, &key_file)
    {
        return Ok(Issuer::new(authority_params(&key, now), key));
    }
    let key = KeyPair::generate()?;
    write(&key_file, &key.serialize_pem(), 0o600)?;
    let params = authority_params(&key, now);
    write(&ca_file, &params.self_signed(&key)?.pem(), 0o644)?;
    tracing::info!(file = %ca_file.display(), "made a CA of our own; senders have to trust it");
    Ok(Issuer::new(params, key))
}

fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let mark = Digest::of(key.der_bytes()).to_string();
    let mark = mark.get(..8).unwrap_or_default();
    let mut params = CertificateParams::default();
    name(&mut params, &format!("Gatepost internal CA {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_LIFE);
    params
}

fn leaf(names: Vec<String>, now: Timestamp) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names)?;
    name(&mut params, "Gatepost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, LEAF_LIFE);
    Ok(params)
}

fn name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

/// From yesterday on, for senders whose clock is slow.
fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(now.as_secs()).unwrap_or_default());
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + life;
}

fn remove(file: &Path) -> Result<(), TlsError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(TlsError::file(file, &error)),
        _ => Ok(()),
    }
}

/// Whole or not at all, and never readable by others for a moment.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    put(file, text.as_bytes(), mode).map_err(|error| TlsError::file(file, &error))
}

const DAY: Duration = Duration::from_hours(24);
const CA_LIFE: Duration = Duration::from_hours(24 * 3650);
const LEAF_LIFE: Duration = Duration::from_hours(24 * 365);
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 30);
