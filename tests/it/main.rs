//! The real binary over sockets: real TLS, real files, a real Redis, real signals.

#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a test may"
)]
#![allow(
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::pedantic,
    unreachable_pub,
    reason = "helpers of tests"
)]

mod abuse;
mod accept;
mod acks;
mod answers;
mod canary;
mod capture;
mod challenges;
mod commands;
mod confirm;
mod connect;
mod deliver;
mod descriptors;
mod disk;
mod doctor;
mod duplicate;
mod events;
mod families;
#[path = "../support/forgeries.rs"]
mod forged;
#[path = "../support/h2.rs"]
mod h2;
mod handover;
mod hostile;
mod howto;
mod http1;
mod idle;
mod keys;
#[path = "../support/leak.rs"]
mod leak;
mod log;
mod overload;
mod raw;
mod rebinding;
mod record;
mod redis;
mod refuse;
mod reload;
mod sent;
mod shadow;
mod shutdown;
mod signatures;
mod signed_anew;
mod strangers;
mod tls;
mod world;

/// A Stripe secret for tests.
pub const STRIPE: &str = "whsec_test_0123456789abcdefghijklmnop";
/// A GitHub secret for tests.
pub const GITHUB: &str = "github-test-secret-0123456789";

/// One Stripe source at `/stripe`, all of it to `upstream`.
pub fn stripe_to(upstream: &str) -> String {
    format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\nupstreams: {{ app: {{ url: \"{upstream}\" }} }}\n"
    )
}
