//! From here on a vanished client cancels nothing: the rest of the flow runs in a tracked task (`decisions` 12).

use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Refusal},
    stage::{Next, Stage},
};

/// The stage. Shutdown waits for the tasks that the tracker knows.
#[derive(Clone, Debug)]
pub struct Detach(pub TaskTracker);

impl<T: Send + 'static, N: Next<T>> Stage<T, N> for Detach {
    async fn pass(self, input: T, next: N) -> Answer {
        let rest = async move { next.oneshot(input).await };
        self.0.spawn(rest).await.unwrap_or_else(|_panicked| Err(Refusal::Bug.into()))
    }
}
