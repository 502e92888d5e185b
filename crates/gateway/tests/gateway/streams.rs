//! Server streams whose host is lost, steps down or refuses, and clients that stay away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conclave_gateway::GatewayOptions;
use conclave_proto::events::EventBatch;
use conclave_proto::status::{ApiError, reason_of, retry_after_of};
use conclave_proto::v1::document_service_client::DocumentServiceClient;
use conclave_proto::v1::messaging_service_client::MessagingServiceClient;
use conclave_proto::v1::queue_service_client::QueueServiceClient;
use conclave_proto::v1::{
    ConsumeItemsRequest, ConsumeItemsResponse, Delivery, DeliveryId, ErrorReason, Event, FollowMessagesRequest,
    FollowMessagesResponse, Gap, Live, Message, OpenDocumentRequest, OpenDocumentResponse, ReceiveEphemeralRequest,
    ReceiveEphemeralResponse, consume_items_response, event, follow_messages_response, open_document_response,
    receive_ephemeral_response,
};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::front::{Front, signed_request};
use crate::in_time;
use crate::scripted::{ScriptedHost, framed};

struct Stage {
    hosts: [ScriptedHost; 3],
    front: Front,
}

impl Stage {
    async fn set() -> Stage {
        Stage::with(GatewayOptions::default()).await
    }

    async fn with(options: GatewayOptions) -> Stage {
        let hosts = [ScriptedHost::start().await, ScriptedHost::start().await, ScriptedHost::start().await];
        let front = Front::start(hosts.iter().map(|host| host.address.clone()).collect(), options).await;
        Stage { hosts, front }
    }

    async fn messaging(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.front.channel().await).max_decoding_message_size(8 << 20)
    }

    async fn follow(&self, after_revision: u64) -> Streaming<FollowMessagesResponse> {
        let request = FollowMessagesRequest { parent: "rooms/lab".to_owned(), after_revision };
        in_time(self.messaging().await.follow_messages(signed_request(request))).await.unwrap().into_inner()
    }
}

fn messages(revision: u64, body: Bytes) -> FollowMessagesResponse {
    let message = Message { body, ..Default::default() };
    let events = [Event { revision, kind: Some(event::Kind::Message(message)), ..Default::default() }];
    let body = Some(follow_messages_response::Body::EventBatch(EventBatch::of(&events)));
    FollowMessagesResponse { revision, body }
}

fn live(revision: u64) -> FollowMessagesResponse {
    let live = Live { revision, ..Default::default() };
    FollowMessagesResponse { revision, body: Some(follow_messages_response::Body::Live(live)) }
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    in_time(stream.message()).await.unwrap().expect("an element")
}

async fn end<T: std::fmt::Debug>(stream: &mut Streaming<T>) -> Status {
    in_time(stream.message()).await.expect_err("a status")
}

#[tokio::test]
async fn a_stream_goes_on_at_the_next_leader_behind_what_the_client_was_given() {
    let mut stage = Stage::set().await;
    let mut stream = stage.follow(3).await;
    let mut first = stage.hosts[0].call().await;
    assert_eq!(first.path, "/conclave.v1.MessagingService/FollowMessages");
    let asked: FollowMessagesRequest = first.read().await;
    assert_eq!((asked.parent.as_str(), asked.after_revision), ("rooms/lab", 3));
    let gap = Gap { dropped_count: 1, ..Default::default() };
    let unplaced = FollowMessagesResponse { revision: 0, body: Some(follow_messages_response::Body::Gap(gap)) };
    let given = [messages(5, "five".into()), live(7), unplaced];
    for element in &given {
        first.send(element).await;
        assert_eq!(next(&mut stream).await, *element);
    }
    let [_, second_host, third_host] = &mut stage.hosts;
    first.follow(second_host).await;

    let mut second = second_host.call().await;
    let asked: FollowMessagesRequest = second.read().await;
    assert_eq!((asked.parent.as_str(), asked.after_revision), ("rooms/lab", 7));
    let element = messages(9, "nine".into());
    second.send(&element).await;
    assert_eq!(next(&mut stream).await, element);
    // An element of which the end never comes was not given.
    second.send_bytes(framed(&messages(11, vec![1; 100].into())).slice(..50)).await;
    second.cut().await;

    let mut third = third_host.call().await;
    let asked: FollowMessagesRequest = third.read().await;
    assert_eq!(asked.after_revision, 9);
    third.send(&live(12)).await;
    assert_eq!(next(&mut stream).await, live(12));
    third.end(Status::ok("")).await;
    assert!(in_time(stream.message()).await.unwrap().is_none(), "a stream that ends well ends well");
}

#[tokio::test]
async fn a_stream_that_was_given_nothing_is_asked_for_as_the_client_asked() {
    let mut stage = Stage::set().await;
    let mut stream = stage.follow(3).await;
    let [first_host, second_host, _] = &mut stage.hosts;
    let mut first = first_host.call().await;
    first.read::<FollowMessagesRequest>().await;
    first.follow(second_host).await;
    let mut second = second_host.call().await;
    assert_eq!(second.read::<FollowMessagesRequest>().await.after_revision, 3);
    second.send(&live(4)).await;
    assert_eq!(next(&mut stream).await, live(4));
}

#[tokio::test]
async fn a_stream_without_a_cursor_is_begun_anew() {
    let mut stage = Stage::set().await;
    let request = ReceiveEphemeralRequest { parent: "rooms/lab".to_owned(), participant_uid: "uid".to_owned() };
    let mut messaging = stage.messaging().await;
    let listening = messaging.receive_ephemeral(signed_request(request.clone()));
    let mut stream = in_time(listening).await.unwrap().into_inner();
    let body = Some(receive_ephemeral_response::Body::Live(Live::default()));
    let element = ReceiveEphemeralResponse { revision: 0, body };
    let [first_host, second_host, _] = &mut stage.hosts;
    let mut first = first_host.call().await;
    assert_eq!(first.read::<ReceiveEphemeralRequest>().await, request);
    first.send(&element).await;
    assert_eq!(next(&mut stream).await, element);
    first.follow(second_host).await;
    let mut second = second_host.call().await;
    assert_eq!(second.read::<ReceiveEphemeralRequest>().await, request);
    second.send(&element).await;
    assert_eq!(next(&mut stream).await, element, "the client sees that it began anew");
}

#[tokio::test]
async fn a_consumer_begins_anew_under_its_name_when_its_host_is_lost() {
    let mut stage = Stage::set().await;
    let request = ConsumeItemsRequest {
        parent: "rooms/lab/queues/jobs".to_owned(),
        consumer: "worker".to_owned(),
        window: 7,
        lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let delivery = |revision, attempt| {
        let id = Some(DeliveryId { item: 4, attempt });
        let kind = Some(event::Kind::Delivery(Delivery { id, ..Default::default() }));
        let batch = EventBatch::of(&[Event { revision, kind, ..Default::default() }]);
        ConsumeItemsResponse { revision, body: Some(consume_items_response::Body::EventBatch(batch)) }
    };
    let live = || {
        let body = Some(consume_items_response::Body::Live(Live::default()));
        ConsumeItemsResponse { revision: 0, body }
    };
    let mut queues = QueueServiceClient::new(stage.front.channel().await);
    let mut stream = in_time(queues.consume_items(signed_request(request.clone()))).await.unwrap().into_inner();
    let [first_host, second_host, third_host] = &mut stage.hosts;
    let mut first = first_host.call().await;
    assert_eq!(first.path, "/conclave.v1.QueueService/ConsumeItems");
    assert_eq!(first.read::<ConsumeItemsRequest>().await, request);
    for element in [live(), delivery(300, 1)] {
        first.send(&element).await;
        assert_eq!(next(&mut stream).await, element);
    }
    first.follow(second_host).await;
    let mut second = second_host.call().await;
    assert_eq!(second.read::<ConsumeItemsRequest>().await, request, "no cursor is made up");
    // What it held before, with the same attempt.
    for element in [delivery(0, 1), live(), delivery(310, 2)] {
        second.send(&element).await;
        assert_eq!(next(&mut stream).await, element);
    }
    second.cut().await;
    let mut third = third_host.call().await;
    assert_eq!(third.read::<ConsumeItemsRequest>().await, request);
    third.end(ApiError::new(ErrorReason::RoomNotFound, "the room does not exist").into()).await;
    assert_eq!(reason_of(&end(&mut stream).await), Some(ErrorReason::RoomNotFound));
}

#[tokio::test]
async fn a_document_that_was_deleted_with_its_host_is_not_made_again() {
    let mut stage = Stage::set().await;
    let request = OpenDocumentRequest { name: "rooms/lab/documents/notes".to_owned(), ..Default::default() };
    let mut documents = DocumentServiceClient::new(stage.front.channel().await);
    let mut stream = in_time(documents.open_document(signed_request(request.clone()))).await.unwrap().into_inner();
    let [first_host, second_host, _] = &mut stage.hosts;
    let mut first = first_host.call().await;
    assert_eq!(first.read::<OpenDocumentRequest>().await, request);
    let body = Some(open_document_response::Body::Live(Live::default()));
    let element = OpenDocumentResponse { revision: 300, body };
    first.send(&element).await;
    assert_eq!(next(&mut stream).await, element);
    first.follow(second_host).await;
    let mut second = second_host.call().await;
    let expected = OpenDocumentRequest { after_revision: 300, create: Some(false), ..request };
    assert_eq!(second.read::<OpenDocumentRequest>().await, expected);
    second.end(ApiError::new(ErrorReason::DocumentNotFound, "the document does not exist").into()).await;
    assert_eq!(reason_of(&end(&mut stream).await), Some(ErrorReason::DocumentNotFound));
}

#[tokio::test]
async fn a_hosts_refusal_is_the_clients() {
    let mut stage = Stage::set().await;
    let refusal = || Status::from(ApiError::new(ErrorReason::RoomNotFound, "the room does not exist"));
    let mut stream = stage.follow(0).await;
    stage.hosts[0].call().await.end(refusal()).await;
    let status = end(&mut stream).await;
    assert_eq!((status.code(), status.details()), (refusal().code(), refusal().details()));
    // The same after it had begun.
    let mut stream = stage.follow(0).await;
    let mut call = stage.hosts[0].call().await;
    call.send(&live(4)).await;
    call.end(refusal()).await;
    assert_eq!(next(&mut stream).await, live(4));
    assert_eq!(reason_of(&end(&mut stream).await), Some(ErrorReason::RoomNotFound));
}

#[tokio::test]
async fn bad_requests_are_refused_without_a_host() {
    let stage = Stage::set().await;
    for (parent, reason) in [("", ErrorReason::NameInvalid), ("rooms/No Room", ErrorReason::NameInvalid)] {
        let request = FollowMessagesRequest { parent: parent.to_owned(), after_revision: 0 };
        let mut messaging = stage.messaging().await;
        let mut stream = in_time(messaging.follow_messages(signed_request(request))).await.unwrap().into_inner();
        assert_eq!(reason_of(&end(&mut stream).await), Some(reason), "{parent:?}");
    }
}

#[tokio::test]
async fn a_host_that_hangs_is_left_when_another_leads() {
    let mut stage = Stage::set().await;
    stage.front.announce(0, 1);
    let mut stream = stage.follow(0).await;
    let mut hanging = stage.hosts[0].call().await;
    hanging.send(&live(4)).await;
    assert_eq!(next(&mut stream).await, live(4));
    stage.front.announce(1, 2);
    let mut second = stage.hosts[1].call().await;
    assert_eq!(second.read::<FollowMessagesRequest>().await.after_revision, 4);
    hanging.left().await;
    second.send(&live(5)).await;
    assert_eq!(next(&mut stream).await, live(5));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream_at_the_host() {
    let mut stage = Stage::set().await;
    let mut stream = stage.follow(0).await;
    let mut call = stage.hosts[0].call().await;
    call.send(&live(4)).await;
    assert_eq!(next(&mut stream).await, live(4));
    drop(stream);
    call.left().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_host_and_nobody_else() {
    const ELEMENTS: u64 = 1_000;
    const ELEMENT_BYTES: usize = 64 << 10;
    /// Windows and buffers of two connections, generously.
    const WITHIN_REACH: usize = 128;
    let mut stage = Stage::set().await;
    let mut begin = async |taken: Arc<AtomicUsize>| {
        let stream = stage.follow(0).await;
        let mut call = stage.hosts[0].call().await;
        let sending = tokio::spawn(async move {
            for revision in 1..=ELEMENTS {
                call.send(&messages(revision, vec![7; ELEMENT_BYTES].into())).await;
                taken.fetch_add(1, Ordering::Relaxed);
            }
            call.end(Status::ok("")).await;
        });
        (stream, sending)
    };
    let (slow_taken, fast_taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (mut slow, slow_sending) = begin(slow_taken.clone()).await;
    let (mut fast, fast_sending) = begin(fast_taken.clone()).await;
    let read_all = async |stream: &mut Streaming<FollowMessagesResponse>| {
        for revision in 1..=ELEMENTS {
            assert_eq!(next(stream).await.revision, revision);
        }
        assert!(in_time(stream.message()).await.unwrap().is_none());
    };
    read_all(&mut fast).await;
    in_time(fast_sending).await.unwrap();
    let taken = slow_taken.load(Ordering::Relaxed);
    assert!(taken < WITHIN_REACH, "{taken} elements were taken from the host while nobody read");
    read_all(&mut slow).await;
    in_time(slow_sending).await.unwrap();
}

#[tokio::test]
async fn a_stopping_gateway_ends_streams_with_a_time_to_come_back() {
    let mut stage = Stage::set().await;
    let mut stream = stage.follow(0).await;
    let mut call = stage.hosts[0].call().await;
    call.send(&live(4)).await;
    assert_eq!(next(&mut stream).await, live(4));
    stage.front.stop.cancel();
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::Draining)));
    assert!(retry_after_of(&status).expect("a time") < Duration::from_secs(1));
    call.left().await;
    drop(stream);
    in_time(stage.front.served).await.unwrap();
}

#[tokio::test]
async fn streams_have_a_bound_of_their_own() {
    let mut stage = Stage::with(GatewayOptions { max_streams: 2, max_calls: 1, ..Default::default() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = stage.follow(0).await;
        let mut call = stage.hosts[0].call().await;
        call.send(&live(4)).await;
        assert_eq!(next(&mut stream).await, live(4), "open streams are not among the calls in work");
        open.push((stream, call));
    }
    let request = FollowMessagesRequest { parent: "rooms/lab".to_owned(), after_revision: 0 };
    let mut messaging = stage.messaging().await;
    let refused = in_time(messaging.follow_messages(signed_request(request.clone()))).await.unwrap_err();
    assert_eq!((refused.code(), reason_of(&refused)), (Code::ResourceExhausted, Some(ErrorReason::Overloaded)));
    let (stream, mut call) = open.pop().unwrap();
    drop(stream);
    call.left().await;
    // The place is free a moment after the host was left.
    let mut again = in_time(async {
        loop {
            match messaging.follow_messages(signed_request(request.clone())).await {
                Ok(stream) => return stream.into_inner(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    stage.hosts[0].call().await.send(&live(5)).await;
    assert_eq!(next(&mut again).await, live(5));
}
