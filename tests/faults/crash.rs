//! The crash points are in debug builds only.

use std::{path::Path, process::Command};

/// Too long to be compared without being kept as text.
const POINT: &str =
    "a point whose name is so long that no compiler takes it apart into numbers, ever, I hope";
const ANOTHER: &str =
    "another one whose name is so long that no compiler takes it apart into numbers, either";

/// Compiles `src/crash.rs` by itself, with something that passes a point, and returns the program's bytes.
fn compiled(debug: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/crash.rs");
    let main = format!(
        "#[path = {file:?}] mod crash;\nfn main() {{ crash::point({POINT:?}); crash::after({ANOTHER:?}, || ()); }}"
    );
    std::fs::write(dir.path().join("main.rs"), main).unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let out = Command::new(rustc)
        .current_dir(dir.path())
        .args(["--edition", "2024", "-O", "-C", debug, "main.rs"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read(dir.path().join("main")).unwrap()
}

#[test]
fn a_release_build_has_no_crash_points() {
    let names = ["GATEPOST_CRASH_AT", POINT, ANOTHER];
    let found = |program: &[u8]| {
        names.map(|name| program.windows(name.len()).any(|window| window == name.as_bytes()))
    };
    assert_eq!(found(&compiled("debug-assertions=off")), [false; 3]);
    // Where they are, the same look finds them.
    assert_eq!(found(&compiled("debug-assertions=on")), [true; 3]);
}
