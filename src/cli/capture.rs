//! `gatepost providers capture`: waits for a secret that a provider sends once, and says where it is.

use std::{path::Path, process::ExitCode, thread, time::Duration};

use serde_json::Value;

use super::{NO, NO_GATEWAY, NOT_FOUND, admin, out};
use crate::units::Span;

/// Wait for the secret that a provider sends when it subscribes (Asana, Notion, Gusto), and keep it
#[derive(Debug, clap::Args)]
pub(super) struct Capture {
    /// The source, which says `secret: { captured: true }`
    source: String,
    /// How long to wait; at most an hour
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = Span::parse)]
    time: Span,
    /// Forget the secrets that were captured before
    #[arg(long)]
    replace: bool,
    /// Open the window and return
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    admin: admin::Args,
}

/// How often the gateway is asked.
const PAUSE: Duration = Duration::from_millis(250);

impl Capture {
    /// Exit 0 when a secret was captured, 1 when none came, 3 where there is no such source, 4 when nobody answers.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let opened = format!("&seconds={}&replace={}", self.time.0.as_secs(), self.replace);
        let mut said = match self.ask(file, "POST", &opened) {
            Ok(said) => said,
            Err(exit) => return exit,
        };
        let text = |said: &Value, key: &str| {
            said.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        out::say(&format!("waiting {} for the secret of {}", self.time, self.source));
        out::say(&format!("subscribe now at the provider, with {}", text(&said, "url")));
        if self.no_wait {
            return ExitCode::SUCCESS;
        }
        while text(&said, "state") == "open" {
            thread::sleep(PAUSE);
            said = match self.ask(file, "GET", "") {
                Ok(said) => said,
                Err(exit) => return exit,
            };
        }
        if text(&said, "state") != "captured" {
            return out::fail(NO, "no secret came");
        }
        out::line(&text(&said, "fingerprint"));
        let place = text(&said, "file");
        out::say(&format!(
            "captured and in use; if the provider asks for it, it is the first line of {place}"
        ));
        ExitCode::SUCCESS
    }

    fn ask(&self, file: Option<&Path>, method: &str, more: &str) -> Result<Value, ExitCode> {
        let what = format!("{method} /-/capture?source={}{more}", self.source);
        let asked = self.admin.ask(file, &what, "Gatepost-Admin: 1\r\n");
        let (status, body) = asked.map_err(|why| out::fail(NO_GATEWAY, &why))?;
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        if status == 200 {
            return Ok(said);
        }
        let why = said.get("error").and_then(Value::as_str).unwrap_or(&body);
        let code = if why.starts_with("there is no source") { NOT_FOUND } else { NO };
        Err(out::fail(code, why))
    }
}
