//! `gatepost dev`: a throw-away gateway with every preset mounted. A temporary directory, a self-made certificate, the
//! embedded store; all of it gone at the end unless `--keep` says otherwise.

mod app;
mod demo;
mod setup;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use http::Uri;

use super::{out, run};
use crate::{
    app::{App, StartError, run_until_signalled},
    telemetry::{LogFormat, start_logging},
};
use app::DemoApp;
use setup::Setup;

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
    /// Sets up, runs, tidies up.
    pub(super) fn run(&self) -> ExitCode {
        let level = if self.demo { "warn" } else { "info" };
        if let Err(why) = start_logging(level, LogFormat::Auto) {
            return out::fail(super::NO, &why);
        }
        run::on_runtime(self.serve())
    }

    async fn serve(&self) -> Result<ExitCode, StartError> {
        let demo_app = DemoApp::start().await.map_err(|e| StartError(e.to_string()))?;
        let to = self.to.clone().unwrap_or_else(|| demo_app.url());
        // The demo takes whatever ports are free; people want the same ones every time.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listen, admin) = if self.demo { (any, any) } else { (self.listen, self.admin) };
        let setup = Setup::new(self.keep.clone(), &to, listen, admin).map_err(StartError)?;
        let app = App::start(setup.load().map_err(StartError)?, None).await?;
        if self.demo {
            return demo::show(&app, &setup, &demo_app).await;
        }
        run_until_signalled(&app, || self.greet(&app, &setup, &to)).await
    }

    fn greet(&self, app: &Arc<App>, setup: &Setup, to: &Uri) {
        let listen = app.addresses().first().map_or(self.listen.port(), SocketAddr::port);
        let end = if self.keep.is_some() { "kept" } else { "gone at the end" };
        out::say(&format!(
            "Ready. Every event goes to {to}. Record and secrets: {} ({end})",
            setup.dir().display()
        ));
        for (name, secret) in setup.secrets() {
            out::say(&format!("  {name:<18} https://localhost:{listen}/{name:<18} {secret}"));
        }
        out::say(&format!("  certificate authority   {}", setup.ca().display()));
        out::say(&format!(
            "Try:  gatepost -c {} send stripe invoice.paid --times 3",
            setup.file().display()
        ));
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
