//! Bodies that are still on their way.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::TaskTracker;

use super::voice::Running;

/// A request's body. One of HTTP/2 that is dropped before its end is read on for a while: else its frames find no stream any
/// more, which counts as the sender's mistake, and one that is refused often would lose its connection and all that runs on
/// it. Its request runs meanwhile, so that they are no bytes without one. HTTP/1 needs none of it.
#[derive(Debug)]
pub struct Arriving {
    body: Option<Incoming>,
    reads_on: Option<(TaskTracker, Running)>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, reads_on: Option<(TaskTracker, Running)>) -> Self {
        Self { body: Some(body), reads_on }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some((tracker, running)) = self.reads_on.take()
            && let Some(rest) = self.body.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            drop(tracker.spawn_on(timeout(REST_TIME, read_on(rest, running)), &runtime));
        }
    }
}

async fn read_on(mut rest: Incoming, _running: Running) {
    let mut left = REST_BYTES;
    while let Some(Ok(frame)) = rest.frame().await {
        let Some(fewer) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = fewer;
    }
}

/// What is read of a body that nobody wants: long enough for what was under way when the answer came.
const REST_TIME: Duration = Duration::from_secs(2);
const REST_BYTES: usize = 1024 * 1024;
