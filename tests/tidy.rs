//! The house rules that a compiler does not know: layering as `src/ARCHITECTURE.md` draws it, and sizes that may not grow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file, tests in it included.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from `fn` to its closing brace.
const FN_LINES_MAX: usize = 60;
/// Lines of `src/`, comments and blank lines included. A ratchet: it goes down, never up (`src/ARCHITECTURE.md` says what the
/// lines are).
const SRC_LINES_MAX: usize = 37_931;

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 40, "the walk finds the sources");
    found
}

/// The module of a file: the first part of its path below `src`.
fn module(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Each module's layer, from the document.
fn layers(document: &str) -> BTreeMap<String, usize> {
    let block = document.split("```layers\n").nth(1).expect("the document has the block");
    let block = block.split("```").next().unwrap();
    let lines = block.lines().enumerate();
    lines.flat_map(|(n, line)| line.split_whitespace().map(move |m| (m.to_owned(), n))).collect()
}

/// Names of modules that a file's code uses: every `crate::name`, in imports (nested ones too) and in expressions.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(top_level_names(group));
        } else {
            found.push(ident(rest));
        }
    }
    found
}

/// First identifiers of a `use crate::{…}` group, up to its closing brace.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            c if depth == 0 => item.push(c),
            _ => {}
        }
    }
    items.push(item);
    items.iter().map(|i| ident(i.trim())).filter(|i| !i.is_empty()).collect()
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn edges_against(layers: &BTreeMap<String, usize>, module: &str, text: &str) -> Vec<String> {
    let Some(own) = layers.get(module) else { return vec![format!("{module} has no layer")] };
    let forbidden = |used: &String| {
        let shared_vocabulary = *own == 0 && used == "event";
        used != module && !shared_vocabulary && layers.get(used).is_some_and(|layer| layer >= own)
    };
    uses(text).into_iter().filter(forbidden).map(|used| format!("{module} uses {used}")).collect()
}

#[test]
fn modules_use_only_what_stands_left_of_them() {
    let layers = layers(include_str!("../src/ARCHITECTURE.md"));
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module(&path);
        if module != "lib" && module != "main" {
            let edges = edges_against(&layers, &module, &text);
            wrong.extend(edges.into_iter().map(|edge| format!("{}: {edge}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_layering_check_sees_what_it_must() {
    let layers = layers("```layers\nevent answer\nverify\naudit\n```");
    let wrong = |module: &str, text: &str| !edges_against(&layers, module, text).is_empty();
    assert!(wrong("verify", "use crate::audit::Recorded;"));
    assert!(wrong("verify", "use crate::{event::Name, audit::{A, B}};"));
    assert!(wrong("verify", "fn f() { crate::audit::x() }"));
    assert!(wrong("elsewhere", ""));
    assert!(!wrong("audit", "use crate::{event::Name, verify::{A, B}, audit::C};"));
    assert!(!wrong("answer", "use crate::event::Name;"));
    assert!(!wrong("verify", "// use crate::audit::Recorded;"));
}

/// Lines of each function, by brace counting: good enough for formatted code.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let head = trimmed.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let head = head.trim_start_matches("pub(super) ").trim_start_matches("async ");
        let Some(rest) = head.trim_start_matches("const ").strip_prefix("fn ") else { continue };
        // A method that a trait only names has no body.
        let head = lines[start..].iter().find(|l| l.ends_with(['{', ';', '}']));
        if head.is_some_and(|l| l.ends_with(';')) {
            continue;
        }
        let indent = line.len() - trimmed.len();
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|l| *l == close).unwrap_or(0);
        found.push((ident(rest), end + 1));
    }
    found
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    let mut total = 0;
    let mut lengths = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        total += lines;
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        for (name, length) in functions(&text) {
            lengths.push(length);
            if length > FN_LINES_MAX {
                wrong.push(format!("{}: fn {name} has {length} lines", path.display()));
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(lengths.len() > 500, "the scan finds the functions");
    assert!(median < 10, "the median function has {median} lines");
    assert!(total <= SRC_LINES_MAX, "src has {total} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && !path.ends_with("lib.rs"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` header: {}", silent.join(", "));
}

/// Words by which code comes to heap memory where it imports nothing for that: types of the prelude, and the methods and macros
/// that make such or need room of their own.
const HEAP: [&str; 22] = [
    "Arc",
    "Box",
    "Cow",
    "Rc",
    "String",
    "Vec",
    "clone",
    "collect",
    "concat",
    "format",
    "into_owned",
    "join",
    "repeat",
    "sort",
    "to_ascii_lowercase",
    "to_ascii_uppercase",
    "to_owned",
    "to_string",
    "to_vec",
    "unzip",
    "vec",
    "with_capacity",
];
/// A file whose code runs for each piece that is read, and so takes no heap memory, and all that it may name besides itself.
const SPARE: (&str, [&str; 7]) = (
    "server/guard.rs",
    [
        "use arrayvec::ArrayVec;",
        "use memchr::memchr;",
        "use super::Unreadable;",
        "pub(super)",
        "std::mem::take",
        "std::mem::replace",
        "usize::try_from",
    ],
);

/// What a file names that may take heap memory: words of [`HEAP`], and paths to elsewhere that are not known to take none.
fn heap(text: &str, known: &[&str]) -> Vec<String> {
    let mut code =
        text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    for name in known {
        code = code.replace(name, "");
    }
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    let elsewhere = ["use", "std", "core", "crate", "super", "extern"];
    let takes = |word: &&str| HEAP.contains(word) || elsewhere.contains(word);
    words.filter(takes).map(str::to_owned).collect()
}

#[test]
fn the_guard_of_http1_takes_no_heap_memory() {
    let (file, known) = SPARE;
    let (_, text) = sources().into_iter().find(|(path, _)| path.ends_with(file)).unwrap();
    assert_eq!(heap(&text, &known), Vec::<String>::new(), "{file}");
    for more in [
        "let kept = line.start.to_vec();",
        "let name = name.to_ascii_lowercase();",
        "let all: Vec<u8> = bytes.iter().copied().collect();",
        "self.wrong(&format!(\"{line}\"));",
        "use std::collections::VecDeque;",
        "let kept = Box::new(line);",
        "super::guarded::keep(line);",
    ] {
        assert!(!heap(&format!("{text}\n{more}"), &known).is_empty(), "{more}");
    }
    assert!(
        heap("/// A Vec, or a String.\nstruct Line(ArrayVec<u8, 64>); // no Vec", &known)
            .is_empty()
    );
}

/// Crash points are debug builds' alone (`src/crash.rs`), and no profile that people are given turns those assertions on.
#[test]
fn nothing_that_is_shipped_has_crash_points() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let profiles: Vec<_> = manifest.split("\n[profile.").skip(1).collect();
    let names: Vec<_> = profiles.iter().map(|p| p.split(']').next().unwrap()).collect();
    assert!(["dev", "release", "dist"].iter().all(|name| names.contains(name)), "{names:?}");
    for profile in profiles.iter().filter(|profile| !profile.starts_with("dev")) {
        let profile = profile.split("\n[").next().unwrap();
        assert!(!profile.contains("debug-assertions"), "[profile.{profile}");
        assert!(
            !profile.contains("inherits") || profile.contains("inherits = \"release\""),
            "[profile.{profile}"
        );
    }
}

/// What decides whether an event is believed, known, and on record.
const CORE: [&str; 5] = ["audit", "dedup", "identify", "json", "verify"];

/// Files of [`CORE`] that are not in exactly one of the areas of a script that runs mutants.
fn outside(script: &str) -> Vec<String> {
    let areas = script.split("\nAREAS = {\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    let patterns = areas.split('"').filter(|quoted| quoted.starts_with("src/"));
    let patterns: Vec<String> = patterns.flat_map(spelled_out).collect();
    let is_in = |file: &str, pattern: &String| {
        pattern == file
            || pattern.strip_suffix("*.rs").is_some_and(|folder| {
                file.strip_prefix(folder).is_some_and(|name| !name.contains('/'))
            })
    };
    let core = sources().into_iter().filter(|(path, _)| CORE.contains(&&*module(path)));
    let files = core.map(|(path, _)| {
        let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
        path.to_str().unwrap().to_owned()
    });
    files
        .filter(|file| patterns.iter().filter(|pattern| is_in(file, pattern)).count() != 1)
        .collect()
}

/// `a/{b,c}/*.rs` as `a/b/*.rs` and `a/c/*.rs`.
fn spelled_out(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (names, after) = rest.split_once('}').unwrap();
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

/// A file that is in none is one of whose tests nobody knows what they would miss.
#[test]
fn mutants_are_made_of_every_file_of_the_core() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants/run.py");
    let script = fs::read_to_string(script).unwrap();
    assert_eq!(outside(&script), Vec::<String>::new());
    for (area, missed) in [
        ("src/dedup/{mod,clock,", "src/dedup/clock.rs"),
        ("src/verify/*", "src/verify/mod.rs"),
        ("{embedded,redis}", "src/dedup/redis/link.rs"),
    ] {
        assert!(script.contains(area), "{area}");
        let fewer =
            area.replace("clock,", "").replace("verify/*", "verify/x").replace(",redis", "");
        assert!(outside(&script.replace(area, &fewer)).iter().any(|file| file == missed), "{area}");
    }
}
