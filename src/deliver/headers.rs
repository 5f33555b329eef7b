//! The request headers that an upstream sees. Pure.
//!
//! What the provider sent is passed on, so that an app which verifies today keeps working, but for a list of headers that
//! only we or the connection may set. Ours are set last, each exactly once.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Identity, UpstreamParams};
use crate::{answer::Reason, event::About, receive::Envelope};

/// Headers that are never passed on: of the connection (RFC 9110 §7.6.1), of whoever stood in front of us, or credentials that
/// were meant for somebody else.
const STRIPPED: [&str; 24] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "upgrade",
    "user-agent",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Families of headers that are never passed on.
const STRIPPED_PREFIXES: [&str; 2] = ["x-forwarded-", "ce-"];

/// What is said about the request besides the event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// Verified, and claimed.
    Verified {
        /// The event.
        about: &'a About,
        /// How many times it was claimed.
        attempt: u32,
        /// Whether an earlier attempt ended unknown.
        after_unknown: bool,
        /// Whether the dedup store could not be asked.
        unclaimed: bool,
    },
    /// Not verified: the source is in shadow mode.
    Unverified {
        /// Why it would have been refused.
        reason: Reason,
    },
}

/// The names of our headers under one prefix, made once.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    event_id: HeaderName,
    source: HeaderName,
    event_type: HeaderName,
    provider_id: HeaderName,
    account: HeaderName,
    received_at: HeaderName,
    receipt: HeaderName,
    attempt: HeaderName,
    previous: HeaderName,
    verified: HeaderName,
    dedup: HeaderName,
    user_agent: HeaderName,
    host: Option<HeaderValue>,
    keep_authorization: bool,
}

impl Names {
    /// The names under `identity`'s prefix. A prefix that makes no header name falls back to `gatepost-`; the
    /// configuration has refused it before.
    pub(super) fn new(identity: &Identity) -> Self {
        let prefix = identity.header_prefix.to_ascii_lowercase();
        let name = |tail: &'static str| {
            let whole = HeaderName::try_from(format!("{prefix}{tail}"));
            whole.unwrap_or_else(|_| HeaderName::from_static(tail))
        };
        Self {
            event_id: name("event-id"),
            source: name("source"),
            event_type: name("event-type"),
            provider_id: name("provider-id"),
            account: name("account"),
            received_at: name("received-at"),
            receipt: name("receipt"),
            attempt: name("attempt"),
            previous: name("previous-attempt"),
            verified: name("verified"),
            dedup: name("dedup"),
            user_agent: name("original-user-agent"),
            host: identity.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok()),
            keep_authorization: identity.keep_authorization,
            prefix,
        }
    }
}

/// Everything that is sent upstream, but for `Host` and `Content-Length`, which belong to the connection.
pub(super) fn build(
    envelope: &Envelope,
    standing: Standing<'_>,
    names: &Names,
    params: &UpstreamParams,
) -> HeaderMap {
    let mut headers = pass_on(envelope.headers(), names);
    for name in &params.remove_headers {
        headers.remove(name);
    }
    forwarded(&mut headers, envelope, names);
    own(&mut headers, envelope, standing, names);
    for (name, value) in &params.set_headers {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// What came, without what is not passed on.
fn pass_on(came: &HeaderMap, names: &Names) -> HeaderMap {
    let named_by_connection = connection_tokens(came);
    let mut headers = HeaderMap::with_capacity(came.len() + 16);
    for (name, value) in came {
        let text = name.as_str();
        let kept = !STRIPPED.contains(&text)
            && !STRIPPED_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            && !text.starts_with(names.prefix.as_str())
            && !text.contains('_')
            && (names.keep_authorization || text != "authorization")
            && !named_by_connection.iter().any(|token| token.eq_ignore_ascii_case(text))
            && is_plain(value);
        if kept {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Headers that the sender's connection says are its own.
fn connection_tokens(came: &HeaderMap) -> Vec<&str> {
    let values = came.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect()
}

/// Visible ASCII, spaces and tabs: nothing that another parser could read differently.
fn is_plain(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t')
}

/// Who asked, for apps that read it (RFC 7239, and its older relatives).
fn forwarded(headers: &mut HeaderMap, envelope: &Envelope, names: &Names) {
    let peer = envelope.peer();
    let proto = if peer.https { "https" } else { "http" };
    let node = match peer.ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let mut text = format!("for={node};proto={proto}");
    if let Some(host) = names.host.as_ref().and_then(|host| host.to_str().ok()) {
        // Writing to a String does not fail.
        let _ = write!(text, ";host={host}");
        set(headers, HeaderName::from_static("x-forwarded-host"), host);
    }
    text.push_str(";by=_gatepost");
    set(headers, header::FORWARDED, &text);
    set(headers, HeaderName::from_static("x-forwarded-for"), &peer.ip.to_string());
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static(proto));
}

/// What we say about the request.
fn own(headers: &mut HeaderMap, envelope: &Envelope, standing: Standing<'_>, names: &Names) {
    if let Some(agent) = envelope.headers().get(header::USER_AGENT).filter(|value| is_plain(value))
    {
        headers.insert(names.user_agent.clone(), agent.clone());
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    set(headers, names.source.clone(), envelope.source().as_str());
    set(headers, names.received_at.clone(), &envelope.received_at().to_string());
    set(headers, names.receipt.clone(), &envelope.receipt().to_string());
    match standing {
        Standing::Verified { about, attempt, after_unknown, unclaimed } => {
            event(headers, about, names);
            headers.insert(names.attempt.clone(), attempt.into());
            if after_unknown {
                headers.insert(names.previous.clone(), HeaderValue::from_static("unknown"));
            }
            if unclaimed {
                headers.insert(names.dedup.clone(), HeaderValue::from_static("unavailable"));
            }
        }
        Standing::Unverified { reason } => {
            set(headers, names.verified.clone(), &format!("false; reason={}", reason.as_str()));
        }
    }
}

fn event(headers: &mut HeaderMap, about: &About, names: &Names) {
    set(headers, names.event_id.clone(), &about.key.event_id());
    set(headers, names.event_type.clone(), &visible(about.kind.as_str()));
    set(headers, names.provider_id.clone(), &visible(about.id.as_str()));
    if let Some(account) = &about.account {
        set(headers, names.account.clone(), &visible(account.as_str()));
    }
    let label = about.secret_label.replace('…', "...");
    let verified = format!("true; scheme={}; key={}", about.scheme, visible(&label));
    set(headers, names.verified.clone(), &verified);
}

/// `text` as it is where a header can hold it, else percent-encoded (RFC 3986 §2.1).
fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    let fits = |byte: &u8| (b'!'..=b'~').contains(byte) && *byte != b'%';
    if text.as_bytes().iter().all(|byte| fits(byte) || *byte == b' ') && text.trim() == text {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if fits(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

const USER_AGENT: &str = concat!("gatepost/", env!("CARGO_PKG_VERSION"));
