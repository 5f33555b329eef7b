//! `gatepost send`: signs a test event with the source's own scheme and secret, and says how it ended.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::task::JoinSet;

use super::{
    NEEDS_ANSWER, NO, NO_GATEWAY, NOT_FOUND, OK, out,
    payload::Payload,
    run,
    sender::{Ended, Sender, tally},
};
use crate::{
    config::{Config, Source, TlsMode},
    event::{Receipt, Timestamp},
    json,
    server::internal_ca,
    verify::Presented,
};

/// Examples:
///   gatepost send stripe invoice.paid --times 50 --parallel 10
///   gatepost send payments refund.initiated --set data.amount=4200
///   gatepost send github push --signature forged
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The source, as the configuration names it
    source: String,
    /// The event's type
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Send this file (`-`: standard input) instead of an example
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Set a value of the example: data.object.amount=4200
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Where to send; default: where this configuration listens
    #[arg(long, value_name = "URL")]
    to: Option<Uri>,
    /// How many copies
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    parallel: u32,
    /// The event's id; default: a new one
    #[arg(long)]
    id: Option<String>,
    /// What kind of signature
    #[arg(long, value_enum, default_value_t = Signature::Valid)]
    signature: Signature,
    /// Change the body after signing
    #[arg(long)]
    tamper: bool,
    /// Print the request instead of sending it
    #[arg(long)]
    show_request: bool,
    /// PEM of a CA to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send to another machine without asking
    #[arg(long)]
    yes: bool,
}

/// What kind of signature is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Signature {
    /// The real one.
    Valid,
    /// Made with another secret.
    Forged,
    /// None at all.
    Missing,
    /// Made an hour ago.
    Stale,
}

impl Args {
    /// Sends and reports.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let config = match run::load(file) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let Some(source) = config.sources.iter().find(|s| s.name.as_str() == self.source) else {
            let known: Vec<_> = config.sources.iter().map(|s| s.name.as_str()).collect();
            return out::fail(
                NOT_FOUND,
                &format!("no source {:?}; there are {}", self.source, known.join(", ")),
            );
        };
        let request = match self.prepare(source) {
            Ok(request) => request,
            Err(why) => return out::fail(NO, &why),
        };
        let to = match self.to.clone().map_or_else(|| own_url(&config, source), Ok) {
            Ok(to) => to,
            Err(why) => return out::fail(NO, &why),
        };
        if self.show_request {
            request.print(&to);
            return ExitCode::SUCCESS;
        }
        if !self.yes && !is_loopback(&to) {
            return out::fail(
                NEEDS_ANSWER,
                &format!("{to} is another machine; add --yes to send there"),
            );
        }
        self.send(&config, &to, &request)
    }

    /// The request to send, signed as asked.
    fn prepare(&self, source: &Source) -> Result<Prepared, String> {
        let id = self.id.clone().unwrap_or_else(|| new_id(source));
        let kind = self.kind.as_deref().unwrap_or_else(|| default_kind(&source.provider));
        let mut payload =
            Payload::new(&source.provider, source.language.identify.parts(), &id, kind)?;
        for assignment in &self.set {
            let (path, value) = assignment.split_once('=').ok_or("--set takes PATH=VALUE")?;
            payload.set(&json::Path::parse(path)?, value);
        }
        if let Some(path) = source.verifier.signed_time_in_body() {
            payload.set(path, &Timestamp::now().as_millis().to_string());
        }
        let body = match &self.body {
            Some(path) => read(path)?,
            None => payload.body(),
        };
        Prepared::new(source, payload.headers, body, self.signature, self.tamper)
    }

    fn send(&self, config: &Config, to: &Uri, request: &Prepared) -> ExitCode {
        let ca = self.ca.clone().or_else(|| own_ca(config));
        let sender = match Sender::new(ca.as_deref()) {
            Ok(sender) => sender,
            Err(why) => return out::fail(NO, &why),
        };
        let Ok(runtime) = tokio::runtime::Runtime::new() else {
            return out::fail(NO, "the runtime did not start");
        };
        let ended = runtime.block_on(many(&sender, to, request, self.times, self.parallel));
        report(&ended);
        match ended.iter().all(|(end, _)| end.status == 0) {
            true => ExitCode::from(NO_GATEWAY),
            false => {
                ExitCode::from(if ended.iter().all(|(end, _)| end.status < 300) { OK } else { NO })
            }
        }
    }
}

/// A request, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    /// Signs `body` for `source`.
    ///
    /// # Errors
    /// A sentence where the source's scheme cannot be signed.
    pub(crate) fn new(
        source: &Source,
        mut headers: HeaderMap,
        body: Bytes,
        signature: Signature,
        tamper: bool,
    ) -> Result<Self, String> {
        let now = Timestamp::now();
        let received_at = match signature {
            Signature::Stale => Timestamp::from_millis(now.as_millis() - 3_600_000),
            Signature::Valid | Signature::Forged | Signature::Missing => now,
        };
        // A forged signature is a real one of another body: well formed, and wrong.
        let signed = if signature == Signature::Forged {
            Bytes::from_static(b"forged")
        } else {
            body.clone()
        };
        if signature != Signature::Missing {
            let presented = Presented {
                method: "POST",
                url: &source.public_url,
                target: &source.path,
                headers: &headers,
                body: &signed,
                received_at,
            };
            let signatures = source.verifier.sign(&presented)?;
            headers.extend(signatures);
        }
        let body = if tamper { [&body[..], b" "].concat().into() } else { body };
        Ok(Self { headers, body })
    }

    fn print(&self, to: &Uri) {
        out::line(&format!("POST {to}"));
        for (name, value) in &self.headers {
            out::line(&format!("{name}: {}", value.to_str().unwrap_or("…")));
        }
        out::line(&format!("\n{}", String::from_utf8_lossy(&self.body)));
    }
}

/// Sends `times` copies, at most `parallel` at once.
pub(crate) async fn many(
    sender: &Sender,
    to: &Uri,
    request: &Prepared,
    times: u32,
    parallel: u32,
) -> Vec<(Ended, Duration)> {
    let mut running = JoinSet::new();
    let mut ended = Vec::new();
    for _ in 0..times {
        if running.len() >= parallel.max(1) as usize {
            ended.extend(running.join_next().await.and_then(Result::ok));
        }
        let (sender, to, request) = (sender.clone(), to.clone(), request.clone());
        running.spawn(async move { sender.post(&to, request.headers, request.body).await });
    }
    while let Some(end) = running.join_next().await {
        ended.extend(end.ok());
    }
    ended
}

/// Prints what became of the copies, and how long they took.
fn report(ended: &[(Ended, Duration)]) {
    out::line(&format!("sent {}", ended.len()));
    for (end, count) in tally(ended) {
        let status = if end.status == 0 { "---".to_owned() } else { end.status.to_string() };
        out::line(&format!("  {status} {:<22} {count:>5}", end.outcome));
    }
    let mut times: Vec<_> = ended.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    let at =
        |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    if let (Some(p50), Some(p99)) = (at(50), at(99)) {
        out::line(&format!(
            "p50 {:.1} ms   p99 {:.1} ms",
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3
        ));
    }
}

fn read(path: &Path) -> Result<Bytes, String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map(Bytes::from).map_err(|e| format!("{}: {e}", path.display()))
}

/// A new id in a form that every provider's would have.
pub(crate) fn new_id(source: &Source) -> String {
    let random = Receipt::random().to_string();
    let tail = random.trim_start_matches("req_");
    if source.language.identify.parts().id_is_integer {
        return Timestamp::now().as_millis().to_string();
    }
    format!("evt_test_{tail}")
}

/// A type that the provider is known for.
fn default_kind(provider: &str) -> &'static str {
    match provider {
        "stripe" => "invoice.paid",
        "github" => "pull_request.opened",
        "gitlab" => "Push Hook",
        "shopify" => "orders/create",
        "slack" => "app_mention",
        "paddle" => "transaction.completed",
        "square" => "payment.created",
        "linear" => "Issue.create",
        _ => "payment.succeeded",
    }
}

/// Where this configuration's own gateway answers for `source`.
pub(crate) fn own_url(config: &Config, source: &Source) -> Result<Uri, String> {
    let listen = config.server.listen.first().ok_or("the configuration listens nowhere")?;
    url(config, *listen, source)
}

/// The same, at an address that is known to be right.
pub(crate) fn url(config: &Config, listen: SocketAddr, source: &Source) -> Result<Uri, String> {
    let port = listen.port();
    let text = match config.tls.mode {
        TlsMode::None => {
            format!("http://{}{}", SocketAddr::new(reachable(listen.ip()), port), source.path)
        }
        TlsMode::Internal => format!("https://localhost:{port}{}", source.path),
        TlsMode::Files(_) => {
            let host = config.server.hosts.first().map_or("localhost", String::as_str);
            format!("https://{host}:{port}{}", source.path)
        }
    };
    text.parse().map_err(|e| format!("{text}: {e}"))
}

/// An address to connect to for one that is listened on.
pub(super) fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        other => other,
    }
}

fn own_ca(config: &Config) -> Option<PathBuf> {
    (config.tls.mode == TlsMode::Internal).then(|| internal_ca(&config.storage.dir))
}

fn is_loopback(to: &Uri) -> bool {
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
