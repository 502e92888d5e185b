//! The unary stack of a host: load-shed, then a limit of calls under way, then the service.
//!
//! Load-shed stands outside, so that a call above the limit is refused at once: waiting here it would be answered too
//! late to matter. The limit bounds the memory that calls under way hold: a server stream counts until it is opened.
//! Open streams and sessions have their own bounds.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{BoxError, Service, ServiceBuilder};

use crate::faults;
use crate::proposer::Unproposed;

#[derive(Clone)]
pub struct Shed<S> {
    inner: LoadShed<ConcurrencyLimit<S>>,
}

impl<S> Shed<S> {
    pub fn new(service: S, at_once: usize) -> Self {
        Shed { inner: ServiceBuilder::new().load_shed().concurrency_limit(at_once).service(service) }
    }
}

impl<S: NamedService> NamedService for Shed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Shed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Load-shed is always ready; the service behind it never fails.
        let _: Poll<Result<(), BoxError>> = self.inner.poll_ready(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            Ok(answer
                .await
                .unwrap_or_else(|_| tonic::Status::from(faults::unproposed(Unproposed::Overloaded)).into_http()))
        })
    }
}
