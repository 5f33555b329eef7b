//! The one pass: a trie of wanted paths, driven by `serde_json`'s own parser. (A skipper of our own was measured beside it
//! and won a tenth; that is not worth a second opinion on what JSON is.)

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{JsonError, Path, Scalar, Step};

/// Items of a batch that are looked at.
pub const ITEMS_MAX: usize = 100;

/// Where a batch's items are, and steps to what is wanted of each.
pub type Items<'i> = (&'i Path, &'i [&'i [Step]]);

/// Paths prepared for one pass.
#[derive(Clone, Debug)]
pub struct Extractor {
    root: Node,
    values: usize,
    per_item: usize,
}

/// What one pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found<'a> {
    /// What stands at each path, in the order of the paths; `None` where nothing does.
    pub values: Vec<Option<Scalar<'a>>>,
    /// The same for each of the first [`ITEMS_MAX`] items, in the order of the paths inside an item.
    pub items: Vec<Vec<Option<Scalar<'a>>>>,
}

impl Found<'_> {
    /// The same, without a borrow of the document. Forms hold no batches.
    pub(crate) fn into_owned(self) -> Found<'static> {
        let owned = |scalar: Option<Scalar<'_>>| scalar.map(Scalar::into_owned);
        Found { values: self.values.into_iter().map(owned).collect(), items: Vec::new() }
    }
}

/// A place on the way to wanted values.
#[derive(Clone, Debug, Default)]
struct Node {
    keys: Vec<(String, Self)>,
    indices: Vec<(usize, Self)>,
    each: Option<Box<Self>>,
    /// Who wants the name of the first key, but for these.
    first_key: Vec<(Vec<String>, usize)>,
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
    ///
    /// A batch's items stand at the path in `items`, which holds one [`Step::Each`] (with none or several, no items are
    /// found); the steps behind it begin at an item, and are none for the item itself.
    pub fn new(paths: &[Path], items: Option<Items<'_>>) -> Self {
        let eaches = |path: &Path| path.steps().iter().filter(|s| **s == Step::Each).count();
        let mut root = Node::default();
        let (items, inside) = items.unzip();
        let inside = inside.unwrap_or_default();
        // Before the paths: the node of one element begins as a copy of what is wanted of each.
        if let Some(items) = items.filter(|items| eaches(items) == 1) {
            let item = root.at(items.steps());
            for (n, steps) in inside.iter().enumerate().filter(|(_, s)| !s.contains(&Step::Each)) {
                item.at(steps).slots.push(Slot::Item(n));
            }
        }
        for (n, path) in paths.iter().enumerate().filter(|(_, path)| eaches(path) == 0) {
            match path.steps() {
                [way @ .., Step::FirstKey(but)] => root.at(way).first_key.push((but.clone(), n)),
                steps => root.at(steps).slots.push(Slot::Value(n)),
            }
        }
        Self { root, values: paths.len(), per_item: inside.len() }
    }

    /// What stands at each path, and in each item.
    pub fn find<'a>(&self, body: &'a [u8]) -> Result<Found<'a>, JsonError> {
        // The parser does not look at the UTF-8 of what it skips; this does, and costs a twentieth of it.
        let text = std::str::from_utf8(body).map_err(|_| JsonError::NotJson)?;
        let found = Found { values: vec![None; self.values], items: Vec::new() };
        let (per_item, seen) = (self.per_item, Vec::new());
        let mut pass = Pass { found, per_item, seen, is_duplicate: false };
        let mut parser = serde_json::Deserializer::from_str(text);
        let read =
            At { node: &self.root, is_item: false, pass: &mut pass }.deserialize(&mut parser);
        match read.and_then(|()| parser.end()) {
            Ok(()) => Ok(pass.found),
            Err(_) if pass.is_duplicate => Err(JsonError::DuplicateKey),
            Err(_) => Err(JsonError::NotJson),
        }
    }
}

impl Node {
    /// The node at `steps` below this one, made where it is not there.
    fn at(&mut self, steps: &[Step]) -> &mut Self {
        let Some((step, rest)) = steps.split_first() else { return self };
        let listed = |index| self.each.as_deref().filter(|_| index < ITEMS_MAX).cloned();
        let next = match step {
            Step::Key(key) => entry(&mut self.keys, key, Self::default),
            Step::Index(at) => entry(&mut self.indices, at, || listed(*at).unwrap_or_default()),
            Step::Each => self.each.get_or_insert_default(),
            Step::FirstKey(_) => return self, // the last step, which is no place of its own
        };
        next.at(rest)
    }

    /// The node of an element; of `each` only while items are still listed.
    fn element(&self, index: usize) -> Option<&Self> {
        let indexed = self.indices.iter().find(|(i, _)| *i == index).map(|(_, node)| node);
        indexed.or_else(|| self.each.as_deref().filter(|_| index < ITEMS_MAX))
    }
}

/// The node under `key`, made where it is not there.
fn entry<'n, K: Clone + PartialEq>(
    nodes: &'n mut Vec<(K, Node)>,
    key: &K,
    make: impl FnOnce() -> Node,
) -> &'n mut Node {
    let at = nodes.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
        nodes.push((key.clone(), make()));
        nodes.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "`at` was found or made just above")]
    &mut nodes[at].1
}

/// What one pass has so far.
struct Pass<'a> {
    found: Found<'a>,
    per_item: usize,
    /// Which wanted keys have come in the objects that are being read, the innermost last.
    seen: Vec<usize>,
    is_duplicate: bool,
}

/// The parser at a node. Recursion is as deep as the wanted paths are long.
struct At<'p, 'a> {
    node: &'p Node,
    is_item: bool,
    pass: &'p mut Pass<'a>,
}

impl<'a> At<'_, 'a> {
    /// Keeps a scalar in every slot of the node.
    fn keep(&mut self, scalar: &Scalar<'a>) {
        let found = &mut self.pass.found;
        for slot in &self.node.slots {
            let place = match slot {
                Slot::Value(n) => found.values.get_mut(*n),
                Slot::Item(n) => found.items.last_mut().and_then(|item| item.get_mut(*n)),
            };
            if let Some(place) = place {
                *place = Some(scalar.clone());
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a visitor returns")]
    fn kept<E>(mut self, scalar: &Scalar<'a>) -> Result<(), E> {
        self.keep(scalar);
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for At<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.is_item {
            self.pass.found.items.push(vec![None; self.pass.per_item]);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for At<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.kept(&Scalar::String(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.kept(&Scalar::String(text.to_owned().into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.kept(&Scalar::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.kept(&Scalar::Integer(number.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.kept(&Scalar::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.kept(&Scalar::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.kept(&Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.keep(&Scalar::Other);
        for index in 0.. {
            let is_item = self.node.each.is_some() && index < ITEMS_MAX;
            let read = match self.node.element(index) {
                Some(node) => elements.next_element_seed(At { node, is_item, pass: self.pass })?,
                None => elements.next_element::<IgnoredAny>()?.map(drop),
            };
            if read.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.keep(&Scalar::Other);
        let outer = self.pass.seen.len();
        while let Some(known) = entries.next_key_seed(KeyOf(self.node, self.pass))? {
            let Some((n, node)) = known else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.pass.seen.iter().skip(outer).any(|seen| *seen == n) {
                self.pass.is_duplicate = true;
                return Err(A::Error::custom("duplicate key"));
            }
            self.pass.seen.push(n);
            entries.next_value_seed(At { node, is_item: false, pass: self.pass })?;
        }
        self.pass.seen.truncate(outer);
        Ok(())
    }
}

/// Which wanted key of a node a key is.
struct KeyOf<'p, 's, 'a>(&'p Node, &'s mut Pass<'a>);

impl<'a, 'p> DeserializeSeed<'a> for KeyOf<'p, '_, '_> {
    type Value = Option<(usize, &'p Node)>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for KeyOf<'p, '_, '_> {
    type Value = Option<(usize, &'p Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        for (but, slot) in &self.0.first_key {
            let slot = self.1.found.values.get_mut(*slot).filter(|slot| slot.is_none());
            if let Some(slot) = slot.filter(|_| !but.iter().any(|other| other == key)) {
                *slot = Some(Scalar::String(key.to_owned().into()));
            }
        }
        let mut keys = self.0.keys.iter().enumerate();
        Ok(keys.find(|(_, (known, _))| known == key).map(|(n, (_, child))| (n, child)))
    }
}
