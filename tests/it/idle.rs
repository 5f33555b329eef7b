//! Connections to apps that nobody uses, and those that have died without a word.

use std::{
    convert::Infallible,
    future::ready,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use gatepost::{
    deliver::{Dial, HttpVersion, UpstreamParams},
    stage::BoxFuture,
};
use http::Response;
use http_body_util::Full;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinSet,
};

use crate::{
    connect::{accepted, at_once, directly, gateway, over, params, post},
    world::{PATIENCE, Speaks, Upstream, eventually},
};

/// Nobody looks at them while they are idle: whoever closed them would be kept waiting for ever.
#[tokio::test]
async fn idle_connections_are_closed_although_nothing_comes() {
    for http in ["1.1", "2"] {
        let app = Upstream::speaking(Speaks { h2: http == "2", tls: None }).await;
        let upstream = format!("url: \"{}\", http: \"{http}\", idle_timeout: 100ms", app.url());
        let gateway = gateway("", &upstream).await;
        let answers = at_once(&gateway, "a", 20).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{http}");
        eventually("all are closed", || async { app.ended() == app.connections() }).await;
        let before = app.connections();
        accepted(&gateway, 1).await;
        assert_eq!(app.connections(), before + 1, "{http}");
    }
}

#[tokio::test]
async fn a_connection_that_is_in_use_is_not_idle() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let speaks = Speaks { h2: http == HttpVersion::Http2, tls: None };
        let app = Upstream::with_gate(0, speaks).await;
        let idle_timeout = Duration::ZERO;
        let upstream = over(None, UpstreamParams { idle_timeout, ..params(&app.url(), http) });
        let meanwhile = async {
            eventually("the app has it", || async { app.count() == 1 }).await;
            upstream.sweep();
            app.open(1);
        };
        let (answer, ()) = tokio::join!(directly(&upstream, PATIENCE), meanwhile);
        assert_eq!((answer, app.ended()), (Ok(200), 0), "{http:?}");
        upstream.sweep();
        eventually("it is closed", || async { app.ended() == 1 }).await;
    }
}

/// A network with one app, which takes its time over each answer.
#[derive(Debug)]
struct Slow {
    h2: bool,
    dialled: AtomicUsize,
    apps: Mutex<JoinSet<()>>,
}

impl Dial for Slow {
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'_, io::Result<DuplexStream>> {
        let (ours, theirs) = duplex(64 * 1024);
        self.dialled.fetch_add(1, SeqCst);
        let answer = service_fn(async |_| {
            tokio::time::sleep(Duration::from_secs(6)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let (io, h2) = (TokioIo::new(theirs), self.h2);
        self.apps.lock().unwrap().spawn(async move {
            if h2 {
                http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await.ok();
            } else {
                http1::Builder::new().serve_connection(io, answer).await.ok();
            }
        });
        Box::pin(ready(Ok(ours)))
    }
}

#[tokio::test(start_paused = true)]
async fn idleness_is_counted_from_the_last_answer_on() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let h2 = http == HttpVersion::Http2;
        let slow = Arc::new(Slow { h2, dialled: AtomicUsize::new(0), apps: Mutex::default() });
        let network: Arc<dyn Dial> = slow.clone();
        let idle_timeout = Duration::from_secs(4);
        let params = UpstreamParams { idle_timeout, ..params("http://app.internal/", http) };
        let upstream = over(Some(&network), params);
        for n in 1..=3 {
            assert_eq!(directly(&upstream, PATIENCE).await, Ok(200), "{http:?} {n}");
            upstream.sweep();
        }
        assert_eq!(slow.dialled.load(SeqCst), 1, "{http:?}");
        tokio::time::advance(idle_timeout).await;
        assert_eq!(directly(&upstream, PATIENCE).await, Ok(200), "{http:?}");
        assert_eq!(slow.dialled.load(SeqCst), 2, "{http:?}: it had been idle for too long");
    }
}

#[tokio::test]
async fn an_http2_connection_that_let_an_event_wait_in_vain_gets_no_other() {
    let app = Upstream::with_gate(0, Speaks { h2: true, tls: None }).await;
    let upstream = format!("url: \"{}\", http: \"2\"", app.url());
    let gateway = gateway(", timeout: 300ms", &upstream).await;
    for n in 0..2 {
        assert_eq!(post(&gateway, &format!("evt_late_{n}")).await.status, 504);
    }
    assert_eq!(app.connections(), 2, "it may be dead");
    app.open(100);
    accepted(&gateway, 3).await;
    assert_eq!((app.count(), app.connections()), (5, 3));
}

/// A network on which nobody ever says a word.
#[derive(Debug, Default)]
struct Silence(Mutex<Vec<DuplexStream>>);

impl Dial for Silence {
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'_, io::Result<DuplexStream>> {
        let (ours, theirs) = duplex(64 * 1024);
        self.0.lock().unwrap().push(theirs);
        Box::pin(ready(Ok(ours)))
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_died_in_silence_is_found_out() {
    let network: Arc<dyn Dial> = Arc::new(Silence::default());
    let upstream = over(Some(&network), params("http://app.internal/", HttpVersion::Http2));
    let begun = tokio::time::Instant::now();
    let why = directly(&upstream, Duration::from_secs(30)).await.unwrap_err();
    assert_ne!(why, "no answer in time");
    assert_eq!(begun.elapsed().as_secs(), 25, "{why}");
}
