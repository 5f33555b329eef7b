//! The request headers that an upstream sees. Pure.
//!
//! What the provider sent is passed on, so that an app which verifies today keeps working, but for a list of headers that
//! only we or the connection may set. Ours are set last, each exactly once.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Identity, UpstreamParams};
use crate::{answer::Reason, event::About, receive::Envelope};

/// Whether a header is never passed on: of the connection (RFC 9110 §7.6.1), of whoever stood in front of us, a credential
/// that was meant for somebody else, or a spelling that an app could take for another header (`X_Forwarded_For`).
fn is_stripped(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "traceparent"
            | "tracestate"
            | "upgrade"
            | "user-agent"
            | "via"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("ce-")
        || name.contains('_')
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ODD: &AsciiSet = &CONTROLS.add(b'%');
const ODD_OR_SPACE: &AsciiSet = &ODD.add(b' ');
const USER_AGENT: &str = concat!("gatepost/", env!("CARGO_PKG_VERSION"));

/// What is said about the request besides the event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// Verified, and claimed.
    Verified {
        about: &'a About,
        /// How many times it was claimed.
        attempt: u32,
        /// Whether an earlier attempt ended unknown.
        after_unknown: bool,
        /// Whether the dedup store could not be asked.
        unclaimed: bool,
    },
    /// Not verified: the source is in shadow mode; why it would have been refused.
    Unverified(Reason),
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
    /// The names under `identity`'s prefix. A prefix that makes no header name falls back to none; the configuration has
    /// refused it before.
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

    fn passes(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        !is_stripped(text)
            && !text.starts_with(self.prefix.as_str())
            && (self.keep_authorization || name != header::AUTHORIZATION)
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
    about_request(&mut headers, envelope, names);
    match standing {
        Standing::Verified { about, attempt, after_unknown, unclaimed } => {
            about_event(&mut headers, about, names);
            headers.insert(&names.attempt, attempt.into());
            if after_unknown {
                headers.insert(&names.previous, HeaderValue::from_static("unknown"));
            }
            if unclaimed {
                headers.insert(&names.dedup, HeaderValue::from_static("unavailable"));
            }
        }
        Standing::Unverified(reason) => {
            set(&mut headers, &names.verified, format!("false; reason={}", reason.as_str()));
        }
    }
    for (name, value) in &params.set_headers {
        headers.insert(name, value.clone());
    }
    headers
}

/// What came, without what is not passed on, and without what the sender's connection names as its own.
fn pass_on(came: &HeaderMap, names: &Names) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(came.len() + OURS_MAX);
    for (name, value) in came {
        if names.passes(name) && is_plain(value) {
            headers.append(name, value.clone());
        }
    }
    for value in came.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()) {
        for token in value.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            headers.remove(token);
        }
    }
    headers
}

/// Visible ASCII, spaces and tabs: nothing that another parser could read differently.
fn is_plain(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

/// Who asked, for apps that read it (RFC 7239, and its older relatives).
fn forwarded(headers: &mut HeaderMap, envelope: &Envelope, names: &Names) {
    let peer = envelope.peer();
    let proto = if peer.https { "https" } else { "http" };
    let ip = peer.ip.to_string();
    let node = if peer.ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.clone() };
    let host = names.host.as_ref().and_then(|host| host.to_str().ok());
    let host = host.map(|host| format!(";host={host}")).unwrap_or_default();
    let text = format!("for={node};proto={proto}{host};by=_gatepost");
    if let Some(host) = &names.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    set(headers, header::FORWARDED, text);
    set(headers, X_FORWARDED_FOR, ip);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
}

fn about_request(headers: &mut HeaderMap, envelope: &Envelope, names: &Names) {
    let agent = envelope.headers().get(header::USER_AGENT);
    if let Some(agent) = agent.filter(|value| is_plain(value)) {
        headers.insert(&names.user_agent, agent.clone());
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    set(headers, &names.source, envelope.source().to_string());
    set(headers, &names.received_at, envelope.received_at().to_string());
    set(headers, &names.receipt, envelope.receipt().to_string());
}

fn about_event(headers: &mut HeaderMap, about: &About, names: &Names) {
    set(headers, &names.event_id, about.key.event_id().to_string());
    set(headers, &names.event_type, visible(about.kind.as_str()).into_owned());
    set(headers, &names.provider_id, visible(about.id.as_str()).into_owned());
    if let Some(account) = &about.account {
        set(headers, &names.account, visible(account.as_str()).into_owned());
    }
    let label = about.secret_label.replace('…', "...");
    let verified = format!("true; scheme={}; key={}", about.scheme, visible(&label));
    set(headers, &names.verified, verified);
}

/// `text` as a header can hold it: percent-encoded (RFC 3986 §2.1) where it is more than ASCII.
fn visible(text: &str) -> Cow<'_, str> {
    let is_trim = text.trim() == text;
    utf8_percent_encode(text, if is_trim { ODD } else { ODD_OR_SPACE }).into()
}

fn set(headers: &mut HeaderMap, name: impl header::IntoHeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// How many headers are added at the most.
const OURS_MAX: usize = 18;
