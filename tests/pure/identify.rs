//! Names, keys and refusals by table; keys by property.

use std::collections::HashMap;

use gatepost::{
    answer::Refusal,
    event::{EventId, EventKey, EventType, Receipt},
    identify::Event,
};
use proptest::prelude::*;

use crate::{
    flow::{COVERING, Flow},
    source::{Source, compile},
};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const NOT_JSON: &str = "the body is not a JSON document";
const TWICE: &str = "a key comes twice on the way to a value that is looked for";
const UNFIT_ID: &str = "the event id is empty, too long, or holds control characters";
const UNFIT_KIND: &str = "the event type is empty, too long, or holds control characters";

/// Id and type in JSON, both covered, as Stripe has them.
const STRIPE: &str = "event: { id: '{json:id}', type: '{json:type}' }";

/// Id in a header, type of a header and a value, as GitHub has them.
const GITHUB: &str = "event:
  id: '{header:x-delivery}'
  type: ['{header:x-event}.{json:action}', '{header:x-event}']
  one_type_per_body: true";

fn flow(event: &str) -> Flow {
    Flow::new(&format!("{COVERING}{event}"))
}

type Named = Result<(String, String), &'static str>;

/// Id and type, or what is wrong.
fn named(flow: &Flow, headers: &[(&str, &str)], body: &str) -> Named {
    let names = |event: &Event| {
        let about = event.about();
        (about.id.as_str().to_owned(), about.kind.as_str().to_owned())
    };
    match flow.event(headers, body.to_owned()) {
        Ok(event) => Ok(names(&event)),
        Err(Refusal::Malformed(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "tables hold results")]
fn ok(id: &str, kind: &str) -> Named {
    Ok((id.to_owned(), kind.to_owned()))
}

#[test]
fn an_id_is_the_string_that_everybody_reads() {
    let long = format!(r#"{{"id":"{}","type":"t"}}"#, "x".repeat(257));
    let deep = format!(r#"{{"id":{}1{},"type":"t"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let many: String = (0..50_000).map(|n| format!(r#""k{n}":1,"#)).collect();
    let many = format!(r#"{{{many}"id":"a","type":"t"}}"#);
    let mistyped = Err("the event id is not a string");
    let unfit = Err(UNFIT_ID);
    let not_json = Err(NOT_JSON);
    let table = [
        (r#"{"id":"evt_1","type":"a.b"}"#, ok("evt_1", "a.b")),
        (r#"{"ID":"evt_1","type":"a.b"}"#, Err("no event id")),
        (r#"{"id":"evt_1"}"#, Err("no event type")),
        (r#"{"id":1,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":1.0,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":1e0,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":9007199254740993,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":null,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":true,"type":"t"}"#, mistyped.clone()),
        (r#"{"id":["a"],"type":"t"}"#, mistyped.clone()),
        (r#"{"id":{},"type":"t"}"#, mistyped.clone()),
        (&deep, mistyped),
        (&many, ok("a", "t")),
        (r#"{"id":"","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\u0000b","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\r\n{}","type":"t"}"#, unfit.clone()),
        (r#"{"id":"\u001b[2J","type":"t"}"#, unfit.clone()),
        (r#"{"id":"a\u202eb","type":"t"}"#, unfit.clone()),
        (&long, unfit),
        (r#"{"id":"a","type":7}"#, ok("a", "7")),
        (r#"{"id":"a","type":7.0}"#, Err("the event type is neither a string nor an integer")),
        (r#"{"id":"a","type":true}"#, Err("the event type is neither a string nor an integer")),
        (r#"{"id":"evt_1","id":"evt_2","type":"t"}"#, Err(TWICE)),
        (r#"{"id":"a","\u0069d":"b","type":"t"}"#, Err(TWICE)),
        (r#"{"id":"\ud800","type":"t"}"#, not_json.clone()),
        (r#"{"id":"a","type":"t"}{}"#, not_json.clone()),
        (r#"{"id":NaN,"type":"t"}"#, not_json.clone()),
        (r#"/* c */{"id":"a","type":"t"}"#, not_json.clone()),
        (r"{'id':'a','type':'t'}", not_json.clone()),
        ("{\0\"\0i\0d\0\"\0}\0", not_json.clone()),
        ("\u{feff}{}", not_json.clone()),
        ("", not_json),
    ];
    let stripe = flow(STRIPE);
    for (body, names) in table {
        let short: String = body.chars().take(60).collect();
        assert_eq!(named(&stripe, &[JSON], body), names, "{short}");
    }
}

#[test]
fn each_scheme_may_have_its_own_places() {
    let flow = Flow::new(
        "verify:
  signed: '{body}'
  signature: { header: X-Signature }
  schemes:
    - { when: { header: X-New }, event: { id: '{json:new}' } }
    - { event: { id: '{json:old}' } }
event: { type: '{json:type}' }",
    );
    let body = r#"{"old":"o","new":"n","type":"t"}"#;
    assert_eq!(named(&flow, &[("x-new", "1")], body), ok("n", "t"));
    assert_eq!(named(&flow, &[], body), ok("o", "t"));
}

#[test]
fn integers_are_ids_only_where_the_provider_says_so() {
    let integers = flow("event: { id: '{json:id}', type: '{json:type}', id_json: integer }");
    assert_eq!(named(&integers, &[], r#"{"id":7,"type":"t"}"#), ok("7", "t"));
    for body in [r#"{"id":"7","type":"t"}"#, r#"{"id":7.0,"type":"t"}"#, r#"{"id":1e2,"type":"t"}"#]
    {
        assert_eq!(named(&integers, &[], body), Err("the event id is not an integer"), "{body}");
    }
}

#[test]
fn the_first_template_that_yields_counts_and_an_invalid_value_ends_the_search() {
    let (one, typed) = (("x-delivery", "d1"), ("x-event", "issues"));
    let github = flow(GITHUB);
    let named = |headers: &[(&str, &str)], body| named(&github, headers, body);
    assert_eq!(named(&[one, typed], r#"{"action":"opened"}"#), ok("d1", "issues.opened"));
    assert_eq!(named(&[one, typed], r#"{"ref":"main"}"#), ok("d1", "issues"));
    assert_eq!(named(&[one, typed], r#"{"action":null}"#), ok("d1", "issues"));
    assert_eq!(named(&[one, typed], "plain text"), ok("d1", "issues"));
    assert_eq!(
        named(&[one, typed], r#"{"action":true}"#),
        Err("the event type is neither a string nor an integer")
    );
    assert_eq!(named(&[one, one, typed], "{}"), Err("no event id"));
    assert_eq!(named(&[("x-delivery", "\u{e9}"), typed], "{}").unwrap_err(), UNFIT_ID);
    assert_eq!(named(&[one, typed], r#"{"action":""}"#).unwrap_err(), UNFIT_KIND);
    assert_eq!(named(&[one, typed, JSON], "{").unwrap_err(), NOT_JSON);
}

#[test]
fn forms_are_read_where_they_are_declared() {
    let slack = flow(
        "event:
  id: ['{formjson:payload/trigger_id}', '{form:trigger_id}']
  type: ['interaction.{formjson:payload/type}', '{form:command}']",
    );
    let interaction = "payload=%7B%22trigger_id%22%3A%22t1%22%2C%22type%22%3A%22shortcut%22%7D";
    let twice = "payload=%7B%22type%22%3A1%2C%22type%22%3A2%7D";
    for (headers, body, names) in [
        (&[FORM][..], interaction, ok("t1", "interaction.shortcut")),
        (&[FORM], "trigger_id=t2&command=%2Fdeploy", ok("t2", "/deploy")),
        (&[FORM], "trigger_id=a&trigger_id=b&command=c", Err("no event id")),
        (&[FORM], &format!("{interaction}&{interaction}"), Err("no event id")),
        (&[], "trigger_id=t2&command=c", Err("no event id")),
        (&[FORM], twice, Err(TWICE)),
    ] {
        assert_eq!(named(&slack, headers, body), names, "{body}");
    }
    assert_eq!(named(&flow(STRIPE), &[FORM], r#"{"id":"a","type":"t"}"#), Err(NOT_JSON));
}

#[test]
fn bodies_that_two_readers_could_read_differently_are_refused() {
    let body = r#"{"id":"a","type":"t"}"#;
    let charset = Err("the body is in a charset that is not read");
    let compressed = Err("the body is compressed");
    let stripe = flow(STRIPE);
    for (header, names) in [
        (("content-type", "application/json; charset=utf-7"), charset.clone()),
        (("content-type", "application/json;x=y; Charset=\"UTF-16\""), charset),
        (("content-type", "application/cloudevents+json; charset=UTF-8"), ok("a", "t")),
        (("content-type", "text/plain"), ok("a", "t")),
        (("content-encoding", "gzip"), compressed.clone()),
        (("content-encoding", "br"), compressed.clone()),
        (("content-encoding", "gzip, gzip"), compressed),
        (("content-encoding", "identity"), ok("a", "t")),
    ] {
        assert_eq!(named(&stripe, &[header], body), names, "{header:?}");
    }
    let twice =
        [("content-type", "application/json"), ("content-type", "application/json; charset=utf-7")];
    for (headers, why) in [
        (&twice[..], "the content type is said twice"),
        (
            &[("content-type", "application/json; charset=\u{e9}")],
            "the content type is not in ASCII",
        ),
        (&[("content-type", "\u{e9}")], "the content type is not in ASCII"),
    ] {
        assert_eq!(named(&stripe, headers, body), Err(why), "{headers:?}");
    }
    for (kind, why) in [
        ("application/json", "no event id"),
        ("Text/JSON", "no event id"),
        ("application/vnd.api+json", "no event id"),
        ("text/plain", NOT_JSON),
    ] {
        let nameless = named(&stripe, &[("content-type", kind)], "7");
        assert_eq!(nameless, Err(why), "{kind}");
    }
    let by_header = flow("event: { id: '{header:x-delivery}', type: '{header:x-event}' }");
    let headers = [("content-encoding", "gzip"), ("x-delivery", "d"), ("x-event", "e")];
    assert_eq!(named(&by_header, &headers, "\x1f"), ok("d", "e"));
}

#[test]
fn other_places_and_transforms() {
    let found = flow(
        "event: { id: '{body|sha256_hex}', type: '{header:x-event|lower}', account: '{method}' }",
    );
    let found = found.event(&[("x-event", "Paid")], "{}").unwrap();
    let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(found.about().id.as_str(), digest);
    assert_eq!(found.about().digest.to_string(), digest);
    assert_eq!(found.about().kind.as_str(), "paid");
    assert_eq!(found.about().account.as_ref().unwrap().as_str(), "POST");
    let by_path = "event: { id: ['{query:id}', '{path}'], type: ";
    let empty = flow(&format!("{by_path}'{{header:none|default_empty}}' }}"));
    assert_eq!(named(&empty, &[], ""), Err(UNFIT_KIND));
    let body = flow(&format!("{by_path}'{{body}}' }}"));
    assert_eq!(named(&body, &[], "kind"), ok("/hooks/x", "kind"));
    let hashed = flow("event: { id: '{header:x-delivery|sha256_hex}', type: t }");
    assert_eq!(named(&hashed, &[("x-delivery", "{}")], ""), ok(digest, "t"));
}

#[test]
fn accounts_are_strings_or_integers() {
    let teams = flow("event: { id: '{json:id}', type: '{json:type}', account: '{json:team}' }");
    let account = |team: &str| {
        let found = teams.event(&[], format!(r#"{{"id":"a","type":"t"{team}}}"#));
        found.map(|e| e.about().account.as_ref().map(|a| a.as_str().to_owned()))
    };
    assert_eq!(account(""), Ok(None));
    assert_eq!(account(r#","team":null"#), Ok(None));
    assert_eq!(account(r#","team":"T1""#), Ok(Some("T1".into())));
    assert_eq!(account(r#","team":7"#), Ok(Some("7".into())));
    let mistyped = Refusal::Malformed("the account is neither a string nor an integer");
    assert_eq!(account(r#","team":[]"#), Err(mistyped));
}

fn keys(event: &Event) -> (EventKey, Option<EventKey>) {
    (event.about().key, event.guard())
}

#[test]
fn the_digest_is_in_the_key_where_the_id_is_not_signed() {
    let (github, stripe) = (flow(GITHUB), flow(STRIPE));
    let send = |flow: &Flow, id: &str, kind: &str, body: &str| {
        keys(&flow.event(&[("x-delivery", id), ("x-event", kind)], body.to_owned()).unwrap())
    };
    let unsigned = |id, kind, body| send(&github, id, kind, body);
    let (key, guard) = unsigned("d1", "issues", "{}");
    assert_eq!(unsigned("d1", "issues", "{}"), (key, guard), "a retry is the same event");
    assert_ne!(unsigned("d1", "issues", "{ }").0, key, "a captured id does not hide another body");
    let (fresh, replay) = unsigned("d2", "issues", "{}");
    assert_eq!(replay, guard, "the same bytes under a new id are a replay");
    assert_ne!(fresh, key);
    assert_eq!(unsigned("d2", "push", "{}").1, guard, "under another type as well");
    let several = flow(&GITHUB.replace("true", "false"));
    let kind = |kind| send(&several, "d", kind, "{}").1;
    assert_ne!(kind("a"), kind("b"), "unless one body serves several types");
    let signed = |body| send(&stripe, "", "", body);
    assert_eq!(signed(r#"{"id":"a","type":"t"}"#), signed(r#"{"id":"a","type":"u"}"#));
    assert_eq!(signed(r#"{"id":"a","type":"t"}"#).1, None);
    let elsewhere = flow(STRIPE).called("shop-2");
    let other = send(&elsewhere, "", "", r#"{"id":"a","type":"t"}"#);
    assert_ne!(other, signed(r#"{"id":"a","type":"t"}"#), "another source's ids are others");
}

/// Where a token is all that a request shows, an empty body comes again and again (Google's channels): no two of these are a replay.
#[test]
fn where_nothing_is_signed_an_empty_body_is_no_replay() {
    let event = "event: { id: '{header:x-delivery}', type: t }";
    for (verify, is_guarded) in [
        ("verify: { signature: { header: X-Token }, mac: token }\n", false),
        ("verify: { signature: { header: X-Signature }, signed: '{body}' }\n", true),
    ] {
        let flow = Flow::new(&format!("{verify}{event}"));
        let (one, other) = (keys_of(&flow, "d1"), keys_of(&flow, "d2"));
        assert_ne!(one.0, other.0);
        assert_eq!((one.1.is_some(), one.1 == other.1), (is_guarded, true), "{verify}");
    }
}

fn keys_of(flow: &Flow, id: &str) -> (EventKey, Option<EventKey>) {
    keys(&flow.event(&[("x-delivery", id)], String::new()).unwrap())
}

/// The account is part of the key: where anybody can change it, the same bytes could come again as another event.
#[test]
fn an_account_that_is_not_signed_needs_the_replay_guard() {
    let shops = flow("event: { id: '{json:id}', type: '{json:type}', account: '{header:x-shop}' }");
    let send = |shop| {
        let event = shops.event(&[("x-shop", shop)], r#"{"id":"a","type":"t"}"#).unwrap();
        (event.about().key, event.guard())
    };
    let ((one, guard), (other, replay)) = (send("one"), send("other"));
    assert_ne!(one, other);
    assert!(guard.is_some() && replay == guard, "{guard:?} {replay:?}");
}

/// The guard is there where anybody can change the id and the signature still holds.
#[test]
fn what_a_signature_covers() {
    for (signed, id, covered) in [
        ("{body}", "{json:id}", true),
        ("{body}", "{form:id}", true),
        ("{body}", "{formjson:payload/id}", true),
        ("{body|sha256_hex}", "{json:id}", true),
        ("{body|lower}", "{json:id}", false),
        ("{body}", "{query:id}", false),
        ("{body}", "{path}", false),
        ("{body}", "{header:x-id}", false),
        ("{path}.{body}", "{query:id}", true),
        ("{path}.{body}", "{path}", true),
        ("{path}", "{json:id}", false),
        ("{url}{body}", "{query:id}", true),
        ("{url}{body}", "{path}", false),
        ("{header:x-id}.{body}", "{header:x-id}", true),
        ("{header:x-id}.{body}", "{header:x-other}", false),
        ("{json:id}", "{json:id}", true),
        ("{json:id}", "{json:other}", false),
    ] {
        let verify = format!("signature: {{ header: X-S }}, signed: '{signed}'");
        assert_eq!(covers(&verify, id), covered, "{id} where {signed} is signed");
    }
}

/// Of several texts each has to have it, and no two of them may be the same values taken apart in another way.
#[test]
fn what_one_of_several_signed_texts_covers() {
    for (signed, covered) in [
        ("['{header:x-time}.{body}', '{body}']", true),
        ("['{header:x-time}.{body}', '{header:x-time}']", false),
        ("['{body}', '{body}x']", false),
        ("['{header:x-time}.{body}', '{header:x-time}:{body}']", false),
        ("['{header:x-time}', '{body}', '{header:x-time}.{body}', '{body}x']", false),
    ] {
        let verify = format!("signature: {{ header: X-S }}, signed: {signed}");
        assert_eq!(covers(&verify, "{json:id}"), covered, "{signed}");
        // What a time looks like tells where it ends.
        let timed = format!("{verify}, timestamp: {{ from: '{{header:x-time}}', past: 5m }}");
        let signs_time = signed.matches("x-time").count() == signed.matches("', '").count() + 1;
        let yaml = format!("verify: {{ {timed} }}\nevent: {{ id: '{{json:id}}', type: t }}");
        assert_eq!(compile(&Source::parse(&yaml), &[]).is_ok(), signs_time, "{signed}");
    }
}

/// The same where the signature lists what it is over.
#[test]
fn what_a_message_signature_covers() {
    for (required, id, covered) in [
        ("content-digest", "{json:id}", true),
        ("content-digest", "{form:id}", true),
        ("content-digest", "{formjson:payload/id}", true),
        ("content-digest", "{body|sha256_hex}", true),
        ("content-digest", "{header:x-id}", false),
        ("content-digest", "{query:id}", false),
        ("x-id", "{header:x-id}", true),
        ("x-id", "{header:x-other}", false),
        ("x-id", "{headerjson:x-id/id}", false),
        ("x-id", "{json:id}", false),
        ("'@method'", "{method}", true),
        ("'@path'", "{method}", false),
        ("'@query'", "{query:id}", true),
        ("'@target-uri'", "{query:id}", true),
        ("'@request-target'", "{query:id}", true),
        ("'@path'", "{query:id}", false),
        ("'@target-uri'", "{path}", true),
        ("'@request-target'", "{path}", true),
        ("'@path', '@query'", "{path}", true),
        ("'@path'", "{path}", false),
        ("'@query'", "{path}", false),
        ("'@target-uri'", "{url}", true),
        ("'@request-target'", "{url}", false),
        ("'@path', '@query'", "{url}", false),
    ] {
        let verify = format!("mac: rfc9421, rfc9421: {{ algs: [ed25519], require: [{required}] }}");
        assert_eq!(covers(&verify, id), covered, "{id} where {required} is required");
    }
}

/// A body is covered where its digest must be what is signed; not by another digest, nor by one of several.
#[test]
fn what_a_required_digest_covers() {
    let (digest, signed) = ("{body|sha256_hex}", "{header:x-d}");
    for (left, key, right, id, covered) in [
        (signed, "right", digest, "{json:id}", true),
        (digest, "right", signed, "{json:id}", true),
        (signed, "right", digest, "{form:id}", true),
        (signed, "right", digest, "{header:x-d}", true),
        (signed, "right", digest, "{header:x-id}", false),
        (signed, "right", digest, "{query:id}", false),
        (digest, "one_of", signed, "{json:id}", false),
        (signed, "right", "{body|crc32}", "{json:id}", false),
        (signed, "right", "{json:other|sha256_hex}", "{json:id}", false),
        ("{header:x-e}", "right", digest, "{json:id}", false),
        (digest, "right", "{header:x-e}", "{json:id}", false),
        (signed, "right", "{header:x-e}", "{json:id}", false),
        ("{header:x-e}", "right", signed, "{json:id}", false),
        ("{header:x-d}.", "right", digest, "{json:id}", false),
    ] {
        let verify = format!(
            "signature: {{ header: X-S }}, signed: '{{header:x-d}}', require: [{{ left: '{left}', {key}: '{right}' }}]"
        );
        assert_eq!(covers(&verify, id), covered, "{id} where {left} is {key} {right}");
    }
}

/// Where each item is signed by itself, what is beside them is not, whatever it is called.
#[test]
fn what_signatures_of_items_cover() {
    for (id, covered) in [
        ("{json:list[0].item.id}", true),
        ("{json:list[7].item.id}", true),
        ("{json:list[0].item.other}", false),
        ("{json:list[0].id}", false),
        ("{json:other[0].item.id}", false),
        ("{json:id}", false),
        ("{json:item.id}", false),
        ("{body|sha256_hex}", false),
    ] {
        let verify =
            "for_each: 'list[*].item', signature: { from: '{json:sig}' }, signed: '{json:id}'";
        assert_eq!(covers(verify, id), covered, "{id}");
    }
    // The time is read in the item, as what is signed is.
    for (signed, refused) in [("{json:id}.{json:t}", 0), ("{json:id}", 1), ("{json:list[0].t}", 1)]
    {
        let source = format!(
            "verify: {{ for_each: 'list[*]', signature: {{ from: '{{json:sig}}' }}, signed: '{signed}', \
             timestamp: {{ from: '{{json:t}}', past: 5m }} }}\nevent: {{ id: '{{json:list[0].id}}', type: t }}"
        );
        let problems = compile(&Source::parse(&source), &[]).err().unwrap_or_default();
        assert_eq!(problems.len(), refused, "{signed}: {problems:?}");
    }
}

/// Whether the signature covers an id.
fn covers(verify: &str, id: &str) -> bool {
    let source = format!("verify: {{ {verify} }}\nevent: {{ id: '{id}', type: t }}");
    compile(&Source::parse(&source), &[]).expect("a source").id_covered
}

/// A token covers nothing, whatever the templates say.
#[test]
fn what_a_token_brings_is_known_by_its_bytes() {
    let token =
        Flow::new(&format!("verify: {{ signature: {{ header: X-Token }}, mac: token }}\n{STRIPE}"));
    let send = |body: &str| keys(&token.event(&[], body.to_owned()).unwrap());
    let (key, guard) = send(r#"{"id":"a","type":"t"}"#);
    assert!(guard.is_some());
    assert_ne!(send(r#"{"id":"a","type":"t" }"#).0, key);
}

#[test]
fn a_batch_lists_its_items_and_is_known_by_its_bytes() {
    let batch = flow("event: { id: '{json:[0].id}', type: '{json:[0].type}', items: '[*]' }");
    let found = batch.event(&[], r#"[{"id":"a","type":"t"},{"id":"b"},{"id":3}]"#).unwrap();
    let (id, kind) = (|t| EventId::parse(t), |t| EventType::parse(t));
    assert_eq!(found.about().items, [(id("a"), kind("t")), (id("b"), None), (None, None)]);
    let other = batch.event(&[], r#"[{"id":"a","type":"t"}]"#).unwrap();
    assert_ne!(found.about().key, other.about().key, "new items behind a known one are not lost");
    let scalars = flow("event: { id: '{json:id}', type: '{json:type}', items: 'list[*].id' }");
    let found = scalars.event(&[], r#"{"id":"a","type":"t","list":[{"id":"x"},{}]}"#).unwrap();
    assert_eq!(found.about().items, [(id("x"), None), (None, None)]);
    assert_eq!(named(&batch, &[], "[]"), Err("no event id"));
    let deeper =
        flow("event: { id: '{json:list[0].id}', type: '{json:all[0].id}', items: 'list[*]' }");
    let found = deeper.event(&[], r#"{"list":[{"id":"x"}],"all":[{"id":"y"}]}"#).unwrap();
    assert_eq!(found.about().items, [(id("x"), None)], "the type is in no item");
}

#[test]
fn routes_see_the_values_that_they_ask_for() {
    let captures = ["tier", "count", "live", "none", "list", "long", "edge"];
    let flow = Flow::capturing(&format!("{COVERING}{STRIPE}"), &captures);
    let edge = "x".repeat(1024);
    let body = format!(
        r#"{{"id":"a","type":"t","tier":"pro","count":-3,"live":true,"list":[],"long":"{edge}x","edge":"{edge}"}}"#,
    );
    let found = flow.event(&[], body).unwrap();
    let seen: Vec<_> = (0..8).map(|n| found.captured(n)).collect();
    let (pro, edge) = (Some("pro"), Some(&*edge));
    assert_eq!(seen, [pro, Some("-3"), Some("true"), None, None, None, edge, None]);
}

#[test]
fn what_nobody_vouches_for_is_read_without_complaint() {
    let github = flow(GITHUB).shadow();
    let read = |lines: &[(&str, &str)], body: &str| {
        github.post(crate::source::headers(lines), body.to_owned()).unwrap();
        github.shadowed().kind().cloned()
    };
    let issues = ("x-event", "issues");
    let named = EventType::parse("issues");
    assert_eq!(read(&[issues, JSON], "{"), named);
    assert_eq!(read(&[issues, ("content-encoding", "gzip")], "{}"), named);
    assert_eq!(read(&[issues], r#"{"action":"x"}"#), EventType::parse("issues.x"));
    assert_eq!(read(&[issues], r#"{"action":true}"#), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_two_events_share_a_key(
        parts in prop::collection::vec(("[a-b]{1,2}", "[a-b]{0,2}", "[a-b]{1,2}", 0..2_u8, any::<bool>()), 2..40),
    ) {
        let flow = |covered| {
            let (id, account) = match covered {
                true => ("{json:id}", "{json:account}"),
                false => ("{header:x-id}", "{header:x-account}"),
            };
            flow(&format!("event: {{ id: '{id}', type: t, account: '{account}' }}"))
        };
        let (mut covering, mut open) = (flow(true), flow(false));
        let mut seen = HashMap::new();
        for (source, account, id, note, covered) in parts {
            covering = covering.called(&source);
            open = open.called(&source);
            let flow = if covered { &covering } else { &open };
            let body = format!(r#"{{"id":"{id}","note":{note},"account":"{account}"}}"#);
            let body = if account.is_empty() { body.replace(r#","account":"""#, "") } else { body };
            let lines = [("x-id", id.as_str()), ("x-account", account.as_str())];
            let lines = if account.is_empty() { &lines[..1] } else { &lines[..] };
            let key = flow.event(lines, body).unwrap().about().key;
            let what = (source, account, id, (!covered).then_some(note));
            let before = seen.entry(key.0).or_insert_with(|| what.clone());
            prop_assert_eq!(&*before, &what);
        }
    }
}

/// Gateways that share a Redis, and a record that is older than they are, must call an event the same. The texts were made
/// from the description of the ids, by other code.
#[test]
fn ids_stay_what_they_are() {
    let counted: [u8; 32] = std::array::from_fn(|n| n as u8);
    let falling: [u8; 32] = std::array::from_fn(|n| 255 - 7 * n as u8);
    for (key, id) in [
        (counted, "evt_000g40r40m30e209185gr38e1w"),
        ([0xff; 32], "evt_zzzzzzzzzzzzzzzzzzzzzzzzzz"),
        (falling, "evt_zzwf3tq3vkawxhy0q6saq94xjt"),
    ] {
        assert_eq!(EventKey(key).event_id().as_str(), id);
    }
    let first = *counted.first_chunk().unwrap();
    assert_eq!(Receipt::from_bytes(first).to_string(), "req_000g40r40m30e209185gr38e1w");
    assert_eq!(Receipt::from_bytes([0xff; 16]).to_string(), "req_zzzzzzzzzzzzzzzzzzzzzzzzzw");
}

/// Receipts are drawn in bulk; none comes twice, whichever thread asks.
#[test]
fn receipts_are_never_given_out_twice() {
    let draw = || (0..1000).map(|_| Receipt::random().to_string()).collect::<Vec<_>>();
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
    let drawn: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let different: std::collections::BTreeSet<_> = drawn.iter().collect();
    assert_eq!(different.len(), 4000);
}
