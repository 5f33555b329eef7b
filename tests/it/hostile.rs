//! Strangers who mean harm, and an honest sender beside them: against the real binary, with a real Redis.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{
    STRIPE,
    h2::FLOODS,
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

/// Scripts that Redis ran so far: each event needs some, and nobody else any.
fn scripts(redis: &RedisServer) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let rest = line.strip_prefix("cmdstat_eval")?.split_once("calls=")?.1;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    stats.lines().filter_map(calls).sum()
}

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

fn honest(dialer: &Dialer) -> Manner {
    Manner { pause: Duration::from_millis(5), ..Manner::new(dialer) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_end_and_cost_nobody_else_anything() {
    let long = size("GATEPOST_FLOODS_LONG", 0) > 0;
    let (app, redis) = (Upstream::start().await, RedisServer::start(&[]).await);
    let dir = tempfile::tempdir().unwrap();
    let text = text(dir.path(), &app.url(), &redis, if long { "" } else { HASTY });
    let gateway = Gateway::start_whole(dir, &text).await;
    let idle = gateway.memory("VmRSS");
    let ca = gateway.dir().join("tls/ca.pem");
    let [http1, http2] = ["http/1.1", "h2"].map(|alpn| Dialer::tls(gateway.address, &ca, alpn));

    let before = scripts(&redis);
    let load = Load::start("quiet", STRIPE, vec![honest(&http1), honest(&http2)]);
    load.go_on(if long { 2000 } else { 100 }).await;
    let quiet = load.stop().await;
    let each = (scripts(&redis) - before) / quiet.len() as u64;
    assert!(each > 0, "claims and completions are seen");

    let before = scripts(&redis);
    let load = Load::start("attacked", STRIPE, vec![honest(&http1), honest(&http2)]);
    for flood in &FLOODS {
        let begun = Instant::now();
        let end = flood.over(http2.connect().await.unwrap()).await;
        assert!(end.is_closed_for(flood.reason), "{}: {end:?}", flood.name);
        report(flood.name, begun);
        load.go_on(1).await;
    }
    let begun = Instant::now();
    tokio::join!(say_nothing(&http1), slow_heads(&http1), slow_bodies(&http1), deaf(&http1));
    report("silent, slow and deaf ones", begun);
    load.go_on(1).await;
    let told = load.stop().await;

    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + MORE_KIB, "{peak} KiB, {idle} KiB when idle");
    assert_eq!(complaints(&[quiet.clone(), told.clone()].concat(), &app), Vec::<String>::new());
    assert_eq!(scripts(&redis) - before, each * told.len() as u64, "strangers reach no store");
    let attempts = gateway.records().iter().filter(|r| r["kind"] == "attempt").count();
    assert_eq!(attempts, quiet.len() + told.len());
    eprintln!(
        "idle {idle} KiB, peak {peak} KiB; p99 of {} honest events {:?} quiet, of {} {:?} attacked",
        quiet.len(),
        p99(&quiet),
        told.len(),
        p99(&told)
    );
}

fn report(what: &str, begun: Instant) {
    eprintln!("{:>7.1} s  {what}", begun.elapsed().as_secs_f64());
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
    let (gateway, idle, _bodies) = unfinished_bodies("32MiB").await;
    let shed = "gatepost_shed_total{reason=\"body_memory\"}";
    eventually("all that do not fit are refused", || async { gateway.metric(shed).await == 67.0 })
        .await;
    let peak = gateway.memory("VmHWM");
    assert!(peak <= idle + MORE_KIB, "{peak} KiB, {idle} KiB when idle");

    // A gateway that may take more is seen to.
    let (gateway, idle, _bodies) = unfinished_bodies("256MiB").await;
    eventually("memory grows beyond what is allowed above", || async {
        gateway.memory("VmHWM") > idle + MORE_KIB
    })
    .await;
}
