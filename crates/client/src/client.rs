//! One connection to a gateway, with one token: unary calls, and streams of events.

use std::time::Duration;

use conclave_network::Network;
use conclave_proto::v1::document_service_client::DocumentServiceClient;
use conclave_proto::v1::messaging_service_client::MessagingServiceClient;
use conclave_proto::v1::participant_service_client::ParticipantServiceClient;
use conclave_proto::v1::queue_service_client::QueueServiceClient;
use conclave_proto::v1::room_service_client::RoomServiceClient;
use conclave_proto::v1::*;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::{ClientError, EventStream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for many replies in flight; the defaults of HTTP/2 hold 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Most bytes of one answer: a receive of 128 items of 256 KiB, and their envelopes.
pub(crate) const MAX_ANSWER_BYTES: usize = 40 << 20;

/// A connection that is made again when it is lost. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    authorization: MetadataValue<Ascii>,
}

impl Client {
    /// Connects to a gateway at `host:port` (plain text) or a URL, with a participant token.
    pub async fn connect(address: &str, token: &str) -> Result<Client, ClientError> {
        Client::connect_over(&Network::System, address, token).await
    }

    /// Connects by another network than the system's.
    pub async fn connect_over(network: &Network, address: &str, token: &str) -> Result<Client, ClientError> {
        let invalid = |what: &str| ClientError::new(Code::InvalidArgument, None, what);
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| invalid("the token must be printable ASCII"))?;
        authorization.set_sensitive(true);
        let endpoint = Endpoint::from_shared(url)
            .map_err(|_| invalid("the address must be host:port or a URL"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = network.connect(&endpoint).await;
        let channel = channel
            .map_err(|error| ClientError::new(Code::Unavailable, None, format!("{address}: {}", chain(&error))))?;
        Ok(Client { channel, authorization })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    pub(crate) fn rooms(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn documents(&self) -> DocumentServiceClient<Channel> {
        DocumentServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn messages(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn participants(&self) -> ParticipantServiceClient<Channel> {
        ParticipantServiceClient::new(self.channel()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// One method a call; what each does and how it fails stands in `proto/conclave/v1`.
macro_rules! calls {
    ($($service:ident.$method:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $(pub async fn $method(&self, request: $request) -> Result<$response, ClientError> {
                Ok(self.$service().$method(self.request(request)).await?.into_inner())
            })*
        }
    };
}

calls! {
    rooms.create_room(CreateRoomRequest) -> CreateRoomResponse;
    rooms.get_room(GetRoomRequest) -> GetRoomResponse;
    rooms.list_rooms(ListRoomsRequest) -> ListRoomsResponse;
    rooms.update_room(UpdateRoomRequest) -> UpdateRoomResponse;
    rooms.delete_room(DeleteRoomRequest) -> DeleteRoomResponse;
    queues.send_items(SendItemsRequest) -> SendItemsResponse;
    queues.receive_items(ReceiveItemsRequest) -> ReceiveItemsResponse;
    queues.ack_deliveries(AckDeliveriesRequest) -> AckDeliveriesResponse;
    queues.nack_deliveries(NackDeliveriesRequest) -> NackDeliveriesResponse;
    queues.extend_leases(ExtendLeasesRequest) -> ExtendLeasesResponse;
    queues.create_queue(CreateQueueRequest) -> CreateQueueResponse;
    queues.update_queue(UpdateQueueRequest) -> UpdateQueueResponse;
    queues.cancel_items(CancelItemsRequest) -> CancelItemsResponse;
    queues.move_items(MoveItemsRequest) -> MoveItemsResponse;
    queues.purge_items(PurgeItemsRequest) -> PurgeItemsResponse;
    queues.list_items(ListItemsRequest) -> ListItemsResponse;
    queues.get_queue_stats(GetQueueStatsRequest) -> GetQueueStatsResponse;
    queues.get_queue(GetQueueRequest) -> GetQueueResponse;
    queues.list_queues(ListQueuesRequest) -> ListQueuesResponse;
    documents.push_update(PushUpdateRequest) -> PushUpdateResponse;
    documents.describe_document(DescribeDocumentRequest) -> DescribeDocumentResponse;
    documents.list_documents(ListDocumentsRequest) -> ListDocumentsResponse;
    documents.rename_document(RenameDocumentRequest) -> RenameDocumentResponse;
    documents.delete_document(DeleteDocumentRequest) -> DeleteDocumentResponse;
    documents.send_awareness(SendAwarenessRequest) -> SendAwarenessResponse;
    messages.post_message(PostMessageRequest) -> PostMessageResponse;
    messages.send_ephemeral(SendEphemeralRequest) -> SendEphemeralResponse;
    participants.attach_participant(AttachParticipantRequest) -> AttachParticipantResponse;
    participants.detach_participant(DetachParticipantRequest) -> DetachParticipantResponse;
    participants.list_participants(ListParticipantsRequest) -> ListParticipantsResponse;
}

/// One method a stream; what each sends and how it fails stands in `proto/conclave/v1`.
macro_rules! streams {
    ($($method:ident($request:ty);)*) => {
        impl Client {
            $(pub async fn $method(&self, request: $request) -> Result<EventStream<$request>, ClientError> {
                EventStream::open(self, request).await
            })*
        }
    };
}

streams! {
    consume_items(ConsumeItemsRequest);
    open_document(OpenDocumentRequest);
    follow_messages(FollowMessagesRequest);
    receive_ephemeral(ReceiveEphemeralRequest);
    watch_participants(WatchParticipantsRequest);
    watch_room(WatchRoomRequest);
}

/// An error and its causes on one line; the outermost alone says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
