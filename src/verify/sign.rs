//! Signs a request the way its provider would, with a key of our own: the mirror image of what judges it.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json, json};

use super::{
    Algorithm, Foreign, From, KeySource, Presented, Scheme, Template, Verifier,
    certified::{self, Vouched},
    draft::Draft,
    jose,
    keyset::{Allowed, KeySet, jose_name},
    public::Kind,
    signing::SigningKey,
    token::Token,
    verifier::{OTHERS, TWICE},
    view::View,
};
use crate::json::{Path, put};

/// What is added to a request, and what of it changes.
#[derive(Debug, Default)]
pub struct Signed {
    /// Headers to add, each in place of one that may be there.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body to send instead.
    pub body: Option<Vec<u8>>,
    /// The query to send instead.
    pub query: Option<String>,
}

/// A key that signs test events, the name that it has, and the certificates that lead to it.
#[derive(Debug)]
pub struct TestKey {
    key: SigningKey,
    id: Option<String>,
    vouched: Option<Vouched>,
}

/// How long a token of ours is good, in seconds.
const GOOD_FOR: i64 = 300;
/// What a test key is called where requests name theirs.
const TEST_KEY: &str = "gatepost-test";

impl Signed {
    /// Puts the headers among others.
    pub fn put_into(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

impl Verifier {
    /// A new key for the first scheme whose keys are not ours; none, where all secrets are shared.
    pub fn test_key(&self) -> Option<Result<TestKey, String>> {
        self.of_test_key(SigningKey::generate)
    }

    /// Reads a test key that was kept.
    pub fn read_test_key(&self, pem: &str) -> Option<Result<TestKey, String>> {
        self.of_test_key(|allowed| SigningKey::from_pem(pem, allowed))
    }

    fn of_test_key(
        &self,
        make: impl Fn(Allowed) -> Result<SigningKey, String>,
    ) -> Option<Result<TestKey, String>> {
        let mut last = None;
        for parts in self.each_scheme().map(|scheme| &scheme.parts) {
            let whole = parts.foreign.as_deref().filter(|_| parts.for_each.is_none());
            let Some(foreign) = whole else { continue };
            let is_named =
                foreign.key_id.is_some() || parts.containers.iter().any(|c| c.key_id.is_some());
            let abroad = |allowed: &&Allowed| Kind::of(allowed.algorithm).is_some();
            for allowed in foreign.allowed.iter().filter(abroad) {
                let key = make(*allowed).and_then(|key| {
                    let vouched = match &foreign.source {
                        Some(KeySource::X5c(chain)) => Some(certified::vouch(&key, chain)?),
                        _ => None,
                    };
                    Ok(TestKey { key, id: is_named.then(|| TEST_KEY.to_owned()), vouched })
                });
                if key.is_ok() {
                    return Some(key);
                }
                last = Some(key);
            }
        }
        last
    }

    /// Signs with a test key, by the first scheme that can. `claims` are put into a token beside what the scheme demands.
    pub fn sign_with(
        &self,
        key: &TestKey,
        presented: &Presented<'_>,
        claims: &Map<String, Json>,
    ) -> Result<Signed, String> {
        let mut problem = "no scheme of this source signs with a key of the sender's".to_owned();
        for (number, scheme) in self.each_scheme().enumerate() {
            let Some(foreign) = &scheme.parts.foreign else { continue };
            if scheme.parts.besides.is_some() {
                TWICE.clone_into(&mut problem);
                continue;
            }
            match foreign.sign(scheme, key, presented, Some(claims)) {
                Ok(signed) if self.counts_with(number, presented, &signed) => return Ok(signed),
                Ok(_) => OTHERS.clone_into(&mut problem),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }
}

impl TestKey {
    /// What a source has for a secret: the public key in PEM, or the certificate that vouches for it.
    pub fn public_pem(&self) -> Result<String, String> {
        match &self.vouched {
            Some(vouched) => Ok(vouched.root.clone()),
            None => self.key.public_pem(),
        }
    }

    /// What it signs with.
    pub fn algorithm(&self) -> &'static str {
        self.key.algorithm().as_str()
    }

    /// The private key in PEM, to be kept for later test events.
    pub fn to_pem(&self) -> Result<String, String> {
        self.key.to_pem()
    }

    /// The same key under a name.
    #[must_use]
    pub fn named(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }
}

impl Foreign {
    /// Signs with a secret that both sides have.
    pub(super) fn sign_with_set(
        &self,
        scheme: &Scheme,
        set: &KeySet,
        presented: &Presented<'_>,
        whole: Option<&Map<String, Json>>,
    ) -> Result<Signed, String> {
        let shared = set.shared();
        let (algorithm, key) =
            shared.ok_or("it is signed with a key that only the provider has")?;
        let key = SigningKey::shared(algorithm, key.clone());
        self.sign(scheme, &TestKey { key, id: None, vouched: None }, presented, whole)
    }

    /// Signs; where `whole` says so, in the body and the query, too, and with those claims in a token.
    fn sign(
        &self,
        scheme: &Scheme,
        key: &TestKey,
        presented: &Presented<'_>,
        whole: Option<&Map<String, Json>>,
    ) -> Result<Signed, String> {
        if scheme.parts.for_each.is_some() {
            return Err("every item of the body is signed by itself".into());
        }
        let container = scheme.parts.containers.first();
        let named = self.key_id.as_ref().or(container.and_then(|c| c.key_id.as_ref()));
        let named = named.and_then(Template::sole_value).map(|value| &value.from);
        let key_id = named.zip(key.id.as_deref());
        let mut draft = Draft::new(scheme, presented, key_id, whole.is_some())?;
        draft.fill(None)?;
        let signature = match scheme.parts.algorithm {
            Algorithm::Rfc9421 => {
                self.sign_message(&key.key, key.id.as_deref(), &mut draft)?;
                return Ok(draft.signed());
            }
            Algorithm::Jwt => {
                let claims = self.claims(&draft, whole.cloned().unwrap_or_default())?;
                let signed = format!(
                    "{}.{}",
                    self.header(scheme, key)?,
                    jose::encode(claims.to_string().as_bytes())
                );
                let signature = jose::encode(&key.key.sign(signed.as_bytes())?);
                format!("{signed}.{signature}")
            }
            Algorithm::JwsDetached => {
                let header = self.header(scheme, key)?;
                let said =
                    Token { claims: Vec::new(), header: jose::decode(&header).unwrap_or_default() };
                let payload = signed_text(scheme, &draft.view(None).with_token(&said), &draft)?;
                let signed = format!("{header}.{}", jose::encode(&payload));
                format!("{header}..{}", jose::encode(&key.key.sign(signed.as_bytes())?))
            }
            algorithm if algorithm == key.key.algorithm() => {
                let signed = self.hashed(signed_text(scheme, &draft.view(None), &draft)?);
                let container = container.ok_or("there is no place for a signature")?;
                container.encoding.encode(&key.key.sign(&signed)?)
            }
            algorithm => return Err(format!("the key is not for `{}`", algorithm.as_str())),
        };
        draft.sign(container.ok_or("there is no place for a signature")?, None, &signature)?;
        Ok(draft.signed())
    }

    fn header(&self, scheme: &Scheme, key: &TestKey) -> Result<String, String> {
        let algorithm = key.key.algorithm();
        let name = jose_name(algorithm).ok_or("JOSE has no name for the key's algorithm")?;
        if !self.allowed.iter().any(|allowed| allowed.algorithm == algorithm) {
            return Err("the key is not for an algorithm that the scheme allows".into());
        }
        let kind = self.token.as_ref().and_then(|rules| rules.kind.as_deref());
        let mut header = json!({ "alg": name, "typ": kind.unwrap_or("JWT") });
        if let (Some(id), Some(header)) = (&key.id, header.as_object_mut()) {
            header.insert("kid".into(), id.as_str().into());
        }
        let mut signed = scheme.parts.signed.iter().flat_map(Template::values);
        if let (true, Some(header)) =
            (signed.any(|value| value.from == From::TrueLayer), header.as_object_mut())
        {
            header.insert("tl_version".into(), "2".into());
        }
        if let (Some(vouched), Some(header)) = (&key.vouched, header.as_object_mut()) {
            header.insert("x5c".into(), vouched.chain.clone().into());
        }
        Ok(jose::encode(header.to_string().as_bytes()))
    }

    /// What the scheme demands, and `claims` beside it.
    fn claims(&self, draft: &Draft<'_>, mut claims: Map<String, Json>) -> Result<Json, String> {
        let presented = draft.presented();
        let now = presented.received_at.as_secs();
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), (now + GOOD_FOR).into());
        let mut all = Json::Object(claims);
        let Some(rules) = &self.token else { return Ok(all) };
        for path in &rules.present {
            if super::keyset::at(&all, path.steps()).is_none() {
                put(&mut all, path.steps(), "test".into());
            }
        }
        let view = draft.view(None);
        for (paths, accepted) in &rules.equal {
            let text = accepted.iter().find_map(|template| template.text(&view, &[]).ok());
            let text = text.ok_or("a claim must be equal to something that is not there")?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let is_there = |path: &&Path| super::keyset::at(&all, path.steps()).is_some();
            let claim = paths.iter().find(is_there).or(paths.first());
            let claim = claim.ok_or("a claim without a name")?;
            put(&mut all, claim.steps(), text.into());
        }
        if let Some((path, _)) = &rules.max_age {
            put(&mut all, path.steps(), now.into());
        }
        if let Some(hash) = &rules.body_hash {
            put(&mut all, hash.claim.steps(), hash.of(presented.body).into());
        }
        if let Some((path, base)) = &rules.path_hash {
            put(&mut all, path.steps(), super::qsh::of(&presented, base).into());
        }
        Ok(all)
    }
}

/// The first of the texts that are signed.
fn signed_text(scheme: &Scheme, view: &View<'_>, draft: &Draft<'_>) -> Result<Vec<u8>, String> {
    let template = scheme.parts.signed.first().ok_or("nothing is signed")?;
    let pieces = scheme.pieces(template, view, &draft.variables()).map_err(unusable)?;
    Ok(pieces.concat())
}

pub(super) fn unusable(reason: crate::answer::Reason) -> String {
    format!("something that is signed over cannot be used: {}", reason.as_str())
}
