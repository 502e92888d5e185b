//! Subscriptions, participants and streams of events against a gateway that says exactly what a test wants.

#[path = "support/script.rs"]
mod script;

use std::time::Duration;

use conclave_client::{Client, Session, Subscription, UpdateKind};
use conclave_proto::status::{ApiError, frame_status};
use conclave_proto::v1::client_frame::Body as Asked;
use conclave_proto::v1::server_frame::Body;
use conclave_proto::v1::{self, ClientFrame, ErrorReason, Subscribe};
use futures::FutureExt;
use script::{Attachment, Gateway, batch};
use tonic::{Code, Status};

/// Longest any test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time enough for three pings of a participant with this lease, and far below that of a session without.
const LEASE: Duration = Duration::from_millis(60);
/// What fits into a subscription's buffer.
const BUFFERED: u64 = 64;

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends in time")
}

async fn open(gateway: &mut Gateway) -> (Session, Attachment) {
    let client = Client::connect(&gateway.address, "token").await.expect("a connection");
    let (session, attachment) = tokio::join!(in_time(Session::open(&client, "rooms/lab")), gateway.welcome());
    (session.expect("a session"), attachment)
}

/// Subscribes to a resource, which the gateway takes.
async fn subscribe(session: &Session, attachment: &mut Attachment, resource: &str) -> Subscription {
    let request = Subscribe { resource: resource.to_owned(), ..Default::default() };
    let answered = async {
        let asked = attachment.next().await;
        attachment.say(asked.sequence, asked.subscription, Body::Subscribed(v1::Subscribed {})).await;
    };
    let (subscription, ()) = tokio::join!(in_time(session.subscribe(request)), answered);
    subscription.expect("a subscription")
}

/// Attaches a participant, which the gateway takes.
async fn attach(session: &Session, attachment: &mut Attachment, role: &str) {
    let request = v1::AttachParticipantRequest { role: role.to_owned(), ..Default::default() };
    let reply = session.attach_participant(request);
    let lease = Some(LEASE.try_into().expect("a duration"));
    let participant = Some(v1::Participant { name: "rooms/lab/participants/ann".to_owned(), ..Default::default() });
    let asked = attachment.next().await;
    let response = v1::AttachParticipantResponse { participant, lease };
    attachment.say(asked.sequence, 0, Body::AttachParticipant(response)).await;
    in_time(reply).await.expect("attached");
}

async fn revision(subscription: &mut Subscription) -> u64 {
    let update = in_time(subscription.next()).await.expect("an update").expect("no error");
    let UpdateKind::Events(batch) = update.kind else { panic!("{:?}", update.kind) };
    assert_eq!(batch.events().expect("events")[0].revision, update.revision);
    update.revision
}

fn post() -> v1::PostMessageRequest {
    v1::PostMessageRequest { parent: "rooms/lab".to_owned(), ..Default::default() }
}

fn status(reason: ErrorReason) -> Body {
    Body::Status(frame_status(&ApiError::new(reason, "as the test wants it").into()))
}

#[tokio::test]
async fn a_resumed_session_sends_its_participant_then_its_subscriptions_then_what_is_unanswered() {
    let mut gateway = Gateway::start().await;
    let (session, mut first) = open(&mut gateway).await;
    attach(&session, &mut first, "user").await;
    attach(&session, &mut first, "agent").await;
    let mut log = subscribe(&session, &mut first, "rooms/lab/messages").await;
    let mut document = subscribe(&session, &mut first, "rooms/lab/documents/a").await;
    for told in [5, 9] {
        first.tell(1, told).await;
        assert_eq!(revision(&mut log).await, told);
    }
    first.tell(2, 7).await;
    assert_eq!(revision(&mut document).await, 7);
    let owed = session.post_message(post());
    assert_eq!(first.next().await.sequence, 5);
    first.end().await;

    let mut second = gateway.welcome().await;
    let later = session.post_message(post());
    let attached = second.next().await;
    let Some(Asked::AttachParticipant(request)) = attached.body else { panic!("{attached:?}") };
    assert_eq!((attached.sequence, request.role.as_str()), (0, "agent"));
    for (number, after_revision, create) in [(1, 9, None), (2, 7, Some(false))] {
        let ClientFrame { sequence, subscription, body, .. } = second.next().await;
        let Some(Asked::Subscribe(request)) = body else { panic!("{body:?}") };
        assert_eq!((sequence, subscription), (0, number));
        assert_eq!((request.after_revision, request.create), (after_revision, create));
    }
    let repeated = second.next().await;
    assert_eq!((repeated.sequence, repeated.body), (5, Some(Asked::PostMessage(post()))));
    assert_eq!(second.next().await.sequence, 6, "what is new comes last");

    second.tell(1, 12).await;
    assert_eq!(revision(&mut log).await, 12);
    assert_eq!((log.cursor(), document.cursor()), (12, 7));
    for sequence in [5, 6] {
        second.say(sequence, 0, Body::PostMessage(v1::PostMessageResponse { revision: sequence, lane: 1 })).await;
    }
    assert_eq!((in_time(owed).await.unwrap().revision, in_time(later).await.unwrap().revision), (5, 6));
    assert_eq!(session.resumes(), 1);
}

#[tokio::test]
async fn credit_is_given_at_once_and_again_with_the_subscription() {
    let mut gateway = Gateway::start().await;
    let (session, mut first) = open(&mut gateway).await;
    let jobs = subscribe(&session, &mut first, "rooms/lab/queues/jobs").await;
    for events in [5, 2] {
        jobs.credit(events);
        let frame = first.next().await;
        assert_eq!((frame.sequence, frame.subscription), (0, 1));
        assert_eq!(frame.body, Some(Asked::Credit(v1::Credit { events })));
    }
    first.end().await;
    let mut second = gateway.welcome().await;
    let Some(Asked::Subscribe(request)) = second.next().await.body else { panic!("no subscription") };
    assert_eq!((request.resource.as_str(), request.credit), ("rooms/lab/queues/jobs", 7));
    jobs.credit(1);
    assert_eq!(second.next().await.body, Some(Asked::Credit(v1::Credit { events: 1 })));
    second.end().await;
    let mut third = gateway.welcome().await;
    let Some(Asked::Subscribe(request)) = third.next().await.body else { panic!("no subscription") };
    assert_eq!(request.credit, 8);
}

#[tokio::test]
async fn a_stream_that_is_left_for_another_is_broken_off_and_the_last_is_ended() {
    let mut gateway = Gateway::start().await;
    let (session, mut first) = open(&mut gateway).await;
    // Its end is announced, and comes for the client's half when it does.
    first.close().await;
    let mut second = gateway.welcome().await;
    assert!(!first.ended().await, "the session goes on");
    let served = async {
        assert!(second.ended().await);
        drop(second);
    };
    tokio::join!(in_time(session.close()), served);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_session_and_its_pings_go_on() {
    let mut gateway = Gateway::start().await;
    let (session, mut attachment) = open(&mut gateway).await;
    attach(&session, &mut attachment, "user").await;
    let mut log = subscribe(&session, &mut attachment, "rooms/lab/messages").await;
    let mut reply = session.post_message(post());
    let asked = attachment.next().await;
    for told in 1..=BUFFERED + 1 {
        attachment.tell(1, told).await;
    }
    attachment.say(asked.sequence, 0, Body::PostMessage(v1::PostMessageResponse::default())).await;
    for _ in 0..3 {
        let ping = tokio::time::timeout(PATIENCE / 4, attachment.ping());
        ping.await.expect("a participant needs signs of life");
    }
    assert!((&mut reply).now_or_never().is_none(), "the reply stands behind events that nobody takes");
    for told in 1..=BUFFERED + 1 {
        assert_eq!(revision(&mut log).await, told);
    }
    in_time(reply).await.expect("now it is read");
}

#[tokio::test]
async fn a_reader_that_does_not_read_does_not_keep_a_session_from_closing() {
    let mut gateway = Gateway::start().await;
    let (session, mut attachment) = open(&mut gateway).await;
    let mut log = subscribe(&session, &mut attachment, "rooms/lab/messages").await;
    let reply = session.post_message(post());
    let asked = attachment.next().await;
    for told in 1..=2 * BUFFERED {
        attachment.tell(1, told).await;
    }
    attachment.say(asked.sequence, 0, Body::PostMessage(v1::PostMessageResponse::default())).await;
    let served = async {
        // The last acknowledgement, then the end of the client's half.
        assert_eq!(attachment.next().await.acknowledged, asked.sequence);
        drop(attachment);
    };
    tokio::join!(in_time(session.close()), served);
    in_time(reply).await.expect("answered");
    let mut taken = 0;
    while let Some(update) = in_time(log.next()).await {
        update.expect("no error");
        taken += 1;
    }
    assert!(taken <= 2 * BUFFERED);
}

#[tokio::test]
async fn a_dropped_subscription_is_ended_and_not_taken_up_again() {
    let mut gateway = Gateway::start().await;
    let (session, mut first) = open(&mut gateway).await;
    let log = subscribe(&session, &mut first, "rooms/lab/messages").await;
    let _room = subscribe(&session, &mut first, "rooms/lab").await;
    drop(log);
    let frame = first.next().await;
    assert_eq!((frame.sequence, frame.subscription), (0, 1));
    assert!(matches!(frame.body, Some(Asked::Unsubscribe(_))), "{frame:?}");
    first.end().await;
    let mut second = gateway.welcome().await;
    let frame = second.next().await;
    assert_eq!(frame.subscription, 2, "{frame:?}");
}

#[tokio::test]
async fn a_subscription_given_up_before_its_answer_is_ended_behind_it() {
    let mut gateway = Gateway::start().await;
    let (session, mut attachment) = open(&mut gateway).await;
    let request = Subscribe { resource: "rooms/lab".to_owned(), ..Default::default() };
    assert!(session.subscribe(request).now_or_never().is_none());
    let asked = attachment.next().await;
    attachment.say(asked.sequence, asked.subscription, Body::Subscribed(v1::Subscribed {})).await;
    let ended = attachment.next().await;
    assert_eq!((ended.sequence, ended.subscription), (0, asked.subscription));
    assert!(matches!(ended.body, Some(Asked::Unsubscribe(_))), "{ended:?}");
}

#[tokio::test]
async fn a_refused_subscription_is_an_error_and_one_whose_resource_goes_ends_with_it() {
    let mut gateway = Gateway::start().await;
    let (session, mut attachment) = open(&mut gateway).await;
    let refusal = async {
        let asked = attachment.next().await;
        attachment.say(asked.sequence, asked.subscription, status(ErrorReason::CursorAhead)).await;
    };
    let (refused, ()) = tokio::join!(in_time(session.subscribe(Subscribe::default())), refusal);
    assert_eq!(refused.expect_err("refused").reason, Some(ErrorReason::CursorAhead));

    let mut document = subscribe(&session, &mut attachment, "rooms/lab/documents/a").await;
    attachment.tell(2, 4).await;
    attachment.say(0, 2, status(ErrorReason::DocumentNotFound)).await;
    attachment.tell(2, 5).await;
    assert_eq!(revision(&mut document).await, 4);
    let gone = in_time(document.next()).await.expect("a reason").expect_err("the end");
    assert_eq!(gone.reason, Some(ErrorReason::DocumentNotFound));
    assert!(document.next().await.is_none());
}

#[tokio::test]
async fn a_session_that_is_refused_for_good_says_so_to_its_subscriptions() {
    let mut gateway = Gateway::start().await;
    let (session, mut attachment) = open(&mut gateway).await;
    let mut log = subscribe(&session, &mut attachment, "rooms/lab/messages").await;
    attachment.end_with(ApiError::new(ErrorReason::RoomNotFound, "the room was deleted").into()).await;
    let over = in_time(log.next()).await.expect("a reason").expect_err("the end");
    assert_eq!(over.reason, Some(ErrorReason::RoomNotFound));
    assert_eq!(in_time(session.detached()).await, over);
}

#[tokio::test]
async fn a_participant_that_cannot_be_attached_again_is_told() {
    let mut gateway = Gateway::start().await;
    let (session, mut first) = open(&mut gateway).await;
    attach(&session, &mut first, "user").await;
    first.end().await;
    let mut second = gateway.welcome().await;
    assert!(matches!(second.next().await.body, Some(Asked::AttachParticipant(_))));
    second.say(0, 0, status(ErrorReason::ParticipantNameHeld)).await;
    assert_eq!(in_time(session.detached()).await.reason, Some(ErrorReason::ParticipantNameHeld));
    second.end().await;
    let mut third = gateway.welcome().await;
    let reply = session.post_message(post());
    assert!(matches!(third.next().await.body, Some(Asked::PostMessage(_))), "it is not tried for ever");
    drop(reply);
}

fn element(revision: u64) -> Result<v1::FollowMessagesResponse, Status> {
    let body = Some(v1::follow_messages_response::Body::EventBatch(batch(revision)));
    Ok(v1::FollowMessagesResponse { revision, body })
}

#[tokio::test]
async fn a_reconnecting_stream_goes_on_after_its_cursor() {
    let mut gateway = Gateway::start().await;
    let client = Client::connect(&gateway.address, "token").await.expect("a connection");
    let request = v1::FollowMessagesRequest { parent: "rooms/lab".to_owned(), after_revision: 2 };
    let (stream, first) = tokio::join!(in_time(client.follow_messages(request)), gateway.follow());
    let mut stream = stream.expect("a stream").reconnecting(PATIENCE);
    assert_eq!(first.request.after_revision, 2);
    first.elements.send(element(5)).await.expect("read");
    // Nothing that it knows: the stream's cursor stays where it is.
    first.elements.send(Ok(v1::FollowMessagesResponse { revision: 8, body: None })).await.expect("read");
    first.elements.send(Err(ApiError::draining().into())).await.expect("read");
    let told = in_time(stream.next()).await.expect("an update").expect("no error");
    assert_eq!((told.revision, stream.cursor()), (5, 5));

    let (told, second) = tokio::join!(in_time(stream.next()), async {
        let second = gateway.follow().await;
        second.elements.send(element(6)).await.expect("read");
        second
    });
    assert_eq!((second.request.after_revision, second.request.parent.as_str()), (5, "rooms/lab"));
    assert_eq!(told.expect("an update").expect("no error").revision, 6);

    second.elements.send(Err(ApiError::new(ErrorReason::CursorAhead, "refused").into())).await.expect("read");
    let refused = in_time(stream.next()).await.expect("a reason").expect_err("refused for good");
    assert_eq!(refused.reason, Some(ErrorReason::CursorAhead));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_plain_stream_ends_with_what_it_was_lost_by() {
    let mut gateway = Gateway::start().await;
    let client = Client::connect(&gateway.address, "token").await.expect("a connection");
    let request = v1::FollowMessagesRequest::default();
    let (stream, follow) = tokio::join!(in_time(client.follow_messages(request)), gateway.follow());
    let mut stream = stream.expect("a stream");
    follow.elements.send(Err(ApiError::draining().into())).await.expect("read");
    assert_eq!(in_time(stream.next()).await.expect("a reason").expect_err("lost").code, Code::Unavailable);
    assert!(stream.next().await.is_none());
}
