//! What senders, apps and whoever sets variables may try on the parts around the flow: headers that claim trust, names that
//! lead elsewhere, labels and log lines without end, values that are more than they seem.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    STRIPE,
    connect::counted,
    raw::{request, send, send_to, stripe_mac},
    stripe_to,
    world::{
        Gateway, Provider, Upstream, eventually,
        gateway::{binary, write_private, yaml},
        provider::{Headers, now, stripe_event},
        size,
        upstream::dead_address,
    },
};

async fn post(gateway: &Gateway, id: &str, kind: &str, more: &[(&str, &str)]) -> u16 {
    let body = stripe_event(id, kind);
    let mut headers: Headers = Provider::Stripe(STRIPE).sign("", "", &body);
    headers.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    gateway.post("/stripe", &headers, &body).await.status
}

/// The headers have a prefix of the operator's choice; whoever sends one of them is not believed.
#[tokio::test]
async fn headers_that_claim_trust_are_ours_alone() {
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let text = yaml(dir.path(), &stripe_to(&app.url()));
    let gateway = Gateway::start_whole(
        dir,
        &text
            .replace("server: {", "server: { header_prefix: X-Webhook-,")
            .replace("trusted_proxies: [127.0.0.1/32], ", ""),
    )
    .await;
    let body = stripe_event("evt_1", "invoice.paid");
    let signed = |lines: &[(&str, &[u8])]| {
        let time = now().to_string();
        let signature = format!("t={time},v1={}", stripe_mac(&time, &body));
        request("/stripe", &[&[("Stripe-Signature", signature.as_bytes())], lines].concat(), &body)
    };
    assert_eq!(send(&gateway, &signed(&[("x-webhook_verified", b"true")])).await, 400);
    let spoofed: [(&str, &[u8]); 9] = [
        ("X-Webhook-Verified", b"true; spoofed"),
        ("X-Webhook-Anything", b"spoofed"),
        ("X-WEBHOOK-EVENT-ID", b"spoofed"),
        ("Forwarded", b"for=127.0.0.1;spoofed"),
        ("X-Real-IP", b"spoofed"),
        ("Via", b"1.1 spoofed"),
        ("traceparent", b"00-spoofed-01"),
        ("Connection", b"X-Webhook-Verified, X-Webhook-Event-Id, Content-Length"),
        ("X-Forwarded-Host", b"spoofed"),
    ];
    assert_eq!(send(&gateway, &signed(&spoofed)).await, 200);
    let received = &app.received()[0];
    for (name, value) in &received.headers {
        assert!(!String::from_utf8_lossy(value.as_bytes()).contains("spoofed"), "{name}");
        assert_eq!(received.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert!(received.header("x-webhook-verified").starts_with("true; scheme=hmac-sha256"));
    assert!(received.header("x-webhook-event-id").starts_with("evt_"));
    assert_eq!(received.header("x-webhook-anything"), "");
    assert_eq!(received.header("content-length"), body.len().to_string());
    // Whoever is no trusted proxy says nothing about addresses.
    let forwarded: [(&str, &[u8]); 1] = [("X-Forwarded-For", b"203.0.113.9")];
    assert_eq!(send(&gateway, &signed(&forwarded)).await, 200);
}

/// A name may lead where its networks say and nowhere else. (What of names that change: `rebinding`.)
#[tokio::test]
async fn a_name_that_leads_to_another_network_is_not_followed() {
    let app = Upstream::start().await;
    let port = app.address.port();
    for (networks, status) in [
        ("[127.0.0.0/8, \"::1\"]", 200),
        ("[127.0.0.1]", 200),
        ("[10.0.0.0/8]", 502),
        ("[127.0.0.0/32, \"2001:db8::/32\"]", 502),
    ] {
        let upstream =
            format!("{{ url: \"http://localhost:{port}/hooks\", networks: {networks} }}");
        let rest = stripe_to("APP").replace("{ url: \"APP\" }", &upstream);
        let gateway = Gateway::start(&rest).await;
        let before = (app.count(), app.connections());
        assert_eq!(post(&gateway, "evt_1", "invoice.paid", &[]).await, status, "{networks}");
        if status == 200 {
            assert_eq!(app.count(), before.0 + 1, "{networks}");
            continue;
        }
        assert_eq!((app.count(), app.connections()), before, "{networks}: not even connected to");
        assert_eq!(counted(&gateway, "connect").await, 1.0);
        eventually("the record says why", || async {
            let records = gateway.records();
            let why = records.iter().filter_map(|record| record["error"].as_str());
            why.into_iter().any(|why| why.contains("localhost leads to") && why.contains("may not"))
        })
        .await;
    }
}

/// Types, ids, paths, methods and agents are whatever senders like: none of them becomes a series.
#[tokio::test]
async fn nothing_that_is_sent_becomes_a_label() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let series = || async {
        let text = String::from_utf8(gateway.admin("GET", "/metrics").await.body.to_vec()).unwrap();
        let names = text.lines().filter(|line| !line.starts_with('#'));
        names.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(post(&gateway, "evt_0", "invoice.paid", &[]).await, 200);
    let before = series().await;
    for n in 0..100 {
        let agent = format!("agent/{n}");
        assert_eq!(
            post(
                &gateway,
                &format!("evt_{n}x"),
                &format!("made.up.{n}"),
                &[("user-agent", &agent)]
            )
            .await,
            200
        );
        let other =
            gateway.request(&format!("METHOD{n}"), &format!("/path{n}"), &vec![], b"").await;
        assert_eq!(other.status, 404);
        let other = gateway.request(&format!("METHOD{n}"), "/stripe", &vec![], b"").await;
        assert_eq!(other.status, 405);
    }
    assert_eq!(series().await, before);
    assert!(before.len() > 100, "they are looked at: {}", before.len());
}

/// What senders put where it may be logged, as far as it passes; then what does not.
async fn forge_lines(address: std::net::SocketAddr) {
    let line = |agent: &[u8], id: &str| {
        let body = stripe_event(id, "invoice.paid");
        let time = now().to_string();
        let signature = format!("t={time},v1={}", stripe_mac(&time, &body));
        request(
            "/stripe",
            &[("Stripe-Signature", signature.as_bytes()), ("User-Agent", agent)],
            &body,
        )
    };
    let agent = b"a\t{\"level\":\"error\",\"msg\":\"forged\"}\"}\\n\\u001b[2J";
    let long = vec![b'y'; 20_000];
    for (request, status) in [
        (line(agent, "evt_\u{e9}\u{2713}"), 200),
        (line(&long, "evt_2"), 200),
        (line("Mozilla \u{202e}".as_bytes(), "evt_3"), 200),
        (line(b"Mozilla \x1b[2J", "evt_4"), 400),
        (line(b"a", "a\\r\\n{\\\"level\\\":\\\"info\\\"}"), 422),
        (line(b"a", "\\u001b[2J"), 422),
        (line(b"a", "a\\u202eb"), 422),
        (line(b"a", &"i".repeat(1_000_000)), 422),
    ] {
        assert_eq!(send_to(address, &request).await, status);
    }
}

fn is_one_line(line: &str) -> bool {
    !line.contains(['\u{1b}', '\u{202e}', '\r']) && line.len() < 2048
}

/// A line of the log is one line, whatever is in it: nothing of a sender's starts another, and nothing turns a terminal around.
#[tokio::test]
async fn a_log_line_cannot_be_forged() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    forge_lines(gateway.address).await;
    let mut log = gateway.log();
    let ready = log.iter().position(|line| line.contains("\"ready\"")).unwrap();
    log.drain(..ready); // what was said to whoever started it
    for line in &log {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            value["ts"].is_string() && value["level"].is_string() && is_one_line(line),
            "{line}"
        );
        assert_ne!(value["msg"], "forged");
    }
    let requests = log.iter().filter(|line| line.contains("\"kind\":\"request\"")).count();
    assert!(requests >= 7, "{log:?}");
}

/// The form of terminals.
#[tokio::test]
async fn a_line_of_text_cannot_be_forged() {
    let app = Upstream::start().await;
    let (dir, listen) = (tempfile::tempdir().unwrap(), dead_address().await);
    let text = yaml(dir.path(), &stripe_to(&app.url()))
        .replacen("127.0.0.1:0", &listen.to_string(), 1)
        .replace("format: json", "format: text");
    let (config, log) = (dir.path().join("gatepost.yaml"), dir.path().join("log"));
    write_private(&config, &text);
    let mut command = binary();
    command.arg("-c").arg(&config).arg("run").stdout(Stdio::null());
    let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    eventually("it listens", || async { tokio::net::TcpStream::connect(listen).await.is_ok() })
        .await;
    forge_lines(listen).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = log.lines().skip_while(|line| !line.contains(" ready ")).collect();
    assert!(lines.iter().all(|line| is_one_line(line)), "{log}");
    assert!(lines.iter().filter(|line| line.contains("outcome=")).count() >= 7, "{log}");
    // Each begins with its time.
    assert!(lines.iter().all(|line| line.starts_with("20")), "{log}");
}

/// Values from outside are values, and no more: they cannot add keys, and what does not fit is refused before anything starts.
#[tokio::test]
async fn a_configuration_cannot_be_injected() {
    let dir = tempfile::tempdir().unwrap();
    let check = |rest: &str, value: &str| {
        let file = dir.path().join("gatepost.yaml");
        write_private(&file, &yaml(dir.path(), rest));
        let out = binary()
            .env("UPSTREAM", value)
            .arg("-c")
            .arg(&file)
            .args(["check", "--offline"])
            .stdin(Stdio::null())
            .output();
        let out = out.unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let good = stripe_to("${UPSTREAM}");
    assert_eq!(check(&good, "http://127.0.0.1:9/").0, Some(0));
    for value in [
        "http://a\r\nX:1",
        "http://a\" }, evil: { url: \"http://b",
        "http://a/\nroutes: []",
        "{ url: http://b }",
        "http://${UPSTREAM}",
        "file:///etc/passwd",
        "http://user:password@a/",
        "",
    ] {
        let (code, said) = check(&good, value);
        assert_eq!(code, Some(78), "{value:?}: {said}");
    }
    for (rest, code) in [
        (good.clone() + "upstreams: {}\n", "duplicate-key"),
        (good.clone() + "upstream: {}\n", "unknown-key"),
        (good.clone() + "limits: { headers: 99999999999999999999 }\n", "wrong-type"),
        (good.clone() + "limits: { headers: -1 }\n", "bad-value"),
        (good.clone() + "limits: { header_size: 99999999999GiB }\n", "bad-value"),
        (good.clone() + "limits: { header_size: \"1KiB\\0\" }\n", "size-unit"),
        (good.clone() + "defaults: { source: { max_body: $UPSTREAM } }\n", "env-syntax"),
        (good.clone() + "defaults: { source: { max_body: \"${UPSTREAM}\" } }\n", "bad-value"),
        (good + "<<: { limits: {} }\n", "merge-key"),
    ] {
        let (status, said) = check(&rest, "http://127.0.0.1:9/");
        assert!(status == Some(78) && said.contains(&format!("error[{code}]")), "{code}: {said}");
    }
}

/// Each event is remembered for its window, on disk: memory does not grow with their number.
#[tokio::test]
async fn a_source_that_makes_up_ids_costs_no_memory() {
    let count = size("GATEPOST_IDS", 1500);
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let make_up = async |name: &str, count| {
        let senders = (0..16).map(|sender| {
            let gateway = &gateway;
            async move {
                for n in 0..count / 16 {
                    let id = format!("evt_{name}_{sender}_{n}");
                    assert_eq!(post(gateway, &id, "invoice.paid", &[]).await, 200);
                }
            }
        });
        futures_util::future::join_all(senders).await;
        gateway.memory("VmHWM")
    };
    // By then the store keeps all the pages in memory that it may, or here as many as half of the events need.
    let warm = make_up("warm", count.min(30_000)).await;
    let peak = make_up("id", count).await;
    assert!(peak <= warm + 2 * 1024, "{peak} KiB, {warm} KiB when warm");
    eprintln!("{count} ids: {warm} KiB before, {peak} KiB at most");
}
