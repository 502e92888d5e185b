//! Tells a request stream that was broken off from one that was ended.
//!
//! Tonic shows a service the end of the stream in either case when the peer resets it with CANCEL, as any HTTP/2 client
//! does that is dropped. For a session the two are not the same: a client that ends its stream leaves the room at once,
//! one that is cut off keeps its participant for its lease.

use std::task::{Context, Poll};

use http::Request;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

/// A service that sees an error where its peer has cancelled.
#[derive(Clone)]
pub struct BrokenOff<S>(pub S);

impl<S: NamedService> NamedService for BrokenOff<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for BrokenOff<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request.map(|body| Body::new(body.map_err(told))))
    }
}

/// As any code but CANCELLED, which is taken for the end.
fn told(status: Status) -> Status {
    match status.code() {
        Code::Cancelled => Status::unavailable("the peer has broken the stream off"),
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    use tonic::Streaming;
    use tonic::codec::{DecodeBuf, Decoder};
    use tower::service_fn;

    use super::*;

    struct NoFrames;

    impl Decoder for NoFrames {
        type Item = ();
        type Error = Status;

        fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
            Ok(None)
        }
    }

    /// How a service sees a request stream end.
    async fn seen(end: Option<Code>) -> Option<Code> {
        let end = end.map(|code| Err::<http_body::Frame<bytes::Bytes>, _>(Status::new(code, "reset")));
        let body = Body::new(StreamBody::new(stream::iter(end)));
        let service = service_fn(async |request: Request<Body>| {
            let mut frames = Streaming::new_request(NoFrames, request.into_body(), None, None);
            Ok::<_, Status>(frames.next().await.map(|next| next.expect_err("an error").code()))
        });
        BrokenOff(service).call(Request::new(body)).await.expect("never fails")
    }

    #[tokio::test]
    async fn a_stream_that_the_peer_cancels_does_not_look_ended() {
        assert_eq!(seen(Some(Code::Cancelled)).await, Some(Code::Unavailable));
        assert_eq!(seen(Some(Code::Internal)).await, Some(Code::Internal));
        assert_eq!(seen(None).await, None);
    }
}
