//! The keys that test events are signed with where only the provider has the real one: made once, and kept.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    audit::storage::create_dir,
    verify::{TestKey, Verifier},
};

/// The first of the keys that a storage directory holds which `verifier` can be signed for, and its file; where there is none yet,
/// a new one, which is kept there. None, where all secrets are shared.
pub(super) fn in_storage(
    verifier: &Verifier,
    storage: &Path,
) -> Option<Result<(TestKey, PathBuf), String>> {
    let dir = storage.join("test-keys");
    let files = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    let fitting = files.into_iter().find_map(|file| {
        let key = verifier.read_test_key(&fs::read_to_string(&file).ok()?)?;
        Some((key.ok()?, file))
    });
    fitting.map(Ok).or_else(|| {
        let new = |key: TestKey| {
            let file = dir.join(format!("{}.pem", key.algorithm()));
            let made = create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()));
            let kept = made.and_then(|()| keep(&key, &file));
            kept.map_err(|why| format!("{why}; `--key FILE` keeps it elsewhere"))?;
            Ok((key, file))
        };
        Some(verifier.test_key()?.and_then(new))
    })
}

/// The key in `file`; where there is no such file, a new one, which is kept there.
pub(super) fn in_file(verifier: &Verifier, file: &Path) -> Option<Result<TestKey, String>> {
    let said = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    match fs::read_to_string(file) {
        Ok(pem) => Some(verifier.read_test_key(&pem)?.map_err(|why| said(&why))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let new = verifier.test_key()?;
            Some(new.and_then(|key| keep(&key, file).map(|()| key)))
        }
        Err(error) => Some(Err(said(&error))),
    }
}

/// Writes a key that only we may read, all of it or nothing, and never over another.
fn keep(key: &TestKey, file: &Path) -> Result<(), String> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let pem = key.to_pem()?;
    let new = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")));
    let written = new.and_then(|mut new| {
        new.write_all(pem.as_bytes())?;
        new.persist_noclobber(file).map_err(|error| error.error)
    });
    let said = |e| format!("the test key cannot be kept in {}: {e}", file.display());
    written.map(drop).map_err(said)
}
