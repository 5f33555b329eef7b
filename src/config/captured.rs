//! Secrets that providers send: a file per source in the storage directory, which only we may read, the newest secret first.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::{
    audit::storage::{create_dir, put},
    event::Name,
    secret::Secret,
};

/// Secrets of one source, at most: a provider that has one for each subscription sends several.
const SECRETS_MAX: usize = 16;

/// Where the secrets of `source` are.
pub(crate) fn file(storage: &Path, source: &str) -> PathBuf {
    storage.join("captured").join(source)
}

/// The secrets of `source` so far.
pub(crate) fn read(storage: &Path, source: &str) -> io::Result<Vec<Secret>> {
    let bytes = match fs::read(file(storage, source)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => zeroize::Zeroizing::new(bytes?),
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(Secret::new).collect())
}

/// A secret that nobody knows, in a form that every scheme takes.
pub(crate) fn unknown() -> Secret {
    let mut bytes = [0_u8; 32];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("the random source failed");
    }
    Secret::new(hex::encode(bytes))
}

/// Keeps one more secret of `source`, durably, or puts it in the place of all others. After a crash it is there or it is not;
/// the others are.
pub(crate) fn keep(
    storage: &Path,
    source: &Name,
    secret: &Secret,
    replace: bool,
) -> io::Result<()> {
    let path = file(storage, source.as_str());
    create_dir(&storage.join("captured"))?;
    let mut secrets = if replace { Vec::new() } else { read(storage, source.as_str())? };
    secrets.retain(|known| !known.matches(secret.expose()));
    secrets.insert(0, secret.clone());
    secrets.truncate(SECRETS_MAX);
    let lines = secrets.iter().flat_map(|secret| [secret.expose(), b"\n"]);
    let text = zeroize::Zeroizing::new(lines.collect::<Vec<_>>().concat());
    put(&path, &text, 0o600)
}
