//! A secret that a provider sends is taken while the operator waits for it, and at no other time; then it is used at once, and after
//! whatever happens.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use crate::world::{
    Gateway, Upstream, eventually,
    gateway::{Answer, yaml},
    provider::{Headers, mac},
};

const SECRET: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";
const SECOND: &str = "0000207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";

/// Two sources whose provider sends the secret, and one that has a secret.
fn sources(app: &str) -> String {
    let source = |name: &str, secret: &str| {
        format!(
            "  {name}:\n    provider: custom\n    secret: {secret}\n\
             \x20   verify: {{ signature: {{ header: X-Hook-Signature }}, signed: \"{{body}}\" }}\n\
             \x20   event: {{ id: \"{{body|sha256_hex}}\", type: task }}\n\
             \x20   handshake:\n      - when: {{ header: X-Hook-Secret }}\n        capture: \"{{header:X-Hook-Secret}}\"\n\
             \x20       reply: {{ headers: {{ X-Hook-Secret: \"{{header:X-Hook-Secret}}\" }} }}\n"
        )
    };
    let (hooks, other) = ("{ captured: true }", "a-secret-of-its-own-0123456789");
    format!(
        "sources:\n{}{}{}routes: [ {{ source: hooks, to: app }}, {{ source: more, to: app }}, {{ source: fixed, to: app }} ]\n\
         upstreams: {{ app: {{ url: \"{app}\" }} }}\n",
        source("hooks", hooks),
        source("more", hooks),
        source("fixed", other),
    )
}

fn capture(gateway: &Gateway, args: &[&str]) -> Output {
    let admin = gateway.admin.to_string();
    gateway.cli(&[&["providers", "capture", "--admin", &admin], args].concat())
}

async fn offer(gateway: &Gateway, path: &str, secret: &str) -> Answer {
    let headers: Headers = vec![("x-hook-secret".into(), secret.into())];
    gateway.post(path, &headers, b"{}").await
}

/// An event under `secret`; the status of the answer.
async fn event(gateway: &Gateway, secret: &str, body: &str) -> u16 {
    let signature = hex::encode(mac(secret.as_bytes(), &[body.as_bytes()]));
    gateway
        .post("/hooks", &vec![("x-hook-signature".into(), signature)], body.as_bytes())
        .await
        .status
}

/// Everything on record, control records included.
fn record(gateway: &Gateway) -> String {
    let files = std::fs::read_dir(gateway.dir().join("audit")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|e| e == "ndjson"));
    files.map(|path| String::from_utf8(std::fs::read(path).unwrap()).unwrap()).collect()
}

fn kept(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join("captured/hooks")).ok()
}

#[tokio::test]
async fn a_secret_is_captured_in_its_window_only_and_used_at_once() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&sources(&app.url())).await;
    // Before: refused and counted, and nothing is kept.
    let refused = offer(&gateway, "/hooks", SECRET).await;
    assert_eq!((refused.status, refused.header("x-hook-secret")), (401, ""));
    assert_eq!(event(&gateway, SECRET, r#"{"n":0}"#).await, 401);
    let failures = "gatepost_verification_failures_total{source=\"hooks\",reason=\"key\"}";
    assert_eq!(gateway.metric(failures).await, 1.0);
    assert!(!gateway.dir().join("captured").exists());

    let out = capture(&gateway, &["hooks", "--no-wait", "--for", "5m"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(offer(&gateway, "/more", SECRET).await.status, 401, "another source's window");
    let answered = offer(&gateway, "/hooks", SECRET).await;
    assert_eq!((answered.status, answered.header("x-hook-secret")), (200, SECRET));
    assert_eq!((answered.header("x-content-type-options"), answered.body.len()), ("nosniff", 0));
    assert_eq!(event(&gateway, SECRET, r#"{"n":1}"#).await, 200, "with no restart");
    assert_eq!(offer(&gateway, "/hooks", SECOND).await.status, 401, "one for each window");
    assert_eq!(event(&gateway, SECOND, r#"{"n":2}"#).await, 401);

    let file = gateway.dir().join("captured/hooks");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(kept(gateway.dir()), Some(format!("{SECRET}\n")));
    let record = record(&gateway);
    for what in [
        "\"what\":\"capture_opened\"",
        "\"what\":\"secret_captured\"",
        "\"source\":\"hooks\"",
        "\"fingerprint\":\"…",
    ] {
        assert!(record.contains(what), "no {what} in\n{record}");
    }
    let log = gateway.log().join("\n");
    for text in [&record, &log, &String::from_utf8_lossy(&out.stderr).into_owned()] {
        assert!(!text.contains(SECRET) && !text.contains(SECOND), "a secret is shown in\n{text}");
    }
    assert!(log.contains("capture_closed"), "{log}");
}

/// Whatever the names of sources are, each has a file of its own, also while another one is written.
#[tokio::test]
async fn sources_with_names_like_files_keep_their_secrets() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&sources(&app.url()).replace("more", "hooks.tmp")).await;
    for (source, secret) in [("hooks.tmp", SECOND), ("hooks", SECRET)] {
        assert!(capture(&gateway, &[source, "--no-wait", "--for", "5m"]).status.success());
        assert_eq!(offer(&gateway, &format!("/{source}"), secret).await.status, 200);
    }
    let other = std::fs::read_to_string(gateway.dir().join("captured/hooks.tmp")).unwrap();
    assert_eq!((other, kept(gateway.dir())), (format!("{SECOND}\n"), Some(format!("{SECRET}\n"))));
}

#[tokio::test(flavor = "multi_thread")] // the gateway is asked while the command waits
async fn who_waits_is_told_the_fingerprint_and_where_the_secret_is() {
    let app = Upstream::start().await;
    let gateway = std::sync::Arc::new(Gateway::start(&sources(&app.url())).await);
    let waiting = std::sync::Arc::clone(&gateway);
    let waiting = tokio::task::spawn_blocking(move || capture(&waiting, &["hooks"]));
    eventually("the window is open", || async {
        offer(&gateway, "/hooks", SECRET).await.status == 200
    })
    .await;
    let out = waiting.await.unwrap();
    assert!(out.status.success(), "{out:?}");
    let fingerprint = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    assert!(
        record(&gateway).contains(&format!("\"fingerprint\":\"{fingerprint}\"")),
        "{fingerprint}"
    );
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("captured/hooks") && said.contains("/hooks"), "{said}");
    assert!(!said.contains(SECRET));
}

#[tokio::test]
async fn a_later_secret_joins_the_others_or_replaces_them_and_all_outlive_a_restart() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&sources(&app.url())).await;
    for secret in [SECRET, SECOND] {
        assert!(capture(&gateway, &["hooks", "--no-wait"]).status.success());
        assert_eq!(offer(&gateway, "/hooks", secret).await.status, 200);
    }
    assert_eq!(kept(gateway.dir()), Some(format!("{SECOND}\n{SECRET}\n")));
    let (_, dir) = gateway.stop().await;
    let gateway = Gateway::start_in(dir, &sources(&app.url())).await;
    assert_eq!(event(&gateway, SECRET, r#"{"n":1}"#).await, 200);
    assert_eq!(event(&gateway, SECOND, r#"{"n":2}"#).await, 200);
    assert_eq!(
        offer(&gateway, "/hooks", "x".repeat(20).as_str()).await.status,
        401,
        "no window outlives its process"
    );
    assert!(capture(&gateway, &["hooks", "--no-wait", "--replace"]).status.success());
    let third = "c".repeat(64);
    assert_eq!(offer(&gateway, "/hooks", &third).await.status, 200);
    assert_eq!(event(&gateway, SECRET, r#"{"n":3}"#).await, 401);
    assert_eq!(event(&gateway, &third, r#"{"n":4}"#).await, 200);
    assert_eq!(app.count(), 3);
}

#[tokio::test]
async fn a_window_is_opened_for_a_source_that_has_one() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&sources(&app.url())).await;
    for (args, code, says) in [
        (&["fixed", "--no-wait"][..], 1, "does not say `secret: { captured: true }`"),
        (&["nothing", "--no-wait"], 3, "there is no source `nothing`"),
        (&["hooks", "--no-wait", "--for", "2h"], 1, "at most an hour"),
        (&["hooks", "--for", "1s"], 1, "no secret came"),
    ] {
        let out = capture(&gateway, args);
        assert_eq!(out.status.code(), Some(code), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains(says), "{out:?}");
    }
    assert_eq!(offer(&gateway, "/fixed", SECRET).await.status, 401);
    assert_eq!(offer(&gateway, "/hooks", SECRET).await.status, 401, "its window is over");
    // Before anything is taken it is certain that it could be used.
    let text = std::fs::read_to_string(&gateway.file).unwrap();
    std::fs::write(&gateway.file, format!("{text}nonsense: 1\n")).unwrap();
    let out = capture(&gateway, &["hooks", "--no-wait"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot be loaded again"), "{out:?}");
}

/// Names of sources may have dots; whatever they are called, none has what another one's file is written as.
#[tokio::test]
async fn sources_with_dots_keep_their_secrets_to_themselves() {
    let names = ["hooks.tmp", "hooks", "hooks.tmp.tmp", "hooks.new"];
    let app = Upstream::start().await;
    let rest = sources(&app.url());
    let rest = names.iter().filter(|name| **name != "hooks").fold(rest, |rest, name| {
        let source = &rest[rest.find("  more:").unwrap()..rest.find("  fixed:").unwrap()];
        let source = source.replace("more", name);
        let rest = rest.replace("  more:", &format!("{source}  more:"));
        rest.replace("routes: [", &format!("routes: [ {{ source: {name}, to: app }},"))
    });
    let gateway = Gateway::start(&rest).await;
    let secret = |n: usize| n.to_string().repeat(64);
    for (n, name) in names.iter().enumerate() {
        let out = capture(&gateway, &[name, "--no-wait"]);
        assert!(out.status.success(), "{out:?}");
        assert_eq!(offer(&gateway, &format!("/{name}"), &secret(n)).await.status, 200, "{name}");
    }
    for (n, name) in names.iter().enumerate() {
        let kept = std::fs::read_to_string(gateway.dir().join("captured").join(name));
        assert_eq!(kept.unwrap_or_default(), secret(n) + "\n", "{name}");
    }
}

/// A crash before the secret is kept leaves none; one after it leaves the secret, used from the next start on. The record
/// speaks of it in both cases.
#[tokio::test]
async fn a_crash_leaves_the_secret_or_none() {
    for (point, is_kept) in [("capture_recorded:1", false), ("capture_kept:1", true)] {
        let app = Upstream::start().await;
        let dir = tempfile::tempdir().unwrap();
        let text = yaml(dir.path(), &sources(&app.url()));
        let gateway = Gateway::start_with(dir, &text, &[("GATEPOST_CRASH_AT", point)]).await;
        assert!(capture(&gateway, &["hooks", "--no-wait"]).status.success());
        let headers: Headers = vec![("x-hook-secret".into(), SECRET.into())];
        let answer = gateway.try_request("POST", "/hooks", &headers, b"{}").await;
        assert!(answer.is_err(), "{point}: nobody was told that it is kept");
        gateway.ended().await;
        let dir = gateway.leave();
        assert_eq!(kept(dir.path()).is_some(), is_kept, "{point}");
        let gateway = Gateway::start_in(dir, &sources(&app.url())).await;
        assert!(record(&gateway).contains("secret_captured"), "{point}");
        let status = event(&gateway, SECRET, r#"{"n":1}"#).await;
        assert_eq!(status, if is_kept { 200 } else { 401 }, "{point}");
        // The provider tries again, and so does the operator.
        assert!(capture(&gateway, &["hooks", "--no-wait"]).status.success());
        assert_eq!(offer(&gateway, "/hooks", SECRET).await.status, 200, "{point}");
        assert_eq!(kept(gateway.dir()), Some(format!("{SECRET}\n")), "{point}: kept once");
    }
}
