//! One record, one line of JSON. Printed by hand, because a record is written for every event before it goes anywhere, and
//! printed where the event is, because the writer is one for all.
//!
//! `{"v":1,"seq":N,"ts":"…","kind":"…", … ,"prev":"<SHA-256 of the line before, in hex>"}`: the first four members and the
//! last one always stand where they stand, so that a verifier can check the chain without reading the rest. No record holds
//! a body or a secret; every value is bounded and free of control characters.

use std::{fmt::Display, io::Write as _, net::IpAddr};

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::event::{About, Digest, EventId, EventType, Name, Receipt, TEXT_BYTES_MAX, is_hidden};

/// Longest line that is written or read, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Headers in one record.
const HEADERS_MAX: usize = 16;
/// Items of a batch in one record.
const ITEMS_MAX: usize = 100;

/// SHA-256 of a line, without its newline.
pub(super) type Hash = [u8; 32];

/// What a record is about. The names are those of [`crate::telemetry::RECORD_KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event is about to be forwarded.
    Attempt,
    /// How that ended.
    Outcome,
    /// An event that was seen before.
    Duplicate,
    /// A verified event that nobody wants.
    Ignored,
    /// A verified request without a usable id or type.
    Malformed,
    /// A request that was turned away.
    Rejected,
    /// A provider's challenge was answered.
    Handshake,
    /// About the log or the process itself.
    Control,
    /// Not verified, forwarded by a source in shadow mode.
    Shadow,
}

impl Kind {
    /// The name in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Outcome => "outcome",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::Handshake => "handshake",
            Self::Control => "control",
            Self::Shadow => "shadow",
        }
    }
}

/// Room for what most records say, in bytes.
const MEMBERS_BYTES: usize = 768;

/// What shall go on record, but for number, time and chain, which the writer adds.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(super) kind: Kind,
    /// The members behind `kind`, with a comma before each. Keys are ours and need no escaping.
    members: Vec<u8>,
}

impl Draft {
    /// A record that says nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, members: Vec::with_capacity(MEMBERS_BYTES) }
    }

    /// A record about the process or its operator: `what` happened, such as `started`.
    pub(crate) fn control(what: &str) -> Self {
        Self::new(Kind::Control).with("what", what)
    }

    /// Adds a fact to a control record.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        match value.into() {
            Value::String(text) => self.text(key, Some(&text)),
            other => self.print(key, &other),
        }
        self
    }

    /// Itself, and the record of how it ended, which says the same so far.
    pub(super) fn and_ending(self) -> (Self, Self) {
        let mut ending = Self::new(Kind::Outcome);
        ending.members.extend_from_slice(&self.members);
        (self, ending)
    }

    /// Which request it is about.
    pub fn request(&mut self, receipt: Receipt, source: &Name) {
        self.raw("receipt", Some(&receipt.short()));
        self.raw("source", Some(source.as_str()));
    }

    /// Which event.
    pub fn event(&mut self, about: &About) {
        self.raw("event_id", Some(&about.key.event_id()));
        self.text("provider_id", Some(about.id.as_str()));
        self.text("event_type", Some(about.kind.as_str()));
        self.text("account", about.account.as_ref().map(EventId::as_str));
        self.body(&about.digest, about.body_bytes);
        self.text("scheme", Some(about.scheme));
        self.text("secret", Some(&*about.secret_label).filter(|label| !label.is_empty()));
        self.number("secret_slot", Some(about.secret_slot).filter(|slot| *slot > 0));
        self.items(about);
    }

    /// What a body is known by, and its length.
    pub(super) fn body(&mut self, digest: &Digest, bytes: u64) {
        self.key("digest");
        self.members.extend_from_slice(b"\"sha256:");
        self.members.extend_from_slice(&hex_of(&digest.0));
        self.members.push(b'"');
        self.number("bytes", Some(bytes));
    }

    /// Where it goes, and for which time.
    pub fn target(&mut self, route: Option<&Name>, upstream: Option<&Name>, attempt: Option<u32>) {
        self.raw("route", route.map(Name::as_str));
        self.raw("upstream", upstream.map(Name::as_str));
        self.number("attempt", attempt);
    }

    /// Where it came from, as far as that is kept.
    pub fn origin<'a>(
        &mut self,
        client_ip: Option<IpAddr>,
        headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) {
        if let Some(ip) = client_ip {
            self.key("client_ip");
            drop(write!(self.members, "\"{ip}\""));
        }
        let mut none = true;
        for (name, value) in headers.into_iter().take(HEADERS_MAX) {
            if none {
                self.key("headers");
            }
            self.members.push(if none { b'{' } else { b',' });
            quote(name.as_str(), &mut self.members);
            self.members.push(b':');
            quote(&String::from_utf8_lossy(value.as_bytes()), &mut self.members);
            none = false;
        }
        if !none {
            self.members.push(b'}');
        }
    }

    /// Appends the record's line with its newline to `out`; returns the line's hash.
    pub(super) fn write(&self, seq: u64, ts: &str, prev: &Hash, out: &mut Vec<u8>) -> Hash {
        let (start, kind) = (out.len(), self.kind.as_str());
        let (mut digits, prev) = (itoa::Buffer::new(), hex_of(prev));
        let seq = digits.format(seq).as_bytes();
        let head = [b"{\"v\":1,\"seq\":", seq, b",\"ts\":\"", ts.as_bytes(), b"\",\"kind\":\""];
        let rest = [kind.as_bytes(), b"\"", &self.members, b",\"prev\":\"", &prev, b"\"}"];
        head.iter().chain(&rest).for_each(|part| out.extend_from_slice(part));
        let hash = hash_of(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        hash
    }

    /// `,"key":`
    fn key(&mut self, key: &str) {
        self.members.extend_from_slice(b",\"");
        self.members.extend_from_slice(key.as_bytes());
        self.members.extend_from_slice(b"\":");
    }

    /// A value that is known to need no escaping. What is not there leaves no trace.
    fn raw(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        self.members.push(b'"');
        self.members.extend_from_slice(value.as_bytes());
        self.members.push(b'"');
    }

    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        quote(value, &mut self.members);
    }

    pub(super) fn number(&mut self, key: &str, value: Option<impl itoa::Integer>) {
        let Some(value) = value else { return };
        self.key(key);
        self.members.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A vector takes everything, so there is no error to look at.
    pub(super) fn print(&mut self, key: &str, value: &impl Display) {
        self.key(key);
        drop(write!(self.members, "{value}"));
    }

    fn items(&mut self, about: &About) {
        if about.items.is_empty() {
            return;
        }
        self.key("items");
        let out = &mut self.members;
        for (index, (id, kind)) in about.items.iter().take(ITEMS_MAX).enumerate() {
            out.extend_from_slice(if index == 0 { b"[[" } else { b",[" });
            quote_or_null(id.as_ref().map(EventId::as_str), out);
            out.push(b',');
            quote_or_null(kind.as_ref().map(EventType::as_str), out);
            out.push(b']');
        }
        out.push(b']');
    }
}

/// How long headers are on record, at the most: a tab is written as `\u0009`, and long values are cut.
pub(super) fn weight<'a>(
    headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> usize {
    let is_plain = |byte: &u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    let written = |byte: &u8| if is_plain(byte) { 1 } else { 6 };
    let value = |value: &HeaderValue| {
        value.as_bytes().iter().take(TEXT_BYTES_MAX).map(written).sum::<usize>()
    };
    headers.into_iter().map(|(name, v)| name.as_str().len() + value(v) + "\"\":\"\",".len()).sum()
}

/// The hash of a line, given without its newline.
pub(super) fn hash_of(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

fn hex_of(hash: &Hash) -> [u8; 64] {
    let mut digits = [0; 64];
    let fits = hex::encode_to_slice(hash, &mut digits);
    debug_assert!(fits.is_ok(), "two digits a byte");
    digits
}

fn quote_or_null(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => quote(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Writes `text` as a JSON string: at most 256 bytes of it, and nothing a terminal would act on.
fn quote(text: &str, out: &mut Vec<u8>) {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    out.push(b'"');
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|c| escape(c, out));
    }
    out.push(b'"');
}

fn escape(c: char, out: &mut Vec<u8>) {
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
        c if is_hidden(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
