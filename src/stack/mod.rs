//! Shows the order. Each stack is one expression, read downward; a request meets the first line first.
//!
//! The order is in the types: each stage takes what only the one before it makes.
//!
//! ```
//! use gatepost::{identify::{Event, Identify}, receive::Envelope, stage::{Next, StageExt as _}, verify::Verify};
//! fn in_order(verify: Verify, identify: Identify, rest: impl Next<Event>) -> impl Next<Envelope> {
//!     tower::ServiceBuilder::new().stage(verify).stage(identify).service(rest)
//! }
//! ```
//!
//! Two stages that are swapped do not compile:
//!
//! ```compile_fail,E0277
//! use gatepost::{identify::{Event, Identify}, receive::Envelope, stage::{Next, StageExt as _}, verify::Verify};
//! fn swapped(verify: Verify, identify: Identify, rest: impl Next<Event>) -> impl Next<Envelope> {
//!     tower::ServiceBuilder::new().stage(identify).stage(verify).service(rest)
//! }
//! ```

mod front;
mod parts;

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceBuilder, util::BoxCloneSyncService};

use parts::Parts;

pub use front::{Doors, Front};
pub use parts::Upstreams;

use crate::{
    answer::{Answered, Outcome, Refusal},
    audit::AuditLog,
    dedup::{DedupStore, Joins},
    handshake::{Captures, Signed, Unsigned},
    receive::{Budget, Inbound},
    stage::StageExt as _,
    telemetry::Metrics,
    verify::Unverified,
};

/// What the stacks of one worker share, and what outlives a reload. All workers have the same, but for the tracker and a
/// store that is reached by connections.
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
    /// Knows the worker's tasks that outlive their connections.
    pub tracker: TaskTracker,
    /// Where secrets that providers send go, while the operator waits for one.
    pub captures: Captures,
    /// Requests in flight.
    pub room: Arc<Budget>,
    /// Bytes of bodies in flight.
    pub memory: Arc<Budget>,
    /// Cancelled when the process begins to stop.
    pub draining: CancellationToken,
    /// Cancelled when requests that still come would hardly be finished: they are told to come back.
    pub closed: CancellationToken,
}

/// Answers the requests of one source. Type-erased once, at the rim.
pub type Stack<B> = BoxCloneSyncService<Inbound<B>, Answered<Outcome>, Answered<Refusal>>;

/// The flow of one source, from a request to an answer.
///
/// Cheap and pure stands before dear and effectful: nothing is stored for a stranger, nothing is claimed for an event that
/// nobody wants, and nothing after the claim can be cancelled by the sender.
fn ingress<B>(source: &Parts<'_>) -> Stack<B>
where
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
{
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            // Room is checked before anything is done: under a flood, being refused is what most requests cost.
            .stage(source.admit())
            // Sees every other answer, so that each gets onto the record as the table says.
            .stage(source.note())
            .stage(source.receive())
            // Challenges that their provider does not sign.
            .stage(Unsigned(Arc::clone(&source.challenges)))
            // Above this line nothing is believed.
            .stage(source.verify())
            // Challenges that their provider signs.
            .stage(Signed(Arc::clone(&source.challenges)))
            .stage(source.identify())
            .stage(source.choose())
            // Below this line a vanished sender cancels nothing: no claim is left behind, no forward cut in half.
            .stage(source.detach())
            // Claimed before it is recorded, so that only one of many twins pays for a sync.
            .stage(source.dedup())
            // Recorded before it takes effect.
            .stage(source.audit())
            .service(source.deliver().service()),
    )
}

/// The flow of what was **not** verified, for a source in shadow mode: the operator's explicit exception. It never
/// touches dedup, and says on the record and to the app what it is.
fn shadow(
    source: &Parts<'_>,
) -> BoxCloneSyncService<Unverified, Answered<Outcome>, Answered<Refusal>> {
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .stage(source.choose_shadow())
            .stage(source.detach())
            .stage(source.audit_shadow())
            .service(source.deliver().flagged_service()),
    )
}
