//! Keys that are fetched: kept while they are good, fetched again when they are not, by one request at a time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as Turn, time::Instant};
use tracing::Instrument as _;

use super::{KeySet, Keys, Verifier, Want};
use crate::{event::Timestamp, fetch::Documents, secret::Secret};

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
const FETCHES_WITHIN: Duration = Duration::from_mins(1);
/// Those of them after which a place without keys is not asked, so that who names places that are none keeps nobody from the keys
/// of the others. Somebody's first such fetch is one of these, the second one of the first half of them, the next one of the first
/// quarter, and so on: few who name ever other places leave room for everybody else.
const FETCHES_ANEW_MAX: u32 = 20;
/// The part of an IPv6 address that says who somebody is: behind it, one party may have as many addresses as it likes (RFC 6177).
const PREFIX: u128 = u128::MAX << (128 - 48);

/// The fetched keys of one source.
#[derive(Clone, Debug)]
pub struct Keyring {
    verifier: Arc<Verifier>,
    /// None where what there is was given.
    fetcher: Option<Arc<dyn Documents>>,
    /// What is shown to whoever has the keys, where that is asked for.
    secret: Option<Secret>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    places: HashMap<(usize, String), Place>,
    /// The fetches of this minute.
    counted: Option<Counted>,
}

/// Fetches since a time.
#[derive(Debug)]
struct Counted {
    since: Instant,
    count: u32,
    /// Who named the places without keys that were asked; so many at most as may be asked.
    namers: Vec<IpAddr>,
    /// Whether it was said that some are not asked.
    is_told: bool,
}

impl Counted {
    fn from(since: Instant) -> Self {
        Self { since, count: 0, namers: Vec::new(), is_told: false }
    }

    /// Whether a place may be asked; for one without keys, who named it. If so, that counts.
    fn admit(&mut self, anew: Option<IpAddr>) -> bool {
        let before = self.namers.iter().filter(|namer| Some(**namer) == anew).count();
        let may = match anew {
            Some(_) => (u64::from(self.count) << before) < FETCHES_ANEW_MAX.into(),
            None => self.count < FETCHES_MAX,
        };
        if may {
            self.count += 1;
            self.namers.extend(anew);
        }
        may
    }
}

/// What is known of one place.
#[derive(Debug, Default)]
struct Place {
    held: Option<Held>,
    /// When it last answered someone who looked for a key that was not among those that were there.
    sought: Option<Instant>,
    /// When it was asked last, and whether that failed.
    asked: Option<(Instant, bool)>,
    /// When it was last not asked because others had been.
    put_off: Option<Instant>,
    turn: Arc<Turn<()>>,
}

/// Keys, and until when they are good: at all, and where there are no newer ones.
#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    fresh_until: Instant,
    stale_until: Instant,
}

/// The keys cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl Place {
    /// The keys, while they are good; old ones, while they are not too old and it was tried to get new ones.
    fn usable(&self, now: Instant) -> Option<&Arc<KeySet>> {
        let asked = self.asked.map(|(at, _)| at).max(self.put_off);
        let tried = asked.is_some_and(|at| now.duration_since(at) < AFTER_FAILURE);
        let until = |held: &Held| if tried { held.stale_until } else { held.fresh_until };
        self.held.as_ref().filter(|held| now < until(held)).map(|held| &held.keys)
    }

    fn failed_lately(&self, now: Instant) -> bool {
        self.asked.is_some_and(|(at, failed)| failed && now.duration_since(at) < AFTER_FAILURE)
    }

    fn sought_lately(&self, now: Instant) -> bool {
        self.sought.is_some_and(|at| now.duration_since(at) < AFTER_UNKNOWN)
    }

    /// What there is to say to someone who wants `want`, without asking; `None` where the place should be asked.
    fn settled(&self, want: &Want, now: Instant) -> Option<Result<(), Unavailable>> {
        let is_there = !want.is_stale && self.usable(now).is_some();
        if is_there || (want.is_stale && self.sought_lately(now)) {
            return Some(Ok(()));
        }
        self.failed_lately(now).then_some(Err(Unavailable))
    }

    /// What there is to say where others were asked instead. That says nothing about it: who wants it next may ask.
    fn put_off(&mut self, want: &Want, now: Instant) -> Result<(), Unavailable> {
        self.put_off = Some(now);
        self.settled(want, now).unwrap_or(Err(Unavailable))
    }

    /// What there is to say once it could not be asked.
    fn failed(&mut self, want: &Want, now: Instant) -> Result<(), Unavailable> {
        self.asked = Some((now, true));
        self.settled(want, now).unwrap_or(Err(Unavailable))
    }
}

impl Keyring {
    /// A keyring without keys. `secret` is shown to whoever has them, where a scheme says how.
    pub fn new(
        verifier: Arc<Verifier>,
        fetcher: Arc<dyn Documents>,
        secret: Option<Secret>,
    ) -> Self {
        Self { verifier, fetcher: Some(fetcher), secret, kept: Arc::default() }
    }

    /// The same with the keys of `other`, where they would be fetched from the same places and read alike.
    pub fn remembering(&self, other: &Self) -> Option<Self> {
        let shows_it = match (&self.secret, &other.secret) {
            (Some(own), Some(old)) => own.matches(old.expose()),
            (own, old) => own.is_none() && old.is_none(),
        };
        let (own, old) = (self.fetcher.as_ref()?, other.fetcher.as_ref()?);
        let alike =
            shows_it && own.params() == old.params() && self.verifier.fetches_like(&other.verifier);
        alike.then(|| Self { kept: Arc::clone(&other.kept), ..self.clone() })
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
                // Nobody looks for more than is there.
                let want = Want { scheme, url, is_stale: true };
                let Ok(keys) = keyring.verifier.read(&want, text.as_bytes(), &[], now) else {
                    continue;
                };
                keyring.keep(&want, keys, None);
            }
        }
        keyring
    }

    /// Sees to it that the keys are there that a request of `peer` wants, or that it is known that they cannot be had. Tells `count` how
    /// (one of [`crate::telemetry::FETCH_RESULTS`]) a fetch ended, if this was the one to do it. A fetch goes on where whoever asked for
    /// it does not wait: else a sender that hangs up in time would have it begun again and again, and never ended.
    pub async fn bring(
        &self,
        want: &Want,
        peer: IpAddr,
        count: impl Fn(&'static str) + Send + 'static,
    ) -> Result<(), Unavailable> {
        let turn = self.place(want, |place| Arc::clone(&place.turn)).lock_owned().await;
        let now = Instant::now();
        if let Some(settled) = self.place(want, |place| place.settled(want, now)) {
            return settled;
        }
        let Some(fetcher) = self.fetcher.clone() else { return Err(Unavailable) };
        if !self.may_fetch(want, peer, now) {
            count("busy");
            return self.place(want, |place| place.put_off(want, now));
        }
        self.place(want, |place| place.asked = Some((now, false)));
        let (keyring, wanted) = (self.clone(), want.clone());
        let renewed = async move {
            let _turn = turn;
            keyring.renew(&wanted, &*fetcher, count).await
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "no end has to wait for it, and it is over within fetch.timeout"
        )]
        let renewed = tokio::spawn(renewed.in_current_span()).await;
        // A bug, or the end of the runtime.
        renewed.unwrap_or_else(|_| self.place(want, |place| place.failed(want, Instant::now())))
    }

    async fn renew(
        &self,
        want: &Want,
        fetcher: &dyn Documents,
        count: impl Fn(&'static str),
    ) -> Result<(), Unavailable> {
        match self.fetch(want, fetcher).await {
            Ok((keys, max_age)) => {
                count("ok");
                self.keep(want, keys, max_age);
                Ok(())
            }
            Err((result, why)) => {
                count(result);
                let url = &want.url;
                tracing::warn!(kind = "keys", url, result, why, "keys could not be fetched");
                self.place(want, |place| place.failed(want, Instant::now()))
            }
        }
    }

    /// The keys that a place has now, and how long they are good; how it failed, and why.
    async fn fetch(
        &self,
        want: &Want,
        fetcher: &dyn Documents,
    ) -> Result<(KeySet, Option<Duration>), (&'static str, String)> {
        let shown = self.secret.as_ref().and_then(|secret| self.verifier.shown(want, secret));
        let document = fetcher.fetch(&want.url, shown).await.map_err(|why| ("failed", why))?;
        let (text, anchors) = (&document.body, fetcher.anchors());
        let keys = self.verifier.read(want, text, anchors, Timestamp::now());
        keys.map(|keys| (keys, document.max_age)).map_err(|why| ("invalid", why))
    }

    fn keep(&self, want: &Want, keys: KeySet, max_age: Option<Duration>) {
        let now = Instant::now();
        let fresh = max_age.unwrap_or(FRESH_MIN).clamp(FRESH_MIN, FRESH_MAX);
        let stale = self.fetcher.as_ref().map_or(fresh, |fetcher| fetcher.params().stale);
        let (fresh_until, stale_until) = (now + fresh, now + fresh.max(stale));
        self.place(want, |place| {
            place.held = Some(Held { keys: Arc::new(keys), fresh_until, stale_until });
            place.asked = Some((now, false));
            place.sought = if want.is_stale { Some(now) } else { place.sought };
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
            let when = |place: &Place| (place.held.is_some(), place.asked.map(|(at, _)| at));
            let oldest =
                places.iter().min_by_key(|(_, place)| when(place)).map(|(key, _)| key.clone());
            oldest.map(|key| places.remove(&key));
        }
        work(places.entry(key).or_default())
    }

    fn may_fetch(&self, want: &Want, peer: IpAddr, now: Instant) -> bool {
        let is_known = self.place(want, |place| place.held.is_some());
        let counted = &mut self.kept().counted;
        let is_over = |counted: &Counted| now.duration_since(counted.since) >= FETCHES_WITHIN;
        counted.take_if(|counted| is_over(counted));
        let counted = counted.get_or_insert_with(|| Counted::from(now));
        let may = counted.admit((!is_known).then(|| somebody(peer)));
        if !may && !std::mem::replace(&mut counted.is_told, true) {
            let told = "many places are named for keys: for up to a minute, some are not asked";
            tracing::warn!(kind = "keys", url = want.url, %peer, "{told}");
        }
        may
    }
}

/// An address, or the network that stands for all of those that its owner has.
fn somebody(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & PREFIX).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

impl Keys for Keyring {
    fn get(&self, scheme: usize, url: &str) -> Option<Arc<KeySet>> {
        let kept = self.kept();
        let place = kept.places.get(&(scheme, url.to_owned()))?;
        place.usable(Instant::now()).cloned()
    }

    fn may_ask_again(&self, scheme: usize, url: &str) -> bool {
        let kept = self.kept();
        let place = kept.places.get(&(scheme, url.to_owned()));
        place.is_none_or(|place| !place.sought_lately(Instant::now()))
    }
}
