//! The verifier of logs. An input says how a good log is damaged: a closed segment, a packed one, the one that was written last,
//! the checkpoints.
//!
//! A log that was changed is never called whole against a checkpoint that left the machine; by itself it is called whole only as
//! far as what a checkpoint covers is unchanged. A log that was not changed is whole.

use std::{cell::RefCell, fs, path::Path, sync::LazyLock};

use gatepost::audit::verify::verify;

use super::{
    Finding, ensure,
    logs::{Files, Home, damage, lines},
};

/// A good log, and what left its machine.
#[derive(Debug)]
struct Base {
    files: Files,
    names: Vec<String>,
    lines: Vec<Vec<u8>>,
    keys: Vec<u8>,
    anchor: Vec<u8>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let mut home = Home::new();
    home.params.rotate_bytes = 1500;
    home.record(0, &[0..3, 3..5, 5..8, 8..9], true);
    home.record(1, &[9..11, 11..12], true);
    let mut files = home.read();
    let first = files.keys().find(|name| name.starts_with("segment-")).expect("segments").clone();
    let plain = files.remove(&first).unwrap_or_default();
    let packed = zstd::stream::encode_all(plain.as_slice(), 3).expect("packed");
    files.insert(format!("{first}.zst"), packed);
    let names = files.keys().cloned().collect();
    let (keys, anchor) = (files["audit-signing.pub"].clone(), files["checkpoints"].clone());
    Base { lines: lines(&files).expect("readable"), files, names, keys, anchor }
});

/// What a verifier says: whether all is well, and up to which record a checkpoint says so.
pub type Verdict = (bool, u64);

/// Verifies a directory, with keys that are trusted and perhaps against a copy of its checkpoints; nothing where it cannot tell.
pub type Judgement<'j> = &'j dyn Fn(&Path, &Path, Option<&Path>) -> Option<Verdict>;

/// Tries our verifier.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// What the product says.
pub fn by_product(dir: &Path, keys: &Path, against: Option<&Path>) -> Option<Verdict> {
    let report = verify(dir, Some(keys), against).ok()?;
    Some((report.is_good(), report.sealed.map_or(0, |(size, _)| size)))
}

/// Tries anything that verifies.
pub fn judge(data: &[u8], verify: Judgement<'_>) -> Finding {
    thread_local! {
        static HOME: (Home, RefCell<Files>) = {
            let home = Home::new();
            fs::write(home.beside("keys"), &BASE.keys).expect("written");
            fs::write(home.beside("copy"), &BASE.anchor).expect("written");
            (home, RefCell::default())
        };
    }
    let mut files = BASE.files.clone();
    damage(&mut files, &BASE.names, data);
    HOME.with(|(home, there)| {
        home.change(&there.replace(files.clone()), &files);
        let (keys, copy) = (home.beside("keys"), home.beside("copy"));
        let alone = verify(&home.params.dir, &keys, None);
        let against = verify(&home.params.dir, &keys, Some(&copy));
        let found = lines(&files);
        let is_whole = found.as_ref() == Some(&BASE.lines);
        let told = || format!("alone {alone:?}, against a copy {against:?}: {}", changed(&files));
        if files == BASE.files {
            let all = Some((true, BASE.lines.len() as u64));
            ensure(alone == all && against == all, told)?;
        }
        ensure(is_whole || !against.is_some_and(|(good, _)| good), told)?;
        let Some((true, sealed)) = alone else { return Ok(()) };
        let sealed = usize::try_from(sealed).unwrap_or(usize::MAX);
        let covered = found.as_deref().and_then(|lines| lines.get(..sealed));
        ensure(covered.is_some() && covered == BASE.lines.get(..sealed), told)
    })
}

/// The files that are not as they were.
fn changed(files: &Files) -> String {
    let mut said = String::new();
    for name in &BASE.names {
        let (was, is) = (&BASE.files[name], files.get(name));
        if is != Some(was) {
            said += &format!("\n{name}:\n{:?}", is.map(|bytes| bytes.escape_ascii().to_string()));
        }
    }
    said
}
