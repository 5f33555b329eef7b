//! The throw-away configuration: every preset, a made-up secret each.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;

use crate::{
    config::{self, Config, Options},
    event::Receipt,
    providers,
    server::internal_ca,
};

/// A directory with a configuration in it; removed on drop unless it is to be kept.
#[derive(Debug)]
pub(super) struct Setup {
    dir: PathBuf,
    keep: bool,
    secrets: Vec<(String, String)>,
}

impl Setup {
    /// Writes the configuration.
    ///
    /// # Errors
    /// A sentence where the directory or the file cannot be made.
    pub(super) fn new(
        keep: Option<PathBuf>,
        to: &Uri,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Self, String> {
        let throw_away =
            || std::env::temp_dir().join(format!("gatepost-dev-{}", Receipt::random()));
        let setup = Self {
            keep: keep.is_some(),
            dir: keep.unwrap_or_else(throw_away),
            secrets: providers::catalogue()
                .iter()
                .map(|p| (p.name.clone(), made_up(&p.name)))
                .collect(),
        };
        setup.write(to, listen, admin).map_err(|e| format!("{}: {e}", setup.dir.display()))?;
        Ok(setup)
    }

    fn write(&self, to: &Uri, listen: SocketAddr, admin: SocketAddr) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.file())?;
        file.write_all(self.yaml(to, listen, admin).as_bytes())
    }

    fn yaml(&self, to: &Uri, listen: SocketAddr, admin: SocketAddr) -> String {
        let dir = self.dir.display();
        let mut yaml = format!(
            "version: 1\nserver:\n  host: localhost\n  listen: \"{listen}\"\ntls:\n  mode: internal\n\
             storage:\n  dir: \"{dir}\"\n  min_free: 1MiB\nadmin:\n  listen: \"{admin}\"\n\
             audit:\n  dir: \"{dir}/audit\"\nupstreams:\n  app: \"{to}\"\nsources:\n"
        );
        let mut routes = String::from("routes:\n");
        for (name, secret) in &self.secrets {
            // Writing to a String does not fail.
            let _ = writeln!(yaml, "  {name}:\n    provider: {name}\n    secret: \"{secret}\"");
            let _ = writeln!(routes, "  - {{ source: {name}, to: app }}");
        }
        yaml + &routes
    }

    /// The configuration, read as any other.
    ///
    /// # Errors
    /// The report, if we wrote something that we do not understand.
    pub(super) fn load(&self) -> Result<Config, String> {
        let loaded = config::load(&self.file(), &Options::from_env())
            .map_err(|report| report.human(false))?;
        Ok(loaded.config)
    }

    /// The configuration file.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("gatepost.yaml")
    }

    /// Where everything is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What senders must trust.
    pub(super) fn ca(&self) -> PathBuf {
        internal_ca(&self.dir)
    }

    /// Each source with its secret: throw-away ones, made to be shown.
    pub(super) fn secrets(&self) -> &[(String, String)] {
        &self.secrets
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "the temporary directory stays");
        }
    }
}

/// A random secret in the form that the provider's own have.
fn made_up(provider: &str) -> String {
    let random = format!("{}{}", Receipt::random(), Receipt::random()).replace("req_", "");
    match provider {
        "stripe" => format!("whsec_{random}"),
        "standard-webhooks" | "svix" => format!("whsec_{}", STANDARD.encode(random)),
        "paddle" => format!("pdl_ntfset_{random}"),
        "linear" => format!("lin_wh_{random}"),
        _ => random,
    }
}
