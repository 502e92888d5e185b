//! Receives: who waits, who is served, and what a lease means.

use std::collections::BTreeSet;
use std::time::Duration;

use conclave_proto::v1::{self, ErrorReason};

use crate::calls::{AckResult, Caller, Stream, bodies, id, ids, items, receive, receive_request, refusal, send};
use crate::cluster::{Cluster, ONE_HOST};

const JOBS: &str = "rooms/lab/queues/jobs";
const NO_WAIT: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(30);
const SHORT_LEASE: Duration = Duration::from_secs(1);
const LONG_LEASE: Duration = Duration::from_secs(12 * 60 * 60);

/// A cluster with a room and its empty queue.
async fn with_queue() -> (Cluster, Caller) {
    let cluster = Cluster::start(ONE_HOST).await;
    let ada = cluster.at_leader("lab", "ada").await;
    ada.create_room("lab").await.unwrap();
    assert!(ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap().is_empty());
    (cluster, ada)
}

/// A session whose receive is under way.
async fn waiting(caller: &Caller, lease: Duration) -> Stream {
    let mut session = caller.begin("lab").await.unwrap();
    session.ask(1, receive(JOBS, LONG, lease));
    session.settle(2, JOBS).await;
    session
}

#[tokio::test]
async fn a_receive_sent_again_gets_the_same_deliveries() {
    let (_cluster, ada) = with_queue().await;
    let mut first = ada.begin("lab").await.unwrap();
    for sequence in 1..=3 {
        first.ask(sequence, send(JOBS, "work"));
        first.sent(sequence).await;
    }
    let two = || v1::ReceiveItemsRequest { max_items: 2, ..receive_request(JOBS, NO_WAIT, LEASE) };
    let two = || v1::client_frame::Body::ReceiveItems(two());
    first.ask(4, two());
    let taken = first.received(4).await;
    assert_eq!(ids(&taken), [(1, 1), (2, 1)]);

    let mut second = ada.resume("lab", first.token(), 4).await.unwrap();
    second.ask(4, two());
    assert_eq!(ids(&second.received(4).await), ids(&taken));
    second.ask(5, two());
    assert_eq!(ids(&second.received(5).await), [(3, 1)]);
}

#[tokio::test]
async fn a_receive_with_a_request_id_gets_the_same_deliveries_again() {
    let (_cluster, ada) = with_queue().await;
    ada.send(items(JOBS, &["one", "two"])).await.unwrap();
    let named =
        |name: &str| v1::ReceiveItemsRequest { request_id: name.into(), ..receive_request(JOBS, NO_WAIT, LEASE) };
    assert_eq!(ids(&ada.receive(named("a")).await.unwrap()), [(1, 1)]);
    assert_eq!(ids(&ada.receive(named("a")).await.unwrap()), [(1, 1)]);
    assert_eq!(ids(&ada.receive(named("b")).await.unwrap()), [(2, 1)]);
}

#[tokio::test]
async fn waiting_receivers_are_served_in_the_order_they_came() {
    let (_cluster, ada) = with_queue().await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(waiting(&ada, LONG_LEASE).await);
    }
    for (item, session) in (1..).zip(&mut sessions) {
        ada.send(items(JOBS, &["work"])).await.unwrap();
        assert_eq!(ids(&session.received(1).await), [(item, 1)]);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_wait_takes_nobodys_place() {
    let (_cluster, ada) = with_queue().await;
    let mut first = waiting(&ada, LONG_LEASE).await;
    let mut second = waiting(&ada, LONG_LEASE).await;
    for item in 1..=20 {
        // Whoever of the two gets it, the one that waited stays first.
        ada.send(items(JOBS, &["work"])).await.unwrap();
        if !ada.receive(receive_request(JOBS, NO_WAIT, LONG_LEASE)).await.unwrap().is_empty() {
            continue;
        }
        assert_eq!(ids(&first.received(1).await), [(item, 1)]);
        ada.send(items(JOBS, &["work"])).await.unwrap();
        assert_eq!(ids(&second.received(1).await).len(), 1);
        return;
    }
    panic!("a waiting receiver starved behind those that do not wait");
}

#[tokio::test]
async fn one_send_of_many_serves_many() {
    let (_cluster, ada) = with_queue().await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(waiting(&ada, LONG_LEASE).await);
    }
    ada.send(items(JOBS, &["work"; 8])).await.unwrap();
    let mut taken = BTreeSet::new();
    for session in &mut sessions {
        let deliveries = session.received(1).await;
        assert_eq!(deliveries.len(), 1);
        assert!(taken.insert(ids(&deliveries)[0]), "an item went to two receivers");
    }
    assert_eq!(taken.len(), 8);
}

#[tokio::test]
async fn a_waiter_that_left_takes_nothing_with_it() {
    let (_cluster, ada) = with_queue().await;
    // What the first would lease stays away for longer than anybody waits here.
    waiting(&ada, LONG_LEASE).await.leave();
    let mut second = waiting(&ada, LONG_LEASE).await;
    second.settle(3, JOBS).await;
    ada.send(items(JOBS, &["work"])).await.unwrap();
    assert_eq!(ids(&second.received(1).await), [(1, 1)]);
}

#[tokio::test]
async fn a_waiter_that_said_its_last_and_then_left_takes_nothing_with_it() {
    let (_cluster, ada) = with_queue().await;
    let half_closed = waiting(&ada, LONG_LEASE).await.close();
    let mut second = waiting(&ada, LONG_LEASE).await;
    drop(half_closed);
    for sequence in 3..=5 {
        second.settle(sequence, JOBS).await;
    }
    ada.send(items(JOBS, &["work"])).await.unwrap();
    assert_eq!(ids(&second.received(1).await), [(1, 1)]);
}

#[tokio::test]
async fn a_receive_ends_empty_after_its_wait() {
    let (_cluster, ada) = with_queue().await;
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, receive(JOBS, Duration::from_millis(50), LEASE));
    assert!(session.received(1).await.is_empty());
    session.ask(2, receive(JOBS, NO_WAIT, LEASE));
    assert!(session.received(2).await.is_empty());
}

#[tokio::test]
async fn a_waiting_receive_does_not_hold_up_the_session() {
    let (_cluster, ada) = with_queue().await;
    let mut session = waiting(&ada, LONG_LEASE).await;
    session.ask(3, send(JOBS, "its own"));
    // The send's reply and the delivery it brings come in either order.
    let mut replies = [session.next().await.unwrap().reply_to, session.next().await.unwrap().reply_to];
    replies.sort_unstable();
    assert_eq!(replies, [1, 3]);
}

#[tokio::test]
async fn a_lease_that_ends_is_delivered_again_and_the_late_ack_is_stale() {
    let (cluster, ada) = with_queue().await;
    ada.send(items(JOBS, &["work"])).await.unwrap();
    let first = ada.receive(receive_request(JOBS, NO_WAIT, SHORT_LEASE)).await.unwrap();
    assert_eq!(ids(&first), [(1, 1)]);
    cluster.clock(0).advance(SHORT_LEASE + Duration::from_millis(1));

    let second = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!((ids(&second), bodies(&second)), (vec![(1, 2)], vec!["work"]));
    assert_eq!(ada.ack(JOBS, &[id(&first[0])]).await.unwrap(), [AckResult::Stale]);
    assert_eq!(ada.ack(JOBS, &[id(&second[0])]).await.unwrap(), [AckResult::Acked]);
    assert_eq!(ada.ack(JOBS, &[id(&second[0])]).await.unwrap(), [AckResult::AlreadyAcked]);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 0);
}

#[tokio::test]
async fn an_ack_after_the_lease_is_stale_even_before_it_is_delivered_again() {
    let (cluster, ada) = with_queue().await;
    ada.send(items(JOBS, &["work"])).await.unwrap();
    let taken = ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap();
    cluster.clock(0).advance(LEASE + Duration::from_millis(1));
    assert_eq!(ada.ack(JOBS, &[id(&taken[0])]).await.unwrap(), [AckResult::Stale]);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 1);
}

#[tokio::test]
async fn an_ack_of_a_delivery_that_never_was_is_refused_whole() {
    let (_cluster, ada) = with_queue().await;
    ada.send(items(JOBS, &["work"])).await.unwrap();
    let taken = ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap();
    let foreign = v1::DeliveryId { item: 99, attempt: 1 };
    let refused = refusal(ada.ack(JOBS, &[id(&taken[0]), foreign]).await);
    assert_eq!(refused, ErrorReason::DeliveryUnknown);
    assert_eq!(ada.ack(JOBS, &[id(&taken[0])]).await.unwrap(), [AckResult::Acked]);
}
