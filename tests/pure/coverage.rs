//! Every provider that the facts name has a preset, or a reason why it has none.

use std::collections::{BTreeMap, BTreeSet};

use gatepost::providers;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Covered {
    Preset(String),
    Not(BTreeMap<Why, String>),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Why {
    Memory,
    Apart,
    Unsaid,
    Unfit,
}

fn table() -> BTreeMap<String, BTreeMap<String, Covered>> {
    serde_yaml::from_str(include_str!("coverage.yaml")).expect("the table")
}

/// What a preset of that name would be called.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[test]
fn every_provider_of_the_facts_has_a_preset_or_a_reason() {
    let (mut wrong, mut with_preset) = (Vec::new(), BTreeSet::new());
    for (name, covered) in table().into_values().flatten() {
        match covered {
            Covered::Preset(preset) if providers::preset(&preset).is_none() => {
                wrong.push(format!("{name}: there is no preset `{preset}`"));
            }
            Covered::Preset(preset) => {
                with_preset.insert(preset);
            }
            Covered::Not(why) => {
                let sentence = why.values().next().filter(|_| why.len() == 1);
                if sentence.is_none_or(|text| text.len() < 10) {
                    wrong.push(format!("{name}: one reason, in words"));
                }
                // `Starling v2` would be `starling`, too.
                let own = slug(&name);
                let is_its = |preset: &str| {
                    own == preset
                        || own.strip_prefix(preset).is_some_and(|rest| rest.starts_with("-v"))
                };
                wrong.extend(
                    providers::names()
                        .filter(|preset| is_its(preset))
                        .map(|preset| format!("{name}: a reason, although there is `{preset}`")),
                );
            }
        }
    }
    let uncalled = providers::names().filter(|name| !with_preset.contains(*name));
    wrong.extend(uncalled.map(|name| format!("{name}: no facts name it")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
