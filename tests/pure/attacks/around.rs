//! What stands around an event: headers, apps, memory, logs, the admin address, the record.

use super::Row;

/// Headers, upstreams, memory, logs, configuration.
pub(super) const HEADERS: &[Row] = &[
    Row {
        attack: "spoofed trust headers",
        held: &[
            "it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app",
            "it/http1.rs::spellings_that_only_some_apps_read_are_refused",
            "it/abuse.rs::headers_that_claim_trust_are_ours_alone",
        ],
        but: "",
    },
    Row {
        attack: "hop-by-hop strip",
        held: &[
            "it/http1.rs::what_is_not_a_senders_to_say_does_not_reach_the_app",
            "it/abuse.rs::headers_that_claim_trust_are_ours_alone",
        ],
        but: "",
    },
    Row {
        attack: "response side",
        held: &[
            "it/answers.rs::whatever_an_app_says_a_provider_hears_a_status_of_ours",
            "it/answers.rs::of_an_apps_headers_a_provider_sees_the_content_type_only",
            "it/answers.rs::a_gigabyte_for_an_answer_is_not_read",
            "it/connect.rs::a_longer_answer_than_is_read_ends_its_connection",
            "it/answers.rs::hints_without_end_are_no_answer",
            "it/answers.rs::an_answer_that_nobody_asked_for_acknowledges_nothing",
            "it/deliver.rs::statuses_are_mapped_so_that_no_provider_gives_up",
        ],
        but: "",
    },
    Row {
        attack: "upstream name rebinding",
        held: &[
            "it/rebinding.rs::the_address_that_was_looked_at_is_the_one_that_is_connected_to",
            "it/abuse.rs::a_name_that_leads_to_another_network_is_not_followed",
        ],
        but: "",
    },
    Row {
        attack: "memory by ids",
        held: &[
            "it/abuse.rs::a_source_that_makes_up_ids_costs_no_memory",
            "store_contract.rs::a_full_memory_refuses_instead_of_forgetting",
            "faults/redis.rs::a_redis_that_takes_no_writes",
        ],
        but: "no source has a quota: ids are kept on disk or in Redis, and when that is full, events are refused with 503",
    },
    Row {
        attack: "label explosion",
        held: &["it/abuse.rs::nothing_that_is_sent_becomes_a_label"],
        but: "",
    },
    Row {
        attack: "log injection",
        held: &[
            "it/abuse.rs::a_log_line_cannot_be_forged",
            "it/abuse.rs::a_line_of_text_cannot_be_forged",
        ],
        but: "",
    },
    Row {
        attack: "secret leak",
        held: &[
            "it/canary.rs::no_secret_is_said_anywhere_with_the_embedded_store",
            "it/canary.rs::no_secret_is_said_anywhere_with_redis",
            "config/hidden.rs::whatever_is_wrong_beside_a_secret_it_is_not_printed",
        ],
        but: "",
    },
    Row {
        attack: "env/config injection",
        held: &[
            "it/abuse.rs::a_configuration_cannot_be_injected",
            "config/values.rs::references_are_completed_inside_values",
            "it/reload.rs::a_broken_file_changes_nothing_and_says_why",
        ],
        but: "a secret may stand behind a symbolic link: Kubernetes mounts them so",
    },
];

/// What the admin address is asked. It shows no events and repeats none.
pub(super) const ADMIN: &[Row] = &[
    Row { attack: "DNS rebinding", held: &["server/admin.rs::a_browser_cannot_reload"], but: "" },
    Row {
        attack: "CSRF on replay",
        held: &[
            "server/admin.rs::a_browser_cannot_reload",
            "server/admin.rs::there_is_nothing_else",
        ],
        but: "nothing can be replayed; what a browser might be made to ask for is a reload, which needs a header, a loopback name and no browser",
    },
    Row {
        attack: "stored XSS",
        held: &[
            "server/admin.rs::there_is_nothing_else",
            "server/admin.rs::every_answer_is_for_this_moment_only",
        ],
        but: "no page shows anything of an event",
    },
    Row {
        attack: "IDOR/traversal",
        held: &["server/admin.rs::there_is_nothing_else"],
        but: "no event can be asked for",
    },
    Row {
        attack: "mass replay",
        held: &["server/admin.rs::there_is_nothing_else"],
        but: "nothing can be replayed",
    },
    Row {
        attack: "auth",
        held: &["server/admin.rs::a_browser_cannot_reload", "config.rs::admin_exposed"],
        but: "there are no tokens: what is not for everybody is for the loopback address, and does no more than a reload or the capture of a secret that its operator asked for",
    },
    Row {
        attack: "exposure",
        held: &["config.rs::admin_exposed"],
        but: "refused with TLS and a token as well; metrics and health alone may be shown to others",
    },
];

/// Who changes the record where it lies.
pub(super) const TAMPER: &[Row] = &[
    Row {
        attack: "flip",
        held: &[
            "disk/bits.rs::every_bit_of_a_whole_log_is_found_where_it_is",
            "disk/tamper.rs::a_turned_bit_anywhere_in_a_thousand_records_is_found_where_it_is",
            "disk/tamper.rs::a_turned_bit_in_a_checkpoint_is_found",
        ],
        but: "",
    },
    Row {
        attack: "delete/insert/swap record",
        held: &[
            "disk/tamper.rs::every_record_removed_doubled_moved_or_taken_from_elsewhere_is_found_where_it_is",
        ],
        but: "",
    },
    Row {
        attack: "cut tail",
        held: &[
            "disk/tamper.rs::a_cut_tail_is_seen_against_an_anchor_and_else_shown_as_a_shorter_tail",
        ],
        but: "",
    },
    Row {
        attack: "rollback",
        held: &[
            "disk/tamper.rs::a_rollback_a_second_history_and_a_new_seal_are_seen_against_an_anchor",
        ],
        but: "",
    },
    Row {
        attack: "re-seal",
        held: &[
            "disk/tamper.rs::a_rollback_a_second_history_and_a_new_seal_are_seen_against_an_anchor",
        ],
        but: "",
    },
    Row {
        attack: "split view",
        held: &[
            "disk/tamper.rs::a_rollback_a_second_history_and_a_new_seal_are_seen_against_an_anchor",
        ],
        but: "",
    },
    Row {
        attack: "clock back 10 y",
        held: &[
            "audit/house.rs::a_clock_that_goes_back_is_on_record_when_it_is_more_than_a_second",
            "faults/clock.rs::a_wall_clock_that_is_wrong_neither_repeats_nor_blocks_an_event",
        ],
        but: "",
    },
    Row {
        attack: "symlink/hardlink swap, 2 writers",
        held: &[
            "disk/tamper.rs::a_log_is_not_written_through_a_link",
            "it/record.rs::a_second_gateway_on_one_record_is_refused",
        ],
        but: "a hard link to a segment is let be: backups are made so",
    },
];
