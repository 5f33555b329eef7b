//! What is wrong with a configuration, and how people and programs read it.
//!
//! One block per problem with the line of the file under it, as compilers do. Secrets that stand in the file are masked in
//! every line that is shown.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{syntax, tree::Mark};
use crate::units::many;

/// Whether a problem keeps the gateway from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum At {
    File(Mark),
    /// In an environment variable.
    Env {
        variable: String,
    },
    /// In the file as a whole, or outside it.
    Nowhere,
}

/// One problem. Programs are told nothing of what there is not.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// A short, stable name: `unknown-key`.
    pub code: &'static str,
    pub(crate) message: String,
    #[serde(flatten)]
    pub(crate) at: At,
    /// Said beside the underline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) label: String,
    /// Another place that matters, shown as a line of its own.
    #[serde(skip)]
    pub(crate) beside: Option<(Mark, String)>,
    /// Another place that matters, named in the label; the text follows it.
    #[serde(skip)]
    pub(crate) first: Option<(Mark, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<Note>,
}

/// What is said below a problem.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Note {
    /// `help`, `note` or `warning`.
    kind: &'static str,
    text: String,
}

/// All problems of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name, as it was given.
    pub file: String,
    /// The problems.
    pub problems: Vec<Problem>,
    /// The file's lines, without what must not be shown.
    text: String,
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
            At::Env { .. } => (usize::MAX, 0, self.severity),
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

    fn noted(mut self, kind: &'static str, text: impl Into<String>) -> Self {
        self.problem().notes.push(Note { kind, text: text.into() });
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
            problem.notes.iter_mut().for_each(|note| note.text = covered(plain(&note.text)));
            if let Some((mark, then)) = &problem.first {
                let label = Some(&*problem.label).filter(|label| !label.is_empty());
                let label = label.unwrap_or("first defined at ");
                problem.label = format!("{label}{}{then}", mark.place(file));
            }
        }
        let mut lines: Vec<_> = syntax::lines(text).map(plain).collect();
        masks.into_iter().for_each(|mark| mask(&mut lines, mark));
        lines.push("\n".into()); // a mistake may stand behind the last line
        Self { file: file.to_owned(), problems, text: lines.join("\n") }
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
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        self.problems
            .iter()
            .map(|problem| renderer.render(&[self.block(problem)]) + "\n\n")
            .collect()
    }

    /// For programs.
    pub fn json(&self) -> Json {
        json!({
            "v": 1,
            "file": self.file,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "problems": self.problems,
        })
    }

    fn block<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&problem.message).id(problem.code);
        let label = Some(&problem.label).filter(|label| !label.is_empty());
        let outside = |place: String| {
            let label = label.map(|label| Level::NOTE.no_name().message(label));
            title.clone().element(Origin::path(place)).elements(label)
        };
        let group = match &problem.at {
            At::File(mark) => {
                let here = AnnotationKind::Primary.span(self.span(*mark)).label(label);
                let beside = problem.beside.as_ref().map(|(mark, label)| {
                    AnnotationKind::Context.span(self.span(*mark)).label(label)
                });
                let source = Snippet::source(&self.text).path(&self.file).annotation(here);
                title.element(source.annotations(beside))
            }
            At::Env { variable } => outside(format!("environment variable {variable}")),
            At::Nowhere => outside(self.file.clone()),
        };
        let note = |Note { kind, text }: &'a Note| Level::NOTE.with_name(*kind).message(text);
        group.elements(problem.notes.iter().map(note))
    }

    /// The part of a mark's first line, in bytes of the text.
    fn span(&self, mark: Mark) -> Range<usize> {
        let above = self.text.split_inclusive('\n').take(mark.line - 1);
        let before: usize = above.map(str::len).sum();
        let line = self.text.lines().nth(mark.line - 1).unwrap_or_default();
        let (from, to) = mark.columns_in(mark.line, line);
        let byte = |column| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
        before + byte(from)..before + byte(to)
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
        let word: String = line.chars().skip(from).take(to - from).collect();
        // A parser's end of what is quoted may be the beginning of what follows.
        let word: Vec<char> = word.trim_end().chars().collect();
        let to = from + word.len();
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
