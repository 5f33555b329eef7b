//! What somebody can make of one captured request without the secret, where the signature does not cover the body as it came:
//! all of that is one replay, and never an event of its own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Refusal,
    event::{Digest, EventKey},
    providers::{self, Covers, Field, Options},
    route::Routed,
};
use serde_json::{Value as Json, json};

use crate::{
    examples::mac,
    flow::{Flow, NOW},
    source::{Source, URL, compile, compiled, examples, headers},
};

const SECRET: &str = "a secret of sixteen bytes";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A request that holds.
fn taken(flow: &Flow, lines: &[(&str, &str)], body: &str) -> Routed {
    let answer = flow.post(headers(lines), body.to_owned());
    assert!(answer.is_ok(), "{:?}: {body}", answer.map_err(|refused| refused.what));
    flow.last_routed()
}

/// Its key and its guard.
fn known_by(flow: &Flow, lines: &[(&str, &str)], body: &str) -> (EventKey, Option<EventKey>) {
    let routed = taken(flow, lines, body);
    (routed.event().about().key, routed.event().guard())
}

/// Holds that each of `forged` is known for `genuine`: by the key of the event, or by the guard.
fn are_replays(flow: &Flow, genuine: (&[(&str, &str)], &str), forged: &[(&[(&str, &str)], &str)]) {
    let (key, guard) = known_by(flow, genuine.0, genuine.1);
    for (lines, body) in forged {
        let (other, replayed) = known_by(flow, lines, body);
        assert!(other == key || (guard.is_some() && replayed == guard), "{body}");
    }
}

/// A form as it is signed: the text is decoded and sorted, so that one text has many bodies.
#[test]
fn a_form_that_is_written_anew_is_a_replay() {
    let twilio = [
        "MessageSid=SM1&MessageStatus=sent&Body=Hi+there",
        "MessageSid=SM1&MessageStatus=sent&Body=H%69%20there",
        "Body=Hi+there&MessageStatus=sent&MessageSid=SM1",
        // Nothing stands between names and values.
        "MessageSid=SM1&MessageStatuss=ent&Body=Hi+there",
        "MessageSid=SM1MessageStatussent&Body=Hi+there",
    ];
    let mandrill = [
        "mandrill_events=%5B%7B%22event%22%3A%22send%22%2C%22_id%22%3A%22a%22%7D%5D",
        "mandrill_events=[%7B%22event%22:%22send%22,%22_id%22:%22a%22%7D]",
        "mandrill_event=s%5B%7B%22event%22%3A%22send%22%2C%22_id%22%3A%22a%22%7D%5D",
    ];
    let (sent, delivered) = ("sent", "delivered");
    for (provider, header, bodies, other) in [
        ("twilio", "x-twilio-signature", &twilio[..], twilio[0].replace(sent, delivered)),
        ("mandrill", "x-mandrill-signature", &mandrill[..], mandrill[0].replace("send", "open")),
    ] {
        let flow = Flow::of(compiled(provider), &[SECRET]);
        let body = bodies[0];
        let token = ("i-twilio-idempotency-token", "one");
        let signed = flow.signed(headers(&[FORM, token]), body.as_bytes());
        let signature = (header, signed[header].to_str().unwrap());
        let genuine = [FORM, token, signature];
        let other_token = [FORM, ("i-twilio-idempotency-token", "two"), signature];
        for lines in [&genuine[..], &other_token, &[FORM, signature]] {
            for forged in bodies {
                are_replays(&flow, (&genuine, body), &[(lines, forged)]);
            }
        }
        let signed = flow.signed(headers(&[FORM, token]), other.as_bytes());
        let of_its_own = [FORM, token, (header, signed[header].to_str().unwrap())];
        let guard = |lines, body| known_by(&flow, lines, body).1;
        assert_ne!(guard(&genuine, body), guard(&of_its_own, &other), "{provider}");
        assert!(taken(&flow, &genuine, body).event().may_be_forged(), "{provider}");
    }
}

/// An item as Adyen signs it; `besides` is not signed.
fn item(reference: &str, code: &str, besides: &str) -> Json {
    let text = format!("{reference}::shop:order:100:EUR:{code}:true");
    let tag = STANDARD.encode(hex::decode(mac(SECRET, text.as_bytes())).unwrap());
    json!({ "NotificationRequestItem": {
        "pspReference": reference, "merchantAccountCode": "shop", "merchantReference": "order",
        "amount": { "value": 100, "currency": "EUR" }, "eventCode": code, "success": "true",
        "reason": besides, "additionalData": { "hmacSignature": tag },
    } })
}

#[test]
fn a_batch_of_signed_items_that_is_written_anew_is_a_replay() {
    let flow = Flow::of(compiled("adyen"), &[&hex::encode(SECRET)]);
    let batch = |items: &[Json]| json!({ "live": "true", "notificationItems": items }).to_string();
    let (one, two) = (item("P1", "AUTHORISATION", ""), item("P2", "CAPTURE", ""));
    let lines = &[JSON][..];
    let single = batch(std::slice::from_ref(&one));
    are_replays(
        &flow,
        (lines, &single),
        &[
            (lines, &single),
            (lines, &format!("{single} ")),
            (lines, &batch(&[one.clone(), one.clone()])),
            (lines, &batch(&[item("P1", "AUTHORISATION", "another reason")])),
            (lines, &single.replace("true\",\"notif", "false\",\"notif")),
        ],
    );
    let both = batch(&[one.clone(), two.clone()]);
    let turned = batch(&[two.clone(), one.clone()]);
    let thrice = batch(&[two.clone(), one.clone(), two.clone()]);
    are_replays(&flow, (lines, &both), &[(lines, &turned), (lines, &thrice)]);
    let guard = |body: &str| known_by(&flow, lines, body).1.expect("a guard");
    let guards = [&single, &both, &batch(&[two])].map(|body| guard(body));
    let named = !taken(&flow, lines, &both).event().may_be_forged();
    assert!(named, "what is signed of an item names it");
    assert!(guards[0] != guards[1] && guards[1] != guards[2] && guards[0] != guards[2]);
}

/// Mailgun signs a time and a token and nothing of the event: whatever stands beside a token that was there is a forgery.
#[test]
fn a_text_that_is_signed_once_tells_whatever_stands_around_it() {
    let flow = Flow::of(compiled("mailgun"), &[SECRET]);
    let event = |token: &str, id: &str, kind: &str| {
        let signature = mac(SECRET, format!("{NOW}{token}").as_bytes());
        let signed =
            json!({ "timestamp": NOW.to_string(), "token": token, "signature": signature });
        json!({ "signature": signed, "event-data": { "event": kind, "id": id } }).to_string()
    };
    let lines = &[JSON][..];
    let token = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0";
    are_replays(
        &flow,
        (lines, &event(token, "one", "clicked")),
        &[
            (lines, &event(token, "another", "clicked")),
            (lines, &event(token, "another", "failed")),
            (lines, &event(token, "one", "failed")),
        ],
    );
    let guard = |token| known_by(&flow, lines, &event(token, "one", "clicked")).1;
    assert_ne!(guard(token), guard("another"));
    assert!(taken(&flow, lines, &event(token, "one", "clicked")).event().may_be_forged());
}

/// Braintree's document ends with a line end, which counts whether it is sent or not.
#[test]
fn a_line_end_that_is_left_away_makes_no_other_event() {
    let described = "verify:
  signature: { header: X-Signature }
  signed: ['{form:payload}', \"{form:payload}\\n\"]
event: { id: '{form:payload|sha256_hex}', type: notification, signed_once: true }";
    let flow = Flow::keyed(described, SECRET);
    let tag = mac(SECRET, b"PG5vdGU+\n");
    let lines = &[FORM, ("x-signature", &tag)][..];
    are_replays(&flow, (lines, "payload=PG5vdGU%2B%0A"), &[(lines, "payload=PG5vdGU%2B")]);
}

/// Who wants other bodies under a known id delivered gets those of a batch, too.
#[test]
fn a_batch_that_differs_beside_what_is_signed_is_delivered_where_the_source_says_so() {
    let preset = providers::preset("adyen").expect("a preset");
    let options = Options { by_bytes: true, ..examples(preset) };
    let compiled = providers::compile(&preset.verify, &preset.event, &[], &options).expect("good");
    let flow = Flow::of(compiled, &[&hex::encode(SECRET)]);
    let known = |besides: &str| {
        let items = [item("P1", "CAPTURE", besides)];
        let body = json!({ "live": "true", "notificationItems": items }).to_string();
        known_by(&flow, &[JSON], &body)
    };
    let (one, other) = (known("one reason"), known("another reason"));
    assert!(one.0 != other.0 && one.1.is_none() && other.1.is_none());
}

/// A token signs nothing: no two of its requests could be told apart.
#[test]
fn nothing_that_is_signed_once_is_no_guard() {
    let described = "verify: { mac: token, signature: { header: X-Token } }
event: { id: '{json:id}', type: t, signed_once: true }";
    let problems = compile(&Source::parse(described), &[]).expect_err("nothing is signed");
    let said: Vec<_> = problems.iter().map(|p| (&*p.path, &*p.message)).collect();
    assert_eq!(said, [("event.signed_once", "nothing is signed here")]);
}

/// Where the body is signed as it came, it is what tells: whoever signs it once more, at another time, sends no other event.
#[test]
fn a_body_that_is_signed_tells_its_replays_itself() {
    let flow = Flow::new(
        "verify: { signature: { header: X-Signature }, signed: '{header:x-time}.{body}' }
event: { id: '{header:x-id}', type: t }",
    );
    let known = |time: &str, id: &str, body: &str| {
        let event = flow.event(&[("x-time", time), ("x-id", id)], body.to_owned()).unwrap();
        (event.about().key, event.guard().expect("a guard"))
    };
    let (one, again) = (known("1", "a", "{}"), known("2", "b", "{}"));
    assert!(one.0 != again.0 && one.1 == again.1);
    assert_ne!(known("1", "a", "[]").1, one.1);
    let event = flow.event(&[("x-time", "1"), ("x-id", "a")], "{}").unwrap();
    assert!(!event.may_be_forged(), "an app that has one of them has these bytes");
    let batches = Flow::new(
        "verify: { signature: { header: X-Signature }, signed: '{body}' }
event: { id: '{json:[0].id}', type: t, items: '[*]' }",
    );
    let batch = batches.event(&[JSON], r#"[{"id":"a"},{"id":"b"}]"#).unwrap();
    assert_eq!(batch.guard(), None, "its bytes are in the key");
}

/// Of each preset whose signature does not cover the body: what tells a replay.
#[test]
fn every_preset_that_signs_less_than_the_body_says_what_tells_a_replay() {
    const TOLD: &[(&str, &str)] = &[
        ("adyen", "the text of its items"),
        ("apple-app-store", "its id is signed"),
        ("aws-sns", "its id is signed"),
        ("braintree", "signed once"),
        // A time in seconds and a type: two events may have the same, so that the body has to tell them apart.
        ("dropbox-sign", "its body alone"),
        ("mailgun", "signed once"),
        ("mandrill", "all of its form is signed"),
        ("paypal", "its id is signed"),
        ("twilio", "all of its form is signed"),
    ];
    let less =
        providers::catalogue().filter(|preset| compiled(&preset.name).covers == Covers::Fields);
    let less: Vec<_> = less.map(|preset| preset.name.as_str()).collect();
    assert_eq!(less, TOLD.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, told) in TOLD {
        let by_id = compiled(name).covers_event.contains(&Field::Id);
        assert_eq!(by_id, told.contains("its id") || told.contains("its items"), "{name}");
    }
    let once = providers::catalogue().filter(|preset| preset.event.signed_once);
    let once: Vec<_> = once.map(|preset| preset.name.as_str()).collect();
    let told = TOLD.iter().filter(|(_, by)| *by == "signed once").map(|(name, _)| *name);
    assert_eq!(once, told.collect::<Vec<_>>());
}

/// HubSpot's v1 signs a secret and a body, its v2 method and URL in between: one text, for which a sender may choose the version.
#[test]
fn what_one_version_signed_is_no_event_of_another() {
    let flow = Flow::of(compiled("hubspot"), &[SECRET]);
    let signed = |text: &str| Digest::of(format!("{SECRET}{text}").as_bytes()).to_string();
    let told = |lines: &[(&str, &str)], body: &str| {
        flow.post(headers(lines), body.to_owned()).map(drop).map_err(|refused| refused.what)
    };
    let (name, version) = ("x-hubspot-signature", ("x-hubspot-signature-version", "v2"));
    let body = r#"[{"eventId":7,"subscriptionType":"contact.creation","portalId":1}]"#;
    let text = format!("POST{URL}{body}");
    assert_eq!(told(&[JSON, version, (name, &signed(&text))], body), Ok(()));
    assert_eq!(told(&[JSON, (name, &signed(body))], body), Ok(()));
    for content_type in ["text/plain", "application/json", "application/x-www-form-urlencoded"] {
        let lines = [("content-type", content_type), (name, &*signed(&text))];
        assert!(matches!(told(&lines, &text), Err(Refusal::Malformed(_))), "{content_type}");
    }
}
