//! The stages of one source, made from its configuration: each stage holds its own parameters, and no request looks
//! anything up.

use std::{collections::HashMap, sync::Arc};

use super::Shared;
use crate::{
    audit::{Audit, Detail, Note},
    config::{self, Config},
    dedup::{self, Dedup},
    deliver::{Deliver, Identity, Upstream},
    event::Name,
    handshake::Rule,
    identify::{Identify, Plan},
    receive::{Accepts, Admit, Receive},
    route::{Choose, Routes},
    telemetry::SourceMetrics,
    verify::Verify,
};

/// The upstreams of a configuration, by name.
pub type Upstreams = Arc<HashMap<Name, Arc<Upstream>>>;

/// A source and what its stages are made from.
#[derive(Debug)]
pub struct Parts<'a> {
    config: &'a Config,
    source: &'a config::Source,
    metrics: Arc<SourceMetrics>,
    upstreams: Upstreams,
    pub(super) challenges: Arc<[Rule]>,
    pub(super) plan: Arc<Plan>,
    pub(super) routes: Arc<Routes>,
    pub(super) detail: Arc<Detail>,
}

impl<'a> Parts<'a> {
    /// Gathers what the stages of `source` share.
    pub fn new(
        config: &'a Config,
        source: &'a config::Source,
        upstreams: &Upstreams,
        shared: &Shared,
    ) -> Self {
        let challenges = if source.handshake { source.language.handshakes.as_slice() } else { &[] };
        Self {
            config,
            source,
            metrics: Arc::new(shared.metrics.source(
                source.name.as_str(),
                mode(source),
                source.secrets.len(),
            )),
            upstreams: Arc::clone(upstreams),
            challenges: challenges.into(),
            plan: Arc::new(source.language.identify.clone()),
            routes: Arc::new(source.routes.clone()),
            detail: Arc::new(config.audit_detail.clone()),
        }
    }

    /// Handles on the source's series.
    pub fn metrics(&self) -> &Arc<SourceMetrics> {
        &self.metrics
    }

    pub(super) fn note(&self, shared: &Shared) -> Note {
        Note {
            log: shared.log.clone(),
            source: self.source.name.clone(),
            detail: Arc::clone(&self.detail),
        }
    }

    pub(super) fn admit(&self, shared: &Shared) -> Admit {
        Admit {
            room: Arc::clone(&shared.room),
            shed: shared.metrics.shed("requests_in_flight"),
            draining: shared.draining.clone(),
        }
    }

    pub(super) fn receive(&self, shared: &Shared) -> Receive {
        let (source, limits) = (self.source, &self.config.limits);
        Receive {
            accepts: Arc::new(Accepts {
                source: source.name.clone(),
                body_bytes_max: source.body_bytes_max,
                body_timeout: limits.body_timeout,
                body_rate_min: limits.body_rate_min,
                allow_encoded: source.allow_encoded,
                allow_ips: source.allow_ips.clone(),
                hide_paths: self.config.server.hide_paths,
            }),
            memory: Arc::clone(&shared.memory),
            shed: shared.metrics.shed("body_memory"),
        }
    }

    pub(super) fn verify(&self, shared: &Shared) -> Verify {
        Verify {
            verifier: Arc::clone(&self.source.verifier),
            url: self.source.public_url.as_str().into(),
            metrics: Arc::clone(&self.metrics),
            shadow: (!self.source.enforce).then(|| super::shadow(self, shared)),
        }
    }

    pub(super) fn identify(&self) -> Identify {
        Identify { plan: Arc::clone(&self.plan) }
    }

    pub(super) fn choose(&self) -> Choose {
        Choose { routes: Arc::clone(&self.routes), unrouted: self.metrics.unrouted.clone() }
    }

    pub(super) fn dedup(&self, shared: &Shared) -> Dedup {
        Dedup::from(dedup::Parts {
            store: Arc::clone(&shared.store),
            policy: Arc::new(self.source.dedup.clone()),
            joins: shared.joins.clone(),
            tracker: shared.tracker.clone(),
            metrics: shared.metrics.dedup(shared.store.kind()),
            source: SourceMetrics::clone(&self.metrics),
        })
    }

    pub(super) fn audit(&self, shared: &Shared) -> Audit {
        Audit { log: shared.log.clone(), detail: Arc::clone(&self.detail) }
    }

    pub(super) fn deliver(&self, shared: &Shared) -> Deliver {
        let server = &self.config.server;
        Deliver::new(
            Arc::clone(&self.upstreams),
            &Identity {
                header_prefix: server.header_prefix.clone(),
                host: server.hosts.first().cloned(),
                keep_authorization: self.source.verifier.reads_authorization(),
            },
            shared.tracker.clone(),
            self.source.dedup.hold,
        )
    }
}

fn mode(source: &config::Source) -> &'static str {
    if source.enforce { "proxy" } else { "shadow" }
}
