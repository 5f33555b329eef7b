//! Signs a request the way its provider would, with a key of our own: the mirror image of what judges it.

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value as Json, json};

use super::{
    Algorithm, Foreign, From, Place, Presented, Scheme, Template, Verifier, jose,
    keyset::{Allowed, KeySet, jose_name},
    shared::{Dressed, dress},
    signing::SigningKey,
    token::Token,
};
use crate::json::put;

/// What is added to a request, and its body where the signature is all of it.
#[derive(Debug, Default)]
pub struct Signed {
    /// Headers to add.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body to send instead.
    pub body: Option<Vec<u8>>,
}

/// A key that signs test events, and the name that it has.
#[derive(Debug)]
pub struct TestKey {
    key: SigningKey,
    id: Option<String>,
}

/// How long a token of ours is good, in seconds.
const GOOD_FOR: i64 = 300;

impl Verifier {
    /// A new key for the first scheme whose keys are not ours; none, where all secrets are shared.
    pub fn test_key(&self) -> Option<Result<TestKey, String>> {
        let allowed = self.signed_abroad()?;
        Some(SigningKey::generate(allowed).map(|key| TestKey { key, id: None }))
    }

    /// Reads a test key that was kept.
    pub fn read_test_key(&self, pem: &str) -> Option<Result<TestKey, String>> {
        let allowed = self.signed_abroad()?;
        Some(SigningKey::from_pem(pem, allowed).map(|key| TestKey { key, id: None }))
    }

    fn signed_abroad(&self) -> Option<Allowed> {
        let mut foreign = self.each_scheme().filter_map(|scheme| scheme.parts.foreign.as_deref());
        foreign.find_map(|foreign| foreign.allowed.first().copied())
    }

    /// Signs with a test key, by the first scheme that can. `claims` are put into a token beside what the scheme demands.
    pub fn sign_with(
        &self,
        key: &TestKey,
        presented: &Presented<'_>,
        claims: &Map<String, Json>,
    ) -> Result<Signed, String> {
        let mut problem = "no scheme of this source signs with a key of the sender's".to_owned();
        for scheme in self.each_scheme() {
            let Some(foreign) = &scheme.parts.foreign else { continue };
            match foreign.sign(scheme, key, presented, claims) {
                Ok(signed) => return Ok(signed),
                Err(why) => problem = why,
            }
        }
        Err(problem)
    }
}

impl TestKey {
    /// The public key in PEM: what a source has for a secret.
    pub fn public_pem(&self) -> Result<String, String> {
        self.key.public_pem()
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
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let shared = set.shared();
        let (algorithm, key) =
            shared.ok_or("it is signed with a key that only the provider has")?;
        let key = TestKey { key: SigningKey::shared(algorithm, key.clone()), id: None };
        let signed = self.sign(scheme, &key, presented, &Map::new())?;
        match signed.body {
            None => Ok(signed.headers),
            Some(_) => Err("the signature is in the body".into()),
        }
    }

    fn sign(
        &self,
        scheme: &Scheme,
        key: &TestKey,
        presented: &Presented<'_>,
        claims: &Map<String, Json>,
    ) -> Result<Signed, String> {
        match scheme.parts.algorithm {
            Algorithm::Jwt if scheme.parts.for_each.is_some() => {
                Err("every item of the body is a token of its own".into())
            }
            Algorithm::Jwt => {
                let claims = self.claims(scheme, presented, claims)?;
                let claims = serde_json::to_vec(&claims).map_err(|e| e.to_string())?;
                let header = self.header(key)?;
                let signed = format!("{header}.{}", jose::encode(&claims));
                let signature = jose::encode(&key.key.sign(signed.as_bytes())?);
                carry(scheme, &format!("{signed}.{signature}"), presented.body)
            }
            Algorithm::JwsDetached => {
                let header = self.header(key)?;
                let said =
                    Token { claims: Vec::new(), header: jose::decode(&header).unwrap_or_default() };
                let view = scheme.view(*presented).with_token(&said);
                let template = scheme.parts.signed.first().ok_or("nothing is signed")?;
                let payload = scheme.pieces(template, &view, &[]).map_err(unusable)?.concat();
                let signed = format!("{header}.{}", jose::encode(&payload));
                let signature = jose::encode(&key.key.sign(signed.as_bytes())?);
                carry(scheme, &format!("{header}..{signature}"), presented.body)
            }
            algorithm if algorithm == key.key.algorithm() => {
                let headers = self.sign_plainly(scheme, key, presented)?;
                Ok(Signed { headers, body: None })
            }
            algorithm => Err(format!("the key is not for `{}`", algorithm.as_str())),
        }
    }

    fn sign_plainly(
        &self,
        scheme: &Scheme,
        key: &TestKey,
        presented: &Presented<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let parts = &scheme.parts;
        let container = parts.containers.first().ok_or("there is no place for a signature")?;
        let template = parts.signed.first().ok_or("nothing is signed")?;
        let named = self.key_id.as_ref().or(container.key_id.as_ref());
        let named = named.and_then(Template::sole_value).map(|value| &value.from);
        let Dressed { headers, mut added, time } =
            dress(scheme, presented, named.zip(key.id.as_deref()))?;
        let variable = time.as_ref().map(|(name, time)| (*name, time.as_str()));
        let view = scheme.view(Presented { headers: &headers, ..*presented });
        let bytes = variable.map(|(name, time)| (name.as_bytes(), time.as_bytes()));
        let pieces = scheme.pieces(template, &view, bytes.as_slice()).map_err(unusable)?;
        let signature = key.key.sign(&self.hashed(pieces.concat()))?;
        let signature = container.encoding.encode(&signature);
        added.push(container.write(&signature, variable)?);
        Ok(added)
    }

    fn header(&self, key: &TestKey) -> Result<String, String> {
        let algorithm = key.key.algorithm();
        let name = jose_name(algorithm).ok_or("JOSE has no name for the key's algorithm")?;
        if !self.allowed.iter().any(|allowed| allowed.algorithm == algorithm) {
            return Err("the key is not for an algorithm that the scheme allows".into());
        }
        let kind = self.token.as_ref().and_then(|rules| rules.kind.as_deref());
        let mut header = json!({ "alg": name, "typ": kind.unwrap_or("JWT") });
        if let Some((id, header)) = key.id.as_ref().zip(header.as_object_mut()) {
            header.insert("kid".into(), id.as_str().into());
        }
        Ok(jose::encode(header.to_string().as_bytes()))
    }

    /// What the scheme demands, and `claims` beside it.
    fn claims(
        &self,
        scheme: &Scheme,
        presented: &Presented<'_>,
        claims: &Map<String, Json>,
    ) -> Result<Json, String> {
        let now = presented.received_at.as_secs();
        let mut all = claims.clone();
        all.insert("iat".into(), now.into());
        all.insert("exp".into(), (now + GOOD_FOR).into());
        let mut all = Json::Object(all);
        let Some(rules) = &self.token else { return Ok(all) };
        for path in &rules.present {
            if super::keyset::at(&all, path.steps()).is_none() {
                put(&mut all, path.steps(), "test".into());
            }
        }
        let view = scheme.view(*presented);
        for (paths, accepted) in &rules.equal {
            let text = accepted.iter().find_map(|template| template.text(&view, &[]).ok());
            let text = text.ok_or("a claim must be equal to something that is not there")?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let claim = paths.first().ok_or("a claim without a name")?;
            put(&mut all, claim.steps(), text.into());
        }
        if let Some((path, _)) = &rules.max_age {
            put(&mut all, path.steps(), now.into());
        }
        if let Some(hash) = &rules.body_hash {
            put(&mut all, hash.claim.steps(), hash.of(presented.body).into());
        }
        if let Some(path) = &rules.path_hash {
            put(&mut all, path.steps(), super::qsh::of(presented).into());
        }
        Ok(all)
    }
}

fn unusable(reason: crate::answer::Reason) -> String {
    format!("something that is signed over cannot be used: {}", reason.as_str())
}

/// Puts a token where the scheme looks for it: in a header, or as the body, or into a member of it.
fn carry(scheme: &Scheme, token: &str, body: &[u8]) -> Result<Signed, String> {
    let container = scheme.parts.containers.first().ok_or("there is no place for a token")?;
    let template = match &container.place {
        Place::Header(_) | Place::Numbered(_) => {
            // No secret: it is good for this request, and for a few minutes.
            return Ok(Signed { headers: vec![container.write(token, None)?], body: None });
        }
        Place::Elsewhere(template) => template,
    };
    match template.sole_value().map(|value| &value.from) {
        Some(From::Body) => Ok(Signed { headers: Vec::new(), body: Some(token.into()) }),
        Some(From::Json(path)) => {
            let mut json = serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
            put(&mut json, path.steps(), token.into());
            Ok(Signed { headers: Vec::new(), body: Some(json.to_string().into()) })
        }
        _ => Err("the token is neither in a header nor in the body".into()),
    }
}
