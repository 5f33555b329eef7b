//! Builds what a configuration asks for: stores, certificates, upstreams, admin listeners.

use std::{collections::HashMap, sync::Arc};

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::StartError;
use crate::{
    config::{self, Config, Store},
    dedup::{DedupStore, Embedded, Memory, Redis},
    deliver::Upstream,
    event::Timestamp,
    server::tls,
    stack::Upstreams,
    telemetry::Metrics,
};

/// The certificates of a configuration; none where a proxy in front of us terminates TLS.
pub(super) fn tls(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let loaded =
        tls::load(&config.tls, &config.server.hosts, &config.storage.dir, Timestamp::now());
    let Some(loaded) = loaded.map_err(StartError::of)? else { return Ok(None) };
    for warning in &loaded.warnings {
        tracing::warn!(kind = "tls", "{warning}");
    }
    loaded.observe(metrics);
    Ok(Some(loaded.config))
}

/// The dedup store of a configuration.
pub(super) fn dedup_store(
    config: &Config,
    background: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<dyn DedupStore>, StartError> {
    let store: Arc<dyn DedupStore> = match &config.dedup {
        Store::Memory => Arc::new(Memory::default()),
        Store::Embedded => {
            create_dir(&config.storage.dir)?;
            Arc::new(Embedded::open(&config.storage.dir).map_err(StartError::of)?)
        }
        Store::Redis(settings) => {
            Arc::new(Redis::connect(settings, background, stop).map_err(StartError::of)?)
        }
    };
    Ok(store)
}

fn create_dir(dir: &std::path::Path) -> Result<(), StartError> {
    std::fs::create_dir_all(dir)
        .map_err(|e| StartError(format!("storage.dir {}: {e}", dir.display())))
}

/// The upstreams of a configuration. Those that were there before and are configured alike are kept, with their connections.
pub(super) fn upstreams(
    config: &Config,
    metrics: &Metrics,
    before: &Upstreams,
) -> Result<Upstreams, StartError> {
    let mut upstreams = HashMap::new();
    for params in &config.upstreams {
        let kept = before.get(&params.name).filter(|upstream| upstream.params() == params);
        let upstream = match kept {
            Some(upstream) => Arc::clone(upstream),
            None => Arc::new(
                Upstream::new(params.clone(), metrics.upstream(&params.name))
                    .map_err(|e| StartError(format!("upstream {}: {e}", params.name)))?,
            ),
        };
        upstreams.insert(params.name.clone(), upstream);
    }
    Ok(Arc::new(upstreams))
}

/// Permits of a KiB each.
pub(super) fn memory_permits(bytes: u64) -> usize {
    usize::try_from(bytes / 1024).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// Where health and metrics are served.
#[derive(Debug)]
pub(super) struct AdminListeners {
    /// For the operator.
    pub(super) own: TcpListener,
    /// For metrics collectors elsewhere.
    pub(super) metrics: Option<TcpListener>,
}

/// Binds the admin listeners.
pub(super) async fn admin_listeners(admin: &config::Admin) -> Result<AdminListeners, StartError> {
    let bind = |address| async move {
        TcpListener::bind(address)
            .await
            .map_err(|e| StartError(format!("admin cannot listen on {address}: {e}")))
    };
    let metrics = match admin.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    Ok(AdminListeners { own: bind(admin.listen).await?, metrics })
}
