//! `docs/custom-source.md`, done as it says: its configuration, and each of its commands in turn.

use std::process::Output;

use crate::world::{Gateway, Upstream, gateway::write_private};

const PAGE: &str = include_str!("../../docs/custom-source.md");

/// The blocks of code in a language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&[&*out.stdout, &*out.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")] // the app must answer while `send` runs
async fn a_provider_without_a_preset_takes_fifteen_lines_and_five_commands() {
    let yaml = blocks("yaml")[0];
    assert!(yaml.lines().count() < 15, "{yaml}");
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_private(&dir.path().join("acme.secret"), "a secret that Acme gave us\n");
    let secret = dir.path().join("acme.secret").display().to_string();
    let source = yaml.split_once("tls: { mode: none }\n").expect("plain HTTP").1;
    let source =
        source.replace("http://127.0.0.1:3000/erp", &app.url()).replace("acme.secret", &secret);
    let gateway = Gateway::start_in(dir, &source).await;
    let to = format!("http://{}/acme-erp", gateway.address);

    let mut said = Vec::new();
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let (command, file) = command.split_once('>').unwrap_or((command, ""));
        let request = gateway.dir().join("request.txt").display().to_string();
        let mut args: Vec<&str> = command.split_whitespace().skip(1).collect();
        args.iter_mut().filter(|arg| **arg == "request.txt").for_each(|arg| *arg = &request);
        if args[0] == "send" {
            args.extend(["--to", &to]);
        }
        let out = gateway.cli(&args);
        let expected = if comment.contains("ends with 1") { 1 } else { 0 };
        assert_eq!(out.status.code(), Some(expected), "{line}\n{}", text(&out));
        if file.trim() == "request.txt" {
            std::fs::write(&request, &out.stdout).unwrap();
        }
        said.push(text(&out));
    }
    let expected = ["Valid", "200 accepted", "200 duplicate", "401 refused", "401 refused"];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "no {expected:?} in\n{said}");
    }
    assert_eq!((said.len(), app.count()), (7, 1), "{said:#?}");
}
