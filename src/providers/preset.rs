//! What a preset file says of its provider: the language of a source, and what is known besides, each fact with its evidence.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::shape::{EventFields, HandshakeRule, Verify};
use crate::units::{Size, Span, choices, sections};

/// One preset file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The name under `provider:`.
    pub name: String,
    /// For people: `Stripe`.
    pub title: String,
    /// The preset that says what this one leaves out: its provider follows the same scheme.
    pub like: Option<String>,
    /// Where the facts are from.
    pub docs: Vec<String>,
    /// What is known about its secrets.
    #[serde(default)]
    pub secret: SecretHints,
    /// What a source has to say besides its secret, by name.
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
    /// How its requests are verified.
    pub verify: Verify,
    /// What of a request its signature covers.
    pub covers: Covers,
    /// Which of an event's fields it covers.
    #[serde(default)]
    pub covers_event: Vec<Field>,
    /// Where id and type are.
    pub event: EventFields,
    /// Its challenges.
    #[serde(default)]
    pub handshake: Vec<HandshakeRule>,
    /// What it wants to hear when an event was taken.
    #[serde(default)]
    pub ack: AnswerShape,
    /// What it wants to hear when a request was not verified.
    #[serde(default)]
    pub invalid: AnswerShape,
    /// What stops it from repeating an event that nobody wants.
    #[serde(default)]
    pub drop_forever: AnswerShape,
    /// How long a body may be, where it sends more than the default.
    pub max_body: Option<Size>,
    /// How it delivers.
    #[serde(default)]
    pub delivery: Profile,
    /// How to have it send something: `stripe trigger payment_intent.succeeded`.
    pub trial: Option<String>,
    /// How each fact is known.
    pub evidence: BTreeMap<Fact, Evidence>,
    /// Names of its groups in `tests/vectors`.
    #[serde(default)]
    pub vectors: Vec<String>,
    /// Types that it is known to send; others are fine.
    #[serde(default)]
    pub known_types: Vec<String>,
}

choices! {
    /// What of a request a signature covers, the most first.
    #[derive(PartialOrd, Ord)]
    pub enum Covers {
        /// All of its body.
        Body,
        /// Some of its fields only.
        Fields,
        /// Nothing: the secret itself is sent along.
        Nothing,
    }

    /// A field of an event.
    #[derive(PartialOrd, Ord)]
    pub enum Field {
        /// Its id.
        Id,
        /// Its type.
        Type,
        /// The provider's account.
        Account,
    }

    /// What a piece of evidence is about.
    #[derive(PartialOrd, Ord)]
    pub enum Fact {
        /// Where the signature is and what it covers.
        Signature,
        /// The signed time, and how far it may be off.
        Time,
        /// Where id and type are.
        Event,
        /// Challenges, and what answers them.
        Handshake,
        /// Statuses and texts that it wants to hear.
        Answers,
        /// Deadline, retries, and when it gives an endpoint up.
        Delivery,
        /// Where the secret is, and what it looks like.
        Secret,
        /// Types that it sends.
        Types,
        /// How large its bodies may be.
        Body,
        /// How to have it send something.
        Trial,
    }
}

/// How a fact is known, as in `V stripe-node 23.1.0; K the deadline`: marks, and where it was read; and the same of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Evidence {
    /// Letters of [`MARKS`], those of all parts.
    pub marks: String,
    /// Where.
    pub source: String,
}

/// What the marks of evidence mean.
pub const MARKS: [(char, &str); 7] = [
    ('V', "read in the provider's own documentation repository or SDK, or shown by running it"),
    ('D', "read on the provider's own page"),
    ('S', "read in the source or the tests of the provider's SDK"),
    ('R', "shown by running the provider's SDK, or a cryptographic library, on examples"),
    ('K', "from memory; check it"),
    ('M', "from memory; check it"),
    ('?', "disputed: sources disagree, or none is the provider's own"),
];

impl Evidence {
    /// Whether nobody has read any of it, or readers disagree.
    pub fn is_unconfirmed(&self) -> bool {
        self.marks.contains('?') || !self.marks.contains(['V', 'D', 'S', 'R'])
    }

    /// Whether something of it is from memory, or disputed.
    pub fn is_doubtful(&self) -> bool {
        self.marks.contains(['K', 'M', '?'])
    }
}

impl TryFrom<String> for Evidence {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (marks, source) = text.split_once(' ').ok_or("evidence is marks and a source")?;
        let is_mark = |c| MARKS.iter().any(|(mark, _)| *mark == c);
        if !marks.chars().all(is_mark) {
            return Err(format!("`{marks}` are no marks of evidence"));
        }
        let parts = source.split("; ").filter_map(|part| part.split_once(' '));
        let of_parts = parts.map(|(word, _)| word).filter(|word| word.chars().all(is_mark));
        let mut marks = marks.to_owned();
        for mark in of_parts.flat_map(str::chars) {
            if !marks.contains(mark) {
                marks.push(mark);
            }
        }
        Ok(Self { marks, source: source.to_owned() })
    }
}

/// Something that a scheme needs to know besides the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// What it is, and where to find it.
    pub about: String,
    /// What one looks like.
    pub example: String,
    /// Whether the source works without it.
    #[serde(default)]
    pub optional: bool,
}

sections! {
    /// An answer that a provider wants: what is left out is as for any other.
    #[serde(deny_unknown_fields)]
    pub struct AnswerShape {
        /// The status.
        pub status: Option<u16>,
        /// The body's `Content-Type`.
        pub content_type: Option<String>,
        /// The body.
        pub body: Option<String>,
        /// Whether the body is an error of RFC 8935 (`invalid` only): for security event tokens, whose transmitters want to hear why.
        pub set_error: bool,
    }

    /// A provider's habits in delivering (`delivery:`): what `check` warns by.
    #[serde(deny_unknown_fields)]
    pub struct Profile {
        /// How long the provider waits for an answer.
        pub deadline: Option<Span>,
        /// Whether it retries by itself.
        pub retries: bool,
        /// For how long.
        pub horizon: Option<Span>,
        /// Which answers are repeated, in words: `anything but 2xx`.
        pub retried: Option<String>,
        /// When it gives an endpoint up, in words.
        pub disables: Option<String>,
        /// The schedule and whatever else is worth knowing, in words.
        pub notes: Option<String>,
    }

    /// What people get wrong with a provider's secret, and where to find it.
    #[serde(deny_unknown_fields)]
    pub struct SecretHints {
        /// Prefix that a real one has, such as `whsec_`.
        pub prefix: Option<String>,
        /// Prefixes of what is not a signing secret, and what it is: `{ sk_live_: an API key }`.
        pub mistaken: BTreeMap<String, String>,
        /// Where to find it: `Workbench > Webhooks > your endpoint > Signing secret`.
        pub found_at: Option<String>,
    }
}

impl Preset {
    /// Under which key a source of it says a secret; none, where its keys are fetched and for everybody.
    pub fn secret_key(&self) -> Option<&'static str> {
        let outer = &self.verify.scheme;
        let alternatives = self.verify.schemes.iter().map(|own| own.scheme.keys.as_ref());
        let single = self.verify.schemes.is_empty().then_some(None);
        let all = alternatives.chain(single).map(|own| own.or(outer.keys.as_ref()));
        let fetched: Option<Vec<_>> =
            all.map(|keys| keys.filter(|keys| keys.are_fetched())).collect();
        match fetched {
            None => Some("secret"),
            Some(keys) => keys.iter().any(|k| k.credential.is_some()).then_some("keys_secret"),
        }
    }

    /// What a source must say about itself, by name.
    pub fn needed_params(&self) -> impl Iterator<Item = (&String, &Param)> {
        self.params.iter().filter(|(_, param)| !param.optional)
    }

    /// Whether something about `about` is from memory or disputed; what nothing is said about is not known at all.
    pub fn is_doubtful(&self, about: Fact) -> bool {
        self.evidence.get(&about).is_none_or(Evidence::is_doubtful)
    }
}
