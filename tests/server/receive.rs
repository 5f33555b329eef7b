//! The first two stages alone: who is let in, and which bodies we can afford.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, poll, stream};
use gatepost::{
    answer::{Answer, Ignored, Outcome, Refusal},
    detach::Detach,
    event::{Name, Peer, Receipt, Timestamp},
    receive::{Accepts, Admit, Budget, Envelope, Inbound, Receive},
    stage::{Stage as _, StageExt as _},
    telemetry::Metrics,
};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceBuilder, ServiceExt as _};

use super::world::{SHORT, soon};

type Pieces = StreamBody<
    std::pin::Pin<Box<dyn stream::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>>,
>;

/// A request whose body comes in `pieces`; each is counted when it is read.
fn inbound(
    headers: &[(&str, &str)],
    pieces: &[&'static str],
    read: &Arc<AtomicUsize>,
) -> Inbound<Pieces> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    let read = Arc::clone(read);
    let frames = stream::iter(pieces.into_iter().map(move |piece| {
        read.fetch_add(1, SeqCst);
        Ok(Frame::data(piece))
    }));
    with_body(headers, Box::pin(frames))
}

fn with_body(
    headers: &[(&str, &str)],
    frames: std::pin::Pin<
        Box<dyn stream::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send>,
    >,
) -> Inbound<Pieces> {
    let mut request = http::Request::post("/stripe");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Inbound {
        request: request.body(StreamBody::new(frames)).unwrap(),
        peer: Peer { ip: [192, 0, 2, 1].into(), https: true },
        receipt: Receipt::random(),
        received_at: Timestamp::now(),
        place: None,
    }
}

fn accepts() -> Accepts {
    Accepts {
        source: Name::parse("stripe").unwrap(),
        methods: Vec::new(),
        body_bytes_max: 10,
        body_timeout: Duration::from_mins(1),
        body_rate_min: 1024,
        allow_encoded: false,
        allow_ips: Vec::new(),
        hide_paths: false,
        memory: Budget::new("body_memory", 100),
        lengths: Metrics::new().source("stripe", "proxy", 1).body,
    }
}

/// What came of it: the body that was handed on, or the refusal.
async fn pass(accepts: Accepts, inbound: Inbound<Pieces>) -> Result<Bytes, Refusal> {
    let (seen, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let next = tower::service_fn(move |envelope: Envelope| {
        seen.send(envelope.body().clone()).unwrap();
        async { Ok(Outcome::Ignored(Ignored::Dropped).into()) }
    });
    let answer: Answer = Receive(Arc::new(accepts)).pass(inbound, next).await;
    answer.map(|_| bodies.try_recv().unwrap()).map_err(|refused| refused.what)
}

#[tokio::test]
async fn a_body_is_handed_on_whole() {
    for pieces in [&["0123456789"][..], &["01234", "", "56789"], &["0", "1", "23456789"]] {
        let body = pass(accepts(), inbound(&[], pieces, &Arc::default())).await;
        assert_eq!(body.unwrap(), "0123456789");
    }
    assert_eq!(pass(accepts(), inbound(&[], &[], &Arc::default())).await.unwrap(), "");
}

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_before_a_byte_is_read() {
    let too_large = Err(Refusal::TooLarge { bytes_max: 10 });
    let read = Arc::default();
    let declared = inbound(&[("content-length", "11")], &["0123456789a"], &read);
    assert_eq!(pass(accepts(), declared).await, too_large);
    assert_eq!(read.load(SeqCst), 0);
    let undeclared = inbound(&[], &["01234", "56789", "a", "b"], &read);
    assert_eq!(pass(accepts(), undeclared).await, too_large);
    assert_eq!(read.load(SeqCst), 3, "and no more than that after it");
}

#[tokio::test]
async fn heads_are_judged_before_bodies() {
    let read = Arc::default();
    let refused =
        |accepts, headers: &[(&str, &str)]| pass(accepts, inbound(headers, &["x"], &read));
    assert_eq!(
        refused(accepts(), &[("content-encoding", "gzip")]).await,
        Err(Refusal::Unsupported("content_encoding"))
    );
    assert_eq!(
        refused(accepts(), &[("content-length", "1_0")]).await,
        Err(Refusal::Unreadable("content_length"))
    );
    let elsewhere = Accepts { allow_ips: vec!["10.0.0.0/8".parse().unwrap()], ..accepts() };
    assert_eq!(refused(elsewhere, &[]).await, Err(Refusal::AddressNotAllowed));
    let mut get = inbound(&[], &["x"], &read);
    *get.request.method_mut() = http::Method::GET;
    assert_eq!(pass(accepts(), get).await, Err(Refusal::MethodNotAllowed));
    let mut get = inbound(&[], &["x"], &read);
    *get.request.method_mut() = http::Method::GET;
    let hidden = Accepts { hide_paths: true, ..accepts() };
    assert_eq!(pass(hidden, get).await, Err(Refusal::UnknownSource), "as if nothing were there");
    assert_eq!(read.load(SeqCst), 0);
    let encoded = Accepts { allow_encoded: true, ..accepts() };
    assert!(refused(encoded, &[("content-encoding", "gzip")]).await.is_ok());
}

#[tokio::test]
async fn a_body_that_stalls_or_drips_is_too_slow() {
    let stalled = || with_body(&[], Box::pin(stream::pending()));
    let short = Accepts { body_timeout: SHORT, ..accepts() };
    assert_eq!(soon(pass(short, stalled())).await, Err(Refusal::TooSlow));
    // Slower than the minimum rate, however long the body may take as a whole.
    let byte = stream::once(async { Ok(Frame::data(Bytes::from_static(b"x"))) });
    let drip = with_body(&[], Box::pin(byte.chain(stream::pending())));
    assert_eq!(soon(pass(accepts(), drip)).await, Err(Refusal::TooSlow));
}

#[tokio::test]
async fn memory_is_shared_by_all_bodies_and_given_back() {
    let memory = Budget::new("body_memory", 15);
    let accepts = || Accepts { memory: Arc::clone(&memory), ..accepts() };
    let (kept, mut envelopes) = tokio::sync::mpsc::unbounded_channel();
    let next = tower::service_fn(move |envelope: Envelope| {
        kept.send(envelope).unwrap();
        async { Ok(Outcome::Ignored(Ignored::Dropped).into()) }
    });
    let first = inbound(&[], &["01234", "56789"], &Arc::default());
    assert!(Receive(Arc::new(accepts())).pass(first, next).await.is_ok());
    let envelope = envelopes.try_recv().unwrap();
    let six = || inbound(&[("content-length", "6")], &["012345"], &Arc::default());
    assert_eq!(pass(accepts(), six()).await, Err(Refusal::Overloaded("body_memory")));
    let body = envelope.body().clone();
    drop(envelope);
    assert_eq!(
        pass(accepts(), six()).await,
        Err(Refusal::Overloaded("body_memory")),
        "whoever still has the body, has the memory"
    );
    assert_eq!(body, "0123456789");
    drop(body);
    assert!(pass(accepts(), six()).await.is_ok());
}

/// Whoever only says that a lot will come takes nothing from those who send.
#[tokio::test]
async fn what_is_announced_takes_no_memory() {
    let memory = Budget::new("body_memory", 15);
    let accepts = || Accepts { memory: Arc::clone(&memory), ..accepts() };
    let ten = [("content-length", "10")];
    let silent = || Box::pin(pass(accepts(), with_body(&ten, Box::pin(stream::pending()))));
    let mut silent: Vec<_> = std::iter::repeat_with(silent).take(20).collect();
    for silent in &mut silent {
        assert!(poll!(silent).is_pending());
    }
    let genuine = inbound(&ten, &["01234", "56789"], &Arc::default());
    assert_eq!(pass(accepts(), genuine).await.unwrap(), "0123456789");
}

/// Of a body in pieces its buffer counts, which is never larger than the body can be; and what cannot fit is told so before it comes.
#[tokio::test]
async fn a_body_holds_what_came_or_what_its_buffer_has_room_for() {
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    for (length, came, held) in [
        (Some(MIB), &[][..], 0),
        (Some(MIB), &[KIB], KIB),
        (Some(MIB), &[1, 1], 16 * KIB),
        (Some(MIB), &[8 * KIB, 8 * KIB], 16 * KIB),
        (Some(MIB), &[16 * KIB, 1], 32 * KIB),
        (Some(MIB), &[16 * KIB, 112 * KIB - 1], 128 * KIB - 1),
        (Some(MIB), &[16 * KIB, 112 * KIB], MIB),
        (Some(MIB), &[100 * KIB, 500 * KIB, 1], MIB),
        (Some(KIB), &[1, 1], KIB),
        (None, &[16 * KIB, 1], 32 * KIB),
        (None, &[600 * KIB, 1], MIB),
    ] {
        let memory = Budget::new("body_memory", 2 * MIB as u64);
        let accepts = || {
            let (memory, body_bytes_max) = (Arc::clone(&memory), MIB as u64);
            let timeout = Duration::from_mins(1);
            Accepts { memory, body_bytes_max, body_timeout: timeout, ..accepts() }
        };
        let larger = || Accepts { body_bytes_max: 2 * MIB as u64 + 1, ..accepts() };
        let frames = |pieces: &[usize]| {
            let frame = |bytes: &usize| Ok(Frame::data(Bytes::from(vec![b'x'; *bytes])));
            stream::iter(pieces.iter().map(frame).collect::<Vec<_>>())
        };
        let begun = |length: Option<usize>, pieces: &[usize]| {
            let length = length.map(|length| length.to_string());
            let headers: Vec<_> = length.iter().map(|text| ("content-length", &**text)).collect();
            with_body(&headers, Box::pin(frames(pieces).chain(stream::pending())))
        };
        let whole = |bytes: usize| with_body(&[], Box::pin(frames(&[bytes])));
        let mut unfinished = Box::pin(pass(accepts(), begun(length, came)));
        assert!(poll!(&mut unfinished).is_pending());
        let left = 2 * MIB - held;
        for (bytes, fits) in [(left + 1, false), (left, true)] {
            let told = format!("{bytes} bytes beside {came:?} of {length:?}");
            assert_eq!(pass(larger(), whole(bytes)).await.is_ok(), fits, "{told}");
            let announced = Box::pin(pass(larger(), begun(Some(bytes), &[])));
            assert_eq!(poll!(announced).is_pending(), fits, "{told} announced");
        }
        drop(unfinished);
        assert!(pass(larger(), whole(2 * MIB)).await.is_ok(), "given back");
    }
}

#[tokio::test]
async fn room_is_for_so_many_requests_and_for_none_at_the_end() {
    let closed = CancellationToken::new();
    let admit = Admit { room: Budget::new("requests_in_flight", 1), closed: closed.clone() };
    let gate = Arc::new(Notify::new());
    let entered = Arc::new(Notify::new());
    let next = || {
        let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
        tower::service_fn(move |inbound: Inbound<Pieces>| {
            let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
            async move {
                entered.notify_one();
                gate.notified().await;
                drop(inbound); // its place is held until here
                Ok(Outcome::Ignored(Ignored::Dropped).into())
            }
        })
    };
    let request = || inbound(&[], &[], &Arc::default());
    let refusal = |answer: Answer| answer.map(drop).map_err(|refused| refused.what);
    let first = admit.clone().pass(request(), next());
    let second = async {
        entered.notified().await;
        let answer = admit.clone().pass(request(), next()).await;
        gate.notify_one();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(refusal(first), Ok(()));
    assert_eq!(refusal(second), Err(Refusal::Overloaded("requests_in_flight")));
    closed.cancel();
    assert_eq!(refusal(admit.pass(request(), next()).await), Err(Refusal::Draining));
}

/// Hanging up frees no place for work that goes on: a sender could begin as much as it likes.
#[tokio::test]
async fn a_sender_that_hangs_up_keeps_its_place_until_the_work_is_done() {
    let admit =
        Admit { room: Budget::new("requests_in_flight", 1), closed: CancellationToken::new() };
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let work = {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        tower::service_fn(move |envelope: Envelope| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            async move {
                entered.notify_one();
                gate.notified().await;
                drop(envelope);
                Ok(Outcome::Ignored(Ignored::Dropped).into())
            }
        })
    };
    let tracker = TaskTracker::new();
    let stack = ServiceBuilder::new()
        .stage(admit)
        .stage(Receive(Arc::new(accepts())))
        .stage(Detach(tracker.clone()))
        .service(work);
    let request = || inbound(&[], &["{}"], &Arc::default());
    let sender = TaskTracker::new();
    let first = sender.spawn(stack.clone().oneshot(request()));
    entered.notified().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = soon(stack.clone().oneshot(request())).await.unwrap_err();
    assert_eq!(second.what, Refusal::Overloaded("requests_in_flight"));
    gate.notify_one();
    tracker.close();
    tracker.wait().await;
    gate.notify_one();
    assert!(soon(stack.oneshot(request())).await.is_ok());
}
