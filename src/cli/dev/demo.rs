//! `gatepost dev --demo`: the promise, shown on one machine in one second. Real TLS, real signatures, a real record.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    app::{self, StartError, Stopped},
    audit::verify,
    cli::{
        NO, out,
        payload::{Payload, new_id},
        sender::{Prepared, Signature, client, own, send, tally},
    },
    config::Source,
    units::many,
};

/// What sends in the demo.
pub(super) const SOURCE: &str = "stripe";
const COPIES: u32 = 50;

/// Sends 50 copies of a signed event at once and a forged one, stops the gateway, verifies its record, and says how all of
/// that went. The exit code says whether it went as promised.
pub(super) async fn show(app: &Arc<app::App>, demo_app: &App) -> Result<ExitCode, StartError> {
    let config = app.config();
    let stripe = config.sources.iter().find(|source| source.name.as_str() == SOURCE);
    let stripe = stripe.ok_or_else(|| StartError("the demo has no source `stripe`".into()))?;
    let listen = app.addresses.first().ok_or_else(|| StartError("nothing listens".into()))?;
    let (to, tls) = own(&config, *listen, stripe).map_err(StartError)?;
    let client = client(&to, tls).map_err(StartError)?;
    let (id, event) = event(stripe, Signature::Valid).map_err(StartError)?;
    let (_, forged) = self::event(stripe, Signature::Forged).map_err(StartError)?;
    out::line(&format!(
        "sending {COPIES} copies of {id} (invoice.paid) at once, and a forged one, to {to}"
    ));
    let mut ended = send(&client, &event, COPIES, COPIES).await;
    ended.extend(send(&client, &forged, 1, 1).await);
    let counts = tally(&ended);
    let count = |status, outcome: &str| counts.get(&(status, outcome.to_owned())).copied();
    let [accepted, duplicate, refused] =
        [count(200, "accepted"), count(200, "duplicate"), count(401, "refused")]
            .map(Option::unwrap_or_default);
    let received = demo_app.received.load(Ordering::Relaxed);
    let stopped = app.stop().await;
    let record = verify_record(&config.audit.dir);
    out::line(&format!("  accepted      {accepted:>3}"));
    out::line(&format!("  duplicate     {duplicate:>3}"));
    out::line(&format!("  refused       {refused:>3}"));
    out::line(&format!("  app received  {received:>3}"));
    out::line(&match &record {
        Ok(summary) => format!("  record verified  ({summary})"),
        Err(why) => format!("  RECORD BROKEN: {why}"),
    });
    let kept = (accepted, duplicate, refused, received) == (1, COPIES as usize - 1, 1, 1);
    if kept && record.is_ok() && stopped == Stopped::Clean {
        out::line("exactly one.");
        return Ok(ExitCode::SUCCESS);
    }
    for ((status, outcome), count) in &counts {
        out::line(&format!("  {status} {outcome}: {count}"));
    }
    Ok(out::fail(NO, "this is not what was promised"))
}

fn event(source: &Source, signature: Signature) -> Result<(String, Prepared), String> {
    let plan = &source.language.identify.parts;
    let id = new_id(plan);
    let payload = Payload::new(&source.provider, plan, Some(&id), Some("invoice.paid"))?;
    let body = payload.body();
    Ok((id, Prepared::new(source, payload, body, signature, None)?))
}

/// What the record holds, if it is what was written.
fn verify_record(dir: &Path) -> Result<String, String> {
    let report = verify::verify(dir, None, None)?;
    match report.findings.first() {
        None => {
            let checkpoints = many(report.checkpoints, "checkpoint");
            Ok(format!("{} records, {checkpoints}", report.records))
        }
        Some(finding) => Err(format!("record {}: {}", finding.record, finding.problem)),
    }
}

/// The demo app: answers 200 to everything and counts what it received. Runs until it is dropped.
#[derive(Debug)]
pub(super) struct App {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl App {
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&received)));
        Ok(Self { address, received, _accepting: accepting })
    }

    pub(super) fn url(&self) -> Uri {
        let authority = self.address.to_string();
        let url = Uri::builder().scheme("http").authority(authority).path_and_query("/");
        url.build().unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, received: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        let answer = service_fn(move |request| answer(request, Arc::clone(&received)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // A connection that breaks is the gateway's to report.
        connections.spawn(async move { drop(connection.await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    received: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    drop(Limited::new(request.into_body(), 64 << 20).collect().await);
    received.fetch_add(1, Ordering::Relaxed);
    Ok(Response::new(Full::default()))
}
