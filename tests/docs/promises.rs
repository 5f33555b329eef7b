//! Holds the pages of promises against the source: every line names a test that runs, every name on a page exists, and every
//! name of the source is explained on a page.

use std::collections::BTreeSet;

use crate::{
    page::{Table, links, spans, tables, ticked},
    source,
    source::{Source, body, is_test, root, runs, text},
};

const SHOWN_BY: &str = "shown by";
/// What begins a cell that promises nothing.
const NOTHING: &str = "**none**";
const PAGES: [&str; 2] = ["docs/guarantees.md", "docs/threat-model.md"];

/// Everything that is wrong with a page: sentences.
fn wrong(page: &str, source: &Source) -> Vec<String> {
    let tables = tables(page);
    let mut wrong: Vec<String> = tables.iter().flat_map(unproven).collect();
    wrong.extend(spans(page).into_iter().filter_map(|span| unknown(span, source)));
    wrong.extend(tables.iter().flat_map(|table| invented(table, source)));
    wrong
}

/// Lines that no test shows.
fn unproven(table: &Table) -> Vec<String> {
    if table.head.last().is_none_or(|head| head != SHOWN_BY) {
        // Who there is shows itself; everything else is a claim.
        let claims = table.heading != "Who";
        return claims
            .then(|| format!("the table under {:?} shows nothing", table.heading))
            .into_iter()
            .collect();
    }
    let open = |row: &&Vec<String>| {
        let proven = row.len() == table.head.len() && row.last().is_some_and(|cell| is_proof(cell));
        !proven && !row.iter().any(|cell| cell.starts_with(NOTHING))
    };
    table.rows.iter().filter(open).map(|row| format!("nothing shows {:?}", row[0])).collect()
}

fn is_proof(cell: &str) -> bool {
    ticked(cell).any(|span| is_name(span) || is_path(span))
}

/// Of a test: `binary::module::test`.
fn is_name(span: &str) -> bool {
    span.contains("::") && !span.contains(' ')
}

fn is_path(span: &str) -> bool {
    ["src/", "tests/", "benches/", "deploy/", "docs/", "fuzz/"]
        .iter()
        .any(|top| span.starts_with(top))
}

/// A name of a test, a file, a metric or a key that there is not.
fn unknown(span: &str, source: &Source) -> Option<String> {
    if is_name(span) {
        return runs(span).err();
    }
    if is_path(span) {
        let path = span.split_whitespace().next().unwrap();
        return (!root().join(path).exists()).then(|| format!("there is no {path}"));
    }
    if let Some(name) = span.strip_prefix("gatepost_") {
        let name = format!("gatepost_{}", name.split('{').next().unwrap());
        return (!source.metrics.contains(&name)).then(|| format!("there is no metric {name}"));
    }
    let key = span.split(':').next().unwrap();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let is_key = key.contains('.') && key.chars().all(plain) && !root().join(key).exists();
    let missing = key.split('.').find(|part| !source.keys.contains(*part));
    missing.filter(|_| is_key).map(|part| format!("{key}: there is no key {part}"))
}

/// Names of closed lists in the first cells of tables about them, which the source does not know.
fn invented(table: &Table, source: &Source) -> Vec<String> {
    let column = table.head.first().map_or("", String::as_str);
    let known: BTreeSet<&String> = match column {
        "outcome" => source.outcomes.iter().collect(),
        "reason" => source.limits.iter().chain(source.reasons.keys()).collect(),
        "result" => source.results.iter().collect(),
        "what" => source.control.iter().collect(),
        "crash point" => source.crash_points.iter().collect(),
        _ => return Vec::new(),
    };
    let is_known = |name: &&str| known.iter().any(|known| *known == *name);
    let mut wrong = Vec::new();
    for name in table.column(column).flat_map(ticked).filter(|name| !is_known(name)) {
        wrong.push(format!("{name} is no {column}"));
    }
    for (reason, class) in table.column("reason").zip(table.column("class")) {
        let right = |reason| source.reasons.get(reason).is_some_and(|c| ticked(class).eq([c]));
        if let Some(reason) = ticked(reason).find(|reason| !right(*reason)) {
            wrong.push(format!("{reason} is not counted as {class}"));
        }
    }
    wrong
}

/// Names that the source knows and a page of guarantees does not explain.
fn unexplained(page: &str, source: &Source) -> Vec<String> {
    let tables = tables(page);
    let mut wrong = Vec::new();
    let mut explained = |column: &str, names: &mut dyn Iterator<Item = &String>| {
        let cells = tables.iter().flat_map(|table| table.column(column));
        let said: BTreeSet<&str> = cells.flat_map(ticked).collect();
        let missing = names.filter(|name| !said.contains(name.as_str()));
        wrong.extend(missing.map(|name| format!("nothing explains the {column} {name}")));
    };
    explained("outcome", &mut source.outcomes.iter());
    explained("reason", &mut source.reasons.keys().chain(&source.limits));
    explained("result", &mut source.results.iter());
    explained("what", &mut source.control.iter());
    explained("crash point", &mut source.crash_points.iter());
    explained("what is on record", &mut source.excuses.iter());
    let excuses: usize = tables.iter().map(|table| table.column("excuse").count()).sum();
    if excuses != source.excuse_count {
        wrong.push(format!("{excuses} excuses, and the model knows {}", source.excuse_count));
    }
    let said = tables.iter().flat_map(|table| table.column("what is on record")).flat_map(ticked);
    let known = |said: &&str| {
        let all = [&source.kinds, &source.outcomes, &source.excuses];
        *said == "event_id" || all.iter().any(|names| names.contains(*said))
    };
    wrong.extend(said.filter(|said| !known(said)).map(|said| format!("{said} is on no record")));
    wrong
}

#[test]
fn every_line_names_a_test_and_every_name_exists() {
    let source = source();
    for path in PAGES {
        let page = text(path);
        let lines: usize = tables(&page).iter().map(|table| table.rows.len()).sum();
        assert!(lines > 60, "{path}: the tables are found");
        assert_eq!(wrong(&page, &source), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn every_name_of_the_source_is_explained() {
    let source = source();
    let sizes = [
        source.outcomes.len(),
        source.reasons.len(),
        source.crash_points.len(),
        source.excuses.len(),
    ];
    assert!(sizes.iter().zip([30, 14, 13, 5]).all(|(found, least)| *found >= least), "{sizes:?}");
    assert_eq!(unexplained(&text(PAGES[0]), &source), Vec::<String>::new());
}

/// A process is ended at each of them, by its name, in some test.
#[test]
fn every_crash_point_is_crashed_at() {
    let points = source().crash_points;
    let mut files = Vec::new();
    for folder in ["tests/faults", "tests/it"] {
        source::rust_below(&root().join(folder), &mut files);
    }
    let tests: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let named = |point: &&String| {
        tests.contains(&format!("\"{point}\"")) || tests.contains(&format!("\"{point}:"))
    };
    let never: Vec<_> = points.iter().filter(|point| !named(point)).collect();
    assert!(never.is_empty(), "no test ends the process at {never:?}");
}

/// What is put in the place of what on the page of guarantees, and what must be said of it then.
const SPOILT: [(&str, &str, &str); 22] = [
    (
        "`it::shadow::what_would_be_refused",
        "`it::shadow::what_would_not_be_refused",
        "no such function",
    ),
    ("`it::shadow::what_would_be_refused", "`it::shade::what_would_be_refused", "no module shade"),
    ("`disk::faults::nothing_is", "`disc::faults::nothing_is", "no test binary disc"),
    ("`sim::forged::a_wrong_answer_is_found`", "`sim::forged::honest`", "it is not a test"),
    (
        "`gatepost_dedup_store_up`",
        "`gatepost_dedup_store_down`",
        "there is no metric gatepost_dedup_store_down",
    ),
    (
        "`tests/edge/byte_exact.py`",
        "`tests/edge/byte_inexact.py`",
        "there is no tests/edge/byte_inexact.py",
    ),
    ("`limits.body_memory`", "`limits.body_memories`", "there is no key body_memories"),
    ("`tests/edge/byte_exact.py` |", "|", "nothing shows \"Through the nginx"),
    (
        "| excuse | what is on record | what the app is told | counted by | shown by |",
        "| excuse | what is on record | what the app is told | counted by | |",
        "shows nothing",
    ),
    ("| `too_slow` |", "| `too_sluggish` |", "too_sluggish is no outcome"),
    ("| `too_slow` |", "| `unreadable` |", "nothing explains the outcome too_slow"),
    (
        "| `header_repeated` | `encoding` |",
        "| `header_repeated` | `missing` |",
        "header_repeated is not counted as `missing`",
    ),
    ("| `secret_expired` |", "| `secret_lapsed` |", "secret_lapsed is no reason"),
    ("| `secret_expired` |", "| `input_missing` |", "nothing explains the reason secret_expired"),
    ("| `body_memory` |", "| `disk` |", "nothing explains the reason body_memory"),
    ("| `garbage` |", "| `rubbish` |", "rubbish is no result"),
    ("| `damage_found` |", "| `torn_tail_cut` |", "nothing explains the what damage_found"),
    (
        "`after_complete`, `before_answer`",
        "`before_answer`",
        "nothing explains the crash point after_complete",
    ),
    ("`before_claim` |", "`before_the_claim` |", "before_the_claim is no crash point"),
    (
        "with `dedup_unavailable`",
        "with nothing",
        "nothing explains the what is on record dedup_unavailable",
    ),
    (
        "with `dedup_unavailable`",
        "with `dedup_unavailable` and `dedup_gone`",
        "dedup_gone is on no record",
    ),
    (
        "| **A lease was overrun.**",
        "\n| **A lease was overrun.**",
        "excuses, and the model knows 6",
    ),
];

/// Pages that say something wrong, one thing each.
#[test]
fn a_wrong_page_is_found_out() {
    let (source, page) = (source(), text(PAGES[0]));
    for (from, to, found) in SPOILT {
        assert!(page.contains(from), "nothing to spoil: {from}");
        let spoilt = page.replacen(from, to, 1);
        let said = [wrong(&spoilt, &source), unexplained(&spoilt, &source)].concat();
        assert!(said.iter().any(|said| said.contains(found)), "{to:?}: {said:?}");
    }
    assert_eq!(is_test("#[test]\n#[ignore]\nfn a() {}", "a"), Err("it is ignored"));
    assert_eq!(is_test("#[test]\nfn a() {}\n\nfn b() {}", "b"), Err("it is not a test"));
    assert_eq!(
        is_test("/// Why.\n#[tokio::test(start_paused = true)]\nasync fn a() {}", "a"),
        Ok(())
    );
}

/// The README promises under the names that the page of guarantees explains, and sends people there.
#[test]
fn the_readme_promises_what_the_guarantees_explain() {
    let (readme, page) = (text("README.md"), text(PAGES[0]));
    assert!(links(&readme).contains(&PAGES[0]));
    let promises = readme.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next());
    let promises: Vec<&str> = promises.map(|promise| promise.trim_end_matches('.')).collect();
    assert!(promises.len() >= 6, "{promises:?}");
    let heading = |line: &str, promise: &str| line.starts_with("## ") && line.ends_with(promise);
    for promise in promises {
        assert!(
            page.lines().any(|line| heading(line, promise)),
            "no guarantee is called {promise:?}"
        );
    }
}

/// Files that pages name or link to are there, and so are metrics, also those in commands and expressions.
#[test]
fn every_file_and_metric_that_a_page_names_is_there() {
    let mut pages = vec!["README.md".to_owned(), "src/ARCHITECTURE.md".to_owned()];
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    // A folder's pages are made from something, and held equal to it elsewhere.
    let docs = docs.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let docs = docs.map(|entry| entry.file_name().into_string().unwrap());
    pages.extend(docs.map(|name| format!("docs/{name}")));
    assert!(pages.len() > 12);
    let metrics = source().metrics;
    let mut missing = Vec::new();
    for path in &pages {
        let page = text(path);
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let linked = links(&page).into_iter().map(|link| root().join(dir).join(link));
        let named = spans(&page).into_iter().filter(|span| is_path(span) && !span.contains('…'));
        let named = named.map(|span| root().join(span.split_whitespace().next().unwrap()));
        let gone = linked.chain(named).filter(|file| !file.exists());
        missing.extend(gone.map(|file| format!("{path}: {}", file.display())));
        let words = page.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let unknown =
            words.filter(|word| word.starts_with("gatepost_") && !metrics.contains(*word));
        missing.extend(unknown.map(|word| format!("{path}: {word}")));
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn unsafe_code_is_forbidden() {
    assert!(text("Cargo.toml").lines().any(|line| line.starts_with("unsafe_code = \"forbid\"")));
}

/// What the page of the protocol says of the model is what the model does.
#[test]
fn the_protocol_page_counts_as_the_model_does() {
    let (page, bugs, promises) =
        (text("docs/protocol.md"), text("tests/model/bugs.rs"), text("tests/model/promises.rs"));
    let tables = tables(&page);
    // S1 and so on, by the name in the model's source.
    let named = body(&promises, "fn name(self)");
    let named = named.lines().filter_map(|line| {
        let (variant, text) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
        Some((variant.to_owned(), text.split(':').next()?.to_owned()))
    });
    let named: Vec<(String, String)> = named.collect();
    let told: Vec<&str> =
        tables.iter().filter(|t| t.head == ["", "promise"]).flat_map(|t| t.column("")).collect();
    assert_eq!(named.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>(), told);
    for (variant, promise) in &named {
        let seeded = bugs.matches(&format!(", Promise::{variant})")).count();
        let told = tables
            .iter()
            .flat_map(|table| table.column("breaks"))
            .filter(|breaks| breaks == promise)
            .count();
        assert_eq!(seeded, told, "mistakes that break {promise}");
    }
    let seeded = text("tests/store_contract/seeded.rs");
    for (list, said) in
        [("IN_SCRIPTS: [Mistake; ", "Redis ("), ("IN_TABLES: [&str; ", "SQLite keeps (")]
    {
        let number = |text: &str, before: &str| {
            text.split(before).nth(1)?.split([' ', ']']).next()?.parse::<u32>().ok()
        };
        assert!(number(&seeded, list).is_some());
        assert_eq!(number(&seeded, list), number(&page, said), "ways to spoil {said}");
    }
}
