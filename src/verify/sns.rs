//! The text that Amazon SNS signs: names and values of a message's members, a line each.

use std::sync::LazyLock;

use super::{
    From,
    view::{Unusable, View},
};
use crate::json::Path;

/// Members that are signed, by kind of message, in order. `Subject` may be left out.
const NOTIFICATION: &[&str] = &["Message", "MessageId", SUBJECT, "Timestamp", "TopicArn", "Type"];
const SUBSCRIPTION: &[&str] =
    &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
const SUBJECT: &str = "Subject";

/// What a value looks for: the members, where it is this text, and else itself.
pub(super) fn members(place: &From) -> impl Iterator<Item = &From> {
    let (own, all) = match place {
        From::AwsSns => (None, MEMBERS.as_slice()),
        place => (Some(place), &[][..]),
    };
    own.into_iter().chain(all)
}

/// Every member that is looked at.
static MEMBERS: LazyLock<Vec<From>> = LazyLock::new(|| {
    let names = [NOTIFICATION, SUBSCRIPTION].concat();
    names.iter().flat_map(|name| Path::parse(name)).map(From::Json).collect()
});

/// Whether a member is signed in every kind of message.
pub(super) fn covers(path: &Path) -> bool {
    let signed = |names: &[&str]| names.iter().any(|name| Path::parse(name).as_ref() == Ok(path));
    signed(NOTIFICATION) && signed(SUBSCRIPTION)
}

/// The text.
pub(super) fn text(view: &View<'_>) -> Result<Vec<u8>, Unusable> {
    let member = |name: &str| {
        let path = Path::parse(name).map_err(|_| Unusable::Absent)?;
        let text = view.find(&From::Json(path), &[])?;
        // Only a message has lines; a line more in another member could be taken for a member.
        let is_open = name == "Message" || !text.iter().any(u8::is_ascii_control);
        if is_open { Ok(text) } else { Err(Unusable::Repeated) }
    };
    let members = match &*member("Type")? {
        b"Notification" => NOTIFICATION,
        b"SubscriptionConfirmation" | b"UnsubscribeConfirmation" => SUBSCRIPTION,
        _ => return Err(Unusable::Absent),
    };
    let mut signed = Vec::new();
    for name in members {
        let value = match member(name) {
            Err(Unusable::Absent) if *name == SUBJECT => continue,
            value => value?,
        };
        signed.extend_from_slice(name.as_bytes());
        signed.push(b'\n');
        signed.extend_from_slice(&value);
        signed.push(b'\n');
    }
    Ok(signed)
}
