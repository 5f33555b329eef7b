//! Whoever has no key, and only a good request to copy from, gets nothing in: hundreds of changes to a good request of each
//! family, none of which is believed.

use std::collections::BTreeSet;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gatepost::{
    answer::Refusal,
    verify::{Keys, NoKeys, Presented, Stop, Verifier},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json, json};

use crate::{
    asymmetric::{Fetched, Vector, vectors},
    certificates::issue,
    flow::Flow,
    foreign::{Own, of, presented, scheme},
    source::compiled,
};

/// Forgeries of a family, at least.
const LEAST: usize = 400;

/// A request that can be changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn of(headers: &[(HeaderName, HeaderValue)], body: &[u8]) -> Self {
        let line = |(name, value): &(HeaderName, HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        Self { headers: headers.iter().map(line).collect(), body: body.to_vec() }
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        for (known, text) in &mut changed.headers {
            if known == name {
                value.clone_into(text);
            }
        }
        changed
    }

    fn map(&self) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            map.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        Some(map)
    }
}

/// A text with each of its characters changed, left out, doubled, in another case, and cut before it.
fn spoilt(text: &str) -> Vec<String> {
    let mut all =
        vec![String::new(), format!("{text}{text}"), format!("{text} x"), format!("x{text}")];
    for (at, c) in text.char_indices() {
        let (before, after) = (&text[..at], &text[at + c.len_utf8()..]);
        let other = match c {
            'A' => 'B',
            '0' => '1',
            _ if c.is_ascii_digit() => '0',
            _ => 'A',
        };
        all.push(format!("{before}{other}{after}"));
        all.push(format!("{before}{after}"));
        all.push(format!("{before}{c}{c}{after}"));
        if c.is_ascii_lowercase() {
            all.push(format!("{before}{}{after}", c.to_ascii_uppercase()));
        }
        all.push(before.to_owned());
    }
    all
}

/// What can be done to any request: each header spoilt, left out, doubled; the body changed.
fn changed(good: &Sent) -> BTreeSet<Sent> {
    let mut all = BTreeSet::new();
    for (n, (name, value)) in good.headers.iter().enumerate() {
        all.extend(spoilt(value).iter().map(|value| good.with(name, value)));
        let mut without = good.clone();
        without.headers.remove(n);
        all.insert(without);
        let mut twice = good.clone();
        twice.headers.push((name.clone(), value.clone()));
        all.insert(twice);
    }
    for at in 0..=good.body.len().min(64) {
        let mut longer = good.clone();
        longer.body.insert(at, b'1');
        all.insert(longer);
        let mut shorter = good.clone();
        shorter.body.truncate(at);
        all.insert(shorter);
    }
    all.remove(good);
    all
}

fn accepted(verifier: &Verifier, sent: &Sent, keys: &dyn Keys, like: &Presented<'_>) -> bool {
    let Some(headers) = sent.map() else { return false };
    let request = Presented { headers: &headers, body: &sent.body, ..*like };
    match verifier.judge(&request, keys) {
        Ok(_) => true,
        Err(Stop::Refused(_)) => false,
        Err(Stop::Wanting(want)) => panic!("{} would be fetched for {sent:?}", want.url),
    }
}

/// That the good one is believed and none of the others; and that of those nothing goes on to where stores and apps are, but one
/// answer goes back.
fn none_of(own: &Own, good: &Sent, forged: BTreeSet<Sent>) {
    let none = HeaderMap::new();
    let like = presented(&none, b"");
    assert!(accepted(&own.verifier, good, &NoKeys, &like), "the good one");
    let forged: Vec<_> = forged.into_iter().filter(|sent| sent.map().is_some()).collect();
    assert!(forged.len() >= LEAST, "{} forgeries", forged.len());
    for sent in &forged {
        assert!(!accepted(&own.verifier, sent, &NoKeys, &like), "{sent:?}");
    }
    let pem = own.key.public_pem().unwrap();
    let flow = Flow::of(own.compiled.clone(), &[&pem]);
    let request = |sent: &Sent| (sent.map().unwrap(), sent.body.clone());
    for (answer, sent) in flow.post_all(forged.iter().map(request)).into_iter().zip(&forged) {
        let refused = answer.expect_err("refused").what;
        assert!(matches!(refused, Refusal::NotVerified(_)), "{refused:?}: {sent:?}");
    }
    assert!(flow.nothing_routed(), "a forgery went on");
    assert!(flow.post_all([request(good)])[0].is_ok(), "the good one");
    assert!(!flow.nothing_routed(), "the good one goes on");
}

const BODY: &[u8] = br#"{"id":"evt_1","type":"invoice.paid","amount":1000}"#;

fn plain(mac: &str, rest: &str) -> (Own, Sent) {
    let own = Own::new(&format!(
        "mac: {mac}\nsignature: {{ header: x-signature, encoding: base64{rest} }}\n\
         signed: \"{{header:x-time}}.{{body}}\"\n\
         timestamp: {{ from: \"{{header:x-time}}\", past: 5m }}"
    ));
    let good = Sent::of(&own.sign(BODY, &Map::new()).headers, BODY);
    (own, good)
}

/// What another key of the same kind signs, and what a public key used as a secret would.
fn of_others(own: &Own, scheme: &str, rest: &str) -> BTreeSet<Sent> {
    let (_, other) = plain(scheme, rest);
    let mut all = BTreeSet::from([other]);
    let pem = own.key.public_pem().unwrap();
    all.insert(Sent {
        headers: vec![("x-signature".into(), STANDARD.encode(pem))],
        body: BODY.into(),
    });
    all
}

/// Raw signatures under the same time and body.
fn with_bytes(good: &Sent, signatures: impl IntoIterator<Item = Vec<u8>>) -> BTreeSet<Sent> {
    let with = |bytes: Vec<u8>| good.with("x-signature", &STANDARD.encode(bytes));
    signatures.into_iter().map(with).collect()
}

fn signature(good: &Sent) -> Vec<u8> {
    let text = good.headers.iter().find(|(name, _)| name == "x-signature").unwrap();
    STANDARD.decode(&text.1).unwrap()
}

#[test]
fn ed25519() {
    let (own, good) = plain("ed25519", "");
    let bytes = signature(&good);
    // L, the order of the group: S + L would be the same number.
    let order =
        hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut plus = bytes.clone();
    let mut carry = 0_u16;
    for (byte, add) in plus[32..].iter_mut().zip(&order) {
        carry += u16::from(*byte) + u16::from(*add);
        *byte = carry as u8;
        carry >>= 8;
    }
    let zeros = [vec![0; 64], [vec![1], vec![0; 63]].concat(), [&bytes[..32], &[0; 32]].concat()];
    let long = [[&bytes[..], &[0]].concat(), bytes[..63].to_vec(), plus, vec![0xff; 64]];
    let mut forged = changed(&good);
    forged.extend(with_bytes(&good, zeros.into_iter().chain(long)));
    forged.extend(of_others(&own, "ed25519", ""));
    none_of(&own, &good, forged);
}

#[test]
fn ecdsa() {
    for (mac, rest) in [
        ("ecdsa-p256-sha256", ""),
        ("ecdsa-p256-sha256", ", form: raw"),
        ("ecdsa-p384-sha384", ""),
        ("ecdsa-p521-sha512", ", form: raw"),
    ] {
        let (own, good) = plain(mac, rest);
        let bytes = signature(&good);
        let mut odd = vec![
            [&bytes[..], &[0]].concat(),
            [&[0], &bytes[..]].concat(),
            vec![0; bytes.len()],
            vec![0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00],
            vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01],
            vec![0x30, 0x80, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x00, 0x00],
            // Lengths and numbers that are spelt otherwise.
            [&[0x30, 0x81], &bytes[1..]].concat(),
            [&[0x30, 0x82, 0x00], &bytes[1..]].concat(),
            [&[0x31], &bytes[1..]].concat(),
        ];
        if rest.is_empty() && bytes[1] < 0x80 {
            let r = usize::from(bytes[3]);
            let padded = [&[0x30, bytes[1] + 1, 0x02, bytes[3] + 1, 0x00], &bytes[4..]].concat();
            let negative = [&bytes[..4], &[bytes[4] | 0x80], &bytes[5..]].concat();
            let swapped = [&bytes[..2], &bytes[4 + r..], &bytes[2..4 + r]].concat();
            odd.extend([padded, negative, swapped]);
        }
        odd.retain(|candidate| *candidate != bytes);
        let mut forged = changed(&good);
        forged.extend(with_bytes(&good, odd));
        forged.extend(of_others(&own, mac, rest));
        none_of(&own, &good, forged);
    }
}

#[test]
fn rsa() {
    for mac in ["rsa-pkcs1-sha256", "rsa-pss-sha512"] {
        let (own, good) = plain(mac, "");
        let bytes = signature(&good);
        let odd = [
            vec![0; 256],
            [vec![0; 255], vec![1]].concat(),
            vec![0xff; 256],
            [&[0], &bytes[..]].concat(),
            bytes[1..].to_vec(),
            bytes.iter().rev().copied().collect(),
        ];
        let mut forged = changed(&good);
        forged.extend(with_bytes(&good, odd));
        forged.extend(of_others(&own, mac, ""));
        none_of(&own, &good, forged);
    }
}

const JWT: &str = r#"
mac: jwt
signature: { header: x-token }
jwt: { algs: [ES256], present: [exp], equal: { aud: "{url}" }, body_hash: { claim: digest } }
"#;

/// Headers that mean to choose the algorithm or the key.
fn heads() -> Vec<Json> {
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
    let mut heads = vec![json!({}), json!([]), json!("ES256"), json!(null)];
    for alg in [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS256", "PS256", "ES384",
        "ES512", "EdDSA", "", "es256",
    ] {
        heads.push(json!({"alg": alg}));
        heads.push(json!({"alg": alg, "jwk": jwk}));
    }
    for extra in [
        json!({"jwk": jwk}),
        json!({"jku": "https://evil.example/jwks.json"}),
        json!({"x5u": "https://evil.example/cert.pem"}),
        json!({"x5c": ["AAAA"]}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": true}),
        json!({"kid": 1}),
        json!({"kid": "x".repeat(1000)}),
        json!({"typ": "secevent+jwt"}),
        json!({"zip": "DEF"}),
    ] {
        let mut head = json!({"alg": "ES256"});
        head.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        heads.push(head);
    }
    heads
}

fn tokens(good: &str) -> Vec<String> {
    let parts: Vec<&str> = good.split('.').collect();
    let (head, middle, signature) = (parts[0], parts[1], parts[2]);
    let mut all = spoilt(good);
    for other in heads() {
        let other = URL_SAFE_NO_PAD.encode(other.to_string());
        all.extend([
            format!("{other}.{middle}.{signature}"),
            format!("{other}.{middle}."),
            format!("{other}.{middle}"),
        ]);
    }
    for doubled in [r#"{"alg":"none","alg":"ES256"}"#, r#"{"alg":"ES256","alg":"ES256"}"#] {
        all.push(format!("{}.{middle}.{signature}", URL_SAFE_NO_PAD.encode(doubled)));
    }
    all.extend([
        format!("{head}.{middle}.{signature}="),
        format!("{head}=.{middle}.{signature}"),
        format!("{head}.{middle}.{signature}.{signature}"),
        format!("{head}..{middle}.{signature}"),
        format!("{head}.{signature}.{middle}"),
        format!("Bearer {good}"),
        good.replace('.', ".."),
        good.replace(['-', '_'], "+"),
        STANDARD.encode(good),
    ]);
    all.retain(|token| token != good);
    all
}

fn token_family(scheme: &str) {
    let (own, other) = (Own::new(scheme), Own::new(scheme));
    tokens_of(&own, &other);
}

fn tokens_of(own: &Own, other: &Own) {
    let good = Sent::of(&own.sign(BODY, &Map::new()).headers, BODY);
    let name = good.headers[0].0.clone();
    let token = good.headers[0].1.clone();
    let mut forged = changed(&good);
    forged.extend(tokens(&token).iter().map(|token| good.with(&name, token)));
    forged.insert(Sent::of(&other.sign(BODY, &Map::new()).headers, BODY));
    forged.remove(&good);
    none_of(own, &good, forged);
}

/// Tokens that bring certificates along: whoever makes some of the same kind has another root.
#[test]
fn certificates() {
    let verify = "mac: jwt\nsignature: { header: x-token }\nkeys: { x5c: {} }\n\
                  jwt: { algs: [ES256], body_hash: { claim: digest } }";
    let make = || {
        let any = of(verify, &[&issue("root", true, None).pem]);
        let key = any.test_key().expect("a key of the sender's").expect("a key");
        let verifier = of(verify, &[&key.public_pem().unwrap()]);
        Own { key, verifier, compiled: scheme(verify) }
    };
    tokens_of(&make(), &make());
}

/// Security event tokens (RFC 8417), which are the whole body.
#[test]
fn security_events() {
    let preset = compiled("ssf");
    let (own, other) = (Own::of(&preset), Own::of(&preset));
    let signed = |own: &Own| {
        let claims = json!({ "jti": "1", "events": { "https://schemas.example/revoked": {} } });
        let signed = own.sign(b"", claims.as_object().unwrap());
        let mut sent = Sent::of(&signed.headers, &signed.body.expect("a token"));
        sent.headers.push(("content-type".into(), "application/secevent+jwt".into()));
        sent
    };
    let good = signed(&own);
    let token = String::from_utf8(good.body.clone()).unwrap();
    let with = |token: String| Sent { body: token.into(), ..good.clone() };
    let mut forged = BTreeSet::from([signed(&other)]);
    forged.extend(spoilt(&token).into_iter().chain(tokens(&token)).map(with));
    forged.remove(&good);
    none_of(&own, &good, forged);
}

#[test]
fn jwt() {
    token_family(JWT);
}

#[test]
fn detached_jws() {
    token_family(
        "mac: jws-detached\nsignature: { header: x-token }\nsigned: \"{body}\"\njwt: { algs: [ES256] }",
    );
}

fn vector(provider: &str, name: &str) -> (Vector, Verifier, Fetched) {
    let mut all = vectors().into_iter();
    let vector = all.find(|v| v.provider == provider && v.name == name).expect("a vector");
    let described = crate::asymmetric::describe(&vector).expect("described");
    let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
    let verifier = of(&described.verify, &secrets);
    let fetched = vector.published(&verifier);
    (vector, verifier, fetched)
}

/// That a published request is believed, and none of the others.
fn none_like(
    (vector, verifier, fetched): &(Vector, Verifier, Fetched),
    forged: impl FnOnce(&Sent) -> BTreeSet<Sent>,
) {
    let (headers, body) = (vector.header_map(), vector.body());
    let lines: Vec<_> = headers.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    let good = Sent::of(&lines, &body);
    let like = vector.presented(&headers, &body);
    assert!(accepted(verifier, &good, fetched, &like), "the good one");
    let forged: Vec<_> = forged(&good).into_iter().filter(|sent| sent.map().is_some()).collect();
    assert!(forged.len() >= LEAST, "{} forgeries", forged.len());
    for sent in &forged {
        assert!(!accepted(verifier, sent, fetched, &like), "{sent:?}");
    }
}

/// A message signature's headers spoilt, but for wider gaps in a list: what is signed is the list.
fn messages(good: &Sent) -> BTreeSet<Sent> {
    let mut forged = BTreeSet::new();
    for (header, value) in &good.headers {
        if ["signature", "signature-input", "content-digest"].contains(&&**header) {
            let same = |text: &String| text.trim().replace("  ", " ") == *value;
            let spoilt = spoilt(value).into_iter().filter(|text| !same(text));
            forged.extend(spoilt.map(|text| good.with(header, &text)));
            let mut without = good.clone();
            without.headers.retain(|(name, _)| name != header);
            forged.insert(without);
        }
    }
    let bodies = changed(&Sent { headers: Vec::new(), ..good.clone() }).into_iter();
    forged.extend(bodies.map(|sent| Sent { headers: good.headers.clone(), ..sent }));
    forged
}

#[test]
fn message_signatures() {
    let own = Own::new("mac: rfc9421\nrfc9421: { algs: [ed25519], max_age: 5m }");
    let good = Sent::of(&own.sign(BODY, &Map::new()).headers, BODY);
    none_of(&own, &good, messages(&good));
    for name in ["ecdsa_p256_raw_rs_ok", "rsa_v1_5_sha256_ok"] {
        none_like(&vector("rfc9421", name), messages);
    }
}

#[test]
fn sns() {
    none_like(&vector("aws-sns", "v2_escapes_utf8_ok"), |good| {
        let body: Json = serde_json::from_slice(&good.body).unwrap();
        let mut forged = BTreeSet::new();
        let signed = [
            "Message",
            "MessageId",
            "Subject",
            "Timestamp",
            "TopicArn",
            "Type",
            "Signature",
            "SignatureVersion",
        ];
        for name in signed {
            let value = body[name].as_str().unwrap();
            for text in spoilt(value) {
                if text != value {
                    let mut body = body.clone();
                    body[name] = text.into();
                    forged.insert(Sent { body: body.to_string().into(), ..good.clone() });
                }
            }
            let mut without = body.clone();
            without.as_object_mut().unwrap().remove(name);
            forged.insert(Sent { body: without.to_string().into(), ..good.clone() });
            let twice = body.to_string().replacen('{', &format!("{{\"{name}\":\"x\","), 1);
            forged.insert(Sent { body: twice.into(), ..good.clone() });
            for odd in [json!(null), json!(1), json!([value]), json!({ "x": value })] {
                let mut body = body.clone();
                body[name] = odd;
                forged.insert(Sent { body: body.to_string().into(), ..good.clone() });
            }
        }
        // A line of a message is no member.
        let shifted = format!("{}\nMessageId", body["Message"].as_str().unwrap());
        let mut body = body.clone();
        body["Message"] = shifted.into();
        forged.insert(Sent { body: body.to_string().into(), ..good.clone() });
        forged
    });
}
