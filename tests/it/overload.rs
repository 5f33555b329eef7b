//! More than the gateway can carry: what it takes it finishes, the rest is told at once to come back.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::Request;
use http_body_util::{Full, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    STRIPE, stripe_to,
    world::{
        Crowd, Dialer, Gateway, Load, Provider, Tally, Upstream,
        crowd::{Line, whole},
        eventually,
        gateway::{cpu, yaml},
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
    let taken = join_all((0..ROOM).map(|n| {
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
            let said = said.to_lowercase();
            assert!(said.contains("\r\nretry-after: "), "{said}");
            // What is not read cannot be followed by another request.
            assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
        }
        // Who has sent everything may go on where it is.
        let (headers, body) = signed(0);
        let mut line = Line::to(gateway.address);
        for _ in 0..3 {
            let said = line.ask(&whole(&headers, &body)).await.unwrap();
            assert!(said.is_refusal(), "{said:?}");
        }
        assert_eq!(line.dialled, 1, "the connection is kept");
        app.open(ROOM + 1);
    };
    let (taken, ()) = tokio::join!(taken, refused);
    assert_eq!(taken, [200; ROOM]);
    assert_eq!(app.count(), ROOM, "and nothing else came through");
    let shed = gateway.metric("gatepost_shed_total{reason=\"requests_in_flight\"}").await;
    assert_eq!(shed, (10 * ROOM + 3) as f64);
    let (headers, body) = signed(ROOM);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200, "there is room again");
}

/// However much is refused on a connection of HTTP/2, it stays, and what was taken on it is answered on it.
#[tokio::test]
async fn refusals_over_http2_leave_their_connection_alone() {
    let app = Upstream::closed().await;
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), &app.url()).replace("mode: none", "mode: internal");
    let gateway = Gateway::start_whole(dir, &text).await;
    let dialer = Dialer::tls(gateway.address, &gateway.dir().join("tls/ca.pem"), "h2");
    let io = TokioIo::new(dialer.connect().await.unwrap());
    let (open, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = |body: Vec<u8>| {
        let mut open: http2::SendRequest<Full<Bytes>> = open.clone();
        let mut request = Request::post("https://localhost/stripe");
        for (name, value) in Provider::Stripe(STRIPE).sign("", "", &body) {
            request = request.header(name, value);
        }
        async move {
            open.ready().await.unwrap();
            open.send_request(request.body(Full::from(body)).unwrap()).await.unwrap()
        }
    };
    let taken = (0..ROOM).map(|n| ask(stripe_event(&format!("evt_{n}"), "invoice.paid")));
    let taken = taken.map(tokio::spawn).collect::<Vec<_>>();
    eventually("the room is taken", || async { app.count() == ROOM }).await;
    for _ in 0..20 {
        let refused = (0..20).map(|_| ask(vec![b'x'; 60_000]));
        for answer in join_all(refused).await {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
    }
    app.open(ROOM);
    for answer in taken {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    assert!(!connection.is_finished());
}

/// Nor does the rest of a refused body, which its sender goes on with for a moment, while no other request runs.
#[tokio::test]
async fn the_rest_of_a_refused_body_leaves_its_http2_connection_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), "http://127.0.0.1:9/").replace("mode: none", "mode: internal");
    let gateway = Gateway::start_whole(dir, &text).await;
    let dialer = Dialer::tls(gateway.address, &gateway.dir().join("tls/ca.pem"), "h2");
    let io = TokioIo::new(dialer.connect().await.unwrap());
    let (mut open, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |mut pieces: mpsc::Receiver<Bytes>| {
        let frame = |piece| Ok::<_, Infallible>(Frame::data(piece));
        let body = stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(frame)));
        Request::post("https://localhost/nobody").body(StreamBody::new(body)).unwrap()
    };
    let (rest, pieces) = mpsc::channel(1);
    assert_eq!(open.send_request(request(pieces)).await.unwrap().status(), 404);
    for _ in 0..16 {
        drop(rest.send(vec![b'x'; 32 << 10].into()).await); // it may have been enough
    }
    let (_, nothing) = mpsc::channel(1);
    open.ready().await.unwrap();
    assert_eq!(open.send_request(request(nothing)).await.unwrap().status(), 404);
    assert!(!connection.is_finished());
}

/// One stretch of a run: what its senders were told, and the processor time of the gateway and of everybody else.
struct Phase {
    name: &'static str,
    tally: Tally,
    gateway: Duration,
    others: Duration,
}

impl Phase {
    /// Microseconds of the gateway's processor time per accepted event.
    fn price(&self) -> f64 {
        micros(self.gateway) / self.tally.accepted.len() as f64
    }

    /// The same per refusal, where an accepted event costs `price`.
    fn price_of_refusal(&self, price: f64) -> f64 {
        (micros(self.gateway) - price * self.tally.accepted.len() as f64)
            / self.tally.refused as f64
    }

    fn report(&self) {
        let seconds = self.tally.lasted.as_secs_f64();
        eprintln!(
            "{:>6}: {:.0}/s accepted of {:.0}/s; cores: gateway {:.2}, senders and app {:.2}; {:.0} us of the gateway's per accepted event",
            self.name,
            self.tally.goodput(),
            self.tally.offered(),
            self.gateway.as_secs_f64() / seconds,
            self.others.as_secs_f64() / seconds,
            self.price(),
        );
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Ten times as many requests as can be carried, by senders that try again. Lasts a moment, or so many seconds. What can be
/// carried is set by the app, which takes a while for each event; where it takes none, by the processors, which senders and
/// app share with the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_too_many_senders_lose_nothing() {
    let seconds = size("GATEPOST_OVERLOAD_SECONDS", 0);
    let takes = Duration::from_millis(size("GATEPOST_OVERLOAD_APP_MILLIS", 20));
    let app = Upstream::start().await;
    app.takes(takes);
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), &app.url());
    let gateway = Gateway::start_whole(dir, &text).await;
    let idle = gateway.memory("VmRSS");
    let phase = async |name, senders, every, answers, seconds| {
        let (ours, theirs) = (cpu("self"), gateway.cpu());
        let crowd = Crowd::start(name, STRIPE, gateway.address, senders, every);
        crowd.go_on(answers).await;
        tokio::time::sleep(Duration::from_secs(seconds)).await; // the length of a long run
        let tally = crowd.stop().await;
        Phase { name, tally, gateway: gateway.cpu() - theirs, others: cpu("self") - ours }
    };
    let fits = phase("fits", ROOM, Duration::ZERO, 400, seconds.min(15)).await;
    // Ten times as many senders, each as often as one that is served.
    let every = Duration::from_secs_f64(ROOM as f64 / fits.tally.goodput());
    let much = phase("much", 10 * ROOM, every, 2000, seconds).await;
    let over = Instant::now();
    let after = phase("after", ROOM, Duration::ZERO, 400, seconds.min(15)).await;

    assert!(much.tally.refused > 0, "it was too much");
    let told = [&fits, &much, &after].map(|phase| {
        phase.report();
        assert_eq!(phase.tally.wrong, Vec::<String>::new());
        phase.tally.accepted.clone()
    });
    let acked = told.concat();
    assert_eq!(app.count(), acked.len(), "each is acknowledged and received once");
    assert_eq!(crate::handover::complaints(&acked, &app), Vec::<String>::new());
    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + 64 * 1024, "{peak} KiB, {idle} KiB when idle");
    let kept = much.tally.goodput() / fits.tally.goodput();
    let times = much.tally.offered() / fits.tally.goodput();
    let first = after.tally.accepted.iter().map(|told| told.at + told.took - over).min().unwrap();
    eprintln!(
        "goodput {:.0} % of peak at {times:.1} times as much; a refusal costs {:.0} us; the first event afterwards after {first:?}; idle {idle} KiB, peak {peak} KiB",
        100.0 * kept,
        much.price_of_refusal(fits.price()),
    );
    // It was as much as it is called, where senders do not fight with the gateway over the processors.
    assert!(takes.is_zero() || times >= if seconds == 0 { 3.0 } else { 9.0 }, "{times} times");
    // Only a long run can tell; of the peak, only where senders and app do not fight with the gateway over the processors.
    assert!(seconds == 0 || first < Duration::from_secs(5), "{first:?}");
    assert!(seconds == 0 || takes.is_zero() || kept >= 0.9, "{kept}");
}

fn accepted(told: &[Told]) -> impl Iterator<Item = &Told> {
    told.iter().filter(|told| told.status == Ok(200))
}

/// After it has warmed up, nothing grows with the number of events: neither memory nor open files. Segments are small, so that in a
/// long run they are closed and compressed before the first figure is taken: what that needs is kept, three MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_descriptors_stay_as_they_are() {
    let seconds = size("GATEPOST_SOAK_SECONDS", 0);
    let app = Upstream::start().await;
    let gateway = {
        let dir = tempfile::tempdir().unwrap();
        let text = text(dir.path(), &app.url()) + "audit: { rotate: { size: 16MiB } }\n";
        Gateway::start_whole(dir, &text).await
    };
    let keeps = Manner::new(&Dialer::plain(gateway.address));
    let senders = || vec![keeps.clone(), keeps.clone(), Manner { hangs_up: true, ..keeps.clone() }];
    let load = Load::start("warm", STRIPE, senders());
    load.go_on(3000).await;
    load.stop().await;
    settled(&gateway).await;
    let (memory, descriptors) = (gateway.memory("VmRSS"), gateway.descriptors());
    let load = Load::start("soak", STRIPE, senders());
    load.go_on(3000).await;
    let slope = if seconds == 0 { None } else { Some(slope(&gateway, &load, seconds).await) };
    let told = load.stop().await;
    settled(&gateway).await;
    let more = gateway.memory("VmRSS").saturating_sub(memory);
    // Pages of the embedded store that are kept come to 700 KiB here.
    let (more, most) = slope.map_or((more, 2 * 1024), |more| (more, 1024));
    assert!(more <= most, "{more} KiB more; {memory} KiB after 3000 events");
    let left = gateway.descriptors();
    assert!(left <= descriptors + POOLED, "{left} descriptors, {descriptors} after 3000 events");
    assert_eq!(accepted(&told).count(), told.len());
    eprintln!("{} events: {more} KiB more, {descriptors} descriptors, then {left}", told.len());
}

/// How many KiB more it has at the end of so many seconds, which begin when nothing should fill up any longer: after a minute
/// and a half, and as many events as the embedded store needs to keep all the pages that it may (4 MiB).
async fn slope(gateway: &Gateway, load: &Load, seconds: u64) -> u64 {
    let (begun, mut warm) = (Instant::now(), None);
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await; // the length of a long run
        let (at, rss, fds) = (begun.elapsed(), gateway.memory("VmRSS"), gateway.descriptors());
        let events = load.answered();
        eprintln!("{:>5} s  {events:>8} events  {rss:>7} KiB  {fds} descriptors", at.as_secs());
        if at < Duration::from_secs(90) || events < 30_000 {
            continue;
        }
        let (since, memory) = *warm.get_or_insert((at, rss));
        if at >= since + Duration::from_secs(seconds) {
            return rss.saturating_sub(memory);
        }
    }
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
