//! `gatepost dev`: a throw-away gateway with every preset mounted. A temporary directory, a self-made certificate, the
//! embedded store; all of it gone at the end unless `--keep` says otherwise.

mod demo;

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;
use tempfile::TempDir;

use super::{out, run, test_key};
use crate::{
    app::{App, StartError, run_until_signalled},
    config::{self, Config, Options},
    event::Receipt,
    providers::{self, Preset},
    secret::Secret,
    server::tls::ca_file,
    telemetry::{LogFormat, start_logging},
    verify::{LiveSecret, Verifier},
};

/// Throw-away gateway for your machine: nothing to configure    (gatepost dev --to localhost:3000)
///
/// Examples:
///   gatepost dev --to localhost:3000
///   gatepost dev --demo
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Your app: localhost:3000, or a URL; default: a demo app of our own
    #[arg(long, value_name = "URL", value_parser = app_url)]
    to: Option<Uri>,
    /// Show what the gateway does: 50 equal events at once and a forged one; then end
    #[arg(long)]
    demo: bool,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where health and metrics are
    #[arg(long, default_value = "127.0.0.1:9480", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Keep everything here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(&self) -> ExitCode {
        // The demo tells its story itself, its refusal included.
        let level = if self.demo { "error" } else { "info" };
        if let Err(why) = start_logging(level, LogFormat::Auto) {
            return out::fail(super::NO, &why);
        }
        run::on_runtime(self.serve())
    }

    async fn serve(&self) -> Result<ExitCode, StartError> {
        let demo_app = demo::App::start().await.map_err(|e| StartError(e.to_string()))?;
        let to = self.to.clone().unwrap_or_else(|| demo_app.url());
        // The demo takes whatever ports are free; people want the same ones every time.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listen, admin) = if self.demo { (any, any) } else { (self.listen, self.admin) };
        let only = self.demo.then_some(demo::SOURCE);
        let setup = Setup::new(self.keep.clone(), only).map_err(|e| StartError(e.to_string()))?;
        let app = App::start(setup.config(&to, listen, admin).map_err(StartError)?, None).await?;
        if self.demo {
            return demo::show(&app, &demo_app).await;
        }
        let port = app.addresses.first().map_or(listen.port(), SocketAddr::port);
        run_until_signalled(app, |_| setup.greet(&to, port)).await
    }
}

/// `localhost:3000`, `:3000` and whole URLs.
fn app_url(text: &str) -> Result<Uri, String> {
    let text =
        text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("localhost:{port}"));
    let whole = if text.contains("://") { text } else { format!("http://{text}") };
    let uri: Uri = whole.parse().map_err(|e| format!("{e}"))?;
    let usable = uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
    usable.then_some(uri).ok_or_else(|| format!("{whole} is not an http(s) URL"))
}

/// The throw-away configuration: a directory, and presets, each with a made-up secret.
#[derive(Debug)]
struct Setup {
    dir: PathBuf,
    temporary: Option<TempDir>,
    secrets: Vec<(&'static Preset, String)>,
}

impl Setup {
    /// With all presets, or with one.
    fn new(keep: Option<PathBuf>, only: Option<&str>) -> std::io::Result<Self> {
        let temporary = match keep {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("gatepost-dev-").tempdir()?),
        };
        let dir = keep.or_else(|| Some(temporary.as_ref()?.path().into())).unwrap_or_default();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let presets = providers::catalogue().filter(|p| only.is_none_or(|only| p.name == only));
        let secrets = presets.filter_map(|preset| Some((preset, made_up(preset, &dir)?)));
        let secrets = secrets.collect();
        Ok(Self { dir, temporary, secrets })
    }

    fn file(&self) -> PathBuf {
        self.dir.join("gatepost.yaml")
    }

    /// Writes the configuration and reads it as any other.
    fn config(&self, to: &Uri, listen: SocketAddr, admin: SocketAddr) -> Result<Config, String> {
        let path = self.file();
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(self.yaml(to, listen, admin).as_bytes()))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let loaded = config::load(&path, &Options::from_env());
        loaded.map(|loaded| loaded.config).map_err(|report| report.human(false))
    }

    fn yaml(&self, to: &Uri, listen: SocketAddr, admin: SocketAddr) -> String {
        let dir = self.dir.display();
        let source = |(preset, secret): &(&Preset, String)| {
            let (name, params) = (&preset.name, params(preset));
            format!("  {name}:\n    provider: {name}\n    secret: {secret:?}\n{params}")
        };
        let route = |(preset, _): &(&Preset, String)| {
            format!("  - {{ source: {}, to: app }}\n", preset.name)
        };
        let sources: String = self.secrets.iter().map(source).collect();
        let routes: String = self.secrets.iter().map(route).collect();
        format!(
            "version: 1\nserver:\n  host: localhost\n  listen: \"{listen}\"\ntls:\n  mode: internal\n\
             storage:\n  dir: \"{dir}\"\n  min_free: 1MiB\nadmin:\n  listen: \"{admin}\"\n\
             audit:\n  dir: \"{dir}/audit\"\nupstreams:\n  app: \"{to}\"\nsources:\n{sources}\
             routes:\n{routes}"
        )
    }

    /// What a person needs to know. The secrets are throw-away ones, made to be shown.
    fn greet(&self, to: &Uri, port: u16) {
        let end = if self.temporary.is_some() { "gone at the end" } else { "kept" };
        let dir = self.dir.display();
        out::say(&format!("Ready. Every event goes to {to}. Record and secrets: {dir} ({end})"));
        for (Preset { name, .. }, secret) in &self.secrets {
            if !SHOWN.contains(&&**name) {
                continue;
            }
            out::say(&format!("  {name:<18} https://localhost:{port}/{name:<18} {secret}"));
        }
        let more = self.secrets.len().saturating_sub(SHOWN.len());
        out::say(&format!(
            "  and {more} more providers, each under its name; secrets are in the file"
        ));
        let ca = ca_file(&self.dir);
        out::say(&format!("  certificate authority   {}", ca.display()));
        let file = self.file();
        out::say(&format!(
            "Try:  gatepost -c {} send stripe invoice.paid --times 3",
            file.display()
        ));
    }
}

/// What a source of it has to say besides its secret: examples.
fn params(preset: &Preset) -> String {
    let params = preset.needed_params();
    let params: Vec<_> = params.map(|(key, param)| format!("{key}: {:?}", param.example)).collect();
    if params.is_empty() {
        String::new()
    } else {
        format!("    params: {{ {} }}\n", params.join(", "))
    }
}

/// A secret: random, in the form that the provider's own have, or the public key of a test key that is kept in `dir`. None,
/// where nothing of the kind can be made.
fn made_up(preset: &Preset, dir: &Path) -> Option<String> {
    let params = preset.needed_params();
    let options = providers::Options {
        params: params.map(|(name, param)| (name.clone(), param.example.clone())).collect(),
        ..Default::default()
    };
    let language =
        providers::compile(&preset.verify, &preset.event, &preset.handshake, &options).ok()?;
    if let Some(kept) = test_key::in_storage(&Verifier::without_keys(&language.schemes), dir) {
        return kept.ok()?.0.public_pem().ok();
    }
    let random = format!("{}{}", Receipt::random(), Receipt::random()).replace("req_", "");
    let prefix = preset.secret.prefix.as_deref().unwrap_or_default();
    let fits = |secret: &String| {
        let live = LiveSecret { secret: Secret::new(secret.as_str()), expires: None, id: None };
        Verifier::new(language.schemes.clone(), vec![live], "https://localhost").is_ok()
    };
    let user = format!("gatepost:{random}");
    let forms = [random.clone(), STANDARD.encode(&random), hex::encode(&random), user];
    forms.into_iter().map(|form| format!("{prefix}{form}")).find(fits)
}

/// Providers that are named at the start; all are in the file.
const SHOWN: [&str; 10] = [
    "github",
    "gitlab",
    "linear",
    "paddle",
    "shopify",
    "slack",
    "square",
    "standard-webhooks",
    "stripe",
    "svix",
];
