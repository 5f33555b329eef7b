//! Health, metrics and the door of `gatepost reload`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use gatepost::{
    admin::{self, Admin, Capture, Condition, Scope},
    event::Timestamp,
    server,
    stage::BoxFuture,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::world::{ask, closed, head};

struct Door {
    address: SocketAddr,
    /// Whether the dedup store is reachable, and whether a reload succeeds.
    well: Arc<AtomicBool>,
    metrics: Metrics,
}

/// A gateway that is well, or not.
struct Patient(Arc<AtomicBool>);

impl admin::Gateway for Patient {
    fn readiness(&self) -> BoxFuture<'_, Vec<Condition>> {
        let holds = self.0.load(SeqCst);
        let reason = if holds { "Answers" } else { "Timeout" };
        let kind = "DedupStoreReachable";
        let condition = Condition { kind, holds, reason, message: "within 250ms".to_owned() };
        Box::pin(async move { vec![condition] })
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        let result = if self.0.load(SeqCst) { Ok("2 sources") } else { Err("line 3: \"x\"") };
        Box::pin(async move { result.map(str::to_owned).map_err(str::to_owned) })
    }

    fn capture(&self, asked: Capture) -> BoxFuture<'_, Result<Value, String>> {
        let known = asked.source == "asana";
        Box::pin(async move {
            let seconds = asked.time.map(|time| time.as_secs());
            known.then(|| json!([seconds, asked.replace])).ok_or_else(|| "no source".to_owned())
        })
    }
}

/// A gateway with a bug.
struct Broken;

impl admin::Gateway for Broken {
    fn readiness(&self) -> BoxFuture<'_, Vec<Condition>> {
        Box::pin(async { panic!("a bug") })
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { panic!("a bug") })
    }

    fn capture(&self, _: Capture) -> BoxFuture<'_, Result<Value, String>> {
        Box::pin(async { panic!("a bug") })
    }
}

fn door(scope: Scope) -> Door {
    let well = Arc::new(AtomicBool::new(true));
    door_to(Arc::new(Patient(Arc::clone(&well))), well, scope)
}

fn door_to(gateway: Arc<dyn admin::Gateway>, well: Arc<AtomicBool>, scope: Scope) -> Door {
    let metrics = Metrics::new();
    let admin = Admin { metrics: metrics.clone(), gateway };
    let listener =
        server::listen(&["127.0.0.1:0".parse().unwrap()], 1).unwrap().remove(0).remove(0);
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let tracker = TaskTracker::new();
    tracker.spawn(admin::serve(listener, scope, admin, tracker.clone(), CancellationToken::new()));
    Door { address, well, metrics }
}

impl Door {
    async fn ask(&self, line: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        ask(&mut stream, format!("{line} HTTP/1.1\r\n{headers}\r\n")).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), "host: anything\r\n").await
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn alive_is_not_ready() {
    let door = door(Scope::MetricsOnly);
    let condition = |status, reason| json!({ "type": "DedupStoreReachable", "status": status, "reason": reason, "message": "within 250ms" });
    let (status, body) = door.get("/readyz").await;
    assert_eq!(status, 200);
    assert_eq!(
        parsed(&body),
        json!({ "ready": true, "conditions": [condition("True", "Answers")] })
    );

    door.well.store(false, SeqCst);
    let (status, body) = door.get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        parsed(&body),
        json!({ "ready": false, "conditions": [condition("False", "Timeout")] })
    );
    assert_eq!(door.get("/healthz").await, (200, "alive\n".to_owned()));
}

#[tokio::test]
async fn metrics_are_open_metrics_with_the_process_among_them() {
    let door = door(Scope::MetricsOnly);
    door.metrics.shed("connections").inc();
    let (status, text) = door.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("gatepost_shed_total{reason=\"connections\"} 1\n"), "{text}");
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(text.contains(&format!("\n{name} ")), "{name}");
    }
    let started = text.lines().find_map(|l| l.strip_prefix("process_start_time_seconds "));
    let started: f64 = started.unwrap().parse().unwrap();
    let started = Timestamp::from_millis((started * 1000.0) as i64);
    let age = Timestamp::now().as_secs() - started.as_secs();
    assert!(age.abs() < 3600, "{started} is not within the hour");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);

    let mut stream = TcpStream::connect(door.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let head = head(&mut stream).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(!closed(&mut stream).await.is_empty(), "one request per connection");
}

#[tokio::test]
async fn a_reload_says_what_became_of_it() {
    let door = door(Scope::Everything);
    for host in ["127.0.0.1", "localhost:9480", "[::1]:9480"] {
        let headers = format!("host: {host}\r\ngatepost-admin: 1\r\n");
        let (status, body) = door.ask("POST /-/reload", &headers).await;
        assert_eq!(
            (status, parsed(&body)),
            (200, json!({ "reloaded": true, "message": "2 sources" }))
        );
    }
    door.well.store(false, SeqCst);
    let headers = "host: localhost\r\ngatepost-admin: 1\r\n";
    let (status, body) = door.ask("POST /-/reload", headers).await;
    assert_eq!(
        (status, parsed(&body)),
        (422, json!({ "reloaded": false, "error": "line 3: \"x\"" }))
    );
}

#[tokio::test]
async fn a_browser_cannot_reload() {
    let door = door(Scope::Everything);
    for (headers, status) in [
        ("host: evil.example\r\ngatepost-admin: 1\r\n", 421),
        ("host: 192.0.2.1\r\ngatepost-admin: 1\r\n", 421),
        ("host: localhost.evil.example\r\ngatepost-admin: 1\r\n", 421),
        ("gatepost-admin: 1\r\n", 421),
        ("host: localhost\r\n", 403),
        ("host: localhost\r\ngatepost-admin: 0\r\n", 403),
        ("host: localhost\r\ngatepost-admin: 1\r\norigin: null\r\n", 403),
        ("host: localhost\r\ngatepost-admin: 1\r\nsec-fetch-site: none\r\n", 403),
    ] {
        let (answered, body) = door.ask("POST /-/reload", headers).await;
        assert_eq!(answered, status, "{headers}");
        assert_eq!(parsed(&body)["reloaded"], false);
    }
}

#[tokio::test]
async fn there_is_nothing_else() {
    let good = "host: localhost\r\ngatepost-admin: 1\r\n";
    let everything = door(Scope::Everything);
    for line in [
        "GET /-/reload",
        "GET /",
        "POST /metrics",
        "GET /metrics/",
        "DELETE /readyz",
        "POST /replay",
        "POST /replay/../../x",
        "POST /replay/-1",
        "POST /-/../-/reload",
        "POST /%2d/reload",
        "POST /-/reload/9223372036854775808",
        "GET /events/%3Cscript%3E",
    ] {
        assert_eq!(everything.ask(line, good).await.0, 404, "{line}");
    }
    let metrics_only = door(Scope::MetricsOnly);
    assert_eq!(metrics_only.ask("POST /-/reload", good).await.0, 404);
}

#[tokio::test]
async fn every_answer_is_for_this_moment_only() {
    let door = door(Scope::Everything);
    for path in ["/healthz", "/readyz", "/metrics", "/nothing"] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.contains("\r\ncache-control: no-store\r\n"), "{path}: {head}");
        assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_bug_ends_one_answer() {
    let door = door_to(Arc::new(Broken), Arc::default(), Scope::Everything);
    assert_eq!(door.get("/readyz").await.0, 500);
    assert_eq!(door.get("/healthz").await.0, 200);
}
