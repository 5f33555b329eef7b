//! What is done to requests on their way: bodies that are written anew, headers that are moved.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Suspect, suspect, with_schemes};
use crate::{
    doctor::{Case, json, known::Key},
    verify::{Algorithm, Scheme},
};

/// A body that was changed on the way.
pub(super) fn bodies(case: &Case) -> Vec<Suspect> {
    let body = &case.raw.body[..];
    let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
    if let Some(short) = body.strip_suffix(b"\n") {
        let short = short.strip_suffix(b"\r").unwrap_or(short);
        forms.push(("with the newline at its end removed".into(), short.to_vec()));
    }
    forms.push(("with a newline added".into(), [body, b"\n"].concat()));
    forms.push(("with CR LF added".into(), [body, b"\r\n"].concat()));
    if let Some(bare) = body.strip_prefix(b"\xef\xbb\xbf") {
        forms.push(("without its byte order mark".into(), bare.to_vec()));
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let unix = text.replace("\r\n", "\n");
        forms.push(("with CR LF in place of LF".into(), unix.replace('\n', "\r\n").into_bytes()));
        forms.push(("with LF in place of CR LF".into(), unix.into_bytes()));
        let latin = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>();
        forms.extend(latin.map(|latin| {
            let is_utf8 = std::str::from_utf8(&latin).is_ok();
            (if is_utf8 { ENCODED_TWICE } else { "in ISO 8859-1" }.to_owned(), latin)
        }));
    } else {
        let latin: String = body.iter().copied().map(char::from).collect();
        forms.push(("in UTF-8 (it came in ISO 8859-1)".into(), latin.into_bytes()));
    }
    forms.extend(json::forms(body).into_iter().map(|(name, bytes)| (format!("as {name}"), bytes)));
    let changed = forms.into_iter().filter(|(_, bytes)| bytes != body);
    let tries = changed.map(|(name, bytes)| {
        let mut other = case.clone();
        other.raw.body = bytes.into();
        let verdict = format!(
            "The body was changed on the way: what was signed is the body {name}. Something between the provider and here (a proxy, a \
             framework, an editor that saved the file) writes it anew; it must pass it on byte for byte."
        );
        suspect(format!("body {name}"), verdict, other)
    });
    let mut tries: Vec<_> = tries.collect();
    let mut empty = case.clone();
    empty.raw.body = Bytes::new();
    let verdict = "What was signed is an empty body: the body was added, or the signature was made for another request.";
    tries.push(suspect("an empty body", verdict, empty));
    tries
}

const ENCODED_TWICE: &str = "in UTF-8 (it was encoded twice)";

/// A signature in another header than the scheme looks in.
pub(super) fn other_headers(case: &Case, key: Key) -> Vec<Suspect> {
    let wanted: BTreeSet<&str> =
        case.schemes.iter().flat_map(Scheme::signature_headers).map(HeaderName::as_str).collect();
    let carries = |name: &HeaderName| {
        ["sign", "hmac", "hash", "token", "mac", "auth", "digest"]
            .iter()
            .any(|w| name.as_str().contains(w))
    };
    let found = case.raw.headers.iter().filter(|(name, _)| carries(name));
    let pairs = found.flat_map(|(name, value)| wanted.iter().map(move |to| (name, value, *to)));
    let tries =
        pairs.filter(|(name, _, to)| name.as_str() != *to).filter_map(|(name, value, to)| {
            let mut other = case.clone();
            other.raw.headers.insert(HeaderName::try_from(to).ok()?, value.clone());
            let verdict =
                format!("The signature came in `{name}`, and the scheme looks in `{to}`.");
            Some(suspect(format!("signature from header {name}"), verdict, other))
        });
    let mut tries: Vec<_> = tries.collect();
    tries.extend(older(case).filter(|_| key == Key::Shared));
    for name in &wanted {
        // Several lines of which one would do; quotes and spaces around one.
        let lines = case.raw.headers.get_all(*name);
        let sole = lines.iter().nth(1).is_none();
        for value in lines.iter().collect::<BTreeSet<_>>() {
            let text = String::from_utf8_lossy(value.as_bytes());
            let plain = text.trim_matches(['"', '\'', ' ']);
            if sole && plain == text {
                continue;
            }
            let mut other = case.clone();
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(*name), HeaderValue::from_str(plain))
            {
                other.raw.headers.insert(name, value);
            }
            let verdict = format!(
                "`{name}` came several times, or with something around its value, and one of its values is right: something on the way \
                 adds to it."
            );
            tries.push(suspect(format!("one plain value of {name}"), verdict, other));
        }
    }
    tries
}

/// GitHub's older signature, which others took over: SHA-1 in `X-Hub-Signature`.
fn older(case: &Case) -> Option<Suspect> {
    let value = case.raw.headers.get(OLDER)?;
    let verdict = "Only the older SHA-1 signature (`X-Hub-Signature`) is there and right; the SHA-256 one is missing or was made with another secret.";
    let mut other = with_schemes(case, "the older SHA-1 signature", verdict, |parts| {
        parts.algorithm = Algorithm::HmacSha1;
        for container in &mut parts.containers {
            container.prefix = Some("sha1=".to_owned());
        }
        true
    })?;
    for name in case.schemes.iter().flat_map(Scheme::signature_headers) {
        other.case.raw.headers.insert(name.clone(), value.clone());
    }
    Some(other)
}

const OLDER: &str = "x-hub-signature";
