//! `gatepost send PRESET` without a configuration: a request as its provider sends it, signed with a secret made for it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use gatepost::providers;

/// Presets whose requests cannot be made, and why.
const UNSIGNED: [(&str, &str); 1] = [("ebay", "signatures with SHA-1 are only checked")];

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

/// A secret, and the name that it has where requests name theirs.
type Secret = (String, Option<String>);

/// What the provider would send, and with which secret it is signed.
fn sent(name: &str, more: &[&str]) -> (Vec<u8>, Secret) {
    let empty = tempfile::tempdir().unwrap();
    let out = gatepost(empty.path(), &[&["send", name], more].concat(), b"");
    let said = String::from_utf8(out.stderr).unwrap();
    let (_, secret) = said.split_once("signed with ").unwrap_or_else(|| panic!("{name}: {said}"));
    let secret = secret
        .strip_prefix("the test secret ")
        .or_else(|| secret.strip_prefix("a test key, whose public one is\n"));
    let secret = secret.expect("a secret or a key").trim_end();
    match secret.split_once(", whose id is ") {
        Some((secret, id)) => (out.stdout, (secret.to_owned(), Some(id.to_owned()))),
        None => (out.stdout, (secret.to_owned(), None)),
    }
}

/// Whether a source of that preset believes a request; what the doctor says of it.
fn judged(name: &str, (secret, id): &Secret, request: &[u8]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let params = providers::preset(name).unwrap().needed_params();
    let params: Vec<_> = params.map(|(name, p)| format!("{name}: {:?}", p.example)).collect();
    let id = id.as_ref().map(|id| format!(", id: {id}")).unwrap_or_default();
    let text = format!(
        "version: 1\nserver: {{ public_url: \"https://hooks.example.com\" }}\ntls: {{ mode: none }}\n\
         sources: {{ {name}: {{ provider: {name}, secret: {{ file: {}{id} }}, params: {{ {} }} }} }}\n\
         routes: [ {{ source: {name}, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n",
        dir.path().join("secret").display(),
        params.join(", ")
    );
    write_private(&dir.path().join("secret"), secret);
    write_private(&dir.path().join("gatepost.yaml"), &text);
    let out = gatepost(dir.path(), &["verify", "-"], request);
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    (out.status.success(), said)
}

#[test]
fn every_preset_believes_what_is_sent_for_it() {
    for name in providers::names() {
        if let Some((_, why)) = UNSIGNED.iter().find(|(other, _)| *other == name) {
            let dir = tempfile::tempdir().unwrap();
            let out = gatepost(dir.path(), &["send", name], b"");
            let said = String::from_utf8(out.stderr).unwrap();
            assert!(!out.status.success() && said.contains(why), "{name}: {said}");
            continue;
        }
        let (request, secret) = sent(name, &[]);
        let (believed, said) = judged(name, &secret, &request);
        assert!(believed, "{name}: {said}\n{}", String::from_utf8_lossy(&request));
    }
}

/// Wherever a signature or a token stands: another one is not believed, nor is none.
#[test]
fn what_is_forged_is_not_believed() {
    for name in [
        "apple-app-store",
        "aws-sns",
        "azure-event-grid",
        "contentful",
        "figma",
        "github",
        "microsoft-graph",
        "pusher",
        "sanity",
        "ssf",
        "strava",
    ] {
        for how in ["forged", "missing"] {
            let (request, secret) = sent(name, &["--signature", how]);
            let (believed, _) = judged(name, &secret, &request);
            assert!(!believed, "{name}, {how}: {}", String::from_utf8_lossy(&request));
        }
    }
}

/// A token in a body or in a query is the source's secret: it is not printed, unless it was made for the occasion.
#[test]
fn tokens_are_not_printed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "a-token-that-nobody-may-read";
    let text = "version: 1\ntls: { mode: none }\nsources:\n  design: { provider: figma, secret: TOKEN }\n  \
                grid: { provider: azure-event-grid, secret: TOKEN-2 }\n\
                routes: [ { source: design, to: app }, { source: grid, to: app } ]\nupstreams: { app: \"http://127.0.0.1:9\" }\n";
    write_private(&dir.path().join("gatepost.yaml"), &text.replace("TOKEN", secret));
    for (source, shown) in [("design", "\"passcode\":\"...\""), ("grid", "?code=...")] {
        let out = gatepost(dir.path(), &["send", source, "--show-request"], b"");
        let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(out.status.success() && said.contains(shown) && !said.contains(secret), "{said}");
    }
}

/// What cannot be signed says why.
#[test]
fn what_is_not_signed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let text = "version: 1\nserver: { public_url: \"https://hooks.example.com\" }\ntls: { mode: none }\nsources:\n  \
                topic: { provider: aws-sns, pin: v1, params: { topic: \"arn:aws:sns:us-east-1:123456789012:orders\" } }\n\
                routes: [ { source: topic, to: app } ]\nupstreams: { app: \"http://127.0.0.1:9\" }\n";
    write_private(&dir.path().join("gatepost.yaml"), text);
    let out = gatepost(dir.path(), &["send", "topic", "--show-request"], b"");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success(), "{said}");
    assert!(said.contains("`rsa-pkcs1-sha1`: signatures with SHA-1 are only checked"), "{said}");
}

#[test]
fn a_public_key_may_be_a_block() {
    let (request, (key, _)) = sent("discord", &[]);
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
        let (request, _) = sent(name, &[]);
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains(part), "{name}: {request}");
    }
    let (request, secret) = sent("zoom", &["--set", "payload.object.duration=7"]);
    let text = String::from_utf8(request.clone()).unwrap();
    assert!(text.contains("\"duration\": 7"), "{text}");
    assert!(judged("zoom", &secret, &request).0);
    let (tampered, secret) = sent("zoom", &["--tamper"]);
    assert!(!judged("zoom", &secret, &tampered).0);
}

/// A key may be kept where one wants it; what it signed is believed with the public one.
#[test]
fn a_key_in_a_file_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    let key = file.to_str().unwrap();
    let ((request, secret), (again, other)) =
        (sent("discord", &["--key", key]), sent("discord", &["--key", key]));
    assert_eq!(secret, other);
    assert!(judged("discord", &secret, &request).0 && judged("discord", &secret, &again).0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for (source, key, why) in [
        ("github", key, "share a secret"),
        ("wise", key, "key.pem: is not a private key for"),
        ("discord", "none/key.pem", "none/key.pem"),
    ] {
        let out = gatepost(dir.path(), &["send", source, "--key", key], b"");
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && said.contains(why), "{source}: {said}");
    }
}

/// Standard input can be read once, however often the request is signed.
#[test]
fn a_body_from_standard_input_is_signed_with_a_kept_key() {
    let dir = tempfile::tempdir().unwrap();
    let (_, (secret, _)) = sent("discord", &[]);
    write_private(&dir.path().join("secret"), &secret);
    let text = format!(
        "version: 1\ntls: {{ mode: none }}\nstorage: {{ dir: {0} }}\n\
         sources: {{ discord: {{ provider: discord, secret: {{ file: {0}/secret }} }} }}\n\
         routes: [ {{ source: discord, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n",
        dir.path().display()
    );
    write_private(&dir.path().join("gatepost.yaml"), &text);
    let args = ["send", "discord", "--show-request", "--body", "-"];
    let out = gatepost(dir.path(), &args, b"{\"type\": 0}");
    let (shown, said) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(shown.ends_with("\n\n{\"type\": 0}\n"), "{shown}{said}");
    assert!(said.contains("set it as `secret` of `discord`"), "{said}");
}
