//! Events that are signed and yet not what they seem, byte for byte to the real binary: no id is read in two ways, no body is
//! inflated, no path is another path, and what is large or deep costs no more than its bytes.

use crate::{
    raw::{
        GH, GH_BODY, GH_SECRET, Input, SLACK_SECRET, input, judged, request, send, standard_mac,
        standard_request, stripe_mac,
    },
    stripe_to,
    world::{
        Gateway, Provider, Upstream,
        provider::{mac, now, stripe_event},
    },
};

/// A signed request to Stripe's source, with more headers.
fn signed_with(lines: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let time = now().to_string();
    let signature = format!("t={time},v1={}", stripe_mac(&time, body));
    let lines = [&[("Stripe-Signature", signature.as_bytes())], lines].concat();
    request("/stripe", &lines, body)
}

fn stripe(body: impl AsRef<[u8]>, status: u16) -> Input {
    let body = body.as_ref();
    let shown = body.escape_ascii().to_string().chars().take(60).collect::<String>();
    input(shown, signed_with(&[("Content-Type", b"application/json")], body), status)
}

#[tokio::test]
async fn an_id_is_the_string_that_everybody_reads() {
    let typed =
        |id: &str, status| stripe(format!("{{\"id\":{id},\"type\":\"invoice.paid\"}}"), status);
    let wide: Vec<u8> =
        "{\"id\":\"a\",\"type\":\"b\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    judged(vec![
        typed("\"1\"", 200),
        stripe("{\"ID\":\"evt_1\",\"type\":\"invoice.paid\"}", 422),
        typed("1", 422),
        typed("1.0", 422),
        typed("1e0", 422),
        typed("9007199254740993", 422),
        typed("\"\\ud800\"", 422),
        typed("\"a\\u0000b\"", 422),
        typed("\"\\u001b[2J\"", 422),
        typed("\"a\\u202eb\"", 422),
        typed("\"a\\r\\n{\\\"level\\\":\\\"info\\\"}\"", 422),
        typed(&format!("\"{}\"", "x".repeat(257)), 422),
        typed("null", 422),
        typed("[\"a\"]", 422),
        typed("{\"a\":1}", 422),
        typed("NaN", 422),
        typed("'a'", 422),
        typed("\"a\",\"id\":\"b\"", 422),
        typed("\"a\",\"\\u0069d\":\"b\"", 422),
        stripe("{\"id\":\"a\",\"type\":\"invoice.paid\"}{}", 422),
        stripe("/* c */{\"id\":\"a\",\"type\":\"invoice.paid\"}", 422),
        stripe("\u{feff}{\"id\":\"a\",\"type\":\"invoice.paid\"}", 422),
        stripe(wide, 422),
    ])
    .await;
}

#[tokio::test]
async fn a_form_has_one_payload_and_a_body_one_charset() {
    let slack = |kind: &str, body: &str, status| {
        let time = now().to_string();
        let tag = mac(SLACK_SECRET.as_bytes(), &[b"v0:", time.as_bytes(), b":", body.as_bytes()]);
        let signature = format!("v0={}", hex::encode(tag));
        let lines = [
            ("X-Slack-Request-Timestamp", time.as_bytes()),
            ("X-Slack-Signature", signature.as_bytes()),
            ("Content-Type", kind.as_bytes()),
        ];
        input(format!("{kind}: {body}"), request("/slack", &lines, body.as_bytes()), status)
    };
    let form = "application/x-www-form-urlencoded";
    let payload = "payload=%7B%22trigger_id%22%3A%221%22%2C%22type%22%3A%22shortcut%22%7D";
    let json = r#"{"event_id":"Ev1","event":{"type":"message"}}"#;
    judged(vec![
        slack(form, payload, 200),
        slack(form, &format!("{payload}&{payload}"), 422),
        slack(form, "payload=a&payload=b", 422),
        slack(form, json, 422),
        slack("application/json", json, 200),
        slack("application/json; charset=utf-7", json, 422),
        slack("application/json", payload, 422),
    ])
    .await;
}

/// A name is in ASCII: what other bytes of a header mean is anybody's guess. A header that nobody reads may hold them.
#[tokio::test]
async fn a_name_in_a_header_is_in_ascii() {
    let github = |delivery: &[u8], event: &[u8], status| {
        let lines = [
            ("X-Hub-Signature-256", GH.as_bytes()),
            ("X-GitHub-Delivery", delivery),
            ("X-GitHub-Event", event),
        ];
        input(delivery.escape_ascii().to_string(), request("/github", &lines, GH_BODY), status)
    };
    let standard = |id: &[u8], status| {
        let (time, body) = (now().to_string(), b"{\"type\":\"a\"}");
        let signature = format!("v1,{}", standard_mac(id, time.as_bytes(), body));
        let request = standard_request(id, time.as_bytes(), body, &signature);
        input(id.escape_ascii().to_string(), request, status)
    };
    let beside = |name: &str, value: &[u8], status| {
        let body = stripe_event(&format!("evt_{name}_{}", value.len()), "invoice.paid");
        input(name, signed_with(&[(name, value)], &body), status)
    };
    judged(vec![
        github(b"72d3162e", b"push", 200),
        github(b"72d3162e\xe9", b"push", 422),
        github("72d3162e\u{e9}".as_bytes(), b"push", 422),
        github(b"72d3162f", b"push\xe9", 422),
        github(b"72d3162f", b"\xe9", 422),
        standard(b"msg_1", 200),
        standard(b"msg_\xe9", 422),
        standard("msg_\u{e9}".as_bytes(), 422),
        beside("Content-Type", b"application/json", 200),
        beside("Content-Type", b"application/json; charset=\xe9", 422),
        beside("Content-Type", b"\xe9", 422),
        beside("X-Nobody-Reads-Me", b"\xe9", 200),
    ])
    .await;
}

/// Whatever the signature covers: nothing is inflated, so nothing can grow.
#[tokio::test]
async fn codings_are_refused_before_a_byte_is_read() {
    let plain = stripe_event("evt_1", "invoice.paid");
    // What gzip makes of it does not matter: nobody looks inside.
    let packed = [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &plain].concat();
    let coded = |coding: &str, body: &[u8], status| {
        input(coding, signed_with(&[("Content-Encoding", coding.as_bytes())], body), status)
    };
    let over_plain = {
        let time = now().to_string();
        let signature = format!("t={time},v1={}", stripe_mac(&time, &plain));
        let lines =
            [("Stripe-Signature", signature.as_bytes()), ("Content-Encoding", &b"gzip"[..])];
        input("signed before it was packed", request("/stripe", &lines, &packed), 415)
    };
    judged(vec![
        coded("gzip", &packed, 415),
        over_plain,
        coded("gzip, gzip", &packed, 415),
        coded("br", &packed, 415),
        coded("zstd", &packed, 415),
        coded("GZIP", &packed, 415),
        coded("identity", &plain, 200),
    ])
    .await;
}

#[tokio::test]
async fn paths_and_methods_are_exact() {
    let body = stripe_event("evt_1", "invoice.paid");
    let sent = |line: &str, status| {
        let text = signed_with(&[("X-HTTP-Method-Override", b"DELETE")], &body);
        let rest = &text[b"POST /stripe".len()..];
        let line = line.as_bytes();
        input(
            line.escape_ascii().to_string().chars().take(60).collect::<String>(),
            [line, rest].concat(),
            status,
        )
    };
    let mut inputs: Vec<_> = [
        "//stripe",
        "/./stripe",
        "/stripe/../stripe",
        "/x/../stripe",
        "/%73tripe",
        "/stripe%00",
        "/stripe;x=1",
        "/STRIPE",
        "/stripe/",
        "/stripe//",
        "/stripe/.",
        "/stripe%2f",
        "/stripe%20",
    ]
    .into_iter()
    .map(|path| sent(&format!("POST {path}"), 404))
    .collect();
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "Post", "HEAD"] {
        inputs.push(sent(&format!("{method} /stripe"), 405));
    }
    inputs.extend([
        sent("POST /stripe", 200),
        sent("POST /stripe?x", 200),
        sent("POST http://a/stripe", 200),
        sent("POST http://b/stripe", 400),
        sent("POST *", 400),
        sent(&format!("POST /{}", "y".repeat(9000)), 400),
        sent(&format!("POST /{}", "y".repeat(70_000)), 431),
    ]);
    let text = signed_with(&[], &body);
    let odd = [b"POST /stripe\xe9", &text[b"POST /stripe".len()..]].concat();
    inputs.push(input("a byte beyond ASCII", odd, 400));
    judged(inputs).await;
}

/// An app sees a POST, whatever the sender would like it to see.
#[tokio::test]
async fn a_method_cannot_be_overridden() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let overriding = signed_with(&[("X-HTTP-Method-Override", b"DELETE")], &body);
    assert_eq!(send(&gateway, &overriding).await, 200);
    let received = &app.received()[0];
    assert_eq!((received.method.as_str(), received.header("x-http-method-override")), ("POST", ""));
}

/// Documents that are deep or large in every way that a limit allows, and beyond it.
#[tokio::test]
async fn depth_and_size_cost_no_memory_beyond_the_body() {
    let app = Upstream::start().await;
    let rest = stripe_to(&app.url()) + "defaults: { source: { max_body: 16MiB } }\n";
    let gateway = Gateway::start(&rest).await;
    let idle = gateway.memory("VmRSS");
    let keys: String = (0..1_000_000).map(|n| format!("\"key-{n}\":1,")).collect();
    let megabyte = 1 << 20;
    for (what, body, status) in [
        ("brackets", "[".repeat(100_000), 422),
        ("braces", "{\"a\":".repeat(100_000), 422),
        (
            "deep",
            format!(
                "{{\"id\":\"deep\",\"type\":\"invoice.paid\",\"x\":{}{}}}",
                "[".repeat(100_000),
                "]".repeat(100_000)
            ),
            200,
        ),
        ("a deep id", format!("{{\"id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)), 422),
        (
            "a long key",
            format!("{{\"{}\":1,\"id\":\"key\",\"type\":\"invoice.paid\"}}", "k".repeat(megabyte)),
            200,
        ),
        ("many keys", format!("{{{keys}\"id\":\"many\",\"type\":\"invoice.paid\"}}"), 200),
        (
            "a long number",
            format!(
                "{{\"n\":{},\"id\":\"number\",\"type\":\"invoice.paid\"}}",
                "1".repeat(megabyte)
            ),
            200,
        ),
        (
            "a long number for an id",
            format!("{{\"id\":{},\"type\":\"invoice.paid\"}}", "1".repeat(megabyte)),
            422,
        ),
        (
            "a long id",
            format!("{{\"id\":\"{}\",\"type\":\"invoice.paid\"}}", "i".repeat(megabyte)),
            422,
        ),
        ("beyond the limit", " ".repeat(17 * megabyte), 413),
    ] {
        assert_eq!(send(&gateway, &signed_with(&[], body.as_bytes())).await, status, "{what}");
    }
    // The body of a million keys is nearly 15 MB, and is there once.
    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + 24 * 1024, "{peak} KiB, {idle} KiB when idle");
}

/// Headers that nobody signed choose neither a route nor an app: a body that was delivered under one type is a replay under
/// another, where the provider never sends it so.
#[tokio::test]
async fn a_type_cannot_be_swapped() {
    let (issues, deployments) = (Upstream::start().await, Upstream::start().await);
    let shop = "shopify-secret-0123456789";
    let gateway = Gateway::start(&format!(
        "sources:\n  github: {{ provider: github, secret: \"{GH_SECRET}\" }}\n  shopify: {{ provider: shopify, secret: {shop} }}\n\
         routes: [ {{ source: github, to: issues, events: \"issues*\" }}, {{ source: github, to: deployments }}, {{ source: shopify, to: issues }} ]\n\
         upstreams: {{ issues: \"{}\", deployments: \"{}\" }}\n",
        issues.url(),
        deployments.url()
    ))
    .await;
    let github = Provider::GitHub(GH_SECRET);
    let body = br#"{"n":1}"#;
    let send = |kind: &'static str, id: &'static str| {
        let headers = github.sign(id, kind, body);
        let gateway = &gateway;
        async move { gateway.post("/github", &headers, body).await.outcome().to_owned() }
    };
    assert_eq!(send("issues", "guid-1").await, "accepted");
    assert_eq!(send("deployment", "guid-2").await, "suspected_replay");
    assert_ne!(send("deployment", "guid-1").await, "accepted");
    assert_eq!((issues.count(), deployments.count()), (1, 0));

    // Shopify sends equal bodies under several topics, so that a topic is part of the id; a shop is part of the key.
    let shopify = |id: &str, topic: &str, domain: &str| {
        let mut headers = Provider::Shopify("shopify-secret-0123456789").sign(id, topic, body);
        headers.retain(|(name, _)| name != "x-shopify-shop-domain");
        headers.push(("x-shopify-shop-domain".into(), domain.into()));
        headers
    };
    let mut outcomes = Vec::new();
    for headers in [
        shopify("1", "orders/create", "one.myshopify.com"),
        shopify("1", "orders/create", "one.myshopify.com"),
        shopify("2", "orders/create", "one.myshopify.com"),
        shopify("1", "orders/create", "other.myshopify.com"),
    ] {
        outcomes.push(gateway.post("/shopify", &headers, body).await.outcome().to_owned());
    }
    assert_eq!(outcomes, ["accepted", "duplicate", "suspected_replay", "suspected_replay"]);
    assert_eq!(issues.count(), 2);
}

/// A captured delivery under new ids, as often as somebody likes.
#[tokio::test]
async fn a_thousand_fresh_ids_are_one_forward() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources: {{ github: {{ provider: github, secret: \"{GH_SECRET}\" }} }}\n\
         routes: [ {{ source: github, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    ))
    .await;
    let github = Provider::GitHub(GH_SECRET);
    let body = br#"{"n":1}"#;
    for n in 0..1000 {
        let answer =
            gateway.post("/github", &github.sign(&format!("guid-{n}"), "push", body), body).await;
        let expected = if n == 0 { "accepted" } else { "suspected_replay" };
        assert_eq!((answer.status, answer.outcome()), (200, expected));
    }
    assert_eq!(app.count(), 1);
    let series = "gatepost_requests_total{source=\"github\",outcome=\"suspected_replay\"}";
    assert_eq!(gateway.metric(series).await, 999.0, "an operator can be told");
}
