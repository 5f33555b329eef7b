//! `gatepost providers`: the catalogue, and the secrets that providers send.

use std::{path::Path, process::ExitCode};

use super::{NOT_FOUND, capture, out};
use crate::providers::{self, Preset};

/// Lists presets, or prints one.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// A table of all presets
    List,
    /// One preset as YAML, in the language of `provider: custom`
    Show {
        /// The preset's name
        name: String,
    },
    Capture(capture::Capture),
}

impl Command {
    /// Prints.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        match self {
            Self::List => list(),
            Self::Show { name } => show(name),
            Self::Capture(args) => args.run(file),
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
        let waits = preset.delivery.deadline.map_or("not said".into(), |wait| wait.to_string());
        out::line(&row(&preset.name, &schemes(preset), challenge, &waits, &retries));
    }
    ExitCode::SUCCESS
}

fn row(name: &str, scheme: &str, challenge: &str, waits: &str, retries: &str) -> String {
    format!("{name:<18} {scheme:<22} {challenge:<10} {waits:<9} {retries}")
}

/// The algorithms of a preset, each once.
fn schemes(preset: &Preset) -> String {
    let verify = &preset.verify;
    let alternatives = verify.schemes.iter().map(|own| own.scheme.mac.or(verify.scheme.mac));
    let single = verify.schemes.is_empty().then_some(verify.scheme.mac);
    let all = alternatives.chain(single).map(|mac| mac.unwrap_or_default().as_str());
    let mut names: Vec<_> = all.collect();
    names.dedup();
    names.join(", ")
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
