//! Versions, names, protocols, client certificates, reload.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use gatepost::{
    config::{CertFiles, Tls, TlsMode},
    event::Timestamp,
    server::{Settings, tls::load},
    telemetry::Metrics,
};
use rustls::{
    HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::world::{
    Authority, GET, Sender, Server, ask, closed, connect, loaded, soon, tls, with_tls,
};

struct Lab {
    dir: tempfile::TempDir,
    ca: Authority,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ca: Authority::new() }
    }

    fn files(&self, names: &[&str]) -> CertFiles {
        self.ca.files(self.dir.path(), names)
    }

    fn sender(&self) -> Sender {
        Sender::trusting(&self.ca.pem)
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn both_versions_are_spoken_or_only_the_newer() {
    let lab = Lab::new();
    let mut config = tls(vec![lab.files(&["a.test"])]);
    let server = Server::start(with_tls(&config));
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let sender = Sender { versions: vec![version], ..lab.sender() };
        let mut stream = sender.connect(&server, "a.test").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        assert_eq!(ask(&mut stream, GET).await.1, "HTTP/1.1 https 127.0.0.1 / ");
    }
    config.tls13_only = true;
    let server = Server::start(with_tls(&config));
    let old = Sender { versions: vec![&TLS12], ..lab.sender() };
    assert!(old.connect(&server, "a.test").await.is_err());
    assert!(lab.sender().connect(&server, "a.test").await.is_ok());
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let lab = Lab::new();
    let files = [
        lab.files(&["a.test", "default.test"]),
        lab.files(&["*.b.test"]),
        lab.files(&["exact.b.test"]),
    ];
    let server = Server::start(with_tls(&tls(files.to_vec())));
    let der = |files: &CertFiles| CertificateDer::from_pem_file(&files.cert).unwrap().to_vec();
    for (name, index) in
        [("a.test", 0), ("A.TEST", 0), ("x.b.test", 1), ("exact.b.test", 2), ("default.test", 0)]
    {
        let stream = lab.sender().connect(&server, name).await.unwrap();
        assert_eq!(shown(&stream), der(&files[index]), "{name}");
    }
    // The first one is for everybody else; these senders then refuse it by themselves.
    for name in ["x.y.b.test", "b.test", "unknown.test", "127.0.0.1"] {
        let error = lab.sender().connect(&server, name).await.unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
}

#[tokio::test]
async fn the_negotiated_protocol_is_the_one_that_is_spoken() {
    let lab = Lab::new();
    let server = Server::start(with_tls(&tls(vec![lab.files(&["a.test"])])));
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = lab.sender().alpn(offered).connect(&server, "a.test").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    let unknown = lab.sender().alpn(&["spdy/3"]).connect(&server, "a.test").await;
    assert!(unknown.is_err(), "an alert, not a guess");

    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for offered in [&["http/1.1"][..], &[]] {
        let mut stream = lab.sender().alpn(offered).connect(&server, "a.test").await.unwrap();
        stream.write_all(preface.as_bytes()).await.unwrap();
        assert_eq!(closed(&mut stream).await, b"", "not even settings");
    }
    let mut stream = lab.sender().alpn(&["h2"]).connect(&server, "a.test").await.unwrap();
    let _cut = stream.write_all(GET.as_bytes()).await;
    let said = closed(&mut stream).await;
    assert!(!said.starts_with(b"HTTP/1"), "no HTTP/1.1 where HTTP/2 was negotiated");
    assert_eq!(server.running(), 0);

    let plain = Server::start(super::world::settings());
    let mut stream = plain.connect().await;
    stream.write_all(preface.as_bytes()).await.unwrap();
    assert_eq!(closed(&mut stream).await, b"");
}

#[tokio::test]
async fn a_client_certificate_is_demanded_each_time() {
    let lab = Lab::new();
    let ca_file = lab.dir.path().join("clients.pem");
    std::fs::write(&ca_file, &lab.ca.pem).unwrap();
    let config = Tls { client_ca: Some(ca_file), ..tls(vec![lab.files(&["a.test"])]) };
    let server = Server::start(with_tls(&config));

    let strangers = Authority::new();
    let stranger = strangers.files(lab.dir.path(), &["stranger.test"]);
    for certificate in [None, Some(stranger)] {
        let sender = Sender { certificate, ..lab.sender() };
        // With TLS 1.3 the sender believes itself connected until it reads.
        if let Ok(mut stream) = sender.connect(&server, "a.test").await {
            assert!(soon(stream.read_u8()).await.is_err());
        }
    }
    let sender = Sender { certificate: Some(lab.files(&["sender.test"])), ..lab.sender() };
    for versions in [vec![&TLS13], vec![&TLS12]] {
        let config = Sender { versions, ..sender.clone() }.config();
        for _ in 0..2 {
            let stream = server.connect().await;
            let mut stream = connect(Arc::clone(&config), stream, "a.test").await.unwrap();
            assert_eq!(ask(&mut stream, GET).await.0, 200);
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "a resumed one would not show it again");
        }
    }
}

#[tokio::test]
async fn no_session_is_resumed_and_no_data_is_taken_early() {
    let lab = Lab::new();
    let server = Server::start(with_tls(&tls(vec![lab.files(&["a.test"])])));
    for versions in [vec![&TLS13], vec![&TLS12]] {
        let config = Sender { versions, ..lab.sender() }.config();
        for _ in 0..2 {
            let stream = server.connect().await;
            let mut stream = connect(Arc::clone(&config), stream, "a.test").await.unwrap();
            assert_eq!(ask(&mut stream, GET).await.0, 200);
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
        let name = "a.test".try_into().unwrap();
        let mut next = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        assert!(next.early_data().is_none(), "there is no ticket that allows it");
    }
    assert_eq!(loaded(&tls(vec![lab.files(&["b.test"])])).config.max_early_data_size, 0);
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let lab = Lab::new();
    let server = Server::start(with_tls(&tls(vec![lab.files(&["a.test"])])));
    let mut old = lab.sender().connect(&server, "a.test").await.unwrap();
    assert_eq!(ask(&mut old, GET).await.0, 200);

    let renewed = with_tls(&tls(vec![lab.ca.files_as(lab.dir.path(), "renewed", &["a.test"])]));
    server.settings.store(Arc::new(renewed));
    let mut new = lab.sender().connect(&server, "a.test").await.unwrap();
    assert_ne!(shown(&old), shown(&new));
    for stream in [&mut old, &mut new] {
        assert_eq!(ask(stream, GET).await.0, 200);
    }
}

#[test]
fn what_cannot_be_served_is_an_error_and_what_should_not_is_a_warning() {
    let lab = Lab::new();
    let (one, other) = (lab.files(&["a.test"]), lab.files(&["b.test"]));
    let text = |files: CertFiles, now| {
        load(&tls(vec![files]), &[], Path::new("/nonexistent"), now).map_err(|e| e.to_string())
    };
    let now = Timestamp::now();
    let mixed = CertFiles { cert: one.cert.clone(), key: other.key };
    assert!(text(mixed, now).unwrap_err().contains("does not belong to the certificate in"));
    let missing = CertFiles { cert: "/nonexistent/a.pem".into(), key: one.key.clone() };
    let error = text(missing, now).unwrap_err();
    assert!(error.starts_with("/nonexistent/a.pem: No such file"), "{error}");
    let swapped = CertFiles { cert: one.key.clone(), key: one.cert.clone() };
    assert!(text(swapped, now).unwrap_err().contains("holds no certificate in PEM"));
    let none = load(&tls(Vec::new()), &[], Path::new("/nonexistent"), now).unwrap_err();
    assert_eq!(none.to_string(), "tls.files names no certificate");

    let chmod = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&one.key, mode).unwrap();
    };
    chmod(0o640);
    assert_eq!(text(one.clone(), now).unwrap().unwrap().warnings, Vec::<String>::new());
    chmod(0o644);
    let warnings = text(one.clone(), now).unwrap().unwrap().warnings;
    assert!(warnings[0].contains("can be read by every user"), "{warnings:?}");
    chmod(0o600);
    let in_the_year_5000 = Timestamp::from_millis(95_617_584_000_000);
    let warnings = text(one.clone(), in_the_year_5000).unwrap().unwrap().warnings;
    assert!(warnings[0].contains("expired at 4096-01-01"), "{warnings:?}");
}

#[test]
fn expiry_is_shown_by_name() {
    let lab = Lab::new();
    let metrics = Metrics::new();
    loaded(&tls(vec![lab.files(&["a.test", "b.test"])])).observe(&metrics);
    for name in ["a.test", "b.test"] {
        assert!(metrics.certificate_expiry(name).get() > 60e9, "{name} ends in 4096");
    }
}

#[tokio::test]
async fn the_internal_certificate_is_good_for_whoever_trusts_its_ca() {
    let storage = tempfile::tempdir().unwrap();
    let config = Tls { mode: TlsMode::Internal, tls13_only: false, client_ca: None };
    let hosts = ["hooks.example.com".to_owned()];
    let made = load(&config, &hosts, storage.path(), Timestamp::now()).unwrap().unwrap();
    assert_eq!(made.warnings, Vec::<String>::new());
    let tls = Some(made.config);
    let server = Server::start(Settings { tls, ..super::world::settings() });
    let ca = std::fs::read_to_string(gatepost::server::tls::ca_file(storage.path())).unwrap();
    for name in ["hooks.example.com", "localhost", "127.0.0.1", "::1"] {
        let mut stream = Sender::trusting(&ca).connect(&server, name).await.unwrap();
        assert_eq!(ask(&mut stream, GET).await.0, 200, "{name}");
    }
    // A host that is added gets a certificate under the same CA.
    let hosts = [hosts[0].clone(), "second.example.com".to_owned()];
    let made = load(&config, &hosts, storage.path(), Timestamp::now()).unwrap().unwrap();
    let tls = Some(made.config);
    server.settings.store(Arc::new(Settings { tls, ..super::world::settings() }));
    assert!(Sender::trusting(&ca).connect(&server, "second.example.com").await.is_ok());
}

#[test]
fn names_and_both_forms_of_time_are_read() {
    let lab = Lab::new();
    let mut params = rcgen::CertificateParams::new(
        ["Hooks.example.com", "*.example.org", "192.0.2.7", "2001:db8::1"].map(str::to_owned),
    )
    .unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2051, 3, 4);
    let key = rcgen::KeyPair::generate().unwrap();
    let files = CertFiles { cert: lab.dir.path().join("f.pem"), key: lab.dir.path().join("f.key") };
    std::fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let facts = &loaded(&tls(vec![files])).certificates[0];
    assert_eq!(facts.names, ["hooks.example.com", "*.example.org", "192.0.2.7", "2001:db8::1"]);
    assert_eq!(facts.not_before.to_string(), "2026-01-02T00:00:00.000Z");
    assert_eq!(facts.not_after.to_string(), "2051-03-04T00:00:00.000Z");
}

/// The internal certificate and its CA, after they were asked for.
fn made(storage: &Path, hosts: &[&str], now: Timestamp) -> (String, String) {
    let config = Tls { mode: TlsMode::Internal, tls13_only: false, client_ca: None };
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    load(&config, &hosts, storage, now).unwrap().unwrap();
    let read = |name| std::fs::read_to_string(storage.join("tls").join(name)).unwrap();
    (read("server.pem"), read("ca.pem"))
}

#[test]
fn the_internal_certificate_is_kept_until_a_host_is_added_or_its_end_is_near() {
    let storage = tempfile::tempdir().unwrap();
    let now = Timestamp::from_millis(1_795_000_000_000);
    let (first, ca) = made(storage.path(), &["a.test"], now);
    assert_eq!(made(storage.path(), &["A.test"], now), (first.clone(), ca.clone()));

    let (second, same_ca) = made(storage.path(), &["a.test", "b.test"], now);
    assert_ne!(second, first);
    assert_eq!(same_ca, ca);

    let late = now.plus(std::time::Duration::from_hours(24 * 364));
    let (third, same_ca) = made(storage.path(), &["a.test", "b.test"], late);
    assert_ne!(third, second);
    assert_eq!(same_ca, ca);

    std::fs::remove_file(storage.path().join("tls/server.pem")).unwrap();
    assert_ne!(made(storage.path(), &["a.test"], late).0, third, "half a change is made anew");
    for name in ["server.key", "ca.key"] {
        let mode = std::fs::metadata(storage.path().join("tls").join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name} is ours alone");
    }
}

/// What belongs together is put there one after the other. Whatever is interrupted, what does not fit is made anew, and what is made
/// is good for whoever trusts the authority that is there.
#[tokio::test]
async fn an_internal_certificate_that_was_half_made_is_made_anew() {
    let other = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    made(other.path(), &["a.test"], now);
    let pem = |name: &str| std::fs::read_to_string(other.path().join("tls").join(name)).unwrap();
    let (key, authority) = (pem("server.key"), pem("ca.key"));
    for (name, text) in [
        ("server.key", ""),
        ("server.key", &*key),
        ("server.pem", ""),
        ("ca.key", ""),
        ("ca.key", &authority),
        ("ca.pem", ""),
        (".server.key.tmp", "half"),
        ("server.new", "half"),
    ] {
        let storage = tempfile::tempdir().unwrap();
        let hosts = ["a.test".to_owned(), "b.test".to_owned()];
        made(storage.path(), &[&hosts[0]], now);
        std::fs::write(storage.path().join("tls").join(name), text).unwrap();
        let config = Tls { mode: TlsMode::Internal, tls13_only: false, client_ca: None };
        for hosts in [&hosts[..1], &hosts] {
            let made = load(&config, hosts, storage.path(), now).unwrap().unwrap();
            let server =
                Server::start(Settings { tls: Some(made.config), ..super::world::settings() });
            let ca =
                std::fs::read_to_string(gatepost::server::tls::ca_file(storage.path())).unwrap();
            let asked = Sender::trusting(&ca).connect(&server, "a.test").await;
            assert!(asked.is_ok(), "{name} {text} {hosts:?}");
        }
    }
}
