//! A gateway whose every word a test decides: it hands each stream that a client opens to the test.

use std::pin::Pin;

use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::messaging_service_server::{MessagingService, MessagingServiceServer};
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use conclave_proto::v1::{self, ClientFrame, ServerFrame};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::in_time;

/// Frames or elements that the test may say before anybody reads them.
const SAID_AHEAD: usize = 16;
/// Streams that clients open before the test looks at them.
const STREAMS: usize = 4;

pub struct Gateway {
    pub address: String,
    sessions: mpsc::Receiver<Attachment>,
    follows: mpsc::Receiver<Follow>,
    server: JoinHandle<()>,
}

/// The stream of a session.
pub struct Attachment {
    frames: Streaming<ClientFrame>,
    replies: mpsc::Sender<Result<ServerFrame, Status>>,
}

/// A stream of the room's log.
pub struct Follow {
    pub request: v1::FollowMessagesRequest,
    pub elements: mpsc::Sender<Result<v1::FollowMessagesResponse, Status>>,
}

impl Gateway {
    pub async fn start() -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket").to_string();
        let (sessions_in, sessions) = mpsc::channel(STREAMS);
        let (follows_in, follows) = mpsc::channel(STREAMS);
        let service = Service { sessions: sessions_in, follows: follows_in };
        let server = Server::builder()
            .add_service(SessionServiceServer::new(service.clone()))
            .add_service(MessagingServiceServer::new(service));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tokio::spawn(async move { server.serve_with_incoming(incoming).await.expect("serving") });
        Gateway { address, sessions, follows, server }
    }

    /// The next stream of a session, its Hello answered.
    pub async fn welcome(&mut self) -> Attachment {
        let mut attachment = in_time(self.sessions.recv()).await.expect("a stream");
        let hello = attachment.next().await;
        assert!(matches!(hello.body, Some(Asked::Hello(_))), "{hello:?}");
        attachment.say(0, 0, Body::Welcome(v1::Welcome::default())).await;
        attachment
    }

    pub async fn follow(&mut self) -> Follow {
        in_time(self.follows.recv()).await.expect("a stream")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Attachment {
    /// The next frame that is not a ping; pings are answered.
    pub async fn next(&mut self) -> ClientFrame {
        loop {
            let frame = in_time(self.frames.message()).await.expect("a living stream").expect("a frame");
            if !matches!(frame.body, Some(Asked::Ping(_))) {
                return frame;
            }
            self.say(0, 0, Body::Pong(v1::Pong {})).await;
        }
    }

    /// The next frame, which must be a ping.
    pub async fn ping(&mut self) {
        let frame = in_time(self.frames.message()).await.expect("a living stream").expect("a frame");
        assert!(matches!(frame.body, Some(Asked::Ping(_))), "{frame:?}");
    }

    pub async fn say(&self, reply_to: u64, subscription: u64, body: Body) {
        self.say_at(reply_to, subscription, 0, body).await;
    }

    /// An event of a subscription.
    pub async fn tell(&self, subscription: u64, revision: u64) {
        self.say_at(0, subscription, revision, Body::EventBatch(batch(revision))).await;
    }

    async fn say_at(&self, reply_to: u64, subscription: u64, revision: u64, body: Body) {
        let frame = ServerFrame { reply_to, revision, subscription, body: Some(body) };
        in_time(self.replies.send(Ok(frame))).await.expect("a living stream");
    }

    /// As a gateway does that goes away.
    pub async fn end(self) {
        self.end_with(Status::unavailable("the gateway goes away")).await;
    }

    /// Says no more, while the client's half stays.
    pub async fn close(&mut self) {
        in_time(self.replies.send(Err(Status::unavailable("the gateway goes away")))).await.expect("a living stream");
    }

    /// Reads the client's half to its end, and says whether it was ended rather than broken off.
    pub async fn ended(&mut self) -> bool {
        loop {
            match in_time(self.frames.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    pub async fn end_with(self, status: Status) {
        in_time(self.replies.send(Err(status))).await.expect("a living stream");
    }
}

/// One message event.
pub fn batch(revision: u64) -> conclave_proto::events::EventBatch {
    conclave_proto::events::EventBatch::of(&[v1::Event { revision, ..Default::default() }])
}

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<Attachment>,
    follows: mpsc::Sender<Follow>,
}

type Elements<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Service {
    type ConnectStream = Elements<ServerFrame>;

    async fn connect(&self, request: Request<Streaming<ClientFrame>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (replies, said) = mpsc::channel(SAID_AHEAD);
        let attachment = Attachment { frames: request.into_inner(), replies };
        self.sessions.send(attachment).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

#[tonic::async_trait]
impl MessagingService for Service {
    type FollowMessagesStream = Elements<v1::FollowMessagesResponse>;
    type ReceiveEphemeralStream = Elements<v1::ReceiveEphemeralResponse>;

    async fn follow_messages(
        &self,
        request: Request<v1::FollowMessagesRequest>,
    ) -> Result<Response<Self::FollowMessagesStream>, Status> {
        let (elements, said) = mpsc::channel(SAID_AHEAD);
        let follow = Follow { request: request.into_inner(), elements };
        self.follows.send(follow).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn receive_ephemeral(
        &self,
        _: Request<v1::ReceiveEphemeralRequest>,
    ) -> Result<Response<Self::ReceiveEphemeralStream>, Status> {
        Err(Status::unimplemented("this gateway follows logs"))
    }

    async fn post_message(
        &self,
        _: Request<v1::PostMessageRequest>,
    ) -> Result<Response<v1::PostMessageResponse>, Status> {
        Err(Status::unimplemented("this gateway follows logs"))
    }

    async fn send_ephemeral(
        &self,
        _: Request<v1::SendEphemeralRequest>,
    ) -> Result<Response<v1::SendEphemeralResponse>, Status> {
        Err(Status::unimplemented("this gateway follows logs"))
    }
}
