//! The request headers that an upstream sees. Pure.
//!
//! What the provider sent is passed on, so that an app which verifies today keeps working, but for a list of headers that
//! only we or the connection may set. Ours are set last, each exactly once.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
};

use arrayvec::ArrayString;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Identity, UpstreamParams};
use crate::{answer::Reason, event::About, receive::Envelope};

/// Whether a header is never passed on: of the connection (RFC 9110 §7.6.1), of whoever stood in front of us, a credential
/// that was meant for somebody else, or a spelling that an app could take for another header (`X_Forwarded_For`; `Proxy`, which CGI
/// makes the variable `HTTP_PROXY`).
fn is_stripped(name: &str) -> bool {
    matches!(
        name,
        "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "connection"
            | "content-length"
            | "cookie"
            | "expect"
            | "fastly-client-ip"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "traceparent"
            | "tracestate"
            | "true-client-ip"
            | "upgrade"
            | "user-agent"
            | "via"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "x-forwarded"
            | "x-host"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-host"
            | "x-original-uri"
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
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("gatepost/", env!("CARGO_PKG_VERSION")));
/// How many headers are added at the most.
const OURS_MAX: usize = 18;
/// Room for the values of ours, so that they need one allocation in all.
const OURS_BYTES: usize = 512;
/// The longest text of an address, IPv4 in IPv6; a time is shorter.
const IP_BYTES_MAX: usize = 45;

/// What is said about the request besides the event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// Verified, and claimed.
    Verified { about: &'a About, attempt: u32, after_unknown: bool, unclaimed: bool },
    /// Not verified: the source is in shadow mode; why it would have been refused.
    Unverified(Reason),
}

/// The names of our headers under one prefix, made once.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    event_id: HeaderName,
    source: (HeaderName, Option<HeaderValue>),
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
    /// What stands before the name of a header that came and that we replaced.
    original: String,
    host: Option<HeaderValue>,
    /// What `Forwarded` says about ourselves.
    forwarded: String,
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
        let host = identity.host.as_deref();
        let ours = host.map(|host| format!(";host={host}")).unwrap_or_default();
        Self {
            event_id: name("event-id"),
            source: (name("source"), HeaderValue::from_str(identity.source.as_str()).ok()),
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
            original: format!("{prefix}original-"),
            host: host.and_then(|host| HeaderValue::from_str(host).ok()),
            forwarded: format!("{ours};by=_gatepost"),
            keep_authorization: identity.keep_authorization,
            prefix,
        }
    }

    pub(super) fn original(&self) -> &str {
        &self.original
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
    let mut ours = Ours { headers, text: BytesMut::with_capacity(OURS_BYTES) };
    ours.forwarded(envelope, names);
    ours.about_request(envelope, names);
    match standing {
        Standing::Verified { about, attempt, after_unknown, unclaimed } => {
            ours.about_event(about, names);
            ours.headers.insert(&names.attempt, attempt.into());
            if after_unknown {
                ours.headers.insert(&names.previous, HeaderValue::from_static("unknown"));
            }
            if unclaimed {
                ours.headers.insert(&names.dedup, HeaderValue::from_static("unavailable"));
            }
        }
        Standing::Unverified(reason) => {
            ours.set(&names.verified, &["false; reason=", reason.as_str()]);
        }
    }
    for (name, value) in &params.set_headers {
        ours.headers.insert(name, value.clone());
    }
    ours.headers
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

/// Headers to which ours are added.
struct Ours {
    headers: HeaderMap,
    /// Where their values are written; each takes its part of it.
    text: BytesMut,
}

impl Ours {
    /// A value from its parts.
    fn set(&mut self, name: impl header::IntoHeaderName, parts: &[&str]) {
        for part in parts {
            self.text.extend_from_slice(part.as_bytes());
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(self.text.split().freeze()) {
            self.headers.insert(name, value);
        }
    }

    /// Who asked, for apps that read it (RFC 7239, and its older relatives).
    fn forwarded(&mut self, envelope: &Envelope, names: &Names) {
        let peer = envelope.peer();
        let proto = if peer.https { "https" } else { "http" };
        let (open, close) = if peer.ip.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
        let ip = printed(&peer.ip);
        let ours = ["for=", open, &ip, close, ";proto=", proto, &names.forwarded];
        self.set(header::FORWARDED, &ours);
        self.set(X_FORWARDED_FOR, &[&ip]);
        self.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
        if let Some(host) = &names.host {
            self.headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }

    fn about_request(&mut self, envelope: &Envelope, names: &Names) {
        let agent = envelope.headers().get(header::USER_AGENT);
        if let Some(agent) = agent.filter(|value| is_plain(value)) {
            self.headers.insert(&names.user_agent, agent.clone());
        }
        self.headers.insert(header::USER_AGENT, USER_AGENT);
        if let (name, Some(source)) = &names.source {
            self.headers.insert(name, source.clone());
        }
        self.set(&names.received_at, &[&printed(&envelope.received_at())]);
        self.set(&names.receipt, &[&envelope.receipt().short()]);
    }

    fn about_event(&mut self, about: &About, names: &Names) {
        self.set(&names.event_id, &[&about.key.event_id()]);
        self.set(&names.event_type, &[&visible(about.kind.as_str())]);
        self.set(&names.provider_id, &[&visible(about.id.as_str())]);
        if let Some(account) = &about.account {
            self.set(&names.account, &[&visible(account.as_str())]);
        }
        let label = about.secret_label.replace('…', "...");
        self.set(&names.verified, &["true; scheme=", about.scheme, "; key=", &visible(&label)]);
    }
}

/// An address or a time as text, in place.
fn printed(value: &dyn Display) -> ArrayString<IP_BYTES_MAX> {
    let mut text = ArrayString::new();
    let _fits = write!(text, "{value}");
    text
}

/// `text` as a header can hold it: percent-encoded (RFC 3986 §2.1) where it is more than ASCII.
fn visible(text: &str) -> Cow<'_, str> {
    let is_trim = text.trim() == text;
    utf8_percent_encode(text, if is_trim { ODD } else { ODD_OR_SPACE }).into()
}
