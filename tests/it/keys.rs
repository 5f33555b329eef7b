//! Keys that senders publish: fetched from a server that counts, stalls, redirects and lies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::world::{
    Gateway, Upstream,
    ca::Ca,
    gateway::{write_private, yaml},
    provider::{Headers, now},
};

/// A server over TLS on loopback, and what it was asked for.
pub(crate) struct Publisher {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// The heads of what it was asked.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

/// Answers by path; what is not among them never gets one.
pub(crate) type Answers = BTreeMap<&'static str, String>;

pub(crate) fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

impl Publisher {
    pub(crate) async fn start(ca: &Ca, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = TlsAcceptor::from(ca.server("localhost", &[], false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (Arc::new(answers), Arc::clone(&asked));
        let all_heads = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, answers, seen) = (tls.clone(), Arc::clone(&answers), Arc::clone(&seen));
                let all_heads = Arc::clone(&all_heads);
                tokio::spawn(async move {
                    let Ok(mut stream) = tls.accept(tcp).await else { return };
                    let mut head = vec![0; 4096];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..read]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().unwrap().push(path.clone());
                    all_heads.lock().unwrap().push(head);
                    match answers.get(&*path) {
                        Some(answer) => {
                            let _ = stream.write_all(answer.as_bytes()).await;
                            let _ = stream.shutdown().await;
                        }
                        // Silent until the other side gives up.
                        None => while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {},
                    }
                });
            }
        });
        Self { port, asked, heads }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub(crate) fn times(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

struct Sender(EcdsaKeyPair);

impl Sender {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwks(&self, kid: &str) -> String {
        let point = self.0.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "x": part(1), "y": part(33)}]})
            .to_string()
    }

    fn headers(&self, kid: &str, id: &str) -> Headers {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": kid}).to_string());
        let claims = json!({"jti": id, "type": "test", "iat": now()}).to_string();
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        vec![("authorization".into(), format!("Bearer {token}"))]
    }
}

/// Sources, each with the keys at a path of its own.
fn config(fetch: &str, port: u16, paths: &[&str], app: &Upstream) -> String {
    let mut text = format!("fetch: {{ ca: \"{{dir}}/ca.pem\", timeout: 1s, {fetch} }}\nsources:\n");
    for path in paths {
        text += &format!(
            "  {path}:\n    provider: custom\n    verify:\n      mac: jwt\n      \
             signature: {{ header: Authorization, prefix: \"Bearer \" }}\n      \
             jwt: {{ algs: [ES256] }}\n      keys: {{ jwks_url: \"https://localhost:{port}/{path}\" }}\n    \
             event: {{ id: \"{{jwt:jti}}\", type: \"{{jwt:type}}\" }}\n"
        );
    }
    text += "routes:\n";
    for path in paths {
        text += &format!("  - {{ source: {path}, to: app }}\n");
    }
    text + &format!("upstreams: {{ app: \"{}\" }}\n", app.url())
}

pub(crate) const LOOPBACK: &str = "networks: [127.0.0.0/8, \"::1\"]";

pub(crate) async fn start(ca: &Ca, text: &str) -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    ca.write(dir.path());
    Gateway::start_in(dir, text).await
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_one_that_is_not_there() {
    let (ca, app, sender) = (Ca::new(), Upstream::start().await, Sender::new());
    let answers = Answers::from([("/good", answer("200 OK", &sender.jwks("k1")))]);
    let publisher = Publisher::start(&ca, answers).await;
    let gateway = start(&ca, &config(LOOPBACK, publisher.port, &["good"], &app)).await;
    let headers: Vec<_> = (0..20).map(|n| sender.headers("k1", &format!("e{n}"))).collect();
    let sent = headers.iter().map(|headers| gateway.post("/good", headers, b"{}"));
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!((answer.status, answer.outcome()), (200, "accepted"));
    }
    assert_eq!(publisher.times("/good"), 1, "one fetch for all of them");
    for n in 0..5 {
        let unknown = sender.headers("k2", &format!("u{n}"));
        assert_eq!(gateway.post("/good", &unknown, b"{}").await.status, 401);
    }
    assert_eq!(publisher.times("/good"), 2, "and one within a minute for keys that are not there");
    let other = Sender::new().headers("k1", "e99");
    assert_eq!(gateway.post("/good", &other, b"{}").await.status, 401, "another's key");
    let ok = "gatepost_key_fetches_total{source=\"good\",result=\"ok\"}";
    assert_eq!(gateway.metric(ok).await, 2.0);
    assert_eq!(app.received().len(), 20);
}

/// What was fetched outlives a reload, for as long as it would be fetched from there again.
#[tokio::test]
async fn a_reload_fetches_only_what_is_new() {
    let (ca, app, sender) = (Ca::new(), Upstream::start().await, Sender::new());
    let jwks = answer("200 OK", &sender.jwks("k1"));
    let answers = Answers::from([("/good", jwks.clone()), ("/other", jwks)]);
    let publisher = Publisher::start(&ca, answers).await;
    let text = config(LOOPBACK, publisher.port, &["good"], &app);
    let gateway = start(&ca, &text).await;
    let send = async |id: &str| gateway.post("/good", &sender.headers("k1", id), b"{}").await;
    let reload = |text: &str| {
        let text = yaml(gateway.dir(), text);
        let text = text.replace("{dir}", &gateway.dir().display().to_string());
        write_private(&gateway.file, &text);
        let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    assert_eq!(send("e1").await.status, 200);
    // Something else of the source changes, and another one comes: the key is there.
    let more = text.replace(
        "routes:\n",
        "  more: { provider: github, secret: \"another secret of its own\" }\nroutes:\n",
    );
    reload(&more.replace("type: \"{jwt:type}\" }", "type: \"{jwt:type}\" }\n    max_body: 2KiB"));
    assert_eq!(send("e2").await.status, 200);
    assert_eq!(publisher.times("/good"), 1);
    // Who may be asked changes, and what is read there: nothing is known any more.
    reload(&text.replace("timeout: 1s", "timeout: 2s"));
    assert_eq!(send("e3").await.status, 200);
    assert_eq!(publisher.times("/good"), 2);
    reload(&text.replace("algs: [ES256]", "algs: [ES256, ES384]"));
    assert_eq!(send("e4").await.status, 200);
    assert_eq!(publisher.times("/good"), 3);
    // And where the keys are.
    reload(
        &text.replace(&format!("{}/good", publisher.port), &format!("{}/other", publisher.port)),
    );
    assert_eq!(send("e5").await.status, 200);
    assert_eq!((publisher.times("/good"), publisher.times("/other")), (3, 1));
    assert_eq!(app.received().len(), 5);
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_no_verdict() {
    let (ca, app, sender) = (Ca::new(), Upstream::start().await, Sender::new());
    let good = sender.jwks("k1");
    let huge = format!("{good}{}", " ".repeat(70_000));
    let (_, private) = ca.issue("x");
    let answers = Answers::from([
        ("/moved", "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("/good", answer("200 OK", &good)),
        ("/huge", answer("200 OK", &huge)),
        ("/html", answer("200 OK", "<html>an error page</html>")),
        ("/empty", answer("200 OK", "")),
        ("/private", answer("200 OK", &private)),
        ("/failing", answer("500 Internal Server Error", &good)),
        ("/nothing", answer("204 No Content", "")),
        ("/garbage", "SSH-2.0-x\r\n".to_owned()),
        ("/cut", format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{good}")),
    ]);
    let paths = [
        "moved", "huge", "html", "empty", "private", "failing", "nothing", "garbage", "cut",
        "silent",
    ];
    let publisher = Publisher::start(&ca, answers).await;
    let gateway = start(&ca, &config(LOOPBACK, publisher.port, &paths, &app)).await;
    for path in paths {
        for n in 0..3 {
            let headers = sender.headers("k1", &format!("{path}{n}"));
            let answer = gateway.post(&format!("/{path}"), &headers, b"{}").await;
            assert_eq!(answer.status, 503, "{path}");
            assert!(!answer.header("retry-after").is_empty(), "{path}");
        }
        assert_eq!(publisher.times(&format!("/{path}")), 1, "{path}: not asked again at once");
        let told =
            format!("gatepost_requests_total{{source=\"{path}\",outcome=\"keys_unavailable\"}}");
        assert_eq!(gateway.metric(&told).await, 3.0, "{path}");
    }
    assert_eq!(publisher.times("/good"), 0, "redirects are not followed");
    assert_eq!(app.received().len(), 0);
}

#[tokio::test]
async fn nobody_is_asked_who_may_not_be() {
    let (ca, app, sender) = (Ca::new(), Upstream::start().await, Sender::new());
    let answers = Answers::from([("/good", answer("200 OK", &sender.jwks("k1")))]);
    let publisher = Publisher::start(&ca, answers).await;
    let headers = sender.headers("k1", "e1");
    // Loopback is no public address, another CA does not vouch for the server, and 192.0.2.0/24 is not where it is.
    for (own, fetch) in [(true, "stale: 1d"), (false, LOOPBACK), (true, "networks: [192.0.2.0/24]")]
    {
        let other = Ca::new();
        let ca = if own { &ca } else { &other };
        let gateway = start(ca, &config(fetch, publisher.port, &["good"], &app)).await;
        assert_eq!(gateway.post("/good", &headers, b"{}").await.status, 503, "{fetch}");
    }
    assert_eq!(publisher.times("/good"), 0);
    assert_eq!(app.received().len(), 0);
}

#[tokio::test]
async fn a_certificate_is_fetched_from_where_the_message_says_and_must_be_the_right_one() {
    let (ca, app) = (Ca::new(), Upstream::start().await);
    let (good, key) = ca.issue("hooks.partner.example");
    let (other_name, _) = ca.issue("other.partner.example");
    let (other_root, _) = Ca::new().issue("hooks.partner.example");
    let answers = Answers::from([
        ("/certs/good.pem", answer("200 OK", &good)),
        ("/certs/name.pem", answer("200 OK", &other_name)),
        ("/certs/root.pem", answer("200 OK", &other_root)),
        ("/elsewhere/good.pem", answer("200 OK", &good)),
    ]);
    let publisher = Publisher::start(&ca, answers).await;
    let port = publisher.port;
    let text = format!(
        "fetch: {{ ca: \"{{dir}}/ca.pem\", timeout: 1s, {LOOPBACK} }}\nsources:\n  partner:\n    \
         provider: custom\n    verify:\n      mac: ecdsa-p256-sha256\n      \
         signature: {{ header: X-Signature, encoding: base64 }}\n      signed: \"{{body}}\"\n      \
         keys: {{ cert_url: \"{{header:X-Cert}}\", hosts: [\"localhost:{port}\"], path: \"/certs/*.pem\", \
         dns_name: hooks.partner.example }}\n    \
         event: {{ id: \"{{json:id}}\", type: test }}\n\
         routes: [ {{ source: partner, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    );
    let gateway = start(&ca, &text).await;
    let key: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD.decode(key).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key).unwrap();
    let body = br#"{"id":"evt_1"}"#;
    let signature = key.sign(&SystemRandom::new(), body).unwrap();
    let signature = STANDARD.encode(signature.as_ref());
    for (path, status) in [
        (format!("https://localhost:{port}/certs/good.pem"), 200),
        (format!("https://localhost:{port}/certs/name.pem"), 503),
        (format!("https://localhost:{port}/certs/root.pem"), 503),
        (format!("https://localhost:{port}/elsewhere/good.pem"), 401),
        (format!("https://127.0.0.1:{port}/certs/good.pem"), 401),
        (format!("http://localhost:{port}/certs/good.pem"), 401),
    ] {
        let headers = vec![
            ("x-signature".to_owned(), signature.clone()),
            ("x-cert".to_owned(), path.clone()),
        ];
        let answer = gateway.post("/partner", &headers, body).await;
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(publisher.times("/elsewhere/good.pem"), 0);
    assert_eq!(app.received().len(), 1);
}

/// A key that stands in a document of its own, for whoever shows an API key; and a second place for a signature with another key.
#[tokio::test]
async fn keys_that_are_not_for_everybody_are_asked_for_with_a_credential() {
    const API_KEY: &str = "an-api-key-that-nobody-else-sees";
    let (ca, app) = (Ca::new(), Upstream::start().await);
    let key = |_| {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.unwrap().as_ref())
            .unwrap()
    };
    let [first, second] = [0, 1].map(key);
    let published = |key: &EcdsaKeyPair| {
        let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        answer(
            "200 OK",
            &json!({"data": {"publicKey": STANDARD.encode(spki.as_ref())}}).to_string(),
        )
    };
    let answers = Answers::from([
        ("/keys/1", published(&first)),
        ("/keys/2", published(&second)),
        ("/keys/none", answer("200 OK", "{\"data\":{}}")),
    ]);
    let publisher = Publisher::start(&ca, answers).await;
    let port = publisher.port;
    let text = format!(
        "fetch: {{ ca: \"{{dir}}/ca.pem\", timeout: 1s, {LOOPBACK} }}\nsources:\n  partner:\n    \
         provider: custom\n    keys_secret: {API_KEY}\n    verify:\n      mac: ecdsa-p256-sha256\n      \
         signature: [{{ header: X-S1, encoding: base64 }}, {{ header: X-S2, encoding: base64 }}]\n      \
         signed: \"{{body}}\"\n      keys:\n        \
         cert_url: [\"https://localhost:{port}/keys/{{header:X-K1}}\", \"https://localhost:{port}/keys/{{header:X-K2}}\"]\n        \
         hosts: [\"localhost:{port}\"]\n        path: \"/keys/*\"\n        fetched_key: data.publicKey\n        \
         credential: {{ header: X-Api-Key, prefix: \"key \" }}\n    \
         event: {{ id: \"{{json:id}}\", type: test }}\n\
         routes: [ {{ source: partner, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        app.url()
    );
    let gateway = start(&ca, &text).await;
    let sign = |key: &EcdsaKeyPair, body: &[u8]| {
        STANDARD.encode(key.sign(&SystemRandom::new(), body).unwrap().as_ref())
    };
    let (body, other) = (br#"{"id":"evt_1"}"#, br#"{"id":"evt_2"}"#);
    for (s1, k1, s2, k2, status) in [
        // Of two signatures one suffices, each under its own key.
        (sign(&first, other), "1", sign(&second, body), "2", 200),
        (sign(&second, body), "1", sign(&first, body), "2", 401),
        (sign(&first, body), "none", sign(&second, body), "2", 200),
        (sign(&first, body), "none", sign(&first, body), "2", 503),
    ] {
        let headers =
            [("x-s1", s1), ("x-k1", k1.to_owned()), ("x-s2", s2), ("x-k2", k2.to_owned())];
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value)).into();
        let answer = gateway.post("/partner", &headers, body).await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let heads = publisher.heads.lock().unwrap().clone();
    let shown = format!("x-api-key: key {API_KEY}");
    assert!(heads.len() == 3 && heads.iter().all(|head| head.contains(&shown)), "{heads:?}");
    assert_eq!(app.received().len(), 1, "the second time it is known");
    assert!(!gateway.log().join("\n").contains(API_KEY));
}
