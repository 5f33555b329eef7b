//! The rules, each a walk over the joined ledger.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Ledger, PREVIOUS_UNKNOWN, Received, Record, Sent, Standing, Told, Verdict};

/// Source and the provider's id.
type Id<'a> = (&'a str, &'a str);

/// One attempt on record, with how it ended.
#[derive(Default)]
struct Attempt<'a> {
    begun: Option<&'a Record>,
    outcomes: Vec<&'a Record>,
}

impl Attempt<'_> {
    /// Whether it ended in a delivery after which none is expected: it was accepted, be it late, and the store was told.
    fn is_clean(&self) -> bool {
        let well = |record: &&Record| record.outcome == "accepted";
        let late = |record: &&Record| well(record) && record.reason == "late";
        let claimed = self.reason() != "dedup_unavailable";
        let told = self.outcomes.iter().all(|record| record.error.is_empty());
        let all = !self.outcomes.is_empty() && self.outcomes.iter().all(well);
        let ended = all || self.outcomes.iter().any(late);
        claimed && told && ended
    }

    /// Why the event may have come before this attempt.
    fn reason(&self) -> &str {
        self.begun.map_or("", |record| &record.reason)
    }
}

/// The ledger, joined.
struct Joined<'a> {
    ledger: &'a Ledger,
    /// What was sent in earnest: source, id, digest.
    genuine: BTreeSet<(&'a str, &'a str, &'a str)>,
    /// By receipt.
    attempts: BTreeMap<&'a str, Attempt<'a>>,
    /// By receipt.
    received: BTreeMap<&'a str, Vec<&'a Received>>,
    by_id: BTreeMap<Id<'a>, Vec<&'a Received>>,
    /// Receipts and outcomes of what ended without a delivery, as the record says.
    ruled: BTreeSet<(&'a str, &'a str)>,
    findings: BTreeSet<Finding>,
}

impl Ledger {
    /// Every rule that does not hold, and where.
    pub fn check(&self) -> Vec<Finding> {
        let mut joined = Joined::new(self);
        joined.answers();
        joined.leases();
        joined.acks();
        joined.receipts();
        joined.counts();
        joined.provenance();
        joined.findings.into_iter().collect()
    }
}

impl<'a> Joined<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        let earnest = ledger.sent.iter().filter(|sent| sent.standing != Standing::Forged);
        let genuine = earnest.map(|s| (&*s.source, &*s.id, &*s.digest)).collect();
        let (mut received, mut by_id) = (BTreeMap::new(), BTreeMap::new());
        for each in &ledger.received {
            received.entry(&*each.receipt).or_insert_with(Vec::new).push(each);
            by_id.entry((&*each.source, &*each.id)).or_insert_with(Vec::new).push(each);
        }
        let mut attempts: BTreeMap<&str, Attempt<'_>> = BTreeMap::new();
        for record in ledger.records.iter().filter(|record| record.is_about_event()) {
            match record.kind.as_str() {
                "attempt" => attempts.entry(&record.receipt).or_default().begun = Some(record),
                "outcome" => attempts.entry(&record.receipt).or_default().outcomes.push(record),
                _ => {}
            }
        }
        let ruled = ledger.records.iter().filter(|record| record.kind != "outcome");
        let ruled = ruled.map(|record| (&*record.receipt, &*record.outcome)).collect();
        Self { ledger, genuine, attempts, received, by_id, ruled, findings: BTreeSet::new() }
    }

    fn find(&mut self, rule: &'static str, about: String) {
        self.findings.insert(Finding { rule, about });
    }

    /// What each sender was told is something it may be told.
    fn answers(&mut self) {
        for sent in &self.ledger.sent {
            let Some(told) = &sent.told else { continue };
            let (status, what) = (told.status, describe(sent));
            if !(200..600).contains(&status) || matches!(status, 300..=399 | 409 | 410 | 429) {
                self.find("answer", format!("{what}: never this status"));
            }
            if status == 503 && !told.retry_after {
                self.find("answer", format!("{what}: no Retry-After"));
            }
            match sent.standing {
                Standing::Forged if is_success(status) => {
                    self.find("unverified", format!("{what}: a forged request"));
                }
                Standing::Forged if !matches!(status, 400 | 401 | 408 | 413 | 503) => {
                    self.find("answer", format!("{what}: a forged request"));
                }
                Standing::Genuine if status == 401 => {
                    self.find("answer", format!("{what}: a good signature"));
                }
                _ => {}
            }
            let accepted = self.received.get(&*told.receipt).into_iter().flatten();
            let accepted = accepted.into_iter().any(|r| r.verdict == Verdict::Accepted);
            if accepted && !is_success(status) {
                self.find("answer", format!("{what}: the app had accepted it"));
            }
            let calm = self.ledger.calm_at.is_some_and(|calm| sent.at >= calm);
            if calm && sent.standing == Standing::Genuine && !is_success(status) {
                self.find("wedged", what);
            }
        }
    }

    /// Nobody is told that a twin has the event for longer than one can have it.
    fn leases(&mut self) {
        let Some(lease) = self.ledger.lease else { return };
        let mut by_id: BTreeMap<Id<'_>, Vec<&Sent>> = BTreeMap::new();
        for sent in self.ledger.sent.iter().filter(|sent| sent.standing == Standing::Genuine) {
            by_id.entry((&sent.source, &sent.id)).or_default().push(sent);
        }
        for (id, mut of) in by_id {
            of.sort_by_key(|sent| sent.at);
            let mut since = None;
            for (number, sent) in of.iter().enumerate() {
                let waits = |told: &&Told| told.outcome == "duplicate_in_flight";
                let Some(told) = sent.told.as_ref().filter(waits) else {
                    since = None; // it may have claimed the event itself
                    continue;
                };
                // So may one that came while this one waited.
                let mut meanwhile = of[number..].iter().take_while(|other| other.at <= told.at);
                if meanwhile.any(|other| other.told.as_ref().filter(waits).is_none()) {
                    since = None;
                    continue;
                }
                // What came to the app meanwhile was of another claim.
                let came = self.by_id.get(&id).into_iter().flatten().map(|received| received.at);
                let came = came.filter(|at| *at <= sent.at).max().unwrap_or(0);
                if sent.at > came.max(*since.get_or_insert(sent.at)) + lease {
                    self.find("wedged", describe(sent));
                }
            }
        }
    }

    /// No acked event is lost.
    fn acks(&mut self) {
        for sent in self.ledger.sent.iter().filter(|sent| sent.standing != Standing::Forged) {
            let Some(told) = sent.told.as_ref().filter(|told| is_success(told.status)) else {
                continue;
            };
            let allowed =
                matches!(&*told.outcome, "ignored" | "suspected_replay" | "same_id_other_body");
            let of_id = self.by_id.get(&(&*sent.source, &*sent.id)).into_iter().flatten();
            let taken = |r: &Received| {
                let in_time = r.verdict != Verdict::Refused && r.ended <= told.at;
                let own = told.outcome != "accepted" || r.receipt == told.receipt;
                in_time && own && r.digest == sent.digest
            };
            let ruled =
                self.ruled.contains(&(&*told.receipt, &*told.outcome)) && self.rests(sent, told);
            if if allowed { ruled } else { of_id.clone().any(|r| taken(r)) } {
                continue;
            }
            let elsewhere = |r: &&Received| r.id == sent.id && r.source != sent.source;
            let mixed = told.outcome != "ignored"
                && of_id.count() == 0
                && self.ledger.received.iter().any(|r| elsewhere(&r));
            self.find(if mixed { "isolated" } else { "lost" }, describe(sent));
        }
    }

    /// Whether what a rule rests on is there: the delivery that an event was taken for.
    fn rests(&self, sent: &Sent, told: &Told) -> bool {
        let taken = |r: &&Received| r.verdict != Verdict::Refused && r.ended <= told.at;
        let mut taken =
            self.ledger.received.iter().filter(taken).filter(|r| r.source == sent.source);
        match told.outcome.as_str() {
            "same_id_other_body" => taken.any(|r| r.id == sent.id),
            "suspected_replay" => taken.any(|r| r.digest == sent.digest),
            _ => true,
        }
    }

    /// Record before effect.
    fn receipts(&mut self) {
        for received in &self.ledger.received {
            let begun = self.attempts.get(&*received.receipt).and_then(|attempt| attempt.begun);
            let ours = |record: &&Record| {
                let same =
                    record.event_id == received.event_id && record.attempt == received.attempt;
                same && record.source == received.source && record.digest == received.digest
            };
            let late = |record: &Record| record.durable_at.is_some_and(|at| at > received.at);
            if begun.filter(ours).is_none_or(late) {
                self.find("unrecorded", describe_receipt(received));
            }
            let told = |record: &Record| record.reason == received.reason;
            let first = received.attempt < 2 && received.reason == PREVIOUS_UNKNOWN;
            if first || !begun.is_none_or(told) {
                let (about, told) = (describe_receipt(received), &received.reason);
                self.find("untold", format!("{about}: told {told:?}"));
            }
        }
    }

    /// At most once, and once more per excuse.
    fn counts(&mut self) {
        let twice = self.received.values().filter(|of| of.len() > 1);
        let mut found: Vec<_> = twice.map(|of| ("extra", describe_receipt(of[1]))).collect();
        let mut events: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
        for received in &self.ledger.received {
            events.entry(&received.event_id).or_default().push(received);
        }
        let mut excuses: BTreeMap<&str, usize> = BTreeMap::new();
        for attempt in self.attempts.values() {
            let event = attempt.begun.or(attempt.outcomes.first().copied());
            let excused = usize::from(!attempt.is_clean() || !attempt.reason().is_empty());
            *excuses.entry(event.map_or("", |record| &record.event_id)).or_default() += excused;
        }
        for (event, mut of) in events {
            of.sort_by_key(|received| received.at);
            let forgotten = self.ledger.forgotten.get(event).copied().unwrap_or(0);
            let excuses = excuses.get(event).copied().unwrap_or(0) + forgotten;
            if of.len() > 1 + excuses {
                let about = describe_receipt(of[0]);
                found.push(("extra", format!("{about}: {} times, {excuses} excuses", of.len())));
            }
            let mut done = BTreeSet::new();
            for received in of {
                let receipt = &*received.receipt;
                let attempt = self.attempts.get(receipt);
                let reason = attempt.is_some_and(|attempt| !attempt.reason().is_empty());
                if done.len() > forgotten && !reason && !done.contains(receipt) {
                    found.push(("unexcused", describe_receipt(received)));
                }
                if attempt.is_some_and(|attempt| attempt.reason() == PREVIOUS_UNKNOWN) {
                    done.clear(); // the store was not told of any before
                }
                if attempt.is_some_and(Attempt::is_clean) {
                    done.insert(receipt);
                }
            }
        }
        for (rule, about) in found {
            self.find(rule, about);
        }
    }

    /// Where everything came from.
    fn provenance(&mut self) {
        let sources: BTreeSet<&str> = self.genuine.iter().map(|(source, ..)| *source).collect();
        let others = |source: &str, id: &str, digest: &str| {
            sources.iter().any(|s| *s != source && self.genuine.contains(&(*s, id, digest)))
        };
        let mut found = Vec::new();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let mut names: BTreeMap<_, &str> = BTreeMap::new();
        let mut look = |event_id, source, id, digest, about: String| {
            if !self.genuine.contains(&(source, id, digest)) {
                let rule = if others(source, id, digest) { "isolated" } else { "unverified" };
                found.push((rule, about));
            } else if *owners.entry(event_id).or_insert(source) != source {
                found.push(("isolated", about));
            } else if *names.entry((source, id, digest)).or_insert(event_id) != event_id {
                found.push(("renamed", about));
            }
        };
        for r in &self.ledger.received {
            look(&*r.event_id, &*r.source, &*r.id, &*r.digest, describe_receipt(r));
        }
        for r in self.ledger.records.iter().filter(|r| r.is_about_event()) {
            let about = format!("record {} ({}) of {} {}", r.seq, r.kind, r.source, r.provider_id);
            look(&*r.event_id, &*r.source, &*r.provider_id, &*r.digest, about);
        }
        let earnest = self.ledger.sent.iter().filter(|sent| sent.standing != Standing::Forged);
        let known: BTreeSet<&str> =
            earnest.map(|sent| &*sent.event_id).chain(owners.into_keys()).collect();
        for id in self.ledger.stored.iter().filter(|id| !known.contains(id.as_str())) {
            found.push(("unverified", format!("the store was asked about {id}")));
        }
        for (rule, about) in found {
            self.find(rule, about);
        }
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The findings, and all that is known of the events that the first ones name, in order of time.
pub fn explained(ledger: &Ledger, findings: &[Finding]) -> String {
    let (count, all) = (findings.len(), super::report(findings));
    format!("{count} findings:\n{all}\n{}", history(ledger, findings))
}

fn history(ledger: &Ledger, findings: &[Finding]) -> String {
    let named = |id: &str| findings.iter().take(3).any(|f| f.about.split(' ').any(|w| w == id));
    let sent = ledger.sent.iter().filter(|sent| named(&sent.id));
    let received = ledger.received.iter().filter(|received| named(&received.id));
    let sent = sent.map(|sent| (sent.at, format!("sent: {}", describe(sent))));
    let received = received.map(|it| (it.at, format!("app: {}", describe_receipt(it))));
    let mut all: Vec<_> = sent.chain(received).collect();
    all.sort();
    let records = ledger.records.iter().filter(|record| named(&record.provider_id));
    let records = records.map(|record| format!("record: {record:?}"));
    all.into_iter().map(|(_, line)| line).chain(records).map(|line| line + "\n").collect()
}

fn describe(sent: &Sent) -> String {
    let Sent { source, id, at, .. } = sent;
    let told = sent.told.as_ref().map_or("no answer".into(), |told| {
        format!("{} {} ({}) at {}", told.status, told.outcome, told.receipt, told.at)
    });
    format!("{source} {id} sent at {at}: {told}")
}

fn describe_receipt(received: &Received) -> String {
    let Received { source, id, receipt, attempt, at, verdict, .. } = received;
    format!("{source} {id} came at {at} ({receipt}, attempt {attempt}, {verdict:?})")
}
