//! `gatepost run`: the gateway in the foreground.

use std::{path::Path, process::ExitCode, time::Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{CONFIG, NO, config::refuse, out};
use crate::{
    app::{self, App, Loader, StartError},
    audit,
    config::{self, Config, Env, Loaded, Options, Store},
    event::Timestamp,
    server::tls::Facts,
    telemetry::{finish_log, start_logging},
    units::many,
};

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    /// Loads, starts, and runs until told to stop.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let Self {} = self;
        run(file).unwrap_or_else(|code| code)
    }
}

fn run(file: Option<&Path>) -> Result<ExitCode, ExitCode> {
    let since = Instant::now();
    let path = config::find(file, &Env::of_process()).map_err(|report| refuse(&report))?;
    let found = config::load(&path, &Options::from_env()).map_err(|report| refuse(&report))?;
    let Loaded { config, warnings, .. } = found;
    start_logging(&config.log.level, config.log.format).map_err(|why| out::fail(CONFIG, &why))?;
    if warnings.warnings() > 0 {
        out::say(&warnings.human(out::colour()));
    }
    allow_files(config.limits.connections.get());
    let again = path.clone();
    let loader: Loader = Box::new(move || match config::load(&again, &Options::from_env()) {
        Ok(loaded) => Ok(loaded.config),
        Err(report) => Err(report.human(false)),
    });
    Ok(on_runtime(async move {
        let app = App::start(config, Some(loader)).await?;
        let say = if out::is_terminal() { greet } else { announce };
        app::run_until_signalled(app, |app| say(app, &path, since)).await
    }))
}

/// Takes as many open files as the process may have: most systems let it begin with a thousand (`getrlimit(2)`), for the sake of
/// programs that use `select(2)`. Says where that is less than its connections alone may need.
fn allow_files(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let taken = setrlimit(Resource::Nofile, limit);
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    if let Some(files) =
        current.filter(|files| *files < connections.saturating_add(FILES_BESIDE) as u64)
    {
        let error = taken.err();
        tracing::warn!(
            files,
            connections,
            ?error,
            "fewer files may be open than limits.connections needs: raise the limit of the process (LimitNOFILE=, ulimit -n), or lower limits.connections"
        );
    }
}

/// Files that are open beside the connections of senders: those of workers and stores, and some to apps.
const FILES_BESIDE: usize = 100;

/// Runs `work` on this thread; a start that fails ends with its sentence. Events are served by threads of their own.
pub(super) fn on_runtime(work: impl Future<Output = Result<ExitCode, StartError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return out::fail(NO, &format!("the runtime did not start: {error}")),
    };
    let ended = runtime.block_on(work);
    // Dropped, it would wait for what hangs on another thread.
    runtime.shutdown_background();
    finish_log();
    ended.unwrap_or_else(|error| out::fail(NO, &error.to_string()))
}

/// Where the record of the configuration is, and how it is kept.
pub(super) fn audit_params(file: Option<&Path>) -> Result<audit::Params, String> {
    let options = Options { offline: true, ..Options::from_env() };
    let loaded = config::load_found(file, &options).map_err(|report| report.human(false))?;
    Ok(loaded.config.audit)
}

/// Off a terminal, what a person needs to know is one log line.
fn announce(app: &App, path: &Path, _: Instant) {
    let config = app.config();
    tracing::info!(
        kind = "start",
        version = env!("CARGO_PKG_VERSION"),
        config = %path.display(),
        fingerprint = &*config.fingerprint,
        listening = ?app.addresses,
        admin = %app.admin,
        sources = config.sources.len(),
        upstreams = config.upstreams.len(),
        workers = config.server.workers,
        "ready"
    );
}

/// What a person needs to know, once, in the order in which they would check it.
fn greet(app: &App, path: &Path, since: Instant) {
    let config = app.config();
    let (version, path) = (env!("CARGO_PKG_VERSION"), path.display());
    let (sources, upstreams) = (config.sources.len(), config.upstreams.len());
    let counts = format!("{}, {}", many(sources, "source"), many(upstreams, "upstream"));
    out::say(&format!("gatepost {version}  config {path} ({counts})"));
    out::say(&format!("  record    {}", config.audit.dir.display()));
    out::say(&format!("  dedup     {}", store(&config)));
    for line in certificates(&app.certificates) {
        out::say(&format!("  tls       {line}"));
    }
    for address in &app.addresses {
        out::say(&format!("  listening {address}"));
    }
    for line in source_lines(&config) {
        out::say(&format!("              POST {line}"));
    }
    out::say(&format!("  admin     http://{}  (/healthz /readyz /metrics)", app.admin));
    out::say(&format!("  shadow    {}", shadowed(&config)));
    out::say(&format!("ready in {:.2} s", since.elapsed().as_secs_f64()));
}

/// One line per source: path, name, secrets, where its events go.
fn source_lines(config: &Config) -> Vec<String> {
    let width = config.sources.iter().map(|s| s.path.len()).max().unwrap_or(0);
    let names = config.sources.iter().map(|s| s.name.as_str().len()).max().unwrap_or(0);
    let line = |source: &config::Source| {
        let (path, name) = (&source.path, source.name.as_str());
        let (secrets, to) = (many(source.secrets.len(), "secret"), destinations(source));
        format!("{path:width$}  {name:names$}  {secrets:<10} → {to}")
    };
    config.sources.iter().map(line).collect()
}

fn store(config: &Config) -> String {
    match &config.dedup {
        Store::Memory => "memory (forgotten at exit)".to_owned(),
        Store::Embedded => format!("embedded in {}", config.storage.dir.display()),
        Store::Redis(settings) => format!("redis {}", settings.url),
    }
}

/// One line per certificate: its names, and for how long it holds.
fn certificates(all: &[Facts]) -> Vec<String> {
    if all.is_empty() {
        return vec!["none: a proxy in front of us terminates TLS".to_owned()];
    }
    let now = Timestamp::now();
    let line = |Facts { names, not_after, .. }: &Facts| {
        let end = not_after.to_string();
        let day = end.split('T').next().unwrap_or_default();
        let left = not_after.as_secs().saturating_sub(now.as_secs()) / 86_400;
        format!("{}  valid until {day} ({left} days)", names.join(", "))
    };
    all.iter().map(line).collect()
}

fn shadowed(config: &Config) -> String {
    let shadowed: Vec<_> =
        config.sources.iter().filter(|s| !s.enforce).map(|s| s.name.as_str()).collect();
    match shadowed.as_slice() {
        [] => "nothing; every source enforces".to_owned(),
        names => format!("{}: what does not verify is forwarded, marked", names.join(", ")),
    }
}

/// Where a source's events go, each upstream once.
fn destinations(source: &config::Source) -> String {
    let targets = source.routes.as_slice().iter().filter_map(|route| route.target.as_ref());
    let mut names: Vec<&str> = Vec::new();
    for name in targets.map(|target| target.upstream.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "nowhere".to_owned() } else { names.join(", ") }
}
