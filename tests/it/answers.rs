//! What apps may say instead of an answer, and what providers hear of it: a status of ours, and nothing else.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, Provider, RawUpstream, Then, eventually, gateway::Answer, provider::stripe_event,
        upstream::read_request,
    },
};

async fn post(gateway: &Gateway, id: &str) -> Answer {
    let body = stripe_event(id, "invoice.paid");
    gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await
}

/// A gateway that relays whole answers.
async fn relaying(upstream: &str) -> Gateway {
    let rest = stripe_to(upstream).replace("to: app }", "to: app, reply: full, timeout: 2s }");
    Gateway::start(&rest).await
}

#[tokio::test]
async fn whatever_an_app_says_a_provider_hears_a_status_of_ours() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let many = early.repeat(1000) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let well = |status| (status, "accepted");
    let (failed, broke) = ((502, "upstream_failed"), (502, "upstream_broke"));
    let rows: &[(&str, &str, Then, (u16, &str))] = &[
        ("a status alone", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Then::Stay, well(200)),
        ("a body to the end", "HTTP/1.1 200 OK\r\n\r\nabc", Then::HangUp, well(200)),
        ("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Then::HangUp, well(200)),
        (
            "a length and chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Then::Stay,
            well(200),
        ),
        (
            "chunks that are none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            Then::Stay,
            well(200),
        ),
        (
            "a coding that is none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nabc",
            Then::HangUp,
            well(200),
        ),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            Then::Stay,
            broke,
        ),
        (
            "a length that is none",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            Then::Stay,
            broke,
        ),
        (
            "a hundred, then an answer",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            Then::Stay,
            well(201),
        ),
        ("a thousand hints, then an answer", &many, Then::Stay, well(200)),
        (
            "another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            Then::Stay,
            broke,
        ),
        (
            "a redirect",
            "HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n",
            Then::Stay,
            failed,
        ),
        ("gone", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", Then::Stay, failed),
        ("a status beyond all", "HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n", Then::Stay, failed),
        ("a status below all", "HTTP/1.1 099 ?\r\nContent-Length: 0\r\n\r\n", Then::Stay, broke),
        ("HTTP/2 in words", "HTTP/2 200\r\nContent-Length: 0\r\n\r\n", Then::Stay, broke),
        ("HTTP/0.9", "<html>hello</html>\r\n\r\n", Then::HangUp, broke),
        ("NUL in a header", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", Then::Stay, broke),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Then::HangUp, broke),
        ("nothing", "", Then::HangUp, broke),
    ];
    for (name, says, then, told) in rows {
        let app = RawUpstream::start(says.as_bytes().to_vec(), *then).await;
        let gateway = relaying(&app.url()).await;
        let answer = post(&gateway, "evt_1").await;
        assert_eq!((answer.status, answer.outcome()), *told, "{name}");
        assert_eq!(app.count(), 1, "{name}: asked once, wherever it points to");
    }
}

#[tokio::test]
async fn of_an_apps_headers_a_provider_sees_the_content_type_only() {
    let says = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nLocation: /x\r\nServer: nginx\r\nWebhook-Receipt: req_forged\r\nWebhook-Outcome: duplicate\r\n\
        Retry-After: 9\r\nConnection: close\r\nX-Internal: 10.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
    let app = RawUpstream::start(says.to_vec(), Then::Stay).await;
    let answer = post(&relaying(&app.url()).await, "evt_1").await;
    assert_eq!((answer.status, answer.outcome(), &answer.body[..]), (200, "accepted", &b"ok"[..]));
    let names: BTreeSet<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    let ours = [
        "cache-control",
        "content-length",
        "content-type",
        "date",
        "webhook-outcome",
        "webhook-receipt",
    ];
    assert_eq!(names, BTreeSet::from(ours));
    assert!(answer.headers.keys().all(|name| answer.headers.get_all(name).iter().count() == 1));
    assert_ne!(answer.header("webhook-receipt"), "req_forged");
}

/// An app that says `first` to a request and `piece` again and again until it is cut off; how much it got rid of.
async fn endless(first: &'static [u8], piece: Vec<u8>) -> (String, Arc<AtomicUsize>, JoinSet<()>) {
    // Its connections keep little back, so that what it got rid of was read.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(16 << 10).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(16).unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let cut_at = Arc::new(AtomicUsize::new(0));
    let (mut tasks, told) = (JoinSet::new(), Arc::clone(&cut_at));
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut said = 1;
        while said < 1 << 30 && stream.write_all(&piece).await.is_ok() {
            said += piece.len();
        }
        told.store(said, Ordering::SeqCst);
    });
    (url, cut_at, tasks)
}

#[tokio::test]
async fn a_gigabyte_for_an_answer_is_not_read() {
    for (head, reply) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"[..], "full"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", "status-only"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "full"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 1073741824\r\n\r\n", "status-only"),
    ] {
        let (url, cut_at, _app) = endless(head, vec![b'x'; 65_536]).await;
        let rest = stripe_to(&url).replace("to: app }", &format!("to: app, reply: {reply} }}"));
        let gateway = Gateway::start(&rest).await;
        let answer = post(&gateway, "evt_1").await;
        assert_eq!(answer.status.to_string().as_bytes(), &head[9..12]);
        assert!(answer.body.len() < 1000, "none of it is passed on");
        eventually("the app is cut off", || async { cut_at.load(Ordering::SeqCst) > 0 }).await;
        // 64 KiB are read at most; the rest is what the gateway's socket takes before anybody reads.
        let rid_of = cut_at.load(Ordering::SeqCst);
        assert!(rid_of <= 512 << 10, "{reply}: {rid_of} bytes");
    }
}

/// They kept a thread busy, and everybody on it waiting, for as long as they came.
#[tokio::test]
async fn hints_without_end_are_no_answer() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000);
    let (url, cut_at, _app) = endless(b"", hints).await;
    let gateway = Gateway::start(&stripe_to(&url)).await;
    let answer = post(&gateway, "evt_1").await;
    assert_eq!((answer.status, answer.outcome()), (502, "upstream_broke"));
    eventually("the app is cut off", || async { cut_at.load(Ordering::SeqCst) > 0 }).await;
    // A megabyte is read at most.
    let rid_of = cut_at.load(Ordering::SeqCst);
    assert!(rid_of <= 2 << 20, "{rid_of} bytes");
}

/// Refuses, and says 200 as well where nobody asked: at once, or once the connection is idle.
async fn talkative(late: bool) -> (String, Arc<AtomicUsize>, Arc<Notify>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let (extra, idle) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (mut tasks, count, gate) = (JoinSet::new(), Arc::clone(&extra), Arc::clone(&idle));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(refuse(stream, late, Arc::clone(&count), Arc::clone(&gate)));
        }
    });
    (url, extra, idle, tasks)
}

async fn refuse(mut stream: TcpStream, late: bool, extra: Arc<AtomicUsize>, idle: Arc<Notify>) {
    const NO: &[u8] = b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n";
    const YES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    while read_request(&mut stream).await.is_some() {
        if late {
            stream.write_all(NO).await.unwrap();
            idle.notified().await;
            stream.write_all(YES).await.unwrap();
        } else {
            stream.write_all(&[NO, YES].concat()).await.unwrap();
        }
        extra.fetch_add(1, Ordering::SeqCst);
    }
}

/// It would be taken for the answer to the next event, which would be lost: acknowledged, and never accepted.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_acknowledges_nothing() {
    for late in [false, true] {
        let (url, extra, idle, _app) = talkative(late).await;
        let rest = stripe_to(&url);
        let dir = tempfile::tempdir().unwrap();
        let text = crate::world::gateway::yaml(dir.path(), &rest)
            .replace("server: {", "server: { workers: 1,");
        let gateway = Gateway::start_whole(dir, &text).await;
        for n in 1..=5 {
            let answer = post(&gateway, &format!("evt_{n}")).await;
            assert_eq!((answer.status, answer.outcome()), (422, "upstream_rejected"), "{n} {late}");
            idle.notify_one();
            eventually("it was said", || async { extra.load(Ordering::SeqCst) == n }).await;
        }
    }
}
