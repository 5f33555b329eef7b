//! One record, one line of JSON. Written by hand, because a record is written for every event before it goes anywhere.
//!
//! `{"v":1,"seq":N,"ts":"…","kind":"…", … ,"prev":"<SHA-256 of the line before, in hex>"}`: the first four members and the
//! last one always stand where they stand, so that a verifier can check the chain without reading the rest. No record holds
//! a body or a secret; every value is bounded and free of control characters.

use std::{borrow::Cow, fmt::Display, io::Write as _, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::event::{About, Digest, EventId, EventType, Name, Receipt, TEXT_BYTES_MAX};

/// Longest line that is written or read, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Headers in one record.
const HEADERS_MAX: usize = 16;
/// Items of a batch in one record.
const ITEMS_MAX: usize = 100;

/// SHA-256 of a line, without its newline.
pub type Hash = [u8; 32];

/// What a record is about. The names are those of [`crate::telemetry::RECORD_KINDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    #[default]
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

/// What shall go on record. The writer adds number, time and chain.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// What it is about.
    pub kind: Kind,
    /// The request.
    pub receipt: Option<Receipt>,
    /// Its source.
    pub source: Option<Name>,
    /// The event, once it was identified.
    pub about: Option<Arc<About>>,
    /// The type as read from a request that was not verified.
    pub unverified_type: Option<EventType>,
    /// Digest and length of a body that was not identified.
    pub body: Option<(Digest, u64)>,
    /// How it ended.
    pub outcome: Option<&'static str>,
    /// Why.
    pub reason: Option<&'static str>,
    /// The route that took it.
    pub route: Option<Name>,
    /// The upstream that is asked.
    pub upstream: Option<Name>,
    /// Which attempt this is.
    pub attempt: Option<u32>,
    /// The attempt's record, in the record of how it ended.
    pub attempt_seq: Option<u64>,
    /// The status that the sender got.
    pub status: Option<u16>,
    /// The status that the upstream answered.
    pub upstream_status: Option<u16>,
    /// How long the upstream took.
    pub upstream_time: Option<Duration>,
    /// The sender's address, as far as it is kept.
    pub client_ip: Option<IpAddr>,
    /// The request headers that were chosen for the record.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What went wrong, for the operator.
    pub error: Option<Cow<'static, str>>,
    /// What a control record says.
    pub facts: Vec<(&'static str, serde_json::Value)>,
}

impl Draft {
    /// A record about the process: `what` happened, such as `started`.
    pub(super) fn control(what: &'static str) -> Self {
        Self::default().with("what", what)
    }

    /// Adds a fact to a control record.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.facts.push((key, value.into()));
        self
    }

    /// Appends the record's line with its newline to `out`; returns the line's hash.
    pub(super) fn write(&self, seq: u64, ts: &str, prev: &Hash, out: &mut Vec<u8>) -> Hash {
        let start = out.len();
        out.extend_from_slice(b"{\"v\":1");
        let mut line = Line(out);
        line.number("seq", Some(seq));
        line.raw("ts", Some(ts));
        line.raw("kind", Some(self.kind.as_str()));
        line.shown("receipt", self.receipt.as_ref());
        line.raw("source", self.source.as_ref().map(Name::as_str));
        line.shown("client_ip", self.client_ip.as_ref());
        line.headers(&self.headers);
        self.write_event(&mut line);
        self.write_ending(&mut line);
        for (key, fact) in &self.facts {
            match fact.as_str() {
                Some(text) => line.text(key, Some(text)),
                None => line.print(key, format_args!("{fact}")),
            }
        }
        line.hex("prev", "", prev);
        out.push(b'}');
        let hash = hash_of(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        hash
    }

    fn write_event(&self, line: &mut Line<'_>) {
        if let Some(about) = &self.about {
            line.raw("event_id", Some(&about.key.event_id()));
            line.text("provider_id", Some(about.id.as_str()));
            line.text("event_type", Some(about.kind.as_str()));
            line.text("account", about.account.as_ref().map(EventId::as_str));
            line.hex("digest", "sha256:", &about.digest.0);
            line.number("bytes", Some(about.body_bytes));
            line.text("scheme", Some(about.scheme));
            if about.secret_slot > 0 {
                line.text("secret", Some(&about.secret_label));
                line.number("secret_slot", Some(about.secret_slot as u64));
            }
            line.items(about);
        }
        line.text("unverified_type", self.unverified_type.as_ref().map(EventType::as_str));
        if let Some((digest, bytes)) = &self.body {
            line.hex("digest", "sha256:", &digest.0);
            line.number("bytes", Some(*bytes));
        }
    }

    fn write_ending(&self, line: &mut Line<'_>) {
        line.text("outcome", self.outcome);
        line.text("reason", self.reason);
        line.raw("route", self.route.as_ref().map(Name::as_str));
        line.raw("upstream", self.upstream.as_ref().map(Name::as_str));
        line.number("attempt", self.attempt.map(u64::from));
        line.number("attempt_seq", self.attempt_seq);
        line.number("status", self.status.map(u64::from));
        line.number("upstream_status", self.upstream_status.map(u64::from));
        if let Some(time) = self.upstream_time {
            line.print("upstream_seconds", format_args!("{:.6}", time.as_secs_f64()));
        }
        line.text("error", self.error.as_deref());
    }
}

/// The hash of a line, given without its newline.
pub(super) fn hash_of(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

/// Writes members of one object; what is not there leaves no trace. Keys are ours and need no escaping.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    /// `,"key":`
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A value that is known to need no escaping.
    fn raw(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.key(key);
        quote(value, self.0);
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.print(key, format_args!("{value}"));
    }

    fn shown(&mut self, key: &str, value: Option<&impl Display>) {
        let Some(value) = value else { return };
        self.print(key, format_args!("\"{value}\""));
    }

    /// A vector takes everything, so there is no error to look at.
    fn print(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.key(key);
        drop(self.0.write_fmt(value));
    }

    fn hex(&mut self, key: &str, prefix: &str, hash: &Hash) {
        let mut digits = [0; 64];
        self.key(key);
        self.0.push(b'"');
        self.0.extend_from_slice(prefix.as_bytes());
        let fits = hex::encode_to_slice(hash, &mut digits);
        debug_assert!(fits.is_ok(), "two digits a byte");
        self.0.extend_from_slice(&digits);
        self.0.push(b'"');
    }

    fn headers(&mut self, headers: &[(HeaderName, HeaderValue)]) {
        if headers.is_empty() {
            return;
        }
        self.key("headers");
        for (index, (name, value)) in headers.iter().take(HEADERS_MAX).enumerate() {
            self.0.push(if index == 0 { b'{' } else { b',' });
            quote(name.as_str(), self.0);
            self.0.push(b':');
            quote(&String::from_utf8_lossy(value.as_bytes()), self.0);
        }
        self.0.push(b'}');
    }

    fn items(&mut self, about: &About) {
        if about.items.is_empty() {
            return;
        }
        self.key("items");
        for (index, (id, kind)) in about.items.iter().take(ITEMS_MAX).enumerate() {
            self.0.extend_from_slice(if index == 0 { b"[[" } else { b",[" });
            quote_or_null(id.as_ref().map(EventId::as_str), self.0);
            self.0.push(b',');
            quote_or_null(kind.as_ref().map(EventType::as_str), self.0);
            self.0.push(b']');
        }
        self.0.push(b']');
    }
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

/// Control characters, and those that turn or hide text; all of them are in the basic plane.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
