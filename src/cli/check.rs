//! `gatepost check`: whether a configuration can be run here, and everything that is odd about it.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, IsTerminal as _, stdout},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{CONFIG, NO, out};
use crate::{
    config::{self, Config, Loaded, Options, Report, SecretOrigin, Store, counted},
    dedup::{DedupStore as _, Redis, RedisSettings},
    deliver::{Sign, StandardKey, UpstreamParams},
    event::{Name, Timestamp},
    secret::Secret,
    units::many,
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

/// One line of the result: what was looked at, `ok`, `warn` or `fail`, and what was found.
struct Section(String, &'static str, String);

/// How long an upstream may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

impl Args {
    /// Checks and prints. 0 valid, 1 warnings denied or something does not work here, 78 invalid.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let options = Options { offline: self.offline, ..Options::from_env() };
        let named = self.file.as_deref().or(file);
        match config::load_found(named, &options) {
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
        let config = &loaded.config;
        let mut sections = vec![contents(loaded)];
        if !self.offline {
            sections.extend([secrets(&loaded.secrets), ports(config)]);
            sections.extend(public_keys(config));
            sections.extend(store(config));
            sections.extend(upstreams(&config.upstreams));
        }
        let count = |word| sections.iter().filter(|section| section.1 == word).count();
        let (failed, warnings) = (count("fail"), count("warn") + loaded.warnings.warnings());
        if !self.quiet || failed + warnings > 0 {
            match self.format {
                Format::Human => human(loaded, &sections, failed, warnings),
                Format::Json => out::line(&format!("{:#}", json_of(loaded, &sections))),
            }
        }
        let denied = self.deny_warnings && warnings > 0;
        if failed > 0 || denied { ExitCode::from(NO) } else { ExitCode::SUCCESS }
    }
}

fn human(loaded: &Loaded, sections: &[Section], failed: usize, warnings: usize) {
    let width = sections.iter().map(|section| section.0.chars().count()).max().unwrap_or(0).max(16);
    for Section(name, word, detail) in sections {
        out::line(&format!("{name:width$}  {word:4} {detail}"));
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
    let section = |Section(name, status, detail): &Section| json!({ "name": name, "status": status, "detail": detail });
    let mut object = loaded.warnings.json();
    if let Some(map) = object.as_object_mut() {
        map.insert("sections".into(), sections.iter().map(section).collect());
    }
    object
}

fn contents(loaded: &Loaded) -> Section {
    let (sources, upstreams) = (loaded.config.sources.len(), loaded.config.upstreams.len());
    let all =
        [many(sources, "source"), many(loaded.routes.len(), "route"), many(upstreams, "upstream")];
    Section(loaded.warnings.file.clone(), "ok", all.join(", "))
}

fn secrets(secrets: &[SecretOrigin]) -> Section {
    let now = Timestamp::now().as_secs();
    let one = |secret: &SecretOrigin| {
        let print = secret.secret.as_ref().map_or("(not read)".into(), Secret::fingerprint);
        let days = secret.expires.map(|at| (at.as_secs() - now).div_euclid(86_400));
        let expires = match days {
            Some(days) if days < 0 => " (expired)".to_owned(),
            Some(days) => format!(" (expires in {days} days)"),
            None => String::new(),
        };
        format!("{} {print}{expires}", secret.name)
    };
    let listed: Vec<_> = secrets.iter().map(one).collect();
    let detail = format!("{} readable   {}", secrets.len(), listed.join(" · "));
    Section("secrets".into(), "ok", detail)
}

/// What apps verify with, where that is no secret.
fn public_keys(config: &Config) -> Vec<Section> {
    let signs = config.sources.iter().flat_map(|source| source.signs.iter());
    let of = |(upstream, sign): (&Name, &Sign)| match sign {
        Sign::Standard(keys) => {
            let keys: Vec<_> = keys.iter().filter_map(StandardKey::public).collect();
            (!keys.is_empty()).then(|| (upstream.clone(), keys.join(" ")))
        }
        Sign::Native { .. } => None,
    };
    let keys: BTreeMap<_, _> = signs.filter_map(of).collect();
    let section = |(upstream, keys)| Section(format!("public key {upstream}"), "ok", keys);
    keys.into_iter().map(section).collect()
}

/// Whether we could listen. A port that is taken may be our own gateway's, so that is a warning.
fn ports(config: &Config) -> Section {
    let admin = [Some(config.admin.listen), config.admin.metrics_listen];
    let all: Vec<SocketAddr> =
        config.server.listen.iter().copied().chain(admin.into_iter().flatten()).collect();
    let refused = |address: &SocketAddr| {
        Some(match TcpListener::bind(address).err()?.kind() {
            ErrorKind::AddrInUse => format!("{address} is in use (by a running gateway?)"),
            ErrorKind::PermissionDenied => format!(
                "{address} needs CAP_NET_BIND_SERVICE, socket activation, or a port above 1023"
            ),
            kind => format!("{address}: {kind}"),
        })
    };
    let refused: Vec<_> = all.iter().filter_map(refused).collect();
    let ports: Vec<_> = all.iter().map(|address| format!(":{}", address.port())).collect();
    if refused.is_empty() {
        Section("ports".into(), "ok", ports.join(" "))
    } else {
        Section("ports".into(), "warn", refused.join("; "))
    }
}

/// Whether the shared store can be used now.
fn store(config: &Config) -> Option<Section> {
    let Store::Redis(settings) = &config.dedup else { return None };
    Some(match probe_redis(settings) {
        Ok(summary) => Section("redis".into(), "ok", summary),
        Err(why) => Section("redis".into(), "fail", format!("{}: {why}", settings.url)),
    })
}

/// A Redis that answers, and how.
fn probe_redis(settings: &RedisSettings) -> Result<String, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let redis = Redis::connect(settings, &tracker, &stop).map_err(|e| e.to_string())?;
        redis.health().await.map_err(|e| e.to_string())
    })
}

/// An upstream that is away is a warning: it may be started later.
fn upstreams(upstreams: &[UpstreamParams]) -> Vec<Section> {
    let probe = |upstream: &UpstreamParams| {
        let away =
            upstream.urls.iter().filter_map(|url| Some(format!("{} ({url})", unreachable(url)?)));
        let away: Vec<_> = away.collect();
        let detail =
            format!("{}: {}: not fatal, its events would get 502", upstream.name, away.join(", "));
        (!away.is_empty()).then(|| Section("upstreams".into(), "warn", detail))
    };
    let away: Vec<_> = thread::scope(|scope| {
        let started: Vec<_> = upstreams.iter().map(|u| scope.spawn(move || probe(u))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    if away.is_empty() && !upstreams.is_empty() {
        return vec![Section("upstreams".into(), "ok", format!("{} reachable", upstreams.len()))];
    }
    away
}

fn unreachable(url: &http::Uri) -> Option<String> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let Ok(mut addresses) = (host, port).to_socket_addrs() else {
        return Some("the name cannot be resolved".into());
    };
    let mut last = "the name has no address".to_owned();
    let found = addresses.any(|address| {
        TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|error| last = error.kind().to_string())
            .is_ok()
    });
    (!found).then_some(last)
}

/// What is printed here is data, so colour depends on standard output.
fn colour() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
