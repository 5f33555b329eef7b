//! The log goes to standard error, and whoever reads that may stop reading. Events go on.

use futures_util::future::join_all;
use serde_json::Value;

use crate::{
    STRIPE, stripe_to,
    world::{Gateway, Provider, Upstream, eventually, provider::stripe_event},
};

const LOST: &str = "gatepost_log_lines_lost_total";

/// Posts so many events at once, and returns how many were accepted. Their ids are long, and so are the lines about them.
async fn post(gateway: &Gateway, name: &str, count: usize) -> usize {
    let posts = (0..count).map(|n| async move {
        let body = stripe_event(&format!("evt_{name}_{n}_{}", "x".repeat(200)), "invoice.paid");
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await.status
    });
    join_all(posts).await.into_iter().filter(|status| *status == 200).count()
}

/// The lines that say that others were lost: how many.
fn said(gateway: &Gateway) -> Vec<u64> {
    let lines = gateway.log();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line["lost"].as_u64()).collect()
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_event_and_what_was_lost_is_said() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    assert_eq!(gateway.metric(LOST).await, 0.0);
    let unread = gateway.unread().await;
    let mut posted = 0;
    while gateway.metric(LOST).await == 0.0 {
        assert_eq!(post(&gateway, &posted.to_string(), 64).await, 64);
        posted += 64;
    }
    drop(unread);
    eventually("it is said how many lines were lost", || async { !said(&gateway).is_empty() })
        .await;
    assert_eq!(said(&gateway).iter().sum::<u64>() as f64, gateway.metric(LOST).await);
    assert_eq!(post(&gateway, "after", 1).await, 1);
    let (status, _dir) = gateway.stop().await;
    assert!(status.success());
    assert_eq!(app.count(), posted + 1);
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let _unread = gateway.unread().await;
    for n in 0..8 {
        assert_eq!(post(&gateway, &n.to_string(), 64).await, 64);
    }
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}

/// The last lines wait for nobody to ask for them: they are there once the process has ended.
#[tokio::test]
async fn an_ordinary_end_loses_no_line() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let unread = gateway.unread().await;
    assert_eq!(post(&gateway, "a", 64).await, 64);
    gateway.signal("TERM");
    drop(unread);
    assert!(gateway.ended().await.success());
    let of_events = |gateway: &Gateway| {
        let log = gateway.log();
        log.iter().filter(|line| line.contains("evt_a_") && line.contains("\"accepted\"")).count()
    };
    eventually("the last line is there", || async {
        gateway.log().iter().any(|line| line.contains("\"stopped\""))
    })
    .await;
    assert_eq!(of_events(&gateway), 64);
    assert!(said(&gateway).is_empty());
}
