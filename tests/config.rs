//! What people read when a configuration is wrong. One fixture and one snapshot of the rendered text for each mistake.

#![allow(
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

#[path = "config/agreement.rs"]
mod agreement;
#[path = "config/catalogue.rs"]
mod catalogue;
#[path = "config/commands.rs"]
mod commands;
#[path = "config/example.rs"]
mod example;
#[path = "config/hidden.rs"]
mod hidden;
#[path = "config/trial.rs"]
mod trial;
#[path = "config/units.rs"]
mod units;
#[path = "config/values.rs"]
mod values;
#[path = "config/vectors.rs"]
mod vectors;

use gatepost::{
    config::{self, Env, Options},
    event::Timestamp,
};

/// The fixture, checked with an environment and a clock that never change.
fn checked(name: &str) -> String {
    let path = format!("{}/tests/config/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    match config::parse_str("gatepost.yaml", &text, &options()) {
        Ok(loaded) => loaded.warnings.human(false),
        Err(report) => report.human(false),
    }
}

fn options() -> Options {
    let env = Env::from([
        ("STRIPE_WEBHOOK_SECRET_TEST", "whsec_0123456789abcdef"),
        ("A_SECRET", "an-hmac-secret-of-32-characters!"),
        ("B_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("C_SECRET", "8f742231b10e8888abcd99yyyzzz85a5"),
        ("SLACK_BOT_TOKEN", "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcBrzbqgy"),
    ]);
    Options { env, offline: false, now: Timestamp::from_millis(1_795_500_000_000) }
}

/// A snapshot test for each named fixture.
macro_rules! fixtures {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("config");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!(stringify!($name), checked(stringify!($name))));
        }
    )*};
}

fixtures! {
    unknown_key env_unset duration_unit size_unit unknown_upstream unknown_source duplicate_path
    event_id_missing proxy_fan_out admin_exposed upstream_is_self indentation duplicate_key many
    secret_shape public_url unknown_event route_unreachable window_short deadline later_keys
    unclosed incomplete zero_limit custom_scheme custom_keys unsigned_field
    metadata_address
}

#[test]
fn an_id_is_needed_only_where_a_scheme_has_none_of_its_own() {
    let own = ", event: { id: '{json:id}' }";
    let said = |first: &str, last: &str| {
        let text = format!(
            "version: 1
server: {{ host: hooks.example.com }}
tls: {{ mode: none }}
sources:
  shop:
    provider: custom
    secret: ${{A_SECRET}}
    verify:
      signature: {{ header: X-Signature }}
      schemes:
        - {{ when: {{ header: X-New }}, signed: 'new:{{body}}'{first} }}
        - {{ signed: '{{body}}'{last} }}
    event: {{ type: order }}
routes: [{{ source: shop, to: app }}]
upstreams: {{ app: http://127.0.0.1:3000 }}
"
        );
        let loaded = config::parse_str("gatepost.yaml", &text, &options());
        loaded.map(drop).map_err(|report| report.human(false))
    };
    assert_eq!(said(own, own), Ok(()));
    for (first, last) in [(own, ""), ("", own), ("", "")] {
        let wrong = said(first, last).expect_err("one has no id");
        assert!(wrong.starts_with("error[event-id-missing]: source `shop`"), "{wrong}");
        assert_eq!(wrong.matches("error[").count(), 1, "{wrong}");
    }
}
