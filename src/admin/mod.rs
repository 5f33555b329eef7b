//! Health, metrics and the door of `gatepost reload`: a small HTTP/1.1 server beside the public one.
//!
//! Knows nothing of what it shows: readiness and reload are functions that it is given.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use crate::{stage::BoxFuture, telemetry::Metrics};

mod process;

/// One thing that must hold for us to take requests, in the manner of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What must hold, such as `DedupStoreReachable`.
    pub kind: &'static str,
    /// Whether it does.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// What is asked about the secret of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The source.
    pub source: String,
    /// For how long to wait for it from now on; only a question, where absent.
    pub time: Option<Duration>,
    /// Whether it takes the place of those captured before.
    pub replace: bool,
}

impl Capture {
    /// From a query such as `source=asana&seconds=600`. Only a POST opens a window.
    fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "source" => asked.source = value.into_owned(),
                "seconds" if request.method() == Method::POST => {
                    asked.time = value.parse().ok().map(Duration::from_secs);
                }
                "replace" => asked.replace = value == "true",
                _ => {}
            }
        }
        asked
    }
}

/// What the admin server is about.
pub trait Gateway: Send + Sync {
    /// What holds now.
    fn readiness(&self) -> BoxFuture<'_, Vec<Condition>>;

    /// Reads the configuration anew: what changed, or why nothing did.
    fn reload(&self) -> BoxFuture<'_, Result<String, String>>;

    /// Waits for a secret that a provider sends, or says how that goes.
    fn capture(&self, asked: Capture) -> BoxFuture<'_, Result<serde_json::Value, String>>;
}

/// What the admin server shows, and the one thing that it can set off.
#[derive(Clone)]
pub struct Admin {
    /// All metrics.
    pub metrics: Metrics,
    /// The gateway.
    pub gateway: Arc<dyn Gateway>,
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything (`admin.listen`).
    Everything,
    /// Health and metrics (`admin.metrics_listen`).
    MetricsOnly,
}

/// Serves `listener` until `shutdown`. One request per connection, everything under one deadline.
pub async fn serve(
    listener: TcpListener,
    scope: Scope,
    admin: Admin,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let own = listener.local_addr().ok();
    let accepting = async {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let door = Door { admin: admin.clone(), scope, own, from };
            let served = shutdown.clone().run_until_cancelled_owned(async move {
                let _place = place;
                door.serve(stream).await;
            });
            drop(tracker.spawn(served));
        }
    };
    shutdown.run_until_cancelled(accepting).await;
}

/// One connection's view of the admin server.
struct Door {
    admin: Admin,
    scope: Scope,
    own: Option<SocketAddr>,
    from: SocketAddr,
}

impl Door {
    async fn serve(&self, stream: TcpStream) {
        let always =
            |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
        let service = ServiceBuilder::new()
            .layer(always(CACHE_CONTROL, "no-store"))
            .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
            // A bug in what is shown ends one answer with a 500.
            .layer(CatchPanicLayer::new())
            .service_fn(|request: Request<Incoming>| async move {
                Ok::<_, Infallible>(self.answer(&request).await)
            });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(false)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
            tracing::debug!(%error, from = %self.from, "admin connection ended early");
        }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/healthz" if reads => text(StatusCode::OK, PLAIN, "alive\n".to_owned()),
            "/readyz" if reads => ready(&self.admin.gateway.readiness().await),
            "/metrics" if reads => {
                let metrics = process::with_own_figures(&self.admin.metrics.render());
                text(StatusCode::OK, OPEN_METRICS, metrics)
            }
            "/-/reload" if self.scope == Scope::Everything && request.method() == Method::POST => {
                if let Some((status, why)) = self.refuses(request) {
                    return json(status, &json!({ "reloaded": false, "error": why }));
                }
                match self.admin.gateway.reload().await {
                    Ok(said) => json(StatusCode::OK, &json!({ "reloaded": true, "message": said })),
                    Err(why) => unable(&json!({ "reloaded": false, "error": why })),
                }
            }
            "/-/capture" if self.scope == Scope::Everything => {
                if let Some((status, why)) = self.refuses(request) {
                    return json(status, &json!({ "error": why }));
                }
                match self.admin.gateway.capture(Capture::of(request)).await {
                    Ok(said) => json(StatusCode::OK, &said),
                    Err(why) => unable(&json!({ "error": why })),
                }
            }
            _ => text(StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned()),
        }
    }

    /// Why what changes something is refused: only this machine may ask, only by name of this machine, and no browser on its behalf.
    fn refuses<B>(&self, request: &Request<B>) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        if !self.from.ip().to_canonical().is_loopback() {
            return Some((StatusCode::FORBIDDEN, "only this machine may ask"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !is_ours(host, self.own) {
            return Some((StatusCode::MISDIRECTED_REQUEST, "Host is not this machine"));
        }
        if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
            return Some((StatusCode::FORBIDDEN, "browsers may not ask"));
        }
        // No form and no link in a browser can set it.
        if headers.get("gatepost-admin").is_none_or(|value| value != "1") {
            return Some((StatusCode::FORBIDDEN, "the header Gatepost-Admin: 1 is missing"));
        }
        None
    }
}

/// Whether `host` is a loopback address, `localhost` or the address that we listen on. A name that was made to point
/// here (DNS rebinding) is none of them.
fn is_ours(host: &str, own: Option<SocketAddr>) -> bool {
    let authority = host.parse::<http::uri::Authority>();
    let Ok(name) = authority.as_ref().map(|a| a.host().trim_matches(['[', ']'])) else {
        return false;
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || own.is_some_and(|own| own.ip() == ip))
}

fn ready(conditions: &[Condition]) -> Response<Full<Bytes>> {
    let ready = conditions.iter().all(|condition| condition.holds);
    let shown: Vec<_> = conditions
        .iter()
        .map(|Condition { kind, holds, reason, message }| {
            let status = if *holds { "True" } else { "False" };
            json!({ "type": kind, "status": status, "reason": reason, "message": message })
        })
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &json!({ "ready": ready, "conditions": shown }))
}

fn unable(why: &serde_json::Value) -> Response<Full<Bytes>> {
    json(StatusCode::UNPROCESSABLE_ENTITY, why)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    text(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// After a failed accept: the system has nothing to give just now.
const PAUSE: Duration = Duration::from_millis(100);
