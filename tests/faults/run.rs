//! What all runs have in common: a clock, an app, senders, the directories of gateways, and the ledger that joins them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
    time::Duration,
};

use gatepost::units::Span;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    BANK, GITHUB, STRIPE,
    app::App,
    ledger::{Ledger, Received, Record, Sent, Standing, Told, Verdict, explained},
    sender::{Request, Senders},
    wire::{Clock, Wire},
    world::{Gateway, PATIENCE, eventually, gateway::binary},
};

/// What a slow machine may need beyond the time that something may take.
const SLOW: Duration = Duration::from_secs(5);

/// A run.
pub struct Run {
    pub clock: Clock,
    pub app: App,
    pub senders: Senders,
    /// How long the app may take, in milliseconds.
    pub timeout: u64,
    /// The part `limits` of the configuration.
    pub limits: String,
    /// How long an orderly end may take.
    pub drain: &'static str,
    /// For how long a claim and the hold after it may keep an event away, as the last gateway was told.
    pub lease: Cell<Duration>,
    /// From when on nothing was refused any more.
    pub calm: Cell<Option<u64>>,
    /// Which gateways were stopped, and when.
    pub slept: RefCell<Vec<(usize, Range<u64>)>>,
}

impl Run {
    pub async fn new(gateways: usize) -> Self {
        let clock = Clock::start();
        let (app, senders) = (App::start(clock).await, Senders::new(clock, gateways));
        let (limits, slept) = ("{}".into(), RefCell::default());
        let (lease, calm) = (Cell::new(Duration::ZERO), Cell::new(None));
        Self { clock, app, senders, timeout: 500, limits, drain: "5s", lease, calm, slept }
    }

    /// The same, where nothing shall take too long, however slow the machine is.
    pub async fn patient(gateways: usize) -> Self {
        Self { timeout: 10_000, ..Self::new(gateways).await }
    }

    /// The configuration of a gateway whose state is in `dir`: all sources to the app.
    pub fn config(&self, dir: &Path, dedup: &str) -> String {
        let Self { timeout, limits, drain, .. } = self;
        self.app.watch(dir);
        self.lease.set(kept_away(dedup, Duration::from_millis(*timeout)));
        let (dir, app) = (dir.display(), self.app.url());
        format!(
            "version: 1\nserver: {{ host: hooks.example.com, listen: \"127.0.0.1:0\", workers: 2, drain_timeout: {drain} }}\n\
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

    /// Sends an event until it is acknowledged; every answer on the way. Nothing but a claim keeps it away, and that only for
    /// as long as one may.
    pub async fn persist(&self, gateway: &Gateway, event: &str) -> Vec<Told> {
        let mut answers: Vec<Told> = Vec::new();
        let until = async {
            while answers.last().is_none_or(|told| told.status != 200) {
                if let Some(told) = answers.last() {
                    let waits = told.outcome == "duplicate_in_flight" && told.retry_after;
                    assert!(waits, "{event}: {told:?}");
                    sleep(Duration::from_millis(20)).await;
                }
                let wire = Wire::new(TcpStream::connect(gateway.address).await.unwrap());
                let (told, _) = self.senders.exchange(wire, 0, event, Standing::Genuine).await;
                answers.push(told.expect("an answer"));
            }
        };
        let passes = timeout(self.lease.get() + SLOW, until).await;
        passes.unwrap_or_else(|_| panic!("{event} is kept away for longer than a lease"));
        answers
    }

    /// Sends all events once more, until none is refused any more: no later than one lease from now.
    pub async fn again(&self, begin: impl Fn() -> JoinSet<()>) {
        let begun = self.clock.now();
        loop {
            let from = self.clock.now();
            let late = Duration::from_micros(from - begun);
            assert!(late <= self.lease.get() + SLOW, "events are refused for longer than a lease");
            timeout(3 * PATIENCE, begin().join_all()).await.expect("and once more");
            let sent: Vec<_> = self.senders.requests().into_iter().map(|r| r.sent).collect();
            let genuine = sent.iter().filter(|s| s.standing == Standing::Genuine && s.at >= from);
            let well = |sent: &Sent| sent.told.as_ref().is_some_and(|told| told.status == 200);
            if genuine.clone().all(well) {
                return self.calm.set(Some(from));
            }
        }
    }

    /// Our ids of the events of which a store may have known something at that time: their delivery had begun, or a request
    /// was open that may have claimed them.
    pub fn touched(&self, at: u64) -> BTreeSet<String> {
        let mut sent: Vec<_> = self.senders.requests().into_iter().map(|r| r.sent).collect();
        sent.retain(|sent| sent.at <= at && sent.told.as_ref().is_none_or(|told| told.at >= at));
        let open: BTreeSet<_> = sent.iter().map(|sent| (&*sent.source, &*sent.id)).collect();
        let mut received = self.app.received();
        received.retain(|r| r.at <= at || open.contains(&(&*r.source, &*r.id)));
        received.into_iter().map(|received| received.event_id).collect()
    }

    /// Events that came under a second claim: the store held the first one to be over.
    pub fn claimed_again(&self) -> BTreeSet<String> {
        let received = self.app.received().into_iter();
        received.filter(|received| received.attempt > 1).map(|received| received.event_id).collect()
    }

    /// Stops a gateway's process while something goes on.
    pub async fn asleep<T>(
        &self,
        number: usize,
        gateway: &Gateway,
        meanwhile: impl Future<Output = T>,
    ) -> T {
        gateway.signal("STOP");
        eventually("it stands still", || async { stands_still(gateway.pid()) }).await;
        let from = self.clock.now();
        let out = meanwhile.await;
        self.slept.borrow_mut().push((number, from..self.clock.now()));
        gateway.signal("CONT");
        out
    }

    /// What the app received. Where the machine was so slow that an answer of the app came later than its timeout after the
    /// request was sent to the gateway, nobody knows whether it was in time; nor where the gateway slept meanwhile.
    fn received(&self) -> Vec<Received> {
        let (requests, slept) = (self.senders.requests(), self.slept.borrow());
        let told = requests.iter().filter_map(|r| Some((&*r.sent.told.as_ref()?.receipt, r)));
        let told: BTreeMap<_, _> = told.collect();
        let unheard = |received: &Received| {
            let Request { sent, gateway } = *told.get(&*received.receipt)?;
            let ended = sent.told.as_ref()?.at;
            let amid = |span: &Range<u64>| sent.at < span.end && ended > span.start;
            let overslept = slept.iter().any(|(number, span)| number == gateway && amid(span));
            let due = sent.at + self.timeout * 1000;
            Some(overslept || self.app.answered(&received.receipt)? > due)
        };
        let mut all = self.app.received();
        for received in &mut all {
            if received.verdict == Verdict::Accepted && unheard(received) == Some(true) {
                received.verdict = Verdict::Silent;
            }
        }
        all
    }

    /// For how long anybody may be told that a twin has the event, on a slow machine.
    pub fn most_kept_away(&self) -> u64 {
        u64::try_from((self.lease.get() + SLOW).as_micros()).unwrap()
    }

    /// What is on record in `dir`, and since when: as the app saw it when it received what it is about.
    pub fn records(&self, dir: &Path) -> Vec<Record> {
        let (mut records, seen) = (Record::all_in(&dir.join("audit")), self.app.recorded());
        for record in records.iter_mut().filter(|record| record.kind == "attempt") {
            record.durable_at = seen.get(&record.receipt).copied();
        }
        records
    }

    /// Everything that is known about this run.
    pub fn ledger(&self, dirs: &[&Path]) -> Ledger {
        Ledger {
            sent: self.senders.requests().into_iter().map(|request| request.sent).collect(),
            received: self.received(),
            records: dirs.iter().flat_map(|dir| self.records(dir)).collect(),
            lease: Some(self.most_kept_away()),
            calm_at: self.calm.get(),
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

/// Whether all threads of a process are stopped: each one is when it notices.
fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut states = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
    states.all(|stat| stat.unwrap().contains(") T "))
}

/// For how long a claim and the hold after it may keep an event away, as the part `dedup` of a configuration says.
pub fn kept_away(dedup: &str, timeout: Duration) -> Duration {
    let said = |name: &str| {
        let (_, text) = dedup.split_once(name)?;
        let end = text.find([',', ' ']).unwrap_or(text.len());
        Span::parse(&text[..end]).ok().map(|span| span.0)
    };
    said("claim: ").unwrap_or(Duration::from_mins(1)) + said("on_unknown: ").unwrap_or(timeout)
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
    assert!(findings.is_empty(), "{}", explained(ledger, &findings));
}
