//! The keys that test events are signed with where only the provider has the real one: made once, and kept.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::{
    audit::storage::{create_dir, is_blank, put, put_new},
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
        Err(error) if error.kind() != ErrorKind::NotFound => Some(Err(said(&error))),
        Ok(pem) if !is_blank(pem.as_bytes()) => {
            Some(verifier.read_test_key(&pem)?.map_err(|why| said(&why)))
        }
        _ => {
            let new = verifier.test_key()?;
            Some(new.and_then(|key| keep(&key, file).map(|()| key)))
        }
    }
}

/// Writes a key that only we may read, all of it or nothing, and not over one that is there; but over what an interrupted run of an
/// earlier version left.
fn keep(key: &TestKey, file: &Path) -> Result<(), String> {
    let said = |e: io::Error| format!("the test key cannot be kept in {}: {e}", file.display());
    let is_left = fs::read(file).is_ok_and(|left| is_blank(&left));
    let put = if is_left { put } else { put_new };
    put(file, key.to_pem()?.as_bytes(), 0o600).map_err(said)
}
