//! What becomes of a room's sessions and data when it is deleted.

use std::time::Duration;

use conclave_proto::v1::ErrorReason;

use crate::calls::{items, receive, refusal, send};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";

#[tokio::test]
async fn deleting_a_room_ends_its_streams_and_frees_its_name() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    let old = ada.create_room("lab").await.unwrap().room.unwrap();
    assert_eq!(refusal(ada.create_room("lab").await), ErrorReason::RoomExists);
    ada.send(items(JOBS, &["of the old room"])).await.unwrap();
    let mut idle = ada.begin("lab").await.unwrap();
    let mut busy = ada.begin("lab").await.unwrap();
    busy.ask(1, receive("rooms/lab/queues/other", Duration::from_secs(60), Duration::from_secs(30)));
    busy.settle(2, JOBS).await;

    ada.delete_room("lab").await.unwrap();
    assert_eq!(idle.end().await, ErrorReason::RoomNotFound);
    assert_eq!(busy.end().await, ErrorReason::RoomNotFound);
    assert_eq!(refusal(ada.get_room("lab").await), ErrorReason::RoomNotFound);
    assert_eq!(refusal(ada.begin("lab").await), ErrorReason::RoomNotFound);

    let new = ada.create_room("lab").await.unwrap().room.unwrap();
    assert_ne!(new.uid, old.uid);
    assert_eq!(refusal(ada.queue(JOBS).await), ErrorReason::QueueNotFound);
    assert_eq!(refusal(ada.resume("lab", idle.token(), 0).await), ErrorReason::ResumeTokenInvalid);
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "of the new room"));
    assert_eq!(session.sent(1).await.first_item, 1);
}

#[tokio::test]
async fn deleting_a_room_leaves_the_others_alone() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let office = cluster.at_leader("office", "ada").await;
    office.create_room("office").await.unwrap();
    let mut session = office.begin("office").await.unwrap();
    ada.delete_room("lab").await.unwrap();
    session.ask(1, send("rooms/office/queues/jobs", "goes on"));
    session.sent(1).await;
}

#[tokio::test]
async fn an_etag_of_an_earlier_room_of_the_name_is_none_of_the_present_one() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    let old = ada.create_room("lab").await.unwrap().room.unwrap();
    ada.delete_room("lab").await.unwrap();
    let new = ada.create_room("lab").await.unwrap().room.unwrap();
    assert_eq!(refusal(ada.delete_room_if("lab", &old.etag).await), ErrorReason::EtagMismatch);
    ada.delete_room_if("lab", &new.etag).await.unwrap();
}
