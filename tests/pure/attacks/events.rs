//! Events that come again, or that two readers would take for two things.

use super::Row;

/// Replays, ids, and how they are read.
pub(super) const EVENTS: &[Row] = &[
    Row {
        attack: "replay in tolerance",
        held: &["it/duplicate.rs::a_hundred_twins_at_once_are_one_forward_and_all_get_its_answer"],
        but: "",
    },
    Row {
        attack: "fresh id replay (GitHub, Shopify)",
        held: &[
            "it/duplicate.rs::signed_bytes_under_a_new_unsigned_id_are_a_suspected_replay",
            "it/events.rs::a_thousand_fresh_ids_are_one_forward",
        ],
        but: "",
    },
    Row {
        attack: "id pre-emption",
        held: &["it/duplicate.rs::an_id_that_was_taken_in_advance_does_not_stop_the_real_event"],
        but: "no alert `id_reuse`: B is delivered whatever came under its id, and to notice that, a third key would be kept for each event",
    },
    Row {
        attack: "type swap",
        held: &[
            "pure/identify.rs::the_digest_is_in_the_key_where_the_id_is_not_signed",
            "it/events.rs::a_type_cannot_be_swapped",
        ],
        but: "",
    },
    Row {
        attack: "cross-tenant poison",
        held: &["it/duplicate.rs::equal_ids_of_two_sources_are_two_events"],
        but: "",
    },
    Row {
        attack: "unauthenticated poison",
        held: &[
            "it/redis.rs::strangers_cause_no_command",
            "it/strangers.rs::redis_hears_nothing_of_a_flood_even_while_it_is_reached_anew",
        ],
        but: "",
    },
    Row {
        attack: "duplicate keys",
        held: &[
            "pure/json.rs::a_key_that_comes_twice_on_the_way_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
            "it/events.rs::an_id_is_the_string_that_everybody_reads",
        ],
        but: "",
    },
    Row {
        attack: "parser differentials",
        held: &[
            "pure/json.rs::scalars_keep_their_json_type",
            "pure/json.rs::what_is_not_one_json_document_is_refused",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
            "pure/identify.rs::integers_are_ids_only_where_the_provider_says_so",
            "it/events.rs::an_id_is_the_string_that_everybody_reads",
            "it/events.rs::a_name_in_a_header_is_in_ascii",
        ],
        but: "",
    },
    Row {
        attack: "depth / size",
        held: &[
            "pure/json.rs::depth_and_size_cost_no_stack",
            "it/events.rs::depth_and_size_cost_no_memory_beyond_the_body",
            "pure/identify.rs::an_id_is_the_string_that_everybody_reads",
        ],
        but: "",
    },
    Row {
        attack: "form body",
        held: &[
            "pure/identify.rs::forms_are_read_where_they_are_declared",
            "it/events.rs::a_form_has_one_payload_and_a_body_one_charset",
        ],
        but: "",
    },
    Row {
        attack: "compression",
        held: &[
            "pure/identify.rs::bodies_that_two_readers_could_read_differently_are_refused",
            "it/refuse.rs::bodies_are_bounded_and_codings_refused",
            "it/events.rs::codings_are_refused_before_a_byte_is_read",
        ],
        but: "",
    },
    Row {
        attack: "method override / path",
        held: &[
            "it/refuse.rs::paths_and_methods_are_exact",
            "it/events.rs::paths_and_methods_are_exact",
            "it/events.rs::a_method_cannot_be_overridden",
        ],
        but: "",
    },
];
