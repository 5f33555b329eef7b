//! Preset files as text: their top-level keys, and what `like` takes from another file. What is printed is what is parsed.

/// Keys that belong to one file alone.
const OWN: [&str; 8] =
    ["name", "title", "like", "docs", "trial", "evidence", "vectors", "known_types"];

/// Keys that a source has, too, in the order in which they are printed.
const OF_A_SOURCE: [&str; 7] =
    ["verify", "event", "handshake", "ack", "invalid", "drop_forever", "max_body"];

/// The top-level keys of a file, each with its lines.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = 0;
        let mut key = None;
        for line in rest.split_inclusive('\n') {
            if starts(line) && key.is_some() {
                break;
            }
            if starts(line) {
                key = line.split_once(':').map(|(key, _)| key);
            }
            end += line.len();
        }
        let (block, after) = rest.split_at(end);
        rest = after;
        key.map(|key| (key, block))
    })
}

/// The lines of one key, without a comment in front.
fn block<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, block) = blocks(text).find(|(name, _)| *name == key)?;
    block.find(&format!("{key}:")).map(|at| block.split_at(at).1)
}

/// The value of a key that is one word or sentence.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    block(text, key)?.split_once(':').map(|(_, value)| value.trim())
}

/// A file with what it leaves out taken from another.
pub(super) fn merged(text: &str, base: &str) -> String {
    let missing = |(key, _): &(&str, &str)| !OWN.contains(key) && block(text, key).is_none();
    let inherited = blocks(base).filter(missing).map(|(_, block)| block);
    std::iter::once(text).chain(inherited).collect()
}

/// What a file says that a source could say, two steps to the right.
pub(super) fn of_a_source(text: &str) -> String {
    let lines = OF_A_SOURCE.iter().filter_map(|key| block(text, key)).flat_map(str::lines);
    lines.flat_map(|line| ["    ", line, "\n"]).collect()
}
