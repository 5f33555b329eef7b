//! Strangers who mean harm, and an honest sender beside them: against the real binary, with a real Redis.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, join_all};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{
    STRIPE,
    h2::{FLOODS, Flood},
    handover::complaints,
    stripe_to,
    world::{
        Dialer, Gateway, Load, RedisServer, Upstream, eventually,
        gateway::yaml,
        sender::{Manner, Told},
        size,
    },
};

/// What a gateway under attack may take more than an idle one.
const MORE_KIB: u64 = 64 * 1024;

/// Lines of log after everything that strangers did.
const LINES: usize = 100;

/// Limits that end soon; a long run keeps the ones that people have.
const HASTY: &str = "limits: { first_byte_timeout: 2s, handshake_timeout: 5s, header_timeout: 2s, body_timeout: 5s, \
                     idle_timeout: 3s, write_timeout: 2s }\n";

fn text(dir: &Path, upstream: &str, redis: &RedisServer, limits: &str) -> String {
    let at = dir.display();
    format!(
        "version: 1\nserver: {{ host: localhost, listen: \"127.0.0.1:0\" }}\ntls: {{ mode: internal }}\n\
         storage: {{ dir: \"{at}\", min_free: 1MiB }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         dedup: {{ store: redis, redis: {{ url: \"{}\" }} }}\ntelemetry: {{ log: {{ level: \"info,gatepost::request=warn\", format: json }} }}\n{limits}{}",
        redis.url(),
        stripe_to(upstream)
    )
}

/// What Redis is told about an event: a claim, and that it is done. Each is a script that sets its key.
const EACH: [(&str, u64); 2] = [("evalsha", 2), ("set", 2)];

/// Waits until the server has closed every one.
async fn all_closed<T: tokio::io::AsyncRead + Unpin + Send + 'static>(streams: Vec<T>) {
    let mut readers = JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move {
            let mut said = Vec::new();
            drop(stream.read_to_end(&mut said).await); // a reset is an end, too
        });
    }
    let ended = tokio::time::timeout(Duration::from_mins(2), readers.join_all()).await;
    ended.expect("every connection is closed");
}

async fn say_nothing(dialer: &Dialer) {
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(TcpStream::connect(dialer.address).await.unwrap());
    }
    all_closed(streams).await;
}

/// Begins, and then says `piece` again and again until the connection ends; what the server said.
async fn drip(dialer: &Dialer, count: usize, begin: &str, piece: &'static [u8]) -> Vec<String> {
    let mut senders = JoinSet::new();
    for _ in 0..count {
        let mut stream = dialer.connect().await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        senders.spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let mut said = Vec::new();
            let drip = async {
                while writer.write_all(piece).await.is_ok() && writer.flush().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let listen = async { drop(reader.read_to_end(&mut said).await) };
            tokio::select! {
                () = drip => {}
                () = listen => {}
            }
            String::from_utf8_lossy(&said).into_owned()
        });
    }
    let ended = tokio::time::timeout(Duration::from_mins(2), senders.join_all()).await;
    ended.expect("every slow sender is ended")
}

async fn slow_heads(dialer: &Dialer) {
    drip(dialer, 100, "POST /stripe HTTP/1.1\r\nhost: localhost\r\n", b"x: y\r\n").await;
}

async fn slow_bodies(dialer: &Dialer) {
    let head = "POST /stripe HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n";
    for said in drip(dialer, 100, head, b"x").await {
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    }
}

/// Asks without end and reads nothing.
async fn deaf(dialer: &Dialer) {
    let mut senders = JoinSet::new();
    for _ in 0..5 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(dialer.address).await.unwrap();
        let mut stream = dialer.over(stream).await.unwrap();
        let ask = "GET /nobody HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
        senders.spawn(async move { while stream.write_all(ask.as_bytes()).await.is_ok() {} });
    }
    let ended = tokio::time::timeout(Duration::from_mins(2), senders.join_all()).await;
    ended.expect("who does not listen is ended");
}

fn p99(told: &[Told]) -> Duration {
    let mut took: Vec<_> = told.iter().map(|told| told.took).collect();
    took.sort();
    took[took.len() * 99 / 100]
}

fn honest(dialers: [&Dialer; 2]) -> Vec<Manner> {
    dialers.map(|dialer| Manner { pause: Duration::from_millis(5), ..Manner::new(dialer) }).to_vec()
}

/// What strangers try; so many of them at a time.
struct Attack {
    name: &'static str,
    strangers: usize,
    once: Box<dyn Fn() -> BoxFuture<'static, ()> + Send>,
}

impl Attack {
    fn new<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        strangers: usize,
        dialer: &Dialer,
        once: impl Fn(Dialer) -> F + Send + 'static,
    ) -> Self {
        let dialer = dialer.clone();
        Self { name, strangers, once: Box::new(move || Box::pin(once(dialer.clone()))) }
    }

    /// Every one of them, on a gateway that is reached by these.
    fn all([http1, http2]: [&Dialer; 2], once: bool) -> Vec<Self> {
        let flood = |flood: &'static Flood| {
            Self::new(flood.name, 4, http2, move |dialer| async move {
                let end = flood.over(dialer.connect().await.unwrap()).await;
                // Who hardly runs is cut before it has read why.
                let reason = if once { flood.reason } else { "" };
                assert!(end.is_closed_for(reason), "{}: {end:?}", flood.name);
            })
        };
        let mut all: Vec<_> = FLOODS.iter().map(flood).collect();
        all.extend([
            Self::new("silent ones", 1, http1, |dialer| async move { say_nothing(&dialer).await }),
            Self::new("slow heads", 1, http1, |dialer| async move { slow_heads(&dialer).await }),
            Self::new("slow bodies", 1, http1, |dialer| async move { slow_bodies(&dialer).await }),
            Self::new("deaf ones", 1, http1, |dialer| async move { deaf(&dialer).await }),
        ]);
        all
    }

    /// One stranger tries it once; or all of them for so long, on a thread that gets only the processor time that nobody
    /// else wants: strangers have machines of their own. Returns the longest time that a try took.
    async fn go(self, time: Duration) -> Duration {
        let tries = move || {
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            let id = thread.file_name().unwrap().to_str().unwrap();
            if !time.is_zero() {
                let reniced = Command::new("renice").args(["-n", "19", "-p", id]).output();
                assert!(reniced.unwrap().status.success());
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let strangers = if time.is_zero() { 1 } else { self.strangers };
            let (begun, mut longest) = (Instant::now(), Duration::ZERO);
            loop {
                let round = Instant::now();
                let tries = (0..strangers).map(|_| (self.once)());
                runtime.as_ref().unwrap().block_on(join_all(tries));
                longest = longest.max(round.elapsed());
                if begun.elapsed() >= time {
                    return longest;
                }
            }
        };
        let (done, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || done.send(tries()).unwrap());
        let longest = ended.await;
        assert!(thread.join().is_ok());
        longest.unwrap()
    }
}

/// A gateway that is attacked, with an app and a store behind it.
struct Scene {
    app: Upstream,
    redis: RedisServer,
    gateway: Gateway,
    dialers: [Dialer; 2],
    told: Vec<Told>,
}

impl Scene {
    async fn new(limits: &str) -> Self {
        let (app, redis) = (Upstream::start().await, RedisServer::start(&[]).await);
        let dir = tempfile::tempdir().unwrap();
        let text = text(dir.path(), &app.url(), &redis, limits);
        let gateway = Gateway::start_whole(dir, &text).await;
        let ca = gateway.dir().join("tls/ca.pem");
        let dialers = ["http/1.1", "h2"].map(|alpn| Dialer::tls(gateway.address, &ca, alpn));
        Self { app, redis, gateway, dialers, told: Vec::new() }
    }

    fn dialers(&self) -> [&Dialer; 2] {
        self.dialers.each_ref()
    }

    /// Honest senders while something happens; their p99 and the something's end.
    async fn while_honest<T>(
        &mut self,
        events: usize,
        meanwhile: impl Future<Output = T>,
    ) -> (Duration, T) {
        let name = format!("honest_{}", self.told.len());
        let load = Load::start(&name, STRIPE, honest(self.dialers()));
        load.go_on(1).await;
        let end = meanwhile.await;
        load.go_on(events).await;
        let told = load.stop().await;
        let p99 = p99(&told);
        self.told.extend(told);
        (p99, end)
    }
}

/// Each attack for a moment, or for so many seconds; then a second gateway of the same kind is attacked in the same way
/// beside it, for comparison: what the machine has to bear is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_end_and_cost_nobody_else_anything() {
    let seconds = size("GATEPOST_FLOODS_SECONDS", 0);
    let (limits, time) = (if seconds > 0 { "" } else { HASTY }, Duration::from_secs(seconds));
    let mut scene = Scene::new(limits).await;
    let idle = scene.gateway.memory("VmRSS");
    let (quiet, ()) = scene.while_honest(if seconds > 0 { 2000 } else { 100 }, async {}).await;
    let (mut commands, already) = (scene.redis.commands(), scene.told.len());
    eprintln!("p99 of the honest: {quiet:?} when it is quiet");

    let other = if seconds > 0 { Some(Scene::new(limits).await) } else { None };
    let mut attacks = Attack::all(scene.dialers(), seconds == 0);
    let slow = attacks.split_off(FLOODS.len());
    if let Some(other) = &other {
        let elsewhere = Attack::all(other.dialers(), false);
        for (attack, elsewhere) in attacks.into_iter().chain(slow).zip(elsewhere) {
            let name = attack.name;
            let (beside, _) = scene.while_honest(1, elsewhere.go(time)).await;
            let cpu = scene.gateway.cpu();
            let (attacked, longest) = scene.while_honest(1, attack.go(time)).await;
            let cpu = scene.gateway.cpu() - cpu;
            eprintln!(
                "p99 of the honest: {attacked:>10.1?}, {beside:>10.1?} beside it; ends in {longest:>8.1?}; {cpu:>6.2?} of CPU: {name}"
            );
        }
    } else {
        let (_, ()) = scene
            .while_honest(1, async {
                for attack in attacks {
                    attack.go(time).await;
                }
                join_all(slow.into_iter().map(|attack| attack.go(time))).await;
            })
            .await;
    }

    let peak = scene.gateway.memory("VmHWM");
    eprintln!("idle {idle} KiB, peak {peak} KiB; {} honest events", scene.told.len());
    assert!(peak <= idle + MORE_KIB, "{peak} KiB, {idle} KiB when idle");
    assert_eq!(complaints(&scene.told, &scene.app), Vec::<String>::new());
    let told = scene.told.len();
    for (command, calls) in EACH {
        *commands.entry(command.into()).or_default() += calls * (told - already) as u64;
    }
    assert_eq!(scene.redis.commands(), commands, "strangers reach no store");
    let lines = scene.gateway.log().len();
    assert!(lines < LINES, "{lines} lines of log: {:?}", scene.gateway.log().last());
    let records = scene.gateway.records();
    assert_eq!(records.iter().filter(|r| r["kind"] == "attempt").count(), told);
}

/// A gateway with a budget for all bodies, and a hundred bodies of a megabyte that lack their last byte.
async fn unfinished_bodies(budget: &str) -> (Gateway, u64, Vec<TcpStream>) {
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let limits =
        format!("limits: {{ body_memory: {budget}, body_timeout: 1m, body_rate_min: 1B }}\n");
    let text = yaml(dir.path(), &(limits + &stripe_to(&app.url())));
    let gateway = Gateway::start_whole(dir, &text).await;
    let idle = gateway.memory("VmRSS");
    let head = "POST /stripe HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream.write_all(&[b'x'; 999_999]).await); // a refused one is closed before its end
        kept.push(stream);
    }
    (gateway, idle, kept)
}

#[tokio::test]
async fn bodies_in_flight_keep_their_budget() {
    let (gateway, idle, bodies) = unfinished_bodies("32MiB").await;
    let shed = "gatepost_shed_total{reason=\"body_memory\"}";
    eventually("all that do not fit are refused", || async { gateway.metric(shed).await >= 67.0 })
        .await;
    // Those that are there hold what they need; two that wait for each other's memory are not both sent away.
    let ended = bodies.into_iter().map(async |mut stream| {
        drop(stream.write_all(b"x").await);
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.is_ok_and(|_| said == *b"HTTP/1.1 401")
    });
    let read = join_all(ended).await.into_iter().filter(|read| *read).count();
    assert!((31..=33).contains(&read), "{read} of 33 that fit");
    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + MORE_KIB, "{peak} KiB, {idle} KiB when idle");

    // A gateway that may take more is seen to.
    let (gateway, idle, _bodies) = unfinished_bodies("256MiB").await;
    eventually("memory grows beyond what is allowed above", || async {
        gateway.memory("VmHWM") > idle + MORE_KIB
    })
    .await;
}
