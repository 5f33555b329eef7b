//! `gatepost check`: whether a configuration can be run here, and everything that is odd about it.

use std::{
    io::{ErrorKind, IsTerminal as _, stdout},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use serde_json::json;

use super::{CONFIG, NO, out};
use crate::{
    config::{self, Config, Loaded, Options, Report, SecretOrigin, Store, counted},
    deliver::UpstreamParams,
    event::Timestamp,
};

/// Validates configuration, secrets, ports, stores and upstreams.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look at the file alone: no secrets, no network, no disk
    #[arg(long)]
    offline: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Warnings end with exit code 1
    #[arg(long)]
    deny_warnings: bool,
    /// Print nothing where all is well
    #[arg(short, long)]
    quiet: bool,
    /// The file, instead of `--config`
    #[arg(value_name = "FILE")]
    file: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs: one document
    Json,
}

/// One line of the result.
struct Section {
    name: String,
    status: Status,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// How long an upstream may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

impl Args {
    /// Checks and prints. 0 valid, 1 warnings denied or something does not work here, 78 invalid.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let options = Options { offline: self.offline, ..Options::from_env() };
        let named = self.file.as_deref().or(file);
        let loaded =
            config::find(named, &options.env).and_then(|path| config::load(&path, &options));
        match loaded {
            Ok(loaded) => self.valid(&loaded),
            Err(report) => {
                self.invalid(&report);
                ExitCode::from(CONFIG)
            }
        }
    }

    fn invalid(&self, report: &Report) {
        match self.format {
            Format::Human => out::line(report.human(colour()).trim_end()),
            Format::Json => out::line(&format!("{:#}", report.json())),
        }
    }

    fn valid(&self, loaded: &Loaded) -> ExitCode {
        let sections = self.sections(loaded);
        let count = |status| sections.iter().filter(|section| section.status == status).count();
        let (failed, warnings) =
            (count(Status::Fail), count(Status::Warn) + loaded.warnings.warnings());
        let denied = self.deny_warnings && warnings > 0;
        if !self.quiet || failed + warnings > 0 {
            match self.format {
                Format::Human => human(loaded, &sections, failed, warnings),
                Format::Json => out::line(&format!("{:#}", json_of(loaded, &sections))),
            }
        }
        if failed > 0 || denied { ExitCode::from(NO) } else { ExitCode::SUCCESS }
    }

    fn sections(&self, loaded: &Loaded) -> Vec<Section> {
        let config = &loaded.config;
        let mut sections = vec![contents(loaded)];
        if self.offline {
            return sections;
        }
        sections.push(secrets(&loaded.secrets));
        sections.push(ports(config));
        sections.extend(store(config));
        sections.extend(upstreams(&config.upstreams));
        sections
    }
}

fn human(loaded: &Loaded, sections: &[Section], failed: usize, warnings: usize) {
    let width =
        sections.iter().map(|section| section.name.chars().count()).max().unwrap_or(0).max(16);
    for Section { name, status, detail } in sections {
        out::line(&format!("{name:width$}  {:4} {detail}", status.word()));
    }
    if !loaded.warnings.problems.is_empty() {
        out::line(&format!("\n{}", loaded.warnings.blocks(colour()).trim_end()));
    }
    out::line(&match (failed, warnings) {
        (0, 0) => "Valid.".to_owned(),
        (0, warnings) => format!("Valid, {}.", counted(0, warnings)),
        (failed, _) => format!("Valid, but it cannot run here: {}.", counted(failed, warnings)),
    });
}

fn json_of(loaded: &Loaded, sections: &[Section]) -> serde_json::Value {
    let mut object = loaded.warnings.json();
    let sections: Vec<_> = sections
        .iter()
        .map(|s| json!({ "name": s.name, "status": s.status.word(), "detail": s.detail }))
        .collect();
    if let Some(map) = object.as_object_mut() {
        map.insert("sections".into(), sections.into());
    }
    object
}

fn contents(loaded: &Loaded) -> Section {
    let (sources, upstreams) = (loaded.config.sources.len(), loaded.config.upstreams.len());
    let many =
        |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let detail =
        [many(sources, "source"), many(loaded.routes.len(), "route"), many(upstreams, "upstream")];
    Section::new(&loaded.warnings.file, Status::Ok, detail.join(", "))
}

fn secrets(secrets: &[SecretOrigin]) -> Section {
    let now = Timestamp::now();
    let one = |secret: &SecretOrigin| {
        let print = secret.secret.as_ref().map_or("(not read)".into(), |s| s.fingerprint());
        let days = secret.expires.map(|at| (at.as_secs() - now.as_secs()).div_euclid(86_400));
        let expires = match days {
            Some(days) if days < 0 => " (expired)".to_owned(),
            Some(days) => format!(" (expires in {days} days)"),
            None => String::new(),
        };
        format!("{} {print}{expires}", secret.name)
    };
    let listed: Vec<_> = secrets.iter().map(one).collect();
    Section::new(
        "secrets",
        Status::Ok,
        format!("{} readable   {}", secrets.len(), listed.join(" · ")),
    )
}

/// Whether we could listen. A port that is taken may be our own gateway's, so that is a warning.
fn ports(config: &Config) -> Section {
    let admin = [Some(config.admin.listen), config.admin.metrics_listen];
    let all: Vec<SocketAddr> =
        config.server.listen.iter().copied().chain(admin.into_iter().flatten()).collect();
    let refused = |address: &SocketAddr| {
        let error = TcpListener::bind(address).err()?;
        Some(match error.kind() {
            ErrorKind::AddrInUse => format!("{address} is in use (by a running gateway?)"),
            ErrorKind::PermissionDenied => format!(
                "{address} needs CAP_NET_BIND_SERVICE, socket activation, or a port above 1023"
            ),
            kind => format!("{address}: {kind}"),
        })
    };
    match all.iter().filter_map(refused).collect::<Vec<_>>() {
        none if none.is_empty() => {
            let ports: Vec<_> = all.iter().map(|address| format!(":{}", address.port())).collect();
            Section::new("ports", Status::Ok, ports.join(" "))
        }
        refused => Section::new("ports", Status::Warn, refused.join("; ")),
    }
}

/// Whether the shared store can be used now.
fn store(config: &Config) -> Option<Section> {
    let Store::Redis(settings) = &config.dedup else { return None };
    Some(match probe_redis(settings) {
        Ok(summary) => Section::new("redis", Status::Ok, summary),
        Err(why) => Section::new("redis", Status::Fail, format!("{}: {why}", settings.url)),
    })
}

/// An upstream that is away is a warning: it may be started later.
fn upstreams(upstreams: &[UpstreamParams]) -> Vec<Section> {
    let probe = |upstream: &UpstreamParams| {
        let away: Vec<_> =
            upstream.urls.iter().filter_map(|url| Some((url, unreachable(url)?))).collect();
        (
            upstream.name.clone(),
            away.iter().map(|(url, why)| format!("{why} ({url})")).collect::<Vec<_>>(),
        )
    };
    let results: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = upstreams.iter().map(|u| scope.spawn(|| probe(u))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let away: Vec<_> = results.iter().filter(|(_, away)| !away.is_empty()).collect();
    let warn = |(name, away): &&(crate::event::Name, Vec<String>)| {
        let detail = format!("{name}: {}: not fatal, its events would get 502", away.join(", "));
        Section::new("upstreams", Status::Warn, detail)
    };
    if away.is_empty() && !upstreams.is_empty() {
        return vec![Section::new(
            "upstreams",
            Status::Ok,
            format!("{} reachable", upstreams.len()),
        )];
    }
    away.iter().map(warn).collect()
}

fn unreachable(url: &http::Uri) -> Option<String> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let mut addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(_) => return Some("the name cannot be resolved".into()),
    };
    let mut last = "the name has no address".to_owned();
    let found = addresses.any(|address| match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => true,
        Err(error) => {
            last = error.kind().to_string();
            false
        }
    });
    (!found).then_some(last)
}

impl Section {
    fn new(name: &str, status: Status, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, detail: detail.into() }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What is printed here is data, so colour depends on standard output.
fn colour() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A Redis that answers, and how.
fn probe_redis(settings: &crate::dedup::RedisSettings) -> Result<String, String> {
    use crate::dedup::{DedupStore as _, Redis};
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let tracker = tokio_util::task::TaskTracker::new();
        let redis = Redis::connect(settings, tracker).map_err(|e| e.to_string())?;
        redis.health().await.map(|health| health.summary).map_err(|e| e.to_string())
    })
}
