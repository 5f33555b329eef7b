//! Atlassian's query string hash: which request a token is for.

use super::Presented;
use crate::event::Digest;

/// The parameter that a token itself comes in.
const TOKEN_PARAMETER: &str = "jwt";

/// SHA-256, in hex, of `METHOD&path&query`: parameters sorted, encoded as RFC 3986 says, values of one name joined by commas,
/// the token itself left out. The path is what follows `base`.
pub(super) fn of(request: &Presented<'_>, base: &str) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let base = base.trim_end_matches('/');
    let path = path
        .strip_prefix(base)
        .filter(|rest| matches!(rest.as_bytes(), [] | [b'/', ..]))
        .unwrap_or(path);
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name != TOKEN_PARAMETER)
        .map(|(name, value)| (encode(&name), encode(&value)))
        .collect();
    pairs.sort_unstable();
    let mut canonical = String::new();
    let mut last = None;
    for (name, value) in &pairs {
        if last == Some(name) {
            canonical.push(',');
        } else {
            canonical.push_str(if last.is_some() { "&" } else { "" });
            canonical.push_str(name);
            canonical.push('=');
        }
        canonical.push_str(value);
        last = Some(name);
    }
    let method = request.method.to_ascii_uppercase();
    Digest::of(format!("{method}&{}&{canonical}", path.replace('&', "%26")).as_bytes()).to_string()
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}
