//! The server over real sockets: TLS, limits, proxies, drain; and the admin server beside it.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::unnecessary_wraps,
    reason = "all of it is test code, helpers too"
)]

mod admin;
mod check;
mod drain;
mod flood;
mod forwarded;
mod guard;
#[path = "../support/h2.rs"]
mod h2;
mod heads2;
mod http1;
mod listen;
mod proxy_protocol;
mod receive;
mod requests;
mod silence;
mod slow;
mod tls;
mod world;
