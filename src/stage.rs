//! Lets a stage be one `async fn` and still be a `tower::Service`. The only hand-written service of the crate.
//!
//! A stage turns an `In` into an `Out` and hands it on, or answers itself. `next` is called by
//! [`oneshot`](tower::ServiceExt::oneshot): the instance that is made ready is the instance that is called.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder, layer::util::Stack};

use crate::answer::{Answer, Answered, Outcome, Refusal};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a stage may call next: any service that takes a `T` and answers in our terms.
pub trait Next<T>:
    Service<T, Response = Answered<Outcome>, Error = Answered<Refusal>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T, S> Next<T> for S where
    S: Service<T, Response = Answered<Outcome>, Error = Answered<Refusal>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A step of the flow. Cloned once per request, so its fields are few and cheap to clone.
#[diagnostic::on_unimplemented(
    message = "stage `{Self}` does not take a `{In}`",
    label = "a stage here is out of order",
    note = "a request passes as Inbound -> Envelope -> Verified -> Event -> Routed -> Fresh -> Recorded; see stack.rs"
)]
pub trait Stage<In, N>: Clone + Send + Sync + 'static {
    /// Handles `input`, calling `next` at most once.
    fn pass(self, input: In, next: N) -> impl Future<Output = Answer> + Send;
}

/// The layer of one stage.
#[derive(Clone, Debug)]
pub struct Through<T>(T);

/// A stage and the service it hands on to. Shared: cloning a stack does not clone the stages in it.
#[derive(Debug)]
pub struct Staged<S, T>(Arc<(T, S)>);

impl<S, T> Clone for Staged<S, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S, T: Clone> Layer<S> for Through<T> {
    type Service = Staged<S, T>;

    fn layer(&self, next: S) -> Self::Service {
        Staged(Arc::new((self.0.clone(), next)))
    }
}

impl<In, S, T> Service<In> for Staged<S, T>
where
    T: Stage<In, S>,
    S: Clone + Send + Sync + 'static,
    In: Send + 'static,
{
    type Response = Answered<Outcome>;
    type Error = Answered<Refusal>;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(())) // readiness is driven inside the future, by `oneshot`
    }

    fn call(&mut self, input: In) -> Self::Future {
        let (stage, next) = &*self.0;
        Box::pin(stage.clone().pass(input, next.clone()))
    }
}

/// `.stage(…)` on `ServiceBuilder`, so that a stack reads as a list of stages.
pub trait StageExt<L> {
    /// Adds a stage below the ones added before.
    fn stage<T>(self, stage: T) -> ServiceBuilder<Stack<Through<T>, L>>;
}

impl<L> StageExt<L> for ServiceBuilder<L> {
    fn stage<T>(self, stage: T) -> ServiceBuilder<Stack<Through<T>, L>> {
        self.layer(Through(stage))
    }
}
