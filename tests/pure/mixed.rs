//! Sources whose alternatives are of two kinds: one compares a secret, another checks with keys that it finds by itself.

use gatepost::{answer::Reason, providers, secret::Secret, verify::Verifier};
use http::HeaderMap;
use serde_json::Map;

use crate::{
    asymmetric::{self, Fetched},
    foreign::{self, Own},
    source::{compiled, custom, examples, verifier, verify},
};

const NOW: i64 = 1_760_000_000;
const STATE: &str = "the word that was given";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn basic(state: &str) -> Vec<u8> {
    let state = serde_json::Value::from(state);
    format!(r#"{{"value":[{{"id":"n1","changeType":"created","clientState":{state}}}]}}"#).into()
}

fn rich(token: &str) -> Vec<u8> {
    format!(r#"{{"value":[{{"clientState":"{STATE}"}}],"validationTokens":[{token}]}}"#).into()
}

fn verdict(verifier: &Verifier, body: &[u8]) -> Result<(), Reason> {
    verify(verifier, &JSON, body, NOW).map(drop)
}

#[test]
fn a_secret_is_for_the_alternatives_that_compare() {
    let graph = verifier(compiled("microsoft-graph"), &[STATE]).expect("a word");
    assert_eq!(verdict(&graph, &basic(STATE)), Ok(()));
    assert_eq!(verdict(&graph, &basic("another word")), Err(Reason::SignatureWrong));
    // Who knows the word, but has no token, is refused where tokens come; that their keys are not here is no verdict.
    let token = r#""eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.e30.AAAA""#;
    assert_eq!(verdict(&graph, &rich(token)), Err(Reason::KeyNotFetched));
    // A token covers nothing of the body: who has seen one and does not know the word is refused before any key is asked for.
    let strange = rich(token).into_iter().map(|byte| if byte == b'w' { b'W' } else { byte });
    assert_eq!(verdict(&graph, &strange.collect::<Vec<_>>()), Err(Reason::SignatureWrong));
    assert_eq!(verdict(&graph, &rich("\"\"")), Err(Reason::SignatureMissing));
    assert_eq!(verdict(&graph, &rich("{}")), Err(Reason::SignatureMissing));
}

#[test]
fn a_public_key_is_for_those_that_check_and_never_a_word() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"S-reKyM0MLlxi6rOzw_gUcsiogtteaWp_FrYc4ji9zw"}"#;
    let wrong = verifier(compiled("microsoft-graph"), &[key]).expect_err("another kind of key");
    assert_eq!(wrong, "secret 1 is an Ed25519 key, which `rsa-pkcs1-sha256` cannot use");
    let rsa = include_str!("foreign/rsa.pem");
    let graph = verifier(compiled("microsoft-graph"), &[rsa]).expect("a key");
    assert_ne!(verdict(&graph, &basic(rsa)), Ok(()));
}

#[test]
fn a_pinned_alternative_is_the_only_one() {
    let preset = providers::preset("microsoft-graph").expect("a preset");
    let options = providers::Options { pin: Some("rich".into()), ..examples(preset) };
    let pinned =
        providers::compile(&preset.verify, &preset.event, &preset.handshake, &options).expect("it");
    let lacking = verifier(pinned.clone(), &[]).expect_err("the word is asked for besides");
    assert_eq!(lacking, "a source needs a scheme and a secret to be verified by");
    let graph = verifier(pinned, &[STATE]).expect("a word");
    assert_eq!(verdict(&graph, &basic(STATE)), Err(Reason::SignatureMissing));
    assert_eq!(verdict(&graph, &rich("\"a.b.c\"")), Err(Reason::SignatureMalformed));
    assert_eq!(verdict(&graph, &rich("\"\"")), Err(Reason::SignatureMissing));
}

#[test]
fn a_source_may_name_several_topics() {
    let preset = providers::preset("aws-sns").expect("a preset");
    let mut count = 0;
    for vector in asymmetric::vectors().into_iter().filter(|v| v.provider == "aws-sns" && v.valid) {
        let own = vector.keys["topic_arns"][0].as_str().expect("a topic");
        for (topics, accepted) in [
            (own.to_owned(), true),
            (format!("arn:aws:sns:us-east-1:1:other {own}"), true),
            ("arn:aws:sns:us-east-1:1:other".to_owned(), false),
            (format!("{own}x {own}-y"), false),
            (" ".to_owned(), false),
        ] {
            let mut options = examples(preset);
            options.params.insert("topic".into(), topics.clone());
            let language =
                providers::compile(&preset.verify, &preset.event, &[], &options).expect("topics");
            let verifier = verifier(language, &[]).expect("keys are fetched");
            let verdict = vector.judge(&verifier, &vector.published(&verifier));
            assert_eq!(verdict.is_ok(), accepted, "{}: {topics:?}", vector.name);
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}

/// What is on record is which of the source's secrets matched: none, where only a key did that was fetched.
#[test]
fn a_fetched_key_is_no_secret_of_the_source() {
    const TOKEN: &str = "mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }";
    const AT: &str = "https://idp.example/keys";
    let own = Own::new(TOKEN);
    let token = own.sign(b"{}", &Map::new());
    let proof = |yaml: &str, secrets: &[&str], word: Option<&str>| {
        let verifier = verifier(custom(yaml), secrets).expect("good secrets");
        let mut fetched = Fetched::default();
        fetched.add(&verifier, 0, AT, &own.key.public_pem().unwrap(), foreign::NOW);
        let mut headers = HeaderMap::from_iter(token.headers.clone());
        if let Some(word) = word {
            headers.insert("x-word", word.parse().unwrap());
        }
        let proof = verifier.judge(&foreign::presented(&headers, b"{}"), &fetched).expect("good");
        (proof.slot, proof.label.to_string())
    };
    let indented = TOKEN.replace('\n', "\n  ");
    let alone = format!("verify:\n  {indented}\n  keys: {{ jwks_url: \"{AT}\" }}");
    assert_eq!(proof(&alone, &[], None), (0, "fetched".to_owned()));
    let public = own.key.public_pem().unwrap();
    let given = Secret::new(public.as_str()).fingerprint();
    assert_eq!(proof(&alone, &[foreign::PUBLIC[1], &public], None), (2, given));
    let twofold = format!(
        "verify:\n  schemes:\n  - name: token\n    when: {{ header: X-Token }}\n    besides: word\n    {}\n    \
         keys: {{ jwks_url: \"{AT}\" }}\n  - {{ name: word, mac: token, signature: {{ header: X-Word }} }}",
        TOKEN.replace('\n', "\n    ")
    );
    let words = ["the word of last year", "the word of this year"];
    for (slot, word) in (1..).zip(words) {
        let label = Secret::new(word).fingerprint();
        assert_eq!(proof(&twofold, &words, Some(word)), (slot, label), "{word}");
    }
}
