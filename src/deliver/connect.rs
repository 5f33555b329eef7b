//! Reaches an upstream's address: TCP, and TLS where its url says so.

use std::{
    fmt::{self, Display},
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use http::{HeaderValue, Uri, Version, header, uri::PathAndQuery};
use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::DuplexStream,
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::{
    HttpVersion, UpstreamParams, UpstreamTls,
    pool::{Connection, Outgoing},
    upstream::NotSent,
};

use crate::stage::BoxFuture;

/// A network that is not TCP: a simulated one.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to a port of a host, in clear.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<DuplexStream>>;
}

/// Where one url of an upstream leads.
#[derive(Debug)]
pub(super) struct Address {
    url: Uri,
    path: Uri,
    authority: HeaderValue,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    http: HttpVersion,
    networks: Vec<IpNet>,
    dial: Option<Arc<dyn Dial>>,
}

impl Address {
    /// What `url` says, with TLS where it begins with `https`; a sentence where a file cannot be read or the url cannot
    /// be used.
    pub(super) fn new(
        url: &Uri,
        params: &UpstreamParams,
        dial: Option<Arc<dyn Dial>>,
    ) -> Result<Self, String> {
        let UpstreamParams { tls, http, networks, .. } = params;
        let http = *http;
        let authority = url.authority().ok_or_else(|| format!("{url} has no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let secure = url.scheme_str() == Some("https");
        let tls = if secure {
            let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name).map_err(|e| format!("{url}: {e}"))?;
            Some((Arc::new(client_config(tls, http)?), name))
        } else {
            None
        };
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            path: Uri::try_from(path).map_err(|e| e.to_string())?,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?,
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            url: url.clone(),
            host,
            tls,
            http,
            networks: networks.clone(),
            dial,
        })
    }

    /// HTTP/1.1 names the host in a header and asks for a path; HTTP/2 has the whole url.
    pub(super) fn direct(&self, request: &mut Outgoing, connection: &Connection) {
        let h2 = matches!(connection, Connection::Http2(_));
        if h2 {
            request.headers_mut().remove(header::HOST);
        } else {
            request.headers_mut().insert(header::HOST, self.authority.clone());
        }
        request.uri_mut().clone_from(if h2 { &self.url } else { &self.path });
        *request.version_mut() = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    }

    /// Whether connections may turn out to be HTTP/2.
    pub(super) fn may_share(&self) -> bool {
        match self.http {
            HttpVersion::Auto => self.tls.is_some(),
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, NotSent> {
        if let Some(network) = &self.dial {
            let stream = network.dial(&self.host, self.port).await;
            let stream = stream.map_err(|error| NotSent::connect(&error))?;
            let h2 = self.http == HttpVersion::Http2;
            return Connection::open(Either::Left(Either::Right(stream)), h2).await;
        }
        let tcp = TcpStream::connect(&*self.addresses().await?).await;
        let tcp = tcp.map_err(|error| NotSent::connect(&error))?;
        tcp.set_nodelay(true).map_err(|error| NotSent::connect(&error))?;
        let Some((config, name)) = &self.tls else {
            let h2 = self.http == HttpVersion::Http2;
            return Connection::open(Either::Left(Either::Left(tcp)), h2).await;
        };
        let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
        let tls = tls.map_err(|error| NotSent::tls(&error))?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Connection::open(Either::Right(tls), h2).await
    }

    /// The addresses of the host that may be connected to. Those that were looked at are those that are connected to: a name
    /// that leads elsewhere a moment later leads nobody there.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, NotSent> {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<_> = found.map_err(|error| NotSent::connect(&error))?.collect();
        let is_allowed = |address: &&SocketAddr| {
            let ip = address.ip().to_canonical();
            let named = self.networks.iter().any(|network| network.contains(&ip));
            named || (self.networks.is_empty() && !is_metadata(ip))
        };
        let allowed: Vec<_> = found.iter().filter(is_allowed).copied().collect();
        if allowed.is_empty() {
            let why = format!("{} leads to {found:?}, where it may not", self.host);
            return Err(NotSent::connect(&why));
        }
        Ok(allowed)
    }
}

/// Where clouds tell a machine's secrets, or a container's, to whoever asks from it, however the address is written.
pub(crate) fn is_metadata(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    METADATA.iter().any(|known| known.parse() == Ok(ip))
}

/// Most clouds; AWS' and Google's by IPv6; Alibaba's; the credentials of tasks in ECS and of pods in EKS.
const METADATA: [&str; 7] = [
    "169.254.169.254",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::23",
];

fn client_config(tls: &UpstreamTls, http: HttpVersion) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|e| e.to_string())?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("tls.cert and tls.key go together".to_owned()),
    };
    config.alpn_protocols = match http {
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// The CA that was named, and nothing else; the system's where none was.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| unreadable(path, e))?;
        }
    } else {
        let native = rustls_native_certs::load_native_certs();
        let (_added, _ignored) = roots.add_parsable_certificates(native.certs);
    }
    if roots.is_empty() {
        return Err("no CA certificate is known; name one with tls.ca".to_owned());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, e))?;
    all.collect::<Result<_, _>>().map_err(|e| unreadable(path, e))
}

fn unreadable(path: &Path, error: impl Display) -> String {
    format!("{}: {error}", path.display())
}
