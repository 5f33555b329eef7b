//! Subscriptions that are confirmed by fetching a URL which a signed challenge says: once, and only where its rule allows it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::{event::Digest, fetch::Documents};

/// Confirms the subscriptions of one source, one after the other.
#[derive(Debug)]
pub struct Confirmer {
    fetcher: Arc<dyn Documents>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// URLs that were fetched.
    done: VecDeque<Digest>,
    /// When one could not be fetched last.
    failed: Option<Instant>,
}

/// URLs that are remembered, at most.
const DONE_MAX: usize = 64;
/// How long nobody is asked again after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

impl Confirmer {
    /// One that has confirmed nothing yet.
    pub fn new(fetcher: Arc<dyn Documents>) -> Self {
        Self { fetcher, kept: Arc::default() }
    }

    /// The same, and it knows what `other` has confirmed.
    #[must_use]
    pub fn remembering(&self, other: &Self) -> Self {
        Self { fetcher: Arc::clone(&self.fetcher), kept: Arc::clone(&other.kept) }
    }

    /// Fetches a URL, unless it was fetched before. How that ended, as one of [`crate::telemetry::CONFIRM_RESULTS`], and what is
    /// wrong.
    pub(super) async fn confirm(&self, url: &str) -> (&'static str, Result<(), String>) {
        let own = Digest::of(url.as_bytes());
        let mut kept = self.kept.lock().await;
        if kept.done.contains(&own) {
            return ("known", Ok(()));
        }
        if kept.failed.is_some_and(|at| at.elapsed() < AFTER_FAILURE) {
            return ("busy", Err("one could not be fetched a moment ago".into()));
        }
        match self.fetcher.fetch(url, None).await {
            Ok(_) => {
                kept.done.truncate(DONE_MAX - 1);
                kept.done.push_front(own);
                ("ok", Ok(()))
            }
            Err(why) => {
                kept.failed = Some(Instant::now());
                ("failed", Err(why))
            }
        }
    }
}
