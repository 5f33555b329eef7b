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

/// The key that is meant by one that there is not: the nearest, or the only one that begins with it (`jwks`: `jwks_url`).
pub(crate) fn key<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    nearest(word, candidates.clone()).or_else(|| {
        let mut begin = candidates.into_iter().filter(|key| begins(key, word));
        begin.next().filter(|_| begin.next().is_none())
    })
}

/// Whether the first words of a key are these.
pub(crate) fn begins(key: &str, words: &str) -> bool {
    !words.is_empty() && key.strip_prefix(words).is_some_and(|rest| rest.starts_with('_'))
}
