//! A host trusts a gateway's signature, and nothing else.

use std::time::Duration;

use conclave_auth::{Claims, OpenRooms, QueueRights, Queues, Rights, RoomRights};
use conclave_proto::v1::{self, ErrorReason};
use conclave_types::Timestamp;
use tonic::Request;

use crate::calls::{Caller, items, reason, receive, refusal, send, with_claims};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";

async fn with_room() -> (Cluster, Caller) {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    (cluster, ada)
}

fn get_lab() -> v1::GetRoomRequest {
    v1::GetRoomRequest { name: "rooms/lab".into(), ..Default::default() }
}

#[tokio::test]
async fn calls_without_genuine_claims_are_refused() {
    let (cluster, ada) = with_room().await;
    let missing = ada.rooms().get_room(Request::new(get_lab())).await.unwrap_err();
    assert_eq!(reason(&missing), ErrorReason::TokenMissing);

    let mut changed = ada.signed();
    changed[10] ^= 1;
    for forged in [changed, b"not claims".to_vec(), Vec::new()] {
        let refused = ada.rooms().get_room(with_claims(get_lab(), &forged)).await.unwrap_err();
        assert_eq!(reason(&refused), ErrorReason::TokenInvalid);
    }
    let stranger = ada.with_secret([9; 32]);
    assert_eq!(refusal(stranger.get_room("lab").await), ErrorReason::TokenInvalid);
    assert_eq!(refusal(stranger.begin("lab").await), ErrorReason::TokenInvalid);

    let signed_before = ada.signed();
    cluster.clock(0).advance(Duration::from_secs(120));
    let refused = ada.rooms().get_room(with_claims(get_lab(), &signed_before)).await.unwrap_err();
    assert_eq!(reason(&refused), ErrorReason::TokenExpired);
    assert!(ada.get_room("lab").await.is_ok());
}

#[tokio::test]
async fn claims_end_with_the_participants_token() {
    let (cluster, ada) = with_room().await;
    let ended = ada.claiming(Claims { expires: Timestamp(1_000), ..cluster.claims("ada") });
    assert_eq!(refusal(ended.get_room("lab").await), ErrorReason::TokenExpired);
    assert_eq!(refusal(ended.begin("lab").await), ErrorReason::TokenExpired);
}

#[tokio::test]
async fn what_claims_do_not_grant_is_refused_without_effect() {
    let (cluster, ada) = with_room().await;
    ada.send(items(JOBS, &["work"])).await.unwrap();
    let elsewhere = OpenRooms::One("office".parse().unwrap());
    let elsewhere = ada.claiming(Claims { rooms: elsewhere, ..cluster.claims("bob") });
    assert_eq!(refusal(elsewhere.get_room("lab").await), ErrorReason::ScopeMissing);
    assert_eq!(refusal(elsewhere.begin("lab").await), ErrorReason::ScopeMissing);

    let only_send = QueueRights { send: Queues::Only(["jobs".parse().unwrap()].into()), ..Default::default() };
    let rights =
        Rights { rooms: RoomRights { read: true, ..Default::default() }, queues: only_send, ..Default::default() };
    let sender = ada.claiming(Claims { rights, ..cluster.claims("bob") });
    assert!(sender.get_room("lab").await.is_ok());
    assert_eq!(refusal(sender.delete_room("lab").await), ErrorReason::ScopeMissing);
    assert_eq!(refusal(sender.queue(JOBS).await), ErrorReason::ScopeMissing);
    let mut session = sender.begin("lab").await.unwrap();
    session.ask(1, send(JOBS, "more work"));
    session.sent(1).await;
    session.ask(2, send("rooms/lab/queues/other", "not granted"));
    assert_eq!(session.refused(2).await, ErrorReason::ScopeMissing);
    session.ask(3, receive(JOBS, Duration::ZERO, Duration::from_secs(30)));
    assert_eq!(session.refused(3).await, ErrorReason::ScopeMissing);
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.ready_count, queue.leased_count), (2, 0));
}
