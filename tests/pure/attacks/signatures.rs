//! Signatures.

use super::Row;

/// What is shown as a signature and is none, or is one that must not count.
pub(super) const SIGNATURES: &[Row] = &[
    Row {
        attack: "missing / empty / prefix only",
        held: &[
            "pure/grammar.rs::missing_empty_or_nothing_but_a_prefix",
            "it/refuse.rs::every_failed_verification_looks_the_same",
            "it/signatures.rs::missing_empty_or_nothing_but_a_prefix",
        ],
        but: "",
    },
    Row {
        attack: "duplicated header",
        held: &[
            "pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line",
            "pure/grammar.rs::several_lines_where_the_sender_is_known_to_send_them",
            "it/signatures.rs::a_header_that_comes_twice_or_joined",
        ],
        but: "",
    },
    Row {
        attack: "joined",
        held: &[
            "pure/grammar.rs::a_repeated_header_is_refused_even_with_a_good_line",
            "it/signatures.rs::a_header_that_comes_twice_or_joined",
        ],
        but: "",
    },
    Row {
        attack: "folding",
        held: &[
            "server/requests.rs::what_hyper_refuses_never_comes_to_the_front",
            "it/signatures.rs::folding_is_no_white_space",
        ],
        but: "",
    },
    Row {
        attack: "whitespace",
        held: &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::spaces_around_elements_where_the_scheme_says_so",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
        but: "a vertical tab makes a head that is none: 400 before anybody asks for a signature",
    },
    Row {
        attack: "case",
        held: &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "pure/grammar.rs::upper_case_hexadecimal_where_the_scheme_says_so",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
        but: "",
    },
    Row {
        attack: "unicode",
        held: &[
            "pure/grammar.rs::white_space_case_and_other_alphabets",
            "it/signatures.rs::white_space_case_and_other_alphabets",
        ],
        but: "",
    },
    Row {
        attack: "truncated / long MAC",
        held: &[
            "pure/grammar.rs::truncated_and_lengthened",
            "it/signatures.rs::truncated_and_lengthened",
        ],
        but: "",
    },
    Row {
        attack: "algorithm confusion",
        held: &[
            "pure/grammar.rs::the_algorithm_is_never_the_senders_choice",
            "pure/rules.rs::no_downgrade_from_a_signature_to_a_token",
            "it/signatures.rs::the_algorithm_is_never_the_senders_choice",
        ],
        but: "",
    },
    Row {
        attack: "Stripe grammar",
        held: &["pure/grammar.rs::stripes_grammar", "it/signatures.rs::stripes_grammar"],
        but: "a header of 64 KiB is more than a head may have: 431",
    },
    Row {
        attack: "timestamp",
        held: &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::whole_seconds_are_compared_with_whole_seconds",
            "it/signatures.rs::times_have_one_spelling_and_two_limits",
        ],
        but: "",
    },
    Row {
        attack: "milliseconds",
        held: &[
            "pure/rules.rs::times_have_one_spelling_and_two_limits",
            "pure/rules.rs::a_time_in_milliseconds_and_as_a_date",
            "it/signatures.rs::times_have_one_spelling_and_two_limits",
        ],
        but: "",
    },
    Row {
        attack: "base64 malleability",
        held: &[
            "pure/grammar.rs::base64_has_one_spelling",
            "pure/grammar.rs::url_safe_base64_may_lack_its_padding_and_nothing_else",
            "it/signatures.rs::base64_has_one_spelling",
        ],
        but: "",
    },
    Row {
        attack: "delimiter shift",
        held: &[
            "pure/rules.rs::no_separator_can_be_shifted",
            "it/signatures.rs::no_separator_can_be_shifted",
        ],
        but: "NUL in a header makes a head that is none: 400",
    },
    Row {
        attack: "several SW signatures",
        held: &[
            "pure/grammar.rs::several_standard_webhooks_signatures",
            "it/signatures.rs::several_signatures_under_one_separator",
        ],
        but: "",
    },
    Row {
        attack: "empty / weak secret",
        held: &[
            "pure/rules.rs::secrets_that_are_none",
            "it/signatures.rs::secrets_that_are_none",
            "it/signatures.rs::another_sources_signature_does_not_fit",
        ],
        but: "a secret that is there and shorter than 16 bytes is a warning: providers choose some themselves",
    },
    Row {
        attack: "padded secret",
        held: &["pure/rules.rs::secrets_that_are_none", "it/signatures.rs::secrets_that_are_none"],
        but: "the line end of a file goes without a warning: every editor and `echo` writes one",
    },
    Row {
        attack: "signature elsewhere",
        held: &[
            "pure/grammar.rs::a_signature_in_another_place_is_none",
            "pure/stages.rs::a_signature_in_a_trailer_is_none",
            "it/signatures.rs::a_signature_in_another_place_is_none",
        ],
        but: "",
    },
    Row {
        attack: "wrong source",
        held: &[
            "pure/rules.rs::another_sources_secret_does_not_fit",
            "it/signatures.rs::another_sources_signature_does_not_fit",
            "it/signatures.rs::two_sources_do_not_share_a_secret",
        ],
        but: "",
    },
    Row {
        attack: "body mutation",
        held: &[
            "pure/rules.rs::a_body_that_was_touched",
            "pure/roundtrip.rs::signed_is_believed_and_touched_is_not",
            "it/signatures.rs::a_body_that_was_touched",
        ],
        but: "",
    },
    Row {
        attack: "empty body",
        held: &[
            "pure/rules.rs::an_empty_body_can_be_signed",
            "pure/stages.rs::an_authentic_request_without_a_name_is_malformed",
            "it/signatures.rs::an_empty_body_is_verified_and_then_asked_for_its_id",
        ],
        but: "",
    },
    Row {
        attack: "timing",
        held: &[
            "../benches/timing.rs::measure",
            "../benches/timing.rs::lookup",
            "pure/timing.rs::a_difference_of_a_nanosecond_is_found_under_the_noise",
        ],
        but: "a path without a source is 404 and says so: there is nothing to tell by the time; what is compared is paths near to a source's and far from all",
    },
    Row {
        attack: "rotation",
        held: &[
            "pure/rules.rs::rotation",
            "it/signatures.rs::rotation",
            "../benches/timing.rs::measure",
        ],
        but: "that as many MACs are computed whichever secret is right is held by the time: one fewer of two would show",
    },
];
