//! The usual suspects: what was done to a request, a secret or a configuration when a signature does not match. Each is one
//! change; the first under which the signature matches is the verdict.

mod request;
mod setup;

use super::{
    Case, coding, explain,
    known::{Key, covers_body},
};
use crate::{
    answer::Reason,
    config::Source,
    providers::{self, Preset, shape::OneOrMany},
    verify::{Scheme, SchemeParts},
};

/// One thing that may have been done.
struct Suspect {
    /// What is tried.
    what: String,
    /// What it is, where it was that.
    verdict: String,
    case: Case,
}

/// Tries all, each after the other, and says what it was.
pub(super) fn find(
    sources: &[Source],
    source: &Source,
    case: &Case,
    reason: Reason,
) -> (Vec<(String, bool)>, String) {
    let others: Vec<_> = setup::others(sources, source).collect();
    let mut meant = others.iter().flat_map(|other| setup::meant_for(other, case));
    if let Some(it) = meant.find(|suspect| suspect.case.is_signed()) {
        return (vec![(it.what, true)], it.verdict);
    }
    let mut tried: Vec<_> =
        setup::in_a_line(&others).map(|what| (what, false)).into_iter().collect();
    for suspect in possible(case, reason) {
        let is_it = suspect.case.is_signed();
        tried.push((suspect.what, is_it));
        if is_it {
            return (tried, suspect.verdict);
        }
    }
    (tried, unexplained(source, case, reason))
}

/// What may have been done: nothing to a body that is not covered, to secrets that are not used, or to a signature that is not there.
fn possible(case: &Case, reason: Reason) -> Vec<Suspect> {
    let Some(scheme) = case.scheme().filter(|_| !is_about_keys(reason)) else { return Vec::new() };
    let key = Key::of(scheme);
    let mut all = Vec::new();
    let is_there = reason != Reason::SignatureMissing;
    if is_there && covers_body(scheme) {
        all.extend(request::bodies(case));
    }
    // What leads a token may be all that is missing.
    if is_there || setup::is_token(&scheme.parts) {
        all.extend(setup::signatures(case, key));
    }
    all.extend(request::other_headers(case, key));
    if is_there {
        all.extend(setup::secrets(case, key));
        all.extend(setup::urls(case));
        all.extend(setup::algorithms(case, key));
    }
    all
}

/// Whether it is said by whom or with what the request was signed, and nothing else counts.
const fn is_about_keys(reason: Reason) -> bool {
    use Reason as R;
    let about_tokens = matches!(reason, R::AlgorithmRefused | R::IssuerWrong | R::AudienceWrong);
    about_tokens || matches!(reason, R::KeyUnknown | R::KeySourceRefused | R::CertificateRefused)
}

/// What can be said where nothing that was tried matches.
fn unexplained(source: &Source, case: &Case, reason: Reason) -> String {
    if reason == Reason::SignatureMissing
        && let Some(other) = looks_like(source, case)
    {
        return other;
    }
    let (key, covers_body) =
        case.scheme().map_or((Key::Shared, true), |scheme| (Key::of(scheme), covers_body(scheme)));
    if !matches!(reason, Reason::SignatureWrong | Reason::SecretExpired) {
        return explain(reason.as_str()).to_owned();
    }
    if let Some(says) = case.raw.says_other_length().filter(|_| covers_body) {
        return format!(
            "The body was changed on the way: `Content-Length` says {says} bytes, and {} are here. What wrote it anew (a proxy, a framework, a \
             page that shows it indented) must pass it on byte for byte.",
            case.raw.body.len()
        );
    }
    let who = match (key, source.secrets.len()) {
        (Key::Shared, 1) => "The secret did not make this signature".to_owned(),
        (Key::Shared, n) => format!("None of the {n} secrets made this signature"),
        (Key::Shown, 1) => "What the sender shows is not the secret".to_owned(),
        (Key::Shown, n) => format!("What the sender shows is none of the {n} secrets"),
        (Key::Public, 1) => "The signature does not fit the public key".to_owned(),
        (Key::Public, n) => format!("The signature fits none of the {n} public keys"),
    };
    let other = if key == Key::Public { "key" } else { "secret" };
    let changed = match key {
        Key::Shown => "",
        Key::Shared | Key::Public if covers_body => ", or the body was changed",
        Key::Shared | Key::Public => ", or something that is signed was changed",
    };
    let packed = coding(&case.raw.headers).filter(|_| covers_body).map(|coding| {
        format!(" The body is `{coding}`: some senders sign it before they compress it, which cannot be verified.")
    });
    let found = preset(source).and_then(|preset| preset.secret.found_at.as_ref());
    let found = found.filter(|found| !found.starts_with("nothing to copy"));
    let found = found.map(|found| format!(" The {} is at: {found}.", key.name()));
    let (packed, found) = (packed.unwrap_or_default(), found.unwrap_or_default());
    format!(
        "{who}, and nothing that was tried explains it: most likely it is another {other}{changed}.{packed}{found}"
    )
}

fn preset(source: &Source) -> Option<&'static Preset> {
    providers::preset(&source.provider)
}

/// A request of another provider, by the header that carries its signature.
fn looks_like(source: &Source, case: &Case) -> Option<String> {
    let sent = |name: &str| case.raw.headers.contains_key(name);
    let own = preset(source).map(|preset| preset.name.as_str());
    let others = providers::catalogue().filter(|preset| Some(preset.name.as_str()) != own);
    let signs = |preset: &&Preset| {
        let blocks = preset.verify.schemes.iter().map(|own| &own.scheme);
        let signatures = blocks.chain([&preset.verify.scheme]).filter_map(|s| s.signature.as_ref());
        let mut names =
            signatures.flat_map(OneOrMany::as_slice).filter_map(|s| s.header.as_deref());
        names.any(sent)
    };
    // Several may use one name; one that is like another is told by the other.
    let others = others.filter(|preset| preset.like.is_none()).filter(signs);
    let name = |preset: &Preset| format!("{} (`provider: {}`)", preset.title, preset.name);
    let others: Vec<_> = others.map(name).collect();
    (!others.is_empty()).then(|| {
        format!(
            "This looks like a request of {}: its signature header is there, and the one of source `{}` is not.",
            others.join(" or "),
            source.name
        )
    })
}

fn suspect(what: impl Into<String>, verdict: impl Into<String>, case: Case) -> Suspect {
    Suspect { what: what.into(), verdict: verdict.into(), case }
}

/// The same with each scheme changed; nothing where that changes none, or makes none.
fn with_schemes(
    case: &Case,
    what: impl Into<String>,
    verdict: impl Into<String>,
    change: impl Fn(&mut SchemeParts) -> bool,
) -> Option<Suspect> {
    let mut any = false;
    let changed = case.schemes.iter().map(|scheme| {
        let mut parts = scheme.parts.clone();
        any |= parts.algorithm.signs() && change(&mut parts);
        Scheme::new(parts).ok()
    });
    let schemes = changed.collect::<Option<Vec<_>>>()?;
    any.then(|| suspect(what, verdict, Case { schemes, ..case.clone() }))
}

/// Sets a value; false where it was that already.
fn set<T: PartialEq>(place: &mut T, value: T) -> bool {
    let other = *place != value;
    *place = value;
    other
}
