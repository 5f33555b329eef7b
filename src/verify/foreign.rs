//! Judges signatures that are not compared but checked: with a public key, or in a token that says itself what is signed.

use std::{borrow::Cow, sync::Arc};

use http::HeaderName;
use rustls_pki_types::TrustAnchor;
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Algorithm, Container, From, KeyForm, LiveSecret, Presented, Scheme, SchemeParts, Template,
    Value,
    jose::{self, Compact},
    keyset::{Allowed, KeySet, Listing},
    messages::MessageRules,
    source::{KeySource, Keys, Want},
    token::{Token, TokenRules},
    view::{Variable, View},
};
use crate::{
    answer::Reason,
    event::{Digest, Timestamp},
};

pub use super::source::Stop;

/// What such a scheme has beside what all have.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    /// Which of its source's schemes it is, so that what is fetched for one is not used by another.
    pub(crate) scheme: usize,
    /// Algorithms that it may be signed with.
    pub(crate) allowed: Vec<Allowed>,
    /// What names the key; in a token, its own `kid`.
    pub(crate) key_id: Option<Template>,
    /// What is signed is a digest: SHA-512 where true, else SHA-256.
    pub(crate) prehash: Option<bool>,
    /// What a token must say; of a detached one, only the type counts.
    pub(crate) token: Option<TokenRules>,
    /// What a message signature must cover.
    pub(crate) messages: Option<MessageRules>,
    /// Where keys are that are not configured.
    pub(crate) source: Option<KeySource>,
    /// How a list of keys is read.
    pub(crate) listing: Option<Listing>,
    /// The header, and what leads it, by which whoever asks for keys shows that it may.
    pub(crate) credential: Option<(HeaderName, String)>,
}

/// The keys of one scheme: those that are configured and live, by slot, and what was fetched.
pub(super) struct Ring<'k> {
    pub(super) sets: Vec<(u16, &'k KeySet)>,
    /// Whether any key is configured, live or not: then nothing is fetched instead.
    pub(super) is_configured: bool,
    pub(super) fetched: &'k dyn Keys,
}

/// The slot of keys that were fetched: that of no secret.
const FETCHED: u16 = 0;

/// What was found: which slot matched, when it was signed, and the token.
pub(super) struct Believed {
    pub(super) slot: u16,
    pub(super) signed_at: Option<Timestamp>,
    pub(super) token: Option<Arc<Token>>,
    /// Of the text that was signed, where it tells replays.
    pub(super) text: Option<Digest>,
}

/// What is checked: which bytes, made how, with which key.
pub(super) struct Claimed<'c> {
    pub(super) signed: &'c [u8],
    pub(super) signatures: &'c [Vec<u8>],
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<&'c str>,
    /// In which of the scheme's places they stand.
    pub(super) place: usize,
}

/// What a scheme has that goes with no signature which is checked.
pub(super) fn odd(parts: &SchemeParts) -> Option<&'static str> {
    let places = || parts.containers.iter();
    let odd = [
        ("for_each", parts.for_each.is_some() && parts.algorithm != Algorithm::Jwt),
        ("url_variants", !parts.url_variants.is_empty()),
        ("groups", places().any(|place| place.groups.is_some())),
        ("secret_slot", places().any(|place| place.secret_slot != 0)),
    ];
    let odd = odd.into_iter().find(|(_, is_there)| *is_there && parts.foreign.is_some());
    odd.map(|(key, _)| key)
}

impl Foreign {
    /// Prepares a configured key.
    pub(super) fn prepare(&self, form: &KeyForm, live: &LiveSecret) -> Result<KeySet, String> {
        let (secret, id) = (&live.secret, live.id.as_deref());
        match &self.source {
            Some(KeySource::X5c(_)) => KeySet::of_roots(secret),
            _ => KeySet::of_secret(secret, form, &self.allowed, self.listing.as_ref(), id),
        }
    }

    /// Reads a document that was fetched for it. Certificates may lead to `anchors`.
    pub(super) fn read(
        &self,
        text: &[u8],
        anchors: &[TrustAnchor<'_>],
        now: Timestamp,
    ) -> Result<KeySet, String> {
        match &self.source {
            Some(KeySource::Named { inside: Some(path), .. }) => {
                KeySet::of_key_inside(text, path, &self.allowed)
            }
            Some(KeySource::Named { dns_name, .. }) => {
                KeySet::of_certificates(text, &self.allowed, dns_name.as_deref(), anchors, now)
            }
            _ => KeySet::of_document(text, &self.allowed, self.listing.as_ref()),
        }
    }

    /// Every template beside the signed one.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let named = match &self.source {
            Some(KeySource::Named { urls, .. }) => urls.as_slice(),
            _ => &[],
        };
        let claims = self.token.iter().flat_map(|rules| &rules.equal);
        self.key_id.iter().chain(named).chain(claims.flat_map(|(_, accepted)| accepted))
    }

    /// Whether whoever changes `value` breaks a token's signature: what it says is covered, and so is what it is a digest of.
    pub(super) fn covers(&self, value: &Value, scheme: &Scheme) -> bool {
        if let Some(messages) = &self.messages {
            return messages.covers(value);
        }
        let rules = self.token.as_ref();
        let is_token = scheme.parts.algorithm == Algorithm::Jwt;
        match &value.from {
            From::Claim(_) => is_token,
            From::TokenHeader(_) => true,
            From::Body | From::Json(_) | From::Form(_) | From::FormJson(..) => {
                is_token && rules.is_some_and(|rules| rules.body_hash.is_some())
            }
            From::Path | From::Query(_) => rules.is_some_and(|rules| rules.path_hash.is_some()),
            _ => false,
        }
    }

    /// Checks a request.
    pub(super) fn check(
        &self,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        match scheme.parts.algorithm {
            Algorithm::Jwt => self.check_token(scheme, request, ring),
            Algorithm::JwsDetached => self.check_detached(scheme, request, ring),
            Algorithm::Rfc9421 => self.check_messages(scheme, request, ring),
            _ => self.check_signature(scheme, request, ring),
        }
    }

    /// Every place where a signature may be; one that is empty counts only where all are.
    fn check_signature(
        &self,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let view = scheme.view(request);
        let mut found = Err(Reason::SignatureMissing.into());
        for place in 0..scheme.parts.containers.len() {
            match self.check_place(scheme, place, &view, ring) {
                Err(Stop::Refused(Reason::SignatureMissing)) => {}
                // Another place may hold a good one; what waits for its key is decided last.
                Err(stop @ (Stop::Refused(Reason::SignatureWrong) | Stop::Wanting(_))) => {
                    if !matches!(found, Err(Stop::Wanting(_))) {
                        found = Err(stop);
                    }
                }
                decided => return decided,
            }
        }
        found
    }

    fn check_place(
        &self,
        scheme: &Scheme,
        place: usize,
        view: &View<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let container = scheme.parts.containers.get(place).ok_or(Reason::SignatureMissing)?;
        let lines = container.lines(view)?;
        let elements = container.elements(&lines)?;
        let signatures = container.signatures(&elements)?;
        let key_id = self.key_id(container, view, &elements)?;
        let (mut slot, mut text) = (Err(Reason::SignatureWrong.into()), None);
        for template in &scheme.parts.signed {
            let pieces = scheme.pieces(template, view, &elements)?;
            let signed = match (pieces.as_slice(), self.prehash) {
                ([one], None) => Cow::Borrowed(&**one),
                (pieces, _) => Cow::Owned(self.hashed(pieces.concat())),
            };
            let claimed = Claimed {
                signed: &signed,
                signatures: &signatures,
                algorithm: scheme.parts.algorithm,
                key_id: key_id.as_deref(),
                place,
            };
            slot = self.find(&claimed, view, ring);
            text = (slot.is_ok() && scheme.parts.text_tells).then(|| Digest::of(&signed));
            if !matches!(slot, Err(Stop::Refused(Reason::SignatureWrong))) {
                break;
            }
        }
        let slot = slot?;
        scheme.check_requirements(view, &elements)?;
        let signed_at = scheme.signed_at(view, &elements)?;
        Ok(Believed { slot, signed_at, token: None, text })
    }

    /// What is signed in the stead of `signed`.
    pub(super) fn hashed(&self, signed: Vec<u8>) -> Vec<u8> {
        match self.prehash {
            None => signed,
            Some(false) => Sha256::digest(&signed).to_vec(),
            Some(true) => Sha512::digest(&signed).to_vec(),
        }
    }

    /// The token; where items have one each, all of them: every one must hold, and there must be one.
    fn check_token(
        &self,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let view = scheme.view(request);
        if scheme.parts.for_each.is_none() {
            return self.check_one_token(scheme, &view, ring);
        }
        let mut first = Err(Reason::SignatureMissing.into());
        for item in (0..view.items_count().ok_or(Reason::InputAmbiguous)?).rev() {
            view.look_at_item(Some(item));
            first = Ok(self.check_one_token(scheme, &view, ring)?);
        }
        first
    }

    fn check_one_token(
        &self,
        scheme: &Scheme,
        view: &View<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let request = view.request;
        let text = self.token_text(scheme, view)?;
        let token = self.compact(&text)?;
        let claims = jose::decode(token.payload)?;
        let members = jose::object(&claims)?;
        let slot = self.find_token(&token, token.signed.as_bytes(), view, ring)?;
        let said = Token { claims, header: token.header.text };
        let view = scheme.view(request).with_token(&said);
        let issued = match &self.token {
            Some(rules) => rules.check(&members, &view, &[])?,
            None => None,
        };
        scheme.check_requirements(&view, &[])?;
        let signed_at = scheme.signed_at(&view, &[])?.or(issued);
        Ok(Believed { slot, signed_at, token: Some(Arc::new(said)), text: None })
    }

    fn check_detached(
        &self,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let view = scheme.view(request);
        let text = self.token_text(scheme, &view)?;
        let token = self.compact(&text)?;
        // A payload that is sent along may be another one.
        if !token.payload.is_empty() {
            return Err(Reason::SignatureMalformed.into());
        }
        let said = Token { claims: Vec::new(), header: token.header.text.clone() };
        let view_said = scheme.view(request).with_token(&said);
        let template = scheme.parts.signed.first().ok_or(Reason::InputMissing)?;
        let payload = scheme.pieces(template, &view_said, &[])?.concat();
        let signed = format!("{}{}", token.signed, jose::encode(&payload));
        let slot = self.find_token(&token, signed.as_bytes(), &view_said, ring)?;
        scheme.check_requirements(&view_said, &[])?;
        let signed_at = scheme.signed_at(&view_said, &[])?;
        Ok(Believed { slot, signed_at, token: Some(Arc::new(said)), text: None })
    }

    /// The token, from the first place that has one.
    fn token_text<'s>(&self, scheme: &Scheme, view: &'s View<'_>) -> Result<Cow<'s, [u8]>, Reason> {
        let bytes_max = match &self.source {
            Some(KeySource::X5c(_)) => jose::CERTIFIED_BYTES_MAX,
            _ => jose::TOKEN_BYTES_MAX,
        };
        let tokens = scheme.parts.containers.iter().map(|place| place.token(view, bytes_max));
        let mut there = tokens.filter(|token| !matches!(token, Err(Reason::SignatureMissing)));
        there.next().unwrap_or(Err(Reason::SignatureMissing))
    }

    fn compact<'t>(&self, text: &'t [u8]) -> Result<Compact<'t>, Reason> {
        let text = std::str::from_utf8(text).map_err(|_| Reason::SignatureMalformed)?;
        let algorithm = |name: &str| {
            let named = super::keyset::of_jose_name(name)?;
            self.allowed.iter().any(|allowed| allowed.algorithm == named).then_some(named)
        };
        let token = Compact::parse(text, algorithm)?;
        self.token.as_ref().map_or(Ok(()), |rules| rules.check_kind(&token.header))?;
        Ok(token)
    }

    fn find_token(
        &self,
        token: &Compact<'_>,
        signed: &[u8],
        view: &View<'_>,
        ring: &Ring<'_>,
    ) -> Result<u16, Stop> {
        let claimed = Claimed {
            signed,
            signatures: std::slice::from_ref(&token.signature),
            algorithm: token.header.algorithm,
            key_id: token.header.key_id.as_deref(),
            place: 0,
        };
        if let Some(KeySource::X5c(chain)) = &self.source {
            let now = view.request.received_at;
            return chain.find(&token.header, &claimed, &self.allowed, ring, now);
        }
        self.find(&claimed, view, ring)
    }

    fn key_id(
        &self,
        container: &Container,
        view: &View<'_>,
        elements: &[Variable<'_>],
    ) -> Result<Option<String>, Reason> {
        let Some(template) = self.key_id.as_ref().or(container.key_id.as_ref()) else {
            return Ok(None);
        };
        let text = template.text(view, elements).map_err(|_| Reason::KeyUnknown)?;
        Ok(Some(String::from_utf8(text.into_owned()).map_err(|_| Reason::KeyUnknown)?))
    }

    /// Which slot's key made the signature. Configured keys count alone, where there are any.
    pub(super) fn find(
        &self,
        claimed: &Claimed<'_>,
        view: &View<'_>,
        ring: &Ring<'_>,
    ) -> Result<u16, Stop> {
        let source = match &self.source {
            Some(source) if !ring.is_configured => source,
            Some(source) if source.refuses(view, claimed.place) => {
                return Err(Reason::KeySourceRefused.into());
            }
            _ => return Ok(claimed.find(&ring.sets)?),
        };
        let url = source.url(view, claimed.place)?;
        let scheme = self.scheme;
        let Some(set) = ring.fetched.get(scheme, &url) else {
            return Err(Stop::Wanting(Want { scheme, url, is_stale: false }));
        };
        if set.is_over(view.request.received_at) {
            return Err(Reason::CertificateRefused.into());
        }
        match claimed.find(&[(FETCHED, &set)]) {
            // The provider may have a new key; whether it is asked is for the fetcher to say.
            Err(Reason::KeyUnknown) if ring.fetched.may_ask_again(scheme, &url) => {
                Err(Stop::Wanting(Want { scheme, url, is_stale: true }))
            }
            found => Ok(found?),
        }
    }
}
