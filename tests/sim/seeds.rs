//! A run from a seed, and what is expected of many.
//!
//! `SIM_FROM`, `SIM_TO` and `SIM_EVENTS` choose which seeds run and how many events each has; `tests/long sim` sets them.

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use gatepost::{
    audit::{self, verify},
    telemetry::Metrics,
};
use tokio::time::{sleep, timeout};

use crate::{
    gateway::{LEASE, Machine, params},
    ledger::{Finding, Record, report},
    sender::{Event, Senders},
    store::Shelf,
    world::{Mistake, Tally, World, lock},
};

/// Seeds, and events of each, where nobody says otherwise.
const SEEDS: u64 = 2000;
const EVENTS: usize = 8;
/// Beyond this a run is stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// The key that signs checkpoints, made once. Whatever is on disk goes with its run.
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let params = params(dir.path(), 0, 1 << 28);
    drop(audit::open(&params, Metrics::new().audit()).expect("a log"));
    fs::read(&params.checkpoint_key).expect("the key")
});

/// What came of a run.
#[derive(Default)]
struct Ran {
    findings: Vec<Finding>,
    trace: String,
    tally: Tally,
}

fn run(seed: u64, events: usize, mistake: Option<Mistake>, traced: bool) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let ran =
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(live(seed, events, mistake, traced))));
    ran.unwrap_or_else(|_| Ran {
        findings: vec![Finding { rule: "panic", about: "see above".into() }],
        ..Ran::default()
    })
}

async fn live(seed: u64, events: usize, mistake: Option<Mistake>, traced: bool) -> Ran {
    let world = Arc::new(World::new(seed, events, mistake, traced));
    world.say(|| format!("{:?}", world.plan));
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = Shelf::new(&world);
    let machine = |number| {
        let machine = Machine::new(&world, number, &shelf, dir.path());
        fs::write(&machine.params.checkpoint_key, &*KEY).expect("room for a key");
        machine
    };
    let machines: Vec<_> = (0..world.plan.gateways).map(machine).collect();
    for machine in &machines {
        tokio::spawn(Arc::clone(machine).supervise());
    }
    let shelf = Arc::clone(&shelf);
    let senders = Senders { world: Arc::clone(&world), machines, shelf };
    let senders = Arc::new(senders);
    let story = timeout(PATIENCE, tell(&senders));
    let mut findings = Vec::new();
    if story.await.is_err() {
        findings.push(Finding { rule: "stuck", about: "the run does not end".into() });
    }
    findings.extend(judge(&senders));
    Ran { findings, trace: world.trace(), tally: tally(&senders) }
}

/// Trouble, then calm, then the end.
async fn tell(senders: &Arc<Senders>) {
    let world = &senders.world;
    let events: Vec<_> = (0..world.plan.events).map(|number| Event::new(world, number)).collect();
    let providers =
        events.iter().map(|event| tokio::spawn(Arc::clone(senders).provide(event.clone())));
    for ended in futures_util::future::join_all(providers).await {
        ended.expect("a provider does not panic").expect("nor fail");
    }
    world.say(|| "calm".into());
    world.calm.store(true, Relaxed);
    // Whoever has to start or to restart does; then every lease, hold and late word of before is over.
    sleep(Duration::from_secs(10)).await;
    while senders.machines.iter().any(|machine| !is_well(machine)) {
        sleep(Duration::from_millis(100)).await;
    }
    sleep(LEASE + Duration::from_secs(2)).await;
    let calm_at = world.tick();
    world.ledger().calm_at = Some(calm_at);
    for event in events {
        senders.insist(&event).await;
    }
    for machine in &senders.machines {
        machine.stop().await;
    }
}

fn is_well(machine: &Machine) -> bool {
    let running = machine.running();
    running.is_some_and(|running| {
        !running.process.is_dead() && running.log().health().trouble.is_none()
    })
}

/// The ledger's rules, and that each record can be proven.
fn judge(senders: &Senders) -> Vec<Finding> {
    let world = &senders.world;
    let mut ledger = world.ledger();
    let mut findings = Vec::new();
    for machine in &senders.machines {
        let mut records = Record::all_in(machine.disk.path());
        for record in records.iter_mut().filter(|record| record.kind == "attempt") {
            let durable = lock(&world.durable).get(&record.receipt).copied();
            record.durable_at = Some(durable.unwrap_or(u64::MAX));
        }
        ledger.records.extend(records);
        let broken = match verify::verify(machine.disk.path(), None, None) {
            Ok(proof) => proof.findings.iter().map(|finding| format!("{finding:?}")).collect(),
            Err(why) => vec![why],
        };
        let about = |what| format!("log of machine {}: {what}", machine.number);
        findings.extend(broken.into_iter().map(|f| Finding { rule: "proof", about: about(f) }));
    }
    findings.extend(ledger.check());
    findings
}

/// What happened, and how often.
fn tally(senders: &Senders) -> Tally {
    let (mut tally, ledger) = (senders.world.counts(), senders.world.ledger());
    let mut count = |what: String| *tally.entry(what).or_default() += 1;
    for sent in &ledger.sent {
        count(format!("sent {:?}", sent.standing));
        match &sent.told {
            Some(told) if told.outcome.is_empty() => count(format!("told {}", told.status)),
            Some(told) => count(format!("told {}", told.outcome)),
            None => count("no answer".into()),
        }
    }
    let mut events = BTreeSet::new();
    for received in &ledger.received {
        count(format!("app {:?}", received.verdict));
        if !events.insert(&received.event_id) {
            count("came again".into());
        }
    }
    for record in &ledger.records {
        count(format!("record {}", record.kind));
        if record.kind == "attempt" && !record.reason.is_empty() {
            count(format!("excuse {}", record.reason));
        }
    }
    tally
}

/// What must happen in any thousand runs; else a rule may hold because nothing tests it.
const HAPPENS: &[&str] = &[
    "sent Genuine",
    "sent Doubtful",
    "sent Forged",
    "no answer",
    "told 401",
    "told 503",
    "told accepted",
    "told duplicate",
    "told ignored",
    "told suspected_replay",
    "told same_id_other_body",
    "told duplicate_in_flight",
    "told store_unavailable",
    "told audit_unavailable",
    "told upstream_busy",
    "told upstream_rejected",
    "told upstream_failed",
    "told upstream_broke",
    "told upstream_timeout",
    "app Accepted",
    "app Silent",
    "app Refused",
    "came again",
    "excuse previous_attempt_unknown",
    "excuse dedup_unavailable",
    "record control",
    "record rejected",
    "killed",
    "power cut",
    "store trouble",
    "store loss",
    "disk trouble",
    "audit trouble",
    "clock",
    "reload",
    "pause",
    "restart",
];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs seeds on as many threads as there are cores, until one breaks a rule: any, or that by which a mistake is to be found.
/// Returns the first that did, and sums.
fn many(
    seeds: std::ops::Range<u64>,
    events: usize,
    mistake: Option<(Mistake, &str)>,
) -> (Option<u64>, Tally) {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let (worst, sums) = (Mutex::new(None), Mutex::new(Tally::new()));
    let work = || {
        while !failed.load(Relaxed) {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let ran = run(seed, events, mistake.map(|(mistake, _)| mistake), false);
            for (name, count) in ran.tally {
                *lock(&sums).entry(name).or_default() += count;
            }
            let looked_for = |f: &Finding| mistake.is_none_or(|(_, rule)| f.rule == rule);
            if ran.findings.iter().any(looked_for) {
                failed.store(true, Relaxed);
                let worst = &mut *lock(&worst);
                *worst = Some(worst.map_or(seed, |other: u64| other.min(seed)));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    (worst.into_inner().unwrap(), sums.into_inner().unwrap())
}

#[test]
fn thousands_of_seeds_keep_the_promise() {
    let (from, events) = (number("SIM_FROM", 0), number("SIM_EVENTS", EVENTS as u64));
    let to = number("SIM_TO", from + SEEDS);
    let events = usize::try_from(events).unwrap();
    let (failed, sums) = many(from..to, events, None);
    eprintln!("seeds {from}..{to}: {sums:?}");
    if let Some(seed) = failed {
        let ran = run(seed, events, None, true);
        panic!(
            "seed {seed} breaks the promise:\n{}\n{}\nagain: SIM_FROM={seed} SIM_TO={} SIM_EVENTS={events} \
             cargo test --locked --test sim thousands_of_seeds",
            ran.trace,
            report(&ran.findings),
            seed + 1,
        );
    }
    if to - from >= 1000 {
        let never: Vec<_> = HAPPENS.iter().filter(|what| !sums.contains_key(**what)).collect();
        assert!(never.is_empty(), "in {} runs these never happened: {never:?}", to - from);
    }
}

/// Expects that some seed finds the mistake, by this rule.
#[track_caller]
fn finds(mistake: Mistake, rule: &str) {
    let (failed, _) = many(0..SEEDS, EVENTS, Some((mistake, rule)));
    let seed = failed.unwrap_or_else(|| panic!("{mistake:?} was not found"));
    let findings = run(seed, EVENTS, Some(mistake), false).findings;
    assert!(findings.iter().any(|f| f.rule == rule), "seed {seed} found {mistake:?} once only");
    eprintln!("{mistake:?} is found by seed {seed}:\n{}", report(&findings));
}

#[test]
fn a_store_that_completes_before_the_app_answered_is_found() {
    finds(Mistake::CompleteEarly, "lost");
}

#[test]
fn a_store_that_forgets_is_found() {
    finds(Mistake::ForgetDone, "unexcused");
}

#[test]
fn a_store_that_gives_an_event_to_everybody_is_found() {
    finds(Mistake::NobodyWaits, "unexcused");
}

#[test]
fn a_lease_that_never_ends_is_found() {
    finds(Mistake::EndlessLease, "wedged");
}

#[test]
fn a_store_that_mixes_up_sources_is_found() {
    finds(Mistake::OneKeyForAll, "isolated");
}

#[test]
fn a_record_that_is_not_synced_is_found() {
    finds(Mistake::NoSync, "unrecorded");
}

#[test]
fn a_file_whose_name_is_not_synced_is_found() {
    finds(Mistake::NoSyncOfNames, "unrecorded");
}

#[test]
fn a_gateway_that_believes_anybody_is_found() {
    finds(Mistake::AnybodyIsBelieved, "unverified");
}

#[test]
fn a_timeout_that_counts_as_success_is_found() {
    finds(Mistake::TimeoutIsSuccess, "lost");
}

#[test]
fn a_failure_after_the_app_accepted_is_found() {
    finds(Mistake::FailAfterSuccess, "answer");
}

#[test]
fn an_app_that_is_not_told_is_found() {
    finds(Mistake::NeverTold, "untold");
}

#[test]
fn an_event_that_is_known_by_another_id_is_found() {
    finds(Mistake::KnownAnew, "renamed");
}

#[test]
fn a_body_that_is_touched_on_its_way_is_found() {
    finds(Mistake::BodyTouched, "unverified");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in 0..8 {
        let [one, two] = [(); 2].map(|()| run(seed, EVENTS, None, true).trace);
        let differs = one.lines().zip(two.lines()).find(|(one, two)| one != two);
        assert!(one == two && one.lines().count() > 10, "seed {seed}: {differs:?}");
    }
}
