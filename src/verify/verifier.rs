//! All schemes and secrets of one source: which scheme counts, and which secret matches.

use std::{borrow::Cow, iter, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json};

use super::{
    Container, From, LiveSecret, Place, Presented, Proof, Scheme, SchemeParts, Signed, fitting,
    foreign::{Believed, Ring, Stop},
    key::Key,
    keyset::KeySet,
    scheme::{self, Match},
    shared,
    source::{Keys, NoKeys},
};
use crate::{answer::Reason, event::Timestamp};

/// All schemes and secrets of one source, with keys prepared.
#[derive(Debug)]
pub struct Verifier {
    schemes: Vec<Prepared>,
    secrets: Vec<Held>,
}

#[derive(Debug)]
struct Prepared {
    scheme: Scheme,
    /// One per secret that is meant for this scheme, with its slot.
    keys: Vec<(u16, Key)>,
    /// The same for a scheme whose keys are not ours.
    sets: Vec<(u16, KeySet)>,
    /// What must hold as well.
    besides: Option<Box<Self>>,
}

impl Prepared {
    /// With the keys that are meant for this one of `schemes`.
    fn new(scheme: &Scheme, schemes: &[&Scheme], secrets: &[LiveSecret]) -> Self {
        let (keys, sets) = fitting::keys(scheme, schemes, secrets);
        let besides = scheme.parts.besides.as_deref();
        let besides = besides.map(|scheme| Box::new(Self::new(scheme, schemes, secrets)));
        Self { scheme: scheme.clone(), keys, sets, besides }
    }
}

#[derive(Debug)]
struct Held {
    live: LiveSecret,
    label: Arc<str>,
}

impl Held {
    fn is_live(&self, now: Timestamp) -> bool {
        self.live.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it is the one that a request names, if it names one.
    fn is_called(&self, id: Option<&[u8]>) -> bool {
        id.is_none_or(|id| self.live.id.as_ref().is_some_and(|own| own.as_bytes() == id))
    }
}

impl Verifier {
    /// Prepares every key of every scheme, or says to the operator why a secret does not fit (for example: not base64).
    pub fn new(
        mut schemes: Vec<Scheme>,
        secrets: Vec<LiveSecret>,
        public_url: &str,
    ) -> Result<Self, String> {
        for (n, scheme) in schemes.iter_mut().enumerate() {
            scheme.parts.foreign.iter_mut().for_each(|foreign| foreign.scheme = n);
        }
        let all: Vec<_> = schemes.iter().flat_map(Scheme::with_besides).collect();
        if all.is_empty() || (secrets.is_empty() && !all.iter().all(|scheme| scheme.finds_keys())) {
            return Err("a source needs a scheme and a secret to be verified by".into());
        }
        if public_url.is_empty() && all.iter().any(|scheme| scheme.needs_public_url()) {
            return Err("the provider signs the public URL, and none is configured".into());
        }
        for (slot, live) in secrets.iter().enumerate() {
            fitting::check(&all, live)
                .map_err(|problem| format!("secret {} {problem}", slot + 1))?;
        }
        let held = |live: LiveSecret| Held { label: live.secret.fingerprint().into(), live };
        let prepared = schemes.iter().map(|scheme| Prepared::new(scheme, &all, &secrets));
        Ok(Self { schemes: prepared.collect(), secrets: secrets.into_iter().map(held).collect() })
    }

    /// Schemes without any key, for a look at a configuration whose secrets are not read.
    pub(crate) fn without_keys(schemes: &[Scheme]) -> Self {
        let unkeyed = schemes.iter().map(|scheme| Prepared::new(scheme, &[], &[]));
        Self { schemes: unkeyed.collect(), secrets: Vec::new() }
    }

    /// Whether a scheme reads `Authorization`: then the header is the source's, and is passed on to the app.
    pub fn reads_authorization(&self) -> bool {
        let authorization = Place::Header(http::header::AUTHORIZATION);
        let mut parts = self.every_scheme().map(|scheme| &scheme.parts);
        parts.any(|parts| parts.containers.iter().any(|c| c.place == authorization))
    }

    /// Headers that carry signatures, whichever scheme counts.
    pub fn signature_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.every_scheme().flat_map(Scheme::signature_headers)
    }

    /// Whether a sender shows the secret itself in this header.
    pub fn is_shown_in(&self, header: &HeaderName) -> bool {
        let here = Place::Header(header.clone());
        let shown = |parts: &SchemeParts| {
            parts.algorithm.is_shown() && parts.containers.iter().any(|c| c.place == here)
        };
        self.every_scheme().any(|scheme| shown(&scheme.parts))
    }

    /// Checks a request with the keys that are configured.
    pub fn verify(&self, presented: &Presented<'_>) -> Result<Proof, Reason> {
        self.judge(presented, &NoKeys).map_err(|stop| match stop {
            Stop::Refused(reason) => reason,
            Stop::Wanting(_) => Reason::KeyNotFetched,
        })
    }

    /// Headers that the first scheme signs over, besides its time, and that are not among `headers`.
    pub fn signed_besides(&self, headers: &HeaderMap) -> Vec<HeaderName> {
        let Some(Prepared { scheme, .. }) = self.schemes.first() else { return Vec::new() };
        let time = scheme.parts.timestamps.as_ref().map(|time| &time.from.from);
        let missing = scheme.missing(headers).into_iter();
        let missing = missing.filter_map(|name| HeaderName::try_from(name).ok());
        missing.filter(|name| time != Some(&From::Header(name.clone()))).collect()
    }

    /// Checks a request. The first scheme whose `when` holds is the one that counts: where it fails, no other is asked. What must
    /// hold besides comes first, because it costs least.
    pub fn judge(&self, presented: &Presented<'_>, fetched: &dyn Keys) -> Result<Proof, Stop> {
        let mut schemes = self.schemes.iter().enumerate();
        let counts = |(_, prepared): &(usize, &Prepared)| prepared.scheme.counts(presented);
        let (alternative, prepared) = schemes.find(counts).ok_or(Reason::SignatureMissing)?;
        let besides = prepared.besides.as_deref();
        let besides =
            besides.map(|besides| self.believe(besides, presented, fetched)).transpose()?;
        let believed = self.believe(prepared, presented, fetched)?;
        // Beside a key that was fetched, a secret may have held: then that is the one that matched.
        let slot = match (believed.slot, besides) {
            (0, Some(besides)) => besides.slot,
            (slot, _) => slot,
        };
        Ok(self.proof(&prepared.scheme, alternative, Believed { slot, ..believed }))
    }

    /// Checks a request by one scheme.
    fn believe(
        &self,
        prepared: &Prepared,
        presented: &Presented<'_>,
        fetched: &dyn Keys,
    ) -> Result<Believed, Stop> {
        let now = presented.received_at;
        if let Some(foreign) = &prepared.scheme.parts.foreign {
            let is_live = |slot| self.held(slot).is_some_and(|held| held.is_live(now));
            let live = prepared.sets.iter().filter(|(slot, _)| is_live(*slot));
            let ring = Ring {
                sets: live.map(|(slot, set)| (*slot, set)).collect(),
                is_configured: !prepared.sets.is_empty(),
                fetched,
            };
            return foreign.check(&prepared.scheme, *presented, &ring);
        }
        let may = |slot, id: Option<&[u8]>| {
            self.held(slot).is_some_and(|held| held.is_live(now) && held.is_called(id))
        };
        let keys = scheme::Keys { all: &prepared.keys, may };
        let Match { slot, signed_at, text } = prepared.scheme.check(*presented, &keys)?;
        if self.held(slot).is_none() {
            let any_live = self.secrets.iter().any(|held| held.is_live(now));
            let reason = if any_live { Reason::SignatureWrong } else { Reason::SecretExpired };
            return Err(reason.into());
        }
        Ok(Believed { slot, signed_at, token: None, text })
    }

    fn proof(&self, scheme: &Scheme, alternative: usize, believed: Believed) -> Proof {
        let Believed { slot, signed_at, token, text } = believed;
        Proof {
            scheme: scheme.parts.algorithm.as_str(),
            slot: slot.into(),
            label: self.held(slot).map_or_else(|| "fetched".into(), |held| Arc::clone(&held.label)),
            signed_at,
            token,
            text,
            alternative,
        }
    }

    /// Whether the secret in a slot is one that both sides have, and not a key that anybody may know.
    pub(crate) fn is_shared(&self, slot: usize) -> bool {
        let is_own = |own: u16| usize::from(own) == slot;
        let mut schemes =
            self.schemes.iter().flat_map(|p| iter::once(p).chain(p.besides.as_deref()));
        let holds = |prepared: &Prepared| {
            let mut sets = prepared.sets.iter();
            prepared.keys.iter().any(|(own, _)| is_own(*own))
                || sets.any(|(own, set)| is_own(*own) && set.shared().is_some())
        };
        schemes.any(holds)
    }

    /// Whether a scheme's keys are fetched.
    pub fn fetches(&self) -> bool {
        self.schemes.iter().any(|prepared| prepared.scheme.finds_keys() && prepared.sets.is_empty())
    }

    /// Signs a request the way the provider would, with the first live secret, by headers alone. `headers` holds what the scheme
    /// signs over besides (ids, for instance); the signature and timestamp headers are returned. A signed time inside the
    /// body is taken as it stands there. The error says why the scheme cannot be signed forwards.
    pub fn sign(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        self.signed(presented, None).map(|signed| signed.headers)
    }

    /// The same, and changes body and query where something belongs there: the signature, a time, and what is signed and is not
    /// there. `claims` are put into a token beside what its scheme demands. What `gatepost send` does.
    pub fn sign_whole(
        &self,
        presented: &Presented<'_>,
        claims: &Map<String, Json>,
    ) -> Result<Signed, String> {
        self.signed(presented, Some(claims))
    }

    fn signed(
        &self,
        presented: &Presented<'_>,
        whole: Option<&Map<String, Json>>,
    ) -> Result<Signed, String> {
        let mut problem = "every configured secret has expired".to_owned();
        for (number, prepared) in self.schemes.iter().enumerate() {
            match self.sign_by(prepared, presented, whole) {
                Some(Ok(signed)) if self.counts_with(number, presented, &signed) => {
                    return Ok(signed);
                }
                Some(Ok(_)) => OTHERS.clone_into(&mut problem),
                Some(Err(why)) => problem = why,
                None => {}
            }
        }
        Err(problem)
    }

    /// A request's body and query with dots in place of a secret that is shown there; nothing where they show none.
    pub fn conceal(&self, presented: &Presented<'_>) -> Signed {
        let mut concealed = self.every_scheme().filter_map(|s| shared::conceal(s, presented).ok());
        let is_one = |signed: &Signed| signed.body.is_some() || signed.query.is_some();
        concealed.find(is_one).unwrap_or_default()
    }

    /// Whether a scheme is the one that counts for a request that it signed.
    pub(super) fn counts_with(
        &self,
        number: usize,
        presented: &Presented<'_>,
        signed: &Signed,
    ) -> bool {
        let mut headers = presented.headers.clone();
        signed.put_into(&mut headers);
        let body = signed.body.as_deref().unwrap_or(presented.body);
        let target = match &signed.query {
            Some(query) => Cow::Owned(format!("/?{query}")),
            None => Cow::Borrowed(presented.target),
        };
        let signed = Presented { headers: &headers, body, target: &target, ..*presented };
        self.schemes.iter().position(|prepared| prepared.scheme.counts(&signed)) == Some(number)
    }

    /// The tag of `text` under the secret in `slot`, as the first scheme that uses it makes it; under any, where that is 0.
    pub(crate) fn tag_of(&self, slot: usize, text: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let is_asked = |own: u16| slot == 0 || usize::from(own) == slot;
        let is_live = |own| self.held(own).is_some_and(|held| held.is_live(now));
        self.schemes.iter().filter(|p| p.scheme.parts.algorithm.signs()).find_map(|p| {
            let (_, key) = p.keys.iter().find(|(own, _)| is_asked(*own) && is_live(*own))?;
            Some(key.tag(&[text.into()], usize::MAX).bytes(p.scheme.parts.algorithm).to_vec())
        })
    }

    /// Signs a request that was verified once more, by the scheme that counted for it.
    pub fn sign_again(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let counts = |prepared: &&Prepared| prepared.scheme.counts(presented);
        let prepared = self.schemes.iter().find(counts).ok_or("it is of no known scheme")?;
        let signed = self.sign_by(prepared, presented, None);
        let signed = signed.map(|signed| signed.map(|signed| signed.headers));
        signed.unwrap_or_else(|| Err("there is no secret for the scheme it came with".into()))
    }

    /// Whether a request that came can be signed again without changing its body; a sentence where it cannot.
    pub fn can_sign_again(&self) -> Result<(), &'static str> {
        self.schemes.iter().try_for_each(|prepared| {
            let parts = &prepared.scheme.parts;
            let time = parts.timestamps.as_ref().map(|time| &time.from.from);
            let is_elsewhere = |c: &Container| matches!(c.place, Place::Elsewhere(_));
            match (parts.containers.iter().all(is_elsewhere), time) {
                _ if parts.besides.is_some() => Err(TWICE),
                (true, _) => Err("its signature is not in a header"),
                (_, Some(From::Json(_) | From::Form(_) | From::FormJson(..))) => {
                    Err("the signed time is in the body, which is never changed")
                }
                _ => Ok(()),
            }
        })
    }

    /// Signs by one scheme, with the first live secret that is meant for it; none, where there is none.
    fn sign_by(
        &self,
        prepared: &Prepared,
        presented: &Presented<'_>,
        whole: Option<&Map<String, Json>>,
    ) -> Option<Result<Signed, String>> {
        let now = presented.received_at;
        if prepared.besides.is_some() {
            return Some(Err(TWICE.to_owned()));
        }
        if let Some(foreign) = &prepared.scheme.parts.foreign {
            let (_, set) = self.first_live(&prepared.sets, now)?;
            return Some(foreign.sign_with_set(&prepared.scheme, set, presented, whole));
        }
        let keyed = self.first_live(&prepared.keys, now)?;
        let live = &self.held(keyed.0)?.live;
        Some(shared::sign(&prepared.scheme, keyed, live, presented, whole.is_some()))
    }

    /// The first of some keys whose secret has not expired.
    fn first_live<'k, K>(&self, keys: &'k [(u16, K)], now: Timestamp) -> Option<&'k (u16, K)> {
        keys.iter().find(|(slot, _)| self.held(*slot).is_some_and(|held| held.is_live(now)))
    }

    /// Whether requests name the secret that they are signed with, and its own name must be known.
    pub fn names_secrets(&self) -> bool {
        let mut compared = self.every_scheme().filter(|scheme| scheme.parts.foreign.is_none());
        compared.any(Scheme::names_secrets)
    }

    /// All schemes, in order.
    pub(super) fn each_scheme(&self) -> impl Iterator<Item = &Scheme> {
        self.schemes.iter().map(|prepared| &prepared.scheme)
    }

    /// All schemes, and what must hold besides.
    fn every_scheme(&self) -> impl Iterator<Item = &Scheme> {
        self.each_scheme().flat_map(Scheme::with_besides)
    }

    /// The secret in a slot; slots count from 1, and 0 is none.
    fn held(&self, slot: u16) -> Option<&Held> {
        usize::from(slot).checked_sub(1).and_then(|index| self.secrets.get(index))
    }
}

/// Why something that was signed is not taken.
pub(super) const OTHERS: &str = "it would be taken for one of another scheme";

/// Why a request of a scheme that another must hold besides is not signed.
pub(super) const TWICE: &str = "two schemes must hold at once, and only one signature is made";
