//! Names, keys and refusals by table; keys by property.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use proptest::prelude::*;
use tower::service_fn;

use super::*;
use crate::{
    answer::{Answered, Ignored, Outcome},
    event::Timestamp,
    json::Path,
    verify::{From, Part, Template, Transform, Value},
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const NOT_JSON: &str = "the body is not a JSON document";
const UNFIT_ID: &str = "the event id is empty, too long, or holds control characters";
const UNFIT_KIND: &str = "the event type is empty, too long, or holds control characters";

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn json(text: &str) -> From {
    From::Json(path(text))
}

fn header(name: &str) -> From {
    From::Header(name.parse().unwrap())
}

fn value(from: From) -> Part {
    Part::Value(Value { from, transforms: Vec::new() })
}

fn with(from: From, transform: Transform) -> Template {
    Template { parts: vec![Part::Value(Value { from, transforms: vec![transform] })] }
}

/// A template of values joined by dots.
fn joined(values: impl IntoIterator<Item = From>) -> Template {
    let parts = values.into_iter().flat_map(|from| [Part::Literal(".".into()), value(from)]);
    Template { parts: parts.skip(1).collect() }
}

fn one(from: From) -> Vec<Template> {
    vec![joined([from])]
}

/// Id and type in JSON, both covered, as Stripe has them.
fn stripe() -> PlanParts {
    PlanParts {
        id: one(json("id")),
        kind: one(json("type")),
        id_covered: true,
        ..PlanParts::default()
    }
}

/// Id in a header, type of a header and a value, as GitHub has them.
fn github() -> PlanParts {
    PlanParts {
        id: one(header("x-delivery")),
        kind: vec![joined([header("x-event"), json("action")]), joined([header("x-event")])],
        one_type_per_body: true,
        ..PlanParts::default()
    }
}

fn request(headers: &[(&str, &str)], body: &str) -> Envelope {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        map.append(http::HeaderName::try_from(*name).unwrap(), value);
    }
    Envelope::for_test("shop", map, body.to_owned(), Timestamp::from_millis(0))
}

fn event(parts: PlanParts, headers: &[(&str, &str)], body: &str) -> Result<Event, &'static str> {
    let verified = Verified::for_test(request(headers, body));
    identify(&Plan::new(parts), verified).map_err(|refusal| refusal.reason().unwrap())
}

/// Id and type, or what is wrong.
fn named(
    parts: PlanParts,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(String, String), &'static str> {
    event(parts, headers, body)
        .map(|e| (e.about().id.as_str().to_owned(), e.about().kind.as_str().to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "tables hold results")]
fn ok(id: &str, kind: &str) -> Result<(String, String), &'static str> {
    Ok((id.to_owned(), kind.to_owned()))
}

#[test]
fn an_id_is_the_string_that_everybody_reads() {
    let long = format!(r#"{{"id":"{}","type":"t"}}"#, "x".repeat(257));
    let mistyped = Err("the event id is not a string");
    let unfit = Err(UNFIT_ID);
    let not_json = Err(NOT_JSON);
    let table = [
        (r#"{"id":"evt_1","type":"a.b"}"#, ok("evt_1", "a.b")),
        (r#"{"ID":"evt_1","type":"a.b"}"#, Err("no event id")),
        (r#"{"id":"evt_1"}"#, Err("no event type")),
        (r#"{"id":1,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":1.0,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":9007199254740993,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":null,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":["a"],"type":"t"}"#, mistyped.clone()),
        (r#"{"id":{},"type":"t"}"#, mistyped),
        (r#"{"id":"","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\u0000b","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\r\n{}","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\u202eb","type":"t"}"#, unfit.clone()),
        (&long, unfit),
        (r#"{"id":"a","type":7}"#, Err("the event type is not a string")),
        (
            r#"{"id":"a","\u0069d":"b","type":"t"}"#,
            Err("a key comes twice on the way to a value that is looked for"),
        ),
        (r#"{"id":"\ud800","type":"t"}"#, not_json.clone()),
        (r#"{"id":"a","type":"t"}{}"#, not_json.clone()),
        ("\u{feff}{}", not_json.clone()),
        ("", not_json),
    ];
    for (body, names) in table {
        assert_eq!(named(stripe(), &[("content-type", JSON)], body), names, "{body}");
    }
}

#[test]
fn integers_are_ids_only_where_the_provider_says_so() {
    let parts = || PlanParts { id_is_integer: true, ..stripe() };
    assert_eq!(named(parts(), &[], r#"{"id":7,"type":"t"}"#), ok("7", "t"));
    for body in [r#"{"id":"7","type":"t"}"#, r#"{"id":7.0,"type":"t"}"#, r#"{"id":1e2,"type":"t"}"#]
    {
        assert_eq!(named(parts(), &[], body), Err("the event id is not an integer"), "{body}");
    }
}

#[test]
fn the_first_template_that_yields_counts_and_an_invalid_value_ends_the_search() {
    let (one, typed) = (("x-delivery", "d1"), ("x-event", "issues"));
    let named = |headers: &[(&str, &str)], body| named(github(), headers, body);
    assert_eq!(named(&[one, typed], r#"{"action":"opened"}"#), ok("d1", "issues.opened"));
    assert_eq!(named(&[one, typed], r#"{"ref":"main"}"#), ok("d1", "issues"));
    assert_eq!(named(&[one, typed], r#"{"action":null}"#), ok("d1", "issues"));
    assert_eq!(named(&[one, typed], "plain text"), ok("d1", "issues"));
    assert_eq!(named(&[one, typed], r#"{"action":1}"#), Err("the event type is not a string"));
    assert_eq!(named(&[one, one, typed], "{}"), Err("no event id"));
    assert_eq!(named(&[("x-delivery", "\u{e9}"), typed], "{}").unwrap_err(), UNFIT_ID);
    assert_eq!(named(&[one, typed], r#"{"action":""}"#).unwrap_err(), UNFIT_KIND);
    assert_eq!(named(&[one, typed, ("content-type", JSON)], "{").unwrap_err(), NOT_JSON);
}

#[test]
fn forms_are_read_where_they_are_declared() {
    let parts = || PlanParts {
        id: vec![
            joined([From::FormJson("payload".into(), path("trigger_id"))]),
            joined([From::Form("trigger_id".into())]),
        ],
        kind: vec![
            Template {
                parts: vec![
                    Part::Literal("interaction.".into()),
                    value(From::FormJson("payload".into(), path("type"))),
                ],
            },
            joined([From::Form("command".into())]),
        ],
        ..PlanParts::default()
    };
    let form = [("content-type", FORM)];
    let interaction = "payload=%7B%22trigger_id%22%3A%22t1%22%2C%22type%22%3A%22shortcut%22%7D";
    assert_eq!(named(parts(), &form, interaction), ok("t1", "interaction.shortcut"));
    assert_eq!(named(parts(), &form, "trigger_id=t2&command=%2Fdeploy"), ok("t2", "/deploy"));
    assert_eq!(named(parts(), &form, "trigger_id=a&trigger_id=b&command=c"), Err("no event id"));
    assert_eq!(named(parts(), &[], "trigger_id=t2&command=c"), Err("no event id"));
    let twice = "payload=%7B%22type%22%3A1%2C%22type%22%3A2%7D";
    let duplicate = "a key comes twice on the way to a value that is looked for";
    assert_eq!(named(parts(), &form, twice), Err(duplicate));
    let declared_form = named(stripe(), &form, r#"{"id":"a","type":"t"}"#);
    assert_eq!(declared_form, Err(NOT_JSON));
}

#[test]
fn bodies_that_two_readers_could_read_differently_are_refused() {
    let body = r#"{"id":"a","type":"t"}"#;
    let charset = Err("the body is in a charset that is not read");
    let compressed = Err("the body is compressed");
    let table = [
        (("content-type", "application/json; charset=utf-7"), charset.clone()),
        (("content-type", "application/json;x=y; Charset=\"UTF-16\""), charset),
        (("content-type", "application/cloudevents+json; charset=UTF-8"), ok("a", "t")),
        (("content-type", "text/plain"), ok("a", "t")),
        (("content-encoding", "gzip"), compressed.clone()),
        (("content-encoding", "gzip, gzip"), compressed),
        (("content-encoding", "identity"), ok("a", "t")),
    ];
    for (header, names) in table {
        assert_eq!(named(stripe(), &[header], body), names, "{header:?}");
    }
    let by_header = PlanParts { kind: one(header("x-event")), ..github() };
    let headers = [("content-encoding", "gzip"), ("x-delivery", "d"), ("x-event", "e")];
    assert_eq!(named(by_header, &headers, "\x1f"), ok("d", "e"));
}

#[test]
fn other_places_and_transforms() {
    let digest = Digest::of(b"{}").to_string();
    let parts = PlanParts {
        id: vec![with(From::Body, Transform::Sha256Hex)],
        kind: vec![with(header("x-event"), Transform::Lower)],
        account: vec![joined([From::Method])],
        ..PlanParts::default()
    };
    let found = event(parts, &[("x-event", "Paid")], "{}").unwrap();
    assert_eq!(found.about().id.as_str(), digest);
    assert_eq!(found.about().kind.as_str(), "paid");
    assert_eq!(found.about().account.as_ref().unwrap().as_str(), "POST");
    let parts = PlanParts {
        id: vec![
            joined([From::Variable("t".into())]),
            joined([From::Query("id".into())]),
            joined([From::Path]),
        ],
        kind: vec![with(header("none"), Transform::DefaultEmpty)],
        ..PlanParts::default()
    };
    assert_eq!(event(parts.clone(), &[], "").map(|_| ()), Err(UNFIT_KIND));
    let parts = PlanParts { kind: one(From::Body), ..parts };
    assert_eq!(named(parts, &[], "kind"), ok("/", "kind"));
}

#[test]
fn accounts_are_strings_or_integers() {
    let parts = || PlanParts { account: one(json("team")), ..stripe() };
    let account = |team: &str| {
        let body = format!(r#"{{"id":"a","type":"t"{team}}}"#);
        event(parts(), &[], &body)
            .map(|e| e.about().account.as_ref().map(|a| a.as_str().to_owned()))
    };
    assert_eq!(account(""), Ok(None));
    assert_eq!(account(r#","team":null"#), Ok(None));
    assert_eq!(account(r#","team":"T1""#), Ok(Some("T1".into())));
    assert_eq!(account(r#","team":7"#), Ok(Some("7".into())));
    assert_eq!(account(r#","team":[]"#), Err("the account is neither a string nor an integer"));
}

#[test]
fn the_digest_is_in_the_key_where_the_id_is_not_signed() {
    let send = |parts: PlanParts, id: &str, kind: &str, body: &str| {
        let found = event(parts, &[("x-delivery", id), ("x-event", kind)], body).unwrap();
        (found.about().key, found.guard())
    };
    let unsigned = |id, kind, body| send(github(), id, kind, body);
    let (key, guard) = unsigned("d1", "issues", "{}");
    assert_eq!(unsigned("d1", "issues", "{}"), (key, guard), "a retry is the same event");
    assert_ne!(unsigned("d1", "issues", "{ }").0, key, "a captured id does not hide another body");
    assert_eq!(
        unsigned("d2", "issues", "{}").1,
        guard,
        "the same bytes under a new id are a replay"
    );
    assert_ne!(unsigned("d2", "issues", "{}").0, key);
    assert_eq!(unsigned("d2", "push", "{}").1, guard, "under another type as well");
    let two_types =
        |kind| send(PlanParts { one_type_per_body: false, ..github() }, "d", kind, "{}").1;
    assert_ne!(two_types("a"), two_types("b"), "unless one body serves several types");
    let signed = |body| send(stripe(), "", "", body);
    assert_eq!(signed(r#"{"id":"a","type":"t"}"#), signed(r#"{"id":"a","type":"u"}"#));
    assert_eq!(signed(r#"{"id":"a","type":"t"}"#).1, None);
}

#[test]
fn a_batch_lists_its_items_and_is_known_by_its_bytes() {
    let parts = || PlanParts {
        id: one(json("[0].id")),
        kind: one(json("[0].type")),
        items: Some(path("[*]")),
        ..stripe()
    };
    let found = event(parts(), &[], r#"[{"id":"a","type":"t"},{"id":"b"},{"id":3}]"#).unwrap();
    let (id, kind) = (|t| EventId::parse(t), |t| EventType::parse(t));
    assert_eq!(found.about().items, [(id("a"), kind("t")), (id("b"), None), (None, None)]);
    let other = event(parts(), &[], r#"[{"id":"a","type":"t"}]"#).unwrap();
    assert_ne!(found.about().key, other.about().key, "new items behind a known one are not lost");
    let scalars = PlanParts { items: Some(path("list[*].id")), ..stripe() };
    let found = event(scalars, &[], r#"{"id":"a","type":"t","list":[{"id":"x"},{}]}"#).unwrap();
    assert_eq!(found.about().items, [(id("x"), None), (None, None)]);
    assert_eq!(named(parts(), &[], "[]"), Err("no event id"));
}

#[test]
fn routes_see_the_values_that_they_ask_for() {
    let captures = ["tier", "count", "live", "none", "list", "long"].map(path).to_vec();
    let parts = PlanParts { captures, ..stripe() };
    let body = format!(
        r#"{{"id":"a","type":"t","tier":"pro","count":-3,"live":true,"list":[],"long":"{}"}}"#,
        "x".repeat(1025)
    );
    let found = event(parts, &[], &body).unwrap();
    let seen: Vec<_> = (0..7).map(|n| found.captured(n)).collect();
    assert_eq!(seen, [Some("pro"), Some("-3"), Some("true"), None, None, None, None]);
}

#[test]
fn what_nobody_vouches_for_is_read_without_complaint() {
    let plan = Plan::new(github());
    let read = |headers: &[(&str, &str)], body| {
        let AsRead { id, kind, .. } = read(&plan, &request(headers, body));
        (id, kind)
    };
    let (delivery, issues) = (("x-delivery", "d"), ("x-event", "issues"));
    let named = (EventId::parse("d"), EventType::parse("issues"));
    assert_eq!(read(&[delivery, issues, ("content-type", JSON)], "{"), named);
    assert_eq!(read(&[issues], r#"{"action":"x"}"#), (None, EventType::parse("issues.x")));
    assert_eq!(read(&[issues], r#"{"action":1}"#), (None, None));
}

#[tokio::test]
async fn every_answer_from_below_says_what_it_is_about() {
    async fn below(event: Event) -> Answer {
        assert_eq!(event.about().id.as_str(), "a");
        Ok(Outcome::Ignored(Ignored::Unrouted).into())
    }
    let stage = || Identify { plan: Arc::new(Plan::new(stripe())) };
    let pad = " ".repeat(INLINE_BYTES_MAX);
    for body in [r#"{"id":"a","type":"t"}"#, &format!(r#"{{"id":"a","type":"t"}}{pad}"#)] {
        let answer = stage().pass(Verified::for_test(request(&[], body)), service_fn(below)).await;
        assert_eq!(answer.unwrap().notes.about.unwrap().kind.as_str(), "t");
    }
    let nameless = stage().pass(Verified::for_test(request(&[], "{}")), service_fn(below)).await;
    let Err(Answered { what, notes }) = nameless else { panic!("a request without an id") };
    assert_eq!(what, Refusal::Malformed("no event id"));
    assert!(notes.about.is_none());
    let names = [(CONTENT_TYPE.as_str(), JSON)];
    assert_eq!(event(stripe(), &names, "{}").map(|_| ()), Err("no event id"));
}

proptest! {
    #[test]
    fn no_two_events_share_a_key(
        parts in prop::collection::vec(("[a-b]{1,2}", "[a-b]{0,2}", "[a-b]{1,2}", 0..2_u8, any::<bool>()), 2..40),
    ) {
        let mut seen = HashMap::new();
        for (source, account, id, body, covered) in parts {
            let plan = Plan::new(PlanParts { id_covered: covered, ..PlanParts::default() });
            let (source_name, account) = (Name::parse(&source).unwrap(), EventId::parse(&account));
            let digest = Digest::of(&[body]);
            let key = event_key(&plan, &source_name, account.as_ref(), &EventId::parse(&id).unwrap(), digest);
            let what = (source, account, id, (!covered).then_some(body));
            let before = seen.entry(key.0).or_insert_with(|| what.clone());
            prop_assert_eq!(&*before, &what);
        }
    }
}
