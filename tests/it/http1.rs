//! HTTP/1 as senders write it by hand: half-closed, waiting for leave, and with headers that are not theirs to set.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, PATIENCE, Provider, Upstream, eventually,
        provider::{Headers, stripe_event},
    },
};

/// A connection that is written by hand.
struct Raw(TcpStream);

impl Raw {
    async fn to(gateway: &Gateway) -> Self {
        Self(TcpStream::connect(gateway.address).await.unwrap())
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.unwrap();
    }

    /// Everything until the end.
    async fn rest(&mut self) -> String {
        let mut said = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut said)).await;
        end.expect("an end").unwrap();
        String::from_utf8(said).unwrap()
    }

    /// The next head.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.0.read_u8()).await;
            head.push(byte.expect("an answer").unwrap());
        }
        String::from_utf8(head).unwrap()
    }
}

/// A head of a POST to `/stripe`, with `lines` in it.
fn head(signature: &Headers, lines: &str) -> String {
    let signature: String =
        signature.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST /stripe HTTP/1.1\r\nHost: a\r\n{signature}{lines}\r\n")
}

fn signed(body: &[u8], lines: &str) -> String {
    head(&Provider::Stripe(STRIPE).sign("", "", body), lines)
}

#[tokio::test]
async fn who_half_closes_after_the_body_still_gets_the_answer() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for n in 0..4 {
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let (length, text) = (body.len(), String::from_utf8(body.clone()).unwrap());
        let (framing, framed) = match n % 2 {
            0 => (format!("Content-Length: {length}\r\n"), text),
            _ => (
                "Transfer-Encoding: chunked\r\n".to_owned(),
                format!("{length:x}\r\n{text}\r\n0\r\n\r\n"),
            ),
        };
        let mut sender = Raw::to(&gateway).await;
        sender.send(signed(&body, &framing) + &framed).await;
        sender.0.shutdown().await.unwrap();
        eventually("it is at the app", || async { app.count() == n + 1 }).await;
        app.open(1);
        let said = sender.rest().await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        assert!(said.contains("\r\nwebhook-outcome: accepted\r\n"), "{said}");
    }
}

#[tokio::test]
async fn who_half_closes_in_the_middle_hears_so_and_is_not_believed() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let text = std::str::from_utf8(&body).unwrap();
    let long = format!("Content-Length: {}\r\n", body.len() + 1);
    let chunk = format!("{:x}\r\n{text}\r\n", body.len());
    for torn in [
        signed(&body, &long) + text,
        signed(&body, "Transfer-Encoding: chunked\r\n") + &chunk,
        signed(&body, "Transfer-Encoding: chunked\r\n") + &chunk + "0\r\n",
    ] {
        let mut sender = Raw::to(&gateway).await;
        sender.send(torn).await;
        sender.0.shutdown().await.unwrap();
        let said = sender.rest().await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        assert_eq!(said.matches("\r\nwebhook-receipt: req_").count(), 1, "{said}");
    }
    // Nothing to answer: no request was said.
    for torn in ["", "POST /stripe HTTP/1.1\r\nHost: a\r\n"] {
        let mut sender = Raw::to(&gateway).await;
        sender.send(torn).await;
        sender.0.shutdown().await.unwrap();
        assert_eq!(sender.rest().await, "");
    }
    assert_eq!(app.count(), 0);
}

/// What hyper answers by itself is counted with what else could not be read, and its receipt leads to a line of the log.
#[tokio::test]
async fn what_is_no_http_is_counted_and_logged() {
    let gateway = Gateway::start(&stripe_to("http://127.0.0.1:9/")).await;
    let counted = "gatepost_requests_total{source=\"_unknown\",outcome=\"unreadable\"}";
    let large = format!("POST /stripe HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    for (count, head, status, reason) in [
        (1.0, "SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, "it is no HTTP"),
        (2.0, &large, 431, "its head is too large"),
    ] {
        let mut sender = Raw::to(&gateway).await;
        sender.send(head).await;
        let said = sender.rest().await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        let receipt = said.split("webhook-receipt: ").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(gateway.metric(counted).await, count, "{reason}");
        eventually("it is in the log", || async {
            let told = format!("\"status\":{status},");
            let of_it = |line: &&String| line.contains(receipt) && line.contains(&told);
            gateway.log().iter().find(of_it).is_some_and(|line| line.contains(reason))
        })
        .await;
    }
}

#[tokio::test]
async fn leave_to_send_a_body_is_given_to_whom_it_would_be_read_from() {
    let app = Upstream::closed().await;
    let limits = "limits: { requests_in_flight: 1 }\n";
    let gateway = Gateway::start(&format!("{}{limits}", stripe_to(&app.url()))).await;
    let expecting = |first: &str, lines: &str| {
        format!("{first} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{lines}\r\n")
    };
    for (first, lines, status) in [
        ("POST /nothing", "Content-Length: 2\r\n", 404),
        ("PUT /stripe", "Content-Length: 2\r\n", 405),
        ("POST /stripe", "Content-Length: 99999999\r\n", 413),
        ("POST /stripe", "Content-Length: 2\r\nContent-Encoding: gzip\r\n", 415),
        ("POST /stripe", "Content-Length: 2\r\nContent-Length: 2\r\n", 400),
        ("POST /stripe", "Content-Length: 2\r\nX_Y: z\r\n", 400),
        ("POST /stripe", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
    ] {
        let mut sender = Raw::to(&gateway).await;
        // What is no body is no request either.
        sender.send(expecting(first, lines)).await;
        let said = sender.rest().await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{first} {lines}: {said}");
        assert!(said.contains("\r\nconnection: close\r\n"), "{first} {lines}: {said}");
    }

    let body = stripe_event("evt_1", "invoice.paid");
    let lines = expect_and_length(&body);
    let mut sender = Raw::to(&gateway).await;
    sender.send(signed(&body, &lines)).await;
    assert_eq!(sender.head().await, CONTINUE);
    sender.send(&body).await;
    eventually("it is at the app", || async { app.count() == 1 }).await;
    let mut other = Raw::to(&gateway).await;
    other.send(signed(&body, &lines)).await;
    let said = other.rest().await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("\r\nretry-after: "), "{said}");
    app.open(1);
    assert!(sender.head().await.starts_with("HTTP/1.1 200 "));
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

fn expect_and_length(body: &[u8]) -> String {
    format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len())
}

#[tokio::test]
async fn who_was_given_leave_and_used_it_goes_on_and_a_stranger_does_not() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let lines = expect_and_length(&body);
    let mut sender = Raw::to(&gateway).await;
    for outcome in ["accepted", "duplicate"] {
        sender.send(signed(&body, &lines)).await;
        assert_eq!(sender.head().await, CONTINUE);
        sender.send(&body).await;
        let (head, outcome) = (sender.head().await, format!("webhook-outcome: {outcome}\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&outcome), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut said = vec![0; length.unwrap().parse().unwrap()];
        sender.0.read_exact(&mut said).await.unwrap();
    }
    let mut stranger = Raw::to(&gateway).await;
    stranger.send(head(&Vec::new(), &lines)).await;
    assert_eq!(stranger.head().await, CONTINUE);
    stranger.send(&body).await;
    assert!(stranger.rest().await.starts_with("HTTP/1.1 401 "));
}

/// Headers that only we may set, or that would change who an app believes was calling; in spellings that apps take for them.
const NOT_THEIRS: &[&str] = &[
    "Gatepost-Verified: true; scheme=trust-me",
    "GATEPOST-VERIFIED: true",
    "gatepost-verified:true",
    "Gatepost-Event-Id: evt_spoofed",
    "Gatepost-Receipt: req_spoofed",
    "Gatepost-Whatever: spoofed",
    "Forwarded: for=127.0.0.1;by=spoofed",
    "X-Forwarded: for=127.0.0.1",
    "X-Forwarded-Host: spoofed.example",
    "X-FORWARDED-PORT: 1",
    "X-Forwarded-Prefix: /spoofed",
    "X-Real-IP: 127.0.0.1",
    "X-Client-IP: 127.0.0.1",
    "X-Cluster-Client-IP: 127.0.0.1",
    "True-Client-IP: 127.0.0.1",
    "CF-Connecting-IP: 127.0.0.1",
    "Fastly-Client-IP: 127.0.0.1",
    "Via: 1.1 spoofed",
    "Cookie: spoofed=1",
    "Authorization: Bearer spoofed",
    "Proxy-Authorization: Basic spoofed",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Tracestate: spoofed=1",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-Method-Override: DELETE",
    "X-Original-URL: /spoofed",
    "X-Original-URI: /spoofed",
    "X-Rewrite-URL: /spoofed",
    "Proxy: http://spoofed.example",
    "X-Original-Host: spoofed.example",
    "X-Host: spoofed.example",
    "CE-Id: spoofed",
    "Keep-Alive: timeout=spoofed",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: X-Spoofed",
    "Upgrade: spoofed",
    "Expect: spoofed",
    "X-Beyond: caf\u{e9}",
];

#[tokio::test]
async fn what_is_not_a_senders_to_say_does_not_reach_the_app() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let spoofed: String = NOT_THEIRS.iter().map(|line| format!("{line}\r\n")).collect();
    let lines = format!(
        "{spoofed}Connection: close, Content-Length, Gatepost-Verified, Gatepost-Event-Id, Host, X-Hop\r\nConnection: X-Other-Hop,, \"\r\n\
         X-Hop: spoofed\r\nx-other-hop: spoofed\r\nX-Kept: 1\r\nContent-Length: {}\r\n",
        body.len()
    );
    let mut sender = Raw::to(&gateway).await;
    let mut request = signed(&body, &lines).replace('\u{e9}', "\u{1}").into_bytes();
    request.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xe9);
    sender.send(&request).await;
    sender.send(&body).await;
    let said = sender.rest().await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");

    let received = &app.received()[0];
    let mut seen = BTreeMap::new();
    for (name, value) in &received.headers {
        *seen.entry(name.as_str()).or_insert(0) += 1;
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        assert!(!value.contains("spoofed") && !value.contains("trust-me"), "{name}: {value}");
    }
    let ours = [
        "content-length",
        "forwarded",
        "gatepost-attempt",
        "gatepost-event-id",
        "gatepost-event-type",
        "gatepost-provider-id",
        "gatepost-received-at",
        "gatepost-receipt",
        "gatepost-source",
        "gatepost-verified",
        "host",
        "stripe-signature",
        "user-agent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-kept",
    ];
    assert_eq!(seen, BTreeMap::from(ours.map(|name| (name, 1))));
    assert_eq!(received.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(received.header("host"), app.address.to_string());
    assert!(received.header("gatepost-verified").starts_with("true; scheme=hmac-sha256"));
}

#[tokio::test]
async fn trailers_end_here() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n"].concat();
    let trailers = "Content-Length: 9\r\nGatepost-Verified: spoofed\r\nX-Spoofed: 1\r\n\r\n";
    let announced = "Trailer: X-Spoofed\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    let mut sender = Raw::to(&gateway).await;
    sender.send(signed(&body, announced)).await;
    sender.send([&chunk, trailers.as_bytes()].concat()).await;
    let said = sender.rest().await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");

    let received = &app.received()[0];
    assert_eq!(received.body, body);
    assert_eq!(received.header("content-length"), body.len().to_string());
    assert!(received.header("gatepost-verified").starts_with("true; scheme=hmac-sha256"));
    for (name, value) in &received.headers {
        assert!(!["trailer", "transfer-encoding", "x-spoofed"].contains(&name.as_str()), "{name}");
        assert!(value != "spoofed" && value != "9", "{name}");
    }
}

#[tokio::test]
async fn spellings_that_only_some_apps_read_are_refused() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    for name in [
        "Gatepost_Verified",
        "gatepost-verified_",
        "X_Forwarded_For",
        "X_Real_IP",
        "Content_Length",
        "Gatepost-Verified ",
        " Gatepost-Verified",
        "Gatepost-Verified\t",
        "Gatepost\u{b}Verified",
        "Gatepost\u{0}Verified",
        "Gatepost Verified",
        "Gatepost(Verified)",
        "\"Gatepost-Verified\"",
    ] {
        let lines = format!("{name}: true\r\nContent-Length: {}\r\n", body.len());
        let mut sender = Raw::to(&gateway).await;
        sender.send(signed(&body, &lines)).await;
        sender.send(&body).await;
        let said = sender.rest().await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{name:?}: {said}");
    }
    assert_eq!(app.count(), 0);
}
