//! Health, as it is seen from outside: readiness with its conditions, and the gauges that nobody else sets.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc};

use super::App;
use crate::{
    admin::{self, Admin, Capture, Condition, Scope},
    handshake::Captured,
    stage::BoxFuture,
};

/// How often gauges are set.
const INTERVAL: Duration = Duration::from_secs(5);

impl admin::Gateway for App {
    /// What must hold for events to be taken. Trouble of upstreams never makes us unready.
    fn readiness(&self) -> BoxFuture<'_, Vec<Condition>> {
        Box::pin(async {
            let draining = self.shared.draining.is_cancelled();
            let accepting = if draining { Err("draining".to_owned()) } else { Ok(String::new()) };
            let record = self.shared.log.health();
            let record = match record.trouble {
                None => Ok(format!("{} records", record.seq)),
                Some(trouble) => Err(trouble.to_string()),
            };
            let store = self.shared.store.health().await;
            let store = store.map_err(|e| e.to_string());
            vec![
                condition("Accepting", accepting, "Running", "Draining"),
                condition("RecordWritable", record, "Writable", "NotWritable"),
                condition("DedupStoreReachable", store, "Reachable", "Unreachable"),
            ]
        })
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(Self::reload(self))
    }

    fn capture(&self, asked: Capture) -> BoxFuture<'_, Result<serde_json::Value, String>> {
        Box::pin(Self::capture(self, asked))
    }
}

fn condition(
    kind: &'static str,
    result: Result<String, String>,
    yes: &'static str,
    no: &'static str,
) -> Condition {
    let holds = result.is_ok();
    let reason = if holds { yes } else { no };
    let (Ok(message) | Err(message)) = result;
    Condition { kind, holds, reason, message }
}

impl App {
    /// Serves health, metrics and reload until the end.
    pub(super) fn serve_admin(self: &Arc<Self>, listeners: Vec<(TcpListener, Scope)>) {
        for (listener, scope) in listeners {
            let gateway = Arc::clone(self) as Arc<dyn admin::Gateway>;
            let admin = Admin { metrics: self.shared.metrics.clone(), gateway };
            let (tracker, stop) = (self.background.clone(), self.stop.clone());
            drop(self.background.spawn(admin::serve(listener, scope, admin, tracker, stop)));
        }
    }

    /// Keeps secrets that are captured, and sets the gauges of the dedup store from time to time, until the end.
    pub(super) fn watch(self: &Arc<Self>, captured: mpsc::Receiver<Captured>) {
        self.keep_captured(captured);
        let app = Arc::clone(self);
        drop(self.background.spawn(async move {
            let metrics = app.shared.metrics.dedup(app.shared.store.kind());
            let mut ticks = tokio::time::interval(INTERVAL);
            while app.stop.run_until_cancelled(ticks.tick()).await.is_some() {
                metrics.up.set(i64::from(app.shared.store.health().await.is_ok()));
                if let Some(entries) = app.shared.store.entries() {
                    metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
                }
            }
        }));
    }
}
