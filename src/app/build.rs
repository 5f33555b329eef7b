//! Builds what a configuration asks for: stores, certificates, upstreams, admin listeners.

use std::{collections::HashMap, sync::Arc};

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::StartError;
use crate::{
    admin::Scope,
    audit,
    config::{self, Config, Store},
    dedup::{DedupStore, Embedded, Memory, Redis},
    deliver::Upstream,
    event::Timestamp,
    server::tls::{self, Facts},
    stack::Upstreams,
    telemetry::Metrics,
};

/// The certificates of a configuration; none where a proxy in front of us terminates TLS.
pub(super) fn tls(
    config: &Config,
    metrics: &Metrics,
) -> Result<(Option<Arc<ServerConfig>>, Vec<Facts>), StartError> {
    let loaded =
        tls::load(&config.tls, &config.server.hosts, &config.storage.dir, Timestamp::now());
    let Some(loaded) = loaded.map_err(StartError::of)? else { return Ok((None, Vec::new())) };
    for warning in &loaded.warnings {
        tracing::warn!(kind = "tls", "{warning}");
    }
    loaded.observe(metrics);
    Ok((Some(loaded.config), loaded.certificates))
}

/// The dedup store of a configuration.
pub(super) fn dedup_store(
    config: &Config,
    background: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<dyn DedupStore>, StartError> {
    Ok(match &config.dedup {
        Store::Memory => Arc::new(Memory::default()),
        Store::Embedded => {
            let dir = &config.storage.dir;
            audit::storage::create_dir(dir)
                .map_err(|e| StartError(format!("storage.dir {}: {e}", dir.display())))?;
            Arc::new(Embedded::open(dir).map_err(StartError::of)?)
        }
        Store::Redis(settings) => {
            Arc::new(Redis::connect(settings, background, stop).map_err(StartError::of)?)
        }
    })
}

/// The upstreams of a configuration, for each worker. Those that were there `before` and are configured alike are kept,
/// with their connections.
pub(super) fn upstreams(
    config: &Config,
    metrics: &Metrics,
    before: &[Upstreams],
) -> Result<Vec<Upstreams>, StartError> {
    let mut all = vec![HashMap::new(); before.len()];
    for params in &config.upstreams {
        let name = &params.name;
        let kept = |own: &Upstreams| own.get(name).filter(|old| old.params() == params).cloned();
        let each: Vec<_> = if let Some(kept) = before.iter().map(kept).collect() {
            kept
        } else {
            let first = Upstream::new(params.clone(), metrics.upstream(name));
            let first = first.map_err(|e| StartError(format!("upstream {name}: {e}")))?;
            before.iter().map(|_| Arc::new(first.with_own_connections())).collect()
        };
        for (own, upstream) in all.iter_mut().zip(each) {
            own.insert(name.clone(), upstream);
        }
    }
    Ok(all.into_iter().map(Arc::new).collect())
}

/// Binds where health and metrics are served: for the operator, and for metrics collectors elsewhere.
pub(super) async fn admin_listeners(
    admin: &config::Admin,
) -> Result<Vec<(TcpListener, Scope)>, StartError> {
    let own = (admin.listen, Scope::Everything);
    let elsewhere = admin.metrics_listen.map(|address| (address, Scope::MetricsOnly));
    let mut listeners = Vec::new();
    for (address, scope) in std::iter::once(own).chain(elsewhere) {
        let bound = TcpListener::bind(address).await;
        let refused = |e| StartError(format!("admin cannot listen on {address}: {e}"));
        listeners.push((bound.map_err(refused)?, scope));
    }
    Ok(listeners)
}
