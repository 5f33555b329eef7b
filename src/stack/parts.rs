//! The stages of one source, made from its configuration: each stage holds its own parameters, and no request looks
//! anything up.

use std::{collections::HashMap, sync::Arc};

use super::Shared;
use crate::{
    audit::{Audit, Detail, Note, ShadowAudit},
    config::{self, Config},
    dedup::{self, Dedup},
    deliver::{Deliver, Identity, Upstream},
    detach::Detach,
    event::Name,
    handshake::Challenges,
    identify::{Identify, Plan},
    receive::{Accepts, Admit, Receive},
    route::{Choose, Routes, ShadowRoute},
    telemetry::SourceMetrics,
    verify::Verify,
};

/// The upstreams of a configuration, by name, with the connections of one worker.
pub type Upstreams = Arc<HashMap<Name, Arc<Upstream>>>;

/// A source and what its stages are made from.
pub(super) struct Parts<'a> {
    config: &'a Config,
    source: &'a config::Source,
    shared: &'a Shared,
    upstreams: &'a Upstreams,
    pub(super) metrics: Arc<SourceMetrics>,
    pub(super) challenges: Arc<Challenges>,
    plan: Arc<Plan>,
    routes: Arc<Routes>,
    detail: Arc<Detail>,
}

impl<'a> Parts<'a> {
    /// Gathers what the stages of `source` share.
    pub(super) fn new(
        config: &'a Config,
        source: &'a config::Source,
        upstreams: &'a Upstreams,
        shared: &'a Shared,
    ) -> Self {
        let mode = if source.enforce { "proxy" } else { "shadow" };
        let metrics = shared.metrics.source(source.name.as_str(), mode, source.secrets.len());
        let mut detail = config.audit_detail.clone();
        // A credential never goes on record, whatever was configured.
        detail.manners = source.manners.clone();
        detail.headers.retain(|name| !source.verifier.is_shown_in(name));
        let metrics = Arc::new(metrics);
        let challenges = Challenges {
            rules: source.language.handshakes.clone(),
            guards: source.language.guards.clone(),
            verifier: Arc::clone(&source.verifier),
            url: source.public_url.as_str().into(),
            captures: source.captured.then(|| shared.captures.clone()),
            confirmer: source.confirmer.clone(),
            hide_paths: config.server.hide_paths,
            metrics: Arc::clone(&metrics),
        };
        Self {
            config,
            source,
            shared,
            upstreams,
            metrics,
            challenges: Arc::new(challenges),
            plan: Arc::new(source.language.identify.clone()),
            routes: Arc::new(source.routes.clone()),
            detail: Arc::new(detail),
        }
    }

    pub(super) fn note(&self) -> Note {
        Note {
            log: self.shared.log.clone(),
            source: self.source.name.clone(),
            detail: Arc::clone(&self.detail),
        }
    }

    pub(super) fn admit(&self) -> Admit {
        let Shared { room, closed, .. } = self.shared;
        Admit { room: Arc::clone(room), closed: closed.clone() }
    }

    pub(super) fn receive(&self) -> Receive {
        let (source, limits) = (self.source, &self.config.limits);
        Receive(Arc::new(Accepts {
            source: source.name.clone(),
            methods: self.challenges.methods(),
            body_bytes_max: source.body_bytes_max,
            body_timeout: limits.body_timeout.0,
            body_rate_min: limits.body_rate_min.0,
            allow_encoded: source.allow_encoded,
            allow_ips: source.allow_ips.clone(),
            hide_paths: self.config.server.hide_paths,
            memory: Arc::clone(&self.shared.memory),
            lengths: self.metrics.body.clone(),
        }))
    }

    pub(super) fn verify(&self) -> Verify {
        Verify {
            verifier: Arc::clone(&self.source.verifier),
            url: self.source.public_url.as_str().into(),
            metrics: Arc::clone(&self.metrics),
            keyring: self.source.keyring.clone(),
            shadow: (!self.source.enforce).then(|| super::shadow(self)),
        }
    }

    pub(super) fn identify(&self) -> Identify {
        Identify { plan: Arc::clone(&self.plan) }
    }

    pub(super) fn choose(&self) -> Choose {
        Choose { routes: Arc::clone(&self.routes), unrouted: self.metrics.unrouted.clone() }
    }

    pub(super) fn choose_shadow(&self) -> ShadowRoute {
        ShadowRoute { plan: Arc::clone(&self.plan), routes: Arc::clone(&self.routes) }
    }

    pub(super) fn detach(&self) -> Detach {
        Detach(self.shared.tracker.clone())
    }

    pub(super) fn dedup(&self) -> Dedup {
        Dedup(Arc::new(dedup::Parts {
            store: Arc::clone(&self.shared.store),
            policy: Arc::new(self.source.dedup.clone()),
            joins: self.shared.joins.clone(),
            tracker: self.shared.tracker.clone(),
            metrics: self.shared.metrics.dedup(self.shared.store.kind()),
            source: SourceMetrics::clone(&self.metrics),
            suspended: dedup::suspended,
        }))
    }

    pub(super) fn audit(&self) -> Audit {
        Audit { log: self.shared.log.clone(), detail: Arc::clone(&self.detail) }
    }

    pub(super) fn audit_shadow(&self) -> ShadowAudit {
        ShadowAudit { log: self.shared.log.clone(), detail: Arc::clone(&self.detail) }
    }

    pub(super) fn deliver(&self) -> Deliver {
        let server = &self.config.server;
        let identity = Identity {
            source: self.source.name.clone(),
            header_prefix: server.header_prefix.clone(),
            host: server.hosts.first().cloned(),
            keep_authorization: self.source.verifier.reads_authorization(),
        };
        let (upstreams, signs) = (Arc::clone(self.upstreams), Arc::clone(&self.source.signs));
        let tracker = self.shared.tracker.clone();
        Deliver::new(upstreams, &identity, signs, tracker, self.source.dedup.hold)
    }
}
