//! Power cuts at every point of a recorded life: whatever the disk holds then, the log is taken up without a person, nothing
//! that was acknowledged is missing, and the verifier finds nothing wrong.
//!
//! `GATEPOST_CRASH_STATES` is how many different states are tried, `GATEPOST_CRASH_SEED` where the dice begin.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use gatepost::{
    audit::{Params, open_on, segments::Segments, verify},
    event::Timestamp,
    telemetry::{AuditMetrics, Metrics},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    audit_world::attempt,
    diary::{Op, Recorder},
    dice::Dice,
    power::{Disk, State, hash_of, put, size_of},
    size,
    workload::{BEGIN_MILLIS, Life, directory, live},
};

/// An event that is recorded after a crash.
const AFTER: u32 = 9_999_999;
/// States per point of a diary and round.
const PER_POINT: usize = 24;
/// Of so many states, one is crashed again while it is recovered.
const AGAIN: usize = 100;

/// Takes up a log that a crash left.
pub type Recover = fn(&Path, &Params) -> Result<(), String>;

/// As the gateway does: opens, records, closes.
pub fn recover(dir: &Path, params: &Params) -> Result<(), String> {
    record_after(&Recorder::new(dir), params)
}

fn record_after(disk: &Arc<Recorder>, params: &Params) -> Result<(), String> {
    thread_local! {
        static METRICS: AuditMetrics = Metrics::new().audit();
        static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap();
    }
    let now = Arc::new(|| Timestamp::from_millis(BEGIN_MILLIS + 100 * 24 * 3_600_000));
    let log = open_on(disk.clone(), params, METRICS.with(Clone::clone), now);
    let log = log.map_err(|error| error.to_string())?;
    let seq = RUNTIME.with(|runtime| runtime.block_on(log.append(attempt(AFTER))));
    disk.acked(seq.map_err(|error| error.to_string())?, AFTER);
    Ok(())
}

/// A state, and what was promised when the power failed.
pub struct Case {
    pub state: State,
    pub acked: Vec<(u64, u32)>,
    pub promised: Vec<Vec<u8>>,
}

impl Case {
    /// What is wrong after `recover` has run on it in `dir`.
    fn violation(&self, params: &Params, recover: Recover, before: bool) -> Option<String> {
        put(&self.state, &params.dir);
        let passes = before.then(|| self.tampered(&params.dir)).flatten();
        self.recovered(params, recover).or(passes)
    }

    /// A crash is no tampering, also before anybody takes it up.
    fn tampered(&self, dir: &Path) -> Option<String> {
        let report = verify::verify(dir, None, None).ok().filter(|report| !report.is_good())?;
        Some(format!("a crash passes for tampering: {:?}", report.findings))
    }

    fn recovered(&self, params: &Params, recover: Recover) -> Option<String> {
        if let Err(why) = recover(&params.dir, params) {
            return Some(format!("it is not taken up: {why}"));
        }
        if let Some(what) = self.missing(&params.dir) {
            return Some(what);
        }
        let copy = params.dir.with_extension("copy");
        fs::write(&copy, self.promised.concat()).unwrap();
        let against = (!self.promised.is_empty()).then_some(copy.as_path());
        match verify::verify(&params.dir, None, against) {
            Err(why) => Some(format!("it cannot be verified: {why}")),
            Ok(report) if report.is_good() && report.torn_bytes == 0 => None,
            Ok(report) if report.is_good() => Some("it is torn still".to_owned()),
            Ok(report) => Some(format!("it does not verify: {:?}", report.findings)),
        }
    }

    fn missing(&self, dir: &Path) -> Option<String> {
        let mut found = HashSet::new();
        let (mut first, mut damaged) = (None, false);
        let segments = Segments::of(dir).unwrap();
        let read = segments.each(0, |frame, line| {
            first.get_or_insert(frame.seq);
            let said: serde_json::Value = serde_json::from_slice(line)?;
            damaged |= said["what"] == "damage_found";
            if let Some(event) = said["provider_id"].as_str() {
                found.insert((frame.seq, event.to_owned()));
            }
            Ok(true)
        });
        if let Err(error) = read {
            return Some(format!("it cannot be read: {error}"));
        }
        let first = first.unwrap_or(1);
        let kept = |(seq, event): &&(u64, u32)| {
            *seq < first || found.contains(&(*seq, format!("evt_{event}")))
        };
        match self.acked.iter().find(|acked| !kept(acked)) {
            Some((seq, event)) => {
                Some(format!("acknowledged and lost: record {seq}, event {event}"))
            }
            None => damaged.then(|| "a crash passes for damage".to_owned()),
        }
    }
}

/// What came of trying many states.
#[derive(Debug, Default)]
pub struct Outcome {
    pub states: usize,
    pub violations: Vec<String>,
}

/// Tries states until there were `budget` of them, or nothing new comes.
pub struct Explorer<'a> {
    pub params: &'a Params,
    pub recover: Recover,
    /// Whether the verifier is asked before the log is taken up, too.
    pub before: bool,
    pub budget: usize,
    pub per_point: usize,
    pub dice: Dice,
    pub seen: HashSet<u64>,
    pub outcome: Outcome,
}

impl<'a> Explorer<'a> {
    pub fn new(params: &'a Params, recover: Recover, budget: usize, dice: Dice) -> Self {
        let (seen, outcome) = (HashSet::new(), Outcome::default());
        let (per_point, before) = (PER_POINT, false);
        Self { params, recover, before, budget, per_point, dice, seen, outcome }
    }

    /// Goes through the diary again and again, with other dice each time.
    pub fn explore(mut self, ops: &[Op]) -> Outcome {
        let mut idle = 0;
        while self.outcome.states < self.budget && idle < 3 && self.outcome.violations.is_empty() {
            let before = self.outcome.states;
            self.round(Disk::default(), ops, self.per_point, true);
            idle = if self.outcome.states == before { idle + 1 } else { 0 };
        }
        self.outcome
    }

    fn round(&mut self, mut disk: Disk, ops: &[Op], count: usize, deep: bool) {
        let mut last = None;
        for op in ops {
            disk.apply(op);
            if self.outcome.states >= self.budget || !self.outcome.violations.is_empty() {
                return;
            }
            let fresh = self.fresh(&disk, count);
            self.try_all(&fresh);
            last = fresh.into_iter().next().or(last);
            if deep
                && self.dice.roll(AGAIN / PER_POINT) == 0
                && let Some(case) = last.take()
            {
                self.crash_again(case);
            }
        }
    }

    /// States that were not tried yet.
    fn fresh(&mut self, disk: &Disk, count: usize) -> Vec<Case> {
        let mut states = disk.crashes(count, &mut self.dice);
        states.retain(|state| self.seen.insert(hash_of(state, disk.acked.len())));
        states.truncate(self.budget - self.outcome.states);
        let promised: Vec<_> = disk.promised.values().rev().take(2).cloned().collect();
        let case = |state| {
            let (acked, promised) = (disk.acked.clone(), promised.clone());
            Case { state, acked, promised }
        };
        states.into_iter().map(case).collect()
    }

    /// On both cores.
    fn try_all(&mut self, cases: &[Case]) {
        self.outcome.states += cases.len();
        let violations = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for half in cases.chunks(cases.len().div_ceil(2).max(1)) {
                let violations = &violations;
                let (params, recover, before) = (self.params.clone(), self.recover, self.before);
                scope.spawn(move || {
                    let home = directory();
                    let params = Params { dir: home.path().join("audit"), ..params };
                    fs::create_dir(&params.dir).unwrap();
                    for case in half {
                        if let Some(what) = case.violation(&params, recover, before) {
                            violations.lock().unwrap().push(told(case, &what));
                        }
                    }
                });
            }
        });
        self.outcome.violations.extend(violations.into_inner().unwrap());
    }

    /// The power fails a second time, while the first crash is recovered from.
    fn crash_again(&mut self, case: Case) {
        let home = directory();
        put(&case.state, home.path());
        let recorder = Recorder::new(home.path());
        let params = Params { dir: home.path().to_owned(), ..self.params.clone() };
        if let Err(why) = record_after(&recorder, &params) {
            return self.outcome.violations.push(told(&case, &why));
        }
        let mut disk = Disk::holding(&case.state);
        (disk.acked, disk.promised) =
            (case.acked, case.promised.into_iter().map(|line| (size_of(&line), line)).collect());
        self.round(disk, &recorder.ops(), 4, false);
    }
}

/// The state for whoever looks into it: names, sizes and texts.
fn told(case: &Case, what: &str) -> String {
    let mut text = format!("{what}\n");
    for (name, content) in &case.state {
        let said = String::from_utf8_lossy(&content.bytes).replace('\0', "\u{2400}");
        writeln!(text, "--- {name}: {} bytes\n{said}", content.len).unwrap();
    }
    text
}

#[test]
fn whatever_a_power_cut_leaves_is_taken_up_and_nothing_acknowledged_is_lost() {
    let budget = size("GATEPOST_CRASH_STATES", 10_000);
    let mut dice = Dice(size("GATEPOST_CRASH_SEED", 1) as u64);
    let (mut states, mut lives) = (0, 0);
    while states < budget {
        let Life { root: _root, params, ops } = live(&mut dice);
        let part = (budget - states).min(12_000);
        let explorer = Explorer::new(&params, recover, part, dice.clone());
        let explorer = Explorer { before: true, ..explorer };
        let Outcome { states: tried, violations } = explorer.explore(&ops);
        assert!(violations.is_empty(), "after {} states: {}", states + tried, violations[0]);
        assert!(tried > part / 2, "a life of {} steps has only {tried} states", ops.len());
        states += tried;
        lives += 1;
    }
    eprintln!("{states} states of {lives} lives, nothing lost");
}
