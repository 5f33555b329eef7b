//! Reads YAML into a tree.
//!
//! Only what a configuration needs: one document, text keys, aliases resolved. Merge keys, tags and duplicate keys are
//! refused here, because readers of YAML disagree about them.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{
    report::{Explain as _, Problem},
    syntax,
    tree::{Entry, Kind, Mark, Node, Origin},
};

/// Deeper than any configuration, shallower than any stack.
const DEPTH_MAX: usize = 32;
/// Aliases may repeat nodes; this bounds what a small file can grow to.
const NODES_MAX: usize = 50_000;

/// Reads the one document of `text`. Duplicate keys and the like go to `problems`; their values are `dropped` and not in the
/// tree.
pub(crate) fn tree(
    text: &str,
    problems: &mut Vec<Problem>,
    dropped: &mut Vec<Node>,
) -> Option<Node> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        above: Vec::new(),
        problems,
        dropped,
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
    dropped: &'a mut Vec<Node>,
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
                    let help = "a configuration is one document: remove the `---`";
                    return Err(many.help(help).into());
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Read<(Event<'a>, Mark)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, mark_of(span))),
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
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(Problem::error("yaml", mark, "this alias refers to itself").into());
        };
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
            match entry(key, value.clone(), &entries, &self.above) {
                Ok(entry) => entries.push(entry),
                Err(problem) => {
                    self.problems.push(*problem);
                    self.dropped.push(value);
                }
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

fn mark_of(span: Span) -> Mark {
    Mark {
        line: span.start.line(),
        column: span.start.col() + 1,
        end_line: span.end.line(),
        end_column: span.end.col() + 1,
    }
}
