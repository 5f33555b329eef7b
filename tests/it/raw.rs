//! Requests to sources of every kind, byte for byte, and the statuses that answer them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    STRIPE,
    world::{
        Gateway, PATIENCE, Upstream,
        gateway::write_private,
        provider::{mac, now, stripe_event},
    },
};

/// Secret, body and signature of GitHub's documented example.
pub const GH_SECRET: &str = "It's a Secret to Everybody";
pub const GH_BODY: &[u8] = b"Hello, World!";
pub const GH: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
pub const GH_BAD: &str = "sha256=0000000000000000000000000000000000000000000000000000000000000000";
/// The secret of Standard Webhooks' documented example.
pub const SW_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const SLACK_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
pub const OTHER_SECRET: &str = "the secret of another source";

/// What is sent, and the status that answers it.
pub struct Input {
    what: String,
    request: Vec<u8>,
    status: u16,
}

pub type Lines<'a> = [(&'a str, &'a [u8])];

/// A request with these lines, whatever bytes are in them.
pub fn request(target: &str, lines: &Lines<'_>, body: &[u8]) -> Vec<u8> {
    let mut text =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n").into_bytes();
    for (name, value) in lines {
        text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    text.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
    text.extend(body);
    text
}

pub fn input(what: impl Into<String>, request: Vec<u8>, status: u16) -> Input {
    Input { what: what.into(), request, status }
}

/// A request to GitHub's source with this signature over the documented body.
pub fn github(signature: impl AsRef<[u8]>, status: u16) -> Input {
    let signature = signature.as_ref();
    let lines = [("X-Hub-Signature-256", signature), DELIVERY[0], DELIVERY[1]];
    input(signature.escape_ascii().to_string(), request("/github", &lines, GH_BODY), status)
}

pub const DELIVERY: [(&str, &[u8]); 2] =
    [("X-GitHub-Delivery", b"guid"), ("X-GitHub-Event", b"push")];

/// A request to Stripe's source: `{T}` is now, `{G}` the right signature for it, `{B}` a wrong one.
pub fn stripe(signature: &str, status: u16) -> Input {
    stripe_at(now(), signature, status)
}

pub fn stripe_at(time: u64, signature: &str, status: u16) -> Input {
    let body = stripe_event(
        &format!("evt_{}", hex::encode(mac(b"id", &[signature.as_bytes()]))),
        "invoice.paid",
    );
    let time = time.to_string();
    let good = stripe_mac(&time, &body);
    let written =
        signature.replace("{T}", &time).replace("{G}", &good).replace("{B}", &"0".repeat(64));
    let lines = [("Stripe-Signature", written.as_bytes())];
    input(signature.chars().take(80).collect::<String>(), request("/stripe", &lines, &body), status)
}

pub fn stripe_mac(time: &str, body: &[u8]) -> String {
    hex::encode(mac(STRIPE.as_bytes(), &[time.as_bytes(), b".", body]))
}

/// A request to Standard Webhooks' source under an id of its own: `{G}` is the right signature, `{B}` a wrong one.
pub fn standard(signature: &str, status: u16) -> Input {
    let id = format!("msg_{}", hex::encode(mac(b"id", &[signature.as_bytes()])));
    let good = standard_mac(id.as_bytes(), now().to_string().as_bytes(), b"{\"type\":\"a\"}");
    let written = signature.replace("{G}", &good).replace("{B}", &STANDARD.encode([0; 32]));
    let request = standard_request(
        id.as_bytes(),
        now().to_string().as_bytes(),
        b"{\"type\":\"a\"}",
        &written,
    );
    input(signature, request, status)
}

pub fn standard_mac(id: &[u8], time: &[u8], body: &[u8]) -> String {
    let key = STANDARD.decode(&SW_SECRET["whsec_".len()..]).unwrap();
    STANDARD.encode(mac(&key, &[id, b".", time, b".", body]))
}

pub fn standard_request(id: &[u8], time: &[u8], body: &[u8], signature: &str) -> Vec<u8> {
    let lines = [
        ("webhook-id", id),
        ("webhook-timestamp", time),
        ("webhook-signature", signature.as_bytes()),
    ];
    request("/standard", &lines, body)
}

pub fn slack(signature: &str, status: u16) -> Input {
    let body = br#"{"event_id":"Ev1","event":{"type":"message"}}"#;
    let time = now().to_string();
    let good = hex::encode(mac(SLACK_SECRET.as_bytes(), &[b"v0:", time.as_bytes(), b":", body]));
    let written = signature.replace("{G}", &good);
    let lines =
        [("X-Slack-Request-Timestamp", time.as_bytes()), ("X-Slack-Signature", written.as_bytes())];
    input(signature, request("/slack", &lines, body), status)
}

/// Sends each on a connection of its own, and holds the answers against what they must be.
pub async fn judged(inputs: Vec<Input>) {
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_private(&dir.path().join("old"), "the secret before that one\n");
    write_private(&dir.path().join("older"), "a secret that has expired");
    let gateway = Gateway::start_in(dir, &SOURCES.replace("APP", &app.url())).await;
    let mut wrong = Vec::new();
    for Input { what, request, status } in &inputs {
        let answered = send(&gateway, request).await;
        if answered != *status {
            wrong.push(format!("{what}: {answered} and not {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let taken = inputs.iter().filter(|input| input.status == 200).count();
    assert!(app.count() <= taken, "{} reached the app, of {taken} that may", app.count());
    let seen = gateway.records().iter().filter(|record| record["kind"] == "attempt").count();
    assert_eq!(seen, app.count());
}

pub const SOURCES: &str = r#"
sources:
  github: { provider: github, secret: "It's a Secret to Everybody" }
  stripe: { provider: stripe, secret: whsec_test_0123456789abcdefghijklmnop }
  standard: { provider: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw }
  slack: { provider: slack, secret: 8f742231b10e8888abcd99yyyzzz85a5 }
  other: { provider: github, secret: the secret of another source }
  rotating:
    provider: github
    secret:
      - the newest secret of all
      - { file: "{dir}/old", expires: "2099-01-01" }
      - { file: "{dir}/older", expires: "2020-01-01" }
routes:
  - { source: github, to: app }
  - { source: stripe, to: app }
  - { source: standard, to: app }
  - { source: slack, to: app }
  - { source: other, to: app }
  - { source: rotating, to: app }
upstreams: { app: "APP" }
"#;

/// The status of the answer.
pub async fn send(gateway: &Gateway, request: &[u8]) -> u16 {
    send_to(gateway.address, request).await
}

pub async fn send_to(address: std::net::SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    drop(stream.write_all(request).await); // it may be refused before its end
    let mut heard = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end");
    let head = String::from_utf8_lossy(&heard).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.unwrap_or_else(|| panic!("{end:?} {head:?}")).parse().unwrap()
}
