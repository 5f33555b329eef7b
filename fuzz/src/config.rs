//! The configuration. An input is a file.
//!
//! It is loaded, or refused with errors, each at a place that the file has; the same twice; and what is shown on a terminal is
//! free of control characters, and of every word that begins as a well-known secret does. What holds against the schema also
//! fits the structs.

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
    let told = said.told.to_string();
    let shown = [said.text.as_str(), told.as_str()].into_iter().find_map(secret);
    ensure(shown.is_none(), || format!("a secret is shown: {shown:?}"))?;
    let problems = said.told["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    problems.iter().try_for_each(|problem| placed(problem, text))
}

/// A word that begins as a Stripe secret does, and goes on.
fn secret(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| c.is_whitespace() || ",{}[]\"'`\\\u{fffd}".contains(c));
    // A long line is cut short, and says so.
    let is_covered = |rest: &str| {
        let rest = rest.trim_end_matches("...");
        rest.chars().count() <= 4 || rest.chars().all(|c| c == '•')
    };
    words.find(|word| word.strip_prefix("whsec_").is_some_and(|rest| !is_covered(rest)))
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
    // As YAML has them; the end, where something may be missing, is at the beginning of another.
    let lines = text.lines().flat_map(|line| line.split('\r')).chain([""]);
    let lengths: Vec<usize> = lines.map(|line| line.chars().count()).collect();
    let within = |line: Option<usize>, column: Option<usize>, more| {
        let length = line.and_then(|line| lengths.get(line.checked_sub(1)?));
        length.zip(column).is_some_and(|(length, column)| (1..=length + more).contains(&column))
    };
    let ends = end_line >= Some(line) && within(end_line, end_column, 2);
    ensure(within(Some(line), column, 1) && ends, told)
}
