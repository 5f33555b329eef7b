//! *Did you mean*: the nearest of the words that would have been right.

/// The candidate nearest to `word`, where one is near enough to be meant: an edit for each three letters, three at most.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let edits = |candidate| (strsim::osa_distance(word, candidate), candidate);
    let near = candidates.into_iter().map(edits).filter(|(edits, _)| (1..=limit).contains(edits));
    near.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}
