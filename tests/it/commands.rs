//! The command line as a person uses it.

use serde_json::Value;

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, Upstream, eventually,
        gateway::{Spawned, binary, write_private, yaml},
    },
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_demo_keeps_its_promise() {
    let out = tokio::task::spawn_blocking(|| binary().args(["dev", "--demo"]).output().unwrap())
        .await
        .unwrap();
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    for line in [
        "accepted        1",
        "duplicate      49",
        "refused         1",
        "app received    1",
        "record verified",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")] // the app must answer while `send` runs
async fn send_signs_with_the_sources_own_scheme() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let to = format!("http://{}/stripe", gateway.address);
    let send = |more: &[&str]| {
        let args = [&["send", "stripe", "invoice.paid", "--to", &to], more].concat();
        gateway.cli(&args)
    };
    let out = send(&["--times", "10", "--parallel", "5", "--id", "evt_x"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("200 accepted"), "{}", text(&out.stdout));
    assert!(text(&out.stdout).contains("200 duplicate"));
    assert_eq!(app.count(), 1);
    for signature in ["forged", "missing", "stale"] {
        let out = send(&["--signature", signature]);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stdout).contains("401 refused"), "{signature}: {}", text(&out.stdout));
    }
    assert!(text(&send(&["--tamper"]).stdout).contains("401 refused"));
    for nothing in ["--times", "--parallel"] {
        let out = send(&[nothing, "0"]);
        assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
        assert!(text(&out.stderr).contains(nothing), "{}", text(&out.stderr));
    }
    let shown = text(&send(&["--show-request"]).stdout);
    assert!(shown.contains("stripe-signature: t=") && !shown.contains(STRIPE), "{shown}");
    assert_eq!(app.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_send_sends_again_is_a_new_event_where_only_a_header_has_the_id() {
    let app = Upstream::start().await;
    let gateway =
        Gateway::start(&stripe_to(&app.url()).replace("provider: stripe", "provider: github"))
            .await;
    let to = format!("http://{}/stripe", gateway.address);
    for n in 1..=2 {
        let out = gateway.cli(&["send", "stripe", "push", "--to", &to]);
        assert!(text(&out.stdout).contains("200 accepted"), "{n}: {}", text(&out.stdout));
    }
    assert_eq!(app.count(), 2);
}

#[test]
fn another_machine_is_sent_to_only_with_yes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.yaml");
    write_private(&file, &yaml(dir.path(), &stripe_to("http://127.0.0.1:1/")));
    let send = |more: &[&str]| {
        let args = [&["send", "stripe"], more].concat();
        binary().arg("-c").arg(&file).args(args).output().unwrap().status.code()
    };
    assert_eq!(send(&["--to", "https://hooks.example.com/stripe"]), Some(7));
    assert_eq!(send(&["--to", "http://127.0.0.1:1/stripe"]), Some(4), "nobody answers");
    assert_eq!(send(&["--set", "no-value"]), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_is_asked_for_its_health_and_to_reload() {
    let gateway = Gateway::start(&stripe_to("http://127.0.0.1:1/")).await;
    let ask =
        |command: &str, address: &str| gateway.cli(&[command, "--admin", address]).status.code();
    let admin = gateway.admin.to_string();
    assert_eq!((ask("healthcheck", &admin), ask("reload", &admin)), (Some(0), Some(0)));
    let nobody = crate::world::upstream::dead_address().await.to_string();
    assert_eq!((ask("healthcheck", &nobody), ask("reload", &nobody)), (Some(4), Some(4)));
    write_private(&gateway.file, "version: 2\n");
    assert_eq!(ask("reload", &admin), Some(78), "refused, and said why");
    assert_eq!(ask("healthcheck", &admin), Some(0), "and nothing has changed");
}

#[test]
fn check_prints_every_error_and_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.yaml");
    let broken = stripe_to("http://127.0.0.1:1/")
        .replace("to: app", "to: ap")
        .replace("provider: stripe", "provider: strip");
    write_private(&file, &yaml(dir.path(), &format!("{broken}upstrems: 1\n")));
    let out = binary().arg("-c").arg(&file).arg("check").output().unwrap();
    assert_eq!(out.status.code(), Some(78), "{}", text(&out.stdout));
    let said = text(&out.stdout) + &text(&out.stderr);
    assert!(said.contains("unknown-key") && said.contains("did you mean `upstreams`"), "{said}");
}

#[test]
fn schema_providers_and_completions_print() {
    let schema = binary().arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["sources"].is_object());
    let list = text(&binary().args(["providers", "list"]).output().unwrap().stdout);
    for name in [
        "stripe",
        "github",
        "gitlab",
        "shopify",
        "slack",
        "standard-webhooks",
        "svix",
        "paddle",
        "square",
        "linear",
    ] {
        assert!(list.contains(name), "{name}");
        assert!(
            binary().args(["providers", "show", name]).output().unwrap().status.success(),
            "{name}"
        );
    }
    assert_eq!(
        binary().args(["providers", "show", "nope"]).output().unwrap().status.code(),
        Some(3)
    );
    assert!(
        text(&binary().args(["completions", "bash"]).output().unwrap().stdout).contains("gatepost")
    );
    assert!(text(&binary().arg("version").output().unwrap().stdout).starts_with("gatepost "));
}

/// A directory that is named without one before it is made where the process was started.
#[tokio::test]
async fn a_relative_directory_is_made_where_the_process_is() {
    let dir = tempfile::tempdir().unwrap();
    let text = yaml(std::path::Path::new("data"), &stripe_to("http://127.0.0.1:9"));
    write_private(&dir.path().join("gatepost.yaml"), &text);
    let run = binary()
        .args(["run", "-c", "gatepost.yaml"])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut gateway = Spawned(run.unwrap());
    let key = dir.path().join("data/audit-signing.key");
    eventually("it has begun its record", || async { key.exists() }).await;
    assert_eq!(gateway.0.try_wait().unwrap(), None, "and goes on");
}
