//! Which secret is for which scheme of a source, and what it is as a key.

use super::{
    LiveSecret, Scheme,
    key::{self, Key},
    keyset::KeySet,
};
use crate::secret::Secret;

/// What is wrong with a secret that `schemes` cannot use, as the end of a sentence that never holds any part of it.
pub(super) fn check(schemes: &[&Scheme], live: &LiveSecret) -> Result<(), String> {
    let secret = &live.secret;
    key::check(secret)?;
    let mut compared = schemes.iter().filter(|scheme| scheme.parts.foreign.is_none());
    if live.id.is_none() && compared.any(|scheme| scheme.names_secrets()) {
        return Err("has no `id`, by which requests name it: `{ file: …, id: … }`".into());
    }
    let mut uses = schemes.iter().filter(|scheme| is_meant_for(scheme, schemes, secret));
    uses.try_for_each(|scheme| match &scheme.parts.foreign {
        Some(foreign) => foreign.prepare(&scheme.parts.key, live).map(drop),
        None => prepare(scheme, secret).map(drop),
    })
}

/// Whether a secret belongs to a scheme. Where alternatives need different kinds of secret, its prefix says which kind it is:
/// GitLab's signing tokens begin with `whsec_`, its plain tokens do not. So a plain token never becomes a signing key, nor a
/// signing key a token that could be shown instead.
fn is_meant_for(scheme: &Scheme, schemes: &[&Scheme], secret: &Secret) -> bool {
    let form = &scheme.parts.key;
    let finding = schemes.iter().filter(|scheme| scheme.finds_keys()).count();
    if (1..schemes.len()).contains(&finding) {
        // Where some alternatives need none, a secret is theirs only if it is a key that takes the place of those they find.
        let text = secret.expose().trim_ascii_start();
        let is_key = text.starts_with(b"-----BEGIN ") || text.starts_with(b"{");
        return scheme.finds_keys() == is_key;
    }
    if schemes.iter().any(|other| other.parts.key.claims(secret)) {
        return form.claims(secret);
    }
    let is_open = |scheme: &&Scheme| scheme.parts.key.strip_prefix.is_empty();
    is_open(&scheme) || !schemes.iter().any(is_open)
}

fn prepare(scheme: &Scheme, secret: &Secret) -> Result<Key, String> {
    Key::prepare(scheme.parts.algorithm, &scheme.parts.key, secret)
}

/// Keys by slot: those that make tags, and those that are checked with.
pub(super) type Slots = (Vec<(u16, Key)>, Vec<(u16, KeySet)>);

pub(super) fn keys(scheme: &Scheme, schemes: &[&Scheme], secrets: &[LiveSecret]) -> Slots {
    let meant = (1..).zip(secrets).filter(|(_, live)| is_meant_for(scheme, schemes, &live.secret));
    let (mut keys, mut sets) = Slots::default();
    for (slot, live) in meant {
        match &scheme.parts.foreign {
            Some(foreign) => {
                sets.extend(foreign.prepare(&scheme.parts.key, live).map(|set| (slot, set)));
            }
            None => keys.extend(prepare(scheme, &live.secret).map(|key| (slot, key))),
        }
    }
    (keys, sets)
}
