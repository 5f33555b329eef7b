//! Shows the order. Each stack is one expression, read downward; a request meets the first line first.

mod front;
mod parts;

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceBuilder, util::BoxCloneSyncService};

pub use front::Front;
pub use parts::{Parts, Upstreams};

use crate::{
    answer::{Answered, Outcome, Refusal},
    audit::{AuditLog, ShadowAudit},
    dedup::{DedupStore, Joins},
    detach::Detach,
    handshake::{Signed, Unsigned},
    receive::Inbound,
    route::ShadowRoute,
    stage::StageExt as _,
    telemetry::Metrics,
    verify::Unverified,
};

/// What all stacks of a process share, and what outlives a reload.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Every series.
    pub metrics: Metrics,
    /// The record.
    pub log: AuditLog,
    /// Where claims are kept.
    pub store: Arc<dyn DedupStore>,
    /// Who waits for whom in this process.
    pub joins: Joins,
    /// Knows every task that outlives its connection.
    pub tracker: TaskTracker,
    /// One permit per request in flight.
    pub room: Arc<Semaphore>,
    /// One permit per KiB of bodies in flight.
    pub memory: Arc<Semaphore>,
    /// Cancelled when the process begins to stop.
    pub draining: CancellationToken,
}

/// Answers the requests of one source. Type-erased once, at the rim.
pub type Stack<B> = BoxCloneSyncService<Inbound<B>, Answered<Outcome>, Answered<Refusal>>;

/// The flow of one source, from a request to an answer.
///
/// Cheap and pure stands before dear and effectful: nothing is stored for a stranger, nothing is claimed for an event that
/// nobody wants, and nothing after the claim can be cancelled by the sender.
pub fn ingress<B>(source: &Parts<'_>, shared: &Shared) -> Stack<B>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            // Sees every answer, so that each gets onto the record as the table says.
            .stage(source.note(shared))
            // Room is checked before a byte of the body is read.
            .stage(source.admit(shared))
            .stage(source.receive(shared))
            // Challenges that their provider does not sign.
            .stage(Unsigned(Arc::clone(&source.challenges)))
            // Above this line nothing is believed.
            .stage(source.verify(shared))
            // Challenges that their provider signs.
            .stage(Signed(Arc::clone(&source.challenges)))
            .stage(source.identify())
            .stage(source.choose())
            // Below this line a vanished sender cancels nothing: no claim is left behind, no forward cut in half.
            .stage(Detach { tracker: shared.tracker.clone() })
            // Claimed before it is recorded, so that only one of many twins pays for a sync.
            .stage(source.dedup(shared))
            // Recorded before it takes effect.
            .stage(source.audit(shared))
            .service(source.deliver(shared).service()),
    )
}

/// The flow of what was **not** verified, for a source in shadow mode: the operator's explicit exception. It never
/// touches dedup, and says on the record and to the app what it is.
pub fn shadow(
    source: &Parts<'_>,
    shared: &Shared,
) -> BoxCloneSyncService<Unverified, Answered<Outcome>, Answered<Refusal>> {
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .stage(ShadowRoute {
                plan: Arc::clone(&source.plan),
                routes: Arc::clone(&source.routes),
            })
            .stage(Detach { tracker: shared.tracker.clone() })
            .stage(ShadowAudit { log: shared.log.clone(), detail: Arc::clone(&source.detail) })
            .service(source.deliver(shared).flagged_service()),
    )
}
