//! Reaches an upstream's address: TCP, and TLS where its url says so.

use std::{fmt::Display, path::Path, sync::Arc};

use http::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::{HttpVersion, UpstreamTls, pool::Connection, upstream::NotSent};

/// Where one url of an upstream leads.
#[derive(Clone, Debug)]
pub(super) struct Address {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    http: HttpVersion,
}

impl Address {
    /// What `uri` says, with `tls` where it begins with `https`.
    ///
    /// # Errors
    /// A sentence where a file cannot be read or the url cannot be used.
    pub(super) fn new(uri: &Uri, tls: &UpstreamTls, http: HttpVersion) -> Result<Self, String> {
        let host = uri.host().ok_or_else(|| format!("{uri} has no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
        let tls = if secure {
            let name = ServerName::try_from(name).map_err(|e| format!("{uri}: {e}"))?;
            Some((Arc::new(client_config(tls, http)?), name))
        } else {
            None
        };
        Ok(Self { host, port, tls, http })
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
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| NotSent::new("connect", &error))?;
        tcp.set_nodelay(true).map_err(|error| NotSent::new("connect", &error))?;
        let Some((config, name)) = &self.tls else {
            return Connection::open(Either::Left(tcp), self.http == HttpVersion::Http2).await;
        };
        let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
        let tls = tls.map_err(|error| NotSent::new("tls", &error))?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Connection::open(Either::Right(tls), h2).await
    }
}

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
