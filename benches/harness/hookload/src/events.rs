//! The file of signed events: bodies are templates in which the event's id stands at one place.

use std::{fs, ops::Range, str};

/// Length of an event id in bytes.
const ID_BYTES: usize = 28;
/// What gen.py writes where the id belongs.
const PLACEHOLDER: &[u8] = b"evt_0000000000";
/// Separates headers in the file.
const HEADER_SEPARATOR: u8 = 0x1f;

/// What should become of an event: the rows of the report.
#[derive(Clone, Copy)]
pub enum Kind {
    Fresh,
    Duplicate,
    BadSignature,
    Stale,
    Unsigned,
}

/// One event to send.
pub struct Event {
    pub kind: Kind,
    id: Range<usize>,
    headers: Range<usize>,
    template: usize,
}

/// All events, in the order in which they are sent.
pub struct Events {
    text: Vec<u8>,
    list: Vec<Event>,
    templates: Vec<Vec<u8>>,
    id_at: usize,
}

impl Events {
    pub fn read(directory: &str) -> Self {
        let text = fs::read(format!("{directory}/events.tsv")).expect("events.tsv");
        let templates: Vec<Vec<u8>> =
            (0..).map_while(|n| fs::read(format!("{directory}/tmpl_{n}.json")).ok()).collect();
        let found = templates[0].windows(PLACEHOLDER.len()).position(|w| w == PLACEHOLDER);
        Self { list: list(&text), id_at: found.expect("an id in the template"), text, templates }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn kind(&self, index: usize) -> Kind {
        self.list[index].kind
    }

    pub fn body_len(&self, index: usize) -> usize {
        self.templates[self.list[index].template].len()
    }

    /// Appends the body of an event, its id filled in.
    pub fn write_body(&self, index: usize, out: &mut Vec<u8>) {
        let event = &self.list[index];
        let at = out.len() + self.id_at;
        out.extend_from_slice(&self.templates[event.template]);
        out[at..at + ID_BYTES].copy_from_slice(&self.text[event.id.clone()]);
    }

    /// The headers of an event that carry its signature, each as `Name: value`.
    pub fn headers(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        self.text[self.list[index].headers.clone()].split(|b| *b == HEADER_SEPARATOR)
    }
}

/// Lines of kind, id, template and headers, separated by tabs.
fn list(text: &[u8]) -> Vec<Event> {
    let mut at = 0;
    let mut list = Vec::new();
    for line in text.split(|b| *b == b'\n').take_while(|line| !line.is_empty()) {
        let mut fields = line.splitn(4, |b| *b == b'\t').map(|field| {
            let start = at;
            at += field.len() + 1;
            start..start + field.len()
        });
        let (first, second) = (fields.next().unwrap(), fields.next().unwrap());
        let (third, headers) = (fields.next().unwrap(), fields.next().unwrap());
        list.push(Event {
            kind: kind(text[first.start]),
            id: second,
            template: str::from_utf8(&text[third]).unwrap().parse().unwrap(),
            headers,
        });
    }
    list
}

fn kind(letter: u8) -> Kind {
    match letter {
        b'F' => Kind::Fresh,
        b'D' => Kind::Duplicate,
        b'B' => Kind::BadSignature,
        b'S' => Kind::Stale,
        b'M' => Kind::Unsigned,
        _ => panic!("events.tsv: a kind that is not known"),
    }
}
