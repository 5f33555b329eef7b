//! `gatepost reload`: all of the new configuration, or nothing and why.

use std::{net::SocketAddr, path::Path, process::ExitCode};

use super::{
    CONFIG, NO_GATEWAY,
    healthcheck::{admin_address, ask},
    out,
};

/// Exit 0 when taken over, 78 when refused, 4 when nobody answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The admin address; default: the configuration's
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl Args {
    /// Asks the running gateway to load its configuration again.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let Some(address) = admin_address(self.admin, file) else {
            return out::fail(
                NO_GATEWAY,
                "no configuration says where the admin address is; use --admin",
            );
        };
        match ask(address, "POST", "/-/reload", "Gatepost-Admin: 1\r\n") {
            Ok((200, body)) => {
                out::line(&body);
                ExitCode::SUCCESS
            }
            Ok((_, body)) => out::fail(CONFIG, &body),
            Err(error) => out::fail(NO_GATEWAY, &format!("{address}: {error}")),
        }
    }
}
