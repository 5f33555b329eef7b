//! The attacks on signatures, ids, bodies, framing and headers that this is built against, row by row, and the tests that hold
//! each of them. HTTP/1 has a table of its own, `tests/server/http1.json`.

use std::{fs, path::Path};

/// An attack, and its tests: `file::function`, below `tests/` unless it says otherwise.
type Row = (&'static str, &'static [&'static str]);

const SIGNATURES: [Row; 23] = [
    (
        "missing, empty, prefix only",
        &[
            "pure/grammar.rs::missing_empty_or_nothing_but_a_prefix",
            "it/refuse.rs::every_failed_verification_looks_the_same",
            "it/signatures.rs::missing_empty_or_nothing_but_a_prefix",
        ],
    ),
    (
        "duplicated header",
        &[
            "pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line",
            "pure/grammar.rs::several_lines_where_the_sender_is_known_to_send_them",
            "it/signatures.rs::a_header_that_comes_twice_or_joined",
        ],
    ),
    (
        "joined",
        &[
            "pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line",
            "it/signatures.rs::a_header_that_comes_twice_or_joined",
        ],
    ),
    (
        "folding",
        &[
            "server/requests.rs::what_hyper_refuses_never_comes_to_the_front",
            "it/signatures.rs::folding_is_no_white_space",
        ],
    ),
    // A vertical tab makes a head that is none: 400 before anybody asks for a signature.
    (
        "white space",
        &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::spaces_around_elements_where_the_scheme_says_so",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
    ),
    (
        "case",
        &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::upper_case_hexadecimal_where_the_scheme_says_so",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
    ),
    (
        "unicode",
        &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
    ),
    (
        "truncated or long",
        &[
            "pure/grammar.rs::truncated_and_lengthened",
            "it/signatures.rs::truncated_and_lengthened",
        ],
    ),
    (
        "algorithm confusion",
        &[
            "pure/grammar.rs::the_algorithm_is_never_the_senders_choice",
            "pure/rules.rs::no_downgrade_from_a_signature_to_a_token",
            "it/signatures.rs::the_algorithm_is_never_the_senders_choice",
        ],
    ),
    // A header of 64 KiB is more than a head may have: 431.
    ("Stripe grammar", &["pure/grammar.rs::stripes_grammar", "it/signatures.rs::stripes_grammar"]),
    (
        "timestamp",
        &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::whole_seconds_are_compared_with_whole_seconds",
            "it/signatures.rs::times_have_one_spelling_and_two_limits",
        ],
    ),
    (
        "milliseconds",
        &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::a_time_in_milliseconds_and_as_a_date",
            "it/signatures.rs::times_have_one_spelling_and_two_limits",
        ],
    ),
    (
        "base64 malleability",
        &[
            "pure/grammar.rs::base64_has_one_spelling",
            "pure/grammar.rs::url_safe_base64_may_lack_its_padding_and_nothing_else",
            "it/signatures.rs::base64_has_one_spelling",
        ],
    ),
    // NUL in a header is 400.
    (
        "delimiter shift",
        &[
            "pure/rules.rs::no_separator_can_be_shifted",
            "it/signatures.rs::no_separator_can_be_shifted",
        ],
    ),
    (
        "several signatures",
        &[
            "pure/grammar.rs::several_standard_webhooks_signatures",
            "it/signatures.rs::several_signatures_under_one_separator",
        ],
    ),
    (
        "empty or weak secret",
        &[
            "pure/rules.rs::secrets_that_are_none",
            "it/signatures.rs::secrets_that_are_none",
            "it/signatures.rs::another_sources_signature_does_not_fit",
        ],
    ),
    (
        "padded secret",
        &["pure/rules.rs::secrets_that_are_none", "it/signatures.rs::secrets_that_are_none"],
    ),
    (
        "signature elsewhere",
        &[
            "pure/grammar.rs::a_signature_in_another_place_is_none",
            "pure/stages.rs::a_signature_in_a_trailer_is_none",
            "it/signatures.rs::a_signature_in_another_place_is_none",
        ],
    ),
    (
        "wrong source",
        &[
            "pure/rules.rs::another_sources_secret_does_not_fit",
            "it/signatures.rs::another_sources_signature_does_not_fit",
            "it/signatures.rs::two_sources_do_not_share_a_secret",
        ],
    ),
    (
        "body mutation",
        &[
            "pure/rules.rs::a_body_that_was_touched",
            "pure/roundtrip.rs::signed_is_believed_and_touched_is_not",
            "it/signatures.rs::a_body_that_was_touched",
        ],
    ),
    (
        "empty body",
        &[
            "pure/rules.rs::an_empty_body_can_be_signed",
            "pure/stages.rs::an_authentic_request_without_a_name_is_malformed",
            "it/signatures.rs::an_empty_body_is_verified_and_then_asked_for_its_id",
        ],
    ),
    (
        "timing",
        &[
            "../benches/timing.rs::measure",
            "../benches/timing.rs::lookup",
            "pure/timing.rs::a_difference_of_a_nanosecond_is_found_under_the_noise",
        ],
    ),
    // As many tags whichever of two secrets is right: a test of time that would see one less.
    (
        "rotation",
        &[
            "pure/rules.rs::rotation",
            "it/signatures.rs::rotation",
            "../benches/timing.rs::verifier",
        ],
    ),
];

const EVENTS: [Row; 12] = [
    (
        "replay in tolerance",
        &["it/duplicate.rs::a_hundred_twins_at_once_are_one_forward_and_all_get_its_answer"],
    ),
    (
        "fresh id replay",
        &[
            "it/duplicate.rs::signed_bytes_under_a_new_unsigned_id_are_a_suspected_replay",
            "it/events.rs::a_thousand_fresh_ids_are_one_forward",
        ],
    ),
    (
        "id pre-emption",
        &["it/duplicate.rs::an_id_that_was_taken_in_advance_does_not_stop_the_real_event"],
    ),
    (
        "type swap",
        &[
            "pure/identify.rs::the_digest_is_in_the_key_where_the_id_is_not_signed",
            "it/events.rs::a_type_cannot_be_swapped",
        ],
    ),
    ("cross-tenant poison", &["it/duplicate.rs::equal_ids_of_two_sources_are_two_events"]),
    (
        "unauthenticated poison",
        &[
            "it/redis.rs::strangers_cause_no_command",
            "it/strangers.rs::redis_hears_nothing_of_a_flood_even_while_it_is_reached_anew",
        ],
    ),
    (
        "duplicate keys",
        &[
            "pure/json.rs::a_key_that_comes_twice_on_the_way_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
            "it/events.rs::an_id_is_the_string_that_everybody_reads",
        ],
    ),
    (
        "parser differentials",
        &[
            "pure/json.rs::scalars_keep_their_json_type",
            "pure/json.rs::what_is_not_one_json_document_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
            "pure/identify.rs::integers_are_ids_only_where_the_provider_says_so",
            "it/events.rs::an_id_is_the_string_that_everybody_reads",
            "it/events.rs::a_name_in_a_header_is_in_ascii",
        ],
    ),
    (
        "depth and size",
        &[
            "pure/json.rs::depth_and_size_cost_no_stack",
            "it/events.rs::depth_and_size_cost_no_memory_beyond_the_body",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
        ],
    ),
    (
        "form body",
        &[
            "pure/identify.rs::forms_are_read_where_they_are_declared",
            "it/events.rs::a_form_has_one_payload_and_a_body_one_charset",
        ],
    ),
    (
        "compression",
        &[
            "pure/identify.rs::bodies_that_two_readers_could_read_differently_are_refused",
            "it/refuse.rs::bodies_are_bounded_and_codings_refused",
            "it/events.rs::codings_are_refused_before_a_byte_is_read",
        ],
    ),
    (
        "method override and path",
        &[
            "it/refuse.rs::paths_and_methods_are_exact",
            "it/events.rs::paths_and_methods_are_exact",
            "it/events.rs::a_method_cannot_be_overridden",
        ],
    ),
];

const FRAMING: [Row; 5] = [
    (
        "every row of the table",
        &[
            "server/http1.rs::every_row_ends_as_the_table_says",
            "server/http1.rs::it_ends_the_same_however_the_bytes_arrive",
            "server/http1.rs::it_ends_the_same_behind_a_good_request",
        ],
    ),
    (
        "two readers",
        &[
            "server/guard.rs::the_parser_must_find_the_same_heads_and_lengths",
            "server/guard.rs::heads_end_where_the_parser_ends_them",
            "server/guard.rs::pieces_make_no_difference",
        ],
    ),
    ("Expect", &["it/http1.rs::leave_to_send_a_body_is_given_to_whom_it_would_be_read_from"]),
    (
        "half-closed",
        &[
            "it/http1.rs::who_half_closes_after_the_body_still_gets_the_answer",
            "it/http1.rs::who_half_closes_in_the_middle_hears_so_and_is_not_believed",
            "server/requests.rs::who_has_sent_everything_still_gets_the_answer",
        ],
    ),
    (
        "host and authority",
        &[
            "server/check.rs::http2",
            "server/heads2.rs::heads_that_two_readers_could_read_differently",
            "server/heads2.rs::heads_that_are_none",
            "server/heads2.rs::a_length_that_is_not_that_of_the_body",
        ],
    ),
];

const HEADERS: [Row; 9] = [
    (
        "spoofed trust headers",
        &[
            "it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app",
            "it/http1.rs::spellings_that_only_some_apps_read_are_refused",
            "it/abuse.rs::headers_that_claim_trust_are_ours_alone",
        ],
    ),
    (
        "hop-by-hop strip",
        &[
            "it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app",
            "it/abuse.rs::headers_that_claim_trust_are_ours_alone",
        ],
    ),
    (
        "response side",
        &[
            "it/answers.rs::whatever_an_app_says_a_provider_hears_a_status_of_ours",
            "it/answers.rs::of_an_apps_headers_a_provider_sees_the_content_type_only",
            "it/answers.rs::a_gigabyte_for_an_answer_is_not_read",
            "it/answers.rs::hints_without_end_are_no_answer",
            "it/answers.rs::an_answer_that_nobody_asked_for_acknowledges_nothing",
            "it/deliver.rs::statuses_are_mapped_so_that_no_provider_gives_up",
        ],
    ),
    (
        "upstream name rebinding",
        &[
            "it/abuse.rs::a_name_that_leads_to_another_network_is_not_followed",
            "it/rebinding.rs::the_address_that_was_looked_at_is_the_one_that_is_connected_to",
        ],
    ),
    // Ids are remembered on disk or in Redis: what fills is that, and then events are refused with 503.
    (
        "memory by ids",
        &[
            "it/abuse.rs::a_source_that_makes_up_ids_costs_no_memory",
            "store_contract.rs::a_full_memory_refuses_instead_of_forgetting",
            "faults/redis.rs::a_redis_that_takes_no_writes",
        ],
    ),
    ("label explosion", &["it/abuse.rs::nothing_that_is_sent_becomes_a_label"]),
    (
        "log injection",
        &[
            "it/abuse.rs::a_log_line_cannot_be_forged",
            "it/abuse.rs::a_line_of_text_cannot_be_forged",
        ],
    ),
    (
        "secret leak",
        &[
            "it/canary.rs::no_secret_is_said_anywhere_with_the_embedded_store",
            "it/canary.rs::no_secret_is_said_anywhere_with_redis",
            "config/hidden.rs::whatever_is_wrong_beside_a_secret_it_is_not_printed",
        ],
    ),
    (
        "environment and configuration injection",
        &[
            "it/abuse.rs::a_configuration_cannot_be_injected",
            "config/values.rs::references_are_completed_inside_values",
            "it/reload.rs::a_broken_file_changes_nothing_and_says_why",
        ],
    ),
];

/// What the admin server is asked. It shows no events and repeats none: there is nothing to inject into.
const ADMIN: [Row; 3] = [
    ("DNS rebinding, or forged by a browser", &["server/admin.rs::a_browser_cannot_reload"]),
    ("what is not there", &["server/admin.rs::there_is_nothing_else"]),
    ("exposure", &["config.rs::admin_exposed"]),
];

/// Who is slow, says nothing, or floods. What honest senders feel of it is `it/hostile.rs`.
const FLOODS: [Row; 8] = [
    ("silent TCP", &["server/silence.rs::not_a_byte"]),
    (
        "silent TLS",
        &["server/silence.rs::not_a_byte_of_tls_half_a_hello_and_nothing_after_the_handshake"],
    ),
    (
        "slow headers and bodies",
        &[
            "server/silence.rs::a_head_without_end",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
    ),
    ("slow read", &["server/silence.rs::an_answer_that_nobody_takes"]),
    ("keep-alive idle", &["server/silence.rs::idle_after_a_request"]),
    (
        "HTTP/2 idle",
        &[
            "server/silence.rs::http2_without_a_stream",
            "server/slow.rs::pings_do_not_keep_a_connection",
            "server/silence.rs::old_connections_are_asked_to_close",
        ],
    ),
    (
        "rapid reset, MadeYouReset, CONTINUATION, DATA, HPACK, SETTINGS, PING, WINDOW_UPDATE, PRIORITY",
        &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
        ],
    ),
    ("a thousand open streams", &["it/hostile.rs::attacks_end_and_cost_nobody_else_anything"]),
];

/// Who changes the record where it lies.
const TAMPER: [Row; 7] = [
    (
        "flip",
        &[
            "disk/tamper.rs::every_bit_between_two_checkpoints_is_found_where_it_is",
            "disk/tamper.rs::a_turned_bit_anywhere_in_a_thousand_records_is_found_where_it_is",
            "disk/tamper.rs::a_turned_bit_in_a_checkpoint_is_found",
        ],
    ),
    (
        "delete, insert or swap a record",
        &[
            "disk/tamper.rs::every_record_removed_doubled_moved_or_taken_from_elsewhere_is_found_where_it_is",
        ],
    ),
    (
        "cut tail",
        &["disk/tamper.rs::a_cut_tail_is_seen_against_an_anchor_and_else_shown_as_a_shorter_tail"],
    ),
    (
        "rollback, a new seal, two histories",
        &["disk/tamper.rs::a_rollback_a_second_history_and_a_new_seal_are_seen_against_an_anchor"],
    ),
    (
        "a symbolic link in a segment's place",
        &["disk/tamper.rs::a_log_is_not_written_through_a_link"],
    ),
    (
        "a clock ten years off",
        &[
            "audit/house.rs::a_clock_that_goes_back_is_on_record_when_it_is_more_than_a_second",
            "faults/clock.rs::a_wall_clock_that_is_wrong_neither_repeats_nor_blocks_an_event",
        ],
    ),
    ("two writers", &["it/record.rs::a_second_gateway_on_one_record_is_refused"]),
];

/// Every table, and how many rows it has.
const TABLES: [(&[Row], usize); 7] = [
    (&SIGNATURES, 23),
    (&EVENTS, 12),
    (&FRAMING, 5),
    (&FLOODS, 8),
    (&HEADERS, 9),
    (&ADMIN, 3),
    (&TAMPER, 7),
];

/// Whether there is a test of this name that is run, or a function of a benchmark.
fn is_held(by: &str) -> bool {
    let Some((file, function)) = by.split_once("::") else { return false };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = fs::read_to_string(tests.join(file)).unwrap_or_default();
    if function == "admin_exposed" {
        return text.contains(" admin_exposed "); // made by a macro, from a list of names
    }
    let Some(at) = text.find(&format!("fn {function}(")) else { return false };
    let attributes = text[..at].rsplit("\n\n").next().unwrap_or_default();
    file.starts_with("../")
        || (["test]", "test("].iter().any(|is| attributes.contains(is))
            && !attributes.contains("ignore"))
}

/// A test that was renamed or lost leaves its row open.
#[test]
fn every_row_has_its_tests() {
    for (table, rows) in TABLES {
        assert_eq!(table.len(), rows);
        for (attack, held_by) in table {
            assert!(!held_by.is_empty(), "{attack}");
            for test in *held_by {
                assert!(is_held(test), "{attack}: no {test}");
            }
        }
    }
}

#[test]
fn what_is_no_test_holds_nothing() {
    assert!(is_held("pure/attacks.rs::every_row_has_its_tests"));
    for none in [
        "pure/attacks.rs::is_held",
        "pure/attacks.rs::nothing",
        "pure/none.rs::x",
        "pure/attacks.rs",
    ] {
        assert!(!is_held(none), "{none}");
    }
}
