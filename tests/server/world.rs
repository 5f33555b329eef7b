//! A server with a front that says what it saw, and senders of several manners.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gatepost::{
    config::{CertFiles, Limits, ProxyProtocol, Tls, TlsMode},
    event::{Peer, Receipt, Timestamp},
    server::{self, Arriving, ServerParams, Settings, Unreadable},
    telemetry::Metrics,
    units::{Size, Span},
};
use http_body_util::{BodyExt as _, Full};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Far longer than anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("within the deadline")
}

/// Waits until `holds`.
pub async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Limits that no test reaches by accident.
pub fn limits() -> Limits {
    let long = Span(Duration::from_mins(1));
    Limits {
        first_byte_timeout: long,
        handshake_timeout: long,
        header_timeout: long,
        body_timeout: long,
        body_rate_min: Size(0),
        header_size: Size(16 * 1024),
        headers: 64_usize.try_into().unwrap(),
        idle_timeout: long,
        connection_age_max: long,
        write_timeout: long,
        ..Limits::default()
    }
}

/// A moment for limits that a test waits for.
pub const SHORT: Duration = Duration::from_millis(150);

pub fn settings() -> Settings {
    Settings {
        limits: limits(),
        trusted_proxies: Vec::new(),
        proxy_protocol: ProxyProtocol::None,
        drain_timeout: DEADLINE,
        receipt_header: http::HeaderName::from_static("webhook-receipt"),
        tls: None,
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub settings: Arc<ArcSwap<Settings>>,
    pub metrics: Metrics,
    pub shutdown: CancellationToken,
    /// Lets requests to `/wait` go on.
    pub gate: Arc<Notify>,
    /// How many requests are at the front now.
    pub running: Arc<std::sync::atomic::AtomicUsize>,
    task: JoinHandle<usize>,
}

impl Server {
    pub fn start(settings: Settings) -> Self {
        Self::at("127.0.0.1:0", settings)
    }

    pub fn at(address: &str, settings: Settings) -> Self {
        let listeners = server::listen(&[address.parse().unwrap()], 1).unwrap().remove(0);
        let address = listeners[0].local_addr().unwrap();
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let metrics = Metrics::new();
        let (gate, running) = (Arc::new(Notify::new()), Arc::default());
        let front = front(Arc::clone(&gate), Arc::clone(&running));
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let params = ServerParams {
            settings: Arc::clone(&settings),
            metrics: metrics.clone(),
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
        };
        let task =
            tracker.spawn(server::serve(listeners, params, front, |_, _, _| Receipt::random()));
        Self { address, settings, metrics, shutdown, gate, running, task }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub async fn drained(self) -> usize {
        self.shutdown.cancel();
        soon(self.task).await.unwrap()
    }

    pub fn open(&self) -> i64 {
        self.metrics.connections().get()
    }

    pub fn running(&self) -> usize {
        self.running.load(std::sync::atomic::Ordering::SeqCst)
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = http::Response<Full<Bytes>>> + Send>>;

/// Answers with what it saw. `/wait` waits for the gate, `/deaf` does not read the body, `/large` answers at length.
fn front(
    gate: Arc<Notify>,
    running: Arc<std::sync::atomic::AtomicUsize>,
) -> impl Fn(http::Request<Arriving>, Peer, Result<(), Unreadable>) -> Answer + Send + Sync {
    use std::sync::atomic::Ordering::SeqCst;
    move |request, peer, checked| {
        let (gate, running) = (Arc::clone(&gate), Arc::clone(&running));
        running.fetch_add(1, SeqCst);
        Box::pin(async move {
            let (status, text) = seen(request, peer, checked, &gate).await;
            running.fetch_sub(1, SeqCst);
            let mut response = http::Response::new(Full::from(text));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response
        })
    }
}

async fn seen(
    request: http::Request<Arriving>,
    peer: Peer,
    checked: Result<(), Unreadable>,
    gate: &Notify,
) -> (u16, Bytes) {
    if let Err(why) = checked {
        return (400, why.into());
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/deaf" => return (413, "too large".into()),
        "/large" => return (200, vec![b'x'; 64 << 20].into()),
        "/wait" => gate.notified().await,
        _ => {}
    }
    let version = request.version();
    let Ok(body) = request.into_body().collect().await else { return (400, "body".into()) };
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let scheme = if peer.https { "https" } else { "http" };
    (200, format!("{version:?} {scheme} {} {path} {body}", peer.ip).into())
}

/// Sends `request` as it is and reads one answer.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: impl AsRef<[u8]>,
) -> (u16, String) {
    soon(stream.write_all(request.as_ref())).await.unwrap();
    answer(stream).await
}

/// Reads one answer of HTTP/1.1.
pub async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> (u16, String) {
    let head = head(stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    soon(stream.read_exact(&mut body)).await.unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

/// Reads the head of an answer.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("an answer"));
    }
    String::from_utf8(head).unwrap()
}

/// Waits until the server has closed the connection, however it does so; returns what it said before.
pub async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is as good an end as a FIN.
    let _end = soon(stream.read_to_end(&mut said)).await;
    said
}

pub const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// An authority that makes certificates for tests.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate for `names` and its key into `dir`.
    pub fn files(&self, dir: &Path, names: &[&str]) -> CertFiles {
        let stem = names[0].replace('*', "any");
        self.files_as(dir, &stem, names)
    }

    pub fn files_as(&self, dir: &Path, stem: &str, names: &[&str]) -> CertFiles {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertFiles {
            cert: dir.join(format!("{stem}.pem")),
            key: dir.join(format!("{stem}.key")),
        };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

pub fn tls(files: Vec<CertFiles>) -> Tls {
    Tls { mode: TlsMode::Files(files), tls13_only: false, client_ca: None }
}

pub fn loaded(tls: &Tls) -> server::tls::Loaded {
    server::tls::load(tls, &[], Path::new("/nonexistent"), Timestamp::now()).unwrap().unwrap()
}

pub fn with_tls(tls: &Tls) -> Settings {
    Settings { tls: Some(loaded(tls).config), ..settings() }
}

/// A sender's side of TLS.
#[derive(Clone)]
pub struct Sender {
    pub ca: String,
    pub alpn: Vec<&'static str>,
    pub versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pub certificate: Option<CertFiles>,
}

impl Sender {
    pub fn trusting(ca: &str) -> Self {
        let versions = vec![&rustls::version::TLS13, &rustls::version::TLS12];
        Self { ca: ca.to_owned(), alpn: Vec::new(), versions, certificate: None }
    }

    pub fn alpn(mut self, alpn: &[&'static str]) -> Self {
        self.alpn = alpn.to_vec();
        self
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(
                    CertificateDer::pem_file_iter(&files.cert)
                        .unwrap()
                        .map(Result::unwrap)
                        .collect(),
                    PrivateKeyDer::from_pem_file(&files.key).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = self.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        config.enable_early_data = true;
        Arc::new(config)
    }

    pub async fn connect(
        &self,
        server: &Server,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.config(), server.connect().await, name).await
    }
}

pub async fn connect(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(config).connect(name, stream)).await
}
