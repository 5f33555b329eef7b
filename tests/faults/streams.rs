//! Over HTTP/2 a sender hangs up by resetting its stream, while its connection and its other streams go on: in the middle of a
//! request, before and after the claim, while the app works, while it waits for a twin. Whoever leaves, cancels nothing.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::{
    app::Act,
    bounds::{Use, is_given_back},
    forged::sound_and_seen_through,
    h2::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame, post, preface},
    ledger::{Standing, Told},
    run::Run,
    sender::signed,
    world::{Dialer, Gateway, eventually, provider::stripe_event, sender::Line},
};

/// How much of a request is said before it is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upto {
    Head,
    HalfBody,
    Whole,
}

/// A connection whose frames are our own.
pub struct Streams {
    line: Line,
    next: u32,
}

impl Streams {
    pub async fn open(dialer: &Dialer) -> Self {
        let mut line = dialer.connect().await.unwrap();
        line.write_all(&preface()).await.unwrap();
        Self { line, next: 1 }
    }

    /// Says a request on a stream of its own, and puts it into the books as one without an answer.
    pub async fn say(&mut self, run: &Run, event: &str, upto: Upto) -> u32 {
        let body = stripe_event(event, "invoice.paid");
        let stream = self.next;
        self.next += 2;
        let mut headers = signed(event, &body, Standing::Genuine);
        headers.push(("content-type".into(), "application/json".into()));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut said = frame(HEADERS, END_HEADERS, stream, &post("/stripe", &headers));
        match upto {
            Upto::Head => {}
            Upto::HalfBody => said.extend(frame(DATA, 0, stream, &body[..body.len() / 2])),
            Upto::Whole => said.extend(frame(DATA, END_STREAM, stream, &body)),
        }
        if upto == Upto::Whole {
            run.senders.note(event, &body, 0, Standing::Genuine, run.clock.now(), None);
        }
        self.write(&said).await;
        stream
    }

    pub async fn reset(&mut self, stream: u32) {
        self.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).await.unwrap();
        self.line.flush().await.unwrap();
    }
}

pub async fn start(run: &Run, dir: TempDir, dedup: &str) -> (Gateway, Dialer) {
    let text = run.config(dir.path(), dedup).replace("mode: none", "mode: internal");
    let text = text.replace("host: hooks.example.com", "host: localhost");
    let gateway = Gateway::start_whole(dir, &text).await;
    let dialer = Dialer::tls(gateway.address, &gateway.dir().join("tls/ca.pem"), "h2");
    (gateway, dialer)
}

/// A whole request of one who stays.
pub async fn ask(run: &Run, dialer: &Dialer, event: &str) -> Told {
    let io = TokioIo::new(dialer.connect().await.unwrap());
    let opened = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io).await;
    let (mut open, connection) = opened.unwrap();
    let connection = tokio::spawn(connection);
    let body = stripe_event(event, "invoice.paid");
    let mut request = Request::post("https://localhost/stripe");
    for (name, value) in signed(event, &body, Standing::Genuine) {
        request = request.header(name, value);
    }
    let request = request.header("content-type", "application/json");
    let at = run.clock.now();
    let answer = open.send_request(request.body(Full::from(body.clone())).unwrap()).await.unwrap();
    let header = |name| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let told = Told {
        at: run.clock.now(),
        status: answer.status().as_u16(),
        outcome: header("webhook-outcome").into(),
        receipt: header("webhook-receipt").into(),
        retry_after: answer.headers().contains_key("retry-after"),
    };
    run.senders.note(event, &body, 0, Standing::Genuine, at, Some(told.clone()));
    connection.abort();
    told
}

async fn in_flight(gateway: &Gateway, count: f64) {
    let so_many = || async { gateway.metric("gatepost_requests_in_flight").await == count };
    eventually("so many are in flight", so_many).await;
}

/// Nothing comes of what was not said to its end; what was, is delivered, and its sender told when it asks again.
#[tokio::test]
async fn a_stream_that_is_reset_cancels_nothing() {
    let run = Run::patient(1).await;
    let (gateway, dialer) = start(&run, tempfile::tempdir().unwrap(), "store: embedded").await;
    let mut streams = Streams::open(&dialer).await;
    let mut before = Use::of(&gateway);
    for round in 0..200 {
        let upto = [Upto::Head, Upto::HalfBody][round % 2];
        let stream = streams.say(&run, "evt_0", upto).await;
        in_flight(&gateway, 1.0).await;
        streams.reset(stream).await;
        in_flight(&gateway, 0.0).await;
        if round == 40 {
            before = Use::of(&gateway); // once all is in use that ever is
        }
    }
    is_given_back(&gateway, before);
    assert!(gateway.records().iter().all(|record| record["event_id"].is_null()));
    assert_eq!(ask(&run, &dialer, "evt_0").await.outcome, "accepted");
    // At once, so that it is reset before or after its claim.
    for n in 1..20 {
        let stream = streams.say(&run, &format!("evt_{n}"), Upto::Whole).await;
        streams.reset(stream).await;
    }
    in_flight(&gateway, 0.0).await;
    for n in 1..20 {
        assert_eq!(ask(&run, &dialer, &format!("evt_{n}")).await.status, 200);
    }
    // While the app works.
    run.app.always(Act::Gated(200));
    let before = run.app.count();
    let stream = streams.say(&run, "evt_20", Upto::Whole).await;
    eventually("the app has it", || async { run.app.count() == before + 1 }).await;
    streams.reset(stream).await;
    in_flight(&gateway, 0.0).await;
    run.app.open();
    let told = ask(&run, &dialer, "evt_20").await;
    assert_eq!((told.status, &*told.outcome), (200, "duplicate"));
    drop(streams);
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), 21, "each once");
    sound_and_seen_through(&ledger);
}

/// The follower's stream is reset, then the leader's; on the same connection and on another they wait and are answered.
#[tokio::test]
async fn a_twin_whose_stream_is_reset_takes_nobody_along() {
    let run = Run::patient(1).await;
    let (gateway, dialer) =
        start(&run, tempfile::tempdir().unwrap(), "store: embedded, join_timeout: 10s").await;
    assert_eq!(ask(&run, &dialer, "evt_0").await.outcome, "accepted");
    let fds = gateway.descriptors();
    run.app.always(Act::Gated(200));
    let mut streams = Streams::open(&dialer).await;
    let leader = streams.say(&run, "evt_1", Upto::Whole).await;
    eventually("the app has it", || async { run.app.count() == 2 }).await;
    let follower = streams.say(&run, "evt_1", Upto::Whole).await;
    let staying = [ask(&run, &dialer, "evt_1"), ask(&run, &dialer, "evt_1")];
    let leaving = async {
        in_flight(&gateway, 4.0).await;
        streams.reset(follower).await;
        streams.reset(leader).await;
        in_flight(&gateway, 2.0).await;
        run.app.open();
    };
    let (told, ()) = tokio::join!(futures_util::future::join_all(staying), leaving);
    for told in told {
        assert_eq!((told.status, &*told.outcome), (200, "duplicate"));
    }
    drop(streams);
    eventually("nothing stays open", || async { gateway.descriptors() <= fds + 2 }).await;
    let ledger = run.settle(vec![gateway]).await;
    assert_eq!(ledger.received.len(), 2);
    sound_and_seen_through(&ledger);
}
