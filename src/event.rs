//! What an event is, in types that cannot hold a bad value.
//!
//! Everything here is plain data, parsed once. Text that came from the network is bounded and free of control
//! characters as soon as it has one of these types, so that no log line, header or record has to ask again.

use std::{cell::RefCell, fmt, net::IpAddr, sync::Arc, time::Duration};

use arrayvec::ArrayString;
use sha2::{Digest as _, Sha256};

/// Longest event id or type that is accepted, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// The name of a source, an upstream or a route: `[a-z0-9][a-z0-9_.-]*`, at most 63 bytes. Names come from the
/// configuration, never from a request, and are safe as metric labels, path segments and header values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Returns the name, or `None` where `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let first = text.bytes().next()?;
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = is_word(first) && text.bytes().all(|b| is_word(b) || b"_.-".contains(&b));
        (fits && text.len() <= 63).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event id as its provider wrote it: 1 to 256 bytes of visible text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Arc<str>);

/// An event type as its provider (or its preset) names it, such as `invoice.paid`. Same bounds as [`EventId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(Arc<str>);

impl EventId {
    /// Returns the id, or `None` where `text` is empty, longer than 256 bytes, or holds a control or format character.
    pub fn parse(text: &str) -> Option<Self> {
        is_plain(text).then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EventType {
    /// Returns the type, or `None` under the same rules as [`EventId::parse`].
    pub fn parse(text: &str) -> Option<Self> {
        is_plain(text).then(|| Self(text.into()))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is fit to be printed, recorded and sent on: 1 to 256 bytes, no control, bidi or zero-width characters.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(is_hidden)
}

/// Control characters, and those that turn or hide text; all of them are in the basic plane.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A moment, in milliseconds since the Unix epoch. Taken once per request; every tolerance check uses that one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The system's clock.
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Seconds since the epoch, for gauges.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 2^53")]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// How long after `earlier` this is; nothing where it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// This moment and `span` more, saturating.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, milliseconds: `2026-11-24T17:03:00.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{time:.3}")
    }
}

/// SHA-256 of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What makes two requests one event: a hash of source, account, event id, and of the signed bytes where the id is not
/// covered by the signature (`decisions` 11). Length-prefixed, so no delimiter can be shifted between parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EventKey(pub [u8; 32]);

impl EventKey {
    /// Hashes the parts, each preceded by its length as eight bytes, big endian.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Our own id of the event, the same on every retry and on every gateway: `evt_` and 26 characters.
    pub fn event_id(&self) -> ShortId {
        let (bits, behind) = (self.0.first_chunk(), self.0[16]);
        short_id(*b"evt_", bits.map_or(0, |bits| u128::from_be_bytes(*bits)), behind)
    }
}

/// The name of one request: random, unguessable, on every response as `Webhook-Receipt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt([u8; 16]);

impl Receipt {
    /// A receipt from bytes that were chosen elsewhere.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A new receipt from the system's random source.
    pub fn random() -> Self {
        Self(SPARE.with_borrow_mut(|(spare, used)| {
            *used = (*used + 1) % spare.len();
            // AWS-LC's generator does not fail once it is seeded; a zero receipt would only be useless, never unsafe.
            if *used == 0 && aws_lc_rs::rand::fill(spare.as_flattened_mut()).is_err() {
                tracing::error!("the random source failed");
            }
            spare.get(*used).copied().unwrap_or_default()
        }))
    }

    /// The receipt as people see it.
    pub fn short(&self) -> ShortId {
        short_id(*b"req_", u128::from_be_bytes(self.0), 0)
    }
}

thread_local! {
    /// Receipts to come, and the one that was given out last: most of what drawing one costs is the call.
    static SPARE: RefCell<([[u8; 16]; 32], usize)> = const { RefCell::new(([[0; 16]; 32], 31)) };
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// An id of ours as people see it, in place: it is written several times per event.
pub type ShortId = ArrayString<30>;

/// `prefix` and 26 characters: 130 bits, `bits` and the first two of `behind`, in lower-case base 32 with the alphabet of
/// Crockford.
fn short_id(prefix: [u8; 4], bits: u128, behind: u8) -> ShortId {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = [0; 30];
    let (front, digits) = text.split_at_mut(prefix.len());
    front.copy_from_slice(&prefix);
    // Five bits a digit, the first ones first; what stands in front of the last ones is shifted out.
    let last = (bits << 2) | u128::from(behind >> 6);
    for (digit, shift) in digits.iter_mut().zip((0..=25_u32).rev()) {
        let five = if shift == 0 { last } else { bits >> (5 * shift - 2) };
        *digit = ALPHABET.get((five & 31) as usize).copied().unwrap_or(b'0');
    }
    ShortId::from_byte_string(&text).unwrap_or_default()
}

/// Who is on the other end of a connection, as far as the socket, the PROXY protocol and trusted proxies tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The sender's address.
    pub ip: IpAddr,
    /// Whether the sender's own connection was encrypted, to us or to a trusted proxy.
    pub https: bool,
}

/// What can be said about an event, on record and in logs. Made by `identify`; holds nothing of the body but its digest.
#[derive(Clone, Debug)]
pub struct About {
    /// The provider's id.
    pub id: EventId,
    /// The event's type.
    pub kind: EventType,
    /// The provider's account (shop, team, workspace), where its preset names one.
    pub account: Option<EventId>,
    /// What the event is deduplicated by.
    pub key: EventKey,
    /// SHA-256 of the body.
    pub digest: Digest,
    /// Length of the body, in bytes.
    pub body_bytes: u64,
    /// Which scheme held, such as `hmac-sha256`; `none` for what passed in shadow mode only.
    pub scheme: &'static str,
    /// Which of the source's secrets matched, counted from 1; 0 where none did.
    pub secret_slot: usize,
    /// Fingerprint of that secret; `fetched` where a key matched that was.
    pub secret_label: Arc<str>,
    /// Ids and types of the items, where the event is a batch; at most 100 are listed.
    pub items: Vec<(Option<EventId>, Option<EventType>)>,
}
