//! Signature containers: where a signature is in a request, which others are beside it, and its one canonical encoding.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    From, Template,
    form::sole,
    key::{Algorithm, Tag},
    view::{Unusable, Variable, View},
};
use crate::answer::Reason;

/// Signatures that are compared at most; a provider sends one per secret that is in use.
const SIGNATURES_MAX: usize = 8;
/// Signatures of a family of headers, at most: one each.
const NUMBERED_MAX: usize = 100;
/// Bytes of a signature at most: one of RSA with 8192 bits.
const SIGNATURE_BYTES_MAX: usize = 1024;
/// Groups that a container may have at most: one per secret while two are in use, and room.
pub(super) const GROUPS_MAX: usize = 4;
/// Elements that a container may have at most, signatures or not.
const ELEMENTS_MAX: usize = 16;
/// Bytes that a container may have at most; each of a family of headers may.
const CONTAINER_BYTES_MAX: usize = 4096;

/// Where signatures are and how they are written.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) place: Place,
    /// Literal that leads each signature.
    pub(crate) prefix: Option<String>,
    /// Whether a signature may come without it.
    pub(crate) prefix_optional: bool,
    /// Separator of groups, each of which has variables of its own.
    pub(crate) groups: Option<u8>,
    /// Separator of elements.
    pub(crate) split: Option<u8>,
    /// Separator of key and value, and the keys whose values are signatures.
    pub(crate) pair: Option<(u8, Vec<String>)>,
    /// Names of the leading elements, which are variables; those behind them are signatures.
    pub(crate) positional: Vec<String>,
    pub(crate) encoding: Encoding,
    /// Whether the header may come on several lines.
    pub(crate) repeated: bool,
    /// Whether spaces around elements are removed.
    pub(crate) trim: bool,
    /// The one secret that these signatures are made with, counted from 1; any, where 0.
    pub(crate) secret_slot: u16,
    /// What says which secrets are meant, by their ids.
    pub(crate) key_id: Option<Template>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header(HeaderName),
    /// Headers that begin so and end in a number from 1 to 100.
    Numbered(String),
    Elsewhere(Template),
}

/// Encoding of a signature; canonical forms only, so that a signature has one spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Lower-case hexadecimal.
    #[default]
    Hex,
    /// Hexadecimal in either case.
    HexAny,
    /// Standard base64 with padding.
    Base64,
    /// URL-safe base64, padding optional.
    #[serde(rename = "base64url")]
    Base64Url,
}

/// URL-safe base64 with or without padding; bits behind the end must be zero.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A container's text: one line, or several where the header may be repeated.
type Lines<'a> = SmallVec<[Cow<'a, [u8]>; 1]>;

/// What is in a container: keys and values, where keys are empty in containers without them.
type Elements<'a> = SmallVec<[Variable<'a>; ELEMENTS_MAX]>;

impl Container {
    /// Where a request names the secret that it is signed with.
    pub(super) fn key_id_place(&self) -> Option<&From> {
        self.key_id.as_ref().and_then(Template::sole_value).map(|value| &value.from)
    }

    /// Takes the text from the request.
    pub(super) fn lines<'s>(&self, view: &'s View<'_>) -> Result<Lines<'s>, Reason> {
        let mut lines = Lines::new();
        match &self.place {
            Place::Header(name) => {
                let found = view.request.headers.get_all(name).iter().take(SIGNATURES_MAX + 1);
                lines.extend(found.map(|line| Cow::Borrowed(line.as_bytes())));
            }
            Place::Numbered(prefix) => {
                for name in view.request.headers.keys().filter(|name| is_numbered(name, prefix)) {
                    let line = sole(view.request.headers.get_all(name).iter());
                    let line = line.map_err(|_| Reason::HeaderRepeated)?.as_bytes();
                    lines.push(line.into());
                }
            }
            Place::Elsewhere(template) => {
                lines.push(template.text(view, &[]).map_err(|e| match e {
                    Unusable::Absent => Reason::SignatureMissing,
                    Unusable::Repeated => Reason::SignatureMalformed,
                })?);
            }
        }
        let may_repeat = self.repeated || self.is_family();
        let each = if self.is_family() { lines.len() } else { 1 };
        match lines.iter().map(|line| line.len()).sum::<usize>() {
            _ if lines.len() > 1 && !may_repeat => Err(Reason::HeaderRepeated),
            _ if lines.len() > self.signatures_max() => Err(Reason::SignaturesTooMany),
            0 => Err(Reason::SignatureMissing),
            bytes if bytes <= each * CONTAINER_BYTES_MAX => Ok(lines),
            _ => Err(Reason::SignatureMalformed),
        }
    }

    fn is_family(&self) -> bool {
        matches!(self.place, Place::Numbered(_))
    }

    /// Signatures that are looked at, at most.
    fn signatures_max(&self) -> usize {
        if self.is_family() { NUMBERED_MAX } else { SIGNATURES_MAX }
    }

    /// Takes the text apart.
    pub(super) fn elements<'l>(
        &'l self,
        lines: &'l [Cow<'_, [u8]>],
    ) -> Result<Elements<'l>, Reason> {
        let mut elements = Elements::new();
        let most = ELEMENTS_MAX.max(self.signatures_max());
        for line in lines {
            for element in line.split(|byte| Some(*byte) == self.split) {
                let (key, value) = self.element(element).ok_or(Reason::SignatureMalformed)?;
                let name = self.positional.get(elements.len()).map_or(key, |name| name.as_bytes());
                if elements.len() == most {
                    return Err(Reason::SignaturesTooMany);
                }
                elements.push((name, value));
            }
        }
        Ok(elements)
    }

    fn element<'l>(&self, element: &'l [u8]) -> Option<Variable<'l>> {
        let element = if self.trim { element.trim_ascii() } else { element };
        let Some((separator, _)) = &self.pair else {
            return (!element.is_empty()).then_some((&[], element));
        };
        let at = element.iter().position(|byte| byte == separator)?;
        let (key, value) = element.split_at_checked(at)?;
        let is_word = !key.is_empty() && key.iter().all(u8::is_ascii_graphic);
        is_word.then_some((key, value.get(1..)?))
    }

    /// Decodes the signatures. Those that are malformed are passed over, as a provider may add forms that we do not know; but
    /// one at least must be readable.
    pub(super) fn candidates(
        &self,
        elements: &[Variable<'_>],
        algorithm: Algorithm,
    ) -> Result<SmallVec<[Tag; SIGNATURES_MAX]>, Reason> {
        let mut candidates = SmallVec::new();
        let mut none = Reason::SignatureMissing;
        for (_, text) in elements.iter().filter(|(key, _)| self.is_picked(key)) {
            none = Reason::SignatureMalformed;
            if let Some(candidate) = self.decode(text, algorithm) {
                candidates.push(candidate);
            }
        }
        self.bounded(candidates, none)
    }

    /// What was read, where it is anything, and not too much.
    fn bounded<T>(
        &self,
        read: SmallVec<[T; SIGNATURES_MAX]>,
        none: Reason,
    ) -> Result<SmallVec<[T; SIGNATURES_MAX]>, Reason> {
        match read.len() {
            0 => Err(none),
            count if count > self.signatures_max() => Err(Reason::SignaturesTooMany),
            _ => Ok(read),
        }
    }

    fn is_picked(&self, key: &[u8]) -> bool {
        match &self.pair {
            Some((_, picks)) => picks.iter().any(|pick| pick.as_bytes() == key),
            None => key.is_empty(),
        }
    }

    /// A signature without what leads it.
    fn bare<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let bare = text.strip_prefix(self.prefix.as_deref().unwrap_or("").as_bytes());
        bare.or(self.prefix_optional.then_some(text))
    }

    fn decode(&self, text: &[u8], algorithm: Algorithm) -> Option<Tag> {
        let text = self.bare(text)?;
        match algorithm {
            Algorithm::Token => (!text.is_empty()).then(|| Tag::of_shown(text)),
            Algorithm::Basic => {
                let (scheme, shown) = text.split_at_checked(BASIC.len())?;
                let shown = STANDARD.decode(shown).ok()?;
                scheme.eq_ignore_ascii_case(BASIC.as_bytes()).then(|| Tag::of_shown(&shown))
            }
            algorithm => self.encoding.decode(text, algorithm.tag_bytes()),
        }
    }

    /// Decodes signatures that are not tags: of any length up to a bound, in the canonical form of their encoding.
    pub(super) fn signatures(
        &self,
        elements: &[Variable<'_>],
    ) -> Result<SmallVec<[Vec<u8>; SIGNATURES_MAX]>, Reason> {
        let mut signatures = SmallVec::new();
        let mut none = Reason::SignatureMissing;
        for (_, text) in elements.iter().filter(|(key, _)| self.is_picked(key)) {
            none = Reason::SignatureMalformed;
            let signature = self.bare(text).and_then(|text| self.encoding.decode_long(text));
            if let Some(signature) = signature {
                signatures.push(signature);
            }
        }
        self.bounded(signatures, none)
    }

    /// The one token in a request, of `bytes_max` bytes at most.
    pub(super) fn token<'s>(
        &self,
        view: &'s View<'_>,
        bytes_max: usize,
    ) -> Result<Cow<'s, [u8]>, Reason> {
        let text = match &self.place {
            Place::Header(name) => {
                let mut lines = view.request.headers.get_all(name).iter();
                let line = lines.next().ok_or(Reason::SignatureMissing)?;
                if lines.next().is_some() {
                    return Err(Reason::HeaderRepeated);
                }
                Cow::Borrowed(line.as_bytes())
            }
            Place::Numbered(_) => return Err(Reason::SignatureMissing),
            Place::Elsewhere(template) => template.text(view, &[]).map_err(|e| match e {
                Unusable::Absent => Reason::SignatureMissing,
                Unusable::Repeated => Reason::SignatureMalformed,
            })?,
        };
        // A scheme's name in `Authorization` has no case (RFC 9110 §11.1).
        let prefix = self.prefix.as_deref().unwrap_or("").as_bytes();
        let begins = text.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
        let trimmed = |text: &'s [u8]| if self.trim { text.trim_ascii() } else { text };
        let token = match text {
            _ if !begins => return Err(Reason::SignatureMissing),
            Cow::Borrowed(text) => Cow::Borrowed(trimmed(text.get(prefix.len()..).unwrap_or(&[]))),
            Cow::Owned(text) => {
                let text = text.get(prefix.len()..).unwrap_or(&[]);
                Cow::Owned(if self.trim { text.trim_ascii() } else { text }.to_vec())
            }
        };
        match token.len() {
            0 => Err(Reason::SignatureMissing),
            len if len > bytes_max => Err(Reason::SignatureMalformed),
            _ => Ok(token),
        }
    }

    /// Writes a signature the way the provider would, behind a time if it has one in here.
    pub(super) fn write(
        &self,
        signature: &str,
        time: Option<(&str, &str)>,
    ) -> Result<(HeaderName, HeaderValue), String> {
        let name = match &self.place {
            Place::Header(name) => Ok(name.clone()),
            Place::Numbered(prefix) => HeaderName::try_from(format!("{prefix}1"))
                .map_err(|_| "the header has no good name".to_owned()),
            Place::Elsewhere(_) => {
                Err("the signature is not in a header, so it cannot be added to a body".to_owned())
            }
        }?;
        Ok((name, self.text(signature, time)?))
    }

    pub(super) fn text(
        &self,
        signature: &str,
        time: Option<(&str, &str)>,
    ) -> Result<HeaderValue, String> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let mut text = format!("{prefix}{signature}");
        let split = || self.split.map(char::from).ok_or("there is no separator between elements");
        if let Some((separator, picks)) = &self.pair {
            let separator = char::from(*separator);
            let pick = picks.first().map_or("", String::as_str);
            text = format!("{pick}{separator}{text}");
            if let Some((key, time)) = time {
                // Who reads elements with spaces around them is sent one.
                let space = if self.trim { " " } else { "" };
                text = format!("{key}{separator}{time}{}{space}{text}", split()?);
            }
        }
        match (self.positional.as_slice(), time) {
            ([], _) => {}
            ([name], Some((key, time))) if name == key => {
                text = format!("{time}{}{text}", split()?);
            }
            _ => return Err("something besides the time stands before the signature".into()),
        }
        HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| "the signature does not fit into a header".into())
    }
}

/// Whether a header is one of a numbered family.
fn is_numbered(name: &HeaderName, prefix: &str) -> bool {
    let number =
        name.as_str().strip_prefix(prefix).filter(|digits| !digits.starts_with(['0', '+']));
    number.and_then(|digits| digits.parse::<u8>().ok()).is_some_and(|n| (1..=100).contains(&n))
}

/// What leads the credentials of HTTP Basic.
pub(super) const BASIC: &str = "Basic ";

impl Encoding {
    /// Reads a signature of exactly `bytes` bytes.
    fn decode(self, text: &[u8], bytes: usize) -> Option<Tag> {
        let mut room = [0; 72]; // base64 wants room for a whole group more than there is
        let len = match self {
            Self::Hex | Self::HexAny => {
                let canonical = self == Self::HexAny || !text.iter().any(u8::is_ascii_uppercase);
                let room = room.get_mut(..text.len() / 2).filter(|_| canonical)?;
                hex::decode_to_slice(text, room).ok()?;
                room.len()
            }
            Self::Base64 => STANDARD.decode_slice(text, &mut room).ok()?,
            Self::Base64Url => BASE64_URL.decode_slice(text, &mut room).ok()?,
        };
        (len == bytes).then(|| Tag::of(room.get(..len).unwrap_or_default()))
    }

    /// Reads a signature of any length.
    fn decode_long(self, text: &[u8]) -> Option<Vec<u8>> {
        let signature = match self {
            Self::Hex | Self::HexAny => {
                let canonical = self == Self::HexAny || !text.iter().any(u8::is_ascii_uppercase);
                hex::decode(text).ok().filter(|_| canonical)?
            }
            Self::Base64 => STANDARD.decode(text).ok()?,
            Self::Base64Url => BASE64_URL.decode(text).ok()?,
        };
        (1..=SIGNATURE_BYTES_MAX).contains(&signature.len()).then_some(signature)
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex | Self::HexAny => hex::encode(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => BASE64_URL.encode(bytes),
        }
    }
}
