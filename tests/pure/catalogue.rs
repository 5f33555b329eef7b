//! The preset files: each is whole, says of itself what is computed from it, and can be pasted.

use std::{collections::BTreeSet, fs, path::Path};

use gatepost::providers::{self, AnswerShape, Compiled, Fact, Preset};

use crate::source::{Source, compiled, examples, verifier};

/// A preset and the text of its file.
fn files() -> Vec<(&'static Preset, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    let text = |name: &str| fs::read_to_string(folder.join(format!("{name}.yaml"))).expect(name);
    providers::catalogue().map(|preset| (preset, text(&preset.name))).collect()
}

#[test]
fn the_list_is_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/providers");
    let names = fs::read_dir(folder).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".yaml").map(str::to_owned)
    });
    let names: BTreeSet<String> = names.collect();
    let listed: Vec<_> = providers::names().collect();
    assert_eq!(listed, names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(listed.len() > 150, "{}", listed.len());
    assert_eq!(providers::preset("strpe"), None);
}

#[test]
fn files_are_whole() {
    for (preset, text) in files() {
        let name = &preset.name;
        // What is special about a provider stands on top; a comment between keys would belong to none of them.
        let inside = text.lines().skip_while(|line| line.starts_with('#'));
        assert!(text.starts_with("# ") && inside.clone().all(|l| !l.starts_with('#')), "{name}");
        assert_eq!(inside.clone().next(), Some(&*format!("name: {name}")), "{name}");
        assert!(inside.clone().all(|line| line.len() <= 320), "{name}");
        let links = preset.docs.iter().all(|link| link.starts_with("https://"));
        assert!(links && !preset.docs.is_empty(), "{name}");
        assert!(preset.known_types.is_sorted(), "{name}");
        assert!(preset.secret.found_at.is_some(), "{name}");
        for fact in [Fact::Signature, Fact::Event, Fact::Delivery, Fact::Secret] {
            assert!(preset.evidence.contains_key(&fact), "{name}: how is {fact:?} known?");
        }
        let answers = [&preset.ack, &preset.invalid, &preset.drop_forever];
        let special = answers.iter().any(|answer| **answer != AnswerShape::default());
        for (fact, said) in [
            (Fact::Time, has_time(preset)),
            (Fact::Handshake, !preset.handshake.is_empty()),
            (Fact::Answers, special),
            (Fact::Types, !preset.known_types.is_empty()),
            (Fact::Trial, preset.trial.is_some()),
            (Fact::Body, preset.max_body.is_some()),
        ] {
            assert!(!said || preset.evidence.contains_key(&fact), "{name}: how is {fact:?} known?");
        }
        assert!(!preset.delivery.retries || preset.delivery.retried.is_some(), "{name}: what?");
    }
}

/// Whether its own file says how old a request may be.
fn has_time(preset: &Preset) -> bool {
    let verify = &preset.verify;
    let alternatives = verify.schemes.iter().map(|own| &own.scheme);
    let mut schemes = alternatives.chain([&verify.scheme]);
    preset.like.is_none() && schemes.any(|scheme| scheme.timestamp.is_some())
}

/// What is like another says of itself only where it differs.
#[test]
fn likeness_is_one_step_and_saves_words() {
    let alike = files().into_iter().filter(|(preset, _)| preset.like.is_some());
    let mut count = 0;
    for (preset, text) in alike {
        let base = providers::preset(preset.like.as_ref().unwrap()).expect("its model");
        assert_eq!(base.like, None, "{}", preset.name);
        assert_eq!(text.contains("\nverify:"), preset.verify != base.verify, "{}", preset.name);
        count += 1;
    }
    assert!(count > 10, "{count}");
}

/// Derived, and declared for people to read: nobody can claim that something is signed which is not.
#[test]
fn signatures_cover_what_the_files_say() {
    let mut wrong = Vec::new();
    for preset in providers::catalogue() {
        let language = compiled(&preset.name);
        let (covers, fields) = (language.covers, language.covers_event);
        if (covers, &fields) != (preset.covers, &preset.covers_event) {
            wrong.push(format!("{}: {covers:?} {fields:?}", preset.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A source is asked for a secret where it does not work without one, and for nothing where it does.
#[test]
fn a_secret_is_asked_for_where_one_is_needed() {
    for preset in providers::catalogue() {
        let works = verifier(compiled(&preset.name), &[]).is_ok();
        assert_eq!(works, preset.secret_key() != Some("secret"), "{}", preset.name);
    }
    let key = |name| providers::preset(name).and_then(Preset::secret_key);
    assert_eq!(
        [key("stripe"), key("circle"), key("wise")],
        [Some("secret"), Some("keys_secret"), Some("secret")]
    );
    assert_eq!(key("github-secret-scanning"), None);
}

/// What is printed is what runs: the keys of a source, whole, also where another file says them.
#[test]
fn what_is_printed_compiles_to_the_same() {
    let debug = |language: Compiled| format!("{language:?}");
    for preset in providers::catalogue() {
        let printed = providers::source_of(&preset.name).expect("its file");
        let source: Source = serde_yaml::from_str(&printed).expect(&printed);
        assert_eq!((&source.verify, &source.event), (&preset.verify, &preset.event));
        let pasted =
            providers::compile(&source.verify, &source.event, &source.handshake, &examples(preset));
        assert_eq!(debug(pasted.expect(&printed)), debug(compiled(&preset.name)), "{printed}");
        let whole: serde_yaml::Value = serde_yaml::from_str(&printed).expect(&printed);
        for (key, own) in [
            ("ack", &preset.ack),
            ("invalid", &preset.invalid),
            ("drop_forever", &preset.drop_forever),
        ] {
            let pasted = whole.get(key).cloned().map(serde_yaml::from_value::<AnswerShape>);
            assert_eq!(pasted.transpose().unwrap().unwrap_or_default(), *own, "{key}: {printed}");
        }
        let size = preset.max_body.map(|size| size.to_string());
        assert_eq!(whole.get("max_body").and_then(|size| size.as_str()), size.as_deref());
    }
}

/// No preset is without a request that its provider could have sent.
#[test]
fn every_preset_has_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut groups = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let vectors: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).unwrap()).expect("vectors");
            let all = vectors.as_array().expect("a list").iter();
            let valid = all.filter(|vector| vector["valid"] == true);
            groups.extend(
                valid.map(|vector| vector["provider"].as_str().unwrap_or_default().to_owned()),
            );
        }
    }
    let has = |preset: &Preset| {
        let named = preset.vectors.iter().all(|group| groups.contains(group));
        let derived = groups.contains(&preset.name);
        named && (derived || !preset.vectors.is_empty())
    };
    let lacking: Vec<_> =
        providers::catalogue().filter(|p| !has(p)).map(|preset| &preset.name).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}
