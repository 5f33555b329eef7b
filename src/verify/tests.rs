//! The stage: what it lets through, where failures go, and what is counted.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    answer::{Answered, Outcome, Relayed},
    stage::Through,
    telemetry::Metrics,
};

const SECRET: &str = "It's a Secret to Everybody";
const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const BODY: &[u8] = b"Hello, World!";

/// GitHub's scheme, made by hand: this module knows no presets.
fn verifier(signed: &str) -> Arc<Verifier> {
    let scheme = Scheme::new(SchemeParts {
        when: None,
        key: KeyForm::default(),
        container: Container {
            place: Place::Header("x-hub-signature-256".parse().expect("a name")),
            prefix: Some("sha256=".into()),
            split: None,
            pair: None,
            encoding: Encoding::Hex,
            repeated: false,
            trim: false,
        },
        signed: Some(Template::parse(signed).expect("a template")),
        algorithm: Algorithm::HmacSha256,
        timestamps: None,
        require: Vec::new(),
    });
    let secret = LiveSecret { secret: Secret::new(SECRET), expires: None };
    let schemes = vec![scheme.expect("a scheme")];
    Arc::new(Verifier::new(schemes, vec![secret], "https://x").expect("a verifier"))
}

fn stage(metrics: &Metrics) -> Verify {
    Verify {
        verifier: verifier("{body}"),
        url: "https://x/github".into(),
        metrics: Arc::new(metrics.source("github", "proxy", 1)),
        shadow: None,
    }
}

fn envelope(signature: &'static str, body: &[u8]) -> Envelope {
    let mut headers = HeaderMap::new();
    headers.insert("x-hub-signature-256", HeaderValue::from_static(signature));
    Envelope::for_test("github", headers, body.to_vec(), Timestamp::from_millis(0))
}

fn answer(status: u16) -> Answered<Outcome> {
    let status = http::StatusCode::from_u16(status).expect("a status");
    Outcome::Accepted(Relayed { status, content_type: None, body: bytes::Bytes::new() }).into()
}

/// The next stage answers 200, and 299 where the body is not the one that was sent.
async fn pass(stage: Verify, envelope: Envelope) -> Answer {
    let sent = envelope.body().clone();
    let next = service_fn(move |verified: Verified| {
        let is_same = *verified.envelope().body() == sent && verified.proof().slot == 1;
        std::future::ready(Ok(answer(if is_same { 200 } else { 299 })))
    });
    tower::Layer::layer(&Through(stage), next).oneshot(envelope).await
}

#[tokio::test]
async fn who_knew_the_secret_passes_and_nobody_else() {
    let metrics = Metrics::new();
    let passed = pass(stage(&metrics), envelope(SIGNATURE, BODY)).await.expect("it passes");
    assert_eq!(passed.what, answer(200).what);
    let refused = pass(stage(&metrics), envelope(SIGNATURE, b"Hello, World")).await;
    assert_eq!(refused.unwrap_err().what, Refusal::NotVerified(Reason::SignatureWrong));
    let refused = pass(stage(&metrics), envelope("sha256=", BODY)).await;
    assert_eq!(refused.unwrap_err().what, Refusal::NotVerified(Reason::SignatureMalformed));
    let text = metrics.render();
    for line in [
        r#"gatepost_secret_matches_total{source="github",slot="1"} 1"#,
        r#"gatepost_verification_failures_total{source="github",reason="signature"} 1"#,
        r#"gatepost_verification_failures_total{source="github",reason="encoding"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn in_shadow_mode_failures_take_the_other_way() {
    let shadow = service_fn(|unverified: Unverified| {
        let is_wrong = unverified.reason() == Reason::SignatureWrong;
        std::future::ready(Ok(answer(if is_wrong { 202 } else { 299 })))
    });
    let shadow = BoxCloneSyncService::new(shadow);
    let stage = Verify { shadow: Some(shadow), ..stage(&Metrics::new()) };
    let passed = pass(stage.clone(), envelope(SIGNATURE, b"another")).await.expect("it passes");
    assert_eq!(passed.what, answer(202).what);
    let passed = pass(stage, envelope(SIGNATURE, BODY)).await.expect("it passes");
    assert_eq!(passed.what, answer(200).what);
}

#[tokio::test]
async fn a_long_body_is_verified_elsewhere_and_alike() {
    let body = vec![b'a'; INLINE_BYTES_MAX + 1];
    let key = verifier("{body}");
    let signed = key
        .sign(&Presented {
            method: "POST",
            url: "https://x",
            target: "/",
            headers: &HeaderMap::new(),
            body: &body,
            received_at: Timestamp::from_millis(0),
        })
        .expect("signed");
    let headers: HeaderMap = signed.into_iter().collect();
    let envelope = Envelope::for_test("github", headers, body, Timestamp::from_millis(0));
    let passed = pass(stage(&Metrics::new()), envelope).await.expect("it passes");
    assert_eq!(passed.what, answer(200).what);
    let refused = pass(stage(&Metrics::new()), self::envelope(SIGNATURE, &[b'a'; 600_000])).await;
    assert_eq!(refused.unwrap_err().what, Refusal::NotVerified(Reason::SignatureWrong));
}

#[test]
fn the_url_is_the_one_on_file_with_this_requests_query() {
    assert_eq!(with_query("https://x/square", None), "https://x/square");
    assert_eq!(with_query("https://x/square", Some("a=%20b")), "https://x/square?a=%20b");
}
