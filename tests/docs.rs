//! Holds the tables of `docs/` against the code: what is documented exists, and what exists is documented.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test stops at the first surprise"
)]

#[path = "docs/catalogue.rs"]
mod catalogue;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/promises.rs"]
mod promises;
#[path = "docs/source.rs"]
mod source;

use std::collections::BTreeSet;

use gatepost::{answer::OUTCOME_NAMES, event::Name, telemetry::Metrics};
use page::ticked;

const METRICS: &str = include_str!("../docs/metrics.md");
const HTTP: &str = include_str!("../docs/http.md");

/// A metric as documented and as exposed: name, type, labels.
type Row = (String, String, BTreeSet<String>);

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    assert_eq!(documented(), exposed());
}

#[test]
fn every_outcome_is_documented() {
    let first_cells = HTTP.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names: BTreeSet<&str> = first_cells.flat_map(ticked).collect();
    let missing: Vec<_> = OUTCOME_NAMES.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/http.md says nothing of {missing:?}");
}

/// A word of the language that no example shows is one that people have to guess at. Examples are run by `pure`.
#[test]
fn every_word_of_the_scheme_language_stands_in_an_example() {
    let pages = ["docs/scheme-language.md", "docs/public-keys.md"].map(source::text).concat();
    let examples: String =
        pages.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let quoted = |file: &str, from: &str, to: &str| {
        let text = source::text(file);
        let text = text.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned();
        text.split('"').skip(1).step_by(2).map(String::from).collect::<BTreeSet<_>>()
    };
    let first = |words: BTreeSet<String>| words.into_iter().filter(|word| !word.contains(' '));
    let template = "src/verify/template.rs";
    let places = first(quoted(template, "const PLACES", "];")).filter(|word| !word.is_empty());
    let transforms = first(quoted(template, "const TRANSFORMS", "];"));
    let joins = first(quoted(template, "const JOINS", "];"));
    let algorithms = first(quoted("src/verify/key.rs", "const fn as_str(self)", "\n    }"));
    let shape = source::text("src/providers/shape.rs");
    let keys = shape.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
    // `type` and the fields of what stands around others, which are no keys of their own.
    let keys = keys.map(|(key, _)| key).filter(|key| !["kind", "scheme"].contains(key));
    let mut words: BTreeSet<String> = keys.map(|key| format!("{key}:")).collect();
    words.extend(places.map(|word| format!("{{{word}")));
    words.extend(transforms.chain(joins).map(|word| format!("|{word}")));
    words
        .extend(algorithms.filter(|word| word != "hmac-sha256").map(|word| format!("mac: {word}")));
    assert!(words.len() > 100, "{words:?}");
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let stands = |word: &&String| {
        let pieces: Vec<_> = examples.split(word.as_str()).collect();
        pieces.windows(2).any(|around| {
            let before = around[0].chars().next_back().is_some_and(is_part);
            let behind = around[1].chars().next().is_some_and(is_part);
            if word.ends_with(':') { !before } else { !behind }
        })
    };
    let missing: Vec<_> = words.iter().filter(|word| !stands(word)).collect();
    assert!(missing.is_empty(), "no example shows {missing:?}");
}

/// People look for what changed under one heading of a version.
#[test]
fn the_changelog_has_each_heading_once_in_a_version() {
    let versions: Vec<_> =
        source::text("CHANGELOG.md").split("\n## [").skip(1).map(String::from).collect();
    assert!(!versions.is_empty(), "the versions are found");
    for version in versions {
        let headings: Vec<_> = version.lines().filter(|line| line.starts_with("### ")).collect();
        let once: BTreeSet<_> = headings.iter().collect();
        assert_eq!(once.len(), headings.len(), "{headings:?}");
    }
}

/// The labels whose values are closed lists have them all on the page, and no others.
#[test]
fn every_label_has_the_values_that_the_source_has() {
    let (source, telemetry) = (source(), source::text("src/telemetry/lists.rs"));
    let classes = source.reasons.into_values().collect();
    let list = |name: &str| source::names(source::statement(&telemetry, name));
    let lists = [
        ("`kind`", source.kinds),
        ("`operation`", list("const DEDUP_OPERATIONS")),
        ("`result` of `delivery_attempts`", source.results),
        ("`result` of `key_fetches`", list("const FETCH_RESULTS")),
        ("`result` of `confirmations`", list("const CONFIRM_RESULTS")),
        ("`reason` of `shed`", source.limits),
        ("`reason` of verification failures", classes),
    ];
    for (label, names) in lists {
        let line = METRICS.lines().find_map(|line| line.strip_prefix(&format!("| {label} |")));
        let said: BTreeSet<String> = ticked(line.expect(label)).map(str::to_owned).collect();
        assert_eq!(said, names, "{label}");
    }
}

#[test]
fn every_header_that_apps_get_is_documented() {
    let names = source::text("src/deliver/headers.rs");
    let names: Vec<String> = source::quoted_after(&names, "name(\"").collect();
    assert!(names.len() > 10, "{names:?}");
    let said: BTreeSet<String> = page::spans(HTTP).into_iter().map(str::to_lowercase).collect();
    let missing: Vec<_> =
        names.iter().filter(|name| !said.contains(&format!("gatepost-{name}"))).collect();
    assert!(missing.is_empty(), "docs/http.md says nothing of {missing:?}");
}

/// The rights that a Redis user needs are those with which the stores are tested.
#[test]
fn a_redis_user_needs_no_more_than_the_page_says() {
    let (page, support) = (source::text("docs/redis.md"), source::text("tests/support/redis.rs"));
    let user = source::statement(&support, "const USER");
    let rights: Vec<&str> =
        user.split([' ', '"']).filter(|word| word.starts_with(['+', '-'])).collect();
    assert!(rights.len() > 8, "{rights:?}");
    let missing: Vec<_> = rights.iter().filter(|right| !page.contains(**right)).collect();
    assert!(missing.is_empty(), "docs/redis.md says nothing of {missing:?}");
}

fn source() -> source::Source {
    source::Source::read(exposed().into_iter().map(|(name, ..)| name).collect())
}

fn documented() -> BTreeSet<Row> {
    let rows = METRICS.lines().filter_map(|line| line.strip_prefix("| `gatepost_"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').collect();
        let name = format!("gatepost_{}", cells[0].trim().trim_end_matches('`'));
        let kind = cells[1].trim().split(',').next().unwrap();
        Some((name, kind.to_owned(), ticked(cells[2]).map(str::to_owned).collect()))
    };
    rows.filter(|row| row.matches('|').count() == 4).filter_map(row).collect()
}

/// What a registry shows once every handle was asked for.
fn exposed() -> BTreeSet<Row> {
    let metrics = Metrics::new();
    let name = Name::parse("app").unwrap();
    metrics.source("stripe", "proxy", 1).outcomes.count("accepted");
    metrics.upstream(&name).results.count("2xx");
    metrics.dedup("memory").operations.observe("claim", 0.001);
    metrics.audit().records.count("attempt");
    metrics.event_latency(&name, &name).observe(0.1);
    metrics.certificate_expiry("localhost").set(1.0);
    metrics.reloaded(true, 1.0);
    let text = metrics.render();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| row(&text, name, kind)).collect()
}

fn row(text: &str, name: &str, kind: &str) -> Row {
    let suffix = if kind == "counter" { "_total" } else { "" };
    let sample = text.lines().find(|line| {
        let rest = line.strip_prefix(name).map(|rest| rest.split(['{', ' ']).next());
        matches!(rest, Some(Some("" | "_total" | "_sum")))
    });
    let sample = sample.unwrap_or_else(|| panic!("{name} has no sample"));
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let labels = inside.map_or("", |(labels, _)| labels).split(',').filter(|l| !l.is_empty());
    let labels = labels.map(|label| label.split('=').next().unwrap().to_owned());
    (format!("{name}{suffix}"), kind.to_owned(), labels.collect())
}
