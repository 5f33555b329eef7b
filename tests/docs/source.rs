//! What the source knows: tests, and the closed lists of names that people meet in logs, records and metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything that is written in Rust below `dir`.
pub fn rust_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The names of a closed list each, as the source has them.
#[derive(Debug)]
pub struct Source {
    pub outcomes: BTreeSet<String>,
    /// Why a signature was not believed, and the class under which that is counted.
    pub reasons: BTreeMap<String, String>,
    pub limits: BTreeSet<String>,
    pub results: BTreeSet<String>,
    pub kinds: BTreeSet<String>,
    pub crash_points: BTreeSet<String>,
    /// What control records say happened.
    pub control: BTreeSet<String>,
    /// What a record says where the app may get an event again.
    pub excuses: BTreeSet<String>,
    /// How many excuses the model knows.
    pub excuse_count: usize,
    pub metrics: BTreeSet<String>,
    /// Every key of the configuration, wherever it stands.
    pub keys: BTreeSet<String>,
}

impl Source {
    pub fn read(metrics: BTreeSet<String>) -> Self {
        let mut files = Vec::new();
        rust_below(&root().join("src"), &mut files);
        let all: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let (answer, telemetry) = (text("src/answer/table.rs"), text("src/telemetry/lists.rs"));
        let crash_points: BTreeSet<String> = ["crash::point(\"", "crash::after(\""]
            .into_iter()
            .flat_map(|call| quoted_after(&all, call))
            .collect();
        let carry = body(&text("src/dedup/stage.rs"), "async fn carry");
        let errors = literals(&carry).filter(|said| !crash_points.contains(*said));
        let errors = errors.map(|said| said.split('{').next().unwrap().trim().to_owned());
        let excuse = body(&text("src/audit/stages.rs"), "fn excuse");
        let model = body(&text("tests/model/world.rs"), "enum Excuse");
        Self {
            outcomes: names(statement(&answer, "const OUTCOME_NAMES")),
            reasons: pairs(&body(&text("src/answer/reason.rs"), "const fn row")),
            limits: names(statement(&telemetry, "const SHED_REASONS")),
            results: names(statement(&telemetry, "const ATTEMPT_RESULTS")),
            kinds: names(statement(&telemetry, "const RECORD_KINDS")),
            control: quoted_after(&all, "Draft::control(\"").collect(),
            excuses: errors.chain(literals(&excuse).map(str::to_owned)).collect(),
            // And the store's loss of a key, which no request knows of.
            excuse_count: model.lines().filter(|line| line.trim_end().ends_with(',')).count() + 1,
            crash_points,
            metrics,
            keys: keys(&text("config.example.yaml")),
        }
    }
}

/// From `what` to the end of the statement.
pub fn statement<'t>(text: &'t str, what: &str) -> &'t str {
    let rest = text.split_once(what).unwrap_or_else(|| panic!("there is no {what}")).1;
    rest.split_once(";\n").expect("an end").0
}

/// From the line that holds `what` to the first line that ends it at the same depth.
pub fn body(text: &str, what: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| line.contains(what));
    let start = start.unwrap_or_else(|| panic!("there is no {what}"));
    let depth = lines[start].len() - lines[start].trim_start().len();
    let ends = |line: &&str| {
        let own = line.len() - line.trim_start().len();
        own <= depth && line.trim_end().ends_with(['}', ';'])
    };
    let count = lines[start..].iter().position(ends);
    lines[start..=start + count.expect("an end")].join("\n")
}

fn literals(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

pub fn names(code: &str) -> BTreeSet<String> {
    literals(code).map(str::to_owned).collect()
}

/// `("name", "class")`, one a line.
fn pairs(code: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let mut both = literals(line).map(str::to_owned);
        Some((both.next()?, both.next()?))
    };
    code.lines().filter_map(pair).collect()
}

pub fn quoted_after<'t>(text: &'t str, call: &'t str) -> impl Iterator<Item = String> + 't {
    text.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned())
}

/// Keys of a YAML file, in block and in flow style.
fn keys(yaml: &str) -> BTreeSet<String> {
    let lines = yaml.lines().map(|line| line.split(" # ").next().unwrap());
    let parts = lines.flat_map(|line| line.split(['{', ',', '[']));
    let key = |part: &str| {
        let key = part.trim_start_matches([' ', '-', '#']).split(':').next()?.trim_end();
        let plain = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        (part.contains(':') && plain && !key.is_empty()).then(|| key.to_owned())
    };
    parts.filter_map(key).collect()
}

/// Whether there is a test `binary::module::name` that runs; else what is wrong.
pub fn runs(test: &str) -> Result<(), String> {
    let (module, name) = test.rsplit_once("::").unwrap();
    let (binary, inner) = module.split_once("::").unwrap_or((module, ""));
    let candidates = [format!("tests/{binary}.rs"), format!("tests/{binary}/main.rs")];
    let first = candidates.iter().find(|path| root().join(path).exists());
    let first = first.ok_or_else(|| format!("{test}: no test binary {binary}"))?;
    if inner.is_empty() {
        return is_test(&text(first), name).map_err(|why| format!("{test}: {why}"));
    }
    if !text(first).lines().any(|line| line.trim_end() == format!("mod {inner};")) {
        return Err(format!("{test}: no module {inner} in {first}"));
    }
    let path = format!("tests/{binary}/{inner}.rs");
    is_test(&text(&path), name).map_err(|why| format!("{test}: {why}"))
}

/// Whether `text` has a test of this name, one that is made by a list of fixtures too, and it is not ignored.
pub fn is_test(text: &str, name: &str) -> Result<(), &'static str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let fixtures = lines.iter().skip_while(|line| !line.starts_with("fixtures! {")).skip(1);
    let mut fixtures = fixtures.take_while(|line| !line.starts_with('}'));
    if fixtures.any(|line| line.split_whitespace().any(|word| word == name)) {
        return Ok(());
    }
    let heads = [format!("fn {name}("), format!("async fn {name}(")];
    let at = lines.iter().position(|line| heads.iter().any(|head| line.starts_with(head.as_str())));
    let before = lines[..at.ok_or("there is no such function")?].iter().rev();
    let above: Vec<&&str> =
        before.take_while(|line| !line.is_empty() && !line.ends_with(['{', '}'])).collect();
    let has = |what: &str| above.iter().any(|line| line.contains(what));
    match (has("#[test]") || has("#[tokio::test"), has("ignore")) {
        (true, false) => Ok(()),
        (true, true) => Err("it is ignored"),
        (false, _) => Err("it is not a test"),
    }
}
