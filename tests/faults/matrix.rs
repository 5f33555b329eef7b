//! Which test holds which cell of the matrix of faults and promises: the one table, from which `docs/faults.md` is made.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use Amid::{Always, Never, Round};

use crate::{
    network::Line,
    signals::{NOREPLICAS, OOM, PAUSED, READONLY, TROUBLES},
    trouble::Trouble::{self, *},
};

/// A fault, the promises that it must not break, and who shows that.
struct Row {
    fault: &'static str,
    /// Letters of [`PROMISES`].
    cells: &'static str,
    /// Letters, and the test that holds them: `binary::module::name`.
    held: &'static [(&'static str, &'static str)],
    /// Words of each part of the fault, and how it comes amid reloads, rotations and orderly ends (`signals`).
    amid: &'static [(&'static str, Amid)],
}

/// How a fault comes amid reloads.
#[derive(Clone, Copy)]
enum Amid {
    /// One of its troubles, each of which has a round.
    Round(Trouble),
    /// All the time, by these words of its source.
    Always(&'static str),
    /// It does not, and why.
    Never(&'static str),
}

const PROMISES: [(char, &str); 8] = [
    ('A', "what was acknowledged is delivered"),
    ('D', "at most once, plus one per excuse on record"),
    ('R', "on record before it takes effect"),
    ('V', "nothing that was not verified passes"),
    ('I', "sources are apart"),
    ('W', "nothing is stuck for longer than a lease"),
    ('M', "memory and descriptors are bounded"),
    ('X', "the answer is right for the sender"),
];

const FILES: &str = "comes to files of the store while no gateway has them open: `faults::damage`";

const ROWS: &[Row] = &[
    Row {
        fault: "`kill -9` at each crash point, and at random",
        cells: "ADRVWX",
        held: &[
            ("ADRWX", "faults::points::a_crash_at_each_point_with_the_embedded_store"),
            ("ADRWX", "faults::points::a_crash_at_each_point_with_redis"),
            ("ADRVWX", "faults::kill::kills_lose_nothing_with_the_embedded_store"),
            ("ADRVWX", "faults::kill::kills_lose_nothing_with_two_gateways_on_one_redis"),
            (
                "V",
                "faults::signals::forged_events_among_honest_ones_under_kills_and_reloads_get_nowhere",
            ),
        ],
        amid: &[
            (
                "`kill -9` at each crash point",
                Never(
                    "the process ends at the point, whatever it was told: `faults::points`, `faults::kill`",
                ),
            ),
            ("at random", Always("gateway.kill().await")),
        ],
    },
    Row {
        fault: "gateway stopped for longer than its lease, then going on (stale owner)",
        cells: "ADRWX",
        held: &[("ADRWX", "faults::line::a_stale_owner_that_goes_on")],
        amid: &[
            ("stopped for longer than its lease", Round(Asleep)),
            ("then going on (stale owner)", Round(Asleep)),
        ],
    },
    Row {
        fault: "Redis refuses, times out, is slow (200 ms), answers by half, is cut off, half closed, garbled",
        cells: "ADRWMX",
        held: &[
            ("ADRWX", "faults::line::a_line_that_misbehaves"),
            ("ADRWX", "faults::redis::a_redis_that_refuses_connections"),
            ("ADRWX", "faults::line::a_slow_line_delays_and_does_no_more"),
            ("ADRWX", "faults::line::without_redis_a_source_may_choose_duplicates"),
            (
                "ADRWMX",
                "faults::bounds::a_line_that_misbehaves_costs_no_more_than_the_limits_allow",
            ),
        ],
        amid: &[
            ("Redis refuses", Round(Emptied)),
            ("times out", Round(Line(Line::Frozen))),
            ("is slow (200 ms)", Round(Slow)),
            ("answers by half", Round(Line(Line::HalfAnswer))),
            ("is cut off", Round(Line(Line::Cut))),
            ("half closed", Round(Line(Line::HalfClosed))),
            ("garbled", Round(Line(Line::Garbled))),
        ],
    },
    Row {
        fault: "Redis stopped or paused; commands carried out later",
        cells: "ADWX",
        held: &[
            ("ADWX", "faults::redis::a_stopped_redis_that_carries_commands_out_later"),
            ("ADWX", "faults::redis::a_paused_redis"),
        ],
        amid: &[
            ("Redis stopped", Round(Stopped)),
            ("or paused", Round(PAUSED)),
            ("commands carried out later", Round(Stopped)),
        ],
    },
    Row {
        fault: "Redis flushed, evicting, restarted empty, stale replica promoted",
        cells: "ADRIWX",
        held: &[
            ("ADRIWX", "faults::redis::a_flushed_redis"),
            ("ADRIWX", "faults::redis::an_evicting_redis_costs_as_many_duplicates_as_keys"),
            ("ADRIWX", "faults::redis::a_killed_redis_that_comes_back_empty"),
            ("ADRIWX", "faults::redis::a_stale_replica_that_takes_over"),
        ],
        amid: &[
            ("Redis flushed", Round(Flushed)),
            ("evicting", Round(Evicted)),
            ("restarted empty", Round(Emptied)),
            ("stale replica promoted", Round(Stale)),
        ],
    },
    Row {
        fault: "partition after the forward, before *done* is written",
        cells: "ADRWX",
        held: &[("ADRWX", "faults::line::a_partition_after_the_forward")],
        amid: &[
            ("partition after the forward", Round(Line(Line::Cut))),
            ("before *done* is written", Round(Line(Line::Cut))),
        ],
    },
    Row {
        fault: "Redis restarted without its scripts (NOSCRIPT), READONLY, OOM, MISCONF, NOREPLICAS, LOADING",
        cells: "ADWX",
        held: &[
            ("ADWX", "faults::redis::a_restarted_redis_that_remembers_but_for_its_scripts"),
            ("ADWX", "faults::redis::a_redis_that_takes_no_writes"),
            ("ADWX", "faults::redis::a_redis_that_cannot_save"),
            ("ADWX", "faults::redis::a_redis_that_is_still_loading"),
        ],
        amid: &[
            ("restarted without its scripts (NOSCRIPT)", Round(Scripts)),
            ("READONLY", Round(READONLY)),
            ("OOM", Round(OOM)),
            ("MISCONF", Round(Unsaved)),
            ("NOREPLICAS", Round(NOREPLICAS)),
            ("LOADING", Round(Loading)),
        ],
    },
    Row {
        fault: "Redis Cluster moves slots (MOVED, ASK)",
        cells: "ADWX",
        held: &[
            ("ADWX", "faults::redis::a_cluster_that_moves_its_slots"),
            ("ADWX", "faults::redis::a_cluster_whose_slots_are_half_moved"),
        ],
        amid: &[("moves slots (MOVED", Round(Moving)), ("ASK)", Round(HalfMoved))],
    },
    Row {
        fault: "upstream 2xx, 4xx, 5xx, timeout, reset before and after its head, half an answer, garbage, 1xx and header floods, a gigabyte, late 2xx, away",
        cells: "ADRWMX",
        held: &[
            ("ADRWMX", "faults::upstream::every_way_to_fail_is_told_and_the_event_goes_through"),
            ("MX", "faults::upstream::a_flood_of_1xx_stops_nobody_else"),
            ("ADRWMX", "faults::upstream::floods_of_an_app_leave_nothing"),
            ("ADRWMX", "faults::upstream::an_app_in_chaos_loses_nothing"),
            ("ADRWX", "faults::upstream::an_app_that_is_not_there_releases_the_claim"),
        ],
        amid: &[
            ("upstream 2xx", Always("chaos(5)")),
            ("4xx", Always("chaos(5)")),
            ("5xx", Always("chaos(5)")),
            ("timeout", Always("chaos(5)")),
            ("reset before and after its head", Always("chaos(5)")),
            ("half an answer", Always("chaos(5)")),
            ("garbage", Always("chaos(5)")),
            ("1xx and header floods", Always("chaos(5)")),
            ("a gigabyte", Always("chaos(5)")),
            ("late 2xx", Always("chaos(5)")),
            (
                "away",
                Never(
                    "an app that is not there is sent nothing; the claim is released as after its 5xx, which are there",
                ),
            ),
        ],
    },
    Row {
        fault: "audit log: ENOSPC, EIO, short write, slow sync, before and after the forward",
        cells: "ADRWX",
        held: &[
            ("ADRWX", "faults::disk::a_record_that_fails_takes_nothing_more_until_a_restart"),
            ("ADRWX", "faults::disk::a_full_disk_refuses_until_there_is_room"),
            ("ADRWX", "faults::disk::a_slow_disk_delays_and_does_no_more"),
            (
                "AR",
                "disk::crash::whatever_a_power_cut_leaves_is_taken_up_and_nothing_acknowledged_is_lost",
            ),
            ("AR", "audit::after_a_failed_sync_nothing_is_written_until_a_restart"),
            ("AR", "audit::a_full_disk_refuses_and_recovers"),
            ("A", "audit::every_cut_of_the_file_recovers_to_a_prefix_of_its_records"),
        ],
        amid: &[
            ("audit log: ENOSPC", Round(Record("pwrite64", "error=ENOSPC"))),
            ("EIO", Round(Record("fdatasync", "error=EIO"))),
            ("short write", Round(Full)),
            ("slow sync", Round(SlowRecord)),
            ("before and after the forward", Round(Record("fdatasync", "error=EIO"))),
        ],
    },
    Row {
        fault: "embedded store: ENOSPC, EIO, torn tail, zero tail, bit flip, missing directory entry",
        cells: "ADRIWX",
        held: &[
            ("ADRIWX", "faults::disk::a_store_that_fails_refuses_and_recovers"),
            ("ADRIWX", "faults::disk::a_full_disk_refuses_until_there_is_room"),
            ("ADRIWX", "faults::damage::a_damaged_store_costs_no_more_than_it_has_forgotten"),
            ("AR", "it::disk::the_names_of_a_first_start_are_durable"),
            ("AW", "store_contract::embedded::a_disk_that_fails_refuses_claims_and_recovers"),
            (
                "AW",
                "store_contract::damaged::an_event_on_a_damaged_page_is_refused_and_no_other_one",
            ),
        ],
        amid: &[
            ("embedded store: ENOSPC", Round(Store("pwrite64", "error=ENOSPC"))),
            ("EIO", Round(Store("fdatasync,fsync", "error=EIO"))),
            ("torn tail", Never(FILES)),
            ("zero tail", Never(FILES)),
            ("bit flip", Never(FILES)),
            ("missing directory entry", Never(FILES)),
        ],
    },
    Row {
        fault: "wall clock -10 years, +10 years, ×100, a step inside the tolerance",
        cells: "DRVWX",
        held: &[
            (
                "DRVWX",
                "faults::clock::a_wall_clock_that_is_wrong_neither_repeats_nor_blocks_an_event",
            ),
            ("DRWX", "faults::clock::a_claim_is_kept_while_its_owners_wall_clock_jumps"),
            (
                "DRWX",
                "faults::clock::a_wall_clock_of_redis_that_is_wrong_costs_what_it_forgets_and_blocks_nothing",
            ),
            (
                "DW",
                "store_contract::differential::a_redis_whose_clock_leaps_answers_as_the_pure_functions_do",
            ),
            ("DX", "it::disk::a_clock_that_jumps_ten_years_breaks_neither_the_record_nor_dedup"),
        ],
        amid: &[
            ("wall clock -10 years", Round(Clock("-3650d"))),
            ("+10 years", Round(Clock("+3650d"))),
            ("×100", Round(Clock("+0 x100"))),
            ("a step inside the tolerance", Round(Step("+60"))),
        ],
    },
    Row {
        fault: "sender hangs up (close, FIN, reset, RST_STREAM) before and after the claim, during the forward, while joining",
        cells: "ADRWM",
        held: &[
            ("ADRW", "faults::client::a_sender_that_leaves_cancels_nothing"),
            ("ADRWM", "faults::client::a_request_that_breaks_off_leaves_nothing"),
            ("ADRW", "faults::client::a_twin_that_leaves_while_it_waits_takes_nobody_along"),
            ("ADRWM", "faults::client::impatient_senders_lose_nothing"),
            ("ADRWM", "faults::streams::a_stream_that_is_reset_cancels_nothing"),
            ("ADRW", "faults::streams::a_twin_whose_stream_is_reset_takes_nobody_along"),
        ],
        amid: &[
            ("sender hangs up (close", Always("senders.rude(5)")),
            ("FIN", Always("senders.rude(5)")),
            ("reset", Always("senders.rude(5)")),
            ("RST_STREAM) before and after the claim", Always("streams.reset(stream).await")),
            ("during the forward", Always("streams.reset(stream).await")),
            ("while joining", Always("senders.rude(5)")),
        ],
    },
    Row {
        fault: "100 equal deliveries at once on two gateways",
        cells: "ADRWMX",
        held: &[("ADRWMX", "faults::client::a_hundred_twins_on_two_gateways_of_which_some_leave")],
        amid: &[("100 equal deliveries at once on two gateways", Round(Twins))],
    },
    Row {
        fault: "hostile flood while honest events come",
        cells: "VIMX",
        held: &[
            ("MX", "it::hostile::attacks_end_and_cost_nobody_else_anything"),
            ("M", "it::hostile::bodies_in_flight_keep_their_budget"),
            ("V", "it::redis::strangers_cause_no_command"),
            ("V", "it::strangers::redis_hears_nothing_of_a_flood_even_while_it_is_reached_anew"),
            ("VI", "it::strangers::a_flood_leaves_a_bounded_sample_and_touches_no_other_source"),
            ("VIMX", "faults::flood::honest_events_go_through_a_flood_as_if_it_were_not_there"),
        ],
        amid: &[("hostile flood while honest events come", Round(Strangers))],
    },
    Row {
        fault: "reload, rotation, SIGTERM during all the above",
        cells: "ADRVIWX",
        held: &[
            ("AX", "it::handover::reloads_and_restarts_under_load_fail_no_request"),
            (
                "ADRVIWX",
                "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_with_the_embedded_store",
            ),
            (
                "ADRVIWX",
                "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_on_a_disk_that_fills_by_a_clock_that_jumps",
            ),
            ("ADRVIWX", "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_with_redis"),
            (
                "ADRVIWX",
                "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_with_a_redis_that_forgets_and_refuses",
            ),
            (
                "ADRVIWX",
                "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_with_a_cluster_that_moves_slots",
            ),
            (
                "ADRVIWX",
                "faults::signals::reloads_and_restarts_in_turmoil_lose_nothing_beside_another_gateway",
            ),
            (
                "ADRX",
                "faults::signals::streams_that_are_reset_amid_reloads_and_orderly_ends_lose_nothing",
            ),
            (
                "V",
                "faults::signals::forged_events_among_honest_ones_under_kills_and_reloads_get_nowhere",
            ),
        ],
        amid: &[],
    },
];

/// What was set out to be held: words that stand in the fault of one row, and the letters that this row has at the least. The
/// table may say more; a fault or a letter that goes from it, goes from here in the open.
const SET_OUT: [(&str, &str); 16] = [
    ("`kill -9`, crash point, random", "ADRVWX"),
    ("stopped for longer than its lease, stale owner", "ADRWX"),
    ("Redis, refuses, times out, slow (200 ms), answers by half", "ADRWMX"),
    ("Redis stopped, carried out later", "ADWX"),
    ("Redis flushed, evicting, stale replica promoted", "ADRIX"),
    ("partition after the forward, before *done*", "ADRWX"),
    ("NOSCRIPT, READONLY, OOM, MISCONF, NOREPLICAS, LOADING", "ADWX"),
    ("MOVED, ASK", "ADWX"),
    (
        "upstream 2xx, 4xx, 5xx, timeout, reset before and after, half an answer, late 2xx, garbage",
        "ADRWMX",
    ),
    ("audit log, ENOSPC, EIO, short write, slow sync, before and after the forward", "ADRWX"),
    ("store, ENOSPC, EIO, torn tail, zero tail, bit flip, missing directory entry", "ADRIWX"),
    ("wall clock, -10 years, +10 years, ×100, step inside the tolerance", "DRVWX"),
    (
        "hangs up, close, FIN, RST_STREAM, before and after the claim, during the forward, joining",
        "ADRWM",
    ),
    ("100 equal deliveries, two gateways", "ADRWMX"),
    ("hostile flood while honest", "VIMX"),
    ("reload, rotation, SIGTERM, during all the above", "ADRVIWX"),
];

const HEAD: &str = "# Faults\n\n\
    What may fail, what must hold all the same, and the test that shows it. Each test runs the real binary, or says in its own words what it\n\
    runs instead. One of the *ledger* holds three records against each other: what senders were told, what the app received, and what the\n\
    audit log says. Every cell has such a test; the other ones look at a part of it by themselves.\n\
    For **R** in `faults` the app looks, whenever it receives an event, for its attempt in the files of the record as they are at that\n\
    moment; one that comes later, or never, breaks the run. That it is synced by then is shown by `sim`, `disk` and `audit`, whose disks\n\
    know.\n\
    This page is made from the table in `tests/faults/matrix.rs`, which a test compares with it; `BLESS=1 cargo test --test faults matrix`\n\
    writes it anew.\n\n";

const AMID: &str = "\n## Amid reloads, rotations and orderly ends\n\n\
    What *all the above* of the last row is. In `faults::signals` a gateway is reloaded before each fault and in the middle of it, with more\n\
    secrets than before, the last of which half of the senders sign with from then on; then it ends in order, while the fault lasts. Every\n\
    fault of the other rows comes there, in a round of its own or all through a test, but for these:\n\n";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (letter, promise) in PROMISES {
        writeln!(page, "* **{letter}**: {promise}").unwrap();
    }
    page += "\n| fault | must hold | test | holds | ledger |\n|---|---|---|---|---|\n";
    for row in ROWS {
        let mut fault = row.fault;
        let mut cells = row.cells;
        for (held, test) in row.held {
            let ledger = if is_of_the_ledger(test) { "yes" } else { "" };
            writeln!(page, "| {fault} | {cells} | `{test}` | {held} | {ledger} |").unwrap();
            (fault, cells) = ("", "");
        }
    }
    page += AMID;
    for (words, amid) in ROWS.iter().flat_map(|row| row.amid) {
        if let Never(why) = amid {
            writeln!(page, "* {words}: {why}").unwrap();
        }
    }
    page
}

/// What of [`SET_OUT`] is not in these rows, each with the words of its fault and its letters.
fn given_up(rows: &[(&str, &str)]) -> Vec<&'static str> {
    let is_there = |words: &str, letters: &str| {
        let of_it = |fault: &str| words.split(", ").all(|word| fault.contains(word));
        let mut of_it = rows.iter().filter(|(fault, _)| of_it(fault));
        of_it.any(|(_, cells)| letters.chars().all(|letter| cells.contains(letter)))
    };
    let gone = SET_OUT.iter().filter(|(words, letters)| !is_there(words, letters));
    gone.map(|(words, _)| *words).collect()
}

#[test]
fn nothing_that_was_set_out_is_given_up() {
    let rows: Vec<_> = ROWS.iter().map(|row| (row.fault, row.cells)).collect();
    assert_eq!(given_up(&rows), Vec::<&str>::new());
    for at in 0..rows.len() {
        let mut fewer = rows.clone();
        let gone = fewer.remove(at);
        assert!(!given_up(&fewer).is_empty(), "nobody misses {gone:?}");
        let mut narrower = rows.clone();
        narrower[at].1 = &narrower[at].1[1..];
        assert!(!given_up(&narrower).is_empty(), "nobody misses the first letter of {gone:?}");
    }
}

#[test]
fn every_cell_is_held_by_a_test_of_the_ledger() {
    for row in ROWS {
        let joined = row.held.iter().filter(|(_, test)| is_of_the_ledger(test));
        let held: String = joined.map(|(held, _)| *held).collect();
        let open: Vec<_> = row.cells.chars().filter(|cell| !held.contains(*cell)).collect();
        assert!(open.is_empty(), "{}: no test holds {open:?}", row.fault);
    }
}

/// The text of the file that a test `binary::module::name` is in, and its name.
fn file(test: &str) -> Option<(String, &str)> {
    let (module, name) = test.rsplit_once("::")?;
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = [format!("{path}.rs"), format!("{path}/main.rs"), format!("{path}/mod.rs")];
    let text = files.iter().find_map(|file| fs::read_to_string(root.join(file)).ok())?;
    Some((text, name))
}

/// What of its file comes before a test.
fn source(test: &str) -> Option<String> {
    let (text, name) = file(test)?;
    let at = text.find(&format!("fn {name}("))?;
    Some(text[..at].to_owned())
}

/// Where all rules of the ledger are held against a run.
const JOINED: [&str; 5] =
    ["sound(", "seen_through(", "ledger.check()", "scene.settle(", "scene.settle_whole("];

/// Whether a test of `faults` joins the records: it does, or a function of its file that it calls.
fn is_of_the_ledger(test: &str) -> bool {
    let (text, name) = file(test).unwrap_or_else(|| panic!("there is no {test}"));
    let functions: BTreeSet<_> = text.split("fn ").skip(1).filter_map(named).collect();
    let (mut open, mut seen) = (vec![name], BTreeSet::new());
    while let Some(name) = open.pop() {
        let body = body(&text, name);
        if JOINED.iter().any(|joined| body.contains(joined)) {
            return test.starts_with("faults::");
        }
        let called = |other: &&&str| body.contains(&format!("{other}("));
        open.extend(functions.iter().filter(called).filter(|other| seen.insert(**other)));
    }
    false
}

/// The name that a text begins with, where it is a function's.
fn named(text: &str) -> Option<&str> {
    let name = text.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    text[name.len()..].starts_with('(').then_some(name)
}

/// A function without its head: what is indented more than that.
fn body<'a>(text: &'a str, name: &str) -> &'a str {
    let Some((before, from)) = text.split_once(&format!("fn {name}(")) else { return "" };
    let line = before.rsplit('\n').next().unwrap();
    let indent = " ".repeat(line.len() - line.trim_start().len());
    let end = from.find(&format!("\n{indent}}}\n")).unwrap_or(from.len());
    &from[..end]
}

#[test]
fn who_joins_the_records_is_known() {
    for (joins, test) in [
        (true, "faults::line::a_partition_after_the_forward"),
        (true, "faults::points::a_crash_at_each_point_with_redis"), // by `crash`
        (true, "faults::kill::kills_lose_nothing_with_the_embedded_store"), // by `hold`
        (false, "faults::matrix::every_cell_is_held_by_a_test_of_the_ledger"),
        (false, "it::hostile::bodies_in_flight_keep_their_budget"),
    ] {
        assert_eq!(is_of_the_ledger(test), joins, "{test}");
    }
}

/// What of the faults is neither there amid reloads nor has a reason why not.
fn not_amid(troubles: &[Trouble], source: &str) -> Vec<String> {
    let (_, rows) = ROWS.split_last().unwrap(); // the last one is about them
    let mut missing = Vec::new();
    for Row { fault, amid, .. } in rows {
        let parts = fault.split([',', ';']).map(str::trim);
        let unknown = parts.filter(|part| !amid.iter().any(|(words, _)| part.contains(words)));
        missing.extend(unknown.map(str::to_owned));
        let gone = |(words, amid): &&(&str, Amid)| {
            let comes = match amid {
                Round(trouble) => troubles.contains(trouble),
                Always(said) => source.contains(said),
                Never(why) => !why.is_empty(),
            };
            !comes || !fault.contains(words)
        };
        missing.extend(amid.iter().filter(gone).map(|(words, _)| (*words).to_owned()));
    }
    missing
}

#[test]
fn every_other_fault_comes_amid_reloads_or_it_is_said_why_not() {
    let (troubles, source) = (TROUBLES.concat(), include_str!("signals.rs"));
    assert_eq!(not_amid(&troubles, source), Vec::<String>::new());
    for gone in &troubles {
        let fewer: Vec<_> = troubles.iter().copied().filter(|trouble| trouble != gone).collect();
        assert!(!not_amid(&fewer, source).is_empty(), "nobody misses {gone:?}");
    }
    let said = ROWS.iter().flat_map(|row| row.amid).filter_map(|(_, amid)| match amid {
        Always(said) => Some(said),
        Round(_) | Never(_) => None,
    });
    for said in said {
        assert!(!not_amid(&troubles, &source.replace(said, "")).is_empty(), "nobody misses {said}");
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, page()).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), page(), "BLESS=1 writes it anew");
}

#[test]
fn every_test_that_is_named_exists_and_runs() {
    let tests = ROWS.iter().flat_map(|row| row.held);
    for (held, test) in tests {
        let before = source(test).unwrap_or_else(|| panic!("there is no {test}"));
        let attributes = before.rsplit("\n\n").next().unwrap();
        assert!(attributes.contains("test"), "{test} is not a test");
        assert!(!attributes.contains("ignore"), "{test} is ignored");
        assert!(held.chars().all(|cell| PROMISES.iter().any(|(letter, _)| *letter == cell)));
    }
    assert!(source("faults::matrix::no_such_test").is_none());
}

#[test]
fn no_row_claims_more_than_it_must_hold() {
    for row in ROWS {
        let more = row.held.iter().flat_map(|(held, _)| held.chars());
        let more: Vec<_> = more.filter(|cell| !row.cells.contains(*cell)).collect();
        assert!(more.is_empty(), "{}: {more:?}", row.fault);
    }
}
