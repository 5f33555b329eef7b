//! The people and things around a gateway: providers that sign, upstreams that answer, a network that breaks.

pub mod ca;
pub mod chaos;
pub mod crowd;
pub mod disk;
pub mod gateway;
pub mod names;
pub mod provider;
pub mod redis;
pub mod sender;
pub mod strangers;
pub mod upstream;
#[path = "../../support/wall.rs"]
pub mod wall;

use std::{future::Future, time::Duration};

pub use ca::Ca;
pub use chaos::ChaosProxy;
pub use crowd::{Crowd, Tally};
pub use gateway::Gateway;
pub use provider::Provider;
pub use redis::RedisServer;
pub use sender::{Dialer, Load};
pub use upstream::{RawUpstream, Reply, Speaks, Then, Upstream};

/// How long anything may take before a test gives up on it. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `check` holds, by asking again and again.
pub async fn eventually<F, Fut>(what: &str, mut check: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `count` is `enough`; as long as it grows, however slowly.
pub async fn progress(enough: usize, count: impl Fn() -> usize) {
    while count() < enough {
        let before = count();
        eventually("it goes on", || async { count() > before }).await;
    }
}

/// How large a run is: small here, as large as `variable` says in a long run.
pub fn size(variable: &str, small: u64) -> u64 {
    std::env::var(variable).map_or(small, |text| text.parse().expect("a number"))
}
