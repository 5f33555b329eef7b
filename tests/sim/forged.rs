//! The ledger is a check, so it is checked: a true one passes, and each lie in it is found by the rule named for it.

use crate::ledger::{
    Ledger, Received, Record, Sent, Standing, Told, Verdict, explained, report, told_why,
};

/// A ledger in which all is well: one event that failed once, one that was sent twice, one that nobody wanted.
fn honest() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.attempt("shop", "a", "r1", 10, ("upstream_failed", 502), Verdict::Refused);
    ledger.attempt("shop", "a", "r2", 20, ("accepted", 200), Verdict::Accepted);
    ledger.attempt("shop", "b", "r3", 30, ("accepted", 200), Verdict::Accepted);
    ledger.send("shop", "b", "r4", 40, ("duplicate", 200));
    ledger.send("shop", "c", "r5", 50, ("ignored", 200));
    ledger.record("ignored", "shop", "c", "r5", "ignored");
    ledger.attempt("bank", "a", "r6", 60, ("accepted", 200), Verdict::Accepted);
    ledger
}

fn event(source: &str, id: &str) -> String {
    format!("evt_{source}_{id}")
}

impl Ledger {
    /// A request and its answer.
    fn send(&mut self, source: &str, id: &str, receipt: &str, at: u64, told: (&str, u16)) {
        let (outcome, status) = told;
        let told = Told {
            at: at + 9,
            status,
            outcome: outcome.into(),
            receipt: receipt.into(),
            retry_after: status == 503,
        };
        self.sent.push(Sent {
            source: source.into(),
            id: id.into(),
            event_id: event(source, id),
            digest: format!("digest of {id}"),
            standing: Standing::Genuine,
            at,
            told: Some(told),
        });
    }

    fn record(&mut self, kind: &str, source: &str, id: &str, receipt: &str, outcome: &str) {
        self.records.push(Record {
            seq: self.records.len() as u64 + 1,
            kind: kind.into(),
            source: source.into(),
            receipt: receipt.into(),
            event_id: event(source, id),
            provider_id: id.into(),
            digest: format!("digest of {id}"),
            attempt: u32::from(kind == "attempt"),
            outcome: outcome.into(),
            durable_at: Some(0),
            ..Record::default()
        });
    }

    fn receive(&mut self, source: &str, id: &str, receipt: &str, at: u64, verdict: Verdict) {
        self.received.push(Received {
            source: source.into(),
            id: id.into(),
            event_id: event(source, id),
            digest: format!("digest of {id}"),
            receipt: receipt.into(),
            attempt: 1,
            reason: String::new(),
            at,
            ended: at + 1,
            verdict,
        });
    }

    /// Says on record and to the app which attempt this is, and why the event may have come before.
    fn excuse(&mut self, receipt: &str, attempt: u32, reason: &str) {
        let begun = self.records.iter_mut().find(|r| r.receipt == receipt && r.kind == "attempt");
        let begun = begun.unwrap();
        (begun.attempt, begun.reason) = (attempt, reason.into());
        let received = self.received.iter_mut().find(|r| r.receipt == receipt).unwrap();
        (received.attempt, received.reason) = (attempt, reason.into());
    }

    /// A request that reached the app, as all three saw it.
    fn attempt(
        &mut self,
        source: &str,
        id: &str,
        receipt: &str,
        at: u64,
        told: (&str, u16),
        verdict: Verdict,
    ) {
        self.send(source, id, receipt, at, told);
        self.record("attempt", source, id, receipt, "");
        self.receive(source, id, receipt, at + 2, verdict);
        self.record("outcome", source, id, receipt, told.0);
    }
}

/// Makes the honest ledger lie, and expects exactly this rule to see it.
#[track_caller]
fn finds(rule: &str, lie: impl FnOnce(&mut Ledger)) {
    let mut ledger = honest();
    lie(&mut ledger);
    let findings = ledger.check();
    assert!(
        !findings.is_empty() && findings.iter().all(|finding| finding.rule == rule),
        "{rule} was expected, found:\n{}",
        report(&findings)
    );
}

#[track_caller]
fn passes(change: impl FnOnce(&mut Ledger)) {
    let mut ledger = honest();
    change(&mut ledger);
    let findings = ledger.check();
    assert!(findings.is_empty(), "{}", explained(&ledger, &findings));
}

#[test]
fn an_honest_ledger_passes() {
    passes(|_| {});
    passes(|ledger| ledger.calm_at = Some(20));
}

#[test]
fn a_lost_event_is_found() {
    finds("lost", |ledger| ledger.received.retain(|r| r.receipt != "r3"));
    finds("lost", |ledger| ledger.received[2].verdict = Verdict::Refused);
    finds("lost", |ledger| ledger.send("shop", "d", "r7", 70, ("accepted", 200)));
    finds("lost", |ledger| ledger.send("shop", "d", "r7", 70, ("duplicate", 200)));
    // Told before it was delivered.
    finds("lost", |ledger| ledger.sent[2].told.as_mut().unwrap().at = 31);
    // Not wanted, says the answer; nothing, says the record.
    finds("lost", |ledger| ledger.records.retain(|r| r.receipt != "r5"));
}

#[test]
fn a_rule_that_rests_on_nothing_is_found() {
    for outcome in ["same_id_other_body", "suspected_replay"] {
        finds("lost", |ledger| {
            ledger.send("shop", "d", "r7", 70, (outcome, 200));
            ledger.record("duplicate", "shop", "d", "r7", outcome);
        });
        passes(|ledger| {
            ledger.send("shop", "b", "r7", 70, (outcome, 200));
            ledger.record("duplicate", "shop", "b", "r7", outcome);
        });
    }
    finds("isolated", |ledger| {
        ledger.send("bank", "b", "r7", 70, ("same_id_other_body", 200));
        ledger.record("duplicate", "bank", "b", "r7", "same_id_other_body");
    });
}

#[test]
fn one_more_than_there_are_excuses_is_found() {
    // The same attempt twice.
    finds("extra", |ledger| {
        let twice = Received { at: 21, ..ledger.received[1].clone() };
        ledger.received.push(twice);
    });
}

#[test]
fn a_delivery_after_a_clean_one_is_found() {
    // As many as there are excuses, but the excuse belongs to a crash before the first of them.
    finds("unexcused", |ledger| {
        ledger.record("attempt", "shop", "b", "r0", "");
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
    });
    // With an excuse of its own, or where the store is known to have lost the key, it passes.
    passes(|ledger| {
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
        ledger.excuse("r7", 2, "previous_attempt_unknown");
    });
    passes(|ledger| {
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
        ledger.forgotten.insert(event("shop", "b"), 1);
    });
    // An unclaimed delivery is not settled, and says so.
    passes(|ledger| {
        ledger.excuse("r3", 1, "dedup_unavailable");
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
    });
}

#[test]
fn an_effect_without_a_record_is_found() {
    let of = |receipt: &'static str| move |r: &Record| r.receipt != receipt || r.kind != "attempt";
    finds("unrecorded", |ledger| ledger.records.retain(of("r6")));
    finds("unrecorded", |ledger| ledger.records[0].durable_at = Some(13));
    finds("unrecorded", |ledger| ledger.received[0].attempt = 2);
}

/// An app is told what is on record of the attempts before, and nothing else.
#[test]
fn a_word_that_is_not_on_record_is_found() {
    let why = "previous_attempt_unknown";
    for reason in [why, "dedup_unavailable"] {
        finds("untold", |ledger| ledger.received[3].reason = reason.into());
        finds("untold", |ledger| {
            ledger.excuse("r6", 2, reason);
            ledger.received[3].reason.clear();
        });
        passes(|ledger| ledger.excuse("r6", 2, reason));
    }
    // Of what, at the first attempt?
    finds("untold", |ledger| ledger.excuse("r6", 1, why));
    let told = [("", ""), ("unknown", ""), ("", "unavailable"), ("unknown", "unavailable")];
    let told = told.map(|(previous, dedup)| told_why(previous, dedup));
    assert_eq!(told[..3], ["", why, "dedup_unavailable"]);
    assert!(told[3].contains("unknown") && told_why("perhaps", "").contains("perhaps"));
}

#[test]
fn an_event_with_two_ids_of_ours_is_found() {
    let rename = |ledger: &mut Ledger, receipt: &str| {
        let (records, received) = (&mut ledger.records, &mut ledger.received);
        let records = records.iter_mut().filter(|r| r.receipt == receipt);
        records.for_each(|record| record.event_id += "_again");
        let received = received.iter_mut().filter(|r| r.receipt == receipt);
        received.for_each(|received| received.event_id += "_again");
    };
    // Two deliveries that look like those of two events, each of them clean.
    finds("renamed", |ledger| {
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
        rename(ledger, "r7");
    });
    // After a failure, where a second one is due; and where only the record says so, of what nobody wanted.
    finds("renamed", |ledger| rename(ledger, "r2"));
    finds("renamed", |ledger| {
        ledger.record("ignored", "shop", "c", "r7", "ignored");
        rename(ledger, "r7");
    });
    // Another body is another event where the id is not signed.
    passes(|ledger| {
        ledger.attempt("shop", "b", "r7", 70, ("accepted", 200), Verdict::Accepted);
        rename(ledger, "r7");
        ledger.sent.last_mut().unwrap().digest = "another".into();
        ledger.received.last_mut().unwrap().digest = "another".into();
        let of_it = ledger.records.iter_mut().filter(|r| r.receipt == "r7");
        of_it.for_each(|record| record.digest = "another".into());
    });
}

#[test]
fn what_was_not_verified_is_found() {
    // Acked.
    finds("unverified", |ledger| {
        ledger.send("shop", "x", "r7", 70, ("", 200));
        ledger.sent.last_mut().unwrap().standing = Standing::Forged;
    });
    // At the app, on record, in the store.
    finds("unverified", |ledger| {
        ledger.record("attempt", "shop", "x", "r7", "");
        ledger.receive("shop", "x", "r7", 70, Verdict::Refused);
    });
    finds("unverified", |ledger| ledger.record("duplicate", "shop", "x", "r7", "duplicate"));
    finds("unverified", |ledger| assert!(ledger.stored.insert("evt_x".into())));
    passes(|ledger| assert!(ledger.stored.insert(event("shop", "c"))));
    // Another body under an id that is known.
    finds("unverified", |ledger| {
        ledger.record("attempt", "shop", "a", "r7", "");
        ledger.records.last_mut().unwrap().digest = "another".into();
    });
}

#[test]
fn a_mix_of_sources_is_found() {
    // Told that it is done, because another source's event of the same name was.
    finds("isolated", |ledger| ledger.send("bank", "b", "r7", 70, ("duplicate", 200)));
    // Delivered as another source's.
    finds("isolated", |ledger| {
        ledger.record("attempt", "bank", "b", "r7", "");
        ledger.receive("bank", "b", "r7", 70, Verdict::Refused);
    });
    // Two sources' events under one id of ours.
    finds("isolated", |ledger| {
        for each in &mut ledger.records {
            each.event_id = each.event_id.replace("bank", "shop");
        }
        for each in &mut ledger.received {
            each.event_id = each.event_id.replace("bank", "shop");
        }
        ledger.forgotten.insert(event("shop", "a"), 1);
    });
}

#[test]
fn a_wrong_answer_is_found() {
    for status in [102, 302, 409, 410, 429] {
        finds("answer", |ledger| ledger.send("shop", "d", "r7", 70, ("x", status)));
    }
    // A good signature refused; a failure where the app had accepted; a refusal that does not say when to come again.
    finds("answer", |ledger| ledger.send("shop", "d", "r7", 70, ("", 401)));
    finds("answer", |ledger| ledger.sent[2].told.as_mut().unwrap().status = 502);
    finds("answer", |ledger| {
        ledger.send("shop", "d", "r7", 70, ("store_unavailable", 503));
        ledger.sent.last_mut().unwrap().told.as_mut().unwrap().retry_after = false;
    });
    finds("answer", |ledger| {
        ledger.send("shop", "x", "r7", 70, ("", 404));
        ledger.sent.last_mut().unwrap().standing = Standing::Forged;
    });
}

#[test]
fn an_event_that_stays_stuck_is_found() {
    finds("wedged", |ledger| {
        ledger.send("shop", "d", "r7", 70, ("duplicate_in_flight", 503));
        ledger.calm_at = Some(70);
    });
    passes(|ledger| {
        ledger.send("shop", "d", "r7", 70, ("duplicate_in_flight", 503));
        ledger.calm_at = Some(71);
    });
}

#[test]
fn a_claim_that_outlives_its_lease_is_found() {
    let kept_away = |ledger: &mut Ledger, receipts: [(&str, u64); 2]| {
        ledger.lease = Some(100);
        for (receipt, at) in receipts {
            ledger.send("shop", "d", receipt, at, ("duplicate_in_flight", 503));
        }
    };
    finds("wedged", |ledger| kept_away(ledger, [("r7", 70), ("r8", 171)]));
    passes(|ledger| kept_away(ledger, [("r7", 70), ("r8", 170)]));
    // Who had no answer may have had the claim itself; and so had who came to the app.
    passes(|ledger| {
        kept_away(ledger, [("r7", 70), ("r8", 171)]);
        ledger.send("shop", "d", "r9", 100, ("", 503));
        ledger.sent.last_mut().unwrap().told = None;
    });
    passes(|ledger| {
        kept_away(ledger, [("r7", 70), ("r8", 171)]);
        ledger.record("attempt", "shop", "d", "r9", "");
        ledger.receive("shop", "d", "r9", 90, Verdict::Silent);
    });
    // Of two at once the later one may have it: until then nobody may have. Behind the answer it is too late for that.
    for (at, excuses) in [(172, true), (180, true), (181, false)] {
        let twin = |ledger: &mut Ledger| {
            kept_away(ledger, [("r7", 70), ("r8", 171)]);
            ledger.send("shop", "d", "r9", at, ("upstream_failed", 502));
        };
        if excuses { passes(twin) } else { finds("wedged", twin) }
    }
    // Other events are no excuse.
    finds("wedged", |ledger| {
        kept_away(ledger, [("r7", 70), ("r8", 171)]);
        ledger.attempt("bank", "d", "r9", 90, ("upstream_failed", 502), Verdict::Refused);
    });
}

/// An app's late word ends the doubt: what comes after it has no excuse.
#[test]
fn a_repeat_after_a_late_success_is_found() {
    let late = |ledger: &mut Ledger, reason: &str, error: &str| {
        ledger.attempt("shop", "d", "r7", 70, ("upstream_timeout", 504), Verdict::Silent);
        ledger.record("outcome", "shop", "d", "r7", "accepted");
        let record = ledger.records.last_mut().unwrap();
        (record.reason, record.error) = (reason.into(), error.into());
    };
    passes(|ledger| {
        late(ledger, "late", "");
        ledger.send("shop", "d", "r8", 90, ("duplicate", 200));
    });
    let again = |ledger: &mut Ledger| {
        ledger.attempt("shop", "d", "r8", 90, ("accepted", 200), Verdict::Accepted);
    };
    let mut ledger = honest();
    late(&mut ledger, "late", "");
    again(&mut ledger);
    let rules: Vec<_> = ledger.check().iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, ["extra", "unexcused"]);
    passes(|ledger| {
        late(ledger, "late", "not settled: away");
        again(ledger);
    });
    // Told, because its hold was over before the late word came.
    passes(|ledger| {
        late(ledger, "late", "");
        again(ledger);
        let told = "previous_attempt_unknown";
        let attempt = ledger.records.iter_mut().rfind(|record| record.kind == "attempt").unwrap();
        (attempt.attempt, attempt.reason) = (2, told.into());
        let received = ledger.received.last_mut().unwrap();
        (received.attempt, received.reason) = (2, told.into());
    });
}

#[test]
fn a_line_of_a_log_is_read() {
    let line = r#"{"v":1,"seq":7,"ts":"2026-11-24T17:03:00.123Z","kind":"attempt","receipt":"req_1","source":"shop","event_id":"evt_1","provider_id":"a","digest":"sha256:00ff","attempt":2,"reason":"previous_attempt_unknown","prev":"00"}"#;
    let record = Record::parse(line).unwrap();
    assert_eq!((record.seq, record.attempt), (7, 2));
    let said =
        [&record.kind, &record.receipt, &record.source, &record.event_id, &record.provider_id];
    assert_eq!(said, ["attempt", "req_1", "shop", "evt_1", "a"]);
    assert_eq!((&*record.digest, &*record.reason), ("00ff", "previous_attempt_unknown"));
    assert!(Record::parse("no record").is_none());
}
