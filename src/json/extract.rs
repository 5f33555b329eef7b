//! The one pass: a trie of wanted paths, driven by `serde_json`'s own parser.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{JsonError, Path, Scalar, Step};

/// Items of a batch that are looked at; the rest is counted.
pub const ITEMS_MAX: usize = 100;

/// Paths prepared for one pass.
#[derive(Clone, Debug)]
pub struct Extractor {
    root: Node,
    values: usize,
    per_item: usize,
}

/// What one pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What stands at each path, in the order of the paths; `None` where nothing does.
    pub values: Vec<Option<Scalar<'a>>>,
    /// The same for each of the first [`ITEMS_MAX`] items, in the order of the paths inside an item.
    pub items: Vec<Vec<Option<Scalar<'a>>>>,
    /// How many items there are in all.
    pub items_count: usize,
}

/// A place on the way to wanted values.
#[derive(Clone, Debug, Default)]
struct Node {
    keys: Vec<(String, Self)>,
    indices: Vec<(usize, Self)>,
    each: Option<Box<Self>>,
    slots: Vec<Slot>,
}

/// Where a found scalar goes.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Value(usize),
    Item(usize),
}

impl Extractor {
    /// Prepares `paths`; results come in the same order. A path that holds a [`Step::Each`] finds nothing.
    pub fn new(paths: &[Path]) -> Self {
        let mut root = Node::default();
        for (n, path) in paths.iter().enumerate() {
            if !path.steps().contains(&Step::Each) {
                root.at(path.steps()).slots.push(Slot::Value(n));
            }
        }
        Self { root, values: paths.len(), per_item: 0 }
    }

    /// Prepares `paths`, and `inside` (steps that begin at an item; none for the item itself) for every item of a batch.
    /// `items` holds one [`Step::Each`]; with none or several, no items are found.
    pub fn with_items(paths: &[Path], items: &Path, inside: &[&[Step]]) -> Self {
        let mut made = Self::new(paths);
        made.per_item = inside.len();
        let eaches = items.steps().iter().filter(|s| **s == Step::Each).count();
        if eaches == 1 {
            let item = made.root.at(items.steps());
            let flat = inside.iter().enumerate().filter(|(_, s)| !s.contains(&Step::Each));
            for (n, steps) in flat {
                item.at(steps).slots.push(Slot::Item(n));
            }
            made.root.merge_each();
        }
        made
    }

    /// What stands at each path; `None` where nothing does.
    pub fn run<'a>(&self, body: &'a [u8]) -> Result<Vec<Option<Scalar<'a>>>, JsonError> {
        self.find(body).map(|found| found.values)
    }

    /// What stands at each path, and in each item.
    pub fn find<'a>(&self, body: &'a [u8]) -> Result<Found<'a>, JsonError> {
        // The parser does not look at the UTF-8 of what it skips; this does, and costs a twentieth of it.
        let text = std::str::from_utf8(body).map_err(|_| JsonError::NotJson)?;
        let found = Found { values: vec![None; self.values], items: Vec::new(), items_count: 0 };
        let mut pass = Pass { found, per_item: self.per_item, duplicate: false };
        let mut parser = serde_json::Deserializer::from_str(text);
        let read = At { node: &self.root, pass: &mut pass }.deserialize(&mut parser);
        match read.and_then(|()| parser.end()) {
            Ok(()) => Ok(pass.found),
            Err(_) if pass.duplicate => Err(JsonError::DuplicateKey),
            Err(_) => Err(JsonError::NotJson),
        }
    }
}

impl Node {
    /// The node at `steps` below this one, made where it is not there.
    fn at(&mut self, steps: &[Step]) -> &mut Self {
        let Some((step, rest)) = steps.split_first() else { return self };
        let next = match step {
            Step::Key(key) => entry(&mut self.keys, key),
            Step::Index(index) => entry(&mut self.indices, index),
            Step::Each => self.each.get_or_insert_default(),
        };
        next.at(rest)
    }

    /// Gives every indexed element what is wanted of each element, so that one node says all about an element.
    fn merge_each(&mut self) {
        for (_, node) in &mut self.indices {
            if let Some(each) = &self.each {
                node.absorb(each);
            }
            node.merge_each();
        }
        for (_, node) in &mut self.keys {
            node.merge_each();
        }
    }

    /// Adds everything that `other` wants.
    fn absorb(&mut self, other: &Self) {
        self.slots.extend_from_slice(&other.slots);
        for (key, node) in &other.keys {
            entry(&mut self.keys, key).absorb(node);
        }
        for (index, node) in &other.indices {
            entry(&mut self.indices, index).absorb(node);
        }
    }

    /// The node of an element; of `each` only while items are still listed.
    fn element(&self, index: usize) -> Option<&Self> {
        let indexed = self.indices.iter().find(|(i, _)| *i == index).map(|(_, node)| node);
        indexed.or_else(|| self.each.as_deref().filter(|_| index < ITEMS_MAX))
    }
}

/// The node under `key`, made where it is not there.
fn entry<'n, K, Q>(nodes: &'n mut Vec<(K, Node)>, key: &Q) -> &'n mut Node
where
    K: std::borrow::Borrow<Q>,
    Q: ToOwned<Owned = K> + PartialEq + ?Sized,
{
    let found = nodes.iter().position(|(k, _)| k.borrow() == key);
    let at = found.unwrap_or_else(|| {
        nodes.push((key.to_owned(), Node::default()));
        nodes.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "`at` was found or made just above")]
    &mut nodes[at].1
}

/// What one pass has so far.
struct Pass<'a> {
    found: Found<'a>,
    per_item: usize,
    duplicate: bool,
}

impl<'a> Pass<'a> {
    /// Keeps a scalar in every slot of `node`.
    fn keep(&mut self, node: &Node, scalar: Scalar<'a>) {
        let Some((last, others)) = node.slots.split_last() else { return };
        for slot in others {
            self.put(*slot, scalar.clone());
        }
        self.put(*last, scalar);
    }

    fn put(&mut self, slot: Slot, scalar: Scalar<'a>) {
        let place = match slot {
            Slot::Value(n) => self.found.values.get_mut(n),
            Slot::Item(n) => self.found.items.last_mut().and_then(|item| item.get_mut(n)),
        };
        if let Some(place) = place {
            *place = Some(scalar);
        }
    }

    /// Counts an item, and makes room for what is wanted of it.
    fn next_item(&mut self) {
        self.found.items_count += 1;
        if self.found.items_count <= ITEMS_MAX {
            self.found.items.push(vec![None; self.per_item]);
        }
    }
}

/// The parser at a node. Recursion is as deep as the wanted paths are long.
struct At<'p, 'a> {
    node: &'p Node,
    pass: &'p mut Pass<'a>,
}

impl<'a> DeserializeSeed<'a> for At<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for At<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::String(text.into()));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if !self.node.slots.is_empty() {
            self.pass.keep(self.node, Scalar::String(text.to_owned().into()));
        }
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::Integer(number.into()));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::Integer(number.into()));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::Bool(value));
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::Other);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.pass.keep(self.node, Scalar::Null);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { node, pass } = self;
        pass.keep(node, Scalar::Other);
        for index in 0.. {
            let read = match node.element(index) {
                Some(element) => {
                    elements.next_element_seed(Element { array: node, node: element, pass })?
                }
                None => elements.next_element::<IgnoredAny>()?.map(|_| node.count(pass)),
            };
            if read.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { node, pass } = self;
        pass.keep(node, Scalar::Other);
        let mut seen = Seen::default();
        while let Some(known) = entries.next_key_seed(KeyOf(node))? {
            let Some((n, child)) = known else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if !seen.first(n) {
                pass.duplicate = true;
                return Err(A::Error::custom("duplicate key"));
            }
            entries.next_value_seed(At { node: child, pass })?;
        }
        Ok(())
    }
}

impl Node {
    /// Counts an element, where the elements of this array are items.
    fn count(&self, pass: &mut Pass<'_>) {
        if self.each.is_some() {
            pass.next_item();
        }
    }
}

/// An element of an array; counted once the parser is sure that there is one.
struct Element<'p, 'a> {
    array: &'p Node,
    node: &'p Node,
    pass: &'p mut Pass<'a>,
}

impl<'a> DeserializeSeed<'a> for Element<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        self.array.count(self.pass);
        At { node: self.node, pass: self.pass }.deserialize(deserializer)
    }
}

/// Which wanted key of a node a key is.
struct KeyOf<'p>(&'p Node);

impl<'a, 'p> DeserializeSeed<'a> for KeyOf<'p> {
    type Value = Option<(usize, &'p Node)>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for KeyOf<'p> {
    type Value = Option<(usize, &'p Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let mut keys = self.0.keys.iter().enumerate();
        Ok(keys.find(|(_, (k, _))| k == key).map(|(n, (_, child))| (n, child)))
    }
}

/// Which wanted keys of one object have come; allocates only beyond 64 of them.
#[derive(Default)]
struct Seen {
    low: u64,
    high: Vec<usize>,
}

impl Seen {
    /// Whether this is the first time for key `n`.
    fn first(&mut self, n: usize) -> bool {
        if n >= 64 {
            let new = !self.high.contains(&n);
            self.high.push(n);
            return new;
        }
        let new = self.low & (1 << n) == 0;
        self.low |= 1 << n;
        new
    }
}
