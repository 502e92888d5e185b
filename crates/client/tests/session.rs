//! The client's session against hosts that are lost.

#[path = "support/cluster.rs"]
#[expect(dead_code, reason = "shared with the gateway's tests, which use the rest")]
mod cluster;

use std::time::Duration;

use cluster::{Cluster, Host, PATIENCE, body, send};
use conclave_client::{Client, Session, SessionOptions, UpdateKind};
use conclave_proto::v1::{
    ConsumeItemsRequest, ErrorReason, GetRoomRequest, ReceiveItemsRequest, UpdateRoomRequest, event,
};
use tonic::Code;

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends in time")
}

async fn session(host: &Host) -> Session {
    let client = Client::connect(&host.address, "token").await.unwrap();
    in_time(Session::open(&client, "rooms/lab")).await.unwrap()
}

#[tokio::test]
async fn replies_come_to_the_calls_they_belong_to() {
    let cluster = Cluster::new();
    let host = Host::start(&cluster);
    let session = session(&host).await;
    let replies: Vec<_> = (0..100).map(|number| session.send_items(send(body(number)))).collect();
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(in_time(reply).await.unwrap().first_item, number as u64 + 1);
    }
    assert_eq!(session.room_uid(), "uid");
}

#[tokio::test]
async fn frames_survive_the_loss_of_a_host_in_order_and_once() {
    const FRAMES: usize = 1_000;
    let cluster = Cluster::new();
    let mut host = Host::start(&cluster);
    let session = session(&host).await;
    cluster.mute_after(400);
    let replies: Vec<_> = (0..FRAMES).map(|number| session.send_items(send(body(number)))).collect();
    let receive = session.receive_items(ReceiveItemsRequest::default());
    cluster.until(|seen| seen.applied >= 700).await;
    host.kill().await;
    cluster.unmute();
    host.restart(&cluster);
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(in_time(reply).await.unwrap().first_item, number as u64 + 1);
    }
    in_time(receive).await.unwrap();
    assert_eq!(cluster.items(), (0..FRAMES).map(body).collect::<Vec<_>>());
    assert_eq!(session.resumes(), 1);
    assert_eq!(cluster.violations(), Vec::<String>::new());
    let hello = cluster.hellos().pop().unwrap();
    assert!(hello.unanswered && hello.sent_sequence >= 700 && !hello.resume_token.is_empty(), "{hello:?}");
}

#[tokio::test]
async fn a_window_larger_than_the_clusters_limit_is_never_in_flight() {
    let cluster = Cluster::new();
    let host = Host::start(&cluster);
    let session = session(&host).await;
    let replies: Vec<_> = (0..5_000).map(|number| session.send_items(send(body(number)))).collect();
    for reply in replies {
        in_time(reply).await.unwrap();
    }
    assert_eq!(cluster.violations(), Vec::<String>::new());
    assert_eq!(cluster.items().len(), 5_000);
}

#[tokio::test]
async fn closing_waits_for_replies_and_acknowledges_them() {
    let cluster = Cluster::new();
    let host = Host::start(&cluster);
    let session = session(&host).await;
    let reply = session.send_items(send(body(0)));
    in_time(session.close()).await;
    assert!(in_time(reply).await.is_ok());
    assert_eq!(cluster.kept_outcomes(), 0);
}

#[tokio::test]
async fn a_superseded_session_is_not_taken_up_again() {
    let cluster = Cluster::new();
    let mut host = Host::start(&cluster);
    let session = session(&host).await;
    cluster.mute_after(0);
    let reply = session.send_items(send(body(0)));
    cluster.until(|seen| seen.applied == 1).await;
    cluster.attach_elsewhere();
    host.kill().await;
    host.restart(&cluster);
    // It was applied, and nobody said so.
    let error = in_time(reply).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Unavailable, Some(ErrorReason::OutcomeUnknown)), "{error}");
    let later = in_time(session.send_items(send(body(1)))).await.unwrap_err();
    assert_eq!((later.code, later.reason), (Code::Aborted, Some(ErrorReason::Superseded)));
}

#[tokio::test]
async fn a_session_that_cannot_be_taken_up_in_time_says_what_is_unknown() {
    let cluster = Cluster::new();
    let mut host = Host::start(&cluster);
    let client = Client::connect(&host.address, "token").await.unwrap();
    let options = SessionOptions { reconnect_for: Duration::from_millis(100), window: 1 };
    let session = in_time(Session::open_with(&client, "rooms/lab", options)).await.unwrap();
    cluster.mute_after(0);
    let (sent, waiting) = (session.send_items(send(body(0))), session.send_items(send(body(1))));
    cluster.until(|seen| seen.applied == 1).await;
    host.kill().await;
    assert_eq!(in_time(sent).await.unwrap_err().reason, Some(ErrorReason::OutcomeUnknown));
    let waiting = in_time(waiting).await.unwrap_err();
    assert_eq!((waiting.code, waiting.reason), (Code::Unavailable, None), "{waiting}");
}

#[tokio::test]
async fn a_farewell_is_followed_by_a_return() {
    let cluster = Cluster::new();
    let host = Host::start(&cluster);
    let session = session(&host).await;
    in_time(session.send_items(send(body(0)))).await.unwrap();
    cluster.farewell();
    cluster.until(|seen| seen.attached == 2).await;
    in_time(session.send_items(send(body(1)))).await.unwrap();
    assert_eq!(cluster.items(), [body(0), body(1)]);
}

#[tokio::test]
async fn a_consumer_that_lost_its_host_asks_anew_and_as_it_asked_first() {
    let cluster = Cluster::new();
    let mut host = Host::start(&cluster);
    let client = Client::connect(&host.address, "token").await.unwrap();
    for number in 0..3 {
        in_time(client.send_items(send(body(number)))).await.unwrap();
    }
    let parent = "rooms/lab/queues/jobs".to_owned();
    let request = ConsumeItemsRequest { parent, consumer: "worker".to_owned(), window: 9, lease: None };
    let mut consuming = in_time(client.consume_items(request.clone())).await.unwrap().reconnecting(PATIENCE);
    let mut bodies = async || {
        let update = in_time(consuming.next()).await.expect("an update").expect("no error");
        let UpdateKind::Events(batch) = update.kind else { panic!("{:?}", update.kind) };
        let delivered = batch.events().unwrap().into_iter().filter_map(|event| match event.kind {
            Some(event::Kind::Delivery(delivery)) => Some(delivery.body),
            _ => None,
        });
        delivered.collect::<Vec<_>>()
    };
    assert_eq!(bodies().await, [body(0), body(1), body(2)]);
    host.kill().await;
    host.restart(&cluster);
    assert_eq!(bodies().await, [body(0), body(1), body(2)], "what it holds comes again");
    assert_eq!(cluster.consumed(), [request.clone(), request]);
}

#[tokio::test]
async fn refusals_are_typed() {
    let cluster = Cluster::new();
    let host = Host::start(&cluster);
    let client = Client::connect(&host.address, "token").await.unwrap();
    let room = client.get_room(GetRoomRequest { name: "rooms/lab".to_owned(), ..Default::default() }).await.unwrap();
    assert_eq!(room.revision, 7);
    let error = client.update_room(UpdateRoomRequest::default()).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::NotFound, Some(ErrorReason::RoomNotFound)));
    let error = in_time(Session::open(&client, "rooms/none")).await.unwrap_err();
    assert_eq!(error.reason, Some(ErrorReason::RoomNotFound));
    let session = session(&host).await;
    let error = in_time(session.update_room(UpdateRoomRequest::default())).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented, "a frame's refusal leaves the session as it was");
    in_time(session.send_items(send(body(0)))).await.unwrap();
    let error = in_time(session.send_items(send(vec![0; 2 << 20]))).await.unwrap_err();
    assert_eq!(error.reason, Some(ErrorReason::TooLarge));
    drop(host);
    let error = Client::connect("127.0.0.1:1", "token").await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
}
