//! The attacks that this is built against, row by row, and the tests that hold each of them.

mod around;
mod connections;
mod events;
mod set_out;
mod signatures;

use std::{fs, path::Path};

use set_out::SET_OUT;

/// An attack. What holds it stands below `tests/`: a test (`file::function`), one of what a test goes through (`file::function
/// with NAME`), a function of a benchmark, or a script that CI runs.
pub(crate) struct Row {
    attack: &'static str,
    held: &'static [&'static str],
    /// What of it is not so here, and why.
    but: &'static str,
}

/// In the order of [`SET_OUT`].
const TABLES: [&[Row]; 8] = [
    signatures::SIGNATURES,
    events::EVENTS,
    connections::FRAMING,
    connections::FLOODS,
    connections::TLS,
    around::HEADERS,
    around::ADMIN,
    around::TAMPER,
];

/// Tables that are not in the file of the test that goes through them.
const ELSEWHERE: [(&str, &str); 2] =
    [("server/flood.rs", "support/h2.rs"), ("server/http1.rs", "server/http1.json")];

fn text(file: &str) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    fs::read_to_string(tests.join(file)).unwrap_or_default()
}

/// Whether there is a test of this name that is run, a script of CI, or a function that a benchmark runs.
fn is_held(by: &str) -> bool {
    let (by, with) = by.split_once(" with ").unwrap_or((by, ""));
    let Some((file, function)) = by.split_once("::") else {
        return text("all").contains(&format!(" tests/{by}")) && !text(by).is_empty();
    };
    let source = text(file);
    let elsewhere = ELSEWHERE.iter().find(|(test, _)| *test == file);
    let table = elsewhere.map_or_else(|| source.clone(), |(_, table)| text(table));
    if !with.is_empty() && !table.contains(&format!("\"{with}\"")) {
        return false;
    }
    if file.starts_with("../") {
        let main = source.split("\nfn main()").nth(1).unwrap_or_default();
        return main.contains(&format!(" {function}(")) || main.contains(&format!("({function}("));
    }
    is_run(&source, function)
}

fn is_run(source: &str, function: &str) -> bool {
    if function == "admin_exposed" {
        return source.contains(" admin_exposed "); // made by a macro, from a list of names
    }
    let Some(at) = source.find(&format!("fn {function}(")) else { return false };
    let attributes = source[..at].rsplit("\n\n").next().unwrap_or_default();
    ["test]", "test("].iter().any(|is| attributes.contains(is)) && !attributes.contains("ignore")
}

/// A test that was renamed or lost leaves its row open. What nothing holds has a reason.
#[test]
fn every_row_has_its_tests() {
    for row in TABLES.into_iter().flatten() {
        assert!(!row.held.is_empty() || !row.but.is_empty(), "{}", row.attack);
        for test in row.held {
            assert!(is_held(test), "{}: no {test}", row.attack);
        }
    }
}

#[test]
fn what_is_no_test_holds_nothing() {
    for held in [
        "pure/attacks.rs::every_row_has_its_tests",
        "server/flood.rs::every_flood_ends_its_connection_and_no_other with rapid reset",
        "../benches/timing.rs::measure",
        "../benches/timing.rs::lookup",
        "tls/check",
    ] {
        assert!(is_held(held), "{held}");
    }
    for none in [
        "pure/attacks.rs::is_held",
        "pure/attacks.rs::nothing",
        "pure/none.rs::x",
        "pure/attacks.rs",
        "server/flood.rs::every_flood_ends_its_connection_and_no_other with a flood of nothing",
        "../benches/timing.rs::verifier",
        "tls/nothing",
        "tls",
    ] {
        assert!(!is_held(none), "{none}");
    }
}

/// What of [`SET_OUT`] has no row in these tables.
fn given_up(tables: &[Vec<&str>]) -> Vec<&'static str> {
    assert_eq!(tables.len(), SET_OUT.len());
    let sections = SET_OUT.iter().zip(tables);
    let gone = |((_, rows), table): (&(&str, &'static [&'static str]), &Vec<&str>)| {
        let rows = rows.iter().copied();
        rows.filter(|row| !table.contains(row)).collect::<Vec<_>>()
    };
    sections.flat_map(gone).collect()
}

#[test]
fn nothing_that_was_set_out_is_given_up() {
    let tables = TABLES.map(|table| table.iter().map(|row| row.attack).collect::<Vec<_>>());
    assert_eq!(given_up(&tables), Vec::<&str>::new());
    for (at, (section, rows)) in SET_OUT.iter().enumerate() {
        for row in *rows {
            let mut fewer = tables.clone();
            fewer[at].retain(|attack| attack != row);
            assert_eq!(tables[at].len(), fewer[at].len() + 1, "{section}: {row} stands there once");
            assert_eq!(given_up(&fewer), [*row], "nobody misses it");
        }
    }
}

/// How many rows the list has, section by section.
#[test]
fn the_list_is_all_there() {
    let rows = SET_OUT.map(|(_, rows)| rows.len());
    assert_eq!(rows, [23, 12, 20, 14, 9, 9, 7, 8]);
}
