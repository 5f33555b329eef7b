//! `config.example.yaml`: valid, complete, and the same to every reader of YAML.

use std::collections::BTreeSet;

use gatepost::{
    config::{self, Options},
    route::Choice,
};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value as Json, json};

const EXAMPLE: &str = include_str!("../../config.example.yaml");

fn read() -> Json {
    serde_yaml::from_str(EXAMPLE).unwrap()
}

#[test]
fn it_is_valid_and_routes_what_fintech_users_start_from() {
    let options = Options { offline: true, ..super::options() };
    let loaded = config::parse_str("config.example.yaml", EXAMPLE, &options)
        .unwrap_or_else(|report| panic!("{}", report.human(false)));
    let codes: Vec<_> = loaded.warnings.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["no-retry"], "GitHub never retries; nothing else is odd");
    for kind in [
        "subscription.created",
        "subscription.updated",
        "subscription.canceled",
        "payment.succeeded",
        "payment.failed",
        "refund.initiated",
        "customer.updated",
    ] {
        let mut sources = loaded.config.sources.iter();
        let fintech = sources.find(|source| source.name.as_str() == "fintech").unwrap();
        let choice = fintech.routes.choose(kind, |_| None);
        assert!(matches!(choice, Choice::To(_)), "{kind}: {choice:?}");
    }
}

#[test]
fn it_fits_the_schema() {
    let validator = jsonschema::validator_for(&config::schema()).unwrap();
    let example = read();
    let errors: Vec<_> = validator.iter_errors(&example).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for section in ["/limits", "/sources/stripe", "/sources/fintech/verify", "/routes/0", "/dedup"]
    {
        let mut wrong = example.clone();
        wrong.pointer_mut(section).unwrap()["misspelt"] = json!(1);
        assert!(!validator.is_valid(&wrong), "the schema is strict about {section}");
    }
}

#[test]
fn no_key_is_missing() {
    let schema = config::schema();
    assert_eq!(missing(&schema, &read()), BTreeSet::new());
    let mut without = read();
    without["audit"]["checkpoint"].as_object_mut().unwrap().remove("copy_to");
    assert_eq!(missing(&schema, &without), BTreeSet::from(["Checkpoint.copy_to".to_owned()]));
}

/// Keys that the schema knows and `example` never has, as `Section.key`.
fn missing(schema: &Json, example: &Json) -> BTreeSet<String> {
    let sections = schema["$defs"].as_object().unwrap().iter();
    let sections = sections.map(|(name, section)| (name.as_str(), section)).chain([(ROOT, schema)]);
    let known = sections.flat_map(|(name, section)| {
        let keys = section["properties"].as_object().into_iter().flat_map(Map::keys);
        keys.map(move |key| format!("{name}.{key}"))
    });
    let mut seen = BTreeSet::new();
    visit(schema, ROOT, schema, example, &mut seen);
    known.filter(|key| !seen.contains(key)).collect()
}

const ROOT: &str = "gatepost.yaml";

/// Notes which keys of which section `value` has.
fn visit(root: &Json, name: &str, schema: &Json, value: &Json, seen: &mut BTreeSet<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap();
        return visit(root, name, root.pointer(&target[1..]).unwrap(), value, seen);
    }
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        visit(root, name, form, value, seen);
    }
    for (key, below) in value.as_object().into_iter().flatten() {
        if let Some(property) = schema["properties"].get(key) {
            seen.insert(format!("{name}.{key}"));
            visit(root, name, property, below, seen);
        } else if schema["additionalProperties"].is_object() {
            visit(root, name, &schema["additionalProperties"], below, seen);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        visit(root, name, &schema["items"], item, seen);
    }
}

#[test]
fn what_is_shown_as_a_default_is_the_default() {
    let mut example = read();
    assert_eq!(example["dedup"]["store"], "embedded");
    let same = config_of(&without(&example, &["dedup", "store"])) == config_of(&example);
    assert!(same, "the default store is another");
    // So that the keys of Redis count as well.
    example["dedup"]["store"] = "redis".into();
    let whole = config_of(&example);
    let defaults = said_to_be_defaults();
    assert!(defaults.len() > 70, "the scan finds the keys: {defaults:?}");
    for path in defaults.iter().filter(|path| path.last() != Some(&"store")) {
        let same = config_of(&without(&example, path)) == whole;
        assert!(same, "the default of {path:?} is another");
    }
    let mut other = example.clone();
    other["limits"]["write_timeout"] = "11s".into();
    assert!(config_of(&other) != whole, "the comparison sees a change");
}

/// All that a configuration comes to, in words.
fn config_of(example: &Json) -> String {
    let options = Options { offline: true, ..super::options() };
    let text = serde_yaml::to_string(example).unwrap();
    let mut loaded = config::parse_str("config.example.yaml", &text, &options)
        .unwrap_or_else(|report| panic!("{}", report.human(false)));
    loaded.config.fingerprint.clear();
    format!("{:#?}", loaded.config)
}

fn without(example: &Json, path: &[&str]) -> Json {
    let mut example = example.clone();
    let (key, above) = path.split_last().unwrap();
    let section = above.iter().fold(&mut example, |section, key| &mut section[*key]);
    section.as_object_mut().unwrap().remove(*key).expect("the key is there");
    example
}

/// Paths of keys that have a value, where neither they nor what they stand under is marked `(example)`. Routes, and of
/// sources and upstreams all but one each, are examples by themselves.
fn said_to_be_defaults() -> Vec<Vec<&'static str>> {
    let mut above: Vec<(usize, &str, bool)> = Vec::new();
    let mut found: Vec<Vec<_>> = Vec::new();
    for line in EXAMPLE.lines() {
        let indent = line.len() - line.trim_start().len();
        let Some((key, value)) = line.trim_start().split_once(':') else { continue };
        if key.starts_with(['#', '-']) {
            continue;
        }
        above.retain(|(outer, ..)| *outer < indent);
        let marked = line.contains("(example") || above.iter().any(|(.., marked)| *marked);
        above.push((indent, key, marked));
        if !marked && !value.split('#').next().unwrap().trim().is_empty() {
            found.push(above.iter().map(|(_, key, _)| *key).collect());
        }
    }
    found.retain(|path| match path.as_slice() {
        ["version"] | ["routes", ..] | [.., "provider" | "url"] => path.contains(&"redis"),
        ["sources", name, ..] => *name == "stripe",
        ["upstreams", name, ..] => *name == "billing",
        _ => true,
    });
    found
}

/// libyaml follows YAML 1.1 in its grammar and saphyr YAML 1.2; what plain scalars stand for is held against both
/// versions here, so that no reader of either sees another tree.
#[test]
fn readers_of_yaml_1_1_and_1_2_agree() {
    let by_1_2 = tree(core_1_2);
    assert!(by_1_2 == tree(types_1_1), "some unquoted text is of a type of its own in YAML 1.1");
    assert!(by_1_2 == read(), "libyaml reads another tree");
    for trap in ["on", "No", "2026-12-15", "010", "1:30", "1_000", "<<", "0b1"] {
        assert_ne!(core_1_2(trap), types_1_1(trap), "{trap} must be told apart");
    }
}

fn tree(resolve: fn(&str) -> Json) -> Json {
    let mut parser = Parser::new_from_str(EXAMPLE);
    loop {
        let event = next(&mut parser);
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            return node(event, &mut parser, resolve);
        }
    }
}

fn next<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Event<'a> {
    parser.next_event().unwrap().unwrap().0
}

fn node<'a>(
    event: Event<'a>,
    parser: &mut Parser<'a, StrInput<'a>>,
    resolve: fn(&str) -> Json,
) -> Json {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => resolve(&text),
        Event::Scalar(text, _, 0, None) => Json::String(text.into_owned()),
        Event::SequenceStart(0, None) => {
            let mut items = Vec::new();
            loop {
                match next(parser) {
                    Event::SequenceEnd => return Json::Array(items),
                    event => items.push(node(event, parser, resolve)),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut map = Map::new();
            loop {
                let key = match next(parser) {
                    Event::MappingEnd => return Json::Object(map),
                    event => node(event, parser, resolve),
                };
                let key = key.as_str().expect("keys are text to every reader").to_owned();
                let event = next(parser);
                map.insert(key, node(event, parser, resolve));
            }
        }
        other => panic!("anchors, tags and the like differ between readers: {other:?}"),
    }
}

/// YAML 1.2.2, 10.3.2: the core schema.
fn core_1_2(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text),
    }
}

/// The types of YAML 1.1 (yaml.org/type), where they read more into a scalar than text.
fn types_1_1(text: &str) -> Json {
    let digits = text.trim_start_matches(['-', '+']);
    let only = |set: &str| digits.chars().all(|c| set.contains(c));
    let is_date = text.len() >= 10 && text.is_char_boundary(10) && {
        let shape = text[..10].chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
        shape.collect::<String>() == "0000-00-00"
    };
    let radix = digits.len() > 1 && digits.starts_with('0') && only("0123456789abcdefxABCDEF_");
    let base_60 = digits.split_once(':').is_some_and(|(first, rest)| {
        let whole = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        whole(first) && rest.split(':').all(|part| part.len() <= 2 && whole(part))
    });
    let grouped = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.contains('_')
        && only("0123456789_.");
    match text.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => Json::Null,
        "y" | "yes" | "on" | "true" => true.into(),
        "n" | "no" | "off" | "false" => false.into(),
        "<<" | "=" => json!({ "special": text }),
        _ if is_date || radix || base_60 || grouped => json!({ "typed": text }),
        _ => number(text),
    }
}

fn number(text: &str) -> Json {
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => whole.into(),
        (_, Ok(number)) if text.starts_with(|c: char| c.is_ascii_digit()) => number.into(),
        _ => text.into(),
    }
}
