//! Health, as it is seen from outside: readiness with its conditions, and the gauges that nobody else sets.

use std::{sync::Arc, time::Duration};

use super::{App, build::AdminListeners};
use crate::{
    admin::{self, Admin, Condition, Scope},
    stage::BoxFuture,
};

/// How often gauges are set.
const INTERVAL: Duration = Duration::from_secs(5);

impl App {
    /// Serves health, metrics and reload until the end.
    pub(super) fn serve_admin(self: &Arc<Self>, listeners: AdminListeners) {
        let (ready, reload) = (Arc::downgrade(self), Arc::downgrade(self));
        let admin = Admin {
            metrics: self.shared.metrics.clone(),
            readiness: Arc::new(move || {
                let app = ready.upgrade();
                Box::pin(async move {
                    match app {
                        Some(app) => app.conditions().await,
                        None => Vec::new(),
                    }
                }) as BoxFuture<'static, _>
            }),
            reload: Arc::new(move || {
                let app = reload.upgrade();
                Box::pin(async move {
                    match app {
                        Some(app) => app.reload().await.map_err(|e| e.to_string()),
                        None => Err("stopping".to_owned()),
                    }
                }) as BoxFuture<'static, _>
            }),
        };
        let scopes =
            [(Some(listeners.own), Scope::Everything), (listeners.metrics, Scope::MetricsOnly)];
        for (listener, scope) in scopes {
            let Some(listener) = listener else { continue };
            let (tracker, stop) = (self.background.clone(), self.stop.clone());
            drop(self.background.spawn(admin::serve(
                listener,
                scope,
                admin.clone(),
                tracker,
                stop,
            )));
        }
    }

    /// What must hold for events to be taken. Trouble of upstreams never makes us unready.
    async fn conditions(&self) -> Vec<Condition> {
        let draining = self.shared.draining.is_cancelled();
        let store = self.shared.store.health().await;
        let record = self.shared.log.health();
        let record = match record.trouble {
            None => Ok(format!("{} records", record.seq)),
            Some(trouble) => Err(trouble.to_string()),
        };
        let because =
            |result: Result<String, String>, yes: &'static str, no: &'static str| match result {
                Ok(message) => (true, yes, message),
                Err(message) => (false, no, message),
            };
        let accepting = if draining { Err("draining".to_owned()) } else { Ok(String::new()) };
        [
            ("Accepting", because(accepting, "Running", "Draining")),
            ("RecordWritable", because(record, "Writable", "NotWritable")),
            (
                "DedupStoreReachable",
                because(store.map_err(|e| e.to_string()), "Reachable", "Unreachable"),
            ),
        ]
        .into_iter()
        .map(|(kind, (holds, reason, message))| Condition { kind, holds, reason, message })
        .collect()
    }

    /// Sets the gauges of the dedup store from time to time, until the end.
    pub(super) fn watch(self: &Arc<Self>) {
        let app = Arc::clone(self);
        let stop = self.stop.clone();
        drop(self.background.spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                let metrics = app.shared.metrics.dedup(app.shared.store.kind());
                metrics.up.set(i64::from(app.shared.store.health().await.is_ok()));
                if let Some(entries) = app.shared.store.entries() {
                    metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
                }
            }
        }));
    }
}
