//! Who gets what and when: states, limits, priorities, groups, and messages that were sent before.

use conclave_proto::v1::queue_settings::{Overflow, State};
use conclave_proto::v1::{self, ErrorReason};

use super::*;
use crate::calls::{Stream, bodies, ids, receive, refusal};

/// A session whose receive is under way.
async fn waiting(caller: &Caller) -> Stream {
    let mut session = caller.begin("lab").await.unwrap();
    session.ask(1, receive(JOBS, LONG, LONG_LEASE));
    session.settle(2, JOBS).await;
    session
}

#[tokio::test]
async fn a_paused_queue_takes_and_gives_nothing_until_it_goes_on() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("before")])).await.unwrap();
    let held = ada.take_one("ada").await;
    ada.set_state(State::Paused).await;
    let mut waiting = waiting(&ada).await;
    ada.send(batch(JOBS, vec![item("meanwhile")])).await.unwrap();
    ada.nack(nack(&held)).await.unwrap();
    assert!(ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap().is_empty());
    waiting.settle(3, JOBS).await;
    ada.set_state(State::Active).await;
    assert_eq!(bodies(&waiting.received(1).await), ["before"]);
    assert_eq!(bodies(&ada.take_one("ada").await), ["meanwhile"]);
}

#[tokio::test]
async fn a_closed_queue_lets_what_is_out_be_settled() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.send(batch(JOBS, vec![item("held"), item("waits")])).await.unwrap();
    let held = ada.take_one("ada").await;
    ada.set_state(State::Closed).await;
    assert_eq!(refusal(ada.send(batch(JOBS, vec![item("late")])).await), ErrorReason::QueueClosed);
    assert!(ada.receive(receive_request(JOBS, NO_WAIT, LEASE)).await.unwrap().is_empty());
    let mut waiting = waiting(&ada).await;
    ada.ack_all(&held).await;
    waiting.settle(3, JOBS).await;
    ada.set_state(State::Active).await;
    assert_eq!(bodies(&waiting.received(1).await), ["waits"]);
}

#[tokio::test]
async fn a_full_consumer_waits_outside_the_line_until_it_has_settled_something() {
    let settings = v1::QueueSettings { max_in_flight_per_consumer: Some(1), ..plain() };
    let (cluster, ada) = with_queue(settings).await;
    let bob = ada.claiming(cluster.claims("bob"));
    ada.send(batch(JOBS, vec![item("one")])).await.unwrap();
    let held = ada.receive(up_to(JOBS, 10)).await.unwrap();
    assert_eq!(ids(&held), [(1, 1)]);
    // Ada came first, and can take nothing.
    let mut full = waiting(&ada).await;
    let mut free = waiting(&bob).await;
    ada.send(batch(JOBS, vec![item("two"), item("three")])).await.unwrap();
    assert_eq!(bodies(&free.received(1).await), ["two"]);
    full.settle(3, JOBS).await;
    let stats = ada.stats(JOBS).await.unwrap();
    assert_eq!(stats.waiting_receivers, 0, "it only would pass on what others can use");
    let held_by: Vec<_> = stats.consumers.iter().map(|held| (held.consumer.as_str(), held.leased_count)).collect();
    assert_eq!(held_by, [("ada", 1), ("bob", 1)]);
    ada.ack_all(&held).await;
    assert_eq!(bodies(&full.received(1).await), ["three"]);
}

#[tokio::test]
async fn a_lease_that_ends_frees_its_consumer_too() {
    let settings = v1::QueueSettings { max_in_flight_per_consumer: Some(1), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    ada.send(batch(JOBS, vec![item("one")])).await.unwrap();
    let held = ada.receive(receive_request(JOBS, NO_WAIT, SHORT_LEASE)).await.unwrap();
    assert_eq!(ids(&held), [(1, 1)]);
    let again = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!(ids(&again), [(1, 2)]);
}

#[tokio::test]
async fn a_queue_lends_no_more_than_it_may_and_what_comes_back_goes_to_who_waits() {
    let (_cluster, ada) = with_queue(v1::QueueSettings { max_in_flight: Some(2), ..plain() }).await;
    ada.send(batch(JOBS, vec![item("work"); 5])).await.unwrap();
    let held = ada.receive(up_to(JOBS, 10)).await.unwrap();
    assert_eq!(ids(&held), [(1, 1), (2, 1)]);
    assert!(ada.receive(by("another", up_to(JOBS, 10))).await.unwrap().is_empty());
    let (mut first, mut second) = (waiting(&ada).await, waiting(&ada).await);
    ada.ack_all(&held).await;
    assert_eq!(ids(&first.received(1).await), [(3, 1)]);
    assert_eq!(ids(&second.received(1).await), [(4, 1)]);
    ada.update_queue(JOBS, v1::QueueSettings { max_in_flight: Some(3), ..plain() }).await.unwrap();
    assert_eq!(ids(&ada.take_one("another").await), [(5, 1)]);
}

#[tokio::test]
async fn priority_goes_before_age() {
    let (_cluster, ada) = with_queue(plain()).await;
    let of = |priority, body: &str| v1::NewItem { priority, ..item(body) };
    ada.send(batch(JOBS, vec![of(0, "a"), of(5, "b"), of(9, "c"), of(5, "d")])).await.unwrap();
    let first = ada.receive(up_to(JOBS, 2)).await.unwrap();
    assert_eq!(bodies(&first), ["c", "b"]);
    ada.send(batch(JOBS, vec![of(9, "e"), of(0, "f")])).await.unwrap();
    // What comes back stands where it stood.
    ada.nack(nack(&first[1..])).await.unwrap();
    assert_eq!(bodies(&ada.receive(up_to(JOBS, 10)).await.unwrap()), ["e", "b", "d", "a", "f"]);
}

#[tokio::test]
async fn items_of_a_group_go_one_after_the_other_whoever_takes_them() {
    let (cluster, ada) = with_queue(plain()).await;
    let bob = ada.claiming(cluster.claims("bob"));
    let first = of_group("g", "g1");
    ada.send(batch(JOBS, vec![first, of_group("g", "g2"), of_group("h", "h1"), item("single")])).await.unwrap();
    ada.send(batch(JOBS, vec![v1::NewItem { priority: 9, ..of_group("g", "g3") }])).await.unwrap();
    let of_ada = ada.receive(up_to(JOBS, 10)).await.unwrap();
    assert_eq!(bodies(&of_ada), ["g1", "h1", "single"]);
    let mut waiting = waiting(&bob).await;
    ada.ack_all(&of_ada[..1]).await;
    let of_bob = waiting.received(1).await;
    assert_eq!(bodies(&of_bob), ["g2"]);
    // Given back, it is still its group's first, also while it waits.
    let later = v1::NackDeliveriesRequest { delay: milliseconds(300), ..nack(&of_bob) };
    bob.nack(later).await.unwrap();
    assert!(ada.receive(up_to(JOBS, 10)).await.unwrap().is_empty());
    let again = ada.receive(receive_request(JOBS, LONG, LONG_LEASE)).await.unwrap();
    assert_eq!((ids(&again), bodies(&again)), (vec![(2, 2)], vec!["g2"]));
    // A dead one holds up nobody.
    ada.nack(reject(&again, "no use")).await.unwrap();
    assert_eq!(bodies(&bob.receive(up_to(JOBS, 10)).await.unwrap()), ["g3"]);
}

#[tokio::test]
async fn a_message_that_was_sent_before_is_left_out_and_told() {
    let (cluster, ada) = with_queue(plain()).await;
    let named = |message_id: &str| v1::NewItem { message_id: message_id.into(), ..item(message_id) };
    let first = ada.send(batch(JOBS, vec![named("m")])).await.unwrap();
    assert_eq!((first.first_item, first.duplicates), (1, vec![]));
    let again = ada.send(batch(JOBS, vec![named("m")])).await.unwrap();
    assert_eq!((again.first_item, again.duplicates), (1, vec![0]));
    let mixed = ada.send(batch(JOBS, vec![named("m"), named("n"), item("plain"), named("n")])).await.unwrap();
    assert_eq!((mixed.first_item, mixed.duplicates), (2, vec![0, 3]));
    let mut session = ada.begin("lab").await.unwrap();
    session.ask(1, Asked::SendItems(batch(JOBS, vec![item("plain"), named("n")])));
    let sent = session.sent(1).await;
    assert_eq!((sent.first_item, sent.duplicates), (4, vec![1]));

    // Also when the first has been settled long since, as long as the queue remembers.
    let all = ada.receive(up_to(JOBS, 10)).await.unwrap();
    assert_eq!(bodies(&all), ["m", "n", "plain", "plain"]);
    ada.ack_all(&all).await;
    assert_eq!(ada.send(batch(JOBS, vec![named("m")])).await.unwrap().duplicates, [0]);
    assert_eq!(ada.queue(JOBS).await.unwrap().totals.unwrap().duplicates, 5);
    cluster.clock(0).advance(Duration::from_secs(5 * 60 + 1));
    let anew = ada.send(batch(JOBS, vec![named("m")])).await.unwrap();
    assert_eq!((anew.first_item, anew.duplicates), (5, vec![]));
}

#[tokio::test]
async fn a_full_queue_refuses_or_drops_its_oldest() {
    let settings = v1::QueueSettings { max_items: Some(2), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    let urgent = v1::NewItem { priority: 1, ..item("urgent") };
    ada.send(batch(JOBS, vec![urgent, item("old")])).await.unwrap();
    assert_eq!(refusal(ada.send(batch(JOBS, vec![item("new")])).await), ErrorReason::QueueFull);
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 2, "all or none");
    let dropping = v1::QueueSettings { overflow: Some(Overflow::DropOldest.into()), ..plain() };
    ada.update_queue(JOBS, dropping).await.unwrap();
    ada.send(batch(JOBS, vec![item("new")])).await.unwrap();
    assert_eq!(bodies(&ada.receive(up_to(JOBS, 10)).await.unwrap()), ["urgent", "new"]);
    assert_eq!(ada.queue(JOBS).await.unwrap().totals.unwrap().dropped, 1);
    // What is leased does not go.
    assert_eq!(refusal(ada.send(batch(JOBS, vec![item("newest")])).await), ErrorReason::QueueFull);
    let by_bytes = v1::QueueSettings { max_items: Some(100), max_bytes: Some(30), ..plain() };
    ada.update_queue(JOBS, by_bytes).await.unwrap();
    assert_eq!(refusal(ada.send(batch(JOBS, vec![item(&"x".repeat(30))])).await), ErrorReason::QueueFull);
}

#[tokio::test]
async fn refusals_are_the_same_by_call_and_by_frame() {
    let (_cluster, ada) = with_queue(v1::QueueSettings { state: Some(State::Closed.into()), ..plain() }).await;
    ada.create_queue(OTHER, v1::QueueSettings { max_items: Some(1), ..plain() }).await.unwrap();
    let missing = "rooms/lab/queues/missing";
    let unknown = || vec![v1::Delivery { id: Some(v1::DeliveryId { item: 9, attempt: 1 }), ..Default::default() }];
    let to = |queue: &str, count: usize| Asked::SendItems(batch(queue, vec![item("work"); count]));
    let named = |name: &str, settings| {
        (v1::CreateQueueRequest { name: name.into(), settings: Some(settings), ..Default::default() }, name.to_owned())
    };
    let create = |name: &str, settings| Asked::CreateQueue(named(name, settings).0);
    let update = |name: &str, settings: v1::QueueSettings| {
        Asked::UpdateQueue(v1::UpdateQueueRequest { name: name.into(), settings: Some(settings), ..Default::default() })
    };
    let own_grave = |name: &str| v1::QueueSettings { dead_letter_queue: Some(name.into()), ..plain() };
    let cancel = |queue: &str| {
        Asked::CancelItems(v1::CancelItemsRequest { parent: queue.into(), items: vec![1], ..Default::default() })
    };
    let purge = |queue: &str| Asked::PurgeItems(v1::PurgeItemsRequest { parent: queue.into(), ..Default::default() });
    let carry = |from: &str, to: &str| {
        let (parent, destination) = (from.into(), to.into());
        Asked::MoveItems(v1::MoveItemsRequest { parent, destination, ..Default::default() })
    };
    let look = |queue: &str| Asked::ListItems(v1::ListItemsRequest { parent: queue.into(), ..Default::default() });
    let stats =
        |queue: &str| Asked::GetQueueStats(v1::GetQueueStatsRequest { name: queue.into(), ..Default::default() });
    let elsewhere = |request: v1::NackDeliveriesRequest| {
        Asked::NackDeliveries(v1::NackDeliveriesRequest { parent: missing.into(), ..request })
    };
    let extended = |parent: &str| {
        Asked::ExtendLeases(v1::ExtendLeasesRequest { parent: parent.into(), ..extend(&unknown(), LONG) })
    };
    let cases = [
        (to(JOBS, 1), ErrorReason::QueueClosed),
        (to(OTHER, 2), ErrorReason::QueueFull),
        (create(JOBS, plain()), ErrorReason::QueueExists),
        (update(missing, plain()), ErrorReason::QueueNotFound),
        (update(JOBS, own_grave("jobs")), ErrorReason::FieldInvalid),
        (create(missing, own_grave("missing")), ErrorReason::FieldInvalid),
        (cancel(missing), ErrorReason::QueueNotFound),
        (purge(missing), ErrorReason::QueueNotFound),
        (carry(missing, OTHER), ErrorReason::QueueNotFound),
        (carry(OTHER, OTHER), ErrorReason::FieldInvalid),
        (look(missing), ErrorReason::QueueNotFound),
        (stats(missing), ErrorReason::QueueNotFound),
        (elsewhere(nack(&unknown())), ErrorReason::QueueNotFound),
        (extended(missing), ErrorReason::QueueNotFound),
        (Asked::NackDeliveries(nack(&unknown())), ErrorReason::DeliveryUnknown),
        (extended(JOBS), ErrorReason::DeliveryUnknown),
    ];
    let mut session = ada.begin("lab").await.unwrap();
    for (sequence, (asked, expected)) in (1..).zip(cases) {
        session.ask(sequence, asked.clone());
        assert_eq!(session.refused(sequence).await, expected, "{asked:?}");
        assert_eq!(refusal(ada.unary(asked.clone()).await), expected, "{asked:?}");
    }
    assert_eq!(refusal(ada.queue(missing).await), ErrorReason::QueueNotFound, "nothing was made");
}

#[tokio::test]
async fn only_what_nobody_holds_is_cancelled_and_discarded() {
    let (_cluster, ada) = with_queue(plain()).await;
    let late = v1::NewItem { delay: milliseconds(60_000), ..item("late") };
    let grouped = [of_group("g", "head"), of_group("g", "next")];
    let all = [vec![item("held"), item("ready"), late], grouped.to_vec()].concat();
    ada.send(batch(JOBS, all)).await.unwrap();
    let held = ada.take_one("ada").await;
    let cancel = |items: Vec<u64>| v1::CancelItemsRequest { parent: JOBS.into(), items, ..Default::default() };
    let request = ada.request(cancel(vec![1, 2, 3, 4, 4, 99]));
    let results: Vec<_> = ada.queues().cancel_items(request).await.unwrap().into_inner().results().collect();
    use v1::cancel_items_response::Result::{Cancelled, Gone, Leased};
    assert_eq!(results, [Leased, Cancelled, Cancelled, Cancelled, Gone, Gone]);
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.ready_count, queue.leased_count, queue.size), (1, 1, 2), "the next of the group has its turn");
    let mut left = u64::MAX;
    while left > 0 {
        let purge = v1::PurgeItemsRequest { parent: JOBS.into(), ..Default::default() };
        left = ada.queues().purge_items(ada.request(purge)).await.unwrap().into_inner().remaining_count;
    }
    assert_eq!(ada.queue(JOBS).await.unwrap().size, 1);
    ada.ack_all(&held).await;
}

#[tokio::test]
async fn a_receive_that_waits_in_a_room_that_is_deleted_is_told() {
    let settings = v1::QueueSettings { max_in_flight_per_consumer: Some(1), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    ada.send(batch(JOBS, vec![item("work")])).await.unwrap();
    ada.take_one("full").await;
    let [idle, full] = ["idle", "full"].map(|consumer| {
        let (ada, request) = (ada.clone(), by(consumer, receive_request(JOBS, LONG, LONG_LEASE)));
        tokio::spawn(async move { ada.receive(request).await })
    });
    let waits = async { while ada.stats(JOBS).await.unwrap().waiting_receivers == 0 {} };
    timeout(PATIENCE, waits).await.expect("nobody waits");
    ada.delete_room("lab").await.unwrap();
    for waiting in [idle, full] {
        let end = timeout(PATIENCE, waiting).await.expect("it waits for what cannot come").unwrap();
        assert_eq!(refusal(end), ErrorReason::RoomNotFound);
    }
}
