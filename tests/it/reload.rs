//! A new configuration is taken over whole, or nothing changes and it is said why.

use crate::{
    STRIPE, stripe_to,
    world::{
        Ca, Gateway, Provider, Speaks, Upstream, eventually,
        gateway::{write_private, yaml},
        provider::stripe_event,
    },
};

const NEW: &str = "whsec_rotated_0123456789abcdefghijklmn";

#[tokio::test]
async fn a_rotated_secret_takes_effect_and_no_request_fails() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    assert_eq!(
        gateway.post("/stripe", &Provider::Stripe(NEW).sign("", "", &body), &body).await.status,
        401
    );
    let rotated = stripe_to(&app.url())
        .replace(&format!("\"{STRIPE}\""), &format!("[\"{NEW}\", \"{STRIPE}\"]"));
    // The ports are fixed now: a reload may not move them.
    let text = yaml(gateway.dir(), &rotated);
    write_private(&gateway.file, &text);
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for (n, secret) in [NEW, STRIPE].into_iter().enumerate() {
        let body = stripe_event(&format!("evt_r{n}"), "invoice.paid");
        let answer =
            gateway.post("/stripe", &Provider::Stripe(secret).sign("", "", &body), &body).await;
        assert_eq!(answer.status, 200, "secret {n}");
    }
    assert_eq!(
        gateway.metric("gatepost_secret_matches_total{source=\"stripe\",slot=\"2\"}").await,
        1.0
    );
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_why() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let whole = std::fs::read_to_string(&gateway.file).unwrap();
    write_private(&gateway.file, &whole.replace("to: app }", "to: ap }"));
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert_eq!(out.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&out.stderr).contains("unknown-upstream"), "{out:?}");
    let body = stripe_event("evt_1", "invoice.paid");
    assert_eq!(
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await.status,
        200
    );
    assert_eq!(gateway.metric("gatepost_config_last_reload_successful").await, 0.0);
    // SIGHUP is the same door.
    write_private(&gateway.file, &whole);
    gateway.signal("HUP");
    eventually("the good file is taken over", || async {
        gateway.metric("gatepost_config_last_reload_successful").await > 0.0
    })
    .await;
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let whole = std::fs::read_to_string(&gateway.file).unwrap();
    write_private(
        &gateway.file,
        &whole.replace("listen: \"127.0.0.1:0\", trusted", "listen: \"127.0.0.1:1\", trusted"),
    );
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert_eq!(out.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&out.stderr).contains("server.listen"), "{out:?}");
}

#[tokio::test]
async fn every_worker_takes_the_new_configuration_over() {
    let app = Upstream::start().await;
    let gateway = {
        let dir = tempfile::tempdir().unwrap();
        let text = yaml(dir.path(), &stripe_to(&app.url()));
        let text = text.replace("server: {", "server: { workers: 3,");
        Gateway::start_whole(dir, &text).await
    };
    let whole = std::fs::read_to_string(&gateway.file).unwrap();
    write_private(&gateway.file, &whole.replace(STRIPE, NEW));
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // Connections are spread by the system: sixteen new ones reach every worker, or nearly.
    for n in 0..16 {
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let mut headers = Provider::Stripe(NEW).sign("", "", &body);
        headers.push(("connection".to_owned(), "close".to_owned()));
        assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    }
    write_private(&gateway.file, &whole.replace("workers: 3", "workers: 2"));
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("server.workers"), "{out:?}");
    let (status, _dir) = gateway.stop().await;
    assert!(status.success());
}

/// Files that a configuration names are a part of it: what replaces a certificate asks for a reload and changes nothing else.
#[tokio::test]
async fn an_apps_authority_and_our_certificate_are_read_again() {
    let (old, new) = (Ca::new(), Ca::new());
    let asks = Speaks { h2: false, tls: Some(new.server("localhost", &[], true)) };
    let app = Upstream::speaking(asks).await;
    let dir = tempfile::tempdir().unwrap();
    old.write(dir.path());
    let path = dir.path().display();
    let tls =
        format!("ca: \"{path}/ca.pem\", cert: \"{path}/client.pem\", key: \"{path}/client.key\"");
    let rest = stripe_to(&app.url()).replace("url: ", &format!("tls: {{ {tls} }}, url: "));
    let gateway = Gateway::start_in(dir, &rest).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 502);
    new.write(gateway.dir());
    let reload = || gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(reload().status.success());
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    // The same files again: the connection is kept.
    assert!(reload().status.success());
    let body = stripe_event("evt_2", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    assert_eq!(gateway.post("/stripe", &headers, &body).await.status, 200);
    // What cannot be read changes nothing.
    std::fs::remove_file(gateway.dir().join("client.key")).unwrap();
    let out = reload();
    assert_eq!(out.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&out.stderr).contains("client.key"), "{out:?}");
}

/// A connection to Redis cannot be swapped under a running process: that its authority changed is said, and not passed over; but
/// it keeps nothing else from being taken over.
#[tokio::test]
async fn another_authority_of_redis_waits_for_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    Ca::new().write(dir.path());
    let ca = dir.path().join("ca.pem");
    let dedup = format!(
        "dedup: {{ store: redis, redis: {{ url: \"rediss://127.0.0.1:9\", ca: \"{}\" }} }}\n",
        ca.display()
    );
    let gateway = Gateway::start_in(dir, &(stripe_to("http://127.0.0.1:9") + &dedup)).await;
    let reload = || gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    let said = || gateway.log().iter().any(|line| line.contains("dedup.redis.ca"));
    assert!(reload().status.success());
    let taken_over = || gateway.log().iter().filter(|line| line.contains("taken over")).count();
    eventually("it is said", || async { taken_over() == 1 }).await;
    assert!(!said(), "the same authority");
    Ca::new().write(gateway.dir());
    assert!(reload().status.success());
    eventually("it is said", || async { said() }).await;
}
