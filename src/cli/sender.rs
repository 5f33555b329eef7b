//! Sends requests to a gateway and counts how they ended: the client behind `send` and `dev --demo`.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::respond::OUTCOME_HEADER;

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ended {
    /// The status; 0 where there was no answer.
    pub(crate) status: u16,
    /// The gateway's word for it, or what went wrong.
    pub(crate) outcome: String,
}

/// A client for one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Sender {
    /// A client that trusts `ca` besides the system's roots.
    ///
    /// # Errors
    /// A sentence where `ca` cannot be read.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let (_added, _ignored) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca {
            let unreadable = |e| format!("{}: {e}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Posts `body` and says how it ended and how long it took.
    pub(crate) async fn post(
        &self,
        to: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (Ended, Duration) {
        let mut request = Request::post(to.clone());
        if let Some(all) = request.headers_mut() {
            *all = headers;
            all.entry(header::CONTENT_TYPE)
                .or_insert(header::HeaderValue::from_static("application/json"));
        }
        let since = Instant::now();
        let ended = match request.body(Full::new(body)) {
            Ok(request) => self.ask(request).await,
            Err(error) => Ended { status: 0, outcome: error.to_string() },
        };
        (ended, since.elapsed())
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Ended {
        match self.client.request(request).await {
            Ok(response) => {
                let status = response.status();
                let outcome = response.headers().get(OUTCOME_HEADER).and_then(|v| v.to_str().ok());
                let outcome = outcome.map_or_else(|| unnamed(status).to_owned(), str::to_owned);
                // Read to its end, so that the connection can be used again; the body itself tells nothing more.
                drop(Limited::new(response.into_body(), 64 * 1024).collect().await);
                Ended { status: status.as_u16(), outcome }
            }
            Err(error) => Ended { status: 0, outcome: reason(&error) },
        }
    }
}

/// Strangers are not told an outcome; the status says enough.
fn unnamed(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "refused",
        other => other.canonical_reason().unwrap_or("answered"),
    }
}

/// The innermost cause: `connection refused` says more than `client error`.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Counts of equal endings, in order of status.
pub(crate) fn tally(ended: &[(Ended, Duration)]) -> BTreeMap<Ended, usize> {
    let mut counts = BTreeMap::new();
    for (end, _) in ended {
        *counts.entry(end.clone()).or_insert(0) += 1;
    }
    counts
}
