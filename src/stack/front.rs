//! Finds the stack of a path. Paths are compared byte for byte: nothing is decoded or normalised.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;

use super::{Parts, Shared, Stack, Upstreams, ingress};
use crate::{
    answer::Refusal,
    config::{Config, Source},
    event::{Name, Peer, Receipt, Timestamp},
    receive::Inbound,
    respond::{Reply, Respond},
    telemetry::{SourceMetrics, UNKNOWN_SOURCE},
};

/// What answers, by path: a request costs one hash of its path, however many there are.
#[derive(Debug)]
pub struct Doors<T, S = RandomState>(HashMap<String, T, S>);

impl<T, S: BuildHasher> Doors<T, S> {
    /// Doors in a table that is hashed by `hasher`.
    pub fn new(doors: impl IntoIterator<Item = (String, T)>, hasher: S) -> Self {
        let mut all = HashMap::with_hasher(hasher);
        all.extend(doors);
        Self(all)
    }

    /// What answers at a path.
    pub fn at(&self, path: &str) -> Option<&T> {
        self.0.get(path)
    }
}

/// Every stack of one configuration, by path. Replaced as a whole on reload; a request sees one.
pub struct Front<B> {
    doors: Doors<(Respond, Stack<B>)>,
    unknown: Respond,
    upstreams: Upstreams,
}

impl<B> Front<B>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    /// Builds the stack of every source.
    pub fn new(config: &Config, upstreams: &Upstreams, shared: &Shared) -> Self {
        let header = &config.server.receipt_header;
        let door = |source: &Source| {
            let parts = Parts::new(config, source, upstreams, shared);
            let (name, metrics) = (&source.name, SourceMetrics::clone(&parts.metrics));
            let targets = source.routes.as_slice().iter().filter_map(|r| r.target.as_ref());
            let names: BTreeSet<_> = targets.map(|target| target.upstream.clone()).collect();
            let latency = |upstream: Name| {
                let histogram = shared.metrics.event_latency(name, &upstream);
                (upstream, histogram)
            };
            let latency = names.into_iter().map(latency).collect();
            let respond = Respond::new(name.as_str(), header.clone(), metrics, latency);
            let respond = respond.with(source.manners.clone());
            (source.path.clone(), (respond, ingress(&parts)))
        };
        let unknown = shared.metrics.source(UNKNOWN_SOURCE, "proxy", 0);
        Self {
            doors: Doors::new(config.sources.iter().map(door), RandomState::new()),
            unknown: Respond::new(UNKNOWN_SOURCE, header.clone(), unknown, Vec::new()),
            upstreams: Arc::clone(upstreams),
        }
    }

    /// Answers a request; `readable` says whether the server found its head acceptable.
    pub fn answer(
        self: Arc<Self>,
        request: http::Request<B>,
        peer: Peer,
        readable: Result<(), &'static str>,
    ) -> impl Future<Output = Reply> + Send {
        let (receipt, received_at) = (Receipt::random(), Timestamp::now());
        self.answer_as(Inbound { request, peer, receipt, received_at, place: None }, readable)
    }

    /// The same for a request that has a name and a time already.
    pub async fn answer_as(
        self: Arc<Self>,
        inbound: Inbound<B>,
        readable: Result<(), &'static str>,
    ) -> Reply {
        if let Err(why) = readable {
            return self.unknown.refuse(&inbound, Refusal::Unreadable(why));
        }
        match self.doors.at(inbound.request.uri().path()) {
            Some((respond, stack)) => respond.answer(inbound, stack.clone()).await,
            None => self.unknown.refuse(&inbound, Refusal::UnknownSource),
        }
    }

    /// Closes connections to apps that have been idle for too long.
    pub fn sweep(&self) {
        self.upstreams.values().for_each(|upstream| upstream.sweep());
    }

    /// Counts and logs what was answered without us, because no request could be made of it; the name it gets.
    pub fn unheard(&self, peer: Peer, why: &'static str, status: StatusCode) -> Receipt {
        self.unknown.unheard(peer, Refusal::Unreadable(why), status)
    }
}
