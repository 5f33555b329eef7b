//! What all runs have in common: a clock, an app, senders, the directories of gateways, and the ledger that joins them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use tempfile::TempDir;

use crate::{
    BANK, GITHUB, STRIPE,
    app::App,
    ledger::{Ledger, Received, Record, Verdict, report},
    sender::Senders,
    wire::Clock,
    world::{Gateway, eventually, gateway::binary},
};

/// A run.
pub struct Run {
    pub clock: Clock,
    pub app: App,
    pub senders: Senders,
    /// How long the app may take, in milliseconds.
    pub timeout: u64,
    /// The part `limits` of the configuration.
    pub limits: String,
}

impl Run {
    pub async fn new(gateways: usize) -> Self {
        let clock = Clock::start();
        let (app, senders) = (App::start(clock).await, Senders::new(clock, gateways));
        Self { clock, app, senders, timeout: 500, limits: "{}".into() }
    }

    /// The same, where nothing shall take too long, however slow the machine is.
    pub async fn patient(gateways: usize) -> Self {
        Self { timeout: 10_000, ..Self::new(gateways).await }
    }

    /// The configuration of a gateway whose state is in `dir`: all sources to the app.
    pub fn config(&self, dir: &Path, dedup: &str) -> String {
        let Self { timeout, limits, .. } = self;
        let (dir, app) = (dir.display(), self.app.url());
        format!(
            "version: 1\nserver: {{ host: hooks.example.com, listen: \"127.0.0.1:0\", drain_timeout: 5s }}\n\
             tls: {{ mode: none }}\nstorage: {{ dir: \"{dir}\", min_free: 1MiB }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
             telemetry: {{ log: {{ level: \"warn,gatepost::cli=info\", format: json }} }}\n\
             audit: {{ rotate: {{ size: 1MiB }}, checkpoint: {{ every: 1s }} }}\n\
             sources:\n  stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  bank: {{ provider: stripe, secret: \"{BANK}\" }}\n  \
             github: {{ provider: github, secret: \"{GITHUB}\", max_body: 1MiB }}\nroutes:\n  \
             - {{ source: stripe, to: app, timeout: {timeout}ms }}\n  - {{ source: bank, to: app, timeout: {timeout}ms }}\n  \
             - {{ source: github, to: app, timeout: {timeout}ms }}\nupstreams: {{ app: {{ url: \"{app}\" }} }}\n\
             dedup: {{ {dedup} }}\nlimits: {limits}\n"
        )
    }

    /// Starts a gateway, with what a test adds to `dedup`.
    pub async fn gateway(&self, number: usize, dedup: &str) -> Gateway {
        self.gateway_in(number, tempfile::tempdir().unwrap(), dedup, &[]).await
    }

    /// The same in a directory that may have been used before, with variables in its environment.
    pub async fn gateway_in(
        &self,
        number: usize,
        dir: TempDir,
        dedup: &str,
        env: &[(&str, &str)],
    ) -> Gateway {
        let text = self.config(dir.path(), dedup);
        let gateway = Gateway::start_with(dir, &text, env).await;
        self.senders.gateway(number, Some(gateway.address));
        gateway
    }

    /// The same under what leads it to a disk or a clock of its own; its state is in `state`. `min_free` is as good as off: what
    /// is met is the end of the disk itself, in the middle of a write.
    pub async fn gateway_under(
        &self,
        wrapper: &[String],
        home: TempDir,
        state: &Path,
        dedup: &str,
    ) -> Gateway {
        let text = self.config(state, dedup).replace("min_free: 1MiB", "min_free: 1B");
        let gateway = Gateway::start_under(wrapper, home, &text).await;
        self.senders.gateway(0, Some(gateway.address));
        gateway
    }

    /// Stops the only gateway, from outside or in order, and keeps its directory.
    pub async fn end(&self, gateway: Gateway, kill: bool) -> TempDir {
        self.senders.gateway(0, None);
        if kill { gateway.kill().await } else { gateway.stop().await.1 }
    }

    /// Waits until `count` events more were acknowledged.
    pub async fn more(&self, count: usize) {
        let upto = self.senders.acked() + count;
        eventually("events get through", || async { self.senders.acked() >= upto }).await;
    }

    /// How many requests were told this.
    pub fn count(&self, outcome: &str) -> usize {
        let requests = self.senders.requests();
        let told = requests.iter().filter_map(|request| request.sent.told.as_ref());
        told.filter(|told| told.outcome == outcome).count()
    }

    /// Waits until so many requests, from now on, were told this.
    pub async fn told(&self, outcome: &str, count: usize) {
        let upto = self.count(outcome) + count;
        eventually(outcome, || async { self.count(outcome) >= upto }).await;
    }

    /// Our ids of the events whose delivery has begun so far.
    pub fn begun(&self) -> BTreeSet<String> {
        self.app.received().into_iter().map(|received| received.event_id).collect()
    }

    /// What the app received. Where the machine was so slow that an answer of the app came later than its timeout after the
    /// request was sent to the gateway, nobody knows whether it was in time.
    fn received(&self) -> Vec<Received> {
        let requests = self.senders.requests();
        let told =
            requests.iter().filter_map(|r| Some((&*r.sent.told.as_ref()?.receipt, r.sent.at)));
        let sent: BTreeMap<_, _> = told.collect();
        let slow = |received: &Received| {
            let sent = sent.get(&*received.receipt)?;
            Some(self.app.answered(&received.receipt)? > sent + self.timeout * 1000)
        };
        let mut all = self.app.received();
        for received in &mut all {
            if received.verdict == Verdict::Accepted && slow(received) == Some(true) {
                received.verdict = Verdict::Silent;
            }
        }
        all
    }

    /// Everything that is known about this run.
    pub fn ledger(&self, dirs: &[&Path]) -> Ledger {
        Ledger {
            sent: self.senders.requests().into_iter().map(|request| request.sent).collect(),
            received: self.received(),
            records: dirs.iter().flat_map(|dir| Record::all_in(&dir.join("audit"))).collect(),
            ..Ledger::default()
        }
    }

    /// Stops gateways in order, and holds every rule against what is known.
    pub async fn settle(&self, gateways: Vec<Gateway>) -> Ledger {
        let mut dirs = Vec::new();
        for gateway in gateways {
            let (status, dir) = gateway.stop().await;
            assert!(status.success(), "a gateway did not end in order: {status}");
            dirs.push(dir);
        }
        let paths: Vec<_> = dirs.iter().map(TempDir::path).collect();
        paths.iter().for_each(|dir| verified(dir));
        self.ledger(&paths)
    }
}

/// The record in `dir` verifies.
pub fn verified(dir: &Path) {
    let out = binary().args(["audit", "verify"]).arg(dir.join("audit")).output().unwrap();
    let said = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(out.status.success(), "{}", said.concat());
}

/// Every rule holds.
#[track_caller]
pub fn sound(ledger: &Ledger) {
    let findings = ledger.check();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), report(&findings));
}
