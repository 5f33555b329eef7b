//! Takes a new configuration over whole, or changes nothing and says why.

use std::sync::Arc;

use super::{App, build, now_seconds};
use crate::{
    config::{Config, Store},
    secret::Secret,
    server::Settings,
    stack::Front,
};

/// Reads the configuration again.
#[derive(Clone)]
pub struct Loader(pub Arc<dyn Fn() -> Result<Config, String> + Send + Sync>);

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loader")
    }
}

/// Why nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// There is no file to read again.
    #[error("this gateway was not started from a file")]
    NoFile,
    /// The file has errors; the text is the whole report.
    #[error("{0}")]
    Invalid(String),
    /// Something changed that only a restart can take over.
    #[error("{} can change only with a restart; nothing was changed", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
}

impl App {
    /// Loads the configuration again and swaps it in. A request runs wholly in one generation; the old one dies with its
    /// last request. Certificates are read again even where the file is the same.
    ///
    /// # Errors
    /// See [`NotReloaded`]; the running configuration stays in force.
    pub async fn reload(&self) -> Result<String, NotReloaded> {
        let _one_at_a_time = self.reloading.lock().await;
        let result = self.take_over();
        self.shared.metrics.reloaded(result.is_ok(), now_seconds());
        match &result {
            Ok(fingerprint) => {
                tracing::info!(kind = "reload", fingerprint, "configuration taken over")
            }
            Err(error) => {
                tracing::error!(kind = "reload", %error, "reload refused, the running configuration stays")
            }
        }
        result
    }

    fn take_over(&self) -> Result<String, NotReloaded> {
        let loader = self.loader.as_ref().ok_or(NotReloaded::NoFile)?;
        let config = (loader.0)().map_err(NotReloaded::Invalid)?;
        let stuck = needs_restart(&self.config.load(), &config);
        if !stuck.is_empty() {
            return Err(NotReloaded::NeedsRestart(stuck));
        }
        // Everything that can fail comes before the first swap.
        let metrics = &self.shared.metrics;
        let invalid = |e: super::StartError| NotReloaded::Invalid(e.0);
        let tls = build::tls(&config, metrics).map_err(invalid)?;
        let upstreams =
            build::upstreams(&config, metrics, &self.upstreams.load()).map_err(invalid)?;
        let front = Front::new(&config, &upstreams, &self.shared);
        let settings = Settings::new(&config.server, &config.limits, tls);
        let fingerprint = config.fingerprint.clone();
        self.front.store(Arc::new(front));
        self.settings.store(Arc::new(settings));
        self.upstreams.store(upstreams);
        self.config.store(Arc::new(config));
        Ok(fingerprint)
    }
}

/// What differs and cannot be swapped under a running process: sockets, directories, stores, budgets that are shared.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("server.listen", old.server.listen != new.server.listen),
        ("admin", old.admin != new.admin),
        ("storage", old.storage != new.storage),
        ("audit", old.audit != new.audit),
        ("dedup.store", !same_store(&old.dedup, &new.dedup)),
        (
            "limits.requests_in_flight",
            old.limits.requests_in_flight != new.limits.requests_in_flight,
        ),
        ("limits.body_memory", old.limits.body_memory != new.limits.body_memory),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    changed.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

fn same_store(old: &Store, new: &Store) -> bool {
    match (old, new) {
        (Store::Memory, Store::Memory) | (Store::Embedded, Store::Embedded) => true,
        (Store::Redis(old), Store::Redis(new)) => {
            let password = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_vec());
            // Passwords are compared here and nowhere shown.
            password(&old.password) == password(&new.password)
                && (
                    &old.url,
                    &old.username,
                    &old.prefix,
                    old.timeout,
                    &old.ca,
                    old.require_noeviction,
                ) == (
                    &new.url,
                    &new.username,
                    &new.prefix,
                    new.timeout,
                    &new.ca,
                    new.require_noeviction,
                )
        }
        (Store::Memory | Store::Embedded | Store::Redis(_), _) => false,
    }
}
