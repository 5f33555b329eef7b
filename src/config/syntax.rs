//! Sentences for files that are not YAML at all: what most likely happened, seen from the lines themselves.

use super::{
    report::{At, Explain as _, Problem},
    tree::Mark,
};

/// Replaces the parser's words by a diagnosis, where there is one.
pub(crate) fn explain(text: &str, problem: Problem) -> Problem {
    let At::File(mark) = problem.at else { return problem };
    if problem.code != "yaml" {
        return problem;
    }
    tab(text).or_else(|| indentation(text, mark)).unwrap_or(problem)
}

/// A tab before the first word of a line.
fn tab(text: &str) -> Option<Problem> {
    let indented =
        |line: &str| line.find(|c| c != ' ').filter(|at| line.as_bytes().get(*at) == Some(&b'\t'));
    let (number, column) = numbered(text).find_map(|(n, line)| Some((n, indented(line)? + 1)))?;
    let tab = Problem::error("yaml", one(number, column), "a tab cannot indent YAML");
    Some(tab.label("use spaces"))
}

/// A line near `mark` whose indentation fits no block that is open there.
fn indentation(text: &str, mark: Mark) -> Option<Problem> {
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (number, line) in numbered(text).filter(|(_, line)| is_content(line)) {
        let indent = indent_of(line);
        let closed = open.iter().position(|(i, _)| *i > indent).unwrap_or(open.len());
        let dropped = closed < open.len();
        let fits = open.iter().any(|(i, _)| *i == indent);
        if dropped && !fits && number + 1 >= mark.line {
            return misfit(text, number, indent, &open);
        }
        open.truncate(closed);
        if !fits {
            open.push((indent, number));
        }
        if number > mark.line {
            break;
        }
    }
    None
}

fn misfit(text: &str, number: usize, indent: usize, open: &[(usize, usize)]) -> Option<Problem> {
    let (near, first) = open.iter().min_by_key(|(i, _)| i.abs_diff(indent))?;
    let (expected, found) = (near + 1, indent + 1);
    let message = format!("expected a mapping key at column {expected}, found column {found}");
    let count = near.abs_diff(indent);
    let word = if indent > *near { "too many" } else { "too few" };
    let spaces = if count == 1 { "one space".to_owned() } else { format!("{count} spaces") };
    let problem =
        Problem::error("yaml", one(number, found), message).label(format!("{spaces} {word}"));
    let key = lines(text).nth(first - 1).and_then(|line| line.split_once(':'));
    let end_column = key.map_or(usize::MAX, |(key, _)| key.chars().count() + 1);
    let beside = Mark { line: *first, column: near + 1, end_line: *first, end_column };
    Some(Problem { beside: Some((beside, format!("this block is indented by {near}"))), ..problem })
}

/// Words that begin as well-known secrets do, wherever they stand.
pub(crate) fn known_secrets(text: &str) -> Vec<Mark> {
    let between = |c: char| c.is_whitespace() || ",{}[]\"'`".contains(c);
    let mut marks = Vec::new();
    for (number, line) in numbered(text) {
        let mut column = 1;
        for word in line.split_inclusive(between) {
            let bare = word.trim_end_matches(between);
            let begins = |text: &str| {
                SECRET_PREFIXES.iter().any(|p| text.starts_with(p) && text.len() > p.len() + 4)
            };
            // Behind rubbish as well: what is no character of a word begins none.
            let mut parts = bare.char_indices().map(|(at, _)| bare.split_at(at));
            let found = parts.find(|(before, rest)| {
                !before.ends_with(|c: char| c.is_ascii_graphic()) && begins(rest)
            });
            if let Some((before, _)) = found {
                let end_column = column + bare.chars().count();
                marks.push(Mark { end_column, ..one(number, column + before.chars().count()) });
            }
            column += word.chars().count();
        }
    }
    marks
}

/// What stands behind a key that names a secret, to the end of the line and of the block under it: for files that no
/// parser has understood.
pub(crate) fn behind_secret_keys(text: &str) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut block = usize::MAX;
    for (number, line) in numbered(text).filter(|(_, line)| is_content(line)) {
        let found = SECRET_KEYS.iter().filter_map(|key| Some(line.find(key)? + key.len())).min();
        let start = match found {
            Some(start) => {
                block = indent_of(line);
                start
            }
            None if indent_of(line) > block => 0,
            None => {
                block = usize::MAX;
                continue;
            }
        };
        let (_, value) = line.split_at(start);
        let value = value.trim_start_matches([' ', '-', '{', '[']);
        let refers = value.starts_with("${")
            || value.starts_with('#')
            || PLACES.iter().any(|p| value.starts_with(p));
        if !refers {
            let end_column = line.chars().count() + 1;
            let column = end_column - value.chars().count();
            marks.push(Mark { end_column, ..one(number, column) });
        }
    }
    marks
}

const SECRET_KEYS: [&str; 5] = ["secret:", "secrets:", "password:", "token:", "set:"];
/// What says where a secret is, instead of what it is.
const PLACES: [&str; 4] = ["env:", "file:", "credential:", "expires:"];
/// What well-known secrets begin with; it says their kind and nothing about their value.
pub(crate) const SECRET_PREFIXES: [&str; 8] =
    ["whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "pdl_ntfset_", "lin_wh_", "shpss_"];

/// Lines as YAML has them: a carriage return alone ends one, too.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text).enumerate().map(|(at, line)| (at + 1, line))
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn one(line: usize, column: usize) -> Mark {
    Mark { line, column, end_line: line, end_column: column + 1 }
}
