//! What is wrong with a configuration, and how people and programs read it.
//!
//! One block per problem with the line of the file under it, as compilers do. Secrets that stand in the file are masked in
//! every line that is shown.

use std::fmt::Write as _;

use serde_json::json;

use super::spans::Mark;

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
pub enum At {
    /// In the file.
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
    /// What is wrong.
    pub message: String,
    /// Where.
    pub at: At,
    /// Said beside the underline.
    pub label: String,
    /// Another place that matters, shown as a line of its own.
    pub beside: Option<(Mark, String)>,
    /// Another place that matters, named in the label; the text follows it.
    pub first: Option<(Mark, String)>,
    /// `help`, `note` or `warning`, and a sentence.
    pub notes: Vec<(&'static str, String)>,
}

/// All problems of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The file's name, as it was given.
    pub file: String,
    /// The problems.
    pub problems: Vec<Problem>,
    lines: Vec<String>,
    masks: Vec<(Mark, String)>,
}

impl From<Mark> for At {
    fn from(mark: Mark) -> Self {
        Self::File(mark)
    }
}

impl Problem {
    /// An error.
    pub fn error(code: &'static str, at: impl Into<At>, message: impl Into<String>) -> Self {
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

    /// A warning.
    pub fn warning(code: &'static str, at: impl Into<At>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, message) }
    }

    /// Says `label` beside the underline.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Names where the same thing was first defined.
    #[must_use]
    pub fn first(self, mark: Mark, then: impl Into<String>) -> Self {
        let label = if self.label.is_empty() { "first defined at ".into() } else { self.label };
        Self { first: Some((mark, then.into())), label, ..self }
    }

    /// Adds a sentence on what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        self.noted("help", help)
    }

    /// Adds a sentence on why.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        self.noted("note", note)
    }

    /// Adds a sentence under a word of its own.
    #[must_use]
    pub fn noted(mut self, word: &'static str, text: impl Into<String>) -> Self {
        self.notes.push((word, text.into()));
        self
    }

    fn order(&self) -> (usize, usize, Severity) {
        match &self.at {
            At::File(mark) => (mark.line, mark.column, self.severity),
            At::Env(_) => (usize::MAX, 0, self.severity),
            At::Nowhere => (usize::MAX, 1, self.severity),
        }
    }
}

impl Report {
    /// Puts problems in order. `masks` are the places of secrets and what is shown instead.
    pub fn new(
        file: &str,
        text: &str,
        mut problems: Vec<Problem>,
        masks: Vec<(Mark, String)>,
    ) -> Self {
        problems.sort_by_key(Problem::order);
        for problem in &mut problems {
            problem.message = plain(&problem.message);
            problem.label = plain(&problem.label);
        }
        let lines = text.lines().map(plain).collect();
        Self { file: file.to_owned(), problems, lines, masks }
    }

    /// A report on a file that cannot be read at all.
    pub fn unreadable(file: &str, problem: Problem) -> Self {
        Self::new(file, "", vec![problem], Vec::new())
    }

    /// How many errors.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|p| p.severity == Severity::Error).count()
    }

    /// How many warnings.
    pub fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }

    /// For people: every block, and the count at the end.
    pub fn human(&self, colour: bool) -> String {
        let mut text = self.blocks(colour);
        let (errors, warnings) = (self.errors(), self.warnings());
        let end = if errors > 0 { " Nothing was started." } else { "" };
        text.push_str(&format!("{}: {}.{end}\n", self.file, counted(errors, warnings)));
        text
    }

    /// For people: every block.
    pub fn blocks(&self, colour: bool) -> String {
        let pen = Pen(colour);
        self.problems.iter().map(|problem| self.block(problem, pen) + "\n").collect()
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let problems: Vec<_> = self.problems.iter().map(|problem| self.object(problem)).collect();
        json!({
            "v": 1,
            "file": self.file,
            "errors": self.errors(),
            "warnings": self.warnings(),
            "problems": problems,
        })
    }

    fn object(&self, problem: &Problem) -> serde_json::Value {
        let mut object = json!({
            "severity": problem.severity.word(),
            "code": problem.code,
            "message": problem.message,
        });
        let mut put = |key: &str, value: serde_json::Value| {
            if let Some(map) = object.as_object_mut() {
                map.insert(key.to_owned(), value);
            }
        };
        match &problem.at {
            At::File(mark) => {
                put("line", json!(mark.line));
                put("column", json!(mark.column));
                put("end_line", json!(mark.end_line));
                put("end_column", json!(mark.end_column));
            }
            At::Env(name) => put("variable", json!(name)),
            At::Nowhere => {}
        }
        if !problem.label.is_empty() {
            put("label", json!(self.full_label(problem)));
        }
        if !problem.notes.is_empty() {
            let notes =
                problem.notes.iter().map(|(word, text)| json!({ "kind": word, "text": text }));
            put("notes", notes.collect());
        }
        object
    }

    fn block(&self, problem: &Problem, pen: Pen) -> String {
        let head = format!("{}[{}]", problem.severity.word(), problem.code);
        let head = pen.severity(problem.severity, &head);
        let mut out = format!("{head}{}\n", pen.bold(&format!(": {}", problem.message)));
        let mut gutter = 1;
        match &problem.at {
            At::File(mark) => {
                gutter = self.excerpt(&mut out, problem, *mark, pen);
            }
            At::Env(name) => {
                let _ = writeln!(out, " {} environment variable {name}", pen.blue("-->"));
            }
            At::Nowhere => {
                let _ = writeln!(out, " {} {}", pen.blue("-->"), self.file);
            }
        }
        if !matches!(problem.at, At::File(_)) && !problem.label.is_empty() {
            let _ = writeln!(out, "  {} {}", pen.blue("="), self.full_label(problem));
        }
        for (word, text) in &problem.notes {
            let _ = writeln!(out, "{:gutter$} {} {}: {text}", "", pen.blue("="), pen.bold(word));
        }
        out
    }

    /// Writes place, lines and underlines; returns the width of the gutter.
    fn excerpt(&self, out: &mut String, problem: &Problem, mark: Mark, pen: Pen) -> usize {
        let last =
            problem.beside.as_ref().map_or(mark.line, |(beside, _)| beside.line.max(mark.line));
        let gutter = last.to_string().len();
        let arrow = pen.blue("-->");
        let _ = writeln!(out, "{:gutter$}{arrow} {}:{}:{}", "", self.file, mark.line, mark.column);
        let bar = pen.blue("|");
        let _ = writeln!(out, "{:gutter$} {bar}", "");
        let label = self.full_label(problem);
        let tint = |text: &str| pen.severity(problem.severity, text);
        let main = (mark.line, self.underlined(mark, '^', &label, &tint));
        let beside = problem.beside.as_ref().map(|(mark, label)| {
            (mark.line, self.underlined(*mark, '-', label, &|text: &str| pen.blue(text)))
        });
        let mut rows: Vec<_> = std::iter::once(main).chain(beside).collect();
        rows.sort_by_key(|(line, _)| *line);
        for (line, (source, under)) in rows {
            let _ = writeln!(out, "{} {bar} {source}", pen.blue(&format!("{line:>gutter$}")));
            let _ = writeln!(out, "{:gutter$} {bar} {under}", "");
        }
        gutter
    }

    fn full_label(&self, problem: &Problem) -> String {
        match &problem.first {
            Some((at, then)) => {
                format!("{}{}:{}:{}{then}", problem.label, self.file, at.line, at.column)
            }
            None => problem.label.clone(),
        }
    }

    /// The line of `mark` as it may be shown, and what stands under it.
    fn underlined(
        &self,
        mark: Mark,
        with: char,
        label: &str,
        tint: &dyn Fn(&str) -> String,
    ) -> (String, String) {
        let (line, column) = self.shown(mark.line);
        let length = line.chars().count();
        let end = if mark.end_line == mark.line { mark.end_column } else { usize::MAX };
        let from = column(mark.column).min(length + 1);
        let to = if end == usize::MAX { length + 1 } else { column(end).min(length + 1) };
        let width = to.saturating_sub(from).max(1);
        let rule: String = std::iter::repeat_n(with, width).collect();
        let space = if label.is_empty() { "" } else { " " };
        let under =
            format!("{:pad$}{}", "", tint(&format!("{rule}{space}{label}")), pad = from - 1);
        (line, under)
    }

    /// A line with its secrets masked, and how columns of the file move by that.
    fn shown(&self, number: usize) -> (String, impl Fn(usize) -> usize) {
        let line = self.lines.get(number - 1).map_or("", String::as_str);
        let length = line.chars().count();
        let mut cuts: Vec<(usize, usize, &str)> = self
            .masks
            .iter()
            .filter(|(mark, _)| (mark.line..=mark.end_line).contains(&number))
            .map(|(mark, text)| {
                let from = if mark.line == number { mark.column - 1 } else { 0 };
                let to = if mark.end_line == number { mark.end_column - 1 } else { length };
                (from.min(length), to.min(length), text.as_str())
            })
            .filter(|(from, to, _)| from < to)
            .collect();
        cuts.sort_unstable();
        let mut end = 0;
        cuts.retain(|(from, to, _)| *from >= end && std::mem::replace(&mut end, *to) <= *from);
        let (mut shown, mut at) = (String::new(), 0);
        for (from, to, text) in &cuts {
            shown.extend(line.chars().skip(at).take(from.saturating_sub(at)));
            shown.push_str(text);
            at = *to;
        }
        shown.extend(line.chars().skip(at));
        let moves: Vec<_> =
            cuts.iter().map(|(f, t, text)| (*f, *t, text.chars().count())).collect();
        let column = move |column: usize| {
            let moved = moves.iter().filter(|(_, to, _)| *to < column);
            moved.fold(column, |now, (from, to, width)| now + width - (to - from))
        };
        (shown, column)
    }
}

/// `2 errors, 1 warning`.
pub fn counted(errors: usize, warnings: usize) -> String {
    let one =
        |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, _) => one(warnings, "warning"),
        (_, 0) => one(errors, "error"),
        (_, _) => format!("{}, {}", one(errors, "error"), one(warnings, "warning")),
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

/// A line as it may go to a terminal: tabs are one wide, control characters are visible, nothing is endless.
fn plain(line: &str) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    line.chars().take(400).map(visible).collect()
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
        match severity {
            Severity::Error => self.paint("1;31", text),
            Severity::Warning => self.paint("1;33", text),
        }
    }
}
