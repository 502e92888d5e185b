//! Dead letters: why they died, what was tried, and how they come back.

use conclave_auth::{Claims, QueueRights, Queues, Rights};
use conclave_proto::v1::dead_letter::Reason;
use conclave_proto::v1::failed_delivery::Kind;
use conclave_proto::v1::{self, ErrorReason};

use super::*;
use crate::calls::{bodies, ids, refusal};

/// (attempt, consumer, kind, reason) of each failure.
fn story(dead: &v1::DeadLetter) -> Vec<(u32, &str, Kind, &str)> {
    let told = |failure: &v1::FailedDelivery| failure.kind();
    dead.failures.iter().map(|failure| (failure.attempt, &*failure.consumer, told(failure), &*failure.reason)).collect()
}

#[tokio::test]
async fn a_rejected_item_is_a_dead_letter_with_its_story() {
    let (_cluster, ada) = with_queue(plain()).await;
    let headers = [("colour".to_owned(), "green".to_owned())].into();
    let poison = v1::NewItem { headers, priority: 7, ..of_group("g", "poison") };
    ada.send(batch(JOBS, vec![item("first"), poison.clone()])).await.unwrap();
    let first = ada.take_one("one").await;
    let nacked = v1::NackDeliveriesRequest { reason: "bad weather".into(), ..nack(&first) };
    ada.nack(nacked).await.unwrap();
    let held = ada.receive(by("two", receive_request(JOBS, NO_WAIT, SHORT_LEASE))).await.unwrap();
    assert_eq!(ids(&held), [(2, 2)]);
    let other = ada.take_one("two").await;
    assert_eq!(bodies(&other), ["first"]);
    let last = ada.receive(by("three", receive_request(JOBS, LONG, LONG_LEASE))).await.unwrap();
    assert_eq!(ids(&last), [(2, 3)]);
    assert_eq!(ada.nack(reject(&last, "no use")).await.unwrap(), [AckResult::Acked]);

    let dead = ada.receive(up_to(DEAD, 10)).await.unwrap();
    assert_eq!((bodies(&dead), &dead[0].headers), (vec!["poison"], &poison.headers));
    assert_eq!((dead[0].priority, dead[0].group.as_str(), dead[0].sender.as_str()), (7, "", "ada"));
    let letter = dead[0].dead_letter.as_ref().unwrap();
    assert_eq!((letter.queue.as_str(), letter.item, letter.attempts), ("jobs", 2, 3));
    assert_eq!((letter.reason(), letter.group.as_str()), (Reason::Rejected, "g"));
    let expected = [
        (1, "one", Kind::Nacked, "bad weather"),
        (2, "two", Kind::LeaseEnded, ""),
        (3, "three", Kind::Rejected, "no use"),
    ];
    assert_eq!(story(letter), expected);
    let queue = ada.queue(JOBS).await.unwrap();
    assert_eq!((queue.size, queue.totals.unwrap().dead), (1, 1));
    assert_eq!(ada.stats(JOBS).await.unwrap().dead_count, 1);
}

#[tokio::test]
async fn an_item_dies_once_it_was_tried_often_enough_and_not_again() {
    let settings = v1::QueueSettings { max_attempts: Some(2), dead_letter_queue: Some("grave".into()), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    let grave = "rooms/lab/queues/grave";
    ada.send(batch(JOBS, vec![item("poison"), item("work")])).await.unwrap();
    for attempt in 1..=2 {
        let taken = ada.take_one("ada").await;
        assert_eq!(ids(&taken), [(1, attempt)]);
        ada.nack(nack(&taken)).await.unwrap();
    }
    let work = ada.take_one("ada").await;
    assert_eq!(bodies(&work), ["work"], "the rest is not held up");
    for attempt in 1..=20 {
        let dead = ada.receive(up_to(grave, 10)).await.unwrap();
        assert_eq!((ids(&dead), bodies(&dead)), (vec![(1, attempt)], vec!["poison"]));
        let letter = dead[0].dead_letter.as_ref().unwrap();
        assert_eq!((letter.reason(), letter.attempts), (Reason::TooManyAttempts, 2));
        let back = v1::NackDeliveriesRequest { parent: grave.into(), reject: attempt > 10, ..nack(&dead) };
        assert_eq!(ada.nack(back).await.unwrap(), [AckResult::Acked]);
    }
    assert_eq!(ada.queue(grave).await.unwrap().settings.unwrap().max_attempts, Some(0));
    assert_eq!(ada.stats(JOBS).await.unwrap().dead_letter_queue, "grave");
}

#[tokio::test]
async fn only_the_newest_failures_are_told() {
    let settings = v1::QueueSettings { max_attempts: Some(12), ..plain() };
    let (_cluster, ada) = with_queue(settings).await;
    ada.send(batch(JOBS, vec![item("poison")])).await.unwrap();
    for attempt in 1..=12 {
        let taken = ada.take_one("ada").await;
        ada.nack(v1::NackDeliveriesRequest { reason: attempt.to_string(), ..nack(&taken) }).await.unwrap();
    }
    let dead = ada.receive(up_to(DEAD, 1)).await.unwrap();
    let letter = dead[0].dead_letter.as_ref().unwrap();
    let expected: Vec<_> = (5..=12).map(|attempt| (attempt, attempt.to_string())).collect();
    let told: Vec<_> = letter.failures.iter().map(|failure| (failure.attempt, failure.reason.clone())).collect();
    assert_eq!((told, letter.attempts), (expected, 12));
}

#[tokio::test]
async fn dead_letters_go_back_to_where_they_died_and_are_tried_anew() {
    let (_cluster, ada) = with_queue(plain()).await;
    ada.create_queue(OTHER, v1::QueueSettings { dead_letter_queue: Some("jobs.dead".into()), ..plain() })
        .await
        .unwrap();
    for (queue, body) in [(JOBS, "of jobs"), (OTHER, "of other")] {
        ada.send(batch(queue, vec![of_group("g", body)])).await.unwrap();
        let taken = ada.receive(up_to(queue, 1)).await.unwrap();
        let rejected = v1::NackDeliveriesRequest { parent: queue.into(), ..reject(&taken, "no use") };
        assert_eq!(ada.nack(rejected).await.unwrap(), [AckResult::Acked]);
    }
    let moved = ada.move_items(DEAD, "").await.unwrap();
    assert_eq!((moved.moved_count, moved.remaining_count), (2, 0));
    for (queue, body) in [(JOBS, "of jobs"), (OTHER, "of other")] {
        let back = ada.receive(up_to(queue, 10)).await.unwrap();
        assert_eq!((ids(&back), bodies(&back)), (vec![(2, 1)], vec![body]));
        assert_eq!((&back[0].dead_letter, back[0].group.as_str()), (&None, "g"));
    }
    // Nothing of a queue without dead letters goes anywhere by itself.
    ada.send(batch(JOBS, vec![item("alive")])).await.unwrap();
    let moved = ada.move_items(JOBS, "").await.unwrap();
    assert_eq!((moved.moved_count, moved.remaining_count), (0, 1));
    assert_eq!(refusal(ada.move_items(JOBS, JOBS).await), ErrorReason::FieldInvalid);
    let moved = ada.move_items(JOBS, OTHER).await.unwrap();
    assert_eq!((moved.moved_count, moved.remaining_count), (1, 0));
    assert_eq!(bodies(&ada.receive(up_to(OTHER, 10)).await.unwrap()), ["alive"]);
}

#[tokio::test]
async fn a_receiver_of_dead_letters_is_woken_by_one() {
    let (_cluster, ada) = with_queue(plain()).await;
    let mut waiting = ada.begin("lab").await.unwrap();
    waiting.ask(1, crate::calls::receive(DEAD, LONG, LONG_LEASE));
    waiting.settle(2, JOBS).await;
    ada.send(batch(JOBS, vec![item("poison")])).await.unwrap();
    let taken = ada.take_one("ada").await;
    ada.nack(reject(&taken, "no use")).await.unwrap();
    assert_eq!(bodies(&waiting.received(1).await), ["poison"]);
    // And one of the queue it came from by its return.
    waiting.ask(3, crate::calls::receive(JOBS, LONG, LONG_LEASE));
    waiting.settle(4, JOBS).await;
    ada.send(batch(DEAD, vec![item("of nobody")])).await.unwrap();
    let held = waiting_letter(&ada).await;
    let back = v1::NackDeliveriesRequest { parent: DEAD.into(), ..nack(&held) };
    ada.nack(back).await.unwrap();
    assert_eq!(ada.move_items(DEAD, "").await.unwrap().moved_count, 1);
    assert_eq!(bodies(&waiting.received(3).await), ["poison"]);
}

/// The dead letter that a session holds, as anybody may name it.
async fn waiting_letter(ada: &Caller) -> Vec<v1::Delivery> {
    let state = v1::ItemState::Leased.into();
    let leased = ada.look(v1::ListItemsRequest { parent: DEAD.into(), state, ..Default::default() }).await.unwrap();
    let id = |item: &v1::QueueItem| v1::DeliveryId { item: item.item, attempt: item.attempts };
    leased.items.iter().map(|item| v1::Delivery { id: Some(id(item)), ..Default::default() }).collect()
}

#[tokio::test]
async fn nobody_buries_where_it_may_not_send() {
    let (cluster, ada) = with_queue(plain()).await;
    let own = || Queues::Only(["jobs".parse().unwrap()].into());
    let rights = Rights { queues: QueueRights { send: own(), receive: own(), list: true }, ..Rights::default() };
    let guest = ada.claiming(Claims { rights, ..cluster.claims("guest") });
    let buried = |queue: &str| v1::QueueSettings { dead_letter_queue: Some(queue.into()), ..plain() };
    assert_eq!(refusal(guest.update_queue(JOBS, buried("other")).await), ErrorReason::ScopeMissing);
    let mut session = guest.begin("lab").await.unwrap();
    let update = v1::UpdateQueueRequest { name: JOBS.into(), settings: Some(buried("other")), ..Default::default() };
    session.ask(1, Asked::UpdateQueue(update));
    assert_eq!(session.refused(1).await, ErrorReason::ScopeMissing);
    assert_eq!(refusal(guest.move_items(JOBS, OTHER).await), ErrorReason::ScopeMissing);
    guest.update_queue(JOBS, v1::QueueSettings { max_attempts: Some(1), ..buried("") }).await.unwrap();
    // Its own dead letters it has, also without a right to their queue.
    guest.send(batch(JOBS, vec![item("poison")])).await.unwrap();
    let taken = guest.take_one("guest").await;
    guest.nack(nack(&taken)).await.unwrap();
    assert_eq!(refusal(guest.receive(up_to(DEAD, 1)).await), ErrorReason::ScopeMissing);
    assert_eq!(bodies(&ada.receive(up_to(DEAD, 1)).await.unwrap()), ["poison"]);
}
