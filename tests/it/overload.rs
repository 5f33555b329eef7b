//! More than the gateway can carry: what it takes it finishes, the rest is told at once to come back.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    STRIPE, stripe_to,
    world::{
        Dialer, Gateway, Load, Provider, Upstream, eventually,
        gateway::yaml,
        provider::stripe_event,
        sender::{Manner, Told},
        size,
    },
};

const ROOM: usize = 8;

fn text(dir: &std::path::Path, upstream: &str) -> String {
    let limits = format!("limits: {{ requests_in_flight: {ROOM} }}\n");
    let text = yaml(dir, &(limits + &stripe_to(upstream)));
    text.replace("level: debug", "level: \"info,gatepost::request=warn\"")
}

#[tokio::test]
async fn what_is_too_much_is_refused_before_its_body_is_read() {
    let app = Upstream::closed().await;
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), &app.url());
    let gateway = Gateway::start_whole(dir, &text).await;
    let signed = |n: usize| {
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        (Provider::Stripe(STRIPE).sign("", "", &body), body)
    };
    let taken = futures_util::future::join_all((0..ROOM).map(|n| {
        let ((headers, body), gateway) = (signed(n), &gateway);
        async move { gateway.post("/stripe", &headers, &body).await.status }
    }));
    let refused = async {
        eventually("the room is taken", || async { app.count() == ROOM }).await;
        for _ in 0..10 * ROOM {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            // Not a byte of its body is ever sent.
            let head = "POST /stripe HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
            assert!(said.to_lowercase().contains("\r\nretry-after: "), "{said}");
        }
        app.open(ROOM + 1);
    };
    let (taken, ()) = tokio::join!(taken, refused);
    assert_eq!(taken, [200; ROOM]);
    assert_eq!(app.count(), ROOM, "and nothing else came through");
    let (headers, body) = signed(ROOM);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200, "there is room again");
}

/// Ten times as many senders as there is room for; each sends what was refused again. Lasts a moment, or so many seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_too_many_senders_lose_nothing() {
    let seconds = size("GATEPOST_OVERLOAD_SECONDS", 0);
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), &app.url());
    let gateway = Gateway::start_whole(dir, &text).await;
    let idle = gateway.memory("VmRSS");
    let sender = Manner { retries: true, ..Manner::new(&Dialer::plain(gateway.address)) };
    let phase = |name: &'static str, senders: usize, seconds: u64| {
        let senders = vec![sender.clone(); senders];
        async move {
            let load = Load::start(name, STRIPE, senders);
            load.go_on(2000).await;
            tokio::time::sleep(Duration::from_secs(seconds)).await; // the length of a long run
            load.stop().await
        }
    };
    let fits = phase("fits", ROOM, seconds.min(15)).await;
    let much = phase("much", 10 * ROOM, seconds).await;
    let over = Instant::now();
    let after = phase("after", ROOM, seconds.min(15)).await;

    let refused = much.iter().filter(|told| told.status == Ok(503)).count();
    assert!(refused > 0, "it was too much");
    let all = [&fits[..], &much, &after].concat();
    let wrong: Vec<_> = all.iter().filter(|told| !matches!(told.status, Ok(200 | 503))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let acked: HashSet<_> = accepted(&all).map(|told| told.id.clone()).collect();
    assert_eq!(acked.len(), accepted(&all).count(), "each is acknowledged once");
    assert_eq!(app.count(), acked.len(), "and received once");
    let kept = crate::handover::complaints(&accepted(&all).cloned().collect::<Vec<_>>(), &app);
    assert_eq!(kept, Vec::<String>::new());
    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + 64 * 1024, "{peak} KiB, {idle} KiB when idle");
    eprintln!(
        "with room {:.0}/s; ten times too many: {:.0}/s, {refused} refused; afterwards {:.0}/s, the first after {:?}; \
         idle {idle} KiB, peak {peak} KiB",
        rate(&fits),
        rate(&much),
        rate(&after),
        accepted(&after).map(|told| told.at + told.took - over).min().unwrap(),
    );
}

fn accepted(told: &[Told]) -> impl Iterator<Item = &Told> {
    told.iter().filter(|told| told.status == Ok(200))
}

/// Accepted events per second.
fn rate(told: &[Told]) -> f64 {
    let first = told.iter().map(|told| told.at).min().unwrap();
    let last = told.iter().map(|told| told.at + told.took).max().unwrap();
    accepted(told).count() as f64 / (last - first).as_secs_f64()
}

/// After it has warmed up, nothing grows with the number of events: neither memory nor open files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_descriptors_stay_as_they_are() {
    let seconds = size("GATEPOST_SOAK_SECONDS", 0);
    let app = Upstream::start().await;
    let gateway = {
        let dir = tempfile::tempdir().unwrap();
        let text = text(dir.path(), &app.url());
        Gateway::start_whole(dir, &text).await
    };
    let keeps = Manner::new(&Dialer::plain(gateway.address));
    let senders = || vec![keeps.clone(), keeps.clone(), Manner { hangs_up: true, ..keeps.clone() }];
    let load = Load::start("warm", STRIPE, senders());
    load.go_on(3000).await;
    load.stop().await;
    settled(&gateway).await;
    let (memory, descriptors) = (gateway.memory("VmRSS"), gateway.descriptors());
    let (begun, load) = (Instant::now(), Load::start("soak", STRIPE, senders()));
    load.go_on(3000).await;
    while begun.elapsed().as_secs() < seconds {
        tokio::time::sleep(Duration::from_secs(10)).await; // the length of a long run
        let (at, rss, fds) =
            (begun.elapsed().as_secs(), gateway.memory("VmRSS"), gateway.descriptors());
        eprintln!("{at:>5} s  {:>8} events  {rss:>7} KiB  {fds} descriptors", load.answered());
    }
    let told = load.stop().await;
    settled(&gateway).await;
    let more = gateway.memory("VmRSS").saturating_sub(memory);
    assert!(more <= 16 * 1024, "{more} KiB more than the {memory} KiB after 3000 events");
    let left = gateway.descriptors();
    assert!(left <= descriptors + POOLED, "{left} descriptors, {descriptors} after 3000 events");
    assert_eq!(accepted(&told).count(), told.len());
    eprintln!("{} events: {more} KiB more, {descriptors} descriptors, then {left}", told.len());
}

/// Connections to the app that workers keep: as many as each had requests at once.
const POOLED: usize = 2 * 3;

/// Waits until the senders' connections are gone on both sides.
async fn settled(gateway: &Gateway) {
    eventually("no connection is open", || async {
        gateway.metric("gatepost_connections").await == 0.0
    })
    .await;
}
