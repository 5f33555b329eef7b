//! Structured fields (RFC 9651), as much of them as message signatures and digests need: dictionaries of inner lists and byte
//! sequences, with parameters that are numbers, strings, byte sequences or flags. Stricter than the grammar: a key that comes
//! twice is refused, and there is one spelling.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Members of a dictionary, at most.
const MEMBERS_MAX: usize = 16;
/// Items of a list, and parameters of an item, at most.
const ITEMS_MAX: usize = 32;

/// A value that is none of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    Integer(i64),
    String(String),
    Bytes(Vec<u8>),
    /// A name without a value.
    Flag,
}

/// Parameters, in order.
pub(super) type Parameters = Vec<(String, Bare)>;

/// A member of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Item(Bare),
    /// Strings with their parameters, and those of the list.
    List(Vec<(String, Parameters)>, Parameters),
}

/// Reads a dictionary.
pub(super) fn dictionary(text: &str) -> Option<Vec<(String, Member)>> {
    let mut reader = Reader(text.trim_matches(' '));
    let mut members: Vec<(String, Member)> = Vec::new();
    loop {
        let key = reader.key()?;
        let member = if reader.eats('=') { reader.member()? } else { return None };
        if let Member::Item(_) = &member {
            reader.parameters()?;
        }
        if members.len() >= MEMBERS_MAX || members.iter().any(|(known, _)| *known == key) {
            return None;
        }
        members.push((key, member));
        reader.spaces();
        if reader.0.is_empty() {
            return Some(members);
        }
        if !reader.eats(',') {
            return None;
        }
        reader.spaces();
    }
}

/// Writes parameters.
pub(super) fn write_parameters(parameters: &Parameters, out: &mut String) {
    for (key, value) in parameters {
        out.push(';');
        out.push_str(key);
        if *value != Bare::Flag {
            out.push('=');
        }
        write_bare(value, out);
    }
}

/// Writes a dictionary of values without parameters.
pub(super) fn members(members: &[(String, Bare)]) -> String {
    let member = |(key, value): &(String, Bare)| {
        let mut text = format!("{key}=");
        write_bare(value, &mut text);
        text
    };
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

/// Writes a string.
pub(super) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn write_bare(value: &Bare, out: &mut String) {
    match value {
        Bare::Integer(number) => out.push_str(&number.to_string()),
        Bare::String(text) => write_string(text, out),
        Bare::Bytes(bytes) => {
            out.push(':');
            out.push_str(&STANDARD.encode(bytes));
            out.push(':');
        }
        Bare::Flag => {}
    }
}

/// What is left of a text.
struct Reader<'t>(&'t str);

impl<'t> Reader<'t> {
    fn eats(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// As much as `is` holds for.
    fn run(&mut self, is: impl Fn(u8) -> bool) -> &'t str {
        let end = self.0.bytes().position(|b| !is(b)).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        run
    }

    fn key(&mut self) -> Option<String> {
        let is_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
        let key = self.run(is_key);
        let begins = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        begins.then(|| key.to_owned())
    }

    fn member(&mut self) -> Option<Member> {
        if !self.eats('(') {
            return self.bare().map(Member::Item);
        }
        let mut items = Vec::new();
        loop {
            self.0 = self.0.trim_start_matches(' ');
            if self.eats(')') {
                return Some(Member::List(items, self.parameters()?));
            }
            let Bare::String(name) = self.bare()? else { return None };
            items.push((name, self.parameters()?));
            if items.len() > ITEMS_MAX || !self.0.starts_with([' ', ')']) {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<Parameters> {
        let mut parameters = Parameters::new();
        while self.eats(';') {
            self.0 = self.0.trim_start_matches(' ');
            let key = self.key()?;
            let value = if self.eats('=') { self.bare()? } else { Bare::Flag };
            if parameters.len() >= ITEMS_MAX || parameters.iter().any(|(known, _)| *known == key) {
                return None;
            }
            parameters.push((key, value));
        }
        Some(parameters)
    }

    fn bare(&mut self) -> Option<Bare> {
        match self.0.bytes().next()? {
            b'"' => self.string(),
            b':' => {
                let (text, rest) = self.0.strip_prefix(':')?.split_once(':')?;
                self.0 = rest;
                STANDARD.decode(text).ok().map(Bare::Bytes)
            }
            b'-' | b'0'..=b'9' => {
                let digits = self.run(|b| b.is_ascii_digit() || b == b'-');
                let number: i64 = digits.parse().ok().filter(|_| digits.len() <= 16)?;
                (number.to_string() == digits).then_some(Bare::Integer(number))
            }
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Bare> {
        let mut text = String::new();
        let mut chars = self.0.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = self.0.get(at + 1..)?;
                    return Some(Bare::String(text));
                }
                '\\' => {
                    let escaped = chars.next().map(|(_, c)| c);
                    text.push(escaped.filter(|c| matches!(c, '"' | '\\'))?);
                }
                ' '..='~' => text.push(c),
                _ => return None,
            }
        }
        None
    }
}
