//! `gatepost send PRESET` without a configuration: a request as its provider sends it, signed with a secret made for it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use gatepost::providers;

/// Presets whose requests cannot be made, and why.
const UNSIGNED: [(&str, &str); 14] = [
    ("apple-app-store", "its keys are certificates"),
    ("aws-sns", "the signature stands in the body, beside what it signs"),
    ("azure-event-grid", "what is compared is in the URL"),
    ("contentful", "the headers that it signs are listed by the provider"),
    ("ebay", "its signature stands in JSON in a header"),
    ("figma", "what is compared is in the body"),
    ("http-message-signatures", "what it signs is listed in a header"),
    ("mailchimp", "what is compared is in the URL"),
    ("microsoft-graph", "what is compared is in the body"),
    ("pusher", "its secrets have names"),
    ("sanity", "its time is not checked, so nobody knows how it is written"),
    ("strava", "what is compared is in the body"),
    ("truelayer", "the headers that it signs are listed by the provider"),
    ("viva", "what is compared is in the URL"),
];

/// Presets whose requests need something of the operator's before a source believes them.
const NAMED: [(&str, &str); 5] = [
    ("adobe-io", "the body names the client, which `--set` can say"),
    ("alexa", "the body holds the time, which `--set` can say"),
    ("binance-pay", "requests name the key"),
    ("circle", "requests name the key"),
    ("github-secret-scanning", "requests name the key"),
];

fn gatepost(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn write_private(file: &Path, text: &str) {
    let private = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file);
    private.unwrap().write_all(text.as_bytes()).unwrap();
}

/// What the provider would send, and with which secret it is signed; none where it cannot be made.
fn sent(name: &str, more: &[&str]) -> Option<(Vec<u8>, String)> {
    let empty = tempfile::tempdir().unwrap();
    let out = gatepost(empty.path(), &[&["send", name], more].concat(), b"");
    let said = String::from_utf8(out.stderr).unwrap();
    let (_, secret) = said.split_once("signed with ")?;
    let secret = secret
        .strip_prefix("the test secret ")
        .or_else(|| secret.strip_prefix("a test key, whose public one is\n"));
    Some((out.stdout, secret.expect("a secret or a key").trim_end().to_owned()))
}

/// Whether a source of that preset believes a request; what the doctor says of it.
fn judged(name: &str, secret: &str, request: &[u8]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let params = providers::preset(name).unwrap().params.iter().filter(|(_, p)| !p.optional);
    let params: Vec<_> = params.map(|(name, p)| format!("{name}: {:?}", p.example)).collect();
    let text = format!(
        "version: 1\nserver: {{ public_url: \"https://hooks.example.com\" }}\ntls: {{ mode: none }}\n\
         sources: {{ {name}: {{ provider: {name}, secret: {secret:?}, params: {{ {} }} }} }}\n\
         routes: [ {{ source: {name}, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n",
        params.join(", ")
    );
    write_private(&dir.path().join("gatepost.yaml"), &text);
    let out = gatepost(dir.path(), &["verify", "-"], request);
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    (out.status.success(), said)
}

#[test]
fn every_preset_believes_what_is_sent_for_it() {
    for name in providers::names() {
        let made = sent(name, &[]);
        assert_eq!(made.is_none(), UNSIGNED.iter().any(|(other, _)| *other == name), "{name}");
        let Some((request, secret)) = made else { continue };
        let (believed, said) = judged(name, &secret, &request);
        let named = NAMED.iter().any(|(other, _)| *other == name);
        assert_eq!(believed, !named, "{name}: {said}\n{}", String::from_utf8_lossy(&request));
    }
}

#[test]
fn a_public_key_may_be_a_block() {
    let (request, key) = sent("discord", &[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let block = format!("      {}\n", key.replace('\n', "\n      "));
    let text = format!(
        "version: 1\ntls: {{ mode: none }}\nsources:\n  discord:\n    provider: discord\n    secret: |\n{block}\
         routes: [ {{ source: discord, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n"
    );
    write_private(&dir.path().join("gatepost.yaml"), &text);
    let out = gatepost(dir.path(), &["verify", "-"], &request);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat())
    );
}

#[test]
fn examples_are_those_of_their_provider() {
    for (name, part) in [
        ("zoom", "\"event\": \"meeting.started\""),
        ("xero", "\"eventCategory\": \"CONTACT\""),
        ("twitch", "\"broadcaster_user_login\": \"twitch\""),
    ] {
        let (request, _) = sent(name, &[]).unwrap();
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains(part), "{name}: {request}");
    }
    let (request, secret) = sent("zoom", &["--set", "payload.object.duration=7"]).unwrap();
    let text = String::from_utf8(request.clone()).unwrap();
    assert!(text.contains("\"duration\": 7"), "{text}");
    assert!(judged("zoom", &secret, &request).0);
    let (tampered, secret) = sent("zoom", &["--tamper"]).unwrap();
    assert!(!judged("zoom", &secret, &tampered).0);
}
