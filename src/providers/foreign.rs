//! The half of a `verify:` block that is about public keys and tokens.

use std::time::Duration;

use http::HeaderName;

use super::{
    compile::{Problems, Reported},
    shape::{self, BodyDigest, DigestText, OneOrMany, SignatureForm},
};
use crate::{
    json::{Path, Step},
    units::Span,
    verify::{
        Algorithm, Allowed, BodyHash, Chain, Foreign, KeySource, Listing, MessageRules, Part,
        TokenRules, UrlRule, jose_names, of_jose_name, of_registered_name, registered_names,
    },
};

/// Parts of a scheme, each with where it stands.
pub(super) struct Described<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) prehash: Option<(&'a BodyDigest, String)>,
    pub(super) jwt: Option<(&'a shape::Jwt, String)>,
    pub(super) messages: Option<(&'a shape::Rfc9421, String)>,
    pub(super) keys: Option<(&'a shape::KeysAt, String)>,
    pub(super) signature: Option<(&'a shape::Signature, String)>,
    /// Where the scheme stands.
    pub(super) path: &'a str,
}

/// How far a sender's clock may be off where nothing is said.
const SKEW: Duration = Duration::from_mins(1);

/// What such a scheme needs; nothing, where signatures are compared.
pub(super) fn compile(
    described: &Described<'_>,
    problems: &mut Problems,
) -> Result<Option<Box<Foreign>>, Reported> {
    let Described { algorithm, prehash, jwt, messages, keys, signature, path } = described;
    meaningless(described, problems);
    if !algorithm.is_foreign() {
        return Ok(None);
    }
    let raw = signature.as_ref().is_some_and(|(own, _)| own.form == Some(SignatureForm::Raw));
    let (is_token, is_message) = (is_token(*algorithm), *algorithm == Algorithm::Rfc9421);
    let allowed = if is_token {
        let own = jwt.as_ref().map(|(rules, place)| (&*rules.algs, place));
        let help = "`jwt: { algs: [ES256] }`";
        let known: Known = (of_jose_name, jose_names);
        named(own, &format!("{path}.jwt"), known, help, problems)
    } else if is_message {
        let own = messages.as_ref().map(|(rules, place)| (&*rules.algs, place));
        let help = "`rfc9421: { algs: [ed25519] }`";
        let known: Known = (of_registered_name, registered_names);
        named(own, &format!("{path}.rfc9421"), known, help, problems)
    } else {
        Ok(vec![Allowed { algorithm: *algorithm, raw }])
    };
    if raw && *algorithm == Algorithm::EcdsaP256Sha1 {
        let help = "leave `form` out: DER is what it is used with";
        problems.add(path.to_owned(), "`ecdsa-p256-sha1` has no raw form", help);
    }
    let token = jwt
        .as_ref()
        .filter(|_| is_token)
        .map(|(rules, place)| token(rules, place, problems))
        .transpose();
    let keys = keys.as_ref();
    let listing = keys.map(|(keys, place)| listing(keys, place, problems)).transpose();
    let source = keys.map(|(keys, place)| source(keys, place, *algorithm, problems)).transpose();
    let credential = keys.map(|(keys, place)| credential(keys, place, problems)).transpose();
    let key_id = keys.and_then(|(keys, place)| Some((keys.key_id.as_ref()?, place)));
    let key_id = key_id
        .map(|(text, place)| problems.any_template(&format!("{place}.key_id"), text))
        .transpose();
    Ok(Some(Box::new(Foreign {
        scheme: 0,
        allowed: allowed?,
        key_id: key_id?,
        prehash: prehash.as_ref().map(|(hash, _)| **hash == BodyDigest::Sha512),
        token: token?,
        messages: messages.as_ref().filter(|_| is_message).map(|(rules, _)| message(rules)),
        source: source?.flatten(),
        listing: listing?.flatten(),
        credential: credential?.flatten(),
    })))
}

const fn is_token(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Jwt | Algorithm::JwsDetached)
}

/// Says what has no meaning with the scheme's algorithm, and so would be dropped: rules that somebody relies on. What stands around
/// several alternatives may be meant for another.
fn meaningless(described: &Described<'_>, problems: &mut Problems) {
    let Described { algorithm, prehash, jwt, messages, keys, signature, path } = described;
    let message = format!("means nothing with `mac: {}`", algorithm.as_str());
    let (is_token, is_message) = (is_token(*algorithm), *algorithm == Algorithm::Rfc9421);
    let parts = [
        (jwt.as_ref().map(|(_, place)| place), is_token),
        (messages.as_ref().map(|(_, place)| place), is_message),
        (
            prehash.as_ref().map(|(_, place)| place),
            algorithm.is_foreign() && !is_token && !is_message,
        ),
        (keys.as_ref().map(|(_, place)| place), algorithm.is_foreign()),
    ];
    let unused = parts.into_iter().filter(|(_, is_used)| !is_used).filter_map(|(place, _)| place);
    for place in unused.filter(|place| place.starts_with(path)) {
        problems.add(place, &message, "remove it, or set `mac`");
    }
    let formed = signature.as_ref().filter(|(signature, _)| signature.form.is_some());
    if let Some((_, place)) = formed.filter(|_| !algorithm.as_str().starts_with("ecdsa-"))
        && (algorithm.is_foreign() || place.starts_with(path))
    {
        problems.add(format!("{place}.form"), message, "remove it");
    }
}

/// Finds an algorithm by its name, and says which names there are.
type Known = (fn(&str) -> Option<Algorithm>, fn() -> String);

/// Algorithms by their names: those that a token or a message may be signed with. A secret that both sides have and a key that only
/// one has do not go together: the public key would be taken for the secret.
fn named(
    own: Option<(&[String], &String)>,
    usual: &str,
    (of_name, known): Known,
    example: &str,
    problems: &mut Problems,
) -> Result<Vec<Allowed>, Reported> {
    let (names, place) = own.map_or((&[][..], usual), |(names, place)| (names, place));
    let place = format!("{place}.algs");
    if names.is_empty() {
        let help = format!("say which algorithms the provider signs with: {example}");
        return Err(problems.add(place, "missing", help));
    }
    let mut allowed = Vec::new();
    for name in names {
        let Some(algorithm) = of_name(name) else {
            let known = format!("known: {}", known());
            return Err(problems.add(place, format!("there is no `{name}` here"), known));
        };
        allowed.push(Allowed { algorithm, raw: true });
    }
    let is_shared = |allowed: &Allowed| !allowed.algorithm.is_foreign();
    if allowed.iter().any(is_shared) && !allowed.iter().all(is_shared) {
        let help = "keep those of one kind: HS… has a shared secret, the others have public keys";
        return Err(problems.add(place, "mixes shared secrets and public keys", help));
    }
    Ok(allowed)
}

fn message(rules: &shape::Rfc9421) -> MessageRules {
    let usual = || ["@method", "@authority", "@path", "content-digest"].map(str::to_owned).to_vec();
    let require = rules.require.clone().unwrap_or_else(usual);
    MessageRules {
        require: require.iter().map(|name| name.to_ascii_lowercase()).collect(),
        tag: rules.tag.clone(),
        max_age: rules.max_age.map(|Span(age)| age),
        skew: rules.skew.map_or(SKEW, |Span(skew)| skew),
    }
}

fn token(rules: &shape::Jwt, path: &str, problems: &mut Problems) -> Result<TokenRules, Reported> {
    let claim = |name: &str, text: &str, problems: &mut Problems| {
        problems.path(&format!("{path}.{name}"), text)
    };
    let mut equal = Vec::new();
    for (name, accepted) in &rules.equal {
        let place = format!("{path}.equal.{name}");
        let accepted = accepted.as_slice().iter().map(|text| problems.each_template(&place, text));
        let accepted = accepted.collect::<Result<Vec<_>, _>>()?.concat();
        let claims = name.split('|').map(|name| claim("equal", name, problems));
        equal.push((claims.collect::<Result<Vec<_>, _>>()?, accepted));
    }
    let present = rules.present.iter().map(|name| claim("present", name, problems));
    let present = present.collect::<Result<_, _>>()?;
    let max_age = rules.max_age.as_ref();
    let max_age =
        max_age.map(|rule| Ok((claim("max_age.claim", &rule.claim, problems)?, rule.past.0)));
    let max_age = max_age.transpose()?;
    let body_hash = rules.body_hash.as_ref().map(|hash| {
        Ok(BodyHash {
            claim: claim("body_hash.claim", &hash.claim, problems)?,
            sha512: hash.hash == BodyDigest::Sha512,
            base64: hash.encoding == DigestText::Base64,
            may_be_empty: hash.or_no_body,
        })
    });
    let body_hash = body_hash.transpose()?;
    let path_hash = rules.path_hash.as_ref().map(|name| {
        let base = rules.path_base.as_deref();
        let base = base.map(|text| fixed(text, &format!("{path}.path_base"), problems));
        Ok((claim("path_hash", name, problems)?, base.transpose()?.unwrap_or_default()))
    });
    Ok(TokenRules {
        kind: rules.typ.clone(),
        equal,
        present,
        max_age,
        skew: rules.skew.map_or(SKEW, |Span(skew)| skew),
        body_hash,
        path_hash: path_hash.transpose()?,
    })
}

/// How a list is read: `items` names a list, and `id` and `key` are in each of its items.
fn listing(
    keys: &shape::KeysAt,
    path: &str,
    problems: &mut Problems,
) -> Result<Option<Listing>, Reported> {
    let (Some(items), Some(id), Some(key)) = (&keys.items, &keys.id, &keys.key) else {
        let none = keys.items.is_none() && keys.id.is_none() && keys.key.is_none();
        if none && keys.list_url.is_none() {
            return Ok(None);
        }
        let help = "for example `items: \"public_keys[*]\"`, `id: key_identifier`, `key: key`";
        return Err(problems.add(path, "a list needs `items`, `id` and `key`", help));
    };
    let items = problems.path(&format!("{path}.items"), items)?;
    let eaches = |path: &Path| path.steps().iter().filter(|step| **step == Step::Each).count();
    if items.steps().last() != Some(&Step::Each) || eaches(&items) != 1 {
        let help = "write it like `public_keys[*]`";
        return Err(problems.add(format!("{path}.items"), "names no list", help));
    }
    let id = problems.path(&format!("{path}.id"), id)?;
    let key = problems.path(&format!("{path}.key"), key)?;
    Ok(Some(Listing { items, id, key }))
}

fn source(
    keys: &shape::KeysAt,
    path: &str,
    algorithm: Algorithm,
    problems: &mut Problems,
) -> Result<Option<KeySource>, Reported> {
    let named = [
        keys.jwks_url.is_some(),
        keys.list_url.is_some(),
        keys.cert_url.is_some(),
        keys.x5c.is_some(),
    ];
    if named.iter().filter(|named| **named).count() > 1 {
        let help = "keep one of `jwks_url`, `list_url`, `cert_url` and `x5c`";
        return Err(problems.add(path, "names several places for keys", help));
    }
    if keys.cert_url.is_none() && (!keys.hosts.is_empty() || keys.path.is_some()) {
        let help = "`hosts` and `path` bound what a message may name: they go with `cert_url`";
        return Err(problems.add(path, "bounds a place that is not named", help));
    }
    if let Some(chain) = &keys.x5c {
        if !matches!(algorithm, Algorithm::Jwt | Algorithm::JwsDetached) {
            let message = format!("means nothing with `mac: {}`", algorithm.as_str());
            return Err(problems.add(format!("{path}.x5c"), message, "remove it"));
        }
        let shape::X5c { leaf_oid, intermediate_oid } = chain.clone();
        return Ok(Some(KeySource::X5c(Chain { leaf_oid, intermediate_oid })));
    }
    if let Some(texts) = &keys.cert_url {
        return named_by_message(keys, texts, path, problems).map(Some);
    }
    let Some(url) = keys.jwks_url.as_ref().or(keys.list_url.as_ref()) else { return Ok(None) };
    let url = fixed(url, path, problems)?;
    if !url.starts_with("https://") || url.contains(['#', '@', ' ']) {
        let help = "write it like `https://idp.example/jwks.json`";
        return Err(problems.add(path, format!("`{url}` is not an https URL"), help));
    }
    Ok(Some(KeySource::At(url)))
}

/// A URL in which parameters of the source may stand, and nothing of a request.
fn fixed(text: &str, path: &str, problems: &mut Problems) -> Result<String, Reported> {
    let template = problems.any_template(path, text)?;
    let literal = |part: &Part| match part {
        Part::Literal(text) => Some(text.clone()),
        Part::Value(_) => None,
    };
    template.parts.iter().map(literal).collect::<Option<String>>().ok_or_else(|| {
        let help = "a place that a request names is `cert_url`, with `hosts` and `path`";
        problems.add(path, format!("`{text}` depends on the request"), help)
    })
}

/// How whoever asks for keys shows that it may: at hosts of which each is named, so that nobody else is shown it.
fn credential(
    keys: &shape::KeysAt,
    path: &str,
    problems: &mut Problems,
) -> Result<Option<(HeaderName, String)>, Reported> {
    let Some(shape::Credential { header, prefix }) = &keys.credential else { return Ok(None) };
    let path = format!("{path}.credential");
    let fetched = keys.jwks_url.as_ref().or(keys.list_url.as_ref()).is_some();
    if !fetched && keys.cert_url.is_none() || keys.hosts.iter().any(|host| host.contains('*')) {
        let help = "it goes with `jwks_url`, `list_url`, or `cert_url` and hosts without `*`";
        return Err(problems.add(path, "could be shown to nobody, or to anybody", help));
    }
    let header = problems.header(&format!("{path}.header"), header)?;
    Ok(Some((header, prefix.clone())))
}

fn named_by_message(
    keys: &shape::KeysAt,
    texts: &OneOrMany<String>,
    path: &str,
    problems: &mut Problems,
) -> Result<KeySource, Reported> {
    let rule = url_rule(&keys.hosts, keys.path.as_deref(), path, problems)?;
    let place_of_urls = format!("{path}.cert_url");
    let urls = texts.placed(&place_of_urls);
    let urls = urls.map(|(path, text)| problems.any_template(&path, text));
    let urls = urls.collect::<Result<_, _>>()?;
    let inside = keys.fetched_key.as_ref();
    let inside = inside.map(|text| problems.path(&format!("{path}.fetched_key"), text));
    Ok(KeySource::Named {
        urls,
        rule,
        dns_name: keys.dns_name.clone(),
        inside: inside.transpose()?,
    })
}

/// Which URLs a message may name.
pub(super) fn url_rule(
    hosts: &[String],
    place: Option<&str>,
    path: &str,
    problems: &mut Problems,
) -> Result<UrlRule, Reported> {
    let (false, Some(place)) = (hosts.is_empty(), place.filter(|place| !place.is_empty())) else {
        let help = "for example `hosts: [api.paypal.com]`, `path: \"/v1/notifications/certs/*\"`";
        return Err(problems.add(path, "anybody could name any place: say which are asked", help));
    };
    let is_wide = |host: &&String| {
        let last_two = host.rsplit('.').take(2);
        host.split('.').count() < 3 && host.contains('*')
            || last_two.into_iter().any(|l| l.contains('*'))
    };
    if let Some(host) = hosts.iter().find(is_wide) {
        let help = "a `*` stands for one label in front of a domain that the provider owns";
        return Err(problems.add(format!("{path}.hosts"), format!("`{host}` is too wide"), help));
    }
    Ok(UrlRule { hosts: hosts.to_vec(), path: place.to_owned() })
}
