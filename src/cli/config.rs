//! `gatepost config`: the configuration in force, value by value.

use std::{
    io::{IsTerminal as _, stdout},
    path::Path,
    process::ExitCode,
};

use super::{CONFIG, out};
use crate::config::{self, Effective, Loaded, Options, Report};

/// Shows what is in force.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Every value in force; of secrets only the fingerprint
    Show {
        /// Also where each value came from
        #[arg(long)]
        origin: bool,
        /// Read no secrets
        #[arg(long)]
        offline: bool,
    },
}

impl Command {
    /// Prints a line for each value.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let Self::Show { origin, offline } = *self;
        match load(file, offline) {
            Ok(loaded) => show(&loaded.values, origin),
            Err(code) => return code,
        }
        ExitCode::SUCCESS
    }
}

/// Loads the configuration that is meant, or prints everything that is wrong with it.
pub(super) fn load(file: Option<&Path>, offline: bool) -> Result<Loaded, ExitCode> {
    let options = Options { offline, ..Options::from_env() };
    config::load_found(file, &options).map_err(|report| refuse(&report))
}

/// Prints everything that is wrong.
pub(super) fn refuse(report: &Report) -> ExitCode {
    out::say(report.human(out::colour()).trim_end());
    ExitCode::from(CONFIG)
}

/// In columns on a terminal, else separated by tabs.
fn show(values: &[Effective], origin: bool) {
    let width = |of: fn(&Effective) -> &str| {
        values.iter().map(|v| of(v).chars().count()).max().unwrap_or(0)
    };
    let aligned = stdout().is_terminal();
    let path = if aligned { width(|v| &v.path) } else { 0 };
    let value = if aligned { width(|v| &v.value).min(40) } else { 0 };
    let gap = if aligned { "  " } else { "\t" };
    for row in values {
        let head = format!("{:path$}{gap}", row.path);
        out::line(&if origin {
            format!("{head}{:value$}{gap}{}", row.value, row.origin)
        } else {
            format!("{head}{}", row.value)
        });
    }
}
