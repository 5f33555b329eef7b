//! `gatepost healthcheck`: is the gateway ready? For containers, which have nothing else to ask with.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use super::{NO, NO_GATEWAY, out, send::reachable};
use crate::config::{self, Options};

/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Exit 0 when ready, 1 when not, 4 when nobody answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The admin address; default: the configuration's
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

impl Args {
    /// Asks.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let Some(address) = admin_address(self.admin, file) else {
            return out::fail(
                NO_GATEWAY,
                "no configuration says where the admin address is; use --admin",
            );
        };
        match ask(address, "GET", "/readyz", "") {
            Ok((200, _)) => ExitCode::SUCCESS,
            Ok((status, body)) => out::fail(NO, &format!("not ready ({status}): {body}")),
            Err(error) => out::fail(NO_GATEWAY, &format!("{address}: {error}")),
        }
    }
}

/// Where a running gateway's admin door is.
pub(super) fn admin_address(given: Option<SocketAddr>, file: Option<&Path>) -> Option<SocketAddr> {
    let configured = || {
        let options = Options { offline: true, ..Options::from_env() };
        let path = config::find(file, &options.env).ok()?;
        config::load(&path, &options).ok().map(|loaded| loaded.config.admin.listen)
    };
    let address = given.or_else(configured)?;
    Some(SocketAddr::new(reachable(address.ip()), address.port()))
}

/// One request over a connection of its own; returns status and body.
pub(super) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    Ok((status, body.unwrap_or_default()))
}
