//! What is signed: its pieces, as they stand in a request, and what nobody can change without breaking the signature.

use std::borrow::Cow;

use arrayvec::ArrayVec;

use super::{
    Algorithm, Equality, From, Part, Scheme, Template, Transform, Value, sns,
    view::{Variable, View},
};
use crate::{answer::Reason, event::TEXT_BYTES_MAX};

/// Parts that a signed text may have at most.
pub(super) const PARTS_MAX: usize = 16;

/// The signed text in pieces, borrowed wherever they stand.
pub(super) type Pieces<'s> = ArrayVec<Cow<'s, [u8]>, PARTS_MAX>;

impl Scheme {
    /// Whether whoever changes `value`, a value of the whole request, breaks the signature, whichever text was signed; or breaks a
    /// requirement, where the digest of the body must be what is signed.
    pub(crate) fn covers(&self, value: &Value) -> bool {
        if self.parts.foreign.as_ref().is_some_and(|foreign| foreign.covers(value, self)) {
            return true;
        }
        let in_body =
            matches!(value.from, From::Body | From::Json(_) | From::Form(_) | From::FormJson(..));
        let is_digest = |v: &Value| v.from == From::Body && v.transforms == [Transform::Sha256Hex];
        let binds = |equal: &Equality| {
            let pair = equal.left.sole_value().zip(equal.right.sole_value());
            pair.filter(|_| !equal.one_of).is_some_and(|(l, r)| {
                is_digest(r) && self.signs_over(l) || is_digest(l) && self.signs_over(r)
            })
        };
        self.signs_over(value) || in_body && self.parts.require.iter().any(binds)
    }

    /// Whether the signed time is signed; it is read where what is signed is, in an item where those are signed one by one.
    pub(crate) fn covers_time(&self) -> bool {
        let time = self.parts.timestamps.as_ref().map(|time| &time.from);
        time.is_none_or(|time| {
            let is = |signed: &From| *signed == time.from || self.holds_all_of(signed, time);
            self.covers(time) || self.each_text_has(is)
        })
    }

    /// Whether all fields of a form are signed, in an order of their own: the body may be written in many ways, and say the same.
    pub(crate) fn signs_form(&self) -> bool {
        self.each_text_has(|signed| matches!(signed, From::Fields { .. }))
    }

    fn signs_over(&self, value: &Value) -> bool {
        self.each_text_has(|signed| self.holds_all_of(signed, value)) && !self.is_ambiguous()
    }

    /// Whether each of the texts that may be signed has such a value, whole.
    fn each_text_has(&self, is: impl Fn(&From) -> bool) -> bool {
        // Another text can have the same checksum, and the same small letters.
        let loses = |t: &Transform| matches!(t, Transform::Lower | Transform::Crc32);
        let is_whole = |v: &Value| !v.transforms.iter().any(loses);
        let has = |signed: &Template| signed.values().any(|v| is_whole(v) && is(&v.from));
        !self.parts.signed.is_empty() && self.parts.signed.iter().all(has)
    }

    /// Whether two of the texts that may be signed differ in what is written around the same values: then other values make one
    /// of them what the other was.
    fn is_ambiguous(&self) -> bool {
        let signed = &self.parts.signed;
        let same = |(n, one): (usize, &Template)| {
            signed.iter().skip(n + 1).any(|other| one.values().eq(other.values()))
        };
        signed.iter().enumerate().any(same)
    }

    fn holds_all_of(&self, signed: &From, value: &Value) -> bool {
        match &value.from {
            From::Json(_) | From::Form(_) | From::FormJson(..) if *signed == From::Body => true,
            From::Query(_) | From::Path if *signed == From::Path => true,
            From::Json(path) if *signed == From::AwsSns => sns::covers(path),
            From::Body | From::Json(_) if *signed == From::TrueLayer => true,
            From::Query(_) if *signed == From::Url => true,
            // What the list must name; see `piece`.
            From::Header(_) if matches!(signed, From::SignedHeaders(_)) => {
                self.parts.timestamps.as_ref().is_some_and(|time| time.from == *value)
            }
            From::Json(path) => match (&self.parts.for_each, signed) {
                (Some(items), From::Json(inside)) => {
                    path.leads_through(items) == Some(inside.steps())
                }
                (_, signed) => value.from == *signed,
            },
            from => from == signed,
        }
    }

    /// What is signed, in pieces. A text of one value is unambiguous whatever the value is.
    pub(super) fn pieces<'s>(
        &self,
        signed: &'s Template,
        view: &'s View<'_>,
        elements: &[Variable<'s>],
    ) -> Result<Pieces<'s>, Reason> {
        let is_alone = signed.values().nth(1).is_none();
        let next = signed.parts.iter().skip(1).map(Some).chain([None]);
        let piece = |(part, next): (&'s Part, Option<&Part>)| match part {
            Part::Literal(text) => Ok(Cow::Borrowed(text.as_bytes())),
            Part::Value(value) => self.piece(value, is_alone, next, view, elements),
        };
        signed.parts.iter().zip(next).map(piece).collect()
    }

    fn piece<'s>(
        &self,
        value: &Value,
        is_alone: bool,
        next: Option<&Part>,
        view: &'s View<'_>,
        elements: &[Variable<'s>],
    ) -> Result<Cow<'s, [u8]>, Reason> {
        let time = self.parts.timestamps.as_ref().map(|time| &time.from);
        let is_time = time == Some(value);
        let found = view.value(value, elements);
        let found = found.map_err(|e| if is_time { e.time() } else { e.input(&value.from) })?;
        if matches!(value.from, From::SignedHeaders(_)) && !lists(&found, time) {
            return Err(Reason::TimestampMissing);
        }
        // A digest over secret and text can be continued by whoever has seen one, with bytes that are no UTF-8.
        if self.parts.algorithm == Algorithm::HashSha256 && std::str::from_utf8(&found).is_err() {
            return Err(Reason::InputAmbiguous);
        }
        // The form of a time is checked elsewhere, and of these there is but one each.
        let is_open = is_alone || is_time || is_whole(&value.from);
        if is_open || is_unambiguous(&found, &value.from, next) {
            Ok(found)
        } else {
            Err(Reason::InputAmbiguous)
        }
    }
}

/// Values of which a request has one, wherever they end.
fn is_whole(place: &From) -> bool {
    let is_one = matches!(
        place,
        From::AwsSns
            | From::Hook0(_)
            | From::TrueLayer
            | From::Body
            | From::Method
            | From::Url
            | From::Path
            | From::Secret
    );
    is_one || matches!(place, From::Fields { .. } | From::SignedHeaders(_))
}

/// Whether `name:value;…` holds the header of the signed time, where it is one.
fn lists(text: &[u8], time: Option<&Value>) -> bool {
    let Some(Value { from: From::Header(name), .. }) = time else { return true };
    let mut listed = text.split(|byte| *byte == b';');
    listed.any(|pair| {
        pair.strip_prefix(name.as_str().as_bytes()).is_some_and(|p| p.starts_with(b":"))
    })
}

/// Whether no other values give the same signed text: bounded, without control characters, and without the first byte of
/// the literal that follows; where a header could be cut, without a space.
fn is_unambiguous(bytes: &[u8], place: &From, next: Option<&Part>) -> bool {
    let separator = next.and_then(|next| match next {
        Part::Literal(text) => text.bytes().next(),
        Part::Value(_) => None,
    });
    let in_body = matches!(place, From::Json(_) | From::Form(_) | From::FormJson(..));
    let shifts = |byte: &u8| {
        byte.is_ascii_control()
            || separator.is_some_and(|s| *byte == s || (*byte == b' ' && !in_body))
    };
    bytes.len() <= TEXT_BYTES_MAX && !bytes.iter().any(shifts)
}
