//! Opens a log: takes up the chain where it ended, and gives the writer a thread, or into the caller's hand.

use std::{fmt::Display, path::Path, sync::Arc, thread};

use super::{
    Params,
    checkpoint::Signer,
    log::{AuditLog, Job, Shared},
    storage::{Directory, Storage},
    writer::{Clock, Writer},
};
use crate::{event::Timestamp, telemetry::AuditMetrics};

/// Why the log cannot be opened; a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl OpenError {
    pub(super) fn held(dir: &Path, pid: &str) -> Self {
        let dir = dir.display();
        Self(format!("audit log: another gatepost holds the log in {dir} (pid {pid})"))
    }

    /// Files cannot be read or written, or the first record could not be made durable.
    pub(super) fn failed(dir: &Path, why: &dyn Display) -> Self {
        Self(format!("audit log in {}: {why}", dir.display()))
    }
}

/// Locks the directory, takes up the chain where it ended, and starts the writer.
pub fn open(params: &Params, metrics: AuditMetrics) -> Result<AuditLog, OpenError> {
    let storage = Arc::new(Directory::open(&params.dir)?);
    open_on(storage, params, metrics, Arc::new(Timestamp::now))
}

/// The same on a given disk, with a given clock.
pub fn open_on(
    storage: Arc<dyn Storage>,
    params: &Params,
    metrics: AuditMetrics,
    clock: Clock,
) -> Result<AuditLog, OpenError> {
    let (shared, writer) = begin(storage, params, metrics, clock)?;
    let farewell = Farewell(shared.clone());
    let run = move || {
        let _farewell = farewell; // dropped last, after the lock was given up, and in a panic too
        writer.run();
    };
    let thread = thread::Builder::new().name("audit-writer".into()).spawn(run);
    let thread = thread.map_err(|error| OpenError::failed(&params.dir, &error))?;
    Ok(AuditLog::new(shared, Some(thread)))
}

/// The same without a thread: nothing is written but when the caller says so.
pub fn open_by_hand(
    storage: Arc<dyn Storage>,
    params: &Params,
    metrics: AuditMetrics,
    clock: Clock,
) -> Result<(AuditLog, ByHand), OpenError> {
    let (shared, writer) = begin(storage, params, metrics, clock)?;
    let by_hand = ByHand { writer, jobs: Vec::new(), _farewell: Farewell(shared.clone()) };
    Ok((AuditLog::new(shared, None), by_hand))
}

fn begin(
    storage: Arc<dyn Storage>,
    params: &Params,
    metrics: AuditMetrics,
    clock: Clock,
) -> Result<(Arc<Shared>, Writer), OpenError> {
    let signer = Signer::load_or_make(&params.checkpoint_key, storage.path())
        .map_err(|why| OpenError(format!("audit checkpoint key: {why}")))?;
    let failed = |why: &dyn Display| OpenError::failed(&params.dir, why);
    let shared = Shared::new(metrics);
    let taken = Writer::take_up(shared.clone(), storage, params, signer, clock);
    let (mut writer, recovery, removals) = taken.map_err(|error| failed(&error))?;
    writer.begin(recovery, &removals).map_err(|error| failed(&error))?;
    Ok((shared, writer))
}

/// The writer of a log that has no thread.
pub struct ByHand {
    writer: Writer,
    jobs: Vec<Job>,
    _farewell: Farewell,
}

impl ByHand {
    /// What the thread does between two sleeps; says whether anything was waiting.
    pub fn turn(&mut self) -> bool {
        self.writer.shared.grab(&mut self.jobs);
        let busy = !self.jobs.is_empty();
        if busy {
            drop(self.writer.record(&mut self.jobs)); // whoever waits was told
        }
        self.writer.keep_house();
        busy
    }

    /// The end of a clean run.
    pub fn end(mut self) {
        while self.turn() {}
        self.writer.end();
    }
}

/// However the writer ends, nobody waits for it in vain.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.finish();
    }
}
