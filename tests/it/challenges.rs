//! Challenges over sockets: methods that only some sources take, and the headers of a reply.

use crate::{
    GITHUB,
    world::{
        Gateway, Upstream, eventually,
        gateway::{Answer, records},
        provider::mac,
    },
};

async fn gateway(app: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "sources:\n\
         \x20 echo:\n    provider: custom\n    secret: \"a-secret-of-its-own-0123456789\"\n\
         \x20   params: {{ origins: \"a.example b.example\" }}\n\
         \x20   verify: {{ signature: {{ header: X-Signature }}, signed: \"{{body}}\" }}\n\
         \x20   event: {{ id: \"{{body|sha256_hex}}\", type: event }}\n\
         \x20   handshake:\n\
         \x20     - when: {{ method: GET, query: challenge }}\n        reply: {{ content_type: text/plain, body: \"{{query:challenge}}\" }}\n\
         \x20     - when: {{ method: HEAD }}\n\
         \x20     - when: {{ method: OPTIONS, header: WebHook-Request-Origin }}\n\
         \x20       check: [{{ left: \"{{header:WebHook-Request-Origin}}\", one_of: \"{{param:origins}}\" }}]\n\
         \x20       reply: {{ headers: {{ WebHook-Allowed-Origin: \"{{header:WebHook-Request-Origin}}\", Allow: POST }} }}\n\
         \x20 stripe: {{ provider: stripe, secret: \"whsec_test_0123456789abcdefghijklmnop\" }}\n\
         routes: [ {{ source: echo, to: app }}, {{ source: stripe, to: app }} ]\nupstreams: {{ app: {{ url: \"{}\" }} }}\n",
        app.url()
    ))
    .await
}

async fn ask(gateway: &Gateway, method: &str, path: &str, header: (&str, &str)) -> Answer {
    gateway.request(method, path, &vec![(header.0.into(), header.1.into())], b"").await
}

#[tokio::test]
async fn other_methods_reach_only_sources_that_have_such_a_challenge() {
    let app = Upstream::start().await;
    let gateway = gateway(&app).await;
    const NO: (&str, &str) = ("x-nothing", "1");
    let echoed = ask(&gateway, "GET", "/echo?challenge=abc123", NO).await;
    assert_eq!((echoed.status, &echoed.body[..]), (200, &b"abc123"[..]));
    assert_eq!(echoed.header("content-type"), "text/plain");
    assert_eq!(echoed.header("x-content-type-options"), "nosniff");
    assert_eq!(echoed.header("cache-control"), "no-store");
    assert_eq!((echoed.header("content-length"), echoed.header("transfer-encoding")), ("6", ""));
    assert_eq!((echoed.header("set-cookie"), echoed.outcome()), ("", ""));
    let probed = ask(&gateway, "HEAD", "/echo", NO).await;
    assert_eq!((probed.status, probed.body.len()), (200, 0));
    let granted = ask(&gateway, "OPTIONS", "/echo", ("webhook-request-origin", "b.example")).await;
    assert_eq!((granted.status, granted.header("webhook-allowed-origin")), (200, "b.example"));
    assert_eq!(granted.header("allow"), "POST");
    let denied =
        ask(&gateway, "OPTIONS", "/echo", ("webhook-request-origin", "evil.example")).await;
    assert_eq!((denied.status, denied.header("webhook-allowed-origin")), (401, ""));
    for (method, path, header) in [
        ("GET", "/echo", NO),
        ("GET", "/echo?challenge=%3Cscript%3E", NO),
        ("GET", "/echo?challenge=a&challenge=b", NO),
        ("OPTIONS", "/echo", ("origin", "https://x.example")),
        ("PUT", "/echo?challenge=abc", NO),
        ("DELETE", "/echo", NO),
        ("GET", "/stripe?challenge=abc", NO),
        ("HEAD", "/stripe", NO),
        ("OPTIONS", "/stripe", ("webhook-request-origin", "a.example")),
    ] {
        let refused = ask(&gateway, method, path, header).await;
        assert_eq!(refused.status, 405, "{method} {path}");
    }
    // A browser gets no page of ours with anything of its own in it.
    let browsed = ask(&gateway, "GET", "/echo?challenge=%3Cb%3E", ("accept", "text/html")).await;
    assert_eq!(browsed.status, 405);
    assert!(!String::from_utf8_lossy(&browsed.body).contains("<b>"));
    assert_eq!(app.count(), 0);
    let answered = "gatepost_requests_total{source=\"echo\",outcome=\"handshake\"}";
    assert_eq!(gateway.metric(answered).await, 3.0);
    // Nobody waits for these records.
    eventually("each is on record", || async {
        let records = gateway.records();
        records.iter().filter(|record| record["kind"] == "handshake").count() == 3
    })
    .await;
}

#[tokio::test]
async fn hidden_paths_stay_hidden_to_methods_without_a_challenge() {
    let app = Upstream::start().await;
    let plain = gateway(&app).await;
    let text = std::fs::read_to_string(&plain.file).unwrap();
    let dir = plain.kill().await;
    let gateway =
        Gateway::start_whole(dir, &text.replace("server: {", "server: { hide_paths: true,")).await;
    const NO: (&str, &str) = ("x-nothing", "1");
    assert_eq!(ask(&gateway, "GET", "/echo?challenge=abc", NO).await.status, 200);
    assert_eq!(ask(&gateway, "GET", "/echo", NO).await.status, 404);
    assert_eq!(ask(&gateway, "GET", "/stripe", NO).await.status, 404);
}

/// Whoever asks again and again gets an answer each time, and not a line in the log each time.
#[tokio::test]
async fn challenges_of_strangers_do_not_fill_the_log() {
    let app = Upstream::start().await;
    let gateway = gateway(&app).await;
    // A few lines a second, and the next one says how many were left out.
    let says_so = |line: &String| {
        line.contains("\"outcome\":\"handshake\"") && line.contains("\"suppressed\":")
    };
    let mut asked = 0;
    while !gateway.log().iter().any(says_so) {
        let answer = ask(&gateway, "GET", "/echo?challenge=abc", ("x-nothing", "1")).await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
        asked += 1;
        assert!(asked < 20_000, "no line was left out");
    }
}

/// What a provider asks to be opened is told to the operator: in the log, and on record.
#[tokio::test]
async fn what_the_operator_must_do_is_told() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources:\n  topic:\n    provider: custom\n    secret: \"{GITHUB}\"\n\
         \x20   verify: {{ signature: {{ header: X-Signature }}, signed: \"{{body}}\" }}\n\
         \x20   event: {{ id: \"{{body|sha256_hex}}\", type: event }}\n\
         \x20   handshake:\n      - when: {{ json: {{ Type: SubscriptionConfirmation }} }}\n        verify: true\n\
         \x20       report: \"{{json:SubscribeURL}}\"\n\
         routes: [ {{ source: topic, to: app }} ]\nupstreams: {{ app: {{ url: \"{}\" }} }}\n",
        app.url()
    ))
    .await;
    let url = "https://sns.example/?Action=ConfirmSubscription&Token=2336";
    let body = format!(r#"{{"Type":"SubscriptionConfirmation","SubscribeURL":"{url}"}}"#);
    let forged = gateway.post("/topic", &Vec::new(), body.as_bytes()).await;
    assert_eq!(forged.status, 401);
    let signature = hex::encode(mac(GITHUB.as_bytes(), &[body.as_bytes()]));
    let answer =
        gateway.post("/topic", &vec![("x-signature".into(), signature)], body.as_bytes()).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    eventually("only the signed one is reported", || async {
        let line = format!("\"report\":\"{url}\"");
        gateway.log().iter().filter(|said| said.contains(&line)).count() == 1
    })
    .await;
    let (_, dir) = gateway.stop().await;
    let records = records(&dir.path().join("audit"));
    let reports: Vec<_> = records.iter().filter(|record| record["report"] == url).collect();
    assert_eq!(reports.len(), 1, "{records:?}");
    assert_eq!(app.count(), 0);
}
