//! Subscriptions that Gatepost confirms: the URL is fetched once, and only where the operator, the signature and the rule say so.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    keys::{Answers, LOOPBACK, Publisher, answer, start},
    world::{Gateway, Upstream, ca::Ca, eventually, gateway::Answer},
};

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const GOOD: &str =
    "/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:123456789012:orders&Token=good";
const MOVED: &str =
    "/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:123456789012:orders&Token=moved";

/// What sends: a key, as Amazon SNS signs with one.
struct Sender(KeyPair);

impl Sender {
    fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn public(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        STANDARD.encode(der.as_ref())
    }

    fn message(&self, topic: &str, url: &str) -> Vec<u8> {
        let members = [
            ("Message", "You have chosen to subscribe to the topic."),
            ("MessageId", "165545c9-2a5c-472c-8df2-7ff2be2b3b1b"),
            ("SubscribeURL", url),
            ("Timestamp", "2026-11-24T11:00:00.000Z"),
            ("Token", "2336412f37"),
            ("TopicArn", topic),
            ("Type", "SubscriptionConfirmation"),
        ];
        let text: String = members.map(|(name, value)| format!("{name}\n{value}\n")).concat();
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        self.0.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
        let mut message = json!({ "Signature": STANDARD.encode(signature) });
        for (name, value) in members {
            message[name] = value.into();
        }
        message.to_string().into_bytes()
    }
}

/// Two sources of one topic: one confirms, and one reports.
fn config(sender: &Sender, port: u16, app: &Upstream) -> String {
    let key = sender.public();
    let source = |name: &str, confirm: bool| {
        format!(
            "  {name}:\n    provider: custom\n    secret: \"{key}\"\n    confirm: {confirm}\n    verify:\n      \
             mac: rsa-pkcs1-sha256\n      signature: {{ from: \"{{json:Signature}}\", encoding: base64 }}\n      \
             signed: \"{{aws_sns}}\"\n      require: [{{ left: \"{{json:TopicArn}}\", right: \"{TOPIC}\" }}]\n    \
             event: {{ id: \"{{json:MessageId}}\", type: \"{{json:Type}}\" }}\n    handshake:\n      \
             - when: {{ json: {{ Type: SubscriptionConfirmation }} }}\n        verify: true\n        \
             report: \"{{json:SubscribeURL}}\"\n        confirm:\n          url: \"{{json:SubscribeURL}}\"\n          \
             hosts: [\"localhost:{port}\"]\n          path: \"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=*\"\n"
        )
    };
    format!(
        "fetch: {{ ca: \"{{dir}}/ca.pem\", timeout: 2s, {LOOPBACK} }}\nsources:\n{}{}\
         routes: [ {{ source: topic, to: app }}, {{ source: told, to: app }} ]\n\
         upstreams: {{ app: \"{}\" }}\n",
        source("topic", true),
        source("told", false),
        app.url()
    )
}

async fn post(gateway: &Gateway, path: &str, body: &[u8]) -> Answer {
    let json = vec![("content-type".to_owned(), "application/json".to_owned())];
    gateway.post(path, &json, body).await
}

async fn confirmations(gateway: &Gateway, result: &str) -> f64 {
    let series = format!("gatepost_confirmations_total{{source=\"topic\",result=\"{result}\"}}");
    gateway.metric(&series).await
}

#[tokio::test]
async fn a_subscription_is_confirmed_once_and_only_where_it_should_be() {
    let (ca, app, sender) = (Ca::new(), Upstream::start().await, Sender::new());
    let moved = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let answers = Answers::from([
        (GOOD, answer("200 OK", "<ConfirmSubscriptionResponse/>")),
        (MOVED, moved.to_owned()),
        ("/elsewhere", answer("200 OK", "")),
    ]);
    let publisher = Publisher::start(&ca, answers).await;
    let (port, text) = (publisher.port, config(&sender, publisher.port, &app));
    let gateway = start(&ca, &text).await;
    let good = format!("https://localhost:{port}{GOOD}");

    // Who is not believed has nothing fetched: another key, a changed message, and another topic.
    let changed = String::from_utf8(sender.message(TOPIC, &good)).unwrap();
    let changed = changed.replace("Token=good", "Token=moved").into_bytes();
    let other_topic = sender.message(&TOPIC.replace("orders", "others"), &good);
    for body in [Sender::new().message(TOPIC, &good), changed, other_topic] {
        assert_eq!(post(&gateway, "/topic", &body).await.status, 401);
    }
    // Nor is what a believed message names and the rule does not.
    for url in [
        format!("http://localhost:{port}{GOOD}"),
        format!("https://127.0.0.1:{port}{GOOD}"),
        format!("https://localhost:{port}/elsewhere"),
        format!("https://localhost:{port}{GOOD}&Action=DeleteTopic"),
        format!("https://localhost:{port}{}", GOOD.replace("Confirm", "Delete")),
        format!("https://localhost:{port}{}", GOOD.replace("orders", "others")),
        format!("https://localhost:{port}{}", GOOD.replace("/?", "/a?")),
        format!("https://somebody@localhost:{port}{GOOD}"),
    ] {
        let refused = post(&gateway, "/topic", &sender.message(TOPIC, &url)).await;
        assert_eq!(refused.status, 503, "{url}");
        assert!(!refused.header("retry-after").is_empty(), "{url}");
    }
    // Nor anything, where the operator has not said so.
    let told = post(&gateway, "/told", &sender.message(TOPIC, &good)).await;
    assert_eq!(told.status, 200);
    assert_eq!(publisher.asked(), 0);
    assert_eq!(confirmations(&gateway, "refused").await, 8.0);

    let body = sender.message(TOPIC, &good);
    for _ in 0..4 {
        assert_eq!(post(&gateway, "/topic", &body).await.status, 200);
    }
    assert_eq!(publisher.times(GOOD), 1, "once");
    assert_eq!(confirmations(&gateway, "ok").await, 1.0);
    assert_eq!(confirmations(&gateway, "known").await, 3.0);
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(post(&gateway, "/topic", &body).await.status, 200);
    assert_eq!(publisher.times(GOOD), 1, "a reload forgets nothing");

    // A place that sends us elsewhere has confirmed nothing, and is not asked again at once.
    let moved = format!("https://localhost:{port}{MOVED}");
    for _ in 0..3 {
        let refused = post(&gateway, "/topic", &sender.message(TOPIC, &moved)).await;
        assert_eq!(refused.status, 503);
    }
    assert_eq!((publisher.times(MOVED), publisher.times("/elsewhere")), (1, 0));
    assert_eq!(confirmations(&gateway, "failed").await, 1.0);
    let unconfirmed = "gatepost_requests_total{source=\"topic\",outcome=\"unconfirmed\"}";
    assert_eq!(gateway.metric(unconfirmed).await, 11.0);
    assert_eq!(app.received().len(), 0);
    let wanted = [
        ("handshake", good.clone()),
        ("handshake", format!("confirmed: {good}")),
        ("rejected", moved),
    ];
    for (kind, report) in wanted {
        eventually("it is on record", || async {
            let records = gateway.records();
            records.iter().any(|r| r["kind"] == kind && r["report"] == report.as_str())
        })
        .await;
    }
}
