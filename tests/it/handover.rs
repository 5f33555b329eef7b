//! New configurations, new certificates, new processes, all while events come: no request fails for any of it.

use std::{collections::HashMap, net::TcpListener, path::Path, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{
    STRIPE, stripe_to,
    world::{
        Ca, Dialer, Gateway, Load, Upstream,
        gateway::write_private,
        sender::{Manner, Told},
        size,
    },
};

const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

fn renew(ca: &Ca, dir: &Path) {
    let (certificate, key) = ca.issue("localhost");
    std::fs::write(dir.join("server.pem"), certificate).unwrap();
    write_private(&dir.join("server.key"), &key);
}

/// A new connection is shown the certificate that is on disk, and no earlier one.
async fn shows(dialers: &[Dialer], dir: &Path) {
    let renewed = CertificateDer::from_pem_file(dir.join("server.pem")).unwrap();
    for (protocol, dialer) in PROTOCOLS.iter().zip(dialers) {
        assert!(dialer.shown().await == renewed, "{protocol}: another one than on disk");
    }
}

/// Over TLS with files of our own; `note` makes one configuration differ from another.
fn text(dir: &Path, upstream: &str, note: u64) -> String {
    let at = dir.display();
    format!(
        "version: 1\nserver: {{ host: localhost, listen: \"127.0.0.1:0\", drain_timeout: 10s }}\n\
         tls: {{ mode: files, files: [{{ cert: \"{at}/server.pem\", key: \"{at}/server.key\" }}] }}\n\
         storage: {{ dir: \"{at}\", min_free: 1MiB }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         limits: {{ headers: {} }}\ntelemetry: {{ log: {{ level: \"info,gatepost::request=warn\", format: json }} }}\n{}",
        100 + note,
        stripe_to(upstream)
    )
}

/// Senders that keep connections, busy and not so busy ones, and some that never do; HTTP/1.1 and HTTP/2.
fn manners(dialers: [&Dialer; 2]) -> Vec<Manner> {
    let mut manners = Vec::new();
    for dialer in dialers {
        for pause in [0, 10, 100] {
            manners.push(Manner { pause: Duration::from_millis(pause), ..Manner::new(dialer) });
        }
        let hangs_up = Manner { hangs_up: true, ..Manner::new(dialer) };
        manners.extend([hangs_up.clone(), hangs_up]);
    }
    manners
}

/// Sentences about what should not be: a request without a 2xx, an acknowledged event that the app does not have once.
pub fn complaints(told: &[Told], app: &Upstream) -> Vec<String> {
    let mut received = HashMap::new();
    for request in app.received() {
        let event: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        *received.entry(event["id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let mut wrong = Vec::new();
    for Told { id, status, .. } in told {
        match (status, received.get(id)) {
            (Ok(200), Some(1)) => {}
            (Ok(200), times) => wrong.push(format!("{id}: acknowledged, received {times:?}")),
            (other, _) => wrong.push(format!("{id}: {other:?}")),
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_and_restarts_under_load_fail_no_request() {
    let rounds = size("GATEPOST_HANDOVERS", 5);
    let (app, ca, dir) = (Upstream::start().await, Ca::new(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    ca.write(dir.path());
    renew(&ca, dir.path());
    let first = text(dir.path(), &app.url(), 0);
    let dialers = PROTOCOLS.map(|alpn| Dialer::tls(address, &dir.path().join("ca.pem"), alpn));
    let mut gateway = Gateway::start_on(&listener, dir, &first).await;
    let load = Load::start("load", STRIPE, manners([&dialers[0], &dialers[1]]));
    for round in 1..=rounds {
        load.go_on(50).await;
        renew(&ca, gateway.dir());
        write_private(&gateway.file, &text(gateway.dir(), &app.url(), round));
        let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        shows(&dialers, gateway.dir()).await;
        load.go_on(50).await;
        let next = text(gateway.dir(), &app.url(), round);
        let (status, dir) = gateway.stop().await;
        assert!(status.success(), "round {round}: {status}");
        gateway = Gateway::start_on(&listener, dir, &next).await;
    }
    load.go_on(50).await;
    let told = load.stop().await;
    let wrong = complaints(&told, &app);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), told.len(), wrong.join("\n"));
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    eprintln!("{rounds} reloads and restarts, {} events, none failed", told.len());
    drop(dir);
}

/// The judge itself: a refusal, a lost event and one that came twice are seen.
#[tokio::test]
async fn the_ledger_finds_what_is_wrong() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let load = Load::start("one", STRIPE, vec![Manner::new(&Dialer::plain(gateway.address))]);
    load.go_on(1).await;
    let honest = load.stop().await;
    assert_eq!(complaints(&honest, &app), Vec::<String>::new());
    let forged = |change: fn(&mut Told)| {
        let mut told = honest.clone();
        change(&mut told[0]);
        complaints(&told, &app).len()
    };
    assert_eq!(forged(|told| told.status = Ok(503)), 1);
    assert_eq!(forged(|told| told.status = Err("reset".to_owned())), 1);
    assert_eq!(forged(|told| told.id = "evt_lost".to_owned()), 1);
    let again = app.received()[0].clone();
    app.receive(again);
    assert_eq!(complaints(&honest[..1], &app).len(), 1, "twice");
}
