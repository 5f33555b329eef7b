//! What a body is, and the fields of the two kinds of form.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use super::view::{Unreadable, Unusable};

/// What a body says it is; where it does not say, what it begins like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form<'r> {
    Json,
    /// URL-encoded fields.
    Fields,
    /// `multipart/form-data`, with its boundary.
    Parts(&'r str),
    Other,
}

impl<'r> Form<'r> {
    pub(super) fn of(headers: &'r HeaderMap, body: &[u8]) -> Result<Self, Unreadable> {
        let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
            return Err("the body is compressed");
        }
        let declared = content_type(headers)?;
        let mut parameters = declared.split(';').map(str::trim);
        let essence = parameters.next().unwrap_or_default();
        if !parameters.clone().filter_map(|text| parameter(text, "charset")).all(is_ascii_superset)
        {
            return Err("the body is in a charset that is not read");
        }
        let is = |known: &str| essence.eq_ignore_ascii_case(known);
        let suffix = essence.as_bytes().last_chunk::<5>();
        let is_json = is("application/json")
            || is("text/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"));
        if is("multipart/form-data") {
            let boundary = parameters.find_map(|text| parameter(text, "boundary"));
            return boundary.map(Self::Parts).ok_or("the body is in parts without a boundary");
        }
        Ok(if is("application/x-www-form-urlencoded") {
            Self::Fields
        } else if is_json || matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            Self::Json
        } else {
            Self::Other
        })
    }

    /// A field of the form that `body` is.
    pub(super) fn field<'b>(self, body: &'b [u8], name: &str) -> Result<Cow<'b, [u8]>, Unusable> {
        match self {
            Self::Fields => field(body, name),
            Self::Parts(boundary) => part(body, boundary, name).map(Cow::Borrowed),
            Self::Json | Self::Other => Err(Unusable::Absent),
        }
    }
}

/// The one content type that a request declares; nothing where it declares none.
pub(super) fn content_type(headers: &HeaderMap) -> Result<&str, Unreadable> {
    match sole(headers.get_all(header::CONTENT_TYPE).iter()) {
        Ok(declared) => declared.to_str().map_err(|_| "the content type is not in ASCII"),
        Err(Unusable::Absent) => Ok(""),
        Err(_) => Err("the content type is said twice"),
    }
}

/// The value of a parameter of a content type.
fn parameter<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
    let (name, value) = text.split_once('=')?;
    name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
}

/// Whether ASCII means itself in `charset`, so that no two readers see different keys. The rest is checked to be UTF-8.
fn is_ascii_superset(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "iso-8859-1"].iter().any(|c| charset.eq_ignore_ascii_case(c))
}

/// The one of `items`.
pub(super) fn sole<T>(mut items: impl Iterator<Item = T>) -> Result<T, Unusable> {
    let first = items.next().ok_or(Unusable::Absent)?;
    if items.next().is_some() { Err(Unusable::Repeated) } else { Ok(first) }
}

/// A field of form-encoded text.
pub(super) fn field<'t>(text: &'t [u8], name: &str) -> Result<Cow<'t, [u8]>, Unusable> {
    let fields = form_urlencoded::parse(text).filter(|(known, _)| known == name);
    sole(fields.map(|(_, value)| value)).map(bytes)
}

pub(super) fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Fields of a form that are joined at most. Twilio sends some forty.
const FIELDS_MAX: usize = 1000;

/// All names and values of a URL-encoded form, sorted by name, nothing between them.
pub(super) fn joined(body: &[u8], unique: bool) -> Result<Vec<u8>, Unusable> {
    let mut fields: Vec<_> = form_urlencoded::parse(body).take(FIELDS_MAX + 1).collect();
    // What is no UTF-8 reads as replacement characters: other bytes would read the same.
    let is_plain = |text: &str| !text.contains(char::REPLACEMENT_CHARACTER);
    if fields.len() > FIELDS_MAX || !fields.iter().all(|(n, v)| is_plain(n) && is_plain(v)) {
        return Err(Unusable::Repeated);
    }
    // By UTF-16 code unit, as JavaScript sorts.
    let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
    if unique {
        fields.sort_by_cached_key(|(name, value)| (units(name), units(value)));
        fields.dedup();
    } else {
        fields.sort_by_cached_key(|(name, _)| units(name));
    }
    Ok(fields
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()])
        .flatten()
        .copied()
        .collect())
}

/// The content of the one part called `name`. Only the plain form is read: nothing before the first boundary, lines that end
/// in CRLF.
fn part<'b>(body: &'b [u8], boundary: &str, name: &str) -> Result<&'b [u8], Unusable> {
    let mark = format!("\r\n--{boundary}");
    let mut rest = mark.as_bytes().get(2..).and_then(|mark| body.strip_prefix(mark));
    let mut found = Vec::new();
    while let Some(part) = rest.and_then(|rest| rest.strip_prefix(b"\r\n")) {
        let (content, behind) = split(part, mark.as_bytes()).ok_or(Unusable::Repeated)?;
        let (head, content) = split(content, b"\r\n\r\n").ok_or(Unusable::Repeated)?;
        if name_of(head).ok_or(Unusable::Repeated)? == name {
            found.push(content);
        }
        rest = Some(behind);
    }
    let is_closed = rest.is_some_and(|rest| matches!(rest, b"--" | b"--\r\n"));
    if is_closed { sole(found.into_iter()) } else { Err(Unusable::Repeated) }
}

/// The name in a part's `Content-Disposition`.
fn name_of(head: &[u8]) -> Option<&str> {
    let lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let mut dispositions = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition").then(|| value.trim())
    });
    let disposition = sole(&mut dispositions).ok()?;
    let mut parameters = disposition.strip_prefix("form-data;")?.split(';').map(str::trim);
    sole(parameters.by_ref().filter_map(|text| parameter(text, "name"))).ok()
}

/// What stands before the first `mark`, and behind it.
fn split<'t>(text: &'t [u8], mark: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = memchr::memmem::find(text, mark)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}
