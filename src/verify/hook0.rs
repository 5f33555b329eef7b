//! What Hook0 signs beside time and body: which headers, and what they say.

use super::{Presented, form::sole, view::Unusable};

/// Headers that may be listed, at most.
const HEADERS_MAX: usize = 32;

/// The list as it stands (names with a space between them), and the values, a dot before each.
///
/// The body follows behind one more dot. So that nobody can move a part of a value into the body, it has to be JSON, and no value
/// may hold what would begin it.
pub(super) fn text(request: Presented<'_>, list: &[u8]) -> Result<Vec<u8>, Unusable> {
    let begins = |text: &[u8]| matches!(text.first(), Some(b'{' | b'['));
    let names = std::str::from_utf8(list).map_err(|_| Unusable::Repeated)?;
    if !begins(request.body) || names.contains('.') {
        return Err(Unusable::Repeated);
    }
    let mut text = list.to_vec();
    for (n, name) in names.split(' ').enumerate() {
        let value = sole(request.headers.get_all(name).iter())?.as_bytes();
        let is_open = value.split(|byte| *byte == b'.').skip(1).any(begins);
        if is_open || n >= HEADERS_MAX {
            return Err(Unusable::Repeated);
        }
        text.push(b'.');
        text.extend_from_slice(value);
    }
    Ok(text)
}
