//! The forms in which a provider may have signed its URL: Twilio's servers are of several minds about ports and queries.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::transform::COMPONENT;

/// A form of the public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UrlVariant {
    /// As it is configured, with the query as sent.
    AsIs,
    /// Without its port; the query as a browser writes it (`'` is `%27`).
    StripPort,
    /// With a port, the scheme's own where it has none; the query likewise.
    AddPort,
    /// Without its port; the query's pairs decoded, and encoded as Node's `querystring` does.
    LegacyStripPort,
    /// With a port; the query likewise.
    LegacyAddPort,
}

impl UrlVariant {
    pub(super) fn of(self, url: &str) -> Cow<'_, str> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority);
        let tail = match self {
            Self::AsIs => return url.into(),
            Self::StripPort | Self::AddPort => escaped(tail),
            Self::LegacyStripPort | Self::LegacyAddPort => rewritten(tail),
        };
        let standard = if scheme == "https" { "443" } else { "80" };
        match self {
            Self::AddPort | Self::LegacyAddPort => {
                format!("{scheme}://{host}:{}{tail}", port.unwrap_or(standard)).into()
            }
            _ => format!("{scheme}://{host}{tail}").into(),
        }
    }
}

/// An authority without its port, user and password kept.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

/// The query with the characters escaped that a browser escapes, and that a request line may hold all the same.
fn escaped(tail: &str) -> Cow<'_, str> {
    const QUERY: &AsciiSet = &CONTROLS.add(b'\'').add(b'"').add(b'<').add(b'>');
    let Some((path, query)) = tail.split_once('?') else { return tail.into() };
    format!("{path}?{}", utf8_percent_encode(query, QUERY)).into()
}

/// The query with its pairs decoded and encoded again; the values of one name come together where it first stood.
fn rewritten(tail: &str) -> Cow<'_, str> {
    let Some((path, query)) = tail.split_once('?').filter(|(_, query)| !query.is_empty()) else {
        return tail.into();
    };
    let mut pairs: Vec<(Cow<'_, str>, Vec<Cow<'_, str>>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => pairs.push((name, vec![value])),
        }
    }
    let escape = |text: &str| percent_encode(text.as_bytes(), COMPONENT).to_string();
    let pair = |(name, values): &(Cow<'_, str>, Vec<Cow<'_, str>>)| {
        let pair = |value: &Cow<'_, str>| format!("{}={}", escape(name), escape(value));
        values.iter().map(pair).collect::<Vec<_>>().join("&")
    };
    let query = pairs.iter().map(pair).collect::<Vec<_>>().join("&");
    format!("{path}?{query}").into()
}
