//! The verifier. An input is a provider's name, by how many seconds its clock differs from ours, header lines, an empty line and
//! a body. In a header's value `~` stands for the signature that fits, so that what is around it can be tried without the
//! key; the signature is made here, with nothing of the product.
//!
//! What is accepted must be what a strict reading of the provider's rules accepts, and nothing else. The canonical form of every
//! body is accepted, and not once a bit of it was turned.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    event::Timestamp,
    providers,
    secret::Secret,
    verify::{LiveSecret, Presented, Verifier},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use super::{Finding, dice::Dice, ensure};

const NOW: i64 = 1_760_000_000;
const URL: &str = "https://hooks.example.com/x";

/// A provider's rules, as its documentation has them.
#[derive(Debug)]
pub struct Rules {
    preset: &'static str,
    secret: &'static str,
    key: &'static [u8],
    header: &'static str,
    prefix: &'static str,
    split: Option<u8>,
    pair: Option<(u8, &'static str)>,
    encode: fn(&[u8]) -> String,
    /// Where the time is: in the signature's header under this key, or in a header.
    time: Time,
    /// Names of headers that are signed besides.
    id: Option<&'static str>,
    signed: fn(&Signed<'_>) -> Vec<u8>,
    tolerance: i64,
}

#[derive(Clone, Copy, Debug)]
enum Time {
    None,
    Key(&'static str),
    Header(&'static str),
}

/// What is signed over.
#[derive(Debug, Default)]
struct Signed<'a> {
    time: &'a [u8],
    id: &'a [u8],
    body: &'a [u8],
}

const PLAIN: Rules = Rules {
    preset: "github",
    secret: "It's a Secret to Everybody",
    key: b"It's a Secret to Everybody",
    header: "x-hub-signature-256",
    prefix: "sha256=",
    split: None,
    pair: None,
    encode: |bytes| hex::encode(bytes),
    time: Time::None,
    id: None,
    signed: |signed| signed.body.to_vec(),
    tolerance: 300,
};

const RULES: [Rules; 6] = [
    PLAIN,
    Rules {
        preset: "stripe",
        header: "stripe-signature",
        prefix: "",
        split: Some(b','),
        pair: Some((b'=', "v1")),
        time: Time::Key("t"),
        signed: |signed| [signed.time, b".", signed.body].concat(),
        ..PLAIN
    },
    Rules {
        preset: "slack",
        header: "x-slack-signature",
        prefix: "v0=",
        time: Time::Header("x-slack-request-timestamp"),
        signed: |signed| [b"v0:", signed.time, b":", signed.body].concat(),
        ..PLAIN
    },
    Rules {
        preset: "standard-webhooks",
        secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        key: b"0123456789abcdef0123456789abcdef",
        header: "webhook-signature",
        prefix: "",
        split: Some(b' '),
        pair: Some((b',', "v1")),
        encode: |bytes| STANDARD.encode(bytes),
        time: Time::Header("webhook-timestamp"),
        id: Some("webhook-id"),
        signed: |signed| [signed.id, b".", signed.time, b".", signed.body].concat(),
        ..PLAIN
    },
    Rules {
        preset: "square",
        header: "x-square-hmacsha256-signature",
        prefix: "",
        encode: |bytes| STANDARD.encode(bytes),
        signed: |signed| [URL.as_bytes(), signed.body].concat(),
        ..PLAIN
    },
    Rules {
        preset: "paddle",
        header: "paddle-signature",
        prefix: "",
        split: Some(b';'),
        pair: Some((b'=', "h1")),
        time: Time::Key("ts"),
        signed: |signed| [signed.time, b":", signed.body].concat(),
        tolerance: 5,
        ..PLAIN
    },
];

static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    let verifier = |rules: &Rules| {
        let preset = providers::preset(rules.preset).expect("a preset");
        let options = providers::Options::default();
        let compiled =
            providers::compile(&preset.verify, &preset.event, &preset.handshake, &options);
        let live = LiveSecret { secret: Secret::new(rules.secret), expires: None, id: None };
        Verifier::new(compiled.expect("a good preset").schemes, vec![live], URL)
            .expect("a verifier")
    };
    RULES.iter().map(verifier).collect()
});

/// Says whether a request is authentic. The number is that of the provider.
pub type Judgement<'j> = &'j dyn Fn(usize, &Presented<'_>) -> bool;

/// Tries the verifier.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// What the product says.
pub fn by_product(provider: usize, presented: &Presented<'_>) -> bool {
    VERIFIERS[provider].verify(presented).is_ok()
}

/// Tries anything that verifies.
pub fn judge(data: &[u8], verify: Judgement<'_>) -> Finding {
    let Some(mut input) = Input::parse(data) else { return Ok(()) };
    input.sign();
    let rules = &RULES[input.provider];
    let (accepted, fits) = (input.verify(verify), input.fits());
    let told = || format!("accepted: {accepted}, by its rules: {fits}: {input:?}");
    ensure(accepted == fits, told)?;
    let mut canonical = input.canonical();
    let told = |canonical: &Input| format!("the canonical form of {}: {canonical:?}", rules.preset);
    ensure(canonical.verify(verify), || format!("{} is refused", told(&canonical)))?;
    let mut dice = Dice::of(data);
    let at = dice.roll(canonical.body.len());
    match canonical.body.get_mut(at) {
        Some(byte) => *byte ^= 1 << dice.roll(8),
        None => canonical.body.push(b' '),
    }
    ensure(!canonical.verify(verify), || format!("{}, touched, is accepted", told(&canonical)))
}

/// A request.
#[derive(Clone, Debug)]
struct Input {
    provider: usize,
    now: i64,
    lines: Vec<(HeaderName, Vec<u8>)>,
    body: Vec<u8>,
}

impl Input {
    fn parse(data: &[u8]) -> Option<Self> {
        let end = data.windows(2).position(|two| two == b"\n\n")?;
        let (head, body) = (&data[..end], &data[end + 2..]);
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let (preset, offset) = first.split_once(' ').unwrap_or((first, "0"));
        let provider = RULES.iter().position(|rules| rules.preset == preset)?;
        let offset: i64 = offset.parse::<i32>().ok()?.into();
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
            Some((name, value.to_vec()))
        };
        let lines = lines.filter_map(header).collect();
        Some(Self { provider, now: NOW + offset, lines, body: body.to_vec() })
    }

    fn rules(&self) -> &'static Rules {
        &RULES[self.provider]
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.lines.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The first value of a name, as far as there is one: what the signature in the place of a `~` is made with.
    fn first(&self, name: &str) -> &[u8] {
        self.values(name).first().copied().unwrap_or_default()
    }

    fn elements(&self) -> Vec<&[u8]> {
        let text = self.first(self.rules().header);
        text.split(|byte| Some(*byte) == self.rules().split).collect()
    }

    /// Puts the signature that fits in the place of each `~`.
    fn sign(&mut self) {
        let key = |time: &str| {
            let begin = format!("{time}=");
            self.elements()
                .into_iter()
                .find_map(|e| e.strip_prefix(begin.as_bytes()))
                .map(<[u8]>::to_vec)
        };
        let time = match self.rules().time {
            Time::None => Vec::new(),
            Time::Key(name) => key(name).unwrap_or_default(),
            Time::Header(name) => self.first(name).to_vec(),
        };
        let id = self.rules().id.map(|name| self.first(name).to_vec()).unwrap_or_default();
        let signature = self.signature(&time, &id);
        for (_, value) in &mut self.lines {
            let parts: Vec<&[u8]> = value.split(|byte| *byte == b'~').collect();
            *value = parts.join(signature.as_bytes());
        }
    }

    fn signature(&self, time: &[u8], id: &[u8]) -> String {
        let signed = (self.rules().signed)(&Signed { time, id, body: &self.body });
        let mut mac = Hmac::<Sha256>::new_from_slice(self.rules().key).expect("a key");
        mac.update(&signed);
        (self.rules().encode)(&mac.finalize().into_bytes())
    }

    fn verify(&self, verify: Judgement<'_>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.lines {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.append(name.clone(), value);
            }
        }
        let received_at = Timestamp::from_millis(self.now * 1000);
        let body = &self.body;
        let (method, url, target, headers) = ("POST", URL, "/x", &headers);
        verify(self.provider, &Presented { method, url, target, headers, body, received_at })
    }

    /// Whether it is what the rules accept.
    fn fits(&self) -> bool {
        let mut clean = self.clone();
        clean.lines.retain(|(_, value)| HeaderValue::from_bytes(value).is_ok());
        clean.fits_rules().is_some()
    }

    fn fits_rules(&self) -> Option<()> {
        let Rules { header, prefix, pair, time, id, tolerance, .. } = self.rules();
        let [text] = self.values(header)[..] else { return None };
        let elements = self.elements();
        holds((1..=4096).contains(&text.len()) && elements.len() <= 16)?;
        let elements: Vec<(&[u8], &[u8])> =
            elements.into_iter().map(|element| named(element, *pair)).collect::<Option<_>>()?;
        let under = |key: &str| -> Vec<&[u8]> {
            let named = elements.iter().filter(|(name, _)| *name == key.as_bytes());
            named.map(|(_, value)| *value).collect()
        };
        let time = match time {
            Time::None => b"",
            Time::Key(name) => sole(&under(name))?,
            Time::Header(name) => sole(&self.values(name))?,
        };
        let id = match id {
            None => b"",
            Some(name) => sole(&self.values(name))?,
        };
        let splits = |byte: &u8| byte.is_ascii_control() || b". ".contains(byte);
        holds(id.len() <= 256 && !id.iter().any(splits))?;
        let shown = under(pair.map_or("", |(_, pick)| pick));
        let shown: Vec<_> =
            shown.into_iter().filter_map(|text| text.strip_prefix(prefix.as_bytes())).collect();
        holds(shown.iter().filter(|text| self.is_tag(text)).count() <= 8)?;
        holds(shown.contains(&self.signature(time, id).as_bytes()))?;
        if !matches!(self.rules().time, Time::None) {
            let text = std::str::from_utf8(time).ok()?;
            let seconds: i64 = text.parse().ok().filter(|n: &i64| n.to_string() == text)?;
            holds(seconds >= 0 && (self.now - seconds).abs() <= *tolerance)?;
        }
        Some(())
    }

    /// Whether this could be somebody's signature: the right length in the right encoding.
    fn is_tag(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let decoded = [hex::decode(text).ok(), STANDARD.decode(text).ok()];
        let written = |bytes: &Vec<u8>| bytes.len() == 32 && (self.rules().encode)(bytes) == text;
        decoded.iter().flatten().any(written)
    }

    /// This body as its provider sends it.
    fn canonical(&self) -> Self {
        let Rules { header, prefix, split, pair, time, id, .. } = self.rules();
        let (now, name) = (self.now.max(0).to_string(), |text: &str| text.parse().expect("a name"));
        let signature = self.signature(now.as_bytes(), if id.is_some() { b"msg_1" } else { b"" });
        let mut text = format!("{prefix}{signature}");
        if let Some((separator, pick)) = pair {
            text = format!("{pick}{}{text}", char::from(*separator));
        }
        let mut lines = Vec::new();
        match time {
            Time::None => {}
            Time::Key(key) => {
                text = format!("{key}={now}{}{text}", char::from(split.unwrap_or_default()));
            }
            Time::Header(header) => lines.push((name(header), now.clone().into_bytes())),
        }
        lines.extend(id.map(|header| (name(header), b"msg_1".to_vec())));
        lines.push((name(header), text.into_bytes()));
        Self { lines, now: self.now.max(0), ..self.clone() }
    }
}

/// Key and value of an element; the key is empty where elements have none.
fn named<'e>(element: &'e [u8], pair: Option<(u8, &str)>) -> Option<(&'e [u8], &'e [u8])> {
    let Some((separator, _)) = pair else {
        return (!element.is_empty()).then_some((b"", element));
    };
    let at = element.iter().position(|byte| *byte == separator)?;
    let is_word = at > 0 && element[..at].iter().all(u8::is_ascii_graphic);
    is_word.then_some((&element[..at], &element[at + 1..]))
}

fn sole<'v>(values: &[&'v [u8]]) -> Option<&'v [u8]> {
    match values {
        [value] => Some(value),
        _ => None,
    }
}

fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}
