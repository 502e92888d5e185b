//! A host that does what the test says, call by call and frame by frame.
//!
//! It speaks gRPC and knows no service: whatever is called, the test is given the call and answers it.

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use conclave_proto::status::ApiError;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::in_time;

pub struct ScriptedHost {
    pub address: String,
    calls: mpsc::Receiver<Call>,
    _stop: DropGuard,
}

/// One call of the gateway.
pub struct Call {
    pub path: String,
    request: Body,
    received: BytesMut,
    response: mpsc::Sender<Result<Frame<Bytes>, Status>>,
}

impl ScriptedHost {
    pub async fn start() -> ScriptedHost {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let (seen, calls) = mpsc::channel(16);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let seen = seen.clone();
            async move {
                let (response, parts) = mpsc::channel(1);
                let path = request.uri().path().to_owned();
                let call = Call { path, request: request.into_body(), received: BytesMut::new(), response };
                seen.send(call).await.expect("the test listens");
                let body = Body::new(StreamBody::new(ReceiverStream::new(parts)));
                let response = http::Response::builder().header("content-type", "application/grpc").body(body);
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().serve_with_incoming_shutdown(service, incoming, stop.clone().cancelled_owned());
        tokio::spawn(server);
        ScriptedHost { address, calls, _stop: stop.drop_guard() }
    }

    /// The next call.
    pub async fn call(&mut self) -> Call {
        in_time(self.calls.recv()).await.expect("the host serves")
    }
}

impl Call {
    /// The next message of the gateway.
    pub async fn read<M: Message + Default>(&mut self) -> M {
        in_time(async {
            loop {
                if let Some(length) = self.received.get(1..5) {
                    let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                    if self.received.len() >= 5 + length {
                        self.received.advance(5);
                        return M::decode(self.received.split_to(length).freeze()).unwrap();
                    }
                }
                let frame = self.request.frame().await.expect("another message").unwrap();
                self.received.put(frame.into_data().expect("requests have no trailers"));
            }
        })
        .await
    }

    /// Waits until the gateway takes it.
    pub async fn send(&mut self, message: &impl Message) {
        self.send_bytes(framed(message)).await;
    }

    pub async fn send_bytes(&mut self, bytes: Bytes) {
        in_time(self.response.send(Ok(Frame::data(bytes)))).await.expect("the gateway reads");
    }

    /// Ends the call with this status.
    pub async fn end(&mut self, status: Status) {
        let mut trailers = http::HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        in_time(self.response.send(Ok(Frame::trailers(trailers)))).await.expect("the gateway reads");
    }

    /// Breaks off as a host that is killed.
    pub async fn cut(&mut self) {
        in_time(self.response.send(Err(Status::internal("cut")))).await.expect("the gateway reads");
    }

    /// Steps down in favour of another.
    pub async fn follow(&mut self, leader: &ScriptedHost) {
        self.end(ApiError::not_leader(Some(&leader.address), 2).into()).await;
    }

    /// Reads the gateway's half to its end, and says whether it was ended rather than broken off.
    pub async fn ended(&mut self) -> bool {
        in_time(async {
            loop {
                match self.request.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
        })
        .await
    }

    /// Waits until the gateway has left the call.
    pub async fn left(&mut self) {
        in_time(self.response.closed()).await;
    }
}

/// One message as it stands in a body.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}
