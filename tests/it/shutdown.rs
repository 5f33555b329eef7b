//! SIGTERM drains in order; a second one ends at once; nothing acknowledged is lost by either.

use std::os::unix::process::ExitStatusExt as _;

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, Provider, Upstream,
        disk::{Failing, file},
        eventually, gateway,
        provider::stripe_event,
    },
};

#[tokio::test]
async fn a_running_delivery_is_finished_before_the_end() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let posting = gateway.post("/stripe", &headers, &body);
    let ending = async {
        eventually("the app has it", || async { app.count() == 1 }).await;
        gateway.signal("TERM");
        eventually("the gateway says that it drains", || async {
            gateway.log().iter().any(|line| line.contains("draining"))
        })
        .await;
        app.open(1);
    };
    let (answer, ()) = tokio::join!(posting, ending);
    assert_eq!((answer.status, answer.outcome()), (200, "accepted"));
    assert!(gateway.ended().await.success());
    let records = gateway.records();
    assert!(records.iter().any(|r| r["kind"] == "outcome"), "the record was closed last");
    let out = gateway.cli(&["audit", "verify"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let app = Upstream::closed().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let posting = gateway.try_request("POST", "/stripe", &headers, &body);
    let ending = async {
        eventually("the app has it", || async { app.count() == 1 }).await;
        gateway.signal("TERM");
        eventually("the gateway says that it drains", || async {
            gateway.log().iter().any(|line| line.contains("draining"))
        })
        .await;
        gateway.signal("TERM");
        assert_eq!(gateway.ended().await.code(), Some(130));
    };
    let (answer, ()) = tokio::join!(posting, ending);
    assert!(answer.is_err(), "cut off");
}

/// A gateway that drains, while the disk of its record takes a write and does not come back; for as long as the second lives.
async fn draining_on_a_disk_that_hangs() -> (Gateway, Failing) {
    let dir = tempfile::tempdir().unwrap();
    let text = gateway::yaml(dir.path(), &stripe_to("http://127.0.0.1:9"));
    let text = text.replace("drain_timeout: 5s", "drain_timeout: 1s");
    let gateway = Gateway::start_whole(dir, &text).await;
    let segment = file(&gateway.dir().join("audit"), "segment-", ".ndjson");
    let hangs = Failing::hanging(&gateway, &segment);
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let posting = gateway.try_request("POST", "/stripe", &headers, &body);
    let ending = async {
        eventually("the request is there", || async {
            gateway.metric("gatepost_requests_in_flight").await > 0.0
        })
        .await;
        gateway.signal("TERM");
    };
    let (answer, ()) = tokio::join!(posting, ending);
    assert!(answer.is_err(), "what is not on record is not acknowledged");
    eventually("nothing is left but the record", || async {
        tokio::net::TcpStream::connect(gateway.admin).await.is_err()
    })
    .await;
    (gateway, hangs)
}

/// How the process ended: all of it but what the disk holds.
async fn left(gateway: &Gateway, hangs: Failing) -> Option<i32> {
    let stat = format!("/proc/{}/stat", gateway.pid());
    eventually("its main thread has ended", || async {
        std::fs::read_to_string(&stat).unwrap().contains(") Z ")
    })
    .await;
    drop(hangs);
    gateway.ended().await.code()
}

#[tokio::test]
async fn a_second_signal_ends_at_once_while_the_disk_hangs() {
    let (gateway, hangs) = draining_on_a_disk_that_hangs().await;
    gateway.signal("TERM");
    assert_eq!(left(&gateway, hangs).await, Some(130));
    eventually("it is said", || async {
        gateway.log().iter().any(|line| line.contains("second signal: ending at once"))
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_hangs_is_waited_for_for_a_bounded_time() {
    let (gateway, hangs) = draining_on_a_disk_that_hangs().await;
    assert_eq!(left(&gateway, hangs).await, Some(1));
    let said = |what: &str| gateway.log().iter().any(|line| line.contains(what));
    eventually("it is said", || async { said("\"stopped\"") }).await;
    assert!(said("the record was not closed in time"));
}

/// What has lost a worker would answer only some of its senders: it ends, and whoever watches it starts it anew.
#[tokio::test]
async fn a_worker_that_panics_ends_the_process() {
    let (dir, env) = (tempfile::tempdir().unwrap(), [("GATEPOST_CRASH_AT", "accepted:panic")]);
    let text = gateway::yaml(dir.path(), &stripe_to("http://127.0.0.1:9"));
    let gateway = Gateway::start_with(dir, &text, &env).await;
    drop(tokio::net::TcpStream::connect(gateway.address).await);
    let status = gateway.ended().await;
    assert_eq!(status.signal(), Some(6), "{status}");
    let said = |what| gateway.log().iter().any(|line| line.contains(what));
    eventually("the log says why", || async { said("a worker thread panicked") }).await;
    assert!(said(" panicked at "));
}

#[tokio::test]
async fn readiness_turns_before_the_end() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    assert_eq!(gateway.admin("GET", "/healthz").await.status, 200);
    let ready = gateway.admin("GET", "/readyz").await;
    assert_eq!(ready.status, 200, "{}", String::from_utf8_lossy(&ready.body));
    assert!(gateway.cli(&["healthcheck", "--admin", &gateway.admin.to_string()]).status.success());
    let (status, _dir) = gateway.stop().await;
    assert!(status.success());
}
