//! `gatepost init`: a first configuration, commented, that passes `gatepost check` as it stands.

use std::{io::ErrorKind, path::Path, process::ExitCode};

use super::{NO, NOT_FOUND, out};
use crate::{
    audit::storage::put_new,
    config::suggest,
    providers::{self, Preset},
    units::Span,
};

/// Writes a configuration for some providers and one app.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Providers, as `gatepost providers list` names them
    #[arg(required = true, value_name = "PROVIDER")]
    providers: Vec<String>,
    /// Where the app answers
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3000")]
    to: String,
    /// Our public name
    #[arg(long, value_name = "NAME", default_value = "hooks.example.com")]
    host: String,
}

impl Args {
    /// Writes the file, unless there is one.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let path = file.unwrap_or(Path::new("gatepost.yaml"));
        let mut presets: Vec<&Preset> = Vec::new();
        for name in &self.providers {
            let Some(preset) = providers::preset(name) else {
                return out::fail(NOT_FOUND, &unknown(name));
            };
            if presets.iter().all(|known| known.name != preset.name) {
                presets.push(preset);
            }
        }
        let text = text(&presets, &self.to, &self.host);
        match put_new(path, text.as_bytes(), 0o666) {
            Ok(()) => {
                out::say(&next_steps(path, &presets));
                ExitCode::SUCCESS
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = format!("{} is there already; nothing was written", path.display());
                out::fail(NO, &there)
            }
            Err(error) => out::fail(NO, &format!("{}: {error}", path.display())),
        }
    }
}

fn unknown(name: &str) -> String {
    let near = suggest::nearest(name, providers::names());
    let hint = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    format!("there is no preset `{name}`{hint}; see `gatepost providers list`")
}

fn next_steps(path: &Path, presets: &[&Preset]) -> String {
    let export = |preset: &&Preset| {
        let found = preset.secret.found_at.as_deref().unwrap_or("the settings of the webhook");
        format!("  export {}=…    # from {found}\n", variable(preset))
    };
    let secret = presets.iter().filter(|preset| preset.secret_key().is_some());
    let exports: String = secret.map(export).collect();
    format!("wrote {}. Next:\n{exports}  gatepost check\n  gatepost run", path.display())
}

fn variable(preset: &Preset) -> String {
    format!("{}_WEBHOOK_SECRET", preset.name.to_uppercase().replace('-', "_"))
}

/// The file.
fn text(presets: &[&Preset], to: &str, host: &str) -> String {
    let source = |preset: &&Preset| {
        let (name, variable) = (&preset.name, variable(preset));
        let found = preset.secret.found_at.iter().map(|at| format!("   # {at}"));
        let key = preset.secret_key().map_or(" ".into(), |key| format!("{key}: ${{{variable}}}"));
        format!(
            "  {name}:                  # answers at https://{host}/{name}\n    provider: {name}\n    \
             {key}{}\n",
            found.collect::<String>()
        )
    };
    let route = |preset: &&Preset| {
        let timeout = timeout(preset).map_or(String::new(), |t| format!(", timeout: {t}"));
        format!("  - {{ source: {}, to: app{timeout} }}\n", preset.name)
    };
    let sources: String = presets.iter().map(source).collect();
    let routes: String = presets.iter().map(route).collect();
    format!(
        "{HEAD}server:\n  host: {host}\n{TLS}\nsources:\n{sources}\nroutes:\n{routes}{UPSTREAMS}  app: {to}\n{TAIL}"
    )
}

/// A timeout below the provider's deadline, where the default is not.
fn timeout(preset: &Preset) -> Option<Span> {
    let deadline = preset.delivery.deadline?;
    let choices = [10, 8, 4, 2, 1].map(Span::secs);
    choices.into_iter().find(|span| *span < deadline).filter(|span| *span < Span::secs(10))
}

const HEAD: &str = "\
# yaml-language-server: $schema=./gatepost.schema.json
# The schema: gatepost schema > gatepost.schema.json      Check this file: gatepost check
version: 1

";

const TLS: &str = "\
tls:
  mode: internal             # a self-made certificate, to begin with; then one of
                             #   files (your own: files: [{ cert: …, key: … }])
                             #   none  (a proxy in front of us has TLS; we listen on port 8080)
";

const UPSTREAMS: &str = "
upstreams:
";

const TAIL: &str = "
# What this gives: signatures checked, tolerances and rotation as the provider documents them (turn `secret` into a list to
# rotate); each event passed on once (remembered for 7 days in /var/lib/gatepost); a chained record of every event; the app's
# own answer goes back to the provider. Health and metrics: http://127.0.0.1:9480
# Every key with its default: config.example.yaml. What is in force: gatepost config show --origin
";
