//! Takes a new configuration over whole, or changes nothing and says why.

use std::sync::Arc;

use super::{App, build};
use crate::{
    config::{Config, Store},
    dedup::RedisSettings,
    event::Timestamp,
    secret::Secret,
    server::Settings,
    stack::Upstreams,
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
        let result = self.take_over(&mut *self.upstreams.lock().await);
        self.shared.metrics.reloaded(result.is_ok(), Timestamp::now().as_seconds());
        match &result {
            Ok(fingerprint) => {
                tracing::info!(kind = "reload", fingerprint, "configuration taken over");
            }
            Err(error) => {
                tracing::error!(kind = "reload", %error, "reload refused, the running configuration stays");
            }
        }
        result
    }

    fn take_over(&self, upstreams: &mut Vec<Upstreams>) -> Result<String, NotReloaded> {
        let loader = self.loader.as_ref().ok_or(NotReloaded::NoFile)?;
        let config = (loader.0)().map_err(NotReloaded::Invalid)?;
        let stuck = needs_restart(&self.config.load(), &config);
        if !stuck.is_empty() {
            return Err(NotReloaded::NeedsRestart(stuck));
        }
        // Everything that can fail comes before the first swap.
        let metrics = &self.shared.metrics;
        let invalid = |e: super::StartError| NotReloaded::Invalid(e.0);
        let (tls, _) = build::tls(&config, metrics).map_err(invalid)?;
        *upstreams = build::upstreams(&config, metrics, upstreams).map_err(invalid)?;
        let workers = self.workers.iter().zip(&*upstreams);
        let fronts: Vec<_> = workers.map(|(worker, own)| worker.front(&config, own)).collect();
        let settings = Settings::new(&config.server, &config.limits, tls);
        let fingerprint = config.fingerprint.clone();
        for (worker, front) in self.workers.iter().zip(fronts) {
            worker.swap(front);
        }
        self.settings.store(Arc::new(settings));
        self.config.store(Arc::new(config));
        Ok(fingerprint)
    }
}

/// What differs and cannot be swapped under a running process: sockets, directories, stores, budgets that are shared.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let in_flight = |config: &Config| config.limits.requests_in_flight;
    let changed = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.workers", old.server.workers != new.server.workers),
        ("admin", old.admin != new.admin),
        ("storage", old.storage != new.storage),
        ("audit", old.audit != new.audit),
        ("dedup.store", !same_store(&old.dedup, &new.dedup)),
        ("limits.requests_in_flight", in_flight(old) != in_flight(new)),
        ("limits.body_memory", old.limits.body_memory != new.limits.body_memory),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    changed.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

fn same_store(old: &Store, new: &Store) -> bool {
    match (old, new) {
        (Store::Memory, Store::Memory) | (Store::Embedded, Store::Embedded) => true,
        (Store::Redis(old), Store::Redis(new)) => everything(old) == everything(new),
        (Store::Memory | Store::Embedded | Store::Redis(_), _) => false,
    }
}

/// The password, too: it is compared here and nowhere shown.
fn everything(settings: &RedisSettings) -> impl PartialEq + '_ {
    let RedisSettings { url, username, password, prefix, timeout, require_noeviction, ca } =
        settings;
    let password = password.as_ref().map(Secret::expose);
    (url, username, password, prefix, timeout, require_noeviction, ca)
}
