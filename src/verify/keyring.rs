//! Keys that are fetched: kept while they are good, fetched again when they are not, by one request at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as Turn, time::Instant};

use super::{KeySet, Keys, Verifier, Want};
use crate::{event::Timestamp, fetch::Fetcher, secret::Secret};

/// How long keys are good, whatever their server says.
const FRESH_MIN: Duration = Duration::from_mins(5);
const FRESH_MAX: Duration = Duration::from_hours(24);
/// How long nobody asks again after it failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long nobody asks again for a key that was not there.
const AFTER_UNKNOWN: Duration = Duration::from_mins(1);
/// Places that are remembered, at most: messages may name many.
const PLACES_MAX: usize = 64;
/// Fetches within a minute, at most, for all places together.
const FETCHES_MAX: u32 = 30;

/// The fetched keys of one source.
#[derive(Debug)]
pub struct Keyring {
    verifier: Arc<Verifier>,
    /// None where what there is was given.
    fetcher: Option<Arc<Fetcher>>,
    /// What is shown to whoever has the keys, where that is asked for.
    secret: Option<Secret>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<(usize, String), Place>,
    /// Since when fetches are counted, and how many there were.
    counted: Option<(Instant, u32)>,
}

/// What is known of one place.
#[derive(Clone, Debug, Default)]
struct Place {
    keys: Option<Arc<KeySet>>,
    fresh_until: Option<Instant>,
    stale_until: Option<Instant>,
    /// When it was asked last for a key that was not among those that were there.
    sought: Option<Instant>,
    /// When it was asked last, and how that went; nothing while it is under way.
    asked: Option<(Instant, Option<bool>)>,
    turn: Arc<Turn<()>>,
}

/// The keys cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl Place {
    fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until.is_some_and(|until| now < until)
    }

    /// Whether old keys are used: while they are not too old, and it was tried to get new ones.
    fn is_usable(&self, now: Instant) -> bool {
        let tried = self.asked_within(now, AFTER_FAILURE);
        self.is_fresh(now) || (tried && self.stale_until.is_some_and(|until| now < until))
    }

    fn asked_within(&self, now: Instant, span: Duration) -> bool {
        self.asked.is_some_and(|(at, _)| now.duration_since(at) < span)
    }

    fn failed_last(&self) -> bool {
        matches!(self.asked, Some((_, Some(false))))
    }

    fn sought_lately(&self, now: Instant) -> bool {
        self.sought.is_some_and(|at| now.duration_since(at) < AFTER_UNKNOWN)
    }

    /// What there is to say to someone who wants `want`, without asking; `None` where the place should be asked.
    fn settled(&self, want: &Want, now: Instant) -> Option<Result<(), Unavailable>> {
        if self.failed_last() && self.asked_within(now, AFTER_FAILURE) {
            let usable = !want.is_stale && self.is_usable(now);
            return Some(if usable { Ok(()) } else { Err(Unavailable) });
        }
        let settled = if want.is_stale { self.sought_lately(now) } else { self.is_usable(now) };
        settled.then_some(Ok(()))
    }
}

impl Keyring {
    /// A keyring without keys. `secret` is shown to whoever has them, where a scheme says how.
    pub fn new(verifier: Arc<Verifier>, fetcher: Arc<Fetcher>, secret: Option<Secret>) -> Self {
        Self { verifier, fetcher: Some(fetcher), secret, kept: Arc::default() }
    }

    /// The same with the keys of `other`, where they would be fetched from the same places and read alike.
    pub fn remembering(&self, other: &Self) -> Option<Self> {
        let Self { verifier, fetcher, secret, .. } = self;
        let shows_it = match (secret, &other.secret) {
            (None, None) => true,
            (Some(own), Some(other)) => own.matches(other.expose()),
            _ => false,
        };
        let asks_like = fetcher.as_ref()?.asks_like(other.fetcher.as_ref()?);
        let alike = shows_it && asks_like && verifier.fetches_like(&other.verifier);
        let kept = alike.then(|| Arc::clone(&other.kept))?;
        let (verifier, fetcher, secret) = (Arc::clone(verifier), fetcher.clone(), secret.clone());
        Some(Self { verifier, fetcher, secret, kept })
    }

    /// A keyring that has documents as if it had fetched them now, and asks nobody: each is at a URL, or where the configuration
    /// says that keys are. Which of them a request may name is for its scheme to say.
    pub(crate) fn given(
        verifier: Arc<Verifier>,
        documents: &[(Option<String>, String)],
        now: Timestamp,
    ) -> Self {
        let keyring = Self { verifier, fetcher: None, secret: None, kept: Arc::default() };
        for (scheme, place) in keyring.verifier.key_places().enumerate() {
            for (url, text) in documents {
                let Some(url) = url.clone().or_else(|| place.clone()) else { continue };
                let want = Want { scheme, url, is_stale: false };
                let Ok(keys) = keyring.verifier.read(&want, text.as_bytes(), &[], now) else {
                    continue;
                };
                keyring.keep(&want, keys, None);
                keyring.place(&want, |place| place.sought = Some(Instant::now()));
            }
        }
        keyring
    }

    /// Sees to it that the keys are there that a request wants, or that it is known that they cannot be had. Tells `count` how (one of [`crate::telemetry::FETCH_RESULTS`])
    /// a fetch ended, if this was the one to do it.
    pub async fn bring(
        &self,
        want: &Want,
        count: impl Fn(&'static str),
    ) -> Result<(), Unavailable> {
        let turn = self.place(want, |place| Arc::clone(&place.turn));
        let _turn = turn.lock().await;
        let now = Instant::now();
        if let Some(settled) = self.place(want, |place| place.settled(want, now)) {
            return settled;
        }
        let Some(fetcher) = &self.fetcher else { return Err(Unavailable) };
        if !self.may_fetch(now) {
            count("busy");
            return Err(Unavailable);
        }
        self.place(want, |place| {
            place.asked = Some((now, None));
            place.sought = if want.is_stale { Some(now) } else { place.sought };
        });
        let shown = self.secret.as_ref().and_then(|secret| self.verifier.shown(want, secret));
        let answer = fetcher.fetch(&want.url, shown).await;
        let read = answer.map_err(|why| ("failed", why)).and_then(|document| {
            let read =
                self.verifier.read(want, &document.body, fetcher.anchors(), Timestamp::now());
            read.map(|keys| (keys, document)).map_err(|why| ("invalid", why))
        });
        match read {
            Ok((keys, document)) => {
                count("ok");
                self.keep(want, keys, document.max_age);
                Ok(())
            }
            Err((result, why)) => {
                count(result);
                tracing::warn!(
                    kind = "keys",
                    url = want.url,
                    result,
                    why,
                    "keys could not be fetched"
                );
                let now = Instant::now();
                let usable = self.place(want, |place| {
                    place.asked = Some((now, Some(false)));
                    !want.is_stale && place.is_usable(now)
                });
                if usable { Ok(()) } else { Err(Unavailable) }
            }
        }
    }

    fn keep(&self, want: &Want, keys: KeySet, max_age: Option<Duration>) {
        let now = Instant::now();
        let fresh = max_age.unwrap_or(FRESH_MIN).clamp(FRESH_MIN, FRESH_MAX);
        self.place(want, |place| {
            place.keys = Some(Arc::new(keys));
            place.asked = Some((now, Some(true)));
            place.fresh_until = Some(now + fresh);
            let stale = self.fetcher.as_ref().map_or(fresh, |fetcher| fetcher.stale());
            place.stale_until = Some(now + fresh.max(stale));
        });
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // What is kept is whole between any two statements.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a place; where there is no room for it, the one that was asked longest ago is forgotten.
    fn place<T>(&self, want: &Want, work: impl FnOnce(&mut Place) -> T) -> T {
        let key = (want.scheme, want.url.clone());
        let places = &mut self.kept().places;
        if places.len() >= PLACES_MAX && !places.contains_key(&key) {
            let when = |place: &Place| (place.keys.is_some(), place.asked.map(|(at, _)| at));
            let oldest =
                places.iter().min_by_key(|(_, place)| when(place)).map(|(key, _)| key.clone());
            oldest.map(|key| places.remove(&key));
        }
        work(places.entry(key).or_default())
    }

    fn may_fetch(&self, now: Instant) -> bool {
        let counted = &mut self.kept().counted;
        let (since, count) = counted.unwrap_or((now, 0));
        let over = now.duration_since(since) >= Duration::from_mins(1);
        let (since, count) = if over { (now, 0) } else { (since, count) };
        *counted = Some((since, count.saturating_add(1)));
        count < FETCHES_MAX
    }
}

impl Keys for Keyring {
    fn get(&self, scheme: usize, url: &str) -> Option<Arc<KeySet>> {
        let kept = self.kept();
        let place = kept.places.get(&(scheme, url.to_owned()))?;
        place.keys.clone().filter(|_| place.is_usable(Instant::now()))
    }

    fn may_ask_again(&self, scheme: usize, url: &str) -> bool {
        let kept = self.kept();
        let place = kept.places.get(&(scheme, url.to_owned()));
        place.is_none_or(|place| place.failed_last() || !place.sought_lately(Instant::now()))
    }
}
