//! `gatepost verify --vectors`: files of requests with the verdict that they must get.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::commands::gatepost;

/// A vector of GitHub, as its file has it.
fn vector(name: &str) -> Value {
    let all = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/hmac.json"));
    let all: Vec<Value> = serde_json::from_str(&all.unwrap()).unwrap();
    let is_it = |v: &Value| v["provider"] == "github" && v["name"] == name;
    all.into_iter().find(is_it).unwrap()
}

fn run(dir: &Path, vectors: &[Value], more: &[&str]) -> (Option<i32>, String) {
    fs::write(dir.join("vectors.json"), Value::from(vectors).to_string()).unwrap();
    gatepost(dir, &[&["verify", "--vectors", "vectors.json"], more].concat(), &[])
}

#[test]
fn vectors_that_agree_are_counted_and_others_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let good = vector("octokit_foo_bar");
    let (code, said) = run(dir.path(), std::slice::from_ref(&good), &[]);
    assert_eq!((code, &*said), (Some(0), "vectors.json: 1 agree, 0 do not\n"));

    let wrongly = |key: &str, value: Value| {
        let mut vector = good.clone();
        vector.as_object_mut().unwrap().insert(key.into(), value);
        vector
    };
    let all = [
        good.clone(),
        wrongly("valid", false.into()),
        wrongly("secrets", json!(["another secret"])),
        wrongly("provider", "no_such".into()),
    ];
    let (code, said) = run(dir.path(), &all, &[]);
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "vectors.json  github/octokit_foo_bar\n  expected  invalid\n  got       valid",
        "  expected  valid\n  got       signature_wrong: The signature is well formed and no live secret made it",
        "no_such: no such preset or scheme, 1 not checked",
        "vectors.json: 1 agree, 2 do not",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let (code, said) = run(dir.path(), &all, &["--json"]);
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(1));
    assert_eq!(told[0]["agreed"], 1);
    assert_eq!(told[0]["disagreements"][0]["vector"], "github/octokit_foo_bar");
    assert_eq!(told[0]["unknown"], json!({ "no_such": 1 }));
}

#[test]
fn a_file_that_names_no_provider_is_called_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut vector = vector("octokit_foo_bar");
    vector.as_object_mut().unwrap().remove("provider");
    fs::write(dir.path().join("github.json"), Value::from([vector]).to_string()).unwrap();
    let (code, said) = gatepost(dir.path(), &["verify", "--vectors", "github.json"], &[]);
    assert_eq!((code, &*said), (Some(0), "github.json: 1 agree, 0 do not\n"));
}

/// The schemes of senders without a preset stand beside the file.
#[test]
fn a_scheme_beside_the_file_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut vector = vector("octokit_foo_bar");
    vector["provider"] = "acme".into();
    let own = "acme:\n  event: { id: '{header:X-GitHub-Delivery}', type: push }\n  verify: { signature: { \
               header: X-Hub-Signature-256, prefix: 'sha256=' }, signed: '{body}' }\n";
    fs::write(dir.path().join("schemes.yaml"), own).unwrap();
    let (code, said) = run(dir.path(), std::slice::from_ref(&vector), &[]);
    assert_eq!((code, &*said), (Some(0), "vectors.json: 1 agree, 0 do not\n"));
    let other = own.replace("X-Hub-Signature-256", "X-Other");
    fs::write(dir.path().join("schemes.yaml"), other).unwrap();
    let (code, said) = run(dir.path(), &[vector], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("signature_missing"), "{said}");
    fs::write(dir.path().join("schemes.yaml"), "acme: { verfy: {} }").unwrap();
    assert_eq!(run(dir.path(), &[], &[]).0, Some(1), "what is wrong with it is said");
}

#[test]
fn a_file_that_is_none_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad.json"), "[{\"provider\": 1}]").unwrap();
    for file in ["bad.json", "absent.json"] {
        let args = ["verify", "--vectors", file];
        assert_eq!(gatepost(dir.path(), &args, &[]).0, Some(1), "{file}");
    }
    assert_eq!(gatepost(dir.path(), &["verify"], &[]).0, Some(2), "a request or vectors");
}
