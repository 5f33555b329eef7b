//! A tree that knows where each piece stands and came from, so that every later mistake has a line and a column.

use std::fmt;

use serde::Serialize;
use serde_yaml::Value;

/// A range of the file, in characters; lines and columns count from 1, the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) end_line: usize,
    pub(crate) end_column: usize,
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

impl Mark {
    /// The first character of a file.
    pub(crate) const START: Self = Self { line: 1, column: 1, end_line: 1, end_column: 2 };

    /// From here to the end of another.
    pub(crate) fn to(self, end: Self) -> Self {
        Self { end_line: end.end_line, end_column: end.end_column, ..self }
    }

    /// As people and editors read it.
    pub(crate) fn place(self, file: &str) -> String {
        format!("{file}:{}:{}", self.line, self.column)
    }

    /// Its part of a line, in characters counted from 0.
    pub(crate) fn columns_in(self, number: usize, line: &str) -> (usize, usize) {
        let length = line.chars().count();
        let from = if number == self.line { self.column - 1 } else { 0 };
        let to = if number == self.end_line { self.end_column - 1 } else { length };
        (from.min(length), to.min(length).max(from.min(length)))
    }
}

impl Kind {
    /// What was left out.
    pub(crate) const NOTHING: Self = Self::Scalar { text: String::new(), plain: true, value: None };
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

    /// How many nodes it is.
    pub(crate) fn size(&self) -> usize {
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
        let step = |step: &str| {
            let index = step.strip_suffix(']').and_then(|index| index.parse().ok());
            index.map_or_else(|| Step::Key(step.to_owned()), Step::Index)
        };
        Self(text.split(['.', '[']).filter(|step| !step.is_empty()).map(step).collect())
    }

    /// The key `name` below.
    pub(crate) fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    /// The item `index` below.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The key that it ends in, if it does not end in a number.
    pub(crate) fn name(&self) -> Option<&str> {
        match self.0.last()? {
            Step::Key(name) => Some(name),
            Step::Index(_) => None,
        }
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
