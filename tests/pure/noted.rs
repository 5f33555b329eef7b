//! What is on record of an answer, by its kind, and of its sender, as far as that is kept.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use gatepost::{
    answer::{Answer, Answered, Ignored, Manners, Outcome, Reason, Refusal, Relayed},
    audit::{ClientIp, Detail, Note, Rejected},
    event::Name,
    stage::Stage as _,
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tower::service_fn;

use crate::{
    audited::World,
    flow::{COVERING, Flow},
    source::headers,
};

fn challenge() -> Answer {
    let slack = Flow::new(&format!(
        "{COVERING}event: {{ id: '{{body|sha256_hex}}', type: t }}\n\
         handshake: [{{ when: {{ json: {{ type: hello }} }}, verify: true, reply: {{ body: '{{json:type}}' }} }}]"
    ));
    slack.send(&[], r#"{"type":"hello"}"#)
}

#[tokio::test]
async fn answers_are_recorded_under_their_kinds() {
    let challenge = tokio::task::spawn_blocking(challenge).await.unwrap();
    let relayed = Relayed {
        status: StatusCode::OK,
        content_type: None,
        body: Bytes::from_static(b""),
        full: false,
    };
    let table: Vec<(Answer, &str, &str)> = vec![
        (Ok(Outcome::Duplicate(None).into()), "duplicate", "duplicate"),
        (Ok(Outcome::Duplicate(Some(relayed.clone())).into()), "duplicate", "duplicate"),
        (Ok(Outcome::SameIdOtherBody.into()), "duplicate", "same_id_other_body"),
        (Ok(Outcome::SuspectedReplay.into()), "duplicate", "suspected_replay"),
        (
            Err(Refusal::InFlight { retry_after: Duration::ZERO }.into()),
            "duplicate",
            "duplicate_in_flight",
        ),
        (Ok(Outcome::Ignored(Ignored::Dropped).into()), "ignored", "ignored"),
        (Err(Refusal::Unrouted.into()), "ignored", "unrouted"),
        (Err(Refusal::Malformed("no event id").into()), "malformed", "malformed"),
        (Err(Refusal::SignedBefore.into()), "duplicate", "signed_before"),
        (challenge, "handshake", "handshake"),
        (Err(Refusal::TooLarge { bytes_max: 1 }.into()), "rejected", "too_large"),
    ];
    let world = World::new(Rejected::Sampled);
    let expected: Vec<_> = table.iter().map(|(_, kind, outcome)| (*kind, *outcome)).collect();
    for (answer, ..) in table {
        drop(world.note(answer).await);
    }
    // These are the delivery's to record, or nobody's.
    drop(world.note(Ok(Outcome::Accepted(relayed).into())).await);
    drop(world.note(Err(Refusal::UnknownSource.into())).await);
    world.log.close().await.unwrap();
    let records = world.records();
    let text = |record: &'static str, value: &Value| value[record].as_str().unwrap().to_owned();
    let found: Vec<_> = records.iter().map(|r| (text("kind", r), text("outcome", r))).collect();
    let found: Vec<_> = found.iter().map(|(kind, outcome)| (&**kind, &**outcome)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_was_noted_on_the_way_is_on_record() {
    let world = World::new(Rejected::Sampled);
    let mut answered = Answered::from(Outcome::Ignored(Ignored::Dropped));
    answered.notes.upstream_status = Some(StatusCode::IM_A_TEAPOT);
    answered.notes.upstream_time = Some(Duration::from_millis(1500));
    answered.notes.error = Some(Cow::Borrowed("it \"broke\"\u{202e}\n"));
    answered.notes.route = Name::parse("money");
    answered.notes.upstream = Name::parse("billing");
    answered.notes.attempt = Some(3);
    world.note(Ok(answered)).await.unwrap();
    world.log.close().await.unwrap();
    let [record] = world.records().try_into().unwrap();
    for (member, value) in [
        ("status", json!(200)),
        ("upstream_status", json!(418)),
        ("upstream_seconds", json!(1.5)),
        ("error", json!("it \"broke\"\u{202e}\n")),
        ("route", json!("money")),
        ("upstream", json!("billing")),
        ("attempt", json!(3)),
        ("source", json!("shop")),
        ("reason", Value::Null),
    ] {
        assert_eq!(record[member], value, "{member}");
    }
}

/// What is on record of a request from `ip` that sends these headers, of which two are wanted.
async fn sender(client_ip: ClientIp, ip: &str) -> Value {
    let world = World::new(Rejected::Sampled);
    let wanted = ["x-a", "x-secret", "cookie", "authorization", "proxy-authorization"];
    let headers_kept = wanted.map(HeaderName::from_static).to_vec();
    let detail = Detail {
        headers: headers_kept,
        client_ip,
        rejected: Rejected::Sampled,
        manners: Manners::default(),
    };
    let source = Name::parse("shop").unwrap();
    let note = Note { log: world.log.clone(), source, detail: Arc::new(detail) };
    let mut sent = headers(&[("x-a", "1"), ("x-b", "2"), ("cookie", "c"), ("authorization", "d")]);
    let mut secret = HeaderValue::from_static("s");
    secret.set_sensitive(true);
    sent.insert("x-secret", secret);
    let mut inbound = Flow::inbound(sent, ());
    inbound.peer.ip = ip.parse().unwrap();
    let refused = Err(Refusal::NotVerified(Reason::SignatureWrong).into());
    let below = service_fn(move |_| std::future::ready(Answer::clone(&refused)));
    drop(note.pass(inbound, below).await);
    world.log.close().await.unwrap();
    let [record] = world.records().try_into().unwrap();
    record
}

#[tokio::test]
async fn of_senders_only_what_shall_be_kept_is() {
    for (kept, ip, expected) in [
        (ClientIp::Keep, "192.0.2.77", json!("192.0.2.77")),
        (ClientIp::Keep, "::ffff:192.0.2.77", json!("192.0.2.77")),
        (ClientIp::Keep, "2001:db8:1:2::3", json!("2001:db8:1:2::3")),
        (ClientIp::Truncate, "192.0.2.77", json!("192.0.2.0")),
        (ClientIp::Truncate, "2001:db8:1:2::3", json!("2001:db8:1::")),
        (ClientIp::Drop, "192.0.2.77", Value::Null),
    ] {
        let record = sender(kept, ip).await;
        assert_eq!(record["client_ip"], expected, "{kept:?} {ip}");
        assert_eq!(record["headers"], json!({ "x-a": "1" }), "no credentials, nothing unasked");
    }
}
