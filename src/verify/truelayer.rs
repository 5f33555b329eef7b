//! What `TrueLayer` signs: method and path, the headers that the signature lists, and the body.

use super::{
    jose,
    view::{Unusable, View},
};

/// Headers that a signature may list, at most.
const HEADERS_MAX: usize = 32;

/// The payload.
pub(super) fn payload(view: &View<'_>) -> Result<Vec<u8>, Unusable> {
    let header = view.token().ok_or(Unusable::Absent)?;
    let header = jose::object(&header.header).map_err(|_| Unusable::Repeated)?;
    let text = |name: &str| header.get(name).map(|value| value.as_str().ok_or(Unusable::Repeated));
    if text("tl_version").transpose()? != Some("2") {
        return Err(Unusable::Absent);
    }
    let request = view.request;
    let path = request.target.split_once('?').map_or(request.target, |(path, _)| path);
    let mut payload = format!("{} {path}\n", request.method.to_ascii_uppercase()).into_bytes();
    let listed = text("tl_headers").transpose()?.unwrap_or_default();
    let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
    for (n, name) in names.enumerate() {
        let mut values = request.headers.get_all(name).iter();
        let value = values.next().ok_or(Unusable::Absent)?;
        if values.next().is_some() || n >= HEADERS_MAX {
            return Err(Unusable::Repeated);
        }
        payload.extend_from_slice(name.as_bytes());
        payload.extend_from_slice(b": ");
        payload.extend_from_slice(value.as_bytes());
        payload.push(b'\n');
    }
    payload.extend_from_slice(request.body);
    Ok(payload)
}
