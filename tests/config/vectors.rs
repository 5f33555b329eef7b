//! `gatepost verify --vectors`: files of requests with the verdict that they must get.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::commands::gatepost;

/// A vector of GitHub, as its file has it.
fn vector(name: &str) -> Value {
    let all = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/github.json"));
    let all: Vec<Value> = serde_json::from_str(&all.unwrap()).unwrap();
    let mut vector = all.into_iter().find(|vector| vector["name"] == name).unwrap();
    vector.as_object_mut().unwrap().insert("provider".into(), "github".into());
    vector
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
        wrongly("kind", "handshake".into()),
    ];
    let (code, said) = run(dir.path(), &all, &[]);
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "vectors.json  github/octokit_foo_bar\n  expected  invalid\n  got       valid",
        "  expected  valid\n  got       signature_wrong: The signature is well formed and no live secret made it",
        "no_such: no such preset, 1 not checked",
        "vectors.json: 1 agree, 2 do not, 1 of challenges not checked",
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
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/github.json");
    let (code, said) = gatepost(dir.path(), &["verify", "--vectors", file], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with(": 7 agree, 0 do not\n"), "{said}");
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
