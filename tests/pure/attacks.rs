//! The attacks on signatures, ids, bodies, framing and headers that this is built against, row by row, and the tests that hold
//! each of them. HTTP/1 has a table of its own, `tests/server/http1.json`.

use std::{fs, path::Path};

/// An attack, and its tests: `file::function`, below `tests/` unless it says otherwise.
type Row = (&'static str, &'static [&'static str]);

const SIGNATURES: [Row; 20] = [
    (
        "missing, empty, prefix only",
        &[
            "pure/grammar.rs::missing_empty_or_nothing_but_a_prefix",
            "it/refuse.rs::every_failed_verification_looks_the_same",
        ],
    ),
    (
        "duplicated header",
        &[
            "pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line",
            "pure/grammar.rs::several_lines_where_the_sender_is_known_to_send_them",
        ],
    ),
    ("joined", &["pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line"]),
    ("folding", &["server/requests.rs::what_hyper_refuses_never_comes_to_the_front"]),
    (
        "white space",
        &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::spaces_around_elements_where_the_scheme_says_so",
        ],
    ),
    (
        "case",
        &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::upper_case_hexadecimal_where_the_scheme_says_so",
        ],
    ),
    ("unicode", &["pure/grammar.rs::white_space_case_and_other_alphabets"]),
    ("truncated or long", &["pure/grammar.rs::truncated_and_lengthened"]),
    (
        "algorithm confusion",
        &[
            "pure/grammar.rs::the_algorithm_is_never_the_senders_choice",
            "pure/rules.rs::no_downgrade_from_a_signature_to_a_token",
        ],
    ),
    ("Stripe grammar", &["pure/grammar.rs::stripes_grammar"]),
    (
        "timestamp",
        &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::whole_seconds_are_compared_with_whole_seconds",
        ],
    ),
    (
        "milliseconds",
        &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::a_time_in_milliseconds_and_as_a_date",
        ],
    ),
    (
        "base64 malleability",
        &[
            "pure/grammar.rs::base64_has_one_spelling",
            "pure/grammar.rs::url_safe_base64_may_lack_its_padding_and_nothing_else",
        ],
    ),
    ("delimiter shift", &["pure/rules.rs::no_separator_can_be_shifted"]),
    ("several signatures", &["pure/grammar.rs::several_standard_webhooks_signatures"]),
    (
        "empty, weak or padded secret",
        &[
            "pure/rules.rs::secrets_that_are_none",
            "pure/rules.rs::another_sources_secret_does_not_fit",
        ],
    ),
    (
        "signature elsewhere",
        &[
            "pure/grammar.rs::a_signature_in_another_place_is_none",
            "pure/stages.rs::a_signature_in_a_trailer_is_none",
        ],
    ),
    ("wrong source", &["pure/rules.rs::another_sources_secret_does_not_fit"]),
    (
        "touched or empty body",
        &[
            "pure/rules.rs::a_body_that_was_touched",
            "pure/roundtrip.rs::signed_is_believed_and_touched_is_not",
            "pure/rules.rs::an_empty_body_can_be_signed",
            "pure/stages.rs::an_authentic_request_without_a_name_is_malformed",
        ],
    ),
    ("rotation and timing", &["pure/rules.rs::rotation", "../benches/verify.rs::wrong_somewhere"]),
];

const EVENTS: [Row; 12] = [
    (
        "replay in tolerance",
        &["it/duplicate.rs::a_hundred_twins_at_once_are_one_forward_and_all_get_its_answer"],
    ),
    (
        "fresh id replay",
        &["it/duplicate.rs::signed_bytes_under_a_new_unsigned_id_are_a_suspected_replay"],
    ),
    (
        "id pre-emption",
        &["it/duplicate.rs::an_id_that_was_taken_in_advance_does_not_stop_the_real_event"],
    ),
    ("type swap", &["pure/identify.rs::the_digest_is_in_the_key_where_the_id_is_not_signed"]),
    ("cross-tenant poison", &["it/duplicate.rs::equal_ids_of_two_sources_are_two_events"]),
    ("unauthenticated poison", &["it/redis.rs::strangers_cause_no_command"]),
    (
        "duplicate keys",
        &[
            "pure/json.rs::a_key_that_comes_twice_on_the_way_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
        ],
    ),
    (
        "parser differentials",
        &[
            "pure/json.rs::scalars_keep_their_json_type",
            "pure/json.rs::what_is_not_one_json_document_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
            "pure/identify.rs::integers_are_ids_only_where_the_provider_says_so",
        ],
    ),
    (
        "depth and size",
        &[
            "pure/json.rs::depth_and_size_cost_no_stack",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
        ],
    ),
    ("form body", &["pure/identify.rs::forms_are_read_where_they_are_declared"]),
    (
        "charset and compression",
        &[
            "pure/identify.rs::bodies_that_two_readers_could_read_differently_are_refused",
            "it/refuse.rs::bodies_are_bounded_and_codings_refused",
        ],
    ),
    ("method override and path", &["it/refuse.rs::paths_and_methods_are_exact"]),
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
    ("host and authority", &["server/check.rs::http2"]),
];

const HEADERS: [Row; 3] = [
    (
        "spoofed trust headers",
        &[
            "it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app",
            "it/http1.rs::spellings_that_only_some_apps_read_are_refused",
        ],
    ),
    ("hop-by-hop strip", &["it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app"]),
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
];

/// A test that was renamed or lost leaves its row open.
#[test]
fn every_row_has_its_tests() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (attack, held_by) in SIGNATURES.iter().chain(&EVENTS).chain(&FRAMING).chain(&HEADERS) {
        for test in *held_by {
            let (file, function) = test.split_once("::").unwrap();
            let text = fs::read_to_string(tests.join(file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {function}(")), "{attack}: no {test}");
        }
    }
}
