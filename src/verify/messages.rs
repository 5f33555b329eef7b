//! HTTP Message Signatures (RFC 9421) and digests of bodies (RFC 9530).

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    Algorithm, From, Presented, Scheme, Value,
    draft::Draft,
    fields::{self, Bare, Member, Parameters},
    foreign::{Believed, Claimed, Foreign, Ring, Stop},
    sign::unusable,
    signing::SigningKey,
};
use crate::{answer::Reason, event::Timestamp};

/// What a signature must be, and cover.
#[derive(Clone, Debug)]
pub(crate) struct MessageRules {
    /// Components that must be covered: `@method`, `content-digest`.
    pub(crate) require: Vec<String>,
    /// What the signature must be for.
    pub(crate) tag: Option<String>,
    /// How old it may be; it then must say when it was made.
    pub(crate) max_age: Option<Duration>,
    /// How far the sender's clock may be off.
    pub(crate) skew: Duration,
}

/// The registered names (RFC 9421 §6.2.2), for the algorithms that are known here.
const NAMES: [(&str, Algorithm); 6] = [
    ("rsa-pss-sha512", Algorithm::RsaPssSha512),
    ("rsa-v1_5-sha256", Algorithm::RsaPkcs1Sha256),
    ("hmac-sha256", Algorithm::HmacSha256),
    ("ecdsa-p256-sha256", Algorithm::EcdsaP256Sha256),
    ("ecdsa-p384-sha384", Algorithm::EcdsaP384Sha384),
    ("ed25519", Algorithm::Ed25519),
];
/// Signatures of a message that are looked at.
const SIGNATURES_MAX: usize = 4;
/// Bytes of each of the two headers, at most.
const HEADER_BYTES_MAX: usize = 8192;
const DIGEST: &str = "content-digest";
/// What our own signatures are called.
const LABEL: &str = "sig1";

/// The algorithm that is registered as `name`.
pub(crate) fn of_registered_name(name: &str) -> Option<Algorithm> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// The registered names, for an error.
pub(crate) fn registered_names() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

/// One signature: its components and its parameters.
struct Input {
    components: Vec<(String, Parameters)>,
    parameters: Parameters,
    signature: Vec<u8>,
}

impl Foreign {
    /// Checks a message: one of its signatures must be all that it has to be.
    pub(super) fn check_messages(
        &self,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let rules = self.messages.as_ref().ok_or(Reason::SignatureMalformed)?;
        let mut first = None;
        for input in inputs(request.headers)? {
            match self.check_input(rules, &input, scheme, request, ring) {
                Ok(believed) => return Ok(believed),
                Err(stop @ Stop::Wanting(_)) => return Err(stop),
                Err(stop) => first = first.or(Some(stop)),
            }
        }
        Err(first.unwrap_or_else(|| Reason::SignatureMissing.into()))
    }

    fn check_input(
        &self,
        rules: &MessageRules,
        input: &Input,
        scheme: &Scheme,
        request: Presented<'_>,
        ring: &Ring<'_>,
    ) -> Result<Believed, Stop> {
        let base = input.base(&request)?;
        let name = input.text("alg")?;
        let named = name.map(|name| of_registered_name(name).ok_or(Reason::AlgorithmRefused));
        let named = named.transpose()?;
        let meant = self.allowed.iter().map(|allowed| allowed.algorithm);
        let view = scheme.view(request);
        let mut found = Err(Reason::AlgorithmRefused.into());
        for algorithm in meant.filter(|algorithm| named.is_none_or(|named| named == *algorithm)) {
            let signatures = std::slice::from_ref(&input.signature);
            let key_id = input.text("keyid")?;
            let signed = base.as_bytes();
            let claimed = Claimed { signed, signatures, algorithm, key_id, place: 0 };
            found = self.find(&claimed, &view, ring);
            if !matches!(found, Err(Stop::Refused(Reason::SignatureWrong))) {
                break;
            }
        }
        let slot = found?;
        let created = rules.check(input, &request)?;
        scheme.check_requirements(&view, &[])?;
        let signed_at = scheme.signed_at(&view, &[])?.or(created);
        Ok(Believed { slot, signed_at, token: None, text: None })
    }
}

impl Foreign {
    /// Signs a message over what must be covered.
    pub(super) fn sign_message(
        &self,
        key: &SigningKey,
        id: Option<&str>,
        draft: &mut Draft<'_>,
    ) -> Result<(), String> {
        let rules = self.messages.as_ref().ok_or("nothing is signed")?;
        let algorithm = key.algorithm();
        let name = NAMES.iter().find(|(_, known)| *known == algorithm).map(|(name, _)| *name);
        let name = name.ok_or("the key's algorithm has no registered name")?;
        let now = draft.presented();
        let (digest, now) = (Sha256::digest(now.body), now.received_at.as_secs());
        if rules.requires(DIGEST) {
            let digest = [("sha-256".to_owned(), Bare::Bytes(digest.to_vec()))];
            draft.add(&HeaderName::from_static(DIGEST), &fields::members(&digest))?;
        }
        let text = |name: &str, text: &str| (name.to_owned(), Bare::String(text.to_owned()));
        let mut parameters = vec![("created".to_owned(), Bare::Integer(now)), text("alg", name)];
        parameters.extend(id.map(|id| text("keyid", id)));
        parameters.extend(rules.tag.as_deref().map(|tag| text("tag", tag)));
        let components = rules.require.iter().map(|name| (name.clone(), Parameters::new()));
        let input = Input { components: components.collect(), parameters, signature: Vec::new() };
        let base = input.base(&draft.presented()).map_err(unusable)?;
        let signature = [(LABEL.to_owned(), Bare::Bytes(key.sign(base.as_bytes())?))];
        let said = format!("{LABEL}={}", input.list());
        draft.add(&HeaderName::from_static("signature-input"), &said)?;
        draft.add(&HeaderName::from_static("signature"), &fields::members(&signature))
    }
}

impl MessageRules {
    fn requires(&self, name: &str) -> bool {
        self.require.iter().any(|known| known == name)
    }

    /// What holds besides the signature. Returns when it was made.
    fn check(&self, input: &Input, request: &Presented<'_>) -> Result<Option<Timestamp>, Reason> {
        let covers = |name: &str| input.components.iter().any(|(known, _)| known == name);
        if !self.require.iter().all(|name| covers(name)) {
            return Err(Reason::RequirementFailed);
        }
        // A digest that is signed means nothing unless it is the body's.
        if covers(DIGEST) && !digest_holds(request.headers, request.body) {
            return Err(Reason::RequirementFailed);
        }
        if self.tag.is_some() && input.text("tag")? != self.tag.as_deref() {
            return Err(Reason::RequirementFailed);
        }
        let now = request.received_at;
        if input.time("expires")?.is_some_and(|expires| now > expires) {
            return Err(Reason::TimestampPast);
        }
        let created = input.time("created")?;
        if created.is_some_and(|created| created > now.plus(self.skew)) {
            return Err(Reason::TimestampFuture);
        }
        let Some(age) = self.max_age else { return Ok(created) };
        let created = created.ok_or(Reason::TimestampMissing)?;
        if now > created.plus(age) { Err(Reason::TimestampPast) } else { Ok(Some(created)) }
    }

    /// Whether whoever changes `value` breaks every signature that is accepted.
    pub(super) fn covers(&self, value: &Value) -> bool {
        let requires = |name: &str| self.requires(name);
        let url = requires("@target-uri") || requires("@request-target");
        match &value.from {
            From::Body | From::Json(_) | From::Form(_) | From::FormJson(..) => requires(DIGEST),
            From::Header(name) => requires(name.as_str()),
            From::Method => requires("@method"),
            From::Query(_) => url || requires("@query"),
            From::Path => url || (requires("@path") && requires("@query")),
            From::Url => requires("@target-uri"),
            _ => false,
        }
    }
}

/// The signatures of a message.
fn inputs(headers: &HeaderMap) -> Result<Vec<Input>, Reason> {
    let read = |name: &str| {
        let text = field(headers, name).ok_or(Reason::SignatureMissing)?;
        let text = Some(text).filter(|text| text.len() <= HEADER_BYTES_MAX);
        text.and_then(|text| fields::dictionary(&text)).ok_or(Reason::SignatureMalformed)
    };
    let signatures = read("signature")?;
    let mut inputs = Vec::new();
    for (label, member) in read("signature-input")? {
        let Member::List(components, parameters) = member else {
            return Err(Reason::SignatureMalformed);
        };
        let signature = signatures.iter().find(|(known, _)| *known == label);
        let Some((_, Member::Item(Bare::Bytes(signature)))) = signature else {
            return Err(Reason::SignatureMalformed);
        };
        if inputs.len() >= SIGNATURES_MAX {
            return Err(Reason::SignaturesTooMany);
        }
        inputs.push(Input { components, parameters, signature: signature.clone() });
    }
    Ok(inputs)
}

/// The lines of a header, joined; `None` where there are none, or not of ASCII.
fn field(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines = lines.map(|value| value.to_str().map(str::trim)).collect::<Result<Vec<_>, _>>();
    lines.ok().filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
}

impl Input {
    fn parameter(&self, name: &str) -> Option<&Bare> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Reason> {
        match self.parameter(name) {
            None => Ok(None),
            Some(Bare::String(text)) => Ok(Some(text)),
            Some(_) => Err(Reason::SignatureMalformed),
        }
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, Reason> {
        match self.parameter(name) {
            None => Ok(None),
            Some(Bare::Integer(secs @ 0..)) => {
                Ok(Some(Timestamp::from_millis(secs.saturating_mul(1000))))
            }
            Some(_) => Err(Reason::TimestampMalformed),
        }
    }

    /// The bytes that are signed (RFC 9421 §2.5).
    fn base(&self, request: &Presented<'_>) -> Result<String, Reason> {
        let mut base = String::new();
        for (n, component) in self.components.iter().enumerate() {
            let (name, parameters) = component;
            let twice = self.components.iter().take(n).any(|other| other == component);
            if twice || name.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(Reason::SignatureMalformed);
            }
            base.push_str(&identifier(component));
            base.push_str(": ");
            base.push_str(&value_of(name, parameters, request)?);
            base.push('\n');
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.list());
        if base.is_ascii() { Ok(base) } else { Err(Reason::InputAmbiguous) }
    }

    /// Components and parameters, as they stand in `Signature-Input`.
    fn list(&self) -> String {
        let components: Vec<_> = self.components.iter().map(identifier).collect();
        let mut list = format!("({})", components.join(" "));
        fields::write_parameters(&self.parameters, &mut list);
        list
    }
}

/// A component's name with its parameters.
fn identifier((name, parameters): &(String, Parameters)) -> String {
    let mut identifier = String::new();
    fields::write_string(name, &mut identifier);
    fields::write_parameters(parameters, &mut identifier);
    identifier
}

/// The value of a component. What the provider signs of the URL is what it has on file.
fn value_of<'r>(
    name: &str,
    parameters: &Parameters,
    request: &'r Presented<'_>,
) -> Result<Cow<'r, str>, Reason> {
    if name == "@query-param" {
        let [(key, Bare::String(wanted))] = parameters.as_slice() else {
            return Err(Reason::SignatureMalformed);
        };
        let value = (key == "name").then(|| query_parameter(request, wanted)).flatten();
        return value.map(Cow::Owned).ok_or(Reason::InputMissing);
    }
    // Parts of fields, and those of other messages, are not read.
    if !parameters.is_empty() {
        return Err(Reason::SignatureMalformed);
    }
    let (scheme, rest) = request.url.split_once("://").ok_or(Reason::InputMissing)?;
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(path_at).unwrap_or((rest, ""));
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let path = if path.is_empty() { "/" } else { path };
    Ok(match name {
        "@method" => request.method.into(),
        "@target-uri" => request.url.into(),
        "@scheme" => scheme.to_ascii_lowercase().into(),
        "@authority" => {
            let authority = authority.to_ascii_lowercase();
            let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
            authority.strip_suffix(default).map_or(authority.clone(), str::to_owned).into()
        }
        "@path" => path.into(),
        "@query" => format!("?{}", query.unwrap_or_default()).into(),
        "@request-target" => match query {
            Some(query) => format!("{path}?{query}").into(),
            None => path.into(),
        },
        name => field(request.headers, name).ok_or(Reason::InputMissing)?.into(),
    })
}

/// The one parameter of that name, encoded.
fn query_parameter(request: &Presented<'_>, wanted: &str) -> Option<String> {
    let query = request.url.split_once('?')?.1;
    let encode = |text: &str| {
        form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
    };
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| encode(name) == *wanted)
        .map(|(_, value)| encode(&value));
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Whether `Content-Digest` (RFC 9530) holds a digest of the body by an algorithm that is not broken, and no other one that does
/// not fit.
pub fn digest_holds(headers: &HeaderMap, body: &[u8]) -> bool {
    let Some(members) = field(headers, DIGEST).and_then(|text| fields::dictionary(&text)) else {
        return false;
    };
    let mut known = 0;
    for (name, member) in &members {
        let digest = match name.as_str() {
            "sha-256" => Sha256::digest(body).to_vec(),
            "sha-512" => Sha512::digest(body).to_vec(),
            _ => continue,
        };
        known += 1;
        if *member != Member::Item(Bare::Bytes(digest)) {
            return false;
        }
    }
    known > 0
}
