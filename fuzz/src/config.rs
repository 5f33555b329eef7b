//! The configuration. An input is a file.
//!
//! It is loaded, or refused with errors, each at a place that the file has; the same twice; and what is shown on a terminal is
//! free of control characters. What holds against the schema also fits the structs.

use std::sync::LazyLock;

use gatepost::{
    config::{self, Env, Options},
    event::Timestamp,
};
use serde_json::Value;

use super::{Finding, ensure};

/// Longer files only take longer.
const INPUT_BYTES_MAX: usize = 64 * 1024;

static OPTIONS: LazyLock<Options> = LazyLock::new(|| Options {
    env: Env::from([
        ("STRIPE_SECRET", "whsec_0123456789abcdef"),
        ("A_SECRET", "an-hmac-secret-of-32-characters!"),
    ]),
    // Files that an input names are not opened.
    offline: true,
    now: Timestamp::from_millis(1_795_500_000_000),
});

/// What is said of a file: whether it may be run, the problems for programs, and the text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it may be run.
    pub is_good: bool,
    /// As `check --json` has it.
    pub told: Value,
    /// As `check` has it.
    pub text: String,
}

/// Loads a file.
pub type Load<'l> = &'l dyn Fn(&str) -> Said;

/// Tries the product.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// What the product says.
pub fn by_product(text: &str) -> Said {
    let loaded = config::parse_str("gatepost.yaml", text, &OPTIONS);
    let is_good = loaded.is_ok();
    let report = loaded.map_or_else(|report| *report, |loaded| loaded.warnings);
    Said { is_good, told: report.json(), text: report.human(false) }
}

/// Tries anything that loads.
pub fn judge(data: &[u8], load: Load<'_>) -> Finding {
    let data = data.get(..INPUT_BYTES_MAX).unwrap_or(data);
    let Ok(text) = std::str::from_utf8(data) else { return Ok(()) };
    let said = load(text);
    let again = load(text);
    ensure(said == again, || format!("not the same twice:\n{}\n{}", said.text, again.text))?;
    let errors = said.told["errors"].as_u64();
    ensure(said.is_good == (errors == Some(0)), || format!("refused, and why? {}", said.told))?;
    let hidden = |c: char| c.is_control() && c != '\n';
    ensure(!said.text.contains(hidden), || format!("not for a terminal: {:?}", said.text))?;
    let problems = said.told["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    problems.iter().try_for_each(|problem| placed(problem, text))
}

/// Whether a problem stands somewhere in the file.
fn placed(problem: &Value, text: &str) -> Finding {
    let told = || format!("not in the file: {problem}");
    let number = |key: &str| problem[key].as_u64().and_then(|n| usize::try_from(n).ok());
    ensure(problem["code"] != "shape", || format!("the schema let it pass: {problem}"))?;
    let Some(line) = number("line") else {
        // Of the file as a whole, or in a variable.
        let whole = problem["code"] == "missing-key" || problem["variable"].is_string();
        return ensure(whole, told);
    };
    let (column, end_line, end_column) =
        (number("column"), number("end_line"), number("end_column"));
    // As YAML has them.
    let mut lines: Vec<&str> = text.lines().flat_map(|line| line.split('\r')).collect();
    let is_ended = text.is_empty() || text.ends_with(['\n', '\r']);
    // What is wrong may go on to the end, and begin there where it is that something is missing.
    lines.push("");
    let beginnings = lines.len() - usize::from(!is_ended);
    let within = |line: usize, column: Option<usize>, more| {
        let length =
            line.checked_sub(1).and_then(|line| lines.get(line)).map(|l| l.chars().count());
        length.zip(column).is_some_and(|(length, column)| (1..=length + more).contains(&column))
    };
    let begins = line <= beginnings && within(line, column, 1);
    let ends = end_line.is_some_and(|end| end >= line && within(end, end_column, 2));
    ensure(begins && ends, told)
}
