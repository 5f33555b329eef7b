//! Ends the process at a named point, as a crash would, so that tests see what a crash leaves there.
//!
//! `GATEPOST_CRASH_AT=after_claim:3` ends it when it comes by `after_claim` for the third time; with `after_claim:panic` there
//! is a panic there every time. Debug builds only: a release build has nothing of it, not even the names (`tests/faults`
//! compiles this file both ways and looks).

#[cfg(debug_assertions)]
use std::{
    env, process,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The point, and how often it is still passed; no number is a panic.
#[cfg(debug_assertions)]
static PLAN: LazyLock<Option<(String, Option<AtomicU32>)>> = LazyLock::new(|| {
    let plan = env::var("GATEPOST_CRASH_AT").ok()?;
    let (name, count) = plan.split_once(':')?;
    Some((name.to_owned(), count.parse().ok().map(AtomicU32::new)))
});

/// A point that is called so.
#[inline]
pub(crate) fn point(name: &str) {
    after(name, || ());
}

/// The same, where the process does one thing more.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "as a bug would, so that tests see what follows")]
pub(crate) fn after<T>(name: &str, last: impl FnOnce() -> T) {
    match PLAN.as_ref().filter(|(planned, _)| planned == name) {
        Some((_, None)) => panic!("a bug at {name}"),
        Some((_, Some(left))) if left.fetch_sub(1, Ordering::Relaxed) == 1 => {
            last();
            process::abort();
        }
        Some(_) | None => {}
    }
}

/// The same, where the process does one thing more.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn after<T>(_: &str, _: impl FnOnce() -> T) {}
