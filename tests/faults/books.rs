//! What was written down of a run of kills, and what explains its duplicates.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ledger::{Ledger, Received, Record, Standing, Verdict},
    sender::Request,
};

/// A gateway from its start to its end.
#[derive(Clone, Debug)]
pub struct Life {
    pub gateway: usize,
    pub from: u64,
    pub to: u64,
    /// How it ended, if that was how it was meant to.
    pub way: String,
}

/// Everything that was written down.
#[derive(Clone)]
pub struct Books {
    pub requests: Vec<Request>,
    pub received: Vec<Received>,
    /// By gateway.
    pub records: Vec<Vec<Record>>,
    pub lives: Vec<Life>,
    /// For how long a claim may keep an event away.
    pub lease: u64,
}

impl Books {
    pub fn ledger(&self) -> Ledger {
        Ledger {
            sent: self.requests.iter().map(|request| request.sent.clone()).collect(),
            received: self.received.clone(),
            records: self.records.concat(),
            lease: Some(self.lease),
            ..Ledger::default()
        }
    }

    /// Duplicates that no kill explains: the delivery before must have been under way when a gateway ended, for a request that
    /// got no answer because of it; and one such request explains one duplicate.
    pub fn unexplained(&self) -> (usize, Vec<String>) {
        let mut home = BTreeMap::new();
        for (gateway, records) in self.records.iter().enumerate() {
            home.extend(records.iter().map(|record| (record.receipt.as_str(), gateway)));
        }
        let mut broken: BTreeMap<(usize, (&str, &str)), Vec<u64>> = BTreeMap::new();
        let cut_off = |r: &&Request| r.sent.told.is_none() && r.sent.standing == Standing::Genuine;
        for Request { sent, gateway } in self.requests.iter().filter(cut_off) {
            broken.entry((*gateway, (&sent.source, &sent.id))).or_default().push(sent.at);
        }
        let mut taken: BTreeMap<(&str, &str), Vec<&Received>> = BTreeMap::new();
        for received in self.received.iter().filter(|r| r.verdict != Verdict::Refused) {
            taken.entry((&received.source, &received.id)).or_default().push(received);
        }
        // An app that kept silent towards a gateway that lived on: its sender was told so.
        let told = self.requests.iter().filter_map(|request| request.sent.told.as_ref());
        let late: BTreeSet<_> = told.filter(|t| t.status == 504).map(|t| &*t.receipt).collect();
        let (mut duplicates, mut findings) = (0, Vec::new());
        for (id, of) in taken {
            for before in &of[..of.len() - 1] {
                if late.contains(&*before.receipt) {
                    continue;
                }
                duplicates += 1;
                let gateway = home.get(before.receipt.as_str()).copied().unwrap_or(usize::MAX);
                // What the kill cut off was sent in a life that it ended; it may have reached the app a moment after.
                let ended = |at: &u64| {
                    let of_it = self.lives.iter().filter(|life| life.gateway == gateway);
                    *at <= before.at && of_it.into_iter().any(|l| (l.from..=l.to).contains(at))
                };
                let cut = broken.get_mut(&(gateway, id)).and_then(|broken| {
                    let at = broken.iter().rposition(ended)?;
                    Some(broken.remove(at))
                });
                if cut.is_none() {
                    findings.push(format!("{id:?} came again, and no kill explains it: {of:?}"));
                }
            }
        }
        (duplicates, findings)
    }

    /// What a reader of a long run wants to see.
    pub fn figures(&self, duplicates: usize) -> String {
        let mut ways: BTreeMap<&str, usize> = BTreeMap::new();
        for life in &self.lives {
            *ways.entry(life.way.split(':').next().unwrap()).or_default() += 1;
        }
        let broken = self.requests.iter().filter(|request| request.sent.told.is_none()).count();
        format!(
            "{} kills {ways:?}, {} requests, {broken} cut off, {} forged, {} deliveries, {duplicates} duplicates",
            self.lives.len(),
            self.requests.len(),
            self.forged(),
            self.received.len()
        )
    }

    /// How many forged requests were refused.
    pub fn forged(&self) -> usize {
        let refused = |r: &&Request| r.sent.told.as_ref().is_some_and(|told| told.status == 401);
        let of_it = self.requests.iter().filter(|r| r.sent.standing == Standing::Forged);
        of_it.filter(refused).count()
    }
}
