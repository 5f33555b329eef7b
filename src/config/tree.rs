//! YAML as a tree that knows where each piece stands, so that every later mistake has a line and a column.
//!
//! Only what a configuration needs: one document, text keys, aliases resolved. Merge keys, tags and duplicate keys are
//! refused here, because readers of YAML disagree about them.

use std::{collections::HashMap, fmt};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};
use serde_yaml::Value;

use super::{
    report::{Explain as _, Problem},
    syntax,
};

/// A range of the file, in characters; lines and columns count from 1, the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// First line.
    pub line: usize,
    /// First column.
    pub column: usize,
    /// Last line.
    pub end_line: usize,
    /// Column after the last character.
    pub end_column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar {
        /// As read.
        text: String,
        /// Without quotes: may be a number, a boolean or null.
        plain: bool,
        /// Completed and typed, once it was held against the schema and fits.
        value: Option<Value>,
    },
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
    pub(crate) origin: Origin,
}

/// Where an entry came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It stands where it counts.
    #[default]
    Here,
    /// From another place of the file, such as `defaults.route.timeout`.
    Default(String),
    /// From an environment variable.
    Env(&'static str),
    /// From a preset.
    Preset(String),
}

/// A place in the tree: `sources.stripe.secret[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What is known of a [`Path`].
pub(crate) struct Found<'a> {
    /// Where its key stands, or the item.
    pub(crate) key: Mark,
    /// Where its value stands.
    pub(crate) value: Mark,
    /// Where it, or what holds it, came from.
    pub(crate) origin: &'a Origin,
}

/// Deeper than any configuration, shallower than any stack.
const DEPTH_MAX: usize = 32;
/// Aliases may repeat nodes; this bounds what a small file can grow to.
const NODES_MAX: usize = 50_000;

/// Reads the one document of `text`. Duplicate keys and the like go to `problems` and are left out of the tree.
pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        above: Vec::new(),
        problems,
    };
    match reader.document() {
        Ok(node) => Some(node),
        Err(problem) => {
            problems.push(syntax::explain(text, *problem));
            None
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// The keys above the node that is being read.
    above: Vec<String>,
    problems: &'a mut Vec<Problem>,
}

type Read<T> = Result<T, Box<Problem>>;

impl<'a> Reader<'a> {
    fn document(&mut self) -> Read<Node> {
        let (mut event, mut mark) = self.next()?;
        while matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            (event, mark) = self.next()?;
        }
        if event == Event::StreamEnd {
            return Ok(Node { mark, kind: Kind::Map(Vec::new()) });
        }
        let node = self.node(event, mark, 0)?;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(node),
                (Event::DocumentStart(_), mark) => {
                    let many = Problem::error("yaml", mark, "a second document begins here");
                    return Err(many
                        .help("a configuration is one document: remove the `---`")
                        .into());
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Read<(Event<'a>, Mark)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, Mark::of(span))),
            Some(Err(error)) => Err(Box::new(scan_problem(&error))),
            None => Ok((Event::StreamEnd, Mark::START)),
        }
    }

    fn node(&mut self, event: Event<'a>, mark: Mark, depth: usize) -> Read<Node> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(Problem::error("yaml", mark, "nested too deeply, or too large").into());
        }
        let (anchor, tag, node) = match event {
            Event::Alias(id) => return self.alias(id, mark),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let kind = Kind::Scalar { text: text.into_owned(), plain, value: None };
                (anchor, tag, Node { mark, kind })
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(mark, depth)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(mark, depth)?),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Problem::error("yaml", mark, "a value is missing here").into());
            }
        };
        if let Some(tag) = tag {
            let tagged =
                Problem::error("yaml-tag", mark, format!("tags such as `{tag}` are not used here"));
            self.problems.push(tagged.help("write the plain value; quote it where it is text"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Read<Node> {
        let node = self.anchors.get(&id).cloned();
        let node =
            node.ok_or_else(|| Problem::error("yaml", mark, "this alias refers to itself"))?;
        self.nodes += node.size();
        if self.nodes > NODES_MAX {
            return Err(Problem::error("yaml", mark, "aliases make the file too large").into());
        }
        Ok(node)
    }

    fn list(&mut self, mark: Mark, depth: usize) -> Read<Node> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => {
                    return Ok(Node { mark: mark.to(end), kind: Kind::List(items) });
                }
                (event, mark) => items.push(self.node(event, mark, depth + 1)?),
            }
        }
    }

    fn map(&mut self, mark: Mark, depth: usize) -> Read<Node> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, key_mark) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Node { mark: mark.to(key_mark), kind: Kind::Map(entries) });
            }
            let key = self.node(event, key_mark, depth + 1)?;
            let (event, mark) = self.next()?;
            self.above.push(match &key.kind {
                Kind::Scalar { text, .. } => text.clone(),
                Kind::List(_) | Kind::Map(_) => "…".into(),
            });
            let value = self.node(event, mark, depth + 1)?;
            self.above.pop();
            match entry(key, value, &entries, &self.above) {
                Ok(entry) => entries.push(entry),
                Err(problem) => self.problems.push(*problem),
            }
        }
    }
}

/// A key with its value, unless readers of YAML would disagree about it.
fn entry(key: Node, value: Node, before: &[Entry], above: &[String]) -> Read<Entry> {
    let mark = key.mark;
    let Kind::Scalar { text: key, .. } = key.kind else {
        return Err(Problem::error("yaml", mark, "a key must be plain text").into());
    };
    if key == "<<" {
        let merge = Problem::error("merge-key", mark, "merge keys (`<<`) are not part of YAML 1.2");
        return Err(merge.help("repeat the keys, or set them once under `defaults`").into());
    }
    let section = match above.join(".") {
        root if root.is_empty() => root,
        section => format!(" in `{section}`"),
    };
    match before.iter().find(|entry| entry.key == key) {
        Some(first) => {
            Err(Problem::error("duplicate-key", mark, format!("`{key}` is defined twice{section}"))
                .first(first.mark, "; most YAML readers would silently keep the last")
                .into())
        }
        None => Ok(Entry { key, mark, value, origin: Origin::Here }),
    }
}

fn scan_problem(error: &ScanError) -> Problem {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let mark = Mark { line, column, end_line: line, end_column: column + 1 };
    Problem::error("yaml", mark, error.info().to_owned())
}

impl Mark {
    /// The first character of a file.
    pub(crate) const START: Self = Self { line: 1, column: 1, end_line: 1, end_column: 2 };

    fn of(span: saphyr_parser::Span) -> Self {
        Self {
            line: span.start.line(),
            column: span.start.col() + 1,
            end_line: span.end.line(),
            end_column: span.end.col() + 1,
        }
    }

    fn to(self, end: Self) -> Self {
        Self { end_line: end.end_line, end_column: end.end_column, ..self }
    }

    /// Its part of a line, in characters counted from 0.
    pub(crate) fn columns_in(self, number: usize, line: &str) -> (usize, usize) {
        let length = line.chars().count();
        let from = if number == self.line { self.column - 1 } else { 0 };
        let to = if number == self.end_line { self.end_column - 1 } else { length };
        (from.min(length), to.min(length).max(from.min(length)))
    }
}

impl Node {
    /// The value of a key, where this is a mapping that has it.
    pub(crate) fn key(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::List(_) | Kind::Scalar { .. } => None,
        }
    }

    /// Where `path` stands. Of what is not there, the nearest part that is.
    pub(crate) fn locate(&self, path: &Path) -> Found<'_> {
        let (mut node, mut key, mut origin) = (self, Mark::START, &Origin::Here);
        for step in &path.0 {
            if let Step::Key(name) = step
                && let Some(entry) = node.key(name)
            {
                (node, key) = (&entry.value, entry.mark);
                origin = if entry.origin == Origin::Here { origin } else { &entry.origin };
            } else if let (Step::Index(index), Kind::List(items)) = (step, &node.kind)
                && let Some(item) = items.get(*index)
            {
                (node, key) = (item, item.mark);
            } else if matches!(step, Step::Key(_)) || matches!(node.kind, Kind::List(_)) {
                return Found { key, value: key, origin };
            }
            // Otherwise `to: app` is item 0 of its own short form.
        }
        Found { key, value: node.mark, origin }
    }

    /// What stands at `path`.
    pub(crate) fn at(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| node.step(step))
    }

    /// Whether something stands at `path`.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.at(path).is_some()
    }

    /// The text at `path`, where it is a scalar.
    pub(crate) fn text(&self, path: &Path) -> Option<&str> {
        match &self.at(path)?.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The entries; what is not a mapping becomes an empty one.
    pub(crate) fn entries_mut(&mut self) -> &mut Vec<Entry> {
        if !matches!(self.kind, Kind::Map(_)) {
            self.kind = Kind::Map(Vec::new());
        }
        match &mut self.kind {
            Kind::Map(entries) => entries,
            Kind::List(_) | Kind::Scalar { .. } => unreachable!("it was made one above"),
        }
    }

    /// The tree without places, and without what does not fit the schema.
    pub(crate) fn to_value(&self) -> Option<Value> {
        match &self.kind {
            Kind::Scalar { value, .. } => value.clone(),
            Kind::List(items) => Some(items.iter().filter_map(Self::to_value).collect()),
            Kind::Map(entries) => {
                let pair =
                    |entry: &Entry| Some((entry.key.as_str().into(), entry.value.to_value()?));
                Some(entries.iter().filter_map(pair).collect::<serde_yaml::Mapping>().into())
            }
        }
    }

    fn step(&self, step: &Step) -> Option<&Self> {
        match (step, &self.kind) {
            (Step::Key(name), _) => self.key(name).map(|entry| &entry.value),
            (Step::Index(index), Kind::List(items)) => items.get(*index),
            (Step::Index(_), _) => Some(self),
        }
    }

    fn size(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Self::size).sum(),
            Kind::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }
}

impl Path {
    /// Parses `server.listen` or `event.id[0]`; for names that the program knows.
    pub(crate) fn of(text: &str) -> Self {
        let steps = text.split(['.', '[']).filter(|step| !step.is_empty());
        Self(
            steps
                .map(|step| match step.strip_suffix(']').and_then(|i| i.parse().ok()) {
                    Some(index) => Step::Index(index),
                    None => Step::Key(step.to_owned()),
                })
                .collect(),
        )
    }

    /// The key `name` below.
    pub(crate) fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    /// The item `index` below.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// `other`, below this.
    pub(crate) fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
