//! Tables of hostile documents, and the extractor beside `serde_json::Value`.

use std::borrow::Cow;

use gatepost::json::{Extractor, Found, ITEMS_MAX, JsonError, Path, Scalar, Step};
use proptest::prelude::*;
use serde_json::{Value, json};

fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| Path::parse(text).unwrap()).collect()
}

fn find<'a>(path: &str, body: &'a [u8]) -> Result<Option<Scalar<'a>>, JsonError> {
    Extractor::new(&paths(&[path]), None).find(body).map(|mut found| found.values.remove(0))
}

fn string(text: &str) -> Option<Scalar<'_>> {
    Some(Scalar::String(text.into()))
}

#[test]
fn paths_parse() {
    let key = |k: &str| Step::Key(k.into());
    let table = [
        ("id", vec![key("id")]),
        ("data.object.id", vec![key("data"), key("object"), key("id")]),
        ("items[0].id", vec![key("items"), Step::Index(0), key("id")]),
        ("[*].sg_event_id", vec![Step::Each, key("sg_event_id")]),
        ("a[1][*]", vec![key("a"), Step::Index(1), Step::Each]),
        ("\"event.name\".id", vec![key("event.name"), key("id")]),
        (r#"x."say \"hi\" \\""#, vec![key("x"), key(r#"say "hi" \"#)]),
        ("event-data.$type", vec![key("event-data"), key("$type")]),
        (r#""/a""#, vec![key("/a")]),
        (r#""""#, vec![key("")]),
    ];
    for (text, steps) in table {
        let path = Path::parse(text).unwrap();
        assert_eq!(path.steps(), steps, "{text}");
    }
}

#[test]
fn path_errors_say_what_to_write() {
    let table = [
        ("", "the path is empty"),
        ("$.data.id", "leave `$.` out: write `data.id`"),
        ("$[0].id", "leave `$.` out: write `[0].id`"),
        ("$", "the whole document is no value; name a key, such as `data.id`"),
        ("/data/id", "write dots instead of slashes: `data.id`"),
        (".id", "a key is missing beside a dot in `.id`"),
        ("a..b", "a key is missing beside a dot in `a..b`"),
        ("a.", "a key is missing beside a dot in `a.`"),
        ("a.[0]", "a key is missing beside a dot in `a.[0]`"),
        ("[0]id", "a dot is missing before `id` in `[0]id`"),
        ("\"a\"b", "a dot is missing before `b` in `\"a\"b`"),
        ("a[0", "`[` is not closed in `a[0`"),
        ("a[-1]", "`[-1]` in `a[-1]` is neither an index such as `[0]` nor `[*]`"),
        ("a[+1]", "`[+1]` in `a[+1]` is neither an index such as `[0]` nor `[*]`"),
        ("a[]", "`[]` in `a[]` is neither an index such as `[0]` nor `[*]`"),
        ("\"a", "a quoted key is not closed in `\"a`"),
        (r#""a\n""#, r#"only `\"` and `\\` are escapes in `"a\n"`"#),
        ("a b", "' ' in `a b` stands only in a quoted key: `\"a b\"`"),
        ("a]b", "']' in `a]b` stands only in a quoted key: `\"a]b\"`"),
    ];
    for (text, message) in table {
        assert_eq!(Path::parse(text), Err(message.into()), "{text}");
    }
    assert!(Path::parse(&"[0]".repeat(32)).is_ok());
    assert_eq!(Path::parse(&"[0]".repeat(33)), Err("the path has more than 32 steps".into()));
}

#[test]
fn scalars_keep_their_json_type() {
    let table: [(&str, Option<Scalar<'_>>); 17] = [
        (r#"{"id":"evt_1"}"#, string("evt_1")),
        (r#"{"ID":"evt_1"}"#, None),
        (r#"{"id":1}"#, Some(Scalar::Integer(1))),
        (r#"{"id":-9223372036854775808}"#, Some(Scalar::Integer(i64::MIN.into()))),
        (r#"{"id":18446744073709551615}"#, Some(Scalar::Integer(u64::MAX.into()))),
        (r#"{"id":18446744073709551616}"#, Some(Scalar::Other)),
        (r#"{"id":9007199254740993}"#, Some(Scalar::Integer(9_007_199_254_740_993))),
        (r#"{"id":1.0}"#, Some(Scalar::Other)),
        (r#"{"id":1e0}"#, Some(Scalar::Other)),
        (r#"{"id":null}"#, Some(Scalar::Null)),
        (r#"{"id":true}"#, Some(Scalar::Bool(true))),
        (r#"{"id":[]}"#, Some(Scalar::Other)),
        (r#"{"id":{"id":"x"}}"#, Some(Scalar::Other)),
        (r#"{"id":"a\u0000b"}"#, string("a\0b")),
        (r#"{"\u0069d":"x"}"#, string("x")),
        (r#"[{"id":"x"}]"#, None),
        (r#""id""#, None),
    ];
    for (body, wanted) in table {
        assert_eq!(find("id", body.as_bytes()), Ok(wanted), "{body}");
    }
}

#[test]
fn what_is_not_one_json_document_is_refused() {
    let table: [&[u8]; 20] = [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{} x",
        b"{\"id\":NaN}",
        b"{\"id\":'x'}",
        b"{'id':1}",
        b"{\"id\":1,}",
        b"/* c */{}",
        b"{\"id\":\"\\ud800\"}",
        b"{\"id\":\"a\nb\"}",
        b"{\"id\":01}",
        b"{\"id\":1}\0",
        b"\xef\xbb\xbf{\"id\":1}",
        b"\xff\xfe{\0}\0",
        b"{\"other\":\"\xff\"}",
        b"{\"id\":\"\xc0\xaf\"}",
        b"{id:1}",
        b"{\"id\":tru}",
    ];
    for body in table {
        assert_eq!(
            find("id", body),
            Err(JsonError::NotJson),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn a_key_that_comes_twice_on_the_way_is_refused() {
    let twice = [
        ("id", r#"{"id":"evt_1","id":"evt_2"}"#),
        ("id", r#"{"id":"a","\u0069d":"b"}"#),
        ("id", r#"{"id":null,"id":"b"}"#),
        ("data.id", r#"{"data":{"id":1},"data":{}}"#),
        ("data.id", r#"{"data":{"id":1,"x":0,"id":1}}"#),
        ("data[0].id", r#"{"data":[{"id":1,"id":2}]}"#),
    ];
    for (path, body) in twice {
        assert_eq!(find(path, body.as_bytes()), Err(JsonError::DuplicateKey), "{body}");
    }
    let elsewhere = r#"{"x":1,"x":2,"id":"a","data":{"id":1,"id":2}}"#;
    assert_eq!(find("id", elsewhere.as_bytes()), Ok(string("a")));
    let many: Vec<Path> = (0..70).map(|n| Path::parse(&format!("k{n}")).unwrap()).collect();
    let body = r#"{"k69":1,"k68":1,"k69":2}"#;
    assert_eq!(Extractor::new(&many, None).find(body.as_bytes()), Err(JsonError::DuplicateKey));
}

#[test]
fn depth_and_size_cost_no_stack() {
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    assert_eq!(find("id", deep.as_bytes()), Err(JsonError::NotJson));
    assert_eq!(find("id", closed.as_bytes()), Ok(None));
    assert_eq!(find("[0][0].id", closed.as_bytes()), Ok(None));
    let inside = format!(r#"{{"id":{closed},"type":"x"}}"#);
    assert_eq!(find("id", inside.as_bytes()), Ok(Some(Scalar::Other)));
    assert_eq!(find("type", inside.as_bytes()), Ok(string("x")));
    let long_key = format!(r#"{{"{}":1,"id":"x"}}"#, "k".repeat(1 << 20));
    assert_eq!(find("id", long_key.as_bytes()), Ok(string("x")));
    let long_number = format!(r#"{{"id":{}}}"#, "9".repeat(300));
    assert_eq!(find("id", long_number.as_bytes()), Ok(Some(Scalar::Other)));
}

#[test]
fn one_pass_finds_all_paths_in_their_order() {
    let wanted = paths(&["b[1].c", "a", "b", "a", "b[*]", "b[7]"]);
    let body = br#"{"a":"x","b":[0,{"c":true}]}"#;
    let found = Extractor::new(&wanted, None).find(body).unwrap().values;
    let x = || string("x");
    assert_eq!(found, [Some(Scalar::Bool(true)), x(), Some(Scalar::Other), x(), None, None]);
}

/// Half a surrogate pair in a text that nobody looks at is a slip of its author's, and no reason to lose the event.
#[test]
fn what_nobody_asked_for_may_hold_half_a_surrogate_pair() {
    let body = br#"{"note":"cut \ud83d","id":"evt_1","list":[{"\udc00":0}]}"#;
    assert_eq!(find("id", body), Ok(string("evt_1")));
    assert_eq!(find("note", body), Err(JsonError::NotJson));
}

#[test]
fn unescaped_strings_are_borrowed() {
    let found = find("id", br#"{"id":"evt_1"}"#).unwrap();
    assert!(matches!(found, Some(Scalar::String(Cow::Borrowed("evt_1")))));
}

#[test]
fn items_are_listed_up_to_a_hundred() {
    let [first, beyond, items, id] =
        <[Path; 4]>::try_from(paths(&["list[0].id", "list[100].id", "list[*]", "id"])).unwrap();
    let extractor = Extractor::new(&[first, beyond], Some((&items, &[id.steps(), &[]])));
    let body = json!({"list": (0..250).map(|n| json!({"id": n})).collect::<Vec<_>>()}).to_string();
    let found = extractor.find(body.as_bytes()).unwrap();
    assert_eq!(found.values, [Some(Scalar::Integer(0)), Some(Scalar::Integer(100))]);
    assert_eq!(found.items.len(), ITEMS_MAX, "of 250");
    assert_eq!(found.items[0], [Some(Scalar::Integer(0)), Some(Scalar::Other)]);
    assert_eq!(found.items[99], [Some(Scalar::Integer(99)), Some(Scalar::Other)]);

    let found = extractor.find(br#"{"list":["a",{"x":1},[]]}"#).unwrap();
    assert_eq!(
        found.items,
        [[None, string("a")], [None, Some(Scalar::Other)], [None, Some(Scalar::Other)]]
    );
    assert_eq!(extractor.find(br#"{"list":{}}"#).unwrap().items.len(), 0);
    assert_eq!(extractor.find(br#"{"list":[{"id":1,"id":2}]}"#), Err(JsonError::DuplicateKey));
}

#[test]
fn items_may_be_deeper_than_their_array() {
    let [items, id] = <[Path; 2]>::try_from(paths(&["n[*].item", "ref"])).unwrap();
    let extractor = Extractor::new(&[], Some((&items, &[id.steps()])));
    let found = extractor.find(br#"{"n":[{"item":{"ref":"a"}},{},{"item":{"ref":"b"}}]}"#).unwrap();
    assert_eq!(found.items, [[string("a")], [None], [string("b")]]);
}

/// Documents with few keys, so that paths often hit.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key_text(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn key_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b.c".to_owned()),
        Just("é\"\\".to_owned()),
        any::<String>()
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![key_text().prop_map(Step::Key), (0..3_usize).prop_map(Step::Index)];
    prop::collection::vec(step, 1..5)
}

fn written(steps: &[Step]) -> String {
    steps.iter().enumerate().fold(String::new(), |text, (n, step)| match step {
        Step::Key(key) => {
            let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{text}{}\"{quoted}\"", if n == 0 { "" } else { "." })
        }
        Step::Index(index) => format!("{text}[{index}]"),
        Step::Each => format!("{text}[*]"),
        // Made by no generator: an object of another library does not know its first key.
        Step::FirstKey(_) => unreachable!("{step:?}"),
    })
}

fn looked_up<'v>(value: &'v Value, steps: &[Step]) -> Option<Scalar<'v>> {
    let end = steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
        Step::Each => None,
        Step::FirstKey(_) => unreachable!("{step:?}"),
    })?;
    Some(match end {
        Value::String(text) => Scalar::String(text.into()),
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Scalar::Integer(n.into()),
            (None, Some(n)) => Scalar::Integer(n.into()),
            (None, None) => Scalar::Other,
        },
        Value::Null => Scalar::Null,
        Value::Array(_) | Value::Object(_) => Scalar::Other,
    })
}

proptest! {
    #[test]
    fn agrees_with_a_tree(value in document(), wanted in prop::collection::vec(steps(), 0..6), pretty: bool) {
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let paths: Vec<Path> = wanted.iter().map(|s| Path::parse(&written(s)).unwrap()).collect();
        let found = Extractor::new(&paths, None).find(body.as_deref().unwrap().as_bytes());
        let expected: Vec<_> = wanted.iter().map(|s| looked_up(&value, s)).collect();
        prop_assert_eq!(found, Ok(Found { values: expected, items: Vec::new() }));
    }

    #[test]
    fn takes_exactly_what_a_tree_takes(body in "[\\[\\]{}:,\"a0\\-.e\\\\u ]{0,24}") {
        let tree = serde_json::from_str::<Value>(&body);
        let found = Extractor::new(&paths(&["a"]), None).find(body.as_bytes());
        prop_assert_eq!(found == Err(JsonError::NotJson), tree.is_err(), "{}", body);
    }

    #[test]
    fn written_paths_parse(steps in steps()) {
        let path = Path::parse(&written(&steps)).unwrap();
        prop_assert_eq!(path.steps(), &steps[..]);
    }
}
