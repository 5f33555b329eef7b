//! Takes a new configuration over whole, or changes nothing and says why.

use std::sync::Arc;

use super::{
    App,
    build::{self, InUse},
    worker::Worker,
};
use crate::{
    config::{Config, Store},
    dedup::RedisSettings,
    event::Timestamp,
    secret::Secret,
    server::Settings,
    stack::Front,
};

/// Reads the configuration again, or says everything that is wrong with it.
pub(crate) type Loader = Box<dyn Fn() -> Result<Config, String> + Send + Sync>;

impl App {
    /// Loads the configuration again and swaps it in. A request runs wholly in one generation; the old one dies with its
    /// last request. Certificates are read again even where the file is the same, and so is what upstreams name. Returns the
    /// new configuration's fingerprint, or a sentence on why the running one stays in force.
    pub(crate) async fn reload(&self) -> Result<String, String> {
        let result = self.take_over(&mut *self.upstreams.lock().await);
        self.shared.metrics.reloaded(result.is_ok(), Timestamp::now().as_seconds());
        match &result {
            Ok(fingerprint) => {
                tracing::info!(kind = "reload", fingerprint, "configuration taken over");
            }
            Err(error) => {
                tracing::error!(
                    kind = "reload",
                    error,
                    "reload refused, the running configuration stays"
                );
            }
        }
        result
    }

    fn take_over(&self, upstreams: &mut InUse) -> Result<String, String> {
        let loader = self.loader.as_ref().ok_or("this gateway was not started from a file")?;
        let mut config = loader()?;
        let stuck = needs_restart(&self.config.load(), &config);
        if !stuck.is_empty() {
            let stuck = stuck.join(", ");
            return Err(format!("{stuck} can change only with a restart; nothing was changed"));
        }
        config.remember(&self.config.load());
        // Everything that can fail comes before the first swap.
        let metrics = &self.shared.metrics;
        let (tls, _) = build::tls(&config, metrics).map_err(|e| e.0)?;
        *upstreams = build::upstreams(&config, metrics, upstreams).map_err(|e| e.0)?;
        let workers = self.workers.iter().zip(&upstreams.each);
        let front = |(worker, own): (&Worker, _)| Front::new(&config, own, &worker.shared);
        let fronts: Vec<_> = workers.map(front).collect();
        let settings = Settings::new(&config.server, &config.limits, tls);
        let fingerprint = config.fingerprint.clone();
        for (worker, front) in self.workers.iter().zip(fronts) {
            worker.front.store(Arc::new(front));
        }
        self.settings.store(Arc::new(settings));
        if build::authority(&config.dedup) != upstreams.authority {
            // Refused, it would keep a new certificate of ours from being used.
            tracing::warn!(
                kind = "reload",
                "what stands in the file of dedup.redis.ca has changed: it is used from the next restart on"
            );
        }
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
        ("telemetry", old.log != new.log),
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
