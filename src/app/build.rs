//! Builds what a configuration asks for: stores, certificates, upstreams, admin listeners.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use super::StartError;
use crate::{
    admin::Scope,
    audit,
    config::{self, Config, Store},
    dedup::{DedupStore, Embedded, Memory, Redis},
    deliver::Upstream,
    event::{Digest, Name, Timestamp},
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

/// The upstreams in use, and what stood in the files that are named.
pub(super) struct InUse {
    /// Those of each worker.
    pub(super) each: Vec<Upstreams>,
    /// By upstream.
    files: HashMap<Name, Digest>,
    /// The CA of Redis, when the store was made.
    pub(super) authority: Digest,
}

impl InUse {
    /// No upstream yet, for so many workers; before `store` is made.
    pub(super) fn none(workers: usize, store: &Store) -> Self {
        let (each, files) = (vec![Upstreams::default(); workers], HashMap::new());
        Self { each, files, authority: authority(store) }
    }
}

/// The upstreams of a configuration, for each worker. Those that were there `before`, are configured alike and name files
/// that hold the same are kept, with their connections.
pub(super) fn upstreams(
    config: &Config,
    metrics: &Metrics,
    before: &InUse,
) -> Result<InUse, StartError> {
    let (mut all, mut files) = (vec![HashMap::new(); before.each.len()], HashMap::new());
    for params in &config.upstreams {
        let name = &params.name;
        // Looked at before they are used: what is replaced meanwhile differs the next time.
        let held = contents([&params.tls.ca, &params.tls.cert, &params.tls.key]);
        let same = before.files.get(name) == Some(&held);
        let kept =
            |own: &Upstreams| own.get(name).filter(|old| same && old.params() == params).cloned();
        let each: Vec<_> = if let Some(kept) = before.each.iter().map(kept).collect() {
            kept
        } else {
            let first = Upstream::new(params.clone(), metrics.upstream(name));
            let first = first.map_err(|e| StartError(format!("upstream {name}: {e}")))?;
            before.each.iter().map(|_| Arc::new(first.with_own_connections())).collect()
        };
        for (own, upstream) in all.iter_mut().zip(each) {
            own.insert(name.clone(), upstream);
        }
        files.insert(name.clone(), held);
    }
    let each = all.into_iter().map(Arc::new).collect();
    Ok(InUse { each, files, authority: before.authority })
}

/// What stands in the file of the CA that Redis is believed by.
pub(super) fn authority(store: &Store) -> Digest {
    let ca = if let Store::Redis(settings) = store { &settings.ca } else { &None };
    contents([ca])
}

/// A digest of what stands in `files`; one that cannot be read is like none, and whoever uses it says why.
fn contents<const N: usize>(files: [&Option<PathBuf>; N]) -> Digest {
    let held = files.map(|file| {
        let bytes = file.as_ref().and_then(|file| fs::read(file).ok()).unwrap_or_default();
        Digest::of(&Zeroizing::new(bytes)).0
    });
    Digest::of(held.as_flattened())
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
