//! Nobody gets an event signed by asking for the answer to a challenge.

use gatepost::answer::Reason;
use gatepost::providers::Problem;
use http::HeaderValue;

use crate::challenges::*;
use crate::{
    dice::Dice,
    flow::NOW,
    source::{headers, presented},
};

const SECRET: &str = "a secret that the responder uses";

/// What a responder says to a text, if anything.
fn response(flow: &Flow, target: &str, text: &str) -> Option<String> {
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let target = format!("{target}{encoded}");
    match told(ask(flow, "GET", &target, HeaderMap::new(), "", 0)) {
        Told::Answered(challenge) => Some(String::from_utf8(challenge.body.to_vec()).unwrap()),
        Told::Refused(refusal) => {
            assert_eq!(refusal, Refusal::MethodNotAllowed, "{text}");
            None
        }
        Told::Event => panic!("a GET is no event"),
    }
}

/// A responder, where it is asked, and how its answer is used as the signature of an event that says what was asked.
struct Responder {
    provider: &'static str,
    asked: &'static str,
    forged: fn(response: &str, text: &str) -> (HeaderMap, String),
    /// Whether the forged signature holds, so that something else must refuse the event.
    holds: bool,
}

fn string(response: &str, key: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(response).unwrap();
    json[key].as_str().unwrap().to_owned()
}

const RESPONDERS: [Responder; 3] = [
    Responder {
        provider: "x-twitter",
        asked: "/in?crc_token=",
        forged: |response, text| {
            let signature = string(response, "response_token");
            (headers(&[("x-twitter-webhooks-signature", signature)]), text.to_owned())
        },
        holds: true,
    },
    Responder {
        provider: "linkedin",
        asked: "/in?challengeCode=",
        forged: |response, text| {
            let signature = string(response, "challengeResponse");
            let body = text.strip_prefix("hmacsha256=").unwrap_or(text);
            (headers(&[("x-li-signature", signature)]), body.to_owned())
        },
        holds: false,
    },
    Responder {
        provider: "braintree",
        asked: "/in?bt_challenge=",
        forged: |response, text| {
            let form = "application/x-www-form-urlencoded";
            let mut body = form_urlencoded::Serializer::new(String::new());
            body.append_pair("bt_signature", response).append_pair("bt_payload", text);
            (headers(&[("content-type", form)]), body.finish())
        },
        holds: true,
    },
];

/// Texts that a forger would like to have signed, and texts at random.
fn texts() -> Vec<String> {
    let mut dice = Dice(7);
    let alphabets = ["0123456789abcdef", "abcXYZ019._~-", "abc+/=", "a:{}\"[],. \n\0é<&|"];
    let mut texts: Vec<String> =
        ["{}", "[]", "hmacsha256={}", "{\"a\":1}", "v0:1:{}", "a", "%7B%7D", "0", ""]
            .map(str::to_owned)
            .to_vec();
    texts.extend(["a".repeat(256), "a".repeat(257), "f".repeat(32), "f".repeat(33)]);
    for _ in 0..400 {
        let alphabet: Vec<char> = alphabets[dice.roll(4)].chars().collect();
        let length = 1 + dice.roll(40);
        texts.push((0..length).map(|_| alphabet[dice.roll(alphabet.len())]).collect());
    }
    texts
}

#[test]
fn no_answer_is_the_signature_of_an_event() {
    for responder in RESPONDERS {
        let (mut asked, mut refused) = (0, 0);
        for text in texts() {
            let flow = flow(responder.provider, SECRET); // each asks within the rate
            let Some(response) = response(&flow, responder.asked, &text) else { continue };
            asked += 1;
            let (headers, body) = (responder.forged)(&response, &text);
            match told(ask(&flow, "POST", "/in", headers, &body, 0)) {
                Told::Refused(Refusal::NotVerified(Reason::SignedForAnybody)) => refused += 1,
                Told::Refused(Refusal::NotVerified(_)) => assert!(!responder.holds, "{text:?}"),
                other => panic!("{}: {text:?} became {other:?}", responder.provider),
            }
        }
        assert!(asked > 50, "{} answers what it must", responder.provider);
        assert_eq!(refused > 0, responder.holds, "{}", responder.provider);
    }
}

/// Whatever JSON means, no responder signs it.
#[test]
fn nothing_with_structure_is_signed() {
    for responder in RESPONDERS {
        let flow = flow(responder.provider, SECRET);
        for text in
            ["{}", "[]", "{\"id\":1}", "\"a\"", "a b", "a:b", "a|b", "a\nb", "v0:1700000000:x"]
        {
            assert_eq!(
                response(&flow, responder.asked, text),
                None,
                "{} {text}",
                responder.provider
            );
        }
    }
}

/// Zoom signs its challenge; even it gets nothing signed that could be an event's text.
#[test]
fn a_signed_challenge_gets_no_signed_text_signed_either() {
    let (flow, none) = (flow("zoom", SECRET), HeaderMap::new());
    let asks = |token: &str| {
        let body = format!(
            r#"{{"event":"endpoint.url_validation","payload":{{"plainToken":"{token}"}}}}"#
        );
        let lines = flow.signed_as(presented(&none, body.as_bytes(), NOW));
        told(ask(&flow, "POST", "/in", lines, &body, NOW))
    };
    assert!(matches!(asks("qgg8vlvZRS6UYooatFL8Aw"), Told::Answered(_)));
    for token in ["v0:1700000000:{}", "v0:1700000000:abc", &"a".repeat(129), ""] {
        assert_eq!(asks(token), Told::Event, "{token}: for the app, which need not answer it");
    }
}

/// What a transform makes of an answer's text is bounded as the text is.
#[test]
fn no_transform_makes_an_event_of_what_may_be_signed() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    for (transform, encode) in [
        ("base64_decode", (|text| STANDARD.encode(text)) as fn(&str) -> String),
        ("lower", str::to_owned),
    ] {
        let flow = Flow::keyed(
            &format!(
                "verify: {{ signature: {{ header: X-S }}, signed: '{{body}}' }}\n\
                 event: {{ id: '{{body|sha256_hex}}', type: t }}\n\
                 handshake: [{{ when: {{ method: GET, query: c }}, reply: {{ echo: {{ charset: base64 }}, \
                 compute: {{ r: {{ hmac_hex: '{{query:c|{transform}}}' }} }}, body: '{{r}}' }} }}]"
            ),
            SECRET,
        );
        for text in ["abc", "0/1+2"] {
            let signed = response(&flow, "/in?c=", &encode(text)).expect("plain text");
            let lines = headers(&[("x-s", signed)]);
            let refused = Refusal::NotVerified(Reason::SignedForAnybody);
            assert_eq!(told(ask(&flow, "POST", "/in", lines, text, NOW)), Told::Refused(refused));
        }
        for text in [r#"{"id":1}"#, "v0:1:{}", "a\nb", "\u{1}", &"a".repeat(257)] {
            assert_eq!(response(&flow, "/in?c=", &encode(text)), None, "{text} by {transform}");
        }
    }
}

fn problems(yaml: &str) -> Vec<Problem> {
    crate::source::compile(&crate::source::Source::parse(yaml), &[]).expect_err("a bad challenge")
}

/// A scheme whose signed text cannot be told from an answer is no scheme for a responder.
#[test]
fn a_responder_that_could_sign_events_is_refused_at_start() {
    let found = problems(
        "verify: { signature: { header: X-Signature, split: ',', pair: '=', pick: v1 }, signed: '{t}.{body}' }\n\
         event: { id: '{body|sha256_hex}', type: t }\n\
         handshake: [{ when: { method: GET }, reply: { compute: { r: { hmac_hex: '{query:c}' } }, body: '{r}' } }]",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].path, "handshake[0].reply.compute");
    assert_eq!(found[0].message, "whoever asks could have events signed");
}

#[test]
fn a_body_that_only_looks_like_an_answer_is_still_an_event_elsewhere() {
    // The same body at a source without a responder.
    let slack = Flow::new(&format!(
        "{}event: {{ id: '{{body|sha256_hex}}', type: t }}",
        crate::flow::COVERING
    ));
    let signed = slack.signed(HeaderMap::new(), b"abc");
    assert!(signed.values().all(|value: &HeaderValue| !value.is_empty()));
    assert_eq!(told(slack.post(signed, "abc")), Told::Event);
}
