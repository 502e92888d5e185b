//! A session: an ordered stream of frames in one room that survives lost connections.
//!
//! ```text
//! opening ──Welcome──► attached ──stream lost, GoAway──► reconnecting ──Welcome──► attached …
//!    │                    │                                   │ time limit, or refused for good
//!    └────────────────────┴──────────────► closed ◄───────────┘
//! ```
//!
//! Calling a method puts its frame in line at once, in the order of the calls; the future that it returns is the reply
//! and may be awaited late, in any order, or dropped.

mod codec;
mod driver;
mod presence;
mod shared;
mod subscription;
mod window;

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use conclave_proto::v1::client_frame::Body as Request;
use conclave_proto::v1::server_frame::Body as Response;
use conclave_proto::v1::*;
use conclave_types::limits::{MAX_FRAME_BYTES, MAX_UNACKNOWLEDGED_BYTES, MAX_UNACKNOWLEDGED_FRAMES};
use prost::Message;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::{Client, ClientError};
use presence::Change;
use shared::{Purpose, Shared, Waiting};
pub use subscription::Subscription;
use window::{FrameClass, Full, WindowLimits};

/// Room in a frame for what surrounds its body: two numbers and their tags.
const ENVELOPE_BYTES: usize = 32;

#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// How long a lost session is tried to be taken up again before its frames fail. Default 30 s.
    pub reconnect_for: Duration,
    /// Durable frames in flight: 1 to 1,024, and never more than the cluster says. Default 1,024.
    pub window: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { reconnect_for: Duration::from_secs(30), window: MAX_UNACKNOWLEDGED_FRAMES }
    }
}

/// An open session. Dropping it ends the stream at once; [`Session::close`] lets replies arrive first.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    driver: Option<JoinHandle<()>>,
}

type ReplySender = oneshot::Sender<Result<Response, ClientError>>;

/// The reply to one frame.
#[must_use = "the frame is on its way; its reply says whether it was taken"]
#[derive(Debug)]
pub struct Reply<T> {
    receiver: oneshot::Receiver<Result<Response, ClientError>>,
    kind: PhantomData<fn() -> T>,
}

impl<T: FromResponse> Future for Reply<T> {
    type Output = Result<T, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|received| {
            let response = received.map_err(|_| ClientError::closed())??;
            T::from_response(response)
                .ok_or_else(|| ClientError::new(Code::Internal, None, "the reply is not of the request's kind"))
        })
    }
}

/// A response that a session frame can carry.
pub trait FromResponse: Sized {
    #[doc(hidden)]
    fn from_response(response: Response) -> Option<Self>;
}

/// One method a request; what each does and how it fails stands in `proto/conclave/v1`.
macro_rules! requests {
    ($($(#[$doc:meta])* $method:ident: $class:ident $variant:ident($request:ty) -> $response:ty;)*) => {
        impl Session {
            $($(#[$doc])* pub fn $method(&self, request: $request) -> Reply<$response> {
                self.ask(FrameClass::$class, Request::$variant(request))
            })*
        }

        responses! { $($variant($response))* }
    };
}

macro_rules! responses {
    ($($variant:ident($response:ty))*) => {
        $(impl FromResponse for $response {
            fn from_response(response: Response) -> Option<Self> {
                match response {
                    Response::$variant(response) => Some(response),
                    _ => None,
                }
            }
        })*
    };
}

requests! {
    /// Durable: applied once and in order, whatever happens to connections.
    send_items: Durable SendItems(SendItemsRequest) -> SendItemsResponse;
    /// Durable.
    ack_deliveries: Durable AckDeliveries(AckDeliveriesRequest) -> AckDeliveriesResponse;
    /// Durable.
    nack_deliveries: Durable NackDeliveries(NackDeliveriesRequest) -> NackDeliveriesResponse;
    /// Durable.
    extend_leases: Durable ExtendLeases(ExtendLeasesRequest) -> ExtendLeasesResponse;
    /// Durable.
    create_queue: Durable CreateQueue(CreateQueueRequest) -> CreateQueueResponse;
    /// Durable.
    update_queue: Durable UpdateQueue(UpdateQueueRequest) -> UpdateQueueResponse;
    /// Durable.
    cancel_items: Durable CancelItems(CancelItemsRequest) -> CancelItemsResponse;
    /// Durable.
    move_items: Durable MoveItems(MoveItemsRequest) -> MoveItemsResponse;
    /// Durable.
    purge_items: Durable PurgeItems(PurgeItemsRequest) -> PurgeItemsResponse;
    /// Durable.
    update_room: Durable UpdateRoom(UpdateRoomRequest) -> UpdateRoomResponse;
    /// Sent again after a loss, it returns the deliveries that it took the first time while they are leased.
    receive_items: Transient ReceiveItems(ReceiveItemsRequest) -> ReceiveItemsResponse;
    get_room: Transient GetRoom(GetRoomRequest) -> GetRoomResponse;
    get_queue: Transient GetQueue(GetQueueRequest) -> GetQueueResponse;
    list_queues: Transient ListQueues(ListQueuesRequest) -> ListQueuesResponse;
    list_items: Transient ListItems(ListItemsRequest) -> ListItemsResponse;
    get_queue_stats: Transient GetQueueStats(GetQueueStatsRequest) -> GetQueueStatsResponse;
    /// Durable.
    push_update: Durable PushUpdate(PushUpdateRequest) -> PushUpdateResponse;
    /// Durable.
    post_message: Durable PostMessage(PostMessageRequest) -> PostMessageResponse;
    /// Durable.
    rename_document: Durable RenameDocument(RenameDocumentRequest) -> RenameDocumentResponse;
    /// Durable.
    delete_document: Durable DeleteDocument(DeleteDocumentRequest) -> DeleteDocumentResponse;
    describe_document: Transient DescribeDocument(DescribeDocumentRequest) -> DescribeDocumentResponse;
    list_documents: Transient ListDocuments(ListDocumentsRequest) -> ListDocumentsResponse;
    /// Ephemeral: a loss may repeat it.
    send_awareness: Transient SendAwareness(SendAwarenessRequest) -> SendAwarenessResponse;
    /// Ephemeral: a loss may repeat it.
    send_ephemeral: Transient SendEphemeral(SendEphemeralRequest) -> SendEphemeralResponse;
    list_participants: Transient ListParticipants(ListParticipantsRequest) -> ListParticipantsResponse;
}

responses! {
    AttachParticipant(AttachParticipantResponse)
    DetachParticipant(DetachParticipantResponse)
    Subscribed(Subscribed)
}

impl Session {
    /// Opens a session in a room (`rooms/{room}`) with the default options.
    pub async fn open(client: &Client, room: &str) -> Result<Session, ClientError> {
        Session::open_with(client, room, SessionOptions::default()).await
    }

    pub async fn open_with(client: &Client, room: &str, options: SessionOptions) -> Result<Session, ClientError> {
        if !(1..=MAX_UNACKNOWLEDGED_FRAMES).contains(&options.window) {
            let rule = format!("window must be 1 to {MAX_UNACKNOWLEDGED_FRAMES}, not {}", options.window);
            return Err(ClientError::new(Code::InvalidArgument, None, rule));
        }
        let limits = WindowLimits { frames: options.window, bytes: MAX_UNACKNOWLEDGED_BYTES };
        let shared = Arc::new(Shared::new(limits));
        let (opened, welcomed) = oneshot::channel();
        let driver = tokio::spawn(driver::run(shared.clone(), client.clone(), room.to_owned(), options, opened));
        let session = Session { shared, driver: Some(driver) };
        welcomed.await.map_err(|_| ClientError::closed())??;
        Ok(session)
    }

    /// Attaches the session's participant, or gives it another role and attributes. From then on it is attached again
    /// after every loss, and its lease is kept while the session lives; see [`Session::detached`].
    pub fn attach_participant(&self, request: AttachParticipantRequest) -> Reply<AttachParticipantResponse> {
        let frame = ClientFrame { body: Some(Request::AttachParticipant(request)), ..Default::default() };
        self.put(FrameClass::Transient, frame, |frame| Purpose::Present(Change::Attach(frame.clone())))
    }

    /// Takes the session's participant out.
    pub fn detach_participant(&self, request: DetachParticipantRequest) -> Reply<DetachParticipantResponse> {
        let name = request.name.clone();
        let frame = ClientFrame { body: Some(Request::DetachParticipant(request)), ..Default::default() };
        self.put(FrameClass::Transient, frame, |_| Purpose::Present(Change::Detach(name)))
    }

    /// Waits until the participant could not be attached again after a loss, or the session is over, and says why.
    pub async fn detached(&self) -> ClientError {
        self.shared.until_detached().await
    }

    /// Follows a resource, as `Subscribe` in `proto/conclave/v1/session.proto` lists them. Resumed after its cursor for as
    /// long as the session is; what the session itself does is not sent to it. Returns once the host has begun.
    ///
    /// A subscription that is not read stops its session after 64 updates, replies too: read it in another task than the
    /// one that waits for replies.
    pub async fn subscribe(&self, request: Subscribe) -> Result<Subscription, ClientError> {
        let (number, updates) = self.shared.add_subscription(request.clone())?;
        let subscription = Subscription::new(self.shared.clone(), number, updates);
        let body = Some(Request::Subscribe(request));
        let frame = ClientFrame { subscription: number, body, ..Default::default() };
        let asked: Reply<Subscribed> = self.put(FrameClass::Transient, frame, |_| Purpose::Subscribe(number));
        match asked.await {
            Ok(Subscribed {}) => Ok(subscription),
            Err(error) => {
                self.shared.remove_subscription(number);
                Err(error)
            }
        }
    }

    /// Waits until a frame given now would be sent without waiting for replies. A caller that has more to send than
    /// fits in flight calls this before each frame; frames given beyond it queue up, and far beyond it are refused.
    pub async fn ready(&self) {
        self.shared.ready().await;
    }

    /// The room's uid, as the last Welcome said.
    pub fn room_uid(&self) -> String {
        self.shared.room_uid()
    }

    /// How often the session was taken up again after a loss.
    pub fn resumes(&self) -> u64 {
        self.shared.resumes()
    }

    /// Waits for the replies that are still due, tells the cluster that they arrived, and ends the stream; subscriptions
    /// end at once.
    pub async fn close(mut self) {
        self.shared.close();
        if let Some(driver) = self.driver.take() {
            // A driver that was cancelled with its runtime has nothing left to wait for.
            let _ = driver.await;
        }
    }

    fn ask<T>(&self, class: FrameClass, body: Request) -> Reply<T> {
        self.put(class, ClientFrame { body: Some(body), ..Default::default() }, |_| Purpose::Ask)
    }

    /// Puts a frame in line. Its encoded form, which it has before it gets a sequence, may be a part of its purpose.
    fn put<T>(&self, class: FrameClass, frame: ClientFrame, purpose: impl FnOnce(&Bytes) -> Purpose) -> Reply<T> {
        let (reply, receiver) = oneshot::channel();
        let size = frame.encoded_len() + ENVELOPE_BYTES;
        if size > MAX_FRAME_BYTES {
            let why = format!("frame of {size} bytes is over the limit of {MAX_FRAME_BYTES} bytes");
            refuse(reply, ClientError::new(Code::ResourceExhausted, Some(ErrorReason::TooLarge), why));
        } else {
            let frame = Bytes::from(frame.encode_to_vec());
            let purpose = purpose(&frame);
            self.shared.enqueue(class, frame, Waiting { reply, purpose });
        }
        Reply { receiver, kind: PhantomData }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
            // Ends the stream's other half, which the connection would keep.
            self.shared.finish(ClientError::closed());
        }
    }
}

fn refuse(reply: ReplySender, error: ClientError) {
    // Nobody may be waiting any more, which is the caller's right.
    let _ = reply.send(Err(error));
}

impl From<Full> for ClientError {
    fn from(Full: Full) -> Self {
        let message = "more frames are queued than a session may hold; wait for `ready` or for replies";
        ClientError::new(Code::ResourceExhausted, Some(ErrorReason::WindowExceeded), message)
    }
}
