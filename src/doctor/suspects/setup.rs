//! What is set up otherwise at the provider than here: secrets, their form, the URL, the algorithm.

use std::collections::BTreeSet;

use super::{Suspect, set, suspect, with_schemes};
use crate::{
    config::Source,
    doctor::{Case, known::Key},
    secret::Secret,
    verify::{Algorithm, Container, Encoding, KeyEncoding, LiveSecret, Scheme, SchemeParts},
};

/// Other sources that have secrets.
pub(super) fn others<'s>(
    sources: &'s [Source],
    own: &'s Source,
) -> impl Iterator<Item = &'s Source> {
    sources.iter().filter(|other| other.name != own.name && !other.secrets.is_empty())
}

/// Their secrets, in a line.
pub(super) fn in_a_line(others: &[&Source]) -> Option<String> {
    match others {
        [] => None,
        [other] => Some(secret_of(other)),
        others => Some(format!("secrets of {} other sources", others.len())),
    }
}

fn secret_of(source: &Source) -> String {
    let prints: Vec<_> = source.secrets.iter().map(|live| live.secret.fingerprint()).collect();
    format!("secret of source {} ({})", source.name, prints.join(", "))
}

/// What was meant for another source: signed with its secret, in this scheme or in its own.
pub(super) fn meant_for(other: &Source, case: &Case) -> [Suspect; 2] {
    let what = secret_of(other);
    let verdict = format!(
        "This request was signed for source `{}`: its provider should call {}, or the secrets of the two are mixed up.",
        other.name, other.public_url
    );
    let secrets = other.secrets.clone();
    let here = Case { secrets: secrets.clone(), ..case.clone() };
    let schemes = other.language.schemes.clone();
    let there = Case { secrets, schemes, url: other.public_url.clone(), ..case.clone() };
    [suspect(&what, &verdict, here), suspect(format!("{what}, in its own scheme"), verdict, there)]
}

/// A signature that is written in another way than the scheme says.
pub(super) fn signatures(case: &Case, key: Key) -> Vec<Suspect> {
    let encodings = [
        (Encoding::HexAny, "hexadecimal in capitals", "hex-any"),
        (Encoding::Hex, "hexadecimal", "hex"),
        (Encoding::Base64, "base64", "base64"),
        (Encoding::Base64Url, "URL-safe base64", "base64url"),
    ];
    let mut tries = Vec::new();
    for (encoding, name, key) in encodings {
        let verdict = format!(
            "The signature is {name}, and the scheme reads something else: `signature: {{ encoding: {key} }}`."
        );
        let change = |parts: &mut SchemeParts| {
            !is_token(parts) && each(|container| set(&mut container.encoding, encoding))(parts)
        };
        tries.extend(with_schemes(case, format!("signature read as {name}"), verdict, change));
    }
    let verdict = "The signature stands without the prefix that the scheme expects: something on the way took it off, or it needs no `prefix`.";
    let bare = each(|container| set(&mut container.prefix, None));
    tries.extend(with_schemes(case, "signature without its prefix", verdict, bare));
    let prefixes = ["sha256=", "sha1=", "sha512=", "v0=", "v1="];
    for prefix in prefixes.into_iter().filter(|_| key == Key::Shared) {
        let verdict = format!(
            "The signature begins with `{prefix}`: `signature: {{ prefix: \"{prefix}\" }}`."
        );
        let change = each(|container| set(&mut container.prefix, Some(prefix.to_owned())));
        tries.extend(with_schemes(case, format!("signature behind `{prefix}`"), verdict, change));
    }
    tries
}

/// Whether what carries the signature has an encoding of its own.
pub(super) const fn is_token(parts: &SchemeParts) -> bool {
    matches!(parts.algorithm, Algorithm::Jwt | Algorithm::JwsDetached | Algorithm::Rfc9421)
}

/// Changes every place where the scheme looks for signatures; says whether anything was changed.
fn each(change: impl Fn(&mut Container) -> bool) -> impl Fn(&mut SchemeParts) -> bool {
    move |parts| parts.containers.iter_mut().fold(false, |changed, c| change(c) | changed)
}

/// What is done to a secret's text.
type Change = fn(&str) -> String;

/// Secrets that are the right ones in another form.
pub(super) fn secrets(case: &Case, key: Key) -> Vec<Suspect> {
    let mut tries = Vec::new();
    let text = |live: &LiveSecret| {
        std::str::from_utf8(live.secret.expose()).unwrap_or_default().to_owned()
    };
    let changes: [(&str, &str, Change); 3] = [
        (
            "secrets without the quotes around them",
            "The configured secret has quotes around it that do not belong to it.",
            |text| text.trim_matches(['"', '\'']).to_owned(),
        ),
        (
            "secrets with a newline at their end",
            "The sender has a newline at the end of its secret (it was read from a file as it is); set it there without one.",
            |text| format!("{text}\n"),
        ),
        (
            "secrets with `whsec_` in front",
            "The secret is used with its prefix `whsec_`, and is configured without it.",
            |text| format!("whsec_{text}"),
        ),
    ];
    let fitting = match key {
        Key::Shared => 3,
        Key::Shown => 2,
        Key::Public => return tries,
    };
    for (what, verdict, change) in changes.into_iter().take(fitting) {
        let mut other = case.clone();
        let mut any = false;
        for live in &mut other.secrets {
            let (before, after) = (text(live), change(&text(live)));
            any |= before != after;
            live.secret = Secret::new(after);
        }
        tries.extend(any.then(|| suspect(what, verdict, other)));
    }
    if key == Key::Shared {
        tries.extend(encoded(case));
    }
    tries
}

/// The same secrets, read in another way.
fn encoded(case: &Case) -> Vec<Suspect> {
    let mut tries = Vec::new();
    let forms = [
        (KeyEncoding::Utf8, "the text as it is", "key: { encoding: utf8 }"),
        (KeyEncoding::Base64, "base64, decoded", "key: { encoding: base64 }"),
        (KeyEncoding::Hex, "hexadecimal, decoded", "key: { encoding: hex }"),
    ];
    for (encoding, name, key) in forms {
        for strip in [false, true] {
            let (with, prefixes) =
                if strip { (", its prefix removed", stripped(case)) } else { ("", Vec::new()) };
            if strip && prefixes.is_empty() {
                continue;
            }
            let verdict = format!(
                "The secret is right, and is used in another form than the scheme says: {name}{with} (`{key}`)."
            );
            let change = |parts: &mut SchemeParts| {
                set(&mut parts.key.encoding, encoding)
                    | set(&mut parts.key.strip_prefix, prefixes.clone())
            };
            tries.extend(with_schemes(case, format!("secrets as {name}{with}"), verdict, change));
        }
    }
    tries
}

/// What stands before the first `_` of secrets, where it is as short as a prefix is.
fn stripped(case: &Case) -> Vec<String> {
    let prefix = |secret: &Secret| {
        let text = std::str::from_utf8(secret.expose()).ok()?;
        let (prefix, _) = text.split_once('_').filter(|(prefix, _)| prefix.len() <= 8)?;
        Some(format!("{prefix}_"))
    };
    case.secrets.iter().filter_map(|live| prefix(&live.secret)).collect()
}

/// Other spellings of the URL that the provider has on file.
pub(super) fn urls(case: &Case) -> Vec<Suspect> {
    if !case.schemes.iter().any(Scheme::needs_public_url) {
        return Vec::new();
    }
    let mut bases = vec![case.url.clone()];
    if let Some(host) = case.raw.headers.get(http::header::HOST).and_then(|host| host.to_str().ok())
    {
        bases.push(format!("https://{host}{}", case.raw.path()));
    }
    let mut spellings = Vec::new();
    for base in bases {
        let Some((scheme, rest)) = base.split_once("://") else { continue };
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let bare = path.trim_end_matches('/');
        for scheme in [scheme, "https", "http"] {
            let port = if scheme == "https" { 443 } else { 80 };
            for authority in [authority, host, &format!("{host}:{port}")] {
                for path in [path, bare, &format!("{bare}/")] {
                    spellings.push(format!("{scheme}://{authority}{path}"));
                }
            }
        }
    }
    let mut seen = BTreeSet::from([case.url.clone()]);
    spellings.retain(|url| seen.insert(url.clone()));
    let mut tries = Vec::new();
    for url in std::iter::once(case.url.clone()).chain(spellings) {
        let queries =
            [case.raw.target.clone(), case.raw.path().to_owned(), sorted(&case.raw.target)];
        for target in BTreeSet::from(queries) {
            if url == case.url && target == case.raw.target {
                continue;
            }
            let query =
                target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
            let mut other = Case { url: url.clone(), ..case.clone() };
            other.raw.target = target;
            let verdict = format!(
                "The provider has another URL on file: `{url}{query}`. Set `public_url: {url}` at the source, or correct it at the provider."
            );
            tries.push(suspect(format!("URL {url}{query}"), verdict, other));
        }
    }
    tries
}

/// The same target with its parameters in order.
fn sorted(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let mut pairs: Vec<_> = query.split('&').collect();
    pairs.sort_unstable();
    format!("{path}?{}", pairs.join("&"))
}

/// Other algorithms of the family.
pub(super) fn algorithms(case: &Case, key: Key) -> Vec<Suspect> {
    let macs =
        [Algorithm::HmacSha256, Algorithm::HmacSha1, Algorithm::HmacSha384, Algorithm::HmacSha512];
    let macs = macs.into_iter().filter(|_| key == Key::Shared);
    let tries = macs.filter_map(|mac| {
        let name = mac.as_str();
        let verdict = format!(
            "The signature was made with another algorithm than the scheme says: `mac: {name}`."
        );
        let change =
            |parts: &mut SchemeParts| parts.foreign.is_none() && set(&mut parts.algorithm, mac);
        with_schemes(case, format!("algorithm {name}"), verdict, change)
    });
    tries.collect()
}
