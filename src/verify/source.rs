//! Where keys are that are not configured, and which places may be asked. All of it is decided before any I/O.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls_pki_types::TrustAnchor;

use super::{
    KeySet, Template, Verifier,
    view::{Unusable, View},
};
use crate::{answer::Reason, event::Timestamp, json, secret::Secret};

/// Where keys are that are not configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// At a URL that the configuration names: a JWKS, or a list.
    At(String),
    /// At a URL that the message names, among those that are allowed: one for all places of signatures, or one for each.
    /// A certificate, or the key `inside` of a JSON document.
    Named {
        urls: Vec<Template>,
        rule: UrlRule,
        dns_name: Option<String>,
        inside: Option<json::Path>,
    },
    /// In the message, below a root that the configuration pins.
    X5c(super::chain::Chain),
}

/// A document that must be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which of the source's schemes wants it.
    pub scheme: usize,
    /// Where it is.
    pub url: String,
    /// Whether one is there already that lacks what is looked for.
    pub is_stale: bool,
}

/// Why a request is not believed, or not yet.
#[derive(Debug)]
pub enum Stop {
    /// It never will be.
    Refused(Reason),
    /// A key must be fetched first.
    Wanting(Want),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// What was fetched before.
pub trait Keys: std::fmt::Debug + Send + Sync {
    /// The keys that were read at a URL for one of the source's schemes, if they are there and still good.
    fn get(&self, scheme: usize, url: &str) -> Option<Arc<KeySet>>;

    /// Whether it is worth asking again for a key that is not among them. It is not, unless somebody can be asked.
    fn may_ask_again(&self, _scheme: usize, _url: &str) -> bool {
        false
    }
}

/// Nothing was fetched, and nothing will be.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn get(&self, _: usize, _: &str) -> Option<Arc<KeySet>> {
        None
    }
}

impl Verifier {
    /// Where each scheme's keys are, and what is read of them there.
    fn key_sources(&self) -> impl Iterator<Item = impl PartialEq + '_> {
        let foreign = self.each_scheme().map(|scheme| scheme.parts.foreign.as_deref());
        foreign.map(|own| own.map(|own| (&own.source, &own.allowed, &own.listing, &own.credential)))
    }

    /// Whether what was fetched for the schemes of `other` is what would be fetched for these.
    pub(super) fn fetches_like(&self, other: &Self) -> bool {
        self.key_sources().eq(other.key_sources())
    }

    /// For each scheme the URL at which the configuration says that its keys are, if it does.
    pub(super) fn key_places(&self) -> impl Iterator<Item = Option<String>> {
        self.each_scheme().map(|scheme| match scheme.parts.foreign.as_ref()?.source.as_ref()? {
            KeySource::At(url) => Some(url.clone()),
            KeySource::Named { .. } | KeySource::X5c(_) => None,
        })
    }

    /// Reads a document that was fetched, for the scheme that wanted it; a sentence where it is not what it should be.
    /// Certificates may lead to `anchors`.
    pub fn read(
        &self,
        want: &Want,
        text: &[u8],
        anchors: &[TrustAnchor<'_>],
        now: Timestamp,
    ) -> Result<KeySet, String> {
        let scheme = self.each_scheme().nth(want.scheme);
        let foreign = scheme.and_then(|scheme| scheme.parts.foreign.as_deref());
        foreign.ok_or("is wanted by no scheme")?.read(text, anchors, now)
    }

    /// The header that shows `secret` to whoever has the keys that a scheme wants; none, where that is not asked for.
    pub fn shown(&self, want: &Want, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        let scheme = self.each_scheme().nth(want.scheme)?;
        let (name, prefix) = scheme.credential()?;
        let value = [prefix.as_bytes(), secret.expose()].concat();
        let mut value = HeaderValue::from_bytes(&value).ok()?;
        value.set_sensitive(true);
        Some((name.clone(), value))
    }
}

impl KeySource {
    /// Whether keys are fetched. A chain needs a root that the operator gives.
    pub(super) const fn finds_keys(&self) -> bool {
        !matches!(self, Self::X5c(_))
    }

    /// Whether a request names a place that is not asked: then it is not its provider's, also where nobody has to be asked.
    pub(super) fn refuses(&self, view: &View<'_>, place: usize) -> bool {
        let is_named = matches!(self, Self::Named { .. });
        is_named && self.url(view, place) == Err(Reason::KeySourceRefused)
    }

    /// The URL to ask for the key of a signature in this place, or that the message names one that is not asked.
    pub(super) fn url(&self, view: &View<'_>, place: usize) -> Result<String, Reason> {
        match self {
            Self::At(url) => Ok(url.clone()),
            Self::Named { urls, rule, .. } => {
                let url = urls.get(place).or(urls.first()).ok_or(Reason::KeySourceRefused)?;
                let text = url.text(view, &[]).map_err(|unusable| match unusable {
                    Unusable::Absent => Reason::InputMissing,
                    Unusable::Repeated => Reason::InputAmbiguous,
                })?;
                let text = std::str::from_utf8(&text).map_err(|_| Reason::KeySourceRefused)?;
                rule.allowed(text).ok_or(Reason::KeySourceRefused)
            }
            Self::X5c(_) => Err(Reason::KeySourceRefused),
        }
    }
}

/// Which URLs a message may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UrlRule {
    /// Hosts; `*` stands for one label. With a port, that one, else 443.
    pub(crate) hosts: Vec<String>,
    /// The path; `*` stands for anything but a slash. A query may follow, in which it stands for anything but an ampersand;
    /// otherwise there is none.
    pub(crate) path: String,
}

/// Bytes of a URL, at most.
const URL_BYTES_MAX: usize = 512;

impl UrlRule {
    /// The URL as it will be asked for, written anew from its parts; `None` where it may not be.
    ///
    /// `https` only; no user, no query but the one that is known, no fragment, nothing that is percent-encoded, no `..`: whatever
    /// two readers of URLs could read as two places is refused.
    pub(crate) fn allowed(&self, url: &str) -> Option<String> {
        let rest = url.strip_prefix("https://").filter(|_| url.len() <= URL_BYTES_MAX)?;
        let (authority, target) = rest.split_at_checked(rest.find('/')?)?;
        let (path, query) = parts(target);
        let (known_path, known_query) = parts(&self.path);
        let authority = authority.strip_suffix(":443").unwrap_or(authority);
        let is_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:".contains(&b);
        let is_path = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
        let is_query = |b: u8| is_path(b) || b"=&:".contains(&b);
        let plain = authority.bytes().all(is_host)
            && path.bytes().all(is_path)
            && query.is_none_or(|query| query.bytes().all(is_query))
            && !path.split('/').skip(1).any(|part| matches!(part, "." | ".."))
            && (path == "/" || !path.split('/').skip(1).any(str::is_empty));
        let host = self.hosts.iter().any(|host| matches(host, authority, '.'));
        let asked = match (known_query, query) {
            (Some(known), Some(query)) => matches(known, query, '&'),
            (known, query) => known == query,
        };
        (plain && host && asked && matches(known_path, path, '/'))
            .then(|| format!("https://{authority}{target}"))
    }
}

/// Path and query.
fn parts(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

/// Whether `text` is like `pattern`, in which `*` stands for one character or more, none of which is `barrier`.
fn matches(pattern: &str, text: &str, barrier: char) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let ends = rest.char_indices().take_while(|(_, c)| *c != barrier);
    let mut ends = ends.map(|(at, c)| at + c.len_utf8());
    ends.any(|end| rest.get(end..).is_some_and(|rest| matches(tail, rest, barrier)))
}
