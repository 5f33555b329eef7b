//! What a gateway may take at most, by its own limits, and what it does take: here while the line to its Redis misbehaves.

use std::time::Duration;

use tokio::{net::TcpStream, time::sleep};

use crate::{
    forged::sound_and_seen_through,
    network::Line,
    run::Run,
    scene::Scene,
    world::{Gateway, eventually},
};

pub const CONNECTIONS: usize = 32;
pub const REQUESTS: usize = 16;
const WORKERS: usize = 2;
const BODIES_KIB: u64 = 1024;
const HEAD_KIB: u64 = 32;

/// The limits of a gateway that has so many connections and requests at most.
pub fn limits(connections: usize, requests: usize) -> String {
    format!(
        "{{ connections: {connections}, requests_in_flight: {requests}, body_memory: {BODIES_KIB}KiB, header_size: {HEAD_KIB}KiB }}"
    )
}

/// What a gateway has at one moment, or had at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    pub descriptors: usize,
    /// Its own, in KiB: what is mapped from files is not.
    memory: u64,
}

impl Use {
    pub fn of(gateway: &Gateway) -> Self {
        Self { descriptors: gateway.descriptors(), memory: gateway.memory("RssAnon") }
    }

    fn max(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            memory: self.memory.max(other.memory),
        }
    }

    /// What may be reached from here: senders' connections; on each worker one to the app for each request, and to Redis the
    /// one that is used and the one that takes its place; for each connection what is read of a head, what is kept of it, and
    /// what is said in answer; and bodies.
    pub fn at_most(self, connections: usize, requests: usize) -> Self {
        let memory = BODIES_KIB + 3 * HEAD_KIB * (connections + WORKERS * requests) as u64;
        Self {
            descriptors: self.descriptors + connections + WORKERS * (requests + 2),
            memory: self.memory + memory,
        }
    }

    /// Holds that it has no more memory than before, and so many KiB.
    #[track_caller]
    pub fn is_at_most(self, before: Self, kept: u64) {
        let (before, now) = (before.memory, self.memory);
        assert!(now <= before + kept, "{before} KiB, then {now} KiB");
    }

    pub fn is_within(self, most: Self) -> bool {
        self.descriptors <= most.descriptors && self.memory <= most.memory
    }
}

/// The most that it has until `work` is done.
pub async fn peak(gateway: &Gateway, work: impl Future<Output = ()>) -> Use {
    let mut most = Use::of(gateway);
    let watch = async {
        loop {
            most = most.max(Use::of(gateway));
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = watch => {}
    }
    most
}

/// Waits until all of `before` is back, but for a connection to the app on each worker, which is kept for the next event.
pub async fn all_is_closed(gateway: &Gateway, before: Use) {
    let most = before.descriptors + WORKERS;
    eventually("nothing stays open", || async { Use::of(gateway).descriptors <= most }).await;
}

/// What may be kept of what was used again and again, in KiB: of each time it is next to nothing.
const KEPT_KIB: u64 = 768;

/// Holds that what has been done hundreds of times since `before` took no memory that was not given back.
#[track_caller]
pub fn is_given_back(gateway: &Gateway, before: Use) {
    Use::of(gateway).is_at_most(before, KEPT_KIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_misbehaves_costs_no_more_than_the_limits_allow() {
    let run = Run { limits: limits(CONNECTIONS, REQUESTS), ..Run::new(1).await };
    let scene = Scene::on(run, &[], "", "1500ms").await;
    let gateway = &scene.gateways[0];
    leaks_are_seen(gateway).await;
    // Once all is in use that ever is.
    scene.begin().join_all().await;
    let before = Use::of(gateway);
    let lines = [
        Line::Garbled,
        Line::HalfAnswer,
        Line::Frozen,
        Line::HalfClosed,
        Line::Cut,
        Line::Slow(Duration::from_millis(200)),
    ];
    let events = (1000..1600).map(|n| format!("evt_{n}"));
    let lanes = scene.run.senders.begin(events, CONNECTIONS, 5);
    let most = peak(gateway, async {
        for line in lines {
            let upto = scene.network.accepted() + 8;
            scene.network.set(line);
            match line {
                Line::Slow(_) => scene.run.more(20).await,
                Line::Frozen => scene.told("store_unavailable", 50).await,
                _ => eventually("it connects", || async { scene.network.accepted() >= upto }).await,
            }
            scene.network.set(Line::Fair);
            scene.run.more(20).await;
        }
        lanes.join_all().await;
    })
    .await;
    let allowed = before.at_most(CONNECTIONS, REQUESTS);
    assert!(most.is_within(allowed), "{before:?} {most:?} {allowed:?}");
    let requests = scene.run.senders.requests();
    let told = requests.iter().filter_map(|request| request.sent.told.as_ref());
    let refused = told.filter(|told| told.status == 503 && told.outcome.is_empty()).count();
    assert!(refused > 0, "the limit of requests was met");
    sound_and_seen_through(&scene.settle_whole().await);
}

/// What a leak would take is more than the limits allow, and it is seen.
async fn leaks_are_seen(gateway: &Gateway) {
    let allowed = Use::of(gateway).at_most(CONNECTIONS, REQUESTS);
    let (one, other) = (
        Use { descriptors: allowed.descriptors + 1, ..allowed },
        Use { memory: allowed.memory + 1, ..allowed },
    );
    assert!(!one.is_within(allowed) && !other.is_within(allowed) && allowed.is_within(allowed));
    let quiet = Use::of(gateway).descriptors;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS / 2 {
        held.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    // A few others may end meanwhile.
    let seen = || async { Use::of(gateway).descriptors >= quiet + held.len() / 4 * 3 };
    eventually("descriptors are counted", seen).await;
}
