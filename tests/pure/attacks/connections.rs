//! What is said before there is a request: framing, floods, TLS.

use super::Row;

/// HTTP/1 and HTTP/2 that two servers would read differently.
pub(super) const FRAMING: &[Row] = &[
    Row {
        attack: "`Content-Length: 6` + `Transfer-Encoding: chunked` (both orders)",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with length and chunks"],
        but: "",
    },
    Row {
        attack: "TE twice chunked; `,chunked`; `cow, chunked`; `gzip, chunked`",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with codings other than one chunked",
            "server/http1.rs::every_row_ends_as_the_table_says with chunked in legal spellings",
        ],
        but: "",
    },
    Row {
        attack: "chunked+identity, `xchunked`, `chunked, cow`, `\\x0bchunked`, `\"chunked\"`, space before colon, TE on 1.0, TE empty + CL",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with codings that are none"],
        but: "",
    },
    Row {
        attack: "CL `1`+`2`; `1, 1`; `+1`; `-1`; `0x1`; `1_0`; empty; 2^64",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with lengths that are none"],
        but: "",
    },
    Row {
        attack: "CL twice equal (hyper merges it); CL `01`/`010`",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with a length said twice or oddly",
        ],
        but: "",
    },
    Row {
        attack: "`Content_Length: 5` and other underscores",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with underscores"],
        but: "",
    },
    Row {
        attack: "bare LF line ends; LF that reveals a `Transfer-Encoding` line",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with bare LF",
            "server/guard.rs::the_parser_must_find_the_same_heads_and_lengths",
            "server/guard.rs::heads_end_where_the_parser_ends_them",
            "server/guard.rs::pieces_make_no_difference",
        ],
        but: "",
    },
    Row {
        attack: "bare CR, NUL, obs-fold, empty name, no colon, leading space",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with bare CR and others"],
        but: "",
    },
    Row {
        attack: "no Host; two Hosts; `a@b`; absolute-form evil vs Host a",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with hosts"],
        but: "",
    },
    Row {
        attack: "chunk ext; leading zeros; trailing space in size",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with chunks in legal spellings"],
        but: "",
    },
    Row {
        attack: "chunk size bare LF, `0x1`, `+1`, overflow, bad terminator",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with chunks that are malformed"],
        but: "",
    },
    Row {
        attack: "trailers incl. `Content-Length`, `X-Sig`, `X:POST / HTTP/1.1`",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with trailers",
            "it/http1.rs::trailers_end_here",
            "pure/stages.rs::a_signature_in_a_trailer_is_none",
        ],
        but: "",
    },
    Row {
        attack: "`post`, `GET !`, two spaces/tab in request line, HTTP/1.2, 0.9",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with the request line"],
        but: "",
    },
    Row {
        attack: "GET with CL and a request as body (CL.0)",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with a body where none belongs"],
        but: "",
    },
    Row {
        attack: "`Expect: 100-continue`",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with Expect",
            "it/http1.rs::leave_to_send_a_body_is_given_to_whom_it_would_be_read_from",
        ],
        but: "",
    },
    Row {
        attack: "`Upgrade: h2c`; h2 preface on an h1 port",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with upgrades",
            "server/tls.rs::the_negotiated_protocol_is_the_one_that_is_spoken",
        ],
        but: "",
    },
    Row {
        attack: "200 headers; one header 500 kB; 600 kB; path 70 kB",
        held: &["server/http1.rs::every_row_ends_as_the_table_says with sizes"],
        but: "the table is run with its limits; the defaults are 100 lines and 32 KiB, for what proxies and certificates in headers add",
    },
    Row {
        attack: "header bytes 80-FF",
        held: &[
            "server/http1.rs::every_row_ends_as_the_table_says with bytes beyond ASCII",
            "it/events.rs::a_name_in_a_header_is_in_ascii",
        ],
        but: "a value that is used is refused by whoever reads it: 401 as a signature, 422 as a name",
    },
    Row {
        attack: "h2 side",
        held: &[
            "server/check.rs::http2",
            "server/heads2.rs::heads_that_two_readers_could_read_differently",
            "server/heads2.rs::heads_that_are_none",
            "server/heads2.rs::a_length_that_is_not_that_of_the_body",
        ],
        but: "",
    },
    Row { attack: "Through proxies", held: &["edge/desync.py"], but: "" },
    Row {
        attack: "however the bytes arrive, and behind another request",
        held: &[
            "server/http1.rs::it_ends_the_same_however_the_bytes_arrive",
            "server/http1.rs::it_ends_the_same_behind_a_good_request",
        ],
        but: "",
    },
    Row {
        attack: "half-closed",
        held: &[
            "it/http1.rs::who_half_closes_after_the_body_still_gets_the_answer",
            "it/http1.rs::who_half_closes_in_the_middle_hears_so_and_is_not_believed",
            "server/requests.rs::who_has_sent_everything_still_gets_the_answer",
        ],
        but: "",
    },
];

/// Who is slow, says nothing, or floods.
pub(super) const FLOODS: &[Row] = &[
    Row {
        attack: "silent TCP",
        held: &[
            "server/silence.rs::not_a_byte",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything with silent ones",
        ],
        but: "",
    },
    Row {
        attack: "silent TLS",
        held: &[
            "server/silence.rs::not_a_byte_of_tls_half_a_hello_and_nothing_after_the_handshake",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
        ],
        but: "",
    },
    Row {
        attack: "slow headers",
        held: &[
            "server/silence.rs::a_head_without_end",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything with slow heads",
        ],
        but: "",
    },
    Row {
        attack: "slow body",
        held: &[
            "server/receive.rs::a_body_that_stalls_or_drips_is_too_slow",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything with slow bodies",
        ],
        but: "",
    },
    Row {
        attack: "slow read",
        held: &[
            "server/silence.rs::an_answer_that_nobody_takes",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything with deaf ones",
        ],
        but: "an answer may be longer than 512 bytes: 64 KiB of an app's with `reply: full`, 1,024 bytes to a challenge; the write timeout ends who takes none of it",
    },
    Row {
        attack: "keep-alive idle",
        held: &[
            "server/silence.rs::idle_after_a_request",
            "server/slow.rs::who_does_not_go_on_is_ended_by_the_limits_and_by_nothing_else",
        ],
        but: "",
    },
    Row {
        attack: "h2 idle",
        held: &[
            "server/silence.rs::http2_without_a_stream",
            "server/slow.rs::pings_do_not_keep_a_connection",
            "server/silence.rs::old_connections_are_asked_to_close",
        ],
        but: "a connection may be an hour old; idle ones end after 30 s whatever they ping",
    },
    Row {
        attack: "rapid reset",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with rapid reset",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "MadeYouReset",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with made to reset",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "CONTINUATION, empty CONTINUATION",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with continuation",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with empty continuation",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "empty DATA",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with empty data",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "HPACK bomb",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with header bomb",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "SETTINGS / PING / WINDOW_UPDATE / PRIORITY x 50,000",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with settings",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with ping",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with answers to no ping",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with window of the connection",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with window of a stream",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with priority",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
    Row {
        attack: "1,000 open streams",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with streams without end",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
            "server/requests.rs::streams_that_are_one_too_many_cost_only_themselves",
        ],
        but: "",
    },
    Row {
        attack: "frames of a kind that nobody knows",
        held: &[
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with frames that nobody knows",
            "server/flood.rs::every_flood_ends_its_connection_and_no_other with frames that nobody knows, large",
            "server/flood.rs::a_server_without_the_limits_is_found_out",
            "it/hostile.rs::attacks_end_and_cost_nobody_else_anything",
        ],
        but: "",
    },
];

/// What TLS must refuse.
pub(super) const TLS: &[Row] = &[
    Row {
        attack: "only TLS 1.2/1.3",
        held: &["server/tls.rs::both_versions_are_spoken_or_only_the_newer", "tls/check"],
        but: "",
    },
    Row {
        attack: "6 AEAD suites, no CBC, no compression, no renegotiation",
        held: &["tls/check"],
        but: "",
    },
    Row {
        attack: "no tickets in 1.2",
        held: &["server/tls.rs::no_session_is_resumed_and_no_data_is_taken_early", "tls/check"],
        but: "",
    },
    Row { attack: "FALLBACK_SCSV, Heartbleed, CCS, ROBOT", held: &["tls/check"], but: "" },
    Row {
        attack: "`max_early_data_size = 0`",
        held: &["server/tls.rs::no_session_is_resumed_and_no_data_is_taken_early", "tls/check"],
        but: "",
    },
    Row {
        attack: "unknown ALPN -> alert",
        held: &["server/tls.rs::the_negotiated_protocol_is_the_one_that_is_spoken"],
        but: "",
    },
    Row {
        attack: "cert reload without drop",
        held: &[
            "server/tls.rs::a_new_certificate_is_for_new_connections",
            "it/handover.rs::reloads_and_restarts_under_load_fail_no_request",
        ],
        but: "",
    },
    Row {
        attack: "key file mode check",
        held: &[
            "server/tls.rs::what_cannot_be_served_is_an_error_and_what_should_not_is_a_warning",
        ],
        but: "",
    },
    Row {
        attack: "client-cert option per source",
        held: &["server/tls.rs::a_client_certificate_is_demanded_each_time"],
        but: "for all sources of a process: whose certificate it is, is asked before a path is known",
    },
];
