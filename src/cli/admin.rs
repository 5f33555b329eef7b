//! `gatepost healthcheck` and `gatepost reload`: the two that ask a running gateway.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use super::{CONFIG, NO, NO_GATEWAY, out, sender::reachable};
use crate::config::{self, Options};

const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The admin address; default: the configuration's
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl Args {
    /// Exit 0 when ready, 1 when not, 4 when nobody answers.
    pub(super) fn healthcheck(&self, file: Option<&Path>) -> ExitCode {
        match self.ask(file, "GET /readyz", "") {
            Ok((200, _)) => ExitCode::SUCCESS,
            Ok((status, body)) => out::fail(NO, &format!("not ready ({status}): {body}")),
            Err(why) => out::fail(NO_GATEWAY, &why),
        }
    }

    /// Exit 0 when taken over, 78 when refused, 4 when nobody answers.
    pub(super) fn reload(&self, file: Option<&Path>) -> ExitCode {
        match self.ask(file, "POST /-/reload", "Gatepost-Admin: 1\r\n") {
            Ok((200, body)) => {
                out::line(&body);
                ExitCode::SUCCESS
            }
            Ok((_, body)) => out::fail(CONFIG, &body),
            Err(why) => out::fail(NO_GATEWAY, &why),
        }
    }

    /// Asks the admin address of a running gateway; its status and its body.
    pub(super) fn ask(
        &self,
        file: Option<&Path>,
        what: &str,
        headers: &str,
    ) -> Result<(u16, String), String> {
        let address = self.admin.or_else(|| configured(file));
        let address =
            address.ok_or("no configuration says where the admin address is; use --admin")?;
        let address = SocketAddr::new(reachable(address.ip()), address.port());
        let length = "Content-Length: 0\r\n";
        let request = format!(
            "{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{length}{headers}\r\n"
        );
        let answer =
            exchange(address, request.as_bytes()).map_err(|error| format!("{address}: {error}"))?;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
        Ok((status, body.to_owned()))
    }
}

fn configured(file: Option<&Path>) -> Option<SocketAddr> {
    let options = Options { offline: true, ..Options::from_env() };
    config::load_found(file, &options).ok().map(|loaded| loaded.config.admin.listen)
}

/// One request over a connection of its own, in plain HTTP: a health check must not wait for a runtime.
fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    Ok(answer)
}
