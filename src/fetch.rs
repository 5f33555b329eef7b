//! Brings small documents over HTTPS: keys and certificates that senders are recognised by. Strangers can make it ask, so it asks
//! nobody but public addresses (or those that the configuration allows), follows nothing, and takes little, for a short time.

use std::{
    fmt::{Debug, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, pem::PemObject as _};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Whom it may ask, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Networks that it may reach; where there are none, public addresses only.
    pub networks: Vec<IpNet>,
    /// PEM of the CAs that servers must lead to; where there is none, the system's.
    pub ca: Option<PathBuf>,
    /// How long one document may take, in all.
    pub timeout: Duration,
    /// How long a document that cannot be fetched again is used.
    pub stale: Duration,
}

/// Bytes of a document, at most.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Documents that are fetched at once, at most.
const AT_ONCE_MAX: usize = 4;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its bytes.
    pub body: Bytes,
    /// How long its server says that it is good.
    pub max_age: Option<Duration>,
}

/// A document on its way, or why there is none.
pub type Fetched<'a> = BoxFuture<'a, Result<Document, String>>;

/// Where documents come from.
pub trait Documents: Debug + Send + Sync {
    /// Whom it asks, and for how long.
    fn params(&self) -> &Params;

    /// The roots that servers and certificates must lead to; none, where they cannot be read.
    fn anchors(&self) -> &[TrustAnchor<'static>];

    /// Fetches what is at an `https` URL, showing a credential; a sentence for the operator where that fails.
    fn fetch<'a>(&'a self, url: &'a str, shown: Option<Shown>) -> Fetched<'a>;
}

/// Fetches documents.
#[derive(Debug)]
pub struct Fetcher {
    params: Params,
    trust: OnceLock<Result<Trust, String>>,
    places: Semaphore,
}

/// Whom it believes.
#[derive(Debug)]
struct Trust {
    tls: Arc<ClientConfig>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Documents for Fetcher {
    fn params(&self) -> &Params {
        &self.params
    }

    fn anchors(&self) -> &[TrustAnchor<'static>] {
        self.trust().map_or(&[], |trust| &trust.anchors)
    }

    fn fetch<'a>(&'a self, url: &'a str, shown: Option<Shown>) -> Fetched<'a> {
        Box::pin(async move {
            // Waiting counts: slow servers of one source do not keep another's events waiting for longer than is said.
            let fetched = timeout(self.params.timeout, async {
                let _place = self.places.acquire().await.map_err(|_| "it is stopping")?;
                self.get(url, shown).await
            });
            let fetched = fetched.await;
            fetched.unwrap_or_else(|_| Err("it took too long".into()))
        })
    }
}

impl Fetcher {
    /// A fetcher that has asked nobody yet.
    pub fn new(params: Params) -> Self {
        Self { params, trust: OnceLock::new(), places: Semaphore::new(AT_ONCE_MAX) }
    }

    fn trust(&self) -> Result<&Trust, String> {
        let trust = self.trust.get_or_init(|| Trust::new(self.params.ca.as_deref()));
        trust.as_ref().map_err(Clone::clone)
    }

    async fn get(&self, url: &str, shown: Option<Shown>) -> Result<Document, String> {
        let url: Uri = url.parse().map_err(|_| "the URL cannot be read")?;
        let https = url.scheme_str() == Some("https");
        let authority = url.authority().filter(|_| https).ok_or("the URL is not an https one")?;
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(443);
        let addresses = self.addresses(host, port).await?;
        let tcp = TcpStream::connect(&*addresses).await.map_err(|e| said("connecting", e))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|e| said("its name", e))?;
        let tls = TlsConnector::from(Arc::clone(&self.trust()?.tls));
        let tls = tls.connect(name, tcp).await.map_err(|e| said("TLS", e))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(tls)).await.map_err(|e| said("HTTP", e))?;
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        let asked = Box::pin(ask(sender, path, authority.as_str(), shown));
        // The connection is driven here: what is not waited for any more is closed with it.
        match select(asked, connection).await {
            Either::Left((answer, _)) => answer,
            Either::Right((_, asked)) => asked.await,
        }
    }

    /// Those that were looked at are those that are connected to.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = lookup_host((host, port)).await.map_err(|e| said("its name", e))?;
        let networks = &self.params.networks;
        let is_allowed = |address: &SocketAddr| {
            let ip = address.ip().to_canonical();
            match networks.as_slice() {
                [] => is_public(ip),
                networks => networks.iter().any(|network| network.contains(&ip)),
            }
        };
        let allowed: Vec<_> = found.filter(is_allowed).collect();
        if allowed.is_empty() {
            return Err(format!("{host} leads to no address that may be asked"));
        }
        Ok(allowed)
    }
}

fn said(what: &str, error: impl Display) -> String {
    format!("{what}: {error}")
}

type Sender = http1::SendRequest<Empty<Bytes>>;

/// A header that shows a credential.
pub type Shown = (HeaderName, HeaderValue);

async fn ask(
    mut sender: Sender,
    path: &str,
    host: &str,
    shown: Option<Shown>,
) -> Result<Document, String> {
    let mut request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json, application/jwk-set+json, text/plain, */*;q=0.1")
        .header(header::USER_AGENT, concat!("gatepost/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|e| said("the request", e))?;
    request.headers_mut().extend(shown);
    let response = sender.send_request(request).await.map_err(|e| said("HTTP", e))?;
    let (head, mut body) = response.into_parts();
    // A redirect leads where nobody looked.
    if head.status != http::StatusCode::OK {
        return Err(format!("it answered {}", head.status.as_u16()));
    }
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| said("HTTP", e))?;
        let data = frame.into_data().unwrap_or_default();
        if document.len() + data.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("it is longer than {DOCUMENT_BYTES_MAX} bytes"));
        }
        document.extend_from_slice(&data);
    }
    Ok(Document { body: document.freeze(), max_age: max_age(&head.headers) })
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let age = value.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    age.trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// Whether an address is one of the internet's own: not this machine's, not a private network's, and nothing special.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let relay = a == 192 && b == 88 && c == 99;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || protocol
        || relay
        || benchmark)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Only 2000::/3 is given out; of it, tunnels and translations may lead anywhere, and some are for documents.
    let tunnel = a == 0x2002 || (a == 0x2001 && b < 0x0200);
    let document = (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000);
    a & 0xe000 == 0x2000 && !tunnel && !document
}

impl Trust {
    fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            let unreadable = |e: &dyn Display| format!("{}: {e}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| unreadable(&e))?;
                roots.add(certificate).map_err(|e| unreadable(&e))?;
            }
        } else {
            let native = rustls_native_certs::load_native_certs();
            let (_added, _ignored) = roots.add_parsable_certificates(native.certs);
        }
        if roots.is_empty() {
            return Err("no CA certificate is known; name one with fetch.ca".to_owned());
        }
        let anchors = roots.roots.clone();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), anchors })
    }
}
