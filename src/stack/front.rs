//! Finds the stack of a path. Paths are compared byte for byte: nothing is decoded or normalised.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use http_body::Body;

use super::{Parts, Shared, Stack, Upstreams, ingress};
use crate::{
    answer::Refusal,
    config::Config,
    event::{Peer, Receipt, Timestamp},
    receive::Inbound,
    respond::{Reply, Respond},
    telemetry::{Sampler, SourceMetrics, UNKNOWN_SOURCE},
};

/// Log lines about refused requests, per source and second.
const REFUSED_LINES_PER_SECOND: u64 = 5;

/// Every stack of one configuration, by path. Replaced as a whole on reload; a request sees one.
#[derive(Debug)]
pub struct Front<B> {
    doors: HashMap<String, Door<B>>,
    unknown: Arc<Respond>,
}

/// A source's stack and the voice that answers for it.
struct Door<B> {
    respond: Arc<Respond>,
    stack: Stack<B>,
}

impl<B> std::fmt::Debug for Door<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("respond", &self.respond).finish_non_exhaustive()
    }
}

impl<B> Front<B>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    /// Builds the stack of every source.
    pub fn new(config: &Config, upstreams: &Upstreams, shared: &Shared) -> Self {
        let respond = |source: &str, metrics: &SourceMetrics| {
            Arc::new(Respond {
                source: source.into(),
                receipt_header: config.server.receipt_header.clone(),
                metrics: metrics.clone(),
                sampler: Sampler::new(REFUSED_LINES_PER_SECOND),
            })
        };
        let door = |source| {
            let parts = Parts::new(config, source, upstreams, shared);
            let respond = respond(source.name.as_str(), parts.metrics());
            (source.path.clone(), Door { respond, stack: ingress(&parts, shared) })
        };
        Self {
            doors: config.sources.iter().map(door).collect(),
            unknown: respond(UNKNOWN_SOURCE, &shared.metrics.source(UNKNOWN_SOURCE, "proxy", 0)),
        }
    }

    /// Answers a request; `readable` says whether the server found its head acceptable.
    pub async fn answer(
        self: Arc<Self>,
        request: http::Request<B>,
        peer: Peer,
        readable: Result<(), &'static str>,
    ) -> Reply {
        let inbound =
            Inbound { request, peer, receipt: Receipt::random(), received_at: Timestamp::now() };
        if let Err(why) = readable {
            return self.unknown.refuse(&inbound, Refusal::Unreadable(why));
        }
        match self.doors.get(inbound.request.uri().path()) {
            Some(door) => Arc::clone(&door.respond).answer(inbound, door.stack.clone()).await,
            None => self.unknown.refuse(&inbound, Refusal::UnknownSource),
        }
    }
}
