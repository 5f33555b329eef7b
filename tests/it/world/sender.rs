//! A provider's own connections, plain or over TLS; and many of them at once, with what each was told.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::{PATIENCE, Provider, gateway::Answer, progress, provider::stripe_event};

/// Opens connections to a gateway.
#[derive(Clone, Debug)]
pub struct Dialer {
    pub address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    pub http2: bool,
}

pub type Line = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Dialer {
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, http2: false }
    }

    /// Trusts the authority in `ca` and speaks `http/1.1` or `h2`.
    pub fn tls(address: SocketAddr, ca: &Path, alpn: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Self { address, tls: Some(Arc::new(config)), http2: alpn == "h2" }
    }

    pub async fn connect(&self) -> io::Result<Line> {
        let stream = TcpStream::connect(self.address).await?;
        self.over(stream).await
    }

    /// The certificate that a new connection is shown.
    pub async fn shown(&self) -> CertificateDer<'static> {
        let Either::Right(line) = self.connect().await.unwrap() else { panic!("no TLS") };
        line.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    /// The same on a connection that is there already.
    pub async fn over(&self, stream: TcpStream) -> io::Result<Line> {
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Either::Left(stream)) };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        Ok(Either::Right(Box::new(stream)))
    }
}

/// How the library says that a server that ends in order had not begun with a stream (RFC 9113, 6.8): its request never left,
/// or came behind the last one that is answered.
const GOING_AWAY: &str = "kind: GoAway(b\"\", NO_ERROR, Remote)";

enum Open {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One sender with at most one connection, which it keeps as long as it may.
pub struct Sender {
    dialer: Dialer,
    open: Option<Open>,
    tasks: JoinSet<()>,
}

impl Sender {
    pub fn new(dialer: &Dialer) -> Self {
        Self { dialer: dialer.clone(), open: None, tasks: JoinSet::new() }
    }

    /// An answer, or why there is none. What never left because the connection had ended leaves on the next one.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let scheme = if self.dialer.tls.is_some() { "https" } else { "http" };
        let target =
            if self.dialer.http2 { format!("{scheme}://localhost{path}") } else { path.into() };
        let mut request = Request::post(target).header("content-type", "application/json");
        if !self.dialer.http2 {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::from(body.to_vec())).unwrap();
        let work = async {
            loop {
                match self.send(request).await {
                    Ok(answer) => return answer,
                    Err(unsent) => request = unsent,
                }
            }
        };
        let answered = tokio::time::timeout(PATIENCE, work).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer".to_owned()));
        if answered.is_err() {
            self.hang_up();
        }
        answered
    }

    /// Closes the connection.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    /// The request comes back where the server has done nothing with it.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Answer, String>, Request<Full<Bytes>>> {
        if self.open.is_none() {
            match self.dial().await {
                Ok(open) => self.open = Some(open),
                Err(error) => return Ok(Err(format!("connecting: {error}"))),
            }
        }
        let kept = request.clone();
        let sent = match self.open.as_mut().unwrap() {
            Open::Http1(open) => match open.ready().await {
                Ok(()) => open.try_send_request(request).await,
                Err(_closed) => return Err(self.gone(request)),
            },
            Open::Http2(open) => match open.ready().await {
                Ok(()) => open.try_send_request(request).await,
                Err(_closed) => return Err(self.gone(request)),
            },
        };
        let response = match sent {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                Some(unsent) => return Err(self.gone(unsent)),
                None => match format!("{:?}", error.into_error()) {
                    why if why.contains(GOING_AWAY) => return Err(self.gone(kept)),
                    why => return Ok(Err(why)),
                },
            },
        };
        let (parts, body) = response.into_parts();
        Ok(match body.collect().await {
            Ok(body) => Ok(answer(parts.status, parts.headers, body.to_bytes())),
            Err(error) => Err(format!("the answer's body: {error}")),
        })
    }

    fn gone(&mut self, unsent: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
        self.hang_up();
        unsent
    }

    async fn dial(&mut self) -> Result<Open, Box<dyn std::error::Error + Send + Sync>> {
        let io = TokioIo::new(self.dialer.connect().await?);
        if self.dialer.http2 {
            let (open, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            self.tasks.spawn(async { drop(connection.await) });
            Ok(Open::Http2(open))
        } else {
            let (open, connection) = http1::handshake(io).await?;
            self.tasks.spawn(async { drop(connection.await) });
            Ok(Open::Http1(open))
        }
    }
}

fn answer(status: http::StatusCode, headers: HeaderMap, body: Bytes) -> Answer {
    Answer { status: status.as_u16(), headers, body }
}

/// What became of one event.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: String,
    pub status: Result<u16, String>,
    /// From sending to the answer.
    pub took: Duration,
    pub at: Instant,
}

/// Senders of signed Stripe events, each event once, until they are stopped.
pub struct Load {
    senders: JoinSet<Vec<Told>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// How the senders of a load behave.
#[derive(Clone, Debug)]
pub struct Manner {
    pub dialer: Dialer,
    /// A new connection, and handshake, for each event.
    pub hangs_up: bool,
    /// Between an answer and the next event.
    pub pause: Duration,
    /// Sends what was refused again.
    pub retries: bool,
}

impl Manner {
    pub fn new(dialer: &Dialer) -> Self {
        let dialer = dialer.clone();
        Self { dialer, hangs_up: false, pause: Duration::ZERO, retries: false }
    }
}

impl Load {
    /// Starts a sender for each of `manners`. Ids begin with `name`.
    pub fn start(name: &str, secret: &'static str, manners: Vec<Manner>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut senders = JoinSet::new();
        for (n, manner) in manners.into_iter().enumerate() {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let name = format!("evt_{name}_{n}");
            senders.spawn(async move { send(&name, secret, &manner, &stop, &answered).await });
        }
        Self { senders, stop, answered }
    }

    /// How many answers there were so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }

    /// Waits for `more` answers.
    pub async fn go_on(&self, more: usize) {
        let enough = self.answered() + more;
        progress(enough, || self.answered()).await;
    }

    /// Ends it; what each event was told.
    pub async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Relaxed);
        self.senders.join_all().await.concat()
    }
}

async fn send(
    name: &str,
    secret: &'static str,
    manner: &Manner,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<Told> {
    let (mut told, mut sender) = (Vec::new(), Sender::new(&manner.dialer));
    let mut number = 0;
    let mut again = false;
    while again || !stop.load(Relaxed) {
        number += usize::from(!again);
        let id = format!("{name}_{number}");
        let body = stripe_event(&id, "invoice.paid");
        let headers = Provider::Stripe(secret).sign("", "", &body);
        let at = Instant::now();
        let status = match sender.post("/stripe", &headers, &body).await {
            // Each event is new: somebody had it already, and did not say so.
            Ok(answer) if answer.outcome() == "duplicate" => Err("a duplicate".to_owned()),
            answer => answer.map(|answer| answer.status),
        };
        again = manner.retries && status == Ok(503);
        told.push(Told { id, status, took: at.elapsed(), at });
        answered.fetch_add(1, Relaxed);
        if manner.hangs_up {
            sender.hang_up();
        }
        let pause = if again { RETRY } else { manner.pause };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    told
}

/// When a refused event is sent again.
const RETRY: Duration = Duration::from_millis(20);
