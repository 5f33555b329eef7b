//! Certificates: those that come with a token, and those that are fetched.

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason,
    event::Timestamp,
    verify::{KeySet, Keys, Presented, Stop, Verifier, Want},
};
use http::{HeaderMap, HeaderValue};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde_json::{Map, json};

use crate::{
    asymmetric::{Fetched, describe, vectors},
    foreign::{Own, PUBLIC, judge, of, presented, token},
};

fn apple(name: &str) -> (crate::asymmetric::Vector, Verifier) {
    let mut all = vectors().into_iter();
    let vector = all.find(|v| v.provider == "apple-asn-v2" && v.name == name).expect("a vector");
    let described = describe(&vector).expect("described");
    let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
    let verifier = of(&described.verify, &secrets);
    (vector, verifier)
}

#[test]
fn only_the_pinned_root_counts() {
    let (good, verifier) = apple("official_test_notification_ok");
    assert_eq!(good.judge(&verifier, &Fetched::default()), Ok(()));
    for name in ["root_not_configured", "attacker_x5c", "official_missing_x5c"] {
        let (vector, verifier) = apple(name);
        let refused = vector.judge(&verifier, &Fetched::default());
        assert_eq!(refused, Err(Reason::CertificateRefused), "{name}");
    }
}

#[test]
fn a_certificate_must_be_for_this() {
    for oid in ["leaf_oid: 1.2.840.113635.100.6.11.1", "intermediate_oid: 1.2.840.113635.100.6.2.1"]
    {
        let (good, _) = apple("official_test_notification_ok");
        let described = describe(&good).expect("described");
        let other = described.verify.replace(oid, &oid.replace("1.2.840", "1.2.841"));
        assert_ne!(other, described.verify, "{oid} is there");
        let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
        let refused = good.judge(&of(&other, &secrets), &Fetched::default());
        assert_eq!(refused, Err(Reason::CertificateRefused), "{oid}");
    }
}

/// A certificate, what it may issue others by, and its key.
pub(crate) struct Issued {
    der: CertificateDer<'static>,
    pub(crate) pem: String,
    params: CertificateParams,
    key: KeyPair,
}

/// When what is issued here begins to be good, and when it ends: 2020 and 2030.
const FROM: i64 = 1_577_836_800_000;
const UNTIL: i64 = 1_893_456_000_000;

/// Issues one for a name, or an authority; by itself where no other does it.
pub(crate) fn issue(name: &str, is_authority: bool, by: Option<&Issued>) -> Issued {
    let names = if is_authority { Vec::new() } else { vec![name.to_owned()] };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)),
        None => params.self_signed(&key),
    };
    let certificate = certificate.unwrap();
    Issued { der: certificate.der().clone(), pem: certificate.pem(), params, key }
}

fn anchors(root: &Issued) -> Vec<TrustAnchor<'static>> {
    let mut store = RootCertStore::empty();
    store.add(root.der.clone()).unwrap();
    store.roots
}

/// A source whose requests say where their key is.
fn fetching(rest: &str) -> Verifier {
    let scheme = "mac: ecdsa-p256-sha256\nsignature: { header: x-s, encoding: base64 }\nsigned: \"{body}\"\n";
    of(
        &format!(
            "{scheme}keys: {{ cert_url: \"{{header:x-at}}\", hosts: [keys.example], path: \"/*\"{rest} }}"
        ),
        &[],
    )
}

const AT: &str = "https://keys.example/1";

fn read(
    verifier: &Verifier,
    text: &str,
    anchors: &[TrustAnchor<'_>],
    now: i64,
) -> Result<KeySet, String> {
    let want = Want { scheme: 0, url: AT.to_owned(), is_stale: false };
    verifier.read(&want, text.as_bytes(), anchors, Timestamp::from_millis(now))
}

#[test]
fn a_fetched_certificate_is_for_the_name_that_is_said_and_leads_to_a_root() {
    let (root, other) = (issue("root", true, None), issue("other", true, None));
    let between = issue("between", true, Some(&root));
    let [leaf, elsewhere] =
        ["hooks.example", "x.example"].map(|name| issue(name, false, Some(&root)));
    let far = issue("hooks.example", false, Some(&between));
    let fake = issue("hooks.example", false, Some(&other));
    let alone = issue("hooks.example", false, None);
    let chain = format!("{}{}", far.pem, between.pem);
    let no_root = "is a certificate that leads to no root that is trusted";
    let jwk = r#"{"kty":"EC","crv":"P-256","x":"","y":""}"#;
    let bare = leaf.key.public_key_pem();
    let verifier = fetching(", dns_name: hooks.example");
    let none = Vec::new();
    let trusted = anchors(&root);
    for (text, trusted, said) in [
        (&leaf.pem, &trusted, Ok(())),
        (&chain, &trusted, Ok(())),
        (&far.pem, &trusted, Err(no_root)),
        (
            &format!("{}{}", between.pem, far.pem),
            &trusted,
            Err("is not a certificate for hooks.example"),
        ),
        (&elsewhere.pem, &trusted, Err("is not a certificate for hooks.example")),
        (&root.pem, &trusted, Err("is not a certificate for hooks.example")),
        (&fake.pem, &trusted, Err(no_root)),
        (&format!("{}{}", fake.pem, root.pem), &trusted, Err(no_root)),
        (&format!("{}{}", fake.pem, other.pem), &trusted, Err(no_root)),
        (&alone.pem, &trusted, Err(no_root)),
        (&leaf.pem, &none, Err(no_root)),
        (&bare, &trusted, Err("holds `PUBLIC KEY`, where certificates belong")),
        (&jwk.to_owned(), &trusted, Err("is not PEM")),
        (&String::new(), &trusted, Err("holds no certificate")),
    ] {
        let found = read(&verifier, text, trusted, FROM).map(drop);
        assert_eq!(found, said.map_err(str::to_owned), "{text}");
    }
}

/// Whoever is told no name takes what its provider puts there: a certificate while it is good, or a key as it is.
#[test]
fn a_fetched_certificate_is_good_from_its_first_moment_to_its_last() {
    let not_now = Err("is a certificate that is not good now".to_owned());
    let root = issue("root", true, None);
    let leaf = issue("hooks.example", false, Some(&root));
    for rest in ["", ", dns_name: hooks.example"] {
        let verifier = fetching(rest);
        for (now, good) in
            [(0, false), (FROM - 1, false), (FROM, true), (UNTIL, true), (UNTIL + 1, false)]
        {
            let found = read(&verifier, &leaf.pem, &anchors(&root), now).map(drop);
            assert_eq!(found, if good { Ok(()) } else { not_now.clone() }, "{now} {rest}");
        }
    }
    let bare = leaf.key.public_key_pem();
    let set = format!(
        "{{\"keys\":[{}]}}",
        r#"{"kty":"EC","crv":"P-256","kid":"k1","x":"Dxu1U5vM9MONllc_-xuebd33crxLNLlzRbJ0idm5gcs","y":"4jPOnQpCshmmKIkrahewbWaMf1Dt-xY3xO0mJ9yNvqI"}"#
    );
    for text in [&bare, &format!("\n  {bare}"), &set, &format!(" {set}\n")] {
        assert_eq!(read(&fetching(""), text, &[], 0).map(drop), Ok(()), "{text}");
    }
}

#[test]
fn a_key_is_read_where_a_document_has_it_and_nowhere_else() {
    let verifier = fetching(", fetched_key: data.key");
    let pem = issue("hooks.example", false, None).key.public_key_pem();
    let at = |key: &str| json!({ "data": { "key": key } }).to_string();
    for (text, said) in [
        (at(&pem), Ok(())),
        (at(PUBLIC[1]), Ok(())),
        (at(PUBLIC[2]), Err("is a P-384 key, which `ecdsa-p256-sha256` cannot use")),
        (json!({ "key": pem }).to_string(), Err("holds no key where it should")),
        (json!({ "data": { "key": [pem] } }).to_string(), Err("holds no key where it should")),
        (pem, Err("is not a JSON document")),
    ] {
        let found = read(&verifier, &text, &[], FROM).map(drop);
        assert_eq!(found, said.map_err(str::to_owned), "{text}");
    }
}

/// A key that is pinned takes the place of all that is fetched, but a request that names a place which is never asked is not its
/// provider's.
#[test]
fn where_a_key_is_pinned_a_request_still_names_a_place_of_its_provider() {
    let scheme = "mac: ed25519\nsignature: { header: x-s, encoding: hex }\nsigned: \"{body}\"\n\
                  keys: { cert_url: \"{header:x-at}\", hosts: [keys.example], path: \"/*\" }";
    let own = Own::new(scheme);
    let mut headers = HeaderMap::from_iter(own.sign(b"{}", &Map::new()).headers);
    assert_eq!(judge(&own.verifier, &headers, b"{}"), Ok(()), "it names none");
    for (at, told) in [
        (AT, Ok(())),
        ("https://other.example/1", Err(Reason::KeySourceRefused)),
        ("https://keys.example/1/2", Err(Reason::KeySourceRefused)),
        ("http://keys.example/1", Err(Reason::KeySourceRefused)),
    ] {
        headers.insert("x-at", HeaderValue::from_static(at));
        assert_eq!(judge(&own.verifier, &headers, b"{}"), told, "{at}");
    }
}

/// The same keys wherever they are.
#[derive(Debug)]
struct Everywhere(Arc<KeySet>);

impl Keys for Everywhere {
    fn get(&self, _: usize, _: &str) -> Option<Arc<KeySet>> {
        Some(Arc::clone(&self.0))
    }

    fn may_ask_again(&self, _: usize, _: &str) -> bool {
        false
    }
}

/// A certificate that was good when it was fetched is none once it has ended; what its message calls the key is not what the
/// certificate is called, and nobody is refused for that.
#[test]
fn a_fetched_certificate_is_used_until_it_ends_whatever_the_message_calls_its_key() {
    let leaf = issue("hooks.example", false, None);
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &leaf.key.serialize_der());
    let signature = key.unwrap().sign(&SystemRandom::new(), b"{}").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-at", HeaderValue::from_static(AT));
    headers.insert("x-s", STANDARD.encode(signature.as_ref()).parse().unwrap());
    headers.insert("x-key", HeaderValue::from_static("a name of its own"));
    for rest in ["", ", key_id: \"{header:x-key}\""] {
        let verifier = fetching(rest);
        for (text, now, verdict) in [
            (&leaf.pem, UNTIL, Ok(())),
            (&leaf.pem, UNTIL + 1, Err(Reason::CertificateRefused)),
            (&leaf.key.public_key_pem(), UNTIL + 1, Ok(())),
        ] {
            let keys = Everywhere(Arc::new(read(&verifier, text, &[], FROM).expect("keys")));
            let received_at = Timestamp::from_millis(now);
            let request = Presented { received_at, ..presented(&headers, b"{}") };
            let found = match verifier.judge(&request, &keys) {
                Ok(_) => Ok(()),
                Err(Stop::Refused(reason)) => Err(reason),
                Err(Stop::Wanting(want)) => panic!("{want:?}"),
            };
            assert_eq!(found, verdict, "{text} {now} {rest}");
        }
    }
}

/// Of a token's certificates the first is the key's, and those that lead to the pinned root are among the others, six in all; a root
/// that comes along does nothing. What the token calls its key is not looked at.
#[test]
fn a_token_brings_along_what_leads_to_the_pinned_root() {
    let (root, other) = (issue("root", true, None), issue("other", true, None));
    let between = issue("between", true, Some(&root));
    let leaf = issue("signer", false, Some(&between));
    let fake = issue("signer", false, Some(&other));
    let verify =
        "mac: jwt\nsignature: { header: x-token }\njwt: { algs: [ES256] }\nkeys: { x5c: {} }";
    let verifier = of(verify, &[&root.pem]);
    let verdict = |key: &Issued, chain: &[&Issued], pad: usize| {
        let chain: Vec<_> = chain.iter().map(|issued| STANDARD.encode(&issued.der)).collect();
        let header = json!({ "alg": "ES256", "kid": "a name of its own", "x5c": chain });
        let claims = json!({ "jti": "1", "pad": "x".repeat(pad) }).to_string();
        let token = token(&key.key, &header, claims.as_bytes());
        let headers = HeaderMap::from_iter([("x-token".parse().unwrap(), token.parse().unwrap())]);
        (judge(&verifier, &headers, b"{}"), token.len())
    };
    let refused = Err(Reason::CertificateRefused);
    for (key, chain, told) in [
        (&leaf, &[&leaf, &between, &root][..], Ok(())),
        (&leaf, &[&leaf, &between], Ok(())),
        (&leaf, &[&leaf, &root, &root, &root, &root, &between], Ok(())),
        (&leaf, &[&leaf, &root, &root, &root, &root, &root, &between], refused),
        (&leaf, &[&leaf, &root], refused),
        (&leaf, &[&between, &leaf, &root], refused),
        (&leaf, &[], refused),
        (&root, &[&root], refused),
        (&fake, &[&fake, &other], refused),
        (&fake, &[&fake, &between, &root], refused),
        (&fake, &[&leaf, &between, &root], Err(Reason::SignatureWrong)),
    ] {
        assert_eq!(verdict(key, chain, 0).0, told, "{} certificates", chain.len());
    }
    // Certificates are long: such a token may have 64 KiB, and no more.
    let chain = [&leaf, &between];
    let (_, bare) = verdict(&leaf, &chain, 0);
    let room = 64 * 1024 - bare;
    let (told, bytes) = verdict(&leaf, &chain, room / 4 * 3 - 3);
    assert_eq!(told, Ok(()), "{bytes}");
    assert!(64 * 1024 - bytes < 8, "{bytes}");
    let (told, bytes) = verdict(&leaf, &chain, room / 4 * 3 + 6);
    assert_eq!(told, Err(Reason::SignatureMalformed), "{bytes}");
}

/// A test key of such a source comes with certificates of its own; whoever has its root for a secret believes it.
#[test]
fn a_test_key_brings_its_certificates_along() {
    let root = issue("root", true, None);
    for x5c in ["{}", "{ leaf_oid: 1.2.3.4, intermediate_oid: 1.2.3.5 }"] {
        let verify = format!(
            "mac: jwt\nsignature: {{ header: x-token }}\njwt: {{ algs: [ES256] }}\nkeys: {{ x5c: {x5c} }}"
        );
        let other = of(&verify, &[&root.pem]);
        let key = other.test_key().expect("a key of the sender's").expect("a key");
        let none = HeaderMap::new();
        let signed = other.sign_with(&key, &presented(&none, b"{}"), &Map::new()).expect("signed");
        let headers = HeaderMap::from_iter(signed.headers);
        let own = of(&verify, &[&key.public_pem().unwrap()]);
        assert_eq!(judge(&own, &headers, b"{}"), Ok(()), "{x5c}");
        assert_eq!(judge(&other, &headers, b"{}"), Err(Reason::CertificateRefused), "{x5c}");
    }
}
