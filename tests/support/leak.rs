//! Looks for secrets in what a program said: as they are, and in every way in which one is written down by accident.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// What a program said, by the name of the place where it said it.
pub type Outputs = BTreeMap<String, Vec<u8>>;

/// A secret that must not be found.
#[derive(Clone, Debug)]
pub struct Canary {
    name: String,
    secret: Vec<u8>,
}

/// A part of a secret as it may be written, and how.
type Needle = (Vec<u8>, &'static str, usize);

/// A secret is looked for in parts of so many bytes, so that one that was cut short is found, too.
const PART: usize = 12;
/// Needles are found by so many of their first bytes.
const KEY: usize = 8;

impl Canary {
    pub fn new(name: impl Into<String>, secret: impl AsRef<[u8]>) -> Self {
        let (name, secret) = (name.into(), secret.as_ref().to_vec());
        assert!(secret.len() >= PART, "{name} is too short to be looked for");
        Self { name, secret }
    }

    pub fn is_one_of(&self, others: &[Self]) -> bool {
        others.iter().any(|other| other.secret == self.secret)
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let last = &self.secret[self.secret.len() - PART..];
        self.secret.chunks_exact(PART).chain([last])
    }
}

/// Every way in which `part` of a secret may be written.
fn forms(part: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let each = |write: &dyn Fn(u8) -> String| {
        part.iter().map(|byte| write(*byte)).collect::<String>().into_bytes()
    };
    let list = |between: &str| part.iter().map(u8::to_string).collect::<Vec<_>>().join(between);
    let odd = |byte: u8, upper: bool| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte if upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    let mut forms: Vec<(Vec<u8>, _)> = vec![
        (part.to_vec(), "as it is"),
        (hex::encode(part).into(), "in hexadecimal"),
        (hex::encode_upper(part).into(), "in upper-case hexadecimal"),
        (list(", ").into(), "as a list of numbers"),
        (list(",").into(), "as a list of numbers"),
        (each(&|byte| odd(byte, true)), "percent-encoded"),
        (each(&|byte| odd(byte, false)), "percent-encoded"),
        (each(&|byte| format!("%{byte:02X}")), "percent-encoded to the last byte"),
        (each(&|byte| format!("%{byte:02x}")), "percent-encoded to the last byte"),
        (each(&|byte| format!("\\x{byte:02x}")), "escaped to the last byte"),
        (part.escape_ascii().to_string().into(), "escaped"),
    ];
    if let Ok(text) = std::str::from_utf8(part) {
        let inside = |quoted: String| quoted.as_bytes()[1..quoted.len() - 1].to_vec();
        forms.push((inside(format!("{text:?}")), "as a Rust text"));
        forms.push((inside(serde_json::to_string(text).unwrap()), "as a JSON text"));
    }
    for before in 0..3 {
        for (engine, how) in
            [(STANDARD_NO_PAD, "in base64"), (URL_SAFE_NO_PAD, "in url-safe base64")]
        {
            // Digits that hold bits of what stands before or behind are left out.
            let bytes = [&vec![0; before], part].concat();
            let digits = engine.encode(&bytes).into_bytes();
            let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
            forms.push((digits[from..to].to_vec(), how));
        }
    }
    forms
}

/// All needles of some canaries, by their first bytes.
struct Index {
    needles: Vec<Needle>,
    by_key: HashMap<[u8; KEY], Vec<usize>>,
    /// Whether any needle begins with these two bytes: nearly all places are passed over by it.
    begins: Vec<bool>,
}

impl Index {
    fn new(canaries: &[Canary]) -> Self {
        let mut index =
            Self { needles: Vec::new(), by_key: HashMap::new(), begins: vec![false; 1 << 16] };
        for (of, canary) in canaries.iter().enumerate() {
            for (form, how) in canary.parts().flat_map(forms) {
                let key = form[..KEY].try_into().unwrap();
                index.begins[two(&form)] = true;
                index.by_key.entry(key).or_default().push(index.needles.len());
                index.needles.push((form, how, of));
            }
        }
        index
    }

    /// What is found at a place.
    fn at(&self, text: &[u8]) -> Option<&Needle> {
        let key = text.get(..KEY)?;
        if !self.begins[two(key)] {
            return None;
        }
        let candidates = self.by_key.get(key)?;
        candidates.iter().map(|at| &self.needles[*at]).find(|(form, ..)| text.starts_with(form))
    }
}

fn two(text: &[u8]) -> usize {
    usize::from(text[0]) << 8 | usize::from(text[1])
}

/// Every canary that is in an output, once for each output: its name, how it is written, where, and what stands around it.
pub fn find(canaries: &[Canary], outputs: &Outputs) -> Vec<String> {
    let index = Index::new(canaries);
    let mut found = Vec::new();
    for (place, text) in outputs {
        let mut seen = vec![false; canaries.len()];
        for at in 0..text.len() {
            let Some((_, how, of)) = index.at(&text[at..]) else { continue };
            if !std::mem::replace(&mut seen[*of], true) {
                let around = &text[at.saturating_sub(120)..text.len().min(at + 60)];
                let mut line = format!("{} {how} in {place}: ", canaries[*of].name);
                write!(line, "{}", around.escape_ascii()).unwrap();
                found.push(line);
            }
        }
    }
    found
}

/// A secret as one is made for a test: text that every way of escaping writes differently.
pub fn secret(number: u8) -> String {
    use sha2::Digest as _;
    let random = hex::encode(sha2::Sha256::digest([b'c', number]));
    format!("{}\"/+{}%\\&{}", &random[..11], &random[11..22], &random[22..33])
}

fn alone(text: Vec<u8>) -> Outputs {
    Outputs::from([("the log".to_owned(), text)])
}

/// Each leak is made with other means than the search is, of the whole secret, in the middle of other text.
#[test]
fn a_leak_is_found_in_whatever_form() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    let binary: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(37) ^ 0xa5).collect();
    for secret in [secret(1).into_bytes(), binary] {
        let canaries = [Canary::new("another", self::secret(9)), Canary::new("it", &secret)];
        let text = String::from_utf8_lossy(&secret).into_owned();
        let mut leaks: Vec<(String, Vec<u8>)> = vec![
            ("plain".into(), secret.clone()),
            ("first half".into(), secret[..18].to_vec()),
            ("last half".into(), secret[secret.len() - 18..].to_vec()),
            ("hex".into(), secret.iter().map(|b| format!("{b:02x}")).collect::<String>().into()),
            ("HEX".into(), secret.iter().map(|b| format!("{b:02X}")).collect::<String>().into()),
            ("Debug of bytes".into(), format!("{secret:?}").into()),
            ("JSON of bytes".into(), serde_json::to_vec(&secret).unwrap()),
            ("percent".into(), percent_encode(&secret, NON_ALPHANUMERIC).to_string().into()),
            ("form".into(), form_urlencoded::byte_serialize(&secret).collect::<String>().into()),
            ("Debug of Bytes".into(), format!("{:?}", bytes::Bytes::from(secret.clone())).into()),
        ];
        for before in 0..3 {
            let whole = [&b"???"[..before], &secret, b"!!"].concat();
            leaks.push((format!("base64 {before}"), STANDARD.encode(&whole).into()));
            leaks.push((format!("base64url {before}"), URL_SAFE.encode(&whole).into()));
        }
        if text.as_bytes() == secret {
            leaks.push(("Debug".into(), format!("{text:?}").into()));
            leaks.push(("JSON".into(), serde_json::to_vec(&text).unwrap()));
            leaks.push((
                "form".into(),
                form_urlencoded::byte_serialize(&secret).collect::<String>().into(),
            ));
        }
        for (form, leak) in leaks {
            let said = [&b"2026 INFO key="[..], &leak, b" and so on\n"].concat();
            let found = find(&canaries, &alone(said));
            assert!(found.len() == 1 && found[0].starts_with("it "), "{form}: {found:?}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let (secret, other) = (secret(1), secret(2));
    let mut near = secret.clone().into_bytes();
    near.iter_mut().step_by(7).for_each(|byte| *byte ^= 1);
    let said = [other.as_bytes(), &near, &secret.as_bytes()[..PART - 1]].concat();
    let canary = [Canary::new("it", &secret)];
    assert_eq!(find(&canary, &alone(said)), Vec::<String>::new());
    assert_eq!(find(&canary, &Outputs::new()), Vec::<String>::new());
}
