//! The usual suspects: what was done to a request, a secret or a configuration when a signature does not match. Each is one
//! change; the first under which the signature matches is the verdict.

mod request;
mod setup;

use super::{Case, coding, explain};
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
    let suspects = [
        setup::other_sources(sources, source, case),
        request::bodies(case),
        setup::signatures(case),
        request::other_headers(case),
        setup::secrets(case),
        setup::urls(case),
        setup::algorithms(case),
    ];
    let mut tried = Vec::new();
    for suspect in suspects.into_iter().flatten() {
        let is_it = suspect.case.is_signed();
        tried.push((suspect.what, is_it));
        if is_it {
            return (tried, suspect.verdict);
        }
    }
    (tried, unexplained(source, case, reason))
}

/// What can be said where nothing that was tried matches.
fn unexplained(source: &Source, case: &Case, reason: Reason) -> String {
    if reason == Reason::SignatureMissing
        && let Some(other) = looks_like(source, case)
    {
        return other;
    }
    if matches!(reason, Reason::SignatureWrong | Reason::SecretExpired) {
        let who = match source.secrets.len() {
            1 => "The secret did not make this signature".to_owned(),
            n => format!("None of the {n} secrets made this signature"),
        };
        let packed = coding(&case.raw.headers).map(|coding| {
            format!(" The body is `{coding}`: some senders sign it before they compress it, which cannot be verified.")
        });
        let found = preset(source).and_then(|preset| preset.secret.found_at.as_ref());
        let found = found.map(|found| format!(" The secret is at: {found}."));
        let (packed, found) = (packed.unwrap_or_default(), found.unwrap_or_default());
        return format!(
            "{who}, and nothing that was tried explains it: most likely it is another secret, or the body was changed.{packed}{found}"
        );
    }
    explain(reason.as_str()).to_owned()
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
