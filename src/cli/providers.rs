//! `gatepost providers`: the catalogue.

use std::process::ExitCode;

use super::{NOT_FOUND, out};
use crate::providers::{self, Preset, shape::Mac};

/// Lists presets, or prints one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A table of all presets
    List,
    /// One preset as YAML, in the language of `provider: custom`
    Show {
        /// The preset's name
        name: String,
    },
}

impl Args {
    /// Prints.
    pub(super) fn run(&self) -> ExitCode {
        match &self.command {
            Command::List => list(),
            Command::Show { name } => show(name),
        }
    }
}

fn list() -> ExitCode {
    out::line(&row("PROVIDER", "SCHEME", "CHALLENGE", "WAITS", "RETRIES"));
    for preset in providers::catalogue() {
        let retries = match (preset.delivery.retries, &preset.delivery.horizon) {
            (false, _) => "never".to_owned(),
            (true, Some(horizon)) => format!("for {horizon}"),
            (true, None) => "yes".to_owned(),
        };
        let challenge = if preset.handshake.is_empty() { "-" } else { "answered" };
        let waits = preset.delivery.deadline.as_deref().unwrap_or("not said");
        out::line(&row(&preset.name, &schemes(preset), challenge, waits, &retries));
    }
    ExitCode::SUCCESS
}

fn row(name: &str, scheme: &str, challenge: &str, waits: &str, retries: &str) -> String {
    format!("{name:<18} {scheme:<22} {challenge:<10} {waits:<9} {retries}")
}

/// The algorithms of a preset, each once.
fn schemes(preset: &Preset) -> String {
    let mut macs = vec![];
    let verify = &preset.verify;
    let alternatives = verify.schemes.iter().map(|scheme| scheme.mac.or(verify.mac));
    let single = verify.schemes.is_empty().then_some(verify.mac);
    for mac in alternatives.chain(single) {
        let name = match mac.unwrap_or_default() {
            Mac::HmacSha1 => "hmac-sha1",
            Mac::HmacSha256 => "hmac-sha256",
            Mac::HmacSha512 => "hmac-sha512",
            Mac::Token => "token",
            Mac::Basic => "basic",
        };
        if !macs.contains(&name) {
            macs.push(name);
        }
    }
    macs.join(", ")
}

fn show(name: &str) -> ExitCode {
    match providers::source_of(name) {
        Some(yaml) => {
            out::line(yaml.trim_end());
            ExitCode::SUCCESS
        }
        None => out::fail(NOT_FOUND, &format!("no preset {name:?}; see `gatepost providers list`")),
    }
}
