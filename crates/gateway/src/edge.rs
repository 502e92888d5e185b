//! The edge: what every call passes on its way in, and the fork between the kinds of calls.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use conclave_proto::status::ApiError;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::auth::{Admit, Authority, Caller};
use crate::core::Core;
use crate::frames::framed;
use crate::list_rooms::list_rooms;
use crate::methods::{self, Forward};
use crate::session;
use crate::stream::{self, Method};
use crate::unary::{Call, collect};
use crate::wire;

type Handled = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// How long a refused caller is asked to stay away.
const OVERLOADED_FOR: Duration = Duration::from_millis(250);

/// Serves `conclave.v1` through the guards and everything else (health, reflection) beside them, so that a loaded
/// gateway still says that it is alive.
#[derive(Clone)]
pub struct Edge {
    guarded: BoxCloneSyncService<Request<Body>, Response<Body>, tower::BoxError>,
    beside: Routes,
}

impl Edge {
    pub fn new(core: Arc<Core>, authority: Arc<Authority>, beside: Routes) -> Self {
        let max_calls = core.options.max_calls;
        let calls = service_fn(move |request| {
            let core = core.clone();
            async move { Ok::<_, Infallible>(handle(core, request).await) }
        });
        let guarded = ServiceBuilder::new()
            // Outermost, because a refusal must cost next to nothing: what finds no place below is turned away at once
            // instead of queueing until its caller has given up.
            .load_shed()
            // Next, so that the bound covers the checking of tokens as well. A session or a server stream holds its
            // place only until it is open; each kind has a bound of its own.
            .concurrency_limit(max_calls)
            // Last before the work, so that nothing behind it ever sees an unverified caller.
            .layer_fn(move |inner| Admit::new(authority.clone(), inner))
            .service(calls);
        Edge { guarded: BoxCloneSyncService::new(guarded), beside }
    }
}

impl Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Handled;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The guards answer for themselves: with a status rather than by not being ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Handled {
        if request.uri().path().starts_with("/conclave.v1.") {
            let guarded = self.guarded.clone();
            Box::pin(async move { Ok(guarded.oneshot(request).await.unwrap_or_else(turned_away)) })
        } else {
            Box::pin(self.beside.clone().oneshot(request))
        }
    }
}

async fn handle(core: Arc<Core>, request: Request<Body>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let Some((path, forward)) = methods::forward(parts.uri.path()) else {
        return wire::refused(&ApiError::unimplemented("the method").into());
    };
    let Some(caller) = parts.extensions.remove::<Caller>() else {
        return wire::refused(&ApiError::token_missing().into());
    };
    match forward {
        Forward::Session => return session::connect(&core, caller, &parts.headers, body),
        Forward::Stream(resume) => {
            return stream::open(&core, caller, Method { path, resume }, &parts.headers, body);
        }
        _ => {}
    }
    let call = Call::new(&core, &caller, path, &parts.headers);
    answer(&call, forward, body).await.unwrap_or_else(|status| wire::refused(&status))
}

async fn answer(call: &Call<'_>, forward: Forward, body: Body) -> Result<Response<Body>, Status> {
    let request = collect(body).await?;
    match forward {
        Forward::Read | Forward::Ephemeral => Ok(call.to_room(request, None).await?.into_response()),
        Forward::Write { request_id_field } => Ok(call.to_room(request, Some(request_id_field)).await?.into_response()),
        Forward::EveryShard => {
            let page = list_rooms(call, request).await?;
            Ok(wire::answered(framed(&page)))
        }
        Forward::Session | Forward::Stream(_) => Err(ApiError::unimplemented("a stream as a unary call").into()),
    }
}

/// The guards' own refusals.
fn turned_away(error: tower::BoxError) -> Response<Body> {
    if error.is::<tower::load_shed::error::Overloaded>() {
        return wire::refused(&ApiError::overloaded(OVERLOADED_FOR).into());
    }
    tracing::error!(%error, "the edge failed");
    wire::refused(&ApiError::internal("edge").into())
}
