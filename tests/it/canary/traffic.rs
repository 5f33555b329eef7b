//! Senders that are honest, mistaken or hostile, and the apps behind the gateway.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::kept::{
    BASIC, GITHUB, GITLAB, HEX, KEYS, QUERY, SLACK, STANDARD_WEBHOOKS, STRIPE_NEW, STRIPE_OLD,
    captured, lasting,
};
use crate::{
    keys::{Answers, Publisher},
    leak::{Canary, secret},
    world::{
        Ca, Dialer, PATIENCE, Provider, Reply, Speaks, Upstream,
        gateway::Answer,
        provider::{Headers, mac, now, stripe_event},
        sender::Sender,
    },
};

/// Apps: one that is sent what HMAC signs, one that our certificate and a token of its own are shown to, and one whose senders
/// show tokens, which pass as the senders show them.
pub struct Apps {
    pub app: Upstream,
    pub secure: Upstream,
    pub tokens: Upstream,
    /// Who has keys, and shows them to nobody.
    pub keys: Publisher,
}

impl Apps {
    pub async fn start(ca: &Ca) -> Self {
        let tls = ca.server("localhost", &["h2", "http/1.1"], true);
        Self {
            app: Upstream::start().await,
            secure: Upstream::speaking(Speaks { h2: true, tls: Some(tls) }).await,
            tokens: Upstream::start().await,
            keys: Publisher::start(ca, Answers::new()).await,
        }
    }
}

/// What reached an app.
pub fn received(app: &Upstream) -> Vec<u8> {
    let mut all = Vec::new();
    for request in app.received() {
        all.extend_from_slice(format!("{} {}\n", request.method, request.path).as_bytes());
        for (name, value) in &request.headers {
            all.extend_from_slice(name.as_str().as_bytes());
            all.extend_from_slice(&[b": ", value.as_bytes(), b"\n"].concat());
        }
        all.extend_from_slice(&request.body);
    }
    all
}

pub fn answered(all: &mut Vec<u8>, answer: &Answer) {
    all.extend_from_slice(format!("{} {:?}\n", answer.status, answer.headers).as_bytes());
    all.extend_from_slice(&answer.body);
}

/// Which events senders send, and how it ends.
pub struct Traffic {
    pub dialers: [Dialer; 2],
    pub answers: Vec<u8>,
    /// Bodies and signatures of refused requests.
    pub refused: Vec<Canary>,
}

impl Traffic {
    pub async fn post(&mut self, path: &str, headers: &Headers, body: &[u8]) -> Answer {
        let dialer = &self.dialers[body.len() % 2];
        let answer = Sender::new(dialer).post(path, headers, body).await.unwrap();
        answered(&mut self.answers, &answer);
        answer
    }

    /// What the source accepts, and its twin.
    pub async fn honest(&mut self, path: &str, headers: &Headers, body: &[u8]) {
        let twins = [self.post(path, headers, body).await, self.post(path, headers, body).await];
        let outcomes = twins.each_ref().map(|answer| (answer.status, answer.outcome()));
        assert_eq!(outcomes, [(200, "accepted"), (200, "duplicate")], "{path}");
    }

    /// What is refused. Its body and signature are marked.
    pub async fn refused(&mut self, status: u16, path: &str, headers: &Headers, body: &str) {
        let mark = format!("refused-body-{:04}-of-{}", self.refused.len(), path.len());
        let body = body.replace("MARK", &mark);
        self.refused.push(Canary::new(format!("a body that {path} refused"), mark));
        for (name, value) in headers.iter().filter(|(_, value)| value.len() >= 32) {
            self.refused.push(Canary::new(format!("{name} that {path} refused"), value));
        }
        assert_eq!(self.post(path, headers, body.as_bytes()).await.status, status, "{path}");
    }
}

pub fn one(name: &str, value: impl Into<String>) -> Headers {
    vec![(name.to_owned(), value.into())]
}

pub fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","type":"paid"}}"#)
}

/// Signed by the secret of `hex`.
pub fn hex_signed(body: &[u8]) -> Headers {
    one("x-signature", hex::encode(mac(&secret(HEX).as_bytes()[..30], &[body])))
}

pub fn basic() -> Headers {
    let credentials = STANDARD.encode(format!("gate:{}", secret(BASIC)));
    one("authorization", format!("Basic {credentials}"))
}

pub fn gitlab(id: &str) -> Headers {
    let mut headers = one("x-gitlab-token", secret(GITLAB));
    headers.extend(one("idempotency-key", id));
    headers.extend(one("x-gitlab-event", "Push Hook"));
    headers
}

/// A path with the token in its query.
pub fn query() -> String {
    let token: String = form_urlencoded::byte_serialize(secret(QUERY).as_bytes()).collect();
    format!("/query?token={token}")
}

/// Whose sources accept it: path, headers, body.
pub type Signed = (String, Headers, Vec<u8>);

/// An event of each source, and one by a secret that goes.
pub fn signed_events() -> Vec<Signed> {
    let body = event("1").into_bytes();
    let stripe = |number| {
        let body = stripe_event(&format!("evt_{number}"), "invoice.paid");
        ("/stripe".into(), Provider::Stripe(lasting(number)).sign("", "", &body), body)
    };
    let by = |path: &str, headers| (path.into(), headers, body.clone());
    let slack = br#"{"event_id":"Ev1","event":{"type":"message"}}"#.to_vec();
    let key: &[u8] = &lasting(STANDARD_WEBHOOKS).as_bytes()[..30];
    vec![
        stripe(STRIPE_NEW),
        stripe(STRIPE_OLD),
        by("/github", Provider::GitHub(lasting(GITHUB)).sign("guid-1", "push", &body)),
        ("/slack".into(), Provider::Slack(lasting(SLACK)).sign("", "", &slack), slack),
        by("/standard", Provider::StandardWebhooks(key).sign("msg_1", "", &body)),
        by("/gitlab", gitlab("id-1")),
        by("/basic", basic()),
        by("/hex", hex_signed(&body)),
        by(&query(), Headers::new()),
    ]
}

pub async fn honest_events(traffic: &mut Traffic) {
    for (path, headers, body) in signed_events() {
        traffic.honest(&path, &headers, &body).await;
    }
}

/// Events that are signed, and yet not delivered.
pub async fn broken_events(traffic: &mut Traffic, apps: &Apps) {
    let stripe = |body: &[u8]| Provider::Stripe(lasting(STRIPE_NEW)).sign("", "", body);
    let other = stripe_event("evt_1", "invoice.voided");
    assert_eq!(
        traffic.post("/stripe", &stripe(&other), &other).await.outcome(),
        "same_id_other_body"
    );
    let unrouted = stripe_event("evt_u", "customer.created");
    assert_eq!(traffic.post("/stripe", &stripe(&unrouted), &unrouted).await.outcome(), "ignored");
    let nameless = b"{\"id\":7}";
    assert_eq!(traffic.post("/stripe", &stripe(nameless), nameless).await.status, 422);
    let replay = Provider::GitHub(lasting(GITHUB)).sign("guid-2", "push", event("1").as_bytes());
    let replayed = traffic.post("/github", &replay, event("1").as_bytes()).await;
    assert_eq!(replayed.outcome(), "suspected_replay");
    for (number, status) in [(500, 502), (503, 503), (422, 422)] {
        apps.app.answer(Reply::status(number));
        let body = event(&format!("fails-{number}"));
        let answer = traffic.post("/hex", &hex_signed(body.as_bytes()), body.as_bytes()).await;
        assert_eq!(answer.status, status);
    }
    apps.app.answer(Reply::status(200));
}

/// A secret that comes from a provider while somebody waits for it, and is used; keys that are asked for with another.
pub async fn secrets_on_their_way(traffic: &mut Traffic, apps: &Apps) {
    let (offer, body) = (one("x-hook-secret", captured()), event("1"));
    let mut sender = Sender::new(&traffic.dialers[0]);
    let taken = sender.post("/hooks", &offer, b"{}").await.unwrap();
    assert_eq!((taken.status, &*taken.body), (200, &b"taken"[..]));
    let signature = hex::encode(mac(captured().as_bytes(), &[body.as_bytes()]));
    traffic.honest("/hooks", &one("x-hook-signature", signature), body.as_bytes()).await;
    let mut headers = one("x-signature", STANDARD.encode([7; 64]));
    headers.extend(one("x-key", "nobodys"));
    assert_eq!(traffic.post("/keyed", &headers, body.as_bytes()).await.status, 503);
    assert!(apps.keys.heads.lock().unwrap()[0].contains(&secret(KEYS)), "it was shown there");
}

/// Requests that are not believed: with credentials that are wrong, or right and in the wrong place.
pub async fn refused_requests(traffic: &mut Traffic) {
    let body = r#"{"id":"MARK","type":"invoice.paid"}"#;
    let wrong = b"signed by somebody else";
    for (path, headers) in [
        ("/stripe", Provider::Stripe("another secret of somebody").sign("", "", wrong)),
        ("/stripe", Provider::Stripe(lasting(STRIPE_NEW)).sign_at(now() - 4000, "", "", wrong)),
        ("/stripe", one("authorization", format!("Bearer {}", secret(STRIPE_NEW)))),
        ("/github", Provider::GitHub("another secret of somebody").sign("g", "push", wrong)),
        ("/slack", Provider::Slack("another secret of somebody").sign("", "", wrong)),
        ("/standard", Provider::StandardWebhooks(b"another key").sign("msg", "", wrong)),
        ("/gitlab", one("x-gitlab-token", format!("{}x", secret(GITLAB)))),
        ("/gitlab", basic()),
        ("/basic", one("authorization", format!("Basic {}", STANDARD.encode("gate:not this one")))),
        ("/basic", one("authorization", format!("Bearer {}", secret(BASIC)))),
        ("/hex", hex_signed(wrong)),
        ("/hex", one("cookie", secret(HEX))),
        ("/query?token=another-token-of-somebody", Headers::new()),
        ("/query", one("x-token", secret(QUERY))),
    ] {
        traffic.refused(401, path, &headers, body).await;
    }
    traffic.refused(404, "/nobody", &gitlab("id-2"), body).await;
    traffic.refused(415, "/hex", &one("content-encoding", "gzip"), body).await;
    let long = format!("MARK{}", "x".repeat(70_000));
    traffic.refused(413, "/hex", &hex_signed(wrong), &long).await;
}

/// What is no HTTP, with secrets in it.
pub async fn rubbish(traffic: &mut Traffic) {
    let secret = secret(GITLAB);
    for said in [
        format!("POST /gitlab HTTP/1.1\nHost: localhost\nX-Gitlab-Token: {secret}\n\n"),
        format!("POST /gitlab HTTP/1.1\r\nHost: localhost\r\nX_Gitlab_Token: {secret}\r\n\r\n"),
        format!("POST /gitlab?{secret} HTTP/1.1\r\nX-Gitlab-Token: {secret}\r\n\r\n"),
        format!("{secret}\r\n\r\n"),
        format!(
            "GET /gitlab?token=x HTTP/1.1\r\nHost: localhost\r\nX-Gitlab-Token: {secret}\r\n\r\n"
        ),
        format!(
            "POST /gitlab HTTP/1.1\r\nHost: localhost\r\nX-Gitlab-Token: {secret}\r\nContent-Length: 9\r\n\r\n{secret}"
        ),
    ] {
        let mut stream = traffic.dialers[0].connect().await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end"));
        traffic.answers.extend(heard);
    }
    // Not even TLS.
    let mut stream = tokio::net::TcpStream::connect(traffic.dialers[0].address).await.unwrap();
    stream.write_all(secret.as_bytes()).await.unwrap();
    drop(stream.shutdown().await);
    let mut heard = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end"));
    traffic.answers.extend(heard);
}
