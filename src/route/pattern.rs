//! Patterns of event types.

use std::{borrow::Borrow, collections::BTreeSet};

/// Patterns of event types: those that include, less those that exclude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Patterns {
    /// Parses patterns; those with a leading `!` exclude. No including pattern at all means `*`.
    pub fn parse(patterns: &[String]) -> Self {
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(pattern) => exclude.push(pattern.to_owned()),
                None => include.push(pattern.clone()),
            }
        }
        if include.is_empty() {
            include.push("*".into());
        }
        Self { include, exclude }
    }

    /// Whether `kind` is taken.
    pub fn take(&self, kind: &str) -> bool {
        self.included_by(kind).is_some() && self.excluded_by(kind).is_none()
    }

    /// Whether every type is taken, whatever it is.
    pub fn take_everything(&self) -> bool {
        self.exclude.is_empty() && self.include.iter().any(|p| covers(p, "*"))
    }

    /// The pattern that includes `kind`.
    pub fn included_by(&self, kind: &str) -> Option<&str> {
        self.include.iter().map(String::as_str).find(|p| covers(p, kind))
    }

    /// The pattern that excludes `kind`, without its `!`.
    pub fn excluded_by(&self, kind: &str) -> Option<&str> {
        self.exclude.iter().map(String::as_str).find(|p| covers(p, kind))
    }

    /// Which of `before`, that are asked first, leave nothing to take: a route with these patterns is unreachable. None of
    /// them, where the patterns exclude all that they include; `None` where something may be left.
    pub fn taken_by<P: Borrow<Self>>(&self, before: &[P]) -> Option<BTreeSet<usize>> {
        let mut by = BTreeSet::new();
        for pattern in &self.include {
            self.takers(pattern, before, SPARED_DEPTH, &mut by)?;
        }
        Some(by)
    }

    /// Adds who of `before` takes everything that `pattern` matches and we do not exclude.
    ///
    /// A pattern that is covered by several others is covered by one of them alone (try it with letters that none of them
    /// names), so it is enough to look for one; what that one spares must then be taken by others.
    fn takers<P: Borrow<Self>>(
        &self,
        pattern: &str,
        before: &[P],
        depth: u8,
        by: &mut BTreeSet<usize>,
    ) -> Option<()> {
        if self.excluded_by(pattern).is_some() {
            return Some(());
        }
        before.iter().map(Borrow::borrow).enumerate().find_map(|(n, earlier): (_, &Self)| {
            earlier.included_by(pattern)?;
            let mut with = BTreeSet::from([n]);
            for spared in earlier.exclude.iter().filter(|spared| overlap(spared, pattern)) {
                self.takers(spared, before, depth.checked_sub(1)?, &mut with)?;
            }
            by.append(&mut with);
            Some(())
        })
    }
}

/// How often it is asked who takes what one route spares and another spares again; bounds the work.
const SPARED_DEPTH: u8 = 2;

/// Whether everything that `narrow` matches is matched by `wide`; a type is a pattern that matches itself.
///
/// One function does for both: a star of `narrow` stands for anything, so only a star of `wide` can take it, as if it
/// were a letter that `wide` does not know. Each piece between stars is taken where it first comes, which leaves the most
/// for the pieces after it; so nothing is ever tried twice.
fn covers(wide: &str, narrow: &str) -> bool {
    let Some((first, rest)) = wide.split_once('*') else { return wide == narrow };
    let Some(mut text) = narrow.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        let Some((_, after)) = text.split_once(piece) else { return false };
        text = after;
    }
    text.ends_with(last)
}

/// Whether some type is matched by both patterns. With a star in each, only their ends can rule that out: between the
/// longer beginning and the longer end there is room for all that stands in the middle of either.
fn overlap(one: &str, other: &str) -> bool {
    let (Some((head, tail)), Some((other_head, other_tail))) = (ends(one), ends(other)) else {
        return covers(one, other) || covers(other, one);
    };
    let heads_fit = head.starts_with(other_head) || other_head.starts_with(head);
    heads_fit && (tail.ends_with(other_tail) || other_tail.ends_with(tail))
}

/// What stands before the first star of a pattern, and behind its last.
fn ends(pattern: &str) -> Option<(&str, &str)> {
    Some((pattern.split_once('*')?.0, pattern.rsplit_once('*')?.1))
}
