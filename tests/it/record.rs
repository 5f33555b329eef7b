//! The record: readable, searchable, provable; broken ones are found, with their position.

use crate::{
    STRIPE, stripe_to,
    world::{Gateway, Provider, Upstream, eventually, provider::stripe_event},
};

async fn filled() -> (Gateway, Upstream) {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for n in 0..20 {
        let body = stripe_event(
            &format!("evt_{n}"),
            if n % 2 == 0 { "invoice.paid" } else { "charge.refunded" },
        );
        let answer =
            gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
        assert_eq!(answer.status, 200);
    }
    (gateway, app)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_live_record_verifies_and_can_be_searched() {
    let (gateway, _app) = filled().await;
    let verified = gateway.cli(&["audit", "verify"]);
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    assert!(text(&verified.stdout).contains("VERIFIED"));
    let list = |more: &[&str]| -> Vec<serde_json::Value> {
        let of = ["audit", "list", "--json", "--source", "stripe", "--type", "charge.*"];
        let listed = gateway.cli(&[&of, more].concat());
        assert!(listed.status.success(), "{}", text(&listed.stderr));
        text(&listed.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    // How an event ended is on record a moment after the answer.
    let accepted = || async { list(&["--outcome", "accepted"]).len() == 10 };
    eventually("all endings are on record", accepted).await;
    assert!(list(&[]).iter().all(|r| r["event_type"] == "charge.refunded"));
    assert_eq!(list(&["--since", "1h"]).len(), 20);
    assert_eq!(list(&["--until", "2020-01-01"]).len(), 0);
    assert_eq!(gateway.cli(&["audit", "list", "--since", "soon"]).status.code(), Some(2));
    let shown = gateway.cli(&["audit", "show", "evt_7"]);
    assert!(
        shown.status.success() && text(&shown.stdout).contains("charge.refunded"),
        "{}",
        text(&shown.stdout)
    );
    let record: serde_json::Value = serde_json::from_str(
        text(&gateway.cli(&["audit", "show", "--json", "evt_7"]).stdout).lines().next().unwrap(),
    )
    .unwrap();
    for id in ["receipt", "event_id"] {
        let shown = gateway.cli(&["audit", "show", record[id].as_str().unwrap()]);
        assert!(text(&shown.stdout).contains("evt_7"), "by {id}: {}", text(&shown.stdout));
    }
    assert_eq!(gateway.cli(&["audit", "show", "evt_nope"]).status.code(), Some(3));
}

/// Whatever was configured: a token is the whole secret.
#[tokio::test]
async fn a_token_is_not_recorded() {
    let gateway = Gateway::start(
        "sources: { plain: { provider: custom, secret: \"a-token-of-sixteen-bytes\",
           verify: { signature: { header: X-Token }, mac: token },
           event: { id: '{json:id}', type: '{json:type}' } } }\n\
         routes: [ { source: plain, drop: true } ]\n\
         audit: { headers: [x-token, x-kind] }\n",
    )
    .await;
    let lines = [("x-token", "a-token-of-sixteen-bytes"), ("x-kind", "shown")];
    let headers = lines.map(|(name, value)| (name.into(), value.into())).to_vec();
    assert_eq!(gateway.post("/plain", &headers, br#"{"id":"a","type":"t"}"#).await.status, 200);
    let listed = text(&gateway.cli(&["audit", "list", "--json"]).stdout);
    assert!(listed.contains(r#""x-kind":"shown""#), "{listed}");
    assert!(!listed.contains("a-token"), "{listed}");
}

/// A body is known by its digest; what is in it is on no record, and neither is the secret that it was signed with.
#[tokio::test]
async fn a_record_holds_no_body() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = br#"{"id":"evt_1","type":"invoice.paid","note":"nobody-but-the-app-reads-this"}"#;
    let headers = Provider::Stripe(STRIPE).sign("", "", body);
    assert_eq!(gateway.post("/stripe", &headers, body).await.status, 200);
    assert_eq!(
        gateway.post("/stripe", &headers, b"nobody-but-the-app-reads-this").await.status,
        401
    );
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    let files = std::fs::read_dir(dir.path().join("audit")).unwrap();
    let all = files.map(|file| text(&std::fs::read(file.unwrap().path()).unwrap()));
    let all: String = all.collect();
    assert!(all.contains("\"digest\":\"sha256:") && all.contains("\"kind\":\"rejected\""), "{all}");
    assert!(!all.contains("nobody-but") && !all.contains(STRIPE), "{all}");
}

/// What goes to standard output, among whatever else is there, is what a record is verified against later.
#[tokio::test]
async fn checkpoints_on_standard_output_show_a_cut_tail() {
    let (app, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    let shell = format!("echo a log line; exec \"$0\" \"$@\" >>{}", out.display());
    let shell = ["sh".to_owned(), "-c".to_owned(), format!("exec >{}; {shell}", out.display())];
    let copied =
        format!("{}audit: {{ checkpoint: {{ copy_to: [stdout] }} }}\n", stripe_to(&app.url()));
    let text_of = crate::world::gateway::yaml(dir.path(), &copied);
    let gateway = Gateway::start_under(&shell, dir, &text_of).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    let audit = dir.path().join("audit");
    let verify = || {
        let mut verify = crate::world::gateway::binary();
        verify.args(["audit", "verify"]).arg(&audit).arg("--against").arg(&out);
        let done = verify.output().unwrap();
        (done.status.code(), text(&done.stdout))
    };
    let (code, said) = verify();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 agree"), "one behind the start, one at the end: {said}");
    let checkpoints = std::fs::read_to_string(audit.join("checkpoints")).unwrap();
    let first = checkpoints.split_inclusive('\n').next().unwrap();
    std::fs::write(audit.join("checkpoints"), first).unwrap();
    let files = std::fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path());
    let live = files.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).max();
    let lines = std::fs::read_to_string(live.as_ref().unwrap()).unwrap();
    std::fs::write(live.unwrap(), lines.split_inclusive('\n').next().unwrap()).unwrap();
    let (code, said) = verify();
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("cut off"), "{said}");
}

/// Half a record at the end is no tampering: it is said, with a code of its own, until the next start has cut it off.
#[tokio::test]
async fn a_torn_tail_is_said_until_the_next_start_takes_it_up() {
    let (gateway, app) = filled().await;
    let (_, dir) = gateway.stop().await;
    let audit = dir.path().join("audit");
    let verify = || {
        let out = crate::world::gateway::binary().args(["audit", "verify"]).arg(&audit).output();
        let out = out.unwrap();
        (out.status.code(), text(&out.stdout))
    };
    assert_eq!(verify().0, Some(0));
    let files = std::fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path());
    let live = files.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).max();
    let mut bytes = std::fs::read(live.as_ref().unwrap()).unwrap();
    // The middle of a batch of two is missing, and nothing is left of its first line but the beginning.
    bytes.extend_from_slice(b"{\"v\":1,\"seq\":");
    bytes.extend_from_slice(&[0; 512]);
    bytes.extend_from_slice(b"}\n{\"v\":1}\n");
    std::fs::write(live.unwrap(), bytes).unwrap();
    let (code, said) = verify();
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("TORN TAIL") && said.contains("the next start takes it up"), "{said}");
    assert!(said.contains("535 bytes at the end were not written whole"), "{said}");
    let gateway = Gateway::start_in(dir, &stripe_to(&app.url())).await;
    let (status, _dir) = gateway.stop().await;
    assert!(status.success());
    let (code, said) = verify();
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_changed_byte_is_found_with_its_position_by_both_verifiers() {
    let (gateway, _app) = filled().await;
    let (_, dir) = gateway.stop().await;
    let audit = dir.path().join("audit");
    let cli = |args: &[&str]| crate::world::gateway::binary().args(args).output().unwrap();
    let audit_text = audit.to_str().unwrap();
    let export = dir.path().join("export");
    let exported = cli(&["audit", "export", "--dir", audit_text, "-o", export.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let python = |folder: &std::path::Path| {
        std::process::Command::new("python3")
            .arg(folder.join("verify.py"))
            .arg(folder)
            .output()
            .unwrap()
    };
    let agreed = python(&export);
    assert!(agreed.status.success(), "{}{}", text(&agreed.stdout), text(&agreed.stderr));
    let ours = cli(&["audit", "verify", export.to_str().unwrap()]);
    let first = |said: &[u8]| text(said).lines().next().unwrap().to_owned();
    assert_eq!(first(&ours.stdout), first(&agreed.stdout));
    assert!(first(&ours.stdout).starts_with("EXPORT of records 1 to "), "{}", text(&ours.stdout));
    // One digit of one record.
    let records = std::fs::read_dir(&export).unwrap().map(|e| e.unwrap().path());
    let ndjson = records.filter(|p| p.extension().is_some_and(|e| e == "ndjson")).min().unwrap();
    let tampered = std::fs::read_to_string(&ndjson).unwrap().replacen("evt_5", "evt_6", 1);
    std::fs::write(&ndjson, tampered).unwrap();
    let ours = cli(&["audit", "verify", export.to_str().unwrap()]);
    let theirs = python(&export);
    assert_eq!(
        (ours.status.code(), theirs.status.code()),
        (Some(6), Some(6)),
        "{}",
        text(&ours.stdout)
    );
    assert!(text(&ours.stdout).contains("record") && text(&theirs.stdout).contains("record"));
}

/// Whoever has the configuration knows who seals the log, and that it is no export; nobody else does, and that is said.
#[tokio::test]
async fn a_configured_log_is_sealed_by_its_own_key_and_is_no_export() {
    let ((gateway, _app), (other, _other_app)) = (filled().await, filled().await);
    let file = gateway.file.clone();
    let (_, dir) = gateway.stop().await;
    let (_, other) = other.stop().await;
    let audit = dir.path().join("audit");
    let cli = |args: &[&str]| {
        let out = crate::world::gateway::binary().arg("-c").arg(&file).args(args).output().unwrap();
        (out.status.code(), text(&out.stdout))
    };
    let (code, own) = cli(&["audit", "verify"]);
    assert!(code == Some(0) && own.contains(", from audit.checkpoint.key"), "{own}");
    let note = audit.join("export.json");
    std::fs::write(&note, "{\"v\":1,\"after\":0,\"last\":1}").unwrap();
    let by_dir = ["audit", "verify", "--dir", audit.to_str().unwrap()];
    for args in [&["audit", "verify"][..], &by_dir] {
        let (code, said) = cli(args);
        assert!(code == Some(6) && said.contains("somebody put export.json here"), "{said}");
    }
    let (code, said) = cli(&["audit", "verify", audit.to_str().unwrap()]);
    assert!(code == Some(6) && said.starts_with("EXPORT of records 1 to 1\n"), "{said}");
    // Everything anew, by somebody with a key of his own.
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::rename(other.path().join("audit"), &audit).unwrap();
    let (code, said) = cli(&["audit", "verify"]);
    assert!(code == Some(6) && said.contains("another key than audit.checkpoint.key"), "{said}");
    assert!(said.contains("other keys   ed25519 SHA256:"), "{said}");
    let (code, said) = cli(&by_dir);
    let from = format!(", from {}\n", audit.join("audit-signing.pub").display());
    assert!(code == Some(0) && said.contains("keys         ed25519 SHA256:"), "{said}");
    assert!(said.contains(&from), "{said}");
}

#[tokio::test]
async fn the_record_can_be_followed() {
    let (gateway, app) = filled().await;
    let mut tail = crate::world::gateway::binary()
        .arg("-c")
        .arg(&gateway.file)
        .args(["audit", "tail", "--json", "--outcome", "accepted"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(tail.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map(|line| {
        serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["provider_id"].clone()
    });
    assert!(lines.next().is_some(), "what was there before");
    let body = stripe_event("evt_last", "invoice.paid");
    let answer =
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
    assert_eq!((answer.status, app.count()), (200, 21));
    let followed = tokio::task::spawn_blocking(move || lines.any(|id| id == "evt_last"));
    let followed = tokio::time::timeout(crate::world::PATIENCE, followed).await;
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(followed.unwrap().unwrap(), "what came later");
}

#[tokio::test]
async fn a_second_gateway_on_one_record_is_refused() {
    let (gateway, _app) = filled().await;
    let out = gateway.cli(&["run"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("another gatepost"), "{}", text(&out.stderr));
}
