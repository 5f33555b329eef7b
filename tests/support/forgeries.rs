//! Forgeries by the hundred for every family of schemes that share a secret: made from good credentials by everything that people
//! and programs do to them, and by what attackers try.

use std::collections::BTreeSet;

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Inputs per family, at least.
pub(crate) const AT_LEAST: usize = 400;

/// The body of all of them.
pub(crate) const BODY: &[u8] = br#"{"id":"evt_1","type":"order.paid"}"#;
pub(crate) const SECRET: &str = "a secret of sixteen bytes and more";
const OTHER: &str = "another secret of another source!";

/// A family: its source, and the credentials of a good request.
pub(crate) struct Family {
    pub(crate) yaml: &'static str,
    pub(crate) header: &'static str,
    pub(crate) good: String,
    /// The same credentials made with what is not the secret, or in another way.
    made_otherwise: Vec<String>,
}

fn hex_mac(algorithm: hmac::Algorithm, secret: &str, text: &[u8]) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), text))
}

fn hashed(algorithm: &'static digest::Algorithm, text: &[&[u8]]) -> String {
    hex::encode(digest::digest(algorithm, &text.concat()))
}

pub(crate) fn macs() -> Family {
    let of = |text: &[u8]| format!("sha256={}", hex_mac(hmac::HMAC_SHA256, SECRET, text));
    let good = of(BODY);
    let bytes = hex::decode(&good[7..]).unwrap();
    let old = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let mut made_otherwise = vec![
        format!("sha1={}", hex_mac(old, SECRET, BODY)),
        format!("sha256={}", hex_mac(old, SECRET, BODY)),
        format!("sha384={}", hex_mac(hmac::HMAC_SHA384, SECRET, BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA384, SECRET, BODY)),
        format!("sha512={}", hex_mac(hmac::HMAC_SHA512, SECRET, BODY)),
        format!("sha256={}", &hex_mac(hmac::HMAC_SHA512, SECRET, BODY)[..64]),
        format!("sha256={}", hashed(&digest::SHA256, &[BODY])),
        format!("sha256={}", hashed(&digest::SHA256, &[SECRET.as_bytes(), BODY])),
        format!("sha256={}", hashed(&digest::SHA256, &[BODY, SECRET.as_bytes()])),
        format!("sha256={}", STANDARD.encode(&bytes)),
        format!("sha256={}", URL_SAFE_NO_PAD.encode(&bytes)),
        format!("sha256={}", hex::encode(bytes.iter().rev().copied().collect::<Vec<_>>())),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, OTHER, BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, "", BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, &hex::encode(SECRET), BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, &STANDARD.encode(SECRET), BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, &format!("{SECRET}\n"), BODY)),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, &SECRET.to_uppercase(), BODY)),
    ];
    let bodies: [&[u8]; 9] = [
        b"",
        b"{}",
        b"null",
        &BODY[..BODY.len() - 1],
        &[BODY, b"\n"].concat(),
        &[BODY, b"\r\n"].concat(),
        &[b"\xef\xbb\xbf", BODY].concat(),
        br#"{"id": "evt_1", "type": "order.paid"}"#,
        br#"{"type":"order.paid","id":"evt_1"}"#,
    ];
    made_otherwise.extend(bodies.map(of));
    let yaml =
        "verify: { signature: { header: X-Credential, prefix: 'sha256=' }, signed: '{body}' }";
    Family { yaml, header: "x-credential", good, made_otherwise }
}

pub(crate) fn hashes() -> Family {
    let of = |secret: &str, body: &[u8]| hashed(&digest::SHA256, &[secret.as_bytes(), body]);
    let good = of(SECRET, BODY);
    let bytes = hex::decode(&good).unwrap();
    let made_otherwise = vec![
        of(OTHER, BODY),
        of("", BODY),
        of(SECRET, b""),
        of(SECRET, b"{}"),
        of(&SECRET.to_uppercase(), BODY),
        of(&format!("{SECRET}\n"), BODY),
        of(&format!(" {SECRET}"), BODY),
        of(SECRET, &[BODY, b"\n"].concat()),
        hashed(&digest::SHA256, &[BODY, SECRET.as_bytes()]),
        hashed(&digest::SHA256, &[SECRET.as_bytes(), b".", BODY]),
        hashed(&digest::SHA256, &[SECRET.as_bytes(), b":", BODY]),
        hashed(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[SECRET.as_bytes(), BODY]),
        hashed(&digest::SHA384, &[SECRET.as_bytes(), BODY]),
        hashed(&digest::SHA512, &[SECRET.as_bytes(), BODY]),
        hashed(&digest::SHA512, &[SECRET.as_bytes(), BODY])[..64].to_owned(),
        hashed(
            &digest::SHA256,
            &[digest::digest(&digest::SHA256, &[SECRET.as_bytes(), BODY].concat()).as_ref()],
        ),
        hex_mac(hmac::HMAC_SHA256, SECRET, BODY),
        STANDARD.encode(&bytes),
        URL_SAFE_NO_PAD.encode(&bytes),
        hex::encode(bytes.iter().rev().copied().collect::<Vec<_>>()),
    ];
    let yaml = "verify: { mac: hash-sha256, signature: { header: X-Credential }, signed: '{secret}{body}' }";
    Family { yaml, header: "x-credential", good, made_otherwise }
}

pub(crate) fn tokens() -> Family {
    let made_otherwise = vec![
        OTHER.to_owned(),
        hex::encode(SECRET),
        STANDARD.encode(SECRET),
        hashed(&digest::SHA256, &[SECRET.as_bytes()]),
        hashed(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[SECRET.as_bytes()]),
        hex_mac(hmac::HMAC_SHA256, SECRET, BODY),
        format!("sha256={}", hex_mac(hmac::HMAC_SHA256, SECRET, BODY)),
        format!("user:{SECRET}"),
        SECRET.chars().rev().collect(),
        SECRET.replace(' ', "+"),
        SECRET.replace(' ', "%20"),
        SECRET.replace(' ', "_"),
    ];
    let yaml = "verify: { mac: token, signature: { header: X-Credential } }";
    Family { yaml, header: "x-credential", good: SECRET.to_owned(), made_otherwise }
}

pub(crate) fn basics() -> Family {
    let of = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let pair = format!("user:{SECRET}");
    let made_otherwise = vec![
        of(&format!("user:{OTHER}")),
        of(&format!("USER:{SECRET}")),
        of(&format!("usr:{SECRET}")),
        of(&format!(":{SECRET}")),
        of(&format!("{SECRET}:user")),
        of(&format!("user:{SECRET}:")),
        of(&format!("user::{SECRET}")),
        of(&format!("user:{SECRET} ")),
        of(&format!(" user:{SECRET}")),
        of(&format!("user:{SECRET}\n")),
        of("user:"),
        of(":"),
        of(""),
        of(SECRET),
        of(&format!("user{SECRET}")),
        of(&STANDARD.encode(&pair)),
        format!("Basic {pair}"),
        format!("Bearer {}", STANDARD.encode(&pair)),
        format!("Digest {}", STANDARD.encode(&pair)),
        format!("Basic {}", hex::encode(&pair)),
        format!("Basic{}", STANDARD.encode(&pair)),
        format!("Basic\t{}", STANDARD.encode(&pair)),
        STANDARD.encode(&pair),
        pair.clone(),
    ];
    let yaml = "verify: { mac: basic }";
    Family { yaml, header: "authorization", good: of(&pair), made_otherwise }
}

/// What is done to credentials, whatever they are.
fn changed(good: &str) -> BTreeSet<Vec<u8>> {
    let bytes = good.as_bytes();
    let mut all: BTreeSet<Vec<u8>> = BTreeSet::new();
    for at in 0..bytes.len() {
        all.insert(bytes[..at].to_vec());
        all.insert(bytes[at + 1..].to_vec());
        all.insert([&bytes[..at], &bytes[at + 1..]].concat());
        for other in [bytes[at] ^ 1, bytes[at] ^ 0x20, b' ', b'0', 0xc3] {
            let mut one = bytes.to_vec();
            one[at] = other;
            all.insert(one);
        }
        let mut twice = bytes.to_vec();
        twice.insert(at, bytes[at]);
        all.insert(twice);
        if at > 0 {
            let mut swapped = bytes.to_vec();
            swapped.swap(at - 1, at);
            all.insert(swapped);
            all.insert([&bytes[at..], &bytes[..at]].concat());
        }
    }
    for (before, behind) in [
        ("\"", "\""),
        ("'", "'"),
        ("<", ">"),
        ("[", "]"),
        ("{", "}"),
        ("(", ")"),
        ("", ","),
        (",", ""),
        ("", ";"),
        ("", "="),
        ("", "=="),
        ("", "\\"),
        ("v1=", ""),
        ("v0=", ""),
        ("sha1=", ""),
        ("sha256=", ""),
        ("sha256:", ""),
        ("hmac ", ""),
        ("Bearer ", ""),
        ("Basic ", ""),
        ("0x", ""),
        ("", "%00"),
        ("", "\u{a0}"),
        ("\u{feff}", ""),
        ("", "\t,"),
        ("null", ""),
        ("undefined", ""),
        ("t=1,v1=", ""),
        ("keyId=\"a\",signature=\"", "\""),
    ] {
        all.insert(format!("{before}{good}{behind}").into_bytes());
    }
    for joined in [
        format!("{good},{good}"),
        format!("{good} {good}"),
        format!("{good};{good}"),
        format!("{good}&{good}"),
    ] {
        all.insert(joined.into_bytes());
    }
    for text in [
        "",
        "null",
        "undefined",
        "true",
        "1",
        "0",
        "*",
        "none",
        "NaN",
        "[object Object]",
        "' OR '1'='1",
        "${SECRET}",
        "{body}",
    ] {
        all.insert(text.into());
    }
    all.insert(good.to_uppercase().into());
    all.insert(good.to_lowercase().into());
    all.insert(vec![b'A'; 5000]);
    all
}

/// What reads the same as a good one: a header's value is trimmed, and `Basic` has no case.
fn is_good(family: &Family, text: &[u8]) -> bool {
    let trimmed = text.trim_ascii();
    let scheme = b"basic ";
    let same_scheme = trimmed.len() == family.good.len()
        && trimmed.to_ascii_lowercase().starts_with(scheme)
        && trimmed[scheme.len()..] == family.good.as_bytes()[scheme.len()..]
        && family.header == "authorization";
    trimmed == family.good.as_bytes() || same_scheme
}

/// The header lines of every forgery of a family.
pub(crate) fn forgeries(family: &Family) -> Vec<HeaderMap> {
    let name: HeaderName = family.header.parse().unwrap();
    let good = HeaderValue::from_str(&family.good).unwrap();
    let single = changed(&family.good).into_iter();
    let single = single.chain(family.made_otherwise.iter().map(|text| text.clone().into_bytes()));
    let single = single.filter(|text| !is_good(family, text));
    let values: Vec<HeaderValue> =
        single.filter_map(|text| HeaderValue::from_bytes(text.trim_ascii()).ok()).collect();
    let mut all: Vec<HeaderMap> = Vec::new();
    for value in &values {
        all.push(HeaderMap::from_iter([(name.clone(), value.clone())]));
    }
    // A good one beside a bad one, in either order, and twice.
    for other in [&values[0], &values[values.len() / 2], &values[values.len() - 1], &good] {
        for (first, second) in [(&good, other), (other, &good)] {
            let mut lines = HeaderMap::new();
            lines.append(&name, first.clone());
            lines.append(&name, second.clone());
            all.push(lines);
        }
    }
    // In another header.
    for other in [
        "x-credentials",
        "credential",
        "cookie",
        "x-signature",
        "proxy-authorization",
        "x-authorization",
        "www-authenticate",
        "trailer",
    ] {
        all.push(HeaderMap::from_iter([(other.parse().unwrap(), good.clone())]));
    }
    all.push(HeaderMap::new());
    all
}

/// The secret that a family's source has.
pub(crate) fn secret_of(family: &Family) -> String {
    let user = if family.header == "authorization" { "user:" } else { "" };
    format!("{user}{SECRET}")
}
