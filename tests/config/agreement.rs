//! All that is known of how providers sign, ask and want to be answered, as vectors: published by them, or signed and judged by their
//! own libraries, or made by their documented formula. Each goes the way that `gatepost verify --vectors` takes, and where we say something
//! else, that stands in `otherwise.yaml`, with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gatepost::providers;
use serde::Deserialize;
use serde_json::Value;

use crate::commands::gatepost;

/// The files, and how many vectors each has at least: what is known is not forgotten.
const FILES: [(&str, usize); 6] = [
    ("asymmetric.json", 203),
    ("derived.json", 209),
    ("handshakes.json", 42),
    ("hmac-derived.json", 114),
    ("hmac.json", 244),
    ("published.json", 27),
];

#[derive(Deserialize)]
struct Otherwise {
    got: String,
    why: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vectors(file: &str) -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(folder().join(file)).expect(file)).expect(file)
}

fn called(vector: &Value) -> String {
    format!("{}/{}", vector["provider"].as_str().unwrap(), vector["name"].as_str().unwrap())
}

/// What came of a file: how many agree, and what was got of each that does not.
struct Told {
    agreed: usize,
    disagreeing: BTreeMap<String, String>,
    unknown: Value,
}

fn check(path: &Path) -> Told {
    let args = ["verify", "--json", "--vectors", path.to_str().unwrap()];
    let (_, said) = gatepost(path.parent().unwrap(), &args, &[]);
    let told: Value =
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{}: {e}: {said}", path.display()));
    let each = told[0]["disagreements"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Told {
        agreed: usize::try_from(told[0]["agreed"].as_u64().unwrap()).unwrap(),
        disagreeing: each.map(|one| (text(&one["vector"]), text(&one["got"]))).collect(),
        unknown: told[0]["unknown"].clone(),
    }
}

/// What is the matter with a file, by vector.
fn wrong(file: &str, told: &Told, listed: &BTreeMap<String, Otherwise>) -> Vec<String> {
    let unlisted = told.disagreeing.iter().filter_map(|(vector, got)| match listed.get(vector) {
        Some(row) if got.starts_with(&row.got) => None,
        Some(row) => Some(format!("{file} {vector}: {got}, and {} is listed", row.got)),
        None => Some(format!("{file} {vector}: {got}, which is not listed")),
    });
    let over = listed.keys().filter(|vector| !told.disagreeing.contains_key(*vector));
    unlisted.chain(over.map(|vector| format!("{file} {vector}: agrees, and is listed"))).collect()
}

#[test]
fn every_vector_comes_out_as_it_must_or_as_it_is_listed() {
    let text = fs::read_to_string(folder().join("otherwise.yaml")).unwrap();
    let mut listed: BTreeMap<String, BTreeMap<String, Otherwise>> =
        serde_yaml::from_str(&text).unwrap();
    let mut all_wrong = Vec::new();
    for (file, least) in FILES {
        let told = check(&folder().join(file));
        let listed = listed.remove(file).unwrap_or_default();
        assert!(listed.values().all(|row| row.why.len() > 20 && !row.got.is_empty()), "{file}");
        all_wrong.extend(wrong(file, &told, &listed));
        // Each by a preset or a scheme, and once.
        let vectors = vectors(file);
        assert!(vectors.len() >= least, "{file} had {least} vectors, and has {}", vectors.len());
        assert_eq!(told.unknown, serde_json::json!({}), "{file}");
        assert_eq!(told.agreed + told.disagreeing.len(), vectors.len(), "{file}");
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    assert!(listed.is_empty(), "there are no such files: {:?}", listed.keys());
}

#[test]
fn every_file_of_the_folder_is_checked() {
    let paths = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let names = paths.map(|path| path.file_name().unwrap().to_owned());
    let names: BTreeSet<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(names, FILES.map(|(file, _)| file.to_owned()).into());
}

/// Turned round, each vector that agreed does not, and one that was listed is no excuse: none is passed over.
#[test]
fn no_verdict_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(folder().join("schemes.yaml"), dir.path().join("schemes.yaml")).unwrap();
    for (file, _) in FILES {
        let before = check(&folder().join(file));
        let mut all = vectors(file);
        for vector in &mut all {
            vector["valid"] = (!vector["valid"].as_bool().unwrap()).into();
        }
        let path = dir.path().join(file);
        fs::write(&path, Value::from(all.clone()).to_string()).unwrap();
        let after = check(&path);
        let missed = all.iter().map(called).filter(|vector| {
            !before.disagreeing.contains_key(vector) && !after.disagreeing.contains_key(vector)
        });
        assert_eq!(missed.collect::<Vec<_>>(), Vec::<String>::new(), "{file}");
    }
}

/// One bit of a body is enough, and so is one of an answer, of a name, and of a key.
#[test]
fn a_vector_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spoil = |file: &str, name: &str, spoil: fn(&mut Value)| {
        let mut all = vectors(file);
        spoil(all.iter_mut().find(|vector| called(vector) == name).expect(name));
        fs::write(dir.path().join(file), Value::from(all).to_string()).unwrap();
        let listed = check(&folder().join(file)).disagreeing;
        let mut found = check(&dir.path().join(file)).disagreeing;
        found.retain(|vector, got| listed.get(vector) != Some(got));
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [name]);
    };
    fs::copy(folder().join("schemes.yaml"), dir.path().join("schemes.yaml")).unwrap();
    spoil("hmac.json", "github/octokit_foo_bar", |vector| {
        let body = vector["body_base64"].as_str().unwrap();
        let other = if body.starts_with('e') { "f" } else { "e" };
        vector["body_base64"] = format!("{other}{}", &body[1..]).into();
    });
    spoil("handshakes.json", "okta/verification_ok", |vector| {
        vector["expect"]["body"] = r#"{"verification":"my-verification-valuf"}"#.into();
    });
    spoil("derived.json", "liveblocks/valid", |vector| vector["event_type"] = "another".into());
    spoil("asymmetric.json", "kinde/ok", |vector| {
        vector["keys"]["jwks"]["keys"][0]["e"] = "Aw".into();
    });
}

/// A preset and a scheme of the tests would be two opinions; only a vector of its own may have a scheme of its own.
#[test]
fn schemes_are_those_of_senders_without_a_preset() {
    let text = fs::read_to_string(folder().join("schemes.yaml")).unwrap();
    let schemes: BTreeMap<String, serde_yaml::Value> = serde_yaml::from_str(&text).unwrap();
    let all: Vec<_> = FILES.iter().flat_map(|(file, _)| vectors(file)).collect();
    let names: BTreeSet<_> = all.iter().map(called).collect();
    for scheme in schemes.keys() {
        let is_used = |name: &String| name == scheme || name.starts_with(&format!("{scheme}/"));
        assert!(names.iter().any(is_used), "{scheme} has no vectors");
        let has =
            |preset: &providers::Preset| preset.name == *scheme || preset.vectors.contains(scheme);
        assert!(!providers::catalogue().any(has), "{scheme} has a preset");
    }
}
