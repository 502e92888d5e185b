//! What a session may have without acknowledgement is bounded, by frames and by bytes.

use conclave_proto::v1::ErrorReason;
use conclave_types::limits::{MAX_ITEM_BYTES, MAX_UNACKNOWLEDGED_FRAMES};

use crate::calls::{send, send_bytes};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";

#[tokio::test]
async fn a_frame_above_the_window_is_refused_and_acknowledging_opens_it_again() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut session = ada.begin("lab").await.unwrap();
    let full = MAX_UNACKNOWLEDGED_FRAMES as u64;
    for sequence in 1..=full + 1 {
        session.ask(sequence, send(JOBS, "one of many"));
    }
    for sequence in 1..=full {
        session.sent(sequence).await;
    }
    assert_eq!(session.refused(full + 1).await, ErrorReason::WindowExceeded);
    session.acknowledge(1);
    session.ask(full + 2, send(JOBS, "fits"));
    session.sent(full + 2).await;
    session.ask(full + 3, send(JOBS, "does not fit"));
    assert_eq!(session.refused(full + 3).await, ErrorReason::WindowExceeded);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, full + 1);
}

#[tokio::test]
async fn a_frame_refused_by_the_window_is_not_applied_when_it_comes_after_a_later_one() {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    let mut first = ada.begin("lab").await.unwrap();
    let large = || send_bytes(JOBS, MAX_ITEM_BYTES - 1_024, 3);
    first.ask(1, large());
    first.sent(1).await;
    first.ask(2, large());
    assert_eq!(first.refused(2).await, ErrorReason::WindowExceeded);
    first.ask_acknowledging(3, 1, large());
    first.sent(3).await;

    let mut second = ada.resume("lab", first.token(), 3).await.unwrap();
    second.ask_acknowledging(2, 1, send(JOBS, "too late"));
    assert_eq!(second.refused(2).await, ErrorReason::NotApplied);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 6);
}
