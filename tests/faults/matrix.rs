//! Which test holds which cell of the matrix of faults and promises: the one table, from which `docs/faults.md` is made.

use std::{fmt::Write as _, fs, path::Path};

/// A fault, the promises that it must not break, and who shows that.
struct Row {
    fault: &'static str,
    /// Letters of [`PROMISES`].
    cells: &'static str,
    /// Letters, and the test that holds them: `binary::module::name`.
    held: &'static [(&'static str, &'static str)],
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
    },
    Row {
        fault: "gateway stopped for longer than its lease, then going on (stale owner)",
        cells: "ADRWX",
        held: &[("ADRWX", "faults::line::a_stale_owner_that_goes_on")],
    },
    Row {
        fault: "Redis refuses, times out, is slow (200 ms), answers by half, is cut off, half closed, garbled",
        cells: "ADRWMX",
        held: &[
            ("ADRWX", "faults::line::a_line_that_misbehaves"),
            ("ADRWX", "faults::line::a_slow_line_delays_and_does_no_more"),
            ("ADRWX", "faults::line::without_redis_a_source_may_choose_duplicates"),
            (
                "ADRWMX",
                "faults::bounds::a_line_that_misbehaves_costs_no_more_than_the_limits_allow",
            ),
        ],
    },
    Row {
        fault: "Redis stopped or paused; commands carried out later",
        cells: "ADWX",
        held: &[
            ("ADWX", "faults::redis::a_stopped_redis_that_carries_commands_out_later"),
            ("ADWX", "faults::redis::a_paused_redis"),
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
    },
    Row {
        fault: "partition after the forward, before *done* is written",
        cells: "ADRWX",
        held: &[("ADRWX", "faults::line::a_partition_after_the_forward")],
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
    },
    Row {
        fault: "Redis Cluster moves slots (MOVED, ASK)",
        cells: "ADWX",
        held: &[
            ("ADWX", "faults::redis::a_cluster_that_moves_its_slots"),
            ("ADWX", "faults::redis::a_cluster_whose_slots_are_half_moved"),
        ],
    },
    Row {
        fault: "upstream 2xx, 4xx, 5xx, timeout, reset before and after its head, half an answer, garbage, 1xx and header floods, a gigabyte, late 2xx, away",
        cells: "ADRWMX",
        held: &[
            ("ADRWMX", "faults::upstream::every_way_to_fail_is_told_and_the_event_goes_through"),
            ("MX", "faults::upstream::a_flood_of_1xx_stops_nobody_else"),
            ("ADRWX", "faults::upstream::an_app_in_chaos_loses_nothing"),
            ("ADRWX", "faults::upstream::an_app_that_is_not_there_releases_the_claim"),
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
    },
    Row {
        fault: "100 equal deliveries at once on two gateways",
        cells: "ADRWMX",
        held: &[("ADRWMX", "faults::client::a_hundred_twins_on_two_gateways_of_which_some_leave")],
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
                "V",
                "faults::signals::forged_events_among_honest_ones_under_kills_and_reloads_get_nowhere",
            ),
        ],
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
    runs instead, and holds three records against each other: what senders were told, what the app received, and what the audit log says.\n\
    For **R** in `faults` the app looks, whenever it receives an event, for its attempt in the files of the record as they are at that\n\
    moment; one that comes later, or never, breaks the run. That it is synced by then is shown by `sim`, `disk` and `audit`, whose disks\n\
    know.\n\
    This page is made from the table in `tests/faults/matrix.rs`, which a test compares with it; `BLESS=1 cargo test --test faults matrix`\n\
    writes it anew. No cell is without one.\n\n";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (letter, promise) in PROMISES {
        writeln!(page, "* **{letter}**: {promise}").unwrap();
    }
    page += "\n| fault | must hold | test | holds |\n|---|---|---|---|\n";
    for row in ROWS {
        let mut fault = row.fault;
        let mut cells = row.cells;
        for (held, test) in row.held {
            writeln!(page, "| {fault} | {cells} | `{test}` | {held} |").unwrap();
            (fault, cells) = ("", "");
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
fn every_cell_is_held() {
    for row in ROWS {
        let held: String = row.held.iter().map(|(held, _)| *held).collect();
        let open: Vec<_> = row.cells.chars().filter(|cell| !held.contains(*cell)).collect();
        assert!(open.is_empty(), "{}: no test holds {open:?}", row.fault);
    }
}

/// The source of a test that is named `binary::module::name`.
fn source(test: &str) -> Option<String> {
    let (module, name) = test.rsplit_once("::")?;
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = [format!("{path}.rs"), format!("{path}/main.rs"), format!("{path}/mod.rs")];
    let text = files.iter().find_map(|file| fs::read_to_string(root.join(file)).ok())?;
    let at = text.find(&format!("fn {name}("))?;
    Some(text[..at].to_owned())
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
