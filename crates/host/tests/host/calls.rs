//! Speaks to one host: unary calls and session streams, each with signed claims.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_auth::{CLAIMS_HEADER, Claims, sign_claims};
use conclave_proto::status::{reason_of, reason_of_frame};
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::document_service_client::DocumentServiceClient;
use conclave_proto::v1::messaging_service_client::MessagingServiceClient;
use conclave_proto::v1::participant_service_client::ParticipantServiceClient;
use conclave_proto::v1::queue_service_client::QueueServiceClient;
use conclave_proto::v1::room_service_client::RoomServiceClient;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::session_service_client::SessionServiceClient;
use conclave_proto::v1::{self, ErrorReason, Hello, Welcome};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{CancellationHandle, Request, Status, Streaming};

use crate::cluster::{PATIENCE, TestClock};

/// Frames that a test may send without waiting for the host.
const OUTBOUND: usize = 4_096;

#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    secret: [u8; 32],
    claims: Claims,
    /// The gateway's clock is right, whatever the hosts' show.
    clock: Arc<TestClock>,
}

impl Caller {
    /// Connects at the first call, and again when the host was gone.
    pub fn connect(address: &str, secret: [u8; 32], claims: Claims, clock: Arc<TestClock>) -> Caller {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a host's address");
        Caller { channel: endpoint.tcp_nodelay(true).connect_lazy(), secret, claims, clock }
    }

    /// The same connection, with other claims.
    pub fn claiming(&self, claims: Claims) -> Caller {
        Caller { claims, ..self.clone() }
    }

    /// The same participant, through a gateway that has another secret.
    pub fn with_secret(&self, secret: [u8; 32]) -> Caller {
        Caller { secret, ..self.clone() }
    }

    pub fn signed(&self) -> Vec<u8> {
        sign_claims(&self.secret, &self.claims, self.clock.right())
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        with_claims(message, &self.signed())
    }

    pub fn rooms(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.channel.clone())
    }

    pub async fn create_room(&self, room: &str) -> Result<v1::CreateRoomResponse, Status> {
        let request = v1::CreateRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
        Ok(self.rooms().create_room(self.request(request)).await?.into_inner())
    }

    pub async fn get_room(&self, room: &str) -> Result<v1::GetRoomResponse, Status> {
        let request = v1::GetRoomRequest { name: format!("rooms/{room}"), ..Default::default() };
        Ok(self.rooms().get_room(self.request(request)).await?.into_inner())
    }

    pub async fn delete_room(&self, room: &str) -> Result<v1::DeleteRoomResponse, Status> {
        self.delete_room_if(room, "").await
    }

    pub async fn delete_room_if(&self, room: &str, etag: &str) -> Result<v1::DeleteRoomResponse, Status> {
        let (name, etag) = (format!("rooms/{room}"), etag.to_owned());
        let request = v1::DeleteRoomRequest { name, etag, ..Default::default() };
        Ok(self.rooms().delete_room(self.request(request)).await?.into_inner())
    }

    pub fn documents(&self) -> DocumentServiceClient<Channel> {
        DocumentServiceClient::new(self.channel.clone())
    }

    pub fn messaging(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel.clone())
    }

    pub fn participants(&self) -> ParticipantServiceClient<Channel> {
        ParticipantServiceClient::new(self.channel.clone())
    }

    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
    }

    pub async fn send(&self, request: v1::SendItemsRequest) -> Result<v1::SendItemsResponse, Status> {
        Ok(self.queues().send_items(self.request(request)).await?.into_inner())
    }

    pub async fn receive(&self, request: v1::ReceiveItemsRequest) -> Result<Vec<v1::Delivery>, Status> {
        Ok(self.queues().receive_items(self.request(request)).await?.into_inner().deliveries)
    }

    pub async fn ack(&self, queue: &str, deliveries: &[v1::DeliveryId]) -> Result<Vec<AckResult>, Status> {
        let request =
            v1::AckDeliveriesRequest { parent: queue.into(), deliveries: deliveries.to_vec(), ..Default::default() };
        Ok(self.queues().ack_deliveries(self.request(request)).await?.into_inner().results().collect())
    }

    pub async fn queue(&self, queue: &str) -> Result<v1::Queue, Status> {
        let request = v1::GetQueueRequest { name: queue.into(), ..Default::default() };
        let response = self.queues().get_queue(self.request(request)).await?.into_inner();
        Ok(response.queue.expect("a queue that was found"))
    }

    /// Begins a session in a room.
    pub async fn begin(&self, room: &str) -> Result<Stream, Status> {
        self.open(Hello { room: format!("rooms/{room}"), ..Default::default() }).await
    }

    /// Takes a session up again, saying that frames up to `sent` were sent.
    pub async fn resume(&self, room: &str, token: &Bytes, sent: u64) -> Result<Stream, Status> {
        self.open(Hello {
            room: format!("rooms/{room}"),
            resume_token: token.clone(),
            sent_sequence: sent,
            unanswered: true,
        })
        .await
    }

    pub async fn open(&self, hello: Hello) -> Result<Stream, Status> {
        let (frames, outbound) = mpsc::channel(OUTBOUND);
        let first = v1::ClientFrame { body: Some(Asked::Hello(hello)), ..Default::default() };
        frames.try_send(first).expect("an empty channel");
        let mut request = self.request(ReceiverStream::new(outbound));
        let cancel = request.cancellation_handle();
        let mut sessions = SessionServiceClient::new(self.channel.clone());
        let connected = timeout(PATIENCE, sessions.connect(request));
        let replies = connected.await.expect("the host never answered hello")?.into_inner();
        let mut stream = Stream { frames, replies, cancel, welcome: Welcome::default() };
        match stream.next().await?.body {
            Some(Body::Welcome(welcome)) => stream.welcome = welcome,
            other => panic!("the stream began with {other:?}"),
        }
        Ok(stream)
    }
}

pub fn with_claims<T>(message: T, signed: &[u8]) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert_bin(CLAIMS_HEADER, MetadataValue::from_bytes(signed));
    request
}

/// A session's stream.
pub struct Stream {
    frames: mpsc::Sender<v1::ClientFrame>,
    replies: Streaming<v1::ServerFrame>,
    cancel: CancellationHandle,
    pub welcome: Welcome,
}

impl Stream {
    pub fn token(&self) -> &Bytes {
        &self.welcome.resume_token
    }

    /// Sends a frame; on a stream that has ended it goes nowhere.
    pub fn ask(&self, sequence: u64, body: Asked) {
        self.ask_acknowledging(sequence, 0, body);
    }

    pub fn ask_acknowledging(&self, sequence: u64, acknowledged: u64, body: Asked) {
        let _ = self.frames.try_send(v1::ClientFrame { sequence, acknowledged, subscription: 0, body: Some(body) });
    }

    /// Sends a frame about a subscription.
    pub fn ask_of(&self, sequence: u64, subscription: u64, body: Asked) {
        let _ = self.frames.try_send(v1::ClientFrame { sequence, acknowledged: 0, subscription, body: Some(body) });
    }

    /// An acknowledgement that comes alone.
    pub fn acknowledge(&self, acknowledged: u64) {
        let _ = self.frames.try_send(v1::ClientFrame { acknowledged, ..Default::default() });
    }

    /// The next frame, or the status that the stream ended with.
    pub async fn next(&mut self) -> Result<v1::ServerFrame, Status> {
        let next = timeout(PATIENCE, self.replies.message()).await.expect("the host is silent");
        next.and_then(|frame| frame.ok_or_else(|| Status::ok("the stream is closed")))
    }

    /// The reply to a frame, which must be the next.
    pub async fn reply(&mut self, sequence: u64) -> Body {
        let frame = self.next().await.expect("the stream goes on");
        assert_eq!(frame.reply_to, sequence, "answered out of order: {frame:?}");
        frame.body.expect("a reply has a body")
    }

    /// The outcome of a send: where its first item stands.
    pub async fn sent(&mut self, sequence: u64) -> v1::SendItemsResponse {
        match self.reply(sequence).await {
            Body::SendItems(response) => response,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }

    pub async fn received(&mut self, sequence: u64) -> Vec<v1::Delivery> {
        match self.reply(sequence).await {
            Body::ReceiveItems(response) => response.deliveries,
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }

    pub async fn refused(&mut self, sequence: u64) -> ErrorReason {
        match self.reply(sequence).await {
            Body::Status(status) => reason_of_frame(&status).expect("a reason"),
            other => panic!("frame {sequence} was answered with {other:?}"),
        }
    }

    /// Why the stream ended; frames that were answered before are passed over.
    pub async fn end(&mut self) -> ErrorReason {
        loop {
            if let Err(status) = self.next().await {
                return reason(&status);
            }
        }
    }

    /// Returns once every frame before this one is under way: the host looks at what it runs between a read's answer
    /// and the frame after it.
    pub async fn settle(&mut self, sequence: u64, queue: &str) {
        self.ask(sequence, get_queue(queue));
        assert!(matches!(self.reply(sequence).await, Body::GetQueue(_)));
        self.ask(0, Asked::Ping(v1::Ping {}));
        assert!(matches!(self.reply(0).await, Body::Pong(_)));
    }

    /// Leaves without a word.
    pub fn leave(self) {}

    /// Is cut off, as by a lost connection: no more replies are read, and that no more frames come is never said as long
    /// as what is returned is kept.
    pub fn cut(self) -> impl Send + 'static {
        self.frames
    }

    /// Breaks the stream off.
    pub fn reset(self) {
        self.cancel.cancel();
    }

    /// Says that no more frames come; replies still do.
    pub fn close(self) -> Streaming<v1::ServerFrame> {
        self.replies
    }
}

pub use conclave_proto::v1::ack_deliveries_response::Result as AckResult;

pub fn reason(status: &Status) -> ErrorReason {
    reason_of(status).unwrap_or_else(|| panic!("a status without a reason: {status:?}"))
}

pub fn refusal<T>(result: Result<T, Status>) -> ErrorReason {
    match result {
        Ok(_) => panic!("what should have been refused was done"),
        Err(status) => reason(&status),
    }
}

pub fn items(queue: &str, bodies: &[&str]) -> v1::SendItemsRequest {
    let item = |body: &&str| v1::NewItem { body: Bytes::copy_from_slice(body.as_bytes()), ..Default::default() };
    v1::SendItemsRequest { parent: queue.into(), items: bodies.iter().map(item).collect(), ..Default::default() }
}

pub fn send(queue: &str, body: &str) -> Asked {
    Asked::SendItems(items(queue, &[body]))
}

/// A send of so many bytes, for windows.
pub fn send_bytes(queue: &str, item_bytes: usize, count: usize) -> Asked {
    let item = v1::NewItem { body: vec![b'x'; item_bytes].into(), ..Default::default() };
    Asked::SendItems(v1::SendItemsRequest { parent: queue.into(), items: vec![item; count], ..Default::default() })
}

pub fn receive_request(queue: &str, wait: Duration, lease: Duration) -> v1::ReceiveItemsRequest {
    v1::ReceiveItemsRequest {
        parent: queue.into(),
        max_items: 1,
        wait: Some(wait.try_into().expect("a wait")),
        lease: Some(lease.try_into().expect("a lease")),
        ..Default::default()
    }
}

pub fn receive(queue: &str, wait: Duration, lease: Duration) -> Asked {
    Asked::ReceiveItems(receive_request(queue, wait, lease))
}

pub fn get_queue(queue: &str) -> Asked {
    Asked::GetQueue(v1::GetQueueRequest { name: queue.into(), ..Default::default() })
}

pub fn id(delivery: &v1::Delivery) -> v1::DeliveryId {
    delivery.id.expect("a delivery has an id")
}

/// (item, attempt) of each delivery.
pub fn ids(deliveries: &[v1::Delivery]) -> Vec<(u64, u32)> {
    deliveries.iter().map(|delivery| (id(delivery).item, id(delivery).attempt)).collect()
}

pub fn bodies(deliveries: &[v1::Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| std::str::from_utf8(&delivery.body).expect("text")).collect()
}
