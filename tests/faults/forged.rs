//! A run that holds is of use only where one that does not would be seen: what was written down of it is changed a little, in
//! one way after the other, and each time the ledger must say what is wrong.

use crate::ledger::{Ledger, PREVIOUS_UNKNOWN, Received, Record, Sent, Standing, Told, explained};

/// What is changed, and which of these rules must be found broken.
struct Forgery {
    name: &'static str,
    forge: fn(&mut Ledger, &Received),
    rules: &'static [&'static str],
}

const FORGERIES: [Forgery; 13] = [
    // The other source may have an event of this name.
    Forgery { name: "a delivery that was not", forge: undelivered, rules: &["lost", "isolated"] },
    Forgery { name: "an attempt that is not on record", forge: unrecorded, rules: &["unrecorded"] },
    Forgery { name: "a record that comes later", forge: late, rules: &["unrecorded"] },
    Forgery { name: "a word that is not on record", forge: told, rules: &["untold"] },
    Forgery { name: "a word that nobody heard", forge: unheard, rules: &["untold"] },
    Forgery { name: "a second delivery by another name", forge: renamed, rules: &["renamed"] },
    Forgery { name: "a second delivery", forge: again, rules: &["unexcused"] },
    Forgery { name: "the same request twice", forge: twice, rules: &["extra"] },
    Forgery { name: "a stranger that is believed", forge: believed, rules: &["unverified"] },
    Forgery {
        name: "an event of another source",
        forge: mistaken,
        rules: &["isolated", "unverified"],
    },
    Forgery { name: "a success that is told as a failure", forge: denied, rules: &["answer"] },
    Forgery { name: "a claim that never ends", forge: kept_away, rules: &["wedged"] },
    Forgery { name: "a refusal when all is well", forge: wedged, rules: &["wedged"] },
];

/// Every rule holds, and would not if the run had gone otherwise.
#[track_caller]
pub fn sound_and_seen_through(ledger: &Ledger) {
    seen_through("", ledger);
}

/// The same, of one of several runs.
#[track_caller]
pub fn seen_through(of: &str, ledger: &Ledger) {
    let findings = ledger.check();
    assert!(findings.is_empty(), "{of}: {}", explained(ledger, &findings));
    let once = |received: &&Received| {
        let of_it = ledger.received.iter().filter(|other| other.event_id == received.event_id);
        let well = |record: &&Record| record.kind == "outcome" && record.outcome == "accepted";
        let mut outcomes = ledger.records.iter().filter(|r| r.receipt == received.receipt);
        let known = outcomes.any(|record| well(&record) && record.error.is_empty());
        of_it.count() == 1 && known && request(ledger, received).is_some()
    };
    let forgotten = |received: &&Received| ledger.forgotten.contains_key(&received.event_id);
    let mut events = ledger.received.iter().filter(|received| !forgotten(received));
    let event = events.find(once).expect("an event that was delivered once, and is not forgotten");
    for Forgery { name, forge, rules } in &FORGERIES {
        let mut forged = ledger.clone();
        forge(&mut forged, event);
        if forged.sent.len() == ledger.sent.len() && rules == &["wedged"] {
            continue; // nobody said when all was well
        }
        let found = forged.check();
        assert!(found.iter().any(|finding| rules.contains(&finding.rule)), "{name}: {found:?}");
    }
}

/// The request that an event was delivered for.
fn request<'a>(ledger: &'a Ledger, received: &Received) -> Option<&'a Sent> {
    let told =
        |sent: &Sent| sent.told.as_ref().is_some_and(|told| told.receipt == received.receipt);
    ledger.sent.iter().find(|sent| told(sent))
}

fn begun(ledger: &Ledger, received: &Received) -> Record {
    let begun = |record: &&Record| record.kind == "attempt" && record.receipt == received.receipt;
    ledger.records.iter().find(begun).expect("its attempt is on record").clone()
}

fn begun_mut<'a>(ledger: &'a mut Ledger, received: &Received) -> &'a mut Record {
    let mut attempts = ledger.records.iter_mut().filter(|record| record.kind == "attempt");
    attempts.find(|record| record.receipt == received.receipt).unwrap()
}

fn undelivered(ledger: &mut Ledger, event: &Received) {
    ledger.received.retain(|received| received.event_id != event.event_id);
}

fn unrecorded(ledger: &mut Ledger, event: &Received) {
    ledger.records.retain(|record| record.kind != "attempt" || record.receipt != event.receipt);
}

fn late(ledger: &mut Ledger, event: &Received) {
    let durable_at = begun(ledger, event).durable_at;
    assert!(durable_at.is_some_and(|at| at <= event.at), "it was looked for: {durable_at:?}");
    begun_mut(ledger, event).durable_at = Some(event.at + 1);
}

fn told(ledger: &mut Ledger, event: &Received) {
    let came = ledger.received.iter_mut().find(|received| received.receipt == event.receipt);
    came.unwrap().reason += PREVIOUS_UNKNOWN;
}

fn unheard(ledger: &mut Ledger, event: &Received) {
    let came = ledger.received.iter_mut().find(|received| received.receipt == event.receipt);
    came.unwrap().reason = String::new();
    begun_mut(ledger, event).reason = PREVIOUS_UNKNOWN.into();
}

/// The books show two events, each of which was delivered once.
fn renamed(ledger: &mut Ledger, event: &Received) {
    again(ledger, event);
    ledger.records.last_mut().unwrap().event_id += "_again";
    ledger.received.last_mut().unwrap().event_id += "_again";
}

fn again(ledger: &mut Ledger, event: &Received) {
    let last = ledger.received.iter().map(|received| received.ended).max().unwrap_or_default();
    let receipt = "req_again".to_owned();
    let attempt = begun(ledger, event);
    ledger.records.push(Record { receipt: receipt.clone(), ..attempt });
    ledger.received.push(Received { receipt, at: last + 1, ended: last + 1, ..event.clone() });
}

fn twice(ledger: &mut Ledger, event: &Received) {
    ledger.received.push(event.clone());
}

fn believed(ledger: &mut Ledger, event: &Received) {
    let sent = request(ledger, event).unwrap().clone();
    ledger.sent.push(Sent { standing: Standing::Forged, ..sent });
}

fn mistaken(ledger: &mut Ledger, event: &Received) {
    let other = ledger.sent.iter().find(|sent| sent.id == event.id && sent.source != event.source);
    let source = other.map_or("nobody".to_owned(), |sent| sent.source.clone());
    let ours = ledger.received.iter_mut().filter(|received| received.receipt == event.receipt);
    ours.for_each(|received| received.source.clone_from(&source));
    let records = ledger.records.iter_mut().filter(|record| record.receipt == event.receipt);
    records.for_each(|record| record.source.clone_from(&source));
}

fn denied(ledger: &mut Ledger, event: &Received) {
    let told = ledger.sent.iter_mut().filter_map(|sent| sent.told.as_mut());
    let told = told.filter(|told| told.receipt == event.receipt);
    told.for_each(|told| told.status = 502);
}

fn wedged(ledger: &mut Ledger, event: &Received) {
    if let Some(at) = ledger.calm_at {
        refused(ledger, event, at);
    }
}

fn kept_away(ledger: &mut Ledger, event: &Received) {
    let last = ledger.sent.iter().map(|sent| sent.at).max().unwrap_or_default() + 1;
    let lease = ledger.lease.expect("a run knows for how long a claim may last");
    ledger.calm_at = None; // that claims end is looked at whether or not somebody says so
    refused(ledger, event, last);
    refused(ledger, event, last + lease + 1);
}

/// It was sent once more, and is told that a twin has it.
fn refused(ledger: &mut Ledger, event: &Received, at: u64) {
    let sent = request(ledger, event).unwrap().clone();
    let told = Told {
        at,
        status: 503,
        outcome: "duplicate_in_flight".into(),
        receipt: "req_new".into(),
        retry_after: true,
    };
    ledger.sent.push(Sent { at, told: Some(told), ..sent });
}
