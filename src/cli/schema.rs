//! `gatepost schema`: the JSON Schema of the configuration, for editors and for CI.

use std::{path::Path, process::ExitCode};

use super::out;
use crate::config;

/// Prints the schema, made from the structs that a configuration is read into.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    /// Prints.
    #[expect(clippy::unused_self, reason = "every command is run alike")]
    pub(super) fn run(&self, _: Option<&Path>) -> ExitCode {
        out::line(&format!("{:#}", config::schema()));
        ExitCode::SUCCESS
    }
}
