//! What `gatepost providers` prints: a table that fits a terminal, and sources that can be pasted.

use std::fs;

use gatepost::providers;
use serde_json::Value;

use super::commands::gatepost;

#[test]
fn the_list_fits_a_terminal_and_marks_what_is_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = gatepost(dir.path(), &["providers", "list"], &[]);
    assert_eq!(code, Some(0));
    let long: Vec<_> = said.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(long.is_empty(), "{long:#?}");
    for name in providers::names() {
        assert!(said.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}");
    }
    let line = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap();
    insta::assert_snapshot!([line("PROVIDER"), line("circle "), line("gitlab"), line("razorpay"), line("slack"), line("stripe")].join("\n"), @r"
    PROVIDER                 SCHEME                           COVERS  CHALLENGE WAITS  RETRIES    KNOWN
    circle                   ecdsa-p256-sha256                body    answered~ ?      yes~       D
    gitlab                   hmac-sha256, token               nothing -         10s~   never~     D
    razorpay                 hmac-sha256                      body    -         5s~    for 1d~    V
    slack                    hmac-sha256                      body    answered~ 3s~    for 6m~    V
    stripe                   hmac-sha256                      body    -         ?      for 3d     V
    ");
    // Every cell begins where its head does, however long the name.
    let head = line("PROVIDER");
    let columns: Vec<_> =
        head.split_whitespace().map(|word| head.find(word).expect("a column")).collect();
    for name in providers::names() {
        let row = line(&format!("{name} "));
        let begins = |at: &&usize| row.is_char_boundary(**at) && !row[**at..].starts_with(' ');
        let behind = |at: &usize| *at == 0 || row[..*at].ends_with(' ');
        assert!(columns.iter().filter(begins).all(behind), "{row}");
        assert_eq!(columns.iter().filter(begins).count(), columns.len(), "{row}");
    }
}

#[test]
fn the_list_for_programs_has_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, said) = gatepost(dir.path(), &["providers", "list", "--json"], &[]);
    let all: Vec<Value> = serde_json::from_str(&said).unwrap();
    assert_eq!(all.len(), providers::names().count());
    let slack = all.iter().find(|preset| preset["name"] == "slack").unwrap();
    assert_eq!(slack["schemes"], serde_json::json!(["hmac-sha256"]));
    assert_eq!((&slack["covers"], &slack["deadline_ms"]), (&"body".into(), &3000.into()));
    assert_eq!(slack["evidence"]["delivery"]["marks"], "K");
}

#[test]
fn one_preset_with_what_is_known_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let show = |name| gatepost(dir.path(), &["providers", "show", name], &[]);
    insta::assert_snapshot!(show("postmark").1, @r#"
    # Postmark
    #   https://postmarkapp.com/developer/webhooks/webhooks-overview
    # Signed: nothing of the request; nothing of the event
    # A body has 1MiB at most, as for every source; its provider's limit is not known
    # Waits: a time that is not published. Retries: for 11h
    # Retried: anything but 200; 403 stops retries
    # Delivery: Up to ten tries between one minute and six hours, for some types. Addresses are published.
    # Marks of evidence: K from memory; check it
    # Evidence of signature: K postmarkapp.com/developer/webhooks (check this)
    # Evidence of event: K postmarkapp.com/developer/webhooks (check this)
    # Evidence of answers: K postmarkapp.com/developer/webhooks: 403 stops retries (check this)
    # Evidence of delivery: K postmarkapp.com/developer/webhooks (check this)
    # Evidence of secret: K from memory (check this)
    # Below `sources:` this is what `provider: postmark` is:
      postmark:
        provider: custom
        secret: ${POSTMARK_WEBHOOK_SECRET}   # your server > Webhooks > your webhook > Basic auth credentials (write them as user:password)
        verify:
          mac: basic
        event:
          id: "{json:RecordType}:{json:MessageID}"
          type: "{json:RecordType}"
        drop_forever: { status: 403 }
    "#);
    assert_eq!(show("nope").0, Some(3));
}

/// Every preset, printed and pasted into one configuration.
#[test]
fn what_is_shown_can_be_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "version: 1\ntls: { mode: none }\nserver: { public_url: \"https://hooks.example.com\" }\nsources:\n".to_owned();
    for name in providers::names() {
        let (code, said) = gatepost(dir.path(), &["providers", "show", name], &[]);
        assert_eq!(code, Some(0), "{name}");
        text += &said;
    }
    text += "routes:\n";
    for name in providers::names() {
        text.push_str("  - { source: ");
        text.push_str(name);
        text.push_str(", to: app }\n");
    }
    text += "upstreams: { app: \"http://127.0.0.1:9\" }\n";
    fs::write(dir.path().join("gatepost.yaml"), &text).unwrap();
    let (code, said) = gatepost(dir.path(), &["check", "--offline"], &[]);
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!((code, errors), (Some(0), Vec::new()), "{said}");
    assert!(said.contains(&format!("{} sources", providers::names().count())), "{said}");
}

/// What is said of a source of a preset: `name: rest`.
fn said_of(source: &str) -> String {
    let name = source.split(':').next().unwrap();
    let text = format!(
        "version: 1\nserver: {{ public_url: \"https://hooks.example.com\" }}\ntls: {{ mode: none }}\nsources:\n  {source}\n\
         routes: [ {{ source: {name}, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:3000\" }}\n"
    );
    match gatepost::config::parse_str("gatepost.yaml", &text, &super::options()) {
        Ok(loaded) => loaded.warnings.human(false),
        Err(report) => report.human(false),
    }
}

#[test]
fn advice_fits_the_provider() {
    let key = "\"${A_SECRET}\"";
    // Its retries go on for longer than what we remember by default.
    let wise =
        said_of("wise: { provider: wise, dedup: { window: 1h }, secret: { env: A_SECRET } }");
    assert!(!wise.contains("leave it out"), "{wise}");
    for (source, advice) in [
        (format!("gitlab: {{ provider: gitlab, secret: {key} }}"), Some("`pin: signature`")),
        (format!("buildkite: {{ provider: buildkite, secret: {key} }}"), Some("`pin: signature`")),
        (format!("buildkite: {{ provider: buildkite, secret: {key}, pin: signature }}"), None),
        (format!("flutterwave: {{ provider: flutterwave, secret: {key} }}"), Some("`pin: v4`")),
        (format!("github: {{ provider: github, secret: {key} }}"), None),
        (format!("hubspot: {{ provider: hubspot, secret: {key} }}"), None),
        (format!("telegram: {{ provider: telegram, secret: {key} }}"), None),
    ] {
        let said = said_of(&source);
        assert_eq!(said.contains("[unpinned]"), advice.is_some(), "{said}");
        assert!(advice.is_none_or(|advice| said.contains(advice)), "{said}");
    }
    let plaid = said_of("plaid: { provider: plaid }");
    assert!(plaid.contains("webhook_verification_key/get"), "{plaid}");
    assert!(!plaid.contains("signing secret"), "{plaid}");
}

/// What is covered in an excerpt ends where its quotes do.
#[test]
fn an_excerpt_keeps_its_quotes_and_braces() {
    let said = said_of(
        "paypal: { provider: paypal, tolerance: 1h, params: { webhook_id: \"8PT597110X687430L\" } }",
    );
    assert!(!said.contains("8PT597110X687430L"), "{said}");
    assert!(said.contains("webhook_id: \"•••••••••••••••••\" } }"), "{said}");
}
