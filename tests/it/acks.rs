//! What a provider wants to hear where the gateway answers by itself; an app's whole answer stays the app's.

use crate::{
    GITHUB,
    world::{
        Gateway, Upstream,
        gateway::{Answer, records},
        provider::{Headers, mac},
    },
};

/// A source that wants to hear things, with routes that take, drop and relay whole answers.
fn source(app: &str, manners: &str, unrouted: &str) -> String {
    format!(
        "sources:\n  pay:\n    provider: custom\n    secret: \"{GITHUB}\"\n    unrouted: {unrouted}\n{manners}\
         \x20   verify: {{ signature: {{ header: X-Signature }}, signed: \"{{body}}\" }}\n\
         \x20   event: {{ id: \"{{body|sha256_hex}}\", type: \"{{json:type}}\" }}\n\
         routes:\n  - {{ source: pay, events: noise, drop: true }}\n  - {{ source: pay, events: whole, to: app, reply: full }}\n\
         \x20 - {{ source: pay, events: taken, to: app }}\nupstreams: {{ app: {{ url: \"{app}\" }} }}\n"
    )
}

const MANNERS: &str = "    ack: { status: 202, body: \"[accepted]\" }\n    invalid: { status: 498, body: \"\" }\n    drop_forever: { status: 406 }\n";

async fn event(gateway: &Gateway, kind: &str) -> Answer {
    let body = format!(r#"{{"type":"{kind}"}}"#);
    let signature = hex::encode(mac(GITHUB.as_bytes(), &[body.as_bytes()]));
    gateway.post("/pay", &vec![("x-signature".into(), signature)], body.as_bytes()).await
}

fn told(answer: &Answer) -> (u16, &str, &str, &str) {
    let body = std::str::from_utf8(&answer.body).unwrap();
    (answer.status, answer.outcome(), answer.header("content-type"), body)
}

const TEXT: &str = "text/plain; charset=utf-8";

#[tokio::test]
async fn a_provider_hears_its_own_words_where_we_answer() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&source(&app.url(), MANNERS, "accept")).await;
    assert_eq!(told(&event(&gateway, "taken").await), (202, "accepted", TEXT, "[accepted]"));
    assert_eq!(told(&event(&gateway, "taken").await), (202, "duplicate", TEXT, "[accepted]"));
    assert_eq!(told(&event(&gateway, "other").await), (202, "ignored", TEXT, "[accepted]"));
    let dropped = event(&gateway, "noise").await;
    assert_eq!((dropped.status, dropped.outcome()), (406, "ignored"));
    // The app's whole answer is the app's.
    let whole = event(&gateway, "whole").await;
    assert_eq!((whole.status, whole.outcome()), (200, "accepted"));
    assert_ne!(&whole.body[..], b"[accepted]");
    // Who is not believed hears one thing, whatever is wrong.
    let none: Headers = Vec::new();
    let wrong: Headers = vec![("x-signature".into(), "00".repeat(32))];
    let junk: Headers = vec![("x-signature".into(), "junk".into())];
    for headers in [none, wrong, junk] {
        let refused = gateway.post("/pay", &headers, b"{}").await;
        assert_eq!(told(&refused), (498, "", "", ""), "{headers:?}");
        assert_eq!(refused.header("www-authenticate"), "");
    }
    // The record says what was told.
    let (_, dir) = gateway.stop().await;
    let records = records(&dir.path().join("audit"));
    let status = |outcome: &str| {
        let of = records.iter().filter(|record| record["outcome"] == outcome);
        of.map(|record| record["status"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(status("accepted"), [202, 200]);
    assert_eq!(status("ignored"), [202, 406]);
    assert_eq!(status("rejected_missing"), [498]);
    assert!(status("rejected_signature").iter().all(|status| *status == 498));
    assert_eq!(app.count(), 2);
}

/// Without special wishes, all is as the table says; a status of the app's is relayed.
#[tokio::test]
async fn without_wishes_all_is_as_the_table_says() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&source(&app.url(), "", "reject")).await;
    assert_eq!(event(&gateway, "noise").await.status, 200);
    assert_eq!(event(&gateway, "other").await.status, 404);
    let refused = gateway.post("/pay", &Vec::new(), b"{}").await;
    assert_eq!((refused.status, refused.header("content-type")), (401, "application/problem+json"));
    let gateway = Gateway::start(&source(&app.url(), MANNERS, "reject")).await;
    let unrouted = event(&gateway, "other").await;
    assert_eq!((unrouted.status, unrouted.outcome()), (406, "unrouted"), "and it is not repeated");
}

/// Xero sends wrong signatures on purpose: it wants 401 and nothing else, and 200 and nothing else for good ones.
#[tokio::test]
async fn xero_gets_its_codes_and_empty_bodies() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources: {{ xero: {{ provider: xero, secret: \"{GITHUB}\" }} }}\n\
         routes: [ {{ source: xero, to: app }} ]\nupstreams: {{ app: {{ url: \"{}\" }} }}\n",
        app.url()
    ))
    .await;
    let body =
        br#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0m"}"#;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let good = STANDARD.encode(mac(GITHUB.as_bytes(), &[body]));
    for (signature, status) in [(good, 200), (STANDARD.encode([0; 32]), 401)] {
        let answer =
            gateway.post("/xero", &vec![("x-xero-signature".into(), signature)], body).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!(answer.header("set-cookie"), "");
    }
    assert_eq!(app.count(), 0, "a check is no event");
}

/// Transmitters of security event tokens hear what was wrong, in the words of their standard; the record has the reason.
#[tokio::test]
async fn a_token_that_is_none_is_answered_in_the_words_of_its_standard() {
    let app = Upstream::start().await;
    let key = r#"{"kty":"RSA","kid":"k1","e":"AQAB","n":"hAKYdtoeoy8zcAcR874L8cnZxKzAGwd7v36APp7Pv6Q2jdsPBRrwWEBnez6d0UDKDwGbc6nxfEXAy5mbhgajzrw3MOEt8uA5txSKobBpKDeBLOsdJKFqMGmXCQvEG7YemcxDTRPxAleIAgYYRjTSd_QBwVW9OwNFhekro3RtlinV0a75jfZgkne_YiktSvLG34lw2zqXBDTC5NHROUqGTlML4PlNZS5Ri2U4aCNx2rUPRcKIlE0PuKxI4T-HIaFpv8-rdV6eUgOrB2xeI1dSFFn_nnv5OoZJEIB-VmuKn3DCUcCZSFlQPSXSfBDiUGhwOw76WuSSsf1D4b_vLoJ10w"}"#;
    let gateway = Gateway::start(&format!(
        "sources:\n  ssf:\n    provider: ssf\n    secret: '{key}'\n    params: {{ issuer: i, audience: a, jwks_url: \"https://idp.example/k\" }}\n\
         routes: [ {{ source: ssf, to: app }} ]\nupstreams: {{ app: {{ url: \"{}\" }} }}\n",
        app.url()
    ))
    .await;
    let header = |json: &str| {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(json))
    };
    for (body, code) in [
        ("hello".to_owned(), "invalid_request"),
        (header(r#"{"typ":"secevent+jwt","alg":"none"}"#), "invalid_key"),
        (header(r#"{"typ":"secevent+jwt","alg":"RS256","kid":"k2"}"#), "invalid_key"),
        (header(r#"{"typ":"secevent+jwt","alg":"RS256","kid":"k1"}"#), "authentication_failed"),
    ] {
        let answer = gateway.post("/ssf", &Vec::new(), body.as_bytes()).await;
        let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &told["err"]), (400, &code.into()), "{body}");
        assert!(told["description"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(answer.header("content-language"), "en");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("www-authenticate"), "");
    }
    assert_eq!(app.count(), 0);
}
