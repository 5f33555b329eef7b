//! What is wrong with a configuration, and how people and programs read it.
//!
//! One block per problem with the line of the file under it, as compilers do. Secrets that stand in the file are masked in
//! every line that is shown.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{syntax, tree::Mark};
use crate::units::many;

/// Whether a problem keeps the gateway from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    File(Mark),
    /// In an environment variable.
    Env(String),
    /// In the file as a whole, or outside it.
    Nowhere,
}

/// One problem.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// A short, stable name: `unknown-key`.
    pub code: &'static str,
    pub(crate) message: String,
    pub(crate) at: At,
    /// Said beside the underline.
    pub(crate) label: String,
    /// Another place that matters, shown as a line of its own.
    pub(crate) beside: Option<(Mark, String)>,
    /// Another place that matters, named in the label; the text follows it.
    pub(crate) first: Option<(Mark, String)>,
    /// `help`, `note` or `warning`, and a sentence.
    pub(crate) notes: Vec<(&'static str, String)>,
}

/// All problems of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name, as it was given.
    pub file: String,
    /// The problems.
    pub problems: Vec<Problem>,
    lines: Vec<String>,
}

/// A problem as programs read it; nothing is said of what there is not.
#[derive(Serialize)]
struct Told<'a> {
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    place: Option<Mark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<&'a str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Json>,
}

impl From<Mark> for At {
    fn from(mark: Mark) -> Self {
        Self::File(mark)
    }
}

impl Problem {
    pub(crate) fn error(code: &'static str, at: impl Into<At>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            at: at.into(),
            label: String::new(),
            beside: None,
            first: None,
            notes: Vec::new(),
        }
    }

    pub(crate) fn warning(
        code: &'static str,
        at: impl Into<At>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, message) }
    }

    fn order(&self) -> (usize, usize, Severity) {
        match &self.at {
            At::File(mark) => (mark.line, mark.column, self.severity),
            At::Env(_) => (usize::MAX, 0, self.severity),
            At::Nowhere => (usize::MAX, 1, self.severity),
        }
    }
}

/// Says more about a problem, whether it is still held or was handed in already.
pub(crate) trait Explain: Sized {
    fn problem(&mut self) -> &mut Problem;

    /// Beside the underline.
    fn label(mut self, label: impl Into<String>) -> Self {
        self.problem().label = label.into();
        self
    }

    /// Where the same thing was first defined; `then` follows the place.
    fn first(mut self, mark: Mark, then: impl Into<String>) -> Self {
        self.problem().first = Some((mark, then.into()));
        self
    }

    fn help(self, help: impl Into<String>) -> Self {
        self.noted("help", help)
    }

    fn note(self, note: impl Into<String>) -> Self {
        self.noted("note", note)
    }

    fn noted(mut self, word: &'static str, text: impl Into<String>) -> Self {
        self.problem().notes.push((word, text.into()));
        self
    }
}

impl Explain for Problem {
    fn problem(&mut self) -> &mut Problem {
        self
    }
}

impl Explain for &mut Problem {
    fn problem(&mut self) -> &mut Problem {
        self
    }
}

impl Report {
    /// Puts problems in order. `masks` are the places of secrets.
    pub(crate) fn new(
        file: &str,
        text: &str,
        mut problems: Vec<Problem>,
        masks: impl IntoIterator<Item = Mark>,
    ) -> Self {
        problems.sort_by_key(Problem::order);
        for problem in &mut problems {
            problem.message = covered(plain(&problem.message));
            problem.label = covered(plain(&problem.label));
            problem.notes.iter_mut().for_each(|(_, note)| *note = covered(plain(note)));
        }
        let mut lines: Vec<_> = syntax::lines(text).map(plain).collect();
        masks.into_iter().for_each(|mark| mask(&mut lines, mark));
        Self { file: file.to_owned(), problems, lines }
    }

    /// A report on a file that cannot be read at all.
    pub(crate) fn unreadable(file: &str, problem: Problem) -> Self {
        Self::new(file, "", vec![problem], [])
    }

    pub(crate) fn errors(&self) -> usize {
        self.problems.iter().filter(|p| p.severity == Severity::Error).count()
    }

    pub(crate) fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }

    /// For people: every block, and the count at the end.
    pub fn human(&self, colour: bool) -> String {
        let (errors, warnings) = (self.errors(), self.warnings());
        let end = if errors > 0 { " Nothing was started." } else { "" };
        format!("{}{}: {}.{end}\n", self.blocks(colour), self.file, counted(errors, warnings))
    }

    pub(crate) fn blocks(&self, colour: bool) -> String {
        let pen = Pen(colour);
        self.problems.iter().map(|problem| self.block(problem, pen) + "\n").collect()
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let problems: Vec<_> = self.problems.iter().map(|problem| self.told(problem)).collect();
        json!({
            "v": 1,
            "file": self.file,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "problems": problems,
        })
    }

    fn told<'a>(&self, problem: &'a Problem) -> Told<'a> {
        let (place, variable) = match &problem.at {
            At::File(mark) => (Some(*mark), None),
            At::Env(name) => (None, Some(name.as_str())),
            At::Nowhere => (None, None),
        };
        let note = |(kind, text): &(_, _)| json!({ "kind": kind, "text": text });
        Told {
            severity: problem.severity.word(),
            code: problem.code,
            message: &problem.message,
            place,
            variable,
            label: self.label(problem),
            notes: problem.notes.iter().map(note).collect(),
        }
    }

    fn block(&self, problem: &Problem, pen: Pen) -> String {
        let head = format!("{}[{}]", problem.severity.word(), problem.code);
        let head = pen.severity(problem.severity, &head);
        let mut lines = vec![format!("{head}{}", pen.bold(&format!(": {}", problem.message)))];
        let mut gutter = 1;
        let outside = match &problem.at {
            At::File(mark) => {
                gutter = self.excerpt(&mut lines, problem, *mark, pen);
                None
            }
            At::Env(name) => Some(format!("environment variable {name}")),
            At::Nowhere => Some(self.file.clone()),
        };
        let (arrow, dash) = (pen.blue("-->"), pen.blue("="));
        if let Some(place) = outside {
            let label = Some(self.label(problem)).filter(|label| !label.is_empty());
            lines.push(format!(" {arrow} {place}"));
            lines.extend(label.map(|label| format!("  {dash} {label}")));
        }
        let note = |(word, text): &(&str, String)| {
            format!("{:gutter$} {dash} {}: {text}", "", pen.bold(word))
        };
        lines.extend(problem.notes.iter().map(note));
        lines.join("\n") + "\n"
    }

    /// Adds place, lines and underlines; returns the width of the gutter.
    fn excerpt(&self, out: &mut Vec<String>, problem: &Problem, mark: Mark, pen: Pen) -> usize {
        let label = self.label(problem);
        let tint = |text: &str| pen.severity(problem.severity, text);
        let mut rows = vec![(mark.line, self.underlined(mark, '^', &label, &tint))];
        if let Some((mark, label)) = &problem.beside {
            rows.push((mark.line, self.underlined(*mark, '-', label, &|text| pen.blue(text))));
        }
        rows.sort_by_key(|(line, _)| *line);
        let gutter = rows.last().map_or(1, |(line, _)| line.to_string().len());
        let (arrow, bar) = (pen.blue("-->"), pen.blue("|"));
        out.push(format!("{:gutter$}{arrow} {}", "", self.place(mark)));
        out.push(format!("{:gutter$} {bar}", ""));
        for (line, under) in rows {
            let number = pen.blue(&format!("{line:>gutter$}"));
            out.push(format!("{number} {bar} {}", self.line(line)));
            out.push(format!("{:gutter$} {bar} {under}", ""));
        }
        gutter
    }

    /// What stands under a line.
    fn underlined(
        &self,
        mark: Mark,
        with: char,
        label: &str,
        tint: &dyn Fn(&str) -> String,
    ) -> String {
        let (from, to) = mark.columns_in(mark.line, self.line(mark.line));
        let rule: String = std::iter::repeat_n(with, (to - from).max(1)).collect();
        let space = if label.is_empty() { "" } else { " " };
        format!("{:from$}{}", "", tint(&format!("{rule}{space}{label}")))
    }

    fn line(&self, number: usize) -> &str {
        self.lines.get(number - 1).map_or("", String::as_str)
    }

    fn label(&self, problem: &Problem) -> String {
        let place = problem.first.as_ref().map(|(at, then)| self.place(*at) + then);
        let empty = problem.label.is_empty() && place.is_some();
        let label = if empty { "first defined at " } else { &problem.label };
        format!("{label}{}", place.unwrap_or_default())
    }

    fn place(&self, mark: Mark) -> String {
        format!("{}:{}:{}", self.file, mark.line, mark.column)
    }
}

/// `2 errors, 1 warning`.
pub(crate) fn counted(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, _) => many(warnings, "warning"),
        (_, 0) => many(errors, "error"),
        (_, _) => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    }
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A line as it may go to a terminal or a log: tabs are one wide, control characters are visible, nothing is endless, and
/// words that look like keys are covered wherever they stand: behind a misspelt key, in a comment, for a key themselves.
fn plain(line: &str) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut shown: Vec<char> = line.chars().take(400).map(visible).collect();
    let kind = |c: &char| (c.is_ascii_digit(), c.is_ascii_lowercase(), c.is_ascii_uppercase());
    let in_word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=');
    for word in shown.chunk_by_mut(|one, next| in_word(one) && in_word(next)) {
        let next = word.iter().skip(1);
        let turns = word.iter().zip(next).filter(|(c, next)| kind(c) != kind(next)).count();
        if word.len() >= KEY_CHARS_MIN && turns >= KEY_TURNS_MIN {
            word.fill('•');
        }
    }
    shown.into_iter().collect()
}

/// A word that is so long, and turns so often between digits, small and large letters, is taken for a key.
const KEY_CHARS_MIN: usize = 8;
const KEY_TURNS_MIN: usize = 4;

/// Without well-known secrets, in whichever place somebody put them; the words of a path are words, too.
fn covered(text: String) -> String {
    let masks = syntax::known_secrets(&text.replace('.', " "));
    let mut lines = [text];
    for place in masks {
        mask(&mut lines, place);
    }
    lines.concat()
}

/// Covers a secret character by character, so that columns hold; the quotes around it and a prefix that says its kind stay.
fn mask(lines: &mut [String], mark: Mark) {
    for number in mark.line..=mark.end_line {
        let Some(line) = lines.get_mut(number - 1) else { return };
        let (from, to) = mark.columns_in(number, line);
        let word: Vec<char> = line.chars().skip(from).take(to - from).collect();
        let quoted = |at: Option<&char>| usize::from(matches!(at, Some('"' | '\'')));
        let first = if number == mark.line { quoted(word.first()) } else { 0 };
        let last = if number == mark.end_line { quoted(word.last()) } else { 0 };
        let bare: String = word.iter().skip(first).collect();
        let prefix = syntax::SECRET_PREFIXES.iter().find(|prefix| bare.starts_with(**prefix));
        let covered = from + first + prefix.map_or(0, |prefix| prefix.len())..to - last;
        let cover = |(at, c)| if covered.contains(&at) { '•' } else { c };
        *line = line.chars().enumerate().map(cover).collect();
    }
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Pen(bool);

impl Pen {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn blue(self, text: &str) -> String {
        self.paint("1;34", text)
    }

    fn severity(self, severity: Severity, text: &str) -> String {
        self.paint(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }
}
