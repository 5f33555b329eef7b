//! Which patterns leave nothing for which others: what makes a route unreachable.

use crate::config::RouteOutline;

/// Whether a route's patterns take an event type.
pub fn takes(patterns: &[String], kind: &str) -> bool {
    let excluded = patterns.iter().filter_map(|p| p.strip_prefix('!')).any(|p| covers(p, kind));
    !excluded && (included(patterns).any(|p| covers(p, kind)))
}

/// Routes, of those before it, that together take everything that `route` could.
pub(crate) fn shadowed_by<'a>(
    route: &RouteOutline,
    before: &'a [RouteOutline],
) -> Option<Vec<&'a RouteOutline>> {
    let whole = |earlier: &&RouteOutline| earlier.source == route.source && earlier.when.is_none();
    let earlier: Vec<_> = before.iter().filter(whole).collect();
    let taker = |pattern: &str| {
        earlier.iter().copied().find(|earlier| takes_all(earlier, pattern, &route.events))
    };
    let mut takers: Vec<&RouteOutline> =
        included(&route.events).map(taker).collect::<Option<_>>()?;
    takers.dedup_by(|a, b| a.name == b.name);
    Some(takers)
}

/// Whether `earlier` takes whatever `pattern` does, given what the later route excludes itself.
fn takes_all(earlier: &RouteOutline, pattern: &str, later: &[String]) -> bool {
    let spared = earlier.events.iter().filter_map(|p| p.strip_prefix('!'));
    let also_spared =
        |spared: &str| later.iter().filter_map(|p| p.strip_prefix('!')).any(|p| covers(p, spared));
    let disjoint = |spared: &str| !pattern.contains('*') && !covers(spared, pattern);
    included(&earlier.events).any(|wide| covers(wide, pattern))
        && spared.into_iter().all(|spared| also_spared(spared) || disjoint(spared))
}

fn included(patterns: &[String]) -> impl Iterator<Item = &str> {
    let only_excludes = patterns.iter().all(|p| p.starts_with('!'));
    let plain = patterns.iter().map(String::as_str).filter(|p| !p.starts_with('!'));
    plain.chain(only_excludes.then_some("*"))
}

/// Whether everything that `narrow` matches is matched by `wide`. A star of `narrow` can stand for anything, so only a star
/// of `wide` can take it.
fn covers(wide: &str, narrow: &str) -> bool {
    let Some((first, rest)) = wide.split_once('*') else { return wide == narrow };
    let Some(mut text) = narrow.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = text.get(at + piece.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        for (wide, narrow) in [
            ("*", "a.*"),
            ("a.*", "a.b"),
            ("a.*", "a.b.*"),
            ("*.created", "customer.*.created"),
            ("a*c*e", "abcde"),
            ("a", "a"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
        }
        for (wide, narrow) in
            [("a.*", "a"), ("a.b.*", "a.*"), ("a*a", "a"), ("a", "a*"), ("*.b", "a.b.*")]
        {
            assert!(!covers(wide, narrow), "{wide} does not cover {narrow}");
        }
    }

    #[test]
    fn exclusions_count() {
        let patterns = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert!(takes(&patterns(&["a.*", "!a.b"]), "a.c"));
        assert!(!takes(&patterns(&["a.*", "!a.b"]), "a.b"));
        assert!(takes(&patterns(&["!a.b"]), "z"), "only exclusions: all but these");
    }
}
