//! Signs a request with a secret that both sides have: the mirror image of what judges it.

use super::{
    Algorithm, Container, Encoding, LiveSecret, Place, Presented, Scheme, Signed, container::BASIC,
    draft::Draft, key::Key,
};

/// Signs with one secret: in headers; and in the body or the query, where the signature belongs there and `whole` allows it.
pub(super) fn sign(
    scheme: &Scheme,
    (slot, key): &(u16, Key),
    live: &LiveSecret,
    presented: &Presented<'_>,
    whole: bool,
) -> Result<Signed, String> {
    let parts = &scheme.parts;
    let container = container(scheme, *slot)?;
    let key_id = container.key_id_place().zip(live.id.as_deref());
    let mut draft = Draft::new(scheme, presented, key_id, whole)?;
    for item in items(scheme, presented, container)? {
        draft.fill(item)?;
        let shown = || parts.key.bytes(&live.secret);
        let signature = match parts.algorithm {
            Algorithm::Token => String::from_utf8_lossy(&shown()?).into_owned(),
            Algorithm::Basic => format!("{BASIC}{}", Encoding::Base64.encode(&shown()?)),
            algorithm => {
                let tag = scheme.tag(draft.presented(), key, draft.beside(), item)?;
                container.encoding.encode(tag.bytes(algorithm))
            }
        };
        draft.sign(container, item, &signature)?;
    }
    Ok(draft.signed())
}

/// What a request shows of a secret elsewhere than in a header, with dots in its place; nothing, where it shows none.
pub(super) fn conceal(scheme: &Scheme, presented: &Presented<'_>) -> Result<Signed, String> {
    let mut draft = Draft::bare(scheme, presented, true);
    if !scheme.parts.algorithm.signs() && scheme.counts(presented) {
        for container in &scheme.parts.containers {
            if let Place::Elsewhere(_) = &container.place {
                for item in items(scheme, presented, container)? {
                    draft.sign(container, item, "...")?;
                }
            }
        }
    }
    Ok(draft.signed())
}

/// Where signatures are that are made with the secret in a slot.
fn container(scheme: &Scheme, slot: u16) -> Result<&Container, &'static str> {
    let fits = |c: &&Container| c.secret_slot == 0 || c.secret_slot == slot;
    scheme.parts.containers.iter().find(fits).ok_or("no signature is made with this secret")
}

/// The items of a request that are signed by themselves, or the whole of it.
fn items(
    scheme: &Scheme,
    presented: &Presented<'_>,
    container: &Container,
) -> Result<Vec<Option<usize>>, &'static str> {
    match (&scheme.parts.for_each, &container.place) {
        (None, _) => Ok(vec![None]),
        (Some(_), Place::Elsewhere(_)) => {
            Ok((0..scheme.items_of(presented).unwrap_or(1)).map(Some).collect())
        }
        (Some(_), _) => Err("every item of the body is signed by itself, inside of it"),
    }
}
