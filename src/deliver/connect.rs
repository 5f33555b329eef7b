//! Reaches an upstream's address: TCP, and TLS where its url says so.

use std::{path::Path, sync::Arc};

use http::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::{HttpVersion, UpstreamTls, pool::Stream};

/// Where one url of an upstream leads.
#[derive(Clone)]
pub(super) struct Address {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    http: HttpVersion,
}

/// Why an address could not be reached. Nothing of the request was sent.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// Name, route, or port.
    Tcp(std::io::Error),
    /// The handshake, or the certificate.
    Tls(std::io::Error),
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("host", &self.host).field("port", &self.port).finish()
    }
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
        let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
        let tls = if secure {
            let name = ServerName::try_from(name).map_err(|e| format!("{uri}: {e}"))?;
            Some((TlsConnector::from(Arc::new(client_config(tls, http)?)), name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host, port, tls, http })
    }

    /// A new connection, and whether it speaks HTTP/2.
    pub(super) async fn connect(&self) -> Result<(Stream, bool), ConnectError> {
        let tcp =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let Some((connector, name)) = &self.tls else {
            return Ok((Either::Left(tcp), self.http == HttpVersion::Http2));
        };
        let tls = connector.connect(name.clone(), tcp).await.map_err(ConnectError::Tls)?;
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Either::Right(tls), h2))
    }
}

fn client_config(tls: &UpstreamTls, http: HttpVersion) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
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
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| unreadable(path, &e))?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            let (_added, _ignored) = roots.add_parsable_certificates(native.certs);
        }
    }
    if roots.is_empty() {
        return Err("no CA certificate is known; name one with tls.ca".to_owned());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(path, &e))?;
    all.collect::<Result<Vec<_>, _>>().map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
